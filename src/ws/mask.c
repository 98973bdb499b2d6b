/* WebSocket masking: four variants of one XOR, and the choice between them.
 *
 * All variants walk the same way: wide steps over unaligned memory, then the tail byte by byte.
 * Wide steps are multiples of four bytes, so that the key, turned once to the starting phase, fits
 * every step without further turning.
 */
#include "ws/mask.h"

#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Key with byte `phase` moved to the front, still in memory order. */
static uint32_t turn_key(uint32_t key, unsigned phase)
{
    uint8_t in[4];
    uint8_t out[4];
    uint32_t turned;
    memcpy(in, &key, 4);
    for (unsigned i = 0; i < 4; i++)
        out[i] = in[(phase + i) & 3u];
    memcpy(&turned, out, 4);
    return turned;
}

static unsigned phase_after(unsigned phase, size_t n)
{
    return (unsigned)((phase + n) & 3u);
}

/* The last few bytes; `turned` is the key at p. */
static void mask_tail(uint8_t *p, size_t n, uint32_t turned)
{
    uint8_t key[4];
    memcpy(key, &turned, 4);
    for (size_t i = 0; i < n; i++)
        p[i] ^= key[i & 3u];
}

static unsigned mask_byte(uint8_t *p, size_t n, uint32_t key, unsigned phase)
{
    mask_tail(p, n, turn_key(key, phase));
    return phase_after(phase, n);
}

/* XORs 8 bytes at a time; returns the bytes done. */
static size_t mask_words(uint8_t *p, size_t n, uint32_t turned)
{
    uint64_t wide = (uint64_t)turned << 32 | turned;
    size_t i = 0;
    for (; n - i >= 8; i += 8) {
        uint64_t v;
        memcpy(&v, p + i, 8);
        v ^= wide;
        memcpy(p + i, &v, 8);
    }
    return i;
}

static unsigned mask_word(uint8_t *p, size_t n, uint32_t key, unsigned phase)
{
    uint32_t turned = turn_key(key, phase);
    size_t done = mask_words(p, n, turned);
    mask_tail(p + done, n - done, turned);
    return phase_after(phase, n);
}

#if defined(__x86_64__)
static unsigned mask_sse2(uint8_t *p, size_t n, uint32_t key, unsigned phase)
{
    uint32_t turned = turn_key(key, phase);
    const __m128i wide = _mm_set1_epi32((int)turned);
    size_t i = 0;
    for (; n - i >= 16; i += 16) {
        __m128i *at = (__m128i *)(void *)(p + i);
        _mm_storeu_si128(at, _mm_xor_si128(_mm_loadu_si128(at), wide));
    }
    i += mask_words(p + i, n - i, turned);
    mask_tail(p + i, n - i, turned);
    return phase_after(phase, n);
}

/* Four vectors a step: one would leave the loop's own work as the bound while the data is in the
 * cache. */
__attribute__((target("avx2"))) static unsigned mask_avx2(uint8_t *p, size_t n, uint32_t key,
                                                          unsigned phase)
{
    uint32_t turned = turn_key(key, phase);
    const __m256i wide = _mm256_set1_epi32((int)turned);
    size_t i = 0;
    for (; n - i >= 128; i += 128) {
        __m256i *at = (__m256i *)(void *)(p + i);
        __m256i a = _mm256_xor_si256(_mm256_loadu_si256(at), wide);
        __m256i b = _mm256_xor_si256(_mm256_loadu_si256(at + 1), wide);
        __m256i c = _mm256_xor_si256(_mm256_loadu_si256(at + 2), wide);
        __m256i d = _mm256_xor_si256(_mm256_loadu_si256(at + 3), wide);
        _mm256_storeu_si256(at, a);
        _mm256_storeu_si256(at + 1, b);
        _mm256_storeu_si256(at + 2, c);
        _mm256_storeu_si256(at + 3, d);
    }
    for (; n - i >= 32; i += 32) {
        __m256i *at = (__m256i *)(void *)(p + i);
        _mm256_storeu_si256(at, _mm256_xor_si256(_mm256_loadu_si256(at), wide));
    }
    i += mask_words(p + i, n - i, turned);
    mask_tail(p + i, n - i, turned);
    return phase_after(phase, n);
}
#endif

gm_ws_mask_fn *gm_ws_mask_variant(const char *name)
{
#if defined(__x86_64__)
    if (strcmp(name, "avx2") == 0)
        return __builtin_cpu_supports("avx2") ? mask_avx2 : NULL;
    if (strcmp(name, "sse2") == 0)
        return mask_sse2;
#endif
    if (strcmp(name, "word") == 0)
        return mask_word;
    return strcmp(name, "byte") == 0 ? mask_byte : NULL;
}

/* Written by whichever thread comes first, read by all, relaxed: every writer stores the same value
 * and it publishes nothing else. */
static _Atomic(gm_ws_mask_fn *) chosen;

static gm_ws_mask_fn *choose(void)
{
    static const char *const order[] = {"avx2", "sse2", "word"};
    gm_ws_mask_fn *best = NULL;
    for (size_t i = 0; best == NULL; i++)
        best = gm_ws_mask_variant(order[i]);
    atomic_store_explicit(&chosen, best, memory_order_relaxed);
    return best;
}

unsigned gm_ws_mask(uint8_t *p, size_t n, uint32_t key, unsigned phase)
{
    if (key == 0 || n == 0)
        return phase_after(phase, n);
    gm_ws_mask_fn *mask = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (mask == NULL)
        mask = choose();
    return mask(p, n, key, phase);
}
