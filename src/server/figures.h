/* Where requests meet the ring's table of metrics (server/metrics.h): who is counted, when, under
 * which names. Owner: the client's ring. */
#ifndef GM_SERVER_FIGURES_H
#define GM_SERVER_FIGURES_H

#include "auth/principal.h"
#include "server/context.h"
#include "server/exchange.h"

/* A request for a service that got no exchange. `who` NULL: nobody knows who asks, so that no name
 * it gave is used. The server's own limit (GM_REASON_RATE_LIMIT) counts as a rejection. */
void gm_figures_refused(struct gm_server_ring *ctx, struct gm_http_span service,
                        const struct gm_principal *who, enum gm_reason_code reason);
/* An exchange begins: its clock starts, and its client's name is kept. */
void gm_figures_began(struct gm_exchange *exchange, const struct gm_principal *who);
/* It ends. What ends without a head, because the client has left, is not counted. */
void gm_figures_ended(struct gm_exchange *exchange);
/* An agent of the service has come. (Entry for gm_registry_watch; `ctx` is the ring's.) */
void gm_figures_joined(void *ctx, const struct gm_card *card);
/* Counts what this ring holds of answers, by link, for readers on other rings. */
void gm_figures_sample(struct gm_server_ring *ctx);

#endif
