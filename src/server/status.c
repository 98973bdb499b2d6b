/* /status. Owner: the client's ring. It allocates: it is asked for once a second at most.
 *
 * Invariant: links of an agent process come one after the other, so that one agent and one service
 * are under way at a time. */
#include "server/status.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "auth/principal.h"
#include "server/document.h"
#include "server/ops.h"

#define STATUS_SCOPE "status"

/* Links of one agent process, together. */
struct agent {
    const struct gm_card *card; /* the first; NULL: none is under way */
    int64_t active, uptime_s, failures, expires_s;
    bool ready, draining;
};

struct report {
    json_t *services;
    json_t *service, *agents; /* under way; borrowed */
    const char *service_name;
    int64_t service_active;
    struct agent agent;
};

static int64_t figure(const struct gm_card *card, enum gm_report_figure which)
{
    return atomic_load_explicit(&card->figure[which], memory_order_relaxed);
}

/* RFC 3339, in the server's zone. */
static json_t *time_json(int64_t seconds)
{
    char text[40], zone[8];
    struct tm tm;
    time_t at = (time_t)seconds;
    if (localtime_r(&at, &tm) == NULL || strftime(text, 32, "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        return json_null();
    size_t len = strlen(text);
    if (tm.tm_gmtoff == 0)
        (void)snprintf(text + len, sizeof text - len, "Z");
    else if (strftime(zone, sizeof zone, "%z", &tm) == 5)
        (void)snprintf(text + len, sizeof text - len, "%.3s:%s", zone, zone + 3);
    return json_string(text);
}

static void end_agent(struct report *report)
{
    const struct agent *agent = &report->agent;
    if (agent->card == NULL)
        return;
    json_t *object = json_object();
    (void)json_object_set_new(object, "id", json_string(agent->card->subject));
    (void)json_object_set_new(object, "ready", json_boolean(agent->ready));
    (void)json_object_set_new(object, "active_requests", json_integer(agent->active));
    (void)json_object_set_new(object, "draining", json_boolean(agent->draining));
    (void)json_object_set_new(object, "connection_uptime_seconds", json_integer(agent->uptime_s));
    (void)json_object_set_new(object, "backend_failures", json_integer(agent->failures));
    (void)json_object_set_new(object, "token_expires_at", time_json(agent->expires_s));
    (void)json_array_append_new(report->agents, object);
    report->service_active += agent->active;
    report->agent = (struct agent){0};
}

static void end_service(struct report *report)
{
    end_agent(report);
    if (report->service == NULL)
        return;
    (void)json_object_set_new(report->service, "agent_count",
                              json_integer((json_int_t)json_array_size(report->agents)));
    (void)json_object_set_new(report->service, "active_requests",
                              json_integer(report->service_active));
    report->service = NULL;
}

static void begin_service(struct report *report, const struct gm_card *card)
{
    report->service = json_object();
    report->agents = json_array();
    report->service_name = card->service;
    report->service_active = 0;
    (void)json_object_set_new(report->service, "agents", report->agents);
    (void)json_object_set_new(report->services, card->service, report->service);
}

static void add_card(void *arg, const struct gm_card *card)
{
    struct report *report = arg;
    struct agent *agent = &report->agent;
    if (report->service == NULL || strcmp(report->service_name, card->service) != 0) {
        end_service(report);
        begin_service(report, card);
    }
    if (agent->card != NULL && agent->card->agent != card->agent)
        end_agent(report);
    uint32_t state = atomic_load_explicit(&card->state, memory_order_relaxed);
    int64_t expires_s = atomic_load_explicit(&card->expires_s, memory_order_relaxed),
            uptime_s = figure(card, GM_REPORT_UPTIME_S);
    if (agent->card == NULL || expires_s < agent->expires_s)
        agent->expires_s = expires_s;
    agent->card = card;
    agent->ready = agent->ready || state == GM_CARD_READY || state == GM_CARD_SILENT;
    agent->draining = agent->draining || figure(card, GM_REPORT_DRAINING) != 0;
    agent->active += (uint32_t)atomic_load_explicit(&card->holds, memory_order_relaxed);
    agent->failures += figure(card, GM_REPORT_BACKEND_FAILURES);
    if (uptime_s > agent->uptime_s)
        agent->uptime_s = uptime_s;
}

static json_t *make_report(struct gm_server_ring *ctx)
{
    struct report report = {.services = json_object()};
    char uptime[GM_OPS_UPTIME_MAX];
    gm_ops_uptime(ctx, uptime);
    gm_registry_each_card(ctx->registry, add_card, &report);
    end_service(&report);
    return json_pack(
        "{s:I,s:s,s:s,s:o}", "active_requests",
        (json_int_t)atomic_load_explicit(&ctx->shared->active_requests, memory_order_relaxed),
        "server_id", ctx->shared->config->server_id, "uptime", uptime, "services", report.services);
}

enum gm_admit_result gm_status_answer(struct gm_client *client, const struct gm_http_request *head)
{
    struct gm_admission admission;
    int rc = gm_admit_credential(client, head, GM_AUDIENCE_ANY, &admission);
    if (rc != GM_ADMIT_STARTED)
        return (enum gm_admit_result)rc;
    if (!gm_principal_has_scope(admission.principal, STATUS_SCOPE)) {
        struct gm_answer answer = gm_answer_for(GM_REASON_UNAUTHORIZED);
        answer.message = "Insufficient scope";
        gm_admit_answer(client, head, answer);
        return GM_ADMIT_ANSWERED;
    }
    json_t *report = make_report(client->ctx);
    char *text = report == NULL ? NULL : json_dumps(report, JSON_COMPACT | JSON_SORT_KEYS);
    size_t len = text == NULL ? 0 : strlen(text);
    json_decref(report);
    if (text != NULL)
        text[len] = '\n'; /* in the place of the NUL */
    return gm_document_answer(client, head, "application/json", text, len + 1);
}
