/* A connection: send queue, cork, flush, close protocol. Owner: one ring.
 *
 * Invariants: a queue that has nothing to hold is given back in the step that has emptied it; the
 * bytes of the send under way are the first `sending_bytes` of `out` and stay there until on_sent;
 * the cork block holds one reference of ours while it has room, and every piece queued from it
 * holds another; nothing is written after a close was asked for. */
#include "net/conn.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "base/counter.h"
#include "net/internal.h"

static void conn_flush(struct gm_task *task);
static void conn_evacuate(struct gm_holder *holder);
static void conn_expired(struct gm_timer *timer);
static const struct gm_sock_ops conn_sock_ops;

static struct gm_conn *conn_of(struct gm_sock *sock)
{
    return GM_CONTAINER_OF(sock, struct gm_conn, sock);
}

static void conn_init(struct gm_conn *conn, const struct gm_conn_ops *ops, enum conn_state state)
{
    memset(conn, 0, sizeof *conn);
    conn->ops = ops;
    conn->state = (uint8_t)state;
    gm_timer_init(&conn->timer, conn_expired);
}

int gm_conn_open(struct gm_ring *ring, struct gm_conn *conn, int fd, const struct gm_conn_ops *ops)
{
    conn_init(conn, ops, CONN_OPEN);
    return gm_sock_open(ring, &conn->sock, fd, &conn_sock_ops);
}

int gm_conn_dial(struct gm_ring *ring, struct gm_conn *conn, const union gm_addr *to,
                 const struct gm_conn_ops *ops)
{
    conn_init(conn, ops, CONN_CONNECTING);
    return gm_sock_connect(ring, &conn->sock, to, &conn_sock_ops);
}

bool gm_conn_is_open(const struct gm_conn *conn)
{
    return conn->state == CONN_CONNECTING || conn->state == CONN_OPEN;
}

void conn_timer(struct gm_conn *conn, uint64_t span_ns)
{
    struct gm_ring *ring = gm_conn_ring(conn);
    gm_timer_set(ring, &conn->timer, gm_ring_now_ns(ring) + span_ns);
}

/* ---- The queue ---- */

static struct gm_conn_queue *conn_queue_take(struct gm_conn *conn)
{
    struct gm_conn_queue *queue = gm_ring_desk(gm_conn_ring(conn));
    *queue = (struct gm_conn_queue){.conn = conn};
    gm_task_init(&queue->flush, conn_flush);
    gm_holder_init(&queue->holder, conn_evacuate);
    conn->queue = queue;
    return queue;
}

/* The connection's queue, made when there is none. */
static struct gm_conn_queue *conn_queue(struct gm_conn *conn)
{
    return conn->queue != NULL ? conn->queue : conn_queue_take(conn);
}

static void conn_queue_give(struct gm_conn *conn)
{
    GM_ASSERT(gm_list_empty(&conn->queue->flush.node));
    gm_ring_unhold(&conn->queue->holder);
    gm_ring_desk_give(gm_conn_ring(conn), conn->queue);
    conn->queue = NULL;
}

/* Gives the queue back when it has nothing to hold. Links, which are few and hardly ever idle, keep
 * theirs. */
static void conn_rest(struct gm_conn *conn)
{
    const struct gm_conn_queue *queue = conn->queue;
    if (queue != NULL && conn->ops->on_flush == NULL && queue->sending_bytes == 0 &&
        queue->out.count == 0 && queue->cork == NULL && queue->sealed_bytes == 0 &&
        !queue->blocked && gm_list_empty(&queue->flush.node))
        conn_queue_give(conn);
}

/* What the socket is given: what was queued, or what became of it when sealed. */
static struct gm_chain *conn_wire(struct gm_conn *conn)
{
    return GM_LIKELY(conn->tls == NULL) ? &conn->queue->out : conn_tls_wire(conn);
}

void gm_conn_recv(struct gm_conn *conn, enum gm_pool pool, uint64_t bytes)
{
    if (GM_LIKELY(conn->tls == NULL))
        gm_sock_recv(&conn->sock, pool, bytes);
    else
        conn_tls_grant(conn, bytes);
}

uint64_t gm_conn_recv_left(const struct gm_conn *conn)
{
    return conn->tls == NULL ? gm_sock_recv_left(&conn->sock) : conn->tls->grant;
}

/* ---- Writing ---- */

static void conn_cork_drop(struct gm_conn_queue *queue)
{
    if (queue->cork == NULL)
        return;
    gm_buf_put(queue->cork);
    queue->cork = NULL;
    queue->cork_start = queue->cork_used = 0;
}

/* An owner that waits for the handshake takes it as the end of its dial. */
static void conn_tell_broken(struct gm_conn *conn, int error)
{
    if (conn->tls != NULL && conn->tls->connect_pending) {
        conn->tls->connect_pending = false;
        conn->ops->on_connect(conn, error);
    } else {
        conn->ops->on_broken(conn, error);
    }
}

void conn_break(struct gm_conn *conn, int error)
{
    if (!gm_conn_is_open(conn) && conn->state != CONN_BROKEN) {
        gm_conn_abort(conn, true);
        return;
    }
    conn->state = CONN_BROKEN;
    conn_tell_broken(conn, error);
}

/* What waits to be sent has become worthless. */
static void conn_drop_queue(struct gm_conn *conn)
{
    gm_chain_clear(&conn->queue->out, gm_ring_segs(gm_conn_ring(conn)));
    conn_cork_drop(conn->queue);
}

/* The end of it. */
static void conn_queue_end(struct gm_conn *conn)
{
    if (conn->queue == NULL)
        return;
    conn_drop_queue(conn);
    conn_queue_give(conn);
}

/* The peer takes nothing any more. It may have answered before it left, so reading goes on to its
 * end: an early answer that a RST follows is not lost with our send. */
static void conn_send_failed(struct gm_conn *conn, int error)
{
    if (conn->state != CONN_OPEN || conn->send_error != 0) {
        conn_break(conn, error);
        return;
    }
    conn->send_error = (int16_t)error;
    conn_drop_queue(conn);
    gm_chain_clear(conn_wire(conn), gm_ring_segs(gm_conn_ring(conn)));
    conn->queue->sealed_bytes = 0;
    conn->queue->blocked = false;
    gm_ring_unhold(&conn->queue->holder);
    conn_rest(conn);
    conn_timer(conn, GM_CONN_VERDICT_NS);
}

static bool conn_writes(const struct gm_conn *conn)
{
    return gm_conn_is_open(conn) && conn->send_error == 0;
}

/* Told later, so that no owner is called back from its own call. */
void conn_starve(struct gm_conn *conn)
{
    if (conn->state == CONN_CLOSING || conn->state == CONN_DETACHING) {
        gm_conn_abort(conn, true); /* bytes are missing, and only the peer is left to tell */
        return;
    }
    if (conn->state == CONN_OPEN || conn->state == CONN_CONNECTING)
        conn->state = CONN_BROKEN;
    gm_conn_kick(conn);
}

static bool conn_push(struct gm_conn *conn, gm_slice slice)
{
    if (GM_LIKELY(gm_chain_push(&conn->queue->out, gm_ring_segs(gm_conn_ring(conn)), slice) == 0))
        return true;
    gm_slice_put(slice);
    conn_starve(conn);
    return false;
}

/* Moves what was written to the cork block into the queue, so that the order of pieces is kept. */
static bool conn_cork_queue(struct gm_conn *conn)
{
    struct gm_conn_queue *queue = conn->queue;
    if (queue->cork == NULL || queue->cork_used == queue->cork_start)
        return true;
    gm_slice piece = {queue->cork->data + queue->cork_start,
                      (uint32_t)(queue->cork_used - queue->cork_start), queue->cork};
    gm_buf_ref(queue->cork);
    queue->cork_start = queue->cork_used;
    return conn_push(conn, piece);
}

void gm_conn_kick(struct gm_conn *conn)
{
    if (conn->state != CONN_CLOSED)
        gm_ring_flush(gm_conn_ring(conn), &conn_queue(conn)->flush);
}

void *gm_conn_reserve(struct gm_conn *conn, size_t need)
{
    GM_ASSERT(need <= GM_BLOCK_HEAD_BYTES);
    if (!conn_writes(conn))
        return NULL;
    struct gm_conn_queue *queue = conn_queue(conn);
    if (queue->cork != NULL && queue->cork->size - queue->cork_used < need) {
        if (!conn_cork_queue(conn))
            return NULL;
        conn_cork_drop(queue);
    }
    if (queue->cork == NULL) {
        queue->cork = gm_ring_block(gm_conn_ring(conn),
                                    need <= GM_BLOCK_SMALL_BYTES ? GM_BLOCK_SMALL : GM_BLOCK_HEAD);
        if (queue->cork == NULL) {
            conn_starve(conn);
            return NULL;
        }
        queue->cork_start = queue->cork_used = 0;
    }
    return queue->cork->data + queue->cork_used;
}

void gm_conn_commit(struct gm_conn *conn, size_t used)
{
    struct gm_conn_queue *queue = conn->queue;
    GM_ASSERT(queue != NULL && queue->cork != NULL && used <= queue->cork->size - queue->cork_used);
    /* A head block is longer than the 16-bit offsets reach: it is queued whole and never filled
     * further. */
    if (queue->cork->size > UINT16_MAX) {
        gm_slice piece = {queue->cork->data, (uint32_t)used, queue->cork};
        queue->cork = NULL;
        if (!conn_push(conn, piece))
            return;
    } else {
        queue->cork_used = (uint16_t)(queue->cork_used + used);
    }
    gm_ring_flush(gm_conn_ring(conn), &queue->flush);
}

void gm_conn_write(struct gm_conn *conn, const void *bytes, size_t len)
{
    const uint8_t *from = bytes;
    while (len > 0) {
        const struct gm_conn_queue *queue = conn->queue;
        bool corked = queue != NULL && queue->cork != NULL;
        size_t room = corked ? queue->cork->size - queue->cork_used : 0;
        size_t part = len < GM_BLOCK_SMALL_BYTES ? len : GM_BLOCK_SMALL_BYTES;
        if (room > 0 && part > room)
            part = room;
        void *to = gm_conn_reserve(conn, part);
        if (to == NULL)
            return;
        memcpy(to, from, part);
        gm_conn_commit(conn, part);
        gm_counter_add(GM_COUNTER_COPIES_SMALL, 1);
        gm_counter_add(GM_COUNTER_COPIES_SMALL_BYTES, part);
        from += part;
        len -= part;
    }
}

void gm_conn_write_slice(struct gm_conn *conn, gm_slice slice)
{
    if (!conn_writes(conn)) {
        gm_slice_put(slice);
        return;
    }
    if (slice.len < GM_CONN_CORK_MAX) {
        gm_conn_write(conn, slice.data, slice.len);
        gm_slice_put(slice);
        return;
    }
    gm_conn_push(conn, slice);
}

void gm_conn_push(struct gm_conn *conn, gm_slice slice)
{
    if (!conn_writes(conn)) {
        gm_slice_put(slice);
        return;
    }
    (void)conn_queue(conn);
    if (!conn_cork_queue(conn))
        gm_slice_put(slice);
    else if (conn_push(conn, slice))
        gm_conn_kick(conn);
}

/* ---- Flushing ---- */

static void conn_release(struct gm_conn *conn)
{
    if (conn->queue != NULL) {
        gm_task_cancel(&conn->queue->flush);
        gm_ring_unhold(&conn->queue->holder);
    }
    gm_timer_cancel(&conn->timer);
    if (conn->tls != NULL)
        conn_tls_stop(conn);
}

static void conn_queue_empty(struct gm_conn *conn)
{
    conn_cork_drop(conn->queue);
    gm_ring_unhold(&conn->queue->holder);
    if (conn->state == CONN_DETACHING) {
        conn_release(conn);
        gm_sock_detach(&conn->sock);
        return;
    }
    if (!conn->fin_queued || conn->state == CONN_LINGERING)
        return;
    if (conn->tls != NULL && conn_tls_farewell(conn))
        return;
    if (conn->state == CONN_CLOSING && conn->recv_ended) {
        gm_conn_abort(conn, false);
    } else if (conn->state == CONN_CLOSING) {
        gm_sock_shutdown(&conn->sock);
        conn->state = CONN_LINGERING;
        conn->linger_left = GM_CONN_LINGER_BYTES;
        conn_timer(conn, GM_CONN_LINGER_NS);
        gm_sock_recv(&conn->sock, (enum gm_pool)conn->sock.pool, GM_CONN_LINGER_BYTES);
    } else if (conn->state == CONN_OPEN) {
        gm_sock_shutdown(&conn->sock);
        conn->fin_queued = false;
    }
}

static void conn_send(struct gm_conn *conn)
{
    struct gm_conn_queue *queue = conn->queue;
    if (queue->blocked || queue->sending_bytes > 0 || !conn_cork_queue(conn))
        return;
    if (conn->tls != NULL && !conn_tls_fill(conn))
        return;
    struct gm_chain *wire = conn_wire(conn);
    if (wire->count == 0) {
        if (queue->out.count == 0)
            conn_queue_empty(conn);
        return; /* or the handshake is not done, or blocks are short */
    }
    struct iovec iov[GM_SEND_IOV];
    unsigned count = gm_chain_peek(wire, iov, GM_SEND_IOV, GM_CONN_SEND_BYTES);
    size_t bytes = 0;
    for (unsigned i = 0; i < count; i++)
        bytes += iov[i].iov_len;
    bool more = bytes < wire->bytes || (wire != &queue->out && queue->out.bytes > 0);
    int rc = gm_sock_send(&conn->sock, iov, count, more);
    if (rc < 0) {
        conn_break(conn, rc);
        return;
    }
    queue->sending_bytes = (uint32_t)bytes;
}

static void conn_flush(struct gm_task *task)
{
    struct gm_conn *conn = GM_CONTAINER_OF(task, struct gm_conn_queue, flush)->conn;
    bool writes = conn->state != CONN_CONNECTING && conn->send_error == 0;
    if (conn->state == CONN_BROKEN) {
        conn_tell_broken(conn, -GM_E_NOMEM);
    } else if (writes && conn->state != CONN_CLOSED) {
        if (conn->state == CONN_OPEN && conn->ops->on_flush != NULL && !conn->queue->blocked)
            conn->ops->on_flush(conn);
        if (conn->state != CONN_CLOSED)
            conn_send(conn);
    }
    conn_rest(conn);
}

/* The socket has taken what it was given. What has been queued since, or may be by now, leaves at
 * the end of the turn; when there can be no such, that was all. */
static void conn_go_on(struct gm_conn *conn)
{
    if (conn->tls != NULL || conn->ops->on_flush != NULL || gm_conn_queued(conn) > 0) {
        gm_conn_kick(conn);
        return;
    }
    conn_queue_empty(conn);
    conn_rest(conn);
}

static void conn_sent(struct gm_sock *sock, ssize_t result)
{
    struct gm_conn *conn = conn_of(sock);
    struct gm_conn_queue *queue = conn->queue;
    if (conn->state == CONN_CLOSED)
        return;
    size_t offered = queue->sending_bytes;
    queue->sending_bytes = 0;
    if (result < 0) {
        conn_send_failed(conn, (int)result);
        return;
    }
    size_t bytes = (size_t)result;
    GM_ASSERT(bytes <= offered);
    gm_chain_consume(conn_wire(conn), gm_ring_segs(gm_conn_ring(conn)), bytes);
    queue->blocked = bytes < offered;
    if (conn->tls != NULL)
        bytes = conn_tls_sent(conn, bytes);
    if (queue->blocked)
        gm_ring_hold(gm_conn_ring(conn), &queue->holder);
    if (!gm_conn_is_open(conn)) {
        if (result > 0)
            conn_timer(conn, GM_CONN_CLOSE_STALL_NS);
        gm_conn_kick(conn);
        return;
    }
    if (bytes > 0)
        conn->ops->on_sent(conn, bytes);
    if (conn->state != CONN_CLOSED && !queue->blocked)
        conn_go_on(conn);
}

static void conn_writable(struct gm_sock *sock)
{
    struct gm_conn *conn = conn_of(sock);
    if (conn->queue != NULL)
        conn->queue->blocked = false;
    gm_conn_kick(conn);
}

/* Evacuation never meets a send under way: sends end within a turn and this runs before the flush's
 * sends are submitted only for connections that are blocked. */
static void conn_evacuate(struct gm_holder *holder)
{
    struct gm_conn_queue *queue = GM_CONTAINER_OF(holder, struct gm_conn_queue, holder);
    struct gm_conn *conn = queue->conn;
    if (queue->sending_bytes > 0)
        return;
    gm_ring_evacuate(gm_conn_ring(conn), &queue->out);
    if (conn->tls != NULL)
        gm_ring_evacuate(gm_conn_ring(conn), &conn->tls->out);
}

/* ---- Receiving, closing ---- */

static void conn_recv(struct gm_sock *sock, gm_slice slice)
{
    struct gm_conn *conn = conn_of(sock);
    if (GM_LIKELY(conn->state == CONN_OPEN && conn->tls == NULL)) {
        conn->ops->on_recv(conn, slice);
        return;
    }
    if (conn->state == CONN_OPEN || conn->state == CONN_DETACHING) {
        conn_tls_recv(conn, slice);
        return;
    }
    uint32_t len = slice.len;
    gm_slice_put(slice);
    if (conn->state != CONN_LINGERING)
        return;
    conn->linger_left -= len < conn->linger_left ? len : conn->linger_left;
    if (conn->linger_left == 0)
        gm_conn_abort(conn, false);
}

static void conn_recv_end(struct gm_sock *sock, int error)
{
    struct gm_conn *conn = conn_of(sock);
    conn->recv_ended = true;
    if (conn->state == CONN_OPEN && conn->tls != NULL) {
        conn_tls_recv_end(conn, error);
    } else if (conn->state == CONN_OPEN) {
        conn->ops->on_recv_end(conn, error);
    } else if (conn->state == CONN_LINGERING || conn->state == CONN_DETACHING || error < 0) {
        gm_conn_abort(conn, false);
    }
}

static bool conn_message(struct gm_sock *sock)
{
    return conn_tls_message(conn_of(sock));
}

static void conn_hangup(struct gm_sock *sock)
{
    struct gm_conn *conn = conn_of(sock);
    if (conn->state == CONN_OPEN)
        conn->ops->on_hangup(conn);
}

static void conn_connected(struct gm_sock *sock, int error)
{
    struct gm_conn *conn = conn_of(sock);
    if (conn->state != CONN_CONNECTING)
        return;
    if (error == 0) {
        conn->state = CONN_OPEN;
        gm_conn_kick(conn);
    }
    if (error == 0 && conn->tls != NULL)
        conn_tls_connected(conn);
    else
        conn->ops->on_connect(conn, error);
}

/* What the peer has not taken must not look like the end of it. */
static void conn_expired(struct gm_timer *timer)
{
    struct gm_conn *conn = GM_CONTAINER_OF(timer, struct gm_conn, timer);
    if (conn->send_error != 0 && conn->state == CONN_OPEN)
        conn_break(conn, conn->send_error);
    else if (gm_conn_is_open(conn))
        conn->ops->on_deadline(conn);
    else if (conn->state != CONN_BROKEN) /* its owner hears of it in this turn's flush */
        gm_conn_abort(conn, conn->state == CONN_CLOSING);
}

void gm_conn_deadline(struct gm_conn *conn, uint64_t span_ns)
{
    if (!conn_writes(conn))
        return; /* the timer is ours */
    if (span_ns == 0)
        gm_timer_cancel(&conn->timer);
    else
        conn_timer(conn, span_ns);
}

void gm_conn_finish(struct gm_conn *conn)
{
    if (!conn_writes(conn))
        return;
    conn->fin_queued = true;
    gm_conn_kick(conn);
}

void gm_conn_close(struct gm_conn *conn)
{
    if (!gm_conn_is_open(conn) && conn->state != CONN_BROKEN)
        return;
    bool unready = conn->tls != NULL && !conn->tls->ready;
    if (conn->state == CONN_CONNECTING || conn->state == CONN_BROKEN || unready) {
        gm_conn_abort(conn, false);
        return;
    }
    if (conn->send_error != 0) {
        gm_conn_abort(conn, true); /* what was dropped must not look delivered */
        return;
    }
    conn->state = CONN_CLOSING;
    conn->fin_queued = true;
    conn_timer(conn, GM_CONN_CLOSE_STALL_NS);
    gm_conn_kick(conn);
}

/* A TLS alert that waits tells the peer why: it leaves, and nothing else does. */
static bool conn_last_words(struct gm_conn *conn)
{
    bool due = conn->state == CONN_OPEN && conn->tls != NULL && conn->tls->failed &&
               conn->tls->out.count > 0 && conn->send_error == 0;
    if (!due)
        return false;
    conn_tls_stop(conn);
    (void)conn_queue(conn);
    conn_drop_queue(conn);
    conn->state = CONN_CLOSING;
    conn->fin_queued = true;
    conn_timer(conn, GM_CONN_LINGER_NS);
    gm_conn_kick(conn);
    return true;
}

void gm_conn_abort(struct gm_conn *conn, bool reset)
{
    if (conn->state == CONN_CLOSED || conn_last_words(conn))
        return;
    /* A queue that memory ran out for has a hole: that is never a clean end. */
    reset = reset || conn->state == CONN_BROKEN;
    conn->state = CONN_CLOSED;
    conn_release(conn);
    gm_sock_close(&conn->sock, reset);
}

static void conn_closed(struct gm_sock *sock)
{
    struct gm_conn *conn = conn_of(sock);
    /* Only now has the kernel let go of the bytes of a send that may have been under way. */
    conn_queue_end(conn);
    if (conn->tls != NULL)
        conn_tls_free(conn);
    conn->ops->on_closed(conn);
}

void gm_conn_detach(struct gm_conn *conn)
{
    GM_ASSERT(conn->state == CONN_OPEN && gm_conn_queued(conn) == 0);
    gm_timer_cancel(&conn->timer);
    if (conn->tls != NULL) {
        /* The handshake's last words (tickets) may still be on their way. */
        conn->state = CONN_DETACHING;
        gm_conn_kick(conn);
        return;
    }
    GM_ASSERT(conn->queue == NULL || conn->queue->sending_bytes == 0);
    conn_release(conn);
    gm_sock_detach(&conn->sock);
}

static void conn_detached(struct gm_sock *sock, int fd)
{
    struct gm_conn *conn = conn_of(sock);
    conn->state = CONN_CLOSED;
    conn_queue_end(conn);
    struct gm_conn_tls *tls = conn->tls;
    if (tls != NULL && (tls->foreign || tls->in.count > 0 || tls->plain.count > 0)) {
        gm_ring_close_fd(gm_conn_ring(conn), fd);
        conn_tls_free(conn);
        conn->ops->on_closed(conn);
        return;
    }
    conn->ops->on_detached(conn, fd);
}

static const struct gm_sock_ops conn_sock_ops = {
    .on_recv = conn_recv,
    .on_recv_end = conn_recv_end,
    .on_message = conn_message,
    .on_hangup = conn_hangup,
    .on_sent = conn_sent,
    .on_writable = conn_writable,
    .on_connect = conn_connected,
    .on_closed = conn_closed,
    .on_detached = conn_detached,
};
