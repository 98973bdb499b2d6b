/* The far half of a request: a stream on a link, on the link's ring, and nothing but a translator
 * between it and the near half's messages.
 *
 * Owner: the link's ring. A far half lives from OPEN until its stream is closed; the near half may
 * have gone before, then what still comes is released. */
#ifndef GM_SERVER_FAR_H
#define GM_SERVER_FAR_H

#include "codec/codec.h"
#include "server/context.h"

struct gm_far {
    struct gm_stream *stream; /* NULL: free */
    struct gm_server_ring *ctx;
    struct gm_pair_id pair;
    uint32_t pulled;     /* bytes that have left for the link and have not been reported */
    struct gm_list node; /* in ctx->pulled_fars */
    bool near_gone;      /* it has sent RESET, or has been sent one */
};

/* Message from a near half (gm_port_ops.on_far). */
void gm_far_on_message(void *ctx, const struct gm_port_message *message);
/* Step 4 of each turn that needs it: reports what was pulled. */
void gm_far_report(struct gm_task *task);
/* The stream entries of the server's struct gm_mux_ops. */
extern const struct gm_mux_ops gm_far_mux_ops;

#endif
