/*
 * The configuration's arena: a list of blocks, one per allocation. Start-up only, one thread.
 */
#include "config/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct gm_arena_chunk {
    struct gm_arena_chunk *next;
    size_t size;
    alignas(max_align_t) unsigned char bytes[];
};

void *gm_arena_alloc(struct gm_arena *arena, size_t size)
{
    size_t total;
    if (__builtin_add_overflow(size, sizeof(struct gm_arena_chunk), &total))
        return NULL;
    struct gm_arena_chunk *chunk = calloc(1, total);
    if (chunk == NULL)
        return NULL;
    chunk->size = size;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    return chunk->bytes;
}

char *gm_arena_text(struct gm_arena *arena, const char *text, size_t len)
{
    char *copy = len < SIZE_MAX ? gm_arena_alloc(arena, len + 1) : NULL;
    if (copy != NULL)
        memcpy(copy, text, len);
    return copy;
}

void gm_arena_fini(struct gm_arena *arena)
{
    struct gm_arena_chunk *chunk = arena->chunks;
    while (chunk != NULL) {
        struct gm_arena_chunk *next = chunk->next;
        explicit_bzero(chunk->bytes, chunk->size);
        free(chunk);
        chunk = next;
    }
    arena->chunks = NULL;
}
