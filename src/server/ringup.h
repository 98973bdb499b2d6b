/* A server ring's beginning and end: its context, listeners, and the drain as this ring takes part
 * in it. */
#ifndef GM_SERVER_RINGUP_H
#define GM_SERVER_RINGUP_H

#include "server/context.h"

/* gm_rings_ops.init and .fini; `arg` is the struct gm_server_shared. */
int gm_server_ring_init(struct gm_ring *ring, void *arg);
void gm_server_ring_fini(struct gm_ring *ring, void *arg);

/* Where a port listens: the configured address, or all of IPv6 and IPv4 as far as the host has
 * them. */
union gm_addr gm_server_listen_addr(const struct gm_server_config *config, int32_t port);

/* Any thread: every ring begins to drain, to be done by `shutdown_timeout_ns` from now. Once. */
void gm_server_drain_all(struct gm_server_shared *shared);
/* Any thread, in a drain: its deadline is now. */
void gm_server_cut_all(struct gm_server_shared *shared);

#endif
