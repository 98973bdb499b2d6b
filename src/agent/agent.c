/* `gimlet agent`: configuration, rings, control thread, signals. The main thread only starts, waits
 * and stops; all work is the rings'. */
#include "agent/agent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/dialler.h"
#include "agent/health.h"
#include "agent/ops.h"
#include "agent/ringup.h"
#include "base/log.h"
#include "config/value.h"
#include "control/process.h"

#define HTTPS_PORT 443u

/* ---- Targets ---- */

/* Refusals are worded and exit as those of the options do. */
static int refuse(struct gm_option_context *context, const char *what, const char *value,
                  const char *why)
{
    (void)gm_option_refuse(&gm_agent_program, context, 2, "%s: \"%s\" cannot be used: %s", what,
                           gm_value_public(value), why);
    return -GM_E_CONFIG;
}

/* Host is the URL's, but for --server-name: what stands in front of the server may choose by it. */
static void name_host(struct gm_agent_shared *shared)
{
    const struct gm_http_span *authority = &shared->server.authority;
    const char *name = shared->config->tls.server_name;
    if (name == NULL)
        (void)snprintf(shared->host, sizeof shared->host, "%.*s", (int)authority->len,
                       authority->p);
    else if (shared->server.url.port == HTTPS_PORT)
        (void)snprintf(shared->host, sizeof shared->host, "%s", name);
    else
        (void)snprintf(shared->host, sizeof shared->host, "%s:%u", name, shared->server.url.port);
}

static int load_server(struct gm_agent_shared *shared, struct gm_option_context *context)
{
    const char *url = shared->config->server_url;
    int rc = gm_target_parse(url, GM_HTTP_SCHEME_WS | GM_HTTP_SCHEME_WSS, &shared->server);
    if (rc < 0)
        return refuse(context, "--server-url", url, gm_http_error_text(rc));
    name_host(shared);
    const struct gm_proxy_choice *choice = &shared->config->proxy;
    const char *why = NULL;
    rc = gm_agent_proxy_load(&shared->proxy, choice, &shared->server, &why);
    if (rc < 0)
        (void)gm_option_refuse(&gm_agent_program, context, 2, "%s cannot be used: %s",
                               choice->variable, why);
    return rc;
}

/* 0 when the file holds anything but white space, or a negative errno. */
static int probe_token_file(const char *path)
{
    char text[512];
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -errno;
    size_t len, seen = 0;
    while (seen == 0 && (len = fread(text, 1, sizeof text - 1, file)) > 0) {
        text[len] = '\0';
        seen = strlen(text) - strspn(text, " \t\r\n");
    }
    int rc = ferror(file) != 0 ? -EIO : seen == 0 ? -ENODATA : 0;
    (void)fclose(file);
    return rc;
}

/* It is read again at each dial; what is wrong from the start is said at once. */
static int check_token_file(const char *path, struct gm_option_context *context)
{
    int rc = path == NULL ? 0 : probe_token_file(path);
    if (rc == -ENODATA)
        (void)gm_option_refuse(&gm_agent_program, context, 1,
                               "Configuration error: no token: the file %s is empty", path);
    else if (rc < 0)
        gm_log_fatal("cannot read the token file", GM_STR("file", path),
                     GM_ERRTEXT(gm_error_text(rc)));
    return rc;
}

/* Exit codes as elsewhere: 2 for what cannot be used, 1 for a file that cannot be read. */
static int load_headers(struct gm_agent_shared *shared, struct gm_agent_service_info *info,
                        struct gm_option_context *context)
{
    char why[GM_AGENT_HEADERS_WHY_BYTES];
    int rc = gm_agent_headers_load(&info->headers, shared, info->config, why);
    if (rc < 0)
        (void)gm_option_refuse(&gm_agent_program, context, rc == -GM_E_CONFIG ? 2 : 1,
                               "--backend-header: %s", why);
    return rc;
}

static int load_service(struct gm_agent_shared *shared, uint32_t index,
                        struct gm_option_context *context)
{
    struct gm_agent_service_info *info = &shared->services[index];
    info->config = &shared->config->services[index];
    gm_process_random_id(info->instance);
    int rc = gm_target_parse(info->config->target,
                             GM_HTTP_SCHEME_HTTP | GM_HTTP_SCHEME_HTTPS | GM_HTTP_SCHEME_UNIX,
                             &info->target);
    if (rc < 0)
        return refuse(context, info->config->name == NULL ? "--target-url" : "--service",
                      info->config->target, gm_http_error_text(rc));
    gm_agent_token_prime(shared, info);
    rc = check_token_file(info->config->token_file, context);
    if (rc >= 0)
        rc = load_headers(shared, info, context);
    if (rc < 0)
        return rc;
    atomic_store_explicit(&info->ready, info->config->health.path == NULL, memory_order_release);
    info->dialler = gm_dialler_new(shared, index);
    return info->dialler == NULL ? -GM_E_NOMEM : 0;
}

/* After all targets are known. */
static int load_trust(struct gm_agent_shared *shared)
{
    const struct gm_agent_config *config = shared->config;
    bool any = shared->server.url.tls;
    for (uint32_t i = 0; i < shared->service_count; i++)
        any = any || shared->services[i].target.url.tls;
    uint32_t rings = gm_process_ring_count(&config->runtime);
    struct gm_trust_towards server = {&config->tls, &shared->server, config->server_url};
    int rc = any ? gm_process_start_tls(config->allow_slow_tls, config->kernel_tls) : 0;
    if (rc >= 0)
        rc = gm_trust_load(&shared->trust, &server, rings);
    for (uint32_t i = 0; rc >= 0 && i < shared->service_count; i++) {
        struct gm_agent_service_info *info = &shared->services[i];
        struct gm_trust_towards backend = {&info->config->tls, &info->target, info->config->target};
        rc = gm_trust_load(&info->trust, &backend, rings);
    }
    return rc;
}

/* 0, or the exit code of a refusal. */
static int load_targets(struct gm_agent_shared *shared, struct gm_option_context *context)
{
    shared->service_count = (uint32_t)shared->config->service_count;
    shared->services = calloc(shared->service_count, sizeof *shared->services);
    if (shared->services == NULL)
        return 1;
    if (load_server(shared, context) < 0)
        return 2;
    for (uint32_t i = 0; i < shared->service_count; i++) {
        int rc = load_service(shared, i, context);
        if (rc < 0)
            return rc == -GM_E_CONFIG ? 2 : 1;
    }
    return load_trust(shared) < 0 ? 1 : 0;
}

/* ---- Start ---- */

static int start_rings(struct gm_agent_shared *shared)
{
    const struct gm_runtime_config *runtime = &shared->config->runtime;
    shared->ring_contexts = calloc(gm_process_ring_count(runtime), sizeof(struct gm_agent_ring *));
    if (shared->ring_contexts == NULL)
        return -GM_E_NOMEM;
    struct gm_rings_ops ops = {
        .init = gm_agent_ring_init, .fini = gm_agent_ring_fini, .arg = shared};
    return gm_process_start_rings(runtime, &ops, &shared->rings);
}

static void watch_files(struct gm_agent_shared *shared)
{
    struct gm_control *control = shared->control;
    gm_trust_watch(&shared->trust, control, shared->rings, gm_agent_take_trust);
    for (uint32_t i = 0; i < shared->service_count; i++) {
        gm_trust_watch(&shared->services[i].trust, control, shared->rings, gm_agent_take_trust);
        gm_agent_token_watch(&shared->services[i]);
    }
}

static int start(struct gm_agent_shared *shared)
{
    int rc = gm_log_start(true);
    if (rc >= 0)
        rc = gm_agent_ops_claim(shared->config);
    if (rc >= 0)
        rc = gm_control_new(&shared->control); /* rings run before start_rings returns */
    if (rc >= 0)
        rc = start_rings(shared);
    if (rc < 0)
        return rc;
    rc = gm_control_start(shared->control, shared->rings);
    if (rc < 0) {
        gm_log_fatal("cannot start the control thread", GM_ERRTEXT(gm_error_text(rc)));
        gm_rings_stop(shared->rings);
        return rc;
    }
    watch_files(shared);
    return 0;
}

static void announce(const struct gm_agent_shared *shared)
{
    const struct gm_agent_config *config = shared->config;
    gm_process_announce_io(&config->runtime, shared->rings);
    if (config->request_buffer_size != NULL)
        gm_log_info("request-buffer-size has no effect: requests are bounded in bytes, by "
                    "ring-memory",
                    GM_STR("requestBufferSize", config->request_buffer_size));
    for (uint32_t i = 0; i < shared->service_count; i++) {
        gm_log_info("service", GM_STR("service", config->services[i].name),
                    GM_STR("target", config->services[i].target));
    }
    gm_log_info("agent started", GM_STR("serverURL", config->server_url),
                GM_STR("proxy", shared->proxy.name),
                GM_INT("maxConcurrentRequests", config->max_concurrent_requests));
}

/* ---- Run and end ---- */

static void cut(void *arg)
{
    gm_agent_cut_all(arg);
}

static void run(struct gm_agent_shared *shared, const sigset_t *signals)
{
    for (uint32_t i = 0; i < shared->service_count; i++)
        gm_agent_headers_watch(&shared->services[i].headers);
    gm_agent_dial_all(shared);
    const char *name = gm_process_await_signal(signals);
    gm_log_info("draining", GM_STR("signal", name),
                GM_INT("activeRequests",
                       atomic_load_explicit(&shared->active_requests, memory_order_relaxed)));
    gm_agent_drain_all(shared);
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

static void release(struct gm_agent_shared *shared)
{
    uint32_t count = shared->rings == NULL ? 0 : gm_rings_count(shared->rings);
    if (shared->rings != NULL)
        gm_rings_join(shared->rings);
    gm_control_free(shared->control);
    for (uint32_t i = 0; i < count; i++)
        gm_agent_ring_free(shared->ring_contexts[i]);
    free(shared->ring_contexts);
    for (uint32_t i = 0; shared->services != NULL && i < shared->service_count; i++) {
        gm_dialler_free(shared->services[i].dialler);
        gm_agent_health_free(&shared->services[i]);
        gm_agent_headers_fini(&shared->services[i].headers);
        gm_trust_fini(&shared->services[i].trust);
    }
    gm_trust_fini(&shared->trust);
    free(shared->services);
}

int gm_agent_main(int argc, char **argv)
{
    struct gm_agent_config config;
    struct gm_option_context context = gm_option_process();
    if (gm_agent_config_load(&config, argc, argv, &context) != GM_OPTIONS_READY)
        return context.exit_code;
    gm_process_log(&config.runtime, NULL, 0);
    struct gm_agent_shared shared = {.config = &config};
    sigset_t signals;
    gm_process_block_signals(&signals);
    int code = load_targets(&shared, &context);
    if (code == 0 && start(&shared) < 0)
        code = 1;
    if (code == 0) {
        announce(&shared);
        run(&shared, &signals);
        gm_log_info("agent stopped");
    }
    release(&shared);
    gm_log_stop();
    gm_agent_config_fini(&config);
    return code;
}
