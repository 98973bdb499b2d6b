/* TLS contexts of the agent. Main thread, at start. */
#include "agent/trust.h"

#include <string.h>
#include <time.h>

#include "base/log.h"

int gm_trust_begin(bool allow_slow)
{
    int rc = gm_tls_init();
    if (rc < 0) {
        gm_log_fatal("cannot start TLS", GM_ERRTEXT(gm_error_text(rc)));
    } else if (!gm_tls_accelerated() && !allow_slow) {
        gm_log_fatal("TLS is refused: this wolfSSL does not do AES in hardware, which costs forty "
                     "times as much; build it with AES-NI, or use --allow-slow-tls",
                     GM_STR("tls", gm_tls_describe()));
        rc = -GM_E_CONFIG;
    } else {
        gm_log_info("TLS", GM_STR("tls", gm_tls_describe()));
    }
    return rc;
}

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

int gm_trust_load(struct gm_trust *trust, const struct gm_agent_tls *config,
                  const struct gm_target *target, const char *what)
{
    char why[GM_TLS_WHY_BYTES] = "the server name is too long";
    if (!target->url.tls)
        return 0;
    struct gm_tls_client_config files = {
        .ca_file = config->ca_file,
        .crl_file = config->crl_file,
        .cert_file = config->client_cert,
        .key_file = config->client_key,
        .insecure = config->insecure,
    };
    int rc = take_name(trust, config, target);
    if (rc >= 0)
        rc = gm_tls_client_new(&files, &trust->tls, why);
    if (rc < 0)
        gm_log_fatal("TLS cannot be used", GM_STR("towards", what), GM_ERRTEXT(why));
    else if (config->insecure)
        gm_log_warn("CERTIFICATES ARE NOT CHECKED (insecure-skip-verify): whoever stands in "
                    "between reads and changes everything, tokens included",
                    GM_STR("towards", what), GM_STR("host", trust->name));
    else if (gm_tls_client_crl_until(trust->tls) < (long long)time(NULL))
        gm_log_warn("a revocation list has expired: what it revokes stays refused, but it does not "
                    "know the latest; fetch a new one",
                    GM_STR("towards", what), GM_STR("file", config->crl_file));
    return rc;
}

void gm_trust_fini(struct gm_trust *trust)
{
    gm_tls_client_put(trust->tls);
    trust->tls = NULL;
}
