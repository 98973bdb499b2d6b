/* Beginning, end and invariants of a simulated world. Owner: one thread. */
#include "world.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../unit/auth/keys.h"
#include "auth/sign.h"
#include "ring/internal.h"
#include "ring/sim_net.h"
#include "server/attach.h"
#include "server/exchange.h"
#include "server/lanes.h"
#include "server/ringup.h"

/* The simulated clock starts on 1 January 2026; these outlive it. */
#define AGENT_CLAIMS                                                                               \
    "{\"iss\":\"gimlet\",\"aud\":\"gimlet-agent\",\"sub\":\"bob\",\"service\":\"svc\","            \
    "\"exp\":4102444800}"
#define CLIENT_CLAIMS                                                                              \
    "{\"iss\":\"gimlet\",\"aud\":\"gimlet-client\",\"sub\":\"alice\",\"services\":[\"svc\"],"      \
    "\"exp\":4102444800}"
/* Exchanges looked at after every step: indices are taken from the lowest. */
#define CHECKED_EXCHANGES 64u

/* Bytes that a client may be owed beyond what is reserved for it. */
#define ANSWERS_MAX 24576u

const char *world_agent_token, *world_client_token;
static struct gm_keyset *keys;

static void die(const char *what)
{
    (void)fprintf(stderr, "simulation: %s\n", what);
    exit(2);
}

static char *sign(struct gm_private_key *key, const char *claims)
{
    struct gm_auth_error error;
    char *token = malloc(GM_JWT_TOKEN_BYTES_MAX + 1);
    struct gm_sign_text text = {"{\"alg\":\"RS256\",\"typ\":\"JWT\"}", claims, 256};
    if (token == NULL || gm_jwt_sign(key, &text, token, GM_JWT_TOKEN_BYTES_MAX, &error) < 0)
        die("cannot sign a token");
    return token;
}

void world_keys_load(void)
{
    struct gm_auth_error error;
    struct gm_private_key *key;
    char path[] = "/tmp/gm-sim-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, key_a_private, strlen(key_a_private)) < 0)
        die("cannot write a key");
    (void)close(fd);
    int rc = gm_private_key_load(&key, path, &error);
    (void)unlink(path);
    if (rc < 0 || gm_keyset_load_inline(&keys, "test", key_a_public, &error) < 0)
        die(error.text);
    world_agent_token = sign(key, AGENT_CLAIMS);
    world_client_token = sign(key, CLIENT_CLAIMS);
    gm_private_key_free(key);
}

void world_fail(struct sim_world *world, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)fprintf(stderr, "FAIL seed %llu step %llu at %.6f s: ", (unsigned long long)world->seed,
                  (unsigned long long)gm_sim_steps(world->sim),
                  (double)gm_sim_now(world->sim) / 1e9 - 1000.0);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
    world->failed = true;
}

union gm_addr world_server_addr(void)
{
    union gm_addr addr = {.in = {.sin_family = AF_INET, .sin_port = htons(SIM_SERVER_PORT)}};
    (void)inet_pton(AF_INET, "127.0.0.1", &addr.in.sin_addr);
    return addr;
}

/* ---- Beginning and end ---- */

static void configure(struct sim_world *world)
{
    world->config = (struct gm_server_config){
        .listen_address = "127.0.0.1",
        .http_port = SIM_SERVER_PORT,
        .metrics_port = -1,
        .metrics_series_max = 16,
        .metrics_retention_ns = 2 * SIM_SECOND,
        .https_port = -1,
        .health_port = -1,
        .server_id = "sim",
        .token_issuer = "gimlet",
        .stream_limit = (world->strict ? 64 : 8) + (int64_t)world_rand(world, 200),
        .header_bytes = 65536,
        .header_timeout_ns = 2 * SIM_SECOND,
        .body_timeout_ns = 3 * SIM_SECOND,
        .idle_timeout_ns = 8 * SIM_SECOND,
        .keepalive_timeout_ns = 5 * SIM_SECOND,
        .shutdown_timeout_ns = 10 * SIM_SECOND,
    };
    uint32_t lanes = world->ring_count < 4 ? world->ring_count : 4;
    world->shared = (struct gm_server_shared){
        .config = &world->config,
        .keys = {.newest = keys},
        .lanes = gm_lanes_new(lanes),
        .ring_contexts = world->contexts,
        .ports = world->ports,
        .registries = world->registries,
        .lane_count = lanes,
        .instance = "0123456789abcdef0123456789abcdef",
    };
}

struct gm_rings *world_rings(struct sim_world *world, uint32_t count,
                             const struct gm_rings_ops *ops)
{
    struct gm_rings_config config = {.io = GM_IO_SIM,
                                     .count = count,
                                     .memory_bytes = GM_RING_MEMORY_MIN,
                                     .socks_max = 256,
                                     .sim = world->sim};
    struct gm_rings *rings = NULL;
    char why[512] = "";
    if (gm_rings_start(&config, ops, &rings, why) < 0)
        die(why);
    return rings;
}

void world_open(struct sim_world *world, uint64_t seed)
{
    memset(world, 0, sizeof *world);
    world->seed = seed;
    world->sim = gm_sim_new(seed);
    world->next_id = 1;
    gm_sim_profile_default(&world->profile);
    world->strict = world_chance(world, 30);
    world->ring_count = 1 + (uint32_t)world_rand(world, SIM_RINGS_MAX);
    configure(world);
    struct gm_rings_ops none = {0},
                        ops = {gm_server_ring_init, gm_server_ring_fini, &world->shared};
    world->shared.rings = world_rings(world, world->ring_count, &ops);
    world->client_rings = world_rings(world, 1, &none);
    world->agent_rings = world_rings(world, 1, &none);
    world->client_ring = gm_rings_get(world->client_rings, 0);
    world->agent_ring = gm_rings_get(world->agent_rings, 0);
}

void world_close(struct sim_world *world)
{
    gm_rings_stop(world->client_rings);
    gm_rings_stop(world->agent_rings);
    gm_rings_stop(world->shared.rings);
    if (world->real)
        real_agent_stop(world, false);
    (void)gm_sim_run_for(world->sim, SIM_SECOND);
    if (world->real)
        real_agent_stop(world, true);
    gm_rings_join(world->client_rings);
    gm_rings_join(world->agent_rings);
    gm_rings_join(world->shared.rings);
    for (uint32_t i = 0; i < world->client_count; i++)
        client_free(&world->clients[i]);
    agents_free(world);
    for (uint32_t i = 0; i < world->ring_count; i++) {
        gm_registry_free(world->registries[i]);
        if (world->contexts[i] != NULL)
            gm_metrics_fini(&world->contexts[i]->metrics);
        free(world->contexts[i]);
    }
    gm_lanes_free(world->shared.lanes);
    gm_sim_free(world->sim);
}

struct sim_request *world_request(struct sim_world *world, uint32_t id)
{
    for (uint32_t i = 0; i < world->client_count; i++) {
        struct sim_client *client = &world->clients[i];
        for (uint32_t j = 0; j < client->request_count; j++) {
            if (client->requests[j].id == id)
                return &client->requests[j];
        }
    }
    return NULL;
}

/* ---- Invariants ---- */

static uint64_t exchange_check(struct sim_world *world, const struct gm_exchange *exchange)
{
    const struct gm_window *window = &exchange->window;
    if (exchange->unpulled > exchange->upload_reserved)
        world_fail(world, "exchange %u: %u bytes unpulled of %u reserved", exchange->index,
                   exchange->unpulled, exchange->upload_reserved);
    if ((uint64_t)window->credit + window->held + window->owed != window->size)
        world_fail(world, "exchange %u: the window's parts are not its sum", exchange->index);
    if (exchange->client == NULL || exchange->client->exchange != exchange)
        world_fail(world, "exchange %u: its client does not know it", exchange->index);
    return (uint64_t)window->size + exchange->upload_reserved;
}

/* What waits for a client to read it is bounded: by the window of the request under way, by what is
 * still reserved of earlier ones, and by the answers that the gateway makes itself. */
static uint64_t client_check(struct sim_world *world, const struct gm_client *client)
{
    size_t queued = gm_conn_queued(&client->conn);
    size_t most = client->answer_reserved + ANSWERS_MAX;
    if (client->exchange != NULL)
        most += client->exchange->window.size + client->exchange->window.size / 4;
    if (queued > most)
        world_fail(world, "a client that does not read is owed %zu bytes", queued);
    return client->answer_reserved;
}

/* Requests under way: as many as the counts say, and every byte reserved is somebody's. */
void world_check(struct sim_world *world)
{
    int64_t all = 0;
    for (uint32_t r = 0; r < world->ring_count; r++) {
        const struct gm_server_ring *ctx = world->contexts[r];
        uint64_t reserved = world->hogs[r].reserved;
        uint32_t used = 0;
        for (uint32_t i = 0; i < CHECKED_EXCHANGES; i++) {
            if (!ctx->exchanges[i].in_use)
                continue;
            used++;
            reserved += exchange_check(world, &ctx->exchanges[i]);
        }
        for (struct gm_list *node = ctx->clients.next; node != &ctx->clients; node = node->next)
            reserved += client_check(world, GM_CONTAINER_OF(node, struct gm_client, node));
        all += used;
        if (used != ctx->exchange_used_count)
            world_fail(world, "ring %u: %u exchanges in use, %u counted", r, used,
                       ctx->exchange_used_count);
        if (reserved != ctx->ring->store.reserved)
            world_fail(world, "ring %u: %llu bytes reserved, %llu accounted for", r,
                       (unsigned long long)ctx->ring->store.reserved, (unsigned long long)reserved);
    }
    int64_t counted = atomic_load_explicit(&world->shared.active_requests, memory_order_relaxed);
    if (counted != all)
        world_fail(world, "%lld requests under way, %lld counted", (long long)all,
                   (long long)counted);
}

void world_run(struct sim_world *world, uint64_t until_ns)
{
    while (!world->failed && gm_sim_now(world->sim) < until_ns) {
        if (!gm_sim_step(world->sim))
            break;
        if (gm_sim_steps(world->sim) % 4 == 0)
            world_check(world);
    }
}

/* A real agent looks for servers at any time: a connection that has just come has its deadline. */
static bool client_hangs(const struct sim_world *world, const struct gm_client *client)
{
    return !world->real || client->exchange != NULL || !gm_timer_armed(&client->conn.timer);
}

void world_check_quiet(struct sim_world *world)
{
    for (uint32_t r = 0; r < world->ring_count; r++) {
        const struct gm_server_ring *ctx = world->contexts[r];
        if (ctx->exchange_used_count != 0)
            world_fail(world, "ring %u: %u requests hang", r, ctx->exchange_used_count);
        for (struct gm_list *node = ctx->clients.next; node != &ctx->clients; node = node->next) {
            const struct gm_client *client = GM_CONTAINER_OF(node, struct gm_client, node);
            if (client_hangs(world, client))
                world_fail(world, "ring %u: a client connection hangs in state %u", r,
                           client->state);
        }
        if (ctx->ring->store.reserved != 0)
            world_fail(world, "ring %u: %llu bytes stay reserved", r,
                       (unsigned long long)ctx->ring->store.reserved);
    }
}

void world_check_store(struct sim_world *world, const char *who, struct gm_ring *ring)
{
    static const char *const names[] = {"client buffers", "link buffers", "cork blocks",
                                        "head blocks", "evacuation blocks"};
    const struct sim_ring *sim_ring = ring->backend_state;
    for (unsigned i = 0; i < GM_STORE_POOLS; i++) {
        const struct gm_pool_state *pool = &ring->store.pools[i];
        uint32_t filling = i < GM_POOL_COUNT && sim_ring->fill[i] != NULL ? 1 : 0;
        if (pool->free_count + filling != pool->count)
            world_fail(world, "%s ring %u: %u %s leaked", who, ring->index,
                       pool->count - pool->free_count - filling, names[i]);
    }
    if (ring->store.segs.free_count != ring->store.segs.total_count)
        world_fail(world, "%s ring %u: %u segments leaked", who, ring->index,
                   ring->store.segs.total_count - ring->store.segs.free_count);
    if (ring->store.reserved != 0)
        world_fail(world, "%s ring %u: %llu bytes stay reserved", who, ring->index,
                   (unsigned long long)ring->store.reserved);
}

void world_check_empty(struct sim_world *world)
{
    world_check_quiet(world);
    for (uint32_t r = 0; r < world->ring_count; r++) {
        struct gm_server_ring *ctx = world->contexts[r];
        if (ctx->link_count != 0)
            world_fail(world, "ring %u: %u links stay", r, ctx->link_count);
        if (gm_registry_links(ctx->registry, "svc", 3) != 0)
            world_fail(world, "ring %u: the registry still names a link", r);
        world_check_store(world, "server", ctx->ring);
    }
    world_check_store(world, "client", world->client_ring);
    world_check_store(world, "agent", world->agent_ring);
    int64_t serving =
        atomic_load_explicit(&world->agent_shared.active_requests, memory_order_relaxed);
    if (serving != 0)
        world_fail(world, "the real agent still counts %lld requests", (long long)serving);
    for (uint32_t i = 0; world->real && i < gm_rings_count(world->agent_shared.rings); i++)
        world_check_store(world, "real agent", world->agent_contexts[i]->ring);
    for (uint32_t i = 0; i < world->agent_count; i++) {
        char instance[GM_LINK_INSTANCE_MAX];
        (void)snprintf(instance, sizeof instance, "instance%u", world->agents[i].instance);
        int lane = gm_lanes_take(world->shared.lanes, "bob", instance, -1);
        if (lane != 0)
            world_fail(world, "agent %u: its lanes were not given back (%d is the next)", i, lane);
        gm_lanes_give(world->shared.lanes, "bob", instance, (uint32_t)lane);
    }
}
