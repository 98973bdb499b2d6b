/* Behaviours of a socket that must not depend on the back-end, each a small script, run on epoll, on the simulated network and on io_uring;
 * and what only the epoll back-end can be asked. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "test_epoll_cases.h"

#define SECOND 1000000000ull

/* ---- A ring with a connection to itself -------------------------------------------------------------------------------------------------- */

static void peer_push(struct peer *peer) {
    if (peer->blocked || peer->offered > 0 || peer->sent == peer->to_send || !peer->open) return;
    struct iovec iov = {peer->bytes, peer->to_send - peer->sent};
    if (iov.iov_len > 1u << 20) iov.iov_len = 1u << 20;
    peer->offered = iov.iov_len;
    int rc = gm_sock_send(&peer->sock, &iov, 1, false);
    GM_ASSERT(rc == 0);
}

void peer_send(struct peer *peer, size_t bytes) {
    if (peer->bytes == NULL) peer->bytes = calloc(1, 1u << 20);
    GM_ASSERT(peer->bytes != NULL);
    peer->to_send += bytes;
    peer_push(peer);
}

static void peer_close(struct peer *peer, bool reset) {
    if (!peer->open) return;
    peer->open = false;
    gm_sock_close(&peer->sock, reset);
}

static void peer_on_recv(struct gm_sock *sock, gm_slice slice) {
    struct peer *peer = GM_CONTAINER_OF(sock, struct peer, sock);
    GM_ASSERT(peer->open && peer->ends == 0 && slice.len > 0);
    peer->received += slice.len;
    peer->recvs++;
    if (!peer->hold) gm_slice_put(slice);
    else GM_ASSERT(gm_chain_push(&peer->held, gm_ring_segs(sock->ring), slice) == 0);
    if (peer->close_on_recv) peer_close(peer, false);
}

static void peer_on_recv_end(struct gm_sock *sock, int error) {
    struct peer *peer = GM_CONTAINER_OF(sock, struct peer, sock);
    GM_ASSERT(peer->open);
    peer->ends++;
    peer->end_error = error;
}

static void peer_on_hangup(struct gm_sock *sock) {
    struct peer *peer = GM_CONTAINER_OF(sock, struct peer, sock);
    GM_ASSERT(peer->open && gm_sock_recv_left(sock) == 0 && peer->ends == 0);
    peer->hangups++;
}

static void peer_on_sent(struct gm_sock *sock, ssize_t result) {
    struct peer *peer = GM_CONTAINER_OF(sock, struct peer, sock);
    GM_ASSERT(peer->open && peer->offered > 0);
    size_t offered = peer->offered;
    peer->offered = 0;
    if (result < 0) {
        peer->send_error = (int)result;
        return;
    }
    GM_ASSERT((size_t)result <= offered);
    peer->sent += (size_t)result;
    peer->blocked = (size_t)result < offered;
    if (peer->blocked) peer->short_sends++;
    else peer_push(peer);
}

static void peer_on_writable(struct gm_sock *sock) {
    struct peer *peer = GM_CONTAINER_OF(sock, struct peer, sock);
    GM_ASSERT(peer->open && peer->blocked);
    peer->blocked = false;
    peer->writables++;
    peer_push(peer);
}

static void peer_on_connect(struct gm_sock *sock, int error) {
    struct peer *peer = GM_CONTAINER_OF(sock, struct peer, sock);
    GM_ASSERT(peer->connects == 0);
    peer->connects++;
    peer->connect_error = error;
}

static void peer_on_closed(struct gm_sock *sock) {
    struct peer *peer = GM_CONTAINER_OF(sock, struct peer, sock);
    GM_ASSERT(!peer->open && peer->closes == 0);
    peer->closes++;
    gm_chain_clear(&peer->held, gm_ring_segs(sock->ring));
}

static const struct gm_sock_ops peer_ops = {.on_recv = peer_on_recv,
                                            .on_recv_end = peer_on_recv_end,
                                            .on_hangup = peer_on_hangup,
                                            .on_sent = peer_on_sent,
                                            .on_writable = peer_on_writable,
                                            .on_connect = peer_on_connect,
                                            .on_closed = peer_on_closed};

static void pair_on_accept(struct gm_listener *listener, int fd) {
    struct pair *pair = GM_CONTAINER_OF(listener, struct pair, listener);
    if (pair->accepted++ > 0) {
        gm_ring_close_fd(pair->ring, fd);
        return;
    }
    int rc = gm_sock_open(pair->ring, &pair->server.sock, fd, &peer_ops);
    GM_ASSERT(rc == 0);
    pair->server.open = true;
}

static void pair_on_listener_closed(struct gm_listener *listener) { GM_CONTAINER_OF(listener, struct pair, listener)->listener_closes++; }

void pair_next(struct pair *pair) {
    pair->phase++;
    pair->quiet = 0;
}

static bool pair_all_closed(const struct pair *pair) {
    return pair->client.closes == 1 && pair->server.closes == (pair->accepted > 0 ? 1u : 0u) && pair->listener_closes == 1;
}

static void pair_on_tick(struct gm_timer *timer) {
    struct pair *pair = GM_CONTAINER_OF(timer, struct pair, tick);
    GM_ASSERT(++pair->ticks < 4000);
    pair->quiet++;
    if (!pair->through && pair->script(pair)) {
        pair->through = true;
        peer_close(&pair->client, false);
        peer_close(&pair->server, false);
        if (pair->listener_closes == 0) gm_listener_close(&pair->listener);
    }
    pair->done = pair->through && pair_all_closed(pair);
    if (pair->done) gm_rings_stop(pair->rings);
    else gm_timer_set(pair->ring, &pair->tick, gm_ring_now_ns(pair->ring) + PAIR_TICK_NS);
}

static int pair_init(struct gm_ring *ring, void *arg) {
    struct pair *pair = arg;
    pair->ring = ring;
    pair->rings = gm_ring_rings(ring);
    pair->listener.on_accept = pair_on_accept;
    pair->listener.on_closed = pair_on_listener_closed;
    pair->addr.in = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int rc = gm_listener_open(ring, &pair->listener, &pair->addr);
    if (rc < 0) return rc;
    pair->addr.in.sin_port = htons(gm_listener_port(&pair->listener));
    rc = gm_sock_connect(ring, &pair->client.sock, &pair->addr, &peer_ops);
    if (rc < 0) return rc;
    pair->client.open = true;
    gm_timer_init(&pair->tick, pair_on_tick);
    gm_timer_set(ring, &pair->tick, gm_ring_now_ns(ring) + PAIR_TICK_NS);
    return 0;
}

static void pair_fini(struct gm_ring *ring, void *arg) {
    struct pair *pair = arg;
    GM_ASSERT(pair->done);
    case_check_memory(ring);
}

static bool pair_is_done(void *arg) { return ((struct pair *)arg)->done; }

bool pair_run(enum gm_io io, bool (*script)(struct pair *pair)) {
    struct pair *pair = calloc(1, sizeof *pair);
    struct gm_sim *sim = io == GM_IO_SIM ? gm_sim_new(7) : NULL;
    struct gm_rings *rings;
    char why[GM_WHY_BYTES];
    GM_ASSERT(pair != NULL);
    pair->script = script;
    struct gm_rings_config config = {.io = io, .count = 1, .memory_bytes = GM_RING_MEMORY_MIN, .socks_max = 1024, .sim = sim};
    struct gm_rings_ops ops = {.init = pair_init, .fini = pair_fini, .arg = pair};
    bool had = gm_rings_start(&config, &ops, &rings, why) == 0;
    if (!had) (void)fprintf(stderr, "skipped: %s\n", why);
    if (had && sim != NULL) (void)gm_sim_run_when(sim, pair_is_done, pair, gm_sim_now(sim) + 100 * SECOND);
    if (had) gm_rings_join(rings);
    gm_sim_free(sim);
    free(pair->client.bytes);
    free(pair->server.bytes);
    free(pair);
    return had;
}

/* ---- Scripts ------------------------------------------------------------------------------------------------------------------------------ */

static bool standing(const struct pair *pair) { return pair->client.connects == 1 && pair->accepted == 1; }

/* Never a byte more than granted, however much waits; and all of it in the end. */
static bool script_exact_grant(struct pair *pair) {
    struct peer *to = &pair->server;
    if (pair->phase == 0) {
        if (!standing(pair)) return false;
        GM_ASSERT(pair->client.connect_error == 0);
        peer_send(&pair->client, 100000);
        gm_sock_recv(&to->sock, GM_POOL_CLIENT, 1000);
        pair_next(pair);
    } else if (pair->phase == 1 && pair->quiet >= 5) {
        GM_ASSERT(to->received == 1000 && gm_sock_recv_left(&to->sock) == 0);
        gm_sock_recv(&to->sock, GM_POOL_CLIENT, 1);
        pair_next(pair);
    } else if (pair->phase == 2 && pair->quiet >= 5) {
        GM_ASSERT(to->received == 1001);
        for (int i = 0; i < 3; i++) gm_sock_recv(&to->sock, GM_POOL_CLIENT, 16384);
        pair_next(pair);
    } else if (pair->phase == 3 && pair->quiet >= 8) {
        GM_ASSERT(to->received == 1001 + 3 * 16384 && to->hangups == 0);
        gm_sock_recv(&to->sock, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
        pair_next(pair);
    }
    GM_ASSERT(to->received <= 100000);
    return pair->phase == 4 && to->received == 100000;
}

/* Paused: the peer's FIN is told by on_hangup, once; the bytes before it are still to be had, then the end. */
static bool script_hangup(struct pair *pair) {
    struct peer *to = &pair->server;
    if (pair->phase == 0) {
        if (!standing(pair)) return false;
        peer_send(&pair->client, 10);
        pair_next(pair);
    } else if (pair->phase == 1 && pair->client.sent == 10) {
        GM_ASSERT(to->hangups == 0);
        gm_sock_shutdown(&pair->client.sock);
        pair_next(pair);
    } else if (pair->phase == 2 && to->hangups == 1 && pair->quiet >= 5) {
        GM_ASSERT(to->received == 0 && to->ends == 0);
        gm_sock_recv(&to->sock, GM_POOL_CLIENT, 4);
        pair_next(pair);
    } else if (pair->phase == 3 && pair->quiet >= 5) {
        GM_ASSERT(to->received == 4 && to->hangups == 1 && to->ends == 0);
        gm_sock_recv(&to->sock, GM_POOL_CLIENT, 100);
        pair_next(pair);
    }
    GM_ASSERT(to->hangups <= 1);
    return pair->phase == 4 && to->ends == 1 && to->end_error == 0 && to->received == 10;
}

/* Half-closed: the other direction goes on. */
static bool script_half_close(struct pair *pair) {
    if (pair->phase == 0) {
        if (!standing(pair)) return false;
        gm_sock_recv(&pair->server.sock, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
        gm_sock_recv(&pair->client.sock, GM_POOL_LINK, GM_RECV_UNLIMITED);
        peer_send(&pair->client, 5000);
        gm_sock_shutdown(&pair->client.sock); /* goes behind the send under way */
        pair_next(pair);
    } else if (pair->phase == 1 && pair->server.ends == 1) {
        GM_ASSERT(pair->server.end_error == 0 && pair->server.received == 5000 && pair->client.ends == 0);
        peer_send(&pair->server, 300000);
        pair_next(pair);
    } else if (pair->phase == 2 && pair->server.sent == 300000) {
        gm_sock_shutdown(&pair->server.sock);
        pair_next(pair);
    }
    return pair->phase == 3 && pair->client.ends == 1 && pair->client.end_error == 0 && pair->client.received == 300000;
}

/* A close with reset is an error to a reader, and a hang-up to one who is paused. */
static bool script_reset(struct pair *pair) {
    if (pair->phase == 0) {
        if (!standing(pair)) return false;
        gm_sock_recv(&pair->server.sock, GM_POOL_CLIENT, 1000);
        peer_close(&pair->client, true);
        pair_next(pair);
    }
    if (pair->server.ends == 0) return false;
    GM_ASSERT(pair->server.end_error == -ECONNRESET && pair->server.hangups == 0);
    return pair->client.closes == 1;
}

static bool script_reset_paused(struct pair *pair) {
    if (pair->phase == 0) {
        if (!standing(pair)) return false;
        peer_close(&pair->client, true);
        pair_next(pair);
    } else if (pair->phase == 1 && pair->server.hangups == 1) {
        gm_sock_recv(&pair->server.sock, GM_POOL_LINK, 1000);
        pair_next(pair);
    }
    return pair->phase == 2 && pair->server.ends == 1 && pair->server.end_error == -ECONNRESET && pair->server.received == 0;
}

/* Nobody reads: sends come back short, at once; once somebody does, on_writable. */
static bool script_short_send(struct pair *pair) {
    const size_t bytes = 24u << 20; /* more than any socket buffers take */
    if (pair->phase == 0) {
        if (!standing(pair)) return false;
        peer_send(&pair->client, bytes);
        pair_next(pair);
    } else if (pair->phase == 1 && pair->client.blocked && pair->quiet >= 5) {
        GM_ASSERT(pair->client.short_sends > 0 && pair->client.sent < bytes);
        gm_sock_recv(&pair->server.sock, GM_POOL_LINK, GM_RECV_UNLIMITED);
        pair_next(pair);
    }
    return pair->phase == 2 && pair->server.received == bytes && pair->client.writables > 0;
}

/* A blocked sender learns that the peer has gone. */
static bool script_blocked_reset(struct pair *pair) {
    if (pair->phase == 0) {
        if (!standing(pair)) return false;
        peer_send(&pair->client, 24u << 20);
        pair_next(pair);
    } else if (pair->phase == 1 && pair->client.blocked && pair->quiet >= 5) {
        peer_close(&pair->server, true);
        pair_next(pair);
    }
    return pair->phase == 2 && pair->client.send_error < 0;
}

/* Closing inside on_recv: nothing more is told but the end. (peer_on_* assert it.) */
static bool script_close_inside(struct pair *pair) {
    if (pair->phase == 0) {
        if (!standing(pair)) return false;
        pair->server.close_on_recv = true;
        gm_sock_recv(&pair->server.sock, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
        peer_send(&pair->client, 200000);
        pair_next(pair);
    }
    return pair->server.closes == 1 && pair->server.recvs == 1;
}

/* A sender without grant that closes with bytes unread: the peer must see a cut. */
static bool script_close_unread(struct pair *pair) {
    if (pair->phase == 0) {
        if (!standing(pair)) return false;
        gm_sock_recv(&pair->client.sock, GM_POOL_CLIENT, 1000);
        peer_send(&pair->client, 1000);
        pair_next(pair);
    } else if (pair->phase == 1 && pair->client.sent == 1000 && pair->quiet >= 5) {
        peer_close(&pair->server, false);
        pair_next(pair);
    }
    return pair->phase == 2 && pair->client.ends == 1 && pair->client.end_error == -ECONNRESET;
}

/* A receive pool used up by somebody who holds on: nothing is lost, and receiving goes on when he lets go. */
static bool script_starved(struct pair *pair) {
    struct peer *to = &pair->server;
    const uint64_t pool_bytes = GM_RING_MEMORY_MIN / GM_STORE_CLIENT_SHARE;
    if (pair->phase == 0) {
        if (!standing(pair)) return false;
        to->hold = true;
        gm_sock_recv(&to->sock, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
        peer_send(&pair->client, 4 * pool_bytes);
        pair_next(pair);
    } else if (pair->phase == 1 && pair->quiet >= 20) {
        GM_ASSERT(to->received <= pool_bytes && to->received >= pool_bytes / 2);
        to->hold = false;
        gm_chain_clear(&to->held, gm_ring_segs(pair->ring));
        pair_next(pair);
    }
    return pair->phase == 2 && to->received == 4 * pool_bytes;
}

/* Closing the listener gives out what waits, then ends. */
static bool script_drain(struct pair *pair) {
    static struct peer dialled[20];
    if (pair->phase == 0) {
        if (!standing(pair)) return false;
        for (unsigned i = 0; i < 20; i++) {
            dialled[i] = (struct peer){.open = true};
            int rc = gm_sock_connect(pair->ring, &dialled[i].sock, &pair->addr, &peer_ops);
            GM_ASSERT(rc == 0);
        }
        pair_next(pair);
    } else if (pair->phase == 1) {
        gm_listener_close(&pair->listener);
        pair_next(pair);
    } else if (pair->phase == 2 && pair->listener_closes == 1) {
        for (unsigned i = 0; i < 20; i++) peer_close(&dialled[i], false);
        pair_next(pair);
    }
    if (pair->phase < 3) return false;
    for (unsigned i = 0; i < 20; i++) {
        if (dialled[i].closes == 0) return false;
        GM_ASSERT(dialled[i].connects == 1 && dialled[i].connect_error == 0);
    }
    GM_ASSERT(pair->accepted == 21);
    return true;
}

/* Nobody listens there any more: on_connect tells, and only then; the close is told once. */
static bool script_refused(struct pair *pair) {
    static struct peer dialled;
    if (pair->phase == 0) {
        if (!standing(pair)) return false;
        gm_listener_close(&pair->listener);
        pair_next(pair);
    } else if (pair->phase == 1 && pair->listener_closes == 1) {
        dialled = (struct peer){.open = true};
        int rc = gm_sock_connect(pair->ring, &dialled.sock, &pair->addr, &peer_ops);
        GM_ASSERT(rc == 0 && dialled.connects == 0);
        gm_sock_recv(&dialled.sock, GM_POOL_CLIENT, 10);
        pair_next(pair);
    } else if (pair->phase == 2 && dialled.connects == 1 && pair->quiet >= 5) {
        GM_ASSERT(dialled.connect_error == -ECONNREFUSED && dialled.closes == 0);
        peer_close(&dialled, false);
        pair_next(pair);
    }
    return pair->phase == 3 && dialled.closes == 1;
}

struct behaviour {
    enum gm_io io;
    const char *name;
    bool (*script)(struct pair *pair);
};

#define BEHAVIOURS(X)                                                                                                                       \
    X(exact_grant) X(hangup) X(half_close) X(reset) X(reset_paused) X(short_send) X(blocked_reset) X(close_inside) X(close_unread) X(starved) \
        X(drain) X(refused)
#define BEHAVIOUR_ROWS(name_)                                                                                                               \
    {GM_IO_EPOLL, #name_ " on epoll", script_##name_}, {GM_IO_SIM, #name_ " on sim", script_##name_},                                       \
        {GM_IO_URING, #name_ " on io_uring", script_##name_},

static const struct behaviour behaviours[] = {BEHAVIOURS(BEHAVIOUR_ROWS)};
#define BEHAVIOUR_COUNT (sizeof behaviours / sizeof behaviours[0])

/* Each test is a process of its own at other addresses: the parameter is an index. */
ParameterizedTestParameters(epoll, behaviour) {
    static unsigned indices[BEHAVIOUR_COUNT];
    for (unsigned i = 0; i < BEHAVIOUR_COUNT; i++) indices[i] = i;
    return cr_make_param_array(unsigned, indices, BEHAVIOUR_COUNT);
}

ParameterizedTest(unsigned *index, epoll, behaviour, .timeout = 60) {
    const struct behaviour *behaviour = &behaviours[*index];
    bool had = pair_run(behaviour->io, behaviour->script);
    cr_assert(had || behaviour->io == GM_IO_URING, "%s", behaviour->name);
    if (!had) cr_skip("no io_uring here");
    (void)fprintf(stderr, "ok: %s\n", behaviour->name);
}

/* ---- The echo on every back-end --------------------------------------------------------------------------------------------------------------- */

static void echo_on(enum gm_io io, const char *features_off, bool hand_over, uint32_t rings) {
    struct gm_sim *sim = io == GM_IO_SIM ? gm_sim_new(99) : NULL;
    struct echo_plan plan = {.io = io,
                             .sim = sim,
                             .rings = rings,
                             .conns = 60,
                             .bytes_max = 1000000,
                             .deadline_ns = 50 * SECOND,
                             .run_ns = 200 * SECOND,
                             .hand_over = hand_over,
                             .features_off = features_off};
    struct echo_result result = echo_run(&plan);
    gm_sim_free(sim);
    if (result.skipped && io == GM_IO_URING) cr_skip("no io_uring here");
    cr_assert(result.done && result.complete == plan.conns && result.told == 0, "complete %u told %u", result.complete, result.told);
    cr_assert(result.accepted == plan.conns);
    cr_assert(!hand_over || result.handed_over > 0);
}

Test(epoll, echo_epoll, .timeout = 120) { echo_on(GM_IO_EPOLL, NULL, false, 2); }
Test(epoll, echo_epoll_one_ring, .timeout = 120) { echo_on(GM_IO_EPOLL, NULL, false, 1); }
Test(epoll, echo_epoll_hand_over, .timeout = 120) { echo_on(GM_IO_EPOLL, NULL, true, 2); }
Test(epoll, echo_sim, .timeout = 120) { echo_on(GM_IO_SIM, NULL, true, 2); }
Test(epoll, echo_uring, .timeout = 120) { echo_on(GM_IO_URING, NULL, true, 2); }
Test(epoll, echo_uring_bare, .timeout = 120) { echo_on(GM_IO_URING, "all", true, 2); }

/* ---- What only epoll can be asked -------------------------------------------------------------------------------------------------------------- */

static uint64_t counter_of(const struct pair *pair, enum gm_counter counter) { return gm_counter_sum(&pair->rings->counters, counter); }

/* A lone request costs each end a wait, a receive and a send: on one ring that is both ends, four calls for a ping and its pong, and two
 * waits. No epoll_ctl, no second look for the result of a send. */
static uint32_t pings;
static uint64_t enters_before, turns_before;

static void ping_on_recv(struct gm_sock *sock, gm_slice slice) {
    struct peer *peer = GM_CONTAINER_OF(sock, struct peer, sock);
    peer->received += slice.len;
    gm_slice_put(slice);
    pings++;
    if (pings < 2000) peer_send(peer, 100);
}
static const struct gm_sock_ops ping_ops = {.on_recv = ping_on_recv,
                                            .on_recv_end = peer_on_recv_end,
                                            .on_hangup = peer_on_hangup,
                                            .on_sent = peer_on_sent,
                                            .on_writable = peer_on_writable,
                                            .on_closed = peer_on_closed};

static bool script_ping(struct pair *pair) {
    if (pair->phase == 0) {
        if (!standing(pair)) return false;
        pings = 0;
        pair->client.sock.ops = pair->server.sock.ops = &ping_ops;
        gm_sock_recv(&pair->client.sock, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
        gm_sock_recv(&pair->server.sock, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
        enters_before = counter_of(pair, GM_COUNTER_ENTERS);
        turns_before = counter_of(pair, GM_COUNTER_TURNS);
        peer_send(&pair->client, 100);
        pair_next(pair);
    }
    if (pings < 2000 || pair->quiet < 5) return false;
    uint64_t enters = counter_of(pair, GM_COUNTER_ENTERS) - enters_before, turns = counter_of(pair, GM_COUNTER_TURNS) - turns_before;
    (void)fprintf(stderr, "%u messages: %llu system calls, %llu turns\n", pings, (unsigned long long)enters, (unsigned long long)turns);
    GM_ASSERT(enters <= 3 * pings + 300);
    return true;
}

Test(epoll, three_calls_per_message, .timeout = 30) { cr_assert(pair_run(GM_IO_EPOLL, script_ping)); }

/* A thousand small receives that are held share a few buffers. */
static bool script_share(struct pair *pair) {
    if (pair->phase == 0) {
        if (!standing(pair)) return false;
        pair->server.hold = true;
        gm_sock_recv(&pair->server.sock, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
        pair_next(pair);
    } else if (pair->phase <= 100 && pair->client.sent == pair->client.to_send) {
        peer_send(&pair->client, 300);
        pair_next(pair);
    }
    if (pair->phase <= 100 || pair->server.received < 30000) return false;
    const struct gm_pool_state *pool = &pair->ring->store.pools[GM_STORE_CLIENT];
    GM_ASSERT(pair->server.recvs >= 20 && pool->count - pool->free_count <= 3);
    return true;
}

Test(epoll, small_receives_share_a_buffer, .timeout = 30) { cr_assert(pair_run(GM_IO_EPOLL, script_share)); }

/* However much waits, a socket gets its share of a turn and no more, and the other one its own in the same turn. */
static uint64_t turn_of[2], turn_bytes[2], turn_most, both_turns;

static void share_on_recv(struct gm_sock *sock, gm_slice slice) {
    struct peer *peer = GM_CONTAINER_OF(sock, struct peer, sock);
    unsigned which = sock->pool;
    uint64_t turn = gm_counter_get(GM_COUNTER_TURNS);
    if (turn_of[which] != turn) turn_bytes[which] = 0;
    if (turn_of[which] != turn && turn_of[1 - which] == turn) both_turns++;
    turn_of[which] = turn;
    turn_bytes[which] += slice.len;
    if (turn_bytes[which] > turn_most) turn_most = turn_bytes[which];
    peer->received += slice.len;
    gm_slice_put(slice);
}
static const struct gm_sock_ops share_ops = {.on_recv = share_on_recv,
                                             .on_recv_end = peer_on_recv_end,
                                             .on_hangup = peer_on_hangup,
                                             .on_sent = peer_on_sent,
                                             .on_writable = peer_on_writable,
                                             .on_closed = peer_on_closed};

static bool script_fair(struct pair *pair) {
    const size_t bytes = 8u << 20;
    if (pair->phase == 0) {
        if (!standing(pair)) return false;
        turn_most = both_turns = 0;
        pair->client.sock.ops = pair->server.sock.ops = &share_ops;
        peer_send(&pair->client, bytes);
        peer_send(&pair->server, bytes);
        pair_next(pair);
    } else if (pair->phase == 1 && pair->client.blocked && pair->server.blocked) {
        gm_sock_recv(&pair->client.sock, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
        gm_sock_recv(&pair->server.sock, GM_POOL_LINK, GM_RECV_UNLIMITED);
        pair_next(pair);
    }
    if (pair->client.received < bytes || pair->server.received < bytes) return false;
    GM_ASSERT(turn_most == GM_LINK_BUF_BYTES && both_turns >= 20);
    return true;
}

Test(epoll, a_turn_is_shared, .timeout = 30) { cr_assert(pair_run(GM_IO_EPOLL, script_fair)); }

/* Out of descriptors: the listener rests, and goes on once there are some; nobody spins meanwhile. */
static int hoard[4096];
static unsigned hoarded;
static struct peer late[4];

static bool script_no_descriptors(struct pair *pair) {
    if (pair->phase == 0) {
        if (!standing(pair)) return false;
        for (unsigned i = 0; i < 4; i++) {
            late[i] = (struct peer){.open = true};
            /* The client half needs its descriptor before the last one has gone. */
            int rc = gm_sock_connect(pair->ring, &late[i].sock, &pair->addr, &peer_ops);
            GM_ASSERT(rc == 0);
        }
        int fd;
        while (hoarded < 4096 && (fd = dup(2)) >= 0) hoard[hoarded++] = fd;
        GM_ASSERT(hoarded < 4096);
        pair_next(pair);
    } else if (pair->phase == 1 && pair->quiet == 2) {
        turns_before = counter_of(pair, GM_COUNTER_TURNS);
    } else if (pair->phase == 1 && pair->quiet >= 50) {
        GM_ASSERT(pair->accepted == 1);
        GM_ASSERT(counter_of(pair, GM_COUNTER_TURNS) - turns_before < 200);
        while (hoarded > 0) (void)close(hoard[--hoarded]);
        pair_next(pair);
    } else if (pair->phase == 2 && pair->accepted == 5) {
        for (unsigned i = 0; i < 4; i++) peer_close(&late[i], false);
        pair_next(pair);
    }
    return pair->phase == 3 && late[0].closes + late[1].closes + late[2].closes + late[3].closes == 4;
}

Test(epoll, accept_without_descriptors, .timeout = 30) {
    struct rlimit few = {256, 256};
    cr_assert(setrlimit(RLIMIT_NOFILE, &few) == 0);
    cr_assert(pair_run(GM_IO_EPOLL, script_no_descriptors));
}

/* Two rings wake each other out of their sleep, without a lost wake-up: a letter to and fro, and ring 0 often sends, too, so that it falls
 * asleep by the second path, after telling the result of a send. */
struct rally {
    struct gm_mail mail;
    struct gm_rings *rings;
    struct gm_sock sock;
    int far_fd;
    uint32_t hits, sent;
};
#define RALLY_HITS 20000u
#define RALLY_SENDS 200u /* nobody reads them: reading would be an event that wakes the ring by itself */

static void rally_on_sent(struct gm_sock *sock, ssize_t result) {
    struct rally *rally = GM_CONTAINER_OF(sock, struct rally, sock);
    GM_ASSERT(result == 1);
    rally->sent++;
}
static void rally_on_closed(struct gm_sock *sock) { gm_rings_stop(GM_CONTAINER_OF(sock, struct rally, sock)->rings); }
static const struct gm_sock_ops rally_ops = {.on_sent = rally_on_sent, .on_closed = rally_on_closed};

static void rally_deliver(struct gm_mail *mail) {
    struct rally *rally = GM_CONTAINER_OF(mail, struct rally, mail);
    if (gm_ring_self == 0 && rally->hits >= RALLY_HITS) {
        gm_sock_close(&rally->sock, false);
        return;
    }
    rally->hits++;
    if (gm_ring_self == 0 && rally->sent < RALLY_SENDS && !gm_sock_sending(&rally->sock)) {
        struct iovec iov = {(void *)"x", 1};
        GM_ASSERT(gm_sock_send(&rally->sock, &iov, 1, false) == 0);
    }
    gm_ring_mail(gm_ring_current, 1u - gm_ring_self, mail);
}

static int rally_init(struct gm_ring *ring, void *arg) {
    struct rally *rally = arg;
    int fds[2];
    if (gm_ring_index(ring) != 0) return 0;
    GM_ASSERT(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    rally->far_fd = fds[1];
    return gm_sock_open(ring, &rally->sock, fds[0], &rally_ops);
}

Test(epoll, rings_wake_each_other, .timeout = 60) {
    struct rally rally = {.mail.deliver = rally_deliver};
    char why[GM_WHY_BYTES];
    struct gm_rings_config config = {.io = GM_IO_EPOLL, .count = 2, .memory_bytes = GM_RING_MEMORY_MIN, .socks_max = 64};
    struct gm_rings_ops ops = {.init = rally_init, .arg = &rally};
    cr_assert(gm_rings_start(&config, &ops, &rally.rings, why) == 0, "%s", why);
    gm_rings_mail(rally.rings, 0, &rally.mail);
    gm_rings_join(rally.rings);
    (void)close(rally.far_fd);
    cr_assert(rally.hits >= RALLY_HITS && rally.sent == RALLY_SENDS);
}
