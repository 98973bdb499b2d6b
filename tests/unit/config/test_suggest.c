/*
 * "Did you mean": distances and what counts as a slip.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "config/suggest.h"

Test(suggest, distance)
{
    static const struct {
        const char *a, *b;
        unsigned distance;
    } cases[] = {
        {"", "", 0},
        {"abc", "abc", 0},
        {"ABC", "abc", 0},
        {"", "abc", 3},
        {"abc", "", 3},
        {"abc", "abd", 1},
        {"abc", "acb", 1},
        {"abc", "ab", 1},
        {"kitten", "sitting", 3},
        {"sever", "server", 1},
        {"idle-timout", "idle-timeout", 1},
        {"ca", "abc", 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_assert_eq(gm_suggest_distance(cases[i].a, cases[i].b), cases[i].distance, "%s %s",
                     cases[i].a, cases[i].b);
        cr_assert_eq(gm_suggest_distance(cases[i].b, cases[i].a), cases[i].distance);
    }
}

Test(suggest, words_of_any_length_are_safe)
{
    char word[200];
    for (size_t len = 0; len < sizeof word - 1; len++) {
        memset(word, 'a', len);
        word[len] = '\0';
        unsigned wanted = len < GM_SUGGEST_WORD_MAX ? (unsigned)len : GM_SUGGEST_WORD_MAX;
        cr_assert_eq(gm_suggest_distance(word, ""), wanted);
        cr_assert_eq(gm_suggest_distance("", word), wanted);
        cr_assert_eq(gm_suggest_distance(word, word), len < GM_SUGGEST_WORD_MAX ? 0 : wanted);
    }
}

Test(suggest, nearest)
{
    static const char *const known[] = {"server", "agent", "jwt", "version", "help"};
    const size_t count = sizeof known / sizeof known[0];
    cr_assert_str_eq(gm_suggest("sever", known, count), "server");
    cr_assert_str_eq(gm_suggest("agnet", known, count), "agent");
    cr_assert_str_eq(gm_suggest("jwtt", known, count), "jwt");
    cr_assert_null(gm_suggest("connect", known, count));
    cr_assert_null(gm_suggest("x", known, count));
    cr_assert_null(gm_suggest("server", known, count), "the word itself is no slip");
}
