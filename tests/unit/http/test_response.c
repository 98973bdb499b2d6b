/*
 * Responses: framing by method and status, and what is refused.
 */
#include "util.h"

struct bad {
    const char *text;
    enum gm_http_error error;
};
#define BAD(text, error)                                                                           \
    {                                                                                              \
        (text), GM_HTTP_E_##error                                                                  \
    }

static const struct bad bad_responses[] = {
    BAD("HTP/1.1 200 OK\r\n\r\n", STATUS_LINE),
    BAD("\r\nHTTP/1.1 200 OK\r\n\r\n", STATUS_LINE),
    BAD("HTTP/1.1\r\n\r\n", STATUS_LINE),
    BAD("HTTP/1.1 \r\n\r\n", STATUS_LINE),
    BAD("HTTP/1.1 20\r\n\r\n", STATUS_LINE),
    BAD("HTTP/1.1 2x0 OK\r\n\r\n", STATUS_LINE),
    BAD("HTTP/1.1 099 OK\r\n\r\n", STATUS_LINE),
    BAD("HTTP/1.1 2000 OK\r\n\r\n", STATUS_LINE),
    BAD("HTTP/1.1 200\tOK\r\n\r\n", STATUS_LINE),
    BAD("HTTP/1.1  200 OK\r\n\r\n", STATUS_LINE),
    BAD("HTTP/1.1 200 O\x01K\r\n\r\n", STATUS_LINE),
    BAD("HTTP/2.0 200 OK\r\n\r\n", VERSION_UNSUPPORTED),
    BAD("HTTP/1.1 200 OK\n\r\n", BARE_LF),
    BAD("HTTP/1.1 200\n", BARE_LF),
    BAD("HTTP/1.1 2\n", BARE_LF),
    BAD("HTTP/1.1\n", BARE_LF),
    BAD("HTTP/1.1 200 O\rK\r\n\r\n", BARE_CR),
    BAD("HTTP/1.1 200\rK\r\n\r\n", BARE_CR),
    BAD("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", FIELD_FOLD),
    BAD("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", FIELD_NAME_SPACE),
    BAD("HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", BARE_LF),
    BAD("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        LENGTH_AND_CODING),
    BAD("HTTP/1.1 204 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        LENGTH_AND_CODING),
    BAD("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", LENGTH_DUPLICATE),
    BAD("HTTP/1.1 200 OK\r\nContent-Length: 1,1\r\n\r\n", LENGTH_DUPLICATE),
    BAD("HTTP/1.1 304 OK\r\nContent-Length: a\r\n\r\n", LENGTH_INVALID),
    BAD("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", CODING_UNKNOWN),
    BAD("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", CODING_INVALID),
    BAD("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CODING_VERSION),
    BAD("HTTP/1.1 200 OK\r\nConnection: a b\r\n\r\n", CONNECTION_INVALID),
    BAD("HTTP/1.1 101 OK\r\n\r\n", UPGRADE_INVALID),
    BAD("HTTP/1.1 101 OK\r\nUpgrade: a\r\nUpgrade: a\r\n\r\n", UPGRADE_INVALID),
};

Test(response, bad_is_refused_alike_at_every_cut)
{
    for (size_t i = 0; i < sizeof(bad_responses) / sizeof(bad_responses[0]); i++) {
        const struct bad *b = &bad_responses[i];
        struct parsed_response t;
        parse_response(&t, b->text, GM_HTTP_GET);
        ASSERT_ERROR(t.result, b->error, b->text);
        free(t.copy);
        for (size_t cut = 0; cut <= strlen(b->text); cut++)
            ASSERT_ERROR(response_split(b->text, strlen(b->text), cut), b->error, b->text);
    }
}

struct good {
    const char *text;
    enum gm_http_method method;
    enum gm_http_body body;
    uint64_t length;
    bool has_length, keep_alive;
};

static const struct good good_responses[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", GM_HTTP_GET, GM_HTTP_BODY_LENGTH, 12, true,
     true},
    {"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", GM_HTTP_GET, GM_HTTP_BODY_LENGTH, 0, true, true},
    {"HTTP/1.1 999\r\nTransfer-Encoding: chunked\r\n\r\n", GM_HTTP_POST, GM_HTTP_BODY_CHUNKED, 0,
     false, true},
    {"HTTP/1.1 200 a \xff\tb \r\n\r\n", GM_HTTP_GET, GM_HTTP_BODY_UNTIL_CLOSE, 0, false, false},
    {"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", GM_HTTP_GET, GM_HTTP_BODY_LENGTH, 3, true,
     false},
    {"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n", GM_HTTP_GET,
     GM_HTTP_BODY_LENGTH, 3, true, true},
    {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n", GM_HTTP_GET,
     GM_HTTP_BODY_LENGTH, 3, true, false},
    {"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", GM_HTTP_HEAD, GM_HTTP_BODY_NONE, 12, true,
     true},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", GM_HTTP_HEAD, GM_HTTP_BODY_NONE, 0,
     false, true},
    {"HTTP/1.1 404 OK\r\n\r\n", GM_HTTP_HEAD, GM_HTTP_BODY_NONE, 0, false, true},
    {"HTTP/1.1 304 OK\r\nContent-Length: 12\r\n\r\n", GM_HTTP_GET, GM_HTTP_BODY_NONE, 12, true,
     true},
    {"HTTP/1.1 204 OK\r\n\r\n", GM_HTTP_GET, GM_HTTP_BODY_NONE, 0, false, true},
    {"HTTP/1.1 204 OK\r\nContent-Length: 0\r\n\r\n", GM_HTTP_GET, GM_HTTP_BODY_NONE, 0, true, true},
    {"HTTP/1.1 204 OK\r\nContent-Length: 7\r\n\r\n", GM_HTTP_GET, GM_HTTP_BODY_NONE, 0, true,
     false},
    {"HTTP/1.1 204 OK\r\nTransfer-Encoding: chunked\r\n\r\n", GM_HTTP_GET, GM_HTTP_BODY_NONE, 0,
     false, false},
    {"HTTP/1.1 100 Continue\r\n\r\n", GM_HTTP_POST, GM_HTTP_BODY_NONE, 0, false, true},
    {"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", GM_HTTP_HEAD, GM_HTTP_BODY_NONE, 0, false,
     true},
    {"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", GM_HTTP_GET,
     GM_HTTP_BODY_TUNNEL, 0, false, false},
    {"HTTP/1.1 200 OK\r\n\r\n", GM_HTTP_CONNECT, GM_HTTP_BODY_TUNNEL, 0, false, false},
    {"HTTP/1.1 204 OK\r\nContent-Length: 5\r\n\r\n", GM_HTTP_CONNECT, GM_HTTP_BODY_TUNNEL, 0, true,
     false},
    {"HTTP/1.1 407 No\r\nContent-Length: 5\r\n\r\n", GM_HTTP_CONNECT, GM_HTTP_BODY_LENGTH, 5, true,
     true},
};

Test(response, framing)
{
    for (size_t i = 0; i < sizeof(good_responses) / sizeof(good_responses[0]); i++) {
        const struct good *g = &good_responses[i];
        struct parsed_response t;
        parse_response(&t, g->text, g->method);
        cr_assert_eq(t.result, (int)strlen(g->text), "%s: %s", g->text,
                     gm_http_error_name(t.result));
        cr_assert_eq(t.res.framing.body, g->body, "%s", g->text);
        cr_assert_eq(t.res.framing.length, g->length, "%s", g->text);
        cr_assert_eq(t.res.framing.has_length, g->has_length, "%s", g->text);
        cr_assert_eq(t.res.framing.keep_alive, g->keep_alive, "%s", g->text);
        free(t.copy);
        for (size_t cut = 0; cut < strlen(g->text); cut++)
            cr_assert_eq(response_split(g->text, cut, cut / 2), 0, "%s cut at %zu", g->text, cut);
        for (size_t cut = 0; cut < strlen(g->text); cut++)
            cr_assert_eq(response_split(g->text, strlen(g->text), cut), (int)strlen(g->text));
    }
}

Test(response, status_line)
{
    struct parsed_response t;
    parse_response(&t,
                   "HTTP/1.1 404 Not  here \r\nServer: x\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n",
                   GM_HTTP_GET);
    cr_assert_eq(t.res.status, 404);
    ASSERT_SPAN(t.res.reason, "Not  here ");
    cr_assert_eq(t.res.fields.count, 3);
    cr_assert_eq(t.fields[0].id, GM_HTTP_ID_SERVER);
    cr_assert_eq(t.fields[2].flags, GM_HTTP_FIELD_HOP);
    free(t.copy);
    parse_response(&t, "HTTP/1.0 200\r\n\r\n", GM_HTTP_GET);
    ASSERT_SPAN(t.res.reason, "");
    cr_assert_eq(t.res.framing.version_minor, 0);
    free(t.copy);
    parse_response(&t, "HTTP/1.1 101 Go\r\nUpgrade: WEBSOCKET\r\n\r\n", GM_HTTP_GET);
    cr_assert_eq(t.res.framing.upgrade, GM_HTTP_UPGRADE_WEBSOCKET);
    free(t.copy);
}

Test(response, limits)
{
    struct gm_http_field fields[1];
    struct gm_http_response res;
    const char *text = "HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n\r\n";
    size_t scanned = 0;
    gm_http_response_init(&res, fields, 1, GM_HTTP_HEAD_MAX);
    ASSERT_ERROR(gm_http_parse_response(text, strlen(text), &scanned, GM_HTTP_GET, &res),
                 GM_HTTP_E_FIELD_TOO_MANY, "");
    gm_http_response_init(&res, fields, 1, (uint32_t)strlen(text) - 1);
    ASSERT_ERROR(gm_http_parse_response(text, strlen(text), &scanned, GM_HTTP_GET, &res),
                 GM_HTTP_E_HEAD_TOO_LARGE, "");
}
