/* An agent ring's beginning and end: its context, and the drain as this ring takes part in it. */
#ifndef GM_AGENT_RINGUP_H
#define GM_AGENT_RINGUP_H

#include "agent/context.h"

/* gm_rings_ops.init and .fini; `arg` is the struct gm_agent_shared. */
int gm_agent_ring_init(struct gm_ring *ring, void *arg);
void gm_agent_ring_fini(struct gm_ring *ring, void *arg);
/* After all rings have ended: what others of them may have read until then. Accepts NULL. */
void gm_agent_ring_free(struct gm_agent_ring *ctx);

/* Any thread, once: the diallers begin. After the control thread has started. */
void gm_agent_dial_all(struct gm_agent_shared *shared);
/* Any thread, once: every ring begins to drain, to be done by `shutdown_timeout_ns` from now. */
void gm_agent_drain_all(struct gm_agent_shared *shared);
/* Any thread, in a drain: what is left is cut now. */
void gm_agent_cut_all(struct gm_agent_shared *shared);

/* On each ring, when certificates have been read again: its dials use them from here on. */
void gm_agent_take_trust(struct gm_ring *ring);

#endif
