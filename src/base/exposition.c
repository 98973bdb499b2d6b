/* Prometheus' text format. Owner: the thread that answers a scrape. Invariant: len <= cap, and
 * every line that has been begun is ended by its value. */
#include "base/exposition.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/counter.h"
#include "base/text.h"

#define PAGE_MIN 16384u

static bool make_room(struct gm_exposition *page, size_t len)
{
    if (page->failed)
        return false;
    if (len <= page->cap - page->len)
        return true;
    size_t cap = page->cap < PAGE_MIN ? PAGE_MIN : page->cap * 2;
    while (cap - page->len < len)
        cap *= 2;
    char *text = realloc(page->text, cap);
    if (text == NULL) {
        page->failed = true;
        return false;
    }
    page->text = text;
    page->cap = cap;
    return true;
}

static void put(struct gm_exposition *page, const char *bytes, size_t len)
{
    if (!make_room(page, len))
        return;
    memcpy(page->text + page->len, bytes, len);
    page->len += len;
}

static void put_str(struct gm_exposition *page, const char *text)
{
    put(page, text, strlen(text));
}

void gm_exposition_family(struct gm_exposition *page, const char *name, const char *type,
                          const char *help)
{
    put_str(page, "# HELP ");
    put_str(page, name);
    put_str(page, " ");
    put_str(page, help);
    put_str(page, ".\n# TYPE ");
    put_str(page, name);
    put_str(page, " ");
    put_str(page, type);
    put_str(page, "\n");
}

void gm_exposition_begin(struct gm_exposition *page, const char *name)
{
    put_str(page, name);
    page->labelled = false;
    if (page->constant != NULL)
        gm_exposition_label(page, page->constant, page->constant_value,
                            strlen(page->constant_value));
}

/* How many bytes from `s` on stand as they are, without a look at what they spell: nearly all. */
static size_t plain_run(const char *s, size_t left)
{
    size_t n = 0;
    while (n < left && (unsigned char)s[n] < 0x80 && s[n] != '\\' && s[n] != '"' && s[n] != '\n')
        n++;
    return n;
}

/* The piece that stands for the character at `s`; *taken: its bytes there. */
static const char *escape(const char *s, size_t left, size_t *taken, size_t *len)
{
    *taken = *len = gm_text_utf8_length((const unsigned char *)s, left);
    if (*taken == 0) {
        *taken = 1;
        *len = 3;
        return "\xEF\xBF\xBD"; /* U+FFFD */
    }
    const char *text = *s == '\\' ? "\\\\" : *s == '"' ? "\\\"" : *s == '\n' ? "\\n" : s;
    if (text != s)
        *len = 2;
    return text;
}

void gm_exposition_label(struct gm_exposition *page, const char *name, const char *value,
                         size_t len)
{
    put(page, page->labelled ? "," : "{", 1);
    page->labelled = true;
    put_str(page, name);
    put_str(page, "=\"");
    for (size_t at = 0; at < len;) {
        size_t taken = plain_run(value + at, len - at), piece_len;
        put(page, value + at, taken);
        at += taken;
        if (at == len)
            break;
        const char *piece = escape(value + at, len - at, &taken, &piece_len);
        put(page, piece, piece_len);
        at += taken;
    }
    put(page, "\"", 1);
}

static void end_labels(struct gm_exposition *page)
{
    put_str(page, page->labelled ? "} " : " ");
}

void gm_exposition_unsigned(struct gm_exposition *page, uint64_t value)
{
    char digits[24];
    struct gm_text text = {.at = digits, .cap = sizeof digits};
    end_labels(page);
    (void)gm_text_unsigned(&text, value);
    (void)gm_text_put(&text, "\n", 1);
    put(page, digits, text.len);
}

void gm_exposition_signed(struct gm_exposition *page, int64_t value)
{
    char digits[24];
    struct gm_text text = {.at = digits, .cap = sizeof digits};
    end_labels(page);
    (void)gm_text_signed(&text, value);
    (void)gm_text_put(&text, "\n", 1);
    put(page, digits, text.len);
}

void gm_exposition_seconds(struct gm_exposition *page, uint64_t ns)
{
    char text[40];
    end_labels(page);
    int len = snprintf(text, sizeof text, "%llu.%09llu\n", (unsigned long long)(ns / 1000000000u),
                       (unsigned long long)(ns % 1000000000u));
    put(page, text, (size_t)len);
}

/* ---- Raw counters ---- */

static uint64_t value_of(const struct gm_counter_set *set, unsigned block, enum gm_counter counter)
{
    return atomic_load_explicit(&gm_counter_block_of(set, block)->value[counter],
                                memory_order_relaxed);
}

static void put_ring(struct gm_exposition *page, const struct gm_counter_set *set, unsigned block)
{
    char index[12];
    if (block + 1u == set->block_count)
        (void)snprintf(index, sizeof index, "control");
    else
        (void)snprintf(index, sizeof index, "%u", block);
    gm_exposition_label(page, "ring", index, strlen(index));
}

static void put_counter(struct gm_exposition *page, const struct gm_counter_set *set,
                        enum gm_counter counter)
{
    bool gauge = gm_counter_kind_of(counter) == GM_COUNTER_KIND_GAUGE;
    char name[64];
    (void)snprintf(name, sizeof name, "gimlet_ring_%s%s", gm_counter_name(counter),
                   gauge ? "" : "_total");
    gm_exposition_family(page, name, gauge ? "gauge" : "counter", gm_counter_help(counter));
    if (gauge) {
        gm_exposition_begin(page, name);
        gm_exposition_signed(page, (int64_t)gm_counter_sum(set, counter));
        return;
    }
    for (unsigned i = 0; i < set->block_count; i++) {
        gm_exposition_begin(page, name);
        put_ring(page, set, i);
        gm_exposition_unsigned(page, value_of(set, i, counter));
    }
}

void gm_exposition_counters(struct gm_exposition *page, const struct gm_counter_set *set)
{
    for (unsigned c = 0; c < GM_COUNTER_COUNT; c++)
        put_counter(page, set, (enum gm_counter)c);
}
