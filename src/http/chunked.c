/*
 * Chunked transfer coding (http/chunked.h). Pure.
 * The decoder is one switch over where in the coding the next byte stands; framing bytes are taken
 * one at a time, data as whole spans. Invariant: a state depends on the bytes fed so far and not on
 * the calls they came in.
 */
#include "http/chunked.h"

#include "base/assert.h"
#include "http/internal.h"

#include <string.h>

enum {
    SIZE = 0,  /* hexadecimal digits of a chunk size */
    EXTENSION, /* behind ";" */
    SIZE_LF,   /* the LF that ends a chunk head */
    DATA,
    DATA_CR, /* the CR behind a chunk's data */
    DATA_LF,
    TRAILERS, /* behind the last chunk's head: the end, or a trailer line */
    END_LF,   /* the LF of an empty line that no trailer came before */
    DONE,
};

/* 16 digits hold any size; more could only be leading zeros. */
#define SIZE_DIGITS_MAX 16

void gm_http_chunked_init(struct gm_http_chunked *d, char *scratch, uint32_t scratch_cap)
{
    GM_ASSERT((scratch != NULL || scratch_cap == 0) && scratch_cap <= GM_HTTP_HEAD_MAX);
    *d = (struct gm_http_chunked){.scratch = scratch, .scratch_cap = scratch_cap};
}

void gm_http_chunked_lend(struct gm_http_chunked *d, char *scratch, uint32_t scratch_cap)
{
    GM_ASSERT(scratch != NULL && scratch_cap <= GM_HTTP_HEAD_MAX && d->trailer_len == 0);
    d->scratch = scratch;
    d->scratch_cap = scratch_cap;
}

bool gm_http_chunked_done(const struct gm_http_chunked *d)
{
    return d->state == DONE;
}

static int size_byte(struct gm_http_chunked *d, char c)
{
    int value = gm_http_hex_value(c);
    if (value >= 0) {
        if (d->digits == SIZE_DIGITS_MAX || d->left > (uint64_t)INT64_MAX >> 4)
            return -GM_HTTP_E_CHUNK_TOO_LARGE;
        d->left = d->left << 4 | (uint64_t)value;
        d->digits++;
        return 0;
    }
    if (d->digits == 0)
        return -GM_HTTP_E_CHUNK_SIZE;
    if (c == ';') {
        d->state = EXTENSION;
        d->extension_len = 0;
        return 0;
    }
    if (c == '\n')
        return -GM_HTTP_E_BARE_LF;
    if (c != '\r')
        return -GM_HTTP_E_CHUNK_SIZE;
    d->state = SIZE_LF;
    return 0;
}

static int extension_byte(struct gm_http_chunked *d, char c)
{
    if (c == '\n')
        return -GM_HTTP_E_BARE_LF;
    if (c == '\r') {
        d->state = SIZE_LF;
        return 0;
    }
    if (!gm_http_is(c, GM_HTTP_C_VALUE) || ++d->extension_len > GM_HTTP_CHUNK_EXTENSION_MAX ||
        ++d->excess > GM_HTTP_CHUNK_EXCESS_MAX)
        return -GM_HTTP_E_CHUNK_EXTENSION;
    return 0;
}

/* A trailer field must not change what was decided by the head (RFC 9110 §6.5.1). */
static bool trailer_forbidden(const struct gm_http_field *f)
{
    switch (f->id) {
    case GM_HTTP_ID_HOST:
    case GM_HTTP_ID_CONTENT_LENGTH:
    case GM_HTTP_ID_TRAILER:
    case GM_HTTP_ID_EXPECT:
    case GM_HTTP_ID_AUTHORIZATION:
    case GM_HTTP_ID_COOKIE:
    case GM_HTTP_ID_SET_COOKIE:
    case GM_HTTP_ID_CONTENT_TYPE:
    case GM_HTTP_ID_CONTENT_ENCODING:
        return true;
    default:
        return (f->flags & GM_HTTP_FIELD_HOP) != 0;
    }
}

/* Judges the line that has just become complete in scratch. */
static int trailer_line(struct gm_http_chunked *d)
{
    const char *p = d->scratch + d->line_start, *end = d->scratch + d->trailer_len;
    struct gm_http_field field;
    int r = gm_http_line_parse(&p, end, &field);
    if (r < 0)
        return r;
    /* The bytes given hold one LF, the last of them: they are a line or an error. */
    GM_ASSERT(r != GM_HTTP_LINE_MORE && p == end);
    d->line_start = d->trailer_len;
    if (r == GM_HTTP_LINE_EMPTY)
        d->state = DONE;
    else if (trailer_forbidden(&field))
        return -GM_HTTP_E_TRAILER_FORBIDDEN;
    return 0;
}

/* Gathers one trailer line, or as much of it as there is. */
static int trailer_bytes(struct gm_http_chunked *d, const char **p, const char *end)
{
    const char *lf = memchr(*p, '\n', (size_t)(end - *p));
    size_t n = (size_t)((lf != NULL ? lf + 1 : end) - *p);
    if (n > d->scratch_cap - d->trailer_len)
        return -GM_HTTP_E_TRAILER_TOO_LARGE;
    memcpy(d->scratch + d->trailer_len, *p, n);
    d->trailer_len += (uint32_t)n;
    *p += n;
    return lf != NULL ? trailer_line(d) : 0;
}

static void chunk_head_end(struct gm_http_chunked *d)
{
    d->state = d->left > 0 ? DATA : TRAILERS;
    d->digits = 0;
}

static void data_take(struct gm_http_chunked *d, const char **p, const char *end,
                      struct gm_http_span *data)
{
    size_t n = (size_t)(end - *p);
    if (n > d->left)
        n = (size_t)d->left;
    *data = (struct gm_http_span){*p, n};
    *p += n;
    d->left -= n;
    d->excess = n < d->excess ? d->excess - (uint32_t)n : 0;
    if (d->left == 0)
        d->state = DATA_CR;
}

/* One of the two bytes behind a chunk's data. */
static int expect_byte(struct gm_http_chunked *d, char c, char want, uint8_t next)
{
    if (c != want)
        return -GM_HTTP_E_CHUNK_END;
    d->state = next;
    return 0;
}

/* One framing byte outside data and trailers. */
static int framing_byte(struct gm_http_chunked *d, char c)
{
    switch (d->state) {
    case SIZE:
        return size_byte(d, c);
    case EXTENSION:
        return extension_byte(d, c);
    case SIZE_LF:
        if (c != '\n')
            return -GM_HTTP_E_BARE_CR;
        chunk_head_end(d);
        return 0;
    case DATA_CR:
        return expect_byte(d, c, '\r', DATA_LF);
    case DATA_LF:
        return expect_byte(d, c, '\n', SIZE);
    case TRAILERS: /* only for the CR of a body without trailers: no scratch is needed then */
        d->state = END_LF;
        return 0;
    default: /* END_LF */
        d->state = c == '\n' ? DONE : END_LF;
        return c == '\n' ? 0 : -GM_HTTP_E_BARE_CR;
    }
}

int gm_http_chunked_feed(struct gm_http_chunked *d, const char *buf, size_t len,
                         struct gm_http_chunked_step *step)
{
    GM_ASSERT(d->state != DONE);
    *step = (struct gm_http_chunked_step){0, {buf, 0}};
    if (len == 0)
        return GM_HTTP_CHUNKED_MORE;
    const char *p = buf, *end = buf + len;
    int result = GM_HTTP_CHUNKED_MORE;
    while (p < end && result == GM_HTTP_CHUNKED_MORE) {
        int r = 0;
        if (d->state == DATA) {
            data_take(d, &p, end, &step->data);
            result = GM_HTTP_CHUNKED_DATA;
        } else if (d->state != TRAILERS || (d->trailer_len == 0 && *p == '\r')) {
            r = framing_byte(d, *p++);
        } else if (d->scratch == NULL) {
            result = GM_HTTP_CHUNKED_SCRATCH;
        } else {
            r = trailer_bytes(d, &p, end);
        }
        if (r < 0)
            return r;
        if (d->state == DONE)
            result = GM_HTTP_CHUNKED_DONE;
    }
    step->consumed = (size_t)(p - buf);
    return result;
}

int gm_http_chunked_trailers(const struct gm_http_chunked *d, struct gm_http_fields *fields)
{
    GM_ASSERT(d->state == DONE && fields->max <= GM_HTTP_FIELDS_MAX);
    fields->count = 0;
    fields->seen = 0;
    if (d->trailer_len == 0)
        return 0;
    const char *p = d->scratch, *end = d->scratch + d->trailer_len;
    struct gm_http_index index;
    index.overflow = false;
    int r = gm_http_lines_parse(&p, end, fields, &index);
    GM_ASSERT(r == 1 && p == end);
    return index.overflow ? -GM_HTTP_E_FIELD_TOO_MANY : fields->count;
}

size_t gm_http_chunk_head(char out[static GM_HTTP_CHUNK_HEAD_MAX], uint64_t n)
{
    static const char digits[16] = "0123456789abcdef";
    GM_ASSERT(n > 0);
    size_t len = (size_t)(67 - __builtin_clzll(n)) / 4;
    for (size_t i = len; i > 0; i--, n >>= 4)
        out[i - 1] = digits[n & 15];
    out[len] = '\r';
    out[len + 1] = '\n';
    return len + 2;
}
