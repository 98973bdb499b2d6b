/* WebSocket opening handshake (RFC 6455 section 4), both roles, above a parsed HTTP head.
 *
 * Pure code, no allocation. SHA-1 comes from the caller (the one crypto library sits above this
 * folder). The caller fills struct gm_ws_upgrade from its parsed head; the checks here decide, the
 * writers produce the whole head.
 */
#ifndef GM_WS_HANDSHAKE_H
#define GM_WS_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GM_WS_KEY_LEN    24u /* base64 of 16 bytes */
#define GM_WS_ACCEPT_LEN 28u /* base64 of 20 bytes */
#define GM_WS_VERSION    "13"

/* Computes SHA-1 of n bytes; returns 0, or a negative error that gm_ws_accept() hands on. */
typedef int gm_ws_sha1_fn(const uint8_t *p, size_t n, uint8_t out[20]);

/* A borrowed span of text; {NULL, 0} where the field is absent. */
struct gm_ws_text {
    const char *p;
    size_t len;
};

/* What the handshake looks at. Where a list field (Connection, Upgrade, protocols) stood on several
 * lines, the caller joins them or passes the line that matters. */
struct gm_ws_upgrade {
    struct gm_ws_text upgrade;    /* Upgrade */
    struct gm_ws_text connection; /* Connection */
    struct gm_ws_text key;        /* Sec-WebSocket-Key (request) */
    struct gm_ws_text version;    /* Sec-WebSocket-Version (request) */
    struct gm_ws_text accept;     /* Sec-WebSocket-Accept (response) */
    struct gm_ws_text protocol;   /* Sec-WebSocket-Protocol: offers (request), choice (response) */
    struct gm_ws_text extensions; /* Sec-WebSocket-Extensions (response) */
    uint16_t status;              /* response only */
    bool is_get;                  /* request only */
    bool is_http11;
};

/* Sec-WebSocket-Key from 16 random bytes. Not NUL-terminated. */
void gm_ws_key(const uint8_t random[16], char out[GM_WS_KEY_LEN]);

/* Sec-WebSocket-Accept for a key of GM_WS_KEY_LEN characters. Returns 0, -EINVAL for a key of
 * another length, or sha1's error. */
int gm_ws_accept(struct gm_ws_text key, gm_ws_sha1_fn *sha1, char out[GM_WS_ACCEPT_LEN])
    __attribute__((warn_unused_result));

/* True when a comma-separated list holds the token, letter case ignored. */
bool gm_ws_list_has(struct gm_ws_text list, const char *token);

/* Like gm_ws_list_has, case-sensitive as subprotocol names are. */
bool gm_ws_protocol_offered(struct gm_ws_text offers, const char *protocol);

/* Server: 0 when the request may be upgraded, else the HTTP status to answer with: 405 (not GET),
 * 426 (not an upgrade to websocket, or not version 13: answer with `Sec-WebSocket-Version: 13`),
 * 400 (anything else). */
int gm_ws_check_request(const struct gm_ws_upgrade *request) __attribute__((warn_unused_result));

/* Client: checks an answer to the request made with `key`. `protocol` is the one offered, or NULL.
 * On success returns 1 when the server chose it, 0 when the server chose none. -GM_E_PROTOCOL when
 * the answer is not a valid upgrade (another status included), -ENOTSUP when it selects something
 * that was not offered. */
int gm_ws_check_response(const struct gm_ws_upgrade *response, const char key[GM_WS_KEY_LEN],
                         gm_ws_sha1_fn *sha1, const char *protocol)
    __attribute__((warn_unused_result));

/* What a client's request head says besides the fixed fields. */
struct gm_ws_request {
    struct gm_ws_text target;   /* path and query, begins with '/' */
    struct gm_ws_text host;     /* host[:port] */
    struct gm_ws_text protocol; /* one name; empty: none offered */
    struct gm_ws_text
        fields; /* further whole lines, each ending in CRLF; no empty line, no other control byte */
    const char *key; /* GM_WS_KEY_LEN characters */
};

/* Client: the whole request head into buf. Returns its length, -GM_E_LIMIT, or -EINVAL for bytes
 * that would break the head. */
int gm_ws_write_request(char *buf, size_t cap, const struct gm_ws_request *request)
    __attribute__((warn_unused_result));

/* Server: the whole 101 head into buf; `protocol` is the chosen one or empty. Returns and errors as
 * above. */
int gm_ws_write_response(char *buf, size_t cap, const char accept[GM_WS_ACCEPT_LEN],
                         struct gm_ws_text protocol) __attribute__((warn_unused_result));

#endif
