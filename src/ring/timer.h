/* The timer wheel of one ring: five levels of 64 slots, 4 ms at the bottom (256 ms, 16 s, 17 min,
 * 18 h, 48 days).
 *
 * Deadlines are lazy: moving one later is a store, the node moves when its old slot comes round. A
 * slot is due at the tick that starts it, a deadline is rounded up to a tick: never early.
 * Invariant: every armed node sits in a slot that comes round no later than its deadline. */
#ifndef GM_RING_TIMER_H
#define GM_RING_TIMER_H

#include "ring/ring.h"

#define GM_WHEEL_LEVELS 5u
#define GM_WHEEL_SLOTS  64u

struct gm_wheel {
    uint64_t tick; /* the last tick whose slots have been emptied */
    uint64_t
        busy[GM_WHEEL_LEVELS]; /* bit per slot: may hold nodes (a cancelled one leaves its bit) */
    struct gm_list slots[GM_WHEEL_LEVELS][GM_WHEEL_SLOTS];
};

void gm_wheel_init(struct gm_wheel *wheel, uint64_t now_ns);
void gm_wheel_set(struct gm_wheel *wheel, struct gm_timer *timer, uint64_t deadline_ns);
/* Calls on_expire of what is due; timers set by callbacks fire in a later call. Returns how many
 * expired. */
uint32_t gm_wheel_advance(struct gm_wheel *wheel, uint64_t now_ns);
/* When gm_wheel_advance next has something to do (perhaps only to move nodes down); UINT64_MAX:
 * nothing is armed. */
uint64_t gm_wheel_next_ns(const struct gm_wheel *wheel);

#endif
