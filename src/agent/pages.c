/* The agent's pages. Owner: ring 0. Invariant: a page shows each series once, whatever a census
 * holds; no page holds a credential. */
#include "agent/pages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "agent/health.h"
#include "base/exposition.h"
#include "base/version.h"

static const char *service_name(const struct gm_agent_shared *shared, uint32_t service)
{
    const char *name = shared->services[service].config->name;
    return name != NULL ? name : "";
}

/* ---- /debug/counters ---- */

struct gm_agent_page gm_agent_page_counters(struct gm_agent_ring *ctx,
                                            const struct gm_agent_census *census)
{
    struct gm_rings *rings = ctx->shared->rings;
    size_t cap = GM_COUNTER_RENDER_MAX(gm_rings_count(rings)) + 128;
    struct gm_agent_page page = {
        .status = "200 OK", .type = "text/plain; charset=utf-8", .text = malloc(cap)};
    (void)census;
    if (page.text == NULL)
        return page;
    int prefix = snprintf(page.text, cap, "io_backend{name=\"%s\"} 1\n", gm_rings_backend(rings));
    ptrdiff_t len =
        gm_counter_render(gm_rings_counters(rings), page.text + prefix, cap - (size_t)prefix);
    page.len = (size_t)prefix + (size_t)(len < 0 ? 0 : len);
    return page;
}

/* ---- /metrics ---- */

static void put_label(struct gm_exposition *page, const char *name, const char *value)
{
    gm_exposition_label(page, name, value, strlen(value));
}

static void begin(struct gm_exposition *page, const char *family,
                  const struct gm_agent_shared *shared, uint32_t service)
{
    gm_exposition_begin(page, family);
    put_label(page, "service", service_name(shared, service));
}

/* A number of the service's tallies, summed over the rings. */
static uint64_t sum_at(const struct gm_agent_shared *shared, uint32_t service, size_t offset)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < gm_rings_count(shared->rings); i++) {
        const char *tally = (const char *)&shared->ring_contexts[i]->tallies[service];
        const _Atomic uint64_t *number = (const void *)(tally + offset);
        sum += atomic_load_explicit(number, memory_order_relaxed);
    }
    return sum;
}
#define SUM(shared, service, number)                                                               \
    sum_at(shared, service, offsetof(struct gm_agent_tally, number))

static void put_info(struct gm_exposition *page, const struct gm_agent_shared *shared)
{
    static const char info[] = "gimlet_agent_info", limit[] = "gimlet_agent_request_limit";
    gm_exposition_family(page, info, "gauge", "Always 1: version and I/O back-end of the agent");
    gm_exposition_begin(page, info);
    put_label(page, "version", GM_VERSION);
    put_label(page, "io", gm_rings_backend(shared->rings));
    gm_exposition_unsigned(page, 1);
    gm_exposition_family(page, limit, "gauge",
                         "Requests that the process takes at a time, 0 for any number");
    gm_exposition_begin(page, limit);
    gm_exposition_signed(page, shared->config->max_concurrent_requests);
}

static void put_requests(struct gm_exposition *page, const struct gm_agent_shared *shared)
{
    static const char ended[] = "gimlet_service_requests_total",
                      active[] = "gimlet_service_active_requests";
    gm_exposition_family(page, ended, "counter",
                         "Requests from servers by how they ended: ok, or the reason of the error");
    for (uint32_t i = 0; i < shared->service_count; i++) {
        for (uint16_t reason = 0; reason < GM_REASON_COUNT; reason++) {
            uint64_t n =
                sum_at(shared, i, offsetof(struct gm_agent_tally, ended) + reason * sizeof n);
            if (n == 0 && reason != GM_REASON_NONE)
                continue;
            begin(page, ended, shared, i);
            put_label(page, "reason",
                      reason == GM_REASON_NONE ? "ok" : gm_reason_get(reason)->name);
            gm_exposition_unsigned(page, n);
        }
    }
    gm_exposition_family(page, active, "gauge", "Requests under way");
    for (uint32_t i = 0; i < shared->service_count; i++) {
        begin(page, active, shared, i);
        gm_exposition_signed(page, (int64_t)SUM(shared, i, active));
    }
}

static void put_health(struct gm_exposition *page, const struct gm_agent_shared *shared)
{
    static const char family[] = "gimlet_service_backend_healthy";
    gm_exposition_family(page, family, "gauge",
                         "1 while the backend passes its health checks, else 0; no series for a "
                         "backend that is not checked");
    for (uint32_t i = 0; i < shared->service_count; i++) {
        if (shared->services[i].config->health.path == NULL)
            continue;
        begin(page, family, shared, i);
        gm_exposition_unsigned(page, gm_agent_health_ready(&shared->services[i]));
    }
}

static void put_checks(struct gm_exposition *page, const struct gm_agent_shared *shared)
{
    static const char family[] = "gimlet_service_health_checks_total";
    gm_exposition_family(page, family, "counter", "Health checks of the backend by how they ended");
    for (uint32_t i = 0; i < shared->service_count; i++) {
        if (shared->services[i].config->health.path == NULL)
            continue;
        begin(page, family, shared, i);
        put_label(page, "result", "passed");
        gm_exposition_unsigned(page, SUM(shared, i, passed));
        begin(page, family, shared, i);
        put_label(page, "result", "failed");
        gm_exposition_unsigned(page, SUM(shared, i, failed));
    }
}

/* One sample for each row; `value` chooses what. */
static void put_rows(struct gm_exposition *page, const char *family,
                     const struct gm_agent_census *census,
                     void (*value)(struct gm_exposition *, const struct gm_agent_census_row *))
{
    for (uint32_t i = 0; i < census->row_count; i++) {
        const struct gm_agent_census_row *row = &census->rows[i];
        begin(page, family, census->shared, row->service);
        put_label(page, "server_id", row->server_id);
        value(page, row);
    }
}

static void put_links(struct gm_exposition *page, const struct gm_agent_census_row *row)
{
    gm_exposition_unsigned(page, row->links);
}
static void put_draining(struct gm_exposition *page, const struct gm_agent_census_row *row)
{
    gm_exposition_unsigned(page, row->draining);
}
static void put_round_trip(struct gm_exposition *page, const struct gm_agent_census_row *row)
{
    gm_exposition_seconds(page, row->rtt_ns);
}

static void put_census(struct gm_exposition *page, const struct gm_agent_census *census)
{
    static const char links[] = "gimlet_service_links",
                      draining[] = "gimlet_service_draining_links",
                      rtt[] = "gimlet_service_link_round_trip_seconds",
                      left_out[] = "gimlet_agent_links_without_series";
    gm_exposition_family(page, links, "gauge", "Links to servers that take requests");
    put_rows(page, links, census, put_links);
    gm_exposition_family(page, draining, "gauge", "Links to servers on their way out");
    put_rows(page, draining, census, put_draining);
    gm_exposition_family(page, rtt, "gauge",
                         "Longest round trip of the links to a server, 0 before it is measured");
    put_rows(page, rtt, census, put_round_trip);
    gm_exposition_family(page, left_out, "gauge",
                         "Links that the page has no room to tell by service and server");
    gm_exposition_begin(page, left_out);
    gm_exposition_unsigned(page, census->left_out);
}

struct gm_agent_page gm_agent_page_metrics(struct gm_agent_ring *ctx,
                                           const struct gm_agent_census *census)
{
    const struct gm_agent_shared *shared = ctx->shared;
    struct gm_exposition page = {0};
    put_info(&page, shared);
    put_requests(&page, shared);
    put_health(&page, shared);
    put_checks(&page, shared);
    put_census(&page, census);
    gm_exposition_counters(&page, gm_rings_counters(shared->rings));
    gm_exposition_process(&page);
    if (page.failed) {
        free(page.text);
        page.text = NULL;
    }
    return (struct gm_agent_page){
        .status = "200 OK", .type = GM_EXPOSITION_TYPE, .text = page.text, .len = page.len};
}

/* ---- /health ---- */

/* Links of the service that take requests, and the servers that they lead to. */
struct reach {
    uint32_t links, servers;
};

static struct reach reach_of(const struct gm_agent_census *census, uint32_t service)
{
    struct reach reach = {0};
    for (uint32_t i = 0; i < census->row_count; i++) {
        const struct gm_agent_census_row *row = &census->rows[i];
        if (row->service != service || row->links == 0)
            continue;
        reach.links += row->links;
        reach.servers++;
    }
    return reach;
}

static void add_problem(json_t *problems, const char *name, const char *what)
{
    char text[GM_LINK_NAME_MAX + 64];
    (void)snprintf(text, sizeof text, "%s%s%s%s", name[0] == '\0' ? "" : "service ", name,
                   name[0] == '\0' ? "" : ": ", what);
    (void)json_array_append_new(problems, json_string(text));
}

static json_t *describe(const struct gm_agent_census *census, uint32_t service, json_t *problems)
{
    const struct gm_agent_service_info *info = &census->shared->services[service];
    const char *name = service_name(census->shared, service);
    struct reach reach = reach_of(census, service);
    bool ready = gm_agent_health_ready(info);
    const char *backend = info->config->health.path == NULL ? "unchecked"
                          : ready                           ? "healthy"
                                                            : "unhealthy";
    if (reach.links == 0 && census->left_out == 0)
        add_problem(problems, name, "no link to a server");
    if (!ready)
        add_problem(problems, name, "the backend is not healthy");
    return json_pack("{s:s,s:i,s:i,s:I,s:s}", "service", name, "links", (int)reach.links, "servers",
                     (int)reach.servers, "active_requests",
                     (json_int_t)SUM(census->shared, service, active), "backend", backend);
}

struct gm_agent_page gm_agent_page_health(struct gm_agent_ring *ctx,
                                          const struct gm_agent_census *census)
{
    struct gm_agent_shared *shared = ctx->shared;
    json_t *services = json_array(), *problems = json_array();
    for (uint32_t i = 0; i < shared->service_count; i++)
        (void)json_array_append_new(services, describe(census, i, problems));
    if (ctx->draining)
        (void)json_array_append_new(problems, json_string("the agent drains"));
    bool well = json_array_size(problems) == 0;
    json_t *document =
        json_pack("{s:s,s:I,s:o,s:o}", "status",
                  well            ? "healthy"
                  : ctx->draining ? "draining"
                                  : "unhealthy",
                  "active_requests",
                  (json_int_t)atomic_load_explicit(&shared->active_requests, memory_order_relaxed),
                  "services", services, "problems", problems);
    char *text = document == NULL ? NULL : json_dumps(document, JSON_COMPACT | JSON_SORT_KEYS);
    char *line = NULL;
    int len = text == NULL ? -1 : asprintf(&line, "%s\n", text);
    free(text);
    json_decref(document);
    return (struct gm_agent_page){.status = well ? "200 OK" : "503 Service Unavailable",
                                  .type = "application/json",
                                  .text = len < 0 ? NULL : line,
                                  .len = len < 0 ? 0 : (size_t)len};
}
