/*
 * PROXY headers: by example, cut at every byte, every value of the fixed bytes of version 2.
 */
#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/proxy_protocol.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

/* From a copy of exactly that size, so that a read past its end is seen. */
static int parse(const void *bytes, size_t len, struct gm_proxy_header *out)
{
    uint8_t *copy = malloc(len + (len == 0));
    cr_assert_not_null(copy);
    memcpy(copy, bytes, len);
    int rc = gm_proxy_header_parse(copy, len, out);
    free(copy);
    return rc;
}

/* The verdict on the whole; it must be the same for every beginning once one is given, and no
 * beginning of a good header may have another. */
static int parse_cut(const void *bytes, size_t len, struct gm_proxy_header *out)
{
    int whole = parse(bytes, len, out);
    for (size_t cut = 0; cut < len; cut++) {
        struct gm_proxy_header untouched, header;
        memset(&untouched, 0x5a, sizeof untouched);
        memcpy(&header, &untouched, sizeof header);
        int rc = parse(bytes, cut, &header);
        cr_assert(rc == 0 || rc == whole, "%zu of %zu: %d, not %d", cut, len, rc, whole);
        cr_assert(whole <= 0 || (rc == 0) == (cut < (size_t)whole), "%zu of %zu: %d", cut, len, rc);
        cr_assert(rc > 0 || memcmp(&header, &untouched, sizeof header) == 0);
    }
    return whole;
}

static void expect_source(const struct gm_proxy_header *header, const char *address, unsigned port)
{
    char text[INET6_ADDRSTRLEN];
    cr_assert_eq(header->named, address != NULL);
    if (address == NULL)
        return;
    cr_assert_not_null(inet_ntop(AF_INET6, header->source, text, sizeof text));
    cr_assert_str_eq(text, address);
    cr_assert_eq(header->source_port, port);
}

/* ---- Version 1 ---- */

Test(proxy_v1, good_lines)
{
    static const struct {
        const char *line, *source;
        unsigned port;
    } rows[] = {
        {"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", "::ffff:192.0.2.1", 56324},
        {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "::ffff:255.255.255.255",
         65535},
        {"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "::ffff:0.0.0.0", 0},
        {"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", "2001:db8::1", 1},
        {"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535},
        {"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "::ffff:192.0.2.1", 1},
        {"PROXY UNKNOWN\r\n", NULL, 0},
        {"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
         NULL, 0},
        {"PROXY UNKNOWN what ever \t it says\r\n", NULL, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct gm_proxy_header header;
        char with_more[256];
        size_t len = strlen(rows[i].line);
        int more = snprintf(with_more, sizeof with_more, "%sGET / HTTP/1.1\r\n\r\n", rows[i].line);
        cr_assert_eq(parse_cut(rows[i].line, len, &header), (int)len, "%s", rows[i].line);
        expect_source(&header, rows[i].source, rows[i].port);
        cr_assert_eq(parse_cut(with_more, (size_t)more, &header), (int)len, "%s", rows[i].line);
        expect_source(&header, rows[i].source, rows[i].port);
    }
}

Test(proxy_v1, bad_lines)
{
    static const char *const lines[] = {
        "PROXY \r\n",
        "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 \r\n",
        "PROXY TCP4 192.0.2.1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1\t192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 0x7f.1.1.1 1 2\r\n",
        "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP6 [::1] ::1 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP6 0000:0000:0000:0000:0000:0000:0000:0000: ::1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 02\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 99999\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 100000 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 +2\r\n",
        "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY unknown\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rX",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n",
        "PROXY UNKNOWN \n\r\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct gm_proxy_header header;
        cr_assert_eq(parse_cut(lines[i], strlen(lines[i]), &header), -GM_E_PROTOCOL, "%s",
                     lines[i]);
    }
    static const char zero[] = "PROXY TCP4 192.0.2.1\0 192.0.2.2 1 2\r\n";
    struct gm_proxy_header header;
    cr_assert_eq(parse_cut(zero, sizeof zero - 1, &header), -GM_E_PROTOCOL);
}

Test(proxy_v1, the_limit)
{
    char line[GM_PROXY_V1_MAX + 2];
    struct gm_proxy_header header;
    memset(line, 'x', sizeof line);
    memcpy(line, "PROXY UNKNOWN ", 14);
    cr_assert_eq(parse_cut(line, GM_PROXY_V1_MAX, &header), -GM_E_LIMIT);
    memcpy(line + GM_PROXY_V1_MAX - 2, "\r\n", 2);
    cr_assert_eq(parse_cut(line, GM_PROXY_V1_MAX, &header), (int)GM_PROXY_V1_MAX);
    memcpy(line + GM_PROXY_V1_MAX - 2, "x\r\n", 3);
    cr_assert_eq(parse_cut(line, GM_PROXY_V1_MAX + 1, &header), -GM_E_LIMIT);
    memcpy(line + GM_PROXY_V1_MAX - 2, "xx\r\n", 4);
    cr_assert_eq(parse_cut(line, GM_PROXY_V1_MAX + 2, &header), -GM_E_LIMIT);
}

Test(proxy, what_is_none)
{
    static const char *const starts[] = {
        "GET / HTTP/1.1\r\n", "P",           "PUT", "PROPFIND / ",   "PROXYY", "\r", "\r\n\r\n\r",
        "\x16\x03\x01",       "proxy TCP4 ", " ",   "PRI * HTTP/2.0"};
    static const bool undecided[] = {[1] = true, [5] = true};
    struct gm_proxy_header header;
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        bool open = i < sizeof undecided && undecided[i];
        cr_assert_eq(parse_cut(starts[i], strlen(starts[i]), &header), open ? 0 : -GM_E_NOT_FOUND,
                     "%s", starts[i]);
    }
    cr_assert_eq(parse("", 0, &header), 0);
}

/* ---- Version 2 ---- */

static uint8_t message[1024];

static size_t make_v2(uint8_t command, uint8_t family, size_t len)
{
    memcpy(message, SIGNATURE, 12);
    message[12] = command;
    message[13] = family;
    message[14] = (uint8_t)(len >> 8);
    message[15] = (uint8_t)len;
    for (size_t i = 0; i < len; i++)
        message[16 + i] = (uint8_t)(i + 1);
    return 16 + len;
}

Test(proxy_v2, addresses)
{
    struct gm_proxy_header header;
    size_t len = make_v2(0x21, 0x11, 12);
    cr_assert_eq(parse_cut(message, len, &header), 28);
    expect_source(&header, "::ffff:1.2.3.4", 0x090a);
    cr_assert_eq(parse_cut(message, len + 20, &header), 28);
    len = make_v2(0x21, 0x21, 36);
    cr_assert_eq(parse_cut(message, len, &header), 52);
    expect_source(&header, "102:304:506:708:90a:b0c:d0e:f10", 0x2122);
    len = make_v2(0x21, 0x31, 216);
    cr_assert_eq(parse_cut(message, len, &header), 232);
    expect_source(&header, NULL, 0);
}

Test(proxy_v2, senders_without_a_client)
{
    static const uint8_t rows[][2] = {{0x20, 0x00}, {0x20, 0x11}, {0x20, 0x21}, {0x20, 0xff},
                                      {0x21, 0x00}, {0x21, 0x01}, {0x21, 0x10}, {0x21, 0x20}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct gm_proxy_header header;
        size_t len = make_v2(rows[i][0], rows[i][1], 40);
        cr_assert_eq(parse_cut(message, len, &header), (int)len, "%zu", i);
        expect_source(&header, NULL, 0);
    }
    struct gm_proxy_header header;
    cr_assert_eq(parse_cut(message, make_v2(0x20, 0, 0), &header), 16);
    cr_assert_eq(parse_cut(message, make_v2(0x20, 0x21, 3), &header), 19);
    cr_assert_eq(parse_cut(message, make_v2(0x21, 0, 0), &header), 16);
}

Test(proxy_v2, what_follows_the_addresses_is_skipped)
{
    struct gm_proxy_header header;
    size_t len = make_v2(0x21, 0x11, 12 + 60);
    cr_assert_eq(parse_cut(message, len, &header), (int)len);
    expect_source(&header, "::ffff:1.2.3.4", 0x090a);
    len = make_v2(0x21, 0x21, GM_PROXY_HEADER_MAX - 16);
    cr_assert_eq(parse_cut(message, len, &header), (int)GM_PROXY_HEADER_MAX);
}

Test(proxy_v2, lengths)
{
    static const struct {
        uint8_t command, family;
        size_t len;
        int error;
    } rows[] = {
        {0x21, 0x11, 11, -GM_E_PROTOCOL}, {0x21, 0x11, 0, -GM_E_PROTOCOL},
        {0x21, 0x21, 35, -GM_E_PROTOCOL}, {0x21, 0x31, 215, -GM_E_PROTOCOL},
        {0x21, 0x10, 11, -GM_E_PROTOCOL}, {0x21, 0x11, GM_PROXY_HEADER_MAX - 15, -GM_E_LIMIT},
        {0x20, 0x00, 600, -GM_E_LIMIT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct gm_proxy_header header;
        size_t len = make_v2(rows[i].command, rows[i].family, rows[i].len);
        cr_assert_eq(parse_cut(message, len, &header), rows[i].error, "%zu", i);
        cr_assert_eq(parse(message, 16, &header), rows[i].error, "%zu", i);
    }
    struct gm_proxy_header header;
    (void)make_v2(0x21, 0x11, 0);
    message[14] = message[15] = 0xff;
    cr_assert_eq(parse(message, 16, &header), -GM_E_LIMIT);
}

/* Every value of the two bytes that say what it is. */
Test(proxy_v2, every_command_and_family)
{
    for (unsigned command = 0; command < 256; command++) {
        for (unsigned family = 0; family < 256; family++) {
            struct gm_proxy_header header;
            size_t len = make_v2((uint8_t)command, (uint8_t)family, 216);
            bool local = command == 0x20;
            bool good = local || (command == 0x21 && family >> 4 <= 3 && (family & 15) <= 1);
            bool named = command == 0x21 && (family == 0x11 || family == 0x21);
            int rc = parse(message, len, &header);
            cr_assert_eq(rc, good ? (int)len : -GM_E_PROTOCOL, "%02x %02x", command, family);
            cr_assert(!good || header.named == named, "%02x %02x", command, family);
        }
    }
}

/* A wrong byte anywhere in the signature is told with that byte. */
Test(proxy_v2, the_signature)
{
    for (size_t i = 0; i < 12; i++) {
        struct gm_proxy_header header;
        size_t len = make_v2(0x21, 0x11, 12);
        message[i] ^= 0x20;
        cr_assert_eq(parse(message, i, &header), 0);
        cr_assert_eq(parse(message, i + 1, &header), -GM_E_NOT_FOUND);
        cr_assert_eq(parse_cut(message, len, &header), -GM_E_NOT_FOUND);
    }
}
