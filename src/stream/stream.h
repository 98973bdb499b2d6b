/* A stream: one exchange (or duplex flow) of a link, seen from one end. Its state machine, credit and queue.
 *
 * Owned by the link's ring; lives in the slot table of its mux (codec/codec.h), which alone creates and closes it. Pure. A
 * stream has two directions; each ends exactly once on the wire. Invariants: after a direction's final frame (END, END_STREAM or RESET) has passed, nothing
 * but RESET or STOP/CREDIT of the other direction follows; the slot is reused only once both finals have passed; bytes queued <= send credit; illegal use by the
 * owner asserts, illegal input by the peer is a verdict. */
#ifndef GM_STREAM_STREAM_H
#define GM_STREAM_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/chain.h"
#include "base/list.h"
#include "frame/frame.h"
#include "frame/reason.h"
#include "stream/sched.h"
#include "stream/window.h"

struct gm_mux;

/* One direction. The order matters: everything from GM_DIR_ENDED on is final. */
enum gm_dir {
    GM_DIR_IDLE,   /* slot not in use */
    GM_DIR_HEAD,   /* nothing but heads so far: before OPEN or HEAD */
    GM_DIR_BODY,   /* a head has passed: DATA, TRAILERS or further heads (until the first DATA) */
    GM_DIR_DATA,   /* DATA has passed: no head any more */
    GM_DIR_ENDING, /* out only: the owner has ended it; what is queued still leaves, then END */
    GM_DIR_ENDED,  /* final: END has passed */
    GM_DIR_RESET   /* final: RESET has passed */
};

/* Marks; `out` bits are pending frames of the control class. */
#define GM_STREAM_PENDING_RESET  0x0001u
#define GM_STREAM_PENDING_END    0x0002u
#define GM_STREAM_PENDING_STOP   0x0004u
#define GM_STREAM_PENDING_CREDIT 0x0008u
#define GM_STREAM_PENDING        0x000fu
#define GM_STREAM_OPENED         0x0010u /* OPEN has passed on the wire (or came from it) */
#define GM_STREAM_STOP_SENT      0x0020u /* we want none of the peer's body: what comes is dropped */
#define GM_STREAM_STOP_RECEIVED  0x0040u /* the peer wants none of ours: what is queued is dropped */
#define GM_STREAM_RESET_LOCAL    0x0080u /* we have reset it: all input but the final frame is dropped */
#define GM_STREAM_IN_TRAILERS    0x0100u /* the peer's TRAILERS have come: only END may follow */
#define GM_STREAM_DETACHED       0x0200u /* on_reset was given or the owner has reset: no callback but on_closed */
#define GM_STREAM_SEEN           0x8000u /* the slot was in use at least once (survives closing) */

struct gm_stream {
    void *user; /* the owner's; void after on_closed */
    struct gm_mux *mux;
    struct gm_sched_node sched;  /* in the round: DATA or TRAILERS are waiting */
    struct gm_list urgent;       /* on the mux's control, head or free list */
    struct gm_list control;      /* on the mux's control list: something is pending */
    struct gm_chain out;         /* wire-ready heads, then raw DATA, then wire-ready trailers */
    uint32_t id;                 /* slot | generation << 16 */
    uint32_t head_bytes;         /* of `out`: wire-ready heads at the front */
    uint32_t data_bytes;         /* of `out`: DATA behind them */
    uint32_t trailer_bytes;      /* of `out`: wire-ready trailers at the end; they carry END_STREAM */
    uint32_t send_credit;        /* DATA bytes the peer still takes, those queued included */
    uint32_t grant_pending;      /* credit granted and not yet framed */
    struct gm_window window;     /* our promise to the peer */
    uint16_t flags;              /* GM_STREAM_* */
    uint16_t reset_reason;       /* of the pending RESET */
    uint16_t reset_flags;
    uint16_t stop_reason;        /* of the pending STOP */
    uint8_t in, out_state;       /* enum gm_dir */
    bool out_end_on_head;        /* the queued heads carry END_STREAM: no END follows */
};

/* What a frame or a call does to a stream. One function, one switch: gm_stream_step. */
enum gm_stream_event {
    GM_STREAM_IN_HEAD_FRAME,  /* the peer's HEAD */
    GM_STREAM_IN_DATA_FRAME,
    GM_STREAM_IN_TRAILERS_FRAME,
    GM_STREAM_IN_END_FRAME,   /* END, or END_STREAM */
    GM_STREAM_IN_RESET_FRAME,
    GM_STREAM_IN_STOP_FRAME,
    GM_STREAM_IN_CREDIT_FRAME,
    GM_STREAM_OUT_HEAD,       /* the owner's calls */
    GM_STREAM_OUT_DATA,
    GM_STREAM_OUT_END,        /* also by trailers */
    GM_STREAM_OUT_RESET,
    GM_STREAM_OUT_STOP,
    GM_STREAM_OUT_GRANT,
    GM_STREAM_SENT_END,       /* END or END_STREAM has left in a batch */
    GM_STREAM_SENT_RESET,
    GM_STREAM_EVENT_COUNT
};

enum gm_stream_verdict {
    GM_STREAM_ACCEPT,  /* the state has moved: act on it */
    GM_STREAM_IGNORE,  /* legal and without effect (late, or of no interest any more) */
    GM_STREAM_VIOLATE, /* IN only: the peer broke this stream's rules; reset it (protocol_error) */
    GM_STREAM_MISUSE   /* OUT and SENT only: a bug of ours; the caller asserts */
};

/* Moves the state machine. Never touches queues or lists; the mux does, on the verdict. */
enum gm_stream_verdict gm_stream_step(struct gm_stream *stream, enum gm_stream_event event);

/* Puts a free slot in use: `in` and `out` are GM_DIR_HEAD or GM_DIR_BODY; send_credit and window as agreed. */
void gm_stream_begin(struct gm_stream *stream, enum gm_dir in, enum gm_dir out);
/* Both final frames have passed. */
static inline bool gm_stream_done(const struct gm_stream *stream) { return stream->in >= GM_DIR_ENDED && stream->out_state >= GM_DIR_ENDED; }
static inline bool gm_stream_in_use(const struct gm_stream *stream) { return stream->in != GM_DIR_IDLE; }

/* Bytes of DATA that gm_stream_data takes now. */
static inline uint32_t gm_stream_room(const struct gm_stream *stream) { return stream->send_credit - stream->data_bytes; }
/* Bytes of DATA queued and not yet pulled. */
static inline uint32_t gm_stream_queued(const struct gm_stream *stream) { return stream->data_bytes; }
static inline uint16_t gm_stream_slot(const struct gm_stream *stream) { return gm_frame_slot(stream->id); }

#endif
