/*
 * Edit distance with swaps (optimal string alignment) over three rows of bounded length. Pure.
 */
#include "config/suggest.h"

#include <ctype.h>
#include <string.h>

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static int same(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

unsigned gm_suggest_distance(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    if (a_len >= GM_SUGGEST_WORD_MAX || b_len >= GM_SUGGEST_WORD_MAX)
        return GM_SUGGEST_WORD_MAX;
    unsigned rows[3][GM_SUGGEST_WORD_MAX];
    for (size_t j = 0; j <= b_len; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= a_len; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned change = above[j - 1] + (same(a[i - 1], b[j - 1]) ? 0u : 1u);
            row[j] = smaller(change, smaller(above[j], row[j - 1]) + 1u);
            if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
                row[j] = smaller(row[j], before[j - 2] + 1u);
        }
    }
    return rows[a_len % 3][b_len];
}

int gm_suggest_is_slip(const char *word, const char *known)
{
    unsigned allowed = (unsigned)strlen(known) / 4u;
    unsigned distance = gm_suggest_distance(word, known);
    return distance > 0 && distance <= (allowed == 0 ? 1u : allowed);
}

const char *gm_suggest(const char *word, const char *const *known, size_t count)
{
    const char *nearest = NULL;
    unsigned least = GM_SUGGEST_WORD_MAX;
    for (size_t i = 0; i < count; i++) {
        unsigned distance = gm_suggest_distance(word, known[i]);
        if (distance < least && gm_suggest_is_slip(word, known[i])) {
            least = distance;
            nearest = known[i];
        }
    }
    return nearest;
}
