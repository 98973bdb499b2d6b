/* The opening handshake: RFC 6455's own example, every reason to refuse, and heads that cannot be
 * broken out of. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "ws/handshake.h"

#define KEY    "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

static struct gm_ws_text text(const char *s)
{
    return (struct gm_ws_text){s, strlen(s)};
}

/* Section 1.3's example, input and digest: a SHA-1 that knows one answer and checks the question.
 */
static int sha1_of_example(const uint8_t *p, size_t n, uint8_t out[20])
{
    static const char input[] = KEY "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    static const uint8_t digest[20] = {0xb3, 0x7a, 0x4f, 0x2c, 0xc0, 0x62, 0x4f, 0x16, 0x90, 0xf6,
                                       0x46, 0x06, 0xcf, 0x38, 0x59, 0x45, 0xb2, 0xbe, 0xc4, 0xea};
    cr_assert_eq(n, sizeof(input) - 1);
    cr_assert_eq(memcmp(p, input, n), 0);
    memcpy(out, digest, 20);
    return 0;
}

static int sha1_failing(const uint8_t *p, size_t n, uint8_t out[20])
{
    (void)p, (void)n, (void)out;
    return -EIO;
}

static struct gm_ws_upgrade good_request(void)
{
    return (struct gm_ws_upgrade){.upgrade = text("WebSocket"),
                                  .connection = text("keep-alive, Upgrade"),
                                  .key = text(KEY),
                                  .version = text("13"),
                                  .is_get = true,
                                  .is_http11 = true};
}

static struct gm_ws_upgrade good_response(void)
{
    return (struct gm_ws_upgrade){.upgrade = text("websocket"),
                                  .connection = text("upgrade"),
                                  .accept = text(ACCEPT),
                                  .status = 101,
                                  .is_http11 = true};
}

Test(handshake, keys)
{
    static const uint8_t random[16] = "the sample nonce";
    char key[GM_WS_KEY_LEN];
    gm_ws_key(random, key);
    cr_assert_eq(memcmp(key, KEY, GM_WS_KEY_LEN), 0);
    char accept[GM_WS_ACCEPT_LEN];
    cr_assert_eq(gm_ws_accept(text(KEY), sha1_of_example, accept), 0);
    cr_assert_eq(memcmp(accept, ACCEPT, GM_WS_ACCEPT_LEN), 0);
    cr_assert_eq(gm_ws_accept(text("short"), sha1_of_example, accept), -EINVAL);
    cr_assert_eq(gm_ws_accept(text(KEY), sha1_failing, accept), -EIO);
    static const uint8_t high[16] = {0xff, 0xff, 0xff, 0xfb, 0xef, 0xbe, 0, 0,
                                     0,    0x3f, 0,    0,    0,    0,    0, 0xff};
    gm_ws_key(high, key);
    cr_assert_eq(memcmp(key, "////++++AAAAPwAAAAAA/w==", GM_WS_KEY_LEN), 0);
}

Test(handshake, lists)
{
    static const struct {
        const char *list, *token;
        bool has;
    } rows[] = {{"Upgrade", "upgrade", true},      {" a , upgrade\t", "Upgrade", true},
                {"upgraded", "upgrade", false},    {"", "upgrade", false},
                {",,upgrade,", "upgrade", true},   {"up grade", "upgrade", false},
                {"upgrade;q=1", "upgrade", false}, {"x", "upgrade", false}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        cr_assert_eq(gm_ws_list_has(text(rows[i].list), rows[i].token), rows[i].has, "%s",
                     rows[i].list);
    cr_assert(gm_ws_protocol_offered(text("gimlet.v2, gimlet.v1"), "gimlet.v1"));
    cr_assert_not(gm_ws_protocol_offered(text("Gimlet.v1"), "gimlet.v1"));
    cr_assert_not(gm_ws_protocol_offered(text("gimlet.v11"), "gimlet.v1"));
    cr_assert_not(gm_ws_protocol_offered(text(""), "gimlet.v1"));
    cr_assert_not(gm_ws_protocol_offered(text(", ,"), ""));
}

Test(handshake, requests)
{
    struct gm_ws_upgrade r = good_request();
    cr_assert_eq(gm_ws_check_request(&r), 0);
    r.is_get = false;
    cr_assert_eq(gm_ws_check_request(&r), 405);
    r = good_request(), r.is_http11 = false;
    cr_assert_eq(gm_ws_check_request(&r), 400);
    r = good_request(), r.upgrade = text("h2c");
    cr_assert_eq(gm_ws_check_request(&r), 426);
    r = good_request(), r.connection = text("close");
    cr_assert_eq(gm_ws_check_request(&r), 426);
    static const char *const versions[] = {"", "8", "130", "1"};
    for (size_t i = 0; i < 4; i++) {
        r = good_request(), r.version = text(versions[i]);
        cr_assert_eq(gm_ws_check_request(&r), 426);
    }
    static const char *const keys[] = {"",
                                       "dGhlIHNhbXBsZSBub25jZQ=",
                                       "dGhlIHNhbXBsZSBub25jZQ=a",
                                       "dGhlIHNhbXBsZSBub25jZ ==",
                                       "dGhlIHNhbXBsZSBub25jZ===",
                                       "dGhl!HNhbXBsZSBub25jZQ=="};
    for (size_t i = 0; i < 6; i++) {
        r = good_request(), r.key = text(keys[i]);
        cr_assert_eq(gm_ws_check_request(&r), 400, "%s", keys[i]);
    }
}

static int check_response(struct gm_ws_upgrade r, const char *protocol)
{
    return gm_ws_check_response(&r, KEY, sha1_of_example, protocol);
}

Test(handshake, responses)
{
    struct gm_ws_upgrade r = good_response();
    cr_assert_eq(check_response(r, NULL), 0);
    cr_assert_eq(check_response(r, "gimlet.v1"), 0, "a 0.0.x server chooses none");
    r.protocol = text("gimlet.v1");
    cr_assert_eq(check_response(r, "gimlet.v1"), 1);
    cr_assert_eq(check_response(r, NULL), -ENOTSUP);
    cr_assert_eq(check_response(r, "gimlet.v2"), -ENOTSUP);
    r = good_response(), r.extensions = text("permessage-deflate");
    cr_assert_eq(check_response(r, NULL), -ENOTSUP);
    r = good_response(), r.status = 200;
    cr_assert_eq(check_response(r, NULL), -GM_E_PROTOCOL);
    r = good_response(), r.is_http11 = false;
    cr_assert_eq(check_response(r, NULL), -GM_E_PROTOCOL);
    r = good_response(), r.upgrade = text("x");
    cr_assert_eq(check_response(r, NULL), -GM_E_PROTOCOL);
    r = good_response(), r.connection = text("x");
    cr_assert_eq(check_response(r, NULL), -GM_E_PROTOCOL);
    r = good_response(), r.accept = text("s3pPLMBiTxaQ9kYGzzhZRbK+xOp=");
    cr_assert_eq(check_response(r, NULL), -GM_E_PROTOCOL);
    r = good_response(), r.accept = text("");
    cr_assert_eq(check_response(r, NULL), -GM_E_PROTOCOL);
    r = good_response();
    cr_assert_eq(gm_ws_check_response(&r, KEY, sha1_failing, NULL), -EIO);
}

static struct gm_ws_request request(void)
{
    return (struct gm_ws_request){.target = text("/agent?x=1"),
                                  .host = text("h:80"),
                                  .protocol = text("gimlet.v1"),
                                  .fields =
                                      text("Authorization: Bearer t\r\nGimlet-Instance: i\r\n"),
                                  .key = KEY};
}

Test(handshake, heads_as_written)
{
    static const char want[] =
        "GET /agent?x=1 HTTP/1.1\r\nHost: h:80\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " KEY
        "\r\nSec-WebSocket-Protocol: gimlet.v1\r\n"
        "Authorization: Bearer t\r\nGimlet-Instance: i\r\n\r\n";
    char buf[1024];
    struct gm_ws_request r = request();
    cr_assert_eq(gm_ws_write_request(buf, sizeof(buf), &r), sizeof(want) - 1);
    cr_assert_eq(memcmp(buf, want, sizeof(want) - 1), 0);
    for (size_t cap = 0; cap < sizeof(want) - 1; cap++) {
        char *small = malloc(cap + 1);
        cr_assert_eq(gm_ws_write_request(small, cap, &r), -GM_E_LIMIT);
        free(small);
    }
    r.protocol = r.fields = text("");
    cr_assert_gt(gm_ws_write_request(buf, sizeof(buf), &r), 0);

    static const char answer[] =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: " ACCEPT "\r\nSec-WebSocket-Protocol: gimlet.v1\r\n\r\n";
    cr_assert_eq(gm_ws_write_response(buf, sizeof(buf), ACCEPT, text("gimlet.v1")),
                 sizeof(answer) - 1);
    cr_assert_eq(memcmp(buf, answer, sizeof(answer) - 1), 0);
    cr_assert_eq(gm_ws_write_response(buf, sizeof(answer) - 2, ACCEPT, text("gimlet.v1")),
                 -GM_E_LIMIT);
    cr_assert_gt(gm_ws_write_response(buf, sizeof(buf), ACCEPT, text("")), 0);
}

Test(handshake, nothing_breaks_out_of_a_head)
{
    char buf[1024];
    static const char *const words[] = {"/a b", "/a\r\nX: y", "/\x7f", "agent", ""};
    for (size_t i = 0; i < 5; i++) {
        struct gm_ws_request r = request();
        r.target = text(words[i]);
        cr_assert_eq(gm_ws_write_request(buf, sizeof(buf), &r), -EINVAL, "%s", words[i]);
        if (i == 3)
            continue;
        r = request(), r.host = text(words[i]);
        cr_assert_eq(gm_ws_write_request(buf, sizeof(buf), &r), -EINVAL);
        if (i == 4)
            continue;
        r = request(), r.protocol = text(words[i]);
        cr_assert_eq(gm_ws_write_request(buf, sizeof(buf), &r), -EINVAL);
        cr_assert_eq(gm_ws_write_response(buf, sizeof(buf), ACCEPT, text(words[i])), -EINVAL);
    }
    static const char *const fields[] = {"A: b",        "A: b\r",       "A: b\n",
                                         "\r\n",        "A: b\r\n\r\n", "A: b\r\n folded\r\n",
                                         "A: \x01\r\n", "A: b\rX\r\n"};
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        struct gm_ws_request r = request();
        r.fields = text(fields[i]);
        cr_assert_eq(gm_ws_write_request(buf, sizeof(buf), &r), -EINVAL, "%zu", i);
    }
    struct gm_ws_request r = request();
    r.key = "not base64 in any way !!";
    cr_assert_eq(gm_ws_write_request(buf, sizeof(buf), &r), -EINVAL);
    r = request(), r.host = text("");
    cr_assert_eq(gm_ws_write_request(buf, 4, &r), -GM_E_LIMIT, "the first failure is the one told");
}
