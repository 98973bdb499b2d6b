/*
 * The writer: what it writes, what it refuses, and that the parser reads back what was written.
 */
#include "util.h"

#include <time.h>

#include "http/writer.h"

static struct gm_http_span span(const char *text)
{
    return (struct gm_http_span){text, strlen(text)};
}

Test(writer, request_head)
{
    char buf[256];
    struct gm_http_out out;
    gm_http_out_init(&out, buf, sizeof(buf));
    cr_assert_eq(gm_http_write_request_line(&out, span("GET"), span("/prefix"), span("/a?b"), 1),
                 0);
    cr_assert_eq(gm_http_write_field(&out, span("Host"), span("a:80")), 0);
    cr_assert_eq(gm_http_write_field_u64(&out, span("Content-Length"), 0), 0);
    cr_assert_eq(gm_http_write_field(&out, span("X-Empty"), (struct gm_http_span){NULL, 0}), 0);
    cr_assert_eq(gm_http_write_end(&out), 0);
    cr_assert_eq(gm_http_write_raw(&out, span("\n\0")), 0);
    ASSERT_SPAN(
        ((struct gm_http_span){buf, out.len}),
        "GET /prefix/a?b HTTP/1.1\r\nHost: a:80\r\nContent-Length: 0\r\nX-Empty: \r\n\r\n\n");
}

Test(writer, status_lines)
{
    char buf[256];
    struct gm_http_out out;
    gm_http_out_init(&out, buf, sizeof(buf));
    (void)gm_http_write_status_line(&out, 1, 200, span(""));
    (void)gm_http_write_status_line(&out, 0, 431, span(""));
    (void)gm_http_write_status_line(&out, 1, 999, span(""));
    (void)gm_http_write_status_line(&out, 1, 404, span("Not \xff here"));
    cr_assert_eq(out.error, 0);
    ASSERT_SPAN(
        ((struct gm_http_span){buf, out.len}),
        "HTTP/1.1 200 OK\r\nHTTP/1.0 431 Request Header Fields Too Large\r\nHTTP/1.1 999 \r\n"
        "HTTP/1.1 404 Not \xff here\r\n");
}

Test(writer, refuses_what_could_break_a_line)
{
    static const char *const unsafe[] = {"a\r", "a\n", "\r\n\r\n", "a\x01", "a\x7f"};
    const struct gm_http_span nul = {"a\0b", 3};
    for (size_t i = 0; i <= sizeof(unsafe) / sizeof(unsafe[0]); i++) {
        struct gm_http_span bad = i < 5 ? span(unsafe[i]) : nul;
        for (int where = 0; where < 6; where++) {
            char buf[128];
            struct gm_http_out out;
            int r = 0;
            gm_http_out_init(&out, buf, sizeof(buf));
            if (where == 0)
                r = gm_http_write_field(&out, bad, span("v"));
            else if (where == 1)
                r = gm_http_write_field(&out, span("n"), bad);
            else if (where == 2)
                r = gm_http_write_request_line(&out, bad, span(""), span("/"), 1);
            else if (where == 3)
                r = gm_http_write_request_line(&out, span("GET"), bad, span("/"), 1);
            else if (where == 4)
                r = gm_http_write_request_line(&out, span("GET"), span(""), bad, 1);
            else
                r = gm_http_write_status_line(&out, 1, 200, bad);
            ASSERT_ERROR(r, GM_HTTP_E_OUT_UNSAFE, "unsafe");
            cr_assert_eq(out.len, 0);
            /* The error sticks. */
            ASSERT_ERROR(gm_http_write_end(&out), GM_HTTP_E_OUT_UNSAFE, "sticky");
            cr_assert_eq(out.len, 0);
        }
    }
    char buf[64];
    struct gm_http_out out;
    gm_http_out_init(&out, buf, sizeof(buf));
    ASSERT_ERROR(gm_http_write_field(&out, span(""), span("v")), GM_HTTP_E_OUT_UNSAFE,
                 "empty name");
    gm_http_out_init(&out, buf, sizeof(buf));
    ASSERT_ERROR(gm_http_write_field(&out, span("a:b"), span("v")), GM_HTTP_E_OUT_UNSAFE, "colon");
    gm_http_out_init(&out, buf, sizeof(buf));
    ASSERT_ERROR(gm_http_write_request_line(&out, span("GET"), span(""), span(""), 1),
                 GM_HTTP_E_OUT_UNSAFE, "empty");
    gm_http_out_init(&out, buf, sizeof(buf));
    ASSERT_ERROR(gm_http_write_request_line(&out, span("GET"), span(""), span("/a b"), 1),
                 GM_HTTP_E_OUT_UNSAFE, "space");
    static const unsigned statuses[] = {0, 99, 1000, 4294967295u};
    for (size_t i = 0; i < 4; i++) {
        gm_http_out_init(&out, buf, sizeof(buf));
        ASSERT_ERROR(gm_http_write_status_line(&out, 1, statuses[i], span("OK")),
                     GM_HTTP_E_OUT_UNSAFE, "status");
    }
    gm_http_out_init(&out, buf, sizeof(buf));
    ASSERT_ERROR(gm_http_write_status_line(&out, 2, 200, span("OK")), GM_HTTP_E_OUT_UNSAFE,
                 "version");
    gm_http_out_init(&out, buf, sizeof(buf));
    ASSERT_ERROR(gm_http_write_request_line(&out, span("GET"), span(""), span("/"), 2),
                 GM_HTTP_E_OUT_UNSAFE, "version");
}

/* With every capacity too small the result is an error and whole lines only; with enough it is the
 * head. */
Test(writer, never_writes_past_its_capacity)
{
    const char *want = "HTTP/1.1 200 OK\r\nA: b\r\nC: 12\r\n\r\n";
    for (size_t cap = 0; cap <= strlen(want); cap++) {
        char *buf = malloc(cap + (cap == 0));
        struct gm_http_out out;
        gm_http_out_init(&out, buf, cap);
        (void)gm_http_write_status_line(&out, 1, 200, span(""));
        (void)gm_http_write_field(&out, span("A"), span("b"));
        (void)gm_http_write_field_u64(&out, span("C"), 12);
        int r = gm_http_write_end(&out);
        cr_assert_eq(r, cap < strlen(want) ? -GM_HTTP_E_OUT_SPACE : 0);
        cr_assert(out.len <= cap && memcmp(buf, want, out.len) == 0);
        cr_assert(out.len == 0 || buf[out.len - 1] == '\n');
        free(buf);
    }
    struct gm_http_out out;
    gm_http_out_init(&out, NULL, 0);
    cr_assert_eq(gm_http_write_request_line(&out, span("GET"), span(""), span("/"), 0),
                 -GM_HTTP_E_OUT_SPACE);
}

/* parse ∘ write ∘ parse = parse, on heads that have no optional white space to lose. */
Test(writer, parser_reads_what_was_written)
{
    static const char *const heads[] = {
        "GET /a//b?c HTTP/1.1\r\nHost: a\r\nX-B: c d\r\nx-b: \xff\r\nEmpty: \r\n\r\n",
        "QUERY http://h:1/ HTTP/1.0\r\nTE: trailers\r\n\r\n",
        "CONNECT [::1]:1 HTTP/1.1\r\nHost: x\r\nConnection: a\r\nA: 1\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        struct parsed_request t;
        char buf[256];
        struct gm_http_out out;
        parse_request(&t, heads[i], strlen(heads[i]));
        cr_assert(t.result > 0);
        gm_http_out_init(&out, buf, sizeof(buf));
        (void)gm_http_write_request_line(&out, t.req.method, span(""), t.req.target,
                                         t.req.framing.version_minor);
        (void)gm_http_write_fields(&out, &t.req.fields, 0);
        cr_assert_eq(gm_http_write_end(&out), 0);
        ASSERT_SPAN(((struct gm_http_span){buf, out.len}), heads[i]);
        free(t.copy);
    }
}

Test(writer, fields_are_skipped_by_flag)
{
    struct parsed_request t;
    char buf[128];
    struct gm_http_out out;
    const char *text =
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: X\r\nX: 1\r\nY: 2\r\nUpgrade: z\r\n\r\n";
    parse_request(&t, text, strlen(text));
    gm_http_out_init(&out, buf, sizeof(buf));
    cr_assert_eq(
        gm_http_write_fields(&out, &t.req.fields, GM_HTTP_FIELD_HOP | GM_HTTP_FIELD_DERIVED), 0);
    ASSERT_SPAN(((struct gm_http_span){buf, out.len}), "Y: 2\r\n");
    gm_http_out_init(&out, buf, 20);
    cr_assert_eq(gm_http_write_fields(&out, &t.req.fields, 0), -GM_HTTP_E_OUT_SPACE);
    ASSERT_SPAN(((struct gm_http_span){buf, out.len}), "Host: a\r\n");
    free(t.copy);
}

Test(writer, numbers)
{
    static const uint64_t values[] = {0, 9, 10, 99, 100, 12345678901234567890u, UINT64_MAX};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char out[GM_HTTP_U64_MAX_LEN], want[32];
        size_t len = gm_http_format_u64(out, values[i]);
        snprintf(want, sizeof(want), "%llu", (unsigned long long)values[i]);
        ASSERT_SPAN(((struct gm_http_span){out, len}), want);
    }
}

/* Every day of the years 0 to 9999, at changing times of day, against the C library. */
Test(writer, dates_against_the_c_library)
{
    char out[GM_HTTP_DATE_LEN], want[64];
    gm_http_format_date(out, 784111777);
    ASSERT_SPAN(((struct gm_http_span){out, sizeof(out)}), "Sun, 06 Nov 1994 08:49:37 GMT");
    int64_t first = -62167219200, last = 253402300799;
    for (int64_t t = first; t <= last; t += 86400 + 3607) {
        time_t seconds = (time_t)t;
        struct tm tm;
        gmtime_r(&seconds, &tm);
        size_t n = strftime(want, 8, "%a, ", &tm);
        n += (size_t)snprintf(want + n, sizeof(want) - n, "%02d ", tm.tm_mday);
        n += strftime(want + n, sizeof(want) - n, "%b ", &tm);
        snprintf(want + n, sizeof(want) - n, "%04d %02d:%02d:%02d GMT", tm.tm_year + 1900,
                 tm.tm_hour, tm.tm_min, tm.tm_sec);
        gm_http_format_date(out, t);
        cr_assert(span_is((struct gm_http_span){out, sizeof(out)}, want), "%lld: %.29s, not %s",
                  (long long)t, out, want);
    }
    gm_http_format_date(out, INT64_MAX);
    ASSERT_SPAN(((struct gm_http_span){out, sizeof(out)}), "Fri, 31 Dec 9999 23:59:59 GMT");
    gm_http_format_date(out, INT64_MIN);
    ASSERT_SPAN(((struct gm_http_span){out, sizeof(out)}), "Sat, 01 Jan 0000 00:00:00 GMT");
}

Test(writer, reasons)
{
    ASSERT_SPAN(gm_http_reason(100), "Continue");
    ASSERT_SPAN(gm_http_reason(511), "Network Authentication Required");
    ASSERT_SPAN(gm_http_reason(503), "Service Unavailable");
    ASSERT_SPAN(gm_http_reason(0), "");
    ASSERT_SPAN(gm_http_reason(418), "");
    ASSERT_SPAN(gm_http_reason(999), "");
    /* The table is searched by halves: were it out of order some row would not be found. */
    unsigned known = 0;
    for (unsigned status = 100; status < 1000; status++)
        known += gm_http_reason(status).len > 0;
    cr_assert_eq(known, 61, "%u", known);
    for (int e = GM_HTTP_E_FIRST + 1; e < GM_HTTP_E_END; e++)
        cr_assert(gm_http_reason((unsigned)gm_http_error_status(e)).len > 0);
}
