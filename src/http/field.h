/*
 * Fields of a head or of trailers: a table of pointers into the bytes they were read from (zero
 * copy), original order and case kept, well-known names recognised once, by number. Who owns it:
 * whoever owns the bytes. The table is valid only while the bytes stay where they are. Invariant
 * after a successful parse: every name is a token, every value is free of control bytes (HTAB
 * excepted) and trimmed of white space at both ends. Source: RFC 9110 §5, RFC 9112 §5.
 */
#ifndef GM_HTTP_FIELD_H
#define GM_HTTP_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Named limits. A head of 64 KiB keeps every length within 16 bits. */
#define GM_HTTP_FIELDS_MAX 128
#define GM_HTTP_HEAD_MAX   65536
#define GM_HTTP_METHOD_MAX 32

/* Bytes that belong to somebody else; not NUL-terminated. */
struct gm_http_span {
    const char *p;
    size_t len;
};

#define GM_HTTP_LIT(literal) ((struct gm_http_span){(literal), sizeof(literal) - 1})

/* X(ID, "lower-case name", first letter, last letter, flags). The letters feed the lookup's hash
 * (field.c). */
#define GM_HTTP_KNOWN_FIELDS(X)                                                                    \
    X(HOST, "host", 'h', 't', GM_HTTP_FIELD_DERIVED)                                               \
    X(CONNECTION, "connection", 'c', 'n', GM_HTTP_FIELD_HOP)                                       \
    X(CONTENT_LENGTH, "content-length", 'c', 'h', GM_HTTP_FIELD_DERIVED)                           \
    X(TRANSFER_ENCODING, "transfer-encoding", 't', 'g', GM_HTTP_FIELD_HOP)                         \
    X(TE, "te", 't', 'e', GM_HTTP_FIELD_HOP)                                                       \
    X(TRAILER, "trailer", 't', 'r', 0)                                                             \
    X(UPGRADE, "upgrade", 'u', 'e', GM_HTTP_FIELD_HOP)                                             \
    X(EXPECT, "expect", 'e', 't', 0)                                                               \
    X(AUTHORIZATION, "authorization", 'a', 'n', 0)                                                 \
    X(PROXY_AUTHORIZATION, "proxy-authorization", 'p', 'n', GM_HTTP_FIELD_HOP)                     \
    X(PROXY_AUTHENTICATE, "proxy-authenticate", 'p', 'e', GM_HTTP_FIELD_HOP)                       \
    X(PROXY_CONNECTION, "proxy-connection", 'p', 'n', GM_HTTP_FIELD_HOP)                           \
    X(KEEP_ALIVE, "keep-alive", 'k', 'e', GM_HTTP_FIELD_HOP)                                       \
    X(X_FORWARDED_FOR, "x-forwarded-for", 'x', 'r', 0)                                             \
    X(X_FORWARDED_PROTO, "x-forwarded-proto", 'x', 'o', 0)                                         \
    X(X_FORWARDED_HOST, "x-forwarded-host", 'x', 't', 0)                                           \
    X(X_REQUEST_ID, "x-request-id", 'x', 'd', 0)                                                   \
    X(X_GIMLET_ERROR, "x-gimlet-error", 'x', 'r', 0)                                               \
    X(TRACEPARENT, "traceparent", 't', 't', 0)                                                     \
    X(TRACESTATE, "tracestate", 't', 'e', 0)                                                       \
    X(VIA, "via", 'v', 'a', 0)                                                                     \
    X(FORWARDED, "forwarded", 'f', 'd', 0)                                                         \
    X(ACCEPT, "accept", 'a', 't', 0)                                                               \
    X(ACCEPT_ENCODING, "accept-encoding", 'a', 'g', 0)                                             \
    X(ACCEPT_LANGUAGE, "accept-language", 'a', 'e', 0)                                             \
    X(CACHE_CONTROL, "cache-control", 'c', 'l', 0)                                                 \
    X(CONTENT_TYPE, "content-type", 'c', 'e', 0)                                                   \
    X(CONTENT_ENCODING, "content-encoding", 'c', 'g', 0)                                           \
    X(COOKIE, "cookie", 'c', 'e', 0)                                                               \
    X(SET_COOKIE, "set-cookie", 's', 'e', 0)                                                       \
    X(DATE, "date", 'd', 'e', 0)                                                                   \
    X(ETAG, "etag", 'e', 'g', 0)                                                                   \
    X(LAST_MODIFIED, "last-modified", 'l', 'd', 0)                                                 \
    X(LOCATION, "location", 'l', 'n', 0)                                                           \
    X(ORIGIN, "origin", 'o', 'n', 0)                                                               \
    X(REFERER, "referer", 'r', 'r', 0)                                                             \
    X(RETRY_AFTER, "retry-after", 'r', 'r', 0)                                                     \
    X(SERVER, "server", 's', 'r', 0)                                                               \
    X(USER_AGENT, "user-agent", 'u', 't', 0)                                                       \
    X(VARY, "vary", 'v', 'y', 0)                                                                   \
    X(WWW_AUTHENTICATE, "www-authenticate", 'w', 'e', 0)                                           \
    X(SEC_WEBSOCKET_KEY, "sec-websocket-key", 's', 'y', 0)                                         \
    X(SEC_WEBSOCKET_VERSION, "sec-websocket-version", 's', 'n', 0)                                 \
    X(SEC_WEBSOCKET_PROTOCOL, "sec-websocket-protocol", 's', 'l', 0)                               \
    X(SEC_WEBSOCKET_EXTENSIONS, "sec-websocket-extensions", 's', 's', 0)                           \
    X(SEC_WEBSOCKET_ACCEPT, "sec-websocket-accept", 's', 't', 0)

enum gm_http_field_id {
    GM_HTTP_ID_OTHER = 0,
#define GM_HTTP_FIELD_ENUM(id, name, first, last, flags) GM_HTTP_ID_##id,
    GM_HTTP_KNOWN_FIELDS(GM_HTTP_FIELD_ENUM)
#undef GM_HTTP_FIELD_ENUM
        GM_HTTP_ID_COUNT /* ≤ 64: `seen` holds a bit per id */
};

enum {
    /* Hop-by-hop: must not be forwarded. Set for the fixed set above and for whatever Connection
     * names (RFC 9110 §7.6.1). Trailer is end to end here, because trailers are kept. */
    GM_HTTP_FIELD_HOP = 1,
    /* Host and Content-Length: their meaning is in the parsed head (host, framing); each leg writes
       them anew. */
    GM_HTTP_FIELD_DERIVED = 2,
};

struct gm_http_field {
    const char *name;
    const char *value;
    uint16_t name_len;
    uint16_t value_len;
    uint8_t id;    /* enum gm_http_field_id */
    uint8_t flags; /* GM_HTTP_FIELD_* */
};

/* A table over storage that the caller lends: `list` has room for `max` entries. */
struct gm_http_fields {
    struct gm_http_field *list;
    uint16_t max;
    uint16_t count;
    uint64_t
        seen; /* bit (1 << id) for each known field that occurs; bit 0: some unknown one does */
};

static inline struct gm_http_span gm_http_field_name(const struct gm_http_field *f)
{
    return (struct gm_http_span){f->name, f->name_len};
}

static inline struct gm_http_span gm_http_field_value(const struct gm_http_field *f)
{
    return (struct gm_http_span){f->value, f->value_len};
}

static inline bool gm_http_fields_has(const struct gm_http_fields *fields, enum gm_http_field_id id)
{
    return (fields->seen >> id) & 1u;
}

/* Number of a name, compared without case; GM_HTTP_ID_OTHER when it is none of the table. Reads
 * `len` bytes. */
enum gm_http_field_id gm_http_field_lookup(const char *name, size_t len);
/* Lower-case spelling of a known id, static; empty for GM_HTTP_ID_OTHER. */
struct gm_http_span gm_http_field_known_name(enum gm_http_field_id id);
/* First field of that id at or after `*from`; NULL at the end. `from` may be NULL (from the start);
 * otherwise it is moved behind the field found, so that a loop visits all. The pointer is into the
 * table (borrow). */
const struct gm_http_field *gm_http_fields_find(const struct gm_http_fields *fields,
                                                enum gm_http_field_id id, unsigned *from);
/* The same by name, without case, for names outside the table. */
const struct gm_http_field *gm_http_fields_find_name(const struct gm_http_fields *fields,
                                                     struct gm_http_span name);

/* Equal without regard to ASCII case. */
bool gm_http_span_equal_nocase(struct gm_http_span a, struct gm_http_span b);
/* Equal byte for byte. */
bool gm_http_span_equal(struct gm_http_span a, struct gm_http_span b);
/* Next element of a comma-separated list (RFC 9110 §5.6.1: empty elements skipped, white space
 * trimmed). `*rest` starts as the whole value and is consumed. False at the end. Elements holding
 * quoted commas are not understood: use it for lists of tokens. */
bool gm_http_list_next(struct gm_http_span *rest, struct gm_http_span *element);
/* True when some field of that id lists `token` (lower case) as an element, without case. */
bool gm_http_fields_list_has(const struct gm_http_fields *fields, enum gm_http_field_id id,
                             struct gm_http_span token);

#endif
