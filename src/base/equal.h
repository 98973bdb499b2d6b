/*
 * Comparison in constant time: how long it takes tells nothing about where two secrets differ.
 */
#ifndef GM_BASE_EQUAL_H
#define GM_BASE_EQUAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Where eight bytes differ. */
static inline uint64_t gm_equal_word(const unsigned char *p, const unsigned char *q)
{
    uint64_t x, y;
    memcpy(&x, p, 8);
    memcpy(&y, q, 8);
    return x ^ y;
}

static inline uint64_t gm_equal_block(const unsigned char *p, const unsigned char *q)
{
    return (gm_equal_word(p, q) | gm_equal_word(p + 8, q + 8)) |
           (gm_equal_word(p + 16, q + 16) | gm_equal_word(p + 24, q + 24));
}

/* True when all `len` bytes are equal. 32 bytes a step, the last one over the end of the one
 * before: a third of the instructions of 8 bytes a step. */
static inline bool gm_equal_constant_time(const void *a, const void *b, size_t len)
{
    const unsigned char *p = a;
    const unsigned char *q = b;
    uint64_t different = 0;
    for (size_t i = 0; i + 32 < len; i += 32)
        different |= gm_equal_block(p + i, q + i);
    if (len >= 32)
        return (different | gm_equal_block(p + len - 32, q + len - 32)) == 0;
    for (size_t i = 0; i < len; i++)
        different |= (uint64_t)(p[i] ^ q[i]);
    return different == 0;
}

#endif
