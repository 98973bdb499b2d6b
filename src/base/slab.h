/* Objects of one size, as many as there can ever be: memory by the page, of which only those take
 * any that have been in use at once. The one given back last is handed out first, for it is in the
 * cache.
 *
 * Owner: one thread. Invariants: taking and giving allocate nothing; a free object is poisoned
 * under AddressSanitizer. */
#ifndef GM_BASE_SLAB_H
#define GM_BASE_SLAB_H

#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/poison.h"

/* What a free object holds. */
struct gm_slab_free {
    struct gm_slab_free *next;
};

struct gm_slab {
    struct gm_slab_free *free;
    uint8_t *memory;
    uint32_t size, max; /* bytes of an object, a multiple of 8; objects */
    uint32_t fresh;     /* those from here on have never been in use */
};

/* For `max` objects of `size` bytes, each aligned to 8 (to a page, if it is the first).
 * -GM_E_NOMEM: there is no such memory. */
int gm_slab_init(struct gm_slab *slab, size_t size, uint32_t max) GM_WARN_UNUSED;
/* Objects in use go with it. A zeroed slab is accepted. */
void gm_slab_fini(struct gm_slab *slab);

/* An object of undefined contents, or NULL when all are in use. */
static inline void *gm_slab_take(struct gm_slab *slab)
{
    struct gm_slab_free *object = slab->free;
    if (GM_LIKELY(object != NULL)) {
        GM_UNPOISON(object, slab->size);
        slab->free = object->next;
    } else if (slab->fresh < slab->max) {
        object = (void *)(slab->memory + (size_t)slab->fresh++ * slab->size);
    } else {
        return NULL;
    }
    return object;
}

/* Takes the object. */
static inline void gm_slab_give(struct gm_slab *slab, void *object)
{
    struct gm_slab_free *node = object;
    node->next = slab->free;
    slab->free = node;
    GM_POISON(object, slab->size);
}

#endif
