/* One link for each subject of a 0.0.x agent. Owner: the links' ring. Invariant: of the links that
 * bear a subject at most one does not wait. Comes into play when links come and go, never for a
 * request: the table of links is walked. */
#include "server/rivals.h"

#include <string.h>

#include "base/log.h"

/* The first link after `from` that has the subject and waits, or does not; NULL: none. */
static struct gm_server_link *find(const struct gm_server_link *self, uint32_t *from, bool waiting)
{
    const struct gm_server_ring *ctx = self->ctx;
    while (*from < ctx->link_capacity) {
        struct gm_server_link *other = ctx->links[(*from)++];
        if (other != NULL && other != self && gm_link_is_old(&other->link) &&
            other->waiting == waiting && strcmp(other->subject, self->subject) == 0)
            return other;
    }
    return NULL;
}

void gm_rivals_enter(struct gm_server_link *self)
{
    uint32_t from = 0;
    struct gm_server_link *holder = find(self, &from, false);
    if (holder == NULL) {
        gm_link_old_greet(&self->link);
        return;
    }
    self->waiting = true;
    gm_link_old_prove(&holder->link);
}

void gm_rivals_refuse(struct gm_server_link *self)
{
    uint32_t from = 0;
    struct gm_server_link *other;
    while ((other = find(self, &from, true)) != NULL) {
        gm_log_debug("agent refused: its subject has a link", GM_STR("agentID", self->subject),
                     GM_STR("service", other->service));
        gm_link_old_refuse(&other->link);
    }
}

void gm_rivals_left(struct gm_server_link *self)
{
    uint32_t from = 0;
    struct gm_server_link *next = self->waiting ? NULL : find(self, &from, true);
    if (next == NULL || self->ctx->phase == GM_SERVER_DRAINING)
        return;
    next->waiting = false;
    gm_link_old_greet(&next->link);
    if (find(next, &from, true) != NULL)
        gm_link_old_prove(&next->link); /* for the others that wait */
}
