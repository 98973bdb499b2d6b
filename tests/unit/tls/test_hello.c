/* The name in a ClientHello: found over every cut and every division into records, and not found
 * where there is none. */
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

static uint8_t wire[40000];
static size_t wire_len;

static void put(const void *bytes, size_t len)
{
    memcpy(wire + wire_len, bytes, len);
    wire_len += len;
}
static void put_u16(size_t n)
{
    put((uint8_t[]){(uint8_t)(n >> 8), (uint8_t)n}, 2);
}

/* A hello without its record header: an unknown extension of `padding` bytes, then the name. */
static size_t make_message(const char *name, size_t padding)
{
    size_t name_len = strlen(name), extensions = 4 + padding + 4 + 5 + name_len;
    size_t body = 2 + 32 + 1 + 2 + 2 + 2 + 2 + extensions;
    wire_len = 0;
    put((uint8_t[]){1, (uint8_t)(body >> 16), (uint8_t)(body >> 8), (uint8_t)body, 3, 3}, 6);
    memset(wire + wire_len, 7, 32);
    wire_len += 32;
    put((uint8_t[]){0, 0, 2, 0x13, 0x01, 1, 0}, 7);
    put_u16(extensions);
    put_u16(0xFAFA);
    put_u16(padding);
    memset(wire + wire_len, 9, padding);
    wire_len += padding;
    put_u16(0);
    put_u16(5 + name_len);
    put_u16(3 + name_len);
    put((uint8_t[]){0}, 1);
    put_u16(name_len);
    put(name, name_len);
    return wire_len;
}

/* Divides what is in `wire` into records of `size` bytes. */
static void make_records(size_t size)
{
    static uint8_t message[sizeof wire];
    size_t len = wire_len;
    memcpy(message, wire, len);
    wire_len = 0;
    for (size_t at = 0; at < len; at += size) {
        size_t n = len - at < size ? len - at : size;
        put((uint8_t[]){22, 3, 1}, 3);
        put_u16(n);
        put(message + at, n);
    }
}

static int peek(size_t len, uint32_t cut, struct gm_tls_hello *out)
{
    struct end end = {0};
    world.cut = cut;
    arrive(&end, wire, len);
    int rc = gm_tls_hello_peek(&end.in, out);
    cr_assert_eq(end.in.bytes, len, "nothing is consumed");
    gm_chain_clear(&end.in, world_segs());
    return rc;
}

static void init(void)
{
    world_plan(&(struct plan){0});
}

TestSuite(hello, .init = init, .fini = world_end);

Test(hello, the_name_is_found_in_any_division)
{
    static const size_t sizes[] = {1, 2, 3, 4, 5, 17, 100, 4000};
    static const uint32_t cuts[] = {0, 1, 2, 7, CUT_RANDOM};
    struct gm_tls_hello hello;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        make_message("Host.Example.TEST", 50);
        make_records(sizes[i]);
        for (size_t c = 0; c < sizeof cuts / sizeof cuts[0]; c++) {
            cr_assert_eq(peek(wire_len, cuts[c], &hello), 1, "%zu %u", sizes[i], cuts[c]);
            cr_assert_str_eq(hello.name, "host.example.test");
            cr_assert_eq(hello.headless, sizes[i] < 4);
        }
        for (size_t len = 1; len < wire_len; len++) {
            cr_assert_eq(peek(len, 0, &hello), 0, "%zu of %zu", len, wire_len);
            cr_assert(hello.missing > 0 && hello.missing <= wire_len - len);
        }
    }
}

Test(hello, crumbs_are_joined_to_one_record)
{
    static uint8_t whole[sizeof wire];
    struct gm_tls_hello hello;
    size_t len = make_message("a.test", 20);
    memcpy(whole, wire, len);
    for (size_t size = 1; size < 4; size++) {
        struct end end = {0};
        uint32_t joined_len = 0;
        make_message("a.test", 20);
        make_records(size);
        put("\x14\x03\x03", 3);
        world.cut = 7;
        arrive(&end, wire, wire_len);
        cr_assert_eq(gm_tls_hello_peek(&end.in, &hello), 1);
        cr_assert(hello.headless);
        uint8_t *joined = gm_tls_hello_join(&end.in, world_segs(), &joined_len);
        cr_assert_not_null(joined);
        cr_assert_eq(joined_len, 5 + len);
        cr_assert_eq(memcmp(joined, (uint8_t[]){22, 3, 1, (uint8_t)(len >> 8), (uint8_t)len}, 5),
                     0);
        cr_assert_eq(memcmp(joined + 5, whole, len), 0);
        cr_assert_eq(end.in.bytes, 3, "what follows stays");
        free(joined);
        gm_chain_clear(&end.in, world_segs());
    }
}

Test(hello, one_that_shares_its_last_record_is_not_joined)
{
    struct gm_tls_hello hello;
    size_t padding = 20;
    while (make_message("a.test", padding) % 3 != 2)
        padding++;
    put("x", 1);
    make_records(3);
    cr_assert_eq(peek(wire_len, 0, &hello), 1);
    cr_assert_str_eq(hello.name, "a.test");
    cr_assert_not(hello.headless);
}

Test(hello, what_follows_is_left_alone)
{
    struct gm_tls_hello hello;
    make_message("a.test", 0);
    make_records(1000);
    put("\x17\x03\x03", 3);
    cr_assert_eq(peek(wire_len, 0, &hello), 1);
    cr_assert_str_eq(hello.name, "a.test");
}

Test(hello, a_long_one_is_waited_for_and_a_longer_one_refused)
{
    struct gm_tls_hello hello;
    make_message("a.test", 15000);
    make_records(5000);
    cr_assert_eq(peek(wire_len, 0, &hello), 1);
    cr_assert_str_eq(hello.name, "a.test");
    make_message("a.test", GM_TLS_HELLO_MAX);
    make_records(5000);
    cr_assert_eq(peek(100, 0, &hello), 0);
    cr_assert_eq(peek(5005, 0, &hello), -GM_E_LIMIT);
}

Test(hello, text_and_rubbish_are_told_apart)
{
    struct gm_tls_hello hello;
    static const struct {
        const char *bytes;
        int rc;
    } cases[] = {
        {"GET / HTTP/1.1\r\n", -GM_E_TLS_PLAINTEXT},
        {"P", -GM_E_TLS_PLAINTEXT},
        {"\r\n", -GM_E_TLS_PLAINTEXT},
        {"SSH-2.0", -GM_E_TLS_PLAINTEXT},
        {"\x80\x2E\x01\x03\x01", -GM_E_TLS_RECORD},
        {"\x01", -GM_E_TLS_RECORD},
        {"\x16", 0},
        {"\x15\x03\x03", 0},
        {"\x15\x03\x03\x01\x02\x02\x28", 1}, /* an alert is for the library to judge */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        wire_len = 0;
        put(cases[i].bytes, strlen(cases[i].bytes));
        cr_assert_eq(peek(wire_len, 0, &hello), cases[i].rc, "case %zu", i);
    }
}

Test(hello, names_that_no_host_has_are_not_taken)
{
    static const char *const names[] = {"a b.test", "a..test", "", "\x01", "a/../b", "\"a\""};
    struct gm_tls_hello hello;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        make_message(names[i], 3);
        make_records(1000);
        cr_assert_eq(peek(wire_len, 0, &hello), 1);
        cr_assert_str_eq(hello.name, "");
    }
}

/* Every byte changed in turn: no crash, and never a name that is not normal. */
Test(hello, damage_is_borne)
{
    struct gm_tls_hello hello;
    char normal[GM_TLS_NAME_BYTES];
    make_message("a.test", 10);
    make_records(60);
    for (size_t i = 0; i < wire_len; i++) {
        for (unsigned flip = 1; flip < 256; flip <<= 1) {
            wire[i] ^= (uint8_t)flip;
            int rc = peek(wire_len, 0, &hello);
            cr_assert(rc <= 1);
            if (rc == 1 && hello.name[0] != '\0')
                cr_assert(gm_tls_name_normal(hello.name, strlen(hello.name), normal));
            wire[i] ^= (uint8_t)flip;
        }
    }
}
