/* The memory of one ring: receive pools, block pools, segments, carved from one lazily touched
 * mapping of memory_bytes.
 *
 *   client receive buffers   1/8   16 KiB each
 *   link receive buffers     1/8   128 KiB each
 *   head blocks              1/8   68 KiB each: the named bound on heads in the making
 *   segments                 1/32
 *   small blocks             rest  4 KiB each: a quarter for gm_ring_block, the other three for
 * evacuation, 5/6 of which can be reserved (the sixth is what packing each chain into blocks of its
 * own may waste)
 *
 * Free buffers form a stack per pool: the one used last is the one in the cache. Owner: the ring;
 * other rings only return buffers, by mail. Invariants: a free buffer has no reference and is
 * poisoned; free + held = count in every pool. */
#ifndef GM_RING_BUFFER_H
#define GM_RING_BUFFER_H

#include "ring/ring.h"

#define GM_STORE_CLIENT_SHARE 8u
#define GM_STORE_LINK_SHARE   8u
#define GM_STORE_HEAD_SHARE   8u
#define GM_STORE_SEG_SHARE    32u
#define GM_STORE_CORK_SHARE   4u /* of the small blocks */

/* A receive pool is short below a quarter of free buffers, and well again above a half. */
#define GM_POOL_SHORT(count) ((count) / 4u)
#define GM_POOL_WELL(count)  ((count) / 2u)

enum gm_store_pool {
    GM_STORE_CLIENT = GM_POOL_CLIENT,
    GM_STORE_LINK = GM_POOL_LINK,
    GM_STORE_CORK,
    GM_STORE_HEAD,
    GM_STORE_EVACUATION,
    GM_STORE_POOLS
};

struct gm_pool_state {
    struct gm_buf_home home; /* first: a buffer's home is its pool */
    struct gm_ring *ring;
    struct gm_buf *bufs; /* descriptors, by index */
    uint8_t *memory;
    uint32_t *stack; /* free indices, the last one used on top */
    uint32_t count, free_count;
    uint32_t
        lent; /* with the kernel (io_uring's buffer ring): not free here, not held by anybody */
    uint32_t buf_bytes;
    uint8_t kind;  /* enum gm_store_pool */
    bool is_short; /* receive pools: counted in rings->pools_short */
};

struct gm_store {
    struct gm_pool_state pools[GM_STORE_POOLS];
    struct gm_seg_pool segs;
    struct gm_list holders;
    uint64_t reserved, reservable; /* bytes */
    uint32_t epoch_seen;           /* of rings->short_epoch: what step 6 has acted on */
    bool call_others; /* a pool of ours has become short: whoever sleeps on our buffers must be
                         woken */
    uint8_t *memory;
    size_t memory_bytes;
    void *tables; /* descriptors and stacks */
    size_t tables_bytes;
};

int gm_store_init(struct gm_store *store, struct gm_ring *ring,
                  uint64_t memory_bytes) GM_WARN_UNUSED;
void gm_store_fini(struct gm_store *store);

/* A free buffer with one reference and fill 0, its bytes addressable; NULL: none. */
struct gm_buf *gm_store_take(struct gm_store *store, enum gm_store_pool pool) GM_WARN_UNUSED;
static inline uint32_t gm_store_free_count(const struct gm_store *store, enum gm_store_pool pool)
{
    return store->pools[pool].free_count;
}

/* Receive pools of a back-end whose kernel picks the buffer: lends one (one reference: the
 * kernel's; bytes stay poisoned until filled). */
struct gm_buf *gm_store_lend(struct gm_store *store, enum gm_pool pool) GM_WARN_UNUSED;
/* The kernel has written `len` bytes behind buf->fill; `last`: and is done with the buffer. Gives
 * the slice: a reference of its own, or on the last one the kernel's. len 0 is allowed with `last`:
 * the buffer is simply back. */
gm_slice gm_store_filled(struct gm_store *store, struct gm_buf *buf, uint32_t len, bool last);

/* Receive pools: buffers that no slice holds (free, or with the kernel). */
static inline uint32_t gm_pool_unheld(const struct gm_pool_state *pool)
{
    return pool->free_count + pool->lent;
}

/* Step 6: evacuates holders while a pool of this ring, or of any other, is short; sets the gauges.
 */
void gm_store_relieve(struct gm_store *store);
#define GM_RELIEVE_MAX 1024u /* holders asked per turn */

/* The ring of the calling thread, or NULL. */
extern _Thread_local struct gm_ring *gm_ring_current;

#endif
