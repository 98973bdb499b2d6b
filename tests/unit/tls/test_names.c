/* Host names: which are names, which are addresses, and what a certificate's pattern stands for. */
#include <criterion/criterion.h>
#include <string.h>

#include "tls/names.h"

static bool matches(const char *pattern, const char *host)
{
    return gm_tls_name_matches(pattern, strlen(pattern), host);
}

Test(names, patterns_stand_for_what_rfc_6125_says)
{
    cr_assert(matches("example.test", "example.test"));
    cr_assert(matches("EXAMPLE.Test.", "example.test"));
    cr_assert(matches("*.example.test", "a.example.test"));
    cr_assert(!matches("*.example.test", "example.test"));
    cr_assert(!matches("*.example.test", "a.b.example.test"));
    cr_assert(!matches("*.example.test", ".example.test"));
    cr_assert(!matches("f*.example.test", "foo.example.test"));
    cr_assert(!matches("*o.example.test", "foo.example.test"));
    cr_assert(!matches("a.*.test", "a.example.test"));
    cr_assert(!matches("*.*.test", "a.example.test"));
    cr_assert(!matches("*.test", "example.test"));
    cr_assert(!matches("*", "example"));
    cr_assert(!matches("", ""));
    cr_assert(!matches("example.test", "example.tes"));
    cr_assert(!gm_tls_name_matches("example.test\0.evil", 18, "example.test"));
}

Test(names, only_names_are_normal)
{
    char out[GM_TLS_NAME_BYTES], longest[300];
    cr_assert(gm_tls_name_normal("A-b_1.Example.", 14, out));
    cr_assert_str_eq(out, "a-b_1.example");
    static const char *const bad[] = {"",    ".",    "..",        "a..b",  ".a",  "a b",
                                      "a/b", "a\tb", "J\xC3\xB6", "a.b..", "a:1", "a\"b"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert(!gm_tls_name_normal(bad[i], strlen(bad[i]), out), "%s", bad[i]);
        cr_assert_str_eq(out, "");
    }
    memset(longest, 'a', sizeof longest);
    cr_assert(gm_tls_name_normal(longest, GM_TLS_NAME_BYTES - 1, out));
    cr_assert(!gm_tls_name_normal(longest, GM_TLS_NAME_BYTES, out));
}

Test(names, addresses_are_told_from_names)
{
    uint8_t out[16];
    cr_assert_eq(gm_tls_name_address("192.0.2.1", out), 4);
    cr_assert_eq(memcmp(out, "\xC0\0\2\1", 4), 0);
    cr_assert_eq(gm_tls_name_address("2001:db8::1", out), 16);
    cr_assert_eq(gm_tls_name_address("[2001:db8::1]", out), 16);
    cr_assert_eq(out[15], 1);
    static const char *const names[] = {
        "example.test", "1.2.3", "1.2.3.4.5", "", "[]", "[a", "1.2.3.4.example.test", "::g"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        cr_assert_eq(gm_tls_name_address(names[i], out), 0, "%s", names[i]);
}
