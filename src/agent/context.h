/* What one ring of the agent holds, and what all of them share.
 *
 * Owner: one ring, except `shared`, which all rings read and of which the atomics alone are
 * written. Private to agent/. */
#ifndef GM_AGENT_CONTEXT_H
#define GM_AGENT_CONTEXT_H

#include "agent/headers.h"
#include "agent/proxy.h"
#include "agent/tally.h"
#include "agent/token.h"
#include "agent/trust.h"
#include "base/counter.h"
#include "client/call.h"
#include "config/config.h"
#include "link/link.h"

/* Requests of one ring under way at once, whatever --max-concurrent-requests says; beyond it:
 * overload. A slot is touched when first used. */
#define GM_AGENT_SERVES_MAX 16384u
/* Connections to backends of one ring: one per request, the idle ones, and those on their way
 * out. */
#define GM_AGENT_BACKENDS_MAX (2u * GM_AGENT_SERVES_MAX)
/* What READY announces: slots of a link, and the credit a request body starts with. */
#define GM_AGENT_STREAMS_MAX 16384u
#define GM_AGENT_WINDOW      65536u

struct gm_serve;
struct gm_dialler;
struct gm_agent_health_state;
struct gm_agent_ops;

/* One service of the process. Written before the rings start, except where it says so. */
struct gm_agent_service_info {
    const struct gm_agent_service *config;
    struct gm_target target;
    struct gm_trust trust; /* in the backend */
    struct gm_agent_token token;
    struct gm_dialler *dialler;
    struct gm_agent_headers headers;
    char instance[33]; /* random id of this process and service */
    /* Whether the backend is healthy, or nobody asks. Writer: the dialler's ring; readers: any;
     * release and acquire, so that a ring that is told of a change finds it. */
    _Atomic uint32_t ready;
    /* Servers that we have links to. Writer: the dialler's ring; readers: any; relaxed, a figure.
     */
    _Atomic uint32_t servers;
    struct gm_agent_health_state *health; /* the dialler's ring's; NULL: no checks */
};

/* One per process. Written before the rings start, except the atomics. */
struct gm_agent_shared {
    const struct gm_agent_config *config;
    struct gm_rings *rings;
    struct gm_control *control;
    struct gm_target server;
    struct gm_trust trust;           /* in the server */
    struct gm_agent_proxy proxy;     /* on the way to it */
    char host[GM_HTTP_HOST_MAX + 8]; /* Host of the links' requests */
    struct gm_agent_service_info *services;
    uint32_t service_count;
    struct gm_agent_ring **ring_contexts;
    /* Requests under way on all rings. Writers: any ring, relaxed; a limit and a figure, publishes
     * nothing. */
    _Atomic int64_t active_requests;
    /* Rings that have no link left, in a drain. Writers: each ring once, relaxed. */
    _Atomic uint32_t rings_done;
};

struct gm_agent_ring {
    struct gm_agent_shared *shared;
    struct gm_ring *ring;
    struct gm_tls_room tls_room;
    struct gm_backend_store backends;
    struct gm_backend_pool *pools;       /* one per service */
    struct gm_agent_fields_slot *fields; /* likewise */
    struct gm_agent_tally *tallies;      /* likewise */
    struct gm_serve *serves;             /* slab of GM_AGENT_SERVES_MAX */
    uint32_t *serve_free;                /* stack of free indices */
    uint32_t serve_free_count;
    struct gm_list running;     /* serves under way */
    struct gm_list links;       /* struct gm_agent_link */
    struct gm_timer tell_timer; /* notes that found no room are tried again */
    struct gm_agent_ops *ops;   /* ring 0's; NULL: no port is wanted */

    bool draining, done_told, cut;
    struct gm_timer drain_timer;
    uint64_t drain_deadline_ns;
};

#endif
