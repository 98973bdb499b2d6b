/* The health of the services' backends, and what the server is told of it.
 *
 * A service's checks (client/health.h) run on the ring of its dialler. The verdict is an atomic of
 * the service; every check is mailed to every ring, whose links then send a note if their server
 * does not know. What a link says in its greeting is the verdict of that moment. Without checks a
 * service is always ready. */
#ifndef GM_AGENT_HEALTH_H
#define GM_AGENT_HEALTH_H

#include "agent/context.h"
#include "client/health.h"

struct gm_agent_health_news {
    struct gm_mail mail;
    struct gm_agent_ring *to;
    /* Under way. Writers: whoever mails it (to 1), the receiver (to 0); acq_rel: what was judged
     * before it was mailed is seen by who takes it. */
    _Atomic uint32_t busy;
};

/* Of one service whose backend is checked. */
struct gm_agent_health_state {
    struct gm_health health;
    struct gm_agent_shared *shared;
    struct gm_agent_service_info *service;
    struct gm_agent_tally *tally;      /* of the ring that checks */
    struct gm_agent_health_news *news; /* one per ring */
};

/* On the ring of the service's dialler, once the control thread runs: checks begin, if the service
 * wants any. False: out of memory. */
bool gm_agent_health_start(struct gm_agent_ring *ctx,
                           struct gm_agent_service_info *service) GM_WARN_UNUSED;
/* There too: no more checks; the verdict stays. */
void gm_agent_health_stop(struct gm_agent_service_info *service);
/* On each ring: checks say these fields from here on, if they are made on this ring. */
void gm_agent_health_fields(struct gm_agent_ring *ctx, struct gm_agent_service_info *service,
                            const struct gm_client_fields *fields);
/* After the rings have ended. */
void gm_agent_health_free(struct gm_agent_service_info *service);

/* Any thread. */
static inline bool gm_agent_health_ready(const struct gm_agent_service_info *service)
{
    return atomic_load_explicit(&service->ready, memory_order_acquire) != 0;
}

#endif
