/*
 * Heads written into a caller's buffer, bounded, without printf and without allocation. Defence in
 * depth: the writer checks every byte it is given again, so that no CR, LF or NUL can slip in from
 * a configured or decoded value. An error sticks: every later call fails too and nothing more is
 * written, so checking the last one is enough. Pure; one owner per object. Source: RFC 9112 §3–5.
 */
#ifndef GM_HTTP_WRITER_H
#define GM_HTTP_WRITER_H

#include "http/error.h"
#include "http/field.h"

/* "Sun, 06 Nov 1994 08:49:37 GMT", without a terminating NUL. */
#define GM_HTTP_DATE_LEN    29
#define GM_HTTP_U64_MAX_LEN 20

struct gm_http_out {
    char *p;    /* lent by the caller */
    size_t len; /* bytes written */
    size_t cap;
    int error; /* 0, or the first -GM_HTTP_E_OUT_SPACE / -GM_HTTP_E_OUT_UNSAFE */
};

void gm_http_out_init(struct gm_http_out *out, char *p, size_t cap);

/* All of these: 0, or the sticky error. */
/* "METHOD prefix+target HTTP/1.minor". `prefix` (a configured path) may be empty; together they
 * must not be. */
int gm_http_write_request_line(struct gm_http_out *out, struct gm_http_span method,
                               struct gm_http_span prefix, struct gm_http_span target,
                               unsigned version_minor);
/* `reason` empty: the standard phrase, or nothing for an unknown code. A status outside 100–999
 * (it may be a peer's number) is unsafe, as is a minor version above 1. */
int gm_http_write_status_line(struct gm_http_out *out, unsigned version_minor, unsigned status,
                              struct gm_http_span reason);
int gm_http_write_field(struct gm_http_out *out, struct gm_http_span name,
                        struct gm_http_span value);
int gm_http_write_field_u64(struct gm_http_out *out, struct gm_http_span name, uint64_t value);
/* Every field of the table whose flags share no bit with `skip_flags`, in order. */
int gm_http_write_fields(struct gm_http_out *out, const struct gm_http_fields *fields,
                         uint8_t skip_flags);
/* The empty line. */
int gm_http_write_end(struct gm_http_out *out);
/* Bytes as they are, unchecked: for bodies of small answers and for chunk framing around trailers.
 */
int gm_http_write_raw(struct gm_http_out *out, struct gm_http_span bytes);

/* Standard phrase of a status code, static; empty when unknown. */
struct gm_http_span gm_http_reason(unsigned status);
/* IMF-fixdate (RFC 9110 §5.6.7) of a time in seconds since 1970 UTC; any value from year 0 to 9999,
 * clamped. The caller keeps the result and calls again when the second changes. */
void gm_http_format_date(char out[static GM_HTTP_DATE_LEN], int64_t unix_seconds);
/* Decimal digits of v; returns their number. */
size_t gm_http_format_u64(char out[static GM_HTTP_U64_MAX_LEN], uint64_t v);

#endif
