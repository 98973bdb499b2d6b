/*
 * Sets of status codes: what they hold, and what is no set.
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "config/codes.h"

static unsigned size_of(const struct gm_codes *codes)
{
    unsigned count = 0;
    for (unsigned code = 0; code < 2000; code++)
        count += gm_codes_has(codes, code);
    return count;
}

Test(codes, sets)
{
    struct gm_codes codes;
    cr_assert_eq(gm_codes_parse("200-299", &codes), 0);
    cr_assert_eq(size_of(&codes), 100);
    cr_assert(gm_codes_has(&codes, 200) && gm_codes_has(&codes, 299));
    cr_assert_not(gm_codes_has(&codes, 199) || gm_codes_has(&codes, 300));
    cr_assert_eq(gm_codes_parse(" 204 , 301-303,404", &codes), 0);
    cr_assert_eq(size_of(&codes), 5);
    cr_assert(gm_codes_has(&codes, 204) && gm_codes_has(&codes, 302) && gm_codes_has(&codes, 404));
    cr_assert_eq(gm_codes_parse("100-999", &codes), 0);
    cr_assert_eq(size_of(&codes), 900);
    cr_assert_eq(gm_codes_parse("503", &codes), 0);
    cr_assert_eq(size_of(&codes), 1);
}

Test(codes, refusals)
{
    static const struct {
        const char *text;
        int rc;
    } cases[] = {
        {"", -EINVAL},        {",", -EINVAL},           {"200,", -EINVAL},
        {"2xx", -EINVAL},     {"20", -EINVAL},          {"2000", -EINVAL},
        {"200-", -EINVAL},    {"200 300", -EINVAL},     {"200-299x", -EINVAL},
        {"-200", -EINVAL},    {"099", -ERANGE},         {"000-999", -ERANGE},
        {"299-200", -ERANGE}, {"200,300-299", -ERANGE}, {"200--201", -EINVAL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gm_codes codes = {{1}};
        cr_assert_eq(gm_codes_parse(cases[i].text, &codes), cases[i].rc, "%s", cases[i].text);
        cr_assert_eq(codes.bits[0], 1, "untouched: %s", cases[i].text);
    }
}
