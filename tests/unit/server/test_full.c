/* Which agents the registry takes for full: by the limit that they have said, and by what they have
 * refused. On a real ring, since news of links travels by mail. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "server/registry.h"

#define LIMIT 2u /* that the first agent has said */

struct world {
    struct gm_registry *registries[1];
    struct gm_registry *registry;
    struct gm_ring *ring;
    struct gm_timer timer;
    struct gm_card *said, *refuses;
    unsigned step;
    _Atomic bool finished;
};

static struct gm_card *attach(struct world *world, const char *subject, uint32_t request_limit)
{
    struct gm_card *card = gm_card_new(world->registry);
    cr_assert_not_null(card);
    (void)snprintf(card->service, sizeof card->service, "svc");
    (void)snprintf(card->subject, sizeof card->subject, "%s", subject);
    card->stream_limit = 100;
    card->request_limit = request_limit;
    gm_card_announce(world->registry, card);
    return card;
}

static struct gm_card *pick_free(struct world *world)
{
    return gm_registry_pick_free(world->registry, "svc", 3, NULL, false);
}

static void begin(struct gm_card *card, unsigned count)
{
    while (count-- > 0)
        gm_card_begin(card);
}

static void end(struct gm_card *card, unsigned count)
{
    while (count-- > 0)
        gm_card_end(card);
}

static void by_its_word(struct world *world)
{
    begin(world->refuses, 50);
    begin(world->said, LIMIT - 1);
    cr_assert_eq(pick_free(world), world->said, "it has a place left, and fewer requests");
    begin(world->said, 1);
    cr_assert_eq(pick_free(world), world->refuses, "the other has not said any limit");
    cr_assert_eq(gm_registry_pick(world->registry, "svc", 3, NULL, false), world->refuses);
    end(world->refuses, 45);
}

/* With 5 requests the other one refuses the fifth. */
static void by_its_deed(struct world *world)
{
    gm_registry_full(world->registry, world->refuses);
    cr_assert_null(pick_free(world), "both are full");
    cr_assert_not_null(gm_registry_pick(world->registry, "svc", 3, NULL, false),
                       "who may not wait asks all the same");
    cr_assert(gm_registry_serves(world->registry, "svc", 3));
    end(world->refuses, 1);
    cr_assert_null(pick_free(world), "four were what it had");
    end(world->refuses, 1);
    cr_assert_eq(pick_free(world), world->refuses, "three leave a place");
    begin(world->refuses, 1);
    cr_assert_null(pick_free(world));
}

/* A while later it is tried again: with one request more, then with two, then four. */
static void by_trial(struct world *world, unsigned more)
{
    for (unsigned i = 0; i < more; i++) {
        cr_assert_eq(pick_free(world), world->refuses, "try %u of %u", i, more);
        begin(world->refuses, 1);
    }
    cr_assert_null(pick_free(world), "not more than that at once");
}

static void act(struct gm_timer *timer)
{
    struct world *world = GM_CONTAINER_OF(timer, struct world, timer);
    uint64_t wait_ns = 150000000ull;
    switch (world->step++) {
    case 0:
        world->said = attach(world, "said", LIMIT);
        world->refuses = attach(world, "refuses", 0);
        break;
    case 1:
        by_its_word(world);
        by_its_deed(world);
        break;
    case 2:
        by_trial(world, 1);
        break;
    case 3:
        by_trial(world, 2);
        break;
    case 4:
        by_trial(world, 4);
        end(world->refuses, 4 + 1 + 2 + 4);
        end(world->said, LIMIT);
        gm_card_withdraw(world->registry, world->said);
        gm_card_withdraw(world->registry, world->refuses);
        break;
    default:
        cr_assert_not(gm_registry_serves(world->registry, "svc", 3));
        atomic_store_explicit(&world->finished, true, memory_order_relaxed);
        return;
    }
    gm_timer_set(world->ring, timer, gm_ring_now_ns(world->ring) + wait_ns);
}

static int init(struct gm_ring *ring, void *arg)
{
    struct world *world = arg;
    world->ring = ring;
    world->registry = gm_registry_new(ring, world->registries);
    gm_timer_init(&world->timer, act);
    gm_timer_set(ring, &world->timer, gm_ring_now_ns(ring) + 1);
    return world->registry == NULL ? -1 : 0;
}

Test(registry, agents_that_are_full_are_passed_over_and_tried_again, .timeout = 60)
{
    struct world *world = calloc(1, sizeof *world);
    struct gm_rings_config config = {
        .io = GM_IO_EPOLL, .count = 1, .memory_bytes = GM_RING_MEMORY_MIN};
    struct gm_rings_ops ops = {.init = init, .arg = world};
    struct gm_rings *rings;
    char why[512] = "";
    cr_assert_eq(gm_rings_start(&config, &ops, &rings, why), 0, "%s", why);
    for (unsigned i = 0; i < 8000 && !atomic_load_explicit(&world->finished, memory_order_relaxed);
         i++)
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    cr_assert(atomic_load_explicit(&world->finished, memory_order_relaxed));
    gm_rings_stop(rings);
    gm_rings_join(rings);
    gm_registry_free(world->registries[0]);
    free(world);
}
