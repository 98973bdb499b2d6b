/* See harness.h. */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

const struct variant variants[] = {
    {GM_IO_URING, NULL},
    {GM_IO_URING, "all"},
    {GM_IO_URING, "defer-taskrun"},
    {GM_IO_URING, "defer-taskrun,coop-taskrun"},
    {GM_IO_URING, "registered-ring-fd"},
    {GM_IO_URING, "multishot-accept"},
    {GM_IO_URING, "multishot-recv"},
    {GM_IO_URING, "recv-limit"},
    {GM_IO_URING, "inc-buffers"},
    {GM_IO_URING, "recv-limit,inc-buffers"},
    {GM_IO_URING, "multishot-poll"},
    {GM_IO_URING, "msg-ring"},
    {GM_IO_URING, "cqe-skip"},
    {GM_IO_EPOLL, NULL},
};
GM_STATIC_ASSERT(sizeof variants / sizeof variants[0] == VARIANTS, "VARIANTS counts them");

#ifndef __SANITIZE_THREAD__
struct criterion_test_params variant_params(void)
{
    static int index[VARIANTS];
    const char *only = getenv("GM_VARIANT"); /* to look at one by hand */
    for (int i = 0; i < VARIANTS; i++)
        index[i] = only == NULL ? i : atoi(only);
    return cr_make_param_array(int, index, only == NULL ? VARIANTS : 1);
}
#endif

struct gm_rings *start(const struct variant *variant, uint32_t rings, uint64_t memory_bytes)
{
    struct gm_rings_config config = {.io = variant->io,
                                     .count = rings,
                                     .memory_bytes = memory_bytes,
                                     .socks_max = 4096,
                                     .features_off = variant->off};
    struct gm_rings *out = NULL;
    char why[GM_WHY_BYTES];
    int r = gm_rings_start(&config, NULL, &out, why);
    cr_assert(r == 0, "gm_rings_start: %d %s", r, why);
    return out;
}

static void nothing_leaked(struct gm_ring *ring, void *arg)
{
    (void)arg;
    cr_expect_eq(ring->socks_count, 0u);
    for (unsigned i = 0; i < GM_STORE_POOLS; i++) {
        const struct gm_pool_state *pool = &ring->store.pools[i];
        uint32_t filling = ring->backend == &gm_backend_epoll && i <= GM_STORE_LINK
                               ? 1u
                               : 0u; /* the one being filled */
        cr_expect(gm_pool_unheld(pool) + filling >= pool->count, "pool %u: %u of %u", i,
                  gm_pool_unheld(pool), pool->count);
    }
    cr_expect_eq(ring->store.segs.free_count, ring->store.segs.total_count);
}

void finish(struct gm_rings *rings)
{
    for (unsigned round = 0; round < 2; round++) /* returns by mail need a turn */
        for (uint32_t i = 0; i < gm_rings_count(rings); i++)
            on_ring(rings, i,
                    round == 0 ? (void (*)(struct gm_ring *, void *))short_pause : nothing_leaked,
                    NULL);
    gm_rings_stop(rings);
    gm_rings_join(rings);
}

struct call {
    struct gm_mail mail;
    void (*fn)(struct gm_ring *ring, void *arg);
    void *arg;
    struct gm_ring *ring;
    sem_t done;
};

static void call_deliver(struct gm_mail *mail)
{
    struct call *call = GM_CONTAINER_OF(mail, struct call, mail);
    call->fn(call->ring, call->arg);
    sem_post(&call->done);
}

void on_ring(struct gm_rings *rings, uint32_t index, void (*fn)(struct gm_ring *ring, void *arg),
             void *arg)
{
    struct call call = {.fn = fn, .arg = arg, .ring = gm_rings_get(rings, index)};
    call.mail.deliver = call_deliver;
    sem_init(&call.done, 0, 0);
    gm_rings_mail(rings, index, &call.mail);
    while (sem_wait(&call.done) != 0)
        continue;
    sem_destroy(&call.done);
}

void short_pause(void)
{
    struct timespec pause = {.tv_nsec = 500000};
    nanosleep(&pause, NULL);
}

/* ---- The recording socket
 * -----------------------------------------------------------------------------------------------------------------------
 */

static void evacuate(struct gm_holder *holder)
{
    struct rec *rec = GM_CONTAINER_OF(holder, struct rec, holder);
    gm_ring_evacuate(rec->sock.ring, &rec->held);
}

struct rec *rec_new(struct gm_rings *rings)
{
    struct rec *rec = calloc(1, sizeof *rec);
    rec->rings = rings;
    rec->data = mmap(NULL, REC_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    gm_holder_init(&rec->holder, evacuate);
    return rec;
}

void rec_free(struct rec *rec)
{
    munmap(rec->data, REC_BYTES);
    free(rec->source);
    free(rec);
}

static struct rec *rec_of(struct gm_sock *sock)
{
    return GM_CONTAINER_OF(sock, struct rec, sock);
}

static void rec_on_recv(struct gm_sock *sock, gm_slice slice)
{
    struct rec *rec = rec_of(sock);
    uint64_t at = rec->bytes;
    if (at + slice.len <= REC_BYTES)
        memcpy(rec->data + at, slice.data, slice.len);
    rec->slices++;
    if (rec->echo) {
        rec->source = realloc(rec->source, rec->to_send + slice.len);
        memcpy(rec->source + rec->to_send, slice.data, slice.len);
        rec->to_send += slice.len;
    }
    if (rec->keep)
        cr_assert(gm_chain_push(&rec->held, gm_ring_segs(sock->ring), slice) == 0);
    else
        gm_slice_put(slice);
    rec->bytes = at + slice.len;
    if (rec->echo)
        rec_pump(rec);
}
static void rec_on_recv_end(struct gm_sock *sock, int error)
{
    rec_of(sock)->end_error = error;
    rec_of(sock)->ends++;
}
static void rec_on_hangup(struct gm_sock *sock)
{
    rec_of(sock)->hangups++;
}
static void rec_on_sent(struct gm_sock *sock, ssize_t result)
{
    struct rec *rec = rec_of(sock);
    if (result < 0)
        rec->sent_error = (int)result;
    bool whole = result >= 0 && (uint64_t)result == rec->under_way;
    if (result > 0) {
        rec->position += (uint64_t)result;
        rec->sent_bytes += result;
    }
    rec->sents++;
    if (whole)
        rec_pump(rec);
}
static void rec_on_writable(struct gm_sock *sock)
{
    rec_of(sock)->writables++;
    rec_pump(rec_of(sock));
}
static void rec_on_connect(struct gm_sock *sock, int error)
{
    rec_of(sock)->connect_error = error;
    rec_of(sock)->connects++;
}
static void rec_on_closed(struct gm_sock *sock)
{
    rec_of(sock)->closes++;
}
static void rec_on_detached(struct gm_sock *sock, int fd)
{
    rec_of(sock)->detached_fd = fd;
    rec_of(sock)->detached++;
}
const struct gm_sock_ops rec_ops = {.on_recv = rec_on_recv,
                                    .on_recv_end = rec_on_recv_end,
                                    .on_hangup = rec_on_hangup,
                                    .on_sent = rec_on_sent,
                                    .on_writable = rec_on_writable,
                                    .on_connect = rec_on_connect,
                                    .on_closed = rec_on_closed,
                                    .on_detached = rec_on_detached};

void rec_open(struct rec *rec, struct gm_ring *ring, int fd)
{
    cr_assert(gm_sock_open(ring, &rec->sock, fd, &rec_ops) == 0);
}

/* In several pieces, so that gathering is tested as well. */
void rec_pump(struct rec *rec)
{
    if (gm_sock_sending(&rec->sock) || !gm_sock_is_open(&rec->sock) ||
        rec->position == rec->to_send)
        return;
    uint64_t left = rec->to_send - rec->position;
    uint8_t *at = rec->source + rec->position;
    struct iovec iov[3];
    if (left > 256u << 10)
        left = 256u << 10;
    unsigned count = 0;
    uint64_t done = 0;
    for (; count < 3 && done < left; count++) {
        uint64_t n = count == 2 ? left - done : (left - done + 2) / 3;
        iov[count] = (struct iovec){at + done, n};
        done += n;
    }
    rec->under_way = done;
    cr_assert(gm_sock_send(&rec->sock, iov, count, false) == 0);
}

/* ---- Peers
 * ------------------------------------------------------------------------------------------------------------------------------------------
 */

void tcp_pair(int fd[2])
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(listener >= 0 && bind(listener, (struct sockaddr *)&addr, len) == 0 &&
              listen(listener, 8) == 0);
    cr_assert(getsockname(listener, (struct sockaddr *)&addr, &len) == 0);
    fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(fd[0] >= 0 && connect(fd[0], (struct sockaddr *)&addr, len) == 0);
    fd[1] = accept(listener, NULL, NULL);
    cr_assert(fd[1] >= 0);
    setsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd[1], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd[0], F_SETFL, fcntl(fd[0], F_GETFL) | O_NONBLOCK);
    close(listener);
}

void write_pattern(int fd, uint64_t from, size_t len)
{
    uint8_t bytes[65536];
    while (len > 0) {
        size_t n = len < sizeof bytes ? len : sizeof bytes;
        for (size_t i = 0; i < n; i++)
            bytes[i] = pattern(from + i);
        ssize_t taken = send(fd, bytes, n, MSG_NOSIGNAL);
        if (taken < 0) {
            cr_assert(errno == EAGAIN, "send: %s", strerror(errno));
            struct pollfd p = {fd, POLLOUT, 0};
            cr_assert(poll(&p, 1, 10000) == 1, "the peer does not read");
            continue;
        }
        from += (uint64_t)taken;
        len -= (size_t)taken;
    }
}

bool is_pattern(const uint8_t *data, uint64_t from, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (data[i] != pattern(from + i))
            return false;
    return true;
}
