/* TLS under a connection: between the queue of gm_conn and its socket.
 *
 * Owner: the connection's ring. A connection that has been given TLS looks to its owner like any
 * other: on_recv gives plaintext, grants and gm_conn_queued count plaintext, on_connect comes when
 * the handshake is done, on_recv_end(0) means close_notify and an end without it is
 * -GM_E_TLS_TRUNCATED. What the layer holds beyond the owner's grants is at most one record and
 * what came with it; it is reserved like credit, and who keeps a record incomplete when the
 * reservations run out is cut. */
#ifndef GM_NET_TLS_H
#define GM_NET_TLS_H

#include "net/conn.h"
#include "tls/session.h"

/* Handshake flights worked on in one turn: each takes 0.1 to 1 ms of the ring's time. */
#define GM_TLS_FLIGHTS_PER_TURN 2u
/* Plaintext sealed for one gathered send: eight records that fill their blocks to the end, about as
 * much as one receive brings. With four 1 GiB takes 1.13 (up) and 1.10 (down) of the CPU time. */
#define GM_TLS_SEAL_BYTES (8u * (GM_TLS_PAYLOAD_MAX - GM_TLS_OVERHEAD_MAX))

/* What the TLS connections of one ring share. */
struct gm_tls_room {
    struct gm_ring *ring;
    struct gm_list waiting; /* handshakes with input, beyond this turn's budget */
    struct gm_mail mail;    /* to ourselves: the next turn */
    uint64_t turn_ns;
    uint32_t flights_left;
    bool mailed;
};
void gm_tls_room_init(struct gm_tls_room *room, struct gm_ring *ring);

/* Gives the connection TLS: right after gm_conn_open or gm_conn_dial, or later while it is quiet
 * (nothing queued). `tls` is taken, also on failure. One that is ready already (it comes from
 * another ring) goes on where it was. `pool`: where the connection receives to. The owner grants
 * anew: what it had granted for plaintext is used up by the handshake. -GM_E_NOMEM: the connection
 * is as it was. */
int gm_conn_secure(struct gm_conn *conn, struct gm_tls *tls, struct gm_tls_room *room,
                   enum gm_pool pool) GM_WARN_UNUSED;
/* Ciphertext that was received before gm_conn_secure (taken), in order. */
void gm_conn_unread(struct gm_conn *conn, gm_slice slice);
/* In on_detached: the session goes with the descriptor (taken by the caller). NULL: plaintext. */
struct gm_tls *gm_conn_take_tls(struct gm_conn *conn);
/* NULL: plaintext. Borrowed. */
const struct gm_tls *gm_conn_tls(const struct gm_conn *conn);

#endif
