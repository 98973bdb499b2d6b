/* Checks and their news. Owner: the ring of the service's dialler, but for the news, which are the
 * receiving ring's while they are busy. */
#include "agent/health.h"

#include <stdlib.h>

#include "agent/dialler.h"
#include "base/log.h"

static const char *name_of(const struct gm_agent_service_info *service)
{
    return service->config->name != NULL ? service->config->name : "";
}

/* On each ring. Exchanged, and not stored: whoever finds it busy still, and mails nothing for that,
 * has stored its verdict before, and here that is read after. */
static void news_arrive(struct gm_mail *mail)
{
    struct gm_agent_health_news *news = GM_CONTAINER_OF(mail, struct gm_agent_health_news, mail);
    (void)atomic_exchange_explicit(&news->busy, 0, memory_order_acq_rel);
    gm_agent_links_tell(news->to);
}

static void spread(struct gm_agent_health_state *state)
{
    struct gm_ring *ring = state->health.config.backend.store->ring;
    for (uint32_t i = 0; i < gm_rings_count(state->shared->rings); i++) {
        struct gm_agent_health_news *news = &state->news[i];
        if (atomic_exchange_explicit(&news->busy, 1, memory_order_acq_rel) != 0)
            continue; /* what is on its way will find the new verdict */
        news->mail.deliver = news_arrive;
        gm_ring_mail(ring, i, &news->mail);
    }
}

static void checked(struct gm_health *health, const char *why, bool changed)
{
    struct gm_agent_health_state *state =
        GM_CONTAINER_OF(health, struct gm_agent_health_state, health);
    struct gm_agent_service_info *service = state->service;
    gm_agent_tally_check(state->tally, why == NULL);
    if (why != NULL)
        gm_log_debug("a health check has failed", GM_STR("service", name_of(service)),
                     GM_ERRTEXT(why));
    atomic_store_explicit(&service->ready, health->healthy, memory_order_release);
    spread(state); /* also without a change: links repeat what they have said long ago */
    if (changed && health->healthy)
        gm_log_info("the backend is healthy", GM_STR("service", name_of(service)),
                    GM_STR("target", service->config->target));
    else if (changed)
        gm_log_warn("the backend is not healthy", GM_STR("service", name_of(service)),
                    GM_STR("target", service->config->target), GM_ERRTEXT(why));
}

static struct gm_health_config config_of(struct gm_agent_ring *ctx,
                                         const struct gm_agent_service_info *service)
{
    const struct gm_agent_health *config = &service->config->health;
    uint32_t index = (uint32_t)(service - ctx->shared->services);
    return (struct gm_health_config){
        .backend = ctx->pools[index].config,
        .path = config->path,
        .codes = &config->codes,
        .interval_ns = config->interval_ns,
        .timeout_ns = config->timeout_ns,
        .failure_threshold = (uint32_t)config->failure_threshold,
        .success_threshold = (uint32_t)config->success_threshold,
        .on_checked = checked,
    };
}

bool gm_agent_health_start(struct gm_agent_ring *ctx, struct gm_agent_service_info *service)
{
    struct gm_agent_shared *shared = ctx->shared;
    if (service->config->health.path == NULL)
        return true;
    uint32_t rings = gm_rings_count(shared->rings);
    struct gm_agent_health_state *state = calloc(1, sizeof *state);
    struct gm_agent_health_news *news = calloc(rings, sizeof *news);
    if (state == NULL || news == NULL) {
        free(state);
        free(news);
        return false;
    }
    state->shared = shared;
    state->service = service;
    state->tally = &ctx->tallies[service - shared->services];
    state->news = news;
    service->health = state;
    for (uint32_t i = 0; i < rings; i++)
        news[i].to = shared->ring_contexts[i];
    struct gm_health_config config = config_of(ctx, service);
    gm_health_init(&state->health, &config);
    gm_health_start(&state->health);
    return true;
}

void gm_agent_health_stop(struct gm_agent_service_info *service)
{
    if (service->health != NULL)
        gm_health_stop(&service->health->health);
}

void gm_agent_health_fields(struct gm_agent_ring *ctx, struct gm_agent_service_info *service,
                            const struct gm_client_fields *fields)
{
    if (gm_dialler_ring(service->dialler) != gm_ring_index(ctx->ring) || service->health == NULL)
        return;
    service->health->health.config.backend.fields = fields;
    service->health->health.pool.config.fields = fields;
}

void gm_agent_health_free(struct gm_agent_service_info *service)
{
    if (service->health == NULL)
        return;
    free(service->health->news);
    free(service->health);
    service->health = NULL;
}
