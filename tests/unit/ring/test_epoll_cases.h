/* What the tests of the epoll and the simulated back-end share: programs that run on any back-end and judge themselves.
 *
 * A program is one gm_rings; checks inside it are GM_ASSERTs, because they run on ring threads. */
#ifndef GM_TEST_EPOLL_CASES_H
#define GM_TEST_EPOLL_CASES_H

#include "ring/internal.h"
#include "ring/sim.h"

/* Echo: ring 0 serves (and may hand connections to the last ring), the last ring dials. Every client sends a pattern, half-closes and must get
 * it back, byte for byte, or be told that it did not. */
struct echo_plan {
    enum gm_io io;
    struct gm_sim *sim;    /* GM_IO_SIM */
    uint32_t rings;        /* 1 or 2 */
    uint32_t conns;
    uint32_t bytes_max;    /* each client sends 1 to so many */
    uint64_t deadline_ns;  /* a client gives up after */
    uint64_t run_ns;       /* simulation: longest virtual time */
    bool unlimited;        /* clients grant without limit */
    bool hand_over;        /* accepted connections change rings, some in the middle of the traffic */
    const char *features_off;
};

struct echo_result {
    uint32_t complete, told, connects_failed, accepted, handed_over;
    uint64_t bytes;
    bool skipped; /* the back-end cannot be had here */
    bool done;
};

struct echo_result echo_run(const struct echo_plan *plan);

/* Small behaviours, each a program of one ring with a connection to itself. They return false when the back-end cannot be had. */
bool case_run_hangup(enum gm_io io);
bool case_run_reset(enum gm_io io);
bool case_run_short_send(enum gm_io io);
bool case_run_exact_grant(enum gm_io io);
bool case_run_close_inside(enum gm_io io);
bool case_run_refused(enum gm_io io);
bool case_run_drain(enum gm_io io);
bool case_run_starved(enum gm_io io);

/* Asserts that nothing of the ring's memory is held but the buffer that is being filled. On the ring. */
void case_check_memory(struct gm_ring *ring);

#endif
