/* The moving average. Any thread. Invariant: a window is closed by the one thread that moves
 * `since_ns` on. */
#include "server/rate.h"

#define RATE_WINDOW_NS 1000000000ull
/* The past counts as much as this much of the present. */
#define RATE_MEMORY_NS 3000000000ull
/* A window this long says all there is to say; more would overflow below. */
#define RATE_SPAN_MAX_NS 1000000000000ull

/* The average with a window of `span_ns` and `count` ends behind it. */
static uint64_t rate_blend(uint64_t milli, uint64_t count, uint64_t span_ns)
{
    if (span_ns > RATE_SPAN_MAX_NS)
        span_ns = RATE_SPAN_MAX_NS;
    uint64_t span_us = span_ns / 1000u + 1u, memory_us = RATE_MEMORY_NS / 1000u;
    uint64_t fresh = count * 1000000000ull / span_us;
    if (milli == 0)
        return fresh;
    return (milli * memory_us + fresh * span_us) / (memory_us + span_us);
}

void gm_rate_add(struct gm_rate *rate, uint64_t now_ns)
{
    uint64_t since_ns = atomic_load_explicit(&rate->since_ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&rate->count, 1, memory_order_relaxed);
    if (since_ns != 0 && now_ns < since_ns + RATE_WINDOW_NS)
        return;
    if (!atomic_compare_exchange_strong_explicit(&rate->since_ns, &since_ns, now_ns,
                                                 memory_order_relaxed, memory_order_relaxed))
        return;
    if (since_ns == 0)
        return; /* the first window begins */
    uint32_t count = atomic_exchange_explicit(&rate->count, 0, memory_order_relaxed);
    uint64_t milli = atomic_load_explicit(&rate->milli, memory_order_relaxed);
    atomic_store_explicit(&rate->milli, rate_blend(milli, count, now_ns - since_ns),
                          memory_order_relaxed);
}

uint64_t gm_rate_read(const struct gm_rate *rate, uint64_t now_ns)
{
    uint64_t since_ns = atomic_load_explicit(&rate->since_ns, memory_order_relaxed);
    uint64_t milli = atomic_load_explicit(&rate->milli, memory_order_relaxed);
    uint32_t count = atomic_load_explicit(&rate->count, memory_order_relaxed);
    if (since_ns == 0)
        return 0;
    uint64_t span_ns = now_ns > since_ns ? now_ns - since_ns : 0;
    if (milli != 0 && span_ns < RATE_WINDOW_NS)
        return milli;
    /* The first window, while it is short, counts as a whole one. */
    return rate_blend(milli, count, span_ns < RATE_WINDOW_NS ? RATE_WINDOW_NS : span_ns);
}

unsigned gm_rate_wait_s(uint64_t milli, uint64_t requests)
{
    if (milli == 0)
        return GM_RETRY_AFTER_UNKNOWN_S;
    uint64_t seconds = (requests * 1000u + milli - 1) / milli;
    return seconds < 1                      ? 1
           : seconds > GM_RETRY_AFTER_MAX_S ? GM_RETRY_AFTER_MAX_S
                                            : (unsigned)seconds;
}
