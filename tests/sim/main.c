/* Runs seeds of the simulated world: sim-server [--first SEED] [--seeds N] [--verbose].
 *
 * Each seed draws a network, agents, clients and faults. The last line is "N passed, N failed, N
 * skipped". One thread. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "server/exchange.h"
#include "server/ringup.h"
#include "world.h"

static bool verbose;
static struct sim_world the_world;

/* A process that dies says where: an assertion by SIGABRT, a sanitizer by its own callback. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void last_words(void)
{
    (void)fprintf(stderr, "FAIL seed %llu step %llu: died\n", (unsigned long long)the_world.seed,
                  the_world.sim == NULL ? 0ull : (unsigned long long)gm_sim_steps(the_world.sim));
}
static void aborted(int number)
{
    (void)number;
    last_words();
    _exit(1);
}

/* A network and its faults. */
static void draw_profile(struct sim_world *world)
{
    struct gm_sim_profile *profile = &world->profile;
    profile->buffer_bytes = 1024u << world_rand(world, 8);
    profile->segment_bytes = 256u << world_rand(world, 7);
    profile->split_permille = (uint32_t)world_rand(world, 500);
    profile->short_permille = (uint32_t)world_rand(world, 200);
    if (world_chance(world, 30))
        profile->latency_max_ns = (1 + world_rand(world, 40)) * SIM_MS;
    /* A strict world is fast enough for every deadline. */
    if (world->strict && profile->buffer_bytes < 32768)
        profile->buffer_bytes = 32768;
    if (!world->strict && world_chance(world, 60)) {
        profile->cut_permille = (uint32_t)world_rand(world, 150);
        profile->freeze_permille = (uint32_t)world_rand(world, 200);
        profile->delay_permille = (uint32_t)world_rand(world, 200);
        profile->slow_permille = (uint32_t)world_rand(world, 200);
        profile->half_close_permille = world_chance(world, 30) ? 100 : 0;
        profile->fault_within_ns = 3 * SIM_SECOND;
        profile->slow_bytes_per_s = 20000 + world_rand(world, 200000);
    }
    world->half_closes = profile->half_close_permille > 0;
    gm_sim_set_profile(world->sim, profile);
}

static void start_all(struct sim_world *world)
{
    uint64_t now_ns = gm_sim_now(world->sim);
    world->agent_count = world->strict ? 1 + (uint32_t)world_rand(world, 3)
                                       : 1 + (uint32_t)world_rand(world, SIM_AGENTS_MAX);
    if (world_chance(world, 35)) {
        world->agent_count = 0;
        real_agent_start(world);
    }
    for (uint32_t i = 0; i < world->agent_count; i++)
        agent_start(world, i);
    if (world->strict)
        world_run(world, now_ns + SIM_SECOND);
    now_ns = gm_sim_now(world->sim);
    world->client_count = 1 + (uint32_t)world_rand(world, SIM_CLIENTS_MAX);
    uint64_t within_ns = world_chance(world, 50) ? SIM_SECOND : 8 * SIM_SECOND;
    for (uint32_t i = 0; i < world->client_count; i++)
        client_start(world, &world->clients[i], now_ns + world_rand(world, within_ns));
}

/* Requests on an agent that fell silent end, or move, within six seconds. */
static void check_frozen(struct sim_world *world, uint32_t index, const uint32_t *ids,
                         uint32_t count)
{
    for (uint32_t i = 0; i < count && !world->failed; i++) {
        const struct sim_request *request = world_request(world, ids[i]);
        for (uint32_t r = 0; r < world->ring_count; r++) {
            for (uint32_t x = 0; x < 64; x++) {
                const struct gm_exchange *exchange = &world->contexts[r]->exchanges[x];
                char id[16];
                (void)snprintf(id, sizeof id, "%u", ids[i]);
                if (exchange->in_use && exchange->request_id_len == strlen(id) &&
                    memcmp(exchange->request_id, id, strlen(id)) == 0 &&
                    request->on_agent == (int8_t)index && request->agents < 2)
                    world_fail(world, "request %u (kind %u) still waits for a silent agent", ids[i],
                               request->kind);
            }
        }
    }
}

static void freeze_one(struct sim_world *world)
{
    uint32_t ids[SIM_CLIENTS_MAX * SIM_REQUESTS_MAX], count = 0;
    uint32_t index = (uint32_t)world_rand(world, world->agent_count);
    if (!world->agents[index].alive)
        return;
    for (uint32_t i = 0; i < world->client_count; i++) {
        for (uint32_t j = 0; j < world->clients[i].request_count; j++) {
            if (world->clients[i].requests[j].on_agent == (int8_t)index)
                ids[count++] = world->clients[i].requests[j].id;
        }
    }
    agent_freeze(&world->agents[index]);
    if (!world->agents[index].frozen)
        return;
    world_run(world, gm_sim_now(world->sim) + 6 * SIM_SECOND + world->profile.latency_max_ns * 4);
    /* A fault of the network's own on the same connection may thaw or delay it. */
    if (world->profile.freeze_permille + world->profile.delay_permille +
            world->profile.slow_permille ==
        0)
        check_frozen(world, index, ids, count);
}

/* The server drains under load: over by its deadline. */
static void drain(struct sim_world *world)
{
    gm_server_drain_all(&world->shared);
    uint64_t deadline_ns = gm_sim_now(world->sim) + world->config.shutdown_timeout_ns + SIM_SECOND;
    for (uint32_t i = 0; i < world->agent_count; i++)
        world->agents[i].retired = true;
    while (!world->failed && gm_sim_now(world->sim) < deadline_ns) {
        if (atomic_load_explicit(&world->shared.rings_done, memory_order_relaxed) ==
            world->ring_count)
            break;
        world_run(world, gm_sim_now(world->sim) + 100 * SIM_MS);
    }
    if (!world->failed &&
        atomic_load_explicit(&world->shared.rings_done, memory_order_relaxed) != world->ring_count)
        world_fail(world, "the drain is not over by its deadline");
}

static void run_world(struct sim_world *world)
{
    draw_profile(world);
    start_all(world);
    uint64_t begin_ns = gm_sim_now(world->sim);
    unsigned odd = world->strict ? 100 : (unsigned)world_rand(world, 100);
    if (odd < 20 && !world->real) {
        world_run(world, begin_ns + world_rand(world, 3 * SIM_SECOND));
        freeze_one(world);
    } else if (odd < 50) {
        for (unsigned rounds = 3; rounds > 0 && !world->failed; rounds--) {
            world_run(world, gm_sim_now(world->sim) + world_rand(world, 2 * SIM_SECOND));
            hog_take(world);
            world_run(world, gm_sim_now(world->sim) + world_rand(world, 3 * SIM_SECOND));
            hog_release(world);
        }
    } else if (odd < 65) {
        world_run(world, begin_ns + world_rand(world, 3 * SIM_SECOND));
        drain(world);
    }
    world_run(world, begin_ns + SIM_QUIET_NS);
    if (!world->failed)
        world_check_quiet(world);
    for (uint32_t i = 0; i < world->client_count && !world->failed; i++)
        client_judge(&world->clients[i]);
    for (uint32_t i = 0; i < world->agent_count && !world->failed; i++)
        agent_retire(&world->agents[i]);
    if (world->real && !world->failed)
        real_agent_drain(world);
    world_run(world, gm_sim_now(world->sim) + SIM_EMPTY_NS);
    if (!world->failed)
        world_check_empty(world);
}

/* What the failed world holds is left as it is: it may not be in a state to be closed. */
static int fail(const char *what, uint64_t passed)
{
    (void)fprintf(stderr, "failed: %s\n", what);
    printf("%llu passed, 1 failed, 0 skipped\n", (unsigned long long)passed);
    (void)fflush(stdout);
    _exit(1);
}

int main(int argc, char **argv)
{
    uint64_t first = 1, count = 100;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--first") == 0 && i + 1 < argc)
            first = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc)
            count = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--verbose") == 0)
            verbose = true;
    }
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    (void)gm_log_configure(&(struct gm_log_options){.level = verbose ? GM_LOG_DEBUG : GM_LOG_FATAL,
                                                    .fd = verbose ? STDERR_FILENO : quiet});
    (void)signal(SIGABRT, aborted);
    if (__sanitizer_set_death_callback != NULL)
        __sanitizer_set_death_callback(last_words);
    world_keys_load();
    uint64_t scenarios = 0, complete = 0, errors = 0, cut = 0, retried = 0;
    const char *name;
    while (first == 1 && !the_world.failed &&
           (name = scenario_run(&the_world, (uint32_t)scenarios, false)) != NULL) {
        world_open(&the_world, 1 + scenarios);
        (void)scenario_run(&the_world, (uint32_t)scenarios++, true);
        if (the_world.failed)
            return fail(name, scenarios - 1);
        world_close(&the_world);
    }
    for (uint64_t seed = first; seed < first + count; seed++) {
        world_open(&the_world, seed);
        run_world(&the_world);
        complete += the_world.complete;
        errors += the_world.errors;
        cut += the_world.cut;
        retried += the_world.retried;
        if (the_world.failed)
            return fail("seed", scenarios + seed - first);
        world_close(&the_world);
    }
    printf("%llu answers complete, %llu errors told, %llu cut, %llu tried twice\n",
           (unsigned long long)complete, (unsigned long long)errors, (unsigned long long)cut,
           (unsigned long long)retried);
    printf("%llu passed, 0 failed, 0 skipped\n", (unsigned long long)(scenarios + count));
    return 0;
}
