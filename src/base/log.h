/*
 * The log: one line per event, JSON or console text, on standard output, never blocking a ring.
 *
 *     gm_log_info("listening", GM_STR("address", address), GM_INT("port", port));
 *     gm_log_error("cannot read the token", GM_STR("file", path), GM_ERRNO(rc));
 *
 * A line that is filtered out by level costs one relaxed load. A line that is wanted passes its
 * call site's token bucket, is formatted into a fixed record of a bounded lock-free queue and is
 * written by one consumer: the log's own thread (gm_log_start) or whoever calls gm_log_pump. A full
 * queue drops the line, counts it (counter log_lines_dropped) and reports the number once per
 * second. Before gm_log_start and after gm_log_stop lines are written at once by the caller. JSON
 * order: level, fields, error, [truncated], [suppressed], time (RFC 3339, seconds), message. One
 * log per process. Message and key are literals; no allocation, no printf format anywhere.
 */
#ifndef GM_BASE_LOG_H
#define GM_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum gm_log_level {
    GM_LOG_DEBUG = 0,
    GM_LOG_INFO = 1,
    GM_LOG_WARN = 2,
    GM_LOG_ERROR = 3,
    GM_LOG_FATAL = 4,
};

enum gm_log_format {
    GM_LOG_JSON = 0,
    GM_LOG_CONSOLE = 1, /* `time LVL message key=value`, coloured when the file is a terminal */
};

/* One record: a line, its newline and its header in 1 KiB; four whole lines fit PIPE_BUF, which is
 * what one write to a pipe that polls writable takes without blocking. */
#define GM_LOG_RECORD_BYTES 1024u
/* Records in the queue: 1 MiB of text that a slow reader may lag behind. A power of two. */
#define GM_LOG_QUEUE_RECORDS 1024u
/* Longest value of one field and longest message, in bytes before escaping; more is cut with "…".
 */
#define GM_LOG_VALUE_MAX   512u
#define GM_LOG_MESSAGE_MAX 160u
/* Room for the fields that every line carries (gm_log_options.context), already formatted. */
#define GM_LOG_CONTEXT_MAX 128u

enum gm_log_kind {
    GM_LOG_KIND_NONE,
    GM_LOG_KIND_TEXT,
    GM_LOG_KIND_INT,
    GM_LOG_KIND_UINT,
    GM_LOG_KIND_BOOL,
    GM_LOG_KIND_NS,         /* nanoseconds, printed as milliseconds with up to three decimals */
    GM_LOG_KIND_ERROR_TEXT, /* key "error", printed after all other fields */
    GM_LOG_KIND_ERRNO,      /* key "error": a positive or negative errno, printed as its text */
};

struct gm_log_field {
    const char *key;
    uint32_t text_len;
    enum gm_log_kind kind;
    union {
        const char *text; /* borrowed until the call returns */
        int64_t i;
        uint64_t u;
    } value;
};

/* Field makers. GM_STR accepts NULL (printed as an empty string). Text may hold any bytes. */
#define GM_STR(key_, text_) gm_log_field_text_((key_), (text_))
#define GM_STRN(key_, ptr_, len_)                                                                  \
    ((struct gm_log_field){.key = (key_),                                                          \
                           .kind = GM_LOG_KIND_TEXT,                                               \
                           .text_len = (uint32_t)(len_),                                           \
                           .value.text = (ptr_)})
#define GM_INT(key_, n_)                                                                           \
    ((struct gm_log_field){.key = (key_), .kind = GM_LOG_KIND_INT, .value.i = (int64_t)(n_)})
#define GM_UINT(key_, n_)                                                                          \
    ((struct gm_log_field){.key = (key_), .kind = GM_LOG_KIND_UINT, .value.u = (uint64_t)(n_)})
#define GM_BOOL(key_, b_)                                                                          \
    ((struct gm_log_field){.key = (key_), .kind = GM_LOG_KIND_BOOL, .value.u = (b_) ? 1u : 0u})
#define GM_NS(key_, ns_)                                                                           \
    ((struct gm_log_field){.key = (key_), .kind = GM_LOG_KIND_NS, .value.i = (int64_t)(ns_)})
#define GM_ERRTEXT(text_) gm_log_field_error_((text_))
#define GM_ERRNO(err_)                                                                             \
    ((struct gm_log_field){.key = "error", .kind = GM_LOG_KIND_ERRNO, .value.i = (int64_t)(err_)})

/* A call site's token bucket, one static object per gm_log_* in the source. Any thread reads and
 * writes both with relaxed order; they publish nothing. `due_ns` is the bucket as one number: the
 * monotonic time at which it would be full again. */
struct gm_log_site {
    _Atomic uint64_t due_ns;
    _Atomic uint64_t suppressed;
};

/* Time for the lines and the buckets. Called by any logging thread; must not log. */
struct gm_log_clock {
    void (*now)(void *user, uint64_t *monotonic_ns, int64_t *wall_seconds);
    void *user;
};

struct gm_log_options {
    enum gm_log_level level;
    enum gm_log_format format;
    int fd;        /* 1 = standard output */
    uint32_t rate; /* lines per second and call site; a burst of as many; 0 = no limit */
    const struct gm_log_field *context; /* in every line, e.g. serverID; borrowed until return */
    size_t context_count;
};

/* Lowest level that is written. Written by gm_log_configure, read by every thread, relaxed. */
extern _Atomic int gm_log_level_min;

/* Sets level, format, file, rate and context. Before threads log. Returns 0, or -ENOSPC when the
 * context does not fit GM_LOG_CONTEXT_MAX (the rest of the options are set all the same). */
int gm_log_configure(const struct gm_log_options *options);

/* Replaces the clock (simulation); NULL restores the system's. Before threads log. */
void gm_log_set_clock(const struct gm_log_clock *clock);

/* Switches to the queue. With `thread` true one background thread writes; with false the caller
 * promises to call gm_log_pump. Returns 0 or -errno of pthread_create (still synchronous then). */
__attribute__((warn_unused_result)) int gm_log_start(bool thread);

/* Writes what is queued, waiting up to timeout_ms for a first line (0 = do not wait, at most
 * 60000). The consumer's side: one thread at a time. Returns the number of lines written, or -EBUSY
 * while another thread consumes. May block in write only if the file ignores poll. */
int gm_log_pump(int timeout_ms);

/* Ends the background thread, writes what is queued (giving up after one second if nobody reads)
 * and returns to synchronous lines. Other threads may still log meanwhile. */
void gm_log_stop(void);

/* Lines dropped since start because the queue was full or the file refused them. */
uint64_t gm_log_dropped(void);

struct gm_text;
/* Appends the 20 characters of an RFC 3339 time in UTC, to the second; years 0 to 9999. */
bool gm_log_put_time(struct gm_text *line, int64_t seconds);

/* The work behind the macros: rate limit, format, queue or write. Any thread. `fields` holds
 * `field_count` entries, NONE entries are skipped; borrowed. */
void gm_log_write(struct gm_log_site *site, enum gm_log_level level, const char *message,
                  const struct gm_log_field *fields, size_t field_count);

static inline bool gm_log_enabled(enum gm_log_level level)
{
    return (int)level >= atomic_load_explicit(&gm_log_level_min, memory_order_relaxed);
}

struct gm_log_field gm_log_field_text_(const char *key, const char *text);
struct gm_log_field gm_log_field_error_(const char *text);

/* The arguments are evaluated only when the level is wanted. */
#define GM_LOG(level_, message_, ...)                                                              \
    do {                                                                                           \
        if (gm_log_enabled(level_)) {                                                              \
            static struct gm_log_site gm_log_site_;                                                \
            const struct gm_log_field gm_log_fields_[] = {{.kind = GM_LOG_KIND_NONE},              \
                                                          ##__VA_ARGS__};                          \
            gm_log_write(&gm_log_site_, (level_), "" message_, gm_log_fields_,                     \
                         sizeof(gm_log_fields_) / sizeof(gm_log_fields_[0]));                      \
        }                                                                                          \
    } while (0)

#define gm_log_debug(message_, ...) GM_LOG(GM_LOG_DEBUG, message_, ##__VA_ARGS__)
#define gm_log_info(message_, ...)  GM_LOG(GM_LOG_INFO, message_, ##__VA_ARGS__)
#define gm_log_warn(message_, ...)  GM_LOG(GM_LOG_WARN, message_, ##__VA_ARGS__)
#define gm_log_error(message_, ...) GM_LOG(GM_LOG_ERROR, message_, ##__VA_ARGS__)
/* Says it and returns: the caller cleans up and exits with 1. Never rate-limited. */
#define gm_log_fatal(message_, ...) GM_LOG(GM_LOG_FATAL, message_, ##__VA_ARGS__)

#endif
