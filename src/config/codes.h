/*
 * A set of HTTP status codes as people type it: 200-299,304. Pure.
 */
#ifndef GM_CONFIG_CODES_H
#define GM_CONFIG_CODES_H

#include <stdbool.h>
#include <stdint.h>

/* What a status line may hold. */
#define GM_CODE_MIN 100u
#define GM_CODE_MAX 999u

struct gm_codes {
    uint8_t bits[(GM_CODE_MAX + 8u) / 8u]; /* bit n: code n is in the set */
};

/* Codes and ranges with commas between, white space around each. 0; -EINVAL (not of the form) or
 * -ERANGE (a code that no status line holds, or a range whose end is below its beginning). *out is
 * untouched then. */
__attribute__((warn_unused_result)) int gm_codes_parse(const char *text, struct gm_codes *out);

/* Whether the set holds it; any number. */
bool gm_codes_has(const struct gm_codes *codes, unsigned code);

#endif
