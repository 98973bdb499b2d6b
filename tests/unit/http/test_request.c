/*
 * Requests: what is accepted and what it means; one bad example or more per error; smuggling; cuts
 * at every byte.
 */
#include "util.h"

#define H   "Host: a\r\n"
#define END "\r\n"

struct bad {
    const char *text;
    size_t len;
    enum gm_http_error error;
};
#define BAD(text, error)                                                                           \
    {                                                                                              \
        (text), sizeof(text) - 1, GM_HTTP_E_##error                                                \
    }

static const struct bad bad_requests[] = {
    /* Line ends. */
    BAD("GET / HTTP/1.1\nHost: a\n\n", BARE_LF),
    BAD("GET / HTTP/1.1\r\nHost: a\n\r\n", BARE_LF),
    BAD("GET / HTTP/1.1\r\nHost: a\r\n\n", BARE_LF),
    BAD("GET / HTTP/1.1\r\n" H "X: a\rb\r\n\r\n", BARE_CR),
    BAD("GET / HTTP/1.1\r\n" H "X: a\r\r\n\r\n", BARE_CR),
    BAD("GET / HTTP/1.1\rHost: a\r\n\r\n", BARE_CR),
    BAD("GET / HTTP/1.1\r\n" H "X\r: b\r\n\r\n", BARE_CR),
    BAD("GET / HTTP/1.1\r\n" H "\rX: b\r\n\r\n", BARE_CR),
    BAD("GET / HTTP/1.1\r\n" H "X\n\r\n", BARE_LF),
    BAD("GET\n", BARE_LF),
    BAD("GET /\n", BARE_LF),
    BAD("GET\rX / HTTP/1.1\r\n", BARE_CR),
    BAD("GET /\rX HTTP/1.1\r\n", BARE_CR),
    BAD("\nGET / HTTP/1.1\r\n" H END, BARE_LF),
    BAD("\rGET / HTTP/1.1\r\n" H END, BARE_CR),
    BAD("\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n" H END, LEADING_LINES),
    /* Request line. */
    BAD("\x16\x03\x01\x02", METHOD),
    BAD(" GET / HTTP/1.1\r\n" H END, METHOD),
    BAD("G(T / HTTP/1.1\r\n" H END, METHOD),
    BAD("GET\t/ HTTP/1.1\r\n" H END, METHOD),
    BAD("G\0T / HTTP/1.1\r\n" H END, METHOD),
    BAD("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456 / HTTP/1.1\r\n" H END, METHOD_TOO_LONG),
    BAD("GET\r\n" H END, REQUEST_LINE),
    BAD("GET /\r\n" H END, REQUEST_LINE),
    BAD("GET \r\n" H END, REQUEST_LINE),
    BAD("GET  / HTTP/1.1\r\n" H END, REQUEST_LINE),
    BAD("GET /  HTTP/1.1\r\n" H END, VERSION),
    BAD("GET / HTTP/1.1 \r\n" H END, REQUEST_LINE),
    BAD("GET / HTTP/1.10\r\n" H END, REQUEST_LINE),
    BAD("GET / x HTTP/1.1\r\n" H END, VERSION),
    BAD("GET / HTTP/1.1\n" H END, BARE_LF),
    BAD("GET / HTTP\r\n", VERSION),
    BAD("GET / http/1.1\r\n" H END, VERSION),
    BAD("GET / HTTP/11.\r\n" H END, VERSION),
    BAD("GET / HTTP/x.1\r\n" H END, VERSION),
    BAD("GET / HTTP/1.x\r\n" H END, VERSION),
    BAD("GET / HTTP/1.2\r\n" H END, VERSION_UNSUPPORTED),
    BAD("GET / HTTP/0.9\r\n" H END, VERSION_UNSUPPORTED),
    BAD("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", VERSION_UNSUPPORTED),
    /* Target. */
    BAD("GET /a\x01 HTTP/1.1\r\n" H END, TARGET),
    BAD("GET /a\x7f HTTP/1.1\r\n" H END, TARGET),
    BAD("GET /a\tb HTTP/1.1\r\n" H END, TARGET),
    BAD("GET /\xc3\xa4 HTTP/1.1\r\n" H END, TARGET),
    BAD("GET /a#b HTTP/1.1\r\n" H END, TARGET),
    BAD("GET /a% HTTP/1.1\r\n" H END, TARGET),
    BAD("GET /a%4 HTTP/1.1\r\n" H END, TARGET),
    BAD("GET /a%4g?x HTTP/1.1\r\n" H END, TARGET),
    BAD("GET /a%g4 HTTP/1.1\r\n" H END, TARGET),
    BAD("GET a HTTP/1.1\r\n" H END, TARGET),
    BAD("GET http:/a HTTP/1.1\r\n" H END, TARGET),
    BAD("GET http: HTTP/1.1\r\n" H END, TARGET),
    BAD("GET http://a%zz/ HTTP/1.1\r\n" H END, TARGET),
    BAD("GET http:///x HTTP/1.1\r\n" H END, TARGET),
    BAD("GET http://u@h/x HTTP/1.1\r\n" H END, TARGET),
    BAD("GET http://h:99999/x HTTP/1.1\r\n" H END, TARGET),
    BAD("GET http://h/%x HTTP/1.1\r\n" H END, TARGET),
    BAD("GET ftp://h/x HTTP/1.1\r\n" H END, TARGET),
    BAD("GET a:80 HTTP/1.1\r\n" H END, TARGET),
    BAD("GET * HTTP/1.1\r\n" H END, TARGET_FORM),
    BAD("CONNECT / HTTP/1.1\r\n" H END, TARGET_FORM),
    BAD("CONNECT a HTTP/1.1\r\n" H END, TARGET_FORM),
    BAD("CONNECT a: HTTP/1.1\r\n" H END, TARGET_FORM),
    BAD("CONNECT http://a:1/ HTTP/1.1\r\n" H END, TARGET_FORM),
    /* Field lines. */
    BAD("GET / HTTP/1.1\r\n" H "X : b\r\n\r\n", FIELD_NAME_SPACE),
    BAD("GET / HTTP/1.1\r\n" H "Content-Length\t: 3\r\n\r\n", FIELD_NAME_SPACE),
    BAD("GET / HTTP/1.1\r\n" H "X y: b\r\n\r\n", FIELD_NAME),
    BAD("GET / HTTP/1.1\r\n" H "X \r\n\r\n", FIELD_NAME),
    BAD("GET / HTTP/1.1\r\n" H ": b\r\n\r\n", FIELD_NAME),
    BAD("GET / HTTP/1.1\r\n" H "X(: b\r\n\r\n", FIELD_NAME),
    BAD("GET / HTTP/1.1\r\n" H "X\x80: b\r\n\r\n", FIELD_NAME),
    BAD("GET / HTTP/1.1\r\n" H "X\0: b\r\n\r\n", FIELD_NAME),
    BAD("GET / HTTP/1.1\r\n" H "Content\rLength: 1\r\n\r\n", BARE_CR),
    BAD("GET / HTTP/1.1\r\n" H "Content\x0dLength: 1\r\nMore-Of-It: 0123456789abcdef\r\n\r\n",
        BARE_CR),
    BAD("GET / HTTP/1.1\r\n" H "X\r\n\r\n", FIELD_NO_COLON),
    BAD("GET / HTTP/1.1\r\n" H "X\r\nY: 0123456789 0123456789 0123456789\r\n\r\n", FIELD_NO_COLON),
    BAD("GET / HTTP/1.1\r\n Host: a\r\n\r\n", FIELD_FOLD),
    BAD("GET / HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n", FIELD_FOLD),
    BAD("GET / HTTP/1.1\r\n" H "X: a\r\n\tb: c\r\n\r\n", FIELD_FOLD),
    BAD("GET / HTTP/1.1\r\n" H "X: a\r\n \r\n\r\n", FIELD_FOLD),
    BAD("GET / HTTP/1.1\r\n" H "X: a\0b\r\n\r\n", FIELD_VALUE),
    BAD("GET / HTTP/1.1\r\n" H "X: a\x0b\r\n\r\n", FIELD_VALUE),
    BAD("GET / HTTP/1.1\r\n" H "X: a\x7f\r\n\r\n", FIELD_VALUE),
    BAD("GET / HTTP/1.1\r\n" H "X: 0123456789abcdef0123456789\x01\r\n\r\n", FIELD_VALUE),
    /* Host. */
    BAD("GET / HTTP/1.1\r\n\r\n", HOST_MISSING),
    BAD("GET http://a/ HTTP/1.1\r\n\r\n", HOST_MISSING),
    BAD("GET / HTTP/1.1\r\n" H "hOST: a\r\n\r\n", HOST_DUPLICATE),
    BAD("GET / HTTP/1.0\r\n" H H "\r\n", HOST_DUPLICATE),
    BAD("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", HOST_INVALID),
    BAD("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", HOST_INVALID),
    BAD("GET / HTTP/1.1\r\nHost: u@b\r\n\r\n", HOST_INVALID),
    BAD("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", HOST_INVALID),
    BAD("GET / HTTP/1.1\r\nHost: a:0\r\n\r\n", HOST_INVALID),
    BAD("GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", HOST_INVALID),
    BAD("GET / HTTP/1.1\r\nHost: :80\r\n\r\n", HOST_INVALID),
    BAD("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", HOST_INVALID),
    BAD("GET / HTTP/1.1\r\nHost: [1]\r\n\r\n", HOST_INVALID),
    BAD("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", HOST_INVALID),
    BAD("GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n", HOST_INVALID),
    BAD("GET / HTTP/1.1\r\nHost: a%2\r\n\r\n", HOST_INVALID),
    BAD("GET / HTTP/1.1\r\nHost: a%x2\r\n\r\n", HOST_INVALID),
    BAD("GET / HTTP/1.1\r\nHost: a%2x\r\n\r\n", HOST_INVALID),
    BAD("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", HOST_INVALID),
    /* Framing. */
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: \r\n\r\n", LENGTH_INVALID),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: +1\r\n\r\n", LENGTH_INVALID),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n", LENGTH_INVALID),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: 0x10\r\n\r\n", LENGTH_INVALID),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: 1 2\r\n\r\n", LENGTH_INVALID),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: 9223372036854775808\r\n\r\n", LENGTH_INVALID),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", LENGTH_INVALID),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551617\r\n\r\n", LENGTH_INVALID),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\n", LENGTH_DUPLICATE),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", LENGTH_DUPLICATE),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\ncontent-length: 6\r\n\r\n", LENGTH_DUPLICATE),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        LENGTH_AND_CODING),
    BAD("POST / HTTP/1.1\r\n" H "transfer-encoding: x\r\nContent-Length: 5\r\n\r\n",
        LENGTH_AND_CODING),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: \r\nContent-Length: 5\r\n\r\n",
        LENGTH_AND_CODING),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        CODING_INVALID),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-encoding: identity\r\n\r\n",
        CODING_INVALID),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, chunked\r\n\r\n", CODING_INVALID),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, gzip\r\n\r\n", CODING_INVALID),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked;q=1\r\n\r\n", CODING_INVALID),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: \"chunked\"\r\n\r\n", CODING_INVALID),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n", CODING_INVALID),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: ,\r\n\r\n", CODING_INVALID),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", CODING_UNKNOWN),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n", CODING_UNKNOWN),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n", CODING_UNKNOWN),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: \x0b"
        "chunked\r\n\r\n",
        FIELD_VALUE),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding : chunked\r\n\r\n", FIELD_NAME_SPACE),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding\r\n : chunked\r\n\r\n", FIELD_NO_COLON),
    BAD("POST / HTTP/1.1\r\n" H "Transfer\rEncoding: chunked\r\n\r\n", BARE_CR),
    BAD("POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n", CODING_VERSION),
    BAD("CONNECT a:1 HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\n", BODY_FORBIDDEN),
    BAD("TRACE / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n", BODY_FORBIDDEN),
    /* The rest. */
    BAD("GET / HTTP/1.1\r\n" H "Connection: close x\r\n\r\n", CONNECTION_INVALID),
    BAD("GET / HTTP/1.1\r\n" H "Connection: host\r\n\r\n", CONNECTION_INVALID),
    BAD("GET / HTTP/1.1\r\n" H "Connection: close, Content-Length\r\n\r\n", CONNECTION_INVALID),
    BAD("GET / HTTP/1.1\r\n" H "Connection: a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a\r\n"
        "Connection: a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a\r\n\r\n",
        CONNECTION_INVALID),
    BAD("GET / HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: a b\r\n\r\n", UPGRADE_INVALID),
    BAD("GET / HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: a/\r\n\r\n", UPGRADE_INVALID),
    BAD("GET / HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: /a\r\n\r\n", UPGRADE_INVALID),
    BAD("GET / HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade:\r\n\r\n", UPGRADE_INVALID),
    BAD("GET / HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n\r\n",
        UPGRADE_INVALID),
    BAD("POST / HTTP/1.1\r\n" H "Expect: 200-ok\r\n\r\n", EXPECT_UNKNOWN),
    BAD("POST / HTTP/1.1\r\n" H "Expect: 100-continue\r\nExpect: 100-continue\r\n\r\n",
        EXPECT_UNKNOWN),
    BAD("GET / HTTP/1.1\r\n" H "Authorization: a\r\nAuthorization: b\r\n\r\n",
        CREDENTIAL_DUPLICATE),
    BAD("GET / HTTP/1.1\r\n" H "Proxy-Authorization: a\r\nproxy-authorization: a\r\n\r\n",
        CREDENTIAL_DUPLICATE),
};

#define BAD_COUNT (sizeof(bad_requests) / sizeof(bad_requests[0]))

Test(request, bad_is_refused_with_its_error)
{
    for (size_t i = 0; i < BAD_COUNT; i++) {
        struct parsed_request t;
        parse_request(&t, bad_requests[i].text, bad_requests[i].len);
        ASSERT_ERROR(t.result, bad_requests[i].error, bad_requests[i].text);
        free(t.copy);
    }
}

Test(request, bad_is_refused_alike_at_every_cut)
{
    for (size_t i = 0; i < BAD_COUNT; i++) {
        const struct bad *b = &bad_requests[i];
        for (size_t cut = 0; cut <= b->len; cut++)
            ASSERT_ERROR(request_split(b->text, b->len, cut), b->error, b->text);
        ASSERT_ERROR(request_dripped(b->text, b->len), b->error, b->text);
    }
}

/* Every error of the table that a request can meet has an example above (or a test of its own
 * below). */
Test(request, every_request_error_has_an_example)
{
    static const enum gm_http_error elsewhere[] = {GM_HTTP_E_TARGET_TOO_LONG,
                                                   GM_HTTP_E_FIELD_TOO_MANY,
                                                   GM_HTTP_E_HEAD_TOO_LARGE, GM_HTTP_E_STATUS_LINE};
    for (int e = GM_HTTP_E_BARE_CR; e < GM_HTTP_E_CHUNK_SIZE; e++) {
        bool found = false;
        for (size_t i = 0; i < BAD_COUNT; i++)
            found = found || (int)bad_requests[i].error == e;
        for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++)
            found = found || (int)elsewhere[i] == e;
        cr_assert(found, "%s has no example", gm_http_error_name(e));
    }
}

static const char *const good_requests[] = {
    "GET / HTTP/1.1\r\n" H END,
    "\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n" H END,
    "GET / HTTP/1.0\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\n" H END,
    "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
    "CONNECT [::1]:443 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "GET http://h HTTP/1.1\r\n" H END,
    "GET HTTPS://h:8080?q=/ HTTP/1.1\r\n" H END,
    "GET http://h: HTTP/1.1\r\n" H END,
    "M-SEARCH!#$%&'*+-.^_`|~ /\"<>\\^`{|}[]:@ HTTP/1.1\r\n" H END,
    "GET //a//b/../c%2F%00?%zz%&? HTTP/1.1\r\nHost:\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a%2Db_c~!$&'()*+,;=:\r\n\r\n",
    "GET / HTTP/1.1\r\n" H "X:\r\nY: \t \r\nZ: \xff\x80\tz \t\r\n\r\n",
    "POST / HTTP/1.1\r\n" H "Content-Length: 000000000000000000000000012\r\n\r\n",
    "POST / HTTP/1.1\r\n" H "Content-Length: 9223372036854775807\r\n\r\n",
    "POST / HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\nExpect: 100-Continue\r\n\r\n",
    "GET / HTTP/1.1\r\n" H "Connection: , ,\r\nTE: trailers\r\n\r\n",
    "GET /chat HTTP/1.1\r\n" H "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\n",
    "GET / HTTP/1.1\r\n" H "Upgrade: a b\r\n\r\n", /* without Connection: upgrade it says nothing */
    "GET / HTTP/1.0\r\nExpect: nonsense\r\nConnection: keep-alive\r\n\r\n",
};

#define GOOD_COUNT (sizeof(good_requests) / sizeof(good_requests[0]))

Test(request, good_is_complete_exactly_at_its_last_byte)
{
    for (size_t i = 0; i < GOOD_COUNT; i++) {
        const char *text = good_requests[i];
        size_t len = strlen(text);
        for (size_t cut = 0; cut <= len; cut++) {
            struct parsed_request t;
            parse_request(&t, text, cut);
            cr_assert_eq(t.result, cut < len ? 0 : (int)len, "%s at %zu: %s", text, cut,
                         gm_http_error_name(t.result));
            free(t.copy);
            cr_assert_eq(request_split(text, len, cut), (int)len);
        }
        cr_assert_eq(request_dripped(text, len), (int)len);
    }
}

Test(request, what_follows_the_head_is_left_alone)
{
    struct parsed_request t;
    const char text[] = "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\n\0\n\rGET";
    parse_request(&t, text, sizeof(text) - 1);
    cr_assert_eq(t.result, (int)sizeof(text) - 1 - 6);
    cr_assert_eq(t.req.framing.body, GM_HTTP_BODY_LENGTH);
    cr_assert_eq(t.req.framing.length, 3);
    free(t.copy);
}

Test(request, origin_form)
{
    struct parsed_request t;
    const char *text =
        "PATCH /a%20b//c?x=1?y HTTP/1.1\r\nHOST: Ex.Ample:81 \r\nX-Odd:  v 1\t\r\ncookie:a\r\n\r\n";
    parse_request(&t, text, strlen(text));
    cr_assert_eq(t.result, (int)strlen(text));
    cr_assert_eq(t.req.form, GM_HTTP_FORM_ORIGIN);
    cr_assert_eq(t.req.method_id, GM_HTTP_PATCH);
    ASSERT_SPAN(t.req.method, "PATCH");
    ASSERT_SPAN(t.req.target, "/a%20b//c?x=1?y");
    ASSERT_SPAN(t.req.path, "/a%20b//c");
    ASSERT_SPAN(t.req.query, "?x=1?y");
    ASSERT_SPAN(t.req.scheme, "");
    ASSERT_SPAN(t.req.authority, "");
    ASSERT_SPAN(t.req.host, "Ex.Ample:81");
    cr_assert_eq(t.req.fields.count, 3);
    ASSERT_SPAN(gm_http_field_name(&t.fields[0]), "HOST");
    ASSERT_SPAN(gm_http_field_name(&t.fields[1]), "X-Odd");
    ASSERT_SPAN(gm_http_field_value(&t.fields[1]), "v 1");
    ASSERT_SPAN(gm_http_field_value(&t.fields[2]), "a");
    cr_assert_eq(t.fields[0].id, GM_HTTP_ID_HOST);
    cr_assert_eq(t.fields[0].flags, GM_HTTP_FIELD_DERIVED);
    cr_assert_eq(t.fields[1].id, GM_HTTP_ID_OTHER);
    cr_assert_eq(t.fields[2].id, GM_HTTP_ID_COOKIE);
    cr_assert_eq(t.req.framing.body, GM_HTTP_BODY_NONE);
    cr_assert(t.req.framing.keep_alive);
    cr_assert_eq(t.req.framing.version_minor, 1);
    free(t.copy);
}

Test(request, other_forms_and_the_host_they_name)
{
    struct parsed_request t;
    const char *text = "GET hTTp://b.example:8?x HTTP/1.1\r\nHost: a\r\n\r\n";
    parse_request(&t, text, strlen(text));
    cr_assert_eq(t.req.form, GM_HTTP_FORM_ABSOLUTE);
    ASSERT_SPAN(t.req.scheme, "hTTp");
    ASSERT_SPAN(t.req.authority, "b.example:8");
    ASSERT_SPAN(t.req.host, "b.example:8");
    ASSERT_SPAN(t.req.path, "");
    ASSERT_SPAN(t.req.query, "?x");
    free(t.copy);

    text = "CONNECT c:1 HTTP/1.1\r\nHost: a\r\n\r\n";
    parse_request(&t, text, strlen(text));
    cr_assert_eq(t.req.form, GM_HTTP_FORM_AUTHORITY);
    ASSERT_SPAN(t.req.host, "c:1");
    free(t.copy);

    text = "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n";
    parse_request(&t, text, strlen(text));
    cr_assert_eq(t.req.form, GM_HTTP_FORM_ASTERISK);
    ASSERT_SPAN(t.req.host, "a");
    ASSERT_SPAN(t.req.path, "");
    free(t.copy);

    text = "GET / HTTP/1.0\r\n\r\n";
    parse_request(&t, text, strlen(text));
    ASSERT_SPAN(t.req.host, "");
    cr_assert_eq(t.req.framing.version_minor, 0);
    free(t.copy);
}

static struct gm_http_framing framing_of(const char *text)
{
    struct parsed_request t;
    parse_request(&t, text, strlen(text));
    cr_assert_eq(t.result, (int)strlen(text), "%s: %s", text, gm_http_error_name(t.result));
    free(t.copy);
    return t.req.framing;
}

Test(request, keep_alive)
{
    cr_assert(framing_of("GET / HTTP/1.1\r\n" H END).keep_alive);
    cr_assert(!framing_of("GET / HTTP/1.1\r\n" H "Connection: x, CLOSE\r\n\r\n").keep_alive);
    cr_assert(
        !framing_of("GET / HTTP/1.1\r\n" H "Connection: keep-alive\r\nConnection: close\r\n\r\n")
             .keep_alive);
    cr_assert(!framing_of("GET / HTTP/1.0\r\n\r\n").keep_alive);
    cr_assert(framing_of("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
    cr_assert(!framing_of("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n").keep_alive);
    cr_assert(!framing_of("GET / HTTP/1.0\r\nProxy-Connection: keep-alive\r\n\r\n").keep_alive);
}

Test(request, bodies_and_expectations)
{
    struct gm_http_framing f =
        framing_of("GET / HTTP/1.1\r\n" H "Content-Length: 0\r\nExpect: 100-continue\r\n\r\n");
    cr_assert(f.has_length && f.body == GM_HTTP_BODY_LENGTH && f.length == 0 && !f.expect_continue);
    f = framing_of("PUT / HTTP/1.1\r\n" H
                   "Content-Length: 9223372036854775807\r\nExpect: 100-continue\r\n\r\n");
    cr_assert(f.length == INT64_MAX && f.expect_continue);
    f = framing_of("PUT / HTTP/1.0\r\n" H
                   "Content-Length: 5\r\nExpect: 100-continue\r\nTE: trailers\r\n\r\n");
    cr_assert(f.length == 5 && !f.expect_continue && !f.te_trailers);
    f = framing_of("PUT / HTTP/1.1\r\n" H
                   "Transfer-Encoding: ChunKed\r\nExpect: 100-continue\r\n\r\n");
    cr_assert(f.body == GM_HTTP_BODY_CHUNKED && !f.has_length && f.length == 0 &&
              f.expect_continue);
    f = framing_of("GET / HTTP/1.1\r\n" H
                   "TE: gzip\r\nTE: deflate, Trailers\r\nConnection: TE\r\n\r\n");
    cr_assert(f.te_trailers && f.body == GM_HTTP_BODY_NONE);
    cr_assert(!framing_of("GET / HTTP/1.1\r\n" H "TE: trailersx\r\n\r\n").te_trailers);
}

Test(request, upgrade)
{
    struct parsed_request t;
    const char *text =
        "GET / HTTP/1.1\r\n" H "Connection: UPGRADE\r\nUpgrade: WebSocket, x/2\r\n\r\n";
    parse_request(&t, text, strlen(text));
    cr_assert_eq(t.req.framing.upgrade, GM_HTTP_UPGRADE_WEBSOCKET);
    ASSERT_SPAN(t.req.framing.protocol, "WebSocket, x/2");
    free(t.copy);
    cr_assert_eq(
        framing_of("GET / HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: h2c\r\n\r\n").upgrade,
        GM_HTTP_UPGRADE_OTHER);
    cr_assert_eq(framing_of("GET / HTTP/1.1\r\n" H "Upgrade: websocket\r\n\r\n").upgrade,
                 GM_HTTP_UPGRADE_NONE);
    cr_assert_eq(framing_of("GET / HTTP/1.1\r\n" H "Connection: upgrade\r\n\r\n").upgrade,
                 GM_HTTP_UPGRADE_NONE);
    cr_assert_eq(
        framing_of("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").upgrade,
        GM_HTTP_UPGRADE_NONE);
    cr_assert_eq(framing_of("POST / HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: h2c\r\n"
                            "Content-Length: 1\r\n\r\n")
                     .upgrade,
                 GM_HTTP_UPGRADE_NONE);
}

Test(request, hop_by_hop_fields_are_flagged)
{
    struct parsed_request t;
    static const struct {
        const char *name;
        uint8_t flags;
    } want[] = {
        {"Host", GM_HTTP_FIELD_DERIVED},
        {"Connection", GM_HTTP_FIELD_HOP},
        {"X-Mine", GM_HTTP_FIELD_HOP},
        {"x-mine", GM_HTTP_FIELD_HOP},
        {"X-Mined", 0},
        {"Cookie", GM_HTTP_FIELD_HOP},
        {"Keep-Alive", GM_HTTP_FIELD_HOP},
        {"TE", GM_HTTP_FIELD_HOP},
        {"Upgrade", GM_HTTP_FIELD_HOP},
        {"Proxy-Authorization", GM_HTTP_FIELD_HOP},
        {"Proxy-Connection", GM_HTTP_FIELD_HOP},
        {"Transfer-Encoding", GM_HTTP_FIELD_HOP},
        {"Trailer", 0},
        {"Authorization", 0},
    };
    const char *text =
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: x-MINE, cookie,absent , also-absent\r\nX-Mine: "
        "1\r\n"
        "x-mine: 2\r\nX-Mined: 3\r\nCookie: c\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: x\r\n"
        "Proxy-Authorization: p\r\nProxy-Connection: q\r\nTransfer-Encoding: chunked\r\n"
        "Trailer: t\r\nAuthorization: z\r\n\r\n";
    parse_request(&t, text, strlen(text));
    cr_assert_eq(t.req.fields.count, sizeof(want) / sizeof(want[0]));
    for (unsigned i = 0; i < t.req.fields.count; i++) {
        ASSERT_SPAN(gm_http_field_name(&t.fields[i]), want[i].name);
        cr_assert_eq(t.fields[i].flags, want[i].flags, "%s", want[i].name);
    }
    free(t.copy);
}

Test(request, methods)
{
    static const char *const names[] = {"GET",     "HEAD",    "POST",  "PUT",  "DELETE",
                                        "CONNECT", "OPTIONS", "TRACE", "PATCH"};
    static const char idempotent[] = {1, 1, 0, 1, 1, 0, 1, 1, 0};
    for (unsigned i = 0; i < 9; i++) {
        enum gm_http_method m =
            gm_http_method_lookup((struct gm_http_span){names[i], strlen(names[i])});
        cr_assert_eq(m, (enum gm_http_method)(GM_HTTP_GET + i));
        cr_assert_eq(gm_http_method_idempotent(m), idempotent[i]);
    }
    cr_assert_eq(gm_http_method_lookup(GM_HTTP_LIT("get")), GM_HTTP_OTHER);
    cr_assert_eq(gm_http_method_lookup(GM_HTTP_LIT("GETS")), GM_HTTP_OTHER);
    cr_assert(!gm_http_method_idempotent(GM_HTTP_OTHER));
}

/* Verdict with a given limit, at once and dripped; they must agree. */
static int verdict(const char *text, size_t len, uint32_t head_max, uint16_t fields_max)
{
    struct gm_http_field fields[GM_HTTP_FIELDS_MAX];
    struct gm_http_request req;
    size_t scanned = 0;
    int once, drip = 0;
    gm_http_request_init(&req, fields, fields_max, head_max);
    cr_assert_eq(gm_http_parse_request(NULL, 0, &scanned, &req), 0);
    once = gm_http_parse_request(text, len, &scanned, &req);
    scanned = 0;
    for (size_t n = 0; n <= len && drip == 0; n++)
        drip = gm_http_parse_request(text, n, &scanned, &req);
    cr_assert_eq(once, drip, "%d at once, %d byte by byte", once, drip);
    return once;
}

Test(request, limits)
{
    const char *text = "GET /0123456789 HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\n";
    size_t len = strlen(text);
    cr_assert_eq(verdict(text, len, (uint32_t)len, 2), (int)len);
    ASSERT_ERROR(verdict(text, len, (uint32_t)len - 1, 2), GM_HTTP_E_HEAD_TOO_LARGE, text);
    ASSERT_ERROR(verdict(text, len, 26, 2), GM_HTTP_E_HEAD_TOO_LARGE, text);
    ASSERT_ERROR(verdict(text, len, 25, 2), GM_HTTP_E_TARGET_TOO_LONG, text);
    ASSERT_ERROR(verdict(text, len, 2, 2), GM_HTTP_E_TARGET_TOO_LONG, text);
    ASSERT_ERROR(verdict(text, len, (uint32_t)len, 1), GM_HTTP_E_FIELD_TOO_MANY, text);
    ASSERT_ERROR(verdict("\r\n\r\nGET / HTTP/1.1\r\n", 20, 15, 1), GM_HTTP_E_TARGET_TOO_LONG, text);
    /* An error in a complete line comes before the limit, one behind the limit does not count. */
    ASSERT_ERROR(verdict("GET / HTTP/1.1\r\nA b\r\nC: d", 26, 24, 1), GM_HTTP_E_FIELD_NAME, "");
    ASSERT_ERROR(verdict("GET / HTTP/1.1\r\nA b\r\n", 21, 20, 1), GM_HTTP_E_HEAD_TOO_LARGE, "");
}

Test(request, the_longest_value_fits_its_length)
{
    size_t len = GM_HTTP_HEAD_MAX;
    char *text = malloc(len);
    struct parsed_request t;
    memset(text, 'v', len);
    memcpy(text, "GET / HTTP/1.0\r\nX:", 18);
    memcpy(text + len - 4, "\r\n\r\n", 4);
    parse_request(&t, text, len);
    cr_assert_eq(t.result, (int)len);
    cr_assert_eq(t.fields[0].value_len, len - 22);
    free(t.copy);
    free(text);
}

/* A byte-by-byte drip of the largest head costs about as much as one scan of it: no rescans.
 * Quadratic work would be two thousand million byte steps, far beyond the ten seconds allowed even
 * under a sanitizer. */
Test(request, dripping_is_linear, .timeout = 10)
{
    struct gm_http_field fields[1];
    struct gm_http_request req;
    size_t len = GM_HTTP_HEAD_MAX - 1, scanned = 0;
    char *text = malloc(len);
    for (int shape = 0; shape < 3; shape++) {
        memset(text, 'v', len);
        memcpy(text, "GET /v HTTP/1.0\r\nX:", shape == 0 ? 6 : 19);
        for (size_t i = 19; shape == 2 && i + 5 < len; i += 5)
            memcpy(text + i, "\r\nX:v", 5);
        gm_http_request_init(&req, fields, 1, GM_HTTP_HEAD_MAX);
        scanned = 0;
        for (size_t n = 0; n <= len; n++)
            cr_assert_eq(gm_http_parse_request(text, n, &scanned, &req), 0);
        cr_assert_eq(gm_http_parse_request(text, len, &scanned, &req), 0, "nothing new");
        cr_assert_eq(scanned, len);
    }
    free(text);
}
