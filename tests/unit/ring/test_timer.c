/* The wheel: never early, at most two ticks late, lazy moves, against a plain model, at every
 * distance. */
#include <stdlib.h>

#include "harness.h"

static uint64_t now;
struct probe {
    struct gm_timer timer;
    uint64_t fired_at;
    uint32_t fired;
};
static struct probe *probe_of(struct gm_timer *timer)
{
    return GM_CONTAINER_OF(timer, struct probe, timer);
}
static void note(struct gm_timer *timer)
{
    cr_assert_leq(timer->deadline_ns, now, "early by %llu ns",
                  (unsigned long long)(timer->deadline_ns - now));
    probe_of(timer)->fired_at = now;
    probe_of(timer)->fired++;
}

/* Sleeps as the loop does: to the next event of the wheel, but not past `until`. */
static void run_until(struct gm_wheel *wheel, uint64_t until)
{
    for (;;) {
        uint64_t next = gm_wheel_next_ns(wheel);
        if (next > until)
            break;
        if (next > now)
            now = next;
        gm_wheel_advance(wheel, now);
    }
    if (until > now)
        now = until;
    gm_wheel_advance(wheel, now);
}

Test(timer, every_distance)
{
    struct gm_wheel wheel;
    static const uint64_t bases[] = {0,
                                     1,
                                     4000000u * 63u,
                                     4000000u * 64u - 1u,
                                     4000000ull * 4096u * 3u + 17u,
                                     1234567890123456ull};
    for (unsigned b = 0; b < sizeof bases / sizeof bases[0]; b++) {
        for (uint64_t distance = 1; distance < 100ull * 86400u * 1000000000u;
             distance = distance * 3u / 2u + 1u) {
            struct probe p = {0};
            now = bases[b];
            gm_wheel_init(&wheel, now);
            gm_timer_init(&p.timer, note);
            uint64_t deadline = now + distance;
            gm_wheel_set(&wheel, &p.timer, deadline);
            cr_assert(gm_timer_armed(&p.timer));
            run_until(&wheel, deadline + 2u * GM_TICK_NS);
            cr_assert_eq(p.fired, 1u, "base %u distance %llu", b, (unsigned long long)distance);
            cr_assert_leq(p.fired_at, deadline + 2u * GM_TICK_NS);
            cr_assert_not(gm_timer_armed(&p.timer));
            cr_assert_eq(gm_wheel_next_ns(&wheel), UINT64_MAX);
        }
    }
}

Test(timer, moving_later_is_lazy_and_moving_earlier_is_not)
{
    struct gm_wheel wheel;
    struct probe p = {0};
    now = 1000;
    gm_wheel_init(&wheel, now);
    gm_timer_init(&p.timer, note);
    gm_wheel_set(&wheel, &p.timer, 100000000u);
    struct gm_list *where = p.timer.node.next;
    gm_wheel_set(&wheel, &p.timer, 900000000u);
    cr_assert_eq(p.timer.node.next, where, "the node has not moved");
    run_until(&wheel, 800000000u);
    cr_assert_eq(p.fired, 0u);
    run_until(&wheel, 900000000u + 2u * GM_TICK_NS);
    cr_assert_eq(p.fired, 1u);
    gm_wheel_set(&wheel, &p.timer, now + 60000000000u);
    gm_wheel_set(&wheel, &p.timer, now + 50000000u);
    run_until(&wheel, now + 60000000u);
    cr_assert_eq(p.fired, 2u);
    gm_wheel_set(&wheel, &p.timer, 5); /* long past: next tick */
    run_until(&wheel, now + 2u * GM_TICK_NS);
    cr_assert_eq(p.fired, 3u);
    gm_wheel_set(&wheel, &p.timer, now + 50000000u);
    gm_timer_cancel(&p.timer);
    gm_timer_cancel(&p.timer);
    run_until(&wheel, now + 100000000000u); /* slots that cancelled nodes have left are looked at
                                               once more, for nothing */
    cr_assert_eq(p.fired, 3u);
    cr_assert_eq(gm_wheel_next_ns(&wheel), UINT64_MAX);
}

static struct gm_wheel *chain_wheel;
static uint32_t chained;
static void again(struct gm_timer *timer)
{
    chained++;
    gm_wheel_set(chain_wheel, timer, now); /* due already: must not run again in this turn */
}
static struct gm_timer victim;
static void kill_victim(struct gm_timer *timer)
{
    (void)timer;
    gm_timer_cancel(&victim);
}
static void never(struct gm_timer *timer)
{
    (void)timer;
    cr_assert(false, "cancelled by its neighbour in the same slot");
}

Test(timer, callbacks_may_set_and_cancel)
{
    struct gm_wheel wheel;
    struct gm_timer t, killer;
    now = 0;
    chain_wheel = &wheel;
    gm_wheel_init(&wheel, now);
    gm_timer_init(&t, again);
    gm_timer_init(&killer, kill_victim);
    gm_timer_init(&victim, never);
    gm_wheel_set(&wheel, &t, 1);
    gm_wheel_set(&wheel, &killer, 2);
    gm_wheel_set(&wheel, &victim, 3);
    now = GM_TICK_NS;
    cr_assert_eq(gm_wheel_advance(&wheel, now), 2u);
    cr_assert_eq(chained, 1u);
    now = 1000u * GM_TICK_NS;
    gm_wheel_advance(&wheel, now);
    cr_assert_geq(chained, 2u);
}

/* Thousands of random operations against the plain list of deadlines. */
Test(timer, against_a_model)
{
    enum { TIMERS = 300 };
    static struct probe probes[TIMERS];
    static uint64_t deadline[TIMERS]; /* 0: not armed */
    struct gm_wheel wheel;
    srand(7);
    now = 123456789;
    gm_wheel_init(&wheel, now);
    for (int i = 0; i < TIMERS; i++)
        gm_timer_init(&probes[i].timer, note);
    for (int step = 0; step < 20000; step++) {
        int i = rand() % TIMERS;
        uint64_t scale = 1ull << (rand() % 42);
        if (rand() % 5 == 0) {
            gm_timer_cancel(&probes[i].timer);
            deadline[i] = 0;
        } else {
            deadline[i] = now + 1u + (uint64_t)rand() % scale;
            gm_wheel_set(&wheel, &probes[i].timer, deadline[i]);
        }
        if (rand() % 3 != 0)
            continue;
        for (int k = 0; k < TIMERS; k++)
            probes[k].fired = 0;
        uint64_t jump = 1ull << (rand() % 36);
        if (rand() % 2 != 0)
            run_until(&wheel, now + jump);
        else
            gm_wheel_advance(&wheel, now += jump); /* one long absence */
        for (int k = 0; k < TIMERS; k++) {
            cr_assert_leq(probes[k].fired, 1u);
            if (probes[k].fired != 0)
                cr_assert(deadline[k] != 0 && deadline[k] <= now);
            if (deadline[k] != 0 && deadline[k] + GM_TICK_NS <= now)
                cr_assert(probes[k].fired == 1, "late: %lld", (long long)(now - deadline[k]));
            if (probes[k].fired != 0)
                deadline[k] = 0;
            cr_assert_eq(gm_timer_armed(&probes[k].timer), deadline[k] != 0);
        }
    }
}

/* On a running ring, with real time. */
struct real {
    struct gm_timer timer;
    struct gm_ring *ring;
    uint64_t asked, got;
    _Atomic bool done;
};
static void real_expired(struct gm_timer *timer)
{
    struct real *real = GM_CONTAINER_OF(timer, struct real, timer);
    real->got = gm_ring_now_ns(real->ring);
    real->done = true;
}
static void real_begin(struct gm_ring *ring, void *arg)
{
    struct real *real = arg;
    real->ring = ring;
    real->asked = gm_ring_now_ns(ring) + 30000000u;
    gm_timer_init(&real->timer, real_expired);
    gm_timer_set(ring, &real->timer, real->asked);
}
CASE(timers_on_a_ring)
{
    struct gm_rings *rings = start(variant, 1, 16u << 20);
    struct real real = {0};
    on_ring(rings, 0, real_begin, &real);
    WAIT_UNTIL(real.done);
    cr_assert_geq(real.got, real.asked);
    cr_assert_leq(real.got, real.asked + 2u * GM_TICK_NS + 50000000u, "50 ms for a busy machine");
    finish(rings);
}
