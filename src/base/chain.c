/* The slice FIFO. Owner: one ring per chain; segments come from that ring's pool. Invariant: bytes
 * and count are the sums over the segments, no stored slice is empty, an empty chain holds no
 * segment. */
#include "base/chain.h"

#include <sys/uio.h>

void gm_seg_pool_init(struct gm_seg_pool *pool, void *memory, size_t bytes)
{
    struct gm_seg *segs = memory;
    *pool = (struct gm_seg_pool){0};
    for (size_t i = bytes / sizeof *segs; i-- > 0;) {
        segs[i].next = pool->free;
        pool->free = &segs[i];
        pool->free_count++;
    }
    pool->total_count = pool->free_count;
}

static struct gm_seg *seg_take(struct gm_seg_pool *pool)
{
    struct gm_seg *seg = pool->free;
    if (seg == NULL)
        return NULL;
    pool->free = seg->next;
    pool->free_count--;
    seg->next = NULL;
    seg->first = seg->count = 0;
    return seg;
}

static void seg_give(struct gm_seg_pool *pool, struct gm_seg *seg)
{
    seg->next = pool->free;
    pool->free = seg;
    pool->free_count++;
}

/* A slice that continues the last one in the same buffer joins it: consecutive receives cost one
 * entry. Only where we may drop the spare reference cheaply, that is on the buffer's home ring. */
static bool chain_merge(struct gm_chain *chain, gm_slice slice)
{
    struct gm_seg *tail = chain->tail;
    if (tail == NULL || slice.buf == NULL || slice.buf->home->ring != gm_ring_self)
        return false;
    gm_slice *last = &tail->slices[tail->first + tail->count - 1];
    if (last->buf != slice.buf || last->data + last->len != slice.data)
        return false;
    last->len += slice.len;
    chain->bytes += slice.len;
    gm_buf_put(slice.buf);
    return true;
}

int gm_chain_push(struct gm_chain *chain, struct gm_seg_pool *pool, gm_slice slice)
{
    if (slice.len == 0) {
        gm_slice_put(slice);
        return 0;
    }
    if (chain_merge(chain, slice))
        return 0;
    struct gm_seg *tail = chain->tail;
    if (tail == NULL || tail->first + tail->count == GM_SEG_SLICES) {
        struct gm_seg *seg = seg_take(pool);
        if (seg == NULL)
            return -GM_E_NOMEM;
        if (tail == NULL)
            chain->head = seg;
        else
            tail->next = seg;
        chain->tail = tail = seg;
    }
    tail->slices[tail->first + tail->count++] = slice;
    chain->bytes += slice.len;
    chain->count++;
    return 0;
}

gm_slice gm_chain_front(const struct gm_chain *chain)
{
    GM_ASSERT(chain->count > 0);
    return chain->head->slices[chain->head->first];
}

gm_slice gm_chain_pop(struct gm_chain *chain, struct gm_seg_pool *pool)
{
    gm_slice slice = gm_chain_front(chain);
    struct gm_seg *head = chain->head;
    head->first++;
    head->count--;
    chain->bytes -= slice.len;
    chain->count--;
    if (head->count == 0) {
        chain->head = head->next;
        if (chain->head == NULL)
            chain->tail = NULL;
        seg_give(pool, head);
    }
    return slice;
}

void gm_chain_consume(struct gm_chain *chain, struct gm_seg_pool *pool, size_t n)
{
    GM_ASSERT(n <= chain->bytes);
    while (n > 0) {
        gm_slice *front = &chain->head->slices[chain->head->first];
        if (front->len > n) {
            front->data += n;
            front->len -= (uint32_t)n;
            chain->bytes -= n;
            return;
        }
        n -= front->len;
        gm_slice_put(gm_chain_pop(chain, pool));
    }
}

void gm_chain_clear(struct gm_chain *chain, struct gm_seg_pool *pool)
{
    while (chain->count > 0)
        gm_slice_put(gm_chain_pop(chain, pool));
}

unsigned gm_chain_peek(const struct gm_chain *chain, struct iovec *iov, unsigned max,
                       size_t bytes_max)
{
    unsigned filled = 0;
    for (const struct gm_seg *seg = chain->head; seg != NULL; seg = seg->next) {
        for (unsigned i = 0; i < seg->count; i++) {
            if (filled == max || bytes_max == 0)
                return filled;
            const gm_slice *slice = &seg->slices[seg->first + i];
            size_t len = slice->len < bytes_max ? slice->len : bytes_max;
            iov[filled++] = (struct iovec){slice->data, len};
            bytes_max -= len;
        }
    }
    return filled;
}
