/* Measures the masking variants: GB/s on a hot 16 KiB frame and on memory far larger than the
 * caches. Not a test; run by hand. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ws/mask.h"

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Masks `rounds` times n bytes, from an odd address as frames lie; returns GB/s. */
static double measure(gm_ws_mask_fn *mask, uint8_t *p, size_t n, int rounds)
{
    mask(p + 1, n, 0x12345678u, 1);
    double start = seconds();
    for (int i = 0; i < rounds; i++)
        mask(p + 1, n, 0x12345678u + (uint32_t)i, (unsigned)i & 3u);
    return (double)n * rounds / (seconds() - start) * 1e-9;
}

int main(void)
{
    static const char *const variants[] = {"avx2", "sse2", "word", "byte"};
    const size_t large = (size_t)256 << 20;
    uint8_t *p = malloc(large + 1);
    if (p == NULL)
        return 1;
    memset(p, 1, large + 1);
    for (size_t v = 0; v < 4; v++) {
        gm_ws_mask_fn *mask = gm_ws_mask_variant(variants[v]);
        if (mask == NULL)
            continue;
        printf("%-5s %6.1f GB/s on 16 KiB, %5.1f GB/s on 256 MiB, %6.1f GB/s on 200 bytes\n",
               variants[v], measure(mask, p, 16384, 20000), measure(mask, p, large, 2),
               measure(mask, p, 200, 200000));
    }
    free(p);
    return 0;
}
