/* A stream: one exchange (or duplex flow) of a link, seen from one end. Its state machine, credit
 * and queue.
 *
 * Owned by the link's ring; lives in the slot table of its mux (codec/codec.h), which alone creates
 * and closes it. Pure. A stream has two directions; each ends exactly once on the wire, by its
 * final frame (END, END_STREAM or RESET). Invariants: after its final frame an end sends nothing
 * but CREDIT and STOP for the other direction; the slot is reused only once both finals have
 * passed; bytes queued never exceed the send credit; illegal use by the owner asserts, illegal
 * input by the peer is a verdict. Source: frame/PROTOCOL.md sections 4 and 5. */
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

/* State of one direction. The order matters: everything from GM_DIR_ENDED on is final. */
enum gm_dir {
    GM_DIR_IDLE,      /* slot not in use */
    GM_DIR_HEAD,      /* answer direction: the final HEAD has not passed */
    GM_DIR_BODY,      /* DATA and TRAILERS may pass */
    GM_DIR_ENDING,    /* out only: ended by the owner; what is queued still leaves, then END */
    GM_DIR_RESETTING, /* out only: RESET is waiting to leave */
    GM_DIR_ENDED,     /* final: END has passed */
    GM_DIR_RESET      /* final: RESET has passed */
};

/* Frames of the control class that wait to leave. */
#define GM_STREAM_PENDING_CREDIT 0x0001u
#define GM_STREAM_PENDING_STOP   0x0002u
#define GM_STREAM_PENDING_END    0x0004u
#define GM_STREAM_PENDING_RESET  0x0008u
#define GM_STREAM_PENDING        0x000fu
/* Marks. */
#define GM_STREAM_OPENED        0x0010u /* OPEN has passed on the wire */
#define GM_STREAM_STOP_SENT     0x0020u /* we want none of the peer's body: it is dropped */
#define GM_STREAM_STOP_RECEIVED 0x0040u /* the peer wants none of ours: it is dropped */
#define GM_STREAM_DETACHED                                                                         \
    0x0080u /* reset by either end: no callback but on_closed, input dropped up to the final frame \
             */
#define GM_STREAM_HAD_TRAILERS 0x0100u /* the peer's TRAILERS have come: only END may follow */
#define GM_STREAM_END_ON_BLOCK                                                                     \
    0x0200u /* the queued head or trailers carry END_STREAM: no END follows them */
#define GM_STREAM_HIDDEN 0x0400u /* refused before the owner saw it: no callback at all */
#define GM_STREAM_SEEN                                                                             \
    0x8000u /* an OPEN for this slot has passed at some time (survives closing) */

struct gm_stream {
    void *user; /* the owner's; void after on_closed */
    struct gm_mux *mux;
    struct gm_sched_node sched; /* in the round: DATA or TRAILERS are waiting, and no heads */
    struct gm_list
        node; /* on the mux's list of heads, or of streams to be closed, or of free slots */
    struct gm_list control;  /* on the mux's control list: something is pending */
    struct gm_chain queue;   /* wire-ready heads, then raw DATA, then wire-ready trailers */
    uint32_t head_bytes;     /* of `queue`: at the front */
    uint32_t data_bytes;     /* of `queue`: behind them; <= send_credit */
    uint32_t trailer_bytes;  /* of `queue`: at the end */
    uint32_t send_credit;    /* DATA bytes the peer still takes, those queued included */
    uint32_t grant_pending;  /* credit granted and not yet framed */
    uint32_t id;             /* slot | generation << 16 */
    struct gm_window window; /* our promise to the peer */
    uint16_t flags;          /* GM_STREAM_* */
    uint16_t reset_reason;   /* of the pending RESET */
    uint16_t reset_flags;
    uint16_t stop_reason; /* of the pending STOP */
    uint8_t in, out;      /* enum gm_dir */
};

/* What a frame or a call does to a stream. */
enum gm_stream_event {
    GM_STREAM_IN_INTERIM, /* frames of the peer: a 1xx HEAD */
    GM_STREAM_IN_HEAD,    /* the final HEAD */
    GM_STREAM_IN_DATA,
    GM_STREAM_IN_TRAILERS,
    GM_STREAM_IN_END, /* END, or END_STREAM */
    GM_STREAM_IN_RESET,
    GM_STREAM_IN_STOP,
    GM_STREAM_IN_CREDIT,
    GM_STREAM_OUT_INTERIM, /* calls of the owner */
    GM_STREAM_OUT_HEAD,
    GM_STREAM_OUT_DATA,
    GM_STREAM_OUT_END, /* also by trailers, or by a head that says so */
    GM_STREAM_OUT_RESET,
    GM_STREAM_OUT_STOP,
    GM_STREAM_OUT_GRANT,
    GM_STREAM_SENT_END, /* the final frame has left in a batch */
    GM_STREAM_SENT_RESET,
    GM_STREAM_EVENT_COUNT
};

enum gm_stream_verdict {
    GM_STREAM_ACCEPT,  /* legal: act on it */
    GM_STREAM_IGNORE,  /* legal and without effect: late, or of no interest any more */
    GM_STREAM_VIOLATE, /* IN: the peer broke this stream's rules; the stream is reset
                          (protocol_error) */
    GM_STREAM_FATAL,   /* IN: the peer sent a frame after its final one; the link ends */
    GM_STREAM_MISUSE   /* OUT, SENT: a bug of ours; the caller asserts */
};

/* Moves the state machine (one switch). Touches neither queue nor lists: the mux does, on the
 * verdict. The stream is in use. */
enum gm_stream_verdict gm_stream_step(struct gm_stream *stream, enum gm_stream_event event);

/* Puts a closed slot in use. `in` and `out` are GM_DIR_HEAD or GM_DIR_BODY. Keeps id and
 * GM_STREAM_SEEN. */
struct gm_stream_begin {
    enum gm_dir in, out;
    uint32_t send_credit, window;
};
void gm_stream_begin(struct gm_stream *stream, const struct gm_stream_begin *begin);

/* Both final frames have passed. */
static inline bool gm_stream_done(const struct gm_stream *stream)
{
    return stream->in >= GM_DIR_ENDED && stream->out >= GM_DIR_ENDED;
}
static inline bool gm_stream_in_use(const struct gm_stream *stream)
{
    return stream->in != GM_DIR_IDLE;
}
/* Bytes of DATA that gm_stream_data takes now. */
static inline uint32_t gm_stream_room(const struct gm_stream *stream)
{
    return stream->send_credit - stream->data_bytes;
}
/* Bytes of DATA queued and not yet pulled. */
static inline uint32_t gm_stream_queued(const struct gm_stream *stream)
{
    return stream->data_bytes;
}

#endif
