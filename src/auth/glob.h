/*
 * Service patterns: the semantics of Go's filepath.Match on Unix, which tokens in the field are
 * written for. Pure, no allocation, no recursion; time is O(pattern × name).
 *
 *   *        any run of characters other than '/' (so ** means the same)
 *   ?        one character other than '/': one UTF-8 sequence, or one byte where the text is not
 * valid UTF-8 [a-z_]   one character of the class; [^…] one that is not in it ('!' is an ordinary
 * character) \x       x itself, also inside a class The whole name must match; case counts; a
 * leading dot is nothing special.
 */
#ifndef GM_AUTH_GLOB_H
#define GM_AUTH_GLOB_H

#include <stdbool.h>
#include <stddef.h>

/* True when the whole `name` matches. A malformed pattern matches nothing. Neither text needs a
 * final NUL. */
bool gm_glob_match(const char *pattern, size_t pattern_len, const char *name, size_t name_len);

/* True when `pattern` is well-formed (an unclosed or empty class or a final backslash is
 * not). */
bool gm_glob_valid(const char *pattern, size_t pattern_len);

#endif
