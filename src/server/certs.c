/* Certificates, loaded and loaded again. Invariant: a ring's own reference is touched by that ring
 * alone; a new set reaches it through `tls_next`, which holds one reference or nothing. */
#include "server/certs.h"

#include <string.h>
#include <time.h>

#include "base/log.h"
#include "control/process.h"
#include "server/context.h"

static void config_of(const struct gm_server_config *config, struct gm_tls_server_config *out)
{
    static const enum gm_tls_client_auth auths[] = {
        [GM_CONFIG_CLIENTS_NONE] = GM_TLS_CLIENTS_ANY,
        [GM_CONFIG_CLIENTS_OPTIONAL] = GM_TLS_CLIENTS_OPTIONAL,
        [GM_CONFIG_CLIENTS_REQUIRE] = GM_TLS_CLIENTS_REQUIRED,
    };
    bool asks = config->tls_client_auth != GM_CONFIG_CLIENTS_NONE;
    *out = (struct gm_tls_server_config){
        .cert_file = config->tls_cert,
        .key_file = config->tls_key,
        .directory = config->tls_dir,
        .client_ca_file = asks ? config->tls_client_ca : NULL,
        .crl_file = asks ? config->tls_client_crl : NULL,
        .client_auth = auths[config->tls_client_auth],
    };
}

static void announce(const struct gm_server_config *config, const struct gm_tls_server *server,
                     bool again)
{
    char until[32] = "unknown";
    time_t end = (time_t)gm_tls_server_not_after(server);
    struct tm parts;
    if (gmtime_r(&end, &parts) != NULL)
        (void)strftime(until, sizeof until, "%Y-%m-%dT%H:%M:%SZ", &parts);
    gm_log_info("certificates loaded", GM_BOOL("again", again),
                GM_UINT("pairs", gm_tls_server_pairs(server)), GM_STR("notAfter", until),
                GM_STR("tls", gm_tls_describe()));
    if (end < time(NULL))
        gm_log_warn("a certificate has expired: clients will refuse it", GM_STR("notAfter", until));
    if (gm_tls_server_crl_until(server) < (long long)time(NULL))
        gm_log_warn("a revocation list has expired: what it revokes stays refused, but it does not "
                    "know the latest; fetch a new one",
                    GM_STR("file", config->tls_client_crl));
}

/* ---- Start ---- */

static void files_changed(struct gm_watch *watch);

int gm_certs_load(struct gm_certs *certs, struct gm_server_shared *shared)
{
    const struct gm_server_config *config = shared->config;
    certs->shared = shared;
    if (config->https_port < 0)
        return 0;
    int rc = gm_process_start_tls(config->allow_slow_tls, config->kernel_tls);
    if (rc < 0)
        return rc;
    struct gm_tls_server_config files;
    char why[GM_TLS_WHY_BYTES] = "";
    config_of(config, &files);
    certs->watch = (struct gm_watch){
        .paths = {files.cert_file, files.key_file, files.directory, files.client_ca_file,
                  files.crl_file},
        .on_change = files_changed,
    };
    gm_watch_prime(&certs->watch);
    rc = gm_tls_server_new(&files, &certs->newest, why);
    if (rc < 0)
        gm_log_fatal("cannot load the certificates", GM_ERRTEXT(why));
    else
        announce(config, certs->newest, false);
    return rc;
}

void gm_certs_watch(struct gm_certs *certs)
{
    if (certs->newest != NULL)
        gm_control_watch(certs->shared->control, &certs->watch);
}

void gm_certs_fini(struct gm_certs *certs)
{
    gm_tls_server_put(certs->newest);
    *certs = (struct gm_certs){0};
}

/* ---- A change of files ---- */

/* On each ring. */
static void take_next(struct gm_ring *ring)
{
    struct gm_server_ring *ctx = gm_ring_user(ring);
    struct gm_tls_server *next =
        atomic_exchange_explicit(&ctx->tls_next, NULL, memory_order_acquire);
    if (next == NULL)
        return;
    gm_tls_server_put(ctx->tls);
    ctx->tls = next;
}

static void spread(struct gm_certs *certs)
{
    struct gm_server_shared *shared = certs->shared;
    for (uint32_t i = 0; i < gm_rings_count(shared->rings); i++) {
        struct gm_tls_server *missed =
            atomic_exchange_explicit(&shared->ring_contexts[i]->tls_next,
                                     gm_tls_server_ref(certs->newest), memory_order_acq_rel);
        gm_tls_server_put(missed);
    }
    gm_process_tell_all(shared->rings, take_next);
}

/* On the control thread. */
static void files_changed(struct gm_watch *watch)
{
    struct gm_certs *certs = GM_CONTAINER_OF(watch, struct gm_certs, watch);
    struct gm_tls_server_config files;
    struct gm_tls_server *server;
    char why[GM_TLS_WHY_BYTES] = "";
    config_of(certs->shared->config, &files);
    if (gm_tls_server_new(&files, &server, why) < 0) {
        gm_log_error("the changed certificates cannot be used: those loaded before stay",
                     GM_ERRTEXT(why));
        return;
    }
    gm_tls_server_put(certs->newest);
    certs->newest = server;
    spread(certs);
    announce(certs->shared->config, server, true);
}

/* ---- Rings ---- */

void gm_certs_ring_init(struct gm_certs *certs, struct gm_server_ring *ctx)
{
    gm_tls_room_init(&ctx->tls_room, ctx->ring);
    if (certs->newest != NULL)
        ctx->tls = gm_tls_server_ref(certs->newest);
}

void gm_certs_ring_fini(struct gm_server_ring *ctx)
{
    gm_tls_server_put(ctx->tls);
    gm_tls_server_put(atomic_exchange_explicit(&ctx->tls_next, NULL, memory_order_acquire));
    ctx->tls = NULL;
}
