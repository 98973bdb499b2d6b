/* Targets: a configured URL, with its address when it names one. Pure. */
#include "client/target.h"

#include <arpa/inet.h>
#include <string.h>

static void target_socket(struct gm_target *target)
{
    struct sockaddr_un *un = &target->literal.un;
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, target->url.path.p, target->url.path.len);
    target->authority = GM_HTTP_LIT("localhost");
    target->resolved = true;
}

static void target_literal(struct gm_target *target)
{
    char host[INET6_ADDRSTRLEN];
    const struct gm_http_span *name = &target->url.host;
    if (name->len >= sizeof host)
        return;
    memcpy(host, name->p, name->len);
    host[name->len] = '\0';
    union gm_addr *addr = &target->literal;
    if (inet_pton(AF_INET6, host, &addr->in6.sin6_addr) == 1) {
        addr->in6.sin6_family = AF_INET6;
        addr->in6.sin6_port = htons(target->url.port);
        target->resolved = true;
        return;
    }
    memset(addr, 0, sizeof *addr);
    if (inet_pton(AF_INET, host, &addr->in.sin_addr) == 1) {
        addr->in.sin_family = AF_INET;
        addr->in.sin_port = htons(target->url.port);
        target->resolved = true;
    }
}

int gm_target_parse(const char *text, unsigned schemes, struct gm_target *out)
{
    *out = (struct gm_target){0};
    struct gm_http_span span = {text, strlen(text)};
    int rc = gm_http_url_parse(span, schemes, &out->url);
    if (rc < 0)
        return rc;
    if (out->url.scheme == GM_HTTP_SCHEME_UNIX) {
        target_socket(out);
        return 0;
    }
    if (out->url.path.len > GM_TARGET_PREFIX_MAX)
        return -GM_HTTP_E_URL_PATH;
    out->host = out->url.host;
    out->prefix = out->url.path;
    out->authority = out->url.authority;
    target_literal(out);
    return 0;
}
