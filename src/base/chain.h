/* A FIFO of slices with byte accounting: what every queue of payload in Gimlet is.
 *
 * Entries live in small segments drawn from a pool carved at start; an empty chain holds no memory.
 * A chain belongs to one ring and holds one reference per slice. */
#ifndef GM_BASE_CHAIN_H
#define GM_BASE_CHAIN_H

#include "base/error.h"
#include "base/slice.h"

/* 10 slices of 24 bytes and a 16-byte header: four cache lines. */
#define GM_SEG_SLICES 10u

struct gm_seg {
    struct gm_seg *next;
    uint16_t first, count;
    gm_slice slices[GM_SEG_SLICES];
};

/* Free segments of one ring; never shared. */
struct gm_seg_pool {
    struct gm_seg *free;
    uint32_t free_count, total_count;
};

struct gm_chain {
    struct gm_seg *head, *tail;
    size_t bytes;
    uint32_t count;
};

/* Carves `memory` (borrowed for the pool's life, aligned to 8) into segments. */
void gm_seg_pool_init(struct gm_seg_pool *pool, void *memory, size_t bytes);

/* Appends, taking the slice's reference. -GM_E_NOMEM when the pool is empty: the reference stays
 * with the caller. Empty slices are released and accepted. Adjacent slices of one buffer are
 * merged. */
int gm_chain_push(struct gm_chain *chain, struct gm_seg_pool *pool, gm_slice slice) GM_WARN_UNUSED;
/* Removes and returns the first slice; the chain must not be empty. The reference goes to the
 * caller. */
gm_slice gm_chain_pop(struct gm_chain *chain, struct gm_seg_pool *pool);
/* Borrows the first slice; the chain must not be empty. */
gm_slice gm_chain_front(const struct gm_chain *chain);
/* Drops `n` bytes (<= bytes) from the front and releases what they held; the front slice may shrink
 * in place. */
void gm_chain_consume(struct gm_chain *chain, struct gm_seg_pool *pool, size_t n);
/* Releases everything. */
void gm_chain_clear(struct gm_chain *chain, struct gm_seg_pool *pool);

/* Walks the first slices without removing them: fills up to `max` entries, returns how many.
 * Borrowed. */
struct iovec;
unsigned gm_chain_peek(const struct gm_chain *chain, struct iovec *iov, unsigned max,
                       size_t bytes_max);

#endif
