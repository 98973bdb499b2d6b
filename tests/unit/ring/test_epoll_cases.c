/* The echo program and the memory check; see test_epoll_cases.h. */
#include "test_epoll_cases.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define CHUNK 8192u

struct echo {
    struct echo_plan plan;
    struct echo_result result;
    struct gm_rings *rings;
    struct gm_ring *server, *client;
    struct gm_listener listener;
    union gm_addr addr;
    struct gm_mail go, clients_done;
    uint32_t clients_open;
    _Atomic uint32_t server_open; /* both rings when connections are handed over */
    bool no_more_clients;
    _Atomic bool listener_closed;
    struct echo_client *clients;
    struct gm_mail stop_check;
    _Atomic uint32_t handed_over;
};

struct echo_client {
    struct gm_sock sock;
    struct echo *echo;
    struct gm_task flush;
    struct gm_timer deadline;
    uint32_t id;
    uint64_t total, sent, received;
    bool blocked, told, complete, closed, connected;
    uint32_t offered;
    uint8_t chunk[CHUNK];
};

struct echo_conn {
    struct gm_sock sock;
    struct echo *echo;
    struct gm_chain out;
    struct gm_task flush;
    struct gm_mail move;
    int fd;
    uint32_t offered, window, hops;
    bool blocked, in_ended, closing, leaving;
};

static uint32_t chance(struct gm_ring *ring, uint32_t bound)
{
    uint32_t word;
    gm_ring_random(ring, &word, sizeof word);
    return word % bound;
}

static uint8_t pattern(uint32_t id, uint64_t at)
{
    return (uint8_t)(at * 31 + at / 251 + id * 7);
}

void case_check_memory(struct gm_ring *ring)
{
    for (unsigned i = 0; i < GM_STORE_POOLS; i++) {
        const struct gm_pool_state *pool = &ring->store.pools[i];
        uint32_t held = pool->count - pool->free_count - pool->lent;
        GM_ASSERT(held <= (i < GM_POOL_COUNT ? 1u : 0u));
    }
    GM_ASSERT(ring->store.segs.free_count == ring->store.segs.total_count);
    GM_ASSERT(ring->store.reserved == 0 && ring->socks_count == 0);
}

/* ---- Server
 * ----------------------------------------------------------------------------------------------------------------------------
 */

static void server_maybe_done(struct echo *echo)
{
    if (!atomic_load_explicit(&echo->listener_closed, memory_order_acquire) ||
        atomic_load_explicit(&echo->server_open, memory_order_acquire) > 0 || echo->result.done)
        return;
    echo->result.done = true;
    gm_rings_stop(echo->rings);
}

static void on_stop_check(struct gm_mail *mail)
{
    server_maybe_done(GM_CONTAINER_OF(mail, struct echo, stop_check));
}

static void conn_end(struct echo_conn *conn, bool reset)
{
    if (conn->closing)
        return;
    conn->closing = true;
    gm_task_cancel(&conn->flush);
    gm_sock_close(&conn->sock, reset);
}

static void conn_flush(struct gm_task *task)
{
    struct echo_conn *conn = GM_CONTAINER_OF(task, struct echo_conn, flush);
    if (conn->closing || conn->leaving || conn->blocked || conn->offered > 0)
        return;
    if (conn->out.count == 0) {
        if (conn->in_ended)
            conn_end(conn, false);
        return;
    }
    struct iovec iov[GM_SEND_IOV];
    unsigned count =
        gm_chain_peek(&conn->out, iov, 1 + chance(conn->sock.ring, GM_SEND_IOV), 65536);
    for (unsigned i = 0; i < count; i++)
        conn->offered += (uint32_t)iov[i].iov_len;
    int rc = gm_sock_send(&conn->sock, iov, count, false);
    GM_ASSERT(rc == 0);
}

static void conn_on_recv(struct gm_sock *sock, gm_slice slice)
{
    struct echo_conn *conn = GM_CONTAINER_OF(sock, struct echo_conn, sock);
    GM_ASSERT(!conn->closing && !conn->in_ended && slice.len <= conn->window);
    conn->window -= slice.len;
    int rc = gm_chain_push(&conn->out, gm_ring_segs(sock->ring), slice);
    GM_ASSERT(rc == 0);
    gm_ring_flush(sock->ring, &conn->flush);
}

static void conn_on_recv_end(struct gm_sock *sock, int error)
{
    struct echo_conn *conn = GM_CONTAINER_OF(sock, struct echo_conn, sock);
    GM_ASSERT(!conn->closing && !conn->in_ended && error <= 0);
    conn->in_ended = true;
    if (error < 0)
        conn_end(conn, true);
    else
        gm_ring_flush(sock->ring, &conn->flush);
}

static void conn_on_hangup(struct gm_sock *sock)
{
    GM_ASSERT(gm_sock_recv_left(sock) == 0);
}

/* In the middle of the traffic, when nothing is queued or under way, the connection may change
 * rings. */
static void conn_maybe_leave(struct echo_conn *conn)
{
    struct echo *echo = conn->echo;
    if (!echo->plan.hand_over || conn->hops >= 3 || conn->out.count > 0 || conn->in_ended ||
        chance(conn->sock.ring, 2) != 0)
        return;
    conn->leaving = true;
    gm_task_cancel(&conn->flush);
    gm_sock_detach(&conn->sock);
}

static void conn_on_sent(struct gm_sock *sock, ssize_t result)
{
    struct echo_conn *conn = GM_CONTAINER_OF(sock, struct echo_conn, sock);
    GM_ASSERT(!conn->closing && conn->offered > 0 && result <= (ssize_t)conn->offered);
    uint32_t offered = conn->offered;
    conn->offered = 0;
    if (result < 0) {
        conn_end(conn, true);
        return;
    }
    gm_chain_consume(&conn->out, gm_ring_segs(sock->ring), (size_t)result);
    conn->blocked = (uint32_t)result < offered;
    if (!conn->in_ended && result > 0) {
        conn->window += (uint32_t)result;
        gm_sock_recv(sock, GM_POOL_CLIENT, (uint64_t)result);
    }
    if (!conn->blocked)
        gm_ring_flush(sock->ring, &conn->flush);
    conn_maybe_leave(conn);
}

static void conn_on_writable(struct gm_sock *sock)
{
    struct echo_conn *conn = GM_CONTAINER_OF(sock, struct echo_conn, sock);
    GM_ASSERT(!conn->closing);
    conn->blocked = false;
    gm_ring_flush(sock->ring, &conn->flush);
}

static void conn_gone(struct echo_conn *conn)
{
    struct echo *echo = conn->echo;
    struct gm_ring *ring = conn->sock.ring;
    free(conn);
    if (atomic_fetch_sub_explicit(&echo->server_open, 1, memory_order_acq_rel) != 1 ||
        !atomic_load_explicit(&echo->listener_closed, memory_order_acquire))
        return;
    if (ring == echo->server)
        server_maybe_done(echo);
    else
        gm_ring_mail(ring, 0, &echo->stop_check);
}

static void conn_on_closed(struct gm_sock *sock)
{
    struct echo_conn *conn = GM_CONTAINER_OF(sock, struct echo_conn, sock);
    GM_ASSERT(conn->closing);
    gm_chain_clear(&conn->out, gm_ring_segs(sock->ring));
    conn_gone(conn);
}

static const struct gm_sock_ops conn_ops;

static void conn_adopt(struct gm_mail *mail)
{
    struct echo_conn *conn = GM_CONTAINER_OF(mail, struct echo_conn, move);
    struct gm_ring *ring = gm_ring_current;
    conn->leaving = false;
    conn->hops++;
    int rc = gm_sock_open(ring, &conn->sock, conn->fd, &conn_ops);
    GM_ASSERT(rc == 0);
    if (conn->window > 0)
        gm_sock_recv(&conn->sock, GM_POOL_CLIENT, conn->window);
    gm_ring_flush(ring, &conn->flush);
}

/* Bytes that came while leaving are echoed by the next ring: their buffers are this ring's, so they
 * are copied. */
static void conn_on_detached(struct gm_sock *sock, int fd)
{
    struct echo_conn *conn = GM_CONTAINER_OF(sock, struct echo_conn, sock);
    struct gm_ring *ring = sock->ring;
    struct echo *echo = conn->echo;
    GM_ASSERT(conn->leaving);
    conn->fd = fd;
    uint32_t to = gm_ring_index(ring) == 0 ? echo->plan.rings - 1 : 0;
    if (conn->out.count > 0 || conn->in_ended)
        to = gm_ring_index(ring);
    else
        atomic_fetch_add_explicit(&echo->handed_over, 1, memory_order_acq_rel);
    if (conn->in_ended && conn->out.count == 0) {
        gm_ring_close_fd(ring, fd);
        conn_gone(conn);
        return;
    }
    conn->move.deliver = conn_adopt;
    gm_ring_mail(ring, to, &conn->move);
}

static const struct gm_sock_ops conn_ops = {.on_recv = conn_on_recv,
                                            .on_recv_end = conn_on_recv_end,
                                            .on_hangup = conn_on_hangup,
                                            .on_sent = conn_on_sent,
                                            .on_writable = conn_on_writable,
                                            .on_closed = conn_on_closed,
                                            .on_detached = conn_on_detached};

static void server_on_accept(struct gm_listener *listener, int fd)
{
    struct echo *echo = GM_CONTAINER_OF(listener, struct echo, listener);
    struct echo_conn *conn = calloc(1, sizeof *conn);
    GM_ASSERT(conn != NULL);
    conn->echo = echo;
    gm_task_init(&conn->flush, conn_flush);
    conn->window = (echo->plan.bytes_max > 100000 ? 500 : 1) +
                   chance(echo->server, 20000); /* a megabyte by single bytes takes its time */
    echo->result.accepted++;
    atomic_fetch_add_explicit(&echo->server_open, 1, memory_order_acq_rel);
    conn->fd = fd;
    conn->sock.ring = echo->server;
    conn->move.deliver = conn_adopt;
    if (echo->plan.hand_over && chance(echo->server, 2) == 0)
        gm_ring_mail(echo->server, echo->plan.rings - 1, &conn->move);
    else
        conn_adopt(&conn->move);
}

static void server_on_closed(struct gm_listener *listener)
{
    struct echo *echo = GM_CONTAINER_OF(listener, struct echo, listener);
    atomic_store_explicit(&echo->listener_closed, true, memory_order_release);
    server_maybe_done(echo);
}

static void on_clients_done(struct gm_mail *mail)
{
    gm_listener_close(&GM_CONTAINER_OF(mail, struct echo, clients_done)->listener);
}

/* ---- Client
 * ------------------------------------------------------------------------------------------------------------------------------
 */

static void client_end(struct echo_client *client, bool complete, bool reset)
{
    if (client->complete || client->told)
        return;
    client->complete = complete;
    client->told = !complete;
    gm_task_cancel(&client->flush);
    gm_timer_cancel(&client->deadline);
    gm_sock_close(&client->sock, reset);
}

static void client_flush(struct gm_task *task)
{
    struct echo_client *client = GM_CONTAINER_OF(task, struct echo_client, flush);
    if (client->complete || client->told || !client->connected || client->blocked ||
        client->offered > 0 || client->sent == client->total)
        return;
    uint64_t left = client->total - client->sent;
    uint32_t len = 1 + chance(client->sock.ring, left < CHUNK ? (uint32_t)left : CHUNK);
    for (uint32_t i = 0; i < len; i++)
        client->chunk[i] = pattern(client->id, client->sent + i);
    uint32_t cut = chance(client->sock.ring, len + 1);
    struct iovec iov[2] = {{client->chunk, cut}, {client->chunk + cut, len - cut}};
    unsigned first = cut == 0 ? 1 : 0, count = cut == 0 || cut == len ? 1 : 2;
    client->offered = len;
    int rc = gm_sock_send(&client->sock, iov + first, count,
                          chance(client->sock.ring, 4) == 0 && len < left);
    GM_ASSERT(rc == 0 && gm_sock_send(&client->sock, iov + first, count, false) == -EAGAIN);
    if (len == left && chance(client->sock.ring, 2) == 0)
        GM_ASSERT(gm_sock_sending(&client->sock));
}

static void client_on_connect(struct gm_sock *sock, int error)
{
    struct echo_client *client = GM_CONTAINER_OF(sock, struct echo_client, sock);
    GM_ASSERT(!client->connected && !client->complete && !client->told);
    if (error < 0) {
        client->echo->result.connects_failed++;
        client_end(client, false, false);
        return;
    }
    client->connected = true;
    gm_ring_flush(sock->ring, &client->flush);
}

static void client_on_recv(struct gm_sock *sock, gm_slice slice)
{
    struct echo_client *client = GM_CONTAINER_OF(sock, struct echo_client, sock);
    GM_ASSERT(!client->complete && !client->told && client->connected);
    for (uint32_t i = 0; i < slice.len; i++)
        GM_ASSERT(slice.data[i] == pattern(client->id, client->received + i));
    client->received += slice.len;
    GM_ASSERT(client->received <= client->sent + client->offered);
    gm_slice_put(slice);
    if (gm_sock_recv_left(sock) == 0)
        gm_sock_recv(sock, GM_POOL_LINK, 1 + chance(sock->ring, 30000));
}

static void client_on_recv_end(struct gm_sock *sock, int error)
{
    struct echo_client *client = GM_CONTAINER_OF(sock, struct echo_client, sock);
    client_end(client, error == 0 && client->received == client->total, error < 0);
}

static void client_on_sent(struct gm_sock *sock, ssize_t result)
{
    struct echo_client *client = GM_CONTAINER_OF(sock, struct echo_client, sock);
    uint32_t offered = client->offered;
    GM_ASSERT(!client->complete && !client->told && offered > 0 && result <= (ssize_t)offered);
    client->offered = 0;
    if (result < 0) {
        client_end(client, false, true);
        return;
    }
    client->sent += (uint64_t)result;
    client->blocked = (uint32_t)result < offered;
    if (client->sent == client->total)
        gm_sock_shutdown(sock);
    else if (!client->blocked)
        gm_ring_flush(sock->ring, &client->flush);
}

static void client_on_writable(struct gm_sock *sock)
{
    struct echo_client *client = GM_CONTAINER_OF(sock, struct echo_client, sock);
    client->blocked = false;
    gm_ring_flush(sock->ring, &client->flush);
}

static void client_on_hangup(struct gm_sock *sock)
{
    GM_ASSERT(gm_sock_recv_left(sock) == 0);
}

static void client_on_deadline(struct gm_timer *timer)
{
    client_end(GM_CONTAINER_OF(timer, struct echo_client, deadline), false, true);
}

static void client_on_closed(struct gm_sock *sock)
{
    struct echo_client *client = GM_CONTAINER_OF(sock, struct echo_client, sock);
    struct echo *echo = client->echo;
    GM_ASSERT(!client->closed && client->complete != client->told);
    client->closed = true;
    if (client->complete)
        echo->result.complete++;
    else
        echo->result.told++;
    echo->result.bytes += client->received;
    if (--echo->clients_open > 0)
        return;
    echo->clients_done.deliver = on_clients_done;
    gm_ring_mail(echo->client, 0, &echo->clients_done);
}

static const struct gm_sock_ops client_ops = {.on_recv = client_on_recv,
                                              .on_recv_end = client_on_recv_end,
                                              .on_hangup = client_on_hangup,
                                              .on_sent = client_on_sent,
                                              .on_writable = client_on_writable,
                                              .on_connect = client_on_connect,
                                              .on_closed = client_on_closed};

static void on_go(struct gm_mail *mail)
{
    struct echo *echo = GM_CONTAINER_OF(mail, struct echo, go);
    echo->clients_open = echo->plan.conns;
    for (uint32_t i = 0; i < echo->plan.conns; i++) {
        struct echo_client *client = &echo->clients[i];
        client->echo = echo;
        client->id = i;
        client->total = 1 + chance(echo->client, echo->plan.bytes_max);
        gm_task_init(&client->flush, client_flush);
        gm_timer_init(&client->deadline, client_on_deadline);
        int rc = gm_sock_connect(echo->client, &client->sock, &echo->addr, &client_ops);
        GM_ASSERT(rc == 0);
        gm_timer_set(echo->client, &client->deadline,
                     gm_ring_now_ns(echo->client) + echo->plan.deadline_ns);
        gm_sock_recv(&client->sock, GM_POOL_LINK,
                     echo->plan.unlimited ? GM_RECV_UNLIMITED : 1 + chance(echo->client, 30000));
    }
}

/* ---- The program
 * ---------------------------------------------------------------------------------------------------------------------------
 */

static int echo_init(struct gm_ring *ring, void *arg)
{
    struct echo *echo = arg;
    if (gm_ring_index(ring) == echo->plan.rings - 1)
        echo->client = ring;
    if (gm_ring_index(ring) != 0)
        return 0;
    echo->server = ring;
    echo->listener.on_accept = server_on_accept;
    echo->listener.on_closed = server_on_closed;
    echo->stop_check.deliver = on_stop_check;
    echo->addr.in =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int rc = gm_listener_open(ring, &echo->listener, &echo->addr);
    if (rc < 0)
        return rc;
    echo->addr.in.sin_port = htons(gm_listener_port(&echo->listener));
    echo->go.deliver = on_go;
    return 0;
}

static void echo_fini(struct gm_ring *ring, void *arg)
{
    struct echo *echo = arg;
    if (echo->result.done)
        case_check_memory(ring);
}

static bool rings_have_stopped(void *arg)
{
    struct gm_rings *rings = arg;
    for (uint32_t i = 0; i < rings->count; i++) {
        if (!rings->ring[i]->stopping)
            return false;
    }
    return true;
}

struct echo_result echo_run(const struct echo_plan *plan)
{
    struct echo *echo = calloc(1, sizeof *echo);
    char why[GM_WHY_BYTES];
    GM_ASSERT(echo != NULL);
    echo->plan = *plan;
    echo->clients = calloc(plan->conns, sizeof *echo->clients);
    GM_ASSERT(echo->clients != NULL);
    struct gm_rings_config config = {.io = plan->io,
                                     .count = plan->rings,
                                     .memory_bytes = GM_RING_MEMORY_MIN,
                                     .socks_max = 4096,
                                     .features_off = plan->features_off,
                                     .sim = plan->sim};
    struct gm_rings_ops ops = {.init = echo_init, .fini = echo_fini, .arg = echo};
    if (gm_rings_start(&config, &ops, &echo->rings, why) < 0) {
        (void)fprintf(stderr, "skipped: %s\n", why);
        echo->result.skipped = true;
    } else {
        gm_rings_mail(echo->rings, plan->rings - 1, &echo->go);
        if (plan->sim != NULL)
            (void)gm_sim_run_when(plan->sim, rings_have_stopped, echo->rings,
                                  gm_sim_now(plan->sim) + plan->run_ns);
        gm_rings_join(echo->rings);
    }
    struct echo_result result = echo->result;
    result.handed_over = echo->handed_over;
    free(echo->clients);
    free(echo);
    return result;
}
