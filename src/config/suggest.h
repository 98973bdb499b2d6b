/*
 * "Did you mean": the known word nearest to a mistyped one. Pure.
 */
#ifndef GM_CONFIG_SUGGEST_H
#define GM_CONFIG_SUGGEST_H

#include <stddef.h>

/* Words longer than this are not compared: no option or subcommand is. */
#define GM_SUGGEST_WORD_MAX 48u

/* Insertions, deletions, replacements and swaps of neighbours that turn a into b, either case; a
 * word that is too long is GM_SUGGEST_WORD_MAX away. */
unsigned gm_suggest_distance(const char *a, const char *b);

/* True if `word` is so near to `known` that it was probably meant: a slip per four letters, at
 * least one, and not the word itself. */
int gm_suggest_is_slip(const char *word, const char *known);

/* The nearest of `count` words among those that are near enough, or NULL. */
const char *gm_suggest(const char *word, const char *const *known, size_t count);

#endif
