/* `gimlet server`: configuration, keys, rings, signals. The main thread only starts, waits and
 * stops; all work is the rings'. */
#include "server/server.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "control/claim.h"
#include "control/process.h"
#include "server/access.h"
#include "server/lanes.h"
#include "server/queue.h"
#include "server/ringup.h"

/* Public, public over TLS, metrics, health. */
#define PORTS 4u

/* -EADDRINUSE, or what gm_claim_port returns; *port is the one that the rings are to listen on. */
static int claim_port(const struct gm_server_config *config, int32_t *port)
{
    if (*port < 0)
        return -1;
    union gm_addr addr = gm_server_listen_addr(config, *port);
    int rc = gm_claim_port(&addr);
    *port = gm_claim_port_of(&addr);
    return rc;
}

/* One of the ports before this one is the same. Rings would share it with themselves. */
static bool wanted_before(int32_t *const ports[PORTS], unsigned index)
{
    for (unsigned i = 0; i < index; i++) {
        if (*ports[i] > 0 && *ports[i] == *ports[index])
            return true;
    }
    return false;
}

/* `holds` gets what is to be closed when the rings listen. */
static int claim_ports(struct gm_server_config *config, int holds[PORTS])
{
    int32_t *ports[PORTS] = {&config->http_port, &config->https_port, &config->metrics_port,
                             &config->health_port};
    int rc = 0;
    for (unsigned i = 0; i < PORTS; i++) {
        holds[i] = wanted_before(ports, i) ? -EADDRINUSE : claim_port(config, ports[i]);
        if (holds[i] != -EADDRINUSE)
            continue;
        if (ports[i] == &config->metrics_port && config->old_name) {
            /* So did 0.0.x, and scripts that start several servers on one machine rely on it. */
            gm_log_error("the metrics port is taken: no metrics are served",
                         GM_INT("port", *ports[i]), GM_ERRNO(-EADDRINUSE));
            config->metrics_port = -1;
            continue;
        }
        gm_log_fatal("the port is taken: stop what listens there, or choose another",
                     GM_INT("port", *ports[i]), GM_ERRNO(-EADDRINUSE));
        rc = -EADDRINUSE;
    }
    return rc;
}

static int start_rings(struct gm_server_shared *shared)
{
    const struct gm_runtime_config *runtime = &shared->config->runtime;
    uint32_t count = gm_process_ring_count(runtime);
    shared->lane_count = shared->config->lanes > 0 ? (uint32_t)shared->config->lanes
                         : count < 4               ? count
                                                   : 4;
    shared->lanes = gm_lanes_new(shared->lane_count);
    shared->ring_contexts = calloc(count, sizeof(struct gm_server_ring *));
    shared->ports = calloc(count, sizeof(struct gm_port *));
    shared->registries = calloc(count, sizeof(struct gm_registry *));
    if (shared->lanes == NULL || shared->ring_contexts == NULL || shared->ports == NULL ||
        shared->registries == NULL)
        return -GM_E_NOMEM;
    struct gm_rings_ops ops = {
        .init = gm_server_ring_init, .fini = gm_server_ring_fini, .arg = shared};
    return gm_process_start_rings(runtime, &ops, &shared->rings);
}

/* The control thread, and what it is to watch. */
static int start_control(struct gm_server_shared *shared)
{
    int rc = gm_control_start(shared->control, shared->rings);
    if (rc < 0) {
        gm_log_fatal("cannot start the control thread", GM_ERRTEXT(gm_error_text(rc)));
        return rc;
    }
    gm_certs_watch(&shared->certs);
    gm_keys_watch(&shared->keys);
    return 0;
}

static int start(struct gm_server_shared *shared)
{
    int rc = gm_keys_load(&shared->keys, shared);
    if (rc >= 0)
        rc = gm_certs_load(&shared->certs, shared);
    if (rc >= 0)
        rc = gm_log_start(true);
    if (rc >= 0)
        rc = gm_access_open(shared->config, &shared->access);
    if (rc >= 0)
        rc = gm_control_new(&shared->control); /* rings run before start_rings returns */
    if (rc >= 0)
        rc = start_rings(shared);
    if (rc < 0)
        return rc;
    rc = start_control(shared);
    if (rc < 0)
        gm_rings_stop(shared->rings);
    return rc;
}

static void announce(const struct gm_server_shared *shared)
{
    const struct gm_server_config *config = shared->config;
    gm_process_announce_io(&config->runtime, shared->rings);
    if (config->response_buffer_size != NULL)
        gm_log_info("response-buffer-size has no effect: responses are bounded in bytes, by "
                    "ring-memory",
                    GM_STR("responseBufferSize", config->response_buffer_size));
    gm_log_info("server started", GM_UINT("lanes", shared->lane_count),
                GM_INT("httpPort", config->http_port), GM_INT("httpsPort", config->https_port),
                GM_INT("metricsPort", config->metrics_port),
                GM_INT("healthPort", config->health_port),
                GM_NS("idleTimeout", config->idle_timeout_ns),
                GM_INT("maxConcurrentRequests", config->max_concurrent_requests));
}

static void cut(void *arg)
{
    gm_server_cut_all(arg);
}

static void run(struct gm_server_shared *shared, const sigset_t *signals)
{
    const char *name = gm_process_await_signal(signals);
    gm_log_info("draining", GM_STR("signal", name),
                GM_INT("activeRequests",
                       atomic_load_explicit(&shared->active_requests, memory_order_relaxed)));
    gm_server_drain_all(shared);
    gm_process_await_drain(signals, &(struct gm_process_drain){
                                        .rings = shared->rings,
                                        .rings_done = &shared->rings_done,
                                        .timeout_ns = shared->config->shutdown_timeout_ns,
                                        .cut = cut,
                                        .arg = shared,
                                    });
    gm_control_stop(shared->control);
    gm_rings_stop(shared->rings);
}

static void release(struct gm_server_shared *shared)
{
    uint32_t count = shared->rings == NULL ? 0 : gm_rings_count(shared->rings);
    if (shared->rings != NULL)
        gm_rings_join(shared->rings);
    for (uint32_t i = 0; i < count; i++) {
        gm_registry_free(shared->registries[i]);
        struct gm_server_ring *ctx = shared->ring_contexts[i];
        if (ctx != NULL) {
            gm_metrics_fini(&ctx->metrics);
            gm_queue_fini(ctx);
        }
        free(ctx);
    }
    gm_control_free(shared->control);
    gm_certs_fini(&shared->certs);
    gm_keys_fini(&shared->keys);
    gm_lanes_free(shared->lanes);
    gm_access_close(shared->access);
    free(shared->registries);
    free(shared->ports);
    free(shared->ring_contexts);
}

static uint64_t started_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int gm_server_main(int argc, char **argv)
{
    struct gm_server_config config;
    struct gm_option_context context = gm_option_process();
    if (gm_server_config_load(&config, argc, argv, &context) != GM_OPTIONS_READY)
        return context.exit_code;
    const struct gm_log_field context_fields[] = {GM_STR("serverID", config.server_id)};
    gm_process_log(&config.runtime, context_fields, 1);
    struct gm_server_shared shared = {.config = &config, .started_ns = started_ns()};
    gm_process_random_id(shared.instance);
    sigset_t signals;
    gm_process_block_signals(&signals);
    int holds[PORTS];
    int code = 1;
    if (claim_ports(&config, holds) == 0 && start(&shared) >= 0)
        code = 0;
    for (unsigned i = 0; i < PORTS; i++) {
        if (holds[i] >= 0)
            (void)close(holds[i]);
    }
    if (code == 0) {
        announce(&shared);
        run(&shared, &signals);
    }
    release(&shared);
    gm_log_info("server stopped");
    gm_log_stop();
    gm_server_config_fini(&config);
    return code;
}
