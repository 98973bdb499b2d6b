/* A look at the links of all rings, for /metrics and /health: one mail goes from ring to ring,
 * counts what is there, and comes home.
 *
 * Owner: the ring that asks, then each ring that the mail is on. It is asked for every few seconds;
 * its memory is the asker's. */
#ifndef GM_AGENT_CENSUS_H
#define GM_AGENT_CENSUS_H

#include "agent/context.h"
#include "link/hello.h"

/* Pairs of service and server; what is beyond them is only counted as a whole. */
#define GM_AGENT_CENSUS_ROWS 256u

/* The links of one service to one server. */
struct gm_agent_census_row {
    uint32_t service; /* index */
    uint32_t links;   /* up, and not on their way out */
    uint32_t draining;
    uint64_t rtt_ns; /* the longest of them; 0: none has been measured */
    char server_id[GM_LINK_NAME_MAX];
};

struct gm_agent_census {
    struct gm_mail mail;
    struct gm_agent_shared *shared;
    /* On the ring that asked. The census may be used again or freed. */
    void (*on_done)(struct gm_agent_census *census);
    void *arg;         /* the asker's */
    uint32_t home, at; /* rings */
    uint32_t row_count;
    uint32_t left_out; /* links beyond the rows */
    struct gm_agent_census_row rows[GM_AGENT_CENSUS_ROWS];
};

/* On a ring: takes the census until on_done, which comes from a later turn. `shared`,
 * `on_done` and `arg` are set; the rest need not be. */
void gm_agent_census_take(struct gm_agent_ring *ctx, struct gm_agent_census *census);

#endif
