/* Head blocks: writer and checked reader (frame/PROTOCOL.md section 6).
 *
 * One set of checks serves both directions, so that nothing can be written that would be refused.
 * Bytes are judged 16 at a time (base/scan.h); names, methods and authorities with unusual ones by
 * a class table.
 */
#include "frame/head.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/scan.h"

#define FIELD_LEN 4u /* the two lengths in front of name and value */

/* --- Bytes --- */

#define CLASS_TOKEN     0x01u /* RFC 9110 section 5.6.2, tchar */
#define CLASS_AUTHORITY 0x02u /* RFC 3986 section 3.2 without userinfo */

#define T CLASS_TOKEN
#define A CLASS_AUTHORITY
#define B (CLASS_TOKEN | CLASS_AUTHORITY)
static const uint8_t byte_class[256] = {
    ['!'] = B, ['#'] = T,         ['$'] = B, ['%'] = B, ['&'] = B, ['\''] = B,
    ['('] = A, [')'] = A,         ['*'] = B, ['+'] = B, [','] = A, ['-'] = B,
    ['.'] = B, ['0' ... '9'] = B, [':'] = A, [';'] = A, ['='] = A, ['A' ... 'Z'] = B,
    ['['] = A, [']'] = A,         ['^'] = T, ['_'] = B, ['`'] = T, ['a' ... 'z'] = B,
    ['|'] = T, ['~'] = B,
};
#undef T
#undef A
#undef B

static bool all_of_class(const char *p, size_t n, uint8_t class)
{
    uint8_t common = class;
    for (size_t i = 0; i < n; i++)
        common &= byte_class[(uint8_t)p[i]];
    return common != 0;
}

static inline bool token_ok(const char *p, size_t n)
{
    return n > 0 && (gm_scan_plain(p, n, "-_") || all_of_class(p, n, CLASS_TOKEN));
}

static inline bool authority_ok(const char *p, size_t n)
{
    return gm_scan_plain(p, n, ".:") || all_of_class(p, n, CLASS_AUTHORITY);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* --- Fields --- */

static inline bool is_named(const struct gm_head_field *field, const char *name)
{
    return (field->name[0] | 0x20) == name[0] &&
           strncasecmp(field->name, name, field->name_len) == 0;
}

/* True for a field that no block of this kind may carry, because it belongs to one leg's framing;
 * `host` does in requests and trailers only. `upgrade`: the block has the UPGRADE flag, and so may
 * have the field. Most names are ruled out by their length alone. */
static inline bool leg_field(const struct gm_head_field *field, uint8_t kind, bool upgrade)
{
    switch (field->name_len) {
    case sizeof "te" - 1:
        return is_named(field, "te");
    case sizeof "host" - 1:
        return kind != GM_HEAD_RESPONSE && is_named(field, "host");
    case sizeof "upgrade" - 1:
        return !upgrade && is_named(field, "upgrade");
    case sizeof "connection" - 1: /* as long as the other */
        return is_named(field, "connection") || is_named(field, "keep-alive");
    case sizeof "content-length" - 1:
        return is_named(field, "content-length");
    case sizeof "proxy-connection" - 1:
        return is_named(field, "proxy-connection");
    case sizeof "transfer-encoding" - 1:
        return is_named(field, "transfer-encoding");
    default:
        return false;
    }
}

static bool field_ok(const struct gm_head_field *field, uint8_t kind, bool upgrade)
{
    if (!token_ok(field->name, field->name_len))
        return false;
    size_t n = field->value_len;
    if (n > 0) {
        if (is_blank(field->value[0]) || is_blank(field->value[n - 1]) ||
            !gm_scan_text(field->value, n, GM_SCAN_SPACED))
            return false;
    }
    return !leg_field(field, kind, upgrade);
}

/* --- Heads as a whole --- */

static bool request_ok(const struct gm_head_request *r)
{
    bool body = (r->flags & GM_HEAD_FLAG_BODY) != 0;
    bool length_known = r->content_length != GM_HEAD_LENGTH_UNKNOWN;
    if (length_known && body != (r->content_length > 0))
        return false;
    if (body && (r->flags & GM_HEAD_FLAG_UPGRADE))
        return false;
    if (!token_ok(r->method, r->method_len))
        return false;
    if (r->target_len == 0 || !gm_scan_text(r->target, r->target_len, GM_SCAN_VISIBLE))
        return false;
    return authority_ok(r->authority, r->authority_len);
}

static bool response_ok(const struct gm_head_response *r)
{
    if (r->status < 100 || r->status > 999)
        return false;
    bool body = (r->flags & GM_HEAD_FLAG_BODY) != 0;
    if (body && r->content_length == 0)
        return false;
    bool bare = r->status < 200 || r->status == 204;
    if (bare && (body || r->content_length != GM_HEAD_LENGTH_UNKNOWN))
        return false;
    if ((r->flags & GM_HEAD_FLAG_UPGRADE) && r->status != 101)
        return false;
    return gm_scan_text(r->reason, r->reason_len, GM_SCAN_SPACED);
}

/* --- Writing --- */

static void begin(struct gm_head_writer *w, void *buf, size_t cap, uint8_t kind)
{
    *w = (struct gm_head_writer){
        .p = buf,
        .cap = cap < GM_FRAME_BLOCK_MAX ? cap : GM_FRAME_BLOCK_MAX,
        .kind = kind,
    };
}

/* Room for n more bytes, or NULL and the error. */
static uint8_t *reserve(struct gm_head_writer *w, size_t n)
{
    if (w->error != 0)
        return NULL;
    if (n > w->cap - w->len) {
        w->error = -GM_E_LIMIT;
        return NULL;
    }
    uint8_t *p = w->p + w->len;
    w->len += n;
    return p;
}

static uint8_t *put_bytes(uint8_t *at, const void *p, size_t n)
{
    if (n > 0)
        memcpy(at, p, n);
    return at + n;
}

void gm_head_write_request(struct gm_head_writer *w, void *buf, size_t cap,
                           const struct gm_head_request *r)
{
    begin(w, buf, cap, GM_HEAD_REQUEST);
    w->count_offset = 16;
    w->upgrade = (r->flags & GM_HEAD_FLAG_UPGRADE) != 0;
    if (!request_ok(r)) {
        w->error = -EINVAL;
        return;
    }
    size_t strings = (size_t)r->method_len + r->target_len + r->authority_len;
    uint8_t *p = reserve(w, GM_HEAD_REQUEST_LEN + strings);
    if (p == NULL)
        return;
    p[0] = GM_HEAD_REQUEST;
    p[1] = r->flags;
    p[2] = r->method_len;
    p[3] = 0;
    gm_frame_set_u16(p + 4, r->target_len);
    gm_frame_set_u16(p + 6, r->authority_len);
    gm_frame_set_u64(p + 8, r->content_length);
    gm_frame_set_u32(p + 16, 0);
    uint8_t *at = put_bytes(p + GM_HEAD_REQUEST_LEN, r->method, r->method_len);
    at = put_bytes(at, r->target, r->target_len);
    put_bytes(at, r->authority, r->authority_len);
}

void gm_head_write_response(struct gm_head_writer *w, void *buf, size_t cap,
                            const struct gm_head_response *r)
{
    begin(w, buf, cap, GM_HEAD_RESPONSE);
    w->count_offset = 6;
    w->upgrade = (r->flags & GM_HEAD_FLAG_UPGRADE) != 0;
    if (!response_ok(r)) {
        w->error = -EINVAL;
        return;
    }
    uint8_t *p = reserve(w, (size_t)GM_HEAD_RESPONSE_LEN + r->reason_len);
    if (p == NULL)
        return;
    p[0] = GM_HEAD_RESPONSE;
    p[1] = r->flags;
    gm_frame_set_u16(p + 2, r->status);
    p[4] = r->reason_len;
    p[5] = 0;
    gm_frame_set_u16(p + 6, 0);
    gm_frame_set_u64(p + 8, r->content_length);
    put_bytes(p + GM_HEAD_RESPONSE_LEN, r->reason, r->reason_len);
}

void gm_head_write_trailers(struct gm_head_writer *w, void *buf, size_t cap)
{
    begin(w, buf, cap, GM_HEAD_TRAILERS);
    w->count_offset = 2;
    uint8_t *p = reserve(w, GM_HEAD_TRAILERS_LEN);
    if (p == NULL)
        return;
    p[0] = GM_HEAD_TRAILERS;
    p[1] = 0;
    gm_frame_set_u16(p + 2, 0);
}

void gm_head_write_field(struct gm_head_writer *w, const struct gm_head_field *field)
{
    if (w->error != 0)
        return;
    if (!field_ok(field, w->kind, w->upgrade)) {
        w->error = -EINVAL;
        return;
    }
    if (w->count == GM_HEAD_FIELDS_MAX) {
        w->error = -GM_E_LIMIT;
        return;
    }
    uint8_t *p = reserve(w, FIELD_LEN + (size_t)field->name_len + field->value_len);
    if (p == NULL)
        return;
    gm_frame_set_u16(p, field->name_len);
    gm_frame_set_u16(p + 2, field->value_len);
    put_bytes(put_bytes(p + FIELD_LEN, field->name, field->name_len), field->value,
              field->value_len);
    w->count++;
}

int gm_head_write_finish(struct gm_head_writer *w)
{
    if (w->error != 0)
        return w->error;
    gm_frame_set_u16(w->p + w->count_offset, w->count);
    return (int)w->len;
}

/* --- Reading --- */

bool gm_head_next(struct gm_head_fields *fields, struct gm_head_field *out)
{
    if (fields->count == 0)
        return false;
    const uint8_t *p = fields->at;
    out->name_len = gm_frame_get_u16(p);
    out->value_len = gm_frame_get_u16(p + 2);
    out->name = (const char *)p + FIELD_LEN;
    out->value = out->name + out->name_len;
    fields->at = p + FIELD_LEN + out->name_len + out->value_len;
    fields->count--;
    return true;
}

/* Checks that exactly `count` good fields fill p..end. */
static int check_fields(const uint8_t *p, const uint8_t *end, uint16_t count, uint8_t kind,
                        bool upgrade)
{
    if (count > GM_HEAD_FIELDS_MAX)
        return -GM_E_PROTOCOL;
    struct gm_head_fields fields = {.at = p, .count = count};
    while (fields.count > 0) {
        size_t left = (size_t)(end - fields.at);
        if (left < FIELD_LEN)
            return -GM_E_PROTOCOL;
        size_t strings = (size_t)gm_frame_get_u16(fields.at) + gm_frame_get_u16(fields.at + 2);
        if (strings > left - FIELD_LEN)
            return -GM_E_PROTOCOL;
        struct gm_head_field field;
        gm_head_next(&fields, &field);
        if (!field_ok(&field, kind, upgrade))
            return -GM_E_PROTOCOL;
    }
    return fields.at == end ? 0 : -GM_E_PROTOCOL;
}

/* Bytes of the three strings behind the fixed part. */
static size_t request_strings(const uint8_t *p)
{
    return (size_t)p[2] + gm_frame_get_u16(p + 4) + gm_frame_get_u16(p + 6);
}

/* The fixed part and where the strings are; `fields` begin behind them. */
static void request_view(const uint8_t *p, struct gm_head_request *out)
{
    *out = (struct gm_head_request){
        .method = (const char *)p + GM_HEAD_REQUEST_LEN,
        .flags = p[1],
        .method_len = p[2],
        .target_len = gm_frame_get_u16(p + 4),
        .authority_len = gm_frame_get_u16(p + 6),
        .content_length = gm_frame_get_u64(p + 8),
        .fields.count = gm_frame_get_u16(p + 16),
    };
    out->target = out->method + out->method_len;
    out->authority = out->target + out->target_len;
    out->fields.at = (const uint8_t *)out->authority + out->authority_len;
}

int gm_head_read_request(const uint8_t *p, size_t len, struct gm_head_request *out)
{
    if (len >= 1 && p[0] != GM_HEAD_REQUEST)
        return -ENOTSUP;
    if (len < GM_HEAD_REQUEST_LEN || len > GM_FRAME_BLOCK_MAX)
        return -GM_E_PROTOCOL;
    if (request_strings(p) > len - GM_HEAD_REQUEST_LEN)
        return -GM_E_PROTOCOL;
    request_view(p, out);
    if (!request_ok(out))
        return -GM_E_PROTOCOL;
    return check_fields(out->fields.at, p + len, out->fields.count, GM_HEAD_REQUEST,
                        (out->flags & GM_HEAD_FLAG_UPGRADE) != 0);
}

void gm_head_view_request(const uint8_t *p, struct gm_head_request *out)
{
    GM_ASSERT(p[0] == GM_HEAD_REQUEST);
    request_view(p, out);
}

int gm_head_read_response(const uint8_t *p, size_t len, struct gm_head_response *out)
{
    if (len < GM_HEAD_RESPONSE_LEN || len > GM_FRAME_BLOCK_MAX || p[0] != GM_HEAD_RESPONSE)
        return -GM_E_PROTOCOL;
    *out = (struct gm_head_response){
        .flags = p[1],
        .status = gm_frame_get_u16(p + 2),
        .reason_len = p[4],
        .content_length = gm_frame_get_u64(p + 8),
        .reason = (const char *)p + GM_HEAD_RESPONSE_LEN,
    };
    if (out->reason_len > len - GM_HEAD_RESPONSE_LEN || !response_ok(out))
        return -GM_E_PROTOCOL;
    out->fields.at = p + GM_HEAD_RESPONSE_LEN + out->reason_len;
    out->fields.count = gm_frame_get_u16(p + 6);
    return check_fields(out->fields.at, p + len, out->fields.count, GM_HEAD_RESPONSE,
                        (out->flags & GM_HEAD_FLAG_UPGRADE) != 0);
}

int gm_head_read_trailers(const uint8_t *p, size_t len, struct gm_head_fields *out)
{
    if (len < GM_HEAD_TRAILERS_LEN || len > GM_FRAME_BLOCK_MAX || p[0] != GM_HEAD_TRAILERS)
        return -GM_E_PROTOCOL;
    out->at = p + GM_HEAD_TRAILERS_LEN;
    out->count = gm_frame_get_u16(p + 2);
    return check_fields(out->at, p + len, out->count, GM_HEAD_TRAILERS, false);
}
