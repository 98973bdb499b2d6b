/*
 * Configured URLs, authorities and the /services/<name>/<rest> layout (http/target.h). Pure.
 */
#include "http/target.h"

#include "http/internal.h"

#include <string.h>

static const struct {
    struct gm_http_span prefix;
    enum gm_http_scheme scheme;
    uint16_t port;
} schemes_known[] = {
    {{"http://", 7}, GM_HTTP_SCHEME_HTTP, 80}, {{"https://", 8}, GM_HTTP_SCHEME_HTTPS, 443},
    {{"ws://", 5}, GM_HTTP_SCHEME_WS, 80},     {{"wss://", 6}, GM_HTTP_SCHEME_WSS, 443},
    {{"unix:", 5}, GM_HTTP_SCHEME_UNIX, 0},
};

static struct gm_http_span span_between(const char *p, const char *end)
{
    return (struct gm_http_span){p, (size_t)(end - p)};
}

/* End of the bracketed IPv6 address at p, or NULL. Hexadecimal groups, colons and a dotted tail;
 * the exact form is the resolver's to judge, and nothing in this set can be mistaken for a
 * delimiter. */
static const char *ipv6_end(const char *p, const char *end)
{
    unsigned colons = 0;
    const char *q = p + 1;
    for (; q < end && (gm_http_is(*q, GM_HTTP_C_HEX) || *q == ':' || *q == '.'); q++)
        colons += *q == ':';
    return q < end && *q == ']' && colons >= 2 ? q + 1 : NULL;
}

/* End of a registered name or IPv4 address at p (escapes are checked), or NULL. */
static const char *name_end(const char *p, const char *end)
{
    while (p < end && *p != ':') {
        if (*p == '%') {
            if (end - p < 3 || !gm_http_is(p[1], GM_HTTP_C_HEX) || !gm_http_is(p[2], GM_HTTP_C_HEX))
                return NULL;
            p += 3;
            continue;
        }
        if (!gm_http_is(*p, GM_HTTP_C_HOST))
            return NULL;
        p++;
    }
    return p;
}

/* 0 for an empty text; the port; or -1. */
static int port_parse(struct gm_http_span text)
{
    uint64_t port;
    if (text.len == 0)
        return 0;
    if (text.len > 5 || gm_http_length_parse(text, &port) < 0 || port == 0 || port > 65535)
        return -1;
    return (int)port;
}

int gm_http_authority_split(struct gm_http_span text, struct gm_http_span *host,
                            struct gm_http_span *port)
{
    if (text.len == 0)
        return -GM_HTTP_E_HOST_INVALID;
    const char *p = text.p, *end = text.p + text.len;
    const char *stop = *p == '[' ? ipv6_end(p, end) : name_end(p, end);
    if (stop == NULL || stop == p || stop - p > GM_HTTP_HOST_MAX)
        return -GM_HTTP_E_HOST_INVALID;
    *host = span_between(p, stop);
    *port = span_between(end, end);
    if (stop == end)
        return 0;
    if (*stop != ':')
        return -GM_HTTP_E_HOST_INVALID;
    *port = span_between(stop + 1, end);
    return port_parse(*port) < 0 ? -GM_HTTP_E_HOST_INVALID : 0;
}

static int url_socket(struct gm_http_span path, struct gm_http_url *out)
{
    if (path.len == 0 || path.p[0] != '/' || path.len > GM_HTTP_SOCKET_PATH_MAX ||
        memchr(path.p, '\0', path.len) != NULL)
        return -GM_HTTP_E_URL_SOCKET;
    out->path = path;
    out->host = out->authority = span_between(path.p, path.p);
    return 0;
}

static int url_authority(struct gm_http_span text, struct gm_http_url *out)
{
    if (memchr(text.p, '@', text.len) != NULL)
        return -GM_HTTP_E_URL_USERINFO;
    if (text.len == 0)
        return -GM_HTTP_E_URL_HOST;
    const char *end = text.p + text.len;
    out->ipv6 = *text.p == '[';
    const char *stop = out->ipv6 ? ipv6_end(text.p, end) : name_end(text.p, end);
    if (stop == NULL || stop == text.p || stop - text.p > GM_HTTP_HOST_MAX)
        return -GM_HTTP_E_URL_HOST;
    out->authority = text;
    out->host = out->ipv6 ? span_between(text.p + 1, stop - 1) : span_between(text.p, stop);
    if (stop == end)
        return 0;
    if (*stop != ':')
        return -GM_HTTP_E_URL_HOST;
    int port = port_parse(span_between(stop + 1, end));
    if (port <= 0)
        return -GM_HTTP_E_URL_PORT;
    out->port = (uint16_t)port;
    return 0;
}

static int url_path(struct gm_http_span path, struct gm_http_url *out)
{
    if (memchr(path.p, '?', path.len) != NULL || memchr(path.p, '#', path.len) != NULL)
        return -GM_HTTP_E_URL_QUERY;
    if (gm_http_scan_target(path.p, path.p + path.len) != path.p + path.len ||
        !gm_http_escapes_valid(path))
        return -GM_HTTP_E_URL_PATH;
    while (path.len > 0 && path.p[path.len - 1] == '/')
        path.len--;
    out->path = path;
    return 0;
}

int gm_http_url_parse(struct gm_http_span text, unsigned schemes, struct gm_http_url *out)
{
    unsigned i = 0, count = sizeof(schemes_known) / sizeof(schemes_known[0]);
    *out = (struct gm_http_url){0};
    for (; i < count; i++) {
        struct gm_http_span prefix = schemes_known[i].prefix;
        if (text.len >= prefix.len &&
            gm_http_span_equal_nocase((struct gm_http_span){text.p, prefix.len}, prefix))
            break;
    }
    if (i == count)
        return -GM_HTTP_E_URL_SCHEME;
    const char *end = text.p + text.len;
    if (!(schemes_known[i].scheme & schemes))
        return -GM_HTTP_E_URL_SCHEME_REFUSED;
    out->scheme = (uint8_t)schemes_known[i].scheme;
    out->port = schemes_known[i].port;
    out->tls = (out->scheme & (GM_HTTP_SCHEME_HTTPS | GM_HTTP_SCHEME_WSS)) != 0;

    const char *p = text.p + schemes_known[i].prefix.len, *stop = p;
    if (out->scheme == GM_HTTP_SCHEME_UNIX)
        return url_socket(span_between(p, end), out);
    while (stop < end && *stop != '/' && *stop != '?' && *stop != '#')
        stop++;
    int r = url_authority(span_between(p, stop), out);
    return r < 0 ? r : url_path(span_between(stop, end), out);
}

int gm_http_percent_decode(struct gm_http_span text, char *out, size_t cap)
{
    if (!gm_http_escapes_valid(text))
        return -GM_HTTP_E_TARGET;
    if (text.len == 0)
        return 0;
    const char *p = text.p, *end = text.p + text.len;
    size_t n = 0;
    while (p < end) {
        if (n == cap)
            return -GM_HTTP_E_TARGET;
        if (*p == '%') {
            out[n++] = (char)(gm_http_hex_value(p[1]) << 4 | gm_http_hex_value(p[2]));
            p += 3;
        } else {
            out[n++] = *p++;
        }
    }
    return (int)n;
}

/* Whether a decoded name (never empty) can be told from a path and from a log line's end. */
static bool service_name_valid(const char *name, size_t len)
{
    if ((len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.'))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (name[i] == '/' || name[i] == '\t' || !gm_http_is(name[i], GM_HTTP_C_VALUE))
            return false;
    }
    return true;
}

int gm_http_service_split(struct gm_http_span target, struct gm_http_service_path *out)
{
    const struct gm_http_span layout = GM_HTTP_LIT("/services");
    if (target.len < layout.len || memcmp(target.p, layout.p, layout.len) != 0)
        return 0;
    const char *p = target.p + layout.len, *end = target.p + target.len;
    if (p < end && *p != '/' && *p != '?')
        return 0;
    if (p == end || *p == '?')
        return -GM_HTTP_E_SERVICE_PATH;

    const char *name = p + 1, *stop = name;
    while (stop < end && *stop != '/' && *stop != '?')
        stop++;
    if (stop == name)
        return -GM_HTTP_E_SERVICE_PATH;
    out->raw_name = span_between(name, stop);
    int len = gm_http_percent_decode(out->raw_name, out->name, GM_HTTP_SERVICE_NAME_MAX);
    if (len < 0 || !service_name_valid(out->name, (size_t)len))
        return -GM_HTTP_E_SERVICE_NAME;
    out->name[len] = '\0';
    out->name_len = (uint16_t)len;
    out->rest = span_between(stop, end);
    out->slash = stop == end || *stop != '/';
    return 1;
}
