/* The tables of all rings added up, for one page of metrics.
 *
 * Owner: ring 0, within one scrape: rows are borrowed from the tables while no ring frees any. A
 * total never falls from one page to the next while it is shown. */
#ifndef GM_SERVER_TOTALS_H
#define GM_SERVER_TOTALS_H

#include "server/metrics.h"

#define GM_TOTALS_TABLES_MAX 256u /* GM_RINGS_MAX */

/* One series, all rings' rows of it together. */
struct gm_totals_series {
    const struct gm_metrics_series *row; /* any of them, for its names; NULL: an empty entry */
    uint64_t count, used_ns;
    bool hidden;   /* not for the page */
    bool unwanted; /* and its rows may go */
};

struct gm_totals_service {
    const struct gm_metrics_service *row; /* likewise */
    uint64_t bucket[GM_METRICS_BUCKETS];
    uint64_t took_ns, rejected, used_ns;
    bool hidden, unwanted;
    /* For the page to fill in: agents, requests under way, and the agent counted last. */
    uint64_t agents, active, last_agent;
};

/* Hash tables of mask + 1 entries. */
struct gm_totals {
    struct gm_totals_series *series;
    struct gm_totals_service *services;
    uint64_t messages[GM_METRICS_MESSAGE_COUNT];
    uint32_t series_mask, service_mask;
};

/* Tables, and what decides which of their rows are still of interest. Borrowed. */
struct gm_totals_source {
    struct gm_metrics *const *tables;
    uint32_t table_count;
    uint64_t now_ns;
    uint64_t retention_ns; /* idle and without an agent for so long: left out */
    uint64_t free_ns;      /* a little more: its rows are marked for gm_metrics_clean */
    /* Is an agent there that serves it? `subject_len` 0: any agent. */
    bool (*served)(void *arg, const struct gm_metrics_service *service, const char *subject,
                   size_t subject_len);
    void *arg;
};

/* Adds up and judges. 0 or -GM_E_NOMEM. */
int gm_totals_gather(struct gm_totals *totals,
                     const struct gm_totals_source *source) GM_WARN_UNUSED;
/* The entry of that service, or NULL. */
struct gm_totals_service *gm_totals_find(struct gm_totals *totals, const char *name, size_t len);
void gm_totals_fini(struct gm_totals *totals);

#endif
