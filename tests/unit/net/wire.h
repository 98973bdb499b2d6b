/* Two rings in a simulated network and one connection between them: what the tests of net/ and
 * link/ stand on.
 *
 * The near end is a gm_conn whose callbacks are counted; the far end is a bare socket that keeps
 * what it receives. One thread, virtual time. Code of a ring runs between wire_enter and
 * wire_leave. */
#ifndef GM_TEST_NET_WIRE_H
#define GM_TEST_NET_WIRE_H

#include <criterion/criterion.h>

#include "net/conn.h"
#include "ring/sim_net.h"

#define SECOND_NS 1000000000ull

struct wire {
    struct gm_sim *sim;
    struct gm_sim_profile profile;
    struct gm_rings *near_rings, *far_rings;
    struct gm_ring *near, *far;
    struct gm_listener listener;
    void (*on_accept)(struct wire *w, int fd); /* instead of a gm_conn; takes the descriptor */

    struct gm_conn conn;
    unsigned opened, recvs, ends, hangups, flushes, sents, brokens, connects, closes, detaches;
    int end_error, broken_error, connect_error, detached_fd;
    size_t received, sent;
    bool in_call; /* a call into the connection is under way: on_broken may not come */
    bool keep;    /* write back what is received, instead of releasing it */
    bool close_on_broken;

    struct gm_sock peer;
    bool peer_open, peer_connected;
    unsigned peer_ends;
    int peer_error;
    uint64_t peer_grant; /* at connect */
    uint8_t *got;
    size_t got_len, got_cap;
};

/* Opens both rings and the connection: accepted at the near end, dialled by the far one. */
void wire_open(struct wire *w, uint64_t seed);
/* The same without a connection; and with the far end as a bare listener, which the near ring is to
 * dial. */
void wire_rings(struct wire *w, uint64_t seed);
void wire_peer_listen(struct wire *w, uint64_t seed);
/* Checks that no buffer, block, segment or reservation is held any more, and frees all. */
void wire_close(struct wire *w);

void wire_enter(struct wire *w, struct gm_ring *ring);
void wire_leave(struct wire *w, struct gm_ring *ring);
static inline void wire_run(struct wire *w, uint64_t ns)
{
    (void)gm_sim_run_for(w->sim, ns);
}

void wire_peer_send(struct wire *w, const void *bytes, size_t len);
void wire_peer_close(struct wire *w, bool reset);
void wire_peer_read(struct wire *w, uint64_t bytes);
/* Takes every block of that kind of the near ring away; gives them back. */
unsigned wire_hog(struct wire *w, enum gm_store_pool pool, struct gm_buf **out);
void wire_unhog(struct wire *w, struct gm_buf **bufs, unsigned count);

union gm_addr wire_addr(void);

#endif
