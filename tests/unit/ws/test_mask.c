/* Masking: every variant against a byte loop written here, at every alignment, length and phase
 * that can matter. */
#include <criterion/criterion.h>
#include <string.h>

#include "ws/mask.h"

static const char *const variants[] = {"avx2", "sse2", "word", "byte"};

static unsigned reference(uint8_t *p, size_t n, uint32_t key, unsigned phase)
{
    uint8_t bytes[4];
    memcpy(bytes, &key, 4);
    for (size_t i = 0; i < n; i++)
        p[i] ^= bytes[(i + phase) % 4];
    return (unsigned)((phase + n) % 4);
}

static uint8_t area[1024];
static uint8_t want[1024];

/* Masks area[at .. at+n) and compares everything, the bytes around it too. */
static void check(gm_ws_mask_fn *mask, size_t at, size_t n, unsigned phase)
{
    for (size_t i = 0; i < sizeof(area); i++)
        area[i] = want[i] = (uint8_t)(i * 31 + n);
    uint32_t key = 0x9de1a5c3u + (uint32_t)n * 0x01010101u;
    unsigned next = reference(want + at, n, key, phase);
    cr_assert_eq(mask(area + at, n, key, phase), next);
    cr_assert_eq(memcmp(area, want, sizeof(area)), 0, "at %zu length %zu phase %u", at, n, phase);
}

Test(mask, every_variant_alignment_length_and_phase)
{
    int tried = 0;
    for (size_t v = 0; v < sizeof(variants) / sizeof(variants[0]); v++) {
        gm_ws_mask_fn *mask = gm_ws_mask_variant(variants[v]);
        if (mask == NULL)
            continue; /* this processor lacks it */
        tried++;
        for (size_t at = 0; at < 33; at++) {
            for (size_t n = 0; n < 300; n += n < 70 ? 1 : 13) {
                for (unsigned phase = 0; phase < 4; phase++)
                    check(mask, at, n, phase);
            }
        }
    }
    cr_assert_geq(tried, 2);
    cr_assert_null(gm_ws_mask_variant("none"));
}

Test(mask, the_chosen_one_in_any_pieces)
{
    for (size_t cut = 0; cut <= 200; cut++) {
        for (size_t i = 0; i < 200; i++)
            area[i] = want[i] = (uint8_t)i;
        reference(want, 200, 0x01020304u, 3);
        unsigned phase = gm_ws_mask(area, cut, 0x01020304u, 3);
        cr_assert_eq(gm_ws_mask(area + cut, 200 - cut, 0x01020304u, phase), 3);
        cr_assert_arr_eq(area, want, 200);
    }
}

Test(mask, key_zero_touches_nothing)
{
    memset(area, 7, 64);
    cr_assert_eq(gm_ws_mask(area, 63, 0, 2), 1);
    for (size_t i = 0; i < 64; i++)
        cr_assert_eq(area[i], 7);
    cr_assert_eq(gm_ws_mask(NULL, 0, 5, 1), 1);
}
