/* The mesh: what an agent knows of the servers behind its one address, and when it dials next.
 *
 * Nobody tells an agent how many servers a balancer has behind it, nor which one it gives next. So
 * the agent dials, looks who answers (HELLO's instance), and keeps the link when it has not all its
 * lanes there yet. Pace: fast while there is something to find, slower with each dial that found
 * nothing, then rare checks of a few dials each; fast again once something was lost or is new. All
 * waits are random, or agents that dial in step would each meet the same server for ever.
 *
 * Pure: no clock, no I/O, no memory of its own. Owner: the dialler, on its ring. */
#ifndef GM_AGENT_MESH_H
#define GM_AGENT_MESH_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "link/hello.h"

/* Servers beyond it are linked to as they come, and not counted. */
#define GM_MESH_SERVERS_MAX 128u
/* Longest interval between checks, unless the configured one is longer. */
#define GM_MESH_CHECK_MAX_NS 60000000000ull
/* What others have found and we have not is looked for this often, unless they find still more. */
#define GM_MESH_TOLD_NS 300000000000ull
/* So long what was lost is looked for at a fast pace: a server's restart takes less. */
#define GM_MESH_HUNT_NS 30000000000ull
/* A link that was up for so long was a success: its loss is no reason to wait. */
#define GM_MESH_GOOD_NS 10000000000ull

struct gm_mesh_server {
    char instance[GM_LINK_NAME_MAX]; /* or the name of one of 0.0.x, which says no instance */
    uint32_t lanes;                  /* wanted, at most GM_CONFIG_LANES_MAX */
    uint64_t held;                   /* bit per lane with a link of ours */
    uint64_t lost;                   /* bit per lane that had one: to be asked for by number */
    uint64_t full_ns; /* when it last said that it has enough links of ours; 0: never */
    uint64_t seen_ns; /* when it last was heard of */
    bool leaving;     /* it drains: no new link is wanted there, and another server in its place */
};

struct gm_mesh_config {
    uint64_t check_ns;                   /* first interval of checks; 0: no checks */
    uint64_t retry_min_ns, retry_max_ns; /* ceilings of the waits after failures */
};

struct gm_mesh {
    struct gm_mesh_config config;
    uint64_t next_ns;       /* when the next dial is due; UINT64_MAX: none is */
    uint64_t hunt_until_ns; /* what is missing is looked for at a fast pace until then */
    uint64_t flap_ns;       /* when a young link was last lost */
    uint32_t peak;          /* as many servers as there were at once, of late */
    uint32_t peers;         /* as many as a server has said last that there are; 0: it says none */
    uint32_t peers_most;    /* as many as any has said so far: more are news */
    uint32_t told;          /* as many as others have found, at a time: told_ns */
    uint64_t told_ns;
    uint32_t idle;          /* dials since the last news that found nothing */
    uint32_t checks, burst; /* checks so far; dials left of the present one */
    uint32_t failures;      /* dials in a row that reached no server */
    uint32_t flaps;         /* young links lost in a row */
    uint32_t server_count;
    struct gm_mesh_server servers[GM_MESH_SERVERS_MAX];
};

/* What a server has said in its greeting. Texts are borrowed until return. */
struct gm_mesh_greeting {
    const char *instance;
    uint32_t lane, lanes; /* lane >= lanes: the link is surplus. A server of 0.0.x wants one, and
                             says "duplicate" instead of 1 of 1 */
    uint32_t peers;       /* servers in all; 0: not said */
};

/* A lane of a server. Borrowed until return. */
struct gm_mesh_lane {
    const char *instance;
    uint32_t lane;
};

/* The first dial is due at once. Of a configuration without times all are at their least. */
void gm_mesh_init(struct gm_mesh *mesh, const struct gm_mesh_config *config, uint64_t now_ns);

/* `random` is 64 random bits for the wait. All but gm_mesh_dialled set mesh->next_ns. */

/* A dial has begun. Should it take long, another one is due beside it. */
void gm_mesh_dialled(struct gm_mesh *mesh, uint64_t now_ns);
/* A dial has met a server. True: it is the first link there. A surplus link is of no use. */
bool gm_mesh_greeted(struct gm_mesh *mesh, const struct gm_mesh_greeting *greeting, uint64_t now_ns,
                     uint64_t random);
/* A dial has met none. `longest`: our token is refused, soon is of no use. */
void gm_mesh_failed(struct gm_mesh *mesh, bool longest, uint64_t now_ns, uint64_t random);
/* Whatever made dials fail may be over: a wait for that is cut short. */
void gm_mesh_retry(struct gm_mesh *mesh, uint64_t now_ns, uint64_t random);
/* A link is gone; it was up for `age_ns`. */
void gm_mesh_lost(struct gm_mesh *mesh, struct gm_mesh_lane lane, uint64_t age_ns, uint64_t now_ns,
                  uint64_t random);
/* A link of a server that goes on drains: its lane is for another link now. */
void gm_mesh_released(struct gm_mesh *mesh, struct gm_mesh_lane lane, uint64_t now_ns,
                      uint64_t random);
/* The server drains: its links go on to their end, and do not count any more. True: this is news.
 */
bool gm_mesh_leaving(struct gm_mesh *mesh, const char *instance, uint64_t now_ns, uint64_t random);

/* Others have found so many servers. True: this is news, and a search begins. Said too often, or in
 * vain, it does nothing: whoever says it may be wrong, or see more than our address leads to. */
bool gm_mesh_told(struct gm_mesh *mesh, uint32_t at_least, uint64_t now_ns, uint64_t random);

/* The server and lane that a dial should ask for, in case it gets there: one that was lost. The
 * instance is borrowed until the next change. False: none. */
bool gm_mesh_wish(const struct gm_mesh *mesh, uint64_t random, struct gm_mesh_lane *out);
/* The lane that the next link will probably have. */
uint32_t gm_mesh_lane_guess(const struct gm_mesh *mesh);
/* Servers that we have links to, without those that drain. */
uint32_t gm_mesh_servers(const struct gm_mesh *mesh);

#endif
