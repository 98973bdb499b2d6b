/* TLS contexts of the agent, made and made again. Invariant: a ring's own reference is touched by
 * that ring alone; a new context reaches it through `next`, which holds one reference or nothing.
 */
#include "agent/trust.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "control/process.h"

/* The option's name, or the URL's host. */
static int take_name(struct gm_trust *trust, const struct gm_agent_tls *config,
                     const struct gm_target *target)
{
    const char *name = config->server_name != NULL ? config->server_name : target->host.p;
    size_t len = config->server_name != NULL ? strlen(config->server_name) : target->host.len;
    if (len >= sizeof trust->name)
        return -GM_E_CONFIG;
    memcpy(trust->name, name, len);
    trust->name[len] = '\0';
    return 0;
}

static int make(const struct gm_agent_tls *config, struct gm_tls_client **out, char *why)
{
    struct gm_tls_client_config files = {
        .ca_file = config->ca_file,
        .crl_file = config->crl_file,
        .cert_file = config->client_cert,
        .key_file = config->client_key,
        .insecure = config->insecure,
    };
    return gm_tls_client_new(&files, out, why);
}

static void warn_of_old_lists(const struct gm_trust *trust)
{
    if (gm_tls_client_crl_until(trust->newest) < (long long)time(NULL))
        gm_log_warn("a revocation list has expired: what it revokes stays refused, but it does not "
                    "know the latest; fetch a new one",
                    GM_STR("towards", trust->what), GM_STR("file", trust->config->crl_file));
}

static int give_rings(struct gm_trust *trust, uint32_t ring_count)
{
    trust->rings = calloc(ring_count, sizeof *trust->rings);
    if (trust->rings == NULL)
        return -GM_E_NOMEM;
    trust->ring_count = ring_count;
    for (uint32_t i = 0; i < ring_count; i++)
        trust->rings[i].tls = gm_tls_client_ref(trust->newest);
    return 0;
}

static void files_changed(struct gm_watch *watch);

int gm_trust_load(struct gm_trust *trust, const struct gm_trust_towards *towards,
                  uint32_t ring_count)
{
    char why[GM_TLS_WHY_BYTES] = "the server name is too long";
    const struct gm_agent_tls *config = towards->config;
    if (!towards->target->url.tls)
        return 0;
    trust->config = config;
    trust->what = towards->name;
    trust->watch = (struct gm_watch){
        .paths = {config->ca_file, config->crl_file, config->client_cert, config->client_key},
        .on_change = files_changed,
    };
    gm_watch_prime(&trust->watch);
    int rc = take_name(trust, config, towards->target);
    if (rc >= 0)
        rc = make(config, &trust->newest, why);
    if (rc < 0) {
        gm_log_fatal("TLS cannot be used", GM_STR("towards", trust->what), GM_ERRTEXT(why));
        return rc;
    }
    if (config->insecure)
        gm_log_warn("CERTIFICATES ARE NOT CHECKED (insecure-skip-verify): whoever stands in "
                    "between reads and changes everything, tokens included",
                    GM_STR("towards", trust->what), GM_STR("host", trust->name));
    warn_of_old_lists(trust);
    return give_rings(trust, ring_count);
}

/* ---- A change of files ---- */

void gm_trust_watch(struct gm_trust *trust, struct gm_control *control, struct gm_rings *rings,
                    void (*on_ring)(struct gm_ring *ring))
{
    bool files = false;
    for (unsigned i = 0; i < GM_WATCH_PATHS_MAX; i++)
        files = files || trust->watch.paths[i] != NULL;
    trust->running = rings;
    trust->on_ring = on_ring;
    if (files)
        gm_control_watch(control, &trust->watch);
}

/* On the control thread. */
static void files_changed(struct gm_watch *watch)
{
    struct gm_trust *trust = GM_CONTAINER_OF(watch, struct gm_trust, watch);
    struct gm_tls_client *client;
    char why[GM_TLS_WHY_BYTES] = "";
    if (make(trust->config, &client, why) < 0) {
        gm_log_error("the changed certificates cannot be used: those loaded before stay",
                     GM_STR("towards", trust->what), GM_ERRTEXT(why));
        return;
    }
    gm_tls_client_put(trust->newest);
    trust->newest = client;
    for (uint32_t i = 0; i < trust->ring_count; i++)
        gm_tls_client_put(atomic_exchange_explicit(&trust->rings[i].next, gm_tls_client_ref(client),
                                                   memory_order_acq_rel));
    gm_process_tell_all(trust->running, trust->on_ring);
    gm_log_info("certificates loaded", GM_BOOL("again", true), GM_STR("towards", trust->what));
    warn_of_old_lists(trust);
}

bool gm_trust_adopt(struct gm_trust *trust, uint32_t ring)
{
    if (trust->rings == NULL)
        return false;
    struct gm_tls_client *next =
        atomic_exchange_explicit(&trust->rings[ring].next, NULL, memory_order_acquire);
    if (next == NULL)
        return false;
    gm_tls_client_put(trust->rings[ring].tls);
    trust->rings[ring].tls = next;
    return true;
}

void gm_trust_fini(struct gm_trust *trust)
{
    for (uint32_t i = 0; i < trust->ring_count; i++) {
        gm_tls_client_put(trust->rings[i].tls);
        gm_tls_client_put(
            atomic_exchange_explicit(&trust->rings[i].next, NULL, memory_order_acquire));
    }
    free(trust->rings);
    gm_tls_client_put(trust->newest);
    *trust = (struct gm_trust){0};
}
