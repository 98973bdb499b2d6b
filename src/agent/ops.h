/* The agent's metrics port: /debug/counters and nothing else. */
#ifndef GM_AGENT_OPS_H
#define GM_AGENT_OPS_H

#include "agent/context.h"

/* In the ring's init. Negative: it was said why. */
int gm_agent_ops_listen(struct gm_agent_ring *ctx);

#endif
