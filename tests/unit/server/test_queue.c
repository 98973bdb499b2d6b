/* Lines of waiting requests: their order, their bounds, who leaves, and what becomes of places. In
 * virtual time, and once on real threads. What an exchange would do is done here: the queue's two
 * calls of it are recorded. */
#include "server/queue.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ring/sim.h"

#define MS     1000000ull
#define SECOND 1000000000ull
#define RINGS  3u
#define ASKS   600u
#define WAIT   SECOND
/* For some mail to and fro, and no look by the clock. */
#define SETTLE (GM_QUEUE_LOOK_NS / 4)

/* A request, from its arrival to its verdict. */
struct ask {
    struct gm_exchange exchange;
    struct gm_timer timer, leave_timer;
    enum gm_reason_code failed;
    unsigned turn; /* when it was let go: 1 is first; 0: not yet */
    bool over, leaves;
};

struct bench {
    struct gm_sim *sim; /* NULL: threads */
    struct gm_rings *rings;
    struct gm_server_config config;
    struct gm_server_shared shared;
    struct gm_server_ring ring[RINGS], *rings_of[RINGS];
    struct gm_registry *registries[RINGS];
    struct gm_card *card, *holder; /* the newest; of a request of somebody who did not wait */
    struct ask *asks;
    const char *service;
    unsigned turns, at;
    bool again;
    void (*crowd)(struct bench *bench, struct gm_server_ring *ctx);
    _Atomic unsigned over, inside, most_inside;
};

static struct bench *bench;

static struct ask *ask_of(struct gm_exchange *exchange)
{
    return GM_CONTAINER_OF(exchange, struct ask, exchange);
}

static void crowd_go(struct ask *ask);

void gm_exchange_go(struct gm_exchange *exchange, struct gm_card *card)
{
    struct ask *ask = ask_of(exchange);
    cr_assert(!ask->over && exchange->ticket == NULL);
    exchange->card = card;
    ask->over = true;
    if (bench->sim != NULL)
        ask->turn = ++bench->turns;
    else
        crowd_go(ask);
}

void gm_exchange_fail(struct gm_exchange *exchange, enum gm_reason_code reason)
{
    struct ask *ask = ask_of(exchange);
    cr_assert(!ask->over && exchange->ticket == NULL);
    ask->failed = reason;
    ask->over = true;
    if (bench->sim == NULL)
        atomic_fetch_add_explicit(&bench->over, 1, memory_order_relaxed);
}

/* ---- The bench ---- */

static int init(struct gm_ring *ring, void *arg)
{
    struct bench *b = arg;
    uint32_t index = gm_ring_index(ring);
    struct gm_server_ring *ctx = &b->ring[index];
    ctx->shared = &b->shared;
    ctx->ring = ring;
    b->rings_of[index] = ctx;
    ctx->registry = gm_registry_new(ring, b->registries);
    int rc = gm_queue_init(ctx);
    if (rc == 0 && b->crowd != NULL)
        b->crowd(b, ctx);
    return rc;
}

static void start(uint32_t rings, int64_t queue_size, int64_t limit, struct gm_sim *sim)
{
    bench->sim = sim;
    bench->config.queue_size = queue_size;
    bench->config.queue_timeout_ns = WAIT;
    bench->config.max_concurrent_requests = limit;
    bench->shared.config = &bench->config;
    bench->shared.ring_contexts = bench->rings_of;
    bench->shared.registries = bench->registries;
    struct gm_rings_config config = {.io = sim != NULL ? GM_IO_SIM : GM_IO_EPOLL,
                                     .count = rings,
                                     .memory_bytes = GM_RING_MEMORY_MIN,
                                     .socks_max = 64,
                                     .sim = sim};
    struct gm_rings_ops ops = {.init = init, .arg = bench};
    char why[512] = "";
    cr_assert_eq(gm_rings_start(&config, &ops, &bench->shared.rings, why), 0, "%s", why);
    bench->rings = bench->shared.rings;
}

static void bench_new(void)
{
    bench = calloc(1, sizeof *bench);
    bench->asks = calloc(ASKS, sizeof *bench->asks);
    bench->service = "svc";
}

static void finish(void)
{
    uint32_t rings = gm_rings_count(bench->rings);
    gm_rings_stop(bench->rings);
    while (bench->sim != NULL && gm_sim_step(bench->sim))
        continue;
    gm_rings_join(bench->rings);
    for (unsigned i = 0; i < ASKS; i++) {
        if (bench->asks[i].exchange.card != NULL)
            gm_card_end(bench->asks[i].exchange.card);
    }
    if (bench->holder != NULL)
        gm_card_end(bench->holder);
    for (uint32_t i = 0; i < rings; i++) {
        gm_registry_free(bench->registries[i]);
        gm_queue_fini(&bench->ring[i]);
    }
    gm_sim_free(bench->sim);
    free(bench->asks);
    free(bench);
}

/* An agent of bench->service that takes `limit` requests, known to every ring. */
static struct gm_card *card_make(struct gm_registry *registry, const char *service, uint32_t limit)
{
    struct gm_card *card = gm_card_new(registry);
    (void)snprintf(card->service, sizeof card->service, "%s", service);
    (void)snprintf(card->subject, sizeof card->subject, "agent-%s", service);
    card->stream_limit = 100;
    card->request_limit = limit;
    gm_card_announce(registry, card);
    return card;
}

static void run(uint64_t ns)
{
    (void)gm_sim_run_for(bench->sim, ns);
}

static void do_on(unsigned ring, void (*act)(void *arg))
{
    gm_sim_do(bench->sim, bench->ring[ring].ring, act, bench);
}

static void do_agent(void *arg)
{
    (void)arg;
    bench->card = card_make(bench->ring[0].registry, bench->service, bench->at);
}

static struct gm_card *agent(const char *service, uint32_t limit)
{
    bench->service = service;
    bench->at = limit;
    do_on(0, do_agent);
    run(SETTLE);
    bench->service = "svc";
    return bench->card;
}

static void do_withdraw(void *arg)
{
    (void)arg;
    gm_card_withdraw(bench->ring[0].registry, bench->card);
}

static void take(struct gm_card *card)
{
    bench->holder = card;
    gm_card_begin(card);
    cr_assert(gm_place_take(&bench->shared));
}

static struct gm_card **given;

static void do_give(void *arg)
{
    (void)arg;
    gm_card_end(*given);
    gm_place_give(&bench->ring[bench->at]);
    *given = NULL;
}

static void give(unsigned ring, struct gm_card **card)
{
    given = card;
    bench->at = ring;
    do_on(ring, do_give);
}

static void ask_begin(struct ask *ask, struct gm_server_ring *ctx, const char *service)
{
    struct gm_exchange *exchange = &ask->exchange;
    exchange->ctx = ctx;
    /* A ring without a turn has no time of its own. */
    exchange->started_ns = bench->sim != NULL ? gm_sim_now(bench->sim) : gm_ring_now_ns(ctx->ring);
    exchange->service_len = (uint16_t)strlen(service);
    memcpy(exchange->service, service, exchange->service_len);
}

static void do_join(void *arg)
{
    (void)arg;
    struct ask *ask = &bench->asks[bench->at];
    cr_assert(gm_queue_join(&ask->exchange, bench->again));
}

/* Request `n` joins on ring n % rings, a millisecond after the one before. */
static struct ask *join(unsigned n)
{
    unsigned ring = n % gm_rings_count(bench->rings);
    ask_begin(&bench->asks[n], &bench->ring[ring], bench->service);
    bench->at = n;
    do_on(ring, do_join);
    run(MS);
    return &bench->asks[n];
}

static void do_leave(void *arg)
{
    (void)arg;
    gm_queue_leave(&bench->asks[bench->at].exchange);
}

static void leave(unsigned n)
{
    bench->at = n;
    do_on(n % gm_rings_count(bench->rings), do_leave);
}

static int64_t active(void)
{
    return atomic_load_explicit(&bench->shared.active_requests, memory_order_relaxed);
}

static uint64_t counted(enum gm_counter counter)
{
    return gm_counter_sum(gm_rings_counters(bench->rings), counter);
}

/* The request ends, and whoever is next is let go. */
static void over(unsigned n)
{
    give(n % gm_rings_count(bench->rings), &bench->asks[n].exchange.card);
    run(SETTLE);
}

/* ---- Order ---- */

Test(queue, first_come_first_served_whichever_ring_they_are_on)
{
    bench_new();
    start(RINGS, 10, 0, gm_sim_new(1));
    struct gm_card *card = agent("svc", 1);
    take(card);
    for (unsigned n = 0; n < 7; n++)
        cr_assert(!join(n)->over);
    cr_assert(gm_queue_waits(&bench->ring[2], "svc", 3));
    cr_assert_eq(counted(GM_COUNTER_REQUESTS_WAITING), 7);
    cr_assert_eq(active(), 1, "who waits has no place");
    give(1, &bench->holder);
    run(SETTLE);
    for (unsigned n = 0; n < 7; n++) {
        cr_assert_eq(bench->asks[n].turn, n + 1);
        cr_assert_eq(bench->turns, n + 1, "one place is for one");
        cr_assert_eq(active(), 1);
        over(n);
    }
    cr_assert_eq(active(), 0);
    cr_assert_eq(counted(GM_COUNTER_REQUESTS_WAITING), 0);
    cr_assert_not(gm_queue_waits(&bench->ring[0], "svc", 3));
    finish();
}

Test(queue, services_do_not_wait_for_each_other)
{
    bench_new();
    start(1, 10, 0, gm_sim_new(2));
    struct gm_card *full = agent("full", 1), *open = agent("open", 5);
    take(full);
    bench->service = "full";
    (void)join(0);
    bench->service = "open";
    cr_assert_eq(join(1)->exchange.card, open);
    cr_assert_not(bench->asks[0].over);
    give(0, &bench->holder);
    run(SETTLE);
    cr_assert_eq(bench->asks[0].exchange.card, full);
    finish();
}

Test(queue, services_take_turns_at_the_servers_places)
{
    bench_new();
    start(1, 10, 1, gm_sim_new(3));
    struct gm_card *a = agent("a", 9);
    (void)agent("b", 9);
    take(a);
    for (unsigned n = 0; n < 6; n++) {
        bench->service = n < 3 ? "a" : "b";
        (void)join(n);
    }
    give(0, &bench->holder);
    run(SETTLE);
    static const unsigned order[] = {0, 3, 1, 4, 2, 5};
    for (unsigned i = 0; i < 6; i++) {
        cr_assert_eq(bench->asks[order[i]].turn, i + 1);
        cr_assert_eq(bench->turns, i + 1);
        over(order[i]);
    }
    finish();
}

Test(queue, one_that_was_refused_goes_back_to_its_place)
{
    bench_new();
    start(2, 2, 0, gm_sim_new(4));
    struct gm_card *card = agent("svc", 1);
    take(card);
    struct ask *oldest = &bench->asks[8];
    ask_begin(oldest, &bench->ring[0], "svc");
    run(SETTLE);
    (void)join(0);
    (void)join(1);
    bench->again = true;
    bench->at = 8;
    do_on(0, do_join);
    run(SETTLE);
    cr_assert_not(oldest->over, "the line is full, but it has been in it");
    give(0, &bench->holder);
    run(SETTLE);
    cr_assert_eq(oldest->turn, 1);
    over(8);
    cr_assert_eq(bench->asks[0].turn, 2);
    finish();
}

/* ---- Bounds ---- */

Test(queue, a_line_is_as_long_as_it_may_be)
{
    bench_new();
    start(2, 2, 0, gm_sim_new(5));
    take(agent("svc", 1));
    cr_assert_not(join(0)->over);
    cr_assert_not(join(1)->over);
    struct ask *third = join(2);
    cr_assert(third->over);
    cr_assert_eq(third->failed, GM_REASON_AGENT_LIMIT);
    cr_assert_eq(third->exchange.ahead, 2);
    cr_assert_eq(counted(GM_COUNTER_QUEUE_REFUSED), 1);
    leave(0);
    run(SETTLE);
    cr_assert_not(join(3)->over, "there is room again");
    finish();
}

Test(queue, a_wait_ends_in_time_and_says_what_was_missing)
{
    bench_new();
    start(2, 10, 1, gm_sim_new(6));
    struct gm_card *card = agent("svc", 1);
    take(card);
    struct ask *first = join(0);
    run(WAIT / 2);
    struct ask *second = join(1);
    run(WAIT / 2 - 3 * MS);
    cr_assert_not(first->over);
    run(GM_QUEUE_LOOK_NS + 5 * MS);
    cr_assert(first->over);
    cr_assert_eq(first->failed, GM_REASON_RATE_LIMIT);
    cr_assert_not(second->over, "its time has not come");
    do_on(0, do_withdraw);
    run(WAIT / 2);
    cr_assert_eq(second->failed, GM_REASON_AGENT_UNAVAILABLE);
    cr_assert_eq(counted(GM_COUNTER_QUEUE_TIMEOUTS), 2);
    cr_assert_eq(active(), 1);
    finish();
}

Test(queue, with_more_services_than_lines_those_go_that_can)
{
    bench_new();
    start(1, 10, 0, gm_sim_new(7));
    struct gm_card *full = agent("full", 1);
    take(full);
    char name[16];
    for (unsigned n = 0; n < GM_QUEUE_LINES_MAX; n++) {
        (void)snprintf(name, sizeof name, "line-%u", n);
        bench->service = name;
        (void)join(n);
    }
    bench->service = "full";
    cr_assert_eq(join(ASKS - 1)->failed, GM_REASON_AGENT_LIMIT);
    cr_assert_eq(bench->asks[ASKS - 1].exchange.ahead, 0);
    (void)agent("open", 1);
    bench->service = "open";
    cr_assert_not_null(join(ASKS - 2)->exchange.card);
    cr_assert_eq(join(ASKS - 3)->failed, GM_REASON_AGENT_LIMIT, "one place is for one");
    cr_assert_eq(active(), 2);
    finish();
}

/* ---- Leaving ---- */

Test(queue, who_leaves_is_not_waited_for)
{
    bench_new();
    start(RINGS, 10, 0, gm_sim_new(8));
    struct gm_card *card = agent("svc", 1);
    take(card);
    for (unsigned n = 0; n < 5; n++)
        (void)join(n);
    leave(0);
    leave(2);
    leave(4);
    run(SETTLE);
    cr_assert_eq(counted(GM_COUNTER_REQUESTS_WAITING), 2);
    give(0, &bench->holder);
    run(SETTLE);
    cr_assert_eq(bench->asks[1].turn, 1);
    over(1);
    cr_assert_eq(bench->asks[3].turn, 2);
    over(3);
    cr_assert_eq(bench->turns, 2);
    cr_assert_eq(active(), 0);
    finish();
}

/* The place is on its way to one that leaves: it goes to the next, and is not lost. */
Test(queue, a_place_that_meets_nobody_is_given_back)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        bench_new();
        start(RINGS, 10, 1, gm_sim_new(seed));
        struct gm_card *card = agent("svc", 1);
        take(card);
        for (unsigned n = 0; n < 4; n++)
            (void)join(n);
        give((unsigned)(seed % RINGS), &bench->holder);
        for (uint64_t steps = seed / 4; steps > 0; steps--)
            (void)gm_sim_step(bench->sim);
        if (!bench->asks[0].over)
            leave(0);
        run(SETTLE);
        if (bench->asks[0].over)
            over(0);
        cr_assert_eq(bench->asks[1].over, true, "seed %lu", (unsigned long)seed);
        over(1);
        over(2);
        over(3);
        cr_assert_eq(active(), 0, "seed %lu", (unsigned long)seed);
        cr_assert_eq(counted(GM_COUNTER_REQUESTS_WAITING), 0);
        finish();
    }
}

/* ---- Threads ---- */

#define CROWD       (ASKS / RINGS) /* of each ring */
#define CROWD_LIMIT 4

static void crowd_end(struct gm_timer *timer)
{
    struct ask *ask = GM_CONTAINER_OF(timer, struct ask, timer);
    atomic_fetch_sub_explicit(&bench->inside, 1, memory_order_relaxed);
    gm_card_end(ask->exchange.card);
    ask->exchange.card = NULL;
    gm_place_give(ask->exchange.ctx);
    atomic_fetch_add_explicit(&bench->over, 1, memory_order_relaxed);
}

static void crowd_go(struct ask *ask)
{
    struct gm_ring *ring = ask->exchange.ctx->ring;
    unsigned inside = atomic_fetch_add_explicit(&bench->inside, 1, memory_order_relaxed) + 1;
    if (inside > atomic_load_explicit(&bench->most_inside, memory_order_relaxed))
        atomic_store_explicit(&bench->most_inside, inside, memory_order_relaxed);
    gm_timer_init(&ask->timer, crowd_end);
    gm_timer_set(ring, &ask->timer, gm_ring_now_ns(ring) + 1);
}

static void crowd_leave(struct gm_timer *timer)
{
    struct ask *ask = GM_CONTAINER_OF(timer, struct ask, leave_timer);
    if (ask->over)
        return;
    gm_queue_leave(&ask->exchange);
    ask->over = true;
    atomic_fetch_add_explicit(&bench->over, 1, memory_order_relaxed);
}

static void crowd_join(struct gm_timer *timer)
{
    struct ask *ask = GM_CONTAINER_OF(timer, struct ask, timer);
    struct gm_ring *ring = ask->exchange.ctx->ring;
    ask_begin(ask, ask->exchange.ctx, ask->exchange.index % 2 == 0 ? "svc" : "other");
    cr_assert(gm_queue_join(&ask->exchange, false));
    if (!ask->leaves)
        return;
    gm_timer_init(&ask->leave_timer, crowd_leave);
    gm_timer_set(ring, &ask->leave_timer, gm_ring_now_ns(ring) + 1);
}

/* A third of them leaves again at once. */
static void crowd_begin(struct bench *b, struct gm_server_ring *ctx)
{
    uint32_t index = gm_ring_index(ctx->ring);
    for (unsigned n = 0; n < CROWD; n++) {
        struct ask *ask = &b->asks[index * CROWD + n];
        ask->exchange.ctx = ctx;
        ask->exchange.index = n;
        ask->leaves = n % 3 == 0;
        gm_timer_init(&ask->timer, crowd_join);
        gm_timer_set(ctx->ring, &ask->timer, gm_ring_now_ns(ctx->ring) + 50 * MS + n * MS / 4);
    }
}

static void crowd_cards(struct gm_mail *mail)
{
    (void)mail;
    (void)card_make(bench->ring[0].registry, "svc", CROWD_LIMIT);
    (void)card_make(bench->ring[0].registry, "other", CROWD_LIMIT);
}

Test(queue, a_crowd_on_threads_of_its_own, .timeout = 60)
{
    static struct gm_mail cards = {.deliver = crowd_cards};
    bench_new();
    bench->crowd = crowd_begin;
    start(RINGS, ASKS, CROWD_LIMIT, NULL);
    gm_rings_mail(bench->rings, 0, &cards);
    struct timespec nap = {.tv_nsec = 5000000};
    for (unsigned i = 0;
         i < 8000 && atomic_load_explicit(&bench->over, memory_order_relaxed) < ASKS; i++)
        nanosleep(&nap, NULL);
    cr_assert_eq(atomic_load_explicit(&bench->over, memory_order_relaxed), ASKS);
    gm_rings_stop(bench->rings);
    cr_assert_leq(bench->most_inside, CROWD_LIMIT);
    cr_assert_gt(bench->most_inside, 0);
    finish();
}
