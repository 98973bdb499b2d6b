/* What link.c, old.c and proxy.c know of each other. Private to link/. */
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

/* Bytes that a peer may send before it is judged, and that one of 0.0.x may be ahead of its
 * streams. */
#define LINK_GRANT_BYTES (64u << 10)

#define LINK_BATCH_PIECES 64u

/* ---- link.c ---- */

void link_arm(struct gm_link *link, uint64_t span_ns);
/* A ping, native or of the WebSocket. */
void link_ping(struct gm_link *link);
/* A ping that must be answered in time. */
void link_ask(struct gm_link *link);
/* The end without a CLOSE frame: what is queued still leaves. */
void link_finish(struct gm_link *link, const char *text);
/* There was no block for a message: tried again a tick later. */
void link_starve(struct gm_link *link);
uint32_t link_mask_key(struct gm_link *link);
/* A control frame of the WebSocket. */
void link_control(struct gm_link *link, uint8_t opcode, const void *payload, size_t len);
/* One event of the WebSocket. False: the link has ended. */
bool link_event(struct gm_link *link, const struct gm_ws_event *event, gm_slice slice);
/* Puts the message's header into the room in front of the first piece, masks, and queues the
 * pieces. */
void link_queue_message(struct gm_link *link, struct gm_batch *batch, struct gm_buf *cork);

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

/* ---- greet.c ---- */

/* Queues our HELLO or READY. False: no memory. */
bool link_greet(struct gm_link *link);
/* Both greetings have passed: up, watched, told. */
void link_rise(struct gm_link *link);

/* ---- old.c: a peer of 0.0.x; link->old is set ---- */

/* -GM_E_NOMEM: nothing has changed. */
int link_old_begin(struct gm_link *link, struct gm_ring *ring,
                   const struct gm_link_old *names) GM_WARN_UNUSED;
/* The mux has ended; and: everything goes. Accept a native link. */
void link_old_down(struct gm_link *link);
void link_old_release(struct gm_link *link);
/* Takes the slice. */
void link_old_recv(struct gm_link *link, gm_slice slice);
/* The mux has changed: a window may have room again. */
void link_old_kick(struct gm_link *link);
void link_old_flush(struct gm_link *link);
/* A stream's window is full, and nothing is read. False for a native link. */
bool link_old_paused(const struct gm_link *link);
/* The peer has ended its direction. True: what came before is still to be read, then the link ends.
 */
bool link_old_ends(struct gm_link *link);
void link_old_pong(struct gm_link *link, const struct gm_ws_event *event);
uint64_t link_old_pong_ns(const struct gm_link *link);
void link_old_drain(struct gm_link *link);
/* A TEXT message, behind all that is queued. -GM_E_NOMEM: the link is about to end. Of each kind
 * there is one in a link's life, but for notes, which wait while much is queued. */
int link_old_text(struct gm_link *link, const char *json, size_t len);

#endif
