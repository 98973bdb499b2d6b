/*
 * Networks: what is read, what is refused and where, which addresses lie inside.
 */
#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/cidr.h"

static struct gm_arena arena;
static struct gm_cidr_list list;
static const char *wrong;

static int parse(const char *text)
{
    gm_arena_fini(&arena);
    list = (struct gm_cidr_list){0};
    return gm_cidr_parse(text, &arena, &list, &wrong);
}

static bool holds(const char *address)
{
    uint8_t bytes[16] = {[10] = 0xff, [11] = 0xff};
    if (inet_pton(AF_INET, address, bytes + 12) != 1)
        cr_assert_eq(inet_pton(AF_INET6, address, bytes), 1, "%s", address);
    return gm_cidr_holds(&list, bytes);
}

Test(cidr, edges_of_networks)
{
    static const struct {
        const char *network, *in, *also_in, *out, *also_out;
    } rows[] = {
        {"10.0.0.0/8", "10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"},
        {"192.168.16.0/20", "192.168.16.0", "192.168.31.255", "192.168.15.255", "192.168.32.0"},
        {"192.0.2.7", "192.0.2.7", "::ffff:192.0.2.7", "192.0.2.6", "::192.0.2.7"},
        {"192.0.2.7/32", "192.0.2.7", "192.0.2.7", "192.0.2.8", "0.0.0.0"},
        {"192.0.2.6/31", "192.0.2.6", "192.0.2.7", "192.0.2.5", "192.0.2.8"},
        {"0.0.0.0/0", "0.0.0.0", "255.255.255.255", "::", "2001:db8::1"},
        {"::/0", "::", "2001:db8::1", "127.0.0.1", "::ffff:1.2.3.4"},
        {"::/80", "::", "::1:2:3", "127.0.0.1", "0:0:0:0:1::"},
        {"::ffff:0.0.0.0/96", "1.2.3.4", "::ffff:1.2.3.4", "::1", "::fffe:1.2.3.4"},
        {"::ffff:10.0.0.0/104", "10.1.2.3", "::ffff:a01:203", "11.0.0.0", "::10.1.2.3"},
        {"2001:db8::/32", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
         "2001:db9::", "2001:db7:ffff::"},
        {"2001:DB8:0:8000::/49", "2001:db8:0:8000::", "2001:db8:0:ffff::1",
         "2001:db8:0:7fff::", "2001:db8:1:8000::"},
        {"::1", "::1", "::1", "::", "127.0.0.1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cr_assert_eq(parse(rows[i].network), 0, "%s", rows[i].network);
        cr_assert_eq(list.count, 1);
        cr_assert(holds(rows[i].in), "%s", rows[i].network);
        cr_assert(holds(rows[i].also_in), "%s", rows[i].network);
        cr_assert_not(holds(rows[i].out), "%s", rows[i].network);
        cr_assert_not(holds(rows[i].also_out), "%s", rows[i].network);
    }
    gm_arena_fini(&arena);
}

Test(cidr, lists)
{
    cr_assert_eq(parse(" 10.0.0.0/8 ,\t2001:db8::/32,\n192.0.2.1 \t"), 0);
    cr_assert_eq(list.count, 3);
    cr_assert(holds("10.1.1.1") && holds("2001:db8::5") && holds("192.0.2.1"));
    cr_assert_not(holds("192.0.2.2") || holds("::1"));
    cr_assert_eq(parse(" none "), 0);
    cr_assert_eq(list.count, 0);
    cr_assert_null(list.items);
    cr_assert_not(holds("0.0.0.0") || holds("::"));
    gm_arena_fini(&arena);
}

Test(cidr, refusals_name_the_item)
{
    static const struct {
        const char *text;
        int rc;
        size_t at;
    } rows[] = {
        {"", -EINVAL, 0},
        {",", -EINVAL, 0},
        {"10.0.0.0/8,", -EINVAL, 11},
        {"10.0.0.0/8,,::1", -EINVAL, 11},
        {"10.0.0.0/8, none", -EINVAL, 12},
        {"none,10.0.0.0/8", -EINVAL, 0},
        {"NONE", -EINVAL, 0},
        {"::1, 10.0.0.1/8", -ERANGE, 5},
        {"2001:db8::1/32", -ERANGE, 0},
        {"128.0.0.0/0", -ERANGE, 0},
        {"10.128.0.0/8", -ERANGE, 0},
        {"10.0.0.3/31", -ERANGE, 0},
        {"::ffff:10.0.0.0/90", -ERANGE, 0},
        {"10.0.0.0/33", -EINVAL, 0},
        {"::/129", -EINVAL, 0},
        {"10.0.0.0/", -EINVAL, 0},
        {"10.0.0.0/08", -EINVAL, 0},
        {"10.0.0.0/+8", -EINVAL, 0},
        {"10.0.0.0/8/8", -EINVAL, 0},
        {"10.0.0.0/8x", -EINVAL, 0},
        {"10.0.0.0/4294967304", -EINVAL, 0},
        {"10.0.0/8", -EINVAL, 0},
        {"10.0.0.00/8", -EINVAL, 0},
        {"10.0.0.256", -EINVAL, 0},
        {"10.0.0.0 /8", -EINVAL, 0},
        {"[::1]", -EINVAL, 0},
        {"fe80::1%eth0", -EINVAL, 0},
        {"localhost", -EINVAL, 0},
        {"1111:2222:3333:4444:5555:6666:7777:8888:9999/128 1111:2222:3333", -EINVAL, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cr_assert_eq(parse(rows[i].text), rows[i].rc, "%s", rows[i].text);
        cr_assert_eq((size_t)(wrong - rows[i].text), rows[i].at, "%s", rows[i].text);
        cr_assert_eq(list.count, 0);
    }
}

Test(cidr, no_more_than_the_limit)
{
    size_t cap = (GM_CIDR_MAX + 1) * 16, len = 0;
    char *text = calloc(1, cap);
    cr_assert_not_null(text);
    for (unsigned i = 0; i < GM_CIDR_MAX; i++)
        len += (size_t)snprintf(text + len, cap - len, "%s10.0.%u.%u", i > 0 ? "," : "", i / 8, i);
    cr_assert_eq(parse(text), 0);
    cr_assert_eq(list.count, GM_CIDR_MAX);
    cr_assert(holds("10.0.31.255") && holds("10.0.0.0"));
    (void)snprintf(text + len, cap - len, ",::1");
    cr_assert_eq(parse(text), -E2BIG);
    cr_assert_str_eq(wrong, "::1");
    gm_arena_fini(&arena);
    free(text);
}

/* Against the definition, bit by bit: every prefix length of both families, each bit flipped. */
Test(cidr, every_prefix_and_every_bit)
{
    for (unsigned family = 0; family < 2; family++) {
        unsigned width = family == 0 ? 32 : 128;
        for (unsigned bits = 0; bits <= width; bits++) {
            char item[64], address[INET6_ADDRSTRLEN];
            uint8_t base[16] = {0};
            uint8_t *from = family == 0 ? base + 12 : base;
            for (unsigned bit = 0; bit < bits; bit++)
                from[bit / 8] |= (uint8_t)(0x80u >> bit % 8);
            if (family == 0)
                base[10] = base[11] = 0xff;
            cr_assert_not_null(
                inet_ntop(family == 0 ? AF_INET : AF_INET6, from, address, sizeof address));
            (void)snprintf(item, sizeof item, "%s/%u", address, bits);
            cr_assert_eq(parse(item), 0, "%s", item);
            cr_assert(gm_cidr_holds(&list, base), "%s", item);
            for (unsigned bit = 0; bit < width; bit++) {
                from[bit / 8] ^= (uint8_t)(0x80u >> bit % 8);
                cr_assert_eq(gm_cidr_holds(&list, base), bit >= bits, "%s bit %u", item, bit);
                from[bit / 8] ^= (uint8_t)(0x80u >> bit % 8);
            }
        }
    }
    gm_arena_fini(&arena);
}
