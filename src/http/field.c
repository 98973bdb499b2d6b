/*
 * Byte classes, the table of known field names and the walks over a field table. Pure.
 * Invariant: a name is known only if all its bytes were compared, so a known name needs no token
 * check.
 */
#include "http/internal.h"

#include <string.h>

#define IS_DIGIT(c) ((c) >= '0' && (c) <= '9')
#define IS_ALPHA(c) (((c) >= 'a' && (c) <= 'z') || ((c) >= 'A' && (c) <= 'Z'))
#define IS_HEX(c)   (IS_DIGIT(c) || ((c) >= 'a' && (c) <= 'f') || ((c) >= 'A' && (c) <= 'F'))
#define IS_SUBDELIM(c)                                                                             \
    ((c) == '!' || (c) == '$' || (c) == '&' || (c) == '\'' || (c) == '(' || (c) == ')' ||          \
     (c) == '*' || (c) == '+' || (c) == ',' || (c) == ';' || (c) == '=')
#define IS_HOST(c)                                                                                 \
    (IS_DIGIT(c) || IS_ALPHA(c) || (c) == '-' || (c) == '.' || (c) == '_' || (c) == '~' ||         \
     IS_SUBDELIM(c))
#define IS_TOKEN(c)                                                                                \
    (IS_DIGIT(c) || IS_ALPHA(c) || (c) == '!' || (c) == '#' || (c) == '$' || (c) == '%' ||         \
     (c) == '&' || (c) == '\'' || (c) == '*' || (c) == '+' || (c) == '-' || (c) == '.' ||          \
     (c) == '^' || (c) == '_' || (c) == '`' || (c) == '|' || (c) == '~')
#define IS_VALUE(c)  ((c) == '\t' || ((c) >= 0x20 && (c) != 0x7f))
#define IS_TARGET(c) ((c) > 0x20 && (c) < 0x7f && (c) != '#')

#define CLASS(c)                                                                                   \
    (uint8_t)((IS_TOKEN(c) ? GM_HTTP_C_TOKEN : 0) | (IS_VALUE(c) ? GM_HTTP_C_VALUE : 0) |          \
              (IS_TARGET(c) ? GM_HTTP_C_TARGET : 0) | (IS_HOST(c) ? GM_HTTP_C_HOST : 0) |          \
              (IS_DIGIT(c) ? GM_HTTP_C_DIGIT : 0) | (IS_HEX(c) ? GM_HTTP_C_HEX : 0))
#define CLASS4(c)  CLASS(c), CLASS((c) + 1), CLASS((c) + 2), CLASS((c) + 3)
#define CLASS16(c) CLASS4(c), CLASS4((c) + 4), CLASS4((c) + 8), CLASS4((c) + 12)
#define CLASS64(c) CLASS16(c), CLASS16((c) + 16), CLASS16((c) + 32), CLASS16((c) + 48)

const uint8_t gm_http_class[256] = {CLASS64(0), CLASS64(64), CLASS64(128), CLASS64(192)};

/* Names longer than this are never known; a name is compared as two blocks of 16 bytes. */
#define KNOWN_NAME_MAX 32

struct known_field {
    char name[KNOWN_NAME_MAX]; /* padded with NUL */
    uint8_t len;
    uint8_t flags;
};

static const struct known_field known_fields[GM_HTTP_ID_COUNT] = {
#define KNOWN_ROW(id, name, first, last, flags)                                                    \
    [GM_HTTP_ID_##id] = {name, sizeof(name) - 1, (flags)},
    GM_HTTP_KNOWN_FIELDS(KNOWN_ROW)
#undef KNOWN_ROW
};

/* A perfect hash of length, first and last letter (| 0x20: without case). The two factors were
 * found by search over the table; a clash after adding a name is a compile error (an initialiser
 * given twice), then search again. */
#define KNOWN_HASH(first, last, len)                                                               \
    (((((unsigned)(first)) | 0x20u) + 25u * (((unsigned)(last)) | 0x20u) +                         \
      34u * (unsigned)(len)) &                                                                     \
     127u)

static const uint8_t known_by_hash[128] = {
#define KNOWN_SLOT(id, name, first, last, flags)                                                   \
    [KNOWN_HASH(first, last, sizeof(name) - 1)] = GM_HTTP_ID_##id,
    GM_HTTP_KNOWN_FIELDS(KNOWN_SLOT)
#undef KNOWN_SLOT
};

_Static_assert(GM_HTTP_ID_COUNT <= 64, "`seen` has a bit for each known field");

static inline char lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

static bool equal_nocase(const char *a, const char *b, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (a[i] != b[i] && lower(a[i]) != lower(b[i]))
            return false;
    }
    return true;
}

enum gm_http_field_id gm_http_field_lookup(const char *name, size_t len)
{
    if (len - 2 > KNOWN_NAME_MAX - 2)
        return GM_HTTP_ID_OTHER;
    uint8_t id =
        known_by_hash[KNOWN_HASH((unsigned char)name[0], (unsigned char)name[len - 1], len)];
    const struct known_field *known = &known_fields[id];
    if (known->len != len || !equal_nocase(name, known->name, len))
        return GM_HTTP_ID_OTHER;
    return (enum gm_http_field_id)id;
}

#if defined(__SSE2__)
/* Sets bit 5 of the bytes 0x40–0x7f. Only letters become letters by that; "-" and digits keep their
 * one spelling (were bit 5 set everywhere, CR would become "-"). */
static inline __m128i fold16(__m128i v)
{
    __m128i upper = _mm_cmpgt_epi8(v, _mm_set1_epi8(0x3f));
    return _mm_or_si128(v, _mm_and_si128(upper, _mm_set1_epi8(0x20)));
}

static inline unsigned equal16(const char *input, const char *known)
{
    __m128i a = fold16(_mm_loadu_si128((const __m128i *)(const void *)input));
    __m128i b = _mm_loadu_si128((const __m128i *)(const void *)known);
    return (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(a, b));
}

/* The lookup for input with at least 32 readable bytes from `name` on. */
static inline uint8_t lookup_wide(const char *name, size_t len)
{
    if (len - 2 > KNOWN_NAME_MAX - 2)
        return GM_HTTP_ID_OTHER;
    uint8_t id =
        known_by_hash[KNOWN_HASH((unsigned char)name[0], (unsigned char)name[len - 1], len)];
    const struct known_field *known = &known_fields[id];
    unsigned equal = equal16(name, known->name);
    if (len > 16)
        equal |= equal16(name + 16, known->name + 16) << 16;
    unsigned want = (unsigned)((1ull << len) - 1);
    return known->len == len && (equal & want) == want ? id : GM_HTTP_ID_OTHER;
}

/* Offset of the first ":" within 32 bytes, 32 if there is none. */
static inline size_t find_colon(const char *p)
{
    const __m128i colon = _mm_set1_epi8(':');
    __m128i a = _mm_loadu_si128((const __m128i *)(const void *)p);
    unsigned mask = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(a, colon));
    if (mask != 0)
        return (size_t)__builtin_ctz(mask);
    __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(p + 16));
    mask = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(b, colon));
    return mask != 0 ? (size_t)(16 + __builtin_ctz(mask)) : 32;
}
#endif

#if defined(__SSE2__)
/* Which of 16 bytes are letters, digits, "-" or "_": all that names are made of in practice. */
static inline unsigned common16(const char *p)
{
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i folded = fold16(v);
    /* Signed comparisons: bytes from 0x80 on are below either range. */
    __m128i letter = _mm_and_si128(_mm_cmpgt_epi8(folded, _mm_set1_epi8('a' - 1)),
                                   _mm_cmplt_epi8(folded, _mm_set1_epi8('z' + 1)));
    __m128i digit = _mm_and_si128(_mm_cmpgt_epi8(v, _mm_set1_epi8('0' - 1)),
                                  _mm_cmplt_epi8(v, _mm_set1_epi8('9' + 1)));
    __m128i mark =
        _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('-')), _mm_cmpeq_epi8(v, _mm_set1_epi8('_')));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(letter, digit), mark));
}

/* Whether the first len ≤ 32 bytes at p, of 32 that can be read, are all of that kind. */
static inline bool common_name(const char *p, size_t len)
{
    unsigned want = (unsigned)((1ull << len) - 1), common = common16(p);
    if (len > 16)
        common |= common16(p + 16) << 16;
    return (common & want) == want;
}
#endif

#if defined(__SSE2__)
/* The name at p of which `window` holds the first 32 bytes: its length, and its number; 0 for one
 * that has to be looked at byte by byte. */
static inline size_t name_wide(const char *window, uint8_t *id)
{
    size_t len = find_colon(window);
    *id = lookup_wide(window, len);
    return len < 32 && (*id != GM_HTTP_ID_OTHER || common_name(window, len)) ? len : 0;
}
#endif

/* Finds the end of the name at p and its number. Returns where the ":" should be; the caller looks.
 */
static inline const char *name_parse(const char *p, const char *end, uint8_t *id)
{
#if defined(__SSE2__)
    char last[32] = {0}; /* the last line of a head is often shorter than 32 bytes */
    size_t left = (size_t)(end - p);
    if (left < sizeof last)
        memcpy(last, p, left);
    size_t len = name_wide(left < sizeof last ? last : p, id);
    if (len > 0)
        return p + len;
#endif
    const char *q = gm_http_skip(p, end, GM_HTTP_C_TOKEN);
    *id = (uint8_t)gm_http_field_lookup(p, (size_t)(q - p));
    return q;
}

/* Which error a line has whose name ended at q without a colon. */
static int name_error(const char *line, const char *q, const char *end)
{
    if (*q == '\n')
        return -GM_HTTP_E_BARE_LF;
    if (*q == '\r')
        return q + 1 < end && q[1] == '\n' ? -GM_HTTP_E_FIELD_NO_COLON : -GM_HTTP_E_BARE_CR;
    if (*q != ' ' && *q != '\t')
        return -GM_HTTP_E_FIELD_NAME;
    if (q == line)
        return -GM_HTTP_E_FIELD_FOLD;
    const char *next = gm_http_skip_space(q, end);
    return next < end && *next == ':' ? -GM_HTTP_E_FIELD_NAME_SPACE : -GM_HTTP_E_FIELD_NAME;
}

/* Which error a line has whose value ended at q, which is not CRLF. */
static int value_error(const char *q)
{
    if (*q == '\n')
        return -GM_HTTP_E_BARE_LF;
    return *q == '\r' ? -GM_HTTP_E_BARE_CR : -GM_HTTP_E_FIELD_VALUE;
}

/* The line begins at *p, which is neither the end nor CR. */
static inline int field_parse(const char **p, const char *end, struct gm_http_field *field)
{
    const char *line = *p;
    uint8_t id;
    const char *q = name_parse(line, end, &id);
    if (q == end)
        return GM_HTTP_LINE_MORE;
    if (*q != ':')
        return name_error(line, q, end);
    if (q == line)
        return -GM_HTTP_E_FIELD_NAME;

    const char *value = gm_http_skip_space(q + 1, end);
    const char *stop = gm_http_scan_value(value, end);
    if (end - stop < 2 && (stop == end || *stop == '\r'))
        return GM_HTTP_LINE_MORE;
    if (*stop != '\r' || stop[1] != '\n')
        return value_error(stop);
    const char *tail = stop;
    while (tail > value && (tail[-1] == ' ' || tail[-1] == '\t'))
        tail--;
    *field = (struct gm_http_field){
        .name = line,
        .value = value,
        .name_len = (uint16_t)(q - line),
        .value_len = (uint16_t)(tail - value),
        .id = id,
        .flags = known_fields[id].flags,
    };
    *p = stop + 2;
    return GM_HTTP_LINE_FIELD;
}

static inline int line_parse(const char **p, const char *end, struct gm_http_field *field)
{
    const char *line = *p;
    if (line == end)
        return GM_HTTP_LINE_MORE;
    if (*line == '\r') {
        if (end - line < 2)
            return GM_HTTP_LINE_MORE;
        *p = line + 2;
        return line[1] == '\n' ? GM_HTTP_LINE_EMPTY : -GM_HTTP_E_BARE_CR;
    }
    return field_parse(p, end, field);
}

/* A line with an error counts only once it is complete. */
static int judge(const char *line, const char *end, int error)
{
    return memchr(line, '\n', (size_t)(end - line)) != NULL ? error : GM_HTTP_LINE_MORE;
}

int gm_http_line_parse(const char **p, const char *end, struct gm_http_field *field)
{
    const char *line = *p;
    int r = line_parse(p, end, field);
    return r < 0 ? judge(line, end, r) : r;
}

int gm_http_lines_parse(const char **p, const char *end, struct gm_http_fields *fields,
                        struct gm_http_index *index)
{
    struct gm_http_field surplus;
    uint64_t seen = 0, twice = 0;
    unsigned count = 0;
    const unsigned max = fields->max;
    const char *line;
    int r;

    for (;;) {
        line = *p;
        struct gm_http_field *field = count < max ? &fields->list[count] : &surplus;
        r = line_parse(p, end, field);
        if (r != GM_HTTP_LINE_FIELD)
            break;
        if (count == max) {
            index->overflow = true;
            continue;
        }
        uint64_t bit = 1ull << field->id;
        if (!(seen & bit))
            index->first[field->id] = (uint8_t)count;
        twice |= seen & bit;
        seen |= bit;
        count++;
    }
    fields->count = (uint16_t)count;
    fields->seen = seen;
    index->twice = twice;
    if (r < 0)
        return judge(line, end, r);
    return r == GM_HTTP_LINE_EMPTY ? 1 : 0;
}

struct gm_http_span gm_http_field_known_name(enum gm_http_field_id id)
{
    return (struct gm_http_span){known_fields[id].name, known_fields[id].len};
}

const struct gm_http_field *gm_http_fields_find(const struct gm_http_fields *fields,
                                                enum gm_http_field_id id, unsigned *from)
{
    if (!gm_http_fields_has(fields, id))
        return NULL;
    for (unsigned i = from != NULL ? *from : 0; i < fields->count; i++) {
        if (fields->list[i].id == id) {
            if (from != NULL)
                *from = i + 1;
            return &fields->list[i];
        }
    }
    return NULL;
}

const struct gm_http_field *gm_http_fields_find_name(const struct gm_http_fields *fields,
                                                     struct gm_http_span name)
{
    for (unsigned i = 0; i < fields->count; i++) {
        if (gm_http_span_equal_nocase(gm_http_field_name(&fields->list[i]), name))
            return &fields->list[i];
    }
    return NULL;
}

bool gm_http_span_equal_nocase(struct gm_http_span a, struct gm_http_span b)
{
    return a.len == b.len && equal_nocase(a.p, b.p, a.len);
}

bool gm_http_span_equal(struct gm_http_span a, struct gm_http_span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

bool gm_http_list_next(struct gm_http_span *rest, struct gm_http_span *element)
{
    if (rest->len == 0)
        return false;
    const char *p = rest->p, *end = rest->p + rest->len;
    while (p < end) {
        const char *stop = memchr(p, ',', (size_t)(end - p));
        if (stop == NULL)
            stop = end;
        const char *first = gm_http_skip_space(p, stop), *last = stop;
        while (last > first && (last[-1] == ' ' || last[-1] == '\t'))
            last--;
        p = stop < end ? stop + 1 : end;
        if (last > first) {
            *element = (struct gm_http_span){first, (size_t)(last - first)};
            *rest = (struct gm_http_span){p, (size_t)(end - p)};
            return true;
        }
    }
    *rest = (struct gm_http_span){end, 0};
    return false;
}

bool gm_http_fields_list_has(const struct gm_http_fields *fields, enum gm_http_field_id id,
                             struct gm_http_span token)
{
    const struct gm_http_field *f;
    unsigned from = 0;
    while ((f = gm_http_fields_find(fields, id, &from)) != NULL) {
        struct gm_http_span rest = gm_http_field_value(f), element;
        while (gm_http_list_next(&rest, &element)) {
            if (gm_http_span_equal_nocase(element, token))
                return true;
        }
    }
    return false;
}

int gm_http_hex_value(char c)
{
    if (!gm_http_is(c, GM_HTTP_C_HEX))
        return -1;
    return gm_http_is(c, GM_HTTP_C_DIGIT) ? c - '0' : lower(c) - 'a' + 10;
}

bool gm_http_escapes_valid(struct gm_http_span text)
{
    if (text.len == 0)
        return true;
    const char *p = text.p, *end = text.p + text.len;
    while (p < end && (p = memchr(p, '%', (size_t)(end - p))) != NULL) {
        if (end - p < 3 || !gm_http_is(p[1], GM_HTTP_C_HEX) || !gm_http_is(p[2], GM_HTTP_C_HEX))
            return false;
        p += 3;
    }
    return true;
}
