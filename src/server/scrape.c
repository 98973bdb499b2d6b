/* Gathering for /metrics. Owner: ring 0; the parts run on their rings.
 *
 * Invariants: `pending` mails are out; clients wait only while some are; `fresh` is true only while
 * those that have waited are answered. */
#include "server/scrape.h"

#include <stdlib.h>

#include "base/exposition.h"
#include "server/document.h"
#include "server/figures.h"

static void scrape_gathered(struct gm_mail *mail);

static struct gm_server_ring *context_of(struct gm_mail *mail)
{
    return GM_CONTAINER_OF(mail, struct gm_server_ring, scrape_mail);
}

/* On every ring. */
static void scrape_gather(struct gm_mail *mail)
{
    struct gm_server_ring *ctx = context_of(mail);
    gm_metrics_clean(&ctx->metrics, gm_ring_now_ns(ctx->ring), gm_scrape_free_after_ns(ctx));
    gm_figures_sample(ctx);
    mail->deliver = scrape_gathered;
    gm_ring_mail(ctx->ring, 0, mail);
}

/* On ring 0, for each of them. */
static void scrape_gathered(struct gm_mail *mail)
{
    struct gm_scrape *scrape = &context_of(mail)->shared->ring_contexts[0]->scrape;
    if (--scrape->pending > 0)
        return;
    scrape->fresh = true;
    gm_client_resume(&scrape->waiting);
    scrape->fresh = false;
}

static enum gm_admit_result scrape_wait(struct gm_client *client)
{
    struct gm_server_ring *ctx = client->ctx;
    struct gm_scrape *scrape = &ctx->scrape;
    gm_client_wait(client, &scrape->waiting);
    if (scrape->pending > 0)
        return GM_ADMIT_HELD;
    scrape->pending = gm_rings_count(ctx->shared->rings);
    for (uint32_t i = 0; i < gm_rings_count(ctx->shared->rings); i++) {
        struct gm_mail *mail = &ctx->shared->ring_contexts[i]->scrape_mail;
        mail->deliver = scrape_gather;
        gm_ring_mail(ctx->ring, i, mail);
    }
    return GM_ADMIT_HELD;
}

enum gm_admit_result gm_scrape_answer(struct gm_client *client, const struct gm_http_request *head)
{
    struct gm_server_ring *ctx = client->ctx;
    if (!ctx->scrape.fresh)
        return scrape_wait(client);
    struct gm_exposition page = {.constant = "server_id",
                                 .constant_value = ctx->shared->config->server_id};
    gm_scrape_page(ctx, &page);
    if (page.failed) {
        free(page.text);
        page.text = NULL;
    }
    return gm_document_answer(client, head, GM_EXPOSITION_TYPE, page.text, page.len);
}
