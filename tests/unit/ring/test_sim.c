/* The simulation itself: virtual time, replay, several programs in one network, mail and timers
 * between its rings, faults by command. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "test_epoll_cases.h"

#define MS     1000000ull
#define SECOND 1000000000ull

static struct gm_rings *start(struct gm_sim *sim, uint32_t count)
{
    struct gm_rings *rings;
    char why[GM_WHY_BYTES];
    struct gm_rings_config config = {.io = GM_IO_SIM,
                                     .count = count,
                                     .memory_bytes = GM_RING_MEMORY_MIN,
                                     .socks_max = 256,
                                     .sim = sim};
    int rc = gm_rings_start(&config, NULL, &rings, why);
    cr_assert(rc == 0, "%s", why);
    return rings;
}

/* ---- Two programs and a connection between them
 * ------------------------------------------------------------------------------------------- */

struct side {
    struct gm_sock sock;
    uint64_t received, last_ns, sent;
    uint32_t recvs, closes, ends, hangups, writables, connects;
    int end_error, connect_error;
    ssize_t last_sent;
    bool blocked;
};

struct net {
    struct gm_sim *sim;
    struct gm_rings *server, *client;
    struct gm_listener listener;
    struct side a, b; /* a dials, b was accepted */
    union gm_addr addr;
    uint32_t accepted;
    int listen_rc;
    size_t bytes;
};

static void side_on_recv(struct gm_sock *sock, gm_slice slice)
{
    struct side *side = GM_CONTAINER_OF(sock, struct side, sock);
    side->received += slice.len;
    side->recvs++;
    side->last_ns = gm_ring_now_ns(sock->ring);
    gm_slice_put(slice);
}
static void side_on_recv_end(struct gm_sock *sock, int error)
{
    struct side *side = GM_CONTAINER_OF(sock, struct side, sock);
    side->ends++;
    side->end_error = error;
}
static void side_on_hangup(struct gm_sock *sock)
{
    GM_CONTAINER_OF(sock, struct side, sock)->hangups++;
}
static void side_on_sent(struct gm_sock *sock, ssize_t result)
{
    struct side *side = GM_CONTAINER_OF(sock, struct side, sock);
    side->last_sent = result;
    if (result > 0)
        side->sent += (uint64_t)result;
}
static void side_on_writable(struct gm_sock *sock)
{
    GM_CONTAINER_OF(sock, struct side, sock)->writables++;
}
static void side_on_connect(struct gm_sock *sock, int error)
{
    struct side *side = GM_CONTAINER_OF(sock, struct side, sock);
    side->connects++;
    side->connect_error = error;
}
static void side_on_closed(struct gm_sock *sock)
{
    GM_CONTAINER_OF(sock, struct side, sock)->closes++;
}

static const struct gm_sock_ops side_ops = {.on_recv = side_on_recv,
                                            .on_recv_end = side_on_recv_end,
                                            .on_hangup = side_on_hangup,
                                            .on_sent = side_on_sent,
                                            .on_writable = side_on_writable,
                                            .on_connect = side_on_connect,
                                            .on_closed = side_on_closed};

static void net_on_accept(struct gm_listener *listener, int fd)
{
    struct net *net = GM_CONTAINER_OF(listener, struct net, listener);
    net->accepted++;
    int rc = gm_sock_open(listener->sock.ring, &net->b.sock, fd, &side_ops);
    GM_ASSERT(rc == 0);
}
static void net_on_listener_closed(struct gm_listener *listener)
{
    (void)listener;
}

static void do_listen(void *arg)
{
    struct net *net = arg;
    net->listener.on_accept = net_on_accept;
    net->listener.on_closed = net_on_listener_closed;
    net->listen_rc = gm_listener_open(gm_rings_get(net->server, 0), &net->listener, &net->addr);
}
static void do_dial(void *arg)
{
    struct net *net = arg;
    int rc = gm_sock_connect(gm_rings_get(net->client, 0), &net->a.sock, &net->addr, &side_ops);
    GM_ASSERT(rc == 0);
}
static void do_send_a(void *arg)
{
    static uint8_t bytes[1u << 20];
    struct net *net = arg;
    struct iovec iov = {bytes, net->bytes};
    int rc = gm_sock_send(&net->a.sock, &iov, 1, false);
    GM_ASSERT(rc == 0);
}
static void do_grant_b(void *arg)
{
    gm_sock_recv(&((struct net *)arg)->b.sock, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
}
static void do_grant_a(void *arg)
{
    gm_sock_recv(&((struct net *)arg)->a.sock, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
}
static void do_close_a(void *arg)
{
    gm_sock_close(&((struct net *)arg)->a.sock, false);
}

static void on_client(struct net *net, void (*fn)(void *arg))
{
    gm_sim_do(net->sim, gm_rings_get(net->client, 0), fn, net);
}
static void on_server(struct net *net, void (*fn)(void *arg))
{
    gm_sim_do(net->sim, gm_rings_get(net->server, 0), fn, net);
}

static struct net *net_new(uint64_t seed)
{
    struct net *net = calloc(1, sizeof *net);
    GM_ASSERT(net != NULL);
    net->sim = gm_sim_new(seed);
    struct gm_sim_profile calm;
    gm_sim_profile_default(&calm);
    calm.split_permille = calm.short_permille = 0;
    gm_sim_set_profile(net->sim, &calm);
    net->server = start(net->sim, 1);
    net->client = start(net->sim, 1);
    net->addr.in = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(8080), .sin_addr.s_addr = htonl(0x0a000001)};
    on_server(net, do_listen);
    cr_assert(net->listen_rc == 0 && gm_listener_port(&net->listener) == 8080);
    on_client(net, do_dial);
    gm_sim_run_for(net->sim, 10 * MS);
    cr_assert(net->accepted == 1 && net->a.connects == 1 && net->a.connect_error == 0);
    return net;
}

static void net_free(struct net *net)
{
    gm_rings_join(net->client);
    gm_rings_join(net->server);
    gm_sim_free(net->sim);
    free(net);
}

/* ---- Time
 * ---------------------------------------------------------------------------------------------------------------------------------
 */

Test(sim, nothing_left_means_false)
{
    struct gm_sim *sim = gm_sim_new(1);
    cr_assert(!gm_sim_step(sim));
    struct gm_rings *rings = start(sim, 2);
    while (gm_sim_step(sim))
        cr_assert(gm_sim_steps(sim) < 100);
    uint64_t now = gm_sim_now(sim);
    cr_assert(!gm_sim_run_for(sim, SECOND) && gm_sim_now(sim) == now + SECOND);
    gm_rings_join(rings);
    gm_sim_free(sim);
}

struct alarm {
    struct gm_timer timer;
    struct gm_ring *ring;
    uint64_t deadline_ns, fired_ns, gap_ns;
    int64_t wall_s;
};
static void alarm_on_expire(struct gm_timer *timer)
{
    struct alarm *alarm = GM_CONTAINER_OF(timer, struct alarm, timer);
    alarm->fired_ns = gm_ring_now_ns(alarm->ring);
    alarm->gap_ns = gm_ring_gap_ns(alarm->ring);
    alarm->wall_s = gm_ring_wall_s(alarm->ring);
}
static void do_alarm(void *arg)
{
    struct alarm *alarm = arg;
    gm_timer_init(&alarm->timer, alarm_on_expire);
    gm_timer_set(alarm->ring, &alarm->timer, alarm->deadline_ns);
}

Test(sim, timers_run_on_virtual_time)
{
    struct gm_sim *sim = gm_sim_new(2);
    struct gm_rings *rings = start(sim, 1);
    struct alarm alarm = {.ring = gm_rings_get(rings, 0),
                          .deadline_ns = gm_sim_now(sim) + 3600 * SECOND};
    gm_sim_do(sim, alarm.ring, do_alarm, &alarm);
    (void)gm_sim_run_until(sim, alarm.deadline_ns - 1);
    cr_assert(alarm.fired_ns == 0);
    (void)gm_sim_run_for(sim, SECOND);
    cr_assert(alarm.fired_ns >= alarm.deadline_ns &&
              alarm.fired_ns <= alarm.deadline_ns + 2 * GM_TICK_NS + MS);
    cr_assert(alarm.gap_ns == 0 && alarm.wall_s == (int64_t)(1767225600 + alarm.fired_ns / SECOND));
    cr_assert(gm_sim_steps(sim) < 1000); /* an hour costs next to nothing */
    gm_rings_join(rings);
    gm_sim_free(sim);
}

Test(sim, a_stalled_ring_sees_a_gap)
{
    struct gm_sim *sim = gm_sim_new(3);
    struct gm_rings *rings = start(sim, 1);
    struct alarm alarm = {.ring = gm_rings_get(rings, 0), .deadline_ns = gm_sim_now(sim) + SECOND};
    gm_sim_do(sim, alarm.ring, do_alarm, &alarm);
    (void)gm_sim_run_for(sim, SECOND / 2);
    uint64_t until = gm_sim_now(sim) + 5 * SECOND;
    gm_sim_stall(alarm.ring, 5 * SECOND);
    (void)gm_sim_run_until(sim, until - 1);
    cr_assert(alarm.fired_ns == 0);
    (void)gm_sim_run_for(sim, SECOND);
    cr_assert(alarm.fired_ns >= until && alarm.gap_ns > 4 * SECOND && alarm.gap_ns < 5 * SECOND);
    gm_rings_join(rings);
    gm_sim_free(sim);
}

static void count_call(void *arg)
{
    ++*(int *)arg;
}

Test(sim, calls_at_a_time)
{
    struct gm_sim *sim = gm_sim_new(4);
    int calls = 0;
    gm_sim_at(sim, gm_sim_now(sim) + SECOND, count_call, &calls);
    cr_assert(gm_sim_run_until(sim, gm_sim_now(sim) + SECOND - 1) && calls == 0);
    (void)gm_sim_run_for(sim, 1);
    cr_assert(calls == 1);
    gm_sim_free(sim);
}

/* ---- Replay
 * ----------------------------------------------------------------------------------------------------------------------------------
 */

static void do_random(void *arg)
{
    gm_ring_random(gm_ring_current, arg, 20);
}

Test(sim, chance_comes_from_the_seed)
{
    uint8_t bytes[4][20];
    const uint64_t seeds[] = {5, 5, 6};
    for (int i = 0; i < 3; i++) {
        struct gm_sim *sim = gm_sim_new(seeds[i]);
        struct gm_rings *rings = start(sim, 2);
        gm_sim_do(sim, gm_rings_get(rings, 0), do_random, bytes[i]);
        if (i == 2)
            gm_sim_do(sim, gm_rings_get(rings, 1), do_random, bytes[3]);
        cr_assert(gm_sim_rand(sim, 10) < 10);
        gm_rings_join(rings);
        gm_sim_free(sim);
    }
    cr_assert(memcmp(bytes[0], bytes[1], 20) == 0 && memcmp(bytes[0], bytes[2], 20) != 0 &&
              memcmp(bytes[2], bytes[3], 20) != 0);
}

static uint64_t echo_hash(uint64_t seed, uint64_t note)
{
    struct gm_sim *sim = gm_sim_new(seed);
    struct echo_plan plan = {.io = GM_IO_SIM,
                             .sim = sim,
                             .rings = 2,
                             .conns = 5,
                             .bytes_max = 50000,
                             .deadline_ns = 20 * SECOND,
                             .run_ns = 50 * SECOND};
    struct echo_result result = echo_run(&plan);
    cr_assert(result.complete == 5);
    if (note != 0)
        gm_sim_note(sim, note);
    uint64_t hash = gm_sim_hash(sim);
    gm_sim_free(sim);
    return hash;
}

Test(sim, equal_seeds_have_equal_digests)
{
    void *litter[100];
    for (uint64_t seed = 10; seed < 20; seed++) {
        uint64_t one = echo_hash(seed, 0);
        for (int i = 0; i < 100; i++)
            litter[i] = malloc((size_t)(i * 97 + 1)); /* other addresses */
        cr_assert(echo_hash(seed, 0) == one);
        for (int i = 0; i < 100; i++)
            free(litter[i]);
        cr_assert(echo_hash(seed, 1) != one && echo_hash(seed + 100, 0) != one);
    }
}

/* ---- Mail
 * ------------------------------------------------------------------------------------------------------------------------------------
 */

#define MAIL_RINGS 4u
#define MAILS      50u

struct letter {
    struct gm_mail mail;
    struct letter_box *box;
    uint32_t from, number;
};
struct letter_box {
    struct gm_rings *rings;
    uint32_t next[MAIL_RINGS + 1], total, order_hash;
    struct letter letters[MAIL_RINGS + 1][MAILS];
    struct gm_task task;
    uint32_t written[MAIL_RINGS];
};

static void letter_deliver(struct gm_mail *mail)
{
    struct letter *letter = GM_CONTAINER_OF(mail, struct letter, mail);
    struct letter_box *box = letter->box;
    GM_ASSERT(gm_ring_self == 0 && letter->number == box->next[letter->from]);
    box->next[letter->from]++;
    box->total++;
    box->order_hash = box->order_hash * 31 + letter->from;
}

struct writer {
    struct letter_box *box;
    uint32_t from;
    struct gm_timer timer;
};

/* Each ring writes a few at a time, over many turns. */
static void writer_on_expire(struct gm_timer *timer)
{
    struct writer *writer = GM_CONTAINER_OF(timer, struct writer, timer);
    struct letter_box *box = writer->box;
    struct gm_ring *ring = gm_ring_current;
    for (int i = 0; i < 3 && box->written[writer->from] < MAILS; i++) {
        struct letter *letter = &box->letters[writer->from][box->written[writer->from]];
        *letter = (struct letter){.mail.deliver = letter_deliver,
                                  .box = box,
                                  .from = writer->from,
                                  .number = box->written[writer->from]++};
        gm_ring_mail(ring, 0, &letter->mail);
    }
    if (box->written[writer->from] < MAILS)
        gm_timer_set(ring, timer, gm_ring_now_ns(ring) + 1);
}
static void do_write(void *arg)
{
    struct writer *writer = arg;
    gm_timer_init(&writer->timer, writer_on_expire);
    gm_timer_set(gm_ring_current, &writer->timer, gm_ring_now_ns(gm_ring_current));
}

static uint32_t mail_order(uint64_t seed)
{
    struct gm_sim *sim = gm_sim_new(seed);
    static struct letter_box box;
    struct writer writers[MAIL_RINGS];
    memset(&box, 0, sizeof box);
    box.rings = start(sim, MAIL_RINGS);
    for (uint32_t i = 0; i < MAIL_RINGS; i++) {
        writers[i] = (struct writer){.box = &box, .from = i};
        gm_sim_do(sim, gm_rings_get(box.rings, i), do_write, &writers[i]);
    }
    for (uint32_t i = 0; i < MAILS; i++) {
        struct letter *letter = &box.letters[MAIL_RINGS][i];
        *letter = (struct letter){
            .mail.deliver = letter_deliver, .box = &box, .from = MAIL_RINGS, .number = i};
        gm_rings_mail(box.rings, 0, &letter->mail);
    }
    (void)gm_sim_run_for(sim, 10 * SECOND);
    cr_assert(box.total == (MAIL_RINGS + 1) * MAILS);
    gm_rings_join(box.rings);
    gm_sim_free(sim);
    return box.order_hash;
}

Test(sim, mail_keeps_its_order_per_pair_and_varies_between)
{
    uint32_t distinct = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        uint32_t order = mail_order(seed);
        cr_assert(mail_order(seed) == order);
        distinct += order != mail_order(seed + 100);
    }
    cr_assert(distinct >= 18);
}

/* ---- Names
 * -----------------------------------------------------------------------------------------------------------------------------------
 */

Test(sim, programs_share_one_name_space)
{
    struct net *net = net_new(20);
    struct net other = {.sim = net->sim, .server = net->client, .addr = net->addr};
    gm_sim_do(net->sim, gm_rings_get(net->client, 0), do_listen, &other);
    cr_assert(other.listen_rc == -EADDRINUSE);
    other.addr.in.sin_addr.s_addr = htonl(0x0a000002); /* another host, the same port */
    gm_sim_do(net->sim, gm_rings_get(net->client, 0), do_listen, &other);
    cr_assert(other.listen_rc == 0);
    union gm_addr peer;
    gm_sock_peer(&net->a.sock, &peer);
    cr_assert(peer.in.sin_port == htons(8080) && peer.in.sin_addr.s_addr == htonl(0x0a000001));
    gm_sock_peer(&net->b.sock, &peer);
    cr_assert(peer.in.sin_family == AF_INET && peer.in.sin_port != 0);
    net_free(net);
}

struct spread {
    struct gm_listener listener[2];
    struct gm_rings *rings;
    union gm_addr addr;
    uint32_t accepted[2], failed, connected;
    struct gm_sock socks[64];
};
static void spread_on_accept(struct gm_listener *listener, int fd)
{
    struct gm_ring *ring = listener->sock.ring;
    struct spread *spread = gm_ring_user(ring);
    spread->accepted[gm_ring_index(ring)]++;
    gm_ring_close_fd(ring, fd);
}
static void spread_on_connect(struct gm_sock *sock, int error)
{
    struct spread *spread = gm_ring_user(sock->ring);
    spread->failed += error < 0;
    spread->connected += error == 0;
}
static void spread_ignore(struct gm_sock *sock)
{
    (void)sock;
}
static void do_spread_listen(void *arg)
{
    struct spread *spread = arg;
    gm_ring_set_user(gm_ring_current, spread);
    struct gm_listener *listener = &spread->listener[gm_ring_self];
    listener->on_accept = spread_on_accept;
    listener->on_closed = net_on_listener_closed;
    int rc = gm_listener_open(gm_ring_current, listener, &spread->addr);
    GM_ASSERT(rc == 0);
    if (gm_ring_self == 0)
        spread->addr.in6.sin6_port = htons(gm_listener_port(listener));
}
static void do_spread_dial(void *arg)
{
    static const struct gm_sock_ops ops = {
        .on_connect = spread_on_connect, .on_hangup = spread_ignore, .on_closed = spread_ignore};
    struct spread *spread = arg;
    union gm_addr to = {.in = {.sin_family = AF_INET,
                               .sin_port = spread->addr.in6.sin6_port,
                               .sin_addr.s_addr = htonl(0x7f000001)}};
    for (int i = 0; i < 64; i++) {
        int rc = gm_sock_connect(gm_ring_current, &spread->socks[i], &to, &ops);
        GM_ASSERT(rc == 0);
    }
}
static void do_spread_close(void *arg)
{
    gm_listener_close(&((struct spread *)arg)->listener[gm_ring_self]);
}

Test(sim, listeners_of_one_program_share_an_address)
{
    struct gm_sim *sim = gm_sim_new(21);
    static struct spread spread;
    spread.rings = start(sim, 2);
    spread.addr.in6 = (struct sockaddr_in6){.sin6_family = AF_INET6};
    for (uint32_t i = 0; i < 2; i++)
        gm_sim_do(sim, gm_rings_get(spread.rings, i), do_spread_listen, &spread);
    gm_sim_do(sim, gm_rings_get(spread.rings, 0), do_spread_dial, &spread);
    (void)gm_sim_run_for(sim, SECOND);
    cr_assert(spread.connected == 64 && spread.accepted[0] + spread.accepted[1] == 64);
    cr_assert(spread.accepted[0] > 15 && spread.accepted[1] > 15);
    for (uint32_t i = 0; i < 2; i++)
        gm_sim_do(sim, gm_rings_get(spread.rings, i), do_spread_close, &spread);
    (void)gm_sim_run_for(sim, SECOND);
    struct net *refused = calloc(1, sizeof *refused);
    *refused = (struct net){.sim = sim, .client = spread.rings, .addr = spread.addr};
    gm_sim_do(sim, gm_rings_get(spread.rings, 0), do_dial, refused);
    (void)gm_sim_run_for(sim, SECOND);
    cr_assert(refused->a.connects == 1 && refused->a.connect_error == -ECONNREFUSED);
    gm_rings_join(spread.rings);
    free(refused);
    gm_sim_free(sim);
}

/* ---- Faults by command
 * --------------------------------------------------------------------------------------------------------------------------
 */

Test(sim, a_cut_is_seen_by_both)
{
    struct net *net = net_new(30);
    on_server(net, do_grant_b);
    gm_sim_cut(&net->a.sock);
    (void)gm_sim_run_for(net->sim, SECOND);
    cr_assert(net->b.ends == 1 && net->b.end_error == -ECONNRESET && net->a.hangups == 1);
    net->bytes = 10;
    on_client(net, do_send_a);
    (void)gm_sim_run_for(net->sim, SECOND);
    cr_assert(net->a.last_sent == -EPIPE);
    net_free(net);
}

Test(sim, frozen_bytes_come_after_the_thaw)
{
    struct net *net = net_new(31);
    on_server(net, do_grant_b);
    gm_sim_freeze(&net->a.sock, UINT64_MAX, true);
    net->bytes = 5000;
    on_client(net, do_send_a);
    (void)gm_sim_run_for(net->sim, 100 * SECOND);
    cr_assert(net->a.sent == 5000 && net->b.received == 0);
    gm_sim_thaw(&net->a.sock);
    (void)gm_sim_run_for(net->sim, SECOND);
    cr_assert(net->b.received == 5000);
    uint64_t before = gm_sim_now(net->sim);
    gm_sim_freeze(&net->a.sock, 3 * SECOND, false);
    on_client(net, do_send_a);
    (void)gm_sim_run_for(net->sim, 10 * SECOND);
    cr_assert(net->b.received == 10000 && net->b.last_ns >= before + 3 * SECOND &&
              net->b.last_ns < before + 4 * SECOND);
    /* An RST is held back by the ice, too. */
    gm_sim_freeze(&net->b.sock, UINT64_MAX, true);
    on_client(net, do_close_a);
    (void)gm_sim_run_for(net->sim, 10 * SECOND);
    cr_assert(net->a.closes == 1 && net->b.ends == 0);
    gm_sim_thaw(&net->b.sock);
    (void)gm_sim_run_for(net->sim, SECOND);
    cr_assert(net->b.ends == 1 && net->b.end_error == 0);
    net_free(net);
}

Test(sim, delay_and_slow_reader)
{
    struct net *net = net_new(32);
    on_server(net, do_grant_b);
    gm_sim_delay(&net->b.sock, SECOND);
    net->bytes = 1000;
    uint64_t before = gm_sim_now(net->sim);
    on_client(net, do_send_a);
    (void)gm_sim_run_for(net->sim, 5 * SECOND);
    cr_assert(net->b.received == 1000 && net->b.last_ns > before + SECOND &&
              net->b.last_ns < before + SECOND + 10 * MS);
    gm_sim_delay(&net->b.sock, 0);
    gm_sim_slow_reader(&net->b.sock, 10000);
    net->bytes = 50000;
    before = gm_sim_now(net->sim);
    on_client(net, do_send_a);
    (void)gm_sim_run_for(net->sim, 20 * SECOND);
    cr_assert(net->b.received == 51000 && net->b.last_ns > before + 4 * SECOND &&
              net->b.last_ns < before + 6 * SECOND);
    net_free(net);
}

Test(sim, half_closed_by_the_network)
{
    struct net *net = net_new(33);
    on_server(net, do_grant_b);
    on_client(net, do_grant_a);
    gm_sim_half_close(&net->a.sock);
    (void)gm_sim_run_for(net->sim, SECOND);
    cr_assert(net->b.ends == 1 && net->b.end_error == 0 && net->a.ends == 0);
    net->bytes = 10;
    on_client(net, do_send_a);
    (void)gm_sim_run_for(net->sim, SECOND);
    cr_assert(net->a.last_sent == -EPIPE);
    net_free(net);
}

Test(sim, a_full_buffer_makes_sends_short_and_then_writable)
{
    struct net *net = net_new(34);
    net->bytes = 1u << 20;
    on_client(net, do_send_a);
    (void)gm_sim_run_for(net->sim, SECOND);
    cr_assert(net->a.last_sent == 64 << 10 && net->a.writables == 0);
    on_client(net, do_send_a);
    (void)gm_sim_run_for(net->sim, SECOND);
    cr_assert(net->a.last_sent == 0 && net->a.writables == 0);
    on_server(net, do_grant_b);
    (void)gm_sim_run_for(net->sim, SECOND);
    cr_assert(net->a.writables == 1 && net->b.received == 64 << 10);
    net_free(net);
}

/* A program that ends is a process that exits: its peers see FINs (or RSTs), its listeners go. */
Test(sim, the_end_of_a_program_is_seen_by_its_peers)
{
    struct net *net = net_new(35);
    on_client(net, do_grant_a);
    gm_rings_join(net->server);
    (void)gm_sim_run_for(net->sim, SECOND);
    cr_assert(net->a.ends == 1 && net->a.end_error == 0);
    net->server = start(net->sim, 1);
    on_server(net, do_listen);
    cr_assert(net->listen_rc == 0);
    net_free(net);
}

/* ---- Refusals
 * -------------------------------------------------------------------------------------------------------------------------------------
 */

Test(sim, a_ring_without_simulation_is_refused)
{
    struct gm_rings *rings;
    char why[GM_WHY_BYTES];
    struct gm_rings_config config = {
        .io = GM_IO_SIM, .count = 1, .memory_bytes = GM_RING_MEMORY_MIN};
    cr_assert(gm_rings_start(&config, NULL, &rings, why) == -EINVAL &&
              strstr(why, "simulation") != NULL);
}
