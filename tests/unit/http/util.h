/*
 * Helpers of the http unit tests: parse a literal, at once or byte by byte, from an exactly sized
 * heap copy so that AddressSanitizer sees any read past the end.
 */
#ifndef GM_TEST_HTTP_UTIL_H
#define GM_TEST_HTTP_UTIL_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/parser.h"

struct parsed_request {
    char *copy;
    int result;
    struct gm_http_request req;
    struct gm_http_field fields[GM_HTTP_FIELDS_MAX];
};

struct parsed_response {
    char *copy;
    int result;
    struct gm_http_response res;
    struct gm_http_field fields[GM_HTTP_FIELDS_MAX];
};

static inline char *copy_of(const char *text, size_t len)
{
    char *copy = malloc(len + (len == 0));
    cr_assert_not_null(copy);
    memcpy(copy, text, len);
    return copy;
}

static inline void parse_request(struct parsed_request *t, const char *text, size_t len)
{
    size_t scanned = 0;
    t->copy = copy_of(text, len);
    gm_http_request_init(&t->req, t->fields, GM_HTTP_FIELDS_MAX, GM_HTTP_HEAD_MAX);
    t->result = gm_http_parse_request(t->copy, len, &scanned, &t->req);
}

static inline void parse_response(struct parsed_response *t, const char *text,
                                  enum gm_http_method method)
{
    size_t scanned = 0, len = strlen(text);
    t->copy = copy_of(text, len);
    gm_http_response_init(&t->res, t->fields, GM_HTTP_FIELDS_MAX, GM_HTTP_HEAD_MAX);
    t->result = gm_http_parse_response(t->copy, len, &scanned, method, &t->res);
}

/* Verdict when the text arrives in two pieces cut at `cut`, each time at another address. */
static inline int request_split(const char *text, size_t len, size_t cut)
{
    struct gm_http_field fields[GM_HTTP_FIELDS_MAX];
    struct gm_http_request req;
    size_t scanned = 0;
    gm_http_request_init(&req, fields, GM_HTTP_FIELDS_MAX, GM_HTTP_HEAD_MAX);
    char *first = copy_of(text, cut);
    int r = gm_http_parse_request(first, cut, &scanned, &req);
    free(first);
    if (r != 0)
        return r;
    char *whole = copy_of(text, len);
    r = gm_http_parse_request(whole, len, &scanned, &req);
    free(whole);
    return r;
}

/* The same one byte at a time. */
static inline int request_dripped(const char *text, size_t len)
{
    struct gm_http_field fields[GM_HTTP_FIELDS_MAX];
    struct gm_http_request req;
    size_t scanned = 0;
    int r = 0;
    gm_http_request_init(&req, fields, GM_HTTP_FIELDS_MAX, GM_HTTP_HEAD_MAX);
    for (size_t n = 0; n <= len && r == 0; n++) {
        char *copy = copy_of(text, n);
        r = gm_http_parse_request(copy, n, &scanned, &req);
        free(copy);
    }
    return r;
}

static inline int response_split(const char *text, size_t len, size_t cut)
{
    struct gm_http_field fields[GM_HTTP_FIELDS_MAX];
    struct gm_http_response res;
    size_t scanned = 0;
    gm_http_response_init(&res, fields, GM_HTTP_FIELDS_MAX, GM_HTTP_HEAD_MAX);
    char *first = copy_of(text, cut);
    int r = gm_http_parse_response(first, cut, &scanned, GM_HTTP_GET, &res);
    free(first);
    if (r != 0)
        return r;
    char *whole = copy_of(text, len);
    r = gm_http_parse_response(whole, len, &scanned, GM_HTTP_GET, &res);
    free(whole);
    return r;
}

static inline bool span_is(struct gm_http_span span, const char *text)
{
    return span.len == strlen(text) && memcmp(span.p, text, span.len) == 0;
}

#define ASSERT_SPAN(span, text)                                                                    \
    cr_assert(span_is((span), (text)), "expected '%s', got '%.*s'", (text), (int)(span).len,       \
              (span).p)
#define ASSERT_ERROR(result, code, what)                                                           \
    cr_assert_eq((result), -(int)(code), "%s: expected %s, got %d %s", (what),                     \
                 gm_http_error_name((int)(code)), (result), gm_http_error_name(result))

#endif
