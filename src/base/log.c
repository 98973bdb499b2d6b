/*
 * The log: formats a line where it is said, hands it over by a bounded queue, writes it elsewhere.
 *
 * Any thread formats and queues; base/lines.c writes. Invariants: a line is at most one record long
 * and always ends in a newline. Settings and clock are written before threads log.
 */
#include "base/log.h"

#include <errno.h>
#include <stdalign.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/counter.h"
#include "base/error.h"
#include "base/lines.h"
#include "base/text.h"

#define NS_PER_SECOND UINT64_C(1000000000)

/* A record is this text behind its lap and length. */
#define RECORD_TEXT_MAX GM_LINES_TEXT_MAX(GM_LOG_RECORD_BYTES)
/* What follows the fields of a JSON line: suppressed, time and the message. */
#define TAIL_MAX 400u

/* ---- state ------------------------------------------------------------------------------------
 */

_Atomic int gm_log_level_min = GM_LOG_INFO;

static void system_now(void *user, uint64_t *monotonic_ns, int64_t *wall_seconds);

/* Written by configure and set_clock before threads log; read by every thread. */
static struct {
    enum gm_log_format format;
    uint32_t rate;
    bool colour;
    size_t context_len;
    char context[GM_LOG_CONTEXT_MAX];
    struct gm_log_clock clock;
} settings = {.clock = {.now = system_now}};

static bool report_lost(struct gm_lines *lines, uint64_t lost);

static alignas(64) char records[GM_LOG_QUEUE_RECORDS * GM_LOG_RECORD_BYTES];
static struct gm_lines queue = {.records = records,
                                .count = GM_LOG_QUEUE_RECORDS,
                                .record_bytes = GM_LOG_RECORD_BYTES,
                                .fd = STDOUT_FILENO,
                                .report = report_lost};
_Static_assert(GM_LOG_RECORD_BYTES * 4 <= GM_LINES_BATCH_BYTES, "four lines fit one write");

/* ---- time -------------------------------------------------------------------------------------
 */

static uint64_t monotonic_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_SECOND + (uint64_t)t.tv_nsec;
}

static void system_now(void *user, uint64_t *monotonic_ns, int64_t *wall_seconds)
{
    (void)user;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    *wall_seconds = t.tv_sec;
    *monotonic_ns = monotonic_now();
}

/* ---- lines ------------------------------------------------------------------------------------
 */

/* Nanoseconds as milliseconds: whole ones, then at most three decimals without trailing zeros. */
static bool put_milliseconds(struct gm_text *line, int64_t ns)
{
    uint64_t us = gm_text_magnitude(ns) / 1000;
    if (ns < 0 && us != 0 && !gm_text_put(line, "-", 1))
        return false;
    if (!gm_text_unsigned(line, us / 1000))
        return false;
    unsigned rest = (unsigned)(us % 1000);
    char decimals[4] = {'.', (char)('0' + rest / 100), (char)('0' + rest / 10 % 10),
                        (char)('0' + rest % 10)};
    size_t len = sizeof decimals;
    while (len > 1 && decimals[len - 1] == '0')
        len--;
    return len == 1 || gm_text_put(line, decimals, len);
}

static void two_digits(char *at, unsigned n)
{
    at[0] = (char)('0' + n / 10 % 10);
    at[1] = (char)('0' + n % 10);
}

/* RFC 3339 in UTC with seconds. Days to year-month-day over eras of 400 years that begin in March,
 * so that the leap day is the last of its year. Years 0 to 9999; others are clamped. */
bool gm_log_put_time(struct gm_text *line, int64_t seconds)
{
    const int64_t first = INT64_C(-62167219200), last = INT64_C(253402300799);
    seconds = seconds < first ? first : seconds > last ? last : seconds;
    uint64_t since = (uint64_t)(seconds - first); /* from 0000-01-01 */
    unsigned day_seconds = (unsigned)(since % 86400);
    uint64_t days = since / 86400 + 146097 - 60; /* from the 1st of March of the year -400 */
    unsigned era = (unsigned)(days / 146097), in_era = (unsigned)(days % 146097);
    unsigned year_of_era = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    unsigned in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned shifted = (5 * in_year + 2) / 153; /* 0 = March */
    unsigned day = in_year - (153 * shifted + 2) / 5 + 1;
    unsigned month = shifted < 10 ? shifted + 3 : shifted - 9;
    unsigned year = era * 400 + year_of_era + (month <= 2 ? 1 : 0) - 400;

    char text[20] = "0000-00-00T00:00:00Z";
    two_digits(text, year / 100);
    two_digits(text + 2, year % 100);
    two_digits(text + 5, month);
    two_digits(text + 8, day);
    two_digits(text + 11, day_seconds / 3600);
    two_digits(text + 14, day_seconds / 60 % 60);
    two_digits(text + 17, day_seconds % 60);
    return gm_text_put(line, text, sizeof text);
}

/* Console text stands bare where that is unambiguous. */
static bool is_bare(const char *text, size_t len)
{
    if (len == 0 || len > GM_LOG_VALUE_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] <= ' ' || text[i] >= 0x7F || text[i] == '"' || text[i] == '\\' ||
            text[i] == '=')
            return false;
    }
    return true;
}

static bool put_string(struct gm_text *line, const char *text, size_t len)
{
    if (settings.format == GM_LOG_CONSOLE && is_bare(text, len) && len <= line->cap - line->len)
        return gm_text_put(line, text, len);
    return gm_text_json(line, text, len, GM_LOG_VALUE_MAX);
}

static bool put_value(struct gm_text *line, const struct gm_log_field *field)
{
    switch (field->kind) {
    case GM_LOG_KIND_TEXT:
    case GM_LOG_KIND_ERROR_TEXT:
        return put_string(line, field->value.text, field->text_len);
    case GM_LOG_KIND_INT:
        return gm_text_signed(line, field->value.i);
    case GM_LOG_KIND_UINT:
        return gm_text_unsigned(line, field->value.u);
    case GM_LOG_KIND_BOOL:
        return gm_text_str(line, field->value.u != 0 ? "true" : "false");
    case GM_LOG_KIND_NS:
        return put_milliseconds(line, field->value.i);
    case GM_LOG_KIND_ERRNO: {
        int code = (int)field->value.i;
        const char *text = gm_error_text(code < 0 ? code : -code);
        return put_string(line, text, strlen(text));
    }
    case GM_LOG_KIND_NONE:
        break;
    }
    return true;
}

static bool put_key(struct gm_text *line, const char *key)
{
    if (settings.format == GM_LOG_JSON)
        return gm_text_put(line, ",\"", 2) && gm_text_str(line, key) && gm_text_put(line, "\":", 2);
    if (settings.colour)
        return gm_text_str(line, " \033[36m") && gm_text_str(line, key) &&
               gm_text_str(line, "=\033[0m");
    return gm_text_put(line, " ", 1) && gm_text_str(line, key) && gm_text_put(line, "=", 1);
}

/* A field stands whole or not at all; its text may be shortened. After one that found no room
 * there are no more: a reader should not take a gap for the whole. */
static void put_field(struct gm_text *line, const struct gm_log_field *field)
{
    if (field->kind == GM_LOG_KIND_NONE)
        return;
    size_t before = line->len;
    if (!put_key(line, field->key) || !put_value(line, field)) {
        line->len = before;
        line->cap = before;
        line->cut = true;
    }
}

static bool is_error(const struct gm_log_field *field)
{
    return field->kind == GM_LOG_KIND_ERROR_TEXT || field->kind == GM_LOG_KIND_ERRNO;
}

/* The fields in order, `error` last. */
static void put_fields(struct gm_text *line, const struct gm_log_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!is_error(&fields[i]))
            put_field(line, &fields[i]);
    }
    for (size_t i = 0; i < count; i++) {
        if (is_error(&fields[i]))
            put_field(line, &fields[i]);
    }
}

/* What a line says. */
struct event {
    const char *message;
    const struct gm_log_field *fields;
    size_t field_count;
    uint64_t suppressed;
    int64_t wall_seconds;
    enum gm_log_level level;
};

/* The end of the line is made first: it must stand whatever the fields need. */
static size_t format_json(const struct event *event, char *buf)
{
    static const char *const names[] = {"debug", "info", "warn", "error", "fatal"};
    static const char cut_mark[] = ",\"truncated\":true";
    char tail_text[TAIL_MAX];
    struct gm_text tail = {.at = tail_text, .cap = TAIL_MAX - 2};
    struct gm_log_field suppressed = GM_UINT("suppressed", event->suppressed);
    if (event->suppressed != 0)
        put_field(&tail, &suppressed);
    (void)(gm_text_str(&tail, ",\"time\":\"") && gm_log_put_time(&tail, event->wall_seconds) &&
           gm_text_str(&tail, "\",\"message\":"));
    (void)gm_text_json(&tail, event->message, strlen(event->message), GM_LOG_MESSAGE_MAX);
    tail.cap = TAIL_MAX;
    (void)gm_text_put(&tail, "}\n", 2);

    struct gm_text line = {.at = buf, .cap = RECORD_TEXT_MAX - tail.len - (sizeof cut_mark - 1)};
    (void)(gm_text_str(&line, "{\"level\":\"") && gm_text_str(&line, names[event->level]) &&
           gm_text_put(&line, "\"", 1) &&
           gm_text_put(&line, settings.context, settings.context_len));
    put_fields(&line, event->fields, event->field_count);
    line.cap = RECORD_TEXT_MAX;
    if (line.cut || tail.cut)
        (void)gm_text_put(&line, cut_mark, sizeof cut_mark - 1);
    (void)gm_text_put(&line, tail.at, tail.len);
    return line.len;
}

static bool put_console_message(struct gm_text *line, const char *message)
{
    size_t len = strnlen(message, GM_LOG_MESSAGE_MAX + 1);
    for (size_t i = 0; i < len; i++) {
        if (message[i] < ' ' || message[i] >= 0x7F || len > GM_LOG_MESSAGE_MAX)
            return gm_text_json(line, message, strlen(message), GM_LOG_MESSAGE_MAX);
    }
    return gm_text_put(line, message, len);
}

static size_t format_console(const struct event *event, char *buf)
{
    static const char *const plain[] = {"DBG", "INF", "WRN", "ERR", "FTL"};
    static const char *const coloured[] = {"\033[35mDBG\033[0m", "\033[32mINF\033[0m",
                                           "\033[33mWRN\033[0m", "\033[31mERR\033[0m",
                                           "\033[1;31mFTL\033[0m"};
    static const char cut_mark[] = " truncated=true";
    char tail_text[64];
    struct gm_text tail = {.at = tail_text, .cap = sizeof tail_text - 1};
    struct gm_log_field suppressed = GM_UINT("suppressed", event->suppressed);
    if (event->suppressed != 0)
        put_field(&tail, &suppressed);
    tail.cap = sizeof tail_text;
    (void)gm_text_put(&tail, "\n", 1);

    struct gm_text line = {.at = buf, .cap = RECORD_TEXT_MAX - tail.len - (sizeof cut_mark - 1)};
    (void)(gm_log_put_time(&line, event->wall_seconds) && gm_text_put(&line, " ", 1) &&
           gm_text_str(&line, settings.colour ? coloured[event->level] : plain[event->level]) &&
           gm_text_put(&line, " ", 1) && put_console_message(&line, event->message) &&
           gm_text_put(&line, settings.context, settings.context_len));
    put_fields(&line, event->fields, event->field_count);
    line.cap = RECORD_TEXT_MAX;
    if (line.cut)
        (void)gm_text_put(&line, cut_mark, sizeof cut_mark - 1);
    (void)gm_text_put(&line, tail.at, tail.len);
    return line.len;
}

/* The whole line with its newline; `buf` holds RECORD_TEXT_MAX. Returns its length. */
static size_t format_line(const struct event *event, char *buf)
{
    return settings.format == GM_LOG_JSON ? format_json(event, buf) : format_console(event, buf);
}

/* ---- lost lines -------------------------------------------------------------------------------
 */

static bool report_lost(struct gm_lines *lines, uint64_t lost)
{
    struct gm_log_field field = GM_UINT("lines", lost);
    struct event event = {.message = "log lines were dropped: the log is read too slowly",
                          .fields = &field,
                          .field_count = 1,
                          .level = GM_LOG_WARN};
    uint64_t unused;
    settings.clock.now(settings.clock.user, &unused, &event.wall_seconds);
    char text[RECORD_TEXT_MAX];
    return gm_lines_write(lines, text, format_line(&event, text), 0);
}

/* ---- public -----------------------------------------------------------------------------------
 */

int gm_log_configure(const struct gm_log_options *options)
{
    settings.format = options->format;
    queue.fd = options->fd;
    settings.rate = options->rate;
    settings.colour = options->format == GM_LOG_CONSOLE && isatty(options->fd) == 1;
    struct gm_text line = {.at = settings.context, .cap = GM_LOG_CONTEXT_MAX};
    put_fields(&line, options->context, options->context_count);
    settings.context_len = line.cut ? 0 : line.len;
    atomic_store_explicit(&gm_log_level_min, (int)options->level, memory_order_relaxed);
    return line.cut ? -ENOSPC : 0;
}

void gm_log_set_clock(const struct gm_log_clock *clock)
{
    settings.clock = clock != NULL ? *clock : (struct gm_log_clock){.now = system_now};
}

int gm_log_start(bool with_thread)
{
    return gm_lines_start(&queue, with_thread ? "gimlet-log" : NULL);
}

int gm_log_pump(int timeout_ms)
{
    return gm_lines_pump(&queue, timeout_ms);
}

void gm_log_stop(void)
{
    gm_lines_stop(&queue);
}

uint64_t gm_log_dropped(void)
{
    return gm_lines_lost(&queue);
}

/* Not inlined: where the caller's array is shorter than the bound, gcc 12 takes strnlen's bound for
 * its reach. */
__attribute__((noinline)) struct gm_log_field gm_log_field_text_(const char *key, const char *text)
{
    const char *value = text != NULL ? text : "";
    return GM_STRN(key, value, strnlen(value, GM_LOG_VALUE_MAX + 1));
}

struct gm_log_field gm_log_field_error_(const char *text)
{
    struct gm_log_field field = gm_log_field_text_("error", text);
    field.kind = GM_LOG_KIND_ERROR_TEXT;
    return field;
}

/* Takes one token from the site's bucket. The bucket is the time at which it would be full again
 * (the generic cell rate algorithm): a second's worth of lines at once, then one per interval. */
static bool site_may_speak(struct gm_log_site *site, uint64_t now_ns)
{
    if (settings.rate == 0)
        return true;
    uint64_t interval_ns = NS_PER_SECOND / settings.rate;
    uint64_t due = atomic_load_explicit(&site->due_ns, memory_order_relaxed);
    uint64_t next;
    do {
        next = (due > now_ns ? due : now_ns) + interval_ns;
        if (next > now_ns + NS_PER_SECOND)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&site->due_ns, &due, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

/* Formats into a claimed record and publishes it. False when there is no free record. */
static bool enqueue(const struct event *event)
{
    uint64_t position;
    struct gm_line *line = gm_lines_claim(&queue, &position);
    if (line == NULL)
        return false;
    gm_lines_publish(&queue, position, (uint32_t)format_line(event, line->text));
    return true;
}

void gm_log_write(struct gm_log_site *site, enum gm_log_level level, const char *message,
                  const struct gm_log_field *fields, size_t field_count)
{
    struct event event = {
        .message = message, .fields = fields, .field_count = field_count, .level = level};
    uint64_t now_ns;
    settings.clock.now(settings.clock.user, &now_ns, &event.wall_seconds);
    if (level != GM_LOG_FATAL && !site_may_speak(site, now_ns)) {
        atomic_fetch_add_explicit(&site->suppressed, 1, memory_order_relaxed);
        return;
    }
    event.suppressed = atomic_exchange_explicit(&site->suppressed, 0, memory_order_relaxed);
    if (!gm_lines_queued(&queue)) {
        char text[RECORD_TEXT_MAX];
        (void)gm_lines_write(&queue, text, format_line(&event, text), 1);
    } else if (!enqueue(&event)) {
        gm_lines_lose(&queue, 1);
        gm_counter_add(GM_COUNTER_LOG_LINES_DROPPED, 1);
    }
}
