/* A call and the backend it meets, on a simulated network: both scripted, every byte recorded. */
#ifndef GM_TESTS_CLIENT_WORLD_H
#define GM_TESTS_CLIENT_WORLD_H

#include "client/call.h"
#include "ring/sim.h"

#define MS       1000000ull
#define SECOND   1000000000ull
#define TEXT_MAX 400000u

enum then { STAY, FIN, RST };

/* What the backend does when it has read a whole head (and `body` bytes behind it, or up to the
 * last chunk when -1). */
struct step {
    const char *answer; /* NULL: nothing */
    size_t answer_len;  /* 0: strlen */
    long body;
    enum then then;
    bool early; /* answers as soon as the head has come */
};

struct text {
    char bytes[TEXT_MAX];
    size_t len;
};

/* One connection that the backend has accepted. */
struct peer {
    struct gm_conn conn;
    struct world *world;
    size_t start; /* of the request under way in `got` */
    struct text got;
    bool answered; /* the request under way, early */
    bool ended, closed;
};

/* The owner of a call and all it was told. */
struct owner {
    struct gm_call call;
    struct world *world;
    size_t room; /* SIZE_MAX: any */
    struct text body, heads, trailers;
    unsigned ends, fails, sents, head_count, last_status;
    bool head_end, untouched;
    enum gm_reason_code reason;
    int start_rc, data_rc, end_rc;
};

#define PEERS 8u
struct world {
    struct gm_sim *sim;
    struct gm_rings *agent, *far;
    struct gm_ring *ring;
    struct gm_listener listener;
    struct gm_target target;
    struct gm_backend_store store;
    struct gm_backend_pool pool;
    const struct step *script; /* one step per request, over all connections */
    unsigned script_len, script_at;
    struct peer *peers[PEERS];
    unsigned accepted;
    struct owner owner;
    struct gm_timer clock;
    uint64_t wake_ns;
};

struct world *world_new(uint64_t seed, const char *target);
/* Checks that every buffer, block and segment has come back. */
void world_free(struct world *world);

struct ask {
    const char *method, *target, *authority;
    const char *fields; /* "Name: value\n…" */
    uint64_t content_length;
    uint8_t flags;
    const void *body;
    size_t body_len;
    const char *trailers; /* like fields */
    bool open;            /* the request is not ended */
};
/* Starts a call and gives it its whole request. */
void world_ask(struct world *world, const struct ask *ask);
void world_run(struct world *world, uint64_t ns);
/* On the agent's ring. */
void world_do(struct world *world, void (*fn)(struct world *world));

#endif
