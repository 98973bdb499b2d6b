/* Places, and the requests that wait for one.
 *
 * A request takes a place under --max-concurrent-requests and one with an agent. With --queue-size
 * it waits when there is none, behind those of its service that came before, until --queue-timeout;
 * it holds no stream, and what its client sends stays unread. Each service has a home ring, by its
 * name, that keeps its line, so that the order is one order whichever ring a client is on: requests
 * join by mail, and by mail they are told. For the request whose turn it is the home takes both
 * places. Who gives a place back pokes the homes where somebody waits; places that nobody here
 * gives back (of agents that serve other servers, too) are looked for every GM_QUEUE_LOOK_NS.
 *
 * Owner: a ticket is its exchange's ring's, but for what says "home". */
#ifndef GM_SERVER_QUEUE_H
#define GM_SERVER_QUEUE_H

#include "server/exchange.h"

/* How often a home looks while somebody waits; deadlines are late by as much. */
#define GM_QUEUE_LOOK_NS 20000000ull
/* Services of one home ring that may have a line at once; a request of one more goes at once or is
 * refused. */
#define GM_QUEUE_LINES_MAX 256u

struct gm_queue;

/* One request that waits. */
struct gm_ticket {
    struct gm_mail mail;       /* to the home, which keeps it; back with the verdict */
    struct gm_mail leave_mail; /* to the home, when the client has left; and back */
    struct gm_list node;       /* home: in its line. Else on the free list */
    struct gm_server_ring *near, *home;
    struct gm_exchange *exchange; /* NULL: it has left */
    struct gm_card *card;         /* home's verdict: begun, with a place under the server's limit */
    struct gm_line_of *line;      /* home: while it waits */
    uint64_t arrived_ns, deadline_ns;
    uint32_t ahead;    /* home's verdict: how many waited before it when it was refused */
    uint16_t verdict;  /* enum gm_reason_code: NONE, go; else why not */
    bool upgrade;      /* it needs a link that carries one */
    uint8_t under_way; /* mails that have not come back */
    bool again; /* it had a place with an agent that refused it: the line's size is not asked */
    uint16_t service_len;
    char service[GM_REGISTRY_SERVICE_MAX];
};

/* A ring's part. Nothing without --queue-size. */
int gm_queue_init(struct gm_server_ring *ctx) GM_WARN_UNUSED;
/* No ring runs any more. */
void gm_queue_fini(struct gm_server_ring *ctx);
static inline bool gm_queue_is_on(const struct gm_server_ring *ctx)
{
    return ctx->queue != NULL;
}

/* A place under the server's limit; false: there is none. Any ring. */
bool gm_place_take(struct gm_server_shared *shared) GM_WARN_UNUSED;
/* Whether there was none a moment ago. */
bool gm_place_none(struct gm_server_shared *shared);
/* Gives it back, and lets those look who wait. The place with the agent must be given back before.
 */
void gm_place_give(struct gm_server_ring *ctx);

/* Whether others wait at the home of this service: a newcomer must not pass them. */
bool gm_queue_waits(const struct gm_server_ring *ctx, const char *service, size_t len);
/* The exchange waits from here on; later gm_exchange_go or gm_exchange_fail is called. `again`: it
 * was here before, and keeps its place by its age. False: no ticket is left. */
bool gm_queue_join(struct gm_exchange *exchange, bool again) GM_WARN_UNUSED;
/* It waits no more: it ends. */
void gm_queue_leave(struct gm_exchange *exchange);

#endif
