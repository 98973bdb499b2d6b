/*
 * Sets of status codes. Pure.
 */
#include "config/codes.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static const char *skip_space(const char *at)
{
    return at + strspn(at, " \t");
}

/* Three digits; moves *at behind them. */
static int take_code(const char **at, unsigned *out)
{
    const char *text = skip_space(*at);
    if (strspn(text, "0123456789") != 3)
        return -EINVAL;
    *out = (unsigned)(text[0] - '0') * 100u + (unsigned)(text[1] - '0') * 10u +
           (unsigned)(text[2] - '0');
    *at = skip_space(text + 3);
    return *out < GM_CODE_MIN ? -ERANGE : 0;
}

/* A code, or two with a hyphen between. */
static int take_range(const char **at, struct gm_codes *codes)
{
    unsigned from = 0, to = 0;
    int rc = take_code(at, &from);
    to = from;
    if (rc == 0 && **at == '-') {
        (*at)++;
        rc = take_code(at, &to);
    }
    if (rc < 0)
        return rc;
    if (to < from)
        return -ERANGE;
    for (unsigned code = from; code <= to; code++)
        codes->bits[code / 8] = (uint8_t)(codes->bits[code / 8] | 1u << code % 8);
    return 0;
}

int gm_codes_parse(const char *text, struct gm_codes *out)
{
    struct gm_codes codes = {0};
    int rc = take_range(&text, &codes);
    while (rc == 0 && *text == ',') {
        text++;
        rc = take_range(&text, &codes);
    }
    if (rc < 0)
        return rc;
    if (*text != '\0')
        return -EINVAL;
    *out = codes;
    return 0;
}

bool gm_codes_has(const struct gm_codes *codes, unsigned code)
{
    return code <= GM_CODE_MAX && (codes->bits[code / 8] & 1u << code % 8) != 0;
}
