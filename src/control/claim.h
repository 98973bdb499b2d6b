/* Ports, before rings listen on them: all rings share one (SO_REUSEPORT), and so could another
 * process of the same user, unseen. Called on the main thread before the rings start, but for
 * gm_claim_any_addr, which any thread may call. */
#ifndef GM_CONTROL_CLAIM_H
#define GM_CONTROL_CLAIM_H

#include "ring/ring.h"

/* Every address of this host at that port (host order): those of IPv6 and of IPv4, as far as it has
 * them. */
union gm_addr gm_claim_any_addr(int32_t port);

/* Port 0: a free one is chosen, stands in *addr, and is held until the descriptor that this returns
 * is closed, when the rings listen. Any other: -EADDRINUSE when somebody has it, and keeps it for a
 * second: a predecessor that was killed leaves it a little after its end. -1: nothing to hold; what
 * else may be wrong the rings will tell. */
int gm_claim_port(union gm_addr *addr);
/* The port in an address of IPv4 or IPv6, host order. */
int32_t gm_claim_port_of(const union gm_addr *addr);

#endif
