/*
 * Judging runs of bytes 16 at a time: names and texts of heads, for whoever reads or writes them.
 *
 * Pure, any thread. Nothing outside [p, p + n) is read: the last block of a run overlaps the one
 * before, a run of 4 to 15 bytes is loaded as two overlapping halves, so that only runs below 4
 * bytes go one by one. Without SSE2 all of them do. Every byte of a run is judged in every case.
 */
#ifndef GM_BASE_SCAN_H
#define GM_BASE_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* The bytes that a text may hold besides 0x21..0x7e and 0x80..0xff. */
enum gm_scan_rule { GM_SCAN_VISIBLE, GM_SCAN_SPACED /* SP and TAB too */ };

static inline bool gm_scan_text_byte(uint8_t c, enum gm_scan_rule rule)
{
    bool blank = (c == ' ') | (c == '\t');
    return !(((c <= ' ') & !(blank & (rule == GM_SCAN_SPACED))) | (c == 0x7f));
}

static inline bool gm_scan_plain_byte(uint8_t c, const char marks[static 2])
{
    uint8_t folded = c | 0x20u;
    return (folded >= 'a' && folded <= 'z') || (c >= '0' && c <= '9') || c == (uint8_t)marks[0] ||
           c == (uint8_t)marks[1];
}

#ifdef __SSE2__
static inline __m128i gm_scan_block(const char *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* 4 to 15 bytes, each of them at least once, and no other. */
static inline __m128i gm_scan_short(const char *p, size_t n)
{
    if (n >= 8) {
        uint64_t first, last;
        memcpy(&first, p, 8);
        memcpy(&last, p + n - 8, 8);
        return _mm_set_epi64x((int64_t)last, (int64_t)first);
    }
    uint32_t first, last;
    memcpy(&first, p, 4);
    memcpy(&last, p + n - 4, 4);
    return _mm_set_epi32((int)last, (int)first, (int)last, (int)first);
}

/* All ones where a byte is not allowed. */
static inline __m128i gm_scan_text_bad(__m128i v, enum gm_scan_rule rule)
{
    const __m128i space = _mm_set1_epi8(' ');
    __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, space), v); /* c <= ' ' */
    if (rule == GM_SCAN_SPACED) {
        __m128i tab = _mm_cmpeq_epi8(v, _mm_set1_epi8('\t'));
        low = _mm_andnot_si128(_mm_or_si128(_mm_cmpeq_epi8(v, space), tab), low);
    }
    return _mm_or_si128(low, _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f)));
}

/* All ones where a byte is a letter, a digit or one of the marks. Comparisons are signed: bytes
 * from 0x80 on are below every range. */
static inline __m128i gm_scan_plain_good(__m128i v, const char marks[static 2])
{
    __m128i folded = _mm_or_si128(v, _mm_set1_epi8(0x20));
    __m128i letter = _mm_and_si128(_mm_cmpgt_epi8(folded, _mm_set1_epi8('a' - 1)),
                                   _mm_cmplt_epi8(folded, _mm_set1_epi8('z' + 1)));
    __m128i digit = _mm_and_si128(_mm_cmpgt_epi8(v, _mm_set1_epi8('0' - 1)),
                                  _mm_cmplt_epi8(v, _mm_set1_epi8('9' + 1)));
    __m128i mark = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8(marks[0])),
                                _mm_cmpeq_epi8(v, _mm_set1_epi8(marks[1])));
    return _mm_or_si128(_mm_or_si128(letter, digit), mark);
}
#endif

/* Whether a text may hold all of these bytes; true for none. */
static inline bool gm_scan_text(const char *p, size_t n, enum gm_scan_rule rule)
{
#ifdef __SSE2__
    if (n >= 16) {
        __m128i bad = gm_scan_text_bad(gm_scan_block(p + n - 16), rule);
        for (size_t i = 0; i + 16 < n; i += 16)
            bad = _mm_or_si128(bad, gm_scan_text_bad(gm_scan_block(p + i), rule));
        return _mm_movemask_epi8(bad) == 0;
    }
    if (n >= 4)
        return _mm_movemask_epi8(gm_scan_text_bad(gm_scan_short(p, n), rule)) == 0;
#endif
    bool good = true;
    for (size_t i = 0; i < n; i++)
        good &= gm_scan_text_byte((uint8_t)p[i], rule);
    return good;
}

/* Whether all of these bytes are ASCII letters, digits or one of two marks: what nearly every name
 * is made of. False says nothing more than to look closer. True for none. */
static inline bool gm_scan_plain(const char *p, size_t n, const char marks[static 2])
{
#ifdef __SSE2__
    if (n >= 16) {
        __m128i good = gm_scan_plain_good(gm_scan_block(p + n - 16), marks);
        for (size_t i = 0; i + 16 < n; i += 16)
            good = _mm_and_si128(good, gm_scan_plain_good(gm_scan_block(p + i), marks));
        return _mm_movemask_epi8(good) == 0xffff;
    }
    if (n >= 4)
        return _mm_movemask_epi8(gm_scan_plain_good(gm_scan_short(p, n), marks)) == 0xffff;
#endif
    bool good = true;
    for (size_t i = 0; i < n; i++)
        good &= gm_scan_plain_byte((uint8_t)p[i], marks);
    return good;
}

#endif
