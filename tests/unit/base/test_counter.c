/*
 * Counters: ownership by thread, sums over blocks, signed gauges, the text of /debug/counters.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/counter.h"

#define THREADS 4
#define ROUNDS  20000

struct worker {
    struct gm_counter_block *block;
    pthread_t thread;
};

static void *count(void *arg)
{
    struct worker *worker = arg;
    gm_counter_attach(worker->block);
    for (int i = 0; i < ROUNDS; i++) {
        gm_counter_add(GM_COUNTER_RECV_BYTES, 3);
        gm_counter_add(GM_COUNTER_BLOCKS_IN_USE, 2);
        gm_counter_sub(GM_COUNTER_BLOCKS_IN_USE, 1);
    }
    gm_counter_attach(NULL);
    gm_counter_add(GM_COUNTER_RECV_BYTES, 1000000); /* attached to nothing: thrown away */
    return NULL;
}

Test(counter, threads_count_apart_and_are_summed_while_they_run)
{
    struct gm_counter_set set;
    struct worker workers[THREADS];
    cr_assert_eq(gm_counter_set_init(&set, THREADS), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].block = gm_counter_block_of(&set, i);
        cr_assert_eq(pthread_create(&workers[i].thread, NULL, count, &workers[i]), 0);
    }
    uint64_t before = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t now = gm_counter_sum(&set, GM_COUNTER_RECV_BYTES);
        cr_assert_geq(now, before);
        before = now;
    }
    for (unsigned i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_join(workers[i].thread, NULL), 0);
    cr_assert_eq(gm_counter_sum(&set, GM_COUNTER_RECV_BYTES), UINT64_C(3) * THREADS * ROUNDS);
    cr_assert_eq(gm_counter_sum(&set, GM_COUNTER_BLOCKS_IN_USE), UINT64_C(1) * THREADS * ROUNDS);
    cr_assert_eq(gm_counter_sum(&set, GM_COUNTER_TURNS), 0);
    gm_counter_set_fini(&set);
}

Test(counter, blocks_do_not_share_cache_lines)
{
    struct gm_counter_set set;
    cr_assert_eq(gm_counter_set_init(&set, 2), 0);
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq((uintptr_t)gm_counter_block_of(&set, i) % GM_COUNTER_ALIGN, 0);
    cr_assert_eq(sizeof(struct gm_counter_block) % GM_COUNTER_ALIGN, 0);
    gm_counter_set_fini(&set);
}

Test(counter, set_refuses_impossible_numbers_of_rings)
{
    struct gm_counter_set set = {0};
    cr_assert_eq(gm_counter_set_init(&set, 0), -EINVAL);
    cr_assert_eq(gm_counter_set_init(&set, GM_COUNTER_BLOCKS_MAX), -EINVAL);
    cr_assert_eq(gm_counter_set_init(&set, GM_COUNTER_BLOCKS_MAX - 1), 0);
    gm_counter_set_fini(&set);
    gm_counter_set_fini(&set); /* zeroed now */
}

Test(counter, add_set_get_touch_only_the_own_block)
{
    struct gm_counter_set set;
    cr_assert_eq(gm_counter_set_init(&set, 2), 0);
    gm_counter_attach(gm_counter_block_of(&set, 0));
    gm_counter_set(GM_COUNTER_MEMORY_RESERVED_BYTES, 70);
    gm_counter_add(GM_COUNTER_MEMORY_RESERVED_BYTES, 5);
    cr_assert_eq(gm_counter_get(GM_COUNTER_MEMORY_RESERVED_BYTES), 75);
    gm_counter_attach(gm_counter_block_of(&set, 1));
    cr_assert_eq(gm_counter_get(GM_COUNTER_MEMORY_RESERVED_BYTES), 0);
    gm_counter_sub(GM_COUNTER_MEMORY_RESERVED_BYTES, 80); /* raised there, lowered here */
    cr_assert_eq((int64_t)gm_counter_sum(&set, GM_COUNTER_MEMORY_RESERVED_BYTES), -5);
    gm_counter_attach(NULL);
    gm_counter_set_fini(&set);
}

Test(counter, every_row_is_described)
{
    for (unsigned c = 0; c < GM_COUNTER_COUNT; c++) {
        const char *name = gm_counter_name((enum gm_counter)c);
        cr_assert_gt(strlen(name), 0);
        cr_assert_eq(strspn(name, "abcdefghijklmnopqrstuvwxyz_"), strlen(name), "%s", name);
        cr_assert_gt(strlen(gm_counter_help((enum gm_counter)c)), 0);
        for (unsigned d = 0; d < c; d++)
            cr_assert_str_neq(name, gm_counter_name((enum gm_counter)d));
    }
    cr_assert_eq(gm_counter_kind_of(GM_COUNTER_TURNS), GM_COUNTER_KIND_COUNTER);
    cr_assert_eq(gm_counter_kind_of(GM_COUNTER_BUFFERS_IN_USE_LINK), GM_COUNTER_KIND_GAUGE);
}

Test(counter, render_shows_sums_and_every_block)
{
    static char text[GM_COUNTER_RENDER_MAX(2)];
    struct gm_counter_set set;
    cr_assert_eq(gm_counter_set_init(&set, 2), 0);
    for (unsigned i = 0; i < 3; i++) {
        gm_counter_attach(gm_counter_block_of(&set, i));
        gm_counter_set(GM_COUNTER_CROSSINGS, UINT64_C(10) + i);
        gm_counter_set(GM_COUNTER_TURNS, i == 0 ? UINT64_MAX : 0);
        gm_counter_sub(GM_COUNTER_BLOCKS_IN_USE, i);
    }
    gm_counter_attach(NULL);
    ptrdiff_t len = gm_counter_render(&set, text, sizeof text - 1);
    cr_assert_gt(len, 0);
    text[len] = '\0';
    const char *const expected[] = {
        "\ncrossings 33\n",
        "\ncrossings{ring=\"0\"} 10\n",
        "\ncrossings{ring=\"1\"} 11\n",
        "\ncrossings{ring=\"control\"} 12\n",
        "turns 18446744073709551615\n",
        "\nblocks_in_use -3\n",
        "\nblocks_in_use{ring=\"1\"} -1\n",
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        cr_assert_not_null(strstr(text, expected[i]), "%s", expected[i]);

    /* Exactly this much room is enough, any less is refused. */
    char *small = malloc((size_t)len);
    cr_assert_not_null(small);
    cr_assert_eq(gm_counter_render(&set, small, (size_t)len), len);
    for (size_t cap = 0; cap < (size_t)len; cap++)
        cr_assert_eq(gm_counter_render(&set, small, cap), -ENOSPC);
    free(small);
    gm_counter_set_fini(&set);
}

Test(counter, render_fits_its_promise_with_the_longest_numbers)
{
    enum { RINGS = GM_COUNTER_BLOCKS_MAX - 1 };
    struct gm_counter_set set;
    char *text = malloc(GM_COUNTER_RENDER_MAX(RINGS));
    cr_assert_not_null(text);
    cr_assert_eq(gm_counter_set_init(&set, RINGS), 0);
    for (unsigned i = 0; i <= RINGS; i++) {
        gm_counter_attach(gm_counter_block_of(&set, i));
        for (unsigned c = 0; c < GM_COUNTER_COUNT; c++)
            gm_counter_set((enum gm_counter)c, UINT64_C(1) << 63);
    }
    gm_counter_attach(NULL);
    cr_assert_gt(gm_counter_render(&set, text, GM_COUNTER_RENDER_MAX(RINGS)), 0);
    gm_counter_set_fini(&set);
    free(text);
}
