/* Fields about a request's way. Pure. Invariant: of a client that is not trusted, where trust has
 * been spoken about, no byte gets into any of them but its Host. */
#include "server/forwarded.h"

#include <string.h>

/* A field with which the list would be longer than this is left out of it. */
#define LIST_BYTES 1024u
/* Our own element: for="[…]";proto=https;host="…". A longer Host is left out of it. */
#define ELEMENT_BYTES 384u
#define PREFIX        "x-forwarded-"

static bool keeps(const struct gm_forwarded *way)
{
    return !way->judged || way->peer->trusted;
}

static bool is_about_the_way(const struct gm_http_field *field)
{
    struct gm_http_span name = gm_http_field_name(field);
    if (gm_http_span_equal_nocase(name, GM_HTTP_LIT("x-real-ip")))
        return true;
    if (name.len < sizeof PREFIX)
        return false;
    name.len = sizeof PREFIX - 1;
    return gm_http_span_equal_nocase(name, GM_HTTP_LIT(PREFIX));
}

bool gm_forwarded_passes(const struct gm_forwarded *way, const struct gm_http_field *field)
{
    switch ((enum gm_http_field_id)field->id) {
    case GM_HTTP_ID_X_FORWARDED_FOR:
        return false; /* part of ours */
    case GM_HTTP_ID_FORWARDED:
        return !way->judged; /* part of ours, or not wanted */
    case GM_HTTP_ID_X_FORWARDED_PROTO:
    case GM_HTTP_ID_X_FORWARDED_HOST:
        return keeps(way);
    case GM_HTTP_ID_OTHER:
        return keeps(way) || !is_about_the_way(field);
    default:
        return true;
    }
}

static void put_field(struct gm_head_writer *writer, struct gm_http_span name,
                      struct gm_http_span value)
{
    struct gm_head_field field = {name.p, value.p, (uint16_t)name.len, (uint16_t)value.len};
    gm_head_write_field(writer, &field);
}

/* One field of all those of that id, which `name` spells, whose word counts, and our own element
 * behind them. */
static void put_list(struct gm_head_writer *writer, const struct gm_forwarded *way,
                     enum gm_http_field_id id, struct gm_http_span name, struct gm_http_span ours)
{
    char text[LIST_BYTES];
    size_t len = 0;
    unsigned from = 0;
    const struct gm_http_field *field;
    while (keeps(way) && (field = gm_http_fields_find(&way->head->fields, id, &from)) != NULL) {
        if (field->value_len == 0 || len + field->value_len + 2 + ours.len > sizeof text)
            continue;
        memcpy(text + len, field->value, field->value_len);
        memcpy(text + len + field->value_len, ", ", 2);
        len += field->value_len + 2u;
    }
    memcpy(text + len, ours.p, ours.len);
    put_field(writer, name, (struct gm_http_span){text, len + ours.len});
}

static size_t append(char *text, size_t len, struct gm_http_span piece)
{
    memcpy(text + len, piece.p, piece.len);
    return len + piece.len;
}

/* RFC 7239 section 4: IPv6 in brackets and quotes; Host holds neither quote nor backslash. */
static void put_forwarded(struct gm_head_writer *writer, const struct gm_forwarded *way,
                          struct gm_http_span address)
{
    char text[ELEMENT_BYTES];
    struct gm_http_span host = way->head->host;
    bool ipv6 = memchr(address.p, ':', address.len) != NULL;
    size_t len = append(text, 0, ipv6 ? GM_HTTP_LIT("for=\"[") : GM_HTTP_LIT("for="));
    len = append(text, len, address);
    len = append(text, len, ipv6 ? GM_HTTP_LIT("]\";proto=") : GM_HTTP_LIT(";proto="));
    len = append(text, len, way->tls ? GM_HTTP_LIT("https") : GM_HTTP_LIT("http"));
    if (host.len > 0 && len + host.len + sizeof ";host=\"\"" <= sizeof text) {
        len = append(text, len, GM_HTTP_LIT(";host=\""));
        len = append(text, len, host);
        len = append(text, len, GM_HTTP_LIT("\""));
    }
    put_list(writer, way, GM_HTTP_ID_FORWARDED, GM_HTTP_LIT("Forwarded"),
             (struct gm_http_span){text, len});
}

void gm_forwarded_write(const struct gm_forwarded *way, struct gm_head_writer *writer)
{
    const struct gm_http_fields *fields = &way->head->fields;
    char text[INET6_ADDRSTRLEN];
    struct gm_http_span address = {text, gm_peer_text(way->peer, text)};
    put_list(writer, way, GM_HTTP_ID_X_FORWARDED_FOR, GM_HTTP_LIT("X-Forwarded-For"), address);
    if (!keeps(way) || !gm_http_fields_has(fields, GM_HTTP_ID_X_FORWARDED_PROTO))
        put_field(writer, GM_HTTP_LIT("X-Forwarded-Proto"),
                  way->tls ? GM_HTTP_LIT("https") : GM_HTTP_LIT("http"));
    bool host = way->head->host.len > 0;
    if (host && (!keeps(way) || !gm_http_fields_has(fields, GM_HTTP_ID_X_FORWARDED_HOST)))
        put_field(writer, GM_HTTP_LIT("X-Forwarded-Host"), way->head->host);
    if (way->judged && gm_http_fields_has(fields, GM_HTTP_ID_FORWARDED))
        put_forwarded(writer, way, address);
}
