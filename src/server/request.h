/* The request as the backend shall see it: which fields go, which are added. One function, one
 * table of rules (design section 6).
 *
 * Pure but for the ids it draws. The block it writes is what crosses the link; nothing of the
 * client's bytes is parsed again behind it. */
#ifndef GM_SERVER_REQUEST_H
#define GM_SERVER_REQUEST_H

#include "server/exchange.h"

/* Chooses the request's id: the client's X-Request-Id when it is usable, else a random one. Written
 * to exchange->request_id. */
void gm_request_id(struct gm_server_ring *ctx, const struct gm_http_request *head,
                   char out[GM_REQUEST_ID_MAX], uint8_t *len);

/* Encodes the request block into a block of this ring, with GM_MUX_OPEN_ROOM in front and
 * GM_MUX_TAIL_ROOM behind: *out is the caller's. -GM_E_NOMEM: no block left; -GM_E_LIMIT: the head
 * does not fit what a link takes. */
int gm_request_encode(struct gm_exchange *exchange, const struct gm_exchange_request *request,
                      gm_slice *out) GM_WARN_UNUSED;

#endif
