/* Whom the agent trusts and who it is, towards the server and towards its backends: TLS contexts
 * made from the options at start, constant afterwards.
 *
 * Main thread; rings share what has been made. */
#ifndef GM_AGENT_TRUST_H
#define GM_AGENT_TRUST_H

#include "client/target.h"
#include "config/config.h"
#include "tls/context.h"

struct gm_trust {
    struct gm_tls_client *tls;       /* NULL: plaintext */
    char name[GM_HTTP_HOST_MAX + 1]; /* whom the certificate must be for */
};

/* Makes what `target` asks for; nothing, when that is no TLS. `what` names it in the log. Failures
 * have been logged with cause and cure. */
int gm_trust_load(struct gm_trust *trust, const struct gm_agent_tls *config,
                  const struct gm_target *target, const char *what) GM_WARN_UNUSED;
/* Accepts a zeroed struct. */
void gm_trust_fini(struct gm_trust *trust);
/* The library, once, when anything needs it. Logged likewise. */
int gm_trust_begin(bool allow_slow) GM_WARN_UNUSED;

#endif
