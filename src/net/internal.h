/* What conn.c and conn_tls.c know of each other. Private to net/. */
#ifndef GM_NET_INTERNAL_H
#define GM_NET_INTERNAL_H

#include "net/tls.h"

enum conn_state {
    CONN_CONNECTING = 1,
    CONN_OPEN,
    CONN_DETACHING, /* TLS: what the handshake still owes leaves first */
    CONN_CLOSING,   /* draining the queue before FIN */
    CONN_LINGERING, /* FIN sent, input is discarded */
    CONN_BROKEN,    /* memory ran out while writing: the owner hears of it in the flush step */
    CONN_CLOSED,
};

/* The TLS of one connection: ciphertext in, plaintext not granted yet, ciphertext out. */
struct gm_conn_tls {
    struct gm_conn *conn;
    struct gm_tls *session;
    struct gm_tls_room *room;
    struct gm_chain in, plain, out;
    uint64_t grant;         /* plaintext that the owner may still be given */
    struct gm_task deliver; /* a grant has come for what waits in `plain` */
    struct gm_holder holder;
    struct gm_list waiting;  /* in room->waiting */
    struct gm_timer starved; /* blocks were short: try again */
    uint32_t reserved;       /* for what is held beyond the owner's grants */
    uint32_t batch;          /* plaintext of the next gathered send */
    int16_t end_error;       /* with `ended`: what on_recv_end will say */
    uint8_t pool;            /* enum gm_pool */
    bool ready;              /* the handshake is done */
    bool failed;             /* nothing is sealed or opened any more; an alert may wait */
    bool ended, end_told;    /* nothing more is opened; the owner knows */
    bool connect_pending;    /* on_connect is owed */
    bool hello_due;          /* our first flight, on a connection that stood already */
    bool delivering;         /* inside tls_deliver */
    bool farewell;           /* close_notify has been queued */
    bool foreign;            /* something came while detaching */
    bool kernel_asked;       /* gm_tls_kernel_take_sending was tried */
    bool drained;            /* the kernel's queue was empty when we looked last */
    uint32_t undrained;      /* what was left in it */
};

/* ---- conn.c ---- */

/* Memory ran out: told by on_broken in the flush step. */
void conn_starve(struct gm_conn *conn);
/* Told at once: we are in a callback of our own. */
void conn_break(struct gm_conn *conn, int error);
/* From now on; what was to be timed before is over. */
void conn_timer(struct gm_conn *conn, uint64_t span_ns);

/* ---- conn_tls.c: only for connections with TLS ---- */

void conn_tls_grant(struct gm_conn *conn, uint64_t bytes);
void conn_tls_connected(struct gm_conn *conn);
void conn_tls_recv(struct gm_conn *conn, gm_slice slice);
void conn_tls_recv_end(struct gm_conn *conn, int error);
/* Flush step, no send is under way: sees to it that what is queued can be sent, by sealing it when
 * the kernel does not. False: not now. */
bool conn_tls_fill(struct gm_conn *conn);
/* The chain that the socket is given. */
struct gm_chain *conn_tls_wire(struct gm_conn *conn);
/* The socket has taken `bytes` of what it was given: how much plaintext that was. */
size_t conn_tls_sent(struct gm_conn *conn, size_t bytes);
/* Queues close_notify if it is owed; true: something must leave first, conn_send comes again. */
bool conn_tls_farewell(struct gm_conn *conn);
/* What is next on the socket is no payload. False: nothing can be received any more. */
bool conn_tls_message(struct gm_conn *conn);
/* No callback from here on. */
void conn_tls_stop(struct gm_conn *conn);
/* Lets go of slices, reservations, session. */
void conn_tls_free(struct gm_conn *conn);

#endif
