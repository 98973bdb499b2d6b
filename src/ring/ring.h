/* The ring runtime: one event loop per thread, completion-shaped, behind one narrow header.
 *
 * A ring owns its listeners, sockets, timers and buffers; nothing it owns is touched by another
 * thread, except its mailbox. Three back-ends (io_uring, epoll, simulation) stand behind this
 * header and cannot be told apart from above. Every function runs on the ring's own thread unless
 * its comment says otherwise. Callbacks never run inside the call that asked for them: always
 * later, from the loop.
 *
 * One turn of the loop:
 *   1. wait (or poll) for completions and deliver them: receives, sends, accepts, connects;
 *   2. deliver mail from other rings;
 *   3. expired timers (judged after the completions, so that an answer that has arrived always
 * beats its deadline);
 *   4. `soon` tasks until none is left;
 *   5. `flush` tasks: each dirty connection builds its one gathered send;
 *   6. evacuation, when buffers are short; publish mail to other rings; submit everything with one
 * system call. */
#ifndef GM_RING_RING_H
#define GM_RING_RING_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#include "base/chain.h"
#include "base/error.h"
#include "base/list.h"
#include "base/mail.h"
#include "base/slice.h"

struct gm_ring;
struct gm_rings;
struct iovec;

/* ---- The set of rings ---- */

#define GM_RINGS_MAX 256u

enum gm_io { GM_IO_AUTO, GM_IO_URING, GM_IO_EPOLL, GM_IO_SIM };

struct gm_rings_config {
    enum gm_io io;
    uint32_t count;        /* 0: as many as the affinity mask and the cgroup quota allow */
    uint64_t memory_bytes; /* --ring-memory: receive pools, blocks, segments of one ring; at least
                              GM_RING_MEMORY_MIN */
    uint32_t socks_max;    /* sockets of one ring; 0: RLIMIT_NOFILE divided by the rings */
    const char *features_off; /* --io-disable: comma-separated names of optional kernel features, or
                                 "all"; NULL: none. Borrowed. */
    bool pin;                 /* pin where the affinity mask is ours alone */
    struct gm_sim *sim;       /* GM_IO_SIM only: the network and its clock (ring/sim.h) */
};
#define GM_RING_MEMORY_MIN (8u << 20)

/* Called on each ring's own thread. `init` before its first turn (failure, a negative value, stops
 * the start), `fini` after its last. */
struct gm_rings_ops {
    int (*init)(struct gm_ring *ring, void *arg);
    void (*fini)(struct gm_ring *ring, void *arg);
    void *arg;
};

/* Starts `count` threads with a ring each and returns when all have run `init`. *out is owned by
 * the caller until gm_rings_join; it is set before the first `init` runs, for rings take requests
 * before this returns. On failure it is NULL, nothing is left running and `why` (at least 512
 * bytes) holds the cause and the cure in words (sysctl, seccomp, memlock, old kernel). GM_IO_SIM:
 * no thread is started; the rings run when the simulation steps. */
int gm_rings_start(const struct gm_rings_config *config, const struct gm_rings_ops *ops,
                   struct gm_rings **out, char *why) GM_WARN_UNUSED;
/* Any thread: asks every ring to end after its current turn. */
void gm_rings_stop(struct gm_rings *rings);
/* Waits for the threads and frees everything. */
void gm_rings_join(struct gm_rings *rings);

uint32_t gm_rings_count(const struct gm_rings *rings);
/* "io_uring" or "epoll" or "sim"; what the rings really run on. Any thread. */
const char *gm_rings_backend(const struct gm_rings *rings);
/* One line: back-end, optional features found and those switched off; for the start-up log. Any
 * thread. Borrowed. */
const char *gm_rings_describe(const struct gm_rings *rings);
/* How many rings gm_rings_start would choose for count 0. */
uint32_t gm_rings_default_count(void);

struct gm_counter_set;
/* The raw counters: block i belongs to ring i, the last one to the control thread, which attaches
 * itself. Any thread. */
struct gm_counter_set *gm_rings_counters(struct gm_rings *rings);
struct gm_ring *gm_rings_get(struct gm_rings *rings, uint32_t index);
uint32_t gm_ring_index(const struct gm_ring *ring);
struct gm_rings *gm_ring_rings(const struct gm_ring *ring);
/* One pointer for the program above (its per-ring context). Set in `init`. */
void gm_ring_set_user(struct gm_ring *ring, void *user);
void *gm_ring_user(const struct gm_ring *ring);

/* ---- Time, chance ---- */

/* Monotonic nanoseconds, read once per turn. */
uint64_t gm_ring_now_ns(const struct gm_ring *ring);
/* Seconds since 1970, read once per turn. */
int64_t gm_ring_wall_s(const struct gm_ring *ring);
/* How long the turn before this one kept the loop from looking (CPU throttling, a stopped process);
 * 0 when below 1 s. Deadlines on a peer's silence must be re-armed when it is not 0. */
uint64_t gm_ring_gap_ns(const struct gm_ring *ring);
/* Cryptographically strong bytes from a per-ring reservoir (no system call per use); from the seed
 * in a simulation. */
void gm_ring_random(struct gm_ring *ring, void *out, size_t len);

struct gm_timer {
    struct gm_list node;
    uint64_t deadline_ns; /* when to call on_expire; only ever read by the wheel when the slot comes
                             round */
    uint64_t slot_ns;     /* the wheel's own: where the node sits */
    void (*on_expire)(struct gm_timer *timer);
};
#define GM_TICK_NS 4000000ull /* 4 ms: far below every deadline we keep, far above a turn */

void gm_timer_init(struct gm_timer *timer, void (*on_expire)(struct gm_timer *timer));
/* (Re)arms. Moving a deadline later is one store: the node moves when its old slot fires. Never
 * early, at most two ticks late. */
void gm_timer_set(struct gm_ring *ring, struct gm_timer *timer, uint64_t deadline_ns);
void gm_timer_cancel(struct gm_timer *timer);
static inline bool gm_timer_armed(const struct gm_timer *timer)
{
    return !gm_list_empty(&timer->node);
}

/* ---- Work within a turn ---- */

struct gm_task {
    struct gm_list node;
    void (*run)(struct gm_task *task);
};
void gm_task_init(struct gm_task *task, void (*run)(struct gm_task *task));
/* Runs in step 4 of this turn (once, however often it is asked for). */
void gm_ring_soon(struct gm_ring *ring, struct gm_task *task);
/* Runs in step 5 of this turn. */
void gm_ring_flush(struct gm_ring *ring, struct gm_task *task);
void gm_task_cancel(struct gm_task *task);

/* ---- Mail ---- */

/* Appends to the chain for ring `to`, published with one atomic exchange at the end of the turn;
 * the consumer is woken only if it sleeps. `mail` is taken until its `deliver` runs on ring `to`.
 * Mail to oneself is delivered next turn. Order per (from, to) pair is kept. */
void gm_ring_mail(struct gm_ring *from, uint32_t to, struct gm_mail *mail);
/* The same from any other thread (the control thread); published and, if need be, woken at once. */
void gm_rings_mail(struct gm_rings *rings, uint32_t to, struct gm_mail *mail);

/* ---- Memory ---- */

/* Receive pools: who fills them. Links have their own, so that a full client pool never stops
 * credits, cancels and pongs. While they leave half of it over, others with much to receive fill
 * theirs, too: a slice may be as long as GM_LINK_BUF_BYTES whatever the pool. */
enum gm_pool { GM_POOL_CLIENT, GM_POOL_LINK, GM_POOL_COUNT };
#define GM_CLIENT_BUF_BYTES                                                                        \
    16384u /* = the largest DATA frame: a receive is never cut to be framed */
/* A smaller one means more turns, sends and wake-ups; a larger one has left the cache before it is
 * sent. 1 GiB through server and agent, CPU time of both: with 64 KiB 1.09 (up) and 1.11 (down) of
 * this, with 256 KiB 1.11 and 1.04. */
#define GM_LINK_BUF_BYTES 131072u

/* Blocks: memory we write ourselves (cork, heads, evacuated payload). Released like any buffer, by
 * gm_buf_put. */
enum gm_block {
    GM_BLOCK_SMALL,
    GM_BLOCK_HEAD,
    GM_BLOCK_CREDIT, /* as large as a small one, of the store that gm_ring_reserve counts: for
                        whoever turns reserved bytes into other bytes (TLS) */
    GM_BLOCK_SPARE,  /* GM_CLIENT_BUF_BYTES in one piece: a client's receive buffer, while receiving
                        leaves half of them over; else NULL. Who keeps it is a holder */
    GM_BLOCK_COUNT
};
#define GM_BLOCK_SMALL_BYTES 4096u
#define GM_BLOCK_HEAD_BYTES                                                                        \
    (65536u + 4096u) /* the largest head, encoded or as text, and what its writer adds */
/* One reference to a free block, or NULL when the pool is empty (shed load). Contents undefined;
 * poisoned while free under ASan. */
struct gm_buf *gm_ring_block(struct gm_ring *ring, enum gm_block kind) GM_WARN_UNUSED;
/* How many of that kind there are, free or not. */
uint32_t gm_ring_block_count(const struct gm_ring *ring, enum gm_block kind);
struct gm_seg_pool *gm_ring_segs(struct gm_ring *ring);

/* Rows in the ring's table, of GM_SOCK_ROW_BYTES each: sockets that it can have at once. */
uint32_t gm_ring_socks_max(const struct gm_ring *ring);
#define GM_SOCK_ROW_BYTES 16u

/* Desks: working room for what a connection needs only while it has something to do, so that an
 * idle one costs nothing of it. Taken when that begins, given back when it is over. There are
 * GM_DESKS_PER_SOCK for every socket of the ring, one for net/ and one for whoever is above: who
 * keeps to that is never refused. Contents undefined. */
#define GM_DESK_BYTES     128u
#define GM_DESKS_PER_SOCK 2u
void *gm_ring_desk(struct gm_ring *ring);
/* Takes it. */
void gm_ring_desk_give(struct gm_ring *ring, void *desk);

/* Credit is a reservation: payload bytes this ring has promised to hold, counted against its block
 * store in whole blocks. True and counted, or false and nothing changed. What has been reserved can
 * always be evacuated into blocks: that is what makes the promise good. */
bool gm_ring_reserve(struct gm_ring *ring, size_t bytes) GM_WARN_UNUSED;
/* The same for more of what has some: only out of the first half of the budget. The other half is
 * for those who begin, however much the ones who are here could use. */
bool gm_ring_reserve_more(struct gm_ring *ring, size_t bytes) GM_WARN_UNUSED;
/* As much again as `reserved`, up to `most` together, if gm_ring_reserve_more has it. Returns what
 * is reserved then. */
uint32_t gm_ring_reserve_double(struct gm_ring *ring, uint32_t reserved,
                                uint32_t most) GM_WARN_UNUSED;
void gm_ring_unreserve(struct gm_ring *ring, size_t bytes);
/* What can still be reserved, and the whole. */
size_t gm_ring_reservable(const struct gm_ring *ring);
size_t gm_ring_reserve_total(const struct gm_ring *ring);

/* Whoever keeps slices beyond the turn in which they came registers a holder. When a receive pool
 * (this ring's, or that of another ring whose buffers we hold) runs short, `evacuate` is called in
 * step 6, holders in turn, until it is well again: it must move its slices into blocks
 * (gm_ring_evacuate) or release them. */
struct gm_holder {
    struct gm_list node;
    void (*evacuate)(struct gm_holder *holder);
};
void gm_holder_init(struct gm_holder *holder, void (*evacuate)(struct gm_holder *holder));
void gm_ring_hold(struct gm_ring *ring, struct gm_holder *holder);
void gm_ring_unhold(struct gm_holder *holder);
/* Copies every slice of the chain that lies in a receive pool into packed blocks and releases the
 * originals; order and bytes stay. Counted as evacuations and large copies. What cannot be moved
 * for want of a block stays as it was. */
void gm_ring_evacuate(struct gm_ring *ring, struct gm_chain *chain);

/* ---- Sockets ---- */

union gm_addr {
    struct sockaddr base;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
};
socklen_t gm_addr_len(const union gm_addr *addr);
/* "192.0.2.1:80", "[::1]:80", "unix:/path"; always NUL-terminated. Any thread. */
void gm_addr_text(const union gm_addr *addr, char *out, size_t cap);

struct gm_sock;
struct gm_sock_ops {
    /* Takes the slice. Never empty. */
    void (*on_recv)(struct gm_sock *sock, gm_slice slice);
    /* The peer has ended its direction (0) or the connection broke (negative errno). Once; nothing
     * is received after it. */
    void (*on_recv_end)(struct gm_sock *sock, int error);
    /* Only after gm_sock_set_records: what comes next is no payload and must be fetched from the
     * descriptor in the callback (false: it could not be, nothing is received any more). */
    bool (*on_message)(struct gm_sock *sock);
    /* Receiving is paused (no grant left) and the peer has gone or half-closed; bytes may still lie
     * unread before the end. Once. */
    void (*on_hangup)(struct gm_sock *sock);
    /* The send under way is over: bytes taken (>= 0, perhaps fewer than given) or negative errno.
     * The iovecs and their bytes are free. When fewer were taken, on_writable follows as soon as
     * there is room again. */
    void (*on_sent)(struct gm_sock *sock, ssize_t result);
    void (*on_writable)(struct gm_sock *sock);
    /* The connect is over: 0 or negative errno. */
    void (*on_connect)(struct gm_sock *sock, int error);
    /* Nothing of the socket is left in the kernel or in the ring; its memory may be reused. */
    void (*on_closed)(struct gm_sock *sock);
    /* gm_sock_detach is done: the descriptor is the caller's, the sock's memory may be reused. */
    void (*on_detached)(struct gm_sock *sock, int fd);
};

/* Embedded in its owner; fields are the ring's own. */
struct gm_sock {
    const struct gm_sock_ops *ops;
    struct gm_ring *ring;
    uint64_t recv_grant; /* bytes that may still be received; GM_RECV_UNLIMITED */
    uint64_t recv_armed; /* bytes of the grant that an operation under way may use */
    struct gm_list node; /* starved list, or the back-end's own */
    int32_t fd;
    uint32_t index; /* slot in the ring's table */
    uint32_t flags;
    uint8_t pool, pending;
    uint16_t reserved;
    void *backend; /* back-end's own (simulation) */
};
#define GM_RECV_UNLIMITED UINT64_MAX

/* Takes the descriptor (non-blocking or not) into the ring. Nothing is received until a grant.
 * -GM_E_NOMEM: table full, the descriptor stays the caller's. */
int gm_sock_open(struct gm_ring *ring, struct gm_sock *sock, int fd,
                 const struct gm_sock_ops *ops) GM_WARN_UNUSED;
/* Creates a socket and connects it; on_connect tells. TCP_NODELAY set. `source` may be NULL. */
int gm_sock_connect(struct gm_ring *ring, struct gm_sock *sock, const union gm_addr *to,
                    const struct gm_sock_ops *ops) GM_WARN_UNUSED;
/* Allows `bytes` more to be received into `pool` (GM_RECV_UNLIMITED: without end). The sum of the
 * grants is never exceeded, by a byte: what a grant promises, the owner has reserved. The pool is
 * fixed by the first grant. */
void gm_sock_recv(struct gm_sock *sock, enum gm_pool pool, uint64_t bytes);
/* Grant not yet used. */
uint64_t gm_sock_recv_left(const struct gm_sock *sock);
/* From now on the kernel opens records on this socket (kernel TLS): a receive that fails with EIO
 * means on_message, and a short one does not mean that there is nothing more. */
void gm_sock_set_records(struct gm_sock *sock);
/* Starts the one send that may be under way: at most GM_SEND_IOV entries (the array is borrowed for
 * the call, the bytes until on_sent, or until on_closed when closed meanwhile). on_sent comes in
 * the same or the next turn: a send never waits for the peer. `more`: further bytes follow at once
 * (MSG_MORE). -EAGAIN: one is under way. */
int gm_sock_send(struct gm_sock *sock, const struct iovec *iov, unsigned count,
                 bool more) GM_WARN_UNUSED;
#define GM_SEND_IOV 64u
bool gm_sock_sending(const struct gm_sock *sock);
/* Ends our direction (FIN) after what has been sent. */
void gm_sock_shutdown(struct gm_sock *sock);
/* Ends both at once; `reset`: with RST, so that the peer cannot mistake it for a clean end.
 * on_closed follows; no other callback does. */
void gm_sock_close(struct gm_sock *sock, bool reset);
bool gm_sock_is_open(const struct gm_sock *sock);
/* Takes the socket off this ring without closing it, for hand-over to another ring by mail:
 * receiving stops, bytes already in are still delivered by on_recv, then on_detached. Not while a
 * send is under way. */
void gm_sock_detach(struct gm_sock *sock);
/* Link sockets: keep unsent bytes in our scheduler and not in the kernel (TCP_NOTSENT_LOWAT). */
void gm_sock_set_lowat(struct gm_sock *sock, uint32_t bytes);
/* Closes a descriptor got from on_accept or on_detached that nobody adopts (a simulated one is no
 * descriptor of the kernel's). */
void gm_ring_close_fd(struct gm_ring *ring, int fd);
/* Peer's address. */
void gm_sock_peer(const struct gm_sock *sock, union gm_addr *out);

/* A listener on this ring (SO_REUSEPORT, so that each ring has its own on the same address). */
struct gm_listener {
    struct gm_sock sock;
    /* Takes the accepted descriptor. */
    void (*on_accept)(struct gm_listener *listener, int fd);
    void (*on_closed)(struct gm_listener *listener);
};
/* Binds and listens on `addr`; port 0 picks one (see gm_listener_port). Negative errno: EADDRINUSE,
 * EACCES… IPv6 `::` listens on IPv4 too. */
int gm_listener_open(struct gm_ring *ring, struct gm_listener *listener,
                     const union gm_addr *addr) GM_WARN_UNUSED;
uint16_t gm_listener_port(const struct gm_listener *listener);
/* Stops accepting, after emptying the accept queue (each waiting connection is still given to
 * on_accept); then on_closed. */
void gm_listener_close(struct gm_listener *listener);

#endif
