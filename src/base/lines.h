/* A bounded queue of lines on their way to a file, filled by threads that must not wait.
 *
 * A producer claims a record, writes its line into it and publishes it. One consumer at a time
 * writes lines out, in batches that a pipe which polls writable takes whole: the queue's own thread
 * (gm_lines_start) or whoever calls gm_lines_pump. A full queue refuses; what is lost so, or
 * refused by the file, is counted, and told to `report` once a second. Before gm_lines_start and
 * after gm_lines_stop a published line is written by whoever publishes it. No allocation. */
#ifndef GM_BASE_LINES_H
#define GM_BASE_LINES_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `lap` is 2L while the record is free for round L of the queue and 2L+1 while it is filled. The
 * producer that claimed the position stores the odd value (release: publishes the text), the
 * consumer the next even one (release: gives the text back); both load with acquire. */
struct gm_line {
    alignas(64) _Atomic uint64_t lap;
    uint32_t len;
    char text[]; /* GM_LINES_TEXT_MAX(record_bytes) */
};
/* A record is its text behind lap and length. */
#define GM_LINES_TEXT_MAX(record_bytes) ((record_bytes)-16u)
/* One write takes at most this (PIPE_BUF); no record is larger. */
#define GM_LINES_BATCH_BYTES 4096u
/* Longest that gm_lines_pump waits. */
#define GM_LINES_WAIT_MAX_MS 60000

/* Zero but for what "set by the owner" names. */
struct gm_lines {
    /* Set by the owner before the first line. `records` (borrowed): `count` times `record_bytes`,
     * zero, aligned to 64; count is a power of two, record_bytes a multiple of 64. */
    char *records;
    uint32_t count, record_bytes;
    int fd; /* `look` may change it */
    /* Called by the consumer. `report`: so many lines have been lost since it last returned true;
     * false: it could not be said, ask again. `look`: at most once a second, before lines are
     * written. Both may be NULL. */
    bool (*report)(struct gm_lines *lines, uint64_t lost);
    void (*look)(struct gm_lines *lines);

    /* Next position to claim. Producers, relaxed compare-exchange: the laps order the rest. */
    alignas(64) _Atomic uint64_t tail;
    /* Next position to read, and when drops were told and `look` called last. Only the holder of
     * `consuming`. */
    alignas(64) uint64_t head;
    uint64_t reported, reported_ns, looked_ns;
    /* enum consumer_state. Producers look at it by a read-modify-write after publishing, the
     * consumer falls asleep by one before its last look at the queue: whichever comes second sees
     * the other. */
    alignas(64) _Atomic uint32_t consumer;
    /* 1 while a thread holds the consumer's role; taken and given back by acq_rel exchange. */
    _Atomic uint32_t consuming;
    /* Lines lost; relaxed, any thread. */
    _Atomic uint64_t lost;
    /* Monotonic time at which a consumer stops waiting for the file; 0 = never. Relaxed. */
    _Atomic uint64_t give_up_ns;
    /* Set by gm_lines_stop (release), read by the thread (acquire). */
    _Atomic bool stopping;
    bool thread_running; /* of whoever starts and stops */
    pthread_t thread;
};

/* Whether lines are queued; else the caller may write them at once (gm_lines_write). Any thread. */
bool gm_lines_queued(const struct gm_lines *lines);
/* A free record and its position, the caller's until gm_lines_publish; NULL when the queue is full
 * (not counted). Any thread, never waits. */
struct gm_line *gm_lines_claim(struct gm_lines *lines, uint64_t *position);
/* The record of that position holds a line of `len` bytes, its newline included. */
void gm_lines_publish(struct gm_lines *lines, uint64_t position, uint32_t len);
/* Writes `text` (whole lines) now; false, and `count` lines lost, when the file is broken or nobody
 * reads while the queue is being stopped. Waits for the file. */
bool gm_lines_write(struct gm_lines *lines, const char *text, size_t len, unsigned count);
/* Counts lines as lost that the caller could not queue. */
void gm_lines_lose(struct gm_lines *lines, uint64_t count);
uint64_t gm_lines_lost(const struct gm_lines *lines);

/* From here on lines are queued. With a name, one thread of that name (at most 15 characters)
 * writes them; with NULL the caller promises to pump. 0 or -errno of pthread_create (nothing is
 * queued then). */
__attribute__((warn_unused_result)) int gm_lines_start(struct gm_lines *lines,
                                                       const char *thread_name);
/* Writes what is queued, waiting up to timeout_ms for a first line (0: does not wait). Lines
 * written, or -EBUSY while another thread consumes. */
int gm_lines_pump(struct gm_lines *lines, int timeout_ms);
/* Ends the thread, writes what is queued (giving up after a second if nobody reads); lines are
 * written at once again. Other threads may still publish meanwhile. */
void gm_lines_stop(struct gm_lines *lines);

#endif
