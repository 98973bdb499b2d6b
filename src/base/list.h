/* An intrusive doubly linked list with a sentinel. An unlinked node points at itself, so "is it
 * queued?" needs no flag.
 *
 * Owner: whoever owns the sentinel; never shared between threads. */
#ifndef GM_BASE_LIST_H
#define GM_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct gm_list {
    struct gm_list *prev, *next;
};

#define GM_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void gm_list_init(struct gm_list *l)
{
    l->prev = l->next = l;
}
/* True for an empty list, and for a node that is on no list. */
static inline bool gm_list_empty(const struct gm_list *l)
{
    return l->next == l;
}
static inline struct gm_list *gm_list_first(struct gm_list *l)
{
    return l->next == l ? NULL : l->next;
}

static inline void gm_list_insert_after(struct gm_list *where, struct gm_list *node)
{
    node->prev = where;
    node->next = where->next;
    where->next->prev = node;
    where->next = node;
}
static inline void gm_list_push_front(struct gm_list *list, struct gm_list *node)
{
    gm_list_insert_after(list, node);
}
static inline void gm_list_push_back(struct gm_list *list, struct gm_list *node)
{
    gm_list_insert_after(list->prev, node);
}

/* Unlinks the node; safe for one that is on no list. */
static inline void gm_list_remove(struct gm_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    gm_list_init(node);
}
static inline struct gm_list *gm_list_pop_front(struct gm_list *list)
{
    struct gm_list *node = gm_list_first(list);
    if (node != NULL)
        gm_list_remove(node);
    return node;
}
/* Moves every node of `from` to the end of `to`; `from` is empty afterwards. */
static inline void gm_list_splice_back(struct gm_list *to, struct gm_list *from)
{
    if (gm_list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    gm_list_init(from);
}

#endif
