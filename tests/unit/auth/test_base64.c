/*
 * Base64 of tokens and of PEM: round trips, lax trailing bits, refusals.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "auth/base64.h"
#include "base/equal.h"

Test(base64, round_trip_at_every_length)
{
    uint8_t in[100];
    uint8_t out[GM_BASE64_DECODED_MAX(sizeof(in) * 2)];
    char text[GM_BASE64_ENCODED_MAX(sizeof(in))];
    for (size_t i = 0; i < sizeof(in); i++)
        in[i] = (uint8_t)(i * 37 + 11);
    for (size_t len = 0; len <= sizeof(in); len++) {
        size_t n = gm_base64url_encode(text, in, len);
        cr_assert_eq(n, (len * 4 + 2) / 3);
        cr_assert_eq(gm_base64url_decode(out, text, n), (int64_t)len);
        cr_assert_eq(memcmp(in, out, len), 0);
        n = gm_base64_encode(text, in, len);
        cr_assert_eq(n, (len + 2) / 3 * 4);
        cr_assert_eq(gm_base64_decode(out, text, n), (int64_t)len);
        cr_assert_eq(memcmp(in, out, len), 0);
    }
}

Test(base64, url_examples)
{
    uint8_t out[16];
    cr_expect_eq(gm_base64url_decode(out, "-_-_", 4), 3);
    cr_expect_eq(memcmp(out, "\xfb\xff\xbf", 3), 0);
    /* trailing bits are ignored */
    cr_expect_eq(gm_base64url_decode(out, "YX", 2), 1);
    cr_expect_eq(out[0], 'a');
    cr_expect_eq(gm_base64url_decode(out, "YWF", 3), 2);
    cr_expect_eq(memcmp(out, "aa", 2), 0);

    static const char *const bad[] = {"Y",   "YWJjY", "YQ==",     "Y+", "Y/",
                                      "Y Q", "Y\nQQ", "\xff\xff", "Y.Q"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect_eq(gm_base64url_decode(out, bad[i], strlen(bad[i])), -1, "%s", bad[i]);
}

Test(base64, pem_examples)
{
    uint8_t out[16];
    cr_expect_eq(gm_base64_decode(out, "Y\r\nQ =\t=\n", 9), 1);
    cr_expect_eq(gm_base64_decode(out, "+/+/", 4), 3);
    static const char *const bad[] = {
        "Y", "YQ", "YQ=", "YQ===", "Y===", "====", "YQ==YQ==", "-_-_", "YWJj="};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect_eq(gm_base64_decode(out, bad[i], strlen(bad[i])), -1, "%s", bad[i]);
}

Test(equal, every_position_counts)
{
    unsigned char a[40];
    unsigned char b[40];
    memset(a, 7, sizeof(a));
    memset(b, 7, sizeof(b));
    for (size_t len = 0; len <= sizeof(a); len++) {
        cr_assert(gm_equal_constant_time(a, b, len));
        for (size_t i = 0; i < sizeof(a); i++) {
            b[i] ^= 0x80;
            cr_assert_eq(gm_equal_constant_time(a, b, len), i >= len);
            b[i] ^= 0x80;
        }
    }
}
