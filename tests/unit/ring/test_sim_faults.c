/* Ten thousand seeds of an echo under faults: every client gets its bytes back or is told that it
 * did not, every socket is closed once, no buffer stays held. A failing seed is printed and replays
 * by itself. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "test_epoll_cases.h"

#define SECOND 1000000000ull

static uint64_t first_seed(void)
{
    const char *text = getenv("GM_SIM_SEED");
    return text == NULL ? 1 : strtoull(text, NULL, 0);
}
static uint64_t seed_count(uint64_t otherwise)
{
    const char *text = getenv("GM_SIM_SEEDS");
    return text == NULL ? otherwise : strtoull(text, NULL, 0);
}

/* A network and a plan drawn from the seed, so that small buffers, tiny segments and long delays
 * all meet. */
static struct echo_result run_seed(uint64_t seed, bool faults, uint64_t *hash)
{
    struct gm_sim *sim = gm_sim_new(seed);
    struct gm_sim_profile profile;
    gm_sim_profile_default(&profile);
    profile.buffer_bytes = 1u << (4 + gm_sim_rand(sim, 14));
    profile.segment_bytes = 1u << (6 + gm_sim_rand(sim, 9));
    profile.split_permille = (uint32_t)gm_sim_rand(sim, 600);
    profile.short_permille = (uint32_t)gm_sim_rand(sim, 300);
    if (faults) {
        profile.cut_permille = profile.half_close_permille = 150;
        profile.freeze_permille = profile.delay_permille = profile.slow_permille = 200;
        profile.refuse_permille = 50;
        profile.fault_within_ns = 1 + gm_sim_rand(sim, SECOND / 50);
    }
    uint32_t bytes_max = profile.buffer_bytes < 1024 ? 2000 : 60000;
    struct echo_plan plan = {.io = GM_IO_SIM,
                             .sim = sim,
                             .rings = 1 + (uint32_t)gm_sim_rand(sim, 2),
                             .conns = 1 + (uint32_t)gm_sim_rand(sim, 4),
                             .bytes_max = bytes_max,
                             .deadline_ns = 20 * SECOND,
                             .run_ns = 100 * SECOND,
                             .unlimited = gm_sim_rand(sim, 2) == 0,
                             .hand_over = gm_sim_rand(sim, 2) == 0};
    gm_sim_set_profile(sim, &profile);
    struct echo_result result = echo_run(&plan);
    if (!result.done || result.complete + result.told != plan.conns ||
        gm_sim_open_count(sim) != 0) {
        (void)fprintf(
            stderr,
            "seed %llu: done %d, complete %u, told %u of %u, %u connections open at %.6f s\n",
            (unsigned long long)seed, result.done, result.complete, result.told, plan.conns,
            gm_sim_open_count(sim), (double)gm_sim_now(sim) / 1e9);
        result.done = false;
    }
    *hash = gm_sim_hash(sim);
    gm_sim_free(sim);
    return result;
}

Test(sim_faults, calm_seeds_complete, .timeout = 300)
{
    uint64_t first = first_seed(), count = seed_count(1000), hash;
    for (uint64_t seed = first; seed < first + count; seed++) {
        struct echo_result result = run_seed(seed, false, &hash);
        cr_assert(result.done, "seed %llu", (unsigned long long)seed);
        cr_assert(result.told == 0, "seed %llu: a calm network lost something",
                  (unsigned long long)seed);
    }
}

Test(sim_faults, ten_thousand_seeds, .timeout = 600)
{
    uint64_t first = first_seed(), count = seed_count(10000), hash, complete = 0, told = 0,
             refused = 0, moved = 0;
    for (uint64_t seed = first; seed < first + count; seed++) {
        struct echo_result result = run_seed(seed, true, &hash);
        cr_assert(result.done, "seed %llu", (unsigned long long)seed);
        complete += result.complete;
        told += result.told;
        refused += result.connects_failed;
        moved += result.handed_over;
    }
    (void)fprintf(stderr, "%llu complete, %llu told, %llu refused, %llu handed over\n",
                  (unsigned long long)complete, (unsigned long long)told,
                  (unsigned long long)refused, (unsigned long long)moved);
    if (count < 1000)
        return;
    /* The faults do strike, and do not strike everything. */
    cr_assert(complete > count / 4 && told > count / 4 && refused > count / 100 &&
              moved > count / 10);
}

Test(sim_faults, a_seed_replays, .timeout = 120)
{
    for (uint64_t seed = 1; seed <= 200; seed++) {
        uint64_t one, two, other;
        struct echo_result a = run_seed(seed, true, &one), b = run_seed(seed, true, &two);
        (void)run_seed(seed + 1000, true, &other);
        cr_assert(a.done && b.done && one == two && a.bytes == b.bytes && a.complete == b.complete,
                  "seed %llu", (unsigned long long)seed);
        cr_assert(one != other);
    }
}
