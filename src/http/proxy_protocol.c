/*
 * The PROXY header's parser. Invariant: an answer never depends on how the bytes were cut: what is
 * refused with n bytes is refused with more, and a header's length is found with its last byte.
 */
#include "http/proxy_protocol.h"

#include <arpa/inet.h>
#include <string.h>

#define V2_FIXED_LEN    16u
#define V2_INET_LEN     12u
#define V2_INET6_LEN    36u
#define V2_UNIX_LEN     216u
#define V1_ADDRESS_MAX  39u /* eight groups of four digits and seven colons */
#define PORT_DIGITS_MAX 5u

static const uint8_t v1_start[] = {'P', 'R', 'O', 'X', 'Y', ' '};
static const uint8_t v2_start[] = {'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

static void map_ipv4(uint8_t out[16], const void *address)
{
    memset(out, 0, 10);
    out[10] = out[11] = 0xff;
    memcpy(out + 12, address, 4);
}

/* ---- Version 1: "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n" ---- */

struct text {
    const char *p;
    size_t len;
};

/* The word up to the next single space, or the rest. */
static struct text take_word(struct text *rest)
{
    const char *space = memchr(rest->p, ' ', rest->len);
    struct text word = {rest->p, space == NULL ? rest->len : (size_t)(space - rest->p)};
    size_t used = space == NULL ? word.len : word.len + 1;
    rest->p += used;
    rest->len -= used;
    return word;
}

static bool word_is(struct text word, const char *literal)
{
    return word.len == strlen(literal) && memcmp(word.p, literal, word.len) == 0;
}

static bool take_address(struct text *rest, int family, uint8_t out[16])
{
    struct text word = take_word(rest);
    char copy[V1_ADDRESS_MAX + 1];
    uint8_t address[16];
    if (word.len == 0 || word.len > V1_ADDRESS_MAX || memchr(word.p, '\0', word.len) != NULL)
        return false;
    memcpy(copy, word.p, word.len);
    copy[word.len] = '\0';
    if (inet_pton(family, copy, address) != 1)
        return false;
    if (family == AF_INET)
        map_ipv4(out, address);
    else
        memcpy(out, address, 16);
    return true;
}

static bool take_port(struct text *rest, uint16_t *out)
{
    struct text word = take_word(rest);
    uint32_t port = 0;
    if (word.len == 0 || word.len > PORT_DIGITS_MAX || (word.len > 1 && word.p[0] == '0'))
        return false;
    for (size_t i = 0; i < word.len; i++) {
        if (word.p[i] < '0' || word.p[i] > '9')
            return false;
        port = port * 10 + (uint32_t)(word.p[i] - '0');
    }
    *out = (uint16_t)port;
    return port <= UINT16_MAX;
}

/* What stands between "PROXY " and CRLF. */
static int v1_words(struct text rest, struct gm_proxy_header *out)
{
    struct gm_proxy_header header = {.named = true};
    uint8_t destination[16];
    uint16_t destination_port;
    struct text protocol = take_word(&rest);
    if (word_is(protocol, "UNKNOWN")) {
        *out = (struct gm_proxy_header){0};
        return 0;
    }
    int family = word_is(protocol, "TCP4") ? AF_INET : word_is(protocol, "TCP6") ? AF_INET6 : -1;
    if (family < 0)
        return -GM_E_PROTOCOL;
    bool good = take_address(&rest, family, header.source) &&
                take_address(&rest, family, destination) && take_port(&rest, &header.source_port);
    /* The last word is the rest, to its last byte: a space behind it is no part of a port. */
    good = good && memchr(rest.p, ' ', rest.len) == NULL && take_port(&rest, &destination_port);
    if (!good)
        return -GM_E_PROTOCOL;
    *out = header;
    return 0;
}

static int parse_v1(const char *data, size_t len, struct gm_proxy_header *out)
{
    size_t seen = len < GM_PROXY_V1_MAX ? len : GM_PROXY_V1_MAX;
    const char *cr = memchr(data, '\r', seen), *lf = memchr(data, '\n', seen);
    if (cr == NULL && lf == NULL)
        return len < GM_PROXY_V1_MAX ? 0 : -GM_E_LIMIT;
    if (cr == NULL || (lf != NULL && lf != cr + 1))
        return -GM_E_PROTOCOL;
    size_t line = (size_t)(cr - data);
    if (line + 2 > GM_PROXY_V1_MAX)
        return -GM_E_LIMIT;
    if (lf == NULL)
        return line + 1 == len ? 0 : -GM_E_PROTOCOL;
    struct text words = {data + sizeof v1_start, line - sizeof v1_start};
    int rc = v1_words(words, out);
    return rc < 0 ? rc : (int)(line + 2);
}

/* ---- Version 2 ---- */

enum { V2_LOCAL = 0, V2_PROXY = 1 };
enum { V2_UNSPEC = 0, V2_INET = 1, V2_INET6 = 2, V2_UNIX = 3 };
enum { V2_PROTO_UNSPEC = 0, V2_PROTO_STREAM = 1 };

static unsigned v2_address_len(unsigned family)
{
    static const unsigned lengths[] = {
        [V2_INET] = V2_INET_LEN, [V2_INET6] = V2_INET6_LEN, [V2_UNIX] = V2_UNIX_LEN};
    return lengths[family];
}

static uint16_t read_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

/* 0, or what is wrong with the fixed part as far as it is there. */
static int v2_check(const uint8_t *data, size_t len)
{
    if (len > 12 && (data[12] >> 4 != 2 || (data[12] & 15) > V2_PROXY))
        return -GM_E_PROTOCOL;
    bool local = len > 12 && (data[12] & 15) == V2_LOCAL;
    if (len > 13 && !local && (data[13] >> 4 > V2_UNIX || (data[13] & 15) > V2_PROTO_STREAM))
        return -GM_E_PROTOCOL;
    if (len < V2_FIXED_LEN)
        return 0;
    if (V2_FIXED_LEN + read_u16(data + 14) > GM_PROXY_HEADER_MAX)
        return -GM_E_LIMIT;
    return local || read_u16(data + 14) >= v2_address_len(data[13] >> 4) ? 0 : -GM_E_PROTOCOL;
}

static int parse_v2(const uint8_t *data, size_t len, struct gm_proxy_header *out)
{
    int rc = v2_check(data, len);
    if (rc < 0 || len < V2_FIXED_LEN)
        return rc;
    size_t whole = V2_FIXED_LEN + read_u16(data + 14);
    if (len < whole)
        return 0;
    struct gm_proxy_header header = {0};
    const uint8_t *addresses = data + V2_FIXED_LEN;
    unsigned family = data[13] >> 4;
    bool stream = (data[12] & 15) == V2_PROXY && (data[13] & 15) == V2_PROTO_STREAM;
    if (stream && family == V2_INET) {
        header.named = true;
        map_ipv4(header.source, addresses);
        header.source_port = read_u16(addresses + 8);
    } else if (stream && family == V2_INET6) {
        header.named = true;
        memcpy(header.source, addresses, 16);
        header.source_port = read_u16(addresses + 32);
    }
    *out = header;
    return (int)whole;
}

static bool starts_like(const uint8_t *data, size_t len, const uint8_t *start, size_t start_len)
{
    return memcmp(data, start, len < start_len ? len : start_len) == 0;
}

int gm_proxy_header_parse(const uint8_t *data, size_t len, struct gm_proxy_header *out)
{
    if (len == 0)
        return 0;
    if (starts_like(data, len, v1_start, sizeof v1_start))
        return len < sizeof v1_start ? 0 : parse_v1((const char *)data, len, out);
    if (starts_like(data, len, v2_start, sizeof v2_start))
        return parse_v2(data, len, out);
    return -GM_E_NOT_FOUND;
}
