/* A target: where something is dialled, as configured: http://host[:port][/prefix], unix:/path,
 * ws://host[:port][/path].
 *
 * Parsed once at start; constant afterwards and shared by all rings. Spans point into the text that
 * was parsed, which the caller keeps. */
#ifndef GM_CLIENT_TARGET_H
#define GM_CLIENT_TARGET_H

#include "http/target.h"
#include "ring/ring.h"

/* A prefix is put in front of every request's target: it must leave room for the rest of a head. */
#define GM_TARGET_PREFIX_MAX 2048u

struct gm_target {
    struct gm_http_url url;
    struct gm_http_span host;      /* for the resolver */
    struct gm_http_span prefix;    /* path in front of a request's own; may be empty */
    struct gm_http_span authority; /* for Host when the request names none */
    union gm_addr literal;         /* when `resolved` */
    bool resolved;                 /* an address literal or a socket path: no name to look up */
};

/* `schemes` as for gm_http_url_parse. 0, or -GM_HTTP_E_URL_x. `text` is borrowed for the target's
 * life. */
int gm_target_parse(const char *text, unsigned schemes, struct gm_target *out) GM_WARN_UNUSED;

#endif
