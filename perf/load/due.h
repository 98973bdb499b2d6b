/*
 * What is due next: a binary heap of things by time. The things are the owner's; each has a place
 * for the heap's note in itself, so that it can leave from the middle. One thread.
 */
#ifndef GM_LOAD_DUE_H
#define GM_LOAD_DUE_H

#include <stdbool.h>
#include <stdint.h>

struct gm_due {
    uint64_t at_ns;
    uint32_t place; /* in the heap, from 1; 0: not in it */
};

struct gm_due_heap {
    struct gm_due **entries; /* from 1 */
    uint32_t count, room;
};

/* Adds a thing (borrowed until it leaves) that is due at `at_ns`. */
void gm_due_add(struct gm_due_heap *heap, struct gm_due *due, uint64_t at_ns);

/* Takes a thing out; nothing happens when it is not in. */
void gm_due_remove(struct gm_due_heap *heap, struct gm_due *due);

/* The one that is due first; NULL: none is. */
static inline struct gm_due *gm_due_first(const struct gm_due_heap *heap)
{
    return heap->count > 0 ? heap->entries[1] : (struct gm_due *)0;
}

#endif
