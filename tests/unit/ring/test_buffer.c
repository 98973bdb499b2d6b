/* Pools, blocks, reservations and evacuation, on a ring's own thread. */
#include <stdlib.h>
#include <string.h>

#include "harness.h"

#define MEMORY (16u << 20)
static const struct variant plain = {GM_IO_EPOLL, NULL};

static void do_shares(struct gm_ring *ring, void *arg)
{
    (void)arg;
    const struct gm_pool_state *p = ring->store.pools;
    cr_assert_eq(p[GM_STORE_CLIENT].count, MEMORY / 8u / GM_CLIENT_BUF_BYTES);
    cr_assert_eq(p[GM_STORE_LINK].count, MEMORY / 8u / GM_LINK_BUF_BYTES);
    uint64_t sum = (uint64_t)ring->store.segs.total_count * sizeof(struct gm_seg);
    for (unsigned i = 0; i < GM_STORE_POOLS; i++)
        sum += (uint64_t)p[i].count * p[i].buf_bytes;
    cr_assert_leq(sum, MEMORY);
    cr_assert_geq(sum, MEMORY / 100u * 98u, "hardly anything is wasted");
}

static const uint32_t block_bytes[GM_BLOCK_COUNT] = {
    [GM_BLOCK_SMALL] = GM_BLOCK_SMALL_BYTES,
    [GM_BLOCK_HEAD] = GM_BLOCK_HEAD_BYTES,
    [GM_BLOCK_CREDIT] = GM_BLOCK_SMALL_BYTES,
    [GM_BLOCK_SPARE] = GM_CLIENT_BUF_BYTES,
};

/* Blocks run out (spare ones before half of the pool is taken), come back, are all different, keep
 * what is written. */
static void do_blocks(struct gm_ring *ring, void *arg)
{
    static struct gm_buf *taken[8192];
    (void)arg;
    for (unsigned kind = 0; kind < GM_BLOCK_COUNT; kind++) {
        uint32_t size = block_bytes[kind], all = gm_ring_block_count(ring, (enum gm_block)kind);
        uint32_t most = kind == GM_BLOCK_SPARE ? all - GM_POOL_WELL(all) : all;
        for (unsigned round = 0; round < 2; round++) {
            uint32_t count = 0;
            struct gm_buf *buf;
            while ((buf = gm_ring_block(ring, (enum gm_block)kind)) != NULL) {
                cr_assert(buf->size == size && buf->refs == 1);
                memset(buf->data, (int)(count & 255u), size);
                taken[count++] = buf;
            }
            cr_assert(count > 0 && count == most, "%u of %u", count, most);
            for (uint32_t i = 0; i < count; i++) {
                cr_assert(taken[i]->data[0] == (i & 255u) &&
                          taken[i]->data[size - 1] == (i & 255u));
                gm_buf_put(taken[i]);
            }
        }
    }
}

static void do_reserve(struct gm_ring *ring, void *arg)
{
    size_t total = gm_ring_reserve_total(ring);
    (void)arg;
    cr_assert_gt(total, MEMORY / 4u);
    cr_assert_eq(gm_ring_reservable(ring), total);
    cr_assert(gm_ring_reserve(ring, total - 10));
    cr_assert_not(gm_ring_reserve(ring, 11));
    cr_assert_not(gm_ring_reserve(ring, SIZE_MAX));
    cr_assert_eq(gm_ring_reservable(ring), 10u);
    cr_assert(gm_ring_reserve(ring, 10));
    cr_assert_eq(gm_ring_reservable(ring), 0u);
    gm_ring_unreserve(ring, total);
    cr_assert_eq(gm_ring_reservable(ring), total);
}

/* Those who want more get the first half, those who begin all that is left. */
static void do_reserve_more(struct gm_ring *ring, void *arg)
{
    size_t total = gm_ring_reserve_total(ring), first = total - total / 2u;
    (void)arg;
    cr_assert(gm_ring_reserve_more(ring, first - 10));
    cr_assert_not(gm_ring_reserve_more(ring, 11));
    cr_assert_not(gm_ring_reserve_more(ring, SIZE_MAX));
    cr_assert(gm_ring_reserve_more(ring, 10));
    cr_assert_not(gm_ring_reserve_more(ring, 1));
    cr_assert(gm_ring_reserve(ring, total / 2u));
    cr_assert_not(gm_ring_reserve_more(ring, 1));
    gm_ring_unreserve(ring, total);
}

/* Doubled, cut at the most, refused from the second half; nothing is counted that is not returned.
 */
static void do_reserve_double(struct gm_ring *ring, void *arg)
{
    size_t total = gm_ring_reserve_total(ring), first = total - total / 2u;
    (void)arg;
    cr_assert(gm_ring_reserve(ring, 1000));
    cr_assert_eq(gm_ring_reserve_double(ring, 1000, 4000), 2000u);
    cr_assert_eq(gm_ring_reserve_double(ring, 2000, 3000), 3000u);
    cr_assert_eq(gm_ring_reserve_double(ring, 3000, 3000), 3000u);
    cr_assert_eq(gm_ring_reserve_double(ring, 3000, 10), 3000u, "more than the most already");
    cr_assert_eq(gm_ring_reserve_double(ring, 0, 10), 0u);
    cr_assert_eq(gm_ring_reservable(ring), total - 3000u);
    cr_assert(gm_ring_reserve(ring, first - 3000u - 2999u));
    cr_assert_eq(gm_ring_reserve_double(ring, 3000, UINT32_MAX), 3000u, "one byte short");
    gm_ring_unreserve(ring, 1);
    cr_assert_eq(gm_ring_reserve_double(ring, 3000, UINT32_MAX), 6000u);
    gm_ring_unreserve(ring, first);
}

/* What has been reserved can be evacuated: many chains of odd slices, as many bytes as can be
 * reserved. */
enum { CHAINS = 64 };
static void fill_chain(struct gm_ring *ring, struct gm_chain *chain, uint64_t *at, size_t bytes,
                       uint32_t piece)
{
    while (bytes > 0) {
        struct gm_buf *buf = gm_store_take(&ring->store, GM_STORE_CLIENT);
        cr_assert(buf != NULL);
        uint32_t n = bytes < piece ? (uint32_t)bytes : piece;
        for (uint32_t i = 0; i < n; i++)
            buf->data[i] = pattern(*at + i);
        *at += n;
        bytes -= n;
        cr_assert(gm_chain_push(chain, gm_ring_segs(ring), (gm_slice){buf->data, n, buf}) == 0);
    }
}
static void do_evacuate_all(struct gm_ring *ring, void *arg)
{
    static struct gm_chain chains[CHAINS];
    static uint64_t at[CHAINS];
    (void)arg;
    size_t each =
        gm_ring_reserve_total(ring) / CHAINS / GM_BLOCK_SMALL_BYTES * GM_BLOCK_SMALL_BYTES;
    for (size_t done = 0; done < each;) {
        size_t step = each - done < 3001 ? each - done : 3001;
        for (unsigned i = 0; i < CHAINS; i++) {
            fill_chain(ring, &chains[i], &at[i], step, 40 + (i * 53u) % 2000u);
            gm_ring_evacuate(ring, &chains[i]);
            cr_assert_eq(ring->store.pools[GM_STORE_CLIENT].free_count + 0u,
                         ring->store.pools[GM_STORE_CLIENT].count, "all moved");
        }
        done += step;
    }
    for (unsigned i = 0; i < CHAINS; i++) {
        uint64_t seen = 0;
        cr_assert_eq(chains[i].bytes, each);
        while (chains[i].count > 0) {
            gm_slice slice = gm_chain_pop(&chains[i], gm_ring_segs(ring));
            cr_assert(is_pattern(slice.data, seen, slice.len));
            seen += slice.len;
            gm_slice_put(slice);
        }
    }
}

/* No block left: what cannot be moved stays, in order, and nothing is lost. */
static void do_evacuate_short(struct gm_ring *ring, void *arg)
{
    static struct gm_buf *hogged[8192];
    struct gm_chain chain = {0};
    uint64_t at = 0, seen = 0;
    uint32_t count = 0;
    (void)arg;
    while (gm_store_free_count(&ring->store, GM_STORE_EVACUATION) > 3)
        hogged[count++] = gm_store_take(&ring->store, GM_STORE_EVACUATION);
    fill_chain(ring, &chain, &at, 60000, 5000);
    gm_ring_evacuate(ring, &chain);
    gm_ring_evacuate(ring, &chain);
    cr_assert_eq(chain.bytes, 60000u);
    uint32_t stayed =
        ring->store.pools[GM_STORE_CLIENT].count - ring->store.pools[GM_STORE_CLIENT].free_count;
    cr_assert(stayed > 0 && stayed < 12);
    while (chain.count > 0) {
        gm_slice slice = gm_chain_pop(&chain, gm_ring_segs(ring));
        cr_assert(is_pattern(slice.data, seen, slice.len));
        seen += slice.len;
        gm_slice_put(slice);
    }
    while (count > 0)
        gm_buf_put(hogged[--count]);
}

/* No segment left: likewise. */
static void do_evacuate_without_segments(struct gm_ring *ring, void *arg)
{
    struct gm_seg_pool *segs = gm_ring_segs(ring);
    struct gm_chain chain = {0}, hog = {0};
    uint64_t at = 0, seen = 0;
    static uint8_t bytes[1000000];
    (void)arg;
    fill_chain(ring, &chain, &at, 60000, 5000);
    for (size_t i = 0; i + 2 < sizeof bytes && segs->free_count > 3; i += 2)
        cr_assert(gm_chain_push(&hog, segs, (gm_slice){bytes + i, 1, NULL}) == 0);
    gm_ring_evacuate(ring, &chain);
    cr_assert_eq(chain.bytes, 60000u);
    gm_chain_clear(&hog, segs);
    while (chain.count > 0) {
        gm_slice slice = gm_chain_pop(&chain, segs);
        cr_assert(is_pattern(slice.data, seen, slice.len));
        seen += slice.len;
        gm_slice_put(slice);
    }
}

/* Lending: pieces of one buffer, each with a reference; the buffer is whole again when kernel and
 * slices have let go. */
static void do_lend(struct gm_ring *ring, void *arg)
{
    struct gm_store *store = &ring->store;
    const struct gm_pool_state *pool = &store->pools[GM_STORE_LINK];
    (void)arg;
    struct gm_buf *buf = gm_store_lend(store, GM_POOL_LINK);
    cr_assert_eq(gm_pool_unheld(pool), pool->count);
    gm_slice a = gm_store_filled(store, buf, 100, false),
             b = gm_store_filled(store, buf, 65436, true);
    cr_assert(b.data == a.data + 100 && buf->refs == 2);
    cr_assert_eq(gm_pool_unheld(pool), pool->count - 1u);
    gm_slice_put(a);
    cr_assert_eq(gm_pool_unheld(pool), pool->count - 1u);
    gm_slice_put(b);
    cr_assert_eq(pool->free_count, pool->count);
    buf = gm_store_lend(store, GM_POOL_LINK); /* given back untouched */
    gm_slice none = gm_store_filled(store, buf, 0, true);
    cr_assert(none.buf == NULL);
    cr_assert_eq(pool->free_count, pool->count);
}

/* The thresholds: short below a quarter, well again from a half, counted once. */
static void do_pressure(struct gm_ring *ring, void *arg)
{
    struct gm_pool_state *pool = &ring->store.pools[GM_STORE_CLIENT];
    _Atomic uint32_t *flag = &ring->rings->pools_short;
    static struct gm_buf *taken[1024];
    uint32_t count = 0;
    (void)arg;
    while (pool->free_count >= pool->count / 4u) {
        cr_assert_eq(*flag, 0u);
        taken[count++] = gm_store_take(&ring->store, GM_STORE_CLIENT);
    }
    cr_assert_eq(*flag, 1u);
    while (pool->free_count < pool->count / 2u) {
        cr_assert_eq(*flag, 1u);
        gm_buf_put(taken[--count]);
    }
    cr_assert_eq(*flag, 0u);
    while (count > 0)
        gm_buf_put(taken[--count]);
}

static void run_on_ring(void (*fn)(struct gm_ring *, void *))
{
    struct gm_rings *rings = start(&plain, 1, MEMORY);
    on_ring(rings, 0, fn, NULL);
    finish(rings);
}
Test(buffer, shares_of_the_memory)
{
    run_on_ring(do_shares);
}
Test(buffer, blocks)
{
    run_on_ring(do_blocks);
}
Test(buffer, reservations)
{
    run_on_ring(do_reserve);
    run_on_ring(do_reserve_more);
    run_on_ring(do_reserve_double);
}
Test(buffer, what_is_reserved_can_be_evacuated)
{
    run_on_ring(do_evacuate_all);
}
Test(buffer, evacuation_without_blocks)
{
    run_on_ring(do_evacuate_short);
}
Test(buffer, evacuation_without_segments)
{
    run_on_ring(do_evacuate_without_segments);
}
Test(buffer, lending)
{
    run_on_ring(do_lend);
}
Test(buffer, pressure_thresholds)
{
    run_on_ring(do_pressure);
}

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
static void do_poison(struct gm_ring *ring, void *arg)
{
    (void)arg;
    struct gm_buf *buf = gm_ring_block(ring, GM_BLOCK_SMALL);
    cr_assert_eq(__asan_address_is_poisoned(buf->data), 0);
    uint8_t *data = buf->data;
    gm_buf_put(buf);
    cr_assert_neq(__asan_address_is_poisoned(data), 0);
    buf = gm_store_lend(&ring->store, GM_POOL_CLIENT);
    gm_slice slice = gm_store_filled(&ring->store, buf, 64, false);
    cr_assert_eq(__asan_address_is_poisoned(slice.data + 63), 0);
    cr_assert_neq(__asan_address_is_poisoned(slice.data + 64), 0, "the rest is still the kernel's");
    gm_slice_put(slice);
    (void)gm_store_filled(&ring->store, buf, 0, true);
    cr_assert_neq(__asan_address_is_poisoned(buf->data), 0);
}
Test(buffer, free_bytes_are_poisoned)
{
    run_on_ring(do_poison);
}
#endif
