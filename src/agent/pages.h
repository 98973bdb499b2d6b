/* What the agent's own ports show: pages, written at once from a census and from what all rings
 * count. Ring 0. They allocate. */
#ifndef GM_AGENT_PAGES_H
#define GM_AGENT_PAGES_H

#include <stddef.h>

#include "agent/census.h"

/* A page. `text` is the caller's, by free(); NULL: memory ran out. */
struct gm_agent_page {
    const char *status; /* "200 OK" */
    const char *type;   /* Content-Type */
    char *text;
    size_t len;
};

/* Prometheus' text format. */
struct gm_agent_page gm_agent_page_metrics(struct gm_agent_ring *ctx,
                                           const struct gm_agent_census *census);
/* JSON: 200 when every service has a link and a backend that is not known to be ill, else 503 with
 * `problems` that say what is wrong. */
struct gm_agent_page gm_agent_page_health(struct gm_agent_ring *ctx,
                                          const struct gm_agent_census *census);
/* The raw counters. */
struct gm_agent_page gm_agent_page_counters(struct gm_agent_ring *ctx,
                                            const struct gm_agent_census *census);

#endif
