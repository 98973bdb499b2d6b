/*
 * What the files of http/ share and nobody else sees: byte classes, the scanners that find the end
 * of a value or of a target, and the field-line parser that heads and trailers have in common. The
 * scanners read 16 bytes at a time while 16 are left and single bytes after that: never past `end`.
 */
#ifndef GM_HTTP_INTERNAL_H
#define GM_HTTP_INTERNAL_H

#include "base/scan.h"
#include "http/field.h"
#include "http/parser.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum {
    GM_HTTP_C_TOKEN = 1,  /* tchar, RFC 9110 §5.6.2 */
    GM_HTTP_C_VALUE = 2,  /* HTAB, SP, VCHAR, obs-text: what may stand in a field value */
    GM_HTTP_C_TARGET = 4, /* visible ASCII but "#" */
    GM_HTTP_C_HOST = 8,   /* reg-name without its escapes, RFC 3986 §3.2.2 */
    GM_HTTP_C_DIGIT = 16,
    GM_HTTP_C_HEX = 32,
};

extern const uint8_t gm_http_class[256];

static inline bool gm_http_is(char c, unsigned class_bits)
{
    return (gm_http_class[(unsigned char)c] & class_bits) != 0;
}

/* First byte in [p, end) outside the class; end if there is none. */
static inline const char *gm_http_skip(const char *p, const char *end, unsigned class_bits)
{
    while (p < end && gm_http_is(*p, class_bits))
        p++;
    return p;
}

/* Not empty, and all of it tchar. */
static inline bool gm_http_is_token(struct gm_http_span s)
{
    return s.len > 0 && (gm_scan_plain(s.p, s.len, "-_") ||
                         gm_http_skip(s.p, s.p + s.len, GM_HTTP_C_TOKEN) == s.p + s.len);
}

static inline const char *gm_http_skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    return p;
}

#if defined(__SSE2__)
/* SSE2 is part of every x86-64. Wider vectors were not measured. */
static inline const char *gm_http_scan_value(const char *p, const char *end)
{
    const __m128i control = _mm_set1_epi8(0x1f);
    const __m128i tab = _mm_set1_epi8('\t');
    const __m128i del = _mm_set1_epi8(0x7f);

    for (; end - p >= 16; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, control), v);
        __m128i bad =
            _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(v, tab), low), _mm_cmpeq_epi8(v, del));
        unsigned mask = (unsigned)_mm_movemask_epi8(bad);
        if (mask != 0)
            return p + __builtin_ctz(mask);
    }
    return gm_http_skip(p, end, GM_HTTP_C_VALUE);
}

static inline const char *gm_http_scan_target(const char *p, const char *end)
{
    const __m128i low = _mm_set1_epi8(0x21);
    const __m128i del = _mm_set1_epi8(0x7f);
    const __m128i hash = _mm_set1_epi8('#');

    for (; end - p >= 16; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        /* The comparison is signed: bytes from 0x80 on are below 0x21 too. */
        __m128i bad = _mm_or_si128(_mm_cmplt_epi8(v, low), _mm_cmpeq_epi8(v, del));
        unsigned mask = (unsigned)_mm_movemask_epi8(_mm_or_si128(bad, _mm_cmpeq_epi8(v, hash)));
        if (mask != 0)
            return p + __builtin_ctz(mask);
    }
    return gm_http_skip(p, end, GM_HTTP_C_TARGET);
}
#else
static inline const char *gm_http_scan_value(const char *p, const char *end)
{
    return gm_http_skip(p, end, GM_HTTP_C_VALUE);
}

static inline const char *gm_http_scan_target(const char *p, const char *end)
{
    return gm_http_skip(p, end, GM_HTTP_C_TARGET);
}
#endif

/* Where each known field stands, so that none has to be looked for; filled with the table. */
struct gm_http_index {
    uint64_t twice; /* bit per id that occurs more than once */
    bool overflow;  /* there were more fields than the table holds */
    uint8_t first[GM_HTTP_ID_COUNT];
};

enum gm_http_line {
    GM_HTTP_LINE_MORE = 0,
    GM_HTTP_LINE_FIELD = 1,
    GM_HTTP_LINE_EMPTY = 2,
};

/* Parses one line at *p, and moves *p behind its CRLF. enum gm_http_line, or an error once the line
 * is complete. */
int gm_http_line_parse(const char **p, const char *end, struct gm_http_field *field);
/* Parses lines up to and including the empty one. 1: complete; 0: more bytes are needed; or an
 * error. The table's and the index's counts must be zero before. */
int gm_http_lines_parse(const char **p, const char *end, struct gm_http_fields *fields,
                        struct gm_http_index *index);

/* What the fields mean. 0 or an error. Fields' flags are completed with what Connection names. */
int gm_http_derive_request(struct gm_http_request *req, const struct gm_http_index *index);
int gm_http_derive_response(struct gm_http_response *res, enum gm_http_method method,
                            const struct gm_http_index *index);

/* 1*DIGIT within int64. 0, or -GM_HTTP_E_LENGTH_x. */
int gm_http_length_parse(struct gm_http_span text, uint64_t *out);
/* Every "%" is followed by two hexadecimal digits. */
bool gm_http_escapes_valid(struct gm_http_span text);
/* Value of a hexadecimal digit, -1 for any other byte. */
int gm_http_hex_value(char c);

#endif
