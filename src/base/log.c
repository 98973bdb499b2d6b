/*
 * The log: formats a line where it is said, hands it over by a bounded queue, writes it elsewhere.
 *
 * Any thread formats and queues; one consumer at a time writes (the `consuming` flag is its role).
 * Invariants: a record is owned by the producer that claimed it until it publishes the filled lap,
 * then by the consumer until it publishes the next free lap. A line is at most one record long and
 * always ends in a newline. Settings and clock are written before threads log.
 */
#include "base/log.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdalign.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/counter.h"
#include "base/error.h"
#include "base/text.h"

#define NS_PER_SECOND UINT64_C(1000000000)
#define NS_PER_MS     UINT64_C(1000000)

/* A record is this text behind its lap and length. */
#define RECORD_TEXT_MAX (GM_LOG_RECORD_BYTES - 16u)
/* What follows the fields of a JSON line: suppressed, time and the message. */
#define TAIL_MAX 400u
/* One write takes what a pipe that polls writable takes without blocking (PIPE_BUF). */
#define BATCH_BYTES 4096u
/* The background thread naps this long after writing, so that a burst costs its ring no wake-up. */
#define NAP_NS (10 * NS_PER_MS)
/* An idle background thread looks at its stop flag at least this often; a stop wakes it anyway. */
#define IDLE_MS 60000
/* How often drops are reported, and how long gm_log_stop waits for a reader that does not read. */
#define DROP_REPORT_NS NS_PER_SECOND
#define STOP_LIMIT_NS  NS_PER_SECOND

/* ---- state ------------------------------------------------------------------------------------
 */

_Atomic int gm_log_level_min = GM_LOG_INFO;

static void system_now(void *user, uint64_t *monotonic_ns, int64_t *wall_seconds);

/* Written by configure and set_clock before threads log; read by every thread. */
static struct {
    enum gm_log_format format;
    int fd;
    uint32_t rate;
    bool colour;
    size_t context_len;
    char context[GM_LOG_CONTEXT_MAX];
    struct gm_log_clock clock;
} settings = {.fd = STDOUT_FILENO, .clock = {.now = system_now}};

/* `lap` is 2L while the record is free for round L of the queue and 2L+1 while it is filled. The
 * producer that claimed the position stores the odd value (release: publishes the text), the
 * consumer the next even one (release: gives the text back); both load with acquire. */
struct log_record {
    alignas(64) _Atomic uint64_t lap;
    uint32_t len;
    char text[RECORD_TEXT_MAX];
};
_Static_assert(sizeof(struct log_record) == GM_LOG_RECORD_BYTES, "a record has its named size");
_Static_assert((GM_LOG_QUEUE_RECORDS & (GM_LOG_QUEUE_RECORDS - 1)) == 0, "a power of two");
_Static_assert(RECORD_TEXT_MAX * 4 <= BATCH_BYTES, "four lines fit one write");

enum consumer_state {
    CONSUMER_NONE,   /* lines are written by whoever says them */
    CONSUMER_AWAKE,  /* it will look at the queue by itself */
    CONSUMER_ASLEEP, /* it waits on the futex `consumer` */
};

static struct log_record records[GM_LOG_QUEUE_RECORDS];
/* Next position to claim. Producers, relaxed compare-exchange: the laps order everything else. */
static alignas(64) _Atomic uint64_t queue_tail;
/* Next position to read. Only the holder of `consuming` touches it. */
static alignas(64) uint64_t queue_head;
/* enum consumer_state. Producers look at it by a read-modify-write after publishing, the consumer
 * falls asleep by one before its last look at the queue: whichever comes second sees the other. */
static alignas(64) _Atomic uint32_t consumer;
/* 1 while a thread holds the consumer's role; taken and given back by acq_rel exchange. */
static _Atomic uint32_t consuming;
/* Lines lost; relaxed, any thread. */
static _Atomic uint64_t dropped;

/* The holder of `consuming` only. */
static uint64_t drops_reported;
static uint64_t drops_reported_ns;

/* The background thread. `thread_running` belongs to the thread that calls start and stop. */
static pthread_t thread;
static bool thread_running;
/* Set by gm_log_stop (release), read by the background thread (acquire). */
static _Atomic bool stopping;
/* Monotonic time at which a consumer stops waiting for the file; 0 = never. Relaxed. */
static _Atomic uint64_t give_up_ns;

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
static bool put_time(struct gm_text *line, int64_t seconds)
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
    (void)(gm_text_str(&tail, ",\"time\":\"") && put_time(&tail, event->wall_seconds) &&
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
    (void)(put_time(&line, event->wall_seconds) && gm_text_put(&line, " ", 1) &&
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

/* ---- writing ----------------------------------------------------------------------------------
 */

/* Waits until the file takes bytes. False when a stop has run out of patience. */
static bool wait_writable(void)
{
    for (;;) {
        uint64_t limit = atomic_load_explicit(&give_up_ns, memory_order_relaxed);
        bool late = limit != 0 && monotonic_now() >= limit;
        struct pollfd file = {.fd = settings.fd, .events = POLLOUT};
        if (poll(&file, 1, late ? 0 : 100) > 0)
            return true;
        if (late)
            return false;
    }
}

/* All of it, or false: the file is broken, or nobody reads and a stop gave up. */
static bool write_all(const char *text, size_t len)
{
    while (len > 0) {
        if (!wait_writable())
            return false;
        ssize_t n = write(settings.fd, text, len);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return false;
        if (n > 0) {
            text += n;
            len -= (size_t)n;
        }
    }
    return true;
}

static void count_dropped(uint64_t lines)
{
    atomic_fetch_add_explicit(&dropped, lines, memory_order_relaxed);
}

static void write_lines(const char *text, size_t len, unsigned lines)
{
    if (!write_all(text, len))
        count_dropped(lines);
}

/* ---- queue ------------------------------------------------------------------------------------
 */

static struct log_record *record_at(uint64_t position)
{
    return &records[position & (GM_LOG_QUEUE_RECORDS - 1)];
}

static uint64_t free_lap(uint64_t position)
{
    return position / GM_LOG_QUEUE_RECORDS * 2;
}

/* Claims the next position; NULL when the queue is full. */
static struct log_record *queue_claim(uint64_t *position)
{
    uint64_t at = atomic_load_explicit(&queue_tail, memory_order_relaxed);
    for (;;) {
        struct log_record *record = record_at(at);
        uint64_t lap = atomic_load_explicit(&record->lap, memory_order_acquire);
        if (lap < free_lap(at))
            return NULL;
        if (lap > free_lap(at)) { /* another producer was faster */
            at = atomic_load_explicit(&queue_tail, memory_order_relaxed);
            continue;
        }
        if (atomic_compare_exchange_weak_explicit(&queue_tail, &at, at + 1, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            *position = at;
            return record;
        }
    }
}

/* The next filled record, or NULL. Consumer. */
static struct log_record *queue_front(void)
{
    struct log_record *record = record_at(queue_head);
    uint64_t lap = atomic_load_explicit(&record->lap, memory_order_acquire);
    return lap == free_lap(queue_head) + 1 ? record : NULL;
}

/* Copies up to one batch out of the queue. Returns the number of lines. */
static unsigned queue_take_batch(char *batch, size_t *batch_len)
{
    unsigned lines = 0;
    struct log_record *record;
    *batch_len = 0;
    while ((record = queue_front()) != NULL && record->len <= BATCH_BYTES - *batch_len) {
        memcpy(batch + *batch_len, record->text, record->len);
        *batch_len += record->len;
        lines++;
        atomic_store_explicit(&record->lap, free_lap(queue_head) + 2, memory_order_release);
        queue_head++;
    }
    return lines;
}

/* Says how many lines were lost, at most once per second. */
static void report_drops(void)
{
    uint64_t total = atomic_load_explicit(&dropped, memory_order_relaxed);
    uint64_t now_ns = monotonic_now();
    if (total == drops_reported || now_ns < drops_reported_ns + DROP_REPORT_NS)
        return;
    struct gm_log_field lines = GM_UINT("lines", total - drops_reported);
    struct event event = {.message = "log lines were dropped: the log is read too slowly",
                          .fields = &lines,
                          .field_count = 1,
                          .level = GM_LOG_WARN};
    uint64_t unused;
    settings.clock.now(settings.clock.user, &unused, &event.wall_seconds);
    char text[RECORD_TEXT_MAX];
    size_t len = format_line(&event, text);
    drops_reported_ns = now_ns;
    if (write_all(text, len))
        drops_reported = total;
}

/* ---- consumer ---------------------------------------------------------------------------------
 */

static bool take_role(void)
{
    return atomic_exchange_explicit(&consuming, 1, memory_order_acq_rel) == 0;
}

static void give_role_back(void)
{
    (void)atomic_exchange_explicit(&consuming, 0, memory_order_acq_rel);
}

/* Writes everything that is queued. Holder of the role. */
static int drain(void)
{
    char batch[BATCH_BYTES];
    size_t len;
    unsigned lines;
    int total = 0;
    while ((lines = queue_take_batch(batch, &len)) > 0) {
        write_lines(batch, len, lines);
        total += (int)lines;
        report_drops();
    }
    report_drops();
    return total;
}

/* Drains in the absence of a consumer. A producer that published while another held the role has
 * failed to take it by a read-modify-write that our giving it back comes after: so look again. */
static void drain_leftovers(void)
{
    bool more = true;
    while (more && take_role()) {
        (void)drain();
        more = queue_front() != NULL;
        give_role_back();
        if (!more && take_role()) {
            more = queue_front() != NULL;
            give_role_back();
        }
    }
}

static void futex_wait(uint32_t expected, int timeout_ms)
{
    struct timespec limit = {.tv_sec = timeout_ms / 1000,
                             .tv_nsec = (long)(timeout_ms % 1000) * (long)NS_PER_MS};
    (void)syscall(SYS_futex, &consumer, FUTEX_WAIT_PRIVATE, expected, &limit, NULL, 0);
}

/* True if the consumer was asleep and is on its way. One system call then, none otherwise. */
static bool wake_consumer(void)
{
    uint32_t expected = CONSUMER_ASLEEP;
    if (!atomic_compare_exchange_strong_explicit(&consumer, &expected, CONSUMER_AWAKE,
                                                 memory_order_acq_rel, memory_order_relaxed))
        return false;
    (void)syscall(SYS_futex, &consumer, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    return true;
}

/* Falls asleep unless a line arrived meanwhile. A stop in progress (NONE) is left alone. */
static void consumer_sleep(int timeout_ms)
{
    uint32_t expected = CONSUMER_AWAKE;
    if (!atomic_compare_exchange_strong_explicit(&consumer, &expected, CONSUMER_ASLEEP,
                                                 memory_order_acq_rel, memory_order_relaxed))
        return;
    if (queue_front() == NULL && !atomic_load_explicit(&stopping, memory_order_acquire))
        futex_wait(CONSUMER_ASLEEP, timeout_ms);
    expected = CONSUMER_ASLEEP;
    (void)atomic_compare_exchange_strong_explicit(&consumer, &expected, CONSUMER_AWAKE,
                                                  memory_order_acq_rel, memory_order_relaxed);
}

int gm_log_pump(int timeout_ms)
{
    GM_ASSERT(timeout_ms >= 0 && timeout_ms <= IDLE_MS);
    if (!take_role())
        return -EBUSY;
    int lines = drain();
    if (lines == 0 && timeout_ms > 0) {
        bool unreported = atomic_load_explicit(&dropped, memory_order_relaxed) != drops_reported;
        consumer_sleep(unreported && timeout_ms > 1000 ? 1000 : timeout_ms);
        lines = drain();
    }
    give_role_back();
    return lines;
}

static void *log_thread(void *unused)
{
    (void)unused;
    const struct timespec nap = {.tv_nsec = NAP_NS};
    while (!atomic_load_explicit(&stopping, memory_order_acquire)) {
        if (gm_log_pump(IDLE_MS) != 0)
            (void)nanosleep(&nap, NULL);
    }
    return NULL;
}

/* ---- public -----------------------------------------------------------------------------------
 */

int gm_log_configure(const struct gm_log_options *options)
{
    settings.format = options->format;
    settings.fd = options->fd;
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
    GM_ASSERT(atomic_load_explicit(&consumer, memory_order_relaxed) == CONSUMER_NONE);
    atomic_store_explicit(&stopping, false, memory_order_relaxed);
    atomic_store_explicit(&give_up_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&consumer, CONSUMER_AWAKE, memory_order_release);
    if (!with_thread)
        return 0;
    int rc = pthread_create(&thread, NULL, log_thread, NULL);
    if (rc != 0) {
        atomic_store_explicit(&consumer, CONSUMER_NONE, memory_order_release);
        return -rc;
    }
    (void)pthread_setname_np(thread, "gimlet-log");
    thread_running = true;
    return 0;
}

void gm_log_stop(void)
{
    const struct timespec pause = {.tv_nsec = NS_PER_MS};
    uint64_t limit = monotonic_now() + STOP_LIMIT_NS;
    atomic_store_explicit(&give_up_ns, limit, memory_order_relaxed);
    atomic_store_explicit(&stopping, true, memory_order_release);
    (void)wake_consumer();
    if (thread_running) {
        (void)pthread_join(thread, NULL);
        thread_running = false;
    }
    (void)atomic_exchange_explicit(&consumer, CONSUMER_NONE, memory_order_acq_rel);
    bool mine = take_role();
    while (!mine && monotonic_now() < limit) { /* another thread is in gm_log_pump */
        (void)nanosleep(&pause, NULL);
        mine = take_role();
    }
    if (mine) {
        drops_reported_ns = 0;
        (void)drain();
        give_role_back();
        drain_leftovers();
    }
    atomic_store_explicit(&give_up_ns, 0, memory_order_relaxed);
}

uint64_t gm_log_dropped(void)
{
    return atomic_load_explicit(&dropped, memory_order_relaxed);
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
    struct log_record *record = queue_claim(&position);
    if (record == NULL)
        return false;
    record->len = (uint32_t)format_line(event, record->text);
    atomic_store_explicit(&record->lap, free_lap(position) + 1, memory_order_release);
    uint32_t state = atomic_fetch_add_explicit(&consumer, 0, memory_order_acq_rel);
    if (state == CONSUMER_ASLEEP)
        (void)wake_consumer();
    else if (state == CONSUMER_NONE)
        drain_leftovers();
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
    if (atomic_load_explicit(&consumer, memory_order_relaxed) == CONSUMER_NONE) {
        char text[RECORD_TEXT_MAX];
        write_lines(text, format_line(&event, text), 1);
    } else if (!enqueue(&event)) {
        count_dropped(1);
        gm_counter_add(GM_COUNTER_LOG_LINES_DROPPED, 1);
    }
}
