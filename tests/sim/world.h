/* The whole server in a simulated network: its rings, a ring of clients and a ring of agents, all
 * on one thread in virtual time, everything drawn from one seed.
 *
 * Owner: one thread. A world lives for one seed. Whoever finds something wrong calls world_fail,
 * which prints the seed, the step and the virtual time; the run of the seed goes on to its end only
 * as far as it is safe. */
#ifndef GM_SIM_WORLD_H
#define GM_SIM_WORLD_H

#include "agent/context.h"
#include "config/config.h"
#include "link/link.h"
#include "ring/sim.h"
#include "server/context.h"

#define SIM_SECOND       1000000000ull
#define SIM_MS           1000000ull
#define SIM_SERVER_PORT  8080
#define SIM_RINGS_MAX    3u
#define SIM_AGENTS_MAX   6u
#define SIM_CLIENTS_MAX  24u
#define SIM_REQUESTS_MAX 5u
/* Nothing may hang: by then every client has been dealt with, whatever it did. */
#define SIM_QUIET_NS (130 * SIM_SECOND)
/* And by then, after the agents have gone, nothing is left at all. */
#define SIM_EMPTY_NS (60 * SIM_SECOND)

/* What the scripted agent does with a request; the client names it in the target. */
enum sim_kind_of_answer {
    ANSWER_FIXED,    /* `down` bytes with their length */
    ANSWER_STREAMED, /* `down` bytes, length unknown */
    ANSWER_ECHO,     /* the request's body, as it comes */
    ANSWER_SINK,     /* nothing until the whole request is in, then its length as `down` */
    ANSWER_INTERIM,  /* a 103, then FIXED */
    ANSWER_TRAILERS, /* STREAMED, with trailers */
    ANSWER_SLOW,     /* FIXED, but `at` ms after the request: less than the idle timeout */
    ANSWER_RESET,    /* RESET(reason) before a head, perhaps behind a STOP */
    ANSWER_CUT,      /* head, `at` bytes, RESET(reason) */
    ANSWER_NEVER,    /* nothing */
    ANSWER_VANISH,   /* head, `at` bytes, the link's connection breaks */
    ANSWER_DRAIN,    /* the link drains, then FIXED */
    ANSWER_KINDS
};

enum sim_outcome { OUTCOME_NONE, OUTCOME_COMPLETE, OUTCOME_ERROR, OUTCOME_CUT };

struct sim_request {
    uint32_t id;
    uint8_t kind;   /* enum sim_kind_of_answer */
    uint8_t method; /* 0 GET, 1 POST, 2 PUT, 3 HEAD */
    bool chunked, http10, expect_close, early, stop, untouched;
    uint32_t up, down, at;
    uint16_t reason;
    /* What became of it. */
    uint8_t outcome; /* enum sim_outcome */
    uint16_t status;
    uint32_t got;
    bool sent;        /* its last byte has left the client */
    bool until_close; /* the answer ends with the connection */
    uint8_t agents;   /* how many agents have seen it */
    uint8_t refusals; /* and how many of them have refused it for their limit, untouched */
    int8_t on_agent;  /* the last of them, -1: none or over */
};

enum sim_temper {
    TEMPER_GOOD,  /* sends all, reads all */
    TEMPER_SLOW,  /* reads little by little */
    TEMPER_HALF,  /* stops sending somewhere */
    TEMPER_STALL, /* stops reading somewhere, for good */
    TEMPER_FIN,   /* closes at some time */
    TEMPER_RESET, /* resets at some time */
    TEMPER_FLOOD, /* pipelines requests without end and reads nothing */
    TEMPER_TYPES
};

struct sim_world;

struct sim_client {
    struct gm_sock sock;
    struct sim_world *world;
    struct sim_request requests[SIM_REQUESTS_MAX];
    uint32_t request_count, sending, receiving; /* the request being sent, answered */
    uint8_t temper;
    bool pipelined, open, connected, over;
    uint64_t temper_ns;    /* when FIN or RESET strikes; how slow SLOW is */
    uint32_t temper_bytes; /* where HALF or STALL stops */
    uint64_t rises_ns;     /* STALL: reads on after so long; 0: never */
    struct gm_timer timer, temper_timer;
    /* Out: bytes of the request being sent. */
    uint8_t *out;
    size_t out_len, out_sent, out_total;
    /* In. */
    uint8_t *in;
    size_t in_len, in_cap, in_total;
    bool in_body, body_chunked, body_counted;
    bool last_answer; /* it said so: what follows is not looked at */
    uint64_t body_left;
    struct gm_http_chunked *chunked;
    uint8_t *scratch;
    bool got_request_bytes; /* something of the answer being received has come */
};

struct sim_agent {
    struct gm_link link;
    struct sim_world *world;
    uint32_t index, instance;
    int lane; /* to ask for; -1: any */
    bool alive, retired, frozen;
    uint32_t lies; /* so many times its READY names another instance */
    uint64_t frozen_ns;
    uint32_t window;
    struct gm_timer redial;
    struct gm_list streams; /* struct sim_stream */
};

/* What hog.c has taken of one ring. */
struct sim_hog {
    struct gm_buf **bufs;
    struct gm_seg *segs;
    uint32_t buf_count;
    uint64_t reserved;
};

struct sim_world {
    uint64_t seed;
    struct gm_sim *sim;
    struct gm_sim_profile profile;
    bool strict;      /* no fault and nothing odd: every answer is the one asked for */
    bool half_closes; /* the network itself sends FINs: an end means nothing */
    bool ending;
    bool failed;

    struct gm_server_config config;
    struct gm_server_shared shared;
    struct gm_server_ring *contexts[SIM_RINGS_MAX];
    struct gm_port *ports[SIM_RINGS_MAX];
    struct gm_registry *registries[SIM_RINGS_MAX];
    uint32_t ring_count;
    struct sim_hog hogs[SIM_RINGS_MAX + 2]; /* the server's rings, then the real agent's */

    struct gm_rings *client_rings, *agent_rings;
    struct gm_ring *client_ring, *agent_ring;
    struct sim_client clients[SIM_CLIENTS_MAX];
    uint32_t client_count;
    struct sim_agent agents[SIM_AGENTS_MAX];
    uint32_t agent_count;
    uint32_t next_id;

    /* Instead of scripted agents: the real one, and a scripted backend (backend.c). */
    bool real;
    struct gm_rings *backend_rings;
    struct gm_listener backend_listener;
    struct gm_agent_config agent_config;
    struct gm_agent_service agent_service;
    struct gm_agent_service_info agent_info;
    struct gm_agent_shared agent_shared;
    struct gm_agent_ring *agent_contexts[2];
    /* For the sum at the end. */
    uint32_t complete, errors, cut, retried, moved;
};

/* Once per process. */
void world_keys_load(void);
extern const char *world_agent_token, *world_client_token;

void world_fail(struct sim_world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static inline uint64_t world_rand(struct sim_world *world, uint64_t bound)
{
    return gm_sim_rand(world->sim, bound);
}
static inline bool world_chance(struct sim_world *world, unsigned percent)
{
    return gm_sim_rand(world->sim, 100) < percent;
}
/* Byte `at` of a body of that id: upload and download differ. */
static inline uint8_t world_byte(uint32_t id, bool down, uint64_t at)
{
    return (uint8_t)(id * 37u + (down ? 101u : 0u) + at * 7u + (at >> 8) * 13u);
}
union gm_addr world_server_addr(void);

/* Opens the rings of server, clients and agents; no client and no agent yet. */
void world_open(struct sim_world *world, uint64_t seed);
/* Ends everything and frees it. */
void world_close(struct sim_world *world);
/* Checks what must hold after any step. */
void world_check(struct sim_world *world);
/* Steps until `until_ns`, checking. */
void world_run(struct sim_world *world, uint64_t until_ns);
/* Everything of the clients has gone from the server; with `links` gone, too: nothing is held. */
void world_check_quiet(struct sim_world *world);
void world_check_empty(struct sim_world *world);
/* Request with this id, or NULL. */
struct sim_request *world_request(struct sim_world *world, uint32_t id);

/* agent.c */
void agent_start(struct sim_world *world, uint32_t index);
/* Ends its link politely, and it does not come back. */
void agent_retire(struct sim_agent *agent);
void agent_freeze(struct sim_agent *agent);
void agents_free(struct sim_world *world);

/* client.c */
void client_start(struct sim_world *world, struct sim_client *client, uint64_t at_ns);
/* The same with a plan of the caller's instead of a drawn one (requests, temper are set). */
void client_start_planned(struct sim_world *world, struct sim_client *client, uint64_t at_ns);
void client_free(struct sim_client *client);
/* Judges what became of each request; in a strict world, against what was asked for. */
void client_judge(struct sim_client *client);

/* hog.c: memory gets short on every ring of the server and of the real agent, and comes back. */
void hog_take(struct sim_world *world);
void hog_release(struct sim_world *world);

struct gm_rings *world_rings(struct sim_world *world, uint32_t count,
                             const struct gm_rings_ops *ops);
/* Nothing is held by that ring. */
void world_check_store(struct sim_world *world, const char *who, struct gm_ring *ring);
/* backend.c: the real agent and a backend; its drain; its end, in two steps. */
void real_agent_start(struct sim_world *world);
void real_agent_drain(struct sim_world *world);
void real_agent_stop(struct sim_world *world, bool join);

/* scenarios.c: runs the scenario of that number, or returns its name alone; NULL: no such. */
const char *scenario_run(struct sim_world *world, uint32_t number, bool run);

#endif
