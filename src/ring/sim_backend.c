/* The back-end that the core sees in a simulation: what io_uring and epoll do with the kernel, done
 * with the simulated network.
 *
 * One thread; everything is delivered inside `wait`, which never blocks. It is deliberately less
 * kind than a kernel, within the contract: sockets are served in a drawn order, a send reads its
 * bytes only in the turn after it was asked for (who frees them early is found), what one socket
 * has to tell comes in drawn order, and a detached socket may still deliver. Invariant: an end with
 * something to tell is active. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ring/fill.h"
#include "ring/sim_net.h"

static struct sim_ring *ring_of(const struct gm_ring *ring)
{
    return ring->backend_state;
}
static struct sim_end *end_of(const struct gm_sock *sock)
{
    return sock->backend;
}
static struct sim_listener *listener_of(const struct gm_sock *sock)
{
    return sock->backend;
}

#define SIM_STARVED GM_SOCK_BACKEND_BIT(0) /* on ring->starved */

/* ---- Open, close ---- */

static int sim_open(struct gm_ring *ring, char *why)
{
    struct gm_sim *sim = ring->rings->config.sim;
    struct sim_ring *made = sim == NULL ? NULL : calloc(1, sizeof *made);
    uint64_t *due_ns = made == NULL ? NULL : calloc(ring->rings->count + 1u, sizeof *due_ns);
    if (due_ns == NULL) {
        (void)snprintf(why, GM_WHY_BYTES,
                       sim == NULL ? "a simulated ring needs a simulation (gm_rings_config.sim)"
                                   : "out of memory");
        free(made);
        return sim == NULL ? -EINVAL : -ENOMEM;
    }
    made->sim = sim;
    made->ring = ring;
    made->id = sim->rings_made++;
    made->turn_ns = SIM_FOREVER;
    made->mail_due_ns = due_ns;
    made->random.state = sim->seed * 0x2545f4914f6cdd1dull + made->id;
    struct sim_ring **last = &sim->rings;
    while (*last != NULL)
        last = &(*last)->next;
    *last = made;
    ring->backend_state = made;
    /* Its first turn, so that what `init` has asked for begins. */
    sim_ring_due(made, sim->now_ns + 1 + sim_rand_below(&sim->net, sim->profile.turn_max_ns));
    return 0;
}

/* What the process had open, the kernel closes. */
static void sim_close(struct gm_ring *ring)
{
    struct sim_ring *gone = ring_of(ring);
    if (gone == NULL)
        return;
    struct gm_sim *sim = gone->sim;
    for (unsigned pool = 0; pool < GM_POOL_COUNT; pool++) {
        if (gone->fill[pool] != NULL)
            gm_buf_put(gone->fill[pool]);
    }
    for (uint32_t i = 0; i < gone->active_count; i++)
        gone->active[i]->active = false;
    gone->active_count = 0;
    struct sim_listener *next;
    for (struct sim_listener *listener = sim->listeners; listener != NULL; listener = next) {
        next = listener->next;
        if (listener->node.ring != gone)
            continue;
        sim_listener_remove(sim, listener);
        free(listener);
    }
    for (struct sim_conn *conn = sim->conns; conn != NULL; conn = conn->next) {
        for (unsigned side = 0; side < 2; side++) {
            if (conn->end[side].node.ring != gone)
                continue;
            sim_end_close(&conn->end[side], false);
            conn->end[side].node = (struct sim_node){0};
        }
    }
    gone->ring = NULL;
    ring->backend_state = NULL;
}

/* ---- What the core asks for ---- */

static void end_adopt(struct sim_end *end, struct gm_sock *sock)
{
    end->sock = sock;
    end->node.ring = ring_of(sock->ring);
    sock->backend = end;
    sim_rouse(&end->node);
}

static int sim_attach(struct gm_sock *sock)
{
    struct sim_end *end = sim_end_find(sock->ring->rings->config.sim, sock->fd);
    if (end == NULL || end->sock != NULL)
        return -EBADF;
    end_adopt(end, sock);
    return 0;
}

static int sim_connect(struct gm_sock *sock, const union gm_addr *to)
{
    struct sim_conn *conn = sim_conn_new(ring_of(sock->ring)->sim, to);
    sock->fd = SIM_FD_BASE + (int)conn->end[0].handle;
    end_adopt(&conn->end[0], sock);
    return 0;
}

static int sim_listen(struct gm_sock *sock, const union gm_addr *addr)
{
    struct sim_listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL)
        return -ENOMEM;
    listener->node = (struct sim_node){.ring = ring_of(sock->ring), .is_listener = true};
    listener->sock = sock;
    listener->rings = sock->ring->rings;
    int rc = sim_listener_bind(ring_of(sock->ring)->sim, listener, addr);
    if (rc < 0) {
        free(listener);
        return rc;
    }
    sock->backend = listener;
    return 0;
}

static void sim_recv(struct gm_sock *sock)
{
    struct sim_end *end = end_of(sock);
    if (sim_end_readable(end) > 0 || sim_end_ended(end))
        sim_rouse(&end->node);
}

static void sim_send(struct gm_sock *sock, const struct iovec *iov, unsigned count, bool more)
{
    (void)more;
    struct sim_end *end = end_of(sock);
    GM_ASSERT(!end->sending && count <= GM_SEND_IOV);
    memcpy(end->iov, iov, count * sizeof *iov);
    end->iov_count = count;
    end->sending = true;
    end->blocked = end->writable = false;
    sim_rouse(&end->node);
}

static void sim_shutdown(struct gm_sock *sock)
{
    if (!end_of(sock)->connecting)
        sim_end_shutdown(end_of(sock));
}

static void sock_unqueue(struct gm_sock *sock)
{
    gm_list_remove(&sock->node);
    sock->flags &= ~SIM_STARVED;
}

static void sim_sock_close(struct gm_sock *sock)
{
    sock_unqueue(sock);
    if (sock->flags & GM_SOCK_LISTENER) {
        struct sim_listener *listener = listener_of(sock);
        if (listener == NULL) {
            gm_core_finish(sock);
            return;
        }
        listener->closing = true;
        sim_rouse(&listener->node);
        return;
    }
    struct sim_end *end = end_of(sock);
    if (end != NULL) {
        /* The send under way may have left just before. */
        if (end->sending && sim_rand_hit(&end->conn->sim->net, 500))
            (void)sim_end_send(end);
        sim_end_close(end, (sock->flags & GM_SOCK_RESET) != 0);
        sock->backend = NULL;
    }
    gm_core_finish(sock);
}

static void sim_detach(struct gm_sock *sock)
{
    struct sim_end *end = end_of(sock);
    sock_unqueue(sock);
    end->detaching = true;
    sim_rouse(&end->node);
}

/* ---- Delivery ---- */

/* Its owner still has it, and wants to hear. */
static bool end_lives(const struct sim_end *end, const struct gm_sock *sock)
{
    return end->sock == sock && !end->closed && (sock->flags & GM_SOCK_CLOSING) == 0;
}

/* One receive: as much as the grant and the buffer allow, or less. False: no buffer. */
static bool end_recv_once(struct sim_end *end)
{
    struct gm_sock *sock = end->sock;
    struct sim_ring *ring = end->node.ring;
    struct gm_sim *sim = ring->sim;
    unsigned pool = gm_core_recv_pool(sock);
    struct gm_buf *buf = gm_fill_begin(ring->ring, pool, &ring->fill[pool]);
    if (buf == NULL)
        return false;
    uint64_t len = sim_end_readable(end);
    if (len > sock->recv_grant)
        len = sock->recv_grant;
    if (len > buf->size - buf->fill)
        len = buf->size - buf->fill;
    if (len > 1 && sim_rand_hit(&sim->net, sim->profile.split_permille))
        len = 1 + sim_rand_below(&sim->net, len - 1);
    sim_end_read(end, buf->data + buf->fill, (uint32_t)len);
    gm_core_recv(sock, gm_fill_end(buf, (uint32_t)len));
    return true;
}

static void end_receive(struct sim_end *end)
{
    struct gm_sock *sock = end->sock;
    unsigned left = 1 + (unsigned)sim_rand_below(&end->conn->sim->net, 4);
    while (end_lives(end, sock) && gm_core_wants_recv(sock) && sim_end_readable(end) > 0 &&
           left-- > 0) {
        if (end_recv_once(end))
            continue;
        sock->flags |= SIM_STARVED;
        gm_list_push_back(&sock->ring->starved[sock->pool], &sock->node);
        gm_counter_add(GM_COUNTER_RECV_STARVED, 1);
        return;
    }
    if (!end_lives(end, sock))
        return;
    if (gm_core_wants_recv(sock)) {
        if (sim_end_readable(end) > 0)
            sim_rouse(&end->node);
        else if (sim_end_ended(end))
            gm_core_recv_end(sock, -end->error);
    } else if (gm_core_paused(sock) && sim_end_ended(end)) {
        gm_core_hangup(sock);
    }
}

static void end_tell_sent(struct sim_end *end)
{
    struct gm_sock *sock = end->sock;
    if (end->sending) {
        end->sending = false;
        ssize_t result = sim_end_send(end);
        gm_core_sent(sock, result);
    } else if (end->writable) {
        end->writable = false;
        gm_core_writable(sock);
    }
}

/* What is in already, as far as the grant reaches, may still come; then the socket has left this
 * ring. */
static void end_detach(struct sim_end *end)
{
    struct gm_sock *sock = end->sock;
    bool some = sock->recv_grant > 0 &&
                (sock->flags & (GM_SOCK_POOL_SET | GM_SOCK_RECV_ENDED)) == GM_SOCK_POOL_SET;
    if (some && sim_end_readable(end) > 0 && sim_rand_hit(&end->conn->sim->net, 500))
        (void)end_recv_once(end);
    end->detaching = end->blocked = end->writable = false;
    end->sock = NULL;
    end->node.ring = NULL;
    sock->backend = NULL;
    if (sock->flags & GM_SOCK_CLOSING)
        sim_end_close(end, (sock->flags & GM_SOCK_RESET) != 0); /* it was closed while leaving */
    gm_core_finish(sock);
}

static void end_deliver(struct sim_end *end)
{
    struct gm_sock *sock = end->sock;
    if (sock == NULL || end->closed)
        return;
    if (end->detaching) {
        end_detach(end);
        return;
    }
    if (end->connecting) {
        if (!end->connect_done)
            return;
        end->connecting = false;
        end->connect_told = true;
        if (end->connect_error != 0)
            end->error = end->connect_error;
        gm_core_connected(sock, -end->connect_error);
        if (!end_lives(end, sock))
            return;
    }
    bool receive_first = sim_rand_hit(&end->conn->sim->net, 500);
    if (receive_first && (sock->flags & SIM_STARVED) == 0)
        end_receive(end);
    if (end_lives(end, sock))
        end_tell_sent(end);
    if (end_lives(end, sock) && !receive_first && (sock->flags & SIM_STARVED) == 0)
        end_receive(end);
}

static void listener_deliver(struct sim_listener *listener)
{
    struct gm_sock *sock = listener->sock;
    struct gm_sim *sim = listener->node.ring->sim;
    unsigned left = 64; /* per turn; the others have theirs, too */
    struct sim_end *end;
    while (left-- > 0 && (end = sim_listener_pop(listener)) != NULL)
        gm_core_accept(sock, SIM_FD_BASE + (int)end->handle);
    if (listener->queue_count > 0) {
        sim_rouse(&listener->node);
    } else if (listener->closing) {
        sim_listener_remove(sim, listener);
        free(listener);
        sock->backend = NULL;
        gm_core_finish(sock);
    }
}

static void starved_retry(struct sim_ring *ring)
{
    for (unsigned pool = 0; pool < GM_POOL_COUNT; pool++) {
        uint32_t left = gm_fill_supply(ring->ring, pool, ring->fill[pool]);
        struct gm_list *node;
        while (left-- > 0 && (node = gm_list_pop_front(&ring->ring->starved[pool])) != NULL) {
            struct gm_sock *sock = GM_CONTAINER_OF(node, struct gm_sock, node);
            sock->flags &= ~SIM_STARVED;
            sim_rouse(&end_of(sock)->node);
        }
    }
}

/* Moves the active nodes to the batch, in drawn order. Returns how many. */
static uint32_t batch_draw(struct sim_ring *ring)
{
    uint32_t count = ring->active_count;
    ring->batch = sim_grow(ring->batch, &ring->batch_cap, count, sizeof(struct sim_node *));
    for (uint32_t i = 0; i < count; i++) {
        uint32_t j = (uint32_t)sim_rand_below(&ring->sim->order, i + 1);
        ring->batch[i] = ring->batch[j];
        ring->batch[j] = ring->active[i];
        ring->active[i]->active = false;
    }
    ring->active_count = 0;
    return count;
}

static void sim_wait(struct gm_ring *ring, uint64_t timeout_ns)
{
    (void)timeout_ns;
    struct sim_ring *on = ring_of(ring);
    gm_core_woken(ring);
    starved_retry(on);
    uint32_t count = batch_draw(on);
    for (uint32_t i = 0; i < count; i++) {
        struct sim_node *node = on->batch[i];
        if (i >= GM_TURN_EVENTS_MAX || node->ring != on)
            sim_rouse(node); /* not its turn any more, or adopted elsewhere meanwhile */
        else if (node->is_listener)
            listener_deliver((struct sim_listener *)(void *)node);
        else
            end_deliver((struct sim_end *)(void *)node);
    }
}

static void sim_wake(struct gm_ring *from, struct gm_ring *to)
{
    (void)from;
    sim_ring_due(ring_of(to), ring_of(to)->sim->now_ns + 1);
}

/* ---- Clock, chance, names, mail ---- */

/* Midnight of 1 January 2026, UTC, when the simulated clock began. */
#define SIM_WALL_START_S 1767225600

static void sim_clock(struct gm_ring *ring, uint64_t *now_ns, int64_t *wall_s)
{
    const struct gm_sim *sim = ring->rings->config.sim; /* NULL: `open` will refuse */
    *now_ns = sim != NULL ? sim->now_ns : 0;
    *wall_s = SIM_WALL_START_S + (int64_t)(*now_ns / 1000000000u);
}

static void sim_random(struct gm_ring *ring, void *out, size_t len)
{
    uint8_t *to = out;
    while (len > 0) {
        uint64_t word = sim_rand_next(&ring_of(ring)->random);
        size_t part = len < sizeof word ? len : sizeof word;
        memcpy(to, &word, part);
        to += part;
        len -= part;
    }
}

/* The server is where it was dialled, a client somewhere in 10.0.0.0/8. */
static void sim_peer(const struct gm_sock *sock, union gm_addr *out)
{
    const struct sim_end *end = end_of(sock);
    memset(out, 0, sizeof *out);
    if (end == NULL)
        return;
    if (end->side == 0) {
        *out = end->conn->to;
        return;
    }
    out->in = (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(0x0a000000u | (end->conn->id >> 14 & 0xffffffu)),
        .sin_port = htons((uint16_t)(49152u + (end->conn->id & 0x3fffu)))};
}

static uint16_t sim_port(const struct gm_listener *listener)
{
    const struct sim_listener *at = listener_of(&listener->sock);
    if (at == NULL || at->addr.base.sa_family == AF_UNIX)
        return 0;
    return ntohs(at->addr.base.sa_family == AF_INET ? at->addr.in.sin_port
                                                    : at->addr.in6.sin6_port);
}

static void sim_close_fd(struct gm_ring *ring, int fd)
{
    struct sim_end *end = sim_end_find(ring->rings->config.sim, fd);
    if (end != NULL && end->sock == NULL)
        sim_end_close(end, false);
}

static void sim_mail(struct gm_ring *from, struct gm_ring *to, struct gm_mail *first,
                     struct gm_mail *last)
{
    struct sim_ring *on = ring_of(to);
    if (on == NULL)
        return;
    struct gm_sim *sim = on->sim;
    uint64_t *pair_due_ns = &on->mail_due_ns[from != NULL ? from->index : to->rings->count];
    uint64_t due_ns = sim->now_ns + 1 + sim_rand_below(&sim->net, sim->profile.mail_max_ns);
    if (due_ns <= *pair_due_ns)
        due_ns = *pair_due_ns + 1; /* order per pair is kept */
    *pair_due_ns = due_ns;
    sim_post(sim, due_ns - sim->now_ns,
             (struct sim_event){.kind = SIM_MAIL, .ring = on, .first = first, .last = last});
}

const struct gm_backend gm_backend_sim = {
    .name = "sim",
    .kernel_fds = false,
    .open = sim_open,
    .close = sim_close,
    .attach = sim_attach,
    .connect = sim_connect,
    .listen = sim_listen,
    .recv = sim_recv,
    .send = sim_send,
    .shutdown = sim_shutdown,
    .sock_close = sim_sock_close,
    .detach = sim_detach,
    .wait = sim_wait,
    .wake = sim_wake,
    .clock = sim_clock,
    .random = sim_random,
    .peer = sim_peer,
    .port = sim_port,
    .close_fd = sim_close_fd,
    .post = sim_mail,
};
