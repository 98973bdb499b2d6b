/* TLS between a connection's queue and its socket. Owner: the connection's ring.
 *
 * Inbound: socket -> `in` -> opened in place -> `plain` -> the owner, as far as it has granted.
 * Outbound: the queue's `out` -> sealed into blocks of the credit store (the plaintext they replace
 * is reserved there) -> `out` -> socket. With kernel TLS (tls/kernel.h), where there is it: socket
 * -> `plain`, the queue's `out` -> socket. Invariants: plaintext is sealed only when nothing sealed
 * waits, so at most one batch is; the owner is told of an end once, behind all payload. */
#include <errno.h>
#include <stdlib.h>

#include "base/counter.h"
#include "net/internal.h"
#include "tls/kernel.h"

/* Granted to the socket ahead of any grant of the owner's: a flight of the handshake. */
#define TLS_FLIGHT_GRANT 16384u
#define TLS_BATCH_MIN    (GM_BLOCK_SMALL_BYTES - GM_TLS_OVERHEAD_MAX)
#define TLS_BATCH_FIRST  (GM_TLS_PAYLOAD_MAX - GM_TLS_OVERHEAD_MAX)
/* A record with so much payload is sealed into a spare receive buffer. */
#define TLS_SPARE_MIN (GM_CLIENT_BUF_BYTES / 2u)
/* A batch that does not leave takes at most so much more room than the plaintext it replaces. */
#define TLS_BLOCKED_BYTES (2u * GM_BLOCK_SMALL_BYTES)

static void tls_process(struct gm_conn *conn);
static void tls_flight(struct gm_conn *conn);
static void tls_deliver(struct gm_conn *conn);

static struct gm_ring *tls_ring(const struct gm_conn_tls *tls)
{
    return gm_conn_ring(tls->conn);
}
static struct gm_seg_pool *tls_segs(const struct gm_conn_tls *tls)
{
    return gm_ring_segs(tls_ring(tls));
}
/* What is sealed goes to blocks of the store that its plaintext is reserved in, or, where it is
 * much, to spare receive buffers: a record in one piece is sealed faster than one in four. */
static struct gm_buf *tls_block(void *arg)
{
    struct gm_conn_tls *tls = arg;
    const struct gm_conn_queue *queue = tls->conn->queue;
    size_t queued = queue != NULL ? queue->out.bytes : 0;
    size_t next = queued < tls->batch ? queued : tls->batch;
    struct gm_buf *buf = NULL;
    if (tls->ready && next >= TLS_SPARE_MIN)
        buf = gm_ring_block(tls_ring(tls), GM_BLOCK_SPARE);
    return buf != NULL ? buf : gm_ring_block(tls_ring(tls), GM_BLOCK_CREDIT);
}
static struct gm_tls_io tls_io(struct gm_conn_tls *tls)
{
    return (struct gm_tls_io){
        .in = &tls->in,
        .plain = &tls->plain,
        .sink = {.out = &tls->out, .segs = tls_segs(tls), .block = tls_block, .arg = tls},
    };
}

/* ---- Memory ---- */

/* Keeps the reservation equal to what is held on the peer's account. Links are few, and must be
 * read whatever happens: they have a pool of their own and reserve nothing. */
static void tls_settle(struct gm_conn_tls *tls)
{
    size_t held = tls->in.bytes + tls->plain.bytes;
    if (held > 0)
        gm_ring_hold(tls_ring(tls), &tls->holder);
    else
        gm_ring_unhold(&tls->holder);
    const struct gm_conn_queue *queue = tls->conn->queue;
    if (queue != NULL && queue->blocked && tls->out.bytes > 0)
        held += TLS_BLOCKED_BYTES;
    if (tls->pool == GM_POOL_LINK || held == tls->reserved)
        return;
    if (held < tls->reserved) {
        gm_ring_unreserve(tls_ring(tls), tls->reserved - held);
    } else if (!gm_ring_reserve(tls_ring(tls), held - tls->reserved)) {
        gm_counter_add(GM_COUNTER_TLS_CUT, 1);
        conn_starve(tls->conn);
        return;
    }
    tls->reserved = (uint32_t)held;
}

static void tls_evacuate(struct gm_holder *holder)
{
    struct gm_conn_tls *tls = GM_CONTAINER_OF(holder, struct gm_conn_tls, holder);
    gm_ring_evacuate(tls_ring(tls), &tls->in);
    gm_ring_evacuate(tls_ring(tls), &tls->plain);
}

/* ---- Receiving ---- */

static bool tls_is_open(const struct gm_conn *conn)
{
    return conn->state == CONN_OPEN;
}

/* What the handshake may receive: the kernel takes over where it ends, to the byte. */
static uint64_t tls_flight_grant(const struct gm_conn_tls *tls)
{
    if (!gm_tls_kernel_is_enabled())
        return TLS_FLIGHT_GRANT;
    return tls->in.count == 0 ? GM_TLS_HEADER_BYTES : gm_tls_missing(tls->session, &tls->in);
}

/* Asks the socket for what the owner has room for, and for the rest of a record under way. */
static void tls_pull(struct gm_conn_tls *tls)
{
    struct gm_sock *sock = &tls->conn->sock;
    uint64_t left = gm_sock_recv_left(sock), want;
    if (tls->ended || left == GM_RECV_UNLIMITED || !tls_is_open(tls->conn))
        return;
    if (!tls->ready) {
        want = tls_flight_grant(tls);
    } else if (tls->grant == GM_RECV_UNLIMITED) {
        want = GM_RECV_UNLIMITED;
    } else {
        uint32_t missing = gm_tls_missing(tls->session, &tls->in);
        want = tls->grant > tls->plain.bytes ? tls->grant - tls->plain.bytes : 0;
        if (want > 0 && want < missing)
            want = missing;
    }
    if (want > left)
        gm_sock_recv(sock, (enum gm_pool)tls->pool, want - left);
}

/* The connection is of no use any more. An owner that waits for it to stand hears so. */
static void tls_tell_end(struct gm_conn *conn, int error)
{
    struct gm_conn_tls *tls = conn->tls;
    tls->end_told = true;
    if (tls->connect_pending) {
        tls->connect_pending = false;
        conn->ops->on_connect(conn, error);
    } else {
        conn->ops->on_recv_end(conn, error);
    }
}

static void tls_end(struct gm_conn_tls *tls, int error)
{
    if (tls->ended)
        return;
    tls->ended = true;
    tls->end_error = (int16_t)error;
    gm_chain_clear(&tls->in, tls_segs(tls));
}

static int tls_say(struct gm_conn_tls *tls)
{
    return gm_tls_kernel_say(tls->session, tls->conn->sock.fd);
}

static void tls_fail(struct gm_conn_tls *tls, int error)
{
    tls->failed = true;
    if (gm_tls_kernel_sends(tls->session))
        (void)tls_say(tls); /* an alert; one that does not leave now never does */
    gm_counter_add(GM_COUNTER_TLS_FAILED, 1);
    gm_chain_clear(&tls->plain, tls_segs(tls));
    tls_end(tls, error);
    gm_conn_kick(tls->conn); /* an alert may wait */
}

/* At most `max` bytes from the front of what has been opened. */
static gm_slice tls_take(struct gm_conn_tls *tls, uint64_t max)
{
    gm_slice front = gm_chain_front(&tls->plain);
    if (front.len <= max)
        return gm_chain_pop(&tls->plain, tls_segs(tls));
    front.len = (uint32_t)max;
    gm_buf_ref(front.buf);
    gm_chain_consume(&tls->plain, tls_segs(tls), front.len);
    return front;
}

static void tls_deliver(struct gm_conn *conn)
{
    struct gm_conn_tls *tls = conn->tls;
    tls->delivering = true;
    while (tls_is_open(conn) && tls->plain.count > 0 && tls->grant > 0) {
        gm_slice slice = tls_take(tls, tls->grant);
        if (tls->grant != GM_RECV_UNLIMITED)
            tls->grant -= slice.len;
        conn->ops->on_recv(conn, slice);
    }
    tls->delivering = false;
    if (tls_is_open(conn) && tls->plain.count == 0 && tls->ended && !tls->end_told)
        tls_tell_end(conn, tls->end_error);
    if (!tls_is_open(conn))
        return;
    tls_settle(tls);
    tls_pull(tls);
}

static void tls_deliver_task(struct gm_task *task)
{
    struct gm_conn_tls *tls = GM_CONTAINER_OF(task, struct gm_conn_tls, deliver);
    if (!tls_is_open(tls->conn))
        return;
    bool first = tls->hello_due;
    tls->hello_due = false;
    if (first)
        tls_flight(tls->conn);
    else if (tls->in.count > 0)
        tls_process(tls->conn); /* unread bytes */
    else
        tls_deliver(tls->conn);
}

void conn_tls_grant(struct gm_conn *conn, uint64_t bytes)
{
    struct gm_conn_tls *tls = conn->tls;
    bool overflows = bytes >= GM_RECV_UNLIMITED - tls->grant;
    tls->grant = overflows ? GM_RECV_UNLIMITED : tls->grant + bytes;
    if (tls->delivering || conn->state == CONN_CONNECTING)
        return;
    if (tls->plain.count > 0 || (tls->ended && !tls->end_told))
        gm_ring_soon(tls_ring(tls), &tls->deliver);
    else
        tls_pull(tls);
}

/* ---- Handshake ---- */

/* The peer's direction, if nothing of it was received that the kernel would miss. */
static void tls_give_kernel(struct gm_conn *conn)
{
    struct gm_conn_tls *tls = conn->tls;
    if (!gm_tls_kernel_is_enabled() || tls->in.count > 0 || gm_sock_recv_left(&conn->sock) > 0 ||
        gm_tls_kernel_take_receiving(tls->session, conn->sock.fd) < 0)
        return;
    gm_counter_add(GM_COUNTER_TLS_KERNEL_RECEIVES, 1);
    gm_sock_set_records(&conn->sock);
}

static void tls_established(struct gm_conn *conn)
{
    struct gm_conn_tls *tls = conn->tls;
    tls->ready = true;
    gm_counter_add(GM_COUNTER_TLS_HANDSHAKES, 1);
    tls_give_kernel(conn);
    gm_conn_kick(conn); /* what was written meanwhile */
    if (tls->connect_pending) {
        tls->connect_pending = false;
        conn->ops->on_connect(conn, 0);
    }
    if (tls_is_open(conn))
        tls_process(conn);
}

static void tls_flight(struct gm_conn *conn)
{
    struct gm_conn_tls *tls = conn->tls;
    struct gm_tls_io io = tls_io(tls);
    int rc = gm_tls_handshake(tls->session, &io);
    if (tls->out.count > 0)
        gm_conn_kick(conn);
    if (rc == 1) {
        tls_established(conn);
        return;
    }
    if (rc < 0)
        tls_fail(tls, rc);
    tls_deliver(conn);
}

static void room_turn(struct gm_mail *mail);

/* True: this turn may still work on a flight. Else the connection waits for the next one. */
static bool room_admits(struct gm_conn_tls *tls)
{
    struct gm_tls_room *room = tls->room;
    if (room->turn_ns != gm_ring_now_ns(room->ring)) {
        room->turn_ns = gm_ring_now_ns(room->ring);
        room->flights_left = GM_TLS_FLIGHTS_PER_TURN;
    }
    if (room->flights_left > 0) {
        room->flights_left--;
        return true;
    }
    gm_counter_add(GM_COUNTER_TLS_WAITS, 1);
    gm_list_push_back(&room->waiting, &tls->waiting);
    if (!room->mailed) {
        room->mailed = true;
        room->mail.deliver = room_turn;
        gm_ring_mail(room->ring, gm_ring_index(room->ring), &room->mail);
    }
    return false;
}

static void tls_greet(struct gm_conn *conn)
{
    struct gm_conn_tls *tls = conn->tls;
    if (!gm_list_empty(&tls->waiting))
        return;
    if (tls->in.count == 0 || gm_tls_missing(tls->session, &tls->in) > 0)
        tls_deliver(conn); /* nothing to give: asks for more */
    else if (room_admits(tls))
        tls_flight(conn);
}

static void room_turn(struct gm_mail *mail)
{
    struct gm_tls_room *room = GM_CONTAINER_OF(mail, struct gm_tls_room, mail);
    room->mailed = false;
    struct gm_list waiting, *node;
    gm_list_init(&waiting);
    gm_list_splice_back(&waiting, &room->waiting);
    while ((node = gm_list_pop_front(&waiting)) != NULL) {
        struct gm_conn *conn = GM_CONTAINER_OF(node, struct gm_conn_tls, waiting)->conn;
        if (tls_is_open(conn))
            tls_greet(conn);
    }
}

void gm_tls_room_init(struct gm_tls_room *room, struct gm_ring *ring)
{
    *room = (struct gm_tls_room){.ring = ring};
    gm_list_init(&room->waiting);
}

/* ---- What the socket tells ---- */

/* What the session has made of what came: as gm_tls_open. */
static void tls_heard(struct gm_conn *conn, int rc)
{
    struct gm_conn_tls *tls = conn->tls;
    if (tls->out.count > 0 || gm_tls_kernel_sends(tls->session))
        gm_conn_kick(conn); /* a key update, or an alert */
    if (rc == 1)
        tls_end(tls, 0);
    else if (rc < 0)
        tls_fail(tls, rc);
    tls_deliver(conn);
}

static void tls_process(struct gm_conn *conn)
{
    struct gm_conn_tls *tls = conn->tls;
    if (!tls->ready) {
        tls_greet(conn);
        return;
    }
    struct gm_tls_io io = tls_io(tls);
    bool opens = !tls->ended && !gm_tls_kernel_receives(tls->session);
    tls_heard(conn, opens ? gm_tls_open(tls->session, &io) : 0);
}

void conn_tls_connected(struct gm_conn *conn)
{
    tls_flight(conn); /* our first, which needs nothing of the peer's */
}

void conn_tls_recv(struct gm_conn *conn, gm_slice slice)
{
    struct gm_conn_tls *tls = conn->tls;
    if (tls->ended || conn->state == CONN_DETACHING) {
        tls->foreign = true;
        gm_slice_put(slice);
        return;
    }
    bool opened = tls->ready && gm_tls_kernel_receives(tls->session);
    if (gm_chain_push(opened ? &tls->plain : &tls->in, tls_segs(tls), slice) < 0) {
        gm_slice_put(slice);
        conn_starve(conn);
        return;
    }
    if (!opened) {
        tls_process(conn);
        return;
    }
    struct gm_tls_io io = tls_io(tls);
    int rc = gm_tls_kernel_got(tls->session, &io);
    if (rc < 0)
        tls_fail(tls, rc);
    tls_deliver(conn);
}

/* With what the peer says the session deals even when nobody listens any more: unread, it would
 * come again for ever. */
bool conn_tls_message(struct gm_conn *conn)
{
    struct gm_tls_io io = tls_io(conn->tls);
    int rc = gm_tls_kernel_hear(conn->tls->session, conn->sock.fd, &io);
    if (tls_is_open(conn))
        tls_heard(conn, rc);
    else if (rc < 0)
        gm_conn_abort(conn, false);
    return rc >= 0;
}

void conn_tls_recv_end(struct gm_conn *conn, int error)
{
    struct gm_conn_tls *tls = conn->tls;
    struct gm_tls_io io = tls_io(tls);
    if (error < 0 && tls->ready && gm_tls_kernel_receives(tls->session)) {
        error = gm_tls_kernel_failed(tls->session, conn->sock.fd, error, &io);
        if (error == -GM_E_TLS_RECORD)
            tls_fail(tls, error);
    }
    tls_end(tls, error < 0 ? error : -GM_E_TLS_TRUNCATED);
    if (gm_list_empty(&tls->waiting))
        tls_deliver(conn);
}

/* ---- Sending ---- */

static void tls_starved(struct gm_timer *timer)
{
    gm_conn_kick(GM_CONTAINER_OF(timer, struct gm_conn_tls, starved)->conn);
}

struct gm_chain *conn_tls_wire(struct gm_conn *conn)
{
    return gm_tls_kernel_sends(conn->tls->session) ? &conn->queue->out : &conn->tls->out;
}

static void tls_again_soon(struct gm_conn_tls *tls)
{
    struct gm_ring *ring = tls_ring(tls);
    gm_timer_set(ring, &tls->starved, gm_ring_now_ns(ring) + GM_TICK_NS);
}

/* The kernel seals: what must come before payload. */
static bool tls_say_first(struct gm_conn *conn)
{
    int rc = tls_say(conn->tls);
    if (rc == -EAGAIN)
        tls_again_soon(conn->tls);
    else if (rc < 0)
        conn_break(conn, rc);
    return rc == 0;
}

static void tls_seal(struct gm_conn *conn)
{
    struct gm_conn_tls *tls = conn->tls;
    struct gm_conn_queue *queue = conn->queue;
    struct gm_tls_io io = tls_io(tls);
    ssize_t sealed = gm_tls_seal(tls->session, &queue->out, tls->batch, &io.sink);
    if (sealed > 0)
        queue->sealed_bytes += (uint32_t)sealed;
    if (sealed < 0)
        conn_break(conn, (int)sealed);
    else if (sealed == 0)
        tls_again_soon(tls);
}

bool conn_tls_fill(struct gm_conn *conn)
{
    struct gm_conn_tls *tls = conn->tls;
    bool lives = tls->ready && !tls->failed;
    /* What was sealed here has left: the next record may be the kernel's. */
    if (lives && tls->out.count == 0 && !tls->kernel_asked && gm_tls_kernel_is_enabled()) {
        tls->kernel_asked = true;
        if (!gm_tls_kernel_sends(tls->session) &&
            gm_tls_kernel_take_sending(tls->session, conn->sock.fd) == 0)
            gm_counter_add(GM_COUNTER_TLS_KERNEL_SENDS, 1);
    }
    if (gm_tls_kernel_sends(tls->session))
        return tls->failed ? conn->queue->out.count == 0 : tls_say_first(conn);
    if (lives && tls->out.count == 0 && conn->queue->out.count > 0 && !tls->farewell)
        tls_seal(conn);
    return true;
}

/* Whatever of the batch is left holds at most as much payload as it has bytes. A peer that takes
 * all gets more at once; one that does not, small records that are whole when they arrive. */
size_t conn_tls_sent(struct gm_conn *conn, size_t bytes)
{
    struct gm_conn_tls *tls = conn->tls;
    if (gm_tls_kernel_sends(tls->session)) {
        gm_tls_kernel_sent(tls->session, bytes);
        return bytes;
    }
    struct gm_conn_queue *queue = conn->queue;
    size_t left = tls->out.bytes < queue->sealed_bytes ? tls->out.bytes : queue->sealed_bytes;
    size_t gone = queue->sealed_bytes - left;
    queue->sealed_bytes = (uint32_t)left;
    if (tls->out.bytes > 0)
        tls->batch = TLS_BATCH_MIN;
    else if (tls->batch < GM_TLS_SEAL_BYTES)
        tls->batch = tls->batch * 2 < GM_TLS_SEAL_BYTES ? tls->batch * 2 : GM_TLS_SEAL_BYTES;
    if (tls_is_open(conn))
        tls_settle(tls);
    return gone;
}

/* The kernel seals: whether anything is still on its way to the peer, close_notify included. While
 * the peer takes some of it the deadline for closing is put off. */
static bool tls_drains(struct gm_conn *conn)
{
    struct gm_conn_tls *tls = conn->tls;
    uint32_t left;
    bool before = tls->drained;
    tls->drained = gm_tls_kernel_is_drained(conn->sock.fd, &left);
    if (before && tls->drained)
        return false;
    if (left < tls->undrained && !gm_conn_is_open(conn))
        conn_timer(conn, GM_CONN_CLOSE_STALL_NS);
    tls->undrained = left;
    tls_again_soon(tls);
    return true;
}

bool conn_tls_farewell(struct gm_conn *conn)
{
    struct gm_conn_tls *tls = conn->tls;
    if (!tls->ready || tls->failed)
        return false;
    struct gm_tls_io io = tls_io(tls);
    int rc = tls->farewell ? 0 : gm_tls_close_notify(tls->session, &io.sink);
    tls->farewell = true;
    if (gm_tls_kernel_sends(tls->session))
        return !tls_say_first(conn) || tls_drains(conn);
    if (rc < 0 || tls->out.count == 0)
        return false;
    gm_conn_kick(conn);
    return true;
}

/* ---- Beginning, end ---- */

int gm_conn_secure(struct gm_conn *conn, struct gm_tls *session, struct gm_tls_room *room,
                   enum gm_pool pool)
{
    struct gm_conn_tls *tls = calloc(1, sizeof *tls);
    gm_counter_add(GM_COUNTER_ALLOCATIONS, 1);
    if (tls == NULL || session == NULL) {
        gm_tls_free(session);
        free(tls);
        return -GM_E_NOMEM;
    }
    GM_ASSERT(gm_conn_is_open(conn) && conn->tls == NULL);
    tls->conn = conn;
    tls->session = session;
    tls->room = room;
    tls->pool = (uint8_t)pool;
    tls->batch = TLS_BATCH_FIRST;
    tls->ready = gm_tls_is_ready(session);
    tls->connect_pending = conn->state == CONN_CONNECTING;
    gm_task_init(&tls->deliver, tls_deliver_task);
    gm_holder_init(&tls->holder, tls_evacuate);
    gm_list_init(&tls->waiting);
    gm_timer_init(&tls->starved, tls_starved);
    conn->tls = tls;
    if (gm_tls_kernel_receives(session))
        gm_sock_set_records(&conn->sock);
    if (conn->state == CONN_CONNECTING)
        return 0;
    tls_pull(tls);
    tls->hello_due = gm_tls_speaks_first(session);
    if (tls->hello_due)
        gm_ring_soon(tls_ring(tls), &tls->deliver);
    return 0;
}

void gm_conn_unread(struct gm_conn *conn, gm_slice slice)
{
    struct gm_conn_tls *tls = conn->tls;
    if (gm_chain_push(&tls->in, tls_segs(tls), slice) < 0) {
        gm_slice_put(slice);
        conn_starve(conn);
        return;
    }
    gm_ring_soon(tls_ring(tls), &tls->deliver);
}

struct gm_tls *gm_conn_take_tls(struct gm_conn *conn)
{
    struct gm_tls *session = NULL;
    if (conn->tls != NULL) {
        session = conn->tls->session;
        conn->tls->session = NULL;
        conn_tls_stop(conn);
        conn_tls_free(conn);
    }
    return session;
}

const struct gm_tls *gm_conn_tls(const struct gm_conn *conn)
{
    return conn->tls == NULL ? NULL : conn->tls->session;
}

void conn_tls_stop(struct gm_conn *conn)
{
    struct gm_conn_tls *tls = conn->tls;
    gm_task_cancel(&tls->deliver);
    gm_ring_unhold(&tls->holder);
    gm_list_remove(&tls->waiting);
    gm_timer_cancel(&tls->starved);
}

void conn_tls_free(struct gm_conn *conn)
{
    struct gm_conn_tls *tls = conn->tls;
    gm_chain_clear(&tls->in, tls_segs(tls));
    gm_chain_clear(&tls->plain, tls_segs(tls));
    gm_chain_clear(&tls->out, tls_segs(tls));
    gm_ring_unreserve(tls_ring(tls), tls->reserved);
    gm_tls_free(tls->session);
    free(tls);
    conn->tls = NULL;
}
