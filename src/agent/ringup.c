/* A ring's context and its part in a drain. Owner: the ring.
 *
 * The drain: diallers stop, links announce it and close by themselves when the server has
 * acknowledged and their last stream has ended; at the deadline streams are reset, and shortly
 * afterwards links are closed, whatever they hold. */
#include "agent/ringup.h"

#include <stdlib.h>
#include <string.h>

#include "agent/dialler.h"
#include "agent/health.h"
#include "agent/ops.h"
#include "agent/serve.h"
#include "base/log.h"
#include "base/pages.h"
#include "control/process.h"

#define DRAIN_TICK_NS 20000000ull
/* Between the resets at the deadline and the end of the links, for the server to answer them; and
 * from there to the end of the process. */
#define DRAIN_RESET_NS 500000000ull

static void drain_tick(struct gm_timer *timer);

static int init_serves(struct gm_agent_ring *ctx)
{
    ctx->serves = gm_pages_map(sizeof *ctx->serves * GM_AGENT_SERVES_MAX);
    ctx->serve_free = malloc(sizeof *ctx->serve_free * GM_AGENT_SERVES_MAX);
    if (ctx->serves == NULL || ctx->serve_free == NULL)
        return -GM_E_NOMEM;
    /* The lowest index is on top, so that the slab's first pages are the hot ones. */
    for (uint32_t i = 0; i < GM_AGENT_SERVES_MAX; i++)
        ctx->serve_free[i] = GM_AGENT_SERVES_MAX - 1 - i;
    ctx->serve_free_count = GM_AGENT_SERVES_MAX;
    return 0;
}

static int init_pools(struct gm_agent_ring *ctx)
{
    const struct gm_agent_shared *shared = ctx->shared;
    ctx->pools = calloc(shared->service_count, sizeof *ctx->pools);
    ctx->tallies = calloc(shared->service_count, sizeof *ctx->tallies);
    if (ctx->pools == NULL || ctx->tallies == NULL)
        return -GM_E_NOMEM;
    for (uint32_t i = 0; i < shared->service_count; i++) {
        struct gm_backend_config config = {
            .store = &ctx->backends,
            .control = shared->control,
            .target = &shared->services[i].target,
            .tls = gm_trust_place(&shared->services[i].trust, gm_ring_index(ctx->ring)),
            .room = &ctx->tls_room,
            .tls_name = shared->services[i].trust.name,
            .connect_timeout_ns = shared->config->connect_timeout_ns,
            .idle_timeout_ns = shared->config->backend_idle_timeout_ns,
            .header_timeout_ns = shared->config->response_header_timeout_ns,
            .fields = ctx->fields[i].now,
        };
        gm_backend_pool_init(&ctx->pools[i], &config);
    }
    return 0;
}

int gm_agent_ring_init(struct gm_ring *ring, void *arg)
{
    struct gm_agent_shared *shared = arg;
    struct gm_agent_ring *ctx = calloc(1, sizeof *ctx);
    if (ctx == NULL)
        return -GM_E_NOMEM;
    shared->ring_contexts[gm_ring_index(ring)] = ctx;
    gm_ring_set_user(ring, ctx);
    ctx->shared = shared;
    ctx->ring = ring;
    gm_list_init(&ctx->running);
    gm_list_init(&ctx->links);
    gm_timer_init(&ctx->drain_timer, drain_tick);
    gm_timer_init(&ctx->tell_timer, gm_agent_links_tell_again);
    gm_tls_room_init(&ctx->tls_room, ring);
    int rc = gm_backend_store_init(&ctx->backends, ring, GM_AGENT_BACKENDS_MAX);
    if (rc >= 0)
        rc = init_serves(ctx);
    if (rc >= 0)
        rc = gm_agent_headers_ring_init(ctx);
    if (rc >= 0)
        rc = init_pools(ctx);
    if (rc >= 0 && gm_ring_index(ring) == 0)
        rc = gm_agent_ops_listen(ctx);
    return rc;
}

void gm_agent_ring_fini(struct gm_ring *ring, void *arg)
{
    struct gm_agent_shared *shared = arg;
    struct gm_agent_ring *ctx = shared->ring_contexts[gm_ring_index(ring)];
    if (ctx == NULL)
        return;
    gm_agent_links_forget(ctx);
    gm_backend_store_fini(&ctx->backends);
    gm_agent_headers_ring_fini(ctx);
    gm_pages_unmap(ctx->serves, sizeof *ctx->serves * GM_AGENT_SERVES_MAX);
    free(ctx->serve_free);
    free(ctx->pools);
    ctx->serves = NULL;
    ctx->serve_free = NULL;
    ctx->pools = NULL;
}

void gm_agent_ring_free(struct gm_agent_ring *ctx)
{
    if (ctx == NULL)
        return;
    gm_agent_ops_free(ctx->ops);
    free(ctx->tallies);
    free(ctx);
}

/* ---- News from the main thread ---- */

/* Services whose dialler is on this ring. */
static void each_service(struct gm_agent_ring *ctx,
                         void (*act)(struct gm_agent_ring *, struct gm_agent_service_info *))
{
    struct gm_agent_shared *shared = ctx->shared;
    for (uint32_t i = 0; i < shared->service_count; i++) {
        if (gm_dialler_ring(shared->services[i].dialler) == gm_ring_index(ctx->ring))
            act(ctx, &shared->services[i]);
    }
}

static void service_begin(struct gm_agent_ring *ctx, struct gm_agent_service_info *service)
{
    if (!gm_agent_health_start(ctx, service))
        gm_log_error("the backend's health cannot be checked: out of memory",
                     GM_STR("target", service->config->target));
    gm_dialler_start(service->dialler);
}

static void service_end(struct gm_agent_ring *ctx, struct gm_agent_service_info *service)
{
    (void)ctx;
    gm_agent_health_stop(service);
    gm_dialler_stop(service->dialler);
}

static void dial_begin(struct gm_ring *ring)
{
    each_service(gm_ring_user(ring), service_begin);
}

void gm_agent_dial_all(struct gm_agent_shared *shared)
{
    gm_process_tell_all(shared->rings, dial_begin);
}

static void service_retry(struct gm_agent_ring *ctx, struct gm_agent_service_info *service)
{
    (void)ctx;
    gm_dialler_retry(service->dialler);
}

void gm_agent_take_trust(struct gm_ring *ring)
{
    struct gm_agent_ring *ctx = gm_ring_user(ring);
    struct gm_agent_shared *shared = ctx->shared;
    uint32_t index = gm_ring_index(ring);
    (void)gm_trust_adopt(&shared->trust, index);
    for (uint32_t i = 0; i < shared->service_count; i++) {
        /* What is idle was let in by files that are no longer. */
        if (gm_trust_adopt(&shared->services[i].trust, index))
            gm_backend_pool_drain(&ctx->pools[i]);
    }
    each_service(ctx, service_retry);
}

/* ---- Drain ---- */

static void drain_tick(struct gm_timer *timer)
{
    struct gm_agent_ring *ctx = GM_CONTAINER_OF(timer, struct gm_agent_ring, drain_timer);
    uint64_t now_ns = gm_ring_now_ns(ctx->ring);
    /* A peer that does not take even the last words is left with them. */
    bool late = now_ns >= ctx->drain_deadline_ns + 2 * DRAIN_RESET_NS;
    if (gm_list_empty(&ctx->links) || late) {
        if (!ctx->done_told)
            atomic_fetch_add_explicit(&ctx->shared->rings_done, 1, memory_order_relaxed);
        ctx->done_told = true;
        return;
    }
    if (now_ns >= ctx->drain_deadline_ns && !ctx->cut) {
        ctx->cut = true;
        gm_serve_cut_all(ctx);
    }
    if (now_ns >= ctx->drain_deadline_ns + DRAIN_RESET_NS)
        gm_agent_links_end(ctx);
    gm_timer_set(ctx->ring, timer, now_ns + DRAIN_TICK_NS);
}

static void drain_begin(struct gm_ring *ring)
{
    struct gm_agent_ring *ctx = gm_ring_user(ring);
    uint64_t now_ns = gm_ring_now_ns(ctx->ring);
    ctx->draining = true;
    ctx->drain_deadline_ns = now_ns + ctx->shared->config->shutdown_timeout_ns;
    each_service(ctx, service_end);
    gm_agent_links_drain(ctx);
    gm_timer_set(ctx->ring, &ctx->drain_timer, now_ns + DRAIN_TICK_NS);
}

void gm_agent_drain_all(struct gm_agent_shared *shared)
{
    gm_process_tell_all(shared->rings, drain_begin);
}

/* The deadline is now, and nobody waits for the resets to be heard. */
static void drain_cut(struct gm_ring *ring)
{
    struct gm_agent_ring *ctx = gm_ring_user(ring);
    uint64_t now_ns = gm_ring_now_ns(ring);
    ctx->drain_deadline_ns = now_ns > DRAIN_RESET_NS ? now_ns - DRAIN_RESET_NS : 0;
}

void gm_agent_cut_all(struct gm_agent_shared *shared)
{
    gm_process_tell_all(shared->rings, drain_cut);
}
