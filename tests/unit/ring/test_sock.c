/* What a socket promises, on every back-end and with every optional kernel feature off. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "harness.h"

#define MEMORY (16u << 20)

struct args {
    struct rec *rec;
    int fd;
    uint64_t grant;
    enum gm_pool pool;
    bool reset;
};

static void do_open(struct gm_ring *ring, void *arg)
{
    struct args *a = arg;
    rec_open(a->rec, ring, a->fd);
    if (a->grant > 0)
        gm_sock_recv(&a->rec->sock, a->pool, a->grant);
}
static void do_grant(struct gm_ring *ring, void *arg)
{
    struct args *a = arg;
    (void)ring;
    gm_sock_recv(&a->rec->sock, a->pool, a->grant);
}
static void do_close(struct gm_ring *ring, void *arg)
{
    struct args *a = arg;
    (void)ring;
    gm_sock_close(&a->rec->sock, a->reset);
}
static void do_pump(struct gm_ring *ring, void *arg)
{
    (void)ring;
    rec_pump(((struct args *)arg)->rec);
}
static void do_shutdown(struct gm_ring *ring, void *arg)
{
    (void)ring;
    gm_sock_shutdown(&((struct args *)arg)->rec->sock);
}
static void do_drop(struct gm_ring *ring, void *arg)
{
    struct rec *rec = ((struct args *)arg)->rec;
    gm_chain_clear(&rec->held, gm_ring_segs(ring));
}

struct answer {
    struct rec *rec;
    bool sending;
    uint64_t left;
};
static void do_ask(struct gm_ring *ring, void *arg)
{
    struct answer *answer = arg;
    (void)ring;
    answer->sending = gm_sock_sending(&answer->rec->sock);
    answer->left = gm_sock_recv_left(&answer->rec->sock);
}
static struct answer ask(struct gm_rings *rings, struct rec *rec)
{
    struct answer answer = {.rec = rec};
    on_ring(rings, 0, do_ask, &answer);
    return answer;
}

static void close_and_wait(struct gm_rings *rings, struct args *a)
{
    on_ring(rings, 0, do_close, a);
    WAIT_UNTIL(a->rec->closes == 1);
}

/* Reads until `len` bytes are there. */
static void read_all(int fd, uint8_t *to, size_t len)
{
    while (len > 0) {
        struct pollfd p = {fd, POLLIN, 0};
        cr_assert(poll(&p, 1, 10000) == 1, "%zu bytes missing", len);
        ssize_t n = recv(fd, to, len, 0);
        cr_assert(n > 0, "recv: %zd", n);
        to += n;
        len -= (size_t)n;
    }
}

CASE(echo)
{
    struct gm_rings *rings = start(variant, 1, MEMORY);
    struct rec *rec = rec_new(rings);
    rec->echo = true;
    int fd[2];
    tcp_pair(fd);
    struct args a = {.rec = rec, .fd = fd[1], .grant = GM_RECV_UNLIMITED, .pool = GM_POOL_CLIENT};
    on_ring(rings, 0, do_open, &a);
    uint64_t at = 0;
    uint8_t back[70000];
    for (size_t len = 1; len <= 65536; len = len * 3 + 1) {
        write_pattern(fd[0], at, len);
        read_all(fd[0], back, len);
        cr_assert(is_pattern(back, at, len));
        at += len;
    }
    close(fd[0]);
    WAIT_UNTIL(rec->ends == 1);
    cr_assert_eq(rec->end_error, 0);
    cr_assert_eq(rec->bytes, at);
    close_and_wait(rings, &a);
    finish(rings);
    rec_free(rec);
}

/* Never a byte more than granted, whatever the sizes, with more bytes waiting than any grant. */
CASE(grants_are_exact)
{
    struct gm_rings *rings = start(variant, 1, MEMORY);
    struct rec *rec = rec_new(rings);
    int fd[2];
    tcp_pair(fd);
    struct args a = {.rec = rec, .fd = fd[1]};
    on_ring(rings, 0, do_open, &a);
    write_pattern(fd[0], 0, 300000);
    usleep(2000);
    cr_assert_eq(rec->bytes, 0u, "received without a grant");
    static const uint64_t grants[] = {1,     2,   10,    1000, 16383, 16384,
                                      16385, 100, 40000, 5,    70000, 65536};
    uint64_t granted = 0;
    for (unsigned i = 0; i < sizeof grants / sizeof grants[0]; i++) {
        a.grant = grants[i];
        on_ring(rings, 0, do_grant, &a);
        granted += grants[i];
        WAIT_UNTIL(rec->bytes == granted);
        usleep(500);
        cr_assert_eq(rec->bytes, granted);
        cr_assert_eq(ask(rings, rec).left, 0u);
    }
    /* What is left can be read by hand to the byte: nothing was taken and lost. */
    a.grant = GM_RECV_UNLIMITED;
    on_ring(rings, 0, do_grant, &a);
    WAIT_UNTIL(rec->bytes == 300000);
    cr_assert(is_pattern(rec->data, 0, 300000));
    close_and_wait(rings, &a);
    close(fd[0]);
    finish(rings);
    rec_free(rec);
}

/* Grants that arrive while earlier ones are armed add up, no more and no less. */
static void add_up(const struct variant *variant, uint64_t granted, unsigned most)
{
    struct gm_rings *rings = start(variant, 1, MEMORY);
    struct rec *rec = rec_new(rings);
    int fd[2];
    tcp_pair(fd);
    struct args a = {.rec = rec, .fd = fd[1], .grant = granted, .pool = GM_POOL_LINK};
    on_ring(rings, 0, do_open, &a);
    for (unsigned i = 0; i < 200; i++) {
        a.grant = 1 + (i * 37u) % most;
        on_ring(rings, 0, do_grant, &a);
        granted += a.grant;
        write_pattern(fd[0], i * 500u, 500);
        if (i % 7 == 0)
            usleep(200);
        cr_assert_leq(rec->bytes, granted);
    }
    uint64_t want = granted < 100000u ? granted : 100000u;
    WAIT_UNTIL(rec->bytes == want);
    usleep(1000);
    cr_assert_eq(rec->bytes, want);
    cr_assert(is_pattern(rec->data, 0, want));
    close_and_wait(rings, &a);
    close(fd[0]);
    finish(rings);
    rec_free(rec);
}

CASE(grants_add_up_under_way)
{
    add_up(variant, 10, 900);
    add_up(variant, 20000, 500); /* many receives to each, and more than one such grant */
}

/* A paused socket hears of its peer's going, with bytes unread; the end itself comes after them. */
CASE(hangup_while_paused)
{
    struct gm_rings *rings = start(variant, 1, MEMORY);
    struct rec *rec = rec_new(rings);
    int fd[2];
    tcp_pair(fd);
    struct args a = {.rec = rec, .fd = fd[1], .grant = 100};
    on_ring(rings, 0, do_open, &a);
    write_pattern(fd[0], 0, 250);
    WAIT_UNTIL(rec->bytes == 100);
    cr_assert_eq(rec->hangups, 0u);
    close(fd[0]);
    WAIT_UNTIL(rec->hangups == 1);
    cr_assert_eq(rec->ends, 0u);
    a.grant = GM_RECV_UNLIMITED;
    on_ring(rings, 0, do_grant, &a);
    WAIT_UNTIL(rec->ends == 1);
    cr_assert_eq(rec->bytes, 250u);
    cr_assert_eq(rec->hangups, 1u);
    close_and_wait(rings, &a);
    finish(rings);
    rec_free(rec);
}

/* The peer goes while a receive is armed; the grant ends exactly with the bytes: then the pause
 * must tell. */
CASE(hangup_seen_before_pause)
{
    struct gm_rings *rings = start(variant, 1, MEMORY);
    struct rec *rec = rec_new(rings);
    int fd[2];
    tcp_pair(fd);
    struct args a = {.rec = rec, .fd = fd[1]};
    on_ring(rings, 0, do_open, &a);
    write_pattern(fd[0], 0, 100);
    shutdown(fd[0], SHUT_WR);
    WAIT_UNTIL(rec->hangups == 1);
    a.grant = 40;
    on_ring(rings, 0, do_grant, &a);
    WAIT_UNTIL(rec->bytes == 40);
    usleep(1000);
    cr_assert_eq(rec->hangups, 1u, "told once");
    cr_assert_eq(rec->ends, 0u);
    close_and_wait(rings, &a);
    close(fd[0]);
    finish(rings);
    rec_free(rec);
}

/* Sends from within on_sent, and makes room before the result of that send is told. */
struct eager {
    struct gm_sock sock;
    int fd, peer;
    uint8_t *bytes;
    size_t total, under_way, drained;
    _Atomic size_t sent;
    _Atomic unsigned early, closes; /* early: told of room with a send under way */
};

static void eager_push(struct eager *eager)
{
    size_t left = eager->total - eager->sent;
    if (left == 0)
        return;
    /* A small one that leaves whole is followed by one that does not. */
    size_t most = eager->under_way == 1000 ? left : 1000;
    eager->under_way = left < most ? left : most;
    struct iovec iov = {eager->bytes, eager->under_way};
    cr_assert_eq(gm_sock_send(&eager->sock, &iov, 1, false), 0);
}

static void eager_drain(struct eager *eager)
{
    static uint8_t sink[1 << 16];
    ssize_t got;
    while ((got = recv(eager->peer, sink, sizeof sink, MSG_DONTWAIT)) > 0)
        eager->drained += (size_t)got;
}

static void eager_on_sent(struct gm_sock *sock, ssize_t result)
{
    struct eager *eager = GM_CONTAINER_OF(sock, struct eager, sock);
    cr_assert_geq(result, 0);
    eager->sent += (size_t)result;
    if ((size_t)result == eager->under_way)
        eager_push(eager);
    eager_drain(eager);
}

static void eager_on_writable(struct gm_sock *sock)
{
    struct eager *eager = GM_CONTAINER_OF(sock, struct eager, sock);
    if (gm_sock_sending(sock))
        eager->early++;
    else
        eager_push(eager);
    eager_drain(eager);
}

static void eager_on_recv_end(struct gm_sock *sock, int error)
{
    (void)sock, (void)error;
}
static void eager_on_hangup(struct gm_sock *sock)
{
    (void)sock;
}
static void eager_on_closed(struct gm_sock *sock)
{
    GM_CONTAINER_OF(sock, struct eager, sock)->closes++;
}
static const struct gm_sock_ops eager_ops = {.on_sent = eager_on_sent,
                                             .on_writable = eager_on_writable,
                                             .on_recv_end = eager_on_recv_end,
                                             .on_hangup = eager_on_hangup,
                                             .on_closed = eager_on_closed};

static void do_eager(struct gm_ring *ring, void *arg)
{
    struct eager *eager = arg;
    cr_assert_eq(gm_sock_open(ring, &eager->sock, eager->fd, &eager_ops), 0);
    eager_push(eager);
}
static void do_eager_close(struct gm_ring *ring, void *arg)
{
    struct eager *eager = arg;
    (void)ring;
    gm_sock_close(&eager->sock, false);
}

/* Room is told behind the result of the send that ran out of it: whoever hears of it with his send
 * still under way has nothing to wait for any more. */
CASE(room_is_told_behind_the_short_send)
{
    struct gm_rings *rings = start(variant, 1, MEMORY);
    struct eager eager = {.total = 24u << 20};
    int fd[2];
    tcp_pair(fd);
    eager.peer = fd[0];
    eager.fd = fd[1];
    eager.bytes = calloc(1, eager.total);
    cr_assert_not_null(eager.bytes);
    on_ring(rings, 0, do_eager, &eager);
    WAIT_UNTIL(eager.sent == eager.total);
    cr_assert_eq(eager.early, 0u);
    on_ring(rings, 0, do_eager_close, &eager);
    WAIT_UNTIL(eager.closes == 1);
    close(fd[0]);
    finish(rings);
    free(eager.bytes);
}

/* A peer that does not read: sends come back short, at once, and writable follows when it reads. */
CASE(short_sends)
{
    struct gm_rings *rings = start(variant, 1, MEMORY);
    struct rec *rec = rec_new(rings);
    int fd[2];
    size_t total = 24u << 20;
    tcp_pair(fd);
    struct args a = {.rec = rec, .fd = fd[1]};
    rec->source = malloc(total);
    for (size_t i = 0; i < total; i++)
        rec->source[i] = pattern(i);
    rec->to_send = total;
    on_ring(rings, 0, do_open, &a);
    on_ring(rings, 0, do_pump, &a);
    usleep(100000);
    uint64_t stuck = (uint64_t)rec->sent_bytes;
    cr_assert_gt(stuck, 0u);
    cr_assert_lt(stuck, total);
    cr_assert(!ask(rings, rec).sending, "a send never waits for the peer");
    uint8_t *back = malloc(total);
    read_all(fd[0], back, total);
    cr_assert(is_pattern(back, 0, total));
    WAIT_UNTIL((uint64_t)rec->sent_bytes == total);
    cr_assert_gt(rec->writables, 0u);
    on_ring(rings, 0, do_shutdown, &a);
    struct pollfd p = {fd[0], POLLIN, 0};
    cr_assert(poll(&p, 1, 5000) == 1);
    cr_assert_eq(recv(fd[0], back, 1, 0), 0, "FIN");
    close_and_wait(rings, &a);
    close(fd[0]);
    finish(rings);
    free(back);
    rec_free(rec);
}

CASE(close_with_reset_and_without)
{
    struct gm_rings *rings = start(variant, 1, MEMORY);
    for (int reset = 0; reset < 2; reset++) {
        struct rec *rec = rec_new(rings);
        int fd[2];
        char byte;
        tcp_pair(fd);
        struct args a = {.rec = rec, .fd = fd[1], .grant = GM_RECV_UNLIMITED, .reset = reset != 0};
        on_ring(rings, 0, do_open, &a);
        close_and_wait(rings, &a);
        struct pollfd p = {fd[0], POLLIN, 0};
        cr_assert(poll(&p, 1, 5000) == 1);
        ssize_t n = recv(fd[0], &byte, 1, 0);
        if (reset)
            cr_assert(n < 0 && errno == ECONNRESET, "%zd %d", n, errno);
        else
            cr_assert_eq(n, 0);
        cr_assert_eq(rec->ends, 0u, "only on_closed is told");
        close(fd[0]);
        rec_free(rec);
    }
    finish(rings);
}

/* The peer resets: receiving ends with the error, sending fails with it. */
CASE(peer_resets)
{
    struct gm_rings *rings = start(variant, 1, MEMORY);
    struct rec *rec = rec_new(rings);
    int fd[2];
    struct linger now = {1, 0};
    tcp_pair(fd);
    struct args a = {.rec = rec, .fd = fd[1], .grant = GM_RECV_UNLIMITED};
    on_ring(rings, 0, do_open, &a);
    setsockopt(fd[0], SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd[0]);
    WAIT_UNTIL(rec->ends == 1);
    cr_assert_eq(rec->end_error, -ECONNRESET);
    rec->source = calloc(1, 10);
    rec->to_send = 10;
    on_ring(rings, 0, do_pump, &a);
    WAIT_UNTIL(rec->sents == 1);
    cr_assert_eq(rec->sent_error, -EPIPE);
    close_and_wait(rings, &a);
    finish(rings);
    rec_free(rec);
}

/* Closing in the midst of everything: receives, a short send, a watch. */
CASE(close_under_load)
{
    struct gm_rings *rings = start(variant, 1, MEMORY);
    for (int round = 0; round < 30; round++) {
        struct rec *rec = rec_new(rings);
        int fd[2];
        tcp_pair(fd);
        rec->source = calloc(1, 8u << 20);
        rec->to_send = 8u << 20;
        struct args a = {.rec = rec,
                         .fd = fd[1],
                         .grant = round % 3 == 0 ? 1000u : GM_RECV_UNLIMITED,
                         .reset = round % 2 == 0};
        on_ring(rings, 0, do_open, &a);
        on_ring(rings, 0, do_pump, &a);
        write_pattern(fd[0], 0, 50000);
        if (round % 4 == 0)
            usleep(1000);
        close_and_wait(rings, &a);
        usleep(100);
        cr_assert_eq(rec->closes, 1u);
        close(fd[0]);
        rec_free(rec);
    }
    finish(rings);
}

/* ---- Hand-over
 * ---------------------------------------------------------------------------------------------------------------------------------------
 */

static void do_detach(struct gm_ring *ring, void *arg)
{
    (void)ring;
    gm_sock_detach(&((struct args *)arg)->rec->sock);
}

/* A socket wanders between two rings while its peer writes: no byte is lost, doubled or reordered.
 */
CASE(detach_and_adopt_under_load)
{
    struct gm_rings *rings = start(variant, 2, MEMORY);
    int fd[2];
    tcp_pair(fd);
    struct rec *rec = rec_new(rings);
    struct args a = {.rec = rec, .fd = fd[1], .grant = GM_RECV_UNLIMITED};
    uint64_t at = 0;
    on_ring(rings, 0, do_open, &a);
    for (uint32_t round = 0; round < 60; round++) {
        uint32_t here = round % 2;
        a.grant = round % 5 == 3 ? 30000u : GM_RECV_UNLIMITED;
        write_pattern(fd[0], at, 20000);
        at += 20000;
        on_ring(rings, here, do_detach, &a);
        write_pattern(fd[0], at, 1000);
        at += 1000;
        WAIT_UNTIL(rec->detached == round + 1);
        a.fd = rec->detached_fd;
        on_ring(rings, 1 - here, do_open, &a);
    }
    on_ring(rings, 0, do_grant, &(struct args){.rec = rec, .grant = GM_RECV_UNLIMITED});
    WAIT_UNTIL(rec->bytes == at);
    cr_assert(is_pattern(rec->data, 0, at));
    a.reset = false;
    close_and_wait(rings, &a);
    close(fd[0]);
    finish(rings);
    rec_free(rec);
}

/* ---- Memory
 * ---------------------------------------------------------------------------------------------------------------------------------------------
 */

/* Sockets that hold everything they receive use up the pool; receiving stops without loss and goes
 * on when buffers come back. */
CASE(starvation_and_recovery)
{
    enum { SOCKS = 8 };
    struct gm_rings *rings = start(variant, 1, GM_RING_MEMORY_MIN);
    struct rec *rec[SOCKS];
    struct args a[SOCKS];
    int fd[SOCKS][2];
    size_t each = 400000; /* together well above the pool of 1 MiB */
    for (int i = 0; i < SOCKS; i++) {
        rec[i] = rec_new(rings);
        rec[i]->keep = true;
        tcp_pair(fd[i]);
        a[i] = (struct args){.rec = rec[i], .fd = fd[i][1], .grant = GM_RECV_UNLIMITED};
        on_ring(rings, 0, do_open, &a[i]);
        int big = 1 << 20;
        setsockopt(fd[i][0], SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof big);
        write_pattern(fd[i][0], 0, each);
    }
    uint64_t before, sum = 0;
    do {
        before = sum;
        usleep(50000);
        sum = 0;
        for (int i = 0; i < SOCKS; i++)
            sum += rec[i]->bytes;
    } while (sum != before);
    cr_assert_lt(sum, SOCKS * each, "the pool was large enough: nothing tested");
    cr_assert_gt(gm_counter_sum(gm_rings_counters(rings), GM_COUNTER_RECV_STARVED), 0u);
    for (int round = 0; round < 2000 && sum < SOCKS * each; round++) {
        sum = 0;
        for (int i = 0; i < SOCKS; i++) {
            on_ring(rings, 0, do_drop, &a[i]);
            sum += rec[i]->bytes;
        }
    }
    for (int i = 0; i < SOCKS; i++) {
        WAIT_UNTIL(rec[i]->bytes == each);
        cr_assert(is_pattern(rec[i]->data, 0, each));
        on_ring(rings, 0, do_drop, &a[i]);
        close_and_wait(rings, &a[i]);
        close(fd[i][0]);
        rec_free(rec[i]);
    }
    finish(rings);
}

static void do_hold(struct gm_ring *ring, void *arg)
{
    gm_ring_hold(ring, &((struct args *)arg)->rec->holder);
}

static void do_check_held(struct gm_ring *ring, void *arg)
{
    struct rec *rec = ((struct args *)arg)->rec;
    uint64_t at = 0;
    cr_assert_eq(rec->held.bytes, rec->bytes);
    while (rec->held.count > 0) {
        gm_slice slice = gm_chain_pop(&rec->held, gm_ring_segs(ring));
        cr_assert(is_pattern(slice.data, at, slice.len));
        at += slice.len;
        gm_slice_put(slice);
    }
    gm_ring_unhold(&rec->holder);
}

/* Registered holders are moved into blocks: bytes and order stay, and the pool never runs dry. */
CASE(evacuation_keeps_bytes_and_order)
{
    struct gm_rings *rings = start(variant, 1, GM_RING_MEMORY_MIN);
    struct rec *rec = rec_new(rings);
    rec->keep = true;
    int fd[2];
    tcp_pair(fd);
    struct args a = {.rec = rec, .fd = fd[1], .grant = GM_RECV_UNLIMITED};
    on_ring(rings, 0, do_open, &a);
    on_ring(rings, 0, do_hold, &a);
    size_t total = 2u << 20; /* twice the pool */
    for (size_t at = 0; at < total; at += 3333)
        write_pattern(fd[0], at, total - at < 3333 ? total - at : 3333);
    WAIT_UNTIL(rec->bytes == total);
    cr_assert_gt(gm_counter_sum(gm_rings_counters(rings), GM_COUNTER_EVACUATIONS), 0u);
    on_ring(rings, 0, do_check_held, &a);
    close_and_wait(rings, &a);
    close(fd[0]);
    finish(rings);
    rec_free(rec);
}

/* ---- Connections
 * ------------------------------------------------------------------------------------------------------------------------------------------
 */

struct listening {
    struct gm_listener listener;
    struct gm_rings *rings;
    _Atomic uint32_t accepted, closed;
    int fds[4096];
    union gm_addr addr;
    int result;
    uint16_t port;
};
static void on_accept(struct gm_listener *listener, int fd)
{
    struct listening *l = GM_CONTAINER_OF(listener, struct listening, listener);
    l->fds[l->accepted] = fd;
    l->accepted++;
}
static void on_listener_closed(struct gm_listener *listener)
{
    GM_CONTAINER_OF(listener, struct listening, listener)->closed++;
}
static void do_listen(struct gm_ring *ring, void *arg)
{
    struct listening *l = arg;
    l->listener.on_accept = on_accept;
    l->listener.on_closed = on_listener_closed;
    l->result = gm_listener_open(ring, &l->listener, &l->addr);
    if (l->result == 0)
        l->port = gm_listener_port(&l->listener);
}
static void do_unlisten(struct gm_ring *ring, void *arg)
{
    (void)ring;
    gm_listener_close(&((struct listening *)arg)->listener);
}
struct dial {
    struct rec *rec;
    union gm_addr to;
    int result;
};
static void do_dial(struct gm_ring *ring, void *arg)
{
    struct dial *d = arg;
    d->result = gm_sock_connect(ring, &d->rec->sock, &d->to, &rec_ops);
    if (d->result == 0)
        gm_sock_recv(&d->rec->sock, GM_POOL_CLIENT,
                     GM_RECV_UNLIMITED); /* before it stands: allowed */
}

static struct listening *listen_loopback(struct gm_rings *rings)
{
    struct listening *l = calloc(1, sizeof *l);
    l->rings = rings;
    l->addr.in =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    on_ring(rings, 0, do_listen, l);
    cr_assert_eq(l->result, 0);
    l->addr.in.sin_port = htons(l->port);
    return l;
}

CASE(connect_and_accept)
{
    struct gm_rings *rings = start(variant, 2, MEMORY);
    struct listening *l = listen_loopback(rings);
    struct rec *rec[20];
    for (uint32_t i = 0; i < 20; i++) {
        rec[i] = rec_new(rings);
        struct dial d = {.rec = rec[i], .to = l->addr};
        on_ring(rings, i % 2, do_dial, &d);
        cr_assert_eq(d.result, 0);
        WAIT_UNTIL(rec[i]->connects == 1);
        cr_assert_eq(rec[i]->connect_error, 0);
        WAIT_UNTIL(l->accepted == i + 1);
        write_pattern(l->fds[i], 0, 3000);
        WAIT_UNTIL(rec[i]->bytes == 3000);
        cr_assert(is_pattern(rec[i]->data, 0, 3000));
    }
    for (uint32_t i = 0; i < 20; i++) {
        struct args a = {.rec = rec[i]};
        on_ring(rings, i % 2, do_close, &a);
        WAIT_UNTIL(rec[i]->closes == 1);
        close(l->fds[i]);
        rec_free(rec[i]);
    }
    on_ring(rings, 0, do_unlisten, l);
    WAIT_UNTIL(l->closed == 1);
    /* Nobody listens any more: refused, told by on_connect. */
    struct rec *late = rec_new(rings);
    struct dial d = {.rec = late, .to = l->addr};
    on_ring(rings, 0, do_dial, &d);
    WAIT_UNTIL(late->connects == 1);
    cr_assert_eq(late->connect_error, -ECONNREFUSED);
    close_and_wait(rings, &(struct args){.rec = late});
    rec_free(late);
    free(l);
    finish(rings);
}

static void do_stall(struct gm_ring *ring, void *arg)
{
    (void)ring;
    usleep(*(useconds_t *)arg);
}
struct stalled_close {
    struct listening *l;
    int *fds;
};
/* Within one callback: connections pile up in the queue, then the listener closes. */
static void do_pile_up_and_close(struct gm_ring *ring, void *arg)
{
    struct stalled_close *s = arg;
    (void)ring;
    for (int i = 0; i < 50; i++) {
        s->fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        cr_assert(connect(s->fds[i], &s->l->addr.base, sizeof s->l->addr.in) == 0);
    }
    gm_listener_close(&s->l->listener);
}
CASE(listener_drains_on_close)
{
    struct gm_rings *rings = start(variant, 1, MEMORY);
    struct listening *l = listen_loopback(rings);
    int fds[50];
    struct stalled_close s = {l, fds};
    on_ring(rings, 0, do_pile_up_and_close, &s);
    WAIT_UNTIL(l->closed == 1);
    cr_assert_eq(l->accepted, 50u, "%u of 50 accepted", l->accepted);
    for (int i = 0; i < 50; i++) {
        close(l->fds[i]);
        close(fds[i]);
    }
    free(l);
    finish(rings);
}

CASE(listener_tells_address_in_use)
{
    struct gm_rings *rings = start(variant, 1, MEMORY);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int fd = socket(AF_INET, SOCK_STREAM, 0); /* without SO_REUSEPORT: nobody may share it */
    cr_assert(bind(fd, (struct sockaddr *)&addr, len) == 0 && listen(fd, 1) == 0 &&
              getsockname(fd, (struct sockaddr *)&addr, &len) == 0);
    struct listening *l = calloc(1, sizeof *l);
    l->addr.in = addr;
    on_ring(rings, 0, do_listen, l);
    cr_assert_eq(l->result, -EADDRINUSE);
    close(fd);
    free(l);
    useconds_t none = 0;
    on_ring(rings, 0, do_stall, &none);
    finish(rings);
}

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 2048; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* Thousands of sockets come and go: rows, buffers and descriptors all come home. */
CASE(cycles_leak_nothing)
{
    struct gm_rings *rings = start(variant, 1, MEMORY);
    struct rec *rec = rec_new(rings);
    int before = open_descriptors();
    for (uint32_t round = 0; round < 1500; round++) {
        int fd[2];
        cr_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (round % 2 ? SOCK_NONBLOCK : 0),
                             0, fd) == 0);
        struct args a = {.rec = rec,
                         .fd = fd[1],
                         .grant = round % 3 == 0 ? 5u : GM_RECV_UNLIMITED,
                         .reset = round % 5 == 0};
        on_ring(rings, 0, do_open, &a);
        cr_assert(send(fd[0], "hello!", 6, 0) == 6);
        if (round % 4 == 0)
            WAIT_UNTIL(rec->slices > 0);
        if (round % 7 == 0)
            shutdown(fd[0], SHUT_WR);
        on_ring(rings, 0, do_close, &a);
        WAIT_UNTIL(rec->closes == 1);
        close(fd[0]);
        rec->closes = 0;
        rec->slices = 0;
        rec->bytes = 0;
    }
    cr_assert_eq(open_descriptors(), before);
    finish(rings);
    rec_free(rec);
}
