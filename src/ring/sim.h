/* The simulated network: virtual time, an in-memory network and faults, all drawn from one seed.
 *
 * Any number of programs (gm_rings_start with GM_IO_SIM and the same `sim`) run on one thread, one
 * turn of one ring at a time; a test's own sockets are gm_socks on a ring of its own. Nothing looks
 * at a real clock, at real chance or at addresses: the same program, seed and commands give the
 * same run, event for event (gm_sim_hash). Not for production: it takes memory from the heap as it
 * goes. Callbacks of the rings run inside gm_sim_step. Descriptors given to on_accept and
 * on_detached are numbers of the simulation's own. */
#ifndef GM_RING_SIM_H
#define GM_RING_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ring/ring.h"

struct gm_sim;

/* How the network behaves. Per mille values are chances; 0 switches the thing off. */
struct gm_sim_profile {
    uint64_t latency_min_ns, latency_max_ns; /* one way, drawn for each segment; segments of one
                                                direction never overtake each other */
    uint32_t buffer_bytes; /* per direction: sent and not yet read (send and receive buffer in one).
                              At least 1 */
    uint32_t segment_bytes;  /* a send is cut into segments of at most so many bytes, each with a
                                latency of its own */
    uint32_t split_permille; /* a receive gets only a random part of what is there */
    uint32_t short_permille; /* a send takes only a random part of what there is room for */
    uint64_t turn_max_ns;    /* a turn takes up to so long, and a ring is up to so late for it */
    uint64_t mail_max_ns;    /* mail between rings takes up to so long */
    /* Faults, drawn for each connection when it is made; each strikes once, at a random time within
     * fault_within_ns. */
    uint32_t cut_permille;        /* RST to both ends */
    uint32_t half_close_permille; /* one end's FIN, though it did not ask */
    uint32_t
        freeze_permille;     /* nothing passes in one or both directions, for up to freeze_max_ns */
    uint32_t delay_permille; /* up to delay_max_ns more latency, from then on */
    uint32_t slow_permille;  /* one direction carries only slow_bytes_per_s, from then on: a slow
                                reader */
    uint64_t fault_within_ns, freeze_max_ns, delay_max_ns, slow_bytes_per_s;
    uint32_t refuse_permille; /* a connect is refused although somebody listens */
};

/* A calm network: 50 to 200 us of latency, 64 KiB of buffer, segments of 16 KiB, a tenth of
 * receives split, a few short sends, no faults. */
void gm_sim_profile_default(struct gm_sim_profile *profile);

/* ---- Life ---- */

/* NULL: out of memory. Owned by the caller; free it after gm_rings_join of every program. */
struct gm_sim *gm_sim_new(uint64_t seed) GM_WARN_UNUSED;
void gm_sim_free(struct gm_sim *sim);
/* Takes effect for what happens from now on; faults and buffer sizes for connections made from now
 * on. Copied. */
void gm_sim_set_profile(struct gm_sim *sim, const struct gm_sim_profile *profile);

/* ---- Running ---- */

/* Runs the next event: something arrives, or a ring has its turn. False when nothing is left: no
 * event, no timer, no work. */
bool gm_sim_step(struct gm_sim *sim);
/* Nanoseconds; starts at 1,000 s, so that times before the start can be told. */
uint64_t gm_sim_now(const struct gm_sim *sim);
/* Steps until `now` would pass `until_ns`, and sets the time to it. False when nothing is left. */
bool gm_sim_run_until(struct gm_sim *sim, uint64_t until_ns);
static inline bool gm_sim_run_for(struct gm_sim *sim, uint64_t ns)
{
    return gm_sim_run_until(sim, gm_sim_now(sim) + ns);
}
/* Steps until done(arg) is true (asked before the first step and after each); false when `until_ns`
 * has passed or nothing is left. */
bool gm_sim_run_when(struct gm_sim *sim, bool (*done)(void *arg), void *arg, uint64_t until_ns);
/* Calls fn(arg) now, as if from a callback of `ring` (not from inside a step): for a test to open
 * sockets, send, close. */
void gm_sim_do(struct gm_sim *sim, struct gm_ring *ring, void (*fn)(void *arg), void *arg);
/* Calls fn(arg) at `at_ns`, between turns, on no ring. */
void gm_sim_at(struct gm_sim *sim, uint64_t at_ns, void (*fn)(void *arg), void *arg);

/* ---- Replay ---- */

/* Digest of everything that has happened: times, kinds, connections, byte counts. Equal for equal
 * runs. */
uint64_t gm_sim_hash(const struct gm_sim *sim);
/* Adds something of the test's own to the digest. */
void gm_sim_note(struct gm_sim *sim, uint64_t value);
/* Chance for the test's own decisions: does not disturb the network's. Below `bound` (0: any 64
 * bits). */
uint64_t gm_sim_rand(struct gm_sim *sim, uint64_t bound);
uint64_t gm_sim_steps(const struct gm_sim *sim);
/* Connections of which one end is still open. */
uint32_t gm_sim_open_count(const struct gm_sim *sim);

/* ---- Faults by command ---- */
/* All name a connection by the socket of one end (a gm_sock on a simulated ring) and do nothing
 * once the connection has gone. */

/* RST to both ends; what is on its way is lost. */
void gm_sim_cut(struct gm_sock *sock);
/* The other end sees this end's FIN; later sends of this end fail with EPIPE. */
void gm_sim_half_close(struct gm_sock *sock);
/* Nothing this end sends arrives, and (`both`) nothing arrives here, for `ns` (UINT64_MAX: until
 * thawed). Nothing is lost. */
void gm_sim_freeze(struct gm_sock *sock, uint64_t ns, bool both);
void gm_sim_thaw(struct gm_sock *sock);
/* Adds latency in both directions; 0 takes it away. */
void gm_sim_delay(struct gm_sock *sock, uint64_t extra_ns);
/* What is sent to this end arrives at so many bytes per second; 0: without limit. */
void gm_sim_slow_reader(struct gm_sock *sock, uint64_t bytes_per_s);
/* The ring has no turn for so long: a stopped process, CPU throttling. */
void gm_sim_stall(struct gm_ring *ring, uint64_t ns);

#endif
