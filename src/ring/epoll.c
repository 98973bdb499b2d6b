/* The epoll back-end: the same completions as io_uring, for kernels and seccomp profiles that
 * forbid it.
 *
 * Owner: the ring's thread; only `wake` is called by others. Every socket is registered once,
 * edge-triggered, for everything: one epoll_ctl in a socket's life, none in steady state. What an
 * edge has told is kept in the socket's flags until the kernel says EAGAIN. Invariants: a socket
 * with EP_READY is on `ready` (it may have bytes and has a grant, or is a listener with connections
 * waiting); a socket with EP_STARVED is on ring->starved (a grant, but no buffer); a send is tried
 * inside gm_sock_send and its result told by the next wait, in order; nothing is delivered outside
 * wait. A closed descriptor leaves the epoll set by itself; a detached one is taken out. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/pages.h"
#include "ring/fill.h"
#include "ring/internal.h"

#define EP_READABLE GM_SOCK_BACKEND_BIT(0) /* an edge came and no EAGAIN since */
#define EP_HUP                                                                                     \
    GM_SOCK_BACKEND_BIT(                                                                           \
        1) /* RDHUP, HUP or ERR was seen: read on to the end, or tell a paused owner */
#define EP_BLOCKED GM_SOCK_BACKEND_BIT(2) /* a send was short: EPOLLOUT is passed on */
#define EP_ROOM    GM_SOCK_BACKEND_BIT(7) /* ...but came before its result was told: behind it */
#define EP_READY   GM_SOCK_BACKEND_BIT(3)
#define EP_STARVED GM_SOCK_BACKEND_BIT(4)
#define EP_WATCHED GM_SOCK_BACKEND_BIT(5) /* in the epoll set */
#define EP_TOLD                                                                                    \
    GM_SOCK_BACKEND_BIT(6) /* how the connect went has been told: what a failed socket reports     \
                              later means nothing */

/* One batch of epoll_wait: 6 KiB of stack-like memory, read once, in cache. What does not fit comes
 * next turn, the kernel rotates. */
#define EPOLL_EVENTS 512
/* Bytes one socket may receive per turn before the others have theirs: one link buffer, eight
 * client buffers. */
#define EPOLL_TURN_BYTES GM_LINK_BUF_BYTES
/* Connections one listener may accept per turn. */
#define EPOLL_TURN_ACCEPTS 64u
/* Connections a closing listener takes at most; a flood must not keep it open. Above
 * net.core.somaxconn's default of 4,096. */
#define EPOLL_DRAIN_MAX 8192u
/* No descriptor or memory for an accept: looked at again after this, or as soon as one of ours is
 * closed. */
#define EPOLL_ACCEPT_RETRY_NS 100000000ull
#define EPOLL_WAKE            UINT64_MAX /* event data of the ring's eventfd */

enum done_kind { DONE_SENT, DONE_CONNECTED };

struct epoll_done {
    uint32_t index, generation;
    int32_t result;
    uint32_t kind;
};

struct epoll_state {
    int fd;
    uint32_t done_count, done_max;
    struct epoll_done
        *done; /* results to be told by the next wait, in order; lazily touched mapping */
    struct gm_list ready;   /* gm_sock.node */
    struct gm_list stalled; /* listeners that found no descriptor */
    struct gm_buf
        *fill[GM_POOL_COUNT]; /* the buffer that small receives share; one reference is ours */
    struct epoll_event events[EPOLL_EVENTS];
};

static struct epoll_state *state_of(const struct gm_ring *ring)
{
    return ring->backend_state;
}

/* ---- Open, close ---- */

static int epoll_open(struct gm_ring *ring, char *why)
{
    int rc;
    struct epoll_state *state = calloc(1, sizeof *state);
    if (state == NULL) {
        rc = -ENOMEM;
        goto fail;
    }
    gm_list_init(&state->ready);
    gm_list_init(&state->stalled);
    /* A socket has at most one result waiting; a row that was freed and taken again within a turn
     * may have left one more. */
    state->done_max = 2 * ring->socks_max;
    state->done = gm_pages_map(state->done_max * sizeof *state->done);
    if (state->done == NULL) {
        rc = -ENOMEM;
        goto fail_state;
    }
    state->fd = epoll_create1(EPOLL_CLOEXEC);
    if (state->fd < 0) {
        rc = -errno;
        goto fail_done;
    }
    /* Edge-triggered, so that the counter never has to be read: every write is an edge. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = EPOLL_WAKE};
    if (epoll_ctl(state->fd, EPOLL_CTL_ADD, ring->wake_fd, &event) < 0) {
        rc = -errno;
        goto fail_fd;
    }
    ring->backend_state = state;
    return 0;
fail_fd:
    (void)close(state->fd);
fail_done:
    gm_pages_unmap(state->done, state->done_max * sizeof *state->done);
fail_state:
    free(state);
fail:
    (void)snprintf(
        why, GM_WHY_BYTES,
        "epoll cannot be set up: %s (check the limits on open files, `ulimit -n`, and on memory)",
        strerror(-rc));
    return rc;
}

static void epoll_close(struct gm_ring *ring)
{
    struct epoll_state *state = state_of(ring);
    if (state == NULL)
        return;
    for (unsigned pool = 0; pool < GM_POOL_COUNT; pool++) {
        if (state->fill[pool] != NULL)
            gm_buf_put(state->fill[pool]);
    }
    (void)close(state->fd);
    gm_pages_unmap(state->done, state->done_max * sizeof *state->done);
    free(state);
    ring->backend_state = NULL;
}

/* ---- Queues ---- */

static void sock_unqueue(struct gm_sock *sock)
{
    gm_list_remove(&sock->node);
    sock->flags &= ~(EP_READY | EP_STARVED);
}

static void sock_make_ready(struct epoll_state *state, struct gm_sock *sock)
{
    if (sock->flags & (EP_READY | EP_STARVED))
        return;
    sock->flags |= EP_READY;
    gm_list_push_back(&state->ready, &sock->node);
}

/* Listeners that found no descriptor keep EP_READY: they only change lists. */
static void stalled_retry(struct epoll_state *state)
{
    gm_list_splice_back(&state->ready, &state->stalled);
}

static void done_push(struct gm_sock *sock, enum done_kind kind, int32_t result)
{
    struct epoll_state *state = state_of(sock->ring);
    GM_ASSERT(state->done_count < state->done_max);
    state->done[state->done_count++] =
        (struct epoll_done){sock->index, gm_core_generation(sock), result, kind};
}

static int sock_watch(struct gm_sock *sock)
{
    uint32_t events = (sock->flags & GM_SOCK_LISTENER) ? EPOLLIN | EPOLLET
                                                       : EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    struct epoll_event event = {.events = events,
                                .data.u64 = (uint64_t)gm_core_generation(sock) << 32 | sock->index};
    if (epoll_ctl(state_of(sock->ring)->fd, EPOLL_CTL_ADD, sock->fd, &event) < 0)
        return -errno;
    sock->flags |= EP_WATCHED;
    return 0;
}

/* accept and connect would wait on a blocking descriptor; receives and sends say MSG_DONTWAIT. */
static int fd_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    if ((flags & O_NONBLOCK) == 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    return 0;
}

/* ---- What the core asks for ---- */

static int epoll_attach(struct gm_sock *sock)
{
    return sock_watch(sock);
}

static int epoll_connect(struct gm_sock *sock, const union gm_addr *to)
{
    int rc = fd_nonblocking(sock->fd);
    if (rc < 0)
        return rc;
    /* Registered after the call: an unconnected TCP socket reports HUP. */
    if (connect(sock->fd, &to->base, gm_addr_len(to)) < 0 && errno != EINPROGRESS) {
        done_push(sock, DONE_CONNECTED, -errno);
        return 0;
    }
    return sock_watch(sock);
}

static int epoll_listen(struct gm_sock *sock, const union gm_addr *addr)
{
    (void)addr;
    int rc = fd_nonblocking(sock->fd);
    return rc < 0 ? rc : sock_watch(sock);
}

static void epoll_recv(struct gm_sock *sock)
{
    if ((sock->flags & EP_READABLE) && gm_core_wants_recv(sock))
        sock_make_ready(state_of(sock->ring), sock);
}

static void epoll_send(struct gm_sock *sock, const struct iovec *iov, unsigned count, bool more)
{
    int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0);
    size_t total = 0;
    for (unsigned i = 0; i < count; i++)
        total += iov[i].iov_len;
    ssize_t sent;
    do {
        if (count == 1) {
            sent = send(sock->fd, iov[0].iov_base, iov[0].iov_len, flags);
        } else {
            struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = count};
            sent = sendmsg(sock->fd, &msg, flags);
        }
    } while (sent < 0 && errno == EINTR);
    gm_counter_add(GM_COUNTER_ENTERS, 1);
    if (sent < 0)
        sent = errno == EAGAIN ? 0 : -errno;
    /* When there is room again the kernel raises an edge: it noted the failed attempt. */
    sock->flags &= ~(EP_BLOCKED | EP_ROOM);
    if (sent >= 0 && (size_t)sent < total)
        sock->flags |= EP_BLOCKED;
    done_push(sock, DONE_SENT, (int32_t)sent);
}

static void epoll_sock_close(struct gm_sock *sock)
{
    struct epoll_state *state = state_of(sock->ring);
    sock_unqueue(sock);
    if ((sock->flags & GM_SOCK_LISTENER) && (sock->flags & EP_WATCHED)) {
        sock->recv_armed = 0; /* connections taken while draining */
        sock_make_ready(state, sock);
        return;
    }
    gm_core_finish(sock);
    stalled_retry(state); /* a descriptor will be free */
}

static void epoll_detach(struct gm_sock *sock)
{
    sock_unqueue(sock);
    if (sock->flags & EP_WATCHED) {
        int rc = epoll_ctl(state_of(sock->ring)->fd, EPOLL_CTL_DEL, sock->fd, NULL);
        GM_ASSERT(rc == 0);
    }
    gm_core_finish(sock);
}

/* ---- Receiving ---- */

/* One receive of at most `most` bytes. Returns how many came (1 for a message); 0: nothing more for
 * now (drained, ended or starved). */
static uint32_t sock_recv_once(struct gm_sock *sock, uint32_t most)
{
    struct gm_ring *ring = sock->ring;
    unsigned pool = gm_core_recv_pool(sock);
    struct gm_buf *buf = gm_fill_begin(ring, pool, &state_of(ring)->fill[pool]);
    if (buf == NULL) {
        sock_unqueue(sock); /* a grant in the last callback may have made it ready again */
        sock->flags |= EP_STARVED;
        gm_list_push_back(&ring->starved[sock->pool], &sock->node);
        gm_counter_add(GM_COUNTER_RECV_STARVED, 1);
        return 0;
    }
    size_t want = buf->size - buf->fill;
    if (want > most)
        want = most;
    if (want > sock->recv_grant)
        want = (size_t)sock->recv_grant;
    ssize_t got;
    do {
        got = recv(sock->fd, buf->data + buf->fill, want, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    gm_counter_add(GM_COUNTER_ENTERS, 1);
    if (got < 0 && errno != EAGAIN) {
        gm_core_recv_failed(sock, -errno); /* behind a message there may be more */
        return 1;
    }
    if (got <= 0) {
        sock->flags &= ~EP_READABLE;
        if (got == 0)
            gm_core_recv_end(sock, 0);
        return 0;
    }
    /* A short receive has drained the socket: what comes later is a new edge. Unless the end was
     * announced, which lies behind the bytes, or records may still be waiting. */
    if ((size_t)got < want && (sock->flags & (EP_HUP | GM_SOCK_RECORDS)) == 0)
        sock->flags &= ~EP_READABLE;
    gm_core_recv(sock, gm_fill_end(buf, (uint32_t)got));
    return (uint32_t)got;
}

static void sock_receive(struct gm_sock *sock)
{
    uint32_t left = EPOLL_TURN_BYTES;
    while (gm_core_wants_recv(sock) && (sock->flags & (EP_READABLE | EP_STARVED)) == EP_READABLE &&
           left > 0) {
        left -= sock_recv_once(sock, left);
    }
    if ((sock->flags & GM_SOCK_OPEN) == 0)
        return;
    if ((sock->flags & EP_READABLE) && gm_core_wants_recv(sock)) {
        sock_make_ready(state_of(sock->ring), sock);
    } else if ((sock->flags & EP_HUP) && gm_core_paused(sock)) {
        gm_core_hangup(sock);
    }
}

/* ---- Accepting ---- */

/* False: nothing more is to be had now. */
static bool listener_accept_once(struct gm_sock *sock)
{
    int fd = accept4(sock->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    gm_counter_add(GM_COUNTER_ENTERS, 1);
    if (fd >= 0) {
        sock->recv_armed++;
        gm_core_accept(sock, fd);
        return true;
    }
    switch (errno) {
    case EAGAIN:
        sock->flags &= ~EP_READABLE;
        return false;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        /* A closing listener that cannot take what is queued lets it go with the descriptor. */
        if (sock->flags & GM_SOCK_CLOSING) {
            sock->flags &= ~EP_READABLE;
            return false;
        }
        sock_unqueue(sock);
        sock->flags |= EP_READY;
        gm_list_push_back(&state_of(sock->ring)->stalled, &sock->node);
        return false;
    default:
        /* That connection died in the queue, or a signal came. */
        GM_ASSERT(errno != EBADF && errno != EINVAL && errno != ENOTSOCK);
        return true;
    }
}

static void listener_receive(struct gm_sock *sock)
{
    unsigned left = EPOLL_TURN_ACCEPTS;
    bool again = true;
    while (again && left-- > 0 && (sock->flags & GM_SOCK_OPEN))
        again = listener_accept_once(sock);
    if ((sock->flags & GM_SOCK_OPEN) == 0 || (sock->flags & EP_READY))
        return;
    if (again && ((sock->flags & GM_SOCK_CLOSING) == 0 || sock->recv_armed < EPOLL_DRAIN_MAX)) {
        sock_make_ready(state_of(sock->ring), sock);
    } else if (sock->flags & GM_SOCK_CLOSING) {
        gm_core_finish(sock);
    }
}

/* ---- The wait ---- */

static void sock_connected(struct gm_sock *sock)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(sock->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    sock->flags |= EP_TOLD;
    gm_core_connected(sock, -error);
}

/* There is room again. Told once for each short send, and never before that send's own result: who
 * hears of room while his send is still under way would wait for ever. */
static void sock_writable(struct gm_sock *sock)
{
    const uint32_t both = EP_BLOCKED | EP_ROOM;
    if ((sock->flags & both) != both || (sock->flags & GM_SOCK_SENDING) != 0)
        return;
    sock->flags &= ~both;
    gm_core_writable(sock);
}

static void event_deliver(struct gm_ring *ring, const struct epoll_event *event)
{
    if (event->data.u64 == EPOLL_WAKE) {
        gm_counter_add(GM_COUNTER_WAKES_RECEIVED, 1);
        return;
    }
    uint32_t generation = (uint32_t)(event->data.u64 >> 32), index = (uint32_t)event->data.u64,
             events = event->events;
    struct gm_sock *sock = gm_core_find(ring, index, generation);
    if (sock == NULL || (sock->flags & (GM_SOCK_CLOSING | GM_SOCK_DETACHING)))
        return;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        sock->flags |= EP_READABLE;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        sock->flags |= EP_HUP;
    if (sock->flags & GM_SOCK_CONNECTING) {
        if ((sock->flags & EP_TOLD) == 0 && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
            sock_connected(sock);
    } else if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
        sock->flags |= EP_ROOM;
        sock_writable(sock);
    }
    /* The callback may have closed it. */
    if (gm_core_find(ring, index, generation) != sock)
        return;
    if (sock->flags & GM_SOCK_LISTENER) {
        sock_make_ready(state_of(ring), sock);
    } else if ((sock->flags & EP_READABLE) && gm_core_wants_recv(sock)) {
        sock_make_ready(state_of(ring), sock);
    } else if ((sock->flags & EP_HUP) && gm_core_paused(sock)) {
        gm_core_hangup(sock);
    }
}

/* Results of the sends and connects that were tried in the turn before. What callbacks add is told
 * in the next wait; the edge that follows a short send may be seen before that. */
static void done_deliver(struct gm_ring *ring)
{
    struct epoll_state *state = state_of(ring);
    uint32_t count = state->done_count;
    for (uint32_t i = 0; i < count; i++) {
        struct epoll_done done = state->done[i];
        struct gm_sock *sock = gm_core_find(ring, done.index, done.generation);
        if (sock == NULL)
            continue;
        if (done.kind == DONE_CONNECTED) {
            gm_core_connected(sock, done.result);
            continue;
        }
        gm_core_sent(sock, done.result);
        if (gm_core_find(ring, done.index, done.generation) == sock)
            sock_writable(sock);
    }
    state->done_count -= count;
    if (state->done_count > 0)
        memmove(state->done, state->done + count, state->done_count * sizeof *state->done);
}

/* Sockets that found no buffer, first come first served, as many as there are buffers now. */
static void starved_retry(struct gm_ring *ring)
{
    for (unsigned pool = 0; pool < GM_POOL_COUNT; pool++) {
        uint32_t left = gm_fill_supply(ring, pool, state_of(ring)->fill[pool]);
        struct gm_list *node;
        while (left-- > 0 && (node = gm_list_pop_front(&ring->starved[pool])) != NULL) {
            struct gm_sock *sock = GM_CONTAINER_OF(node, struct gm_sock, node);
            sock->flags &= ~EP_STARVED;
            sock_make_ready(state_of(ring), sock);
        }
    }
}

/* Serves each ready socket once; one that is not through goes behind the others, into the next
 * turn. */
static void ready_deliver(struct gm_ring *ring)
{
    struct gm_list batch;
    struct gm_list *node;
    gm_list_init(&batch);
    gm_list_splice_back(&batch, &state_of(ring)->ready);
    unsigned left = GM_TURN_EVENTS_MAX;
    while (left-- > 0 && (node = gm_list_pop_front(&batch)) != NULL) {
        struct gm_sock *sock = GM_CONTAINER_OF(node, struct gm_sock, node);
        sock->flags &= ~EP_READY;
        if (sock->flags & GM_SOCK_LISTENER)
            listener_receive(sock);
        else
            sock_receive(sock);
    }
    /* Those that had no turn come first in the next one. */
    gm_list_splice_back(&batch, &state_of(ring)->ready);
    gm_list_splice_back(&state_of(ring)->ready, &batch);
}

/* epoll_wait's milliseconds, rounded up: a timer is never early, and its tick is longer anyway. */
static int timeout_ms(uint64_t timeout_ns)
{
    if (timeout_ns == GM_WAIT_FOREVER)
        return -1;
    uint64_t ms = timeout_ns / 1000000u + (timeout_ns % 1000000u != 0);
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

/* Tells the results first. That may have made work or moved deadlines; if it has not, the turn may
 * sleep after all, so that a lone request costs one epoll_wait and not two. Returns the timeout
 * that is left; the mailbox sleeps again when it is not 0. */
static uint64_t done_deliver_first(struct gm_ring *ring, uint64_t timeout_ns)
{
    gm_core_woken(ring);
    done_deliver(ring);
    uint64_t next_ns = gm_core_next_ns(ring);
    bool busy = timeout_ns == 0 || next_ns <= ring->now_ns || state_of(ring)->done_count > 0 ||
                !gm_list_empty(&state_of(ring)->ready);
    if (busy || !gm_mailbox_sleep(&ring->mailbox))
        ring->waiting_ns = 0;
    else
        ring->waiting_ns = next_ns == GM_WAIT_FOREVER ? GM_WAIT_FOREVER : next_ns - ring->now_ns;
    return ring->waiting_ns;
}

static void epoll_backend_wait(struct gm_ring *ring, uint64_t timeout_ns)
{
    struct epoll_state *state = state_of(ring);
    bool told = state->done_count > 0;
    uint64_t gap_ns = 0;
    starved_retry(ring);
    if (told) {
        timeout_ns = done_deliver_first(ring, timeout_ns);
        gap_ns = ring->gap_ns;
    }
    bool slept = timeout_ns > 0;
    if (!gm_list_empty(&state->ready))
        timeout_ns = 0;
    if (!gm_list_empty(&state->stalled) && timeout_ns > EPOLL_ACCEPT_RETRY_NS)
        timeout_ns = EPOLL_ACCEPT_RETRY_NS;
    int count = epoll_wait(state->fd, state->events, EPOLL_EVENTS, timeout_ms(timeout_ns));
    gm_counter_add(GM_COUNTER_ENTERS, 1);
    if (!told || slept)
        gm_core_woken(ring);
    if (gap_ns > ring->gap_ns)
        ring->gap_ns = gap_ns; /* the gap before the results is one of this turn's, too */
    if (count <= 0)
        stalled_retry(state);
    for (int i = 0; i < count; i++)
        event_deliver(ring, &state->events[i]);
    ready_deliver(ring);
}

static void epoll_wake(struct gm_ring *from, struct gm_ring *to)
{
    (void)from;
    uint64_t one = 1;
    ssize_t written;
    do {
        written = write(to->wake_fd, &one, sizeof one);
    } while (written < 0 && errno == EINTR);
}

const struct gm_backend gm_backend_epoll = {
    .name = "epoll",
    .kernel_fds = true,
    .open = epoll_open,
    .close = epoll_close,
    .attach = epoll_attach,
    .connect = epoll_connect,
    .listen = epoll_listen,
    .recv = epoll_recv,
    .send = epoll_send,
    .sock_close = epoll_sock_close,
    .detach = epoll_detach,
    .wait = epoll_backend_wait,
    .wake = epoll_wake,
};
