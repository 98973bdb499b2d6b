/* What the ring core and its back-ends share. Nobody outside src/ring/ includes this.
 *
 * The core owns the turn, the socket table, buffers, timers and mail; a back-end moves bytes
 * between sockets and buffers and waits. A back-end calls gm_core_* to deliver, always from inside
 * its `wait`, never from inside the function by which the core asked. The core filters: once a
 * socket is closing, only gm_core_closed reaches its owner; so a back-end may deliver late without
 * asking. Everything runs on the ring's thread, except what is marked "any thread". */
#ifndef GM_RING_INTERNAL_H
#define GM_RING_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/counter.h"
#include "base/slab.h"
#include "ring/buffer.h"
#include "ring/mailbox.h"
#include "ring/ring.h"
#include "ring/timer.h"
#include "ring/uring_probe.h"

/* Bound on what one turn delivers of each kind, so that no source of work starves the others. */
#define GM_TURN_EVENTS_MAX 1024u
#define GM_TURN_MAIL_MAX   1024u
#define GM_WAIT_FOREVER    UINT64_MAX
#define GM_WHY_BYTES       512u

/* gm_sock.flags: the low half is the core's, the high half the back-end's own
 * (GM_SOCK_BACKEND_BIT(0..15)). */
#define GM_SOCK_OPEN 0x0001u /* in the table; cleared before on_closed / on_detached */
#define GM_SOCK_CONNECTING                                                                         \
    0x0002u /* nothing is received, no RDHUP watch, no send until gm_core_connected */
#define GM_SOCK_LISTENER 0x0004u /* embedded in a struct gm_listener */
#define GM_SOCK_CLOSING                                                                            \
    0x0008u /* gm_sock_close / gm_listener_close: only the end is still told                       \
             */
#define GM_SOCK_DETACHING 0x0010u
#define GM_SOCK_SENDING                                                                            \
    0x0020u /* set by the core before backend->send, cleared by gm_core_sent                       \
             */
#define GM_SOCK_SHUT       0x0040u /* FIN wanted once the send under way is over */
#define GM_SOCK_RECV_ENDED 0x0080u /* gm_core_recv_end was called: never arm a receive again */
#define GM_SOCK_HUNG_UP    0x0100u /* gm_core_hangup was called */
#define GM_SOCK_FINISHED   0x0200u /* on ring->finished */
#define GM_SOCK_POOL_SET   0x0400u
#define GM_SOCK_RESET                                                                              \
    0x0800u /* closing with RST (already set on the descriptor where there is one) */
#define GM_SOCK_RECORDS        0x1000u /* gm_sock_set_records was called */
#define GM_SOCK_BULK           0x2000u /* the last receive filled its buffer, or a large part of it */
#define GM_SOCK_BACKEND_BIT(n) (0x10000u << (n))

/* A row of the socket table. `generation` distinguishes uses of the row: a late event of the kernel
 * names {index, generation}. */
struct gm_slot {
    struct gm_sock *sock; /* NULL: free */
    uint32_t generation;  /* 24 bits used */
    uint32_t link; /* free: the next free row; used: the descriptor (the end of a ring closes it
                      when its owner has gone already) */
};

GM_STATIC_ASSERT(sizeof(struct gm_slot) == GM_SOCK_ROW_BYTES, "ring.h says what a row takes");

/* What a ring runs on. "Later" means from inside a later `wait`. */
struct gm_backend {
    const char *name;
    bool kernel_fds; /* false: descriptors are the back-end's own numbers (simulation); the core
                        makes no system call on them */

    /* On the ring's thread, before its first turn. Negative: `why` (GM_WHY_BYTES) holds cause and
     * cure. `close`: cancels what is in flight and frees ring->backend_state; touches no gm_sock
     * (their owners may have gone; the core closes the descriptors afterwards). */
    int (*open)(struct gm_ring *ring, char *why);
    void (*close)(struct gm_ring *ring);

    /* The socket is in the table, sock->fd set (gm_sock_open, accepted or adopted). 0, or negative:
     * the core takes it out again. */
    int (*attach)(struct gm_sock *sock);
    /* sock->fd is a fresh socket (kernel_fds) or -1. Copies `to` before it returns. Later:
     * gm_core_connected. The core has set CONNECTING. */
    int (*connect)(struct gm_sock *sock, const union gm_addr *to);
    /* sock->fd listens (kernel_fds), or is -1: bind in your own name space. Later: gm_core_accept
     * for every connection. */
    int (*listen)(struct gm_sock *sock, const union gm_addr *addr);
    /* sock->recv_grant has grown, or has become GM_RECV_UNLIMITED. May be called for a socket that
     * is CONNECTING. */
    void (*recv)(struct gm_sock *sock);
    /* Starts the one send. The iovec array is borrowed for the call, the bytes until gm_core_sent
     * (or gm_core_closed), which comes later: bytes taken (0: none, the socket is full) or negative
     * errno. After a short one: gm_core_writable, once, when there is room. Never waits for the
     * peer. Failure to start is also told by gm_core_sent. */
    void (*send)(struct gm_sock *sock, const struct iovec *iov, unsigned count, bool more);
    /* Simulation only (kernel_fds: the core calls shutdown(2)): FIN. */
    void (*shutdown)(struct gm_sock *sock);
    /* CLOSING is set, SO_LINGER applied (RESET). Gives up everything in flight, then calls
     * gm_core_finish(sock) (now or later). For a listener: first empties the accept queue through
     * gm_core_accept (later). The core closes the descriptor and tells on_closed. */
    void (*sock_close)(struct gm_sock *sock);
    /* DETACHING is set. Receiving stops; what is in already is delivered by gm_core_recv; then
     * gm_core_finish(sock). */
    void (*detach)(struct gm_sock *sock);

    /* Submits what is queued, waits for at least one event, a wake or the timeout (0: do not wait;
     * GM_WAIT_FOREVER), delivers at most GM_TURN_EVENTS_MAX events. Calls gm_core_woken once, after
     * the waiting and before the first delivery. When the core has sockets on ring->finished it
     * passes 0. */
    void (*wait)(struct gm_ring *ring, uint64_t timeout_ns);
    /* Makes `to` return from its wait. `from`: the calling ring, NULL on any other thread. May be
     * submitted with from's next wait. */
    void (*wake)(struct gm_ring *from, struct gm_ring *to);

    /* All NULL where the real thing is meant. */
    void (*clock)(struct gm_ring *ring, uint64_t *now_ns, int64_t *wall_s);
    void (*random)(struct gm_ring *ring, void *out, size_t len);
    void (*peer)(const struct gm_sock *sock, union gm_addr *out);
    uint16_t (*port)(const struct gm_listener *listener);
    void (*close_fd)(struct gm_ring *ring, int fd);
    /* A chain of mail (first..last, linked by `next`, last->next NULL) for `to`, at the end of
     * from's turn (from NULL: from outside). NULL: straight into the mailbox. The simulation keeps
     * it and calls gm_mailbox_publish(&to->mailbox, first, last) when its time comes. */
    void (*post)(struct gm_ring *from, struct gm_ring *to, struct gm_mail *first,
                 struct gm_mail *last);
};

extern const struct gm_backend gm_backend_uring;
extern const struct gm_backend gm_backend_epoll;
extern const struct gm_backend gm_backend_sim;

struct gm_outbox {
    struct gm_mail *first, *last; /* waiting for the end of the turn; NULL: nothing */
};

struct gm_ring {
    /* Read and written every turn. */
    uint64_t now_ns;
    int64_t wall_s;
    uint64_t gap_ns;
    uint64_t waiting_ns; /* the timeout of the wait under way */
    const struct gm_backend *backend;
    void *backend_state;
    struct gm_rings *rings;
    void *user;
    uint16_t index;
    bool stopping;              /* set by the stop mail */
    bool woken;                 /* gm_core_woken has been called in this turn */
    bool opened, initialised;   /* what the end of the ring has to undo */
    struct gm_list soon, flush; /* gm_task */
    struct gm_list finished;    /* gm_sock: gone from the back-end, to be told in the next turn */
    struct gm_list starved[GM_POOL_COUNT]; /* gm_sock.node, for the back-end: receives that found no
                                              buffer, first come first served */
    struct gm_slot *slots;                 /* socks_max rows, lazily touched */
    uint32_t slot_free, slot_fresh, socks_max, socks_count;
    struct gm_outbox *outboxes; /* one per ring */
    uint32_t *outbox_targets;   /* rings with something in their outbox, in order of first use */
    uint32_t outbox_count;
    int wake_fd; /* eventfd (kernel_fds), open from before the first turn until gm_rings_join; -1 in
                    a simulation */
    struct gm_wheel wheel;
    struct gm_store store; /* pools, blocks, segments, reservations, holders */
    struct gm_slab desks;
    struct gm_counter_block *counters;

    /* Reservoir of random bytes. */
    uint32_t random_left;
    uint8_t random[4096];

    pthread_t thread;
    int32_t pin_cpu; /* -1: not pinned */
    struct gm_mail stop_mail;

    /* Written by other threads: on lines of their own. */
    struct gm_mailbox mailbox __attribute__((aligned(64)));
};

struct gm_rings {
    const struct gm_backend *backend;
    struct gm_rings_config config;
    struct gm_rings_ops ops;
    uint32_t count;
    struct gm_ring **ring; /* each in a mapping of its own */
    struct gm_counter_set counters;
    struct gm_uring_features features; /* io_uring only */
    char *features_off;                /* our copy */
    char describe[GM_WHY_BYTES];

    /* Start and stop: threads meet here. Never on the data path. */
    pthread_mutex_t lock;
    pthread_cond_t moved;
    uint32_t arrived, failed, ended; /* under lock: rings at the gate, of them failed, at the end */
    int first_error;                 /* under lock */
    uint32_t gate;     /* under lock: how many gates the starter has opened (enum gm_gate) */
    uint32_t threads;  /* under lock: rings that run */
    bool gate_well[3]; /* under lock: the starter's verdict at each gate; it stands when a later
                          gate fails */
    char why[GM_WHY_BYTES];
    _Atomic uint32_t
        stop_asked; /* any thread, exchange acq_rel: only the first posts the stop mail */

    /* How many pools of all rings are short; written on transitions only (relaxed: a hint that step
     * 6 looks at once per turn). */
    _Atomic uint32_t pools_short __attribute__((aligned(64)));
    /* How often a pool has become short. Writer: the ring whose pool it is (before it wakes the
     * sleepers); readers: all, in step 6 and again after setting `sleeping`, so that no holder
     * sleeps through it. */
    _Atomic uint32_t short_epoch;
};

/* ---- The turn ---- */

/* Makes this ring the calling thread's own (gm_ring_self, counters). gm_core_turn does it by
 * itself. */
void gm_core_enter(struct gm_ring *ring);
/* The calling thread has no ring any more. */
void gm_core_leave(void);
/* From inside `wait`: the waiting is over. Reads the clock (before anything is delivered, so that
 * callbacks see the right time). */
void gm_core_woken(struct gm_ring *ring);
/* One whole turn. Simulation: with `wait` that never blocks. False once the ring has been asked to
 * stop. */
bool gm_core_turn(struct gm_ring *ring);
/* When the ring next has something to do of its own accord: 0 now (mail, tasks, finished sockets),
 * a time, or GM_WAIT_FOREVER. */
uint64_t gm_core_next_ns(struct gm_ring *ring);
/* Ends the sockets that are finished: closes, frees the row, tells. Step 1 of the turn. */
void gm_core_finish_all(struct gm_ring *ring);

/* Makes the ring the calling thread's: clock and back-end. Negative: `why` is filled. Either way
 * gm_core_end undoes it. */
int gm_core_open(struct gm_ring *ring, char *why);
/* Runs the program's `init`, when every ring has been opened. Negative: `why` is filled. */
int gm_core_begin(struct gm_ring *ring, char *why);
/* On the ring's thread, when no ring runs turns any more: back-end and descriptors of sockets left
 * over. Idempotent. */
void gm_core_end(struct gm_ring *ring);

/* ---- Delivery, called by back-ends from inside wait
 * ------------------------------------------------------------------------------------ */

/* Takes the slice (its reference). len > 0 and within the grant; the core subtracts it from
 * recv_grant. */
void gm_core_recv(struct gm_sock *sock, gm_slice slice);
/* FIN (0) or broken (negative errno). Sets RECV_ENDED; told once. */
void gm_core_recv_end(struct gm_sock *sock, int error);
/* A receive failed (negative errno): broken, or a message is next (gm_sock_set_records), behind
 * which receiving goes on. */
void gm_core_recv_failed(struct gm_sock *sock, int error);
/* Paused and the peer has hung up; told once. */
void gm_core_hangup(struct gm_sock *sock);
void gm_core_sent(struct gm_sock *sock, ssize_t result);
void gm_core_writable(struct gm_sock *sock);
void gm_core_connected(struct gm_sock *sock, int error);
/* Takes the descriptor. Also for a listener that is CLOSING (draining). */
void gm_core_accept(struct gm_sock *sock, int fd);
/* Nothing of the socket is left in the back-end (CLOSING or DETACHING): the core ends it in the
 * next turn. May be called anywhere. */
void gm_core_finish(struct gm_sock *sock);

/* The socket that a late event names, or NULL when it has gone. */
static inline struct gm_sock *gm_core_find(struct gm_ring *ring, uint32_t index,
                                           uint32_t generation)
{
    if (GM_UNLIKELY(index >= ring->slot_fresh))
        return NULL;
    const struct gm_slot *slot = &ring->slots[index];
    return slot->generation == generation ? slot->sock : NULL;
}
static inline uint32_t gm_core_generation(const struct gm_sock *sock)
{
    return sock->ring->slots[sock->index].generation;
}
/* May something be received now? */
static inline bool gm_core_wants_recv(const struct gm_sock *sock)
{
    return sock->recv_grant > 0 &&
           (sock->flags & (GM_SOCK_CONNECTING | GM_SOCK_CLOSING | GM_SOCK_DETACHING |
                           GM_SOCK_RECV_ENDED | GM_SOCK_LISTENER)) == 0;
}
/* Whose buffers the next receive is given. Where much comes and is granted it is a link's, eight
 * times as large: fewer turns, sends and wake-ups (GM_LINK_BUF_BYTES has the figures). Only what
 * links leave over is lent. */
static inline enum gm_pool gm_core_recv_pool(const struct gm_sock *sock)
{
    const struct gm_pool_state *link = &sock->ring->store.pools[GM_STORE_LINK];
    bool bulk = (sock->flags & GM_SOCK_BULK) != 0 && sock->recv_grant > GM_CLIENT_BUF_BYTES &&
                sock->recv_grant != GM_RECV_UNLIMITED;
    return bulk && gm_pool_unheld(link) > GM_POOL_WELL(link->count) ? GM_POOL_LINK
                                                                    : (enum gm_pool)sock->pool;
}
/* Should RDHUP be watched, because nothing is received? */
static inline bool gm_core_paused(const struct gm_sock *sock)
{
    return sock->recv_grant == 0 &&
           (sock->flags & (GM_SOCK_CONNECTING | GM_SOCK_CLOSING | GM_SOCK_DETACHING |
                           GM_SOCK_RECV_ENDED | GM_SOCK_HUNG_UP | GM_SOCK_LISTENER)) == 0;
}

/* ---- Buffers, for back-ends
 * --------------------------------------------------------------------------------------------------------------
 * gm_store_take(&ring->store, pool): a free receive buffer with one reference (the filler's) and
 * fill 0, bytes addressable, or NULL. Give each slice cut from it a reference (gm_buf_ref), advance
 * buf->fill, and gm_buf_put the filler's own when it is full: small receives share a buffer. A
 * socket that found none goes on ring->starved[pool]; look there at the start of `wait`, when
 * gm_store_free_count says there is some again. See buffer.h. */

#endif
