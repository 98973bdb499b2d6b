/*
 * The queue, its consumer and the writing.
 *
 * Invariants: a record is owned by the producer that claimed it until it publishes the filled lap,
 * then by the consumer until it publishes the next free lap; what the consumer owns is touched only
 * by the holder of `consuming`.
 */
#include "base/lines.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"

#define NS_PER_SECOND UINT64_C(1000000000)
#define NS_PER_MS     UINT64_C(1000000)

/* The background thread naps this long after writing, so that a burst costs its ring no wake-up. */
#define NAP_NS (10 * NS_PER_MS)
/* How often drops are reported, and how long a stop waits for a reader that does not read. */
#define REPORT_NS     NS_PER_SECOND
#define LOOK_NS       NS_PER_SECOND
#define STOP_LIMIT_NS NS_PER_SECOND

enum consumer_state {
    CONSUMER_NONE,   /* lines are written by whoever publishes them */
    CONSUMER_AWAKE,  /* it will look at the queue by itself */
    CONSUMER_ASLEEP, /* it waits on the futex `consumer` */
};

static uint64_t monotonic_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_SECOND + (uint64_t)t.tv_nsec;
}

/* ---- Writing ---- */

/* Waits until the file takes bytes. False when a stop has run out of patience. */
static bool wait_writable(struct gm_lines *lines)
{
    for (;;) {
        uint64_t limit = atomic_load_explicit(&lines->give_up_ns, memory_order_relaxed);
        bool late = limit != 0 && monotonic_now() >= limit;
        struct pollfd file = {.fd = lines->fd, .events = POLLOUT};
        if (poll(&file, 1, late ? 0 : 100) > 0)
            return true;
        if (late)
            return false;
    }
}

/* All of it, or false: the file is broken, or nobody reads and a stop gave up. */
static bool write_all(struct gm_lines *lines, const char *text, size_t len)
{
    while (len > 0) {
        if (!wait_writable(lines))
            return false;
        ssize_t n = write(lines->fd, text, len);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return false;
        if (n > 0) {
            text += n;
            len -= (size_t)n;
        }
    }
    return true;
}

void gm_lines_lose(struct gm_lines *lines, uint64_t count)
{
    atomic_fetch_add_explicit(&lines->lost, count, memory_order_relaxed);
}

uint64_t gm_lines_lost(const struct gm_lines *lines)
{
    return atomic_load_explicit(&lines->lost, memory_order_relaxed);
}

bool gm_lines_write(struct gm_lines *lines, const char *text, size_t len, unsigned count)
{
    bool written = write_all(lines, text, len);
    if (!written)
        gm_lines_lose(lines, count);
    return written;
}

/* ---- The queue ---- */

static struct gm_line *line_at(const struct gm_lines *lines, uint64_t position)
{
    size_t index = (size_t)(position & (lines->count - 1u));
    return (struct gm_line *)(void *)(lines->records + index * lines->record_bytes);
}

static uint64_t free_lap(const struct gm_lines *lines, uint64_t position)
{
    return position / lines->count * 2;
}

bool gm_lines_queued(const struct gm_lines *lines)
{
    return atomic_load_explicit(&lines->consumer, memory_order_relaxed) != CONSUMER_NONE;
}

struct gm_line *gm_lines_claim(struct gm_lines *lines, uint64_t *position)
{
    uint64_t at = atomic_load_explicit(&lines->tail, memory_order_relaxed);
    for (;;) {
        struct gm_line *line = line_at(lines, at);
        uint64_t lap = atomic_load_explicit(&line->lap, memory_order_acquire);
        if (lap < free_lap(lines, at))
            return NULL;
        if (lap > free_lap(lines, at)) { /* another producer was faster */
            at = atomic_load_explicit(&lines->tail, memory_order_relaxed);
            continue;
        }
        if (atomic_compare_exchange_weak_explicit(&lines->tail, &at, at + 1, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            *position = at;
            return line;
        }
    }
}

/* The next filled record, or NULL. Consumer. */
static struct gm_line *queue_front(struct gm_lines *lines)
{
    struct gm_line *line = line_at(lines, lines->head);
    uint64_t lap = atomic_load_explicit(&line->lap, memory_order_acquire);
    return lap == free_lap(lines, lines->head) + 1 ? line : NULL;
}

/* Copies up to one batch out of the queue. Returns the number of lines. */
static unsigned take_batch(struct gm_lines *lines, char *batch, size_t *batch_len)
{
    unsigned count = 0;
    struct gm_line *line;
    *batch_len = 0;
    while ((line = queue_front(lines)) != NULL && line->len <= GM_LINES_BATCH_BYTES - *batch_len) {
        memcpy(batch + *batch_len, line->text, line->len);
        *batch_len += line->len;
        count++;
        atomic_store_explicit(&line->lap, free_lap(lines, lines->head) + 2, memory_order_release);
        lines->head++;
    }
    return count;
}

/* ---- The consumer ---- */

static bool take_role(struct gm_lines *lines)
{
    return atomic_exchange_explicit(&lines->consuming, 1, memory_order_acq_rel) == 0;
}

static void give_role_back(struct gm_lines *lines)
{
    (void)atomic_exchange_explicit(&lines->consuming, 0, memory_order_acq_rel);
}

static bool unreported(const struct gm_lines *lines)
{
    return lines->report != NULL && gm_lines_lost(lines) != lines->reported;
}

/* Says how many lines were lost, at most once per second. */
static void report_losses(struct gm_lines *lines)
{
    uint64_t total = gm_lines_lost(lines);
    if (!unreported(lines))
        return;
    uint64_t now_ns = monotonic_now();
    if (now_ns < lines->reported_ns + REPORT_NS)
        return;
    lines->reported_ns = now_ns;
    if (lines->report(lines, total - lines->reported))
        lines->reported = total;
}

static void look(struct gm_lines *lines)
{
    uint64_t now_ns = lines->look == NULL ? 0 : monotonic_now();
    if (lines->look == NULL || now_ns < lines->looked_ns + LOOK_NS)
        return;
    lines->looked_ns = now_ns;
    lines->look(lines);
}

/* Writes everything that is queued. Holder of the role. */
static int drain(struct gm_lines *lines)
{
    char batch[GM_LINES_BATCH_BYTES];
    size_t len;
    unsigned count;
    int total = 0;
    while ((count = take_batch(lines, batch, &len)) > 0) {
        look(lines);
        (void)gm_lines_write(lines, batch, len, count);
        total += (int)count;
        report_losses(lines);
    }
    report_losses(lines);
    return total;
}

/* Drains in the absence of a consumer. A producer that published while another held the role has
 * failed to take it by a read-modify-write that our giving it back comes after: so look again. */
static void drain_leftovers(struct gm_lines *lines)
{
    bool more = true;
    while (more && take_role(lines)) {
        (void)drain(lines);
        more = queue_front(lines) != NULL;
        give_role_back(lines);
        if (!more && take_role(lines)) {
            more = queue_front(lines) != NULL;
            give_role_back(lines);
        }
    }
}

static void futex_wait(struct gm_lines *lines, uint32_t expected, int timeout_ms)
{
    struct timespec limit = {.tv_sec = timeout_ms / 1000,
                             .tv_nsec = (long)(timeout_ms % 1000) * (long)NS_PER_MS};
    (void)syscall(SYS_futex, &lines->consumer, FUTEX_WAIT_PRIVATE, expected, &limit, NULL, 0);
}

/* True if the consumer was asleep and is on its way. One system call then, none otherwise. */
static bool wake_consumer(struct gm_lines *lines)
{
    uint32_t expected = CONSUMER_ASLEEP;
    if (!atomic_compare_exchange_strong_explicit(&lines->consumer, &expected, CONSUMER_AWAKE,
                                                 memory_order_acq_rel, memory_order_relaxed))
        return false;
    (void)syscall(SYS_futex, &lines->consumer, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    return true;
}

void gm_lines_publish(struct gm_lines *lines, uint64_t position, uint32_t len)
{
    struct gm_line *line = line_at(lines, position);
    line->len = len;
    atomic_store_explicit(&line->lap, free_lap(lines, position) + 1, memory_order_release);
    uint32_t state = atomic_fetch_add_explicit(&lines->consumer, 0, memory_order_acq_rel);
    if (state == CONSUMER_ASLEEP)
        (void)wake_consumer(lines);
    else if (state == CONSUMER_NONE)
        drain_leftovers(lines);
}

/* Falls asleep unless a line arrived meanwhile. A stop in progress (NONE) is left alone. */
static void consumer_sleep(struct gm_lines *lines, int timeout_ms)
{
    uint32_t expected = CONSUMER_AWAKE;
    if (!atomic_compare_exchange_strong_explicit(&lines->consumer, &expected, CONSUMER_ASLEEP,
                                                 memory_order_acq_rel, memory_order_relaxed))
        return;
    if (queue_front(lines) == NULL && !atomic_load_explicit(&lines->stopping, memory_order_acquire))
        futex_wait(lines, CONSUMER_ASLEEP, timeout_ms);
    expected = CONSUMER_ASLEEP;
    (void)atomic_compare_exchange_strong_explicit(&lines->consumer, &expected, CONSUMER_AWAKE,
                                                  memory_order_acq_rel, memory_order_relaxed);
}

int gm_lines_pump(struct gm_lines *lines, int timeout_ms)
{
    GM_ASSERT(timeout_ms >= 0 && timeout_ms <= GM_LINES_WAIT_MAX_MS);
    if (!take_role(lines))
        return -EBUSY;
    int count = drain(lines);
    if (count == 0 && timeout_ms > 0) {
        consumer_sleep(lines, unreported(lines) && timeout_ms > 1000 ? 1000 : timeout_ms);
        count = drain(lines);
    }
    give_role_back(lines);
    return count;
}

static void *lines_thread(void *arg)
{
    struct gm_lines *lines = arg;
    const struct timespec nap = {.tv_nsec = NAP_NS};
    while (!atomic_load_explicit(&lines->stopping, memory_order_acquire)) {
        if (gm_lines_pump(lines, GM_LINES_WAIT_MAX_MS) != 0)
            (void)nanosleep(&nap, NULL);
    }
    return NULL;
}

int gm_lines_start(struct gm_lines *lines, const char *thread_name)
{
    GM_ASSERT(!gm_lines_queued(lines) && (lines->count & (lines->count - 1)) == 0 &&
              lines->record_bytes <= GM_LINES_BATCH_BYTES && lines->record_bytes % 64 == 0);
    atomic_store_explicit(&lines->stopping, false, memory_order_relaxed);
    atomic_store_explicit(&lines->give_up_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&lines->consumer, CONSUMER_AWAKE, memory_order_release);
    if (thread_name == NULL)
        return 0;
    int rc = pthread_create(&lines->thread, NULL, lines_thread, lines);
    if (rc != 0) {
        atomic_store_explicit(&lines->consumer, CONSUMER_NONE, memory_order_release);
        return -rc;
    }
    (void)pthread_setname_np(lines->thread, thread_name);
    lines->thread_running = true;
    return 0;
}

void gm_lines_stop(struct gm_lines *lines)
{
    const struct timespec pause = {.tv_nsec = NS_PER_MS};
    uint64_t limit = monotonic_now() + STOP_LIMIT_NS;
    atomic_store_explicit(&lines->give_up_ns, limit, memory_order_relaxed);
    atomic_store_explicit(&lines->stopping, true, memory_order_release);
    (void)wake_consumer(lines);
    if (lines->thread_running) {
        (void)pthread_join(lines->thread, NULL);
        lines->thread_running = false;
    }
    (void)atomic_exchange_explicit(&lines->consumer, CONSUMER_NONE, memory_order_acq_rel);
    bool mine = take_role(lines);
    while (!mine && monotonic_now() < limit) { /* another thread is in gm_lines_pump */
        (void)nanosleep(&pause, NULL);
        mine = take_role(lines);
    }
    if (mine) {
        lines->reported_ns = 0;
        (void)drain(lines);
        give_role_back(lines);
        drain_leftovers(lines);
    }
    atomic_store_explicit(&lines->give_up_ns, 0, memory_order_relaxed);
}
