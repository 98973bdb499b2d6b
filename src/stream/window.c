/* Receive windows: the arithmetic. Owner: the link's ring. Invariant: see window.h, asserted after
 * every change. */
#include "stream/window.h"

#include "base/assert.h"

static void check(const struct gm_window *window)
{
    GM_ASSERT((uint64_t)window->credit + window->held + window->owed == window->size);
}

uint32_t gm_window_initial(uint64_t reservable_bytes, uint32_t open_streams)
{
    uint64_t share = reservable_bytes / (open_streams > 0 ? open_streams : 1u);
    if (share > GM_WINDOW_INITIAL_MAX)
        return GM_WINDOW_INITIAL_MAX;
    return share < GM_WINDOW_MIN ? GM_WINDOW_MIN : (uint32_t)share;
}

void gm_window_init(struct gm_window *window, uint32_t size)
{
    GM_ASSERT(size <= GM_WINDOW_MAX);
    *window = (struct gm_window){.size = size, .credit = size};
}

void gm_window_widen(struct gm_window *window, uint32_t bytes)
{
    GM_ASSERT(bytes <= GM_WINDOW_MAX && window->size <= GM_WINDOW_MAX - bytes);
    window->size += bytes;
    window->credit += bytes;
    check(window);
}

void gm_window_regrant(struct gm_window *window, uint32_t bytes)
{
    uint32_t again = bytes < window->held ? bytes : window->held;
    window->held -= again;
    window->credit += again;
    gm_window_widen(window, bytes - again);
}

bool gm_window_receive(struct gm_window *window, uint32_t bytes)
{
    if (bytes > window->credit)
        return false;
    window->credit -= bytes;
    window->held += bytes;
    return true;
}

static uint64_t epoch_limit_ns(const struct gm_window_env *env)
{
    uint64_t rtt_ns = env->rtt_ns == 0 ? GM_WINDOW_RTT_UNKNOWN_NS : env->rtt_ns;
    if (rtt_ns < GM_WINDOW_RTT_FLOOR_NS)
        rtt_ns = GM_WINDOW_RTT_FLOOR_NS;
    return rtt_ns * GM_WINDOW_GROW_RTTS;
}

static void begin_epoch(struct gm_window *window, uint64_t now_ns)
{
    window->epoch_ns = now_ns > 0 ? now_ns : 1;
    window->epoch_bytes = 0;
}

/* Measures how fast the window is used up, and doubles it when that is faster than the path alone
 * would make it. The drain that opens an epoch is not counted: nobody knows how long it took. */
static void measure(struct gm_window *window, uint32_t bytes, const struct gm_window_env *env)
{
    if (window->epoch_ns == 0 || env->now_ns - window->epoch_ns > epoch_limit_ns(env)) {
        begin_epoch(window, env->now_ns);
        return;
    }
    window->epoch_bytes += bytes;
    if (window->epoch_bytes < window->size)
        return;
    begin_epoch(window, env->now_ns);
    uint32_t more = GM_WINDOW_MAX - window->size;
    if (more > window->size)
        more = window->size;
    if (more > 0 && env->reserve(env->arg, more)) {
        window->size += more;
        window->owed += more;
    }
}

uint32_t gm_window_drain(struct gm_window *window, uint32_t bytes, const struct gm_window_env *env)
{
    GM_ASSERT(bytes <= window->held);
    if (bytes == 0)
        return 0;
    window->held -= bytes;
    window->owed += bytes;
    measure(window, bytes, env);
    check(window);

    /* Half a window in one CREDIT frame keeps a busy peer going. A peer that is about to stall (a
     * quarter left) is served a quarter early, so that it need not wait for the slow rest. When all
     * is drained and nothing owed is granted, more than half is still out: nobody ever waits for
     * ever. */
    bool half = window->owed >= window->size / 2;
    bool stalling = window->credit <= window->size / 4 && window->owed >= window->size / 4;
    if (!half && !stalling)
        return 0;
    uint32_t grant = window->owed;
    window->owed = 0;
    window->credit += grant;
    return grant;
}
