/* What the three files of the codec share: mux.c (table, owner's calls), native_in.c (feed) and
 * native_out.c (pull).
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

#endif
