/* Lanes: which links an agent process holds, across all rings. The one table of the server behind a
 * mutex: it is asked when links come and go, never for a request. Any thread. */
#ifndef GM_SERVER_LANES_H
#define GM_SERVER_LANES_H

#include <stdint.h>

#include "base/error.h"

#define GM_LANES_MAX 64u

struct gm_lanes;

struct gm_lanes *gm_lanes_new(uint32_t lane_count);
void gm_lanes_free(struct gm_lanes *lanes);

/* The lowest free lane of (subject, instance), or `wish` when that is 0 or more and below the
 * count, free or not (its holder is dead: its own liveness check ends it). The lane count itself
 * when all are taken: the link is surplus. Negative: out of memory. */
int gm_lanes_take(struct gm_lanes *lanes, const char *subject, const char *instance,
                  int wish) GM_WARN_UNUSED;
/* One hold on the lane ends. */
void gm_lanes_give(struct gm_lanes *lanes, const char *subject, const char *instance,
                   uint32_t lane);

#endif
