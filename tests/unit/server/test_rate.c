/* The moving average behind Retry-After. */
#include <criterion/criterion.h>

#include "server/rate.h"

#define SECOND 1000000000ull

/* `per_s` ends in each of `seconds` seconds from `from_ns` on. */
static uint64_t run(struct gm_rate *rate, uint64_t from_ns, unsigned seconds, unsigned per_s)
{
    for (unsigned i = 0; i < seconds * per_s; i++)
        gm_rate_add(rate, from_ns + (uint64_t)i * SECOND / per_s);
    return from_ns + seconds * SECOND;
}

Test(rate, nothing_is_known_before_anything_has_ended)
{
    struct gm_rate rate = {0};
    cr_assert_eq(gm_rate_read(&rate, 5 * SECOND), 0);
    cr_assert_eq(gm_rate_wait_s(0, 1), GM_RETRY_AFTER_UNKNOWN_S);
}

Test(rate, a_steady_stream_is_what_it_is)
{
    struct gm_rate rate = {0};
    uint64_t now_ns = run(&rate, SECOND, 20, 50);
    uint64_t milli = gm_rate_read(&rate, now_ns);
    cr_assert(milli > 45000 && milli < 55000, "%lu", milli);
    cr_assert_eq(gm_rate_wait_s(milli, 1), 1);
    cr_assert_eq(gm_rate_wait_s(50000, 100), 2);
    cr_assert_eq(gm_rate_wait_s(50000, 101), 3, "rounded up");
}

Test(rate, the_first_second_already_says_something)
{
    struct gm_rate rate = {0};
    for (unsigned i = 0; i < 10; i++)
        gm_rate_add(&rate, SECOND + i);
    uint64_t milli = gm_rate_read(&rate, SECOND + SECOND / 10);
    cr_assert(milli >= 9000 && milli <= 10000, "%lu", milli);
}

Test(rate, it_fades_when_nothing_ends_and_recovers)
{
    struct gm_rate rate = {0};
    uint64_t now_ns = run(&rate, SECOND, 10, 100);
    uint64_t busy = gm_rate_read(&rate, now_ns), later = gm_rate_read(&rate, now_ns + 30 * SECOND);
    cr_assert(later < busy / 5, "%lu of %lu", later, busy);
    now_ns = run(&rate, now_ns + 30 * SECOND, 20, 100);
    cr_assert_gt(gm_rate_read(&rate, now_ns), 90000);
}

Test(rate, the_wait_is_bounded_whatever_the_figures_are)
{
    cr_assert_eq(gm_rate_wait_s(1, 1), GM_RETRY_AFTER_MAX_S);
    cr_assert_eq(gm_rate_wait_s(1, 1000000), GM_RETRY_AFTER_MAX_S);
    cr_assert_eq(gm_rate_wait_s(UINT64_MAX, 1), 1);
    cr_assert_eq(gm_rate_wait_s(1000, 0), 1);
    struct gm_rate rate = {0};
    gm_rate_add(&rate, 1);
    gm_rate_add(&rate, UINT64_MAX / 2);
    cr_assert_lt(gm_rate_read(&rate, UINT64_MAX / 2 + 1), 1000000, "a week's silence is no storm");
}
