/* Deficit round robin (Shreedhar and Varghese, 1995). Owner: the link's ring. Invariants: a queued
 * node is on the ready list exactly once; a node off the list has no deficit; only the first node
 * can be in its turn (`served`). */
#include "stream/sched.h"

#include "base/assert.h"

void gm_sched_init(struct gm_sched *sched)
{
    gm_list_init(&sched->ready);
    sched->ready_count = 0;
    sched->sent = sched->saved = sched->contended = sched->overrun = 0;
}

void gm_sched_node_init(struct gm_sched_node *node)
{
    gm_list_init(&node->node);
    node->due = 0;
    node->deficit = 0;
    node->served = false;
}

/* The node begins to wait behind all that is queued, none of it its own: each of those may send
 * what it has saved and, unless it is in its turn, one quantum. */
static void sched_wait(struct gm_sched *sched, struct gm_sched_node *node)
{
    const struct gm_list *first = gm_list_first(&sched->ready);
    uint32_t fresh = sched->ready_count;
    if (first != NULL && GM_CONTAINER_OF(first, struct gm_sched_node, node)->served)
        fresh--;
    node->due = sched->sent + sched->saved + (uint64_t)fresh * GM_SCHED_QUANTUM;
    gm_list_push_back(&sched->ready, &node->node);
    sched->ready_count++;
    sched->saved += node->deficit;
}

static void sched_leave(struct gm_sched *sched, struct gm_sched_node *node)
{
    gm_list_remove(&node->node);
    sched->ready_count--;
    sched->saved -= node->deficit;
    node->served = false;
}

void gm_sched_add(struct gm_sched *sched, struct gm_sched_node *node)
{
    if (gm_sched_queued(node))
        return;
    node->deficit = 0;
    node->served = false;
    sched_wait(sched, node);
}

void gm_sched_remove(struct gm_sched *sched, struct gm_sched_node *node)
{
    if (!gm_sched_queued(node))
        return;
    sched_leave(sched, node);
    node->deficit = 0;
}

/* A quantum for the turn that begins. */
static void sched_serve(struct gm_sched *sched, struct gm_sched_node *node)
{
    node->served = true;
    node->deficit += GM_SCHED_QUANTUM;
    sched->saved += GM_SCHED_QUANTUM;
    sched->contended += sched->ready_count > 1;
    if (GM_UNLIKELY(sched->sent > node->due))
        sched->overrun += sched->sent - node->due;
}

struct gm_sched_node *gm_sched_current(struct gm_sched *sched)
{
    struct gm_list *first = gm_list_first(&sched->ready);
    if (first == NULL)
        return NULL;
    struct gm_sched_node *node = GM_CONTAINER_OF(first, struct gm_sched_node, node);
    if (!node->served)
        sched_serve(sched, node);
    return node;
}

void gm_sched_spend(struct gm_sched *sched, struct gm_sched_node *node, uint32_t bytes)
{
    GM_ASSERT(node->served && bytes <= node->deficit);
    node->deficit -= bytes;
    sched->saved -= bytes;
    sched->sent += bytes;
}

void gm_sched_rotate(struct gm_sched *sched)
{
    struct gm_list *first = gm_list_first(&sched->ready);
    GM_ASSERT(first != NULL);
    struct gm_sched_node *node = GM_CONTAINER_OF(first, struct gm_sched_node, node);
    sched_leave(sched, node);
    sched_wait(sched, node);
}
