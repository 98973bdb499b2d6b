/* /health and /debug/counters. Owner: the client's ring. These allocate: they are asked for once a
 * second, not ten thousand times. */
#include "server/ops.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

static void add_service(void *arg, const char *service, unsigned agents)
{
    (void)json_object_set_new(arg, service, json_integer((json_int_t)agents));
}

/* "1h2m3.4s", as Go prints durations. */
static void uptime_text(int64_t seconds, char *out, size_t cap)
{
    int64_t hours = seconds / 3600, minutes = seconds / 60 % 60, rest = seconds % 60;
    if (hours > 0)
        (void)snprintf(out, cap, "%" PRId64 "h%" PRId64 "m%" PRId64 "s", hours, minutes, rest);
    else if (minutes > 0)
        (void)snprintf(out, cap, "%" PRId64 "m%" PRId64 "s", minutes, rest);
    else
        (void)snprintf(out, cap, "%" PRId64 "s", rest);
}

enum gm_admit_result gm_ops_health(struct gm_client *client, const struct gm_http_request *head)
{
    struct gm_server_ring *ctx = client->ctx;
    if (!gm_http_span_equal(head->path, GM_HTTP_LIT("/health"))) {
        struct gm_answer missing = gm_answer_for(GM_REASON_NOT_FOUND);
        missing.message = "404 page not found";
        gm_admit_answer(client, head, missing);
        return GM_ADMIT_ANSWERED;
    }
    char uptime[48];
    uptime_text(gm_ring_wall_s(ctx->ring) - ctx->shared->started_wall_s, uptime, sizeof uptime);
    json_t *agents = json_object();
    gm_registry_each(ctx->registry, add_service, agents);
    json_t *document = json_pack(
        "{s:I,s:o,s:s,s:s,s:s}", "active_requests",
        (json_int_t)atomic_load_explicit(&ctx->shared->active_requests, memory_order_relaxed),
        "agents", agents, "server_id", ctx->shared->config->server_id, "status", "healthy",
        "uptime", uptime);
    char *text = document == NULL ? NULL : json_dumps(document, JSON_COMPACT | JSON_SORT_KEYS);
    char *line = NULL;
    int len = text == NULL ? -1 : asprintf(&line, "%s\n", text);
    free(text);
    json_decref(document);
    if (len < 0)
        gm_admit_answer(client, head, gm_answer_for(GM_REASON_INTERNAL));
    else
        gm_admit_answer(client, head,
                        (struct gm_answer){.status = 200,
                                           .content_type = "application/json",
                                           .body = line,
                                           .body_len = (size_t)len});
    free(len < 0 ? NULL : line);
    return GM_ADMIT_ANSWERED;
}

enum gm_admit_result gm_ops_metrics(struct gm_client *client, const struct gm_http_request *head)
{
    struct gm_server_shared *shared = client->ctx->shared;
    if (!gm_http_span_equal(head->path, GM_HTTP_LIT("/debug/counters"))) {
        struct gm_answer missing = gm_answer_for(GM_REASON_NOT_FOUND);
        missing.message = "404 page not found";
        gm_admit_answer(client, head, missing);
        return GM_ADMIT_ANSWERED;
    }
    size_t cap = GM_COUNTER_RENDER_MAX(gm_rings_count(shared->rings)) + 128;
    char *text = malloc(cap);
    int prefix = text == NULL ? -1
                              : snprintf(text, cap, "io_backend{name=\"%s\"} 1\n",
                                         gm_rings_backend(shared->rings));
    ptrdiff_t len = prefix < 0 ? -1
                               : gm_counter_render(gm_rings_counters(shared->rings), text + prefix,
                                                   cap - (size_t)prefix);
    if (len < 0)
        gm_admit_answer(client, head, gm_answer_for(GM_REASON_INTERNAL));
    else
        gm_admit_answer(client, head,
                        (struct gm_answer){.status = 200,
                                           .content_type = "text/plain; charset=utf-8",
                                           .body = text,
                                           .body_len = (size_t)prefix + (size_t)len});
    free(text);
    return GM_ADMIT_ANSWERED;
}
