/*
 * Durations, sizes and integers: what is read, what is refused, and that printing inverts reading.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "config/value.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))
#define S            INT64_C(1000000000)

struct sample {
    const char *text;
    int rc;
    int64_t value;
};

typedef int parse_fn(const char *text, int64_t *out);

static void check(parse_fn *parse, const struct sample *samples, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int64_t out = -4711;
        int rc = parse(samples[i].text, &out);
        cr_assert_eq(rc, samples[i].rc, "\"%s\": %d", samples[i].text, rc);
        cr_assert_eq(out, rc == 0 ? samples[i].value : -4711, "\"%s\": %" PRId64, samples[i].text,
                     out);
    }
}

Test(value, integers)
{
    static const struct sample samples[] = {
        {"0", 0, 0},
        {"42", 0, 42},
        {"+7", 0, 7},
        {"-3", 0, -3},
        {"007", 0, 7},
        {"9223372036854775807", 0, INT64_MAX},
        {"-9223372036854775808", 0, INT64_MIN},
        {"9223372036854775808", -ERANGE, 0},
        {"-9223372036854775809", -ERANGE, 0},
        {"18446744073709551616", -ERANGE, 0},
        {"99999999999999999999999", -ERANGE, 0},
        {"", -EINVAL, 0},
        {"-", -EINVAL, 0},
        {"+-1", -EINVAL, 0},
        {" 1", -EINVAL, 0},
        {"1 ", -EINVAL, 0},
        {"1.5", -EINVAL, 0},
        {"0x10", -EINVAL, 0},
        {"1e3", -EINVAL, 0},
        {"99999999999999999999999x", -EINVAL, 0},
    };
    check(gm_value_integer, samples, COUNT(samples));
}

Test(value, durations)
{
    static const struct sample samples[] = {
        {"0", 0, 0},
        {"10", 0, 10 * S},
        {"-3", 0, -3 * S},
        {"+3", 0, 3 * S},
        {"300ms", 0, 300 * S / 1000},
        {"1.5h", 0, 5400 * S},
        {"1m30s", 0, 90 * S},
        {"-1m30s", 0, -90 * S},
        {"1h0m0s", 0, 3600 * S},
        {".5s", 0, S / 2},
        {"1.s", 0, S},
        {"5ns", 0, 5},
        {"5us", 0, 5000},
        {"5\xC2\xB5s", 0, 5000},
        {"5\xCE\xBCs", 0, 5000},
        {"0.000000001s", 0, 1},
        {"0.0000000001s", 0, 0},
        {"1.00000000000000000000000000001s", 0, S},
        {"2562047h47m16.854775807s", 0, INT64_MAX},
        {"-2562047h47m16.854775808s", 0, INT64_MIN},
        {"2562047h47m16.854775808s", -ERANGE, 0},
        {"9223372036", 0, INT64_C(9223372036) * S},
        {"9223372037", -ERANGE, 0},
        {"99999999999999999999", -ERANGE, 0},
        {"9999999999999999999h", -ERANGE, 0},
        {"99999999999999999999h", -ERANGE, 0},
        {"18446744073709551615ns1ns", -ERANGE, 0},
        {"", -EINVAL, 0},
        {"-", -EINVAL, 0},
        {"abc", -EINVAL, 0},
        {"2d", -EINVAL, 0},
        {"1.5", -EINVAL, 0},
        {"s", -EINVAL, 0},
        {".s", -EINVAL, 0},
        {".", -EINVAL, 0},
        {"1m30", -EINVAL, 0},
        {"1 s", -EINVAL, 0},
        {"1s ", -EINVAL, 0},
        {"1S", -EINVAL, 0},
        {"1h-5m", -EINVAL, 0},
        {"--1s", -EINVAL, 0},
    };
    check(gm_value_duration, samples, COUNT(samples));
}

Test(value, sizes)
{
    static const struct sample samples[] = {
        {"0", 0, 0},
        {"4096", 0, 4096},
        {"64KiB", 0, 65536},
        {"64kib", 0, 65536},
        {"16MiB", 0, INT64_C(16) << 20},
        {"1GiB", 0, INT64_C(1) << 30},
        {"9223372036854775807", 0, INT64_MAX},
        {"8589934591GiB", 0, INT64_C(8589934591) << 30},
        {"8589934592GiB", -ERANGE, 0},
        {"18446744073709551616", -ERANGE, 0},
        {"18446744073709551615KiB", -ERANGE, 0},
        {"", -EINVAL, 0},
        {"KiB", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"+1", -EINVAL, 0},
        {"1.5MiB", -EINVAL, 0},
        {"64K", -EINVAL, 0},
        {"64KB", -EINVAL, 0},
        {"64 KiB", -EINVAL, 0},
        {"64KiBx", -EINVAL, 0},
    };
    check(gm_value_size, samples, COUNT(samples));
}

Test(value, switches)
{
    static const char *const on[] = {"true", "TRUE", "yes", "on", "1"};
    static const char *const off[] = {"false", "No", "off", "0"};
    static const char *const bad[] = {"", "2", "t", "truee", "y"};
    for (size_t i = 0; i < COUNT(on); i++)
        cr_assert_eq(gm_value_switch(on[i]), 1);
    for (size_t i = 0; i < COUNT(off); i++)
        cr_assert_eq(gm_value_switch(off[i]), 0);
    for (size_t i = 0; i < COUNT(bad); i++)
        cr_assert_eq(gm_value_switch(bad[i]), -EINVAL);
}

Test(value, what_may_be_shown_of_a_url)
{
    static const char *const cases[][2] = {
        {"http://u:p@h/x", "h/x"},
        {"web=ws://u@h", "h"},
        {"http://u:p@q@h", "h"},
        {"http://h/a@b", "http://h/a@b"},
        {"http://h?a@b", "http://h?a@b"},
        {"a@b", "a@b"},
        {"unix:/a@b", "unix:/a@b"},
        {"http://", "http://"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_assert_str_eq(gm_value_public(cases[i][0]), cases[i][1], "case %zu", i);
}

Test(value, texts)
{
    char buf[GM_VALUE_TEXT_MAX];
    cr_assert_str_eq(gm_value_duration_text(0, buf), "0s");
    cr_assert_str_eq(gm_value_duration_text(90 * S, buf), "1m30s");
    cr_assert_str_eq(gm_value_duration_text(S / 4, buf), "250ms");
    cr_assert_str_eq(gm_value_duration_text(-S, buf), "-1s");
    cr_assert_str_eq(gm_value_duration_text(INT64_MIN, buf), "-2562047h47m16s854ms775us808ns");
    cr_assert_str_eq(gm_value_size_text(0, buf), "0");
    cr_assert_str_eq(gm_value_size_text(65536, buf), "64KiB");
    cr_assert_str_eq(gm_value_size_text(65537, buf), "65537");
    cr_assert_str_eq(gm_value_size_text(INT64_C(3) << 30, buf), "3GiB");
    cr_assert_str_eq(gm_value_size_text(INT64_MAX, buf), "9223372036854775807");
}

Test(value, reading_inverts_printing)
{
    uint64_t state = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        char buf[GM_VALUE_TEXT_MAX];
        int64_t back;
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        int64_t n = (int64_t)(state >> (state % 63));
        cr_assert_eq(gm_value_duration(gm_value_duration_text(n, buf), &back), 0);
        cr_assert_eq(back, n, "%s", buf);
        n &= INT64_MAX;
        cr_assert_eq(gm_value_size(gm_value_size_text(n, buf), &back), 0);
        cr_assert_eq(back, n, "%s", buf);
    }
}
