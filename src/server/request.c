/* Encoding the request block. Owner: the client's ring. Invariant: no hop-by-hop field, no framing
 * field and never the gateway's own credential gets into a block. */
#include "server/request.h"

#include <errno.h>
#include <string.h>

#include "codec/codec.h"
#include "frame/head.h"
#include "net/tls.h"
#include "server/forwarded.h"
#include "server/xfcc.h"

/* What the gateway adds to a head, but for the client's Host: X-Forwarded-*, Forwarded, ids. */
#define REQUEST_ADDED_BYTES 640u

/* The two digits of every byte: 80 of them are written for a request that brings no ids. */
#define ROW(d)                                                                                     \
    d "0" d "1" d "2" d "3" d "4" d "5" d "6" d "7" d "8" d "9" d "a" d "b" d "c" d "d" d "e" d "f"
static const char hex_pairs[] = ROW("0") ROW("1") ROW("2") ROW("3") ROW("4") ROW("5") ROW("6")
    ROW("7") ROW("8") ROW("9") ROW("a") ROW("b") ROW("c") ROW("d") ROW("e") ROW("f");
#undef ROW

static inline void hex_random(struct gm_ring *ring, char *out, size_t digits)
{
    uint8_t bytes[16];
    GM_ASSERT(digits <= 2 * sizeof bytes);
    gm_ring_random(ring, bytes, digits / 2);
    for (size_t i = 0; i < digits / 2; i++)
        memcpy(out + 2 * i, hex_pairs + 2u * bytes[i], 2);
}

static bool request_id_usable(const struct gm_http_field *field)
{
    if (field == NULL || field->value_len == 0 || field->value_len > GM_REQUEST_ID_MAX)
        return false;
    for (uint16_t i = 0; i < field->value_len; i++) {
        if (field->value[i] <= 0x20 || field->value[i] >= 0x7f)
            return false;
    }
    return true;
}

void gm_request_id(struct gm_server_ring *ctx, const struct gm_http_request *head,
                   char out[GM_REQUEST_ID_MAX], uint8_t *len)
{
    const struct gm_http_field *given =
        head == NULL ? NULL : gm_http_fields_find(&head->fields, GM_HTTP_ID_X_REQUEST_ID, NULL);
    if (request_id_usable(given)) {
        memcpy(out, given->value, given->value_len);
        *len = (uint8_t)given->value_len;
        return;
    }
    hex_random(ctx->ring, out, 32);
    *len = 32;
}

static void put_field(struct gm_head_writer *writer, struct gm_http_span name,
                      struct gm_http_span value)
{
    struct gm_head_field field = {name.p, value.p, (uint16_t)name.len, (uint16_t)value.len};
    gm_head_write_field(writer, &field);
}

/* Fields that are written by us below, or that never leave this hop. */
static bool field_passes(const struct gm_http_field *field,
                         const struct gm_exchange_request *request)
{
    switch ((enum gm_http_field_id)field->id) {
    case GM_HTTP_ID_UPGRADE:
        return request->head->framing.upgrade != GM_HTTP_UPGRADE_NONE;
    case GM_HTTP_ID_AUTHORIZATION:
        return !request->strip_authorization;
    case GM_HTTP_ID_X_REQUEST_ID:
        return false;
    case GM_HTTP_ID_OTHER:
        /* Nobody but us says whose certificate it was. */
        if (gm_http_span_equal_nocase(gm_http_field_name(field), GM_HTTP_LIT(GM_XFCC_NAME)))
            return false;
        break;
    default:
        break;
    }
    return (field->flags & (GM_HTTP_FIELD_HOP | GM_HTTP_FIELD_DERIVED)) == 0;
}

static struct gm_forwarded forwarded_of(struct gm_exchange *exchange,
                                        const struct gm_http_request *head)
{
    struct gm_client *client = exchange->client;
    const struct gm_server_config *config = exchange->ctx->shared->config;
    gm_peer_learn(&client->peer, &client->conn, config);
    return (struct gm_forwarded){
        .peer = &client->peer,
        .head = head,
        .judged = config->trusted_proxies_text != NULL,
        .tls = gm_conn_tls(&client->conn) != NULL,
    };
}

/* The subject of a certificate that the client has shown and we have checked; "" when there is
 * none.
 */
static const char *cert_subject(const struct gm_exchange *exchange)
{
    const struct gm_tls *tls = gm_conn_tls(&exchange->client->conn);
    return tls == NULL ? "" : gm_tls_facts(tls).peer_subject;
}

/* A subject that does not fit is not left out: a backend might take the client for nobody. */
static int put_cert(struct gm_head_writer *writer, const char *subject)
{
    char text[GM_XFCC_MAX];
    size_t len = gm_xfcc_write(subject, text);
    if (len == 0)
        return -GM_E_LIMIT;
    put_field(writer, GM_HTTP_LIT(GM_XFCC_NAME), (struct gm_http_span){text, len});
    return 0;
}

/* W3C trace context: a request without one starts a trace; "00" flags: whether it is sampled is for
 * others to say. */
static void put_trace(struct gm_head_writer *writer, struct gm_ring *ring,
                      const struct gm_http_request *head)
{
    if (gm_http_fields_has(&head->fields, GM_HTTP_ID_TRACEPARENT))
        return;
    char text[55];
    memcpy(text, "00-", 3);
    hex_random(ring, text + 3, 32);
    text[35] = '-';
    hex_random(ring, text + 36, 16);
    memcpy(text + 52, "-00", 3);
    put_field(writer, GM_HTTP_LIT("traceparent"), (struct gm_http_span){text, sizeof text});
}

static struct gm_head_request block_head(const struct gm_exchange_request *request,
                                         struct gm_http_span target)
{
    const struct gm_http_framing *framing = &request->head->framing;
    struct gm_head_request block = {
        .method = request->head->method.p,
        .method_len = (uint8_t)request->head->method.len,
        .target = target.p,
        .target_len = (uint16_t)target.len,
        .authority = request->head->host.p,
        .authority_len = (uint16_t)request->head->host.len,
        .content_length = GM_HEAD_LENGTH_UNKNOWN,
    };
    if (framing->body == GM_HTTP_BODY_LENGTH) {
        block.content_length = framing->length;
        if (framing->length > 0)
            block.flags |= GM_HEAD_FLAG_BODY;
    } else if (framing->body == GM_HTTP_BODY_CHUNKED) {
        block.flags |= GM_HEAD_FLAG_BODY;
    }
    if (framing->version_minor == 0)
        block.flags |= GM_HEAD_FLAG_HTTP10;
    if (framing->te_trailers)
        block.flags |= GM_HEAD_FLAG_TE_TRAILERS;
    if (framing->upgrade != GM_HTTP_UPGRADE_NONE)
        block.flags |= GM_HEAD_FLAG_UPGRADE;
    return block;
}

/* An upper bound of the block's size, so that the right kind of block is taken at once. */
static size_t block_bound(const struct gm_exchange_request *request, const char *subject)
{
    size_t bound = *subject == '\0' ? 0 : GM_XFCC_MAX + sizeof GM_XFCC_NAME + 4u;
    bound += GM_MUX_OPEN_ROOM + GM_MUX_TAIL_ROOM + GM_HEAD_REQUEST_LEN + REQUEST_ADDED_BYTES;
    bound += request->head->method.len + request->head->host.len * 3 + request->prefix.len +
             request->target.len;
    for (uint16_t i = 0; i < request->head->fields.count; i++) {
        bound +=
            4u + request->head->fields.list[i].name_len + request->head->fields.list[i].value_len;
    }
    return bound;
}

static int encode(struct gm_exchange *exchange, const struct gm_exchange_request *request,
                  struct gm_http_span target, gm_slice *out)
{
    struct gm_ring *ring = exchange->ctx->ring;
    const char *subject = cert_subject(exchange);
    struct gm_buf *buf =
        gm_ring_block(ring, block_bound(request, subject) <= GM_BLOCK_SMALL_BYTES ? GM_BLOCK_SMALL
                                                                                  : GM_BLOCK_HEAD);
    if (buf == NULL)
        return -GM_E_NOMEM;
    const struct gm_http_fields *fields = &request->head->fields;
    struct gm_head_writer writer;
    struct gm_head_request block = block_head(request, target);
    gm_head_write_request(&writer, buf->data + GM_MUX_OPEN_ROOM,
                          buf->size - GM_MUX_OPEN_ROOM - GM_MUX_TAIL_ROOM, &block);
    struct gm_forwarded way = forwarded_of(exchange, request->head);
    for (uint16_t i = 0; i < fields->count; i++) {
        if (field_passes(&fields->list[i], request) && gm_forwarded_passes(&way, &fields->list[i]))
            put_field(&writer, gm_http_field_name(&fields->list[i]),
                      gm_http_field_value(&fields->list[i]));
    }
    gm_forwarded_write(&way, &writer);
    put_field(&writer, GM_HTTP_LIT("X-Request-Id"),
              (struct gm_http_span){exchange->request_id, exchange->request_id_len});
    put_trace(&writer, ring, request->head);
    int rc = *subject == '\0' ? 0 : put_cert(&writer, subject);
    int len = gm_head_write_finish(&writer);
    if (len < 0 || rc < 0) {
        gm_buf_put(buf);
        return -GM_E_LIMIT;
    }
    *out = (gm_slice){buf->data, (uint32_t)len + GM_MUX_OPEN_ROOM, buf};
    return 0;
}

/* "/services/a?x": the one layout whose target does not stand in the client's bytes. */
static __attribute__((noinline)) int encode_joined(struct gm_exchange *exchange,
                                                   const struct gm_exchange_request *request,
                                                   gm_slice *out)
{
    char target[GM_HTTP_HEAD_MAX];
    size_t prefix = request->prefix.len, rest = request->target.len;
    if (prefix + rest > sizeof target)
        return -GM_E_LIMIT;
    memcpy(target, request->prefix.p, prefix);
    if (rest > 0)
        memcpy(target + prefix, request->target.p, rest);
    return encode(exchange, request, (struct gm_http_span){target, prefix + rest}, out);
}

int gm_request_encode(struct gm_exchange *exchange, const struct gm_exchange_request *request,
                      gm_slice *out)
{
    if (request->prefix.len > 0)
        return encode_joined(exchange, request, out);
    return encode(exchange, request, request->target, out);
}
