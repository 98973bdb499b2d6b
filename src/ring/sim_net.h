/* Inside the simulation: what its three files share. Nobody else includes this.
 *
 * sim.c holds time, chance, the event heap and the rings' turns; sim_net.c the network (ends,
 * pipes, listeners, faults), which knows sockets only as something to be roused; sim_backend.c is
 * the back-end that the core sees. One thread. Invariant: every order comes from the heap (time,
 * drawn tie, sequence) or from a drawn permutation, never from an address. */
#ifndef GM_RING_SIM_NET_H
#define GM_RING_SIM_NET_H

#include "ring/internal.h"
#include "ring/sim.h"

/* Descriptors of the simulation: above any the kernel gives (fs.nr_open is at most 2^30 but 2^20 by
 * default), so that a stray close(2) fails. */
#define SIM_FD_BASE (1 << 29)
#define SIM_BACKLOG 1024u
#define SIM_SYN_RETRY_NS                                                                           \
    1000000000ull /* a full backlog drops the SYN, the client tries again, as Linux does */
#define SIM_FOREVER UINT64_MAX

struct sim_end;
struct sim_conn;
struct sim_ring;

/* Grows by doubling; aborts when the heap is used up (a test tool). */
void *sim_grow(void *array, uint32_t *cap, uint32_t need, size_t item_bytes);

struct sim_rand {
    uint64_t state;
};
uint64_t sim_rand_next(struct sim_rand *rand);
uint64_t sim_rand_below(struct sim_rand *rand, uint64_t bound); /* bound 0: 0 */
static inline bool sim_rand_hit(struct sim_rand *rand, uint32_t permille)
{
    return permille > 0 && sim_rand_below(rand, 1000) < permille;
}

/* ---- Events ---- */

enum sim_kind {
    SIM_TURN = 1, /* ring: its turn */
    SIM_MAIL,     /* ring, mail */
    SIM_PIPE,     /* conn, side: segments of the pipe that leads from `side` are due */
    SIM_ACK,      /* conn, side: the sender `side` learns what has been read */
    SIM_SYN,      /* conn: arrives at the listener */
    SIM_SYN_ACK,  /* conn: arrives at the client; value: 0 or errno */
    SIM_RST,      /* conn, side: arrives at the end `side` */
    SIM_FAULT,    /* conn, side: value is an enum sim_fault */
    SIM_CALL,     /* a test's own */
    /* Not in the heap, only in the digest. */
    SIM_SENT,
    SIM_RECEIVED,
    SIM_CLOSED,
    SIM_NOTE
};

enum sim_fault {
    SIM_FAULT_CUT,
    SIM_FAULT_HALF_CLOSE,
    SIM_FAULT_FREEZE,
    SIM_FAULT_DELAY,
    SIM_FAULT_SLOW,
    SIM_FAULTS
};

struct sim_event {
    uint64_t at_ns, tie, sequence;
    uint64_t value;
    enum sim_kind kind;
    uint8_t side;
    struct sim_conn *conn;
    struct sim_ring *ring;
    struct gm_mail *first, *last;
    void (*call)(void *arg);
    void *arg;
};

/* ---- Rings ---- */

/* What a ring has to look at in its next turn: an end or a listener. First member of both. */
struct sim_node {
    struct sim_ring *ring; /* NULL: on no ring (in a backlog, detached) */
    bool active;           /* in ring->active */
    bool is_listener;
};

struct sim_ring {
    struct gm_sim *sim;
    struct gm_ring *ring; /* NULL: ended */
    struct sim_ring *next;
    uint32_t id;
    uint64_t turn_ns;       /* when its turn is due; SIM_FOREVER: not at all */
    uint64_t turn_sequence; /* the one valid SIM_TURN event */
    uint64_t stalled_until_ns;
    bool in_turn, stopped;
    struct sim_node **active;
    uint32_t active_count, active_cap;
    struct sim_node **batch; /* the active ones of the turn under way */
    uint32_t batch_cap;
    uint64_t *mail_due_ns; /* by sending ring, the last one: from outside */
    struct sim_rand random;
    struct gm_buf *fill[GM_POOL_COUNT];
};

/* ---- Network ---- */

struct sim_segment {
    uint64_t end; /* stream position behind its last byte */
    uint64_t due_ns;
    bool fin;
};

/* One direction. Positions count bytes since the beginning: read <= arrived <= written, acked <=
 * read, written - acked <= cap. */
struct sim_pipe {
    uint8_t *bytes;
    uint32_t cap;
    uint64_t written, arrived, read, acked;
    struct sim_segment *segments;
    uint32_t segment_first, segment_count, segment_cap;
    uint64_t last_due_ns;  /* segments never overtake */
    uint64_t wire_free_ns; /* for a limited rate */
    uint64_t rate;         /* bytes per second; 0: no limit */
    uint64_t frozen_until_ns, extra_ns;
    bool fin_sent, fin_arrived;
    bool pipe_event, ack_event; /* one of each is in the heap */
};

struct sim_end {
    struct sim_node node; /* first */
    struct sim_conn *conn;
    struct gm_sock *sock; /* NULL: nobody has adopted it */
    uint32_t handle;
    uint8_t side;
    bool closed; /* its owner has closed it */
    bool shut;   /* its FIN was sent */
    bool connecting, connect_told;
    bool detaching;
    bool blocked;      /* a send was short: tell when there is room */
    bool writable;     /* to be told */
    bool sending;      /* iov is waiting to be taken */
    int connect_error; /* valid once connect_done */
    bool connect_done;
    int error; /* RST has arrived: positive errno */
    struct iovec iov[GM_SEND_IOV];
    unsigned iov_count;
};

struct sim_conn {
    struct gm_sim *sim;
    struct sim_conn *prev, *next; /* all connections, in order of making */
    struct sim_conn *dying_next;  /* both ends closed, not yet freed */
    uint32_t id;
    uint32_t events;  /* in the heap that name it */
    bool accepted;    /* the server end exists */
    bool rst_held[2]; /* an RST for that end waits for a frozen pipe to thaw */
    union gm_addr to;
    struct sim_end end[2];   /* 0: client, 1: server */
    struct sim_pipe pipe[2]; /* pipe[i] leads from end i */
};

struct sim_listener {
    struct sim_node node; /* first */
    struct sim_listener *next;
    struct gm_sock *sock;
    struct gm_rings *rings; /* the program: others may not listen on the same address */
    union gm_addr addr;
    bool closing;
    struct sim_end **queue;
    uint32_t queue_first, queue_count, queue_cap;
};

struct gm_sim {
    uint64_t now_ns, hash, steps, sequence;
    struct gm_sim_profile profile;
    struct sim_rand net, order, test;
    uint64_t seed;
    struct sim_event *heap;
    uint32_t heap_count, heap_cap;
    struct sim_ring *rings; /* in order of opening; kept until gm_sim_free */
    uint32_t rings_made;
    struct sim_conn *conns, *conns_last, *dying;
    uint32_t conns_made, conns_open;
    struct sim_end **handles; /* by handle; NULL: gone */
    uint32_t handles_count, handles_cap;
    struct sim_listener *listeners; /* in order of opening */
    uint16_t next_port;
};

/* sim.c */
void sim_post(struct gm_sim *sim, uint64_t delay_ns, struct sim_event event);
void sim_trace(struct gm_sim *sim, enum sim_kind kind, uint64_t a, uint64_t b);
/* The node has something for its ring's next turn. */
void sim_rouse(struct sim_node *node);
void sim_ring_due(struct sim_ring *ring, uint64_t at_ns);

/* sim_net.c */
struct sim_conn *sim_conn_new(struct gm_sim *sim, const union gm_addr *to);
void sim_conn_event(struct gm_sim *sim, const struct sim_event *event);
/* Frees what nobody can name any more. Not during a turn. */
void sim_conns_reap(struct gm_sim *sim);
void sim_conns_free(struct gm_sim *sim);
struct sim_end *sim_end_find(struct gm_sim *sim, int fd);
/* Takes from end->iov what there is room for. Bytes, or negative errno. */
ssize_t sim_end_send(struct sim_end *end);
static inline uint64_t sim_end_readable(const struct sim_end *end);
/* Copies `len` <= readable bytes out. */
void sim_end_read(struct sim_end *end, uint8_t *to, uint32_t len);
void sim_end_shutdown(struct sim_end *end);
void sim_end_close(struct sim_end *end, bool reset);

static inline struct sim_pipe *sim_end_in(struct sim_end *end)
{
    return &end->conn->pipe[1 - end->side];
}
static inline struct sim_pipe *sim_end_out(struct sim_end *end)
{
    return &end->conn->pipe[end->side];
}
static inline uint64_t sim_end_readable(const struct sim_end *end)
{
    const struct sim_pipe *in = &end->conn->pipe[1 - end->side];
    return in->arrived - in->read;
}
/* Nothing will come behind the readable bytes. */
static inline bool sim_end_ended(const struct sim_end *end)
{
    return end->error != 0 || end->conn->pipe[1 - end->side].fin_arrived;
}

/* 0 or -EADDRINUSE; fills in the port. */
int sim_listener_bind(struct gm_sim *sim, struct sim_listener *listener, const union gm_addr *addr);
void sim_listener_remove(struct gm_sim *sim, struct sim_listener *listener);
struct sim_end *sim_listener_pop(struct sim_listener *listener);

#endif
