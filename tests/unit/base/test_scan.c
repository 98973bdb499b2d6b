/* base/scan.h against its byte-wise definition: every byte at every position of every length around
 * the block sizes, in memory that ends with the run. Owner: the test. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/scan.h"

#define LEN_MAX 50u

static const char marks[] = "-_";

static bool text_expected(uint8_t c, enum gm_scan_rule rule)
{
    if (c == ' ' || c == '\t')
        return rule == GM_SCAN_SPACED;
    return c > 0x20 && c != 0x7f;
}

static bool plain_expected(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

static void check_run(char *run, size_t len, uint8_t c)
{
    for (size_t at = 0; at < len; at++) {
        memset(run, 'x', len);
        run[at] = (char)c;
        cr_assert_eq(gm_scan_plain(run, len, marks), plain_expected(c), "%u at %zu of %zu", c, at,
                     len);
        cr_assert_eq(gm_scan_text(run, len, GM_SCAN_SPACED), text_expected(c, GM_SCAN_SPACED),
                     "%u at %zu of %zu", c, at, len);
        cr_assert_eq(gm_scan_text(run, len, GM_SCAN_VISIBLE), text_expected(c, GM_SCAN_VISIBLE),
                     "%u at %zu of %zu", c, at, len);
    }
}

Test(scan, every_byte_everywhere)
{
    for (size_t len = 1; len <= LEN_MAX; len++) {
        char *run = malloc(len); /* so that a sanitizer sees a byte read behind it */
        cr_assert_not_null(run);
        for (unsigned c = 0; c < 256; c++)
            check_run(run, len, (uint8_t)c);
        free(run);
    }
}

Test(scan, nothing_is_fine)
{
    cr_assert(gm_scan_plain("", 0, marks));
    cr_assert(gm_scan_text("", 0, GM_SCAN_VISIBLE));
}
