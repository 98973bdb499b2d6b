/* Whose turn it is: deficit round robin over the streams of one link that have DATA to send.
 *
 * Pure; owned by the link's ring. Each ready stream is given a quantum per round and spends it in
 * whole frames; what it cannot spend it keeps for the next round, and an emptied stream keeps
 * nothing. So two busy streams never differ by more than a quantum and a frame, and a stream that
 * becomes ready waits for one quantum of each other stream at most. Control frames and heads pass
 * before all of it; they are not scheduled here.
 *
 * The promise is watched from outside the turns' own arithmetic: when a node begins to wait, what
 * those ahead of it may still send is written down; when its turn comes, all that was sent since is
 * held against that, and an excess is counted. */
#ifndef GM_STREAM_SCHED_H
#define GM_STREAM_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

/* = the largest DATA payload, so that every stream can send at least one frame per round (O(1)
 * DRR). */
#define GM_SCHED_QUANTUM 16384u

struct gm_sched_node {
    struct gm_list node;
    uint64_t due;     /* of sched->sent: its turn must have come by then */
    uint32_t deficit; /* bytes it may still send in this turn */
    bool served;      /* this turn's quantum has been added */
};

struct gm_sched {
    struct gm_list ready; /* first: whose turn it is */
    uint32_t ready_count;
    uint64_t sent;      /* bytes of all nodes */
    uint64_t saved;     /* sum of the ready nodes' deficits */
    uint64_t contended; /* turns that began while others waited */
    uint64_t overrun;   /* bytes sent ahead of a waiting node beyond what was due: 0, or a bug */
};

void gm_sched_init(struct gm_sched *sched);
void gm_sched_node_init(struct gm_sched_node *node);
static inline bool gm_sched_queued(const struct gm_sched_node *node)
{
    return !gm_list_empty(&node->node);
}

/* Puts the node at the end of the round with no deficit; nothing when it is queued already. */
void gm_sched_add(struct gm_sched *sched, struct gm_sched_node *node);
/* Takes it out, wherever it is; its deficit is gone. Safe for a node that is not queued. */
void gm_sched_remove(struct gm_sched *sched, struct gm_sched_node *node);
/* Borrows the node whose turn it is, with its deficit made up; NULL when none is ready. The same
 * node until gm_sched_rotate or _remove. */
struct gm_sched_node *gm_sched_current(struct gm_sched *sched);
/* The current node has sent `bytes` (<= its deficit). */
void gm_sched_spend(struct gm_sched *sched, struct gm_sched_node *node, uint32_t bytes);
/* The current node can send nothing more in this turn: the next one's turn. It keeps its deficit.
 */
void gm_sched_rotate(struct gm_sched *sched);

#endif
