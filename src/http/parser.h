/*
 * HTTP/1.0 and HTTP/1.1 heads, strictly: anything that two parsers could read in two ways is
 * refused with an enumerated error (http/error.h). One parse: what is validated here is what is
 * routed on and forwarded. Pure: no I/O, no clock, no allocation, no state but what is passed in;
 * any thread. Every span and field points into the caller's bytes (zero copy) and dies with them.
 * A line is judged when its LF has arrived, and the head as a whole when its empty line has, so
 * that the verdict does not depend on how the bytes were cut into pieces. (One exception, for
 * garbage on the wrong port: a first byte that cannot begin a method is refused at once.) Source:
 * RFC 9110, RFC 9112.
 */
#ifndef GM_HTTP_PARSER_H
#define GM_HTTP_PARSER_H

#include "http/error.h"
#include "http/field.h"

/* Empty lines tolerated before a request line (RFC 9112 §2.2); old clients send one after a POST
 * body. */
#define GM_HTTP_LEADING_LINES_MAX 4
/* Elements that all Connection fields of one head may list together. */
#define GM_HTTP_CONNECTION_TOKENS_MAX 32

enum gm_http_method {
    GM_HTTP_OTHER = 0, /* a valid token that is none of these: forwarded as it stands */
    GM_HTTP_GET,
    GM_HTTP_HEAD,
    GM_HTTP_POST,
    GM_HTTP_PUT,
    GM_HTTP_DELETE,
    GM_HTTP_CONNECT,
    GM_HTTP_OPTIONS,
    GM_HTTP_TRACE,
    GM_HTTP_PATCH,
};

enum gm_http_target_form {
    GM_HTTP_FORM_ORIGIN = 0, /* /path?query */
    GM_HTTP_FORM_ABSOLUTE,   /* http://host/path?query */
    GM_HTTP_FORM_AUTHORITY,  /* host:port, CONNECT only */
    GM_HTTP_FORM_ASTERISK,   /* *, OPTIONS only */
};

enum gm_http_body {
    GM_HTTP_BODY_NONE = 0, /* the message ends with its head */
    GM_HTTP_BODY_LENGTH,   /* exactly framing.length bytes follow (may be 0: Content-Length: 0 was
                              said) */
    GM_HTTP_BODY_CHUNKED,  /* http/chunked.h */
    GM_HTTP_BODY_UNTIL_CLOSE, /* responses only */
    GM_HTTP_BODY_TUNNEL, /* responses only: after 101, or 2xx to CONNECT, raw bytes both ways */
};

enum gm_http_upgrade {
    GM_HTTP_UPGRADE_NONE = 0,
    GM_HTTP_UPGRADE_WEBSOCKET, /* the first protocol listed is websocket */
    GM_HTTP_UPGRADE_OTHER,
};

/* What the head says about the bytes behind it and about the connection. */
struct gm_http_framing {
    uint64_t length; /* GM_HTTP_BODY_LENGTH: bytes; for HEAD and 304 the length announced; else 0 */
    uint8_t body;    /* enum gm_http_body */
    uint8_t version_minor; /* 0 or 1 */
    bool has_length;       /* a Content-Length was there (also on HEAD, 304) */
    bool keep_alive;       /* another message may follow on this connection */
    bool expect_continue;  /* requests: 1.1, a body follows, and the client may wait for a 100 */
    bool te_trailers;      /* requests: TE lists trailers */
    uint8_t upgrade; /* enum gm_http_upgrade; only with Connection: upgrade, 1.1, and no body */
    struct gm_http_span protocol; /* the whole Upgrade value when upgrade is set */
};

struct gm_http_request {
    /* In: set by gm_http_request_init, kept across parses. */
    struct gm_http_fields fields; /* storage in, fields out */
    uint32_t head_max;
    /* Out: valid after a result > 0 only. */
    uint8_t method_id; /* enum gm_http_method */
    uint8_t form;      /* enum gm_http_target_form */
    struct gm_http_span method;
    struct gm_http_span target;    /* raw, as it stood */
    struct gm_http_span scheme;    /* absolute form only */
    struct gm_http_span authority; /* absolute and authority form only */
    struct gm_http_span
        path; /* raw path; origin: at least "/"; absolute: may be empty (send "/" then) */
    struct gm_http_span query; /* raw, from the "?" on; empty when there is none */
    struct gm_http_span host;  /* authority of the target if it has one, else Host; may be empty */
    struct gm_http_framing framing;
};

struct gm_http_response {
    struct gm_http_fields fields;
    uint32_t head_max;
    uint16_t status; /* 100–999 */
    struct gm_http_span reason;
    struct gm_http_framing framing;
};

/* Lends `list` (room for `max` ≤ GM_HTTP_FIELDS_MAX entries) until the object is no longer used;
 * `head_max` in bytes (1–GM_HTTP_HEAD_MAX) bounds start line + fields + both line ends. */
void gm_http_request_init(struct gm_http_request *req, struct gm_http_field *list, uint16_t max,
                          uint32_t head_max);
void gm_http_response_init(struct gm_http_response *res, struct gm_http_field *list, uint16_t max,
                           uint32_t head_max);

/* `buf` holds everything received since the head began. Result: > 0, length of the head in bytes
 * (its empty line and any tolerated leading lines included); 0, more bytes are needed: call again
 * with the same bytes plus more (they may have moved) and the same `scanned`, which is 0 before the
 * first call and spares a rescan; < 0, -GM_HTTP_E_x: answer gm_http_error_status() and close. Total
 * work over all calls is linear in the head. */
__attribute__((warn_unused_result)) int
gm_http_parse_request(const char *buf, size_t len, size_t *scanned, struct gm_http_request *req);
/* The same for a response to a request of that method, which decides the framing (RFC 9112 §6.3).
 * 1xx heads come back like any other (body NONE; 101: TUNNEL), and the final one must then be
 * parsed with `scanned` = 0 again. A response that announces a body it may not have (204, 1xx) is
 * taken as bodyless and keep_alive is cleared. */
__attribute__((warn_unused_result)) int gm_http_parse_response(const char *buf, size_t len,
                                                               size_t *scanned,
                                                               enum gm_http_method method,
                                                               struct gm_http_response *res);

/* Case-sensitive (RFC 9110 §9.1). */
enum gm_http_method gm_http_method_lookup(struct gm_http_span method);
/* RFC 9110 §9.2.2: may be sent again without asking. False for GM_HTTP_OTHER and CONNECT. */
bool gm_http_method_idempotent(enum gm_http_method method);

#endif
