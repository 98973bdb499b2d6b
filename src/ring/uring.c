/* The io_uring back-end: one ring per thread, provided buffers, multishot where the kernel has it.
 *
 * Owner: the ring's thread. Invariants:
 * - sock->pending counts the requests (and the cancel) under way; only at 0 is a socket finished,
 * so a descriptor is never closed, nor its number reused, under a request that names it;
 * - a finite grant is never armed for more than itself: by the kernel's limits, or one receive at a
 * time;
 * - a request names its socket by {index, generation}; the buffer of a completion whose socket has
 * gone still comes home;
 * - a buffer lent to the kernel is filled in the order of completions (the probe has made sure of
 * that for incremental buffers). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ring/internal.h"
#include "ring/uring_abi.h"

/* Submission entries; completions are 8 times as many, so that a turn of many small receives does
 * not overflow. */
#define URING_ENTRIES 1024u
/* Buffers the kernel holds of each pool at first: as few as keep it busy for a turn, so that the
 * same warm ones go round. Doubled when it ran out while more were free. */
#define LENT_CLIENT_MIN 64u
#define LENT_LINK_MIN   8u
#define LENT_MAX        4096u
/* Receives under way into buffers lent by links (gm_core_recv_pool) are at most so large a share of
 * these buffers: they may all be filled at once. */
#define LENT_BULK_SHARE 4u
/* Message headers and iovecs of a turn's gathered sends; submitted early when full. */
#define ARENA_BYTES (128u << 10)
/* Limited multishots are for heads and small bodies: a receive takes at most a quarter of the
 * grant, which holds most heads, and three quarters are used before it has to be armed anew.
 * Measured at 64 connections: 0.13 and 0.01 submissions per request (server, agent) instead of 1
 * and 1, 0.96 of the CPU time. Larger grants are used up by a few receives of a whole buffer. */
#define MULTISHOT_PARTS     4u
#define MULTISHOT_GRANT_MIN 8192u
#define MULTISHOT_GRANT_MAX 65536u
/* After accept ran out of descriptors or memory. */
#define ACCEPT_PAUSE_NS 100000000ull
/* Failed submissions in a row before we call it a bug: each of them has let the kernel work off
 * completions. */
#define SUBMIT_TRIES 1000u
/* Accepted connections that a closing listener still hands out: its queue cannot hold more. */
#define DRAIN_MAX 8192u

#define U_RECV     GM_SOCK_BACKEND_BIT(0) /* a receive is under way */
#define U_HUP      GM_SOCK_BACKEND_BIT(1) /* POLLRDHUP is watched */
#define U_OUT      GM_SOCK_BACKEND_BIT(2) /* POLLOUT is watched */
#define U_HUP_SEEN GM_SOCK_BACKEND_BIT(3) /* ...and has come */
#define U_DIRTY    GM_SOCK_BACKEND_BIT(4) /* on u->dirty */
#define U_TODO     GM_SOCK_BACKEND_BIT(5) /* on u->todo */
#define U_STARVED  GM_SOCK_BACKEND_BIT(6) /* on ring->starved */
#define U_LISTED   (U_DIRTY | U_TODO | U_STARVED)

enum uring_op {
    OP_RECV_CLIENT,
    OP_RECV_LINK,
    OP_SEND,
    OP_HUP,
    OP_OUT,
    OP_CONNECT,
    OP_ACCEPT,
    OP_CANCEL,
    OP_WAKE,
    OP_EVENTFD,
    OP_MSG_SENT,
    OP_COUNT
};

/* A provided-buffer ring and which buffer stands behind each of its ids. */
struct lending {
    struct io_uring_buf_ring *ring;
    size_t ring_bytes;
    uint32_t *index_of_bid;
    uint16_t *free_bids;
    uint32_t entries, target, free_count;
};

struct uring {
    struct io_uring uring;
    struct gm_ring *ring;
    struct gm_uring_features features;
    struct lending lending[GM_POOL_COUNT];
    struct gm_list dirty;   /* sockets whose requests no longer fit their grant */
    struct gm_list todo;    /* sockets to be told of a hang-up; listeners to be drained */
    struct gm_list refused; /* listeners that wait for descriptors */
    struct gm_timer refused_timer;
    uint32_t arena_used;
    uint32_t bulk_count; /* receives under way for others into a link's buffer */
    bool eventfd_spent;  /* the one-shot watch has fired */
    uint8_t arena[ARENA_BYTES] __attribute__((aligned(16)));
};

static struct uring *uring_of(const struct gm_ring *ring)
{
    return ring->backend_state;
}
static bool has(const struct uring *u, enum gm_uring_feature feature)
{
    return gm_uring_has(&u->features, feature);
}

/* ---- Requests ---- */

static uint64_t mark_of(enum uring_op op, uint32_t generation, uint32_t index)
{
    return (uint64_t)op << 56 | (uint64_t)generation << 32 | index;
}

/* Hands everything queued to the kernel. The arena is free again afterwards: the kernel has its own
 * copies. */
static void submit(struct uring *u)
{
    for (unsigned tries = 0; io_uring_sq_ready(&u->uring) > 0; tries++) {
        GM_ASSERT(tries < SUBMIT_TRIES);
        gm_counter_add(GM_COUNTER_ENTERS, 1);
        int r = io_uring_submit(&u->uring);
        if (r < 0)
            (void)io_uring_get_events(&u->uring); /* short of memory for a moment */
    }
    u->arena_used = 0;
}

static struct io_uring_sqe *take_sqe(struct uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->uring);
    if (GM_UNLIKELY(sqe == NULL)) {
        submit(u);
        sqe = io_uring_get_sqe(&u->uring);
        GM_ASSERT(sqe != NULL);
    }
    return sqe;
}

/* After prep: the request belongs to the socket until its last completion. */
static void own(struct gm_sock *sock, struct io_uring_sqe *sqe, enum uring_op op)
{
    sqe->user_data = mark_of(op, gm_core_generation(sock), sock->index);
    sock->pending++;
}

static void *arena_take(struct uring *u, size_t bytes)
{
    bytes = (bytes + 15u) & ~(size_t)15u;
    GM_ASSERT(bytes <= ARENA_BYTES);
    /* A submission empties the arena: it must not come between taking a place and queueing the
     * request that uses it. */
    if (bytes > ARENA_BYTES - u->arena_used || io_uring_sq_space_left(&u->uring) == 0)
        submit(u);
    void *place = u->arena + u->arena_used;
    u->arena_used += (uint32_t)bytes;
    return place;
}

static void list_on(struct gm_sock *sock, struct gm_list *list, uint32_t flag)
{
    gm_list_remove(&sock->node);
    sock->flags = (sock->flags & ~U_LISTED) | flag;
    gm_list_push_back(list, &sock->node);
}

static void list_off(struct gm_sock *sock)
{
    gm_list_remove(&sock->node);
    sock->flags &= ~U_LISTED;
}

/* The socket's requests are looked at again before the next submission: grants of one turn are
 * armed together. */
static void mark_dirty(struct gm_sock *sock)
{
    if ((sock->flags & (U_LISTED | GM_SOCK_CLOSING | GM_SOCK_DETACHING | GM_SOCK_LISTENER)) == 0)
        list_on(sock, &uring_of(sock->ring)->dirty, U_DIRTY);
}

static void arm_poll(struct uring *u, struct gm_sock *sock, enum uring_op op, unsigned events,
                     uint32_t flag)
{
    if ((sock->flags & flag) != 0)
        return;
    struct io_uring_sqe *sqe = take_sqe(u);
    io_uring_prep_poll_add(sqe, sock->fd, events);
    own(sock, sqe, op);
    sock->flags |= flag;
}

/* The kernel ends a limited multishot only with the receive that reaches the limit. So each receive
 * is capped, too, and the limit is lower than the grant by one byte less than a cap: together they
 * never exceed it. What they leave is armed when it ends, at last as one receive of just that. */
static void arm_recv(struct uring *u, struct gm_sock *sock)
{
    bool unlimited = sock->recv_grant == GM_RECV_UNLIMITED;
    bool small = sock->recv_grant >= MULTISHOT_GRANT_MIN && sock->recv_grant <= MULTISHOT_GRANT_MAX;
    uint32_t bulk_max = u->ring->store.pools[GM_POOL_LINK].count / LENT_BULK_SHARE;
    enum gm_pool pool =
        u->bulk_count < bulk_max ? gm_core_recv_pool(sock) : (enum gm_pool)sock->pool;
    bool multishot = has(u, GM_URING_MULTISHOT_RECV) && pool == sock->pool &&
                     (unlimited || (small && has(u, GM_URING_RECV_LIMIT)));
    uint32_t most = multishot ? MULTISHOT_GRANT_MAX : u->ring->store.pools[pool].buf_bytes;
    uint32_t limit = sock->recv_grant < most ? (uint32_t)sock->recv_grant : most;
    struct io_uring_sqe *sqe = take_sqe(u);
    if (multishot) {
        uint32_t cap = unlimited ? 0 : limit / MULTISHOT_PARTS;
        io_uring_prep_recv_multishot(sqe, sock->fd, NULL, cap, 0);
        if (!unlimited)
            gm_abi_set_optlen(sqe, limit - cap + 1);
    } else {
        io_uring_prep_recv(sqe, sock->fd, NULL, limit, 0);
    }
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = (uint16_t)pool;
    own(sock, sqe, pool == GM_POOL_CLIENT ? OP_RECV_CLIENT : OP_RECV_LINK);
    u->bulk_count += pool != sock->pool;
    sock->recv_armed = unlimited ? GM_RECV_UNLIMITED : limit;
    sock->flags |= U_RECV;
}

static void arm_accept(struct uring *u, struct gm_sock *sock)
{
    struct io_uring_sqe *sqe = take_sqe(u);
    if (has(u, GM_URING_MULTISHOT_ACCEPT))
        io_uring_prep_multishot_accept(sqe, sock->fd, NULL, NULL, SOCK_CLOEXEC);
    else
        io_uring_prep_accept(sqe, sock->fd, NULL, NULL, SOCK_CLOEXEC);
    own(sock, sqe, OP_ACCEPT);
}

static void arm_eventfd(struct uring *u)
{
    struct io_uring_sqe *sqe = take_sqe(u);
    if (has(u, GM_URING_MULTISHOT_POLL))
        io_uring_prep_poll_multishot(sqe, u->ring->wake_fd, POLLIN);
    else
        io_uring_prep_poll_add(sqe, u->ring->wake_fd, POLLIN);
    sqe->user_data = mark_of(OP_EVENTFD, 0, 0);
    u->eventfd_spent = false;
}

/* Whatever is under way on the descriptor; the cancel counts as a request, so that the descriptor
 * outlives it. */
static void cancel_all(struct uring *u, struct gm_sock *sock)
{
    struct io_uring_sqe *sqe = take_sqe(u);
    io_uring_prep_cancel_fd(sqe, sock->fd, IORING_ASYNC_CANCEL_ALL);
    own(sock, sqe, OP_CANCEL);
}

/* ---- Lending buffers ---- */

static uint32_t power_of_two_from(uint32_t n)
{
    uint32_t p = 1;
    while (p < n)
        p <<= 1;
    return p;
}

static void lending_fini(struct lending *l)
{
    if (l->ring != NULL)
        (void)munmap(l->ring, l->ring_bytes);
    free(l->index_of_bid);
    free(l->free_bids);
    *l = (struct lending){0};
}

static int lending_init(struct uring *u, enum gm_pool pool)
{
    struct lending *l = &u->lending[pool];
    uint32_t count = u->ring->store.pools[pool].count,
             min = pool == GM_POOL_CLIENT ? LENT_CLIENT_MIN : LENT_LINK_MIN;
    l->entries = power_of_two_from(count < LENT_MAX ? count : LENT_MAX);
    l->target = min < l->entries ? min : l->entries;
    l->ring_bytes = (l->entries * sizeof(struct io_uring_buf) + 4095u) & ~(size_t)4095u;
    void *memory =
        mmap(NULL, l->ring_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -errno;
    l->ring = memory;
    l->index_of_bid = calloc(l->entries, sizeof *l->index_of_bid);
    l->free_bids = calloc(l->entries, sizeof *l->free_bids);
    if (l->index_of_bid == NULL || l->free_bids == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < l->entries; i++)
        l->free_bids[i] = (uint16_t)(l->entries - 1u - i);
    l->free_count = l->entries;
    io_uring_buf_ring_init(l->ring);
    return gm_abi_register_buffers(&u->uring, l->ring, l->entries, (uint16_t)pool,
                                   has(u, GM_URING_INC_BUFFERS));
}

/* Tops the kernel's buffers up to the target, from the warm end of the pool. */
static void lend(struct uring *u, enum gm_pool pool)
{
    struct lending *l = &u->lending[pool];
    const struct gm_pool_state *state = &u->ring->store.pools[pool];
    int added = 0;
    while (state->lent < l->target && l->free_count > 0) {
        struct gm_buf *buf = gm_store_lend(&u->ring->store, pool);
        if (buf == NULL)
            break;
        uint16_t bid = l->free_bids[--l->free_count];
        l->index_of_bid[bid] = buf->index;
        io_uring_buf_ring_add(l->ring, buf->data, buf->size, bid,
                              io_uring_buf_ring_mask(l->entries), added++);
    }
    if (added > 0)
        io_uring_buf_ring_advance(l->ring, added);
}

/* The bytes of a receive completion; .buf NULL when it brought none. */
static gm_slice take_filled(struct uring *u, enum gm_pool pool, const struct io_uring_cqe *cqe)
{
    struct lending *l = &u->lending[pool];
    gm_slice none = {NULL, 0, NULL};
    if ((cqe->flags & IORING_CQE_F_BUFFER) == 0)
        return none;
    uint32_t bid = cqe->flags >> IORING_CQE_BUFFER_SHIFT,
             len = cqe->res > 0 ? (uint32_t)cqe->res : 0;
    bool last = (cqe->flags & GM_ABI_CQE_F_BUF_MORE) == 0;
    GM_ASSERT(bid < l->entries);
    if (len == 0 && !last)
        return none;
    if (last)
        l->free_bids[l->free_count++] = (uint16_t)bid;
    return gm_store_filled(&u->ring->store, &u->ring->store.pools[pool].bufs[l->index_of_bid[bid]],
                           len, last);
}

/* Sockets that found no buffer try again, first come first served, as many as there are buffers. */
static void feed_starved(struct uring *u, enum gm_pool pool)
{
    uint32_t tries = u->ring->store.pools[pool].lent;
    struct gm_list *node;
    while (tries-- > 0 && (node = gm_list_first(&u->ring->starved[pool])) != NULL) {
        struct gm_sock *sock = GM_CONTAINER_OF(node, struct gm_sock, node);
        list_off(sock);
        mark_dirty(sock);
    }
}

/* ---- Before the wait: requests are brought in line with the grants ---- */

static void settle(struct uring *u, struct gm_sock *sock)
{
    if (gm_core_wants_recv(sock)) {
        if ((sock->flags & U_RECV) == 0)
            arm_recv(u, sock);
    } else if (gm_core_paused(sock) && (sock->flags & U_RECV) == 0) {
        if ((sock->flags & U_HUP_SEEN) != 0)
            list_on(sock, &u->todo, U_TODO);
        else
            arm_poll(u, sock, OP_HUP, POLLRDHUP, U_HUP);
    }
}

static void settle_all(struct uring *u)
{
    struct gm_list *node;
    for (unsigned pool = 0; pool < GM_POOL_COUNT; pool++) {
        lend(u, (enum gm_pool)pool);
        if (!gm_list_empty(&u->ring->starved[pool]))
            feed_starved(u, (enum gm_pool)pool);
    }
    while ((node = gm_list_first(&u->dirty)) != NULL) {
        struct gm_sock *sock = GM_CONTAINER_OF(node, struct gm_sock, node);
        list_off(sock);
        settle(u, sock);
    }
    if (u->eventfd_spent)
        arm_eventfd(u);
}

/* ---- Ends ---- */

/* A listener's last act: what has been queued for it is still accepted. */
static void drain_listener(struct gm_sock *sock)
{
    int flags = fcntl(sock->fd, F_GETFL);
    if (flags < 0 || fcntl(sock->fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return;
    for (unsigned i = 0; i < DRAIN_MAX; i++) {
        int fd = accept4(sock->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            gm_core_accept(sock, fd);
        else if (errno != ECONNABORTED && errno != EINTR)
            return;
    }
}

static void try_finish(struct gm_sock *sock)
{
    if (sock->pending > 0 || (sock->flags & (GM_SOCK_CLOSING | GM_SOCK_DETACHING)) == 0 ||
        (sock->flags & GM_SOCK_FINISHED) != 0)
        return;
    list_off(sock);
    if ((sock->flags & GM_SOCK_LISTENER) != 0)
        drain_listener(sock);
    gm_core_finish(sock);
}

static void end_requests(struct gm_sock *sock)
{
    struct uring *u = uring_of(sock->ring);
    list_off(sock);
    if (sock->pending > 0)
        cancel_all(u, sock);
    else if ((sock->flags & GM_SOCK_LISTENER) != 0)
        list_on(sock, &u->todo, U_TODO); /* callbacks only from the loop */
    else
        gm_core_finish(sock);
}

static void run_todo(struct uring *u)
{
    struct gm_list list, *node;
    gm_list_init(&list);
    gm_list_splice_back(&list, &u->todo);
    while ((node = gm_list_first(&list)) != NULL) {
        struct gm_sock *sock = GM_CONTAINER_OF(node, struct gm_sock, node);
        list_off(sock);
        if ((sock->flags & GM_SOCK_LISTENER) != 0)
            try_finish(sock);
        else if (gm_core_paused(sock))
            gm_core_hangup(sock);
    }
}

/* ---- Completions ---- */

/* A descriptor from elsewhere may be non-blocking: then the kernel would not wait for bytes on our
 * behalf. */
static void make_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0)
        (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}

static void recv_failed(struct uring *u, enum gm_pool pool, struct gm_sock *sock, int error)
{
    struct lending *l = &u->lending[pool];
    switch (error) {
    case -ECANCELED:
    case -EINTR:
        break; /* re-armed by mark_dirty when it still has a grant */
    case -EAGAIN:
        make_blocking(sock->fd);
        break;
    case -ENOBUFS:
        gm_counter_add(GM_COUNTER_RECV_STARVED, 1);
        if (gm_store_free_count(&u->ring->store, (enum gm_store_pool)pool) > 0 &&
            l->target < l->entries)
            l->target *= 2u;
        if (gm_core_wants_recv(sock))
            list_on(sock, &u->ring->starved[pool], U_STARVED);
        break;
    default:
        gm_core_recv_failed(sock, error);
        break;
    }
}

static void on_recv(struct uring *u, enum gm_pool pool, struct gm_sock *sock,
                    const struct io_uring_cqe *cqe)
{
    gm_slice slice = take_filled(u, pool, cqe);
    if (GM_UNLIKELY(sock == NULL)) {
        gm_slice_put(slice);
        return;
    }
    bool more = (cqe->flags & IORING_CQE_F_MORE) != 0;
    if (sock->recv_armed != GM_RECV_UNLIMITED && cqe->res > 0)
        sock->recv_armed -= (uint32_t)cqe->res;
    if (!more) {
        u->bulk_count -= pool != sock->pool;
        sock->flags &= ~U_RECV;
        sock->recv_armed = 0;
        if (cqe->res > 0)
            mark_dirty(sock);
    }
    if (cqe->res > 0)
        gm_core_recv(sock, slice);
    else if (cqe->res == 0)
        gm_core_recv_end(sock, 0);
    else
        recv_failed(u, pool, sock, cqe->res);
    if (!more)
        mark_dirty(sock);
}

static void on_sent(struct uring *u, struct gm_sock *sock, int32_t res)
{
    size_t asked = (size_t)(uintptr_t)sock->backend;
    if (res == -EAGAIN || res == -EINTR || res == -ENOBUFS)
        res = 0;
    bool gone = (sock->flags & (GM_SOCK_CLOSING | GM_SOCK_DETACHING)) != 0;
    if (res >= 0 && (size_t)res < asked && !gone)
        arm_poll(u, sock, OP_OUT, POLLOUT, U_OUT);
    gm_core_sent(sock, res);
}

static void on_polled(struct gm_sock *sock, enum uring_op op, int32_t res)
{
    sock->flags &= op == OP_HUP ? ~U_HUP : ~U_OUT;
    if (res < 0)
        return; /* cancelled: the socket is going */
    if (op == OP_OUT) {
        gm_core_writable(sock);
        return;
    }
    sock->flags |= U_HUP_SEEN;
    mark_dirty(sock); /* told when it is paused, at the latest then */
    if (gm_core_paused(sock))
        gm_core_hangup(sock);
}

static void on_accepted(struct uring *u, struct gm_sock *sock, const struct io_uring_cqe *cqe)
{
    bool more = (cqe->flags & IORING_CQE_F_MORE) != 0;
    if (cqe->res >= 0)
        gm_core_accept(sock, cqe->res);
    if (more || (sock->flags & GM_SOCK_CLOSING) != 0)
        return;
    switch (cqe->res) {
    case -EMFILE:
    case -ENFILE:
    case -ENOMEM:
    case -ENOBUFS:
        list_on(sock, &u->refused, 0);
        gm_timer_set(u->ring, &u->refused_timer, u->ring->now_ns + ACCEPT_PAUSE_NS);
        return;
    case -EAGAIN:
        make_blocking(sock->fd);
        break;
    default:
        break;
    }
    arm_accept(u, sock);
}

static void on_refused_timer(struct gm_timer *timer)
{
    struct uring *u = GM_CONTAINER_OF(timer, struct uring, refused_timer);
    struct gm_list *node;
    while ((node = gm_list_pop_front(&u->refused)) != NULL)
        arm_accept(u, GM_CONTAINER_OF(node, struct gm_sock, node));
}

/* Completions that belong to no socket. */
static bool on_wake_up(struct uring *u, enum uring_op op, const struct io_uring_cqe *cqe)
{
    switch (op) {
    case OP_EVENTFD:
        if ((cqe->flags & IORING_CQE_F_MORE) == 0) {
            /* Emptied here, where we are awake: once `sleeping` is set, what is written there must
             * still be there when the watch is armed. */
            eventfd_t count;
            (void)eventfd_read(u->ring->wake_fd, &count);
            u->eventfd_spent = true;
        }
        gm_counter_add(GM_COUNTER_WAKES_RECEIVED, 1);
        return true;
    case OP_WAKE:
        gm_counter_add(GM_COUNTER_WAKES_RECEIVED, 1);
        return true;
    case OP_MSG_SENT: /* only failures are told */
        if (cqe->res < 0)
            (void)eventfd_write(u->ring->rings->ring[(uint32_t)cqe->user_data]->wake_fd, 1);
        return true;
    default:
        return false;
    }
}

static void dispatch(struct uring *u, const struct io_uring_cqe *cqe)
{
    enum uring_op op = (enum uring_op)(cqe->user_data >> 56);
    if (on_wake_up(u, op, cqe))
        return;
    struct gm_sock *sock = gm_core_find(u->ring, (uint32_t)cqe->user_data,
                                        (uint32_t)(cqe->user_data >> 32) & 0xffffffu);
    if (op <= OP_RECV_LINK) {
        if (sock != NULL && (cqe->flags & IORING_CQE_F_MORE) == 0)
            sock->pending--;
        on_recv(u, (enum gm_pool)op, sock, cqe);
        if (sock != NULL)
            try_finish(sock);
        return;
    }
    GM_ASSERT(sock != NULL); /* nothing is finished while a request is under way */
    if ((cqe->flags & IORING_CQE_F_MORE) == 0)
        sock->pending--;
    switch (op) {
    case OP_SEND:
        on_sent(u, sock, cqe->res);
        break;
    case OP_HUP:
    case OP_OUT:
        on_polled(sock, op, cqe->res);
        break;
    case OP_CONNECT:
        mark_dirty(sock);
        gm_core_connected(sock, cqe->res);
        break;
    case OP_ACCEPT:
        on_accepted(u, sock, cqe);
        break;
    case OP_CANCEL:
        /* Fewer were found than are under way: done already, or slipped past; ask again. */
        if (cqe->res < (int32_t)sock->pending)
            cancel_all(u, sock);
        break;
    default:
        GM_ASSERT(op < OP_COUNT);
        break;
    }
    try_finish(sock);
}

static void deliver(struct uring *u)
{
    unsigned head, count = 0;
    struct io_uring_cqe *cqe;
    if (GM_UNLIKELY((IO_URING_READ_ONCE(*u->uring.sq.kflags) & IORING_SQ_CQ_OVERFLOW) != 0))
        gm_counter_add(GM_COUNTER_CQ_OVERFLOWS, 1);
    io_uring_for_each_cqe(&u->uring, head, cqe)
    {
        struct io_uring_cqe copy = {
            .user_data = cqe->user_data, .res = cqe->res, .flags = cqe->flags};
        io_uring_cq_advance(&u->uring, 1);
        dispatch(u, &copy);
        if (++count == GM_TURN_EVENTS_MAX)
            break;
    }
}

/* ---- The vtable ---- */

static void uring_wait(struct gm_ring *ring, uint64_t timeout_ns)
{
    struct uring *u = uring_of(ring);
    struct io_uring_cqe *cqe;
    settle_all(u);
    if (!gm_list_empty(&u->todo))
        timeout_ns = 0;
    if (timeout_ns == 0 || io_uring_sq_ready(&u->uring) > 0 || io_uring_cq_ready(&u->uring) == 0)
        gm_counter_add(GM_COUNTER_ENTERS, 1);
    if (timeout_ns == 0) {
        (void)io_uring_submit_and_get_events(&u->uring);
    } else {
        struct __kernel_timespec wait = {.tv_sec = (long long)(timeout_ns / 1000000000u),
                                         .tv_nsec = (long long)(timeout_ns % 1000000000u)};
        (void)io_uring_submit_and_wait_timeout(&u->uring, &cqe, 1,
                                               timeout_ns == GM_WAIT_FOREVER ? NULL : &wait, NULL);
    }
    if (GM_LIKELY(io_uring_sq_ready(&u->uring) == 0))
        u->arena_used = 0;
    gm_core_woken(ring);
    if (!gm_list_empty(&u->todo))
        run_todo(u);
    deliver(u);
}

static void uring_wake(struct gm_ring *from, struct gm_ring *to)
{
    struct uring *u = from == NULL ? NULL : uring_of(from);
    if (u == NULL || !has(u, GM_URING_MSG_RING) || !has(u, GM_URING_CQE_SKIP)) {
        (void)eventfd_write(to->wake_fd, 1);
        return;
    }
    struct io_uring_sqe *sqe = take_sqe(u);
    io_uring_prep_msg_ring(sqe, uring_of(to)->uring.ring_fd, 0, mark_of(OP_WAKE, 0, 0), 0);
    sqe->user_data = mark_of(OP_MSG_SENT, 0, to->index);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

static int uring_attach(struct gm_sock *sock)
{
    mark_dirty(sock);
    return 0;
}

static void uring_recv(struct gm_sock *sock)
{
    if ((sock->flags & U_RECV) == 0)
        mark_dirty(sock);
}

static int uring_connect(struct gm_sock *sock, const union gm_addr *to)
{
    struct uring *u = uring_of(sock->ring);
    union gm_addr *copy = arena_take(u, sizeof *copy);
    *copy = *to;
    struct io_uring_sqe *sqe = take_sqe(u);
    io_uring_prep_connect(sqe, sock->fd, &copy->base, gm_addr_len(to));
    own(sock, sqe, OP_CONNECT);
    return 0;
}

static int uring_listen(struct gm_sock *sock, const union gm_addr *addr)
{
    (void)addr;
    arm_accept(uring_of(sock->ring), sock);
    return 0;
}

/* Never waits for the peer: MSG_DONTWAIT, and POLLOUT after a short one. */
static void uring_send(struct gm_sock *sock, const struct iovec *iov, unsigned count, bool more)
{
    struct uring *u = uring_of(sock->ring);
    int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0);
    struct io_uring_sqe *sqe;
    size_t total = 0;
    for (unsigned i = 0; i < count; i++)
        total += iov[i].iov_len;
    if (count == 1) {
        sqe = take_sqe(u);
        io_uring_prep_send(sqe, sock->fd, iov[0].iov_base, iov[0].iov_len, flags);
    } else {
        struct msghdr *msg = arena_take(u, sizeof *msg + 16u + count * sizeof *iov);
        struct iovec *copy = (struct iovec *)(void *)(msg + 1);
        memcpy(copy, iov, count * sizeof *iov);
        *msg = (struct msghdr){.msg_iov = copy, .msg_iovlen = count};
        sqe = take_sqe(u);
        io_uring_prep_sendmsg(sqe, sock->fd, msg, (unsigned)flags);
    }
    sock->backend = (void *)(uintptr_t)total; /* to know a short send when it comes back */
    own(sock, sqe, OP_SEND);
}

static void uring_close(struct gm_ring *ring)
{
    struct uring *u = uring_of(ring);
    io_uring_queue_exit(&u->uring);
    for (unsigned i = 0; i < GM_POOL_COUNT; i++)
        lending_fini(&u->lending[i]);
    free(u);
    ring->backend_state = NULL;
}

static int uring_open(struct gm_ring *ring, char *why)
{
    struct uring *u = aligned_alloc(64, (sizeof *u + 63u) & ~(size_t)63u);
    if (u == NULL) {
        gm_uring_explain(-ENOMEM, why, GM_WHY_BYTES);
        return -ENOMEM;
    }
    memset(u, 0, sizeof *u);
    u->ring = ring;
    u->features = ring->rings->features;
    gm_list_init(&u->dirty);
    gm_list_init(&u->todo);
    gm_list_init(&u->refused);
    gm_timer_init(&u->refused_timer, on_refused_timer);
    int r = gm_uring_ring_init(&u->uring, URING_ENTRIES, &u->features);
    if (r < 0) {
        free(u);
        gm_uring_explain(r, why, GM_WHY_BYTES);
        return r;
    }
    (void)io_uring_ring_dontfork(
        &u->uring); /* a child must not share it; where refused, we do not fork */
    ring->backend_state = u;
    for (unsigned i = 0; i < GM_POOL_COUNT && r >= 0; i++)
        r = lending_init(u, (enum gm_pool)i);
    if (r < 0) {
        uring_close(ring);
        gm_uring_explain(r, why, GM_WHY_BYTES);
        return r;
    }
    arm_eventfd(u);
    return 0;
}

const struct gm_backend gm_backend_uring = {
    .name = "io_uring",
    .kernel_fds = true,
    .open = uring_open,
    .close = uring_close,
    .attach = uring_attach,
    .connect = uring_connect,
    .listen = uring_listen,
    .recv = uring_recv,
    .send = uring_send,
    .sock_close = end_requests,
    .detach = end_requests,
    .wait = uring_wait,
    .wake = uring_wake,
};
