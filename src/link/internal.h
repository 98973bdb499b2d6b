/* What link.c and proxy.c know of each other. Private to link/. */
#ifndef GM_LINK_INTERNAL_H
#define GM_LINK_INTERNAL_H

#include "http/parser.h"
#include "link/link.h"

enum link_state {
    LINK_DIALLING = 1, /* TCP connect, and TLS */
    LINK_PROXYING,     /* the proxy is asked for a tunnel */
    LINK_UPGRADING,    /* request sent, no answer yet */
    LINK_GREETING,
    LINK_UP,
    LINK_ENDED,
};

/* Longest head of an answer to a CONNECT or an upgrade that is taken. */
#define LINK_UPGRADE_HEAD_MAX 4000u

/* ---- link.c ---- */

/* The connection is of no use any more. */
void link_lost(struct gm_link *link, const char *text);
/* Appends the slice (taken) to link->head and parses. Length of a whole head; 0: more is needed;
 * negative: the link has ended. */
int link_gather_answer(struct gm_link *link, gm_slice slice, enum gm_http_method method,
                       struct gm_http_response *response) GM_WARN_UNUSED;

/* ---- proxy.c ---- */

/* Keeps what is needed until the tunnel stands: the session (taken, also on failure) and the
 * upgrade request (copied). False: out of memory. */
bool link_proxy_begin(struct gm_link *link, const struct gm_link_proxy *proxy,
                      const struct gm_link_config *config, struct gm_ws_text upgrade);
/* The connection to the proxy stands. */
void link_proxy_connected(struct gm_link *link);
/* Takes the slice. */
void link_proxy_recv(struct gm_link *link, gm_slice slice);
/* The text with the proxy's name in front; without a proxy, the text. Lives as long as the link's
 * proxy, or until the next call. */
const char *link_proxy_text(struct gm_link *link, const char *text);
/* Wipes and frees. Accepts a link without a proxy. */
void link_proxy_release(struct gm_link *link);

#endif
