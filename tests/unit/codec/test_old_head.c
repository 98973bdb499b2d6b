/* Heads of 0.0.x by example: text to block and back, what is repaired, and what is refused. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "codec/old_head.h"
#include "frame/head.h"

static uint8_t block[70000];
static char text[70000];

struct pair {
    const char *name, *value;
};

static void put_fields(struct gm_head_writer *writer, const struct pair *pairs)
{
    for (; pairs != NULL && pairs->name != NULL; pairs++) {
        struct gm_head_field field = {pairs->name, pairs->value, (uint16_t)strlen(pairs->name),
                                      (uint16_t)strlen(pairs->value)};
        gm_head_write_field(writer, &field);
    }
}

static size_t request(const char *method, uint64_t length, uint8_t flags, const struct pair *pairs)
{
    struct gm_head_writer writer;
    struct gm_head_request head = {.method = method,
                                   .method_len = (uint8_t)strlen(method),
                                   .target = "/a%20b?c",
                                   .target_len = 8,
                                   .authority = "host:1",
                                   .authority_len = 6,
                                   .content_length = length,
                                   .flags = flags};
    gm_head_write_request(&writer, block, sizeof block, &head);
    put_fields(&writer, pairs);
    int len = gm_head_write_finish(&writer);
    cr_assert_gt(len, 0);
    return (size_t)len;
}

static const char *request_text(size_t len, struct gm_old_request *told)
{
    int got = gm_old_request_text(block, len, text, sizeof text - 1, told);
    cr_assert_gt(got, 0, "%d", got);
    text[got] = '\0';
    return text;
}

Test(old_head, a_request_for_the_pipe)
{
    static const struct pair fields[] = {
        {"X-One", "1"}, {"Expect", "100-continue"}, {"x-one", "2"}, {NULL, NULL}};
    struct gm_old_request told;
    cr_assert_str_eq(request_text(request("GET", GM_HEAD_LENGTH_UNKNOWN, 0, fields), &told),
                     "GET /a%20b?c HTTP/1.1\r\nHost: host:1\r\nX-One: 1\r\nx-one: 2\r\n"
                     "Connection: close\r\n\r\n");
    cr_assert(!told.chunked && !told.head && !told.body && !told.expects);
    cr_assert_str_eq(request_text(request("POST", 12, GM_HEAD_FLAG_BODY, fields), &told),
                     "POST /a%20b?c HTTP/1.1\r\nHost: host:1\r\nX-One: 1\r\nx-one: 2\r\n"
                     "Content-Length: 12\r\nConnection: close\r\n\r\n");
    cr_assert(!told.chunked && told.body && told.expects);
    cr_assert_str_eq(request_text(request("PUT", 0, 0, NULL), &told),
                     "PUT /a%20b?c HTTP/1.1\r\nHost: host:1\r\nContent-Length: 0\r\n"
                     "Connection: close\r\n\r\n");
    size_t len =
        request("POST", GM_HEAD_LENGTH_UNKNOWN,
                GM_HEAD_FLAG_BODY | GM_HEAD_FLAG_HTTP10 | GM_HEAD_FLAG_TE_TRAILERS, fields);
    cr_assert_not_null(strstr(request_text(len, &told), "Transfer-Encoding: chunked\r\n"));
    cr_assert(told.chunked && !told.expects, "nobody who speaks HTTP/1.0 waits for a 100");
    (void)request_text(request("HEAD", GM_HEAD_LENGTH_UNKNOWN, 0, NULL), &told);
    cr_assert(told.head);
}

Test(old_head, a_request_that_cannot_go)
{
    static const struct pair upgrade[] = {{"Upgrade", "websocket"}, {NULL, NULL}};
    struct gm_old_request told;
    size_t len = request("GET", GM_HEAD_LENGTH_UNKNOWN, GM_HEAD_FLAG_UPGRADE, upgrade);
    cr_assert_eq(gm_old_request_text(block, len, text, sizeof text, &told), -ENOTSUP);
    len = request("GET", GM_HEAD_LENGTH_UNKNOWN, 0, NULL);
    cr_assert_eq(gm_old_request_text(block, len, text, 40, &told), -GM_E_LIMIT);
    cr_assert_eq(gm_old_request_text(block, len - 1, text, sizeof text, &told), -GM_E_PROTOCOL);
}

/* The bound that callers take memory by, for the worst of heads. */
Test(old_head, the_bounds_hold)
{
    struct gm_old_request told;
    struct pair fields[GM_HEAD_FIELDS_MAX + 1] = {0};
    for (unsigned i = 0; i < 128; i++)
        fields[i] = (struct pair){"N", ""};
    size_t len = request("POST", UINT64_MAX - 1, GM_HEAD_FLAG_BODY, fields);
    cr_assert_gt(gm_old_request_text(block, len, text, len + GM_OLD_TEXT_ADDED, &told), 0);
    static const char least[] = "HTTP/1.1 999 \r\na:\r\nb:\r\n\r\n";
    cr_assert_gt(gm_old_response_block(least, sizeof least - 1, false, block,
                                       sizeof least - 1 + GM_OLD_BLOCK_ADDED),
                 0);
    static const char line[] = "HTTP/1.1 200 \r\n", field[] = "a:b\r\n";
    size_t at = sizeof line - 1;
    memcpy(text, line, at);
    for (unsigned i = 0; i < GM_HTTP_FIELDS_MAX; i++, at += sizeof field - 1)
        memcpy(text + at, field, sizeof field - 1);
    memcpy(text + at, "\r\n", 2);
    cr_assert_gt(gm_old_response_block(text, at + 2, false, block, at + 2 + GM_OLD_BLOCK_ADDED), 0);
    static const char smallest[] = "G / HTTP/1.0\r\n\r\n";
    cr_assert_gt(gm_old_request_block(smallest, sizeof smallest - 1, block,
                                      sizeof smallest - 1 + GM_OLD_BLOCK_ADDED, &told),
                 0);
}

static struct gm_head_response response(const char *from, bool head)
{
    struct gm_head_response out;
    int len = gm_old_response_block(from, strlen(from), head, block, sizeof block);
    cr_assert_gt(len, 0, "%d for %s", len, from);
    cr_assert_eq(gm_head_read_response(block, (size_t)len, &out), 0);
    return out;
}

Test(old_head, an_answer)
{
    struct gm_head_response head =
        response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n"
                 "Set-Cookie: a\r\nX-Gimlet-Error: forged\r\nSet-Cookie: b\r\n\r\nbehind it",
                 false);
    cr_assert(head.status == 200 && head.content_length == 5 && head.flags == GM_HEAD_FLAG_BODY);
    struct gm_head_field field;
    cr_assert(gm_head_next(&head.fields, &field) && field.value_len == 1 && *field.value == 'a');
    cr_assert(gm_head_next(&head.fields, &field) && *field.value == 'b');
    cr_assert(!gm_head_next(&head.fields, &field));

    head = response("HTTP/1.0 404 \r\n\r\n", false);
    cr_assert(head.status == 404 && head.content_length == GM_HEAD_LENGTH_UNKNOWN &&
              head.flags == GM_HEAD_FLAG_BODY);
    head = response("HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n", true);
    cr_assert(head.content_length == 77 && head.flags == 0, "an answer to HEAD only informs");
    head = response("HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", false);
    cr_assert(head.content_length == GM_HEAD_LENGTH_UNKNOWN && head.flags == 0);
    head = response("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", false);
    cr_assert(head.status == 103 && head.flags == 0);
}

Test(old_head, no_answer)
{
    static const char *const bad[] = {
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 200 OK\nX: 1\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_eq(gm_old_response_block(bad[i], strlen(bad[i]), false, block, sizeof block),
                     -GM_E_PROTOCOL, "%s", bad[i]);
    static const char good[] = "HTTP/1.1 200 OK\r\nX: 12345678901234567890\r\n\r\n";
    cr_assert_eq(gm_old_response_block(good, sizeof good - 1, false, block, 30), -GM_E_LIMIT);
}

static int request_block(const char *from, struct gm_old_request *told)
{
    return gm_old_request_block(from, strlen(from), block, sizeof block, told);
}

Test(old_head, a_request_of_a_server)
{
    struct gm_old_request told;
    struct gm_head_request head;
    int len =
        request_block("POST /x?y HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\n"
                      "Connection: keep-alive\r\nContent-Length: 7\r\nExpect: 100-continue\r\n"
                      "X-Request-Id: 1\r\n\r\n",
                      &told);
    cr_assert_gt(len, 0);
    cr_assert_eq(gm_head_read_request(block, (size_t)len, &head), 0);
    cr_assert(told.body && head.content_length == 7 && head.flags == GM_HEAD_FLAG_BODY);
    struct gm_head_field field;
    cr_assert(gm_head_next(&head.fields, &field) && field.name[0] == 'X');
    cr_assert(!gm_head_next(&head.fields, &field),
              "the server has answered Expect itself, and the token was for it");

    len = request_block("GET / HTTP/1.0\r\n\r\n", &told);
    cr_assert_eq(gm_head_read_request(block, (size_t)len, &head), 0);
    cr_assert(!told.body && head.flags == GM_HEAD_FLAG_HTTP10 && head.authority_len == 0);
    gm_old_block_body(block);
    cr_assert_eq(gm_head_read_request(block, (size_t)len, &head), 0);
    cr_assert(head.flags == (GM_HEAD_FLAG_HTTP10 | GM_HEAD_FLAG_BODY) &&
              head.content_length == GM_HEAD_LENGTH_UNKNOWN);
}

Test(old_head, no_request)
{
    static const char *const bad[] = {
        "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /second HTTP/1.1\r\n\r\n",
        "GET http://other/ HTTP/1.1\r\nHost: h\r\n\r\n",
        "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    };
    struct gm_old_request told;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_eq(request_block(bad[i], &told), -GM_E_PROTOCOL, "%s", bad[i]);
    cr_assert_eq(request_block("GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\n"
                               "Upgrade: websocket\r\n\r\n",
                               &told),
                 -ENOTSUP);
}

Test(old_head, an_answer_as_text)
{
    static const struct pair fields[] = {{"Set-Cookie", "a"}, {"Set-Cookie", "b"}, {NULL, NULL}};
    struct gm_head_writer writer;
    struct gm_head_response head = {.reason = "Fine",
                                    .reason_len = 4,
                                    .status = 200,
                                    .content_length = 3,
                                    .flags = GM_HEAD_FLAG_BODY};
    gm_head_write_response(&writer, block, sizeof block, &head);
    put_fields(&writer, fields);
    int len = gm_head_write_finish(&writer);
    int got = gm_old_response_text(block, (size_t)len, text, sizeof text - 1);
    cr_assert_gt(got, 0);
    text[got] = '\0';
    cr_assert_str_eq(text, "HTTP/1.1 200 Fine\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
                           "Content-Length: 3\r\n\r\n");
    cr_assert_eq(gm_old_response_text(block, (size_t)len, text, 20), -GM_E_LIMIT);
}

Test(old_head, trailers_and_100)
{
    static const struct pair fields[] = {{"X-Sum", "9"}, {NULL, NULL}};
    struct gm_head_writer writer;
    gm_head_write_trailers(&writer, block, sizeof block);
    put_fields(&writer, fields);
    int len = gm_head_write_finish(&writer);
    int got = gm_old_trailers_text(block, (size_t)len, text, sizeof text - 1);
    cr_assert_gt(got, 0);
    text[got] = '\0';
    cr_assert_str_eq(text, "0\r\nX-Sum: 9\r\n\r\n");
    struct gm_head_response head;
    len = gm_old_continue_block(block, GM_OLD_CONTINUE_MAX);
    cr_assert_gt(len, 0);
    cr_assert_eq(gm_head_read_response(block, (size_t)len, &head), 0);
    cr_assert_eq(head.status, 100);
}

Test(old_head, what_there_is_to_mend)
{
    static const char *const nothing[] = {
        "",     "GET / HTTP/1.1\r\n\r\n",       "GET /",        "GET HTTP/1.1\r\n",
        "\r\n", " HTTP/1.1\r\nX: \xff\r\n\r\n", "G\xff / HTTP", "GET /\xff HTTP/2.0\r\n"};
    for (unsigned i = 0; i < sizeof nothing / sizeof nothing[0]; i++)
        cr_assert_eq(gm_old_request_mend(nothing[i], strlen(nothing[i]), text, sizeof text), 0,
                     "%s", nothing[i]);
    static const char broken[] = "G # \xff HTTP/1.1\r\n", mended[] = "G %23%20%FF HTTP/1.1\r\n";
    int len = (int)sizeof mended - 1;
    cr_assert_eq(gm_old_request_mend(broken, sizeof broken - 1, text, (size_t)len), len);
    cr_assert_eq(memcmp(text, mended, (size_t)len), 0);
    cr_assert_eq(gm_old_request_mend(broken, sizeof broken - 1, text, (size_t)len - 1),
                 -GM_E_LIMIT);
}
