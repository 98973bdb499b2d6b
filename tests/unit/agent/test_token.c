/* The agent's token as its file holds it: what is taken, and what is wrong with the rest. */
#include <criterion/criterion.h>
#include <string.h>

#include "agent/token.h"

static const char *find(const char *text, size_t len, struct gm_ws_text *out)
{
    *out = (struct gm_ws_text){0};
    return gm_agent_token_find(text, len, out);
}

Test(token, white_space_around_it_goes)
{
    static const char *const texts[] = {"a.b.c", "a.b.c\n", "\r\n\t a.b.c \r\n", "  a.b.c"};
    struct gm_ws_text token;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        cr_assert_null(find(texts[i], strlen(texts[i]), &token));
        cr_assert(token.len == 5 && memcmp(token.p, "a.b.c", 5) == 0, "%zu", i);
    }
}

Test(token, what_is_none)
{
    static const struct {
        const char *text;
        size_t len;
        const char *words;
    } cases[] = {
        {"", 0, "empty"},
        {" \n\t", 3, "empty"},
        {"a b", 3, "character"},
        {"a\nb", 3, "character"},
        {"a\0b", 3, "character"},
        {"a\x7f", 2, "character"},
        {"a\xc3\xa9", 3, "character"},
    };
    struct gm_ws_text token;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *problem = find(cases[i].text, cases[i].len, &token);
        cr_assert_not_null(problem, "%zu", i);
        cr_assert_not_null(strstr(problem, cases[i].words), "%s", problem);
        cr_assert(token.p == NULL, "%zu", i);
    }
}

Test(token, length)
{
    static char text[GM_AGENT_TOKEN_MAX + 2];
    struct gm_ws_text token;
    memset(text, 'x', sizeof text);
    text[GM_AGENT_TOKEN_MAX] = '\n';
    cr_assert_null(find(text, GM_AGENT_TOKEN_MAX + 1, &token));
    cr_assert_eq(token.len, GM_AGENT_TOKEN_MAX);
    text[GM_AGENT_TOKEN_MAX] = 'x';
    const char *problem = find(text, GM_AGENT_TOKEN_MAX + 1, &token);
    cr_assert(problem != NULL && strstr(problem, "8 KiB") != NULL);
}
