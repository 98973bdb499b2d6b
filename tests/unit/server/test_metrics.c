/* Tables of request figures, and what a page makes of several of them: sums, bounds, unknown names,
 * and rows that come and go without a counter that falls. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "server/totals.h"

#define SECOND    1000000000ull
#define RETENTION (100 * SECOND)
#define FREE      (110 * SECOND)

struct world {
    struct gm_metrics tables[2];
    struct gm_metrics *refs[2];
    uint64_t now_ns;
    const char *gone_agent; /* not there any more; NULL: all are */
    bool all_gone;
    struct gm_totals totals;
};

static void open_world(struct world *world, uint32_t series_max)
{
    memset(world, 0, sizeof *world);
    world->now_ns = SECOND;
    for (unsigned i = 0; i < 2; i++) {
        cr_assert_eq(gm_metrics_init(&world->tables[i], series_max), 0);
        gm_metrics_know(&world->tables[i], "svc", 3, world->now_ns);
        world->refs[i] = &world->tables[i];
    }
}

static void close_world(struct world *world)
{
    gm_totals_fini(&world->totals);
    gm_metrics_fini(&world->tables[0]);
    gm_metrics_fini(&world->tables[1]);
}

static bool served(void *arg, const struct gm_metrics_service *service, const char *subject,
                   size_t subject_len)
{
    const struct world *world = arg;
    (void)service;
    if (world->all_gone)
        return false;
    return world->gone_agent == NULL || strlen(world->gone_agent) != subject_len ||
           memcmp(world->gone_agent, subject, subject_len) != 0;
}

static void look(struct world *world)
{
    gm_totals_fini(&world->totals);
    struct gm_totals_source source = {.tables = world->refs,
                                      .table_count = 2,
                                      .now_ns = world->now_ns,
                                      .retention_ns = RETENTION,
                                      .free_ns = FREE,
                                      .served = served,
                                      .arg = world};
    cr_assert_eq(gm_totals_gather(&world->totals, &source), 0);
}

static void ask(struct world *world, unsigned ring, const char *names[3], uint16_t status)
{
    struct gm_metrics_request request = {.service = names[0],
                                         .agent = names[1],
                                         .client = names[2],
                                         .service_len = (uint16_t)strlen(names[0]),
                                         .agent_len = (uint16_t)strlen(names[1]),
                                         .client_len = (uint16_t)strlen(names[2]),
                                         .status = status,
                                         .took_ns = 2 * SECOND};
    gm_metrics_answered(&world->tables[ring], &request, world->now_ns);
}

static const struct gm_totals_series *find(const struct world *world, const char *names[3],
                                           uint16_t status)
{
    char both[64];
    (void)snprintf(both, sizeof both, "%s%s", names[1], names[2]);
    for (uint32_t i = 0; i <= world->totals.series_mask; i++) {
        const struct gm_totals_series *entry = &world->totals.series[i];
        const struct gm_metrics_series *row = entry->row;
        if (row != NULL && row->status == status && row->agent_len == strlen(names[1]) &&
            row->service->name_len == strlen(names[0]) &&
            memcmp(row->service->name, names[0], row->service->name_len) == 0 &&
            (size_t)row->agent_len + row->client_len == strlen(both) &&
            memcmp(row->names, both, strlen(both)) == 0)
            return entry;
    }
    return NULL;
}

static const char *ann[3] = {"svc", "agent", "ann"}, *bob[3] = {"svc", "agent", "bob"},
                  *nobody[3] = {"", "", ""};

Test(metrics, rings_are_added_up)
{
    struct world world;
    open_world(&world, 10);
    ask(&world, 0, ann, 200);
    ask(&world, 1, ann, 200);
    ask(&world, 1, ann, 502);
    ask(&world, 1, bob, 200);
    look(&world);
    cr_assert_eq(find(&world, ann, 200)->count, 2);
    cr_assert_eq(find(&world, ann, 502)->count, 1);
    cr_assert_eq(find(&world, bob, 200)->count, 1);
    const struct gm_totals_service *service = gm_totals_find(&world.totals, "svc", 3);
    cr_assert_eq(service->bucket[3], 4, "2 s belong to le=2");
    cr_assert_eq(service->took_ns, 8 * SECOND);
    close_world(&world);
}

Test(metrics, names_do_not_wander_between_labels)
{
    static const char *left[3] = {"svc", "ab", "c"}, *right[3] = {"svc", "a", "bc"};
    struct world world;
    open_world(&world, 10);
    ask(&world, 0, left, 200);
    ask(&world, 0, right, 200);
    ask(&world, 1, right, 200);
    look(&world);
    cr_assert_eq(find(&world, left, 200)->count, 1);
    cr_assert_eq(find(&world, right, 200)->count, 2);
    close_world(&world);
}

Test(metrics, a_service_that_no_agent_has_served_has_no_row)
{
    struct world world;
    open_world(&world, 10);
    for (unsigned i = 0; i < 50; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "made-up-%u", i);
        const char *names[3] = {name, "", "ann"};
        ask(&world, 0, names, 503);
        gm_metrics_reject(&world.tables[0], name, strlen(name), world.now_ns);
    }
    look(&world);
    const char *counted[3] = {"", "", "ann"};
    cr_assert_eq(find(&world, counted, 503)->count, 50);
    cr_assert_eq(gm_totals_find(&world.totals, "", 0)->rejected, 50);
    cr_assert_null(gm_totals_find(&world.totals, "made-up-1", 9));
    close_world(&world);
}

Test(metrics, what_is_beyond_the_limit_is_counted_as_other)
{
    struct world world;
    open_world(&world, 10);
    for (unsigned i = 0; i < 25; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "client-%u", i);
        const char *names[3] = {"svc", "agent", name};
        ask(&world, 0, names, 200);
    }
    look(&world);
    cr_assert_eq(world.tables[0].series_count, 10);
    cr_assert_eq(find(&world, nobody, GM_METRICS_OTHER)->count, 15);
    close_world(&world);
}

Test(metrics, bounds_of_the_histogram)
{
    static const uint64_t took_ms[] = {0,    100,   101,   500,   1000, 2000,
                                       5000, 10000, 30000, 60000, 60001};
    static const unsigned bucket[] = {0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8};
    for (unsigned i = 0; i < sizeof bucket / sizeof bucket[0]; i++) {
        struct world world;
        open_world(&world, 10);
        struct gm_metrics_request request = {.service = "svc",
                                             .service_len = 3,
                                             .agent = "",
                                             .client = "",
                                             .status = 200,
                                             .took_ns = took_ms[i] * 1000000u};
        gm_metrics_answered(&world.tables[0], &request, world.now_ns);
        look(&world);
        cr_assert_eq(gm_totals_find(&world.totals, "svc", 3)->bucket[bucket[i]], 1, "row %u", i);
        close_world(&world);
    }
}

static void pass(struct world *world, uint64_t seconds)
{
    world->now_ns += seconds * SECOND;
    look(world);
}

static void clean(struct world *world)
{
    gm_metrics_clean(&world->tables[0], world->now_ns, FREE);
    gm_metrics_clean(&world->tables[1], world->now_ns, FREE);
}

Test(metrics, a_series_goes_when_its_agent_has_gone_and_never_falls_while_shown)
{
    static const char *late[3] = {"svc", "other", "ann"};
    struct world world;
    open_world(&world, 10);
    ask(&world, 0, ann, 200);
    ask(&world, 1, ann, 200);
    ask(&world, 0, late, 200);
    pass(&world, 1000);
    cr_assert_not(find(&world, ann, 200)->hidden, "an agent that is there keeps its series");
    ask(&world, 0, ann, 200);
    world.gone_agent = "agent";
    pass(&world, 99);
    cr_assert_not(find(&world, ann, 200)->hidden);
    cr_assert_eq(find(&world, ann, 200)->count, 3);
    pass(&world, 2);
    cr_assert(find(&world, ann, 200)->hidden);
    cr_assert_not(find(&world, ann, 200)->unwanted);
    /* Used again before it was freed: back with all that it had. */
    ask(&world, 1, ann, 200);
    look(&world);
    cr_assert_not(find(&world, ann, 200)->hidden);
    cr_assert_eq(find(&world, ann, 200)->count, 4);
    pass(&world, 120);
    cr_assert(find(&world, ann, 200)->unwanted);
    clean(&world);
    look(&world);
    cr_assert_null(find(&world, ann, 200));
    cr_assert_eq(find(&world, late, 200)->count, 1);
    cr_assert_eq(world.tables[0].series_count, 1);
    close_world(&world);
}

Test(metrics, a_use_after_the_mark_saves_the_row)
{
    struct world world;
    open_world(&world, 10);
    ask(&world, 0, ann, 200);
    world.gone_agent = "agent";
    pass(&world, 200);
    cr_assert(find(&world, ann, 200)->unwanted);
    ask(&world, 0, ann, 200);
    clean(&world);
    clean(&world);
    look(&world);
    cr_assert_eq(find(&world, ann, 200)->count, 2);
    close_world(&world);
}

Test(metrics, a_service_goes_behind_its_series)
{
    struct world world;
    open_world(&world, 10);
    ask(&world, 0, ann, 200);
    gm_metrics_reject(&world.tables[0], "svc", 3, world.now_ns);
    world.all_gone = true;
    pass(&world, 200);
    cr_assert(gm_totals_find(&world.totals, "svc", 3)->unwanted);
    clean(&world);
    look(&world);
    cr_assert_null(gm_totals_find(&world.totals, "svc", 3));
    cr_assert_not(gm_totals_find(&world.totals, "", 0)->unwanted);
    /* And comes back. */
    gm_metrics_know(&world.tables[0], "svc", 3, world.now_ns);
    ask(&world, 0, ann, 200);
    look(&world);
    cr_assert_eq(find(&world, ann, 200)->count, 1);
    close_world(&world);
}

#define MANY 10000u

static size_t name_of(char name[16], unsigned i)
{
    return (size_t)snprintf(name, 16, "many-%u", i);
}

Test(metrics, services_are_found_among_very_many)
{
    struct world world;
    struct gm_metrics *table = &world.tables[0];
    char name[16];
    open_world(&world, 10);
    for (unsigned i = 0; i < MANY; i++)
        gm_metrics_know(table, name, name_of(name, i), world.now_ns);
    for (struct gm_metrics_service *row = table->services; row != NULL; row = row->next)
        row->unwanted = row->name_len > 5 && row->name[row->name_len - 1] % 2 == 0;
    world.now_ns += 1000 * SECOND;
    clean(&world);
    for (unsigned i = 0; i < MANY; i++)
        gm_metrics_reject(table, name, name_of(name, i), world.now_ns);
    look(&world);
    for (unsigned i = 0; i < MANY; i++) {
        const struct gm_totals_service *total =
            gm_totals_find(&world.totals, name, name_of(name, i));
        cr_assert_eq(total != NULL, i % 2 == 1, "%s", name);
        cr_assert(total == NULL || total->rejected == 1, "%s", name);
    }
    cr_assert_eq(gm_totals_find(&world.totals, "", 0)->rejected, MANY / 2);
    close_world(&world);
}

/* Names may come and go for years without a scrape. */
Test(metrics, services_beyond_the_limit_are_nameless)
{
    struct world world;
    struct gm_metrics *table = &world.tables[0];
    char name[16];
    const char *names[3] = {name, "agent", "ann"}, *nameless[3] = {"", "agent", "ann"};
    open_world(&world, 10);
    for (unsigned i = 0; i < GM_METRICS_SERVICES_MAX; i++)
        gm_metrics_know(table, name, name_of(name, i), world.now_ns);
    cr_assert_eq(table->service_count, GM_METRICS_SERVICES_MAX);
    ask(&world, 0, names, 200);
    look(&world);
    cr_assert_eq(find(&world, nameless, 200)->count, 1);
    cr_assert_eq(gm_totals_find(&world.totals, name, strlen(name)), NULL);
    /* Once the others have gone there is room again. */
    world.all_gone = true;
    world.now_ns += 2 * FREE;
    look(&world);
    clean(&world);
    gm_metrics_know(table, name, strlen(name), world.now_ns);
    ask(&world, 0, names, 200);
    look(&world);
    cr_assert_eq(find(&world, names, 200)->count, 1);
    close_world(&world);
}

Test(metrics, a_crowded_table_lets_idle_clients_go)
{
    struct world world;
    open_world(&world, 10);
    for (unsigned i = 0; i < 8; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "client-%u", i);
        const char *names[3] = {"svc", "agent", name};
        ask(&world, 0, names, 200);
    }
    pass(&world, 200);
    ask(&world, 0, ann, 200);
    look(&world);
    cr_assert_not(find(&world, ann, 200)->hidden);
    clean(&world);
    cr_assert_eq(world.tables[0].series_count, 1);
    ask(&world, 0, bob, 200);
    look(&world);
    cr_assert_eq(find(&world, bob, 200)->count, 1);
    close_world(&world);
}

Test(metrics, messages_are_added_up)
{
    struct world world;
    open_world(&world, 10);
    gm_metrics_count(&world.tables[0], GM_METRICS_RECV_DATA);
    gm_metrics_count(&world.tables[1], GM_METRICS_RECV_DATA);
    look(&world);
    cr_assert_eq(world.totals.messages[GM_METRICS_RECV_DATA], 2);
    cr_assert_eq(world.totals.messages[GM_METRICS_SENT_HELLO], 0);
    close_world(&world);
}

/* A page is made while the rings go on counting: under TSan the proof that nothing but published
 * rows and relaxed figures is shared. */
#define ROUNDS 20000u

struct writer {
    struct world *world;
    unsigned ring;
    pthread_t thread;
    _Atomic bool done;
};

static void *count_on(void *arg)
{
    struct writer *writer = arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "client-%u", i % 300);
        const char *names[3] = {"svc", "agent", name};
        ask(writer->world, writer->ring, names, 200);
        gm_metrics_count(&writer->world->tables[writer->ring], GM_METRICS_SENT_DATA);
    }
    atomic_store_explicit(&writer->done, true, memory_order_release);
    return NULL;
}

static uint64_t sum_of(const struct world *world)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i <= world->totals.series_mask; i++)
        sum += world->totals.series[i].count;
    return sum;
}

Test(metrics, rings_count_on_while_a_page_is_made)
{
    struct world world;
    struct writer writers[2];
    open_world(&world, 200);
    for (unsigned i = 0; i < 2; i++) {
        writers[i] = (struct writer){.world = &world, .ring = i};
        cr_assert_eq(pthread_create(&writers[i].thread, NULL, count_on, &writers[i]), 0);
    }
    uint64_t before = 0;
    bool done = false;
    while (!done) {
        done = atomic_load_explicit(&writers[0].done, memory_order_acquire) &&
               atomic_load_explicit(&writers[1].done, memory_order_acquire);
        look(&world);
        uint64_t sum = sum_of(&world);
        cr_assert_geq(sum, before, "a sum of counters fell");
        before = sum;
    }
    cr_assert_eq(before, 2 * ROUNDS);
    cr_assert_eq(world.totals.messages[GM_METRICS_SENT_DATA], 2 * ROUNDS);
    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(pthread_join(writers[i].thread, NULL), 0);
    close_world(&world);
}

Test(metrics, zeroed_ones_can_be_freed)
{
    struct gm_metrics metrics = {0};
    struct gm_totals totals = {0};
    gm_metrics_fini(&metrics);
    gm_totals_fini(&totals);
    cr_assert_null(metrics.series);
}
