/* Takes memory away for a while, of the server and of the real agent: blocks, receive buffers,
 * segments, reservations.
 *
 * Runs on their rings by gm_sim_do. Invariant: all that was taken is given back by
 * hog_release, so that a leak is still seen. */
#include <stdlib.h>

#include "ring/internal.h"
#include "world.h"

struct hog_order {
    struct sim_world *world;
    struct sim_hog *hog;
    struct gm_ring *ring;
};

static void take_buffers(struct sim_world *world, struct sim_hog *hog, struct gm_store *store,
                         enum gm_store_pool pool)
{
    static const unsigned shares[] = {0, 50, 80, 95, 100};
    uint32_t count = gm_store_free_count(store, pool);
    uint32_t take = count * shares[world_rand(world, 5)] / 100;
    /* Link buffers are what an agent's words arrive in: they get short, not none. */
    if (pool == GM_STORE_LINK && take + 2 > count)
        take = count > 2 ? count - 2 : 0;
    for (uint32_t i = 0; i < take; i++)
        hog->bufs[hog->buf_count++] = gm_store_take(store, pool);
}

static void take(void *arg)
{
    const struct hog_order *order = arg;
    struct sim_hog *hog = order->hog;
    struct gm_store *store = &order->ring->store;
    uint32_t all = 0;
    for (unsigned i = 0; i < GM_STORE_POOLS; i++)
        all += store->pools[i].free_count;
    hog->bufs = calloc(all + 1, sizeof(struct gm_buf *));
    GM_ASSERT(hog->bufs != NULL);
    for (unsigned i = 0; i < GM_STORE_POOLS; i++)
        take_buffers(order->world, hog, store, (enum gm_store_pool)i);
    uint32_t segs = store->segs.free_count * (uint32_t)world_rand(order->world, 5) / 4;
    while (segs-- > 0) {
        struct gm_seg *seg = store->segs.free;
        store->segs.free = seg->next;
        store->segs.free_count--;
        seg->next = hog->segs;
        hog->segs = seg;
    }
    uint64_t left = store->reservable - store->reserved;
    hog->reserved = left * world_rand(order->world, 11) / 10;
    if (!gm_ring_reserve(order->ring, hog->reserved))
        hog->reserved = 0;
}

static void release(void *arg)
{
    const struct hog_order *order = arg;
    struct sim_hog *hog = order->hog;
    struct gm_store *store = &order->ring->store;
    for (uint32_t i = 0; i < hog->buf_count; i++)
        gm_buf_put(hog->bufs[i]);
    free(hog->bufs);
    while (hog->segs != NULL) {
        struct gm_seg *seg = hog->segs;
        hog->segs = seg->next;
        seg->next = store->segs.free;
        store->segs.free = seg;
        store->segs.free_count++;
    }
    gm_ring_unreserve(order->ring, hog->reserved);
    *hog = (struct sim_hog){0};
}

static void each_ring(struct sim_world *world, void (*act)(void *order))
{
    uint32_t agents = world->real ? gm_rings_count(world->agent_shared.rings) : 0;
    for (uint32_t i = 0; i < world->ring_count + agents; i++) {
        struct gm_ring *ring = i < world->ring_count
                                   ? world->contexts[i]->ring
                                   : world->agent_contexts[i - world->ring_count]->ring;
        struct hog_order order = {world, &world->hogs[i], ring};
        gm_sim_do(world->sim, ring, act, &order);
    }
}

void hog_take(struct sim_world *world)
{
    each_ring(world, take);
}

void hog_release(struct sim_world *world)
{
    each_ring(world, release);
}
