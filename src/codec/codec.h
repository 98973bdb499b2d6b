/* A mux: all streams of one link, and the bytes that carry them.
 *
 * Owner: the link's ring. Pure: bytes and now_ns in, bytes and events out; no I/O, no clock, no
 * memory but what is passed in. Two dialects: gimlet.v1 (native_in.c, native_out.c;
 * frame/PROTOCOL.md), and that of 0.0.x (old_in.c, old_out.c), from gm_mux_old_begin on; the
 * "stream" functions below are the same for both.
 *
 * Rules of use. Callbacks may call every gm_stream_* function and the gm_mux_* ones below, except
 * gm_mux_feed, _pull, _abort and _fini. on_closed is the last callback of a stream and comes only
 * from _feed, _pull or _abort, never from within a gm_stream_* call. After on_reset, or after the
 * owner's own gm_stream_reset, no callback but on_closed comes; calls on the stream until then are
 * ignored, data is released and -GM_E_CLOSED returned, so that messages of another ring which are
 * still on their way do no harm. */
#ifndef GM_CODEC_CODEC_H
#define GM_CODEC_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/chain.h"
#include "base/error.h"
#include "codec/batch.h"
#include "stream/stream.h"

enum gm_mux_role {
    GM_MUX_SERVER, /* opens streams; sends HELLO, receives READY */
    GM_MUX_AGENT   /* accepts streams; receives HELLO, sends READY */
};

/* Flags of on_reset beside GM_FRAME_RESET_UNTOUCHED (which is set too when the OPEN never left). */
#define GM_MUX_RESET_LOCAL                                                                         \
    0x0100u /* this end has reset it: the peer broke the stream's rules, or memory was short */
#define GM_MUX_RESET_LOST 0x0200u /* gm_mux_abort: the link has ended, not the stream */

/* Room that the owner leaves in a block for frame headers. A head slice begins with so many free
 * bytes (OPEN: GM_MUX_OPEN_ROOM, HEAD and TRAILERS: GM_MUX_HEAD_ROOM), which its len counts, and
 * has GM_MUX_TAIL_ROOM writable bytes of its buffer behind it when the block is longer than 16 KiB.
 */
#define GM_MUX_OPEN_ROOM (GM_FRAME_HEADER_LEN + GM_FRAME_OPEN_PREFIX_LEN)
#define GM_MUX_HEAD_ROOM GM_FRAME_HEADER_LEN
#define GM_MUX_TAIL_ROOM (4u * GM_FRAME_HEADER_LEN)

/* `block` slices are borrowed: a whole head block (frame/head.h; not yet decoded), on this ring;
 * gm_slice_ref keeps it. An `end` of true says that on_end follows at once. */
struct gm_mux_ops {
    /* The peer's HELLO or READY: JSON, borrowed. The owner calls gm_mux_set_peer (and, agent,
     * gm_mux_greet). Negative ends the link. */
    int (*on_hello)(struct gm_mux *mux, const uint8_t *json, size_t len);
    /* Agent: a request. The owner sets stream->user, or refuses by gm_stream_reset (UNTOUCHED).
     * stream->window is set up with config.window. */
    void (*on_open)(struct gm_stream *stream, gm_slice block, bool end);
    /* Server: a response head; 1xx repeats it. Order is checked (one final head, before DATA). */
    void (*on_head)(struct gm_stream *stream, gm_slice block, bool end);
    /* Body bytes, within the credit. The slice is taken; what has left for the far socket is told
     * by gm_stream_drained. */
    void (*on_data)(struct gm_stream *stream, gm_slice slice);
    void (*on_trailers)(struct gm_stream *stream, gm_slice block);
    /* The peer's direction is complete. (After gm_stream_stop: is over, complete or not.) */
    void (*on_end)(struct gm_stream *stream);
    /* Both directions are over. `reason` is a gm_reason_code, perhaps an unknown one. */
    void (*on_reset)(struct gm_stream *stream, uint16_t reason, uint16_t flags);
    /* The peer wants no more of our body: what was queued is gone (no on_pulled), further data is
     * dropped. The owner ends its direction soon, by gm_stream_end or _reset. */
    void (*on_stop)(struct gm_stream *stream, uint16_t reason);
    /* gm_stream_room has grown by `delta`. */
    void (*on_credit)(struct gm_stream *stream, uint32_t delta);
    /* `bytes` of queued DATA have left in a batch. */
    void (*on_pulled)(struct gm_stream *stream, uint32_t bytes);
    /* The slot is free: the pointer is void afterwards. The owner gives stream->window.size back to
     * whom it was reserved from. */
    void (*on_closed)(struct gm_stream *stream);
    void (*on_pong)(struct gm_mux *mux, const uint8_t opaque[GM_FRAME_PING_LEN]);
    /* The peer drains. Acknowledged by the mux, behind all OPENs queued; gm_stream_open fails from
     * now on. */
    void (*on_drain)(struct gm_mux *mux);
    void (*on_drain_ack)(struct gm_mux *mux);
    /* A NOTE: JSON, not yet parsed, borrowed. */
    void (*on_note)(struct gm_mux *mux, const uint8_t *json, size_t len);
    /* A block straddles the input: memory for `bytes` (<= GM_FRAME_BLOCK_MAX + prefix) on this
     * ring, with one reference, or NULL: the stream is reset with overload. At most one at a time.
     */
    struct gm_buf *(*gather)(struct gm_mux *mux, size_t bytes);
    /* A window wants to grow: `bytes` more reserved (true), or not. */
    bool (*reserve)(struct gm_mux *mux, uint32_t bytes);
};

/* NOTEs that may wait to be sent: a peer that takes none is told no more. */
#define GM_MUX_NOTES_MAX 8u

struct gm_mux_config {
    const struct gm_mux_ops *ops; /* borrowed for the mux's life; every entry set */
    void *user;
    struct gm_seg_pool *segs; /* of this ring; borrowed */
    void *memory; /* gm_mux_memory(stream_limit) zero bytes, aligned to 8, borrowed; touched only as
                     slots come into use */
    uint32_t
        window; /* agent: initial credit of each request body, as announced in READY. Server: 0 */
    uint16_t stream_limit; /* slots, 1..GM_FRAME_SLOT_MAX: what HELLO or READY announces */
    uint16_t head_max;     /* largest block taken; 0: 65535 */
    enum gm_mux_role role;
};

/* What the peer's greeting said, for the life of the link. */
struct gm_mux_peer {
    uint32_t window;       /* server: READY's, the credit each request body starts with */
    uint16_t stream_limit; /* the smaller of both ends' counts */
};

/* Plain counts, for the owner to copy into counters. */
struct gm_mux_stats {
    uint64_t frames_in, frames_out;
    uint64_t data_bytes_in, data_bytes_out;
    uint64_t credits_in, credits_out;
    uint64_t streams_opened, streams_closed;
    uint64_t resets_in, resets_out;
    uint64_t late_frames;   /* ignored: of a stream that has ended, or was reset or stopped by us */
    uint64_t dropped_bytes; /* DATA received and discarded for the same causes */
    uint64_t unknown_frames;
};

struct gm_mux_old;

struct gm_mux {
    void *user;
    const struct gm_mux_ops *ops;
    struct gm_seg_pool *segs;
    struct gm_mux_old *old;  /* NULL: native */
    struct gm_stream *slots; /* slot n is slots[n - 1] */
    struct gm_frame_reader reader;
    struct gm_list free;    /* closed slots, oldest first */
    struct gm_list control; /* streams with pending control frames */
    struct gm_list heads;   /* streams with queued heads */
    struct gm_list
        closing; /* streams whose OPEN was taken back: on_closed comes with the next pull */
    struct gm_sched sched;         /* streams with DATA or trailers */
    gm_slice greeting;             /* HELLO or READY, wire-ready, until pulled */
    struct gm_buf *gathered;       /* the block under way, when it straddles */
    struct gm_stream *unit_stream; /* of the unit under way; NULL: skip it */
    struct gm_mux_stats stats;
    uint64_t rtt_ns; /* set by gm_mux_set_rtt */
    uint64_t fed_ns; /* when bytes last came */
    uint32_t window, head_max;
    uint32_t open_count;   /* slots in use */
    uint32_t touched;      /* slots ever used: 1..touched */
    uint16_t stream_limit; /* size of the table */
    uint16_t open_limit;   /* streams we may open at once */
    uint32_t peer_window;
    uint16_t fault_reason;  /* after a failed feed: gm_reason_code */
    uint16_t flags;         /* private */
    const char *fault_text; /* after a failed feed: static text for the log and the CLOSE frame */
    uint8_t role;           /* enum gm_mux_role */
    uint8_t unit_skip;      /* private: why the unit under way is skipped */
    uint8_t ping[GM_FRAME_PING_LEN], pong[GM_FRAME_PING_LEN];
    uint8_t note_count;
    gm_slice notes[GM_MUX_NOTES_MAX]; /* frames, oldest first */
};

/* Bytes that a table of so many slots takes. */
size_t gm_mux_memory(uint16_t stream_limit);
void gm_mux_init(struct gm_mux *mux, const struct gm_mux_config *config);
/* After gm_mux_abort. Leaves `memory` zero again. */
void gm_mux_fini(struct gm_mux *mux);
/* The link has ended: every open stream gets on_reset(reason, GM_MUX_RESET_LOST…) unless it is
 * detached, then on_closed; queues are released. Nothing may be fed or pulled afterwards. */
void gm_mux_abort(struct gm_mux *mux, uint16_t reason);

/* --- The link's side. --- */

/* Sends HELLO (server) or READY (agent): `json` begins with GM_MUX_HEAD_ROOM free bytes, is taken,
 * and holds at most GM_FRAME_PAYLOAD_MAX bytes behind them. Once. */
void gm_mux_greet(struct gm_mux *mux, gm_slice json);
void gm_mux_set_peer(struct gm_mux *mux, const struct gm_mux_peer *peer);
/* Both greetings have passed: streams may be opened. */
bool gm_mux_is_up(const struct gm_mux *mux);

/* Takes bytes of the link (WebSocket framing removed, any split); the buffer's home is this ring.
 * 0, or negative: the link must end (fault_reason, fault_text). Then every later call fails too. */
int gm_mux_feed(struct gm_mux *mux, uint64_t now_ns, gm_slice slice) GM_WARN_UNUSED;

/* Is there anything to pull? */
bool gm_mux_ready(const struct gm_mux *mux);
/* Appends frames to the batch: control frames, heads, then DATA by deficit round robin; whole
 * frames only. Stops at `bytes_max` in the batch, at its piece or cork limits, or when nothing is
 * ready. An empty batch always takes at least one unit, so that `bytes_max` may be exceeded by one
 * block (<= 64 KiB and its headers). Returns the bytes added. */
size_t gm_mux_pull(struct gm_mux *mux, struct gm_batch *batch, size_t bytes_max);

/* PING with these bytes; a PING not yet pulled is replaced. */
void gm_mux_ping(struct gm_mux *mux, const uint8_t opaque[GM_FRAME_PING_LEN]);
/* NOTE: `json` begins with GM_MUX_HEAD_ROOM free bytes, is taken, and holds 1 to
 * GM_FRAME_PAYLOAD_MAX bytes behind them. Notes arrive in order, between heads and DATA as they
 * fall. Taken in every case. 0; -GM_E_LIMIT: GM_MUX_NOTES_MAX wait already; -GM_E_CLOSED: not up,
 * or ended. */
int gm_mux_note(struct gm_mux *mux, gm_slice json) GM_WARN_UNUSED;
/* Announces the drain, behind all heads queued. gm_stream_open fails from now on. Again: ignored.
 */
void gm_mux_drain(struct gm_mux *mux);
/* For the growth of windows; from the link's pings. */
static inline void gm_mux_set_rtt(struct gm_mux *mux, uint64_t rtt_ns)
{
    mux->rtt_ns = rtt_ns;
}
/* Streams in use, until on_closed. */
static inline uint32_t gm_mux_open_count(const struct gm_mux *mux)
{
    return mux->open_count;
}

/* --- The dialect of 0.0.x. ---
 *
 * One frame per WebSocket BINARY message: type u8, length of the id u32 big-endian, id, payload;
 * START carries a head as HTTP/1.x text, END an error's text or nothing. Control is JSON in TEXT
 * messages, the link's business: greetings, drain and liveness are not the mux's here. It knows no
 * credit: what exceeds a stream's window blocks the input; what we send has a window of our own
 * that grows again as bytes leave. A peer's server side hears CANCEL at each request's end. */

#define GM_MUX_OLD_RANDOM 16u
/* Credit of each stream towards a 0.0.x peer: queued here at most. */
#define GM_MUX_OLD_SEND_WINDOW 65536u
/* Cork that a pull needs at most: header, chunk framing, an answer's text. */
#define GM_MUX_OLD_CORK 640u

struct gm_mux_old_config {
    void *memory; /* gm_mux_old_memory() zero bytes, aligned to 8, borrowed for the mux's life;
                     touched only as slots come into use */
    uint8_t random[GM_MUX_OLD_RANDOM]; /* strong: ids, and the key of the table of ids */
    uint32_t request_limit;            /* agent: named in its 429; 0: none */
};

size_t gm_mux_old_memory(enum gm_mux_role role, uint16_t stream_limit);
/* From here on the mux speaks 0.0.x: before anything is greeted, fed or opened. gm_mux_greet,
 * _set_peer's window, _ping and gm_mux_feed are then of no use; on_hello, on_pong, on_drain and
 * on_drain_ack are never called. gm_mux_drain stops gm_stream_open, and nothing is sent. */
void gm_mux_old_begin(struct gm_mux *mux, const struct gm_mux_old_config *config);
/* The greetings have passed: requests may begin. */
void gm_mux_old_up(struct gm_mux *mux);
/* Takes a piece of a BINARY message (marks: GM_WS_FIRST, GM_WS_LAST; may be empty). The slice is
 * borrowed; its buffer's home is this ring. Returns the bytes taken: fewer than given when a
 * stream's window is full. Then the rest (with the same LAST, without FIRST) is to be fed again,
 * and nothing else before it, once gm_mux_old_blocked says no. */
uint32_t gm_mux_old_feed(struct gm_mux *mux, uint64_t now_ns, gm_slice slice,
                         unsigned marks) GM_WARN_UNUSED;
bool gm_mux_old_blocked(const struct gm_mux *mux);
/* Server: a request's body is on its way. A 0.0.x agent that waits for its backend to take one
 * reads nothing else, not even a ping. */
bool gm_mux_old_uploading(const struct gm_mux *mux);
/* Server, within on_reset: the text that the agent gave as its cause, any bytes; borrowed until it
 * returns. Empty: none. */
#define GM_MUX_OLD_SAID_MAX 200u
gm_slice gm_mux_old_said(const struct gm_mux *mux);
/* Each gm_mux_pull gives one frame, the payload of one BINARY message, whatever bytes_max says; the
 * batch's cork has room for GM_MUX_OLD_CORK bytes. */

/* --- The streams' side. --- */

struct gm_mux_open {
    gm_slice head;   /* taken: GM_MUX_OPEN_ROOM free bytes and the request block. Of any ring */
    uint32_t window; /* credit for the answer, already reserved by the caller */
    bool end;        /* the request has no body: END_STREAM */
    void *user;
};

/* Server: opens a stream. 0 and *out; -GM_E_LIMIT: no slot; -GM_E_CLOSED: not up, draining or
 * ended; -GM_E_NOMEM: no segment, no block; -ENOTSUP: the peer's dialect cannot carry it. On
 * failure the head stays the caller's. */
int gm_stream_open(struct gm_mux *mux, const struct gm_mux_open *open,
                   struct gm_stream **out) GM_WARN_UNUSED;

/* The next functions take their slice in every case. 0; -GM_E_CLOSED: reset (or stopped: DATA,
 * TRAILERS), the slice was dropped; -GM_E_NOMEM: dropped for want of a segment, the owner must
 * reset the stream. Calls in the wrong order are bugs (asserted). */

/* Agent: queues a response head (GM_MUX_HEAD_ROOM free bytes and the block). `end`: END_STREAM, not
 * with 1xx. */
int gm_stream_head(struct gm_stream *stream, gm_slice head, bool end) GM_WARN_UNUSED;
/* Queues body bytes, at most gm_stream_room. A slice of another ring's buffer holds at most 16 KiB.
 */
int gm_stream_data(struct gm_stream *stream, gm_slice slice) GM_WARN_UNUSED;
/* Queues the trailers (GM_MUX_HEAD_ROOM free bytes and the block) and ends our direction. */
int gm_stream_trailers(struct gm_stream *stream, gm_slice trailers) GM_WARN_UNUSED;
/* Ends our direction behind what is queued. */
void gm_stream_end(struct gm_stream *stream);
/* Ends both directions; what is queued is released at once. When our final frame has passed
 * already, the peer is told by STOP (PROTOCOL.md section 4). `flags`: 0 or GM_FRAME_RESET_UNTOUCHED
 * (agent). */
void gm_stream_reset(struct gm_stream *stream, uint16_t reason, uint16_t flags);
/* We want no more of the peer's body: no on_data and no on_trailers from now on; on_end or on_reset
 * still come. */
void gm_stream_stop(struct gm_stream *stream, uint16_t reason);
/* The far socket took `bytes` of what on_data gave: the window policy (stream/window.h) decides
 * when the peer is granted more. */
void gm_stream_drained(struct gm_stream *stream, uint32_t bytes, uint64_t now_ns);
/* Grants `bytes` decided on by a window that the owner keeps elsewhere (on the client's ring):
 * instead of gm_stream_drained and gm_stream_grant, never beside them. */
void gm_stream_regrant(struct gm_stream *stream, uint32_t bytes);
/* Widens the window by `bytes` (reserved by the caller) and grants them. For owners that start with
 * a small or no window. */
void gm_stream_grant(struct gm_stream *stream, uint32_t bytes);

#endif
