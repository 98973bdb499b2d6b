/* Lines of waiting requests. Owner: tickets' rings and homes, by turns (queue.h).
 *
 * Invariants: a ticket in a line is its home's until its verdict is mailed; a ticket is free again
 * only when all of its mails have come back; a verdict of NONE brings a card that has been begun
 * and a place that has been taken, which whoever receives it uses or gives back. */
#include "server/queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/pages.h"

/* The requests of one service that wait at its home. */
struct gm_line_of {
    struct gm_list node;    /* in queue->lines, or on the free list */
    struct gm_list waiting; /* tickets, oldest first */
    uint32_t count;
    uint16_t service_len;
    char service[GM_REGISTRY_SERVICE_MAX];
};

/* From one ring to a home: somebody has given a place back. */
struct poke {
    struct gm_mail mail;
    struct gm_server_ring *home;
    /* On its way. Set by the sender (acq_rel exchange), cleared by the home (release) when the node
     * may be used again. */
    _Atomic bool posted;
};

struct gm_queue {
    /* Tickets of this ring's exchanges: a slab, its first `carved` used at least once. */
    struct gm_ticket *tickets;
    uint32_t carved;
    struct gm_list free_tickets;
    struct poke *pokes; /* one for each home */
    /* As a home. */
    struct gm_line_of *line_slab;
    struct gm_list lines, free_lines;
    struct gm_timer timer;
    struct gm_task task;
    struct gm_server_ring *ctx;
    /* Tickets in the lines. Writer: the home; readers: any; relaxed: who misses a change is found
     * by the next look. */
    _Atomic uint32_t waiting;
};

#define QUEUE_TICKETS_BYTES (sizeof(struct gm_ticket) * GM_SERVER_EXCHANGES_MAX)

/* ---- Places ---- */

bool gm_place_take(struct gm_server_shared *shared)
{
    const int64_t limit = shared->config->max_concurrent_requests;
    int64_t before = atomic_fetch_add_explicit(&shared->active_requests, 1, memory_order_relaxed);
    if (limit <= 0 || before < limit)
        return true;
    atomic_fetch_sub_explicit(&shared->active_requests, 1, memory_order_relaxed);
    return false;
}

bool gm_place_none(struct gm_server_shared *shared)
{
    const int64_t limit = shared->config->max_concurrent_requests;
    return limit > 0 &&
           atomic_load_explicit(&shared->active_requests, memory_order_relaxed) >= limit;
}

static uint32_t queue_waiting(const struct gm_queue *queue)
{
    return atomic_load_explicit(&queue->waiting, memory_order_relaxed);
}

static void poke_post(struct gm_server_ring *ctx, struct poke *poke, struct gm_server_ring *home)
{
    if (atomic_exchange_explicit(&poke->posted, true, memory_order_acq_rel))
        return;
    poke->home = home;
    gm_ring_mail(ctx->ring, gm_ring_index(home->ring), &poke->mail);
}

void gm_place_give(struct gm_server_ring *ctx)
{
    struct gm_server_shared *shared = ctx->shared;
    atomic_fetch_sub_explicit(&shared->active_requests, 1, memory_order_relaxed);
    if (ctx->queue == NULL)
        return;
    for (uint32_t i = 0; i < gm_rings_count(shared->rings); i++) {
        struct gm_server_ring *home = shared->ring_contexts[i];
        struct poke *poke = &ctx->queue->pokes[i];
        if (queue_waiting(home->queue) == 0)
            continue;
        if (home == ctx)
            gm_ring_soon(ctx->ring, &ctx->queue->task);
        else
            poke_post(ctx, poke, home);
    }
}

/* ---- Homes ---- */

static struct gm_server_ring *home_of(const struct gm_server_ring *ctx, const char *service,
                                      size_t len)
{
    uint32_t hash = gm_registry_name_hash(service, len);
    return ctx->shared->ring_contexts[hash % gm_rings_count(ctx->shared->rings)];
}

bool gm_queue_waits(const struct gm_server_ring *ctx, const char *service, size_t len)
{
    return ctx->queue != NULL && queue_waiting(home_of(ctx, service, len)->queue) > 0;
}

static struct gm_line_of *line_find(struct gm_queue *queue, const struct gm_ticket *ticket)
{
    for (struct gm_list *node = queue->lines.next; node != &queue->lines; node = node->next) {
        struct gm_line_of *line = GM_CONTAINER_OF(node, struct gm_line_of, node);
        if (line->service_len == ticket->service_len &&
            memcmp(line->service, ticket->service, line->service_len) == 0)
            return line;
    }
    struct gm_list *node = gm_list_pop_front(&queue->free_lines);
    if (node == NULL)
        return NULL;
    struct gm_line_of *line = GM_CONTAINER_OF(node, struct gm_line_of, node);
    memcpy(line->service, ticket->service, ticket->service_len);
    line->service_len = ticket->service_len;
    gm_list_push_back(&queue->lines, &line->node);
    return line;
}

static void verdict_arrive(struct gm_mail *mail);

static void tell(struct gm_ticket *ticket, enum gm_reason_code verdict)
{
    ticket->verdict = (uint16_t)verdict;
    ticket->mail.deliver = verdict_arrive;
    gm_ring_mail(ticket->home->ring, gm_ring_index(ticket->near->ring), &ticket->mail);
}

/* Takes the ticket out of its line, which goes when it was the last. */
static void line_remove(struct gm_ticket *ticket)
{
    struct gm_queue *queue = ticket->home->queue;
    struct gm_line_of *line = ticket->line;
    gm_list_remove(&ticket->node);
    ticket->line = NULL;
    ticket->ahead = --line->count;
    atomic_store_explicit(&queue->waiting, queue_waiting(queue) - 1, memory_order_relaxed);
    gm_counter_sub(GM_COUNTER_REQUESTS_WAITING, 1);
    if (line->count > 0)
        return;
    gm_list_remove(&line->node);
    gm_list_push_back(&queue->free_lines, &line->node);
}

/* By age, from the back: nearly always it is the youngest. */
static void line_insert(struct gm_line_of *line, struct gm_ticket *ticket)
{
    struct gm_queue *queue = ticket->home->queue;
    struct gm_list *at = line->waiting.prev;
    while (at != &line->waiting &&
           GM_CONTAINER_OF(at, struct gm_ticket, node)->arrived_ns > ticket->arrived_ns)
        at = at->prev;
    gm_list_insert_after(at, &ticket->node);
    ticket->line = line;
    line->count++;
    atomic_store_explicit(&queue->waiting, queue_waiting(queue) + 1, memory_order_relaxed);
    gm_counter_add(GM_COUNTER_REQUESTS_WAITING, 1);
}

/* Why this request has no place. */
static enum gm_reason_code missing(const struct gm_ticket *ticket)
{
    struct gm_server_ring *home = ticket->home;
    if (!gm_registry_serves(home->registry, ticket->service, ticket->service_len))
        return GM_REASON_AGENT_UNAVAILABLE;
    return gm_place_none(home->shared) ? GM_REASON_RATE_LIMIT : GM_REASON_AGENT_LIMIT;
}

/* Both places, for the oldest of a line. */
enum offer { OFFER_TAKEN, OFFER_NO_AGENT, OFFER_NO_PLACE };

static enum offer take_places(struct gm_ticket *ticket)
{
    struct gm_server_ring *home = ticket->home;
    if (gm_place_none(home->shared))
        return OFFER_NO_PLACE;
    struct gm_card *card = gm_registry_pick_free(home->registry, ticket->service,
                                                 ticket->service_len, NULL, ticket->upgrade);
    if (card == NULL)
        return OFFER_NO_AGENT;
    if (!gm_place_take(home->shared))
        return OFFER_NO_PLACE;
    gm_card_begin(card);
    ticket->card = card;
    return OFFER_TAKEN;
}

static enum offer offer(struct gm_ticket *ticket)
{
    enum offer result = take_places(ticket);
    if (result == OFFER_TAKEN) {
        line_remove(ticket);
        tell(ticket, GM_REASON_NONE);
    }
    return result;
}

static struct gm_ticket *line_first(const struct gm_line_of *line)
{
    return GM_CONTAINER_OF(line->waiting.next, struct gm_ticket, node);
}

static void expire(struct gm_server_ring *ctx)
{
    uint64_t now_ns = gm_ring_now_ns(ctx->ring);
    struct gm_list *next;
    for (struct gm_list *node = ctx->queue->lines.next; node != &ctx->queue->lines; node = next) {
        struct gm_line_of *line = GM_CONTAINER_OF(node, struct gm_line_of, node);
        next = node->next;
        while (line->count > 0 && line_first(line)->deadline_ns <= now_ns) {
            struct gm_ticket *ticket = line_first(line);
            gm_counter_add(GM_COUNTER_QUEUE_TIMEOUTS, 1);
            enum gm_reason_code reason = missing(ticket);
            line_remove(ticket);
            tell(ticket, reason);
        }
    }
}

/* Lets go whoever may. Services take turns: each line that got a place goes to the back. */
static void look(struct gm_server_ring *ctx)
{
    struct gm_queue *queue = ctx->queue;
    expire(ctx);
    struct gm_list stuck;
    gm_list_init(&stuck);
    while (!gm_list_empty(&queue->lines)) {
        struct gm_line_of *line =
            GM_CONTAINER_OF(gm_list_first(&queue->lines), struct gm_line_of, node);
        enum offer result = offer(line_first(line));
        if (result == OFFER_NO_PLACE)
            break;
        if (result == OFFER_TAKEN && line->count == 0)
            continue; /* the line is gone */
        gm_list_remove(&line->node);
        gm_list_push_back(result == OFFER_TAKEN ? &queue->lines : &stuck, &line->node);
    }
    gm_list_splice_back(&queue->lines, &stuck);
    if (queue_waiting(queue) > 0)
        gm_timer_set(ctx->ring, &queue->timer, gm_ring_now_ns(ctx->ring) + GM_QUEUE_LOOK_NS);
    else
        gm_timer_cancel(&queue->timer);
}

static void look_timer(struct gm_timer *timer)
{
    look(GM_CONTAINER_OF(timer, struct gm_queue, timer)->ctx);
}

static void look_task(struct gm_task *task)
{
    look(GM_CONTAINER_OF(task, struct gm_queue, task)->ctx);
}

static void poke_arrive(struct gm_mail *mail)
{
    struct poke *poke = GM_CONTAINER_OF(mail, struct poke, mail);
    struct gm_server_ring *home = poke->home;
    atomic_store_explicit(&poke->posted, false, memory_order_release);
    gm_ring_soon(home->ring, &home->queue->task);
}

static void turn_away(struct gm_ticket *ticket, uint32_t ahead)
{
    gm_counter_add(GM_COUNTER_QUEUE_REFUSED, 1);
    ticket->ahead = ahead;
    tell(ticket, missing(ticket));
}

static void join_arrive(struct gm_mail *mail)
{
    struct gm_ticket *ticket = GM_CONTAINER_OF(mail, struct gm_ticket, mail);
    struct gm_server_ring *home = ticket->home;
    struct gm_line_of *line = line_find(home->queue, ticket);
    const int64_t size = home->shared->config->queue_size;
    if (line == NULL && take_places(ticket) == OFFER_TAKEN) {
        tell(ticket, GM_REASON_NONE); /* nobody of its service waits, so it passes nobody */
    } else if (line == NULL) {
        turn_away(ticket, 0);
    } else if (line->count >= size && !ticket->again) {
        turn_away(ticket, line->count);
    } else {
        line_insert(line, ticket);
        gm_ring_soon(home->ring, &home->queue->task);
    }
}

/* ---- The exchange's ring ---- */

static void ticket_back(struct gm_ticket *ticket)
{
    if (--ticket->under_way == 0)
        gm_list_push_front(&ticket->near->queue->free_tickets, &ticket->node);
}

static void verdict_arrive(struct gm_mail *mail)
{
    struct gm_ticket *ticket = GM_CONTAINER_OF(mail, struct gm_ticket, mail);
    struct gm_server_ring *ctx = ticket->near;
    struct gm_exchange *exchange = ticket->exchange;
    struct gm_card *card = ticket->card;
    enum gm_reason_code verdict = (enum gm_reason_code)ticket->verdict;
    uint32_t ahead = ticket->ahead;
    ticket_back(ticket);
    if (exchange == NULL) {
        if (card != NULL) {
            gm_card_end(card);
            gm_place_give(ctx);
        }
        return;
    }
    exchange->ticket = NULL;
    if (verdict == GM_REASON_NONE) {
        gm_exchange_go(exchange, card);
        return;
    }
    exchange->ahead = ahead;
    gm_exchange_fail(exchange, verdict);
}

static struct gm_ticket *ticket_take(struct gm_queue *queue)
{
    struct gm_list *node = gm_list_pop_front(&queue->free_tickets);
    if (node != NULL)
        return GM_CONTAINER_OF(node, struct gm_ticket, node);
    return queue->carved < GM_SERVER_EXCHANGES_MAX ? &queue->tickets[queue->carved++] : NULL;
}

bool gm_queue_join(struct gm_exchange *exchange, bool again)
{
    struct gm_server_ring *ctx = exchange->ctx;
    struct gm_ticket *ticket = ticket_take(ctx->queue);
    if (ticket == NULL)
        return false;
    if (!again)
        gm_counter_add(GM_COUNTER_REQUESTS_QUEUED, 1);
    memset(ticket, 0, offsetof(struct gm_ticket, service));
    gm_list_init(&ticket->node);
    ticket->near = ctx;
    ticket->home = home_of(ctx, exchange->service, exchange->service_len);
    ticket->exchange = exchange;
    ticket->arrived_ns = exchange->started_ns;
    ticket->deadline_ns = exchange->started_ns + ctx->shared->config->queue_timeout_ns;
    ticket->again = again;
    ticket->upgrade = exchange->upgrade;
    ticket->service_len = exchange->service_len;
    memcpy(ticket->service, exchange->service, exchange->service_len);
    ticket->under_way = 1;
    ticket->mail.deliver = join_arrive;
    exchange->ticket = ticket;
    gm_ring_mail(ctx->ring, gm_ring_index(ticket->home->ring), &ticket->mail);
    return true;
}

static void leave_back(struct gm_mail *mail)
{
    ticket_back(GM_CONTAINER_OF(mail, struct gm_ticket, leave_mail));
}

/* At the home. The verdict may have crossed this. */
static void leave_arrive(struct gm_mail *mail)
{
    struct gm_ticket *ticket = GM_CONTAINER_OF(mail, struct gm_ticket, leave_mail);
    if (ticket->line != NULL) {
        line_remove(ticket);
        tell(ticket, GM_REASON_CANCELLED);
    }
    mail->deliver = leave_back;
    gm_ring_mail(ticket->home->ring, gm_ring_index(ticket->near->ring), mail);
}

void gm_queue_leave(struct gm_exchange *exchange)
{
    struct gm_ticket *ticket = exchange->ticket;
    exchange->ticket = NULL;
    ticket->exchange = NULL;
    ticket->under_way++;
    ticket->leave_mail.deliver = leave_arrive;
    gm_ring_mail(ticket->near->ring, gm_ring_index(ticket->home->ring), &ticket->leave_mail);
}

/* ---- Life ---- */

int gm_queue_init(struct gm_server_ring *ctx)
{
    if (ctx->shared->config->queue_size <= 0)
        return 0;
    uint32_t rings = gm_rings_count(gm_ring_rings(ctx->ring));
    struct gm_queue *queue = calloc(1, sizeof *queue);
    if (queue == NULL)
        return -GM_E_NOMEM;
    ctx->queue = queue; /* gm_queue_fini sees to what is there */
    queue->ctx = ctx;
    queue->pokes = calloc(rings, sizeof *queue->pokes);
    queue->line_slab = calloc(GM_QUEUE_LINES_MAX, sizeof *queue->line_slab);
    queue->tickets = gm_pages_map(QUEUE_TICKETS_BYTES);
    gm_list_init(&queue->free_tickets);
    gm_list_init(&queue->lines);
    gm_list_init(&queue->free_lines);
    gm_timer_init(&queue->timer, look_timer);
    gm_task_init(&queue->task, look_task);
    if (queue->pokes == NULL || queue->line_slab == NULL || queue->tickets == NULL)
        return -GM_E_NOMEM;
    for (uint32_t i = 0; i < rings; i++)
        queue->pokes[i].mail.deliver = poke_arrive;
    for (uint32_t i = 0; i < GM_QUEUE_LINES_MAX; i++) {
        gm_list_init(&queue->line_slab[i].waiting);
        gm_list_push_back(&queue->free_lines, &queue->line_slab[i].node);
    }
    return 0;
}

void gm_queue_fini(struct gm_server_ring *ctx)
{
    struct gm_queue *queue = ctx->queue;
    if (queue == NULL)
        return;
    free(queue->pokes);
    free(queue->line_slab);
    gm_pages_unmap(queue->tickets, QUEUE_TICKETS_BYTES);
    free(queue);
    ctx->queue = NULL;
}
