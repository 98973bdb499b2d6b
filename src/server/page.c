/* The page of /metrics: all rings' tables, the agents' reports, the raw counters, the process.
 *
 * Owner: ring 0, within one scrape. Families keep the names, types and labels of version 0.0.x;
 * what an agent has reported is summed over its links that are up, so that nothing is left of one
 * that has gone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/exposition.h"
#include "base/version.h"
#include "server/scrape.h"
#include "server/totals.h"

/* One agent's name in one service: what its links and processes report, together. */
struct group {
    const struct gm_card *card; /* any of them, for the names; NULL: an empty entry */
    struct gm_report report;
    uint64_t held_frames;
};

struct page {
    struct gm_exposition *out;
    struct gm_server_ring *ctx;
    uint32_t rings;
    struct gm_totals totals;
    struct group *groups; /* a hash table of group_mask + 1 entries, half of them empty */
    uint32_t group_mask;
};

uint64_t gm_scrape_free_after_ns(const struct gm_server_ring *ctx)
{
    uint64_t retention_ns = ctx->shared->config->metrics_retention_ns;
    return retention_ns + retention_ns / 10;
}

/* ---- Agents ---- */

struct name {
    const char *p;
    size_t len;
};

static bool name_is(const char *text, struct name name)
{
    return strlen(text) == name.len && memcmp(text, name.p, name.len) == 0;
}

/* The group of those names, or an empty entry for it. */
static struct group *group_of(const struct page *page, struct name service, struct name subject)
{
    uint64_t hash =
        XXH3_64bits_withSeed(subject.p, subject.len, gm_metrics_name_hash(service.p, service.len));
    for (uint32_t at = (uint32_t)hash & page->group_mask;; at = (at + 1) & page->group_mask) {
        struct group *group = &page->groups[at];
        if (group->card == NULL ||
            (name_is(group->card->service, service) && name_is(group->card->subject, subject)))
            return group;
    }
}

static void gather_card(void *arg, const struct gm_card *card)
{
    struct page *page = arg;
    struct group *group = group_of(page, (struct name){card->service, strlen(card->service)},
                                   (struct name){card->subject, strlen(card->subject)});
    group->card = card;
    for (unsigned i = 0; i < GM_REPORT_FIGURES; i++) {
        int64_t value = atomic_load_explicit(&card->figure[i], memory_order_relaxed);
        int64_t *sum = &group->report.figure[i];
        bool longest = i == GM_REPORT_UPTIME_S || i == GM_REPORT_DRAINING || i == GM_REPORT_SERVERS;
        *sum = !longest ? *sum + value : value > *sum ? value : *sum;
    }
    for (uint32_t i = 0; i < page->rings; i++)
        group->held_frames +=
            atomic_load_explicit(&card->joined[i].held_frames, memory_order_relaxed);
}

static void count_card(void *arg, const struct gm_card *card)
{
    (void)card;
    ++*(uint32_t *)arg;
}

/* All links that ring 0 knows, which does not change meanwhile. */
static int gather_groups(struct page *page)
{
    uint32_t cards = 0, entries = 64;
    gm_registry_each_card(page->ctx->registry, count_card, &cards);
    while (entries / 2 < cards)
        entries *= 2;
    page->group_mask = entries - 1;
    page->groups = calloc(entries, sizeof *page->groups);
    if (page->groups == NULL)
        return -GM_E_NOMEM;
    gm_registry_each_card(page->ctx->registry, gather_card, page);
    return 0;
}

/* ---- Counts of requests ---- */

static bool served(void *arg, const struct gm_metrics_service *service, const char *subject,
                   size_t subject_len)
{
    const struct page *page = arg;
    if (subject_len == 0)
        return gm_registry_links(page->ctx->registry, service->name, service->name_len) > 0;
    return group_of(page, (struct name){service->name, service->name_len},
                    (struct name){subject, subject_len})
               ->card != NULL;
}

static int gather_totals(struct page *page)
{
    struct gm_server_shared *shared = page->ctx->shared;
    struct gm_metrics *tables[GM_TOTALS_TABLES_MAX];
    for (uint32_t i = 0; i < page->rings; i++)
        tables[i] = &shared->ring_contexts[i]->metrics;
    struct gm_totals_source source = {
        .tables = tables,
        .table_count = page->rings,
        .now_ns = gm_ring_now_ns(page->ctx->ring),
        .retention_ns = shared->config->metrics_retention_ns,
        .free_ns = gm_scrape_free_after_ns(page->ctx),
        .served = served,
        .arg = page,
    };
    return gm_totals_gather(&page->totals, &source);
}

static void label_service(struct page *page, const struct gm_metrics_service *service)
{
    gm_exposition_label(page->out, "service", service->name, service->name_len);
}

static void put_requests(struct page *page)
{
    static const char name[] = "gimlet_requests_total";
    gm_exposition_family(page->out, name, "counter",
                         "Requests answered, by service, agent, client and status");
    for (uint32_t i = 0; i <= page->totals.series_mask; i++) {
        const struct gm_totals_series *total = &page->totals.series[i];
        const struct gm_metrics_series *row = total->row;
        char status[8] = "other";
        if (row == NULL || total->hidden)
            continue;
        if (row->status != GM_METRICS_OTHER)
            (void)snprintf(status, sizeof status, "%u", (unsigned)row->status);
        gm_exposition_begin(page->out, name);
        label_service(page, row->service);
        gm_exposition_label(page->out, "agent_id", row->names, row->agent_len);
        gm_exposition_label(page->out, "client_id", row->names + row->agent_len, row->client_len);
        gm_exposition_label(page->out, "status", status, strlen(status));
        gm_exposition_unsigned(page->out, total->count);
    }
}

static void put_bucket(struct page *page, const struct gm_totals_service *service,
                       const char *bound, uint64_t count)
{
    gm_exposition_begin(page->out, "gimlet_request_duration_seconds_bucket");
    label_service(page, service->row);
    gm_exposition_label(page->out, "le", bound, strlen(bound));
    gm_exposition_unsigned(page->out, count);
}

static void put_duration(struct page *page, const struct gm_totals_service *service)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < GM_METRICS_BUCKETS; i++) {
        count += service->bucket[i];
        put_bucket(page, service, i < GM_METRICS_BOUNDS ? gm_metrics_bound_texts[i] : "+Inf",
                   count);
    }
    gm_exposition_begin(page->out, "gimlet_request_duration_seconds_sum");
    label_service(page, service->row);
    gm_exposition_seconds(page->out, service->took_ns);
    gm_exposition_begin(page->out, "gimlet_request_duration_seconds_count");
    label_service(page, service->row);
    gm_exposition_unsigned(page->out, count);
}

static void put_rejections(struct page *page, const struct gm_totals_service *service)
{
    gm_exposition_begin(page->out, "gimlet_rate_limit_rejections_total");
    label_service(page, service->row);
    gm_exposition_label(page->out, "limit_type", "server", 6);
    gm_exposition_unsigned(page->out, service->rejected);
}

static void each_service(struct page *page,
                         void (*put)(struct page *page, const struct gm_totals_service *service))
{
    for (uint32_t i = 0; i <= page->totals.service_mask; i++) {
        if (page->totals.services[i].row != NULL && !page->totals.services[i].hidden)
            put(page, &page->totals.services[i]);
    }
}

static void put_services(struct page *page)
{
    gm_exposition_family(page->out, "gimlet_request_duration_seconds", "histogram",
                         "Time from a request's head to the last byte of its answer");
    each_service(page, put_duration);
    gm_exposition_family(page->out, "gimlet_rate_limit_rejections_total", "counter",
                         "Requests answered with 429 because of the server's own limit");
    each_service(page, put_rejections);
}

static void put_messages(struct page *page)
{
    static const struct {
        const char *direction, *type;
    } rows[GM_METRICS_MESSAGE_COUNT] = {
#define MESSAGE_ROW(constant, direction, type) {direction, type},
        GM_METRICS_MESSAGES(MESSAGE_ROW)
#undef MESSAGE_ROW
    };
    gm_exposition_family(page->out, "gimlet_websocket_messages_total", "counter",
                         "Messages between this server and its agents");
    for (unsigned i = 0; i < GM_METRICS_MESSAGE_COUNT; i++) {
        gm_exposition_begin(page->out, "gimlet_websocket_messages_total");
        gm_exposition_label(page->out, "direction", rows[i].direction, strlen(rows[i].direction));
        gm_exposition_label(page->out, "type", rows[i].type, strlen(rows[i].type));
        gm_exposition_unsigned(page->out, page->totals.messages[i]);
    }
}

/* ---- Links ---- */

static void add_to_service(void *arg, const struct gm_card *card)
{
    struct page *page = arg;
    struct gm_totals_service *service =
        gm_totals_find(&page->totals, card->service, strlen(card->service));
    if (service == NULL)
        return;
    service->agents += service->agents == 0 || card->agent != service->last_agent;
    service->last_agent = card->agent;
    service->active += (uint32_t)atomic_load_explicit(&card->holds, memory_order_relaxed);
}

static void put_agents(struct page *page, const struct gm_totals_service *service)
{
    if (service->row->name_len == 0)
        return; /* agents have names */
    gm_exposition_begin(page->out, "gimlet_agent_connections");
    label_service(page, service->row);
    gm_exposition_unsigned(page->out, service->agents);
}

static void put_active(struct page *page, const struct gm_totals_service *service)
{
    if (service->row->name_len == 0)
        return;
    gm_exposition_begin(page->out, "gimlet_active_requests");
    label_service(page, service->row);
    gm_exposition_unsigned(page->out, service->active);
}

static void put_levels(struct page *page)
{
    gm_exposition_family(page->out, "gimlet_agent_connections", "gauge",
                         "Agents connected, by service");
    each_service(page, put_agents);
    gm_exposition_family(page->out, "gimlet_active_requests", "gauge",
                         "Requests under way, by service");
    each_service(page, put_active);
}

/* ---- What agents report ---- */

static void label_group(struct page *page, const struct group *group)
{
    const struct gm_card *card = group->card;
    gm_exposition_label(page->out, "service", card->service, strlen(card->service));
    gm_exposition_label(page->out, "agent_id", card->subject, strlen(card->subject));
}

static void put_held(struct page *page)
{
    static const char name[] = "gimlet_response_channel_buffer_usage";
    gm_exposition_family(page->out, name, "gauge",
                         "Frames of answers that wait for their clients, by agent");
    for (uint32_t i = 0; i <= page->group_mask; i++) {
        if (page->groups[i].card == NULL)
            continue;
        gm_exposition_begin(page->out, name);
        label_group(page, &page->groups[i]);
        gm_exposition_unsigned(page->out, page->groups[i].held_frames);
    }
}

static void put_figure(struct page *page, const char *name, const char *help,
                       enum gm_report_figure figure)
{
    gm_exposition_family(page->out, name, "gauge", help);
    for (uint32_t i = 0; i <= page->group_mask; i++) {
        if (page->groups[i].card == NULL)
            continue;
        gm_exposition_begin(page->out, name);
        label_group(page, &page->groups[i]);
        gm_exposition_signed(page->out, page->groups[i].report.figure[figure]);
    }
}

static void put_kinds(struct page *page, const char *name, const struct group *group,
                      enum gm_report_figure first)
{
    for (unsigned kind = 0; kind < GM_REPORT_KIND_COUNT; kind++) {
        const char *kind_name = gm_report_kind_names[kind];
        gm_exposition_begin(page->out, name);
        label_group(page, group);
        gm_exposition_label(page->out, "frame_type", kind_name, strlen(kind_name));
        gm_exposition_signed(page->out, group->report.figure[first + kind]);
    }
}

static void put_frames(struct page *page, const char *name, const char *help,
                       enum gm_report_figure first)
{
    gm_exposition_family(page->out, name, "gauge", help);
    for (uint32_t i = 0; i <= page->group_mask; i++) {
        if (page->groups[i].card != NULL)
            put_kinds(page, name, &page->groups[i], first);
    }
}

static void put_reports(struct page *page)
{
    static const struct {
        const char *name, *help;
        enum gm_report_figure figure;
    } rows[] = {
        {"gimlet_agent_rate_limit_rejections_total",
         "Requests that the agent refused because it was full", GM_REPORT_REJECTIONS},
        {"gimlet_agent_concurrent_requests", "Requests that the agent has under way",
         GM_REPORT_CONCURRENT},
        {"gimlet_agent_request_channel_buffer_usage",
         "Frames of request bodies that wait for the agent's backend", GM_REPORT_REQUEST_BUFFER},
        {"gimlet_agent_backend_failures_total", "Requests that the agent's backend failed",
         GM_REPORT_BACKEND_FAILURES},
        {"gimlet_agent_websocket_write_errors_total", "Messages that the agent could not send",
         GM_REPORT_WRITE_ERRORS},
        {"gimlet_agent_draining", "1 while the agent drains", GM_REPORT_DRAINING},
        {"gimlet_agent_connection_uptime_seconds", "Age of the agent's oldest link",
         GM_REPORT_UPTIME_S},
        {"gimlet_agent_servers", "Servers that the agent has links to; 0 if it does not say",
         GM_REPORT_SERVERS},
    };
    put_held(page);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        put_figure(page, rows[i].name, rows[i].help, rows[i].figure);
    put_frames(page, "gimlet_agent_frames_sent_total", "Frames sent by the agent, by type",
               GM_REPORT_SENT);
    put_frames(page, "gimlet_agent_frames_received_total", "Frames received by the agent, by type",
               GM_REPORT_RECEIVED);
}

/* ---- The page ---- */

static void put_build(struct page *page)
{
    const char *io = gm_rings_backend(page->ctx->shared->rings);
    gm_exposition_family(page->out, "gimlet_build_info", "gauge",
                         "Version, and what the rings run on; always 1");
    gm_exposition_begin(page->out, "gimlet_build_info");
    gm_exposition_label(page->out, "version", GM_VERSION, strlen(GM_VERSION));
    gm_exposition_label(page->out, "io", io, strlen(io));
    gm_exposition_unsigned(page->out, 1);
}

void gm_scrape_page(struct gm_server_ring *ctx, struct gm_exposition *out)
{
    struct gm_rings *rings = ctx->shared->rings;
    struct page page = {.out = out, .ctx = ctx, .rings = gm_rings_count(rings)};
    if (gather_groups(&page) < 0 || gather_totals(&page) < 0) {
        free(page.groups);
        out->failed = true;
        return;
    }
    gm_registry_each_card(ctx->registry, add_to_service, &page);
    put_levels(&page);
    put_requests(&page);
    put_services(&page);
    put_messages(&page);
    put_reports(&page);
    put_build(&page);
    gm_exposition_counters(out, gm_rings_counters(rings));
    gm_exposition_process(out);
    gm_totals_fini(&page.totals);
    free(page.groups);
}
