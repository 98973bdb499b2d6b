/* The HTTP proxy through which the agent dials its server, as the environment names it.
 *
 * Main thread; constant afterwards and shared by all rings. */
#ifndef GM_AGENT_PROXY_H
#define GM_AGENT_PROXY_H

#include "client/target.h"
#include "config/proxy.h"
#include "link/link.h"

/* host:port with room for the brackets of an IPv6 address. */
#define GM_AGENT_AUTHORITY_MAX (GM_HTTP_HOST_MAX + 10u)
/* User, password and the colon between them. */
#define GM_AGENT_USER_MAX 510u

struct gm_agent_proxy {
    bool used;
    struct gm_target target;
    struct gm_link_proxy link; /* points to the texts below */
    char url[GM_AGENT_AUTHORITY_MAX + 8], name[GM_AGENT_AUTHORITY_MAX], to[GM_AGENT_AUTHORITY_MAX];
    char credentials[8 + (GM_AGENT_USER_MAX + 2) / 3 * 4];
};

/* Takes the choice apart; `server` is what the tunnel leads to. 0, or -GM_E_CONFIG and *why says
 * what is wrong (static, without the value: it may hold a password). */
int gm_agent_proxy_load(struct gm_agent_proxy *proxy, const struct gm_proxy_choice *choice,
                        const struct gm_target *server, const char **why) GM_WARN_UNUSED;

#endif
