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

#define GM_TEXT_ELLIPSIS     "\xE2\x80\xA6"
#define GM_TEXT_ELLIPSIS_LEN 3u

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

/* Length of the well-formed UTF-8 sequence at s (RFC 3629: shortest form, no surrogates), or 0. */
static inline size_t gm_text_utf8_length(const unsigned char *s, size_t n)
{
    if (s[0] < 0x80)
        return 1;
    unsigned low = 0x80, high = 0xBF; /* limits of the second byte */
    size_t len;
    if (s[0] >= 0xC2 && s[0] <= 0xDF) {
        len = 2;
    } else if (s[0] >= 0xE0 && s[0] <= 0xEF) {
        len = 3;
        low = s[0] == 0xE0 ? 0xA0 : low;
        high = s[0] == 0xED ? 0x9F : high;
    } else if (s[0] >= 0xF0 && s[0] <= 0xF4) {
        len = 4;
        low = s[0] == 0xF0 ? 0x90 : low;
        high = s[0] == 0xF4 ? 0x8F : high;
    } else {
        return 0;
    }
    if (n < len || s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if (s[i] < 0x80 || s[i] > 0xBF)
            return 0;
    }
    return len;
}

static inline bool gm_text_is_utf8(const char *s, size_t n)
{
    size_t step = 1;
    for (size_t at = 0; at < n && step > 0; at += step)
        step = gm_text_utf8_length((const unsigned char *)s + at, n - at);
    return step > 0;
}

/* What a peer said, on its way to a terminal: control characters (C1, too), and bytes that are no
 * UTF-8, become blanks. */
static inline void gm_text_tame(char *text)
{
    unsigned char *p = (unsigned char *)text;
    for (size_t left = strlen(text), len; left > 0; left -= len, p += len) {
        len = gm_text_utf8_length(p, left);
        bool control = len <= 1 ? len == 0 || p[0] < 0x20 || p[0] == 0x7F
                                : len == 2 && p[0] == 0xC2 && p[1] < 0xA0;
        len = len == 0 ? 1 : len;
        if (control)
            memset(p, ' ', len);
    }
}

/* A character as it stands in a JSON string. */
struct gm_text_json_unit {
    char text[6];
    size_t len;
    size_t taken; /* bytes of the source */
};

/* C1 controls are escaped with the C0 ones and DEL: terminals obey them. */
static inline void gm_text_json_escape(const unsigned char *s, size_t n,
                                       struct gm_text_json_unit *unit)
{
    static const char hex[] = "0123456789abcdef";
    static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    size_t len = gm_text_utf8_length(s, n);
    unit->taken = len == 0 ? 1 : len;
    for (size_t i = 0; len == 1 && i + 1 < sizeof shorts; i += 2) {
        if ((unsigned char)shorts[i] == s[0]) {
            unit->text[0] = '\\';
            unit->text[1] = shorts[i + 1];
            unit->len = 2;
            return;
        }
    }
    if (len == 0) {
        memcpy(unit->text, "\xEF\xBF\xBD", 3); /* U+FFFD */
        unit->len = 3;
        return;
    }
    bool control =
        (len == 1 && (s[0] < 0x20 || s[0] == 0x7F)) || (len == 2 && s[0] == 0xC2 && s[1] < 0xA0);
    if (control) {
        unsigned code = len == 1 ? s[0] : s[1];
        memcpy(unit->text, "\\u00", 4);
        unit->text[4] = hex[code >> 4];
        unit->text[5] = hex[code & 15];
        unit->len = 6;
        return;
    }
    memcpy(unit->text, s, len);
    unit->len = len;
}

/* A JSON string of at most `limit` source bytes (any bytes: ill-formed UTF-8 becomes U+FFFD). What
 * is left out for lack of room or by the limit is marked with an ellipsis and sets `cut`. False,
 * with nothing written, when not even the marked empty string fits. */
static inline bool gm_text_json(struct gm_text *out, const char *text, size_t len, size_t limit)
{
    const size_t closing = GM_TEXT_ELLIPSIS_LEN + 1;
    if (out->cap - out->len < 1 + closing) {
        out->cut = true;
        return false;
    }
    out->at[out->len++] = '"';
    size_t at = 0;
    while (at < len) {
        struct gm_text_json_unit unit;
        gm_text_json_escape((const unsigned char *)text + at, len - at, &unit);
        if (at + unit.taken > limit || out->cap - out->len < unit.len + closing)
            break;
        memcpy(out->at + out->len, unit.text, unit.len);
        out->len += unit.len;
        at += unit.taken;
    }
    if (at < len) {
        out->cut = true;
        memcpy(out->at + out->len, GM_TEXT_ELLIPSIS, GM_TEXT_ELLIPSIS_LEN);
        out->len += GM_TEXT_ELLIPSIS_LEN;
    }
    out->at[out->len++] = '"';
    return true;
}

#endif
