/* Which HTTP proxy the environment asks for: http_proxy, https_proxy, no_proxy, in small letters or
 * capitals, as most programs read them. Pure. */
#ifndef GM_CONFIG_PROXY_H
#define GM_CONFIG_PROXY_H

#include <stdbool.h>

#include "config/arena.h"

struct gm_proxy_choice {
    const char *url;      /* NULL: none. http://[user:password@]host:port, or without http:// */
    const char *variable; /* where it was found, for messages; static */
};

/* For a ws:// or wss:// URL: https_proxy for wss, http_proxy for ws, small letters first, unless
 * no_proxy names the host or the host is this machine (localhost, a loopback address). An empty
 * variable is none. Texts are copied into the arena. 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int gm_proxy_choose(char *const *environment, const char *url,
                                                        struct gm_arena *arena,
                                                        struct gm_proxy_choice *out);

/* Whether a no_proxy list names `host` (an address without brackets): "*", a domain and all below
 * it, with or without a dot in front, an address, a network; each may be followed by ":port". Items
 * are parted by commas or white space. */
bool gm_proxy_exempts(const char *list, const char *host, const char *port);

#endif
