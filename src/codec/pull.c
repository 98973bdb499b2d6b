/* What both dialects' pulls are made of. Owner: the link's ring. Invariant: only a buffer of this
 * ring is cut; what is appended has left the stream's queue. */
#include "codec/internal.h"

#include <string.h>

void mux_append(struct gm_batch *batch, gm_slice slice)
{
    if (slice.len > batch->copy_max || !gm_batch_fits(batch, slice.len, 0)) {
        gm_batch_move(batch, slice);
        return;
    }
    memcpy(gm_batch_place(batch, slice.len), slice.data, slice.len);
    batch->copied_bytes += slice.len;
    gm_slice_put(slice);
}

gm_slice mux_take_front(struct gm_stream *stream, uint32_t n)
{
    struct gm_seg_pool *segs = stream->mux->segs;
    gm_slice front = gm_chain_front(&stream->queue);
    if (front.len == n)
        return gm_chain_pop(&stream->queue, segs);
    gm_slice cut = gm_slice_ref((gm_slice){front.data, n, front.buf});
    gm_chain_consume(&stream->queue, segs, n);
    return cut;
}

uint32_t mux_front_bytes(const struct gm_stream *stream)
{
    uint32_t len = gm_chain_front(&stream->queue).len;
    if (len > stream->data_bytes)
        len = stream->data_bytes; /* merged with the trailers behind it */
    return len < GM_FRAME_PAYLOAD_MAX ? len : GM_FRAME_PAYLOAD_MAX;
}

void mux_sent_end(struct gm_stream *stream)
{
    enum gm_stream_verdict verdict = gm_stream_step(stream, GM_STREAM_SENT_END);
    GM_ASSERT(verdict == GM_STREAM_ACCEPT);
}

void mux_heads_left(struct gm_stream *stream)
{
    gm_list_remove(&stream->node);
    if ((stream->flags & GM_STREAM_OPENED) == 0) {
        stream->flags |= GM_STREAM_OPENED | GM_STREAM_SEEN;
        if ((stream->flags & GM_STREAM_PENDING) != 0)
            mux_pend(stream, 0);
    }
    if ((stream->flags & GM_STREAM_END_ON_BLOCK) != 0 && stream->trailer_bytes == 0)
        mux_sent_end(stream);
    mux_schedule(stream);
}

void mux_close_taken_back(struct gm_mux *mux)
{
    struct gm_list *node;
    while ((node = gm_list_first(&mux->closing)) != NULL)
        mux_close(GM_CONTAINER_OF(node, struct gm_stream, node));
}
