/* Fetches against a scripted backend on the simulated network: what is sent, what comes back whole,
 * and what ends a fetch. */
#include <criterion/criterion.h>
#include <string.h>

#include "client/fetch.h"
#include "world.h"

#define SEEDS 20u
#define AGENT "User-Agent: gimlet/" GM_VERSION "\r\n"

struct asker {
    struct gm_fetch fetch;
    struct gm_fetch_config config;
    char answer[64];
    unsigned dones;
    bool problem;
};

/* Of the case under way; world_do has no argument of its own. */
static struct asker asker;

static void done(struct gm_fetch *fetch, const char *problem)
{
    cr_assert(fetch == &asker.fetch && !fetch->busy);
    asker.dones++;
    asker.problem = problem != NULL;
}

static void do_start(struct world *world)
{
    asker.config.backend =
        (struct gm_backend_config){.store = &world->store, .target = &world->target};
    asker.config.room = asker.answer;
    asker.config.room_bytes = sizeof asker.answer;
    asker.config.timeout_ns = 2 * SECOND;
    asker.config.on_done = done;
    gm_fetch_init(&asker.fetch, &asker.config);
    gm_fetch_begin(&asker.fetch);
}

static void do_again(struct world *world)
{
    (void)world;
    gm_fetch_begin(&asker.fetch);
}

static void do_cancel(struct world *world)
{
    (void)world;
    gm_fetch_cancel(&asker.fetch);
}

static struct world *begin(uint64_t seed, const struct step *script, unsigned len)
{
    struct world *world = world_new(seed, "http://10.0.0.1:8000");
    world->script = script;
    world->script_len = len;
    memset(&asker, 0, sizeof asker);
    asker.config.path = "/";
    return world;
}

static void expect_request(const struct gm_fetch_config *config, const char *wanted)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        const struct step step = {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
                                  .body = (long)config->body_len};
        struct world *world = begin(seed, &step, 1);
        asker.config = *config;
        world_do(world, do_start);
        world_run(world, SECOND);
        cr_assert_str_eq(world->peers[0]->got.bytes, wanted);
        cr_assert(asker.dones == 1 && !asker.problem && asker.fetch.error == 0);
        cr_assert(asker.fetch.status == 200 && asker.fetch.len == 2);
        cr_assert(memcmp(asker.answer, "hi", 2) == 0);
        world_free(world);
    }
}

Test(fetch, requests_as_they_are_sent)
{
    const struct gm_fetch_field fields[] = {{"X-A", "1"}, {"Authorization", "b c"}};
    expect_request(&(struct gm_fetch_config){.path = "/?q=1/2", .accept = "text/plain"},
                   "GET /?q=1/2 HTTP/1.1\r\nHost: 10.0.0.1:8000\r\n" AGENT
                   "Accept: text/plain\r\n\r\n");
    expect_request(&(struct gm_fetch_config){.path = "/", .fields = fields, .field_count = 2},
                   "GET / HTTP/1.1\r\nHost: 10.0.0.1:8000\r\n" AGENT
                   "X-A: 1\r\nAuthorization: b c\r\n\r\n");
    expect_request(
        &(struct gm_fetch_config){.path = "/a", .method = "POST", .body = "12345", .body_len = 5},
        "POST /a HTTP/1.1\r\nHost: 10.0.0.1:8000\r\n" AGENT "Content-Length: 5\r\n\r\n12345");
    expect_request(&(struct gm_fetch_config){.path = "/t", .method = "PUT"},
                   "PUT /t HTTP/1.1\r\nHost: 10.0.0.1:8000\r\n" AGENT "Content-Length: 0\r\n\r\n");
}

static void expect_end(const struct step *step, int error, size_t answer_len)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world *world = begin(seed, step, 1);
        asker.config.any_status = true;
        world_do(world, do_start);
        world_run(world, 3 * SECOND);
        cr_assert_eq(asker.dones, 1u);
        cr_assert_eq(asker.fetch.error, error, "%d", asker.fetch.error);
        cr_assert_eq(asker.problem, error != 0);
        cr_assert(error != 0 || asker.fetch.len == answer_len);
        world_free(world);
    }
}

#define SIXTY_FOUR "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

Test(fetch, answers_are_whole_or_not_at_all)
{
    expect_end(&(struct step){.answer = "HTTP/1.1 204 No\r\n\r\n"}, 0, 0);
    expect_end(&(struct step){.answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: "
                                        "chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"},
               0, 4);
    expect_end(&(struct step){.answer = "HTTP/1.1 200 OK\r\n\r\n" SIXTY_FOUR, .then = FIN}, 0, 64);
    expect_end(&(struct step){.answer = "HTTP/1.1 200 OK\r\n\r\n" SIXTY_FOUR "!", .then = FIN},
               -GM_E_LIMIT, 0);
    expect_end(
        &(struct step){.answer = "HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n" SIXTY_FOUR "!"},
        -GM_E_LIMIT, 0);
    expect_end(
        &(struct step){.answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", .then = FIN},
        -GM_E_CLOSED, 0);
    expect_end(&(struct step){.then = RST}, -GM_E_CLOSED, 0);
    expect_end(&(struct step){.answer = "nonsense\r\n\r\n"}, -GM_E_CLOSED, 0);
    expect_end(&(struct step){.answer = NULL}, -GM_E_TIMEOUT, 0);
    expect_end(&(struct step){.answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"},
               -GM_E_TIMEOUT, 0);
}

Test(fetch, a_status_is_an_answer_or_a_problem)
{
    const struct step step = {.answer = "HTTP/1.1 404 No\r\nContent-Length: 1\r\n\r\nx"};
    expect_end(&step, 0, 1);
    cr_assert_eq(asker.fetch.status, 404);
    struct world *world = begin(1, &step, 1);
    world_do(world, do_start);
    world_run(world, SECOND);
    cr_assert(asker.dones == 1 && asker.problem && asker.fetch.error == -GM_E_PROTOCOL);
    world_free(world);
}

Test(fetch, one_after_the_other_and_none_after_a_cancel)
{
    const struct step steps[] = {{.answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"},
                                 {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb"}};
    struct world *world = begin(1, steps, 2);
    world_do(world, do_start);
    world_run(world, SECOND);
    cr_assert(asker.dones == 1 && asker.answer[0] == 'a');
    world_do(world, do_again);
    world_run(world, SECOND);
    cr_assert(asker.dones == 2 && asker.answer[0] == 'b');
    world_do(world, do_again);
    world_do(world, do_cancel);
    world_run(world, 3 * SECOND);
    cr_assert_eq(asker.dones, 2u);
    world_free(world);
}

Test(fetch, what_cannot_be_asked)
{
    static char long_value[70000];
    const struct gm_fetch_field evil = {"X-A", "1\r\nX-B: 2"}, longest = {"X-A", long_value};
    memset(long_value, 'x', sizeof long_value - 1);
    const struct gm_fetch_config cases[] = {
        {.path = "/a b"},
        {.path = "/", .fields = &evil, .field_count = 1},
        {.path = "/", .fields = &longest, .field_count = 1},
        {.path = "/", .method = "PUT", .body = long_value, .body_len = GM_FETCH_BODY_MAX + 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world *world = begin(1, NULL, 0);
        asker.config = cases[i];
        world_do(world, do_start);
        world_run(world, SECOND);
        cr_assert(asker.dones == 1 && asker.problem && asker.fetch.error < 0, "case %zu", i);
        cr_assert_eq(world->accepted, 0u);
        world_free(world);
    }
}
