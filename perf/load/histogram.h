/*
 * A histogram of times: log-linear, 64 steps to each power of two, so that what it says is within
 * 1.6 % of what it was told. Fixed size, no allocation; one thread owns it. Zeroed is empty.
 */
#ifndef GM_LOAD_HISTOGRAM_H
#define GM_LOAD_HISTOGRAM_H

#include <stdint.h>

#define GM_HISTOGRAM_STEP_BITS 6u
#define GM_HISTOGRAM_STEPS     (1u << GM_HISTOGRAM_STEP_BITS)
#define GM_HISTOGRAM_BUCKETS   ((64u - GM_HISTOGRAM_STEP_BITS + 1u) * GM_HISTOGRAM_STEPS)

struct gm_histogram {
    uint64_t count, max;
    uint64_t buckets[GM_HISTOGRAM_BUCKETS];
};

void gm_histogram_add(struct gm_histogram *histogram, uint64_t value);

/* The value that `share` (0 to 1) of all do not exceed; 0 when there are none. */
uint64_t gm_histogram_at(const struct gm_histogram *histogram, double share);

/* Writes "PREFIXp50_us":…, p99, p999 and max, of nanoseconds, as members of a JSON object. */
void gm_histogram_print(const struct gm_histogram *histogram, const char *prefix);

#endif
