/* The half of a socket that all back-ends share: its row in the table, its grant, what may still be
 * told to its owner, its end.
 *
 * Owner: the ring. Invariants: a row is in use from gm_sock_open until just before on_closed or
 * on_detached; its generation grows with each use; after gm_sock_close nothing but on_closed is
 * told; on_recv_end and on_hangup are told once. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ring/internal.h"

#define GENERATION_MASK 0xffffffu
#define NO_SLOT         UINT32_MAX
/* Connections waiting to be accepted; the kernel caps it at net.core.somaxconn. */
#define LISTEN_BACKLOG 4096

/* ---- The table ---- */

static bool slot_take(struct gm_ring *ring, struct gm_sock *sock)
{
    uint32_t index = ring->slot_free;
    if (index != NO_SLOT)
        ring->slot_free = ring->slots[index].link;
    else if (ring->slot_fresh < ring->socks_max)
        index = ring->slot_fresh++;
    else
        return false;
    struct gm_slot *slot = &ring->slots[index];
    slot->sock = sock;
    slot->link = (uint32_t)sock->fd;
    sock->index = index;
    ring->socks_count++;
    return true;
}

static void slot_give(struct gm_sock *sock)
{
    struct gm_ring *ring = sock->ring;
    struct gm_slot *slot = &ring->slots[sock->index];
    GM_ASSERT(slot->sock == sock);
    slot->sock = NULL;
    slot->generation = (slot->generation + 1u) & GENERATION_MASK;
    slot->link = ring->slot_free;
    ring->slot_free = sock->index;
    ring->socks_count--;
}

static int sock_enter(struct gm_ring *ring, struct gm_sock *sock, int fd,
                      const struct gm_sock_ops *ops)
{
    GM_ASSERT(gm_ring_current == ring);
    *sock = (struct gm_sock){.ops = ops, .ring = ring, .fd = fd, .flags = GM_SOCK_OPEN};
    gm_list_init(&sock->node);
    if (slot_take(ring, sock))
        return 0;
    sock->flags = 0;
    return -GM_E_NOMEM;
}

static void sock_leave(struct gm_sock *sock)
{
    sock->flags &= ~GM_SOCK_OPEN;
    gm_list_remove(&sock->node);
    slot_give(sock);
}

static int set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) == 0 ? 0 : -errno;
}

/* ---- Opening ---- */

int gm_sock_open(struct gm_ring *ring, struct gm_sock *sock, int fd, const struct gm_sock_ops *ops)
{
    int r = sock_enter(ring, sock, fd, ops);
    if (r < 0)
        return r;
    r = ring->backend->attach(sock);
    if (r < 0)
        sock_leave(sock);
    return r;
}

/* A socket for `to`; NODELAY, because a flush is already one gathered send. */
static int dial_fd(const union gm_addr *to)
{
    int fd = socket(to->base.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (to->base.sa_family != AF_UNIX)
        (void)set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    return fd;
}

int gm_sock_connect(struct gm_ring *ring, struct gm_sock *sock, const union gm_addr *to,
                    const struct gm_sock_ops *ops)
{
    int fd = ring->backend->kernel_fds ? dial_fd(to) : -1;
    if (fd < 0 && ring->backend->kernel_fds)
        return fd;
    int r = sock_enter(ring, sock, fd, ops);
    if (r < 0)
        goto fail_enter;
    sock->flags |= GM_SOCK_CONNECTING;
    r = ring->backend->connect(sock, to);
    if (r < 0)
        goto fail_connect;
    gm_counter_add(GM_COUNTER_CONNECTS, 1);
    return 0;
fail_connect:
    sock_leave(sock);
fail_enter:
    if (fd >= 0)
        (void)close(fd);
    return r;
}

static int listen_fd(const union gm_addr *addr)
{
    sa_family_t family = addr->base.sa_family;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int r = 0;
    if (family != AF_UNIX) {
        r = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        if (r == 0)
            r = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
        if (r == 0)
            r = set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1); /* accepted sockets inherit it */
        if (r == 0 && family == AF_INET6)
            r = set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    }
    if (r == 0 && bind(fd, &addr->base, gm_addr_len(addr)) != 0)
        r = -errno;
    if (r == 0 && listen(fd, LISTEN_BACKLOG) != 0)
        r = -errno;
    if (r == 0)
        return fd;
    (void)close(fd);
    return r;
}

static const struct gm_sock_ops listener_ops; /* a listener's socket tells nothing by itself */

int gm_listener_open(struct gm_ring *ring, struct gm_listener *listener, const union gm_addr *addr)
{
    int fd = ring->backend->kernel_fds ? listen_fd(addr) : -1;
    if (fd < 0 && ring->backend->kernel_fds)
        return fd;
    int r = sock_enter(ring, &listener->sock, fd, &listener_ops);
    if (r < 0)
        goto fail_enter;
    listener->sock.flags |= GM_SOCK_LISTENER;
    r = ring->backend->listen(&listener->sock, addr);
    if (r < 0)
        goto fail_listen;
    return 0;
fail_listen:
    sock_leave(&listener->sock);
fail_enter:
    if (fd >= 0)
        (void)close(fd);
    return r;
}

uint16_t gm_listener_port(const struct gm_listener *listener)
{
    const struct gm_backend *backend = listener->sock.ring->backend;
    if (backend->port != NULL)
        return backend->port(listener);
    union gm_addr addr = {0};
    socklen_t len = sizeof addr;
    if (getsockname(listener->sock.fd, &addr.base, &len) != 0)
        return 0;
    if (addr.base.sa_family == AF_INET)
        return ntohs(addr.in.sin_port);
    return addr.base.sa_family == AF_INET6 ? ntohs(addr.in6.sin6_port) : 0;
}

/* ---- What the owner asks ---- */

bool gm_sock_is_open(const struct gm_sock *sock)
{
    return (sock->flags & (GM_SOCK_OPEN | GM_SOCK_CLOSING | GM_SOCK_DETACHING)) == GM_SOCK_OPEN;
}

void gm_sock_recv(struct gm_sock *sock, enum gm_pool pool, uint64_t bytes)
{
    GM_ASSERT(gm_sock_is_open(sock) && gm_ring_current == sock->ring);
    GM_ASSERT((sock->flags & GM_SOCK_POOL_SET) == 0 || sock->pool == pool);
    sock->pool = (uint8_t)pool;
    sock->flags |= GM_SOCK_POOL_SET;
    if (bytes == 0 || (sock->flags & GM_SOCK_RECV_ENDED) != 0)
        return;
    bool overflows = bytes >= GM_RECV_UNLIMITED - sock->recv_grant;
    sock->recv_grant = overflows ? GM_RECV_UNLIMITED : sock->recv_grant + bytes;
    sock->ring->backend->recv(sock);
}

uint64_t gm_sock_recv_left(const struct gm_sock *sock)
{
    return sock->recv_grant;
}

void gm_sock_set_records(struct gm_sock *sock)
{
    sock->flags |= GM_SOCK_RECORDS;
}

int gm_sock_send(struct gm_sock *sock, const struct iovec *iov, unsigned count, bool more)
{
    GM_ASSERT(gm_sock_is_open(sock) && (sock->flags & (GM_SOCK_CONNECTING | GM_SOCK_SHUT)) == 0);
    GM_ASSERT(count > 0 && count <= GM_SEND_IOV && gm_ring_current == sock->ring);
    if ((sock->flags & GM_SOCK_SENDING) != 0)
        return -EAGAIN;
    sock->flags |= GM_SOCK_SENDING;
    gm_counter_add(GM_COUNTER_SEND_CALLS, 1);
    sock->ring->backend->send(sock, iov, count, more);
    return 0;
}

bool gm_sock_sending(const struct gm_sock *sock)
{
    return (sock->flags & GM_SOCK_SENDING) != 0;
}

static void shut_now(struct gm_sock *sock)
{
    if (!sock->ring->backend->kernel_fds)
        sock->ring->backend->shutdown(sock);
    else
        (void)shutdown(sock->fd,
                       SHUT_WR); /* ENOTCONN: the peer was faster, and its end is told anyway */
}

void gm_sock_shutdown(struct gm_sock *sock)
{
    GM_ASSERT(gm_sock_is_open(sock) && (sock->flags & GM_SOCK_CONNECTING) == 0);
    if ((sock->flags & GM_SOCK_SHUT) != 0)
        return;
    sock->flags |= GM_SOCK_SHUT;
    if ((sock->flags & GM_SOCK_SENDING) == 0)
        shut_now(sock);
}

/* Closing a descriptor with lingering on and no time left sends RST. */
static void arm_reset(struct gm_sock *sock)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (sock->ring->backend->kernel_fds)
        (void)setsockopt(sock->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

void gm_sock_close(struct gm_sock *sock, bool reset)
{
    GM_ASSERT((sock->flags & (GM_SOCK_OPEN | GM_SOCK_LISTENER)) == GM_SOCK_OPEN &&
              gm_ring_current == sock->ring);
    if ((sock->flags & GM_SOCK_CLOSING) != 0)
        return;
    sock->flags |= GM_SOCK_CLOSING;
    if (reset) {
        sock->flags |= GM_SOCK_RESET;
        arm_reset(sock);
    }
    gm_counter_add(GM_COUNTER_CLOSES, 1);
    if ((sock->flags & GM_SOCK_DETACHING) != 0)
        return; /* the back-end is giving it up already; it ends closed instead of handed over */
    sock->ring->backend->sock_close(sock);
}

void gm_sock_detach(struct gm_sock *sock)
{
    GM_ASSERT(gm_sock_is_open(sock) &&
              (sock->flags & (GM_SOCK_SENDING | GM_SOCK_CONNECTING | GM_SOCK_LISTENER)) == 0);
    sock->flags |= GM_SOCK_DETACHING;
    sock->ring->backend->detach(sock);
}

void gm_listener_close(struct gm_listener *listener)
{
    struct gm_sock *sock = &listener->sock;
    GM_ASSERT((sock->flags & GM_SOCK_OPEN) != 0 && gm_ring_current == sock->ring);
    if ((sock->flags & GM_SOCK_CLOSING) != 0)
        return;
    sock->flags |= GM_SOCK_CLOSING;
    sock->ring->backend->sock_close(sock);
}

void gm_sock_set_lowat(struct gm_sock *sock, uint32_t bytes)
{
    if (!sock->ring->backend->kernel_fds)
        return;
    int value = bytes > INT32_MAX ? INT32_MAX : (int)bytes;
    (void)set_option(sock->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT,
                     value); /* not TCP: nothing to keep low */
}

void gm_ring_close_fd(struct gm_ring *ring, int fd)
{
    if (ring->backend->close_fd != NULL)
        ring->backend->close_fd(ring, fd);
    else
        (void)close(fd);
}

void gm_sock_peer(const struct gm_sock *sock, union gm_addr *out)
{
    memset(out, 0, sizeof *out);
    if (sock->ring->backend->peer != NULL) {
        sock->ring->backend->peer(sock, out);
        return;
    }
    socklen_t len = sizeof *out;
    if (getpeername(sock->fd, &out->base, &len) != 0)
        out->base.sa_family = AF_UNSPEC;
}

/* ---- What back-ends deliver ---- */

static bool may_tell(const struct gm_sock *sock)
{
    return (sock->flags & GM_SOCK_CLOSING) == 0;
}

void gm_core_recv(struct gm_sock *sock, gm_slice slice)
{
    GM_ASSERT(slice.len > 0 && slice.len <= sock->recv_grant);
    if (sock->recv_grant != GM_RECV_UNLIMITED)
        sock->recv_grant -= slice.len;
    bool filled = slice.data + slice.len == slice.buf->data + slice.buf->size;
    if (filled || slice.len >= GM_CLIENT_BUF_BYTES)
        sock->flags |= GM_SOCK_BULK;
    else
        sock->flags &= ~GM_SOCK_BULK;
    gm_counter_add(GM_COUNTER_RECV_COMPLETIONS, 1);
    gm_counter_add(GM_COUNTER_RECV_BYTES, slice.len);
    if (!may_tell(sock))
        gm_slice_put(slice);
    else
        sock->ops->on_recv(sock, slice);
}

void gm_core_recv_end(struct gm_sock *sock, int error)
{
    if ((sock->flags & GM_SOCK_RECV_ENDED) != 0)
        return;
    sock->flags |= GM_SOCK_RECV_ENDED;
    sock->recv_grant = 0;
    if (may_tell(sock))
        sock->ops->on_recv_end(sock, error);
}

void gm_core_recv_failed(struct gm_sock *sock, int error)
{
    bool message = error == -EIO && (sock->flags & GM_SOCK_RECORDS) != 0 && may_tell(sock);
    if (!message)
        gm_core_recv_end(sock, error);
    else if (!sock->ops->on_message(sock))
        sock->flags |= GM_SOCK_RECV_ENDED;
}

void gm_core_hangup(struct gm_sock *sock)
{
    if ((sock->flags & GM_SOCK_HUNG_UP) != 0)
        return;
    sock->flags |= GM_SOCK_HUNG_UP;
    if (may_tell(sock))
        sock->ops->on_hangup(sock);
}

void gm_core_sent(struct gm_sock *sock, ssize_t result)
{
    GM_ASSERT((sock->flags & GM_SOCK_SENDING) != 0);
    sock->flags &= ~GM_SOCK_SENDING;
    if (result > 0)
        gm_counter_add(GM_COUNTER_SEND_BYTES, (uint64_t)result);
    if (!may_tell(sock))
        return;
    if ((sock->flags & GM_SOCK_SHUT) != 0)
        shut_now(sock);
    sock->ops->on_sent(sock, result);
}

void gm_core_writable(struct gm_sock *sock)
{
    if (may_tell(sock))
        sock->ops->on_writable(sock);
}

void gm_core_connected(struct gm_sock *sock, int error)
{
    if (error == 0)
        sock->flags &= ~GM_SOCK_CONNECTING;
    if (may_tell(sock))
        sock->ops->on_connect(sock, error);
}

void gm_core_accept(struct gm_sock *sock, int fd)
{
    struct gm_listener *listener = GM_CONTAINER_OF(sock, struct gm_listener, sock);
    GM_ASSERT((sock->flags & GM_SOCK_LISTENER) != 0);
    gm_counter_add(GM_COUNTER_ACCEPTS, 1);
    listener->on_accept(listener, fd);
}

void gm_core_finish(struct gm_sock *sock)
{
    GM_ASSERT((sock->flags & (GM_SOCK_CLOSING | GM_SOCK_DETACHING)) != 0 &&
              (sock->flags & GM_SOCK_FINISHED) == 0);
    sock->flags |= GM_SOCK_FINISHED;
    gm_list_remove(&sock->node);
    gm_list_push_back(&sock->ring->finished, &sock->node);
}

static void finish_one(struct gm_sock *sock)
{
    bool closing = (sock->flags & GM_SOCK_CLOSING) != 0,
         listener = (sock->flags & GM_SOCK_LISTENER) != 0;
    int fd = sock->fd;
    sock_leave(sock);
    sock->fd = -1;
    if (closing && sock->ring->backend->kernel_fds)
        (void)close(fd);
    if (!closing) {
        sock->ops->on_detached(sock, fd);
    } else if (listener) {
        struct gm_listener *owner = GM_CONTAINER_OF(sock, struct gm_listener, sock);
        owner->on_closed(owner);
    } else {
        sock->ops->on_closed(sock);
    }
}

void gm_core_finish_all(struct gm_ring *ring)
{
    struct gm_list ready, *node;
    gm_list_init(&ready);
    gm_list_splice_back(&ready, &ring->finished);
    while ((node = gm_list_pop_front(&ready)) != NULL)
        finish_one(GM_CONTAINER_OF(node, struct gm_sock, node));
}
