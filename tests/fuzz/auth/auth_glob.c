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
    /* A last star matches the empty rest; only an unclosed class or escape swallows it. It also lets
     * the elements before it match earlier than at the end, and then has to pass what is left: a
     * slash, which only a class matches (Go's rule too), stops it. */
    bool slash = memchr(name, '/', name_len) != NULL;
    pattern[pattern_len] = '*';
    check(!matches || slash || gm_glob_match(pattern, pattern_len + 1, name, name_len));

    for (size_t i = 0; i < name_len; i++) {
        escaped[2 * i] = '\\';
        escaped[2 * i + 1] = name[i];
    }
    check(gm_glob_match(escaped, 2 * name_len, name, name_len));
    check(name_len == 0 || !gm_glob_match(escaped, 2 * name_len, name, name_len - 1));
    check(gm_glob_match("*", 1, name, name_len) == !slash);
    free(pattern);
    free(name);
    free(escaped);
    return 0;
}
