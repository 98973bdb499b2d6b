/* A call's life: its connection, its deadlines, its end, and sending it again when a kept
 * connection turns out dead. Owner: one ring.
 *
 * Invariants: state IDLE exactly when nothing is held, no timer runs and no connection is lent; the
 * owner hears on_fail, or the last on_end, once. */
#include "client/call.h"

#include <errno.h>
#include <string.h>

#include "client/internal.h"

static void call_expired(struct gm_timer *timer);
static void call_evacuate(struct gm_holder *holder);

/* ---- Memory ---- */

void client_forget(struct gm_call *call)
{
    call->may_repeat = false;
    gm_slice_put(call->block);
    call->block = (gm_slice){0};
    gm_chain_clear(&call->replay, client_segs(call));
}

static void put_buf(struct gm_buf **buf)
{
    if (*buf != NULL)
        gm_buf_put(*buf);
    *buf = NULL;
}

/* Back to idle. The connection must have been given away. */
static void call_release(struct gm_call *call)
{
    GM_ASSERT(call->backend == NULL);
    gm_timer_cancel(&call->timer);
    gm_ring_unhold(&call->holder);
    gm_list_remove(&call->node);
    client_forget(call);
    gm_slice_put(call->trailers);
    call->trailers = (gm_slice){0};
    gm_chain_clear(&call->held, client_segs(call));
    gm_chain_clear(&call->in, client_segs(call));
    put_buf(&call->head);
    put_buf(&call->scratch);
    call->state = GM_CALL_IDLE;
}

void client_hold(struct gm_call *call)
{
    if (call->state == GM_CALL_IDLE)
        return;
    if (call->in.count > 0 || call->held.count > 0 || call->block.buf != NULL)
        gm_ring_hold(client_ring(call), &call->holder);
    else
        gm_ring_unhold(&call->holder);
}

/* The block must stay in one piece, so it moves as one. False: no memory for it. */
static bool move_block(gm_slice *block, struct gm_ring *ring)
{
    enum gm_block kind = block->len <= GM_BLOCK_SMALL_BYTES ? GM_BLOCK_SMALL : GM_BLOCK_HEAD;
    if (block->buf == NULL || block->buf->size == GM_BLOCK_SMALL_BYTES ||
        block->buf->size == GM_BLOCK_HEAD_BYTES)
        return true;
    struct gm_buf *buf = gm_ring_block(ring, kind);
    if (buf == NULL)
        return false;
    memcpy(buf->data, block->data, block->len);
    gm_counter_add(GM_COUNTER_EVACUATIONS, 1);
    gm_slice_put(*block);
    *block = (gm_slice){buf->data, block->len, buf};
    return true;
}

/* Receive buffers are short. What is only kept for a second attempt goes; the rest moves. */
static void call_evacuate(struct gm_holder *holder)
{
    struct gm_call *call = GM_CONTAINER_OF(holder, struct gm_call, holder);
    struct gm_ring *ring = client_ring(call);
    gm_ring_evacuate(ring, &call->in);
    gm_ring_evacuate(ring, &call->held);
    if (call->state >= GM_CALL_HEAD) {
        client_forget(call);
        call->ops->on_sent(call);
        return;
    }
    (void)move_block(&call->block, ring);
    (void)move_block(&call->trailers, ring);
}

/* ---- The end ---- */

static void give_up_connection(struct gm_call *call)
{
    struct gm_backend_conn *backend = call->backend;
    call->backend = NULL;
    if (backend != NULL)
        client_drop(backend);
}

void client_fail(struct gm_call *call, enum gm_reason_code reason, bool untouched)
{
    if (call->state == GM_CALL_IDLE)
        return;
    give_up_connection(call);
    call_release(call);
    call->ops->on_fail(call, reason, untouched);
}

void gm_call_cancel(struct gm_call *call)
{
    if (call->state == GM_CALL_IDLE)
        return;
    give_up_connection(call);
    call_release(call);
}

void client_finish(struct gm_call *call)
{
    struct gm_backend_conn *backend = call->backend;
    bool keep = call->keep_alive && call->request_ended && call->state == GM_CALL_BODY &&
                !call->in_ended && call->in.count == 0 && gm_conn_queued(&backend->conn) == 0 &&
                gm_conn_is_open(&backend->conn);
    call->backend = NULL;
    if (keep)
        client_keep(backend);
    else if (call->state == GM_CALL_RAW)
        client_part(backend);
    else
        client_drop(backend);
    call_release(call);
}

/* ---- The connection ---- */

static int dial_next(struct gm_call *call)
{
    struct gm_backend_pool *pool = call->pool;
    struct gm_ring *ring = client_ring(call);
    int rc = -ECONNREFUSED;
    while (call->addr_index < pool->addr_count) {
        uint32_t left = pool->addr_count - call->addr_index;
        rc = client_dial(pool, call, &pool->addrs[call->addr_index++]);
        if (rc < 0)
            continue;
        /* Each address gets its share of what is left, so that a dead one does not use it up. */
        uint64_t now_ns = gm_ring_now_ns(ring),
                 span_ns = call->deadline_ns > now_ns ? call->deadline_ns - now_ns : 0;
        call->state = GM_CALL_CONNECTING;
        gm_timer_set(ring, &call->timer, now_ns + span_ns / left);
        return 0;
    }
    return rc;
}

/* A new connection: by address, or by name. */
static int dial_begin(struct gm_call *call)
{
    struct gm_backend_pool *pool = call->pool;
    call->addr_index = 0;
    call->deadline_ns = gm_ring_now_ns(client_ring(call)) + pool->config.connect_timeout_ns;
    if (pool->config.target->resolved)
        return dial_next(call);
    call->state = GM_CALL_RESOLVING;
    gm_timer_set(client_ring(call), &call->timer, call->deadline_ns);
    client_resolve(pool, call);
    return 0;
}

void client_resolved(struct gm_call *call, int error)
{
    if (error < 0 || dial_next(call) < 0)
        client_fail(call, GM_REASON_BACKEND_CONNECT, !call->repeated);
}

static void call_established(struct gm_call *call)
{
    call->state = GM_CALL_HEAD;
    gm_timer_cancel(&call->timer);
    client_send_request(call);
    client_run(call);
}

static void connect_failed(struct gm_call *call)
{
    give_up_connection(call);
    if (dial_next(call) < 0)
        client_fail(call, GM_REASON_BACKEND_CONNECT, !call->repeated);
}

void client_connected(struct gm_call *call, int error)
{
    if (error < 0)
        connect_failed(call);
    else
        call_established(call);
}

static void call_expired(struct gm_timer *timer)
{
    struct gm_call *call = GM_CONTAINER_OF(timer, struct gm_call, timer);
    if (call->state == GM_CALL_CONNECTING) {
        client_log_tls(call->pool, -GM_E_TIMEOUT);
        connect_failed(call);
    } else if (call->state == GM_CALL_RESOLVING) {
        client_fail(call, GM_REASON_BACKEND_CONNECT, !call->repeated);
    } else if (call->state == GM_CALL_HEAD) {
        client_fail(call, GM_REASON_BACKEND_TIMEOUT, false);
    }
}

/* A kept connection has died under the request before a byte of an answer: the backend had closed
 * it before the request arrived. Once more, on a new one. */
static bool call_repeat(struct gm_call *call)
{
    if (!call->may_repeat || call->repeated || call->answer_begun || call->state != GM_CALL_HEAD)
        return false;
    give_up_connection(call);
    gm_timer_cancel(&call->timer);
    GM_ASSERT(call->held.count == 0);
    call->held = call->replay;
    call->replay = (struct gm_chain){0};
    call->repeated = true;
    call->may_repeat = false; /* the connection will be a new one */
    call->request_ended = false;
    gm_counter_add(GM_COUNTER_RETRIES, 1);
    if (dial_begin(call) < 0)
        client_fail(call, GM_REASON_BACKEND_CONNECT, false);
    return true;
}

void client_recv_end(struct gm_call *call, int error)
{
    if (call_repeat(call))
        return;
    call->in_ended = true;
    call->in_error = error;
    client_run(call);
}

void client_broken(struct gm_call *call, int error)
{
    if (error == -GM_E_NOMEM)
        client_fail(call, GM_REASON_OVERLOAD, false);
    else if (!call_repeat(call))
        client_fail(call, GM_REASON_BACKEND_CLOSED, false);
}

void client_recv(struct gm_call *call, gm_slice slice)
{
    if (!call->answer_begun) {
        call->answer_begun = true;
        bool kept = call->replay.bytes > 0;
        client_forget(call);
        if (kept)
            call->ops->on_sent(call);
    }
    if (gm_chain_push(&call->in, client_segs(call), slice) < 0) {
        gm_slice_put(slice);
        client_fail(call, GM_REASON_OVERLOAD, false);
        return;
    }
    client_run(call);
}

void client_sent(struct gm_call *call)
{
    if (call->state != GM_CALL_IDLE)
        call->ops->on_sent(call);
}

/* ---- The owner's calls ---- */

int gm_call_start(struct gm_call *call, struct gm_backend_pool *pool, const struct gm_call_ops *ops,
                  const struct gm_call_request *request)
{
    const struct gm_head_request *head = request->head;
    memset(call, 0, sizeof *call);
    call->ops = ops;
    call->pool = pool;
    gm_list_init(&call->node);
    gm_holder_init(&call->holder, call_evacuate);
    gm_timer_init(&call->timer, call_expired);
    call->method =
        (uint8_t)gm_http_method_lookup((struct gm_http_span){head->method, head->method_len});
    call->upgrade = (head->flags & GM_HEAD_FLAG_UPGRADE) != 0;
    call->idempotent =
        gm_http_method_idempotent((enum gm_http_method)call->method) && !call->upgrade;
    bool body = (head->flags & GM_HEAD_FLAG_BODY) != 0;
    call->chunked = body && head->content_length == GM_HEAD_LENGTH_UNKNOWN;
    call->body_left = body && !call->chunked ? head->content_length : 0;
    call->block = gm_slice_ref(request->block);
    if (client_take_idle(pool, call) != NULL) {
        call->may_repeat = call->idempotent;
        call_established(call);
        client_hold(call);
        return 0;
    }
    int rc = dial_begin(call);
    if (rc < 0)
        call_release(call);
    else
        client_hold(call);
    return rc;
}

size_t gm_call_queued(const struct gm_call *call)
{
    if (call->state < GM_CALL_HEAD)
        return call->held.bytes;
    if (call->may_repeat && call->replay.bytes > 0)
        return call->replay.bytes;
    return gm_conn_queued(&call->backend->conn);
}

void gm_call_pump(struct gm_call *call)
{
    if (call->state >= GM_CALL_BODY)
        client_run(call);
}
