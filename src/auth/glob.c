/*
 * Pattern matching as Go's filepath.Match defines it on Unix. Validity and matching are separate: a
 * pattern is checked as a whole first, so that the matcher can take its syntax for granted.
 *
 * A star is matched by the shortest run that lets the elements up to the next star match; once they
 * have, that star is never reopened. That is Go's rule, and it bounds the work.
 */
#include "auth/glob.h"

#include <stdint.h>

#define RUNE_INVALID 0xfffdu

struct text {
    const char *p;
    const char *end;
};

static bool is_continuation(const char *p)
{
    return ((unsigned char)*p & 0xc0) == 0x80;
}

/*
 * Takes one UTF-8 sequence off the front of `t` (not empty). A byte that starts no valid sequence
 * (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF) is RUNE_INVALID, one byte
 * long; *width says how many bytes went.
 */
static uint32_t take_rune(struct text *t, size_t *width)
{
    unsigned char lead = (unsigned char)*t->p;
    size_t len = lead < 0x80   ? 1
                 : lead < 0xc2 ? 0
                 : lead < 0xe0 ? 2
                 : lead < 0xf0 ? 3
                 : lead < 0xf5 ? 4
                               : 0;
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    static const unsigned char lead_mask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};

    *width = 1;
    bool valid = len > 0 && (size_t)(t->end - t->p) >= len;
    for (size_t i = 1; valid && i < len; i++)
        valid = is_continuation(t->p + i);
    uint32_t rune = valid ? lead & lead_mask[len] : RUNE_INVALID;
    for (size_t i = 1; valid && i < len; i++)
        rune = rune << 6 | ((unsigned char)t->p[i] & 0x3f);
    if (valid && (rune < smallest[len] || rune > 0x10ffff || (rune >= 0xd800 && rune <= 0xdfff))) {
        valid = false;
        rune = RUNE_INVALID;
    }
    if (valid)
        *width = len;
    t->p += *width;
    return rune;
}

/* One end of a class range, perhaps escaped. False: not well-formed, or the class ends with it. */
static bool take_class_rune(struct text *pattern, uint32_t *rune)
{
    if (pattern->p == pattern->end || *pattern->p == '-' || *pattern->p == ']')
        return false;
    if (*pattern->p == '\\' && ++pattern->p == pattern->end)
        return false;
    size_t width;
    *rune = take_rune(pattern, &width);
    if (*rune == RUNE_INVALID && width == 1)
        return false;
    return pattern->p < pattern->end;
}

/* The class after its '['. False when malformed; *matched says whether `rune` is in its ranges. */
static bool take_class(struct text *pattern, uint32_t rune, bool *matched)
{
    bool negated = pattern->p < pattern->end && *pattern->p == '^';
    if (negated)
        pattern->p++;
    bool found = false;
    bool any = false;
    while (!any || pattern->p == pattern->end || *pattern->p != ']') {
        uint32_t low;
        if (!take_class_rune(pattern, &low))
            return false;
        uint32_t high = low;
        if (*pattern->p == '-') {
            pattern->p++;
            if (!take_class_rune(pattern, &high))
                return false;
        }
        found = found || (low <= rune && rune <= high);
        any = true;
    }
    pattern->p++;
    *matched = found != negated;
    return true;
}

bool gm_glob_valid(const char *pattern, size_t pattern_len)
{
    struct text t = {pattern, pattern + pattern_len};
    while (t.p < t.end) {
        char c = *t.p++;
        bool ignored;
        if (c == '\\' && t.p++ == t.end)
            return false;
        if (c == '[' && !take_class(&t, 0, &ignored))
            return false;
    }
    return true;
}

/* One element of a valid pattern, not a star, against the front of the name. */
static bool match_element(struct text *pattern, struct text *name)
{
    if (name->p == name->end)
        return false;
    size_t width;
    bool matched;
    switch (*pattern->p) {
    case '[':
        pattern->p++;
        return take_class(pattern, take_rune(name, &width), &matched) && matched;
    case '?':
        pattern->p++;
        if (*name->p == '/')
            return false;
        take_rune(name, &width);
        return true;
    case '\\':
        pattern->p++;
        break;
    default:
        break;
    }
    return *pattern->p++ == *name->p++;
}

bool gm_glob_match(const char *pattern, size_t pattern_len, const char *name, size_t name_len)
{
    if (!gm_glob_valid(pattern, pattern_len))
        return false;
    struct text p = {pattern, pattern + pattern_len};
    struct text n = {name, name + name_len};
    const char *after_star = NULL; /* where the pattern goes on after the last star */
    const char *run_end = NULL;    /* how far that star reaches so far */

    while (p.p < p.end || n.p < n.end) {
        if (p.p < p.end && *p.p == '*') {
            after_star = ++p.p;
            run_end = n.p;
            continue;
        }
        if (p.p < p.end && match_element(&p, &n))
            continue;
        /* Let the last star take one byte more, if there is one and it may. */
        if (after_star == NULL || run_end == n.end || *run_end == '/')
            return false;
        p.p = after_star;
        n.p = ++run_end;
    }
    return true;
}
