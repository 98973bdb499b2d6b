/*
 * Patterns: Go's filepath.Match, by a table of its semantics and by properties.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "auth/glob.h"

struct example {
    const char *pattern;
    const char *name;
    bool matches;
};

static const struct example examples[] = {
    {"abc", "abc", true},
    {"abc", "abcd", false},
    {"abc", "ab", false},
    {"abc", "ABC", false},
    {"", "", true},
    {"", "a", false},
    {"*", "", true},
    {"*", "anything-at.all", true},
    {"**", "anything", true},
    {"*", "a/b", false},
    {"*/b", "a/b", true},
    {"a/b", "a/b", true},
    {"*c", "abc", true},
    {"a*", "a", true},
    {"a*", "abc", true},
    {"a*", "ab/c", false},
    {"a*/b", "abc/b", true},
    {"a*/b", "a/c/b", false},
    {"a*b*c*d*e*/f", "axbxcxdxe/f", true},
    {"a*b*c*d*e*/f", "axbxcxdxexxx/f", true},
    {"a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false},
    {"a*b*c*d*e*/f", "axbxcxdxexxx/fff", false},
    {"a*b?c*x", "abxbbxdbxebxczzx", true},
    {"a*b?c*x", "abxbbxdbxebxczzy", false},
    {"*x", "xxx", true},
    {"*-prod", "api-prod", true},
    {"*-prod", "api-prod2", false},
    {"team-*-*", "team-a-b", true},
    {"team-*-*", "team-a", false},
    {".*", ".hidden", true},
    {"*", ".hidden", true},
    {" a", "a", false},
    /* one character is one rune */
    {"?", "a", true},
    {"?", "", false},
    {"?", "\xe2\x98\xba", true},
    {"??", "\xe2\x98\xba", false},
    {"a?b",
     "a\xe2\x98\xba"
     "b",
     true},
    {"a???b",
     "a\xe2\x98\xba"
     "b",
     false},
    {"?", "/", false},
    {"?", "\xff", true},
    {"??", "\xe2\x98", true},
    {"?", "\xe2\x98", false},
    {"?", "\xc0\xaf", false}, /* overlong: two bytes, two characters */
    {"??", "\xc0\xaf", true},
    {"???", "\xed\xa0\x80", true}, /* a surrogate is three bytes */
    {"?", "\xed\xa0\x80", false},
    {"?", "\xf4\x8f\xbf\xbf", true},  /* U+10FFFF */
    {"?", "\xf4\x90\x80\x80", false}, /* above it */
    {"?", "\xf0\x8f\xbf\xbf", false}, /* overlong */
    {"?", "\xc3\xa9", true},
    {"?", "\xe0\x80\x80", false},
    /* classes */
    {"ab[c]", "abc", true},
    {"ab[b-d]", "abc", true},
    {"ab[e-g]", "abc", false},
    {"ab[^c]", "abc", false},
    {"ab[^b-d]", "abc", false},
    {"ab[^e-g]", "abc", true},
    {"a[^a]b",
     "a\xe2\x98\xba"
     "b",
     true},
    {"a[^a][^a][^a]b",
     "a\xe2\x98\xba"
     "b",
     false},
    {"[a-\xce\xb6]*", "\xce\xb1", true},
    {"*[a-\xce\xb6]", "A", false},
    {"[\xce\xb1-\xce\xb3]", "\xce\xb2", true},
    {"[!a]", "a", true}, /* no negation: one of '!' and 'a' */
    {"[!a]", "b", false},
    {"[!a]", "!", true},
    {"[z-a]", "m", false}, /* an empty range is well-formed */
    {"[a", "a", false},
    {"[*]", "*", true},
    {"[*]", "a", false},
    {"[?]", "a", false},
    {"[[]", "[", true},
    {"[a-c-]", "b", false}, /* '-' may not start a range */
    {"[\\]a]", "]", true},
    {"[\\-]", "-", true},
    {"[x\\-]", "x", true},
    {"[x\\-]", "-", true},
    {"[x\\-]", "z", false},
    {"[\\-x]", "x", true},
    {"[\\-x]", "-", true},
    {"[\\-x]", "a", false},
    {"[^\\]]", "a", true},
    {"[/]", "/", true}, /* Go lets a class match the separator */
    {"*[0-9]", "svc7", true},
    {"*[0-9]", "svcx", false},
    {"[a-c]", "", false},
    {"[^a]", "", false},
    /* escapes and plain characters */
    {"a\\*b", "a*b", true},
    {"a\\*b", "axb", false},
    {"a\\bc", "abc", true},
    {"\\\\", "\\", true},
    {"\\[", "[", true},
    {"]", "]", true},
    {"a]", "a]", true},
    {"-", "-", true},
    {"^", "^", true},
    {"{a,b}", "a", false},
    {"{a,b}", "{a,b}", true},
    /* malformed: nothing matches */
    {"[", "[", false},
    {"[", "", false},
    {"[", "a", false},
    {"[]", "]", false},
    {"[]a]", "]", false},
    {"[^]", "a", false},
    {"[^]a]", "b", false},
    {"[-]", "-", false},
    {"[-x]", "x", false},
    {"[x-]", "x", false},
    {"[x-]", "-", false},
    {"[a-b-c]", "a", false},
    {"[^bc", "a", false},
    {"[\\", "a", false},
    {"[a\\", "a", false},
    {"a[", "a", false},
    {"a[", "ab", false},
    {"a[", "x", false},
    {"a/b[", "x", false},
    {"a\\", "a", false},
    {"a\\", "a\\", false},
    {"\\", "", false},
    {"[\xff]", "a", false},
    {"[a-\xff]", "a", false},
    {"*[", "abc", false},
    {"[a-", "a", false},
    {"[a-z", "b", false},
};

Test(glob, examples)
{
    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        const struct example *e = &examples[i];
        bool found = gm_glob_match(e->pattern, strlen(e->pattern), e->name, strlen(e->name));
        cr_expect_eq(found, e->matches, "pattern %s name %s", e->pattern, e->name);
    }
}

Test(glob, validity)
{
    static const char *const good[] = {"",    "*",     "a[b-c]", "[^x]",
                                       "\\[", "[z-a]", "]",      "[\xce\xb1]"};
    static const char *const bad[] = {"[",   "[]", "[^]",    "[a-]", "a\\",
                                      "[\\", "[a", "[\xff]", "[-a]"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        cr_expect(gm_glob_valid(good[i], strlen(good[i])), "%s", good[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect_not(gm_glob_valid(bad[i], strlen(bad[i])), "%s", bad[i]);
}

/* The lengths rule, not a NUL: every prefix of a name is another name. */
Test(glob, lengths_bound_both_texts)
{
    const char *name = "service-name";
    for (size_t len = 0; len <= strlen(name); len++) {
        for (size_t pattern_len = 0; pattern_len <= strlen(name); pattern_len++)
            cr_expect_eq(gm_glob_match(name, pattern_len, name, len), len == pattern_len);
        cr_expect(gm_glob_match("*", 1, name, len));
        cr_expect_eq(gm_glob_match("s*e", 3, name, len), len > 1 && name[len - 1] == 'e');
    }
}

/* A pattern made to make matchers explode takes no noticeable time. */
Test(glob, hostile_pattern_is_bounded, .timeout = 5)
{
    char pattern[255];
    char name[255];
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = i % 2 == 0 ? '*' : 'a';
    memset(name, 'a', sizeof(name));
    name[sizeof(name) - 1] = 'b';
    pattern[sizeof(pattern) - 1] = 'c';
    for (int i = 0; i < 1000; i++)
        cr_assert_not(gm_glob_match(pattern, sizeof(pattern), name, sizeof(name)));
}
