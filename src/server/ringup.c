/* A ring's context and its part in a drain. Owner: the ring.
 *
 * The drain: the accept queue is emptied and the listener closed; idle clients close, busy ones
 * after their answer; when no ring has a client left, links are closed; at the deadline whatever is
 * left is cut. */
#include "server/ringup.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/pages.h"
#include "control/claim.h"
#include "control/process.h"
#include "server/access.h"
#include "server/attach.h"
#include "server/exchange.h"
#include "server/far.h"
#include "server/figures.h"
#include "server/queue.h"

#define DRAIN_TICK_NS 20000000ull

const char *gm_server_date(struct gm_server_ring *ctx)
{
    int64_t now_s = gm_ring_wall_s(ctx->ring);
    if (now_s != ctx->date_wall_s) {
        gm_http_format_date(ctx->date, now_s);
        ctx->date_wall_s = now_s;
    }
    return ctx->date;
}

/* ---- Tokens that wait for RSA ---- */

static void verify_turn(struct gm_mail *mail)
{
    struct gm_server_ring *ctx = GM_CONTAINER_OF(mail, struct gm_server_ring, verify_mail);
    ctx->verify_mailed = false;
    gm_client_resume(&ctx->verify_waiting);
}

void gm_server_verify_later(struct gm_server_ring *ctx)
{
    if (ctx->verify_mailed)
        return;
    ctx->verify_mailed = true;
    ctx->verify_mail.deliver = verify_turn;
    gm_ring_mail(ctx->ring, gm_ring_index(ctx->ring), &ctx->verify_mail);
}

/* ---- Listeners ---- */

static struct gm_server_ring *context_of(struct gm_listener *listener)
{
    return gm_ring_user(listener->sock.ring);
}

static void accept_public(struct gm_listener *listener, int fd)
{
    gm_client_accept(context_of(listener), fd, GM_FACE_PUBLIC, false);
}
static void accept_tls(struct gm_listener *listener, int fd)
{
    gm_client_accept(context_of(listener), fd, GM_FACE_PUBLIC, true);
}
static void accept_metrics(struct gm_listener *listener, int fd)
{
    gm_client_accept(context_of(listener), fd, GM_FACE_METRICS, false);
}
static void accept_health(struct gm_listener *listener, int fd)
{
    gm_client_accept(context_of(listener), fd, GM_FACE_HEALTH, false);
}

static void listener_closed(struct gm_listener *listener)
{
    (void)listener;
}

union gm_addr gm_server_listen_addr(const struct gm_server_config *config, int32_t port)
{
    union gm_addr v4 = {.in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)}};
    union gm_addr v6 = {.in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)}};
    if (inet_pton(AF_INET, config->listen_address, &v4.in.sin_addr) == 1)
        return v4;
    if (inet_pton(AF_INET6, config->listen_address, &v6.in6.sin6_addr) == 1)
        return v6;
    return gm_claim_any_addr(port);
}

static int open_listener(struct gm_server_ring *ctx, struct gm_listener *listener, int32_t port,
                         void (*on_accept)(struct gm_listener *, int))
{
    listener->on_accept = on_accept;
    listener->on_closed = listener_closed;
    union gm_addr addr = gm_server_listen_addr(ctx->shared->config, port);
    int rc = gm_listener_open(ctx->ring, listener, &addr);
    if (rc < 0)
        gm_log_fatal("cannot listen", GM_INT("port", port),
                     GM_STR("address", ctx->shared->config->listen_address), GM_ERRNO(rc));
    return rc;
}

/* Those for clients and agents. */
static int open_public(struct gm_server_ring *ctx)
{
    const struct gm_server_config *config = ctx->shared->config;
    int rc = 0;
    if (config->http_port >= 0)
        rc = open_listener(ctx, &ctx->public_listener, config->http_port, accept_public);
    ctx->public_open += rc == 0 && config->http_port >= 0;
    if (rc >= 0 && config->https_port >= 0)
        rc = open_listener(ctx, &ctx->tls_listener, config->https_port, accept_tls);
    ctx->public_open += rc == 0 && config->https_port >= 0;
    return rc;
}

static int open_listeners(struct gm_server_ring *ctx)
{
    const struct gm_server_config *config = ctx->shared->config;
    int rc = open_public(ctx);
    /* The operators' ports need no second ring. */
    if (rc < 0 || gm_ring_index(ctx->ring) != 0)
        return rc;
    if (config->metrics_port >= 0)
        rc = open_listener(ctx, &ctx->metrics_listener, config->metrics_port, accept_metrics);
    if (rc >= 0 && config->health_port >= 0)
        rc = open_listener(ctx, &ctx->health_listener, config->health_port, accept_health);
    return rc;
}

/* ---- Context ---- */

static const struct gm_port_ops port_ops = {.on_near = gm_exchange_on_message,
                                            .on_far = gm_far_on_message};

static int init_tokens(struct gm_server_ring *ctx)
{
    struct gm_token_cache_limits limits = gm_token_cache_default_limits();
    unsigned char secret[GM_TOKEN_CACHE_SECRET_BYTES];
    ctx->tokens_memory = gm_pages_map(gm_token_cache_bytes(&limits));
    if (ctx->tokens_memory == NULL)
        return -GM_E_NOMEM;
    gm_ring_random(ctx->ring, secret, sizeof secret);
    gm_token_cache_init(&ctx->tokens, &limits, ctx->tokens_memory, secret);
    explicit_bzero(secret, sizeof secret);
    return 0;
}

static int init_exchanges(struct gm_server_ring *ctx)
{
    ctx->exchanges = gm_pages_map(sizeof *ctx->exchanges * GM_SERVER_EXCHANGES_MAX);
    ctx->exchange_free = malloc(sizeof *ctx->exchange_free * GM_SERVER_EXCHANGES_MAX);
    ctx->fars = calloc(gm_rings_count(gm_ring_rings(ctx->ring)), sizeof(struct gm_far *));
    if (ctx->exchanges == NULL || ctx->exchange_free == NULL || ctx->fars == NULL)
        return -GM_E_NOMEM;
    /* The lowest index is on top, so that the slab's first pages are the hot ones. */
    for (uint32_t i = 0; i < GM_SERVER_EXCHANGES_MAX; i++)
        ctx->exchange_free[i] = GM_SERVER_EXCHANGES_MAX - 1 - i;
    ctx->exchange_free_count = GM_SERVER_EXCHANGES_MAX;
    return 0;
}

static int init_metrics(struct gm_server_ring *ctx)
{
    gm_registry_watch(ctx->registry, gm_figures_joined, ctx);
    return gm_metrics_init(&ctx->metrics, (uint32_t)ctx->shared->config->metrics_series_max);
}

static void drain_tick(struct gm_timer *timer);

int gm_server_ring_init(struct gm_ring *ring, void *arg)
{
    struct gm_server_shared *shared = arg;
    struct gm_server_ring *ctx = calloc(1, sizeof *ctx);
    if (ctx == NULL)
        return -GM_E_NOMEM;
    shared->ring_contexts[gm_ring_index(ring)] = ctx;
    gm_ring_set_user(ring, ctx);
    ctx->shared = shared;
    ctx->ring = ring;
    gm_list_init(&ctx->clients);
    gm_list_init(&ctx->partial_heads);
    gm_list_init(&ctx->verify_waiting);
    gm_list_init(&ctx->pulled_fars);
    gm_list_init(&ctx->all_links);
    gm_list_init(&ctx->scrape.waiting);
    gm_task_init(&ctx->pulled_task, gm_far_report);
    gm_timer_init(&ctx->drain_timer, drain_tick);
    gm_certs_ring_init(&shared->certs, ctx);
    gm_keys_ring_init(&shared->keys, ctx);
    ctx->registry = gm_registry_new(ring, shared->registries);
    int rc = ctx->registry == NULL ? -GM_E_NOMEM
                                   : gm_port_init(&ctx->port, ring, shared->ports, &port_ops, ctx);
    if (rc >= 0)
        rc = gm_slab_init(&ctx->client_slab, sizeof(struct gm_client), gm_ring_socks_max(ring));
    if (rc >= 0)
        rc = init_exchanges(ctx);
    if (rc >= 0)
        rc = init_metrics(ctx);
    if (rc >= 0)
        rc = init_tokens(ctx);
    if (rc >= 0)
        rc = gm_access_ring_init(ctx);
    if (rc >= 0)
        rc = gm_queue_init(ctx);
    if (rc >= 0)
        rc = open_listeners(ctx);
    return rc;
}

static void forget_clients(struct gm_server_ring *ctx)
{
    struct gm_list *node;
    while ((node = gm_list_pop_front(&ctx->clients)) != NULL)
        gm_client_forget(GM_CONTAINER_OF(node, struct gm_client, node));
}

void gm_server_ring_fini(struct gm_ring *ring, void *arg)
{
    struct gm_server_shared *shared = arg;
    struct gm_server_ring *ctx = shared->ring_contexts[gm_ring_index(ring)];
    if (ctx == NULL)
        return;
    forget_clients(ctx);
    gm_attach_fini(ctx);
    gm_access_ring_fini(ctx);
    gm_certs_ring_fini(ctx);
    gm_keys_ring_fini(ctx);
    gm_port_fini(&ctx->port);
    gm_token_cache_fini(&ctx->tokens);
    struct gm_token_cache_limits limits = gm_token_cache_default_limits();
    gm_pages_unmap(ctx->tokens_memory, gm_token_cache_bytes(&limits));
    gm_slab_fini(&ctx->client_slab);
    gm_pages_unmap(ctx->exchanges, sizeof *ctx->exchanges * GM_SERVER_EXCHANGES_MAX);
    for (uint32_t i = 0; ctx->fars != NULL && i < gm_rings_count(gm_ring_rings(ring)); i++)
        gm_pages_unmap(ctx->fars[i], sizeof(struct gm_far) * GM_SERVER_EXCHANGES_MAX);
    free(ctx->fars);
    free(ctx->exchange_free);
}

/* ---- Drain ---- */

static void each_client(struct gm_server_ring *ctx, void (*act)(struct gm_client *client))
{
    struct gm_list *next;
    for (struct gm_list *node = ctx->clients.next; node != &ctx->clients; node = next) {
        next = node->next;
        struct gm_client *client = GM_CONTAINER_OF(node, struct gm_client, node);
        if (client->face == GM_FACE_PUBLIC)
            act(client);
    }
}

static bool has_public_client(struct gm_server_ring *ctx)
{
    for (struct gm_list *node = ctx->clients.next; node != &ctx->clients; node = node->next) {
        if (GM_CONTAINER_OF(node, struct gm_client, node)->face == GM_FACE_PUBLIC)
            return true;
    }
    return false;
}

static void cut_client(struct gm_client *client)
{
    if (client->exchange != NULL)
        gm_exchange_fail(client->exchange, GM_REASON_DRAINING);
    else
        /* What it has not taken of an answer must not look like the end of it. */
        gm_client_cut(client, gm_conn_queued(&client->conn) > 0);
}

static void drain_tick(struct gm_timer *timer)
{
    struct gm_server_ring *ctx = GM_CONTAINER_OF(timer, struct gm_server_ring, drain_timer);
    struct gm_server_shared *shared = ctx->shared;
    uint64_t now_ns = gm_ring_now_ns(ctx->ring);
    bool late = now_ns >= ctx->drain_deadline_ns;
    if (late)
        each_client(ctx, cut_client);
    if (!ctx->idle_told && (late || (!has_public_client(ctx) && ctx->public_open == 0))) {
        ctx->idle_told = true;
        atomic_fetch_add_explicit(&shared->rings_idle, 1, memory_order_relaxed);
    }
    bool all_idle = atomic_load_explicit(&shared->rings_idle, memory_order_relaxed) ==
                    gm_rings_count(shared->rings);
    if (all_idle && ctx->link_count > 0)
        gm_attach_end_all(ctx);
    if (all_idle && !ctx->done_told) {
        ctx->done_told =
            true; /* the CLOSE frames leave in this turn's flush; one more tick sees them off */
    } else if (all_idle) {
        atomic_fetch_add_explicit(&shared->rings_done, 1, memory_order_relaxed);
        return;
    }
    gm_timer_set(ctx->ring, timer, now_ns + DRAIN_TICK_NS);
}

static void public_closed(struct gm_listener *listener)
{
    context_of(listener)->public_open--;
}

static void close_public(struct gm_listener *listener, int32_t port)
{
    if (port < 0)
        return;
    listener->on_closed = public_closed;
    gm_listener_close(listener);
}

static void drain_begin(struct gm_ring *ring)
{
    struct gm_server_ring *ctx = gm_ring_user(ring);
    const struct gm_server_config *config = ctx->shared->config;
    ctx->phase = GM_SERVER_DRAINING;
    ctx->drain_deadline_ns = gm_ring_now_ns(ctx->ring) + ctx->shared->config->shutdown_timeout_ns;
    close_public(&ctx->public_listener, config->http_port);
    close_public(&ctx->tls_listener, config->https_port);
    each_client(ctx, gm_client_drain);
    gm_attach_announce_drain(ctx);
    gm_timer_set(ctx->ring, &ctx->drain_timer, gm_ring_now_ns(ctx->ring) + DRAIN_TICK_NS);
}

static void drain_cut(struct gm_ring *ring)
{
    struct gm_server_ring *ctx = gm_ring_user(ring);
    ctx->drain_deadline_ns = gm_ring_now_ns(ctx->ring);
}

void gm_server_drain_all(struct gm_server_shared *shared)
{
    gm_process_tell_all(shared->rings, drain_begin);
}

void gm_server_cut_all(struct gm_server_shared *shared)
{
    gm_process_tell_all(shared->rings, drain_cut);
}
