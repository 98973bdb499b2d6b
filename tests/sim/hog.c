/* Takes the server's memory away for a while: blocks, receive buffers, segments, reservations.
 *
 * Runs on the server's rings by gm_sim_do. Invariant: all that was taken is given back by
 * hog_release, so that a leak is still seen. */
#include <stdlib.h>

#include "ring/internal.h"
#include "world.h"

struct hog_order {
    struct sim_world *world;
    struct sim_hog *hog;
    uint32_t ring;
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
    struct gm_store *store = &order->world->contexts[order->ring]->ring->store;
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
    if (!gm_ring_reserve(order->world->contexts[order->ring]->ring, hog->reserved))
        hog->reserved = 0;
}

static void release(void *arg)
{
    const struct hog_order *order = arg;
    struct sim_hog *hog = order->hog;
    struct gm_store *store = &order->world->contexts[order->ring]->ring->store;
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
    gm_ring_unreserve(order->world->contexts[order->ring]->ring, hog->reserved);
    *hog = (struct sim_hog){0};
}

void hog_take(struct sim_world *world)
{
    for (uint32_t r = 0; r < world->ring_count; r++) {
        struct hog_order order = {world, &world->hogs[r], r};
        gm_sim_do(world->sim, world->contexts[r]->ring, take, &order);
    }
}

void hog_release(struct sim_world *world)
{
    for (uint32_t r = 0; r < world->ring_count; r++) {
        struct hog_order order = {world, &world->hogs[r], r};
        gm_sim_do(world->sim, world->contexts[r]->ring, release, &order);
    }
}
