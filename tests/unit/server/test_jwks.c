/* When a JWK Set is fetched again, and what is taken for its address. */
#include <criterion/criterion.h>

#include "server/jwks.h"

#define SECOND 1000000000ull
#define LEN(a) (sizeof(a) / sizeof(a)[0])

Test(jwks, when_it_is_fetched)
{
    static const struct {
        struct gm_jwks_when when;
        bool due;
    } cases[] = {
        /* All is well: every refresh. */
        {{299 * SECOND, 300 * SECOND, 0, false}, false},
        {{300 * SECOND, 300 * SECOND, 0, false}, true},
        /* An unknown key: sooner, but not at once. */
        {{29 * SECOND, 300 * SECOND, 0, true}, false},
        {{30 * SECOND, 300 * SECOND, 0, true}, true},
        {{1 * SECOND, 1 * SECOND, 0, true}, true},
        /* Failures: 1, 2, 4 … 30 s. */
        {{SECOND - 1, 300 * SECOND, 1, false}, false},
        {{1 * SECOND, 300 * SECOND, 1, false}, true},
        {{1 * SECOND, 300 * SECOND, 2, false}, false},
        {{2 * SECOND, 300 * SECOND, 2, false}, true},
        {{15 * SECOND, 300 * SECOND, 5, false}, false},
        {{16 * SECOND, 300 * SECOND, 5, false}, true},
        {{29 * SECOND, 300 * SECOND, 6, false}, false},
        {{30 * SECOND, 300 * SECOND, 6, false}, true},
        {{29 * SECOND, 300 * SECOND, UINT32_MAX, true}, false},
        {{30 * SECOND, 300 * SECOND, UINT32_MAX, false}, true},
        /* Never later than without a failure. */
        {{5 * SECOND, 5 * SECOND, 9, false}, true},
    };
    for (size_t i = 0; i < LEN(cases); i++)
        cr_assert_eq(gm_jwks_is_due(&cases[i].when), cases[i].due, "case %zu", i);
}

Test(jwks, address_or_file)
{
    static const char *const addresses[] = {"http://h/k", "https://h", "HTTPS://h", "http://"},
                             *const files[] = {"", "http:/h", "/etc/keys.json", "httpss://h",
                                               "ftp://h"};
    for (size_t i = 0; i < LEN(addresses); i++)
        cr_assert(gm_jwks_is_url(addresses[i]), "%s", addresses[i]);
    for (size_t i = 0; i < LEN(files); i++)
        cr_assert_not(gm_jwks_is_url(files[i]), "%s", files[i]);
}
