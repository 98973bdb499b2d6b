/* The environment's proxy. Pure. Invariant: what cannot be understood in a no_proxy list exempts
 * nobody. */
#include "config/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "config/cidr.h"

#define SEPARATORS ", \t\r\n"
/* A name in DNS has at most 253 characters. */
#define HOST_MAX 256u
#define PORT_MAX 6u

static const char *variable(char *const *environment, const char *name)
{
    size_t len = strlen(name);
    for (; environment != NULL && *environment != NULL; environment++) {
        if (strncmp(*environment, name, len) == 0 && (*environment)[len] == '=')
            return (*environment)[len + 1] != '\0' ? *environment + len + 1 : NULL;
    }
    return NULL;
}

static const char *either(char *const *environment, const char *small, const char *capital,
                          const char **found)
{
    const char *value = variable(environment, small);
    *found = value != NULL ? small : capital;
    return value != NULL ? value : variable(environment, capital);
}

static bool copy(char *out, size_t cap, const char *text, size_t len)
{
    if (len >= cap)
        return false;
    memcpy(out, text, len);
    out[len] = '\0';
    return true;
}

/* host[:port] or [host][:port], of `len` bytes, taken apart; *port is "" when there is none. */
static bool split(const char *text, size_t len, char host[HOST_MAX], char port[PORT_MAX])
{
    const char *end = text + len, *colon = memchr(text, ':', len), *host_end = end;
    port[0] = '\0';
    if (len > 0 && text[0] == '[') {
        const char *bracket = memchr(text, ']', len);
        if (bracket == NULL)
            return false;
        colon = bracket + 1 < end ? bracket + 1 : NULL;
        text++;
        host_end = bracket;
    } else if (colon != NULL && memchr(colon + 1, ':', (size_t)(end - colon) - 1) != NULL) {
        colon = NULL; /* an IPv6 address without brackets */
    } else if (colon != NULL) {
        host_end = colon;
    }
    if (colon != NULL &&
        (*colon != ':' || !copy(port, PORT_MAX, colon + 1, (size_t)(end - colon) - 1)))
        return false;
    return copy(host, HOST_MAX, text, (size_t)(host_end - text));
}

static bool in_network(const char *network, const char *host)
{
    uint8_t address[16] = {[10] = 0xff, [11] = 0xff};
    struct gm_arena arena = {0};
    struct gm_cidr_list list;
    const char *wrong;
    if (inet_pton(AF_INET, host, address + 12) != 1 && inet_pton(AF_INET6, host, address) != 1)
        return false;
    bool holds =
        gm_cidr_parse(network, &arena, &list, &wrong) == 0 && gm_cidr_holds(&list, address);
    gm_arena_fini(&arena);
    return holds;
}

static bool is_at_or_below(const char *host, const char *domain)
{
    size_t host_len = strlen(host), len = strlen(domain);
    if (len == 0 || host_len < len || strcasecmp(host + host_len - len, domain) != 0)
        return false;
    return host_len == len || host[host_len - len - 1] == '.';
}

static bool item_names(const char *item, size_t len, const char *host, const char *port)
{
    char name[HOST_MAX], of_port[PORT_MAX];
    if (len == 1 && item[0] == '*')
        return true;
    if (!split(item, len, name, of_port) || (of_port[0] != '\0' && strcmp(of_port, port) != 0))
        return false;
    const char *domain = name;
    if (strncmp(domain, "*.", 2) == 0)
        domain++;
    if (domain[0] == '.')
        domain++;
    return is_at_or_below(host, domain) || in_network(name, host);
}

/* This machine: no proxy has a way to it (as Go's clients have it). */
static bool is_here(const char *host)
{
    return strcasecmp(host, "localhost") == 0 || in_network("127.0.0.0/8", host) ||
           in_network("::1", host);
}

bool gm_proxy_exempts(const char *list, const char *host, const char *port)
{
    for (list += strspn(list, SEPARATORS); *list != '\0'; list += strspn(list, SEPARATORS)) {
        size_t len = strcspn(list, SEPARATORS);
        if (item_names(list, len, host, port))
            return true;
        list += len;
    }
    return false;
}

int gm_proxy_choose(char *const *environment, const char *url, struct gm_arena *arena,
                    struct gm_proxy_choice *out)
{
    char host[HOST_MAX], port[PORT_MAX];
    const char *ignored;
    bool tls = strncasecmp(url, "wss://", 6) == 0;
    *out = (struct gm_proxy_choice){0};
    const char *found = tls ? either(environment, "https_proxy", "HTTPS_PROXY", &out->variable)
                            : either(environment, "http_proxy", "HTTP_PROXY", &out->variable);
    const char *exempt = either(environment, "no_proxy", "NO_PROXY", &ignored);
    const char *authority = strstr(url, "://");
    if (found == NULL || authority == NULL)
        return 0;
    authority += 3;
    if (!split(authority, strcspn(authority, "/"), host, port))
        return 0; /* refused elsewhere */
    if (port[0] == '\0')
        (void)copy(port, sizeof port, tls ? "443" : "80", tls ? 3 : 2);
    if (is_here(host) || (exempt != NULL && gm_proxy_exempts(exempt, host, port)))
        return 0;
    out->url = gm_arena_text(arena, found, strlen(found));
    return out->url == NULL ? -ENOMEM : 0;
}
