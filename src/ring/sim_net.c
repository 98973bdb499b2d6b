/* The simulated network: connections of two ends and two pipes, listeners, and what can go wrong
 * with them.
 *
 * It follows Linux where a program can tell: bytes that had arrived before an RST are still read;
 * closing with unread bytes, or getting bytes after the close, answers RST; a FIN comes after the
 * bytes before it; a full backlog makes a client wait. One thread. Invariants: see struct sim_pipe;
 * a connection is freed once both its ends are closed and no event and no ring's list names it. */
#include "ring/sim_net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- Pipes ---- */

static void conn_post(struct sim_conn *conn, enum sim_kind kind, uint8_t side, uint64_t delay_ns,
                      uint64_t value)
{
    sim_post(conn->sim, delay_ns,
             (struct sim_event){.kind = kind, .conn = conn, .side = side, .value = value});
}

static uint64_t draw_latency(struct gm_sim *sim, const struct sim_pipe *pipe)
{
    const struct gm_sim_profile *profile = &sim->profile;
    return profile->latency_min_ns +
           sim_rand_below(&sim->net, profile->latency_max_ns - profile->latency_min_ns + 1) +
           pipe->extra_ns;
}

static void pipe_schedule(struct sim_conn *conn, uint8_t side)
{
    struct sim_pipe *pipe = &conn->pipe[side];
    if (pipe->pipe_event || pipe->segment_count == 0 || pipe->frozen_until_ns == SIM_FOREVER)
        return;
    uint64_t due_ns = pipe->segments[pipe->segment_first].due_ns, now_ns = conn->sim->now_ns;
    if (due_ns < pipe->frozen_until_ns)
        due_ns = pipe->frozen_until_ns;
    pipe->pipe_event = true;
    conn_post(conn, SIM_PIPE, side, due_ns > now_ns ? due_ns - now_ns : 0, 0);
}

static void pipe_append(struct sim_conn *conn, uint8_t side, uint32_t len, bool fin)
{
    struct gm_sim *sim = conn->sim;
    struct sim_pipe *pipe = &conn->pipe[side];
    uint64_t due_ns = sim->now_ns;
    if (pipe->rate > 0) {
        if (due_ns < pipe->wire_free_ns)
            due_ns = pipe->wire_free_ns;
        due_ns += len * 1000000000ull / pipe->rate;
        pipe->wire_free_ns = due_ns;
    }
    due_ns += draw_latency(sim, pipe);
    if (due_ns < pipe->last_due_ns)
        due_ns = pipe->last_due_ns;
    pipe->last_due_ns = due_ns;
    if (pipe->segment_first > 0 && pipe->segment_first + pipe->segment_count == pipe->segment_cap) {
        memmove(pipe->segments, pipe->segments + pipe->segment_first,
                pipe->segment_count * sizeof *pipe->segments);
        pipe->segment_first = 0;
    }
    uint32_t at = pipe->segment_first + pipe->segment_count++;
    pipe->segments = sim_grow(pipe->segments, &pipe->segment_cap, at + 1, sizeof *pipe->segments);
    pipe->segments[at] = (struct sim_segment){.end = pipe->written, .due_ns = due_ns, .fin = fin};
    pipe_schedule(conn, side);
}

/* What has not arrived yet is lost. */
static void pipe_drop(struct sim_pipe *pipe)
{
    pipe->written = pipe->arrived;
    pipe->segment_first = pipe->segment_count = 0;
}

static void end_reset_peer(struct sim_end *end)
{
    conn_post(end->conn, SIM_RST, (uint8_t)(1 - end->side),
              draw_latency(end->conn->sim, sim_end_out(end)), 0);
}

/* Segments of the pipe that leads from `side` arrive. */
static void pipe_arrive(struct sim_conn *conn, uint8_t side)
{
    struct sim_pipe *pipe = &conn->pipe[side];
    struct sim_end *to = &conn->end[1 - side];
    uint64_t now_ns = conn->sim->now_ns;
    pipe->pipe_event = false;
    if (now_ns >= pipe->frozen_until_ns) {
        bool bytes = false;
        while (pipe->segment_count > 0 && pipe->segments[pipe->segment_first].due_ns <= now_ns) {
            const struct sim_segment *segment = &pipe->segments[pipe->segment_first++];
            pipe->segment_count--;
            bytes |= segment->end > pipe->arrived;
            pipe->arrived = segment->end;
            pipe->fin_arrived |= segment->fin;
        }
        if (to->closed && bytes)
            end_reset_peer(to);
        if (!to->closed)
            sim_rouse(&to->node);
    }
    pipe_schedule(conn, side);
}

/* The sender learns what has been read. A blocked one is told once a third of its buffer is free,
 * as TCP does. */
static void pipe_acked(struct sim_conn *conn, uint8_t side)
{
    struct sim_pipe *pipe = &conn->pipe[side];
    struct sim_end *sender = &conn->end[side];
    pipe->ack_event = false;
    pipe->acked = pipe->read;
    uint64_t room = pipe->cap - (pipe->written - pipe->acked);
    if (!sender->blocked || room * 3 < pipe->cap)
        return;
    sender->blocked = false;
    sender->writable = true;
    sim_rouse(&sender->node);
}

/* ---- Ends ---- */

struct sim_end *sim_end_find(struct gm_sim *sim, int fd)
{
    if (fd < SIM_FD_BASE || (uint32_t)(fd - SIM_FD_BASE) >= sim->handles_count)
        return NULL;
    struct sim_end *end = sim->handles[fd - SIM_FD_BASE];
    return end == NULL || end->closed ? NULL : end;
}

static size_t end_copy(struct sim_end *end, size_t room)
{
    struct sim_pipe *out = sim_end_out(end);
    size_t taken = 0;
    for (unsigned i = 0; i < end->iov_count; i++) {
        const uint8_t *from = end->iov[i].iov_base;
        for (size_t left = end->iov[i].iov_len; left > 0 && taken < room;) {
            size_t at = (out->written + taken) % out->cap, part = out->cap - at;
            if (part > left)
                part = left;
            if (part > room - taken)
                part = room - taken;
            memcpy(out->bytes + at, from, part);
            from += part;
            left -= part;
            taken += part;
        }
    }
    return taken;
}

ssize_t sim_end_send(struct sim_end *end)
{
    struct gm_sim *sim = end->conn->sim;
    struct sim_pipe *out = sim_end_out(end);
    size_t total = 0;
    for (unsigned i = 0; i < end->iov_count; i++)
        total += end->iov[i].iov_len;
    if (end->error != 0)
        return -EPIPE;
    if (end->shut)
        return -EPIPE;
    size_t room = out->cap - (size_t)(out->written - out->acked);
    if (total < room)
        room = total;
    if (room > 1 && sim_rand_hit(&sim->net, sim->profile.short_permille))
        room = 1 + sim_rand_below(&sim->net, room - 1);
    size_t taken = end_copy(end, room), left = taken;
    while (left > 0) {
        uint32_t most =
            left < sim->profile.segment_bytes ? (uint32_t)left : sim->profile.segment_bytes;
        uint32_t len = 1 + (uint32_t)sim_rand_below(&sim->net, most);
        if (sim_rand_hit(&sim->net, 500))
            len = most;
        out->written += len;
        left -= len;
        pipe_append(end->conn, end->side, len, false);
    }
    if (taken < total) {
        end->blocked = true;
        /* A short send although there is room: nothing will be read to end it, so the room is told
         * after a while. */
        if (!out->ack_event) {
            out->ack_event = true;
            conn_post(end->conn, SIM_ACK, end->side, draw_latency(sim, out), 0);
        }
    }
    sim_trace(sim, SIM_SENT, end->handle, taken);
    return (ssize_t)taken;
}

void sim_end_read(struct sim_end *end, uint8_t *to, uint32_t len)
{
    struct sim_pipe *in = sim_end_in(end);
    GM_ASSERT(len <= sim_end_readable(end));
    uint32_t at = (uint32_t)(in->read % in->cap), part = in->cap - at < len ? in->cap - at : len;
    memcpy(to, in->bytes + at, part);
    memcpy(to + part, in->bytes, len - part);
    in->read += len;
    sim_trace(end->conn->sim, SIM_RECEIVED, end->handle, len);
    if (in->ack_event)
        return;
    in->ack_event = true;
    conn_post(end->conn, SIM_ACK, (uint8_t)(1 - end->side), draw_latency(end->conn->sim, in), 0);
}

void sim_end_shutdown(struct sim_end *end)
{
    if (end->shut || end->error != 0)
        return;
    end->shut = true;
    sim_end_out(end)->fin_sent = true;
    pipe_append(end->conn, end->side, 0, true);
}

void sim_end_close(struct sim_end *end, bool reset)
{
    struct sim_conn *conn = end->conn;
    struct gm_sim *sim = conn->sim;
    if (end->closed)
        return;
    sim_trace(sim, SIM_CLOSED, end->handle, reset);
    bool wired = conn->accepted && end->error == 0;
    if (wired && (reset || sim_end_readable(end) > 0)) {
        if (sim_rand_hit(&sim->net, 500))
            pipe_drop(sim_end_out(end)); /* or some of it still comes before the RST */
        end_reset_peer(end);
    } else if (wired) {
        sim_end_shutdown(end);
    }
    end->closed = true;
    end->sock = NULL;
    end->sending = end->blocked = end->writable = false;
    if (!conn->accepted)
        conn->end[1].closed = true;
    if (!conn->end[0].closed || !conn->end[1].closed)
        return;
    sim->conns_open--;
    conn->dying_next = sim->dying;
    sim->dying = conn;
}

static void end_reset_arrives(struct sim_end *end)
{
    end->conn->rst_held[end->side] = false;
    pipe_drop(sim_end_in(end));
    pipe_drop(sim_end_out(end));
    if (end->closed || end->error != 0)
        return;
    end->error = ECONNRESET;
    if (end->blocked) {
        end->blocked = false;
        end->writable = true;
    }
    sim_rouse(&end->node);
}

/* ---- Connections ---- */

static void end_init(struct sim_conn *conn, uint8_t side)
{
    struct gm_sim *sim = conn->sim;
    struct sim_end *end = &conn->end[side];
    end->conn = conn;
    end->side = side;
    end->handle = sim->handles_count;
    sim->handles =
        sim_grow(sim->handles, &sim->handles_cap, sim->handles_count + 1, sizeof(struct sim_end *));
    sim->handles[sim->handles_count++] = end;
    struct sim_pipe *pipe = &conn->pipe[side];
    pipe->cap = sim->profile.buffer_bytes;
    pipe->bytes = malloc(pipe->cap);
    GM_ASSERT(pipe->bytes != NULL);
}

struct sim_conn *sim_conn_new(struct gm_sim *sim, const union gm_addr *to)
{
    struct sim_conn *conn = calloc(1, sizeof *conn);
    GM_ASSERT(conn != NULL);
    conn->sim = sim;
    conn->id = sim->conns_made++;
    memcpy(&conn->to, to, gm_addr_len(to));
    end_init(conn, 0);
    end_init(conn, 1);
    conn->end[0].connecting = true;
    conn->prev = sim->conns_last;
    if (sim->conns_last != NULL)
        sim->conns_last->next = conn;
    else
        sim->conns = conn;
    sim->conns_last = conn;
    sim->conns_open++;
    conn_post(conn, SIM_SYN, 0, draw_latency(sim, &conn->pipe[0]), 0);
    return conn;
}

static void conn_free(struct gm_sim *sim, struct sim_conn *conn)
{
    if (conn->prev != NULL)
        conn->prev->next = conn->next;
    else
        sim->conns = conn->next;
    if (conn->next != NULL)
        conn->next->prev = conn->prev;
    else
        sim->conns_last = conn->prev;
    for (unsigned side = 0; side < 2; side++) {
        sim->handles[conn->end[side].handle] = NULL;
        free(conn->pipe[side].bytes);
        free(conn->pipe[side].segments);
    }
    free(conn);
}

void sim_conns_reap(struct gm_sim *sim)
{
    struct sim_conn **at = &sim->dying;
    while (*at != NULL) {
        struct sim_conn *conn = *at;
        if (conn->events > 0 || conn->end[0].node.active || conn->end[1].node.active) {
            at = &conn->dying_next;
            continue;
        }
        *at = conn->dying_next;
        conn_free(sim, conn);
    }
}

void sim_conns_free(struct gm_sim *sim)
{
    while (sim->conns != NULL)
        conn_free(sim, sim->conns);
}

/* ---- Listeners ---- */

static uint16_t addr_port(const union gm_addr *addr)
{
    if (addr->base.sa_family == AF_INET)
        return addr->in.sin_port;
    return addr->base.sa_family == AF_INET6 ? addr->in6.sin6_port : 0;
}

static bool addr_any(const union gm_addr *addr)
{
    static const struct in6_addr any = IN6ADDR_ANY_INIT;
    if (addr->base.sa_family == AF_INET)
        return addr->in.sin_addr.s_addr == 0;
    return addr->base.sa_family == AF_INET6 && memcmp(&addr->in6.sin6_addr, &any, sizeof any) == 0;
}

/* Does somebody who dials (or binds) `to` meet the listener at `at`? "::" listens on IPv4, too. */
static bool addr_meets(const union gm_addr *at, const union gm_addr *to)
{
    if (addr_port(at) != addr_port(to))
        return false;
    if (at->base.sa_family == AF_UNIX || to->base.sa_family == AF_UNIX) {
        return at->base.sa_family == to->base.sa_family &&
               strncmp(at->un.sun_path, to->un.sun_path, sizeof at->un.sun_path) == 0;
    }
    if (at->base.sa_family == AF_INET6 && addr_any(at))
        return true;
    if (at->base.sa_family != to->base.sa_family)
        return false;
    if (addr_any(at))
        return true;
    if (at->base.sa_family == AF_INET)
        return at->in.sin_addr.s_addr == to->in.sin_addr.s_addr;
    return memcmp(&at->in6.sin6_addr, &to->in6.sin6_addr, sizeof at->in6.sin6_addr) == 0;
}

int sim_listener_bind(struct gm_sim *sim, struct sim_listener *listener, const union gm_addr *addr)
{
    memcpy(&listener->addr, addr, gm_addr_len(addr));
    if (addr->base.sa_family != AF_UNIX && addr_port(addr) == 0) {
        uint16_t port = htons(sim->next_port++);
        if (addr->base.sa_family == AF_INET)
            listener->addr.in.sin_port = port;
        else
            listener->addr.in6.sin6_port = port;
    }
    struct sim_listener **last = &sim->listeners;
    for (; *last != NULL; last = &(*last)->next) {
        bool same = addr_meets(&(*last)->addr, &listener->addr) ||
                    addr_meets(&listener->addr, &(*last)->addr);
        if (same && (*last)->rings != listener->rings)
            return -EADDRINUSE;
    }
    *last = listener;
    listener->next = NULL;
    return 0;
}

void sim_listener_remove(struct gm_sim *sim, struct sim_listener *listener)
{
    struct sim_listener **at = &sim->listeners;
    while (*at != listener)
        at = &(*at)->next;
    *at = listener->next;
    struct sim_end *end;
    while ((end = sim_listener_pop(listener)) != NULL)
        sim_end_close(end, true);
    free(listener->queue);
}

struct sim_end *sim_listener_pop(struct sim_listener *listener)
{
    while (listener->queue_first < listener->queue_count) {
        struct sim_end *end = listener->queue[listener->queue_first++];
        if (!end->closed)
            return end;
    }
    listener->queue_first = listener->queue_count = 0;
    return NULL;
}

/* SO_REUSEPORT: any of those that listen there, by lot. NULL: nobody does. */
static struct sim_listener *listener_choose(struct gm_sim *sim, const union gm_addr *to)
{
    uint64_t matching = 0;
    struct sim_listener *chosen = NULL;
    for (struct sim_listener *listener = sim->listeners; listener != NULL;
         listener = listener->next) {
        if (listener->closing || !addr_meets(&listener->addr, to))
            continue;
        if (sim_rand_below(&sim->net, ++matching) == 0)
            chosen = listener;
    }
    return chosen;
}

/* ---- Events ---- */

static void faults_draw(struct sim_conn *conn)
{
    struct gm_sim *sim = conn->sim;
    const struct gm_sim_profile *profile = &sim->profile;
    const uint32_t permille[SIM_FAULTS] = {
        [SIM_FAULT_CUT] = profile->cut_permille,
        [SIM_FAULT_HALF_CLOSE] = profile->half_close_permille,
        [SIM_FAULT_FREEZE] = profile->freeze_permille,
        [SIM_FAULT_DELAY] = profile->delay_permille,
        [SIM_FAULT_SLOW] = profile->slow_permille,
    };
    for (unsigned fault = 0; fault < SIM_FAULTS; fault++) {
        if (!sim_rand_hit(&sim->net, permille[fault]))
            continue;
        uint8_t side = (uint8_t)sim_rand_below(&sim->net, 2);
        conn_post(conn, SIM_FAULT, side, sim_rand_below(&sim->net, profile->fault_within_ns),
                  fault);
    }
}

static void syn_arrives(struct sim_conn *conn)
{
    struct gm_sim *sim = conn->sim;
    if (conn->end[0].closed)
        return;
    struct sim_listener *listener = listener_choose(sim, &conn->to);
    if (listener == NULL || sim_rand_hit(&sim->net, sim->profile.refuse_permille)) {
        conn_post(conn, SIM_SYN_ACK, 0, draw_latency(sim, &conn->pipe[1]), ECONNREFUSED);
        return;
    }
    if (listener->queue_count - listener->queue_first >= SIM_BACKLOG) {
        conn_post(conn, SIM_SYN, 0, SIM_SYN_RETRY_NS, 0);
        return;
    }
    conn->accepted = true;
    listener->queue = sim_grow(listener->queue, &listener->queue_cap, listener->queue_count + 1,
                               sizeof(struct sim_end *));
    listener->queue[listener->queue_count++] = &conn->end[1];
    sim_rouse(&listener->node);
    conn_post(conn, SIM_SYN_ACK, 0, draw_latency(sim, &conn->pipe[1]), 0);
    faults_draw(conn);
}

static void syn_ack_arrives(struct sim_conn *conn, int error)
{
    struct sim_end *end = &conn->end[0];
    if (end->closed || !end->connecting)
        return;
    end->connect_done = true;
    end->connect_error = error;
    sim_rouse(&end->node);
}

static void conn_cut(struct sim_conn *conn)
{
    if (!conn->accepted)
        return;
    for (unsigned side = 0; side < 2; side++) {
        struct sim_end *end = &conn->end[side];
        if (end->connecting && !end->connect_told) {
            end->connect_done = true;
            end->connect_error = ECONNRESET;
        }
        end_reset_arrives(end);
    }
}

static void pipe_freeze(struct sim_conn *conn, uint8_t side, uint64_t until_ns)
{
    struct sim_pipe *pipe = &conn->pipe[side];
    bool earlier = until_ns < pipe->frozen_until_ns;
    pipe->frozen_until_ns = until_ns;
    if (!earlier)
        return;
    pipe->pipe_event = false; /* the one in the heap comes too late; it will do no harm */
    pipe_schedule(conn, side);
    if (!conn->rst_held[1 - side])
        return;
    conn->rst_held[1 - side] = false;
    conn_post(conn, SIM_RST, (uint8_t)(1 - side), 0, 0);
}

/* A frozen pipe holds the RST back, too. */
static void rst_arrives(struct sim_conn *conn, uint8_t side)
{
    const struct sim_pipe *pipe = &conn->pipe[1 - side];
    uint64_t now_ns = conn->sim->now_ns;
    if (now_ns >= pipe->frozen_until_ns)
        end_reset_arrives(&conn->end[side]);
    else if (pipe->frozen_until_ns == SIM_FOREVER)
        conn->rst_held[side] = true;
    else
        conn_post(conn, SIM_RST, side, pipe->frozen_until_ns - now_ns, 0);
}

static void fault_strikes(struct sim_conn *conn, uint8_t side, enum sim_fault fault)
{
    struct gm_sim *sim = conn->sim;
    const struct gm_sim_profile *profile = &sim->profile;
    uint64_t until_ns = sim->now_ns + sim_rand_below(&sim->net, profile->freeze_max_ns + 1);
    switch (fault) {
    case SIM_FAULT_CUT:
        conn_cut(conn);
        break;
    case SIM_FAULT_HALF_CLOSE:
        if (!conn->end[side].closed)
            sim_end_shutdown(&conn->end[side]);
        break;
    case SIM_FAULT_FREEZE:
        pipe_freeze(conn, side, until_ns);
        if (sim_rand_hit(&sim->net, 500))
            pipe_freeze(conn, (uint8_t)(1 - side), until_ns);
        break;
    case SIM_FAULT_DELAY:
        conn->pipe[side].extra_ns = sim_rand_below(&sim->net, profile->delay_max_ns + 1);
        break;
    case SIM_FAULT_SLOW:
        conn->pipe[side].rate = profile->slow_bytes_per_s;
        break;
    case SIM_FAULTS:
        break;
    }
}

void sim_conn_event(struct gm_sim *sim, const struct sim_event *event)
{
    struct sim_conn *conn = event->conn;
    GM_ASSERT(conn != NULL && conn->sim == sim);
    switch (event->kind) {
    case SIM_PIPE:
        pipe_arrive(conn, event->side);
        break;
    case SIM_ACK:
        pipe_acked(conn, event->side);
        break;
    case SIM_SYN:
        syn_arrives(conn);
        break;
    case SIM_SYN_ACK:
        syn_ack_arrives(conn, (int)event->value);
        break;
    case SIM_RST:
        rst_arrives(conn, event->side);
        break;
    case SIM_FAULT:
        fault_strikes(conn, event->side, (enum sim_fault)event->value);
        break;
    default:
        GM_ASSERT(event->kind == SIM_PIPE);
    }
}

/* ---- Faults by command ---- */

static struct sim_end *end_of_sock(const struct gm_sock *sock)
{
    if ((sock->flags & (GM_SOCK_OPEN | GM_SOCK_CLOSING | GM_SOCK_LISTENER)) != GM_SOCK_OPEN)
        return NULL;
    return sock->backend;
}

void gm_sim_cut(struct gm_sock *sock)
{
    struct sim_end *end = end_of_sock(sock);
    if (end != NULL)
        conn_cut(end->conn);
}

void gm_sim_half_close(struct gm_sock *sock)
{
    struct sim_end *end = end_of_sock(sock);
    if (end != NULL && !end->connecting)
        sim_end_shutdown(end);
}

void gm_sim_freeze(struct gm_sock *sock, uint64_t ns, bool both)
{
    struct sim_end *end = end_of_sock(sock);
    if (end == NULL)
        return;
    uint64_t until_ns = ns == SIM_FOREVER ? SIM_FOREVER : end->conn->sim->now_ns + ns;
    pipe_freeze(end->conn, end->side, until_ns);
    if (both)
        pipe_freeze(end->conn, (uint8_t)(1 - end->side), until_ns);
}

void gm_sim_thaw(struct gm_sock *sock)
{
    struct sim_end *end = end_of_sock(sock);
    if (end == NULL)
        return;
    pipe_freeze(end->conn, 0, 0);
    pipe_freeze(end->conn, 1, 0);
}

void gm_sim_delay(struct gm_sock *sock, uint64_t extra_ns)
{
    struct sim_end *end = end_of_sock(sock);
    if (end != NULL)
        end->conn->pipe[0].extra_ns = end->conn->pipe[1].extra_ns = extra_ns;
}

void gm_sim_slow_reader(struct gm_sock *sock, uint64_t bytes_per_s)
{
    struct sim_end *end = end_of_sock(sock);
    if (end != NULL)
        sim_end_in(end)->rate = bytes_per_s;
}
