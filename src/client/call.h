/* A call: one request to a backend and its answer, over a connection of a pool. HTTP/1.1, written
 * from a decoded request block (frame/head.h), parsed strictly on the way back.
 *
 * Owner: the ring. Embedded in its owner's object. Payload moves as slices in both directions and
 * is not copied. A call is over, and its memory reusable, after on_end (with an upgrade: after both
 * directions), on_fail or gm_call_cancel. The owner may call any gm_call_* from within a callback,
 * except gm_call_start. */
#ifndef GM_CLIENT_CALL_H
#define GM_CLIENT_CALL_H

#include "client/pool.h"
#include "frame/head.h"
#include "frame/reason.h"
#include "http/chunked.h"
#include "http/parser.h"

/* What a backend may send before the owner has made room for a body: its head, and the body bytes
 * that come with it. The owner reserves it. */
#define GM_CALL_HEAD_GRANT 16384u
/* Body bytes kept so that a request can be sent again when a kept connection turns out dead: half
 * of the smallest window that a sender starts with, so that he never waits for them. */
#define GM_CALL_REPLAY_BYTES (32u << 10)
/* Interim answers (1xx): they are not subject to credit, so their number is bounded. */
#define GM_CALL_INTERIM_MAX 64u

enum gm_call_state {
    GM_CALL_IDLE,       /* not started, or over */
    GM_CALL_RESOLVING,  /* waits for the pool's lookup */
    GM_CALL_CONNECTING, /* an address is being dialled */
    GM_CALL_HEAD,       /* the request is being sent; no final head yet */
    GM_CALL_BODY,
    GM_CALL_RAW /* upgraded: raw bytes both ways */
};

struct gm_call_ops {
    /* Body bytes of the answer that the owner can take now. */
    size_t (*room)(struct gm_call *call);
    /* A head: interim (1xx but 101) or final. `end`: no body follows; on_end comes at once. */
    void (*on_head)(struct gm_call *call, const struct gm_http_response *head, bool end);
    /* Takes the slice; never more than `room`. */
    void (*on_data)(struct gm_call *call, gm_slice slice);
    /* The answer is complete. `trailers` has count 0 when there are none. */
    void (*on_end)(struct gm_call *call, const struct gm_http_fields *trailers);
    /* The backend's socket has taken request bytes: see gm_call_queued. */
    void (*on_sent)(struct gm_call *call);
    /* It cannot go on, or the answer was cut short. `untouched`: the backend has seen nothing. */
    void (*on_fail)(struct gm_call *call, enum gm_reason_code reason, bool untouched);
};

struct gm_call {
    const struct gm_call_ops *ops;
    struct gm_backend_pool *pool;
    struct gm_backend_conn *backend;
    struct gm_list node; /* on pool->waiting */
    struct gm_holder holder;
    struct gm_timer timer; /* connect, then the answer's head */
    uint64_t deadline_ns;  /* of the connect, all addresses together */
    uint32_t addr_index;   /* of the next address to dial */
    uint8_t state;         /* enum gm_call_state */

    /* Request. */
    uint8_t method; /* enum gm_http_method */
    bool chunked, upgrade, idempotent;
    bool request_done;      /* its end has been given */
    bool request_ended;     /* and written */
    bool may_repeat;        /* block and replay are whole, and nothing of an answer has come */
    bool repeated;          /* it is being sent for the second time */
    uint64_t body_left;     /* counted body: still to be given */
    gm_slice block;         /* the request block, while the head may have to be written (again) */
    gm_slice trailers;      /* given before the connection stood */
    struct gm_chain held;   /* body given before the connection stood */
    struct gm_chain replay; /* body written so far, while may_repeat on a used connection */

    /* Answer. */
    bool answer_begun, answer_ended;
    bool in_ended; /* the backend has ended its direction; in_error: how */
    bool running;  /* within call_run: no recursion */
    bool keep_alive;
    uint8_t interims;
    uint8_t framing; /* enum gm_http_body */
    int in_error;
    uint64_t answer_left;
    struct gm_chain in;  /* received and not yet used */
    struct gm_buf *head; /* an incomplete head, gathered */
    uint32_t head_len, head_copied;
    size_t head_scanned;
    struct gm_http_chunked decoder;
    struct gm_buf *scratch; /* for trailers */
};

struct gm_call_request {
    const struct gm_head_request *head; /* decoded from `block`; borrowed until return */
    gm_slice block;                     /* of this ring; borrowed until return (it is referenced) */
};

/* Starts it: the pool's connection, or a new one. Negative: nothing was sent and the call is not
 * under way (-GM_E_NOMEM, or -errno of a connect that failed at once). */
int gm_call_start(struct gm_call *call, struct gm_backend_pool *pool, const struct gm_call_ops *ops,
                  const struct gm_call_request *request) GM_WARN_UNUSED;
/* Body bytes, taken in every case. -GM_E_PROTOCOL: more than was announced; -GM_E_NOMEM. The call
 * is still under way then: the owner cancels. */
int gm_call_data(struct gm_call *call, gm_slice slice) GM_WARN_UNUSED;
/* The trailers of a chunked request, a block (borrowed): then gm_call_end. Dropped when the body is
 * counted. */
void gm_call_trailers(struct gm_call *call, gm_slice block);
/* The request is complete (upgraded: half-closed). -GM_E_PROTOCOL: shorter than announced. */
int gm_call_end(struct gm_call *call) GM_WARN_UNUSED;
/* Body bytes given and not yet taken by the backend's socket, framing included. */
size_t gm_call_queued(const struct gm_call *call);
/* `room` has grown. */
void gm_call_pump(struct gm_call *call);
/* Ends it now; the connection is closed. No callback follows. */
void gm_call_cancel(struct gm_call *call);

static inline bool gm_call_active(const struct gm_call *call)
{
    return call->state != GM_CALL_IDLE;
}

#endif
