/*
 * What is due next: due.h.
 */
#include "due.h"

#include "load.h"

#include <stdlib.h>

static void put(struct gm_due_heap *heap, uint32_t place, struct gm_due *due)
{
    heap->entries[place] = due;
    due->place = place;
}

static void rise(struct gm_due_heap *heap, uint32_t place, struct gm_due *due)
{
    while (place > 1 && heap->entries[place / 2]->at_ns > due->at_ns) {
        put(heap, place, heap->entries[place / 2]);
        place /= 2;
    }
    put(heap, place, due);
}

static void sink(struct gm_due_heap *heap, uint32_t place, struct gm_due *due)
{
    for (uint32_t child; (child = 2 * place) <= heap->count; place = child) {
        if (child < heap->count && heap->entries[child + 1]->at_ns < heap->entries[child]->at_ns) {
            child++;
        }
        if (heap->entries[child]->at_ns >= due->at_ns) {
            break;
        }
        put(heap, place, heap->entries[child]);
    }
    put(heap, place, due);
}

void gm_due_add(struct gm_due_heap *heap, struct gm_due *due, uint64_t at_ns)
{
    if (heap->count + 2u > heap->room) {
        heap->room = heap->room > 0 ? 2u * heap->room : 1024u;
        heap->entries = realloc(heap->entries, heap->room * sizeof(struct gm_due *));
        if (!heap->entries) {
            gm_load_fail("no memory");
        }
    }
    due->at_ns = at_ns;
    rise(heap, ++heap->count, due);
}

void gm_due_remove(struct gm_due_heap *heap, struct gm_due *due)
{
    uint32_t place = due->place;
    if (place == 0) {
        return;
    }
    struct gm_due *last = heap->entries[heap->count--];
    due->place = 0;
    if (last != due) {
        sink(heap, place, last);
        rise(heap, last->place, last);
    }
}
