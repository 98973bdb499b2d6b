/* Pools of backend connections: the memory, the idle list, the lookup. Owner: one ring.
 *
 * Invariants: a connection is in exactly one of the states lent (call set), idle (on the pool's
 * list), closing (neither), free (on the store's list); an idle one has an open grant, so that its
 * peer's end and any stray byte are seen. */
#include "client/pool.h"

#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "base/pages.h"
#include "client/internal.h"

/* An idle connection needs a grant to be watched; any byte on it ends it. */
#define IDLE_GRANT 64u

static const struct gm_conn_ops backend_ops;
static void idle_expired(struct gm_timer *timer);
static void lookup_done(struct gm_control_lookup *lookup);

/* ---- Memory ---- */

int gm_backend_store_init(struct gm_backend_store *store, struct gm_ring *ring, uint32_t capacity)
{
    *store = (struct gm_backend_store){.ring = ring, .capacity = capacity};
    gm_list_init(&store->free);
    store->slab = gm_pages_map(capacity * sizeof *store->slab);
    return store->slab == NULL ? -GM_E_NOMEM : 0;
}

void gm_backend_store_fini(struct gm_backend_store *store)
{
    for (uint32_t i = 0; i < store->fresh; i++)
        gm_tls_free(gm_conn_take_tls(&store->slab[i].conn));
    store->fresh = 0;
    gm_pages_unmap(store->slab, store->capacity * sizeof *store->slab);
    store->slab = NULL;
}

static struct gm_backend_conn *store_take(struct gm_backend_store *store)
{
    struct gm_list *node = gm_list_pop_front(&store->free);
    struct gm_backend_conn *backend = NULL;
    if (node != NULL)
        backend = GM_CONTAINER_OF(node, struct gm_backend_conn, node);
    else if (store->fresh < store->capacity)
        backend = &store->slab[store->fresh++];
    if (backend == NULL)
        return NULL;
    memset(backend, 0, sizeof *backend);
    gm_list_init(&backend->node);
    return backend;
}

static void store_give(struct gm_backend_store *store, struct gm_backend_conn *backend)
{
    gm_list_push_front(&store->free, &backend->node);
}

/* ---- The pool ---- */

void gm_backend_pool_init(struct gm_backend_pool *pool, const struct gm_backend_config *config)
{
    memset(pool, 0, sizeof *pool);
    pool->config = *config;
    gm_list_init(&pool->idle);
    gm_list_init(&pool->waiting);
    gm_timer_init(&pool->idle_timer, idle_expired);
    const struct gm_target *target = config->target;
    if (target->resolved) {
        pool->addrs[0] = target->literal;
        pool->addr_count = 1;
        return;
    }
    GM_ASSERT(target->host.len < sizeof pool->lookup.host);
    memcpy(pool->lookup.host, target->host.p, target->host.len);
    pool->lookup.port = target->url.port;
    pool->lookup.on_done = lookup_done;
}

static void unlist_idle(struct gm_backend_conn *backend)
{
    gm_list_remove(&backend->node);
    backend->idle = false;
    backend->pool->idle_count--;
}

void client_drop(struct gm_backend_conn *backend)
{
    if (backend->idle)
        unlist_idle(backend);
    backend->call = NULL;
    gm_conn_abort(&backend->conn, false);
}

void client_part(struct gm_backend_conn *backend)
{
    backend->call = NULL;
    gm_conn_close(&backend->conn);
}

static struct gm_backend_conn *oldest_idle(struct gm_backend_pool *pool)
{
    return gm_list_empty(&pool->idle)
               ? NULL
               : GM_CONTAINER_OF(pool->idle.prev, struct gm_backend_conn, node);
}

static void idle_expired(struct gm_timer *timer)
{
    struct gm_backend_pool *pool = GM_CONTAINER_OF(timer, struct gm_backend_pool, idle_timer);
    struct gm_ring *ring = pool->config.store->ring;
    uint64_t now_ns = gm_ring_now_ns(ring);
    struct gm_backend_conn *oldest;
    while ((oldest = oldest_idle(pool)) != NULL) {
        uint64_t until_ns = oldest->idle_since_ns + pool->config.idle_timeout_ns;
        if (until_ns > now_ns) {
            gm_timer_set(ring, timer, until_ns);
            return;
        }
        client_drop(oldest);
    }
}

void gm_backend_pool_drain(struct gm_backend_pool *pool)
{
    struct gm_backend_conn *oldest;
    gm_timer_cancel(&pool->idle_timer);
    while ((oldest = oldest_idle(pool)) != NULL)
        client_drop(oldest);
}

void client_keep(struct gm_backend_conn *backend)
{
    struct gm_backend_pool *pool = backend->pool;
    struct gm_ring *ring = pool->config.store->ring;
    backend->call = NULL;
    if (pool->config.idle_timeout_ns == 0) {
        client_drop(backend);
        return;
    }
    if (pool->idle_count >= GM_BACKEND_IDLE_MAX)
        client_drop(oldest_idle(pool));
    backend->idle = true;
    backend->idle_since_ns = gm_ring_now_ns(ring);
    gm_list_push_front(&pool->idle, &backend->node);
    pool->idle_count++;
    if (gm_conn_recv_left(&backend->conn) == 0)
        gm_conn_recv(&backend->conn, GM_POOL_CLIENT, IDLE_GRANT);
    if (!gm_timer_armed(&pool->idle_timer))
        gm_timer_set(ring, &pool->idle_timer,
                     backend->idle_since_ns + pool->config.idle_timeout_ns);
}

struct gm_backend_conn *client_take_idle(struct gm_backend_pool *pool, struct gm_call *call)
{
    struct gm_list *node = gm_list_first(&pool->idle);
    if (node == NULL)
        return NULL;
    struct gm_backend_conn *backend = GM_CONTAINER_OF(node, struct gm_backend_conn, node);
    uint64_t idle_ns = gm_ring_now_ns(pool->config.store->ring) - backend->idle_since_ns;
    if (idle_ns >= pool->config.idle_timeout_ns) {
        gm_backend_pool_drain(pool); /* the one used last is too old: so are all */
        return NULL;
    }
    if (!call->idempotent && idle_ns >= GM_BACKEND_FRESH_NS)
        return NULL;
    unlist_idle(backend);
    backend->call = call;
    backend->reused = true;
    call->backend = backend;
    gm_counter_add(GM_COUNTER_BACKEND_REUSES, 1);
    return backend;
}

/* TLS, where the target asks for it. False: out of memory. */
static bool backend_secure(struct gm_backend_conn *backend)
{
    const struct gm_backend_config *config = &backend->pool->config;
    if (config->tls == NULL)
        return true;
    struct gm_tls *session = gm_tls_connect(*config->tls, config->tls_name);
    return session != NULL &&
           gm_conn_secure(&backend->conn, session, config->room, GM_POOL_CLIENT) == 0;
}

int client_dial(struct gm_backend_pool *pool, struct gm_call *call, const union gm_addr *addr)
{
    struct gm_backend_store *store = pool->config.store;
    struct gm_backend_conn *backend = store_take(store);
    if (backend == NULL)
        return -GM_E_NOMEM;
    backend->pool = pool;
    int rc = gm_conn_dial(store->ring, &backend->conn, addr, &backend_ops);
    if (rc < 0) {
        store_give(store, backend);
        return rc;
    }
    if (!backend_secure(backend)) {
        gm_conn_abort(&backend->conn, false);
        return -GM_E_NOMEM;
    }
    backend->call = call;
    call->backend = backend;
    gm_counter_add(GM_COUNTER_BACKEND_CONNECTS, 1);
    return 0;
}

/* ---- The lookup ---- */

void client_resolve(struct gm_backend_pool *pool, struct gm_call *call)
{
    gm_list_push_back(&pool->waiting, &call->node);
    if (pool->looking_up)
        return;
    pool->looking_up = true;
    gm_control_resolve(pool->config.control, pool->config.store->ring, &pool->lookup);
}

static void lookup_done(struct gm_control_lookup *lookup)
{
    struct gm_backend_pool *pool = GM_CONTAINER_OF(lookup, struct gm_backend_pool, lookup);
    pool->looking_up = false;
    pool->addr_count = lookup->count;
    memcpy(pool->addrs, lookup->addrs, lookup->count * sizeof lookup->addrs[0]);
    struct gm_list waiting, *node;
    gm_list_init(&waiting);
    gm_list_splice_back(&waiting, &pool->waiting);
    while ((node = gm_list_pop_front(&waiting)) != NULL)
        client_resolved(GM_CONTAINER_OF(node, struct gm_call, node), lookup->error);
}

/* ---- The connection's events ---- */

static struct gm_backend_conn *backend_of(struct gm_conn *conn)
{
    return GM_CONTAINER_OF(conn, struct gm_backend_conn, conn);
}

static void backend_recv(struct gm_conn *conn, gm_slice slice)
{
    struct gm_backend_conn *backend = backend_of(conn);
    if (backend->call != NULL) {
        client_recv(backend->call, slice);
        return;
    }
    gm_slice_put(slice);
    client_drop(backend);
}

void client_log_tls(const struct gm_backend_pool *pool, int error)
{
    const struct gm_target *target = pool->config.target;
    if (error < 0 && pool->config.tls != NULL)
        gm_log_warn("TLS with the backend failed",
                    GM_STRN("target", target->authority.p, target->authority.len),
                    GM_STR("serverName", pool->config.tls_name), GM_ERRTEXT(gm_error_text(error)));
}

static void backend_recv_end(struct gm_conn *conn, int error)
{
    struct gm_backend_conn *backend = backend_of(conn);
    /* A missing end is judged by what it cuts; a certificate of ours is refused only now. */
    if (error <= -GM_E_TLS && error != -GM_E_TLS_TRUNCATED)
        client_log_tls(backend->pool, error);
    if (backend->call != NULL)
        client_recv_end(backend->call, error);
    else
        client_drop(backend);
}

/* While an answer is paused for want of room its end is no news: the bytes before it come first. */
static void backend_hangup(struct gm_conn *conn)
{
    struct gm_backend_conn *backend = backend_of(conn);
    if (backend->call == NULL)
        client_drop(backend);
}

static void backend_sent(struct gm_conn *conn, size_t bytes)
{
    struct gm_backend_conn *backend = backend_of(conn);
    (void)bytes;
    if (backend->call != NULL)
        client_sent(backend->call);
}

static void backend_broken(struct gm_conn *conn, int error)
{
    struct gm_backend_conn *backend = backend_of(conn);
    if (backend->call != NULL)
        client_broken(backend->call, error);
    else
        client_drop(backend);
}

static void backend_connected(struct gm_conn *conn, int error)
{
    struct gm_backend_conn *backend = backend_of(conn);
    client_log_tls(backend->pool, error);
    if (backend->call != NULL)
        client_connected(backend->call, error);
    else
        client_drop(backend);
}

static void backend_closed(struct gm_conn *conn)
{
    struct gm_backend_conn *backend = backend_of(conn);
    GM_ASSERT(backend->call == NULL && !backend->idle);
    store_give(backend->pool->config.store, backend);
}

static const struct gm_conn_ops backend_ops = {
    .on_recv = backend_recv,
    .on_recv_end = backend_recv_end,
    .on_hangup = backend_hangup,
    .on_sent = backend_sent,
    .on_broken = backend_broken,
    .on_connect = backend_connected,
    .on_closed = backend_closed,
};
