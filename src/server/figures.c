/* Requests and the ring's table of metrics. Owner: the client's ring. */
#include "server/figures.h"

#include <string.h>

#include "auth/principal.h"
#include "frame/frame.h"

/* The subject of a credential; "" without one. */
static const char *subject_of(const struct gm_principal *who, size_t *len)
{
    *len = 0;
    return who == NULL ? "" : gm_principal_subject(who, len);
}

void gm_figures_refused(struct gm_server_ring *ctx, struct gm_http_span service,
                        const struct gm_principal *who, enum gm_reason_code reason)
{
    uint64_t now_ns = gm_ring_now_ns(ctx->ring);
    if (who == NULL || service.len >= GM_REGISTRY_SERVICE_MAX)
        service = GM_HTTP_LIT("");
    if (reason == GM_REASON_RATE_LIMIT) {
        gm_metrics_reject(&ctx->metrics, service.p, service.len, now_ns);
        return;
    }
    size_t client_len;
    const char *client = subject_of(who, &client_len);
    gm_metrics_answered(
        &ctx->metrics,
        &(struct gm_metrics_request){.service = service.p,
                                     .service_len = (uint16_t)service.len,
                                     .agent = "",
                                     .client = client,
                                     .client_len = (uint16_t)client_len,
                                     .status = gm_reason_get((uint16_t)reason)->status},
        now_ns);
}

void gm_figures_began(struct gm_exchange *exchange, const struct gm_principal *who)
{
    size_t len;
    const char *subject = subject_of(who, &len);
    GM_ASSERT(len <= sizeof exchange->subject);
    memcpy(exchange->subject, subject, len);
    exchange->subject_len = (uint8_t)len;
    exchange->started_ns = gm_ring_now_ns(exchange->ctx->ring);
}

void gm_figures_ended(struct gm_exchange *exchange)
{
    struct gm_server_ring *ctx = exchange->ctx;
    if (exchange->status == 0)
        return;
    if (exchange->reason == GM_REASON_RATE_LIMIT) {
        gm_metrics_reject(&ctx->metrics, exchange->service, exchange->service_len,
                          gm_ring_now_ns(ctx->ring));
        return;
    }
    const char *agent = exchange->card == NULL ? "" : exchange->card->subject;
    uint64_t now_ns = gm_ring_now_ns(ctx->ring);
    gm_metrics_answered(&ctx->metrics,
                        &(struct gm_metrics_request){.service = exchange->service,
                                                     .service_len = exchange->service_len,
                                                     .agent = agent,
                                                     .agent_len = (uint16_t)strlen(agent),
                                                     .client = exchange->subject,
                                                     .client_len = exchange->subject_len,
                                                     .status = exchange->status,
                                                     .took_ns = now_ns - exchange->started_ns},
                        now_ns);
}

void gm_figures_joined(void *context, const struct gm_card *card)
{
    struct gm_server_ring *ctx = context;
    gm_metrics_know(&ctx->metrics, card->service, strlen(card->service), gm_ring_now_ns(ctx->ring));
}

/* ---- What is held ---- */

static void held_forget(void *arg, const struct gm_card *card)
{
    const uint32_t *ring = arg;
    atomic_store_explicit(&card->joined[*ring].held_frames, 0, memory_order_relaxed);
}

void gm_figures_sample(struct gm_server_ring *ctx)
{
    uint32_t ring = gm_ring_index(ctx->ring), left = ctx->exchange_used_count;
    gm_registry_each_card(ctx->registry, held_forget, &ring);
    for (uint32_t i = 0; left > 0 && i < GM_SERVER_EXCHANGES_MAX; i++) {
        const struct gm_exchange *exchange = &ctx->exchanges[i];
        if (!exchange->in_use)
            continue;
        left--;
        uint32_t frames = (exchange->window.held + GM_FRAME_PAYLOAD_MAX - 1) / GM_FRAME_PAYLOAD_MAX;
        if (exchange->card == NULL || frames == 0)
            continue;
        _Atomic uint32_t *held = &exchange->card->joined[ring].held_frames;
        atomic_store_explicit(held, atomic_load_explicit(held, memory_order_relaxed) + frames,
                              memory_order_relaxed);
    }
}
