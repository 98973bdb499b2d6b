/* Deficit round robin: fairness and the bound on a small stream's wait. */
#include <criterion/criterion.h>

#include "stream/sched.h"

#define NODES 50u

struct flow {
    struct gm_sched_node node;
    uint64_t sent;
    uint32_t frame; /* size of its frames */
};

static struct gm_sched sched;
static struct flow flows[NODES];

static void setup(void)
{
    gm_sched_init(&sched);
    for (unsigned i = 0; i < NODES; i++) {
        gm_sched_node_init(&flows[i].node);
        flows[i].sent = 0;
        flows[i].frame = 16384;
    }
}

/* One frame; returns who sent it. */
static struct flow *serve(void)
{
    for (;;) {
        struct gm_sched_node *node = gm_sched_current(&sched);
        struct flow *flow = GM_CONTAINER_OF(node, struct flow, node);
        if (flow->frame > node->deficit) {
            gm_sched_rotate(&sched);
            continue;
        }
        gm_sched_spend(&sched, node, flow->frame);
        flow->sent += flow->frame;
        return flow;
    }
}

Test(sched, an_empty_round_has_nobody, .init = setup)
{
    cr_assert_null(gm_sched_current(&sched));
    gm_sched_remove(&sched, &flows[0].node);
    gm_sched_add(&sched, &flows[0].node);
    gm_sched_add(&sched, &flows[0].node);
    cr_assert_eq(sched.ready_count, 1);
    cr_assert(gm_sched_current(&sched) == &flows[0].node);
    gm_sched_remove(&sched, &flows[0].node);
    cr_assert_null(gm_sched_current(&sched));
    cr_assert_eq(flows[0].node.deficit, 0);
}

Test(sched, two_bulk_streams_share_within_a_quantum_and_a_frame, .init = setup)
{
    static const uint32_t sizes[] = {16384, 16383, 9000, 1000, 1, 12345};
    for (unsigned a = 0; a < 6; a++) {
        for (unsigned b = 0; b < 6; b++) {
            setup();
            flows[0].frame = sizes[a];
            flows[1].frame = sizes[b];
            gm_sched_add(&sched, &flows[0].node);
            gm_sched_add(&sched, &flows[1].node);
            for (int i = 0; i < 3000; i++) {
                serve();
                int64_t apart = (int64_t)flows[0].sent - (int64_t)flows[1].sent;
                cr_assert(apart <= (int64_t)GM_SCHED_QUANTUM * 2 &&
                              apart >= -(int64_t)GM_SCHED_QUANTUM * 2,
                          "%ld", (long)apart);
            }
        }
    }
}

/* A stream with one small frame waits for at most one quantum (and what was saved of one) of each
 * other. */
Test(sched, a_small_stream_waits_for_one_round, .init = setup)
{
    for (unsigned i = 1; i < NODES; i++) {
        flows[i].frame = 5000u + i * 100u;
        gm_sched_add(&sched, &flows[i].node);
    }
    flows[0].frame = 10;
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < round % 7; i++)
            serve();
        gm_sched_add(&sched, &flows[0].node);
        uint64_t before = 0, after = 0;
        for (unsigned i = 1; i < NODES; i++)
            before += flows[i].sent;
        while (serve() != &flows[0]) {
        }
        gm_sched_remove(&sched, &flows[0].node);
        for (unsigned i = 1; i < NODES; i++)
            after += flows[i].sent;
        cr_assert(after - before <= (uint64_t)(NODES - 1) * 2 * GM_SCHED_QUANTUM);
    }
}

Test(sched, removing_and_adding_gains_nothing, .init = setup)
{
    gm_sched_add(&sched, &flows[0].node);
    gm_sched_add(&sched, &flows[1].node);
    flows[0].frame = 100;
    serve();
    cr_assert_gt(flows[0].node.deficit, 0);
    gm_sched_remove(&sched, &flows[0].node);
    gm_sched_add(&sched, &flows[0].node);
    cr_assert_eq(flows[0].node.deficit, 0);
    cr_assert(gm_sched_current(&sched) == &flows[1].node);
}

/* Random arrivals, leaves and frame sizes: nobody is ever overtaken. */
Test(sched, what_is_due_is_never_overrun, .init = setup)
{
    uint32_t chance = 7;
    for (unsigned step = 0; step < 200000; step++) {
        chance = chance * 1664525u + 1013904223u;
        struct flow *flow = &flows[(chance >> 8) % NODES];
        switch ((chance >> 24) % 8) {
        case 0:
            gm_sched_remove(&sched, &flow->node);
            break;
        case 1:
        case 2:
            flow->frame = 1 + (chance >> 10) % GM_SCHED_QUANTUM;
            gm_sched_add(&sched, &flow->node);
            break;
        default:
            if (sched.ready_count > 0)
                serve();
        }
    }
    cr_assert_gt(sched.contended, 10000);
    cr_assert_eq(sched.overrun, 0);
}

/* The watch notices what it is for: a node that is given more than its turn while others wait. */
Test(sched, a_turn_that_is_too_long_is_counted, .init = setup)
{
    gm_sched_add(&sched, &flows[0].node);
    gm_sched_add(&sched, &flows[1].node);
    serve();
    flows[0].node.deficit += 1000; /* a defect: more than it is due */
    gm_sched_spend(&sched, &flows[0].node, 1000);
    gm_sched_rotate(&sched);
    cr_assert(gm_sched_current(&sched) == &flows[1].node);
    cr_assert_eq(sched.overrun, 1000);
}
