/* Serving: a stream that the server opened, and the backend call that answers it.
 *
 * Owner: the link's ring. A serve lives from on_open until its stream is closed. */
#ifndef GM_AGENT_SERVE_H
#define GM_AGENT_SERVE_H

#include "agent/context.h"

/* Answer bytes held for a stream before the link has pulled them: at first, and when the answer
 * turns out to be long: two receives of the largest kind. */
#define GM_SERVE_ANSWER_MIN GM_CALL_HEAD_GRANT
#define GM_SERVE_ANSWER_MAX (2u * GM_LINK_BUF_BYTES)

struct gm_serve {
    struct gm_call call;
    struct gm_stream *stream;
    struct gm_agent_ring *ctx;
    struct gm_list node;      /* in ctx->running */
    uint32_t unpulled;        /* answer bytes queued on the stream */
    uint32_t answer_reserved; /* how far `unpulled` and what has been received may go together */
    bool window_reserved;     /* the request window counts against the ring's budget */
    bool answer_done;         /* our direction has been ended */
    bool detached;            /* the stream has been reset, by either end */
    uint16_t reason;          /* how it ends, enum gm_reason_code or a newer peer's; 0: well */
    uint32_t service;         /* index */
};

/* The mux's entries for the streams of an agent's links. mux->user is a struct gm_link embedded in
 * a struct gm_agent_link. */
extern const struct gm_mux_ops gm_serve_mux_ops;

/* Resets every running stream of this ring with `draining`. */
void gm_serve_cut_all(struct gm_agent_ring *ctx);

#endif
