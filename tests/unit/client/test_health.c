/* Health checks against a scripted backend on the simulated network: what is asked, what counts,
 * and when. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "client/health.h"
#include "world.h"

#define URL "http://10.0.0.1:8000/prefix"
#define OK  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
#define BAD "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"

static struct bench {
    struct gm_health health;
    struct gm_health_config config;
    struct gm_codes codes;
    unsigned verdicts, changes;
    char story[64]; /* a letter a verdict: + or -, in capitals H or U after a change */
    char why[128];
} bench;

static void checked(struct gm_health *health, const char *why, bool changed)
{
    char mark = changed ? (health->healthy ? 'H' : 'U') : why == NULL ? '+' : '-';
    bench.story[bench.verdicts++] = mark;
    bench.changes += changed;
    if (why != NULL)
        (void)snprintf(bench.why, sizeof bench.why, "%s", why);
}

static void start(struct world *world)
{
    bench.config.backend = world->pool.config;
    bench.config.path = "/health?deep";
    bench.config.codes = &bench.codes;
    bench.config.on_checked = checked;
    gm_health_init(&bench.health, &bench.config);
    gm_health_start(&bench.health);
}

static void stop(struct world *world)
{
    (void)world;
    gm_health_stop(&bench.health);
}

/* Checks every second for `seconds`, each at the beginning of one; what the verdicts were. */
static const char *story(uint64_t seed, const struct step *script, unsigned len, unsigned seconds)
{
    bench = (struct bench){.config = {.interval_ns = SECOND,
                                      .timeout_ns = 500 * MS,
                                      .failure_threshold = 2,
                                      .success_threshold = 1}};
    cr_assert_eq(gm_codes_parse("200-299", &bench.codes), 0);
    struct world *world = world_new(seed, URL);
    world->script = script;
    world->script_len = len;
    world_run(world, MS);
    world_do(world, start);
    world_run(world, seconds * SECOND - 100 * MS);
    world_do(world, stop);
    unsigned verdicts = bench.verdicts;
    world_run(world, 3 * SECOND);
    cr_assert_eq(bench.verdicts, verdicts, "stopped");
    if (world->accepted > 0)
        cr_assert_str_eq(world->peers[0]->got.bytes,
                         "GET /health?deep HTTP/1.1\r\nHost: 10.0.0.1:8000\r\n"
                         "User-Agent: gimlet-health/" GM_VERSION "\r\nAccept: */*\r\n\r\n");
    cr_assert_eq(gm_ring_reservable(world->ring), gm_ring_reserve_total(world->ring));
    world_free(world);
    return bench.story;
}

#define LEN(a) (sizeof(a) / sizeof(a)[0])

Test(health, thresholds)
{
    static const struct step script[] = {{.answer = OK},  {.answer = BAD}, {.answer = OK},
                                         {.answer = BAD}, {.answer = BAD}, {.answer = BAD},
                                         {.answer = OK}};
    for (uint64_t seed = 1; seed <= 20; seed++) {
        cr_assert_str_eq(story(seed, script, LEN(script), 7), "H-+-U-H");
        cr_assert_str_eq(bench.why, "the backend answers with status 500");
        cr_assert(bench.health.checks == 7 && bench.health.failures == 4);
    }
}

Test(health, the_first_verdict_is_told_though_it_changes_nothing)
{
    static const struct step script[] = {{.answer = BAD}, {.answer = BAD}, {.answer = OK}};
    cr_assert_str_eq(story(3, script, LEN(script), 3), "U-H");
}

/* Each of these is one failed check. */
Test(health, failures)
{
    static const struct {
        struct step step;
        const char *why;
    } cases[] = {
        {{.answer = NULL}, "the backend did not answer in time"},
        {{.answer = "HTTP/1.1 200 OK\r\nContent-Len"}, "the backend did not answer in time"},
        {{.answer = NULL, .then = FIN},
         "The backend closed its connection before the response was complete."},
        {{.answer = "SSH-2.0-x\r\n"}, "The backend sent a response that is not valid HTTP."},
        {{.answer = "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"},
         "the backend answers with status 302"},
        {{.answer = "HTTP/1.1 100 Continue\r\n\r\n"}, "the backend did not answer in time"},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        cr_assert_str_eq(story(i + 1, &cases[i].step, 1, 1), "U", "case %zu", i);
        cr_assert_str_eq(bench.why, cases[i].why);
    }
}

/* The head decides; what follows it is only got rid of. */
Test(health, bodies_do_not_matter)
{
    static char big[100000];
    static const struct step steps[] = {
        {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"},
        {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", .then = FIN},
        {.answer = "HTTP/1.1 204 None\r\n\r\n"},
        {.answer = "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.0 200 OK\r\n\r\nuntil close", .then = FIN},
        {.answer = big},
    };
    (void)snprintf(big, sizeof big, "HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n%090000d", 1);
    for (size_t i = 0; i < LEN(steps); i++) {
        cr_assert_str_eq(story(i + 1, &steps[i], 1, 1), "H", "case %zu", i);
        cr_assert(bench.health.body_bytes <= GM_HEALTH_BODY_MAX + GM_CALL_HEAD_GRANT);
    }
}
