/* WebSocket opening handshake: keys, checks and heads (RFC 6455 section 4).
 *
 * Base64 is written only for the two fixed lengths that the handshake needs. The writers refuse
 * every byte that could end a line, so that configuration can never smuggle a field into a head.
 */
#include "ws/handshake.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Encodes n bytes with padding; `out` has room for 4 characters per 3 bytes begun. */
static void base64(const uint8_t *p, size_t n, char *out)
{
    for (size_t i = 0; i < n; i += 3, out += 4) {
        size_t have = n - i < 3 ? n - i : 3;
        uint32_t v = (uint32_t)p[i] << 16;
        v |= have > 1 ? (uint32_t)p[i + 1] << 8 : 0;
        v |= have > 2 ? p[i + 2] : 0;
        out[0] = base64_digits[v >> 18];
        out[1] = base64_digits[v >> 12 & 63];
        out[2] = have > 1 ? base64_digits[v >> 6 & 63] : '=';
        out[3] = have > 2 ? base64_digits[v & 63] : '=';
    }
}

static bool is_base64_digit(char c)
{
    return c != '\0' && strchr(base64_digits, c) != NULL;
}

/* 16 bytes in base64: 22 digits and two signs of padding. */
static bool key_valid(struct gm_ws_text key)
{
    if (key.len != GM_WS_KEY_LEN || memcmp(key.p + 22, "==", 2) != 0)
        return false;
    for (size_t i = 0; i < 22; i++) {
        if (!is_base64_digit(key.p[i]))
            return false;
    }
    return true;
}

void gm_ws_key(const uint8_t random[16], char out[GM_WS_KEY_LEN])
{
    base64(random, 16, out);
}

int gm_ws_accept(struct gm_ws_text key, gm_ws_sha1_fn *sha1, char out[GM_WS_ACCEPT_LEN])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* section 1.3 */
    uint8_t text[GM_WS_KEY_LEN + sizeof(guid) - 1];
    uint8_t digest[20];
    if (key.len != GM_WS_KEY_LEN)
        return -EINVAL;
    memcpy(text, key.p, GM_WS_KEY_LEN);
    memcpy(text + GM_WS_KEY_LEN, guid, sizeof(guid) - 1);
    int error = sha1(text, sizeof(text), digest);
    if (error < 0)
        return error;
    base64(digest, sizeof(digest), out);
    return 0;
}

/* --- Lists --- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Takes the next element off a comma-separated list, blanks trimmed; false at its end. Empty
 * elements come as such. */
static bool next_element(struct gm_ws_text *list, struct gm_ws_text *element)
{
    if (list->len == 0)
        return false;
    const char *comma = memchr(list->p, ',', list->len);
    size_t n = comma != NULL ? (size_t)(comma - list->p) : list->len;
    *element = (struct gm_ws_text){list->p, n};
    size_t used = comma != NULL ? n + 1 : n;
    list->p += used;
    list->len -= used;
    while (element->len > 0 && is_blank(element->p[0])) {
        element->p++;
        element->len--;
    }
    while (element->len > 0 && is_blank(element->p[element->len - 1]))
        element->len--;
    return true;
}

bool gm_ws_list_has(struct gm_ws_text list, const char *token)
{
    size_t n = strlen(token);
    struct gm_ws_text element;
    while (next_element(&list, &element)) {
        if (element.len == n && strncasecmp(element.p, token, n) == 0)
            return true;
    }
    return false;
}

static bool text_is(struct gm_ws_text text, const char *other, size_t n)
{
    return text.len == n && memcmp(text.p, other, n) == 0;
}

bool gm_ws_protocol_offered(struct gm_ws_text offers, const char *protocol)
{
    size_t n = strlen(protocol);
    struct gm_ws_text element;
    while (next_element(&offers, &element)) {
        if (element.len > 0 && text_is(element, protocol, n))
            return true;
    }
    return false;
}

/* --- Checks --- */

int gm_ws_check_request(const struct gm_ws_upgrade *request)
{
    if (!request->is_get)
        return 405;
    if (!request->is_http11)
        return 400;
    if (!gm_ws_list_has(request->upgrade, "websocket") ||
        !gm_ws_list_has(request->connection, "upgrade"))
        return 426;
    if (!text_is(request->version, GM_WS_VERSION, sizeof(GM_WS_VERSION) - 1))
        return 426;
    return key_valid(request->key) ? 0 : 400;
}

int gm_ws_check_response(const struct gm_ws_upgrade *response, const char key[GM_WS_KEY_LEN],
                         gm_ws_sha1_fn *sha1, const char *protocol)
{
    char expected[GM_WS_ACCEPT_LEN];
    if (response->status != 101 || !response->is_http11 ||
        !gm_ws_list_has(response->upgrade, "websocket") ||
        !gm_ws_list_has(response->connection, "upgrade"))
        return -GM_E_PROTOCOL;
    int error = gm_ws_accept((struct gm_ws_text){key, GM_WS_KEY_LEN}, sha1, expected);
    if (error < 0)
        return error;
    if (!text_is(response->accept, expected, GM_WS_ACCEPT_LEN))
        return -GM_E_PROTOCOL;
    if (response->extensions.len > 0)
        return -ENOTSUP;
    if (response->protocol.len == 0)
        return 0;
    if (protocol == NULL || !text_is(response->protocol, protocol, strlen(protocol)))
        return -ENOTSUP;
    return 1;
}

/* --- Heads --- */

/* A bounded writer; the first failure sticks. */
struct head_out {
    char *p;
    size_t cap;
    size_t len;
    int error;
};

static void put(struct head_out *out, const char *p, size_t n)
{
    if (out->error != 0)
        return;
    if (n > out->cap - out->len) {
        out->error = -GM_E_LIMIT;
        return;
    }
    if (n > 0)
        memcpy(out->p + out->len, p, n);
    out->len += n;
}

static void put_literal(struct head_out *out, const char *text)
{
    put(out, text, strlen(text));
}

/* Puts a caller's text: one non-empty word, as target, host and protocol are. */
static void put_word(struct head_out *out, struct gm_ws_text word)
{
    if (word.len == 0)
        out->error = out->error != 0 ? out->error : -EINVAL;
    for (size_t i = 0; i < word.len && out->error == 0; i++) {
        if ((uint8_t)word.p[i] <= ' ' || word.p[i] == 0x7f)
            out->error = -EINVAL;
    }
    put(out, word.p, word.len);
}

static int finish(struct head_out *out)
{
    put_literal(out, "\r\n");
    return out->error != 0 ? out->error : (int)out->len;
}

/* True for whole lines: each of some length, ended by CRLF, without any other control byte. */
static bool lines_valid(struct gm_ws_text lines)
{
    size_t line_len = 0;
    for (size_t i = 0; i < lines.len; i++) {
        uint8_t c = (uint8_t)lines.p[i];
        if (c == '\r') {
            if (line_len == 0 || i + 1 == lines.len || lines.p[i + 1] != '\n')
                return false;
            i++;
            line_len = 0;
            continue;
        }
        if ((c < ' ' && c != '\t') || c == 0x7f || (line_len == 0 && is_blank((char)c)))
            return false;
        line_len++;
    }
    return line_len == 0;
}

int gm_ws_write_request(char *buf, size_t cap, const struct gm_ws_request *request)
{
    struct head_out out = {.p = buf, .cap = cap};
    struct gm_ws_text key = {request->key, GM_WS_KEY_LEN};
    if (request->target.len == 0 || request->target.p[0] != '/' || !key_valid(key) ||
        !lines_valid(request->fields))
        return -EINVAL;
    put_literal(&out, "GET ");
    put_word(&out, request->target);
    put_literal(&out, " HTTP/1.1\r\nHost: ");
    put_word(&out, request->host);
    put_literal(&out, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      "Sec-WebSocket-Version: " GM_WS_VERSION "\r\nSec-WebSocket-Key: ");
    put(&out, key.p, key.len);
    put_literal(&out, "\r\n");
    if (request->protocol.len > 0) {
        put_literal(&out, "Sec-WebSocket-Protocol: ");
        put_word(&out, request->protocol);
        put_literal(&out, "\r\n");
    }
    put(&out, request->fields.p, request->fields.len);
    return finish(&out);
}

int gm_ws_write_response(char *buf, size_t cap, const char accept[GM_WS_ACCEPT_LEN],
                         struct gm_ws_text protocol)
{
    struct head_out out = {.p = buf, .cap = cap};
    put_literal(&out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                      "Connection: Upgrade\r\nSec-WebSocket-Accept: ");
    put(&out, accept, GM_WS_ACCEPT_LEN);
    put_literal(&out, "\r\n");
    if (protocol.len > 0) {
        put_literal(&out, "Sec-WebSocket-Protocol: ");
        put_word(&out, protocol);
        put_literal(&out, "\r\n");
    }
    return finish(&out);
}
