/* What the files of the codec share: mux.c (table, owner's calls), pull.c (what both dialects pull
 * by), native_in.c (feed) and native_out.c (pull), and the same of 0.0.x: old.c (table of ids,
 * owner's calls), old_in.c, old_out.c.
 *
 * Private to src/codec/. Invariants of the lists: a stream is on `control` exactly when it has
 * pending frames and its OPEN has passed; its `node` is on `heads` while heads are queued, on
 * `closing` when its OPEN was taken back, on `free` when closed; `sched` holds it while it has DATA
 * or trailers and no heads. on_closed is called in one place, mux_close. */
#ifndef GM_CODEC_INTERNAL_H
#define GM_CODEC_INTERNAL_H

#include "codec/codec.h"

/* gm_mux.flags */
#define MUX_GREET_SENT     0x0001u /* our greeting has been pulled */
#define MUX_GREET_RECEIVED 0x0002u
#define MUX_PING           0x0004u /* to be sent */
#define MUX_PONG           0x0008u
#define MUX_DRAIN          0x0010u
#define MUX_DRAIN_ACK      0x0020u
#define MUX_DRAINING       0x0040u /* we drain */
#define MUX_PEER_DRAINING  0x0080u
#define MUX_PEER_NO_OPENS  0x0100u /* agent: DRAIN or DRAIN_ACK has come, no OPEN may follow */
#define MUX_ENDED          0x0200u /* a fault, or gm_mux_abort */
#define MUX_DRAIN_ACKED    0x0800u /* the peer has answered our DRAIN */
#define MUX_BUSY           0x0400u /* within feed, pull or abort: no second one */

/* A response block begins with kind u8, flags u8, status u16 (PROTOCOL.md section 6): so much the
 * mux reads, to check the order of heads. */
#define GM_MUX_STATUS_END 4u
static inline bool gm_mux_is_interim(const uint8_t *block)
{
    uint16_t status = gm_frame_get_u16(block + 2);
    return status >= 100 && status <= 199 && status != 101;
}

static inline struct gm_stream *mux_slot(const struct gm_mux *mux, uint16_t slot)
{
    return &mux->slots[slot - 1u];
}
/* Prepares a slot that was never used. */
void mux_slot_init(struct gm_mux *mux, uint16_t slot);

/* Marks control frames as pending. */
void mux_pend(struct gm_stream *stream, uint16_t pending);
/* Both finals have passed, or never will: on_closed, and the slot is free. */
void mux_close(struct gm_stream *stream);
static inline void mux_close_if_done(struct gm_stream *stream)
{
    if (gm_stream_done(stream))
        mux_close(stream);
}
/* Releases what is queued and takes the stream off the lists of heads and DATA. */
void mux_purge(struct gm_stream *stream);
/* The outcome of a RESET in either direction: purges and sees to the final frame that is still
 * owed. */
void mux_apply_reset(struct gm_stream *stream, uint16_t reason, uint16_t reset_flags);
/* This end resets the stream for the peer's fault or for want of memory; the owner is told. */
void mux_fail(struct gm_stream *stream, uint16_t reason, uint16_t reset_flags);
/* What is queued behind the heads gets its turn, once no head is queued any more: DATA, trailers,
 * END; or is dropped, if the peer has stopped it. */
void mux_schedule(struct gm_stream *stream);

/* A slot for a stream of ours, in use, its window and credits set; NULL: none is free. */
struct gm_stream *mux_begin(struct gm_mux *mux, const struct gm_stream_begin *begin);

/* ---- pull.c ---- */

/* Appends a slice, taking it: copied when small, else moved. There must be a piece left. */
void mux_append(struct gm_batch *batch, gm_slice slice);
/* Takes the first `n` bytes of the chain's front slice (n <= its length); only a buffer of this
 * ring is cut. */
gm_slice mux_take_front(struct gm_stream *stream, uint32_t n);
/* Bytes that the front slice contributes to a frame: the whole slice, or 16 KiB of a longer one. */
uint32_t mux_front_bytes(const struct gm_stream *stream);
/* END, or what stands for it, is in the batch. */
void mux_sent_end(struct gm_stream *stream);
/* All heads of the stream have left. */
void mux_heads_left(struct gm_stream *stream);
/* on_closed for the streams whose OPEN was taken back. */
void mux_close_taken_back(struct gm_mux *mux);

/* ---- 0.0.x (codec.h says what it is) ---- */

/* Longest request id that is taken from a server; its own have 36 characters. */
#define OLD_ID_MAX     64u
#define OLD_HEADER_MAX (5u + OLD_ID_MAX)
#define OLD_UUID_LEN   36u
/* type u8, length of the id u32 big-endian, id. */
#define OLD_HEADER_LEN (5u + OLD_UUID_LEN)

enum old_type { OLD_START = 1, OLD_DATA = 2, OLD_END = 3, OLD_CANCEL = 4 };

/* Marks of a side. */
#define OLD_ERROR_HEAD 0x01u /* agent: START of an answer made for a reset has left */
#define OLD_HEAD_ONLY  0x01u /* server: a HEAD request: its answer ends with its head */
#define OLD_CHUNKED    0x02u /* server: the request's body leaves in chunks */
#define OLD_CHUNKS_END 0x04u /* server: the last chunk has left */
#define OLD_CANCELLED  0x08u /* server: CANCEL has left */
#define OLD_UPLOADING  0x10u /* server: DATA has left: counted in old->uploads */
#define OLD_QUEUED     0x20u /* server: CANCEL is queued */
#define OLD_EXPECTS    0x40u /* server: 100 is due as soon as START has left */
#define OLD_ANSWERED   0x40u /* agent: START has left */
#define OLD_TOLD       0x80u /* agent: and its DATA */

/* What 0.0.x needs of a stream beside the stream. */
struct old_side {
    struct gm_buf *held; /* agent: the request's block, until it is known whether a body follows */
    uint32_t held_len;
    uint32_t cancel_id; /* server: of the CANCEL that is queued */
    uint16_t next;      /* agent: slot, in the bucket; server: in the queue of CANCELs */
    uint8_t flags;      /* OLD_* */
    uint8_t id_len;     /* agent: of `id`; 0: not in the table */
    uint8_t id[OLD_ID_MAX];
};

enum old_state {
    OLD_IN_HEADER, /* type, id */
    OLD_IN_START,
    OLD_IN_DATA,
    OLD_IN_END,
    OLD_IN_SKIP
};

/* A START that found no slot: answered by END with a text. */
#define OLD_REFUSALS_MAX 16u
struct old_refusal {
    uint8_t id_len;
    uint8_t id[OLD_ID_MAX];
};

#define OLD_ERROR_TEXT_MAX 128u

struct gm_mux_old {
    struct old_side *sides;    /* slot n is sides[n - 1] */
    uint16_t *buckets;         /* agent: first slot of each; 0: none */
    struct gm_stream *blocked; /* its window is full, and the input waits for it */
    uint64_t seed;
    uint32_t bucket_mask;
    uint32_t id_mask; /* server: what a stream's id is hidden by */
    uint32_t request_limit;
    uint32_t uploads;                   /* server: streams whose body has begun to leave */
    uint32_t text_len;                  /* START: gathered so far; END: 1 when it has a text */
    uint16_t cancel_first, cancel_last; /* queue of slots; 0: empty */
    uint8_t header_len;                 /* of the message under way */
    uint8_t state;                      /* enum old_state */
    uint8_t refusal_count;
    uint8_t said_len;
    uint8_t said[GM_MUX_OLD_SAID_MAX]; /* server: the text of the last END that had one */
    uint8_t tail[OLD_UUID_LEN - 8u];   /* server: what every id ends in */
    uint8_t header[OLD_HEADER_MAX];
    struct old_refusal refusals[OLD_REFUSALS_MAX];
};

/* What the first five bytes of a frame say. */
static inline uint64_t old_id_len(const uint8_t *header)
{
    return (uint64_t)header[1] << 24 | (uint64_t)header[2] << 16 | (uint64_t)header[3] << 8 |
           header[4];
}
static inline struct old_side *old_side_of(const struct gm_stream *stream)
{
    return &stream->mux->old->sides[(uint16_t)stream->id - 1u];
}
/* The stream in use of that id, or NULL. */
struct gm_stream *old_find(struct gm_mux *mux, const uint8_t *id, size_t len);
/* Agent: enters the stream into the table. */
void old_enter(struct gm_stream *stream, const uint8_t *id, uint8_t len);
/* Writes a frame's header, at most OLD_HEADER_MAX bytes; returns its length. */
uint32_t old_put_header(uint8_t *out, const struct gm_stream *stream, enum old_type type);
/* A server's, for a stream that may have been closed. */
void old_put_cancel(uint8_t out[OLD_HEADER_LEN], const struct gm_mux *mux, uint32_t id);
/* The slot is about to be free: what 0.0.x keeps of it ends, and a CANCEL is queued. */
void mux_old_closing(struct gm_stream *stream);
/* Server: the request is over, both directions; the peer hears CANCEL. */
void old_cancelled(struct gm_stream *stream);

/* The dialect's parts of gm_mux_ready, gm_mux_pull, gm_stream_open, _head and _trailers. */
bool mux_old_ready(const struct gm_mux *mux);
void mux_old_pull(struct gm_mux *mux, struct gm_batch *batch);
int mux_old_open(struct gm_mux *mux, const struct gm_mux_open *open, struct gm_stream **out);
int mux_old_head(struct gm_stream *stream, gm_slice head, bool end);
int mux_old_trailers(struct gm_stream *stream, gm_slice trailers);

#endif
