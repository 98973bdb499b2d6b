/* The replicated registry and the ports between rings, on real ring threads: under TSan this is the
 * proof that nothing but mail and relaxed figures is shared. Runs on epoll, which needs no
 * privilege; the mailbox is the same on every back-end. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/lanes.h"
#include "server/port.h"
#include "server/registry.h"

#define RINGS  3u
#define ROUNDS 40u
#define PINGS  200u

struct world;

struct actor {
    struct world *world;
    struct gm_ring *ring;
    struct gm_registry *registry;
    struct gm_port port;
    struct gm_timer timer;
    struct gm_card *card;
    unsigned round, pings_left, picked, pongs;
    bool done;
};

struct world {
    struct gm_registry *registries[RINGS];
    struct gm_port *ports[RINGS];
    struct actor actors[RINGS];
    _Atomic unsigned finished;
};

static void act(struct gm_timer *timer);

static void on_near(void *context, const struct gm_port_message *message)
{
    struct actor *actor = context;
    cr_assert_eq(message->kind, GM_PORT_CREDIT);
    cr_assert_eq(message->amount, message->pair.index * 2);
    actor->pongs++;
}

/* The far side answers every grant with twice its pair's index. */
static void on_far(void *context, const struct gm_port_message *message)
{
    struct actor *actor = context;
    cr_assert_eq(message->kind, GM_PORT_GRANT);
    gm_port_send(&actor->port, 0,
                 &(struct gm_port_message){.kind = GM_PORT_CREDIT,
                                           .pair = message->pair,
                                           .amount = message->pair.index * 2});
}

static const struct gm_port_ops port_ops = {.on_near = on_near, .on_far = on_far};

static int init(struct gm_ring *ring, void *arg)
{
    struct world *world = arg;
    struct actor *actor = &world->actors[gm_ring_index(ring)];
    actor->world = world;
    actor->ring = ring;
    actor->pings_left = PINGS;
    actor->registry = gm_registry_new(ring, world->registries);
    if (gm_port_init(&actor->port, ring, world->ports, &port_ops, actor) < 0)
        return -1;
    gm_timer_init(&actor->timer, act);
    gm_timer_set(ring, &actor->timer, gm_ring_now_ns(ring) + 1);
    return 0;
}

static void fini(struct gm_ring *ring, void *arg)
{
    struct world *world = arg;
    gm_port_fini(&world->actors[gm_ring_index(ring)].port);
}

static void ping_peers(struct actor *actor)
{
    for (unsigned i = 0; i < 8 && actor->pings_left > 0; i++, actor->pings_left--) {
        struct gm_port_message message = {
            .kind = GM_PORT_GRANT,
            .to_far = true,
            .pair = {.index = actor->pings_left, .ring = (uint16_t)gm_ring_index(actor->ring)}};
        gm_port_send(&actor->port, actor->pings_left % RINGS, &message);
    }
}

/* Each tick: a link comes or goes, requests pick links of whatever ring, messages cross. */
static void act(struct gm_timer *timer)
{
    struct actor *actor = GM_CONTAINER_OF(timer, struct actor, timer);
    if (actor->card == NULL && actor->round < ROUNDS) {
        actor->card = gm_card_new(actor->registry);
        cr_assert_not_null(actor->card);
        (void)snprintf(actor->card->service, sizeof actor->card->service, "svc");
        (void)snprintf(actor->card->subject, sizeof actor->card->subject, "agent-%u",
                       gm_ring_index(actor->ring));
        actor->card->stream_limit = 100;
        gm_card_announce(actor->registry, actor->card);
    } else if (actor->card != NULL) {
        gm_card_withdraw(actor->registry, actor->card);
        actor->card = NULL;
        actor->round++;
    }
    struct gm_card *picked = gm_registry_pick(actor->registry, "svc", 3, NULL, false);
    if (picked != NULL) {
        gm_card_begin(picked);
        actor->picked++;
        gm_card_end(picked);
    }
    ping_peers(actor);
    bool over = actor->round == ROUNDS && actor->card == NULL && actor->pongs == PINGS &&
                gm_registry_links(actor->registry, "svc", 3) == 0;
    if (over && !actor->done) {
        actor->done = true;
        atomic_fetch_add_explicit(&actor->world->finished, 1, memory_order_relaxed);
    }
    gm_timer_set(actor->ring, timer, gm_ring_now_ns(actor->ring) + GM_TICK_NS);
}

Test(registry, links_come_and_go_on_every_ring_while_requests_pick_them, .timeout = 60)
{
    struct world *world = calloc(1, sizeof *world);
    struct gm_rings_config config = {
        .io = GM_IO_EPOLL, .count = RINGS, .memory_bytes = GM_RING_MEMORY_MIN};
    struct gm_rings_ops ops = {.init = init, .fini = fini, .arg = world};
    struct gm_rings *rings;
    char why[512] = "";
    cr_assert_eq(gm_rings_start(&config, &ops, &rings, why), 0, "%s", why);
    struct timespec nap = {.tv_nsec = 5000000};
    for (unsigned i = 0;
         i < 8000 && atomic_load_explicit(&world->finished, memory_order_relaxed) < RINGS; i++)
        nanosleep(&nap, NULL);
    cr_assert_eq(atomic_load_explicit(&world->finished, memory_order_relaxed), RINGS);
    gm_rings_stop(rings);
    gm_rings_join(rings);
    for (unsigned i = 0; i < RINGS; i++) {
        cr_assert_gt(world->actors[i].picked, 0);
        gm_registry_free(world->registries[i]);
    }
    free(world);
}

Test(lanes, the_lowest_free_lane_is_given_and_a_replacement_gets_its_own)
{
    struct gm_lanes *lanes = gm_lanes_new(2);
    cr_assert_eq(gm_lanes_take(lanes, "a", "i", -1), 0);
    cr_assert_eq(gm_lanes_take(lanes, "a", "i", -1), 1);
    cr_assert_eq(gm_lanes_take(lanes, "a", "i", -1), 2, "surplus");
    cr_assert_eq(gm_lanes_take(lanes, "a", "j", -1), 0, "another process of the same subject");
    cr_assert_eq(gm_lanes_take(lanes, "b", "i", -1), 0, "another subject");
    gm_lanes_give(lanes, "a", "i", 2);
    gm_lanes_give(lanes, "a", "i", 0);
    cr_assert_eq(gm_lanes_take(lanes, "a", "i", -1), 0);
    cr_assert_eq(gm_lanes_take(lanes, "a", "i", 1), 1,
                 "taken over while the dead link still holds it");
    gm_lanes_give(lanes, "a", "i", 1);
    cr_assert_eq(gm_lanes_take(lanes, "a", "i", -1), 2, "the replacement still holds lane 1");
    gm_lanes_free(lanes);
}
