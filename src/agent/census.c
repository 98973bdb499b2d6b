/* Counting links. Owner: the ring that the mail is on. */
#include "agent/census.h"

#include <string.h>

#include "agent/dialler.h"

static struct gm_agent_census_row *row_of(struct gm_agent_census *census, uint32_t service,
                                          const char *server_id)
{
    for (uint32_t i = 0; i < census->row_count; i++) {
        struct gm_agent_census_row *row = &census->rows[i];
        if (row->service == service && strcmp(row->server_id, server_id) == 0)
            return row;
    }
    if (census->row_count == GM_AGENT_CENSUS_ROWS)
        return NULL;
    struct gm_agent_census_row *row = &census->rows[census->row_count++];
    *row = (struct gm_agent_census_row){.service = service};
    memcpy(row->server_id, server_id, strlen(server_id) + 1);
    return row;
}

static void count(struct gm_agent_census *census, const struct gm_agent_link *link)
{
    if (!gm_link_is_up(&link->link) || link->surplus || link->up_ns == 0)
        return;
    uint32_t service = (uint32_t)(link->service - census->shared->services);
    struct gm_agent_census_row *row = row_of(census, service, link->link.hello.server_id);
    if (row == NULL) {
        census->left_out++;
        return;
    }
    bool draining = link->leaving || link->link.draining;
    row->links += !draining;
    row->draining += draining;
    if (link->link.mux.rtt_ns > row->rtt_ns)
        row->rtt_ns = link->link.mux.rtt_ns;
}

static void visit(struct gm_mail *mail)
{
    struct gm_agent_census *census = GM_CONTAINER_OF(mail, struct gm_agent_census, mail);
    uint32_t rings = gm_rings_count(census->shared->rings);
    struct gm_agent_ring *ctx = census->shared->ring_contexts[gm_ring_self];
    if (census->at == rings) {
        census->on_done(census);
        return;
    }
    for (struct gm_list *node = ctx->links.next; node != &ctx->links; node = node->next)
        count(census, GM_CONTAINER_OF(node, struct gm_agent_link, node));
    census->at++;
    gm_ring_mail(ctx->ring, census->at == rings ? census->home : census->at, mail);
}

void gm_agent_census_take(struct gm_agent_ring *ctx, struct gm_agent_census *census)
{
    census->home = gm_ring_index(ctx->ring);
    census->at = 0;
    census->row_count = census->left_out = 0;
    census->mail.deliver = visit;
    gm_ring_mail(ctx->ring, 0, &census->mail);
}
