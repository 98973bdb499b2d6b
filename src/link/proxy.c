/* A link through an HTTP proxy: CONNECT (RFC 9110 section 9.3.6), then TLS if there is any, then
 * the upgrade as without one. Owner: the link's ring.
 *
 * Invariant: nothing of the upgrade request, which holds the token, is written before the tunnel
 * stands and, with TLS, the connection is secured: it leaves when the handshake is done. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/counter.h"
#include "http/parser.h"
#include "link/internal.h"

#define CONNECT_MAX 4096u

struct link_proxy {
    struct gm_tls *tls; /* NULL: ws:// */
    struct gm_tls_room *room;
    uint32_t connect_len, upgrade_len;
    char name[GM_LINK_NAME_MAX + 8]; /* of the proxy */
    char told[512];
    char *upgrade; /* secret */
    char connect[CONNECT_MAX];
};

/* ---- Beginning and end ---- */

bool link_proxy_begin(struct gm_link *link, const struct gm_link_proxy *asked,
                      const struct gm_link_config *config, struct gm_ws_text upgrade)
{
    struct link_proxy *proxy = calloc(1, sizeof *proxy);
    char *copy = malloc(upgrade.len);
    gm_counter_add(GM_COUNTER_ALLOCATIONS, 2);
    int len = proxy == NULL
                  ? -1
                  : snprintf(proxy->connect, sizeof proxy->connect,
                             "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s%s%s\r\n", asked->to, asked->to,
                             asked->credentials != NULL ? "Proxy-Authorization: " : "",
                             asked->credentials != NULL ? asked->credentials : "",
                             asked->credentials != NULL ? "\r\n" : "");
    if (copy == NULL || len < 0 || len >= (int)sizeof proxy->connect) {
        gm_tls_free(config->tls);
        free(copy);
        free(proxy);
        return false;
    }
    memcpy(copy, upgrade.p, upgrade.len);
    proxy->tls = config->tls;
    proxy->room = config->room;
    proxy->connect_len = (uint32_t)len;
    proxy->upgrade = copy;
    proxy->upgrade_len = (uint32_t)upgrade.len;
    (void)snprintf(proxy->name, sizeof proxy->name, "%s", asked->name);
    link->proxy = proxy;
    return true;
}

void link_proxy_release(struct gm_link *link)
{
    struct link_proxy *proxy = link->proxy;
    if (proxy == NULL)
        return;
    link->proxy = NULL;
    gm_tls_free(proxy->tls);
    explicit_bzero(proxy->upgrade, proxy->upgrade_len);
    free(proxy->upgrade);
    explicit_bzero(proxy->connect, sizeof proxy->connect);
    free(proxy);
}

const char *link_proxy_text(struct gm_link *link, const char *text)
{
    struct link_proxy *proxy = link->proxy;
    if (proxy == NULL)
        return text;
    (void)snprintf(proxy->told, sizeof proxy->told, "through the proxy %s: %s", proxy->name, text);
    return proxy->told;
}

/* ---- The tunnel ---- */

void link_proxy_connected(struct gm_link *link)
{
    struct link_proxy *proxy = link->proxy;
    link->state = LINK_PROXYING;
    gm_conn_write(&link->conn, proxy->connect, proxy->connect_len);
}

/* The tunnel is the link's own connection from here on. */
static void proxy_done(struct gm_link *link)
{
    struct link_proxy *proxy = link->proxy;
    struct gm_tls *session = proxy->tls;
    proxy->tls = NULL;
    if (session != NULL && gm_conn_secure(&link->conn, session, proxy->room, GM_POOL_LINK) < 0) {
        link_lost(link, "out of memory for TLS");
        return;
    }
    if (session != NULL)
        gm_conn_recv(&link->conn, GM_POOL_LINK, LINK_GRANT_BYTES);
    link->state = LINK_UPGRADING;
    gm_conn_write(&link->conn, proxy->upgrade, proxy->upgrade_len);
    link_proxy_release(link);
}

static void proxy_answered(struct gm_link *link, const struct gm_http_response *response, bool rest)
{
    char text[160];
    if (response->status < 200 || response->status > 299) {
        (void)snprintf(
            text, sizeof text, "it refused the tunnel with status %u %.*s%s", response->status,
            (int)(response->reason.len < 64 ? response->reason.len : 64), response->reason.p,
            response->status == 407 ? " (put user:password@ into its URL)" : "");
        link_lost(link, text);
        return;
    }
    if (rest) {
        link_lost(link, "bytes follow its answer that nobody has asked for");
        return;
    }
    gm_buf_put(link->head);
    link->head = NULL;
    link->head_len = 0;
    proxy_done(link);
}

void link_proxy_recv(struct gm_link *link, gm_slice slice)
{
    struct gm_http_field fields[GM_HTTP_FIELDS_MAX];
    struct gm_http_response response;
    gm_http_response_init(&response, fields, GM_HTTP_FIELDS_MAX, LINK_UPGRADE_HEAD_MAX);
    int len = link_gather_answer(link, slice, GM_HTTP_CONNECT, &response);
    if (len > 0)
        proxy_answered(link, &response, link->head_len > (uint32_t)len);
}
