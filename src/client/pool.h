/* Connections to one target on one ring: dialled, lent to a call (client/call.h), kept for the
 * next.
 *
 * Owner: the ring. Idle connections are used last in, first out, closed after `idle_timeout_ns`, at
 * their peer's end, and at any byte nobody asked for. A request that may not be repeated takes only
 * one that was idle for less than GM_BACKEND_FRESH_NS (design section 5.7). */
#ifndef GM_CLIENT_POOL_H
#define GM_CLIENT_POOL_H

#include "base/counter.h"
#include "client/fields.h"
#include "client/target.h"
#include "control/control.h"
#include "net/tls.h"

#define GM_BACKEND_FRESH_NS 1000000000ull
/* Idle connections of one target and ring; above it the oldest goes. */
#define GM_BACKEND_IDLE_MAX 512u

struct gm_call;
struct gm_backend_pool;

/* One connection. */
struct gm_backend_conn {
    struct gm_conn conn;
    struct gm_backend_pool *pool;
    struct gm_call *call; /* NULL: idle, or on its way out */
    struct gm_list node;  /* idle list of the pool, or free list of the store */
    uint64_t idle_since_ns;
    bool idle, reused;
};

/* The memory of all connections of a ring's pools, carved at start, touched as used. */
struct gm_backend_store {
    struct gm_ring *ring;
    struct gm_backend_conn *slab;
    struct gm_list free; /* the one used last in front */
    uint32_t capacity, fresh;
};
int gm_backend_store_init(struct gm_backend_store *store, struct gm_ring *ring,
                          uint32_t capacity) GM_WARN_UNUSED;
/* On the ring, at its end: what connections still hold is freed, without a callback. */
void gm_backend_store_fini(struct gm_backend_store *store);

struct gm_backend_config {
    struct gm_backend_store *store;
    struct gm_control *control;     /* may be NULL when the target is resolved */
    const struct gm_target *target; /* borrowed */
    /* Where the TLS context of a dial stands, which its owner, on this ring, may exchange between
     * dials; NULL: plaintext. Borrowed, like the next two */
    struct gm_tls_client *const *tls;
    struct gm_tls_room *room;
    const char *tls_name; /* whom the backend's certificate must be for */
    /* What we set in each request; NULL: nothing. Borrowed; the ring's owner may put another set in
     * its place at any time. */
    const struct gm_client_fields *fields;
    uint64_t connect_timeout_ns;
    uint64_t idle_timeout_ns;   /* 0: no connection is kept */
    uint64_t header_timeout_ns; /* 0: none */
};

struct gm_backend_pool {
    struct gm_backend_config config;
    struct gm_list idle; /* the one used last in front */
    uint32_t idle_count;
    struct gm_timer idle_timer;
    struct gm_list waiting; /* calls that wait for the lookup */
    struct gm_control_lookup lookup;
    bool looking_up;
    uint32_t addr_count; /* of the newest answer */
    union gm_addr addrs[GM_CONTROL_ADDRS_MAX];
};
void gm_backend_pool_init(struct gm_backend_pool *pool, const struct gm_backend_config *config);
/* Closes what is idle. */
void gm_backend_pool_drain(struct gm_backend_pool *pool);

#endif
