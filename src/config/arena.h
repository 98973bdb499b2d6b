/*
 * An arena for configuration texts: they are made at start, live as long as the configuration and
 * are freed together. Not for the data path: it grows by malloc.
 */
#ifndef GM_CONFIG_ARENA_H
#define GM_CONFIG_ARENA_H

#include <stddef.h>

struct gm_arena_chunk;

/* A zeroed arena is empty and ready. */
struct gm_arena {
    struct gm_arena_chunk *chunks;
};

/* `size` zeroed bytes aligned for any type, owned by the arena; NULL when memory is out. */
void *gm_arena_alloc(struct gm_arena *arena, size_t size);

/* A NUL-terminated copy of `len` bytes, owned by the arena; NULL when memory is out. */
char *gm_arena_text(struct gm_arena *arena, const char *text, size_t len);

/* Wipes (tokens may lie there) and frees everything. Accepts a zeroed arena. */
void gm_arena_fini(struct gm_arena *arena);

#endif
