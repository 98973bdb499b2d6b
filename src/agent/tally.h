/* What a ring counts about each service: requests by how they ended, those under way, and health
 * checks.
 *
 * Owner: the ring, which alone writes; any thread reads single numbers. */
#ifndef GM_AGENT_TALLY_H
#define GM_AGENT_TALLY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "frame/reason.h"

struct gm_agent_tally {
    /* By enum gm_reason_code; NONE: answered. Writer: the ring; readers: any; relaxed: each number
     * by itself, publishes nothing. */
    _Atomic uint64_t ended[GM_REASON_COUNT];
    /* Likewise. */
    _Atomic uint64_t active;
    /* Health checks of the backend that have passed, and failed. Likewise. */
    _Atomic uint64_t passed, failed;
};

static inline void gm_agent_tally_add_(_Atomic uint64_t *number, uint64_t n)
{
    atomic_store_explicit(number, atomic_load_explicit(number, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* A request is taken on. */
static inline void gm_agent_tally_begin(struct gm_agent_tally *tally)
{
    gm_agent_tally_add_(&tally->active, 1);
}
/* It is over. */
static inline void gm_agent_tally_end(struct gm_agent_tally *tally)
{
    gm_agent_tally_add_(&tally->active, UINT64_MAX);
}
/* A request, taken on or refused, has ended so. A reason of a newer peer's counts as internal. */
static inline void gm_agent_tally_count(struct gm_agent_tally *tally, uint16_t reason)
{
    gm_agent_tally_add_(&tally->ended[gm_reason_get(reason)->code], 1);
}

static inline void gm_agent_tally_check(struct gm_agent_tally *tally, bool passed)
{
    gm_agent_tally_add_(passed ? &tally->passed : &tally->failed, 1);
}

#endif
