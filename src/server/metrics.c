/* A ring's table of request figures. Owner: the ring.
 *
 * Invariants: series_count rows hang in the lists, `other` and `nameless` are never removed; a
 * service outlives its series. */
#include "server/metrics.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/assert.h"
#include "base/counter.h"

const uint64_t gm_metrics_bounds_ns[GM_METRICS_BOUNDS] = {100000000u,   500000000u,  1000000000u,
                                                          2000000000u,  5000000000u, 10000000000u,
                                                          30000000000u, 60000000000u};
const char *const gm_metrics_bound_texts[GM_METRICS_BOUNDS] = {"0.1", "0.5", "1",  "2",
                                                               "5",   "10",  "30", "60"};

static void add(_Atomic uint64_t *value, uint64_t n)
{
    atomic_store_explicit(value, atomic_load_explicit(value, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static void touch(_Atomic uint64_t *used_ns, uint64_t now_ns)
{
    atomic_store_explicit(used_ns, now_ns, memory_order_relaxed);
}

/* ---- Services ---- */

uint64_t gm_metrics_name_hash(const char *name, size_t len)
{
    return XXH3_64bits(name, len);
}

static struct gm_metrics_service *service_find(const struct gm_metrics *metrics, const char *name,
                                               size_t len)
{
    uint64_t hash = gm_metrics_name_hash(name, len);
    struct gm_metrics_service *service = metrics->by_name[hash % GM_METRICS_LISTS];
    while (service != NULL && (service->hash != hash || service->name_len != len ||
                               memcmp(service->name, name, len) != 0))
        service = service->same;
    return service;
}

static struct gm_metrics_service *service_make(struct gm_metrics *metrics, const char *name,
                                               size_t len)
{
    bool room = metrics->service_count < GM_METRICS_SERVICES_MAX;
    struct gm_metrics_service *service = room ? calloc(1, sizeof *service + len) : NULL;
    if (service == NULL)
        return NULL;
    gm_counter_add(GM_COUNTER_ALLOCATIONS, 1);
    metrics->service_count++;
    service->name_len = (uint16_t)len;
    service->hash = gm_metrics_name_hash(name, len);
    memcpy(service->name, name, len);
    struct gm_metrics_service **list = &metrics->by_name[service->hash % GM_METRICS_LISTS];
    service->same = *list;
    *list = service;
    atomic_store_explicit(&service->next,
                          atomic_load_explicit(&metrics->services, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(&metrics->services, service, memory_order_release);
    return service;
}

void gm_metrics_know(struct gm_metrics *metrics, const char *name, size_t len, uint64_t now_ns)
{
    struct gm_metrics_service *service = service_find(metrics, name, len);
    if (service == NULL)
        service = service_make(metrics, name, len);
    if (service != NULL)
        touch(&service->used_ns, now_ns);
}

void gm_metrics_reject(struct gm_metrics *metrics, const char *name, size_t len, uint64_t now_ns)
{
    struct gm_metrics_service *service = service_find(metrics, name, len);
    if (service == NULL)
        service = metrics->nameless;
    add(&service->rejected, 1);
    touch(&service->used_ns, now_ns);
}

/* ---- Series ---- */

/* Mixed, so that a name may not wander from one label into the next unnoticed. */
static uint64_t request_hash(const struct gm_metrics_request *request)
{
    uint64_t hash = XXH3_64bits_withSeed(request->service, request->service_len, request->status);
    hash = XXH3_64bits_withSeed(request->agent, request->agent_len, hash);
    return XXH3_64bits_withSeed(request->client, request->client_len, hash);
}

static bool series_is(const struct gm_metrics_series *series,
                      const struct gm_metrics_request *request)
{
    const struct gm_metrics_service *service = series->service;
    return series->status == request->status && service->name_len == request->service_len &&
           series->agent_len == request->agent_len && series->client_len == request->client_len &&
           memcmp(service->name, request->service, request->service_len) == 0 &&
           memcmp(series->names, request->agent, request->agent_len) == 0 &&
           memcmp(series->names + series->agent_len, request->client, request->client_len) == 0;
}

static _Atomic(struct gm_metrics_series *) *list_of(struct gm_metrics *metrics, uint64_t hash)
{
    return &metrics->series[hash % GM_METRICS_LISTS];
}

static struct gm_metrics_series *
series_find(struct gm_metrics *metrics, const struct gm_metrics_request *request, uint64_t hash)
{
    struct gm_metrics_series *series =
        atomic_load_explicit(list_of(metrics, hash), memory_order_relaxed);
    while (series != NULL && (series->hash != hash || !series_is(series, request)))
        series = atomic_load_explicit(&series->next, memory_order_relaxed);
    return series;
}

static uint32_t series_count(const struct gm_metrics *metrics)
{
    return atomic_load_explicit(&metrics->series_count, memory_order_relaxed);
}

static void series_counted(struct gm_metrics *metrics, uint32_t n)
{
    atomic_store_explicit(&metrics->series_count, series_count(metrics) + n, memory_order_relaxed);
}

static struct gm_metrics_series *series_make(struct gm_metrics *metrics,
                                             const struct gm_metrics_request *request,
                                             struct gm_metrics_service *service)
{
    size_t names = (size_t)request->agent_len + request->client_len;
    struct gm_metrics_series *series = calloc(1, sizeof *series + names);
    if (series == NULL)
        return NULL;
    gm_counter_add(GM_COUNTER_ALLOCATIONS, 1);
    series->hash = request_hash(request);
    series->service = service;
    series->status = request->status;
    series->agent_len = request->agent_len;
    series->client_len = request->client_len;
    memcpy(series->names, request->agent, request->agent_len);
    memcpy(series->names + request->agent_len, request->client, request->client_len);
    service->series_count++;
    series_counted(metrics, 1);
    _Atomic(struct gm_metrics_series *) *list = list_of(metrics, series->hash);
    atomic_store_explicit(&series->next, atomic_load_explicit(list, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(list, series, memory_order_release);
    return series;
}

/* The first request of its kind, or one for a service that nobody has ever served. */
static __attribute__((noinline)) struct gm_metrics_series *
series_first(struct gm_metrics *metrics, const struct gm_metrics_request *request)
{
    struct gm_metrics_request row = *request;
    struct gm_metrics_service *service = service_find(metrics, row.service, row.service_len);
    if (service == NULL) {
        service = metrics->nameless;
        row.service_len = 0;
    }
    struct gm_metrics_series *series = series_find(metrics, &row, request_hash(&row));
    if (series == NULL && series_count(metrics) < metrics->series_max)
        series = series_make(metrics, &row, service);
    return series != NULL ? series : metrics->other;
}

void gm_metrics_answered(struct gm_metrics *metrics, const struct gm_metrics_request *request,
                         uint64_t now_ns)
{
    struct gm_metrics_series *series = series_find(metrics, request, request_hash(request));
    if (GM_UNLIKELY(series == NULL))
        series = series_first(metrics, request);
    unsigned at = 0;
    while (at < GM_METRICS_BOUNDS && request->took_ns > gm_metrics_bounds_ns[at])
        at++;
    struct gm_metrics_service *service = series->service;
    add(&series->count, 1);
    touch(&series->used_ns, now_ns);
    add(&service->bucket[at], 1);
    add(&service->took_ns, request->took_ns);
    touch(&service->used_ns, now_ns);
}

/* ---- Life ---- */

int gm_metrics_init(struct gm_metrics *metrics, uint32_t series_max)
{
    static const struct gm_metrics_request other = {
        .service = "", .agent = "", .client = "", .status = GM_METRICS_OTHER};
    memset(metrics, 0, sizeof *metrics);
    metrics->series_max = series_max;
    metrics->series = calloc(GM_METRICS_LISTS, sizeof *metrics->series);
    metrics->by_name = calloc(GM_METRICS_LISTS, sizeof *metrics->by_name);
    if (metrics->series != NULL && metrics->by_name != NULL)
        metrics->nameless = service_make(metrics, "", 0);
    if (metrics->nameless != NULL)
        metrics->other = series_make(metrics, &other, metrics->nameless);
    if (metrics->other == NULL) {
        gm_metrics_fini(metrics);
        return -GM_E_NOMEM;
    }
    series_counted(metrics, UINT32_MAX);
    return 0;
}

/* Takes the row out and frees it; what follows it moves up. */
static void series_drop(struct gm_metrics *metrics, _Atomic(struct gm_metrics_series *) *at)
{
    struct gm_metrics_series *series = atomic_load_explicit(at, memory_order_relaxed);
    atomic_store_explicit(at, atomic_load_explicit(&series->next, memory_order_relaxed),
                          memory_order_relaxed);
    series->service->series_count--;
    series_counted(metrics, UINT32_MAX);
    free(series);
}

static void service_drop(struct gm_metrics *metrics, _Atomic(struct gm_metrics_service *) *at)
{
    struct gm_metrics_service *service = atomic_load_explicit(at, memory_order_relaxed);
    struct gm_metrics_service **same = &metrics->by_name[service->hash % GM_METRICS_LISTS];
    while (*same != service)
        same = &(*same)->same;
    *same = service->same;
    metrics->service_count--;
    atomic_store_explicit(at, atomic_load_explicit(&service->next, memory_order_relaxed),
                          memory_order_relaxed);
    free(service);
}

/* True when the row is to go; a mark that has been overtaken by a use is taken away. */
static bool idle(_Atomic bool *unwanted, const _Atomic uint64_t *used_ns, uint64_t before_ns)
{
    if (!atomic_load_explicit(unwanted, memory_order_relaxed))
        return false;
    atomic_store_explicit(unwanted, false, memory_order_relaxed);
    return atomic_load_explicit(used_ns, memory_order_relaxed) < before_ns;
}

static void clean_list(struct gm_metrics *metrics, _Atomic(struct gm_metrics_series *) *at,
                       uint64_t before_ns)
{
    struct gm_metrics_series *series;
    while ((series = atomic_load_explicit(at, memory_order_relaxed)) != NULL) {
        if (series != metrics->other && idle(&series->unwanted, &series->used_ns, before_ns))
            series_drop(metrics, at);
        else
            at = &series->next;
    }
}

void gm_metrics_clean(struct gm_metrics *metrics, uint64_t now_ns, uint64_t idle_ns)
{
    uint64_t before_ns = now_ns > idle_ns ? now_ns - idle_ns : 0;
    for (uint32_t i = 0; series_count(metrics) > 0 && i < GM_METRICS_LISTS; i++)
        clean_list(metrics, &metrics->series[i], before_ns);
    _Atomic(struct gm_metrics_service *) *at = &metrics->services;
    struct gm_metrics_service *service;
    while ((service = atomic_load_explicit(at, memory_order_relaxed)) != NULL) {
        bool empty = service != metrics->nameless && service->series_count == 0;
        if (empty && idle(&service->unwanted, &service->used_ns, before_ns))
            service_drop(metrics, at);
        else
            at = &service->next;
    }
}

void gm_metrics_fini(struct gm_metrics *metrics)
{
    for (uint32_t i = 0; metrics->series != NULL && i < GM_METRICS_LISTS; i++) {
        while (atomic_load_explicit(&metrics->series[i], memory_order_relaxed) != NULL)
            series_drop(metrics, &metrics->series[i]);
    }
    while (atomic_load_explicit(&metrics->services, memory_order_relaxed) != NULL)
        service_drop(metrics, &metrics->services);
    free(metrics->series);
    free(metrics->by_name);
    memset(metrics, 0, sizeof *metrics);
}
