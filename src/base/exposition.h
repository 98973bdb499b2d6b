/* A page of metrics in Prometheus' text format, version 0.0.4: a text that grows on the heap.
 *
 * Owner: whoever answers a scrape, once every few seconds; it allocates. A page is families, a
 * family is samples:
 *
 *     struct gm_exposition page = {.constant = "server_id", .constant_value = id};
 *     gm_exposition_family(&page, "gimlet_active_requests", "gauge", "Requests under way");
 *     gm_exposition_begin(&page, "gimlet_active_requests");
 *     gm_exposition_label(&page, "service", name, strlen(name));
 *     gm_exposition_signed(&page, 3);
 *
 * Want of memory is remembered in `failed`; everything written afterwards is ignored. Values are
 * escaped, and bytes that are no UTF-8 replaced: nothing that a label holds can break a page. */
#ifndef GM_BASE_EXPOSITION_H
#define GM_BASE_EXPOSITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GM_EXPOSITION_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct gm_counter_set;

/* Zeroed but for the constant is a page with nothing on it. */
struct gm_exposition {
    char *text; /* malloc'd; NULL while empty. The owner frees it */
    size_t len, cap;
    bool failed;   /* memory ran out: the page is incomplete */
    bool labelled; /* private: the sample under way has a label */
    const char *constant,
        *constant_value; /* a label of every sample of ours; NULL: none. Borrowed */
};

/* Begins a family: its HELP and TYPE lines. `type` is "counter", "gauge" or "histogram". */
void gm_exposition_family(struct gm_exposition *page, const char *name, const char *type,
                          const char *help);
/* Begins a sample, with the constant label when there is one. */
void gm_exposition_begin(struct gm_exposition *page, const char *name);
/* `len` bytes of any kind. */
void gm_exposition_label(struct gm_exposition *page, const char *name, const char *value,
                         size_t len);
/* Each ends the sample: a count; a level; nanoseconds, written as seconds. */
void gm_exposition_unsigned(struct gm_exposition *page, uint64_t value);
void gm_exposition_signed(struct gm_exposition *page, int64_t value);
void gm_exposition_seconds(struct gm_exposition *page, uint64_t ns);

/* The raw counters as families gimlet_ring_<name>: counters by ring (or "control"), with _total;
 * gauges as one sum. */
void gm_exposition_counters(struct gm_exposition *page, const struct gm_counter_set *set);
/* process_*, as the client libraries name them, and the three go_memstats_* that dashboards of
 * version 0.0.x draw: anonymous memory, all resident memory, stack. What /proc does not tell is
 * left out. Without the constant label. */
void gm_exposition_process(struct gm_exposition *page);

#endif
