/* `gimlet agent`: configuration, rings, control thread, signals. The main thread only starts, waits
 * and stops; all work is the rings'. */
#include "agent/agent.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "agent/dialler.h"
#include "agent/ringup.h"
#include "base/log.h"

/* How often the main thread looks whether the drain is over. */
#define POLL_NS 20000000l
/* Beyond the deadline of the drain, for the rings to reset what is left and to close. */
#define DRAIN_GRACE_NS 3000000000ull

static void configure_log(const struct gm_agent_config *config)
{
    (void)gm_log_configure(&(struct gm_log_options){
        .level = (enum gm_log_level)config->runtime.log_level,
        .format = (enum gm_log_format)config->runtime.log_format,
        .fd = STDOUT_FILENO,
        .rate = (uint32_t)config->runtime.log_rate,
    });
}

static void random_instance(char out[33])
{
    uint8_t bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        abort();
    for (unsigned i = 0; i < 16; i++)
        (void)snprintf(out + (size_t)i * 2, 3, "%02x", bytes[i]);
}

/* ---- Targets ---- */

/* Refusals are worded and exit as those of the options do. */
static int refuse(struct gm_option_context *context, const char *what, const char *value,
                  const char *why)
{
    (void)gm_option_refuse(&gm_agent_program, context, 2, "%s: \"%s\" cannot be used: %s", what,
                           value, why);
    return -GM_E_CONFIG;
}

static int load_server(struct gm_agent_shared *shared, struct gm_option_context *context)
{
    const char *url = shared->config->server_url;
    int rc = gm_target_parse(url, GM_HTTP_SCHEME_WS | GM_HTTP_SCHEME_WSS, &shared->server);
    if (rc < 0)
        return refuse(context, "--server-url", url, gm_http_error_text(rc));
    if (shared->server.url.tls)
        return refuse(context, "--server-url", url,
                      "wss:// is not supported by this version; use ws://");
    return 0;
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
        (void)gm_option_refuse(&gm_agent_program, context, 1, "cannot read the token file %s: %s",
                               path, gm_error_text(rc));
    return rc;
}

static int load_service(struct gm_agent_shared *shared, uint32_t index,
                        struct gm_option_context *context)
{
    struct gm_agent_service_info *info = &shared->services[index];
    info->config = &shared->config->services[index];
    random_instance(info->instance);
    int rc = gm_target_parse(info->config->target, GM_HTTP_SCHEME_HTTP | GM_HTTP_SCHEME_UNIX,
                             &info->target);
    if (rc < 0)
        return refuse(context, info->config->name == NULL ? "--target-url" : "--service",
                      info->config->target, gm_http_error_text(rc));
    rc = check_token_file(info->config->token_file, context);
    if (rc < 0)
        return rc;
    info->dialler = gm_dialler_new(shared, index);
    return info->dialler == NULL ? -GM_E_NOMEM : 0;
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
    return 0;
}

/* ---- Start ---- */

static int start_rings(struct gm_agent_shared *shared)
{
    static const enum gm_io io[] = {[GM_CONFIG_IO_AUTO] = GM_IO_AUTO,
                                    [GM_CONFIG_IO_URING] = GM_IO_URING,
                                    [GM_CONFIG_IO_EPOLL] = GM_IO_EPOLL};
    const struct gm_runtime_config *runtime = &shared->config->runtime;
    uint32_t count = runtime->rings > 0 ? (uint32_t)runtime->rings : gm_rings_default_count();
    shared->ring_contexts = calloc(count, sizeof(struct gm_agent_ring *));
    if (shared->ring_contexts == NULL)
        return -GM_E_NOMEM;
    struct gm_rings_config config = {
        .io = io[runtime->io],
        .count = count,
        .memory_bytes = runtime->ring_memory_bytes,
        .features_off = runtime->io_disable,
        .pin = true,
    };
    struct gm_rings_ops ops = {
        .init = gm_agent_ring_init, .fini = gm_agent_ring_fini, .arg = shared};
    char why[512] = "";
    int rc = gm_rings_start(&config, &ops, &shared->rings, why);
    if (rc < 0)
        gm_log_fatal("cannot start", GM_ERRTEXT(why[0] != '\0' ? why : gm_error_text(rc)));
    return rc;
}

static int start(struct gm_agent_shared *shared)
{
    int rc = gm_log_start(true);
    if (rc >= 0)
        rc = start_rings(shared);
    if (rc < 0)
        return rc;
    rc = gm_control_start(shared->rings, &shared->control);
    if (rc < 0) {
        gm_log_fatal("cannot start the control thread", GM_ERRTEXT(gm_error_text(rc)));
        gm_rings_stop(shared->rings);
    }
    return rc;
}

static void announce(const struct gm_agent_shared *shared)
{
    const struct gm_agent_config *config = shared->config;
    bool fallen_back = config->runtime.io == GM_CONFIG_IO_AUTO &&
                       strcmp(gm_rings_backend(shared->rings), "epoll") == 0;
    if (fallen_back)
        gm_log_warn("io_uring is not allowed here: running on epoll, which costs more",
                    GM_STR("io", gm_rings_describe(shared->rings)),
                    GM_UINT("rings", gm_rings_count(shared->rings)));
    else
        gm_log_info("runtime", GM_STR("io", gm_rings_describe(shared->rings)),
                    GM_UINT("rings", gm_rings_count(shared->rings)));
    for (uint32_t i = 0; i < shared->service_count; i++) {
        gm_log_info("service", GM_STR("service", config->services[i].name),
                    GM_STR("target", config->services[i].target));
    }
    gm_log_info("agent started", GM_STR("serverURL", config->server_url),
                GM_INT("maxConcurrentRequests", config->max_concurrent_requests));
}

/* ---- Signals ---- */

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* Waits for the drain's end, its deadline, or a second signal. */
static void await_drain(struct gm_agent_shared *shared, const sigset_t *signals)
{
    uint64_t deadline_ns = now_ns() + shared->config->shutdown_timeout_ns + DRAIN_GRACE_NS;
    struct timespec poll = {.tv_nsec = POLL_NS};
    while (now_ns() < deadline_ns) {
        if (atomic_load_explicit(&shared->rings_done, memory_order_relaxed) ==
            gm_rings_count(shared->rings)) {
            gm_log_info("drained");
            return;
        }
        if (sigtimedwait(signals, NULL, &poll) > 0) {
            gm_log_warn("second signal: ending at once");
            return;
        }
    }
    gm_log_warn("shutdown deadline passed: ending with links open");
}

static void run(struct gm_agent_shared *shared, const sigset_t *signals)
{
    int number = 0;
    gm_agent_dial_all(shared);
    while (sigwait(signals, &number) != 0)
        continue;
    gm_log_info("draining", GM_STR("signal", number == SIGINT ? "SIGINT" : "SIGTERM"),
                GM_INT("activeRequests",
                       atomic_load_explicit(&shared->active_requests, memory_order_relaxed)));
    gm_agent_drain_all(shared);
    await_drain(shared, signals);
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
        free(shared->ring_contexts[i]);
    free(shared->ring_contexts);
    for (uint32_t i = 0; shared->services != NULL && i < shared->service_count; i++)
        gm_dialler_free(shared->services[i].dialler);
    free(shared->services);
}

static void block_signals(sigset_t *signals)
{
    sigemptyset(signals);
    sigaddset(signals, SIGINT);
    sigaddset(signals, SIGTERM);
    /* Inherited by every thread: only sigwait gets them. */
    (void)pthread_sigmask(SIG_BLOCK, signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

int gm_agent_main(int argc, char **argv)
{
    struct gm_agent_config config;
    struct gm_option_context context = gm_option_process();
    if (gm_agent_config_load(&config, argc, argv, &context) != GM_OPTIONS_READY)
        return context.exit_code;
    configure_log(&config);
    struct gm_agent_shared shared = {.config = &config};
    sigset_t signals;
    block_signals(&signals);
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
