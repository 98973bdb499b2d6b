/* Pools, blocks, reservations, holders and evacuation of one ring.
 *
 * Owner: the ring's thread; pool_on_return alone runs on other threads and touches nothing but the
 * descriptor's mail node. Invariants: see buffer.h. */
#include "ring/buffer.h"

#include <errno.h>
#include <string.h>

#include "base/pages.h"
#include "base/poison.h"
#include "ring/internal.h"

_Thread_local struct gm_ring *gm_ring_current;

/* ---- Pools ---- */

/* A receive pool has changed: notes the two thresholds where others will see them. */
static void pool_judge(struct gm_pool_state *pool)
{
    if (pool->kind > GM_STORE_LINK)
        return;
    uint32_t unheld = gm_pool_unheld(pool);
    if (!pool->is_short && unheld < GM_POOL_SHORT(pool->count)) {
        pool->is_short = true;
        pool->ring->store.call_others = true;
        atomic_fetch_add_explicit(&pool->ring->rings->pools_short, 1u, memory_order_relaxed);
        atomic_fetch_add_explicit(&pool->ring->rings->short_epoch, 1u, memory_order_acq_rel);
    } else if (pool->is_short && unheld >= GM_POOL_WELL(pool->count)) {
        pool->is_short = false;
        atomic_fetch_sub_explicit(&pool->ring->rings->pools_short, 1u, memory_order_relaxed);
    }
}

static void pool_on_free(struct gm_buf_home *home, struct gm_buf *buf)
{
    struct gm_pool_state *pool = GM_CONTAINER_OF(home, struct gm_pool_state, home);
    GM_POISON(buf->data, buf->size);
    pool->stack[pool->free_count++] = buf->index;
    GM_ASSERT(gm_pool_unheld(pool) <= pool->count);
    pool_judge(pool);
}

static void pool_on_return(struct gm_buf_home *home, struct gm_buf *buf)
{
    struct gm_pool_state *pool = GM_CONTAINER_OF(home, struct gm_pool_state, home);
    struct gm_ring *here = gm_ring_current;
    if (here != NULL && here->rings == pool->ring->rings)
        gm_ring_mail(here, home->ring, &buf->mail);
    else
        gm_rings_mail(pool->ring->rings, home->ring, &buf->mail);
}

static void buf_deliver(struct gm_mail *mail)
{
    gm_buf_collect(GM_CONTAINER_OF(mail, struct gm_buf, mail));
}

static struct gm_buf *pool_pop(struct gm_pool_state *pool)
{
    if (pool->free_count == 0)
        return NULL;
    struct gm_buf *buf = &pool->bufs[pool->stack[--pool->free_count]];
    GM_ASSERT(buf->refs == 0);
    buf->refs = 1;
    buf->fill = 0;
    return buf;
}

struct gm_buf *gm_store_take(struct gm_store *store, enum gm_store_pool which)
{
    struct gm_pool_state *pool = &store->pools[which];
    struct gm_buf *buf = pool_pop(pool);
    if (buf == NULL)
        return NULL;
    GM_UNPOISON(buf->data, buf->size);
    pool_judge(pool);
    return buf;
}

struct gm_buf *gm_store_lend(struct gm_store *store, enum gm_pool which)
{
    struct gm_pool_state *pool = &store->pools[which];
    struct gm_buf *buf = pool_pop(pool);
    if (buf != NULL)
        pool->lent++;
    return buf;
}

gm_slice gm_store_filled(struct gm_store *store, struct gm_buf *buf, uint32_t len, bool last)
{
    struct gm_pool_state *pool = GM_CONTAINER_OF(buf->home, struct gm_pool_state, home);
    GM_ASSERT(pool->ring == GM_CONTAINER_OF(store, struct gm_ring, store) && buf->refs > 0);
    GM_ASSERT(len <= buf->size - buf->fill && (len > 0 || last));
    gm_slice slice = {buf->data + buf->fill, len, buf};
    GM_UNPOISON(slice.data, len);
    buf->fill += len;
    if (!last) {
        gm_buf_ref(buf);
        return slice;
    }
    pool->lent--;
    pool_judge(pool);
    if (len == 0) {
        gm_buf_put(buf);
        slice.buf = NULL;
    }
    return slice;
}

/* ---- Carving ---- */

struct carve {
    uint32_t count, buf_bytes;
};

/* How memory_bytes is shared out; see the table in buffer.h. */
static size_t plan(uint64_t memory_bytes, struct carve out[GM_STORE_POOLS])
{
    uint64_t segs = memory_bytes / GM_STORE_SEG_SHARE;
    out[GM_STORE_CLIENT] =
        (struct carve){(uint32_t)(memory_bytes / GM_STORE_CLIENT_SHARE / GM_CLIENT_BUF_BYTES),
                       GM_CLIENT_BUF_BYTES};
    out[GM_STORE_LINK] = (struct carve){
        (uint32_t)(memory_bytes / GM_STORE_LINK_SHARE / GM_LINK_BUF_BYTES), GM_LINK_BUF_BYTES};
    out[GM_STORE_HEAD] = (struct carve){
        (uint32_t)(memory_bytes / GM_STORE_HEAD_SHARE / GM_BLOCK_HEAD_BYTES), GM_BLOCK_HEAD_BYTES};
    uint64_t used = segs;
    for (unsigned i = 0; i < GM_STORE_POOLS; i++)
        used += (uint64_t)out[i].count * out[i].buf_bytes;
    uint32_t small = (uint32_t)((memory_bytes - used) / GM_BLOCK_SMALL_BYTES);
    out[GM_STORE_CORK] = (struct carve){small / GM_STORE_CORK_SHARE, GM_BLOCK_SMALL_BYTES};
    out[GM_STORE_EVACUATION] =
        (struct carve){small - small / GM_STORE_CORK_SHARE, GM_BLOCK_SMALL_BYTES};
    return (size_t)segs;
}

static void pool_init(struct gm_pool_state *pool, const struct gm_ring *ring)
{
    pool->home = (struct gm_buf_home){ring->index, pool_on_free, pool_on_return};
    for (uint32_t i = 0; i < pool->count; i++) {
        struct gm_buf *buf = &pool->bufs[i];
        buf->data = pool->memory + (size_t)i * pool->buf_bytes;
        buf->size = pool->buf_bytes;
        buf->home = &pool->home;
        buf->index = i;
        buf->mail.deliver = buf_deliver;
        atomic_init(&buf->mail.next, NULL);
        atomic_init(&buf->returned, 0u);
        pool->stack[i] = pool->count - 1u - i; /* lowest addresses first */
    }
    pool->free_count = pool->count;
    GM_POISON(pool->memory, (size_t)pool->count * pool->buf_bytes);
}

int gm_store_init(struct gm_store *store, struct gm_ring *ring, uint64_t memory_bytes)
{
    struct carve shares[GM_STORE_POOLS] = {0};
    if (memory_bytes < GM_RING_MEMORY_MIN)
        return -GM_E_CONFIG;
    *store = (struct gm_store){0};
    gm_list_init(&store->holders);
    size_t segs = plan(memory_bytes, shares), entries = 0;
    for (unsigned i = 0; i < GM_STORE_POOLS; i++)
        entries += shares[i].count;
    store->memory_bytes = memory_bytes;
    store->tables_bytes = entries * (sizeof(struct gm_buf) + sizeof(uint32_t));
    store->memory = gm_pages_map(store->memory_bytes);
    store->tables = gm_pages_map(store->tables_bytes);
    if (store->memory == NULL || store->tables == NULL) {
        gm_store_fini(store);
        return -ENOMEM;
    }
    uint8_t *at = store->memory;
    struct gm_buf *bufs = store->tables;
    uint32_t *stack = (uint32_t *)(void *)(bufs + entries);
    for (unsigned i = 0; i < GM_STORE_POOLS; i++) {
        struct gm_pool_state *pool = &store->pools[i];
        *pool = (struct gm_pool_state){
            .ring = ring, .bufs = bufs, .memory = at, .stack = stack, .kind = (uint8_t)i};
        pool->count = shares[i].count;
        pool->buf_bytes = shares[i].buf_bytes;
        pool_init(pool, ring);
        at += (size_t)pool->count * pool->buf_bytes;
        bufs += pool->count;
        stack += pool->count;
    }
    gm_seg_pool_init(&store->segs, at, segs & ~(size_t)63u);
    uint64_t evacuation = (uint64_t)store->pools[GM_STORE_EVACUATION].count * GM_BLOCK_SMALL_BYTES;
    store->reservable = evacuation / 6u * 5u;
    return 0;
}

void gm_store_fini(struct gm_store *store)
{
    if (store->memory != NULL) {
        GM_UNPOISON(store->memory, store->memory_bytes);
        for (unsigned i = 0; i < GM_STORE_POOLS; i++) {
            struct gm_pool_state *pool = &store->pools[i];
            if (pool->is_short)
                atomic_fetch_sub_explicit(&pool->ring->rings->pools_short, 1u,
                                          memory_order_relaxed);
        }
        gm_pages_unmap(store->memory, store->memory_bytes);
    }
    gm_pages_unmap(store->tables, store->tables_bytes);
    *store = (struct gm_store){0};
}

/* ---- Blocks and reservations ---- */

static const uint8_t pool_of_block[GM_BLOCK_COUNT] = {
    [GM_BLOCK_SMALL] = GM_STORE_CORK,
    [GM_BLOCK_HEAD] = GM_STORE_HEAD,
    [GM_BLOCK_CREDIT] = GM_STORE_EVACUATION,
    [GM_BLOCK_SPARE] = GM_STORE_CLIENT,
};

struct gm_buf *gm_ring_block(struct gm_ring *ring, enum gm_block kind)
{
    const struct gm_pool_state *pool = &ring->store.pools[pool_of_block[kind]];
    if (kind == GM_BLOCK_SPARE && gm_pool_unheld(pool) <= GM_POOL_WELL(pool->count))
        return NULL;
    return gm_store_take(&ring->store, pool_of_block[kind]);
}

uint32_t gm_ring_block_count(const struct gm_ring *ring, enum gm_block kind)
{
    return ring->store.pools[pool_of_block[kind]].count;
}

struct gm_seg_pool *gm_ring_segs(struct gm_ring *ring)
{
    return &ring->store.segs;
}

bool gm_ring_reserve(struct gm_ring *ring, size_t bytes)
{
    struct gm_store *store = &ring->store;
    if (bytes > store->reservable - store->reserved)
        return false;
    store->reserved += bytes;
    return true;
}

bool gm_ring_reserve_more(struct gm_ring *ring, size_t bytes)
{
    size_t left = gm_ring_reservable(ring), kept = gm_ring_reserve_total(ring) / 2u;
    return left >= kept && bytes <= left - kept && gm_ring_reserve(ring, bytes);
}

uint32_t gm_ring_reserve_double(struct gm_ring *ring, uint32_t reserved, uint32_t most)
{
    uint32_t left = most > reserved ? most - reserved : 0, more = reserved < left ? reserved : left;
    return more > 0 && gm_ring_reserve_more(ring, more) ? reserved + more : reserved;
}

void gm_ring_unreserve(struct gm_ring *ring, size_t bytes)
{
    GM_ASSERT(bytes <= ring->store.reserved);
    ring->store.reserved -= bytes;
}

size_t gm_ring_reservable(const struct gm_ring *ring)
{
    return (size_t)(ring->store.reservable - ring->store.reserved);
}
size_t gm_ring_reserve_total(const struct gm_ring *ring)
{
    return (size_t)ring->store.reservable;
}

/* ---- Evacuation ---- */

void gm_holder_init(struct gm_holder *holder, void (*evacuate)(struct gm_holder *holder))
{
    gm_list_init(&holder->node);
    holder->evacuate = evacuate;
}

void gm_ring_hold(struct gm_ring *ring, struct gm_holder *holder)
{
    if (gm_list_empty(&holder->node))
        gm_list_push_back(&ring->store.holders, &holder->node);
}

void gm_ring_unhold(struct gm_holder *holder)
{
    gm_list_remove(&holder->node);
}

/* Does the slice pin a receive buffer, ours or another ring's? Tests' own buffers have other homes.
 */
static bool pins_receive(gm_slice slice)
{
    if (slice.buf == NULL || slice.buf->home->on_free != pool_on_free)
        return false;
    return GM_CONTAINER_OF(slice.buf->home, struct gm_pool_state, home)->kind <= GM_STORE_LINK;
}

/* The evacuation block that the chain ends in, when it has room behind its last slice. */
static struct gm_buf *packing_block(struct gm_store *store, gm_slice last)
{
    struct gm_buf *buf = last.buf;
    if (buf == NULL || buf->home != &store->pools[GM_STORE_EVACUATION].home)
        return NULL;
    if (last.data + last.len != buf->data + buf->fill || buf->fill == buf->size)
        return NULL;
    return buf;
}

struct mover {
    struct gm_store *store;
    struct gm_chain out;
    gm_slice last; /* the last one of `out` */
};

/* Segments that hold `slices` more entries at the end of a chain. */
static uint32_t segs_for(uint32_t slices)
{
    return slices / GM_SEG_SLICES + 2u;
}

static void mover_push(struct mover *mover, gm_slice slice)
{
    int r = gm_chain_push(&mover->out, &mover->store->segs, slice);
    GM_ASSERT(r == 0); /* counted before */
    mover->last = slice;
}

/* Copies the slice into packed blocks and releases it; false when blocks or segments are short
 * (nothing has happened). */
static bool mover_copy(struct mover *mover, gm_slice slice)
{
    struct gm_store *store = mover->store;
    struct gm_buf *block = packing_block(store, mover->last);
    uint32_t room = block == NULL ? 0 : block->size - block->fill;
    uint32_t blocks = slice.len <= room
                          ? 0
                          : (slice.len - room + GM_BLOCK_SMALL_BYTES - 1u) / GM_BLOCK_SMALL_BYTES;
    if (gm_store_free_count(store, GM_STORE_EVACUATION) < blocks ||
        store->segs.free_count < segs_for(blocks + 1u))
        return false;
    const uint8_t *from = slice.data;
    uint32_t left = slice.len;
    while (left > 0) {
        if (room == 0) {
            block = gm_store_take(store, GM_STORE_EVACUATION);
            room = block->size;
        } else {
            gm_buf_ref(block);
        }
        uint32_t n = left < room ? left : room;
        memcpy(block->data + block->fill, from, n);
        gm_slice copy = {block->data + block->fill, n, block};
        block->fill += n;
        mover_push(mover, copy);
        from += n;
        left -= n;
        room = 0;
    }
    gm_counter_add(GM_COUNTER_EVACUATIONS, 1);
    gm_counter_add(GM_COUNTER_COPIES_LARGE, 1);
    gm_counter_add(GM_COUNTER_COPIES_LARGE_BYTES, slice.len);
    gm_slice_put(slice);
    return true;
}

void gm_ring_evacuate(struct gm_ring *ring, struct gm_chain *chain)
{
    struct gm_store *store = &ring->store;
    struct mover mover = {.store = store};
    uint32_t left = chain->count;
    /* What stays is moved over as it is: that needs a segment more than there are now, at most. */
    if (store->segs.free_count < segs_for(0))
        return;
    for (; left > 0; left--) {
        gm_slice slice = gm_chain_pop(chain, &store->segs);
        if (!pins_receive(slice) || !mover_copy(&mover, slice))
            mover_push(&mover, slice);
    }
    GM_ASSERT(chain->count == 0);
    *chain = mover.out;
}

static bool any_short(struct gm_store *store)
{
    struct gm_ring *ring = GM_CONTAINER_OF(store, struct gm_ring, store);
    return atomic_load_explicit(&ring->rings->pools_short, memory_order_relaxed) > 0;
}

static void set_gauges(const struct gm_store *store)
{
    const struct gm_pool_state *p = store->pools;
    gm_counter_set(GM_COUNTER_BUFFERS_IN_USE_CLIENT,
                   p[GM_STORE_CLIENT].count - gm_pool_unheld(&p[GM_STORE_CLIENT]));
    gm_counter_set(GM_COUNTER_BUFFERS_IN_USE_LINK,
                   p[GM_STORE_LINK].count - gm_pool_unheld(&p[GM_STORE_LINK]));
    uint64_t blocks = 0;
    for (unsigned i = GM_STORE_CORK; i < GM_STORE_POOLS; i++)
        blocks += p[i].count - p[i].free_count;
    gm_counter_set(GM_COUNTER_BLOCKS_IN_USE, blocks);
    gm_counter_set(GM_COUNTER_MEMORY_RESERVED_BYTES, store->reserved);
}

/* A ring that sleeps on our buffers would not see that they are short. */
static void wake_others(struct gm_ring *ring)
{
    for (uint32_t i = 0; i < ring->rings->count; i++) {
        struct gm_ring *other = ring->rings->ring[i];
        if (other == ring || !gm_mailbox_must_wake(&other->mailbox))
            continue;
        gm_counter_add(GM_COUNTER_WAKES_SENT, 1);
        other->backend->wake(ring, other);
    }
}

void gm_store_relieve(struct gm_store *store)
{
    struct gm_ring *ring = GM_CONTAINER_OF(store, struct gm_ring, store);
    set_gauges(store);
    store->epoch_seen = atomic_load_explicit(&ring->rings->short_epoch, memory_order_acquire);
    if (GM_UNLIKELY(store->call_others)) {
        store->call_others = false;
        wake_others(ring);
    }
    if (GM_LIKELY(!any_short(store)))
        return;
    struct gm_list todo, *node;
    gm_list_init(&todo);
    gm_list_splice_back(&todo, &store->holders);
    /* Whoever has had its turn goes behind whoever has not. A foreign pool is relieved by mail, so
     * its flag stays up for a while: the bound keeps one turn short. */
    for (uint32_t asked = 0; asked < GM_RELIEVE_MAX && any_short(store); asked++) {
        node = gm_list_pop_front(&todo);
        if (node == NULL)
            break;
        gm_list_push_back(&store->holders, node);
        struct gm_holder *holder = GM_CONTAINER_OF(node, struct gm_holder, node);
        holder->evacuate(holder);
    }
    gm_list_splice_back(&todo, &store->holders);
    gm_list_splice_back(&store->holders, &todo);
}
