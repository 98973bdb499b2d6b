/*
 * A bounded text in the caller's bytes: pieces are appended whole or not at all.
 *
 * For logs and pages, made without printf and without allocation. `cut` is set by the first piece
 * that did not fit and stays set; the text is usable all the same. No NUL is added. Any thread.
 */
#ifndef GM_BASE_TEXT_H
#define GM_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Invariant: len <= cap. The caller may lower and raise cap within the bytes behind `at`. */
struct gm_text {
    char *at;
    size_t len;
    size_t cap;
    bool cut;
};

/* Each appends and returns true, or sets `cut` and returns false. */
static inline bool gm_text_put(struct gm_text *text, const char *bytes, size_t len)
{
    if (len > text->cap - text->len) {
        text->cut = true;
        return false;
    }
    memcpy(text->at + text->len, bytes, len);
    text->len += len;
    return true;
}

static inline bool gm_text_str(struct gm_text *text, const char *str)
{
    return gm_text_put(text, str, strlen(str));
}

static inline bool gm_text_unsigned(struct gm_text *text, uint64_t n)
{
    char digits[20]; /* 2^64 - 1 has 20 */
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n != 0);
    return gm_text_put(text, digits + at, sizeof digits - at);
}

/* |n|, also of the smallest number, which has no positive twin. */
static inline uint64_t gm_text_magnitude(int64_t n)
{
    return n < 0 ? UINT64_C(0) - (uint64_t)n : (uint64_t)n;
}

/* Sign and digits are one piece. */
static inline bool gm_text_signed(struct gm_text *text, int64_t n)
{
    size_t before = text->len;
    if (n < 0 && !gm_text_put(text, "-", 1))
        return false;
    if (gm_text_unsigned(text, gm_text_magnitude(n)))
        return true;
    text->len = before;
    return false;
}

#endif
