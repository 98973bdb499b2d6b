/* The memory of slabs. Owner: one thread. */
#include "base/slab.h"

#include "base/pages.h"

int gm_slab_init(struct gm_slab *slab, size_t size, uint32_t max)
{
    GM_ASSERT(size >= sizeof(struct gm_slab_free) && size % 8 == 0 && size <= UINT32_MAX);
    *slab = (struct gm_slab){.size = (uint32_t)size, .max = max};
    slab->memory = gm_pages_map(size * max);
    return slab->memory == NULL ? -GM_E_NOMEM : 0;
}

void gm_slab_fini(struct gm_slab *slab)
{
    if (slab->memory != NULL)
        GM_UNPOISON(slab->memory, (size_t)slab->fresh * slab->size);
    gm_pages_unmap(slab->memory, (size_t)slab->size * slab->max);
    *slab = (struct gm_slab){0};
}
