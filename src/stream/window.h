/* Receive windows: how much credit a stream's sender gets, and when.
 *
 * Pure arithmetic; one window per stream and receiving direction, owned by the link's ring. Credit
 * is a reservation (design section 4): `size` bytes are reserved by the owner for as long as the
 * window lives, and every one of them is in exactly one place: size == credit (the peer may still
 * send it) + held (received, not yet drained) + owed (drained, not granted again) Nothing granted
 * is revoked, so a window never shrinks. */
#ifndef GM_STREAM_WINDOW_H
#define GM_STREAM_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

/* A new stream gets min(64 KiB, what can be reserved / open streams), but never less than one small
 * block. */
#define GM_WINDOW_INITIAL_MAX 65536u
#define GM_WINDOW_MIN         4096u
/* 4 MiB: 40 ms at 100 MB/s, a transatlantic round trip of one fast stream. */
#define GM_WINDOW_MAX (4u << 20)
/* A window grows when it was used up whole within so many round trips: then it, and not the path,
 * was the limit. */
#define GM_WINDOW_GROW_RTTS 3u
/* Round trips below this are taken for it: a turn of the loop at either end takes about as long. */
#define GM_WINDOW_RTT_FLOOR_NS 500000ull
/* While nothing has been measured. */
#define GM_WINDOW_RTT_UNKNOWN_NS 20000000ull

struct gm_window {
    uint32_t size;        /* reserved bytes */
    uint32_t credit;      /* granted and not yet received */
    uint32_t held;        /* received and not yet drained */
    uint32_t owed;        /* drained and not yet granted again */
    uint32_t epoch_bytes; /* drained since epoch_ns */
    uint64_t epoch_ns;    /* 0: no epoch under way */
};

/* What growing needs from outside. `reserve` gets so many more bytes reserved, or says no and
 * nothing has changed. */
struct gm_window_env {
    uint64_t now_ns;
    uint64_t rtt_ns; /* 0: not measured */
    bool (*reserve)(void *arg, uint32_t bytes);
    void *arg;
};

/* Bytes to reserve and grant for a new stream; `open_streams` counts it. Always
 * GM_WINDOW_MIN..GM_WINDOW_INITIAL_MAX; whether it can be reserved is the caller's next question.
 */
uint32_t gm_window_initial(uint64_t reservable_bytes, uint32_t open_streams);

/* A window of `size` bytes (<= GM_WINDOW_MAX; 0 is one that grants nothing), all of which the peer
 * may send. */
void gm_window_init(struct gm_window *window, uint32_t size);

/* `bytes` more were reserved for it and are granted at once. The sum stays within GM_WINDOW_MAX
 * (asserted). */
void gm_window_widen(struct gm_window *window, uint32_t bytes);

/* Grants `bytes` that another window, elsewhere, has decided on: this one only checks what the peer
 * sends. Received bytes count as granted again first; what goes beyond them widens the window. The
 * sum never exceeds the size of the window that decides. */
void gm_window_regrant(struct gm_window *window, uint32_t bytes);

/* The peer sent `bytes`. False: more than it was granted (flow_control), nothing has changed. */
bool gm_window_receive(struct gm_window *window, uint32_t bytes)
    __attribute__((warn_unused_result));

/* The far socket took `bytes` (<= held, asserted). Returns the credit to grant now (already counted
 * as granted), 0 for none yet: batched until half the window is owed, or a quarter of it at a peer
 * that is about to stall. May grow the window (doubling), asking `reserve`. */
uint32_t gm_window_drain(struct gm_window *window, uint32_t bytes, const struct gm_window_env *env)
    __attribute__((warn_unused_result));

#endif
