/* A connection: a socket, its send queue and the protocol of closing it.
 *
 * Owner: one ring. Everything written within a turn is gathered and leaves as one send in the flush
 * step of that turn. Small pieces are copied into a cork block; payload is queued by reference.
 * These are the only two functions of the data path that may copy payload. A write never waits and
 * never fails half-way: when memory is short the connection is broken and the owner is told once,
 * by on_broken. */
#ifndef GM_NET_CONN_H
#define GM_NET_CONN_H

#include "ring/ring.h"

/* Pieces below this are copied into the cork: an iovec entry, a reference and its release cost
 * about as much as copying 512 bytes. */
#define GM_CONN_CORK_MAX 512u
/* One gathered send. Links and clients alike: what the socket does not take stays in our own hands.
 */
#define GM_CONN_SEND_BYTES (256u << 10)
/* After an early answer: input discarded, at most, before we close hard (RFC 9112 section 9.6), and
 * for how long. Enough bytes that a client which uploads at full speed over loopback sees the
 * answer before our RST: a few hundred KiB pass before it even looks. */
#define GM_CONN_LINGER_BYTES (4u << 20)
#define GM_CONN_LINGER_NS    2000000000ull
/* A peer that takes not one byte of what we owe it before the close, for so long, is cut off. */
#define GM_CONN_CLOSE_STALL_NS 30000000000ull

/* After a failed send what the peer said before it left is still read; when its end does not come
 * within so long, on_broken tells. */
#define GM_CONN_VERDICT_NS 1000000000ull

struct gm_conn;
struct gm_conn_tls;
struct gm_conn_ops {
    /* Takes the slice. Not called any more once the connection ends, breaks or closes. */
    void (*on_recv)(struct gm_conn *conn, gm_slice slice);
    /* The peer has ended its direction (0), or the connection broke (negative errno): then
     * on_broken does not follow. */
    void (*on_recv_end)(struct gm_conn *conn, int error);
    /* Paused, and the peer has hung up (gm_sock_ops.on_hangup). */
    void (*on_hangup)(struct gm_conn *conn);
    /* Flush step, before the send is built: room for the owner to add what it has waiting. May be
     * NULL. */
    void (*on_flush)(struct gm_conn *conn);
    /* Queued bytes have left: `bytes` of them; gm_conn_queued tells what is left. */
    void (*on_sent)(struct gm_conn *conn, size_t bytes);
    /* Nothing can be written any more: memory for the queue ran out (-GM_E_NOMEM; nothing is read
     * either), or a send failed and the peer's end has not been seen since (a failed send alone is
     * told by on_recv_end, behind what the peer had still sent). The owner closes. Never called
     * from within a write. */
    void (*on_broken)(struct gm_conn *conn, int error);
    /* The deadline of gm_conn_deadline has passed. May be NULL for who sets none. */
    void (*on_deadline)(struct gm_conn *conn);
    /* gm_conn_dial is over. */
    void (*on_connect)(struct gm_conn *conn, int error);
    /* The memory may be reused. Always the last callback. */
    void (*on_closed)(struct gm_conn *conn);
    void (*on_detached)(struct gm_conn *conn, int fd);
};

/* What a connection has to say and the socket has not taken. It exists while something is queued or
 * under way, or a flush is due. */
struct gm_conn_queue {
    struct gm_conn *conn;
    struct gm_chain out; /* queued and not yet taken by the socket, or sealed */
    struct gm_buf *cork; /* block being filled; one reference while it has room */
    struct gm_task flush;
    struct gm_holder holder;
    uint32_t
        sending_bytes;     /* of `out` (with TLS: of what was sealed) given to the send under way */
    uint32_t sealed_bytes; /* TLS: taken from `out` and not yet taken by the socket */
    uint16_t cork_start;   /* bytes of the cork block already queued */
    uint16_t cork_used;    /* bytes of it written */
    bool blocked;          /* the socket is full: wait for on_writable */
};
GM_STATIC_ASSERT(sizeof(struct gm_conn_queue) <= GM_DESK_BYTES, "a queue fits on a desk");

/* What an idle connection is made of; all that has to do with writing is in `queue`. */
struct gm_conn {
    struct gm_sock sock;
    const struct gm_conn_ops *ops;
    struct gm_conn_tls *tls;     /* NULL: plaintext. See net/tls.h */
    struct gm_conn_queue *queue; /* at a desk of the ring; NULL: nothing is queued, no flush due */
    struct gm_timer timer;       /* the owner's deadline; later that of the close */
    uint32_t linger_left;        /* closing: input that will still be discarded */
    int16_t
        send_error;  /* a send has failed with it: nothing is written any more, reading goes on */
    uint8_t state;   /* enum in net/internal.h */
    bool fin_queued; /* shut down for writing once the queue is empty */
    bool recv_ended; /* the peer has ended its direction: nothing to linger for */
};

/* Adopts a descriptor (taken). -GM_E_NOMEM: the ring's socket table is full, the descriptor stays
 * the caller's. */
int gm_conn_open(struct gm_ring *ring, struct gm_conn *conn, int fd,
                 const struct gm_conn_ops *ops) GM_WARN_UNUSED;
/* Dials; on_connect tells. Writing may begin at once: it leaves when the connection stands. */
int gm_conn_dial(struct gm_ring *ring, struct gm_conn *conn, const union gm_addr *to,
                 const struct gm_conn_ops *ops) GM_WARN_UNUSED;

static inline struct gm_ring *gm_conn_ring(const struct gm_conn *conn)
{
    return conn->sock.ring;
}
/* See gm_sock_recv. */
void gm_conn_recv(struct gm_conn *conn, enum gm_pool pool, uint64_t bytes);
/* Grant not yet used. */
uint64_t gm_conn_recv_left(const struct gm_conn *conn);

/* The owner's one deadline, `span_ns` from now; 0 switches it off. Closing and detaching end it,
 * and so does a send that has failed: on_broken tells sooner. */
void gm_conn_deadline(struct gm_conn *conn, uint64_t span_ns);

/* Copies `len` bytes behind what is queued. */
void gm_conn_write(struct gm_conn *conn, const void *bytes, size_t len);
/* Queues the slice (taken) behind what is queued: copied when small, else by reference. */
void gm_conn_write_slice(struct gm_conn *conn, gm_slice slice);
/* The same, never copied: for pieces that already lie in a block of this ring. */
void gm_conn_push(struct gm_conn *conn, gm_slice slice);
/* A contiguous place for a writer: `need` bytes at most GM_BLOCK_HEAD_BYTES, borrowed until
 * gm_conn_commit in the same callback. NULL: out of memory, the connection is broken. */
void *gm_conn_reserve(struct gm_conn *conn, size_t need);
/* `used` bytes of the place reserved last are queued. */
void gm_conn_commit(struct gm_conn *conn, size_t used);

/* Asks for a flush at the end of this turn (writes do so themselves). */
void gm_conn_kick(struct gm_conn *conn);

/* Bytes queued and not yet taken by the socket. */
static inline size_t gm_conn_queued(const struct gm_conn *conn)
{
    const struct gm_conn_queue *queue = conn->queue;
    if (queue == NULL)
        return 0;
    return queue->out.bytes + queue->sealed_bytes + (size_t)(queue->cork_used - queue->cork_start);
}

/* Ends our direction once the queue is empty. Reading goes on. */
void gm_conn_finish(struct gm_conn *conn);
/* The polite close: what is queued leaves, then FIN, then input is discarded up to a limit and a
 * deadline, then close. No callback but on_closed follows. */
void gm_conn_close(struct gm_conn *conn);
/* Closes now and drops what is queued; `reset` with RST, so that the peer sees a cut and no end.
 * Only on_closed follows. */
void gm_conn_abort(struct gm_conn *conn, bool reset);
/* True until gm_conn_close or gm_conn_abort. */
bool gm_conn_is_open(const struct gm_conn *conn);
/* For hand-over: the queue must be empty. on_detached follows, or on_closed when the peer has sent
 * what cannot be handed over. */
void gm_conn_detach(struct gm_conn *conn);

#endif
