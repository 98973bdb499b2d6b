/* Answers that the gateway makes itself: errors, redirect-free refusals, small documents.
 *
 * Every one carries the request id and, when it reports a failure, X-Gimlet-Error with the reason's
 * name. Clients that accept JSON get the error as JSON in the shape that OpenAI-style SDKs parse;
 * others get text whose first lines are those of Gimlet 0.0.x. */
#ifndef GM_SERVER_ANSWER_H
#define GM_SERVER_ANSWER_H

#include "frame/reason.h"
#include "http/parser.h"
#include "net/conn.h"
#include "server/context.h"

struct gm_principal;

struct gm_answer {
    unsigned status;
    enum gm_reason_code reason; /* GM_REASON_NONE: a success */
    const char *infra_code;   /* "AGENT_UNAVAILABLE"…: the multi-line infrastructure error; NULL:
                                 plain text */
    const char *message;      /* NULL: the reason's sentence */
    const char *content_type; /* with `body`: a document; NULL: text */
    const void *body;
    size_t body_len;
    struct gm_buf *document; /* instead of `body`: one reference, taken (server/document.h) */
    struct gm_http_span request_id;
    struct gm_http_span service;    /* for the access log, as far as known */
    const struct gm_principal *who; /* likewise, borrowed */
    const char *extra_field;        /* one whole "Name: value\r\n", or NULL */
    unsigned retry_after_s;         /* 0: not said */
    bool json, head_only, close, http10;
};

/* The status, infrastructure code and reason that go together for a failure of the tunnel. */
struct gm_answer gm_answer_for(enum gm_reason_code reason);
/* Writes the whole answer to the connection's queue. Bytes of its body. */
size_t gm_answer_write(struct gm_server_ring *ctx, struct gm_conn *conn,
                       const struct gm_answer *answer);
/* True when the request's Accept asks for JSON rather than anything. */
bool gm_answer_wants_json(const struct gm_http_request *head);

#endif
