/* The agent's own ports: /metrics and /debug/counters on --metrics-port, /health on --health-port.
 * Without these options it opens none.
 *
 * Owner: ring 0. Each connection carries one request. It allocates: it is asked every few seconds.
 */
#ifndef GM_AGENT_OPS_H
#define GM_AGENT_OPS_H

#include "agent/context.h"

/* Main thread, before the rings start: nobody else has these ports. Negative: it was said why. */
int gm_agent_ops_claim(const struct gm_agent_config *config) GM_WARN_UNUSED;
/* In ring 0's init: opens the ports that are wanted. Negative: it was said why. */
int gm_agent_ops_listen(struct gm_agent_ring *ctx) GM_WARN_UNUSED;
/* After the rings have ended. Accepts NULL. */
void gm_agent_ops_free(struct gm_agent_ops *ops);

#endif
