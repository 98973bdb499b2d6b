/* TLS under a connection, both ends gm_conns, on the simulated network: what is written comes out
 * whatever the network does, grants hold, ends are told apart, memory is bounded and comes back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/counter.h"
#include "net/internal.h"
#include "wire.h"

/* One end of the connection under test. */
struct end {
    struct gm_conn conn;
    struct gm_tls_room room;
    uint64_t granted;
    size_t received, written, sent;
    unsigned connects, ends, brokens, closes, detaches;
    int connect_error, end_error, fd;
    bool greedy; /* grants again what it was given */
};

struct pair {
    struct wire w;
    struct end server, client;
    struct gm_tls_server *identity;
    struct gm_tls_client *trust;
};

static char cert_file[64], key_file[64];

static void make_certificate(void)
{
    char command[512];
    (void)snprintf(cert_file, sizeof cert_file, "/tmp/gm-conn-tls-%d.crt", (int)getpid());
    (void)snprintf(key_file, sizeof key_file, "/tmp/gm-conn-tls-%d.key", (int)getpid());
    (void)snprintf(command, sizeof command,
                   "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 "
                   "-subj /CN=sim -addext subjectAltName=DNS:sim.test -keyout %s -out %s "
                   "2>/dev/null",
                   key_file, cert_file);
    cr_assert_eq(system(command), 0, "openssl makes the test's certificate");
    cr_assert_eq(gm_tls_init(), 0);
}

static void drop_certificate(void)
{
    (void)unlink(cert_file);
    (void)unlink(key_file);
}

static uint8_t byte_at(size_t at)
{
    return (uint8_t)(at * 11 + (at >> 8) * 5 + (at >> 16));
}

/* ---- Both ends' callbacks ---- */

static struct end *end_of(struct gm_conn *conn)
{
    return GM_CONTAINER_OF(conn, struct end, conn);
}

static void on_recv(struct gm_conn *conn, gm_slice slice)
{
    struct end *end = end_of(conn);
    for (uint32_t i = 0; i < slice.len; i++)
        cr_assert_eq(slice.data[i], byte_at(end->received + i), "byte %zu", end->received + i);
    end->received += slice.len;
    cr_assert(end->received <= end->granted, "%zu received of %lu granted", end->received,
              (unsigned long)end->granted);
    uint32_t len = slice.len;
    gm_slice_put(slice);
    if (end->greedy) {
        end->granted += len;
        gm_conn_recv(conn, GM_POOL_CLIENT, len);
    }
}
static void on_recv_end(struct gm_conn *conn, int error)
{
    end_of(conn)->ends++;
    end_of(conn)->end_error = error;
}
static void on_nothing(struct gm_conn *conn)
{
    (void)conn;
}
static void on_sent(struct gm_conn *conn, size_t bytes)
{
    end_of(conn)->sent += bytes;
}
static void on_broken(struct gm_conn *conn, int error)
{
    (void)error;
    end_of(conn)->brokens++;
    gm_conn_abort(conn, true);
}
static void on_connect(struct gm_conn *conn, int error)
{
    end_of(conn)->connects++;
    end_of(conn)->connect_error = error;
}
static void on_closed(struct gm_conn *conn)
{
    end_of(conn)->closes++;
}
static void on_detached(struct gm_conn *conn, int fd)
{
    end_of(conn)->detaches++;
    end_of(conn)->fd = fd;
}
static const struct gm_conn_ops ops = {.on_recv = on_recv,
                                       .on_recv_end = on_recv_end,
                                       .on_hangup = on_nothing,
                                       .on_flush = on_nothing,
                                       .on_sent = on_sent,
                                       .on_broken = on_broken,
                                       .on_connect = on_connect,
                                       .on_closed = on_closed,
                                       .on_detached = on_detached};

/* ---- Opening ---- */

static void accept_secure(struct wire *w, int fd)
{
    struct pair *p = GM_CONTAINER_OF(w, struct pair, w);
    cr_assert_eq(gm_conn_open(w->near, &p->server.conn, fd, &ops), 0);
    cr_assert_eq(gm_conn_secure(&p->server.conn, gm_tls_accept(p->identity), &p->server.room,
                                GM_POOL_CLIENT),
                 0);
}

static void listener_closed(struct gm_listener *listener)
{
    (void)listener;
}
static void listener_accept(struct gm_listener *listener, int fd)
{
    struct wire *w = GM_CONTAINER_OF(listener, struct wire, listener);
    accept_secure(w, fd);
}

static void pair_open(struct pair *p, uint64_t seed, const struct gm_tls_client_config *trust)
{
    char why[GM_TLS_WHY_BYTES] = "";
    struct gm_tls_server_config config = {.cert_file = cert_file, .key_file = key_file};
    union gm_addr addr = wire_addr();
    cr_assert_eq(gm_tls_server_new(&config, &p->identity, why), 0, "%s", why);
    cr_assert_eq(gm_tls_client_new(trust, &p->trust, why), 0, "%s", why);
    wire_rings(&p->w, seed);
    gm_tls_room_init(&p->server.room, p->w.near);
    gm_tls_room_init(&p->client.room, p->w.far);
    p->w.listener.on_accept = listener_accept;
    p->w.listener.on_closed = listener_closed;
    wire_enter(&p->w, p->w.near);
    cr_assert_eq(gm_listener_open(p->w.near, &p->w.listener, &addr), 0);
    wire_leave(&p->w, p->w.near);
    wire_enter(&p->w, p->w.far);
    cr_assert_eq(gm_conn_dial(p->w.far, &p->client.conn, &addr, &ops), 0);
    cr_assert_eq(gm_conn_secure(&p->client.conn, gm_tls_connect(p->trust, "sim.test"),
                                &p->client.room, GM_POOL_CLIENT),
                 0);
    wire_leave(&p->w, p->w.far);
}

/* The same, up to the end of the handshake. */
static void pair_up(struct pair *p, uint64_t seed)
{
    struct gm_tls_client_config trust = {.ca_file = cert_file};
    pair_open(p, seed, &trust);
    wire_run(&p->w, 5 * SECOND_NS);
    cr_assert(p->client.connects == 1 && p->client.connect_error == 0, "%u %d", p->client.connects,
              p->client.connect_error);
    cr_assert(p->server.conn.tls->ready);
}

static struct gm_ring *ring_of(struct pair *p, const struct end *end)
{
    return end == &p->server ? p->w.near : p->w.far;
}

static void pair_close(struct pair *p)
{
    struct end *ends[2] = {&p->server, &p->client};
    for (unsigned i = 0; i < 2; i++) {
        struct gm_ring *ring = ring_of(p, ends[i]);
        if (ends[i]->closes > 0 || ends[i]->conn.ops == NULL)
            continue;
        wire_enter(&p->w, ring);
        gm_conn_abort(&ends[i]->conn, false);
        wire_leave(&p->w, ring);
    }
    wire_run(&p->w, 40 * SECOND_NS);
    cr_assert(p->client.closes == 1 && (p->server.closes == 1 || p->server.conn.ops == NULL));
    wire_close(&p->w);
    gm_tls_server_put(p->identity);
    gm_tls_client_put(p->trust);
}

static void grant(struct pair *p, struct end *end, uint64_t bytes)
{
    wire_enter(&p->w, ring_of(p, end));
    end->granted += bytes;
    gm_conn_recv(&end->conn, GM_POOL_CLIENT, bytes);
    wire_leave(&p->w, ring_of(p, end));
}

static void write_some(struct pair *p, struct end *end, size_t len)
{
    static uint8_t bytes[1 << 18];
    cr_assert(len <= sizeof bytes);
    for (size_t i = 0; i < len; i++)
        bytes[i] = byte_at(end->written + i);
    wire_enter(&p->w, ring_of(p, end));
    gm_conn_write(&end->conn, bytes, len);
    end->written += len;
    cr_assert_eq(gm_conn_queued(&end->conn) + end->sent, end->written);
    wire_leave(&p->w, ring_of(p, end));
}

/* ---- The tests ---- */

#define TLS_TEST(name) Test(conn_tls, name, .init = make_certificate, .fini = drop_certificate)

TLS_TEST(both_ways_whatever_the_network_takes_and_gives)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct pair p = {0};
        gm_sim_profile_default(&p.w.profile);
        p.w.profile.buffer_bytes = 2048u << (seed % 7);
        p.w.profile.short_permille = 300;
        p.w.profile.split_permille = 300;
        pair_up(&p, seed);
        for (unsigned turn = 0; turn < 20; turn++) {
            struct end *ends[2] = {&p.server, &p.client};
            for (unsigned i = 0; i < 2; i++) {
                write_some(&p, ends[i], 1 + gm_sim_rand(p.w.sim, turn % 5 == 0 ? 60000 : 900));
                grant(&p, ends[i], 1 + gm_sim_rand(p.w.sim, turn % 3 == 0 ? 40000 : 300));
            }
            wire_run(&p.w, gm_sim_rand(p.w.sim, 300000));
        }
        for (unsigned round = 0; round < 3; round++) {
            grant(&p, &p.server, p.client.written);
            grant(&p, &p.client, p.server.written);
            wire_run(&p.w, 60 * SECOND_NS);
        }
        cr_assert_eq(p.server.received, p.client.written, "seed %lu", (unsigned long)seed);
        cr_assert_eq(p.client.received, p.server.written, "seed %lu", (unsigned long)seed);
        cr_assert_eq(p.client.sent, p.client.written);
        cr_assert_eq(gm_conn_queued(&p.client.conn), 0);
        pair_close(&p);
    }
}

TLS_TEST(a_close_is_told_as_an_end_and_a_cut_as_truncation)
{
    for (unsigned cut = 0; cut < 2; cut++) {
        struct pair p = {0};
        pair_up(&p, 1 + cut);
        grant(&p, &p.client, 1000);
        write_some(&p, &p.server, 500);
        wire_run(&p.w, SECOND_NS);
        wire_enter(&p.w, p.w.near);
        if (cut == 1)
            gm_sock_shutdown(&p.server.conn.sock); /* FIN, and nobody said goodbye */
        else
            gm_conn_close(&p.server.conn);
        wire_leave(&p.w, p.w.near);
        wire_run(&p.w, SECOND_NS);
        cr_assert_eq(p.client.received, 500);
        cr_assert_eq(p.client.ends, 1);
        cr_assert_eq(p.client.end_error, cut == 1 ? -GM_E_TLS_TRUNCATED : 0);
        pair_close(&p);
    }
}

TLS_TEST(the_end_is_told_behind_payload_that_waited_for_a_grant)
{
    struct pair p = {0};
    pair_up(&p, 3);
    grant(&p, &p.client, 100);
    write_some(&p, &p.server, 4000);
    wire_enter(&p.w, p.w.near);
    gm_conn_finish(&p.server.conn);
    wire_leave(&p.w, p.w.near);
    wire_run(&p.w, SECOND_NS);
    cr_assert(p.client.received == 100 && p.client.ends == 0);
    grant(&p, &p.client, 3900);
    wire_run(&p.w, SECOND_NS);
    grant(&p, &p.client, 1);
    wire_run(&p.w, SECOND_NS);
    cr_assert_eq(p.client.received, 4000);
    cr_assert(p.client.ends == 1 && p.client.end_error == 0);
    pair_close(&p);
}

TLS_TEST(a_certificate_that_is_not_trusted_ends_the_dial_and_tells_the_server_why)
{
    struct pair p = {0};
    struct gm_tls_client_config trust = {0}; /* the system's roots */
    pair_open(&p, 4, &trust);
    wire_run(&p.w, 5 * SECOND_NS);
    cr_assert_eq(p.client.connects, 1);
    cr_assert(p.client.connect_error == -GM_E_TLS_SELF_SIGNED ||
                  p.client.connect_error == -GM_E_TLS_UNTRUSTED,
              "%d", p.client.connect_error);
    wire_enter(&p.w, p.w.far);
    gm_conn_abort(&p.client.conn, true);
    wire_leave(&p.w, p.w.far);
    wire_run(&p.w, 5 * SECOND_NS);
    cr_assert_eq(p.server.ends, 1);
    cr_assert(p.server.end_error == -GM_E_TLS_ALERT || p.server.end_error == -GM_E_TLS_UNTRUSTED,
              "%d %s", p.server.end_error, gm_error_text(p.server.end_error));
    pair_close(&p);
}

TLS_TEST(a_paused_owner_holds_one_record_and_no_more)
{
    struct pair p = {0};
    pair_up(&p, 5);
    grant(&p, &p.server, 1);
    write_some(&p, &p.client, 200000);
    wire_run(&p.w, 5 * SECOND_NS);
    cr_assert_eq(p.server.received, 1);
    struct gm_conn_tls *tls = p.server.conn.tls;
    cr_assert(tls->in.bytes + tls->plain.bytes <= GM_TLS_RECORD_MAX + GM_CLIENT_BUF_BYTES, "%zu",
              tls->in.bytes + tls->plain.bytes);
    cr_assert_eq(tls->reserved, tls->in.bytes + tls->plain.bytes);
    cr_assert_eq(p.w.near->store.reserved, tls->reserved);
    p.server.greedy = true;
    grant(&p, &p.server, 20000);
    wire_run(&p.w, 20 * SECOND_NS);
    cr_assert_eq(p.server.received, 200000);
    cr_assert_eq(p.w.near->store.reserved, 0);
    pair_close(&p);
}

TLS_TEST(half_a_record_is_cut_when_nothing_can_be_reserved)
{
    struct pair p = {0};
    struct gm_ring *ring;
    pair_up(&p, 6);
    ring = p.w.near;
    grant(&p, &p.server, 100000);
    write_some(&p, &p.client, 16000);
    wire_enter(&p.w, ring);
    size_t all = gm_ring_reservable(ring);
    cr_assert(gm_ring_reserve(ring, all));
    wire_leave(&p.w, ring);
    p.w.profile.split_permille = 1000; /* the record comes in pieces */
    gm_sim_set_profile(p.w.sim, &p.w.profile);
    wire_run(&p.w, 5 * SECOND_NS);
    cr_assert_eq(p.server.brokens, 1);
    wire_enter(&p.w, ring);
    gm_ring_unreserve(ring, all);
    wire_leave(&p.w, ring);
    pair_close(&p);
}

TLS_TEST(what_cannot_be_sealed_for_want_of_blocks_leaves_later)
{
    struct pair p = {0};
    static struct gm_buf *hogged[4096];
    pair_up(&p, 7);
    grant(&p, &p.client, 100000);
    unsigned count = wire_hog(&p.w, GM_STORE_EVACUATION, hogged);
    write_some(&p, &p.server, 5000);
    wire_run(&p.w, SECOND_NS);
    cr_assert(p.client.received == 0 && p.server.brokens == 0);
    wire_unhog(&p.w, hogged, count);
    wire_run(&p.w, SECOND_NS);
    cr_assert_eq(p.client.received, 5000);
    pair_close(&p);
}

TLS_TEST(much_is_sealed_into_spare_buffers_which_come_back_when_they_are_short)
{
    struct pair p = {0};
    static struct gm_buf *hogged[4096];
    gm_sim_profile_default(&p.w.profile);
    p.w.profile.buffer_bytes = 40000; /* one batch and a half: the next is large */
    pair_up(&p, 11);
    struct gm_pool_state *pool = &p.w.near->store.pools[GM_STORE_CLIENT];
    uint32_t unheld = gm_pool_unheld(pool);
    write_some(&p, &p.server, 66000);
    wire_run(&p.w, SECOND_NS);
    cr_assert(p.server.conn.queue->blocked);
    cr_assert_lt(gm_pool_unheld(pool), unheld, "%u of %u", gm_pool_unheld(pool), unheld);
    unsigned count = wire_hog(&p.w, GM_STORE_CLIENT, hogged);
    wire_run(&p.w, SECOND_NS);
    cr_assert_gt(pool->free_count, 0, "what is sealed has moved out");
    count += wire_hog(&p.w, GM_STORE_CLIENT, hogged + count);
    grant(&p, &p.client, 66000);
    wire_run(&p.w, 60 * SECOND_NS);
    cr_assert_eq(p.client.received, 66000, "%zu, without a spare buffer", p.client.received);
    wire_unhog(&p.w, hogged, count);
    pair_close(&p);
}

TLS_TEST(a_session_goes_on_after_the_hand_over)
{
    struct pair p = {0};
    pair_up(&p, 8);
    grant(&p, &p.client, 100000);
    write_some(&p, &p.server, 100);
    wire_run(&p.w, SECOND_NS);
    wire_enter(&p.w, p.w.near);
    gm_conn_detach(&p.server.conn);
    wire_leave(&p.w, p.w.near);
    wire_run(&p.w, SECOND_NS);
    cr_assert_eq(p.server.detaches, 1);
    wire_enter(&p.w, p.w.near);
    struct gm_tls *session = gm_conn_take_tls(&p.server.conn);
    cr_assert_not_null(session);
    cr_assert_null(gm_conn_tls(&p.server.conn));
    cr_assert_eq(gm_conn_open(p.w.near, &p.server.conn, p.server.fd, &ops), 0);
    cr_assert_eq(gm_conn_secure(&p.server.conn, session, &p.server.room, GM_POOL_LINK), 0);
    p.server.written = p.server.sent = 0; /* counted anew; the pattern goes on with the client */
    wire_leave(&p.w, p.w.near);
    p.client.received = 0;
    write_some(&p, &p.server, 3000);
    p.server.greedy = false;
    wire_enter(&p.w, p.w.near);
    p.server.granted = GM_RECV_UNLIMITED;
    gm_conn_recv(&p.server.conn, GM_POOL_LINK, GM_RECV_UNLIMITED);
    wire_leave(&p.w, p.w.near);
    write_some(&p, &p.client, 2000);
    wire_run(&p.w, SECOND_NS);
    cr_assert_eq(p.client.received, 3000);
    cr_assert_eq(p.server.received, 2000);
    pair_close(&p);
}

TLS_TEST(a_peer_that_speaks_no_tls_is_told_apart)
{
    struct wire w = {.peer_grant = GM_RECV_UNLIMITED};
    struct gm_tls_server *identity;
    struct gm_tls_room room;
    char why[GM_TLS_WHY_BYTES] = "";
    struct gm_tls_server_config config = {.cert_file = cert_file, .key_file = key_file};
    cr_assert_eq(gm_tls_server_new(&config, &identity, why), 0, "%s", why);
    wire_open(&w, 9);
    gm_tls_room_init(&room, w.near);
    wire_enter(&w, w.near);
    cr_assert_eq(gm_conn_secure(&w.conn, gm_tls_accept(identity), &room, GM_POOL_CLIENT), 0);
    wire_leave(&w, w.near);
    wire_peer_send(&w, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
    wire_run(&w, SECOND_NS);
    cr_assert_eq(w.ends, 1);
    cr_assert_eq(w.end_error, -GM_E_TLS_PLAINTEXT, "%d", w.end_error);
    wire_enter(&w, w.near);
    gm_conn_abort(&w.conn, false);
    wire_leave(&w, w.near);
    wire_close(&w);
    gm_tls_server_put(identity);
}
