/* Adding up the rings' tables. Owner: ring 0, within one scrape.
 *
 * Invariant: the hash tables are at most three quarters full, so that a search ends. */
#include "server/totals.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

/* Beyond this part of a table's rows idle series go even while their agent stays: short-lived
 * clients must not fill it for good. */
#define CROWDED(count, max) ((count) > (max) / 2)
#define ENTRIES_MIN         64u

static uint64_t load(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static uint32_t entries_for(uint32_t rows)
{
    uint32_t entries = ENTRIES_MIN;
    while (entries / 2 < rows)
        entries *= 2;
    return entries;
}

/* ---- Services ---- */

/* The entry of this name, or a free one. */
static struct gm_totals_service *service_entry(struct gm_totals *totals, uint64_t hash,
                                               const char *name, size_t len)
{
    uint32_t at = (uint32_t)hash & totals->service_mask;
    for (;; at = (at + 1) & totals->service_mask) {
        struct gm_totals_service *entry = &totals->services[at];
        const struct gm_metrics_service *row = entry->row;
        if (row == NULL ||
            (row->hash == hash && row->name_len == len && memcmp(row->name, name, len) == 0))
            return entry;
    }
}

static struct gm_totals_service *entry_of_service(struct gm_totals *totals,
                                                  const struct gm_metrics_service *row)
{
    return service_entry(totals, row->hash, row->name, row->name_len);
}

struct gm_totals_service *gm_totals_find(struct gm_totals *totals, const char *name, size_t len)
{
    struct gm_totals_service *entry =
        service_entry(totals, gm_metrics_name_hash(name, len), name, len);
    return entry->row == NULL ? NULL : entry;
}

static void service_add(struct gm_totals *totals, const struct gm_metrics_service *row)
{
    struct gm_totals_service *entry = entry_of_service(totals, row);
    uint64_t used_ns = load(&row->used_ns);
    entry->row = row;
    for (unsigned i = 0; i < GM_METRICS_BUCKETS; i++)
        entry->bucket[i] += load(&row->bucket[i]);
    entry->took_ns += load(&row->took_ns);
    entry->rejected += load(&row->rejected);
    if (used_ns > entry->used_ns)
        entry->used_ns = used_ns;
}

static struct gm_metrics_service *first_service(const struct gm_metrics *table)
{
    return atomic_load_explicit(&table->services, memory_order_acquire);
}

static struct gm_metrics_service *next_service(const struct gm_metrics_service *row)
{
    return atomic_load_explicit(&row->next, memory_order_acquire);
}

/* Services are few, and only credentials of agents make them: counted first, so that all fit. */
static int gather_services(struct gm_totals *totals, const struct gm_totals_source *source)
{
    uint32_t rows = 0;
    const struct gm_metrics_service *from[GM_TOTALS_TABLES_MAX]; /* each list as it is now */
    for (uint32_t i = 0; i < source->table_count; i++) {
        from[i] = first_service(source->tables[i]);
        for (const struct gm_metrics_service *row = from[i]; row != NULL; row = next_service(row))
            rows++;
    }
    uint32_t entries = entries_for(rows);
    totals->service_mask = entries - 1;
    totals->services = calloc(entries, sizeof *totals->services);
    if (totals->services == NULL)
        return -GM_E_NOMEM;
    for (uint32_t i = 0; i < source->table_count; i++) {
        for (const struct gm_metrics_service *row = from[i]; row != NULL; row = next_service(row))
            service_add(totals, row);
    }
    return 0;
}

static bool idle_since(const struct gm_totals_source *source, uint64_t used_ns, uint64_t span_ns)
{
    return source->now_ns > used_ns && source->now_ns - used_ns > span_ns;
}

static void judge_service(struct gm_totals_service *entry, const struct gm_totals_source *source)
{
    if (entry->row->name_len == 0) {
        entry->hidden = entry->used_ns == 0; /* it stays, once there is something to tell */
        return;
    }
    entry->hidden = idle_since(source, entry->used_ns, source->retention_ns) &&
                    !source->served(source->arg, entry->row, "", 0);
    entry->unwanted = entry->hidden && idle_since(source, entry->used_ns, source->free_ns);
}

/* ---- Series ---- */

static bool series_same(const struct gm_metrics_series *a, const struct gm_metrics_series *b)
{
    return a->hash == b->hash && a->status == b->status && a->agent_len == b->agent_len &&
           a->client_len == b->client_len && a->service->name_len == b->service->name_len &&
           memcmp(a->names, b->names, (size_t)a->agent_len + a->client_len) == 0 &&
           memcmp(a->service->name, b->service->name, a->service->name_len) == 0;
}

static struct gm_totals_series *series_entry(struct gm_totals *totals,
                                             const struct gm_metrics_series *row)
{
    uint32_t at = (uint32_t)row->hash & totals->series_mask;
    while (totals->series[at].row != NULL && !series_same(totals->series[at].row, row))
        at = (at + 1) & totals->series_mask;
    return &totals->series[at];
}

/* Adds a row. *room: entries that may still be taken. False: it needed one and there is none. */
static bool series_add(struct gm_totals *totals, const struct gm_metrics_series *row,
                       uint32_t *room)
{
    struct gm_totals_series *entry = series_entry(totals, row);
    uint64_t used_ns = load(&row->used_ns);
    if (entry->row == NULL && (*room)-- == 0)
        return false;
    entry->row = row;
    entry->count += load(&row->count);
    if (used_ns > entry->used_ns)
        entry->used_ns = used_ns;
    return true;
}

static struct gm_metrics_series *first_series(const struct gm_metrics *table, uint32_t list)
{
    return atomic_load_explicit(&table->series[list], memory_order_acquire);
}

static struct gm_metrics_series *next_series(const struct gm_metrics_series *row)
{
    return atomic_load_explicit(&row->next, memory_order_acquire);
}

static bool add_all(struct gm_totals *totals, const struct gm_totals_source *source, uint32_t room)
{
    for (uint32_t i = 0; i < source->table_count * GM_METRICS_LISTS; i++) {
        const struct gm_metrics_series *row =
            first_series(source->tables[i / GM_METRICS_LISTS], i % GM_METRICS_LISTS);
        for (; row != NULL; row = next_series(row)) {
            if (!series_add(totals, row, &room))
                return false;
        }
    }
    return true;
}

/* In a table for so many rows. -GM_E_LIMIT: there are more. */
static int gather_into(struct gm_totals *totals, const struct gm_totals_source *source,
                       uint32_t rows)
{
    uint32_t entries = entries_for(rows);
    totals->series_mask = entries - 1;
    totals->series = calloc(entries, sizeof *totals->series);
    if (totals->series == NULL)
        return -GM_E_NOMEM;
    if (add_all(totals, source, entries / 4 * 3))
        return 0;
    free(totals->series);
    totals->series = NULL;
    return -GM_E_LIMIT;
}

/* Rings make rows while theirs are read. When more come than were foreseen all is read again, with
 * room for as many as there can be: a page that left one out would show a sum that falls. */
static int gather_series(struct gm_totals *totals, const struct gm_totals_source *source)
{
    uint32_t now = 0, most = 0;
    for (uint32_t i = 0; i < source->table_count; i++) {
        const struct gm_metrics *table = source->tables[i];
        now += atomic_load_explicit(&table->series_count, memory_order_relaxed) + 1u;
        most += table->series_max + 1u;
    }
    int rc = gather_into(totals, source, now);
    return rc == -GM_E_LIMIT ? gather_into(totals, source, most) : rc;
}

static void judge_series(struct gm_totals_series *entry, const struct gm_totals_source *source,
                         bool crowded)
{
    const struct gm_metrics_series *row = entry->row;
    if (row->status == GM_METRICS_OTHER) {
        entry->hidden = entry->count == 0;
        return;
    }
    /* Of no agent and no service: refusals, which no departure makes obsolete. */
    bool lasting = row->agent_len == 0 && row->service->name_len == 0;
    entry->hidden = idle_since(source, entry->used_ns, source->retention_ns) &&
                    (crowded || (!lasting && !source->served(source->arg, row->service, row->names,
                                                             row->agent_len)));
    entry->unwanted = entry->hidden && idle_since(source, entry->used_ns, source->free_ns);
}

/* ---- Marks ---- */

static void mark_table(struct gm_totals *totals, struct gm_metrics *table)
{
    for (uint32_t list = 0; list < GM_METRICS_LISTS; list++) {
        struct gm_metrics_series *row = first_series(table, list);
        for (; row != NULL; row = next_series(row)) {
            if (series_entry(totals, row)->unwanted)
                atomic_store_explicit(&row->unwanted, true, memory_order_relaxed);
        }
    }
    struct gm_metrics_service *row = first_service(table);
    for (; row != NULL; row = next_service(row)) {
        if (entry_of_service(totals, row)->unwanted)
            atomic_store_explicit(&row->unwanted, true, memory_order_relaxed);
    }
}

static bool judge_all(struct gm_totals *totals, const struct gm_totals_source *source)
{
    bool crowded = false, any = false;
    for (uint32_t i = 0; i < source->table_count; i++) {
        const struct gm_metrics *table = source->tables[i];
        crowded =
            crowded || CROWDED(atomic_load_explicit(&table->series_count, memory_order_relaxed),
                               table->series_max);
    }
    for (uint32_t i = 0; i <= totals->series_mask; i++) {
        if (totals->series[i].row == NULL)
            continue;
        judge_series(&totals->series[i], source, crowded);
        any = any || totals->series[i].unwanted;
    }
    for (uint32_t i = 0; i <= totals->service_mask; i++) {
        if (totals->services[i].row == NULL)
            continue;
        judge_service(&totals->services[i], source);
        any = any || totals->services[i].unwanted;
    }
    return any;
}

int gm_totals_gather(struct gm_totals *totals, const struct gm_totals_source *source)
{
    GM_ASSERT(source->table_count <= GM_TOTALS_TABLES_MAX);
    memset(totals, 0, sizeof *totals);
    int rc = gather_services(totals, source);
    if (rc >= 0)
        rc = gather_series(totals, source);
    if (rc < 0) {
        gm_totals_fini(totals);
        return rc;
    }
    for (uint32_t i = 0; i < source->table_count; i++) {
        for (unsigned m = 0; m < GM_METRICS_MESSAGE_COUNT; m++)
            totals->messages[m] += load(&source->tables[i]->messages[m]);
    }
    if (judge_all(totals, source)) {
        for (uint32_t i = 0; i < source->table_count; i++)
            mark_table(totals, source->tables[i]);
    }
    return 0;
}

void gm_totals_fini(struct gm_totals *totals)
{
    free(totals->series);
    free(totals->services);
    *totals = (struct gm_totals){0};
}
