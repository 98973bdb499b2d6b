/*
 * Parsers and printers of durations, sizes and integers. Pure.
 */
#include "config/value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *name;
    int64_t scale;
};

/* A longer name stands before its prefix. µ is written as U+00B5 or U+03BC. */
static const struct unit duration_units[] = {
    {"ns", 1},
    {"us", 1000},
    {"\xC2\xB5s", 1000},
    {"\xCE\xBCs", 1000},
    {"ms", 1000000},
    {"s", INT64_C(1000000000)},
    {"m", INT64_C(60000000000)},
    {"h", INT64_C(3600000000000)},
};

static const struct unit size_units[] = {
    {"KiB", INT64_C(1) << 10},
    {"MiB", INT64_C(1) << 20},
    {"GiB", INT64_C(1) << 30},
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Digits from *at on into *out; moves *at. The sum of what precedes an overflow is refused. */
static int take_digits(const char **at, uint64_t *out)
{
    uint64_t n = 0;
    const char *p = *at;
    for (; is_digit(*p); p++) {
        if (__builtin_mul_overflow(n, UINT64_C(10), &n) ||
            __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
            return -ERANGE;
    }
    *at = p;
    *out = n;
    return 0;
}

/* The smallest int64_t has no positive twin, so the magnitude is kept unsigned until here. */
static int with_sign(uint64_t magnitude, bool negative, int64_t *out)
{
    const uint64_t limit = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    if (magnitude > limit)
        return -ERANGE;
    *out = (int64_t)(negative ? UINT64_C(0) - magnitude : magnitude);
    return 0;
}

static bool take_sign(const char **at)
{
    bool negative = **at == '-';
    if (negative || **at == '+')
        (*at)++;
    return negative;
}

int gm_value_integer(const char *text, int64_t *out)
{
    uint64_t n;
    bool negative = take_sign(&text);
    if (!is_digit(*text))
        return -EINVAL;
    const char *end = text + strspn(text, "0123456789");
    if (*end != '\0')
        return -EINVAL;
    int rc = take_digits(&text, &n);
    return rc < 0 ? rc : with_sign(n, negative, out);
}

/* The fraction's digits that count: 10^18 units of an hour still fit 128 bits. */
#define FRACTION_DIGITS_MAX 18

/* `.5` of a unit in nanoseconds, rounded down; moves *at past the digits. */
static uint64_t take_fraction(const char **at, unsigned __int128 *numerator)
{
    uint64_t denominator = 1;
    int digits = 0;
    *numerator = 0;
    for (; is_digit(**at); (*at)++) {
        if (digits++ >= FRACTION_DIGITS_MAX)
            continue;
        *numerator = *numerator * 10 + (unsigned)(**at - '0');
        denominator *= 10;
    }
    return denominator;
}

static const struct unit *take_unit(const char **at)
{
    for (size_t i = 0; i < sizeof duration_units / sizeof duration_units[0]; i++) {
        size_t len = strlen(duration_units[i].name);
        if (strncmp(*at, duration_units[i].name, len) == 0) {
            *at += len;
            return &duration_units[i];
        }
    }
    return NULL;
}

/* One number with its unit, added to *sum. */
static int take_term(const char **at, uint64_t *sum)
{
    const char *start = *at;
    uint64_t whole, term, denominator = 1;
    unsigned __int128 numerator = 0;
    int rc = take_digits(at, &whole);
    if (rc < 0)
        return rc;
    bool any = *at > start;
    if (**at == '.') {
        const char *point = ++(*at);
        denominator = take_fraction(at, &numerator);
        any = any || *at > point;
    }
    const struct unit *unit = any ? take_unit(at) : NULL;
    if (unit == NULL)
        return -EINVAL;
    uint64_t scale = (uint64_t)unit->scale;
    uint64_t fraction = (uint64_t)(numerator * scale / denominator);
    if (__builtin_mul_overflow(whole, scale, &term) ||
        __builtin_add_overflow(term, fraction, &term) || __builtin_add_overflow(*sum, term, sum))
        return -ERANGE;
    return 0;
}

int gm_value_duration(const char *text, int64_t *out)
{
    int64_t seconds, ns;
    int rc = gm_value_integer(text, &seconds);
    if (rc == 0 && __builtin_mul_overflow(seconds, INT64_C(1000000000), &ns))
        return -ERANGE;
    if (rc == 0)
        *out = ns;
    if (rc == 0 || rc == -ERANGE)
        return rc;
    bool negative = take_sign(&text);
    uint64_t sum = 0;
    if (*text == '\0')
        return -EINVAL;
    while (*text != '\0') {
        rc = take_term(&text, &sum);
        if (rc < 0)
            return rc;
    }
    return with_sign(sum, negative, out);
}

int gm_value_size(const char *text, int64_t *out)
{
    uint64_t n;
    int64_t scale = 0;
    if (!is_digit(*text))
        return -EINVAL;
    const char *unit = text + strspn(text, "0123456789");
    if (*unit == '\0')
        scale = 1;
    for (size_t i = 0; i < sizeof size_units / sizeof size_units[0]; i++) {
        if (strcasecmp(unit, size_units[i].name) == 0)
            scale = size_units[i].scale;
    }
    if (scale == 0)
        return -EINVAL;
    if (take_digits(&text, &n) < 0 || __builtin_mul_overflow(n, (uint64_t)scale, &n))
        return -ERANGE;
    return with_sign(n, false, out);
}

int gm_value_switch(const char *text)
{
    static const char *const yes[] = {"true", "yes", "on", "1"};
    static const char *const no[] = {"false", "no", "off", "0"};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        if (strcasecmp(text, yes[i]) == 0)
            return 1;
        if (strcasecmp(text, no[i]) == 0)
            return 0;
    }
    return -EINVAL;
}

const char *gm_value_public(const char *text)
{
    const char *host = strstr(text, "://");
    if (host == NULL)
        return text;
    host += 3;
    const char *at = memrchr(host, '@', strcspn(host, "/?#"));
    return at != NULL ? at + 1 : text;
}

const char *gm_value_duration_text(int64_t ns, char buf[GM_VALUE_TEXT_MAX])
{
    static const struct unit parts[] = {
        {"h", INT64_C(3600000000000)},
        {"m", INT64_C(60000000000)},
        {"s", INT64_C(1000000000)},
        {"ms", 1000000},
        {"us", 1000},
        {"ns", 1},
    };
    uint64_t rest = ns < 0 ? UINT64_C(0) - (uint64_t)ns : (uint64_t)ns;
    size_t len = 0;
    buf[0] = '\0';
    if (ns < 0)
        len = (size_t)snprintf(buf, GM_VALUE_TEXT_MAX, "-");
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        uint64_t n = rest / (uint64_t)parts[i].scale;
        rest %= (uint64_t)parts[i].scale;
        if (n != 0)
            len += (size_t)snprintf(buf + len, GM_VALUE_TEXT_MAX - len, "%" PRIu64 "%s", n,
                                    parts[i].name);
    }
    if (ns == 0)
        (void)snprintf(buf, GM_VALUE_TEXT_MAX, "0s");
    return buf;
}

const char *gm_value_size_text(int64_t bytes, char buf[GM_VALUE_TEXT_MAX])
{
    const char *name = "";
    for (size_t i = 0; i < sizeof size_units / sizeof size_units[0]; i++) {
        if (bytes != 0 && bytes % size_units[i].scale == 0)
            name = size_units[i].name;
    }
    for (size_t i = 0; i < sizeof size_units / sizeof size_units[0]; i++) {
        if (strcmp(name, size_units[i].name) == 0)
            bytes /= size_units[i].scale;
    }
    (void)snprintf(buf, GM_VALUE_TEXT_MAX, "%" PRId64 "%s", bytes, name);
    return buf;
}
