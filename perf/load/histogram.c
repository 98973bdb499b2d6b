/*
 * A histogram of times: histogram.h. A value below 64 has a bucket of its own; above, the bucket is
 * made of the position of the highest bit and the six bits behind it.
 */
#include "histogram.h"

#include <stdio.h>

static uint32_t bucket_of(uint64_t value)
{
    if (value < GM_HISTOGRAM_STEPS) {
        return (uint32_t)value;
    }
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(value) - GM_HISTOGRAM_STEP_BITS;
    uint32_t step = (uint32_t)(value >> shift) & (GM_HISTOGRAM_STEPS - 1u);
    return (shift + 1u) * GM_HISTOGRAM_STEPS + step;
}

/* The middle of what a bucket stands for. */
static uint64_t value_of(uint32_t bucket)
{
    if (bucket < GM_HISTOGRAM_STEPS) {
        return bucket;
    }
    uint32_t shift = bucket / GM_HISTOGRAM_STEPS - 1u;
    uint64_t low = (uint64_t)(GM_HISTOGRAM_STEPS + bucket % GM_HISTOGRAM_STEPS) << shift;
    return low + (1ull << shift) / 2u;
}

void gm_histogram_add(struct gm_histogram *histogram, uint64_t value)
{
    histogram->count++;
    histogram->buckets[bucket_of(value)]++;
    if (value > histogram->max) {
        histogram->max = value;
    }
}

uint64_t gm_histogram_at(const struct gm_histogram *histogram, double share)
{
    uint64_t below = 0, wanted = (uint64_t)(share * (double)histogram->count);
    for (uint32_t bucket = 0; bucket < GM_HISTOGRAM_BUCKETS; bucket++) {
        below += histogram->buckets[bucket];
        if (below > 0 && below >= wanted) {
            return value_of(bucket) < histogram->max ? value_of(bucket) : histogram->max;
        }
    }
    return 0;
}

void gm_histogram_print(const struct gm_histogram *histogram, const char *prefix)
{
    static const struct {
        const char *name;
        double share;
    } points[] = {{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}};
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        printf("\"%s%s_us\":%.1f,", prefix, points[i].name,
               (double)gm_histogram_at(histogram, points[i].share) / 1e3);
    }
    printf("\"%smax_us\":%.1f", prefix, (double)histogram->max / 1e3);
}
