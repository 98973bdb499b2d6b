/* A batch: what one pull takes out of a mux, in the order of the wire.
 *
 * Owned by the link, filled by gm_mux_pull, then emptied into the connection. A batch is a run of
 * pieces; small bytes (frame headers, control frames, payload up to `copy_max`) are copied into the
 * cork, larger payload is moved in by reference. The link may put one WebSocket header in front of
 * `bytes` and mask every piece in place: a moved slice is held by nobody else. */
#ifndef GM_CODEC_BATCH_H
#define GM_CODEC_BATCH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/slice.h"

struct gm_batch {
    gm_slice *pieces; /* buf == NULL: bytes of the cork (borrowed); else a slice whose reference the
                         piece carries */
    uint8_t *cork;    /* the link's memory, valid until the batch is emptied */
    size_t bytes;     /* sum over the pieces */
    uint32_t cork_used, cork_max;
    uint32_t copy_max;     /* payload slices up to this are copied and released (0: none) */
    uint32_t copied_bytes; /* payload bytes copied, for the counters */
    uint16_t piece_count, piece_max;
};

/* A pull needs so much of both to make progress: a header, a slice behind it, a control frame. */
#define GM_BATCH_PIECES_MIN 4u
#define GM_BATCH_CORK_MIN   64u

static inline void gm_batch_init(struct gm_batch *batch, gm_slice *pieces, uint16_t piece_max,
                                 uint8_t *cork, uint32_t cork_max)
{
    *batch = (struct gm_batch){
        .pieces = pieces, .piece_max = piece_max, .cork = cork, .cork_max = cork_max};
    GM_ASSERT(piece_max >= GM_BATCH_PIECES_MIN && cork_max >= GM_BATCH_CORK_MIN);
}
/* Forgets the pieces (the references have been taken out by the caller); the cork starts anew. */
static inline void gm_batch_reset(struct gm_batch *batch)
{
    batch->bytes = 0;
    batch->cork_used = batch->copied_bytes = 0;
    batch->piece_count = 0;
}
/* Releases what the pieces hold, for a batch that will not be sent. */
static inline void gm_batch_drop(struct gm_batch *batch)
{
    for (uint16_t i = 0; i < batch->piece_count; i++)
        gm_slice_put(batch->pieces[i]);
    gm_batch_reset(batch);
}

/* Is there room for `len` copied bytes, and (`slices`) so many moved slices behind them? */
static inline bool gm_batch_fits(const struct gm_batch *batch, size_t len, unsigned slices)
{
    return batch->cork_max - batch->cork_used >= len &&
           batch->piece_count + 1u + slices <= batch->piece_max;
}
/* A place for `len` bytes at the end, which the caller fills at once. There must be room
 * (gm_batch_fits). */
static inline uint8_t *gm_batch_place(struct gm_batch *batch, uint32_t len)
{
    GM_ASSERT(gm_batch_fits(batch, len, 0));
    uint8_t *place = batch->cork + batch->cork_used;
    gm_slice *last = batch->piece_count > 0 ? &batch->pieces[batch->piece_count - 1] : NULL;
    if (last != NULL && last->buf == NULL && last->data + last->len == place)
        last->len += len;
    else
        batch->pieces[batch->piece_count++] = (gm_slice){place, len, NULL};
    batch->cork_used += len;
    batch->bytes += len;
    return place;
}
/* Moves the slice in, taking its reference. Slices without buffer must be copied instead. */
static inline void gm_batch_move(struct gm_batch *batch, gm_slice slice)
{
    GM_ASSERT(slice.buf != NULL && batch->piece_count < batch->piece_max);
    batch->pieces[batch->piece_count++] = slice;
    batch->bytes += slice.len;
}

#endif
