/* The proxy's URL, taken apart. Main thread, at start. */
#include "agent/proxy.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "auth/base64.h"

#define BASIC  "Basic "
#define SCHEME "http://"

/* user[:password], percent-encoded, as the value of Proxy-Authorization (RFC 7617). */
static int load_user(struct gm_agent_proxy *proxy, const char *text, size_t len)
{
    char user[GM_AGENT_USER_MAX];
    int n = gm_http_percent_decode((struct gm_http_span){text, len}, user, sizeof user - 1);
    if (n < 0)
        return -GM_E_CONFIG;
    if (memchr(user, ':', (size_t)n) == NULL)
        user[n++] = ':';
    memcpy(proxy->credentials, BASIC, sizeof BASIC - 1);
    size_t written =
        gm_base64_encode(proxy->credentials + sizeof BASIC - 1, (const uint8_t *)user, (size_t)n);
    proxy->credentials[sizeof BASIC - 1 + written] = '\0';
    explicit_bzero(user, sizeof user);
    return 0;
}

static void write_authority(const struct gm_target *target, char out[GM_AGENT_AUTHORITY_MAX])
{
    const struct gm_http_url *url = &target->url;
    (void)snprintf(out, GM_AGENT_AUTHORITY_MAX, "%s%.*s%s:%u", url->ipv6 ? "[" : "",
                   (int)url->host.len, url->host.p, url->ipv6 ? "]" : "", url->port);
}

int gm_agent_proxy_load(struct gm_agent_proxy *proxy, const struct gm_proxy_choice *choice,
                        const struct gm_target *server, const char **why)
{
    if (choice->url == NULL)
        return 0;
    bool complete = strncasecmp(choice->url, SCHEME, sizeof SCHEME - 1) == 0;
    const char *authority = choice->url + (complete ? sizeof SCHEME - 1 : 0);
    size_t len = strcspn(authority, "/");
    const char *at = memrchr(authority, '@', len);
    *why = "its user and password cannot be read: are they percent-encoded, and below 510 bytes?";
    if (at != NULL && load_user(proxy, authority, (size_t)(at - authority)) < 0)
        return -GM_E_CONFIG;
    const char *host = at != NULL ? at + 1 : authority;
    *why = "its host is too long";
    int n = snprintf(proxy->url, sizeof proxy->url, SCHEME "%s", host);
    if (n < 0 || n >= (int)sizeof proxy->url)
        return -GM_E_CONFIG;
    int rc = gm_target_parse(proxy->url, GM_HTTP_SCHEME_HTTP, &proxy->target);
    *why = rc < 0 ? gm_http_error_text(rc) : "only http://[user:password@]host:port can be used";
    if (rc < 0 || proxy->target.prefix.len > 0)
        return -GM_E_CONFIG;
    write_authority(&proxy->target, proxy->name);
    write_authority(server, proxy->to);
    proxy->link = (struct gm_link_proxy){
        .name = proxy->name,
        .to = proxy->to,
        .credentials = proxy->credentials[0] != '\0' ? proxy->credentials : NULL,
    };
    proxy->used = true;
    return 0;
}
