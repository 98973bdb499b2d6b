/* Receive windows: policy by example, and as a property over random peers. */
#include <criterion/criterion.h>

#include "stream/window.h"

static uint32_t reserve_calls, reserve_budget;

static bool reserve(void *arg, uint32_t bytes)
{
    (void)arg;
    reserve_calls++;
    if (bytes > reserve_budget)
        return false;
    reserve_budget -= bytes;
    return true;
}
static struct gm_window_env at(uint64_t now_ns, uint64_t rtt_ns)
{
    return (struct gm_window_env){now_ns, rtt_ns, reserve, NULL};
}

Test(window, initial_is_a_share_within_bounds)
{
    cr_assert_eq(gm_window_initial(64u << 20, 1), GM_WINDOW_INITIAL_MAX);
    cr_assert_eq(gm_window_initial(64u << 20, 0), GM_WINDOW_INITIAL_MAX);
    cr_assert_eq(gm_window_initial(1u << 20, 64), 16384u);
    cr_assert_eq(gm_window_initial(1u << 20, 10000), GM_WINDOW_MIN);
    cr_assert_eq(gm_window_initial(0, 1), GM_WINDOW_MIN);
}

Test(window, more_than_granted_is_refused_and_changes_nothing)
{
    struct gm_window window;
    gm_window_init(&window, 100);
    cr_assert(gm_window_receive(&window, 100));
    cr_assert(!gm_window_receive(&window, 1));
    cr_assert(gm_window_receive(&window, 0));
    cr_assert_eq(window.held, 100);
    gm_window_init(&window, 0);
    cr_assert(!gm_window_receive(&window, 1));
    gm_window_widen(&window, 10);
    cr_assert(gm_window_receive(&window, 10));
}

Test(window, grants_are_batched_to_half_the_window)
{
    struct gm_window window;
    struct gm_window_env env = at(1, 1);
    gm_window_init(&window, 65536);
    cr_assert(gm_window_receive(&window, 40000));
    cr_assert_eq(gm_window_drain(&window, 0, &env), 0);
    cr_assert_eq(gm_window_drain(&window, 30000, &env),
                 0); /* less than half owed, and 25536 still out */
    cr_assert_eq(gm_window_drain(&window, 5000, &env), 35000);
    cr_assert_eq(window.owed, 0);
    cr_assert_eq(window.credit, 60536);
}

Test(window, a_peer_about_to_stall_gets_a_quarter)
{
    struct gm_window window;
    struct gm_window_env env = at(1, 1);
    gm_window_init(&window, 65536);
    cr_assert(gm_window_receive(&window, 65536));
    cr_assert_eq(gm_window_drain(&window, 16000, &env), 0);
    cr_assert_eq(gm_window_drain(&window, 1000, &env), 17000);
}

/* Uses the window up `times` times, a round trip each, and returns its size. */
static uint32_t pump(struct gm_window *window, unsigned times, uint64_t step_ns, uint64_t rtt_ns)
{
    uint64_t now_ns = 5;
    for (unsigned i = 0; i < times; i++, now_ns += step_ns) {
        uint32_t n = window->credit;
        struct gm_window_env env = at(now_ns, rtt_ns);
        cr_assert(gm_window_receive(window, n));
        (void)!gm_window_drain(window, n, &env);
    }
    return window->size;
}

Test(window, grows_when_it_is_the_limit_up_to_its_maximum)
{
    struct gm_window window;
    reserve_budget = UINT32_MAX;
    gm_window_init(&window, 65536);
    cr_assert_eq(pump(&window, 2, 10000000, 10000000), 131072u);
    cr_assert_eq(pump(&window, 40, 10000000, 10000000), GM_WINDOW_MAX);
    reserve_calls = 0;
    pump(&window, 40, 10000000, 10000000);
    cr_assert_eq(reserve_calls, 0);
}

Test(window, a_slow_reader_does_not_grow)
{
    struct gm_window window;
    reserve_budget = UINT32_MAX;
    gm_window_init(&window, 65536);
    cr_assert_eq(pump(&window, 40, 40000000, 10000000), 65536u);
    gm_window_init(&window, 65536); /* without a measurement 20 ms are assumed */
    cr_assert_eq(pump(&window, 40, 61000000, 0), 65536u);
    gm_window_init(&window, 65536);
    cr_assert_gt(pump(&window, 40, 19000000, 0), 65536u);
    gm_window_init(&window, 65536); /* and below the floor the floor holds */
    cr_assert_gt(pump(&window, 40, 1000000, 1), 65536u);
}

Test(window, a_refused_reservation_leaves_it_as_it_is)
{
    struct gm_window window;
    reserve_budget = 70000;
    gm_window_init(&window, 65536);
    cr_assert_eq(pump(&window, 40, 10000000, 10000000), 131072u);
    cr_assert_eq(reserve_budget, 70000 - 65536);
}

/* Whatever the peer and the far socket do: the sum holds, nothing is granted twice, and a peer that
 * has used up all is granted more at the latest when all is drained. */
Test(window, never_starves_and_never_overcommits)
{
    uint32_t random = 12345;
    for (int run = 0; run < 2000; run++) {
        struct gm_window window;
        reserve_budget = 1u << 20;
        uint32_t size = GM_WINDOW_MIN + (random % 60000u);
        gm_window_init(&window, size);
        uint64_t received = 0, granted = size, drained = 0;
        for (int i = 0; i < 200; i++) {
            random = random * 1664525u + 1013904223u;
            uint32_t n = window.credit > 0 ? (random >> 4) % (window.credit + 1) : 0;
            cr_assert(gm_window_receive(&window, n));
            received += n;
            random = random * 1664525u + 1013904223u;
            uint32_t d = i % 50 == 49 ? window.held : (random >> 4) % (window.held + 1);
            struct gm_window_env env = at(1000u + (uint64_t)i * 700000u, 1000000);
            granted += gm_window_drain(&window, d, &env);
            drained += d;
            cr_assert_eq(window.held, received - drained);
            cr_assert_eq(granted, received + window.credit);
            cr_assert_eq((uint64_t)window.credit + window.held + window.owed, window.size);
            cr_assert(window.held > 0 || window.credit > window.size / 2);
        }
    }
}

/* A window on the client's ring decides, the stream's own on the link's ring only checks: for
 * gigabytes on end it must neither refuse what was granted nor grow beyond the other. */
Test(window, a_checking_window_follows_the_one_that_decides)
{
    uint64_t state = 88172645463325252ull;
    reserve_budget = 1u << 30;
    struct gm_window near, far;
    gm_window_init(&near, GM_WINDOW_INITIAL_MAX);
    gm_window_init(&far, GM_WINDOW_INITIAL_MAX);
    uint64_t now_ns = 1, total = 0;
    uint32_t crossing = 0, granted = 0;
    while (total < 3ull << 30) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        now_ns += 20000;
        uint32_t sent = (uint32_t)(state % (far.credit + 1u));
        cr_assert(gm_window_receive(&far, sent));
        crossing += sent;
        uint32_t arrived = (uint32_t)((state >> 20) % (crossing + 1u));
        cr_assert(gm_window_receive(&near, arrived));
        crossing -= arrived;
        total += arrived;
        uint32_t drained = (uint32_t)((state >> 40) % (near.held + 1u));
        struct gm_window_env env = at(now_ns, 1000000);
        granted += gm_window_drain(&near, drained, &env);
        uint32_t told = (state >> 60) % 2 == 0 ? granted : 0;
        gm_window_regrant(&far, told);
        granted -= told;
        cr_assert_leq(far.size, near.size);
    }
    cr_assert_eq(near.size, GM_WINDOW_MAX);
}
