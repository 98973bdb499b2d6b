/*
 * Fuzz target: pattern, NUL, name. Checks laws that hold for every pattern: a malformed one matches
 * nothing; a star in front or behind only widens; an escaped text matches itself and nothing else.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "auth/glob.h"

enum { TEXT_MAX = 512 };

static void check(bool law)
{
    if (!law)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = memchr(data, 0, size);
    if (nul == NULL || size > TEXT_MAX)
        return 0;
    size_t pattern_len = (size_t)(nul - data);
    size_t name_len = size - pattern_len - 1;
    /* Blocks of their own, so that a step past either end is seen. */
    char *pattern = malloc(pattern_len + 2);
    char *name = malloc(name_len + (name_len == 0));
    char *escaped = malloc(2 * name_len + 1);
    if (pattern == NULL || name == NULL || escaped == NULL)
        abort();
    memcpy(pattern, data, pattern_len);
    memcpy(name, nul + 1, name_len);

    bool valid = gm_glob_valid(pattern, pattern_len);
    bool matches = gm_glob_match(pattern, pattern_len, name, name_len);
    check(valid || !matches);
    /* A last star matches the empty rest; only an unclosed class or escape swallows it. */
    pattern[pattern_len] = '*';
    check(!matches || gm_glob_match(pattern, pattern_len + 1, name, name_len));

    for (size_t i = 0; i < name_len; i++) {
        escaped[2 * i] = '\\';
        escaped[2 * i + 1] = name[i];
    }
    check(gm_glob_match(escaped, 2 * name_len, name, name_len));
    check(name_len == 0 || !gm_glob_match(escaped, 2 * name_len, name, name_len - 1));
    bool slash = memchr(name, '/', name_len) != NULL;
    check(gm_glob_match("*", 1, name, name_len) == !slash);
    free(pattern);
    free(name);
    free(escaped);
    return 0;
}
