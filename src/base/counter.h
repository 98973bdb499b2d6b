/*
 * Raw counters: one block of 64-bit numbers per ring, written by that ring alone.
 *
 * A ring attaches its thread to its block once (gm_counter_attach) and then adds with a plain load
 * and store: no locked instruction, no shared cache line. Anybody may read a block at any time
 * (relaxed loads) and sum all of them; a sum is not a snapshot, each number in it is exact.
 * A gauge may be raised in one block and lowered in another: only the sum means something, so
 * values are added modulo 2^64 and a gauge is read as signed.
 * What a thread counts while it is attached to no block is thrown away.
 */
#ifndef GM_BASE_COUNTER_H
#define GM_BASE_COUNTER_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* The table: X(CONSTANT, name, kind, help). Add a row; nothing else needs to change. */
#define GM_COUNTER_LIST(X)                                                                         \
    X(TURNS, turns, COUNTER, "Loop turns")                                                         \
    X(ENTERS, enters, COUNTER, "System calls that enter the kernel to submit or to wait")          \
    X(SLEEPS, sleeps, COUNTER, "Turns that waited because nothing was ready")                      \
    X(WAKES_SENT, wakes_sent, COUNTER, "Wake-ups sent to a sleeping ring")                         \
    X(WAKES_RECEIVED, wakes_received, COUNTER, "Wake-ups received from another ring")              \
    X(MAIL_SENT, mail_sent, COUNTER, "Messages put into another ring's mailbox")                   \
    X(MAIL_RECEIVED, mail_received, COUNTER, "Messages taken out of the own mailbox")              \
    X(CROSSINGS, crossings, COUNTER, "Requests served over a link of another ring")                \
    X(ACCEPTS, accepts, COUNTER, "Connections accepted")                                           \
    X(PROXY_REFUSED, proxy_refused, COUNTER, "Connections refused for their PROXY header")         \
    X(CONNECTS, connects, COUNTER, "Connections dialled")                                          \
    X(CLOSES, closes, COUNTER, "Connections closed")                                               \
    X(TLS_HANDSHAKES, tls_handshakes, COUNTER, "TLS handshakes completed")                         \
    X(TLS_FAILED, tls_failed, COUNTER, "TLS connections that failed, during or after handshake")   \
    X(TLS_WAITS, tls_waits, COUNTER, "TLS handshake steps put off to a later turn")                \
    X(TLS_KERNEL_SENDS, tls_kernel_sends, COUNTER,                                                 \
      "TLS connections whose records the kernel seals")                                            \
    X(TLS_KERNEL_RECEIVES, tls_kernel_receives, COUNTER,                                           \
      "TLS connections whose records the kernel opens")                                            \
    X(TLS_CUT, tls_cut, COUNTER, "TLS connections cut for want of memory")                         \
    X(RECV_BYTES, recv_bytes, COUNTER, "Bytes received")                                           \
    X(RECV_COMPLETIONS, recv_completions, COUNTER, "Receive completions")                          \
    X(RECV_STARVED, recv_starved, COUNTER, "Receives that found no free buffer")                   \
    X(CQ_OVERFLOWS, cq_overflows, COUNTER,                                                         \
      "Turns that found io_uring's completion queue overflowed")                                   \
    X(SEND_BYTES, send_bytes, COUNTER, "Bytes sent")                                               \
    X(SEND_CALLS, send_calls, COUNTER, "Gathered sends")                                           \
    X(COPIES_SMALL, copies_small, COUNTER, "Payload copies below the cork threshold")              \
    X(COPIES_SMALL_BYTES, copies_small_bytes, COUNTER, "Bytes in them")                            \
    X(COPIES_LARGE, copies_large, COUNTER, "Payload copies at or above the cork threshold")        \
    X(COPIES_LARGE_BYTES, copies_large_bytes, COUNTER, "Bytes in them")                            \
    X(EVACUATIONS, evacuations, COUNTER, "Small slices moved out of a pinned receive buffer")      \
    X(ALLOCATIONS, allocations, COUNTER, "Heap allocations after start")                           \
    X(BUFFERS_IN_USE_CLIENT, buffers_in_use_client, GAUGE, "Receive buffers held, client group")   \
    X(BUFFERS_IN_USE_LINK, buffers_in_use_link, GAUGE, "Receive buffers held, link group")         \
    X(BLOCKS_IN_USE, blocks_in_use, GAUGE, "Compact blocks held")                                  \
    X(FRAMES_SENT, frames_sent, COUNTER, "Link frames sent")                                       \
    X(FRAMES_RECEIVED, frames_received, COUNTER, "Link frames received")                           \
    X(MESSAGES_SENT, messages_sent, COUNTER, "WebSocket messages sent on links")                   \
    X(DATA_CONTENDED, data_contended, COUNTER, "Streams' turns on links that others waited for")   \
    X(DATA_OVERRUN_BYTES, data_overrun_bytes, COUNTER,                                             \
      "DATA queued ahead of a waiting stream beyond a quantum of each other one")                  \
    X(LINK_OVERRUN_BYTES, link_overrun_bytes, COUNTER, "Bytes queued on a link beyond its bound")  \
    X(CREDITS_SENT, credits_sent, COUNTER, "Credit frames sent")                                   \
    X(CREDITS_RECEIVED, credits_received, COUNTER, "Credit frames received")                       \
    X(STREAMS_OPENED, streams_opened, COUNTER, "Streams opened")                                   \
    X(STREAMS_ENDED, streams_ended, COUNTER, "Streams that ended in both directions")              \
    X(STREAMS_RESET, streams_reset, COUNTER, "Streams ended by a reset")                           \
    X(STREAMS_REFUSED, streams_refused, COUNTER, "Streams refused before any work was done")       \
    X(LINK_PAUSES, link_pauses, COUNTER, "Times a 0.0.x link waited for a slow reader")            \
    X(LATE_FRAMES, late_frames, COUNTER, "Frames that arrived for an ended stream")                \
    X(RETRIES, retries, COUNTER, "Requests tried again on another link")                           \
    X(REQUESTS, requests, COUNTER, "Requests taken from clients")                                  \
    X(REQUESTS_FAILED, requests_failed, COUNTER, "Requests answered with an error made by Gimlet") \
    X(REQUESTS_WAITING, requests_waiting, GAUGE, "Requests that wait for a place")                 \
    X(REQUESTS_QUEUED, requests_queued, COUNTER, "Requests that had to wait for a place")          \
    X(QUEUE_REFUSED, queue_refused, COUNTER, "Requests refused because their queue was full")      \
    X(QUEUE_TIMEOUTS, queue_timeouts, COUNTER, "Requests that waited for a place in vain")         \
    X(TOKEN_HITS, token_hits, COUNTER, "Tokens found in the cache")                                \
    X(TOKEN_MISSES, token_misses, COUNTER, "Tokens whose signature had to be checked")             \
    X(TOKEN_REJECTS, token_rejects, COUNTER, "Tokens refused")                                     \
    X(PINGS_SENT, pings_sent, COUNTER, "Liveness pings sent")                                      \
    X(LINK_DIALS, link_dials, COUNTER, "Links dialled")                                            \
    X(LINK_DIALS_SURPLUS, link_dials_surplus, COUNTER,                                             \
      "Links dialled that met a server with all of ours")                                          \
    X(LINKS_DEAD, links_dead, COUNTER, "Links given up because the peer went silent")              \
    X(BACKEND_CONNECTS, backend_connects, COUNTER, "Backend connections opened")                   \
    X(BACKEND_REUSES, backend_reuses, COUNTER, "Requests sent on a pooled backend connection")     \
    X(TURN_GAP_REARMS, turn_gap_rearms, COUNTER,                                                   \
      "Deadlines re-armed after the process was suspended")                                        \
    X(LOG_LINES_DROPPED, log_lines_dropped, COUNTER,                                               \
      "Log lines dropped because the queue was full")                                              \
    X(ACCESS_LINES_DROPPED, access_lines_dropped, COUNTER,                                         \
      "Lines of the access log dropped because the queue was full")                                \
    X(MEMORY_RESERVED_BYTES, memory_reserved_bytes, GAUGE, "Budget reserved for granted credit")

enum gm_counter {
#define GM_COUNTER_ENUM_(constant, name, kind, help) GM_COUNTER_##constant,
    GM_COUNTER_LIST(GM_COUNTER_ENUM_)
#undef GM_COUNTER_ENUM_
        GM_COUNTER_COUNT
};

enum gm_counter_kind { GM_COUNTER_KIND_COUNTER, GM_COUNTER_KIND_GAUGE };

/* 64: cache line of every machine we build for; keeps two rings' blocks from sharing a line. */
#define GM_COUNTER_ALIGN 64u
/* A set has at most this many blocks: more rings than any machine's cores, and the control thread.
 */
#define GM_COUNTER_BLOCKS_MAX 257u

/* Each value is written by the attached thread only (relaxed), read by any (relaxed); it publishes
 * nothing but itself. */
struct gm_counter_block {
    alignas(GM_COUNTER_ALIGN) _Atomic uint64_t value[GM_COUNTER_COUNT];
};

/* rings + 1 blocks: block i is ring i's, the last one is the control thread's. */
struct gm_counter_set {
    struct gm_counter_block *blocks;
    unsigned block_count;
};

/* The calling thread's block. Private to gm_counter_attach and to the inline functions below. */
extern _Thread_local struct gm_counter_block *gm_counter_mine;

/* Carves the blocks of `rings` rings and of the control thread, all zero. At start, not on a ring.
 * Returns 0, -EINVAL (rings is 0 or above GM_COUNTER_BLOCKS_MAX - 1) or -ENOMEM. */
__attribute__((warn_unused_result)) int gm_counter_set_init(struct gm_counter_set *set,
                                                            unsigned rings);

/* Frees the blocks; no thread may be attached any more. Accepts a zeroed set. */
void gm_counter_set_fini(struct gm_counter_set *set);

/* The block of ring `ring`, or of the control thread (ring == number of rings). Borrowed. */
struct gm_counter_block *gm_counter_block_of(const struct gm_counter_set *set, unsigned ring);

/* Makes `block` the calling thread's own. No other thread may be attached to it. NULL detaches. */
void gm_counter_attach(struct gm_counter_block *block);

/* Adds n to the calling thread's counter. About 1 ns, no system call, no shared line. */
static inline void gm_counter_add(enum gm_counter counter, uint64_t n)
{
    _Atomic uint64_t *value = &gm_counter_mine->value[counter];
    atomic_store_explicit(value, atomic_load_explicit(value, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* Lowers a gauge by n. Only the sum over the blocks has a meaning. */
static inline void gm_counter_sub(enum gm_counter counter, uint64_t n)
{
    gm_counter_add(counter, UINT64_C(0) - n);
}

/* Sets the calling thread's part of a gauge. */
static inline void gm_counter_set(enum gm_counter counter, uint64_t n)
{
    atomic_store_explicit(&gm_counter_mine->value[counter], n, memory_order_relaxed);
}

/* The calling thread's own value; for deltas inside one thread and for tests. */
static inline uint64_t gm_counter_get(enum gm_counter counter)
{
    return atomic_load_explicit(&gm_counter_mine->value[counter], memory_order_relaxed);
}

/* The sum over all blocks. Any thread. A gauge reads as (int64_t). */
uint64_t gm_counter_sum(const struct gm_counter_set *set, enum gm_counter counter);

/* Name, kind and help of a counter; static text. */
const char *gm_counter_name(enum gm_counter counter);
enum gm_counter_kind gm_counter_kind_of(enum gm_counter counter);
const char *gm_counter_help(enum gm_counter counter);

/* Enough room for gm_counter_render with `rings` rings: name, label and 20 digits on each line. */
#define GM_COUNTER_LINE_MAX 80u
#define GM_COUNTER_RENDER_MAX(rings)                                                               \
    ((size_t)GM_COUNTER_COUNT * ((size_t)(rings) + 2u) * GM_COUNTER_LINE_MAX)

/* Writes the text of /debug/counters: for each counter `name value`, then a line per block,
 * `name{ring="0"} value` and `name{ring="control"} value`. No NUL is added. Any thread.
 * Returns the length, or -ENOSPC when `cap` is too small (nothing useful in `buf` then). */
__attribute__((warn_unused_result)) ptrdiff_t gm_counter_render(const struct gm_counter_set *set,
                                                                char *buf, size_t cap);

#endif
