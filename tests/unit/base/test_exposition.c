/*
 * Prometheus' text format: escaping, constant labels, growth, the families that every program has.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/counter.h"
#include "base/exposition.h"

static void expect(struct gm_exposition *page, const char *text)
{
    cr_assert_not(page->failed);
    cr_assert_eq(page->len, strlen(text), "%.*s", (int)page->len, page->text);
    cr_assert_arr_eq(page->text, text, page->len, "%.*s", (int)page->len, page->text);
    free(page->text);
}

Test(exposition, a_family_has_a_head_and_samples)
{
    struct gm_exposition page = {0};
    gm_exposition_family(&page, "a_total", "counter", "What is counted");
    gm_exposition_begin(&page, "a_total");
    gm_exposition_unsigned(&page, UINT64_MAX);
    gm_exposition_begin(&page, "a_total");
    gm_exposition_label(&page, "x", "1", 1);
    gm_exposition_label(&page, "y", "", 0);
    gm_exposition_signed(&page, INT64_MIN);
    expect(&page, "# HELP a_total What is counted.\n# TYPE a_total counter\n"
                  "a_total 18446744073709551615\na_total{x=\"1\",y=\"\"} -9223372036854775808\n");
}

Test(exposition, the_constant_label_comes_first)
{
    struct gm_exposition page = {.constant = "server_id", .constant_value = "s\"1"};
    gm_exposition_begin(&page, "a");
    gm_exposition_seconds(&page, 1000000001u);
    gm_exposition_begin(&page, "b");
    gm_exposition_label(&page, "x", "1", 1);
    gm_exposition_unsigned(&page, 0);
    expect(&page, "a{server_id=\"s\\\"1\"} 1.000000001\nb{server_id=\"s\\\"1\",x=\"1\"} 0\n");
}

Test(exposition, no_label_breaks_a_line)
{
    static const char value[] = "a\\b\"c\nd\xC3\xA9\xFF\xE2\x82";
    struct gm_exposition page = {0};
    gm_exposition_begin(&page, "a");
    gm_exposition_label(&page, "x", value, sizeof value - 1);
    gm_exposition_unsigned(&page, 1);
    expect(&page, "a{x=\"a\\\\b\\\"c\\nd\xC3\xA9\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"} 1\n");
}

Test(exposition, a_page_grows)
{
    struct gm_exposition page = {0};
    char name[101];
    memset(name, 'n', 100);
    name[100] = '\0';
    for (unsigned i = 0; i < 2000; i++) {
        gm_exposition_begin(&page, name);
        gm_exposition_unsigned(&page, 7);
    }
    cr_assert_not(page.failed);
    cr_assert_eq(page.len, 2000u * 103u);
    for (unsigned i = 0; i < 2000; i++) {
        cr_assert_eq(memcmp(page.text + i * 103u, name, 100), 0);
        cr_assert_eq(memcmp(page.text + i * 103u + 100u, " 7\n", 3), 0);
    }
    free(page.text);
}

static bool holds(const struct gm_exposition *page, const char *line)
{
    return memmem(page->text, page->len, line, strlen(line)) != NULL;
}

Test(exposition, counters_have_rings_and_gauges_are_sums)
{
    struct gm_counter_set set;
    cr_assert_eq(gm_counter_set_init(&set, 1), 0);
    gm_counter_attach(gm_counter_block_of(&set, 0));
    gm_counter_add(GM_COUNTER_TURNS, 5);
    gm_counter_add(GM_COUNTER_BLOCKS_IN_USE, 2);
    gm_counter_attach(gm_counter_block_of(&set, 1));
    gm_counter_sub(GM_COUNTER_BLOCKS_IN_USE, 3);
    gm_counter_attach(NULL);
    struct gm_exposition page = {.constant = "server_id", .constant_value = "s"};
    gm_exposition_counters(&page, &set);
    cr_assert(holds(&page, "\ngimlet_ring_turns_total{server_id=\"s\",ring=\"0\"} 5\n"));
    cr_assert(holds(&page, "\ngimlet_ring_turns_total{server_id=\"s\",ring=\"control\"} 0\n"));
    cr_assert(holds(&page, "\ngimlet_ring_blocks_in_use{server_id=\"s\"} -1\n"));
    free(page.text);
    gm_counter_set_fini(&set);
}

static double value_of(const struct gm_exposition *page, const char *name)
{
    char *text = strndup(page->text, page->len), *at = strstr(text, name);
    cr_assert_not_null(at, "%s is not there", name);
    double value = strtod(at + strlen(name), NULL);
    free(text);
    return value;
}

Test(exposition, the_process_is_described_without_the_constant)
{
    struct gm_exposition page = {.constant = "server_id", .constant_value = "s"};
    gm_exposition_process(&page);
    cr_assert_str_eq(page.constant, "server_id");
    cr_assert_geq(value_of(&page, "\nprocess_resident_memory_bytes "), 65536);
    cr_assert_geq(value_of(&page, "\nprocess_virtual_memory_bytes "), 65536);
    cr_assert_geq(value_of(&page, "\ngo_memstats_heap_alloc_bytes "), 4096);
    cr_assert_geq(value_of(&page, "\ngo_memstats_sys_bytes "), 4096);
    cr_assert_geq(value_of(&page, "\ngo_memstats_stack_inuse_bytes "), 4096);
    cr_assert_geq(value_of(&page, "\nprocess_open_fds "), 1);
    cr_assert_geq(value_of(&page, "\nprocess_max_fds "), value_of(&page, "\nprocess_open_fds "));
    cr_assert_geq(value_of(&page, "\nprocess_cpu_seconds_total "), 0);
    double age = (double)time(NULL) - value_of(&page, "\nprocess_start_time_seconds ");
    cr_assert(age > -5 && age < 600, "%f s", age);
    free(page.text);
}

Test(exposition, open_files_are_counted)
{
    double counts[2];
    int more[3] = {-1, -1, -1};
    for (unsigned i = 0; i < 2; i++) {
        struct gm_exposition page = {0};
        gm_exposition_process(&page);
        cr_assert_not(page.failed);
        counts[i] = value_of(&page, "\nprocess_open_fds ");
        free(page.text);
        for (unsigned n = 0; i == 0 && n < 3; n++)
            more[n] = dup(STDERR_FILENO);
    }
    cr_assert_eq(counts[1] - counts[0], 3);
    for (unsigned n = 0; n < 3; n++)
        (void)close(more[n]);
}
