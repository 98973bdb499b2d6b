/* A receive buffer that small receives share: how the epoll and the simulated back-end fill a
 * pool's buffers (io_uring has the kernel do it).
 *
 * Owner: the ring. Invariant: `*fill` is NULL or a buffer of the pool that carries one reference of
 * the filler's own. */
#ifndef GM_RING_FILL_H
#define GM_RING_FILL_H

#include "ring/internal.h"

/* A shared buffer with less room than size / GM_FILL_ROOM_SHARE is given up for a fresh one: a
 * larger receive should not be cut up. */
#define GM_FILL_ROOM_SHARE 8u

static inline bool gm_fill_usable(const struct gm_buf *fill)
{
    return fill != NULL &&
           (fill->refs == 1 || fill->size - fill->fill >= fill->size / GM_FILL_ROOM_SHARE);
}

/* The buffer that the next receive of this pool goes to, at least an eighth of it free; NULL: the
 * pool is empty. */
static inline struct gm_buf *gm_fill_begin(struct gm_ring *ring, unsigned pool,
                                           struct gm_buf **fill)
{
    if (!gm_fill_usable(*fill)) {
        if (*fill != NULL)
            gm_buf_put(*fill);
        *fill = gm_store_take(&ring->store, (enum gm_store_pool)pool);
    } else if ((*fill)->refs == 1) {
        (*fill)->fill = 0; /* every slice cut from it has come back: it starts anew, still warm */
    }
    return *fill;
}

/* `len` bytes have been written behind what was there: the slice that holds them, with a reference
 * of its own. */
static inline gm_slice gm_fill_end(struct gm_buf *fill, uint32_t len)
{
    gm_slice slice = {fill->data + fill->fill, len, fill};
    gm_buf_ref(fill);
    fill->fill += len;
    return slice;
}

/* How many sockets that found no buffer may try again now. */
static inline uint32_t gm_fill_supply(const struct gm_ring *ring, unsigned pool,
                                      const struct gm_buf *fill)
{
    return gm_store_free_count(&ring->store, (enum gm_store_pool)pool) +
           (gm_fill_usable(fill) ? 1u : 0u);
}

#endif
