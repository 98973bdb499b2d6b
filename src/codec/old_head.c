/* Heads of 0.0.x, both ways. Pure; no owner. Invariant: nothing gets into a text or a block that
 * its own writer has not checked byte by byte, and framing is written anew, never passed on. */
#include "codec/old_head.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "frame/head.h"
#include "http/chunked.h"
#include "http/parser.h"
#include "http/writer.h"

static struct gm_http_span span_of(const char *p, size_t len)
{
    return (struct gm_http_span){p, len};
}

/* All fields but Expect: a backend's 100 would be taken for its answer by a 0.0.x agent, so it is
 * not asked for one. True: there was an Expect. */
static bool write_fields(struct gm_http_out *out, struct gm_head_fields fields)
{
    struct gm_head_field field;
    bool expect = false;
    while (gm_head_next(&fields, &field)) {
        if (gm_http_field_lookup(field.name, field.name_len) == GM_HTTP_ID_EXPECT)
            expect = true;
        else
            gm_http_write_field(out, span_of(field.name, field.name_len),
                                span_of(field.value, field.value_len));
    }
    return expect;
}

static int finish_text(const struct gm_http_out *out)
{
    if (out->error == 0)
        return (int)out->len;
    return out->error == -GM_HTTP_E_OUT_SPACE ? -GM_E_LIMIT : -GM_E_PROTOCOL;
}

static int finish_block(struct gm_head_writer *writer)
{
    int len = gm_head_write_finish(writer);
    return len >= 0 || len == -GM_E_LIMIT ? len : -GM_E_PROTOCOL;
}

/* ---- Server ---- */

int gm_old_request_text(const uint8_t *block, size_t len, char *out, size_t cap,
                        struct gm_old_request *told)
{
    struct gm_head_request head;
    if (gm_head_read_request(block, len, &head) < 0)
        return -GM_E_PROTOCOL;
    if ((head.flags & GM_HEAD_FLAG_UPGRADE) != 0)
        return -ENOTSUP;
    bool body = (head.flags & GM_HEAD_FLAG_BODY) != 0,
         counted = head.content_length != GM_HEAD_LENGTH_UNKNOWN;
    struct gm_http_span method = span_of(head.method, head.method_len);
    *told = (struct gm_old_request){
        .chunked = body && !counted,
        .head = gm_http_method_lookup(method) == GM_HTTP_HEAD,
        .body = body,
    };
    struct gm_http_out text;
    gm_http_out_init(&text, out, cap);
    gm_http_write_request_line(&text, method, span_of("", 0), span_of(head.target, head.target_len),
                               1);
    gm_http_write_field(&text, GM_HTTP_LIT("Host"), span_of(head.authority, head.authority_len));
    bool expect = write_fields(&text, head.fields);
    told->expects = expect && body && (head.flags & GM_HEAD_FLAG_HTTP10) == 0;
    if (told->chunked)
        gm_http_write_field(&text, GM_HTTP_LIT("Transfer-Encoding"), GM_HTTP_LIT("chunked"));
    else if (counted)
        gm_http_write_field_u64(&text, GM_HTTP_LIT("Content-Length"), head.content_length);
    gm_http_write_field(&text, GM_HTTP_LIT("Connection"), GM_HTTP_LIT("close"));
    gm_http_write_end(&text);
    return finish_text(&text);
}

int gm_old_continue_block(uint8_t *out, size_t cap)
{
    static const char reason[] = "Continue";
    struct gm_head_writer writer;
    gm_head_write_response(&writer, out, cap,
                           &(struct gm_head_response){.reason = reason,
                                                      .reason_len = sizeof reason - 1,
                                                      .status = 100,
                                                      .content_length = GM_HEAD_LENGTH_UNKNOWN});
    return finish_block(&writer);
}

int gm_old_trailers_text(const uint8_t *block, size_t len, char *out, size_t cap)
{
    struct gm_head_fields fields;
    if (gm_head_read_trailers(block, len, &fields) < 0)
        return -GM_E_PROTOCOL;
    struct gm_http_out text;
    gm_http_out_init(&text, out, cap);
    gm_http_write_raw(&text, GM_HTTP_LIT(GM_HTTP_CHUNK_LAST));
    (void)write_fields(&text, fields);
    gm_http_write_end(&text);
    return finish_text(&text);
}

/* What a peer of 0.0.x has read itself and passes on all the same: Expect, which its server has
 * answered, and Authorization, in which its clients show the gateway's token. */
static bool is_for_peer(const struct gm_http_field *field, bool request)
{
    return field->id == GM_HTTP_ID_EXPECT || (request && field->id == GM_HTTP_ID_AUTHORIZATION);
}

static void put_fields(struct gm_head_writer *writer, const struct gm_http_fields *fields,
                       bool request)
{
    for (uint16_t i = 0; i < fields->count; i++) {
        const struct gm_http_field *field = &fields->list[i];
        bool ours = field->id == GM_HTTP_ID_X_GIMLET_ERROR || field->id == GM_HTTP_ID_UPGRADE ||
                    is_for_peer(field, request);
        if (ours || (field->flags & (GM_HTTP_FIELD_HOP | GM_HTTP_FIELD_DERIVED)) != 0)
            continue;
        gm_head_write_field(writer, &(struct gm_head_field){field->name, field->value,
                                                            field->name_len, field->value_len});
    }
}

int gm_old_response_block(const char *text, size_t len, bool head, uint8_t *out, size_t cap)
{
    struct gm_http_field list[GM_HTTP_FIELDS_MAX];
    struct gm_http_response parsed;
    size_t scanned = 0;
    gm_http_response_init(&parsed, list, GM_HTTP_FIELDS_MAX, GM_HTTP_HEAD_MAX);
    int got =
        gm_http_parse_response(text, len, &scanned, head ? GM_HTTP_HEAD : GM_HTTP_GET, &parsed);
    if (got <= 0 || parsed.status == 101)
        return -GM_E_PROTOCOL;
    const struct gm_http_framing *framing = &parsed.framing;
    struct gm_head_response block = {
        .reason = parsed.reason.p,
        .reason_len = (uint8_t)(parsed.reason.len <= GM_HEAD_REASON_MAX ? parsed.reason.len : 0),
        .status = parsed.status,
        .content_length = GM_HEAD_LENGTH_UNKNOWN,
    };
    bool silent = parsed.status < 200 || parsed.status == 204;
    if (!silent && framing->has_length)
        block.content_length = framing->length;
    if (framing->body == GM_HTTP_BODY_CHUNKED || framing->body == GM_HTTP_BODY_UNTIL_CLOSE ||
        (framing->body == GM_HTTP_BODY_LENGTH && framing->length > 0))
        block.flags |= GM_HEAD_FLAG_BODY;
    struct gm_head_writer writer;
    gm_head_write_response(&writer, out, cap, &block);
    put_fields(&writer, &parsed.fields, false);
    return finish_block(&writer);
}

/* ---- Agent ---- */

int gm_old_request_block(const char *text, size_t len, uint8_t *out, size_t cap,
                         struct gm_old_request *told)
{
    struct gm_http_field list[GM_HTTP_FIELDS_MAX];
    struct gm_http_request parsed;
    size_t scanned = 0;
    gm_http_request_init(&parsed, list, GM_HTTP_FIELDS_MAX, GM_HTTP_HEAD_MAX);
    int got = gm_http_parse_request(text, len, &scanned, &parsed);
    if (got <= 0 || (size_t)got != len)
        return -GM_E_PROTOCOL;
    bool form = parsed.form == GM_HTTP_FORM_ORIGIN || parsed.form == GM_HTTP_FORM_ASTERISK;
    /* A body in chunks would come without its chunks: such a head is not one of 0.0.x. */
    if (!form || parsed.framing.body == GM_HTTP_BODY_CHUNKED)
        return -GM_E_PROTOCOL;
    if (parsed.framing.upgrade != GM_HTTP_UPGRADE_NONE)
        return -ENOTSUP;
    bool counted = parsed.framing.body == GM_HTTP_BODY_LENGTH;
    struct gm_head_request block = {
        .method = parsed.method.p,
        .method_len = (uint8_t)parsed.method.len,
        .target = parsed.target.p,
        .target_len = (uint16_t)parsed.target.len,
        .authority = parsed.host.p,
        .authority_len = (uint16_t)parsed.host.len,
        .content_length = counted ? parsed.framing.length : GM_HEAD_LENGTH_UNKNOWN,
    };
    *told = (struct gm_old_request){
        .head = parsed.method_id == GM_HTTP_HEAD,
        .body = counted && parsed.framing.length > 0,
    };
    if (told->body)
        block.flags |= GM_HEAD_FLAG_BODY;
    if (parsed.framing.version_minor == 0)
        block.flags |= GM_HEAD_FLAG_HTTP10;
    struct gm_head_writer writer;
    gm_head_write_request(&writer, out, cap, &block);
    put_fields(&writer, &parsed.fields, true);
    return finish_block(&writer);
}

static bool is_bare(char c)
{
    return c == ' ' || c == '#' || ((unsigned char)c & 0x80u) != 0;
}

/* The target, up to what must be the version at the first line's end; empty: there is none. */
static struct gm_http_span find_target(const char *text, size_t len)
{
    static const char version[] = " HTTP/1.";
    size_t tail = sizeof version; /* and the minor version's digit */
    const char *end = memchr(text, '\r', len), *from = memchr(text, ' ', len);
    if (end == NULL || from == NULL || end - from <= (ptrdiff_t)tail ||
        memcmp(end - tail, version, sizeof version - 1) != 0)
        return span_of(text, 0);
    return span_of(from + 1, (size_t)(end - from) - 1 - tail);
}

int gm_old_request_mend(const char *text, size_t len, char *out, size_t cap)
{
    static const char digits[] = "0123456789ABCDEF";
    struct gm_http_span target = find_target(text, len);
    size_t bare = 0;
    for (size_t i = 0; i < target.len; i++)
        bare += is_bare(target.p[i]);
    if (bare == 0)
        return 0;
    if (len + 2 * bare > cap)
        return -GM_E_LIMIT;
    size_t front = (size_t)(target.p - text);
    memcpy(out, text, front);
    char *to = out + front;
    for (size_t i = 0; i < target.len; i++) {
        unsigned char c = (unsigned char)target.p[i];
        if (is_bare(target.p[i])) {
            *to++ = '%';
            *to++ = digits[c >> 4];
            *to++ = digits[c & 15u];
        } else {
            *to++ = target.p[i];
        }
    }
    memcpy(to, target.p + target.len, len - front - target.len);
    return (int)(len + 2 * bare);
}

void gm_old_block_body(uint8_t *block)
{
    block[1] |= GM_HEAD_FLAG_BODY;
}

int gm_old_response_text(const uint8_t *block, size_t len, char *out, size_t cap)
{
    struct gm_head_response head;
    if (gm_head_read_response(block, len, &head) < 0 || head.status == 101)
        return -GM_E_PROTOCOL;
    struct gm_http_out text;
    gm_http_out_init(&text, out, cap);
    gm_http_write_status_line(&text, 1, head.status, span_of(head.reason, head.reason_len));
    (void)write_fields(&text, head.fields);
    if (head.content_length != GM_HEAD_LENGTH_UNKNOWN)
        gm_http_write_field_u64(&text, GM_HTTP_LIT("Content-Length"), head.content_length);
    gm_http_write_end(&text);
    return finish_text(&text);
}
