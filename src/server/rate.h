/* How many requests end per second, as a moving average: what a Retry-After is computed from.
 *
 * Any thread adds, any reads; the fields are relaxed atomics that publish nothing, and a value that
 * two threads spoil for each other is an estimate all the same. Pure: the time is passed in. */
#ifndef GM_SERVER_RATE_H
#define GM_SERVER_RATE_H

#include <stdatomic.h>
#include <stdint.h>

/* Limits of what a client is told: 60 s, since nobody can look further ahead than this average. */
#define GM_RETRY_AFTER_MAX_S 60u
/* Said while nothing has ended yet: requests that take longer than we have been looking. */
#define GM_RETRY_AFTER_UNKNOWN_S 5u

struct gm_rate {
    _Atomic uint64_t since_ns; /* when the window began that is being counted; 0: none has */
    _Atomic uint64_t milli;    /* average of the windows before, in ends per 1000 s */
    _Atomic uint32_t count;    /* ends in this window */
};

/* A request has ended at `now_ns`. */
void gm_rate_add(struct gm_rate *rate, uint64_t now_ns);
/* Ends per 1000 seconds, up to `now_ns`; 0: none has been seen. */
uint64_t gm_rate_read(const struct gm_rate *rate, uint64_t now_ns);
/* Seconds until so many requests will have ended, rounded up: 1 to GM_RETRY_AFTER_MAX_S. */
unsigned gm_rate_wait_s(uint64_t milli, uint64_t requests);

#endif
