/* What pool.c, call.c, request.c and answer.c tell each other. Private to client/. */
#ifndef GM_CLIENT_INTERNAL_H
#define GM_CLIENT_INTERNAL_H

#include "client/call.h"

/* ---- pool.c ---- */

/* An idle connection that may carry such a request, with its call set; NULL: none. */
struct gm_backend_conn *client_take_idle(struct gm_backend_pool *pool, struct gm_call *call);
/* Dials the address for the call. 0 and call->backend set, or negative. */
int client_dial(struct gm_backend_pool *pool, struct gm_call *call, const union gm_addr *addr);
/* Puts the call on the waiting list; starts a lookup unless one is under way. */
void client_resolve(struct gm_backend_pool *pool, struct gm_call *call);
/* The call is done with its connection: it is kept, or closed. */
void client_keep(struct gm_backend_conn *backend);
void client_drop(struct gm_backend_conn *backend);
/* A connection over TLS has failed: the caller learns that the backend cannot be used, the log
 * why. Without TLS or an error, nothing is logged. */
void client_log_tls(const struct gm_backend_pool *pool, int error);
/* Closes it behind what is still queued. */
void client_part(struct gm_backend_conn *backend);

/* ---- call.c: events of the connection, for pool.c ---- */

void client_resolved(struct gm_call *call, int error);
void client_connected(struct gm_call *call, int error);
void client_recv(struct gm_call *call, gm_slice slice);
void client_recv_end(struct gm_call *call, int error);
void client_sent(struct gm_call *call);
void client_broken(struct gm_call *call, int error);

/* ---- call.c, for the other two ---- */

static inline struct gm_ring *client_ring(const struct gm_call *call)
{
    return call->pool->config.store->ring;
}
static inline struct gm_seg_pool *client_segs(const struct gm_call *call)
{
    return gm_ring_segs(client_ring(call));
}
/* Ends the call and tells the owner. */
void client_fail(struct gm_call *call, enum gm_reason_code reason, bool untouched);
/* The block and the kept body are of no more use. */
void client_forget(struct gm_call *call);
/* Both directions are over: the connection goes back or away; the call is idle. */
void client_finish(struct gm_call *call);
/* Registers or unregisters the holder, by whether slices are kept. */
void client_hold(struct gm_call *call);

/* ---- request.c ---- */

/* Writes the head, and what was given before the connection stood. */
void client_send_request(struct gm_call *call);
/* Arms the deadline of the answer's head, when the request is complete. */
void client_await_head(struct gm_call *call);

/* ---- answer.c ---- */

/* Uses what has come, as far as there is room, and asks for more. */
void client_run(struct gm_call *call);

#endif
