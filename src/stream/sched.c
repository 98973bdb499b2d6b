/* Deficit round robin (Shreedhar and Varghese, 1995). Owner: the link's ring. Invariants: a queued
 * node is on the ready list exactly once; a node off the list has no deficit; only the first node
 * can be in its turn (`served`). */
#include "stream/sched.h"

#include "base/assert.h"

void gm_sched_init(struct gm_sched *sched)
{
    gm_list_init(&sched->ready);
    sched->ready_count = 0;
}

void gm_sched_node_init(struct gm_sched_node *node)
{
    gm_list_init(&node->node);
    node->deficit = 0;
    node->served = false;
}

void gm_sched_add(struct gm_sched *sched, struct gm_sched_node *node)
{
    if (gm_sched_queued(node))
        return;
    node->deficit = 0;
    node->served = false;
    gm_list_push_back(&sched->ready, &node->node);
    sched->ready_count++;
}

void gm_sched_remove(struct gm_sched *sched, struct gm_sched_node *node)
{
    if (!gm_sched_queued(node))
        return;
    gm_list_remove(&node->node);
    node->deficit = 0;
    node->served = false;
    sched->ready_count--;
}

struct gm_sched_node *gm_sched_current(struct gm_sched *sched)
{
    struct gm_list *first = gm_list_first(&sched->ready);
    if (first == NULL)
        return NULL;
    struct gm_sched_node *node = GM_CONTAINER_OF(first, struct gm_sched_node, node);
    if (!node->served) {
        node->served = true;
        node->deficit += GM_SCHED_QUANTUM;
    }
    return node;
}

void gm_sched_spend(struct gm_sched_node *node, uint32_t bytes)
{
    GM_ASSERT(node->served && bytes <= node->deficit);
    node->deficit -= bytes;
}

void gm_sched_rotate(struct gm_sched *sched)
{
    struct gm_list *first = gm_list_first(&sched->ready);
    GM_ASSERT(first != NULL);
    struct gm_sched_node *node = GM_CONTAINER_OF(first, struct gm_sched_node, node);
    node->served = false;
    gm_list_remove(first);
    gm_list_push_back(&sched->ready, first);
}
