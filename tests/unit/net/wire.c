/* See wire.h. */
#include "wire.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

static struct wire *of_conn(struct gm_conn *conn)
{
    return GM_CONTAINER_OF(conn, struct wire, conn);
}
static struct wire *of_peer(struct gm_sock *sock)
{
    return GM_CONTAINER_OF(sock, struct wire, peer);
}

static void on_recv(struct gm_conn *conn, gm_slice slice)
{
    struct wire *w = of_conn(conn);
    w->recvs++;
    w->received += slice.len;
    if (w->keep)
        gm_conn_write_slice(conn, slice);
    else
        gm_slice_put(slice);
}
static void on_recv_end(struct gm_conn *conn, int error)
{
    of_conn(conn)->ends++;
    of_conn(conn)->end_error = error;
}
static void on_hangup(struct gm_conn *conn)
{
    of_conn(conn)->hangups++;
}
static void on_flush(struct gm_conn *conn)
{
    of_conn(conn)->flushes++;
}
static void on_sent(struct gm_conn *conn, size_t bytes)
{
    of_conn(conn)->sents++;
    of_conn(conn)->sent += bytes;
}
static void on_broken(struct gm_conn *conn, int error)
{
    struct wire *w = of_conn(conn);
    cr_assert(!w->in_call, "told from within a call");
    w->brokens++;
    w->broken_error = error;
    if (w->close_on_broken)
        gm_conn_close(conn);
}
static void on_connect(struct gm_conn *conn, int error)
{
    of_conn(conn)->connects++;
    of_conn(conn)->connect_error = error;
}
static void on_closed(struct gm_conn *conn)
{
    of_conn(conn)->closes++;
}
static void on_detached(struct gm_conn *conn, int fd)
{
    of_conn(conn)->detaches++;
    of_conn(conn)->detached_fd = fd;
}

static const struct gm_conn_ops conn_ops = {.on_recv = on_recv,
                                            .on_recv_end = on_recv_end,
                                            .on_hangup = on_hangup,
                                            .on_flush = on_flush,
                                            .on_sent = on_sent,
                                            .on_broken = on_broken,
                                            .on_connect = on_connect,
                                            .on_closed = on_closed,
                                            .on_detached = on_detached};
const struct gm_conn_ops *wire_conn_ops(void);
const struct gm_conn_ops *wire_conn_ops(void)
{
    return &conn_ops;
}

static void peer_recv(struct gm_sock *sock, gm_slice slice)
{
    struct wire *w = of_peer(sock);
    if (w->got_len + slice.len > w->got_cap) {
        w->got_cap = (w->got_len + slice.len) * 2;
        w->got = realloc(w->got, w->got_cap);
        cr_assert_not_null(w->got);
    }
    memcpy(w->got + w->got_len, slice.data, slice.len);
    w->got_len += slice.len;
    gm_slice_put(slice);
}
static void peer_recv_end(struct gm_sock *sock, int error)
{
    of_peer(sock)->peer_ends++;
    of_peer(sock)->peer_error = error;
}
static void peer_nothing(struct gm_sock *sock)
{
    (void)sock;
}
static void peer_sent(struct gm_sock *sock, ssize_t result)
{
    (void)sock;
    (void)result;
}
static void peer_connect(struct gm_sock *sock, int error)
{
    struct wire *w = of_peer(sock);
    w->peer_connected = error == 0;
    if (error == 0 && w->peer_grant > 0)
        gm_sock_recv(sock, GM_POOL_CLIENT, w->peer_grant);
}
static void peer_closed(struct gm_sock *sock)
{
    of_peer(sock)->peer_open = false;
}
static const struct gm_sock_ops peer_ops = {.on_recv = peer_recv,
                                            .on_recv_end = peer_recv_end,
                                            .on_hangup = peer_nothing,
                                            .on_sent = peer_sent,
                                            .on_writable = peer_nothing,
                                            .on_connect = peer_connect,
                                            .on_closed = peer_closed};

static void on_accept(struct gm_listener *listener, int fd)
{
    struct wire *w = GM_CONTAINER_OF(listener, struct wire, listener);
    w->opened++;
    if (w->on_accept != NULL)
        w->on_accept(w, fd);
    else
        cr_assert_eq(gm_conn_open(w->near, &w->conn, fd, &conn_ops), 0);
}

static void peer_accept(struct gm_listener *listener, int fd)
{
    struct wire *w = GM_CONTAINER_OF(listener, struct wire, listener);
    w->opened++;
    cr_assert_eq(gm_sock_open(w->far, &w->peer, fd, &peer_ops), 0);
    w->peer_open = w->peer_connected = true;
    gm_sock_recv(&w->peer, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
}
static void listener_closed(struct gm_listener *listener)
{
    (void)listener;
}

union gm_addr wire_addr(void)
{
    union gm_addr addr = {.in = {.sin_family = AF_INET, .sin_port = htons(7000)}};
    (void)inet_pton(AF_INET, "127.0.0.1", &addr.in.sin_addr);
    return addr;
}

void wire_enter(struct wire *w, struct gm_ring *ring)
{
    struct sim_ring *on = ring->backend_state;
    (void)w;
    gm_core_enter(ring);
    ring->now_ns = on->sim->now_ns;
    on->in_turn = true;
}

void wire_leave(struct wire *w, struct gm_ring *ring)
{
    struct sim_ring *on = ring->backend_state;
    on->in_turn = false;
    sim_ring_due(on, gm_sim_now(w->sim) + 1);
    gm_core_leave();
}

static struct gm_rings *rings_open(struct wire *w)
{
    struct gm_rings_config config = {.io = GM_IO_SIM,
                                     .count = 1,
                                     .memory_bytes = GM_RING_MEMORY_MIN,
                                     .socks_max = 32,
                                     .sim = w->sim};
    struct gm_rings_ops ops = {0};
    struct gm_rings *rings = NULL;
    char why[512] = "";
    cr_assert_eq(gm_rings_start(&config, &ops, &rings, why), 0, "%s", why);
    return rings;
}

void wire_rings(struct wire *w, uint64_t seed)
{
    w->sim = gm_sim_new(seed);
    if (w->profile.buffer_bytes == 0) {
        gm_sim_profile_default(&w->profile);
        w->profile.short_permille = 0; /* what the far end sends by hand is sent once */
    }
    gm_sim_set_profile(w->sim, &w->profile);
    w->near_rings = rings_open(w);
    w->far_rings = rings_open(w);
    w->near = gm_rings_get(w->near_rings, 0);
    w->far = gm_rings_get(w->far_rings, 0);
}

void wire_open(struct wire *w, uint64_t seed)
{
    union gm_addr addr = wire_addr();
    wire_rings(w, seed);
    w->listener.on_accept = on_accept;
    w->listener.on_closed = listener_closed;
    wire_enter(w, w->near);
    cr_assert_eq(gm_listener_open(w->near, &w->listener, &addr), 0);
    wire_leave(w, w->near);
    wire_enter(w, w->far);
    cr_assert_eq(gm_sock_connect(w->far, &w->peer, &addr, &peer_ops), 0);
    w->peer_open = true;
    wire_leave(w, w->far);
    wire_run(w, SECOND_NS / 10);
    cr_assert(w->opened == 1 && w->peer_connected);
}

void wire_peer_listen(struct wire *w, uint64_t seed)
{
    union gm_addr addr = wire_addr();
    wire_rings(w, seed);
    w->listener.on_accept = peer_accept;
    w->listener.on_closed = listener_closed;
    wire_enter(w, w->far);
    cr_assert_eq(gm_listener_open(w->far, &w->listener, &addr), 0);
    wire_leave(w, w->far);
}

static void check_store(struct gm_ring *ring, const char *who)
{
    const struct sim_ring *on = ring->backend_state;
    for (unsigned i = 0; i < GM_STORE_POOLS; i++) {
        const struct gm_pool_state *pool = &ring->store.pools[i];
        uint32_t filling = i < GM_POOL_COUNT && on->fill[i] != NULL ? 1 : 0;
        cr_expect_eq(pool->free_count + filling, pool->count, "%s: pool %u: %u held", who, i,
                     pool->count - filling - pool->free_count);
    }
    cr_expect_eq(ring->store.segs.free_count, ring->store.segs.total_count, "%s: segments", who);
    cr_expect_eq(ring->store.reserved, 0, "%s: reservations", who);
}

void wire_close(struct wire *w)
{
    if (w->peer_open)
        wire_peer_close(w, false);
    wire_run(w, SECOND_NS);
    check_store(w->near, "near");
    check_store(w->far, "far");
    gm_rings_stop(w->near_rings);
    gm_rings_stop(w->far_rings);
    wire_run(w, SECOND_NS);
    gm_rings_join(w->near_rings);
    gm_rings_join(w->far_rings);
    gm_sim_free(w->sim);
    free(w->got);
}

void wire_peer_send(struct wire *w, const void *bytes, size_t len)
{
    const uint8_t *from = bytes;
    struct iovec iov = {(void *)(uintptr_t)from, len};
    wire_enter(w, w->far);
    cr_assert_eq(gm_sock_send(&w->peer, &iov, 1, false), 0);
    wire_leave(w, w->far);
}

void wire_peer_close(struct wire *w, bool reset)
{
    wire_enter(w, w->far);
    gm_sock_close(&w->peer, reset);
    wire_leave(w, w->far);
}

void wire_peer_read(struct wire *w, uint64_t bytes)
{
    wire_enter(w, w->far);
    gm_sock_recv(&w->peer, GM_POOL_CLIENT, bytes);
    wire_leave(w, w->far);
}

unsigned wire_hog(struct wire *w, enum gm_store_pool pool, struct gm_buf **out)
{
    unsigned count = 0;
    wire_enter(w, w->near);
    while (gm_store_free_count(&w->near->store, pool) > 0)
        out[count++] = gm_store_take(&w->near->store, pool);
    wire_leave(w, w->near);
    return count;
}

void wire_unhog(struct wire *w, struct gm_buf **bufs, unsigned count)
{
    wire_enter(w, w->near);
    for (unsigned i = 0; i < count; i++)
        gm_buf_put(bufs[i]);
    wire_leave(w, w->near);
}
