/* What the tests of the epoll and the simulated back-end share: programs that run on any back-end
 * and judge themselves.
 *
 * A program is one gm_rings; checks inside it are GM_ASSERTs, because they run on ring threads. */
#ifndef GM_TEST_EPOLL_CASES_H
#define GM_TEST_EPOLL_CASES_H

#include "ring/internal.h"
#include "ring/sim.h"

/* Echo: ring 0 serves (and may hand connections to the last ring), the last ring dials. Every
 * client sends a pattern, half-closes and must get it back, byte for byte, or be told that it did
 * not. */
struct echo_plan {
    enum gm_io io;
    struct gm_sim *sim; /* GM_IO_SIM */
    uint32_t rings;     /* 1 or 2 */
    uint32_t conns;
    uint32_t bytes_max;   /* each client sends 1 to so many */
    uint64_t deadline_ns; /* a client gives up after */
    uint64_t run_ns;      /* simulation: longest virtual time */
    bool unlimited;       /* clients grant without limit */
    bool hand_over;       /* accepted connections change rings, some in the middle of the traffic */
    const char *features_off;
};

struct echo_result {
    uint32_t complete, told, connects_failed, accepted, handed_over;
    uint64_t bytes;
    bool skipped; /* the back-end cannot be had here */
    bool done;
};

struct echo_result echo_run(const struct echo_plan *plan);

/* A connection of a ring with itself, driven by a script that looks at it every few milliseconds.
 */
struct peer {
    struct gm_sock sock;
    struct gm_chain held; /* what `hold` keeps */
    bool hold;
    uint8_t *bytes; /* what is being sent */
    size_t to_send, sent, offered;
    uint64_t received;
    uint32_t recvs, ends, hangups, writables, short_sends, closes, connects;
    int end_error, connect_error, send_error;
    bool blocked, close_on_recv, open;
};

struct pair {
    struct gm_ring *ring;
    struct gm_rings *rings;
    struct gm_listener listener;
    union gm_addr addr;
    struct peer client, server;
    struct gm_timer tick;
    uint32_t ticks, phase, quiet; /* quiet: ticks since the script last moved on */
    uint32_t accepted, listener_closes;
    bool (*script)(struct pair *pair); /* true: through; the rest is closed and checked */
    bool through, done;
};

#define PAIR_TICK_NS 8000000ull
/* False: this back-end cannot be had here. */
bool pair_run(enum gm_io io, bool (*script)(struct pair *pair));
/* Sends `bytes` of nothing in particular, as the socket takes them. */
void peer_send(struct peer *peer, size_t bytes);
/* The next phase of the script. */
void pair_next(struct pair *pair);

/* Asserts that nothing of the ring's memory is held but the buffer that is being filled. On the
 * ring. */
void case_check_memory(struct gm_ring *ring);

#endif
