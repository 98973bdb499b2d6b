/*
 * URLs of the configuration (where a server or a backend is) and the /services/<name>/<rest> layout
 * of the public face. Pure; spans point into the input. Errors are of http/error.h, whose texts
 * name the cure. Invariant: the rest of a service path is the client's own bytes; only the name is
 * ever percent-decoded. Source: RFC 3986 §3, RFC 9110 §4.2; spec/gimlet.md §2.4.
 */
#ifndef GM_HTTP_TARGET_H
#define GM_HTTP_TARGET_H

#include "http/error.h"
#include "http/field.h"

/* sun_path of sockaddr_un holds 108 bytes with its NUL. */
#define GM_HTTP_SOCKET_PATH_MAX  107
#define GM_HTTP_HOST_MAX         255
#define GM_HTTP_SERVICE_NAME_MAX 255

enum gm_http_scheme {
    GM_HTTP_SCHEME_HTTP = 1,
    GM_HTTP_SCHEME_HTTPS = 2,
    GM_HTTP_SCHEME_WS = 4,
    GM_HTTP_SCHEME_WSS = 8,
    GM_HTTP_SCHEME_UNIX = 16,
};

struct gm_http_url {
    uint8_t scheme;           /* enum gm_http_scheme */
    bool tls;                 /* https, wss */
    bool ipv6;                /* host is an IPv6 address (brackets removed) */
    uint16_t port;            /* given, or 80 / 443 by scheme; 0 for unix: */
    struct gm_http_span host; /* for the resolver: without brackets; empty for unix: */
    struct gm_http_span
        authority; /* for Host: as written, with brackets and with the port if one was given */
    struct gm_http_span
        path; /* prefix without its trailing slashes ("/" gives ""); unix: the socket's path */
};

/* Parses a configured URL. `schemes` is the set of enum gm_http_scheme accepted here. 0, or
 * -GM_HTTP_E_URL_x. Only an authority's syntax is checked; no name is resolved. Query, fragment and
 * user information are refused. */
__attribute__((warn_unused_result)) int
gm_http_url_parse(struct gm_http_span text, unsigned schemes, struct gm_http_url *out);

/* host[:port] as it may stand in Host, in an absolute target or (port required) in CONNECT. `host`
 * gets the name with its brackets, `port` the digits (may be empty). 0, or -GM_HTTP_E_HOST_INVALID.
 * An empty text is invalid. */
__attribute__((warn_unused_result)) int gm_http_authority_split(struct gm_http_span text,
                                                                struct gm_http_span *host,
                                                                struct gm_http_span *port);

struct gm_http_service_path {
    struct gm_http_span raw_name; /* as it stood, within the input */
    uint16_t name_len;
    bool slash; /* the backend's target is "/" + rest (rest is empty or begins with "?"); else rest
                 */
    struct gm_http_span
        rest; /* raw, from the "/" behind the name (or from the "?") to the end of the input */
    char name[GM_HTTP_SERVICE_NAME_MAX + 1]; /* percent-decoded, NUL-terminated */
};

/* Splits a raw origin-form target (path and query). 1: it is of the layout; 0: it is some other
 * path (not /services or /services/…); -GM_HTTP_E_SERVICE_PATH: no name; -GM_HTTP_E_SERVICE_NAME:
 * bad escape, an escape that decodes to "/" or a control byte, a name of "." or "..", or too long.
 * "/services/a" and "/services/a?x" mean "/" and "/?x". */
__attribute__((warn_unused_result)) int gm_http_service_split(struct gm_http_span target,
                                                              struct gm_http_service_path *out);

/* Percent-decodes text into out (room for cap bytes). Length, or -GM_HTTP_E_TARGET for a bad escape
 * or too long. */
__attribute__((warn_unused_result)) int gm_http_percent_decode(struct gm_http_span text, char *out,
                                                               size_t cap);

#endif
