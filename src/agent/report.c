/* Reports on links. Owner: the link's ring. */
#include "agent/report.h"

#include "agent/dialler.h"
#include "agent/serve.h"

#define FIRST_NS  2000000000ull
#define JITTER_NS (GM_REPORT_EVERY / 5)

/* Frames of request bodies that have come over the link and wait for the backend. */
static uint64_t waiting_frames(const struct gm_agent_link *link)
{
    const struct gm_list *running = &link->ctx->running;
    uint64_t frames = 0;
    for (const struct gm_list *node = running->next; node != running; node = node->next) {
        const struct gm_stream *stream = GM_CONTAINER_OF(node, const struct gm_serve, node)->stream;
        if (stream->mux == &link->link.mux)
            frames += (stream->window.held + GM_FRAME_PAYLOAD_MAX - 1) / GM_FRAME_PAYLOAD_MAX;
    }
    return frames;
}

static void fill(const struct gm_agent_link *link, struct gm_report *report)
{
    const struct gm_agent_figures *figures = &link->figures;
    uint64_t age_ns = gm_ring_now_ns(link->ctx->ring) - link->up_ns;
    *report = (struct gm_report){
        .figure = {[GM_REPORT_REJECTIONS] = (int64_t)figures->rejections,
                   [GM_REPORT_CONCURRENT] = (int64_t)figures->active,
                   [GM_REPORT_REQUEST_BUFFER] = (int64_t)waiting_frames(link),
                   [GM_REPORT_BACKEND_FAILURES] = (int64_t)figures->backend_failures,
                   [GM_REPORT_WRITE_ERRORS] = (int64_t)figures->write_errors,
                   [GM_REPORT_UPTIME_S] = (int64_t)(age_ns / 1000000000u),
                   [GM_REPORT_DRAINING] = link->ctx->draining,
                   [GM_REPORT_SERVERS] = (int64_t)atomic_load_explicit(&link->service->servers,
                                                                       memory_order_relaxed)}};
    for (unsigned i = 0; i < GM_REPORT_KIND_COUNT; i++) {
        report->figure[GM_REPORT_SENT + i] = (int64_t)figures->sent[i];
        report->figure[GM_REPORT_RECEIVED + i] = (int64_t)figures->received[i];
    }
}

void gm_agent_report_now(struct gm_agent_link *link)
{
    struct gm_report report;
    char text[1024];
    if (link->up_ns == 0)
        return;
    fill(link, &report);
    int len = gm_report_encode(&report, text, sizeof text);
    GM_ASSERT(len > 0); /* eighteen numbers and their names */
    if (gm_link_note(&link->link, text, (size_t)len) < 0)
        link->figures.write_errors++;
}

static void arm(struct gm_agent_link *link, uint64_t least_ns, uint64_t jitter_ns)
{
    struct gm_ring *ring = link->ctx->ring;
    uint64_t chance;
    gm_ring_random(ring, &chance, sizeof chance);
    gm_timer_set(ring, &link->figures.timer, gm_ring_now_ns(ring) + least_ns + chance % jitter_ns);
}

static void due(struct gm_timer *timer)
{
    struct gm_agent_link *link = GM_CONTAINER_OF(timer, struct gm_agent_link, figures.timer);
    gm_agent_report_now(link);
    arm(link, GM_REPORT_EVERY - JITTER_NS / 2, JITTER_NS);
}

void gm_agent_report_begin(struct gm_agent_link *link)
{
    gm_timer_init(&link->figures.timer, due);
    arm(link, 0, FIRST_NS);
}

void gm_agent_report_end(struct gm_agent_link *link)
{
    if (link->up_ns != 0)
        gm_timer_cancel(&link->figures.timer);
}
