/* Head blocks: writer and checked reader (frame/PROTOCOL.md section 6).
 *
 * One set of checks serves both directions, so that nothing can be written that would be refused.
 * Bytes are judged by a class table (names, methods, authorities) or by a range test over 16 bytes
 * at a time (values, targets: the long strings).
 */
#include "frame/head.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/assert.h"
#include "base/error.h"

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

/* The bytes that a string may hold besides 0x21..0x7e and 0x80..0xff. */
enum text_rule { TEXT_VISIBLE, TEXT_SPACED /* SP and TAB too */ };

static bool text_byte_bad(uint8_t c, enum text_rule rule)
{
    bool blank = (c == ' ') | (c == '\t');
    return ((c <= ' ') & !(blank & (rule == TEXT_SPACED))) | (c == 0x7f);
}

static bool text_bytes_ok(const char *p, size_t n, enum text_rule rule)
{
    bool bad = false;
    for (size_t i = 0; i < n; i++)
        bad |= text_byte_bad((uint8_t)p[i], rule);
    return !bad;
}

#ifdef __SSE2__
/* Nonzero where one of 16 bytes is not allowed. */
static int text_block_bad(__m128i v, enum text_rule rule)
{
    const __m128i space = _mm_set1_epi8(' ');
    __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, space), v); /* c <= ' ' */
    if (rule == TEXT_SPACED) {
        __m128i fine =
            _mm_or_si128(_mm_cmpeq_epi8(v, space), _mm_cmpeq_epi8(v, _mm_set1_epi8('\t')));
        low = _mm_andnot_si128(fine, low);
    }
    return _mm_movemask_epi8(_mm_or_si128(low, _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f))));
}

static __m128i load_block(const char *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* 4 to 15 bytes as one block: two overlapping loads, so that every byte of the block is one of
 * them. */
static __m128i load_short(const char *p, size_t n)
{
    uint64_t first;
    uint64_t last;
    if (n >= 8) {
        memcpy(&first, p, 8);
        memcpy(&last, p + n - 8, 8);
        return _mm_set_epi64x((int64_t)last, (int64_t)first);
    }
    uint32_t head;
    uint32_t tail;
    memcpy(&head, p, 4);
    memcpy(&tail, p + n - 4, 4);
    return _mm_set_epi32((int)tail, (int)head, (int)tail, (int)head);
}

/* The last block overlaps the one before, so that only a few bytes ever go one by one. */
static bool text_ok(const char *p, size_t n, enum text_rule rule)
{
    if (n < 4)
        return text_bytes_ok(p, n, rule);
    if (n < 16)
        return text_block_bad(load_short(p, n), rule) == 0;
    int bad = text_block_bad(load_block(p + n - 16), rule);
    for (size_t i = 0; i + 16 < n; i += 16)
        bad |= text_block_bad(load_block(p + i), rule);
    return bad == 0;
}
#else
static bool text_ok(const char *p, size_t n, enum text_rule rule)
{
    return text_bytes_ok(p, n, rule);
}
#endif

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* --- Fields --- */

/* Names that belong to one leg's framing; `host` is one in requests and trailers only. */
struct leg_field {
    const char *name;
    uint8_t len;
    uint8_t kinds; /* 1 << GM_HEAD_… */
};

#define IN_REQUEST  (1u << GM_HEAD_REQUEST)
#define IN_RESPONSE (1u << GM_HEAD_RESPONSE)
#define IN_TRAILERS (1u << GM_HEAD_TRAILERS)
#define IN_ALL      (IN_REQUEST | IN_RESPONSE | IN_TRAILERS)

static const struct leg_field leg_fields[] = {
    {"connection", 10, IN_ALL},
    {"content-length", 14, IN_ALL},
    {"host", 4, IN_REQUEST | IN_TRAILERS},
    {"keep-alive", 10, IN_ALL},
    {"proxy-connection", 16, IN_ALL},
    {"te", 2, IN_ALL},
    {"transfer-encoding", 17, IN_ALL},
};
/* 1 << length of each name above: most names are ruled out by their length alone. */
#define LEG_FIELD_LENGTHS (1u << 2 | 1u << 4 | 1u << 7 | 1u << 10 | 1u << 14 | 1u << 16 | 1u << 17)

/* True for a field that no block of this kind may carry. `upgrade`: the block has the UPGRADE flag,
 * and so may have the field. */
static bool leg_field(const struct gm_head_field *field, uint8_t kind, bool upgrade)
{
    if (field->name_len > 17 || (LEG_FIELD_LENGTHS >> field->name_len & 1u) == 0)
        return false;
    for (size_t i = 0; i < sizeof(leg_fields) / sizeof(leg_fields[0]); i++) {
        const struct leg_field *row = &leg_fields[i];
        if (row->len == field->name_len && (field->name[0] | 0x20) == row->name[0] &&
            (row->kinds >> kind & 1u) && strncasecmp(row->name, field->name, row->len) == 0)
            return true;
    }
    return !upgrade && field->name_len == 7 && strncasecmp("upgrade", field->name, 7) == 0;
}

static bool field_ok(const struct gm_head_field *field, uint8_t kind, bool upgrade)
{
    if (field->name_len == 0 || !all_of_class(field->name, field->name_len, CLASS_TOKEN))
        return false;
    size_t n = field->value_len;
    if (n > 0) {
        if (is_blank(field->value[0]) || is_blank(field->value[n - 1]) ||
            !text_ok(field->value, n, TEXT_SPACED))
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
    if (r->method_len == 0 || !all_of_class(r->method, r->method_len, CLASS_TOKEN))
        return false;
    if (r->target_len == 0 || !text_ok(r->target, r->target_len, TEXT_VISIBLE))
        return false;
    return all_of_class(r->authority, r->authority_len, CLASS_AUTHORITY);
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
    return text_ok(r->reason, r->reason_len, TEXT_SPACED);
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

int gm_head_read_request(const uint8_t *p, size_t len, struct gm_head_request *out)
{
    if (len >= 1 && p[0] != GM_HEAD_REQUEST)
        return -ENOTSUP;
    if (len < GM_HEAD_REQUEST_LEN || len > GM_FRAME_BLOCK_MAX)
        return -GM_E_PROTOCOL;
    const uint8_t *end = p + len;
    *out = (struct gm_head_request){
        .flags = p[1],
        .method_len = p[2],
        .target_len = gm_frame_get_u16(p + 4),
        .authority_len = gm_frame_get_u16(p + 6),
        .content_length = gm_frame_get_u64(p + 8),
    };
    size_t strings = (size_t)out->method_len + out->target_len + out->authority_len;
    if (strings > len - GM_HEAD_REQUEST_LEN)
        return -GM_E_PROTOCOL;
    out->method = (const char *)p + GM_HEAD_REQUEST_LEN;
    out->target = out->method + out->method_len;
    out->authority = out->target + out->target_len;
    if (!request_ok(out))
        return -GM_E_PROTOCOL;
    out->fields.at = p + GM_HEAD_REQUEST_LEN + strings;
    out->fields.count = gm_frame_get_u16(p + 16);
    return check_fields(out->fields.at, end, out->fields.count, GM_HEAD_REQUEST,
                        (out->flags & GM_HEAD_FLAG_UPGRADE) != 0);
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
