/* /health and /debug/counters. Owner: the client's ring. These allocate: they are asked for once a
 * second, not ten thousand times. */
#include "server/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/text.h"
#include "server/scrape.h"

static void add_service(void *arg, const char *service, unsigned agents)
{
    (void)json_object_set_new(arg, service, json_integer((json_int_t)agents));
}

/* Whole units, then the fraction without trailing zeros. `unit_ns` is a power of ten. */
static void put_fraction(struct gm_text *out, uint64_t ns, uint64_t unit_ns)
{
    uint64_t rest = ns % unit_ns;
    gm_text_unsigned(out, ns / unit_ns);
    if (rest > 0)
        gm_text_put(out, ".", 1);
    while (rest > 0) {
        unit_ns /= 10;
        char digit = (char)('0' + rest / unit_ns);
        gm_text_put(out, &digit, 1);
        rest %= unit_ns;
    }
}

void gm_ops_uptime(const struct gm_server_ring *ctx, char out[GM_OPS_UPTIME_MAX])
{
    const uint64_t second = 1000000000u;
    uint64_t ns = gm_ring_now_ns(ctx->ring) - ctx->shared->started_ns, minutes = ns / second / 60;
    struct gm_text text = {.at = out, .cap = GM_OPS_UPTIME_MAX - 1};
    if (ns < second) {
        put_fraction(&text, ns, second / 1000);
        gm_text_str(&text, "ms");
    } else {
        if (minutes >= 60) {
            gm_text_unsigned(&text, minutes / 60);
            gm_text_str(&text, "h");
        }
        if (minutes > 0) {
            gm_text_unsigned(&text, minutes % 60);
            gm_text_str(&text, "m");
        }
        put_fraction(&text, ns % (60 * second), second);
        gm_text_str(&text, "s");
    }
    out[text.len] = '\0';
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
    char uptime[GM_OPS_UPTIME_MAX];
    gm_ops_uptime(ctx, uptime);
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
    if (gm_http_span_equal(head->path, GM_HTTP_LIT("/metrics")))
        return gm_scrape_answer(client, head);
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
