/*
 * What a head's fields mean: who is asked (Host), where the body ends, whether the connection lives
 * on, which fields belong to this hop only (http/parser.h, struct gm_http_framing). Pure.
 * Invariant: where RFC 9112 lets a recipient choose between repairing and refusing, it is refused.
 */
#include "http/internal.h"

#include "http/target.h"

#include <string.h>

#define BIT(id) (1ull << GM_HTTP_ID_##id)

/* What Connection's tokens say. */
struct connection {
    bool close, keep_alive, upgrade;
};

/* The first field of a known id; only for ids that occur. */
static struct gm_http_span first_value(const struct gm_http_fields *fields,
                                       const struct gm_http_index *index, enum gm_http_field_id id)
{
    return gm_http_field_value(&fields->list[index->first[id]]);
}

int gm_http_length_parse(struct gm_http_span text, uint64_t *out)
{
    const char *p = text.p, *end = text.p + text.len;
    uint64_t v = 0;
    if (p == end)
        return -GM_HTTP_E_LENGTH_INVALID;
    for (; p < end; p++) {
        if (!gm_http_is(*p, GM_HTTP_C_DIGIT))
            return *p == ',' ? -GM_HTTP_E_LENGTH_DUPLICATE : -GM_HTTP_E_LENGTH_INVALID;
        uint64_t digit = (uint64_t)(*p - '0');
        if (v > ((uint64_t)INT64_MAX - digit) / 10)
            return -GM_HTTP_E_LENGTH_INVALID;
        v = 10 * v + digit;
    }
    *out = v;
    return 0;
}

/* Transfer-Encoding: `chunked` alone is spoken; other codings are told apart from nonsense. */
static int coding_check(struct gm_http_span value)
{
    struct gm_http_span element;
    bool any = false, chunked = false;
    if (gm_http_span_equal_nocase(value, GM_HTTP_LIT("chunked")))
        return 0;
    while (gm_http_list_next(&value, &element)) {
        /* Nothing may follow chunked, and it takes no parameters. */
        if (chunked || !gm_http_is_token(element))
            return -GM_HTTP_E_CODING_INVALID;
        chunked = gm_http_span_equal_nocase(element, GM_HTTP_LIT("chunked"));
        any = true;
    }
    return any ? -GM_HTTP_E_CODING_UNKNOWN : -GM_HTTP_E_CODING_INVALID;
}

/* Content-Length and Transfer-Encoding, before method and status have their say: body LENGTH,
 * CHUNKED or NONE. */
static int body_derive(struct gm_http_framing *framing, const struct gm_http_fields *fields,
                       const struct gm_http_index *index)
{
    bool coded = gm_http_fields_has(fields, GM_HTTP_ID_TRANSFER_ENCODING);
    framing->has_length = gm_http_fields_has(fields, GM_HTTP_ID_CONTENT_LENGTH);
    if (coded && framing->has_length)
        return -GM_HTTP_E_LENGTH_AND_CODING;
    if (framing->has_length) {
        if (index->twice & BIT(CONTENT_LENGTH))
            return -GM_HTTP_E_LENGTH_DUPLICATE;
        framing->body = GM_HTTP_BODY_LENGTH;
        return gm_http_length_parse(first_value(fields, index, GM_HTTP_ID_CONTENT_LENGTH),
                                    &framing->length);
    }
    if (!coded)
        return 0;
    if (index->twice & BIT(TRANSFER_ENCODING))
        return -GM_HTTP_E_CODING_INVALID;
    if (framing->version_minor == 0)
        return -GM_HTTP_E_CODING_VERSION;
    framing->body = GM_HTTP_BODY_CHUNKED;
    return coding_check(first_value(fields, index, GM_HTTP_ID_TRANSFER_ENCODING));
}

/* Flags every field that a Connection token names. Host and Content-Length cannot be hop-by-hop:
 * who names them wants them removed on the way, which changes what the message means. */
static int nominate(struct gm_http_fields *fields, struct gm_http_span token)
{
    enum gm_http_field_id id = gm_http_field_lookup(token.p, token.len);
    if (id == GM_HTTP_ID_HOST || id == GM_HTTP_ID_CONTENT_LENGTH)
        return -GM_HTTP_E_CONNECTION_INVALID;
    if (!gm_http_fields_has(fields, id))
        return 0;
    for (unsigned i = 0; i < fields->count; i++) {
        struct gm_http_field *f = &fields->list[i];
        if (f->id == id && gm_http_span_equal_nocase(gm_http_field_name(f), token))
            f->flags |= GM_HTTP_FIELD_HOP;
    }
    return 0;
}

static int connection_token(struct gm_http_fields *fields, struct gm_http_span token,
                            struct connection *c)
{
    if (!gm_http_is_token(token))
        return -GM_HTTP_E_CONNECTION_INVALID;
    if (gm_http_span_equal_nocase(token, GM_HTTP_LIT("close")))
        c->close = true;
    else if (gm_http_span_equal_nocase(token, GM_HTTP_LIT("keep-alive")))
        c->keep_alive = true;
    else if (gm_http_span_equal_nocase(token, GM_HTTP_LIT("upgrade")))
        c->upgrade = true;
    else
        return nominate(fields, token);
    return 0;
}

static int connection_derive(struct gm_http_framing *framing, struct gm_http_fields *fields,
                             const struct gm_http_index *index, struct connection *c)
{
    const struct gm_http_field *f = NULL;
    unsigned from = 0, tokens = 0;
    if (gm_http_fields_has(fields, GM_HTTP_ID_CONNECTION)) {
        from = index->first[GM_HTTP_ID_CONNECTION];
        f = gm_http_fields_find(fields, GM_HTTP_ID_CONNECTION, &from);
    }
    while (f != NULL) {
        struct gm_http_span rest = gm_http_field_value(f), token;
        while (gm_http_list_next(&rest, &token)) {
            if (++tokens > GM_HTTP_CONNECTION_TOKENS_MAX)
                return -GM_HTTP_E_CONNECTION_INVALID;
            int r = connection_token(fields, token, c);
            if (r < 0)
                return r;
        }
        bool more = (index->twice & BIT(CONNECTION)) != 0;
        f = more ? gm_http_fields_find(fields, GM_HTTP_ID_CONNECTION, &from) : NULL;
    }
    framing->keep_alive = !c->close && (framing->version_minor == 1 || c->keep_alive);
    return 0;
}

/* 1#( token [ "/" token ] ) */
static int protocol_check(struct gm_http_span value)
{
    struct gm_http_span element;
    bool any = false;
    while (gm_http_list_next(&value, &element)) {
        const char *slash = memchr(element.p, '/', element.len);
        struct gm_http_span name = {element.p,
                                    slash != NULL ? (size_t)(slash - element.p) : element.len};
        struct gm_http_span version = {element.p + name.len + 1,
                                       slash != NULL ? element.len - name.len - 1 : 0};
        if (!gm_http_is_token(name) || (slash != NULL && !gm_http_is_token(version)))
            return -GM_HTTP_E_UPGRADE_INVALID;
        any = true;
    }
    return any ? 0 : -GM_HTTP_E_UPGRADE_INVALID;
}

static int upgrade_derive(struct gm_http_framing *framing, const struct gm_http_fields *fields,
                          const struct gm_http_index *index)
{
    if (index->twice & BIT(UPGRADE))
        return -GM_HTTP_E_UPGRADE_INVALID;
    framing->protocol = first_value(fields, index, GM_HTTP_ID_UPGRADE);
    struct gm_http_span rest = framing->protocol, first;
    int r = protocol_check(rest);
    if (r < 0)
        return r;
    (void)gm_http_list_next(&rest, &first);
    bool websocket = gm_http_span_equal_nocase(first, GM_HTTP_LIT("websocket"));
    framing->upgrade = websocket ? GM_HTTP_UPGRADE_WEBSOCKET : GM_HTTP_UPGRADE_OTHER;
    return 0;
}

static int host_derive(struct gm_http_request *req, const struct gm_http_index *index)
{
    struct gm_http_span name, port;
    req->host = req->authority;
    if (!gm_http_fields_has(&req->fields, GM_HTTP_ID_HOST))
        return req->framing.version_minor == 0 ? 0 : -GM_HTTP_E_HOST_MISSING;
    if (index->twice & BIT(HOST))
        return -GM_HTTP_E_HOST_DUPLICATE;
    struct gm_http_span host = first_value(&req->fields, index, GM_HTTP_ID_HOST);
    if (host.len > 0 && gm_http_authority_split(host, &name, &port) < 0)
        return -GM_HTTP_E_HOST_INVALID;
    if (req->authority.len == 0)
        req->host = host;
    return 0;
}

/* Expect and TE; both mean nothing in HTTP/1.0. */
static int expectations_derive(struct gm_http_request *req, const struct gm_http_index *index)
{
    struct gm_http_framing *framing = &req->framing;
    if (framing->version_minor == 0)
        return 0;
    if (gm_http_fields_has(&req->fields, GM_HTTP_ID_EXPECT)) {
        struct gm_http_span value = first_value(&req->fields, index, GM_HTTP_ID_EXPECT);
        if ((index->twice & BIT(EXPECT)) ||
            !gm_http_span_equal_nocase(value, GM_HTTP_LIT("100-continue")))
            return -GM_HTTP_E_EXPECT_UNKNOWN;
        framing->expect_continue = framing->body == GM_HTTP_BODY_CHUNKED || framing->length > 0;
    }
    framing->te_trailers =
        gm_http_fields_list_has(&req->fields, GM_HTTP_ID_TE, GM_HTTP_LIT("trailers"));
    return 0;
}

int gm_http_derive_request(struct gm_http_request *req, const struct gm_http_index *index)
{
    struct gm_http_framing *framing = &req->framing;
    struct connection c = {false, false, false};
    int r = host_derive(req, index);
    if (r < 0)
        return r;
    if (index->twice & (BIT(AUTHORIZATION) | BIT(PROXY_AUTHORIZATION)))
        return -GM_HTTP_E_CREDENTIAL_DUPLICATE;
    r = body_derive(framing, &req->fields, index);
    if (r < 0)
        return r;
    bool content = framing->body == GM_HTTP_BODY_CHUNKED || framing->length > 0;
    if (content && (req->method_id == GM_HTTP_CONNECT || req->method_id == GM_HTTP_TRACE))
        return -GM_HTTP_E_BODY_FORBIDDEN;
    r = connection_derive(framing, &req->fields, index, &c);
    if (r < 0)
        return r;
    r = expectations_derive(req, index);
    if (r < 0)
        return r;
    /* With content in front of it an upgrade may be ignored (RFC 9110 §7.8), and is: h2c requests
     * are like that. */
    if (c.upgrade && !content && framing->version_minor == 1 &&
        gm_http_fields_has(&req->fields, GM_HTTP_ID_UPGRADE))
        return upgrade_derive(framing, &req->fields, index);
    return 0;
}

/* RFC 9112 §6.3, in its order. */
static void response_body_derive(struct gm_http_response *res, enum gm_http_method method)
{
    struct gm_http_framing *framing = &res->framing;
    bool tunnel = res->status == 101 || (method == GM_HTTP_CONNECT && res->status / 100 == 2);
    bool bodyless = res->status / 100 == 1 || res->status == 204;
    if (tunnel || bodyless) {
        /* A sender that announces a body here cannot be trusted to send none: nothing is read
         * behind it. */
        bool announced = framing->body == GM_HTTP_BODY_CHUNKED || framing->length > 0;
        framing->keep_alive = framing->keep_alive && !announced && !tunnel;
        framing->body = tunnel ? GM_HTTP_BODY_TUNNEL : GM_HTTP_BODY_NONE;
        framing->length = 0;
    } else if (method == GM_HTTP_HEAD || res->status == 304) {
        framing->body = GM_HTTP_BODY_NONE;
    } else if (framing->body == GM_HTTP_BODY_NONE) {
        framing->body = GM_HTTP_BODY_UNTIL_CLOSE;
        framing->keep_alive = false;
    }
}

int gm_http_derive_response(struct gm_http_response *res, enum gm_http_method method,
                            const struct gm_http_index *index)
{
    struct gm_http_framing *framing = &res->framing;
    struct connection c = {false, false, false};
    int r = body_derive(framing, &res->fields, index);
    if (r < 0)
        return r;
    r = connection_derive(framing, &res->fields, index, &c);
    if (r < 0)
        return r;
    if (res->status == 101) {
        if (!gm_http_fields_has(&res->fields, GM_HTTP_ID_UPGRADE))
            return -GM_HTTP_E_UPGRADE_INVALID;
        r = upgrade_derive(framing, &res->fields, index);
        if (r < 0)
            return r;
    }
    response_body_derive(res, method);
    return 0;
}
