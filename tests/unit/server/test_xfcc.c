/*
 * The subject of a certificate as a field: it can neither end the quotes nor the line.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "server/xfcc.h"

Test(xfcc, escapes)
{
    static const struct {
        const char *subject, *value;
    } cases[] = {
        {"CN=agent-1,O=Example", "Subject=\"CN=agent-1,O=Example\""},
        {"", "Subject=\"\""},
        {"CN=a\\,b", "Subject=\"CN=a\\,b\""},
        {"CN=a\\\"b", "Subject=\"CN=a\\\"b\""},
        {"CN=a\"b", "Subject=\"CN=a\\\"b\""},
        {"CN=a\\", "Subject=\"CN=a\\\\\""},
        {"CN=a\\\\", "Subject=\"CN=a\\\\\""},
        {"CN=a\\\\\"", "Subject=\"CN=a\\\\\\\"\""},
        {"CN=a\r\nX: y", "Subject=\"CN=a\\0d\\0aX: y\""},
        {"CN=a\\\n", "Subject=\"CN=a\\\\\\0a\""},
        {"CN=\x7f\x01", "Subject=\"CN=\\7f\\01\""},
        {"CN=J\xc3\xb6rg", "Subject=\"CN=J\xc3\xb6rg\""},
    };
    char out[GM_XFCC_MAX + 1];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t len = gm_xfcc_write(cases[i].subject, out);
        out[len] = '\0';
        cr_assert_str_eq(out, cases[i].value);
    }
}

/* Whatever the length: it fits whole, or not at all. */
Test(xfcc, length)
{
    static const char fillers[] = {'a', '"', '\n', '\\'};
    char subject[GM_XFCC_MAX + 2], out[GM_XFCC_MAX + 16];
    for (size_t f = 0; f < sizeof fillers; f++) {
        bool ended = false;
        for (size_t n = 1; n <= GM_XFCC_MAX; n++) {
            memset(subject, fillers[f], n);
            subject[n] = '\0';
            memset(out, '#', sizeof out);
            size_t len = gm_xfcc_write(subject, out);
            cr_assert(len <= GM_XFCC_MAX && (len == 0 || out[len - 1] == '"'));
            cr_assert_eq(out[GM_XFCC_MAX], '#');
            cr_assert(!ended || len == 0, "a longer one fits");
            ended = len == 0;
        }
        cr_assert(ended);
    }
}
