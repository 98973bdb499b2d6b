/* Slabs: objects that do not overlap, never more than there are, the last one given back first. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/slab.h"

#define SIZE 24u
#define MAX  300u

Test(slab, hands_out_each_object_once)
{
    struct gm_slab slab;
    uint8_t *object[MAX];
    cr_assert_eq(gm_slab_init(&slab, SIZE, MAX), 0);
    for (unsigned i = 0; i < MAX; i++) {
        object[i] = gm_slab_take(&slab);
        cr_assert_not_null(object[i]);
        cr_assert_eq((uintptr_t)object[i] % 8, 0);
        memset(object[i], (int)(i % 251), SIZE);
    }
    cr_assert_null(gm_slab_take(&slab));
    for (unsigned i = 0; i < MAX; i++) {
        for (unsigned at = 0; at < SIZE; at++)
            cr_assert_eq(object[i][at], i % 251, "object %u was written to by another", i);
    }
    gm_slab_fini(&slab);
}

Test(slab, hands_out_again_what_was_given_back_last)
{
    struct gm_slab slab;
    cr_assert_eq(gm_slab_init(&slab, SIZE, 3), 0);
    void *first = gm_slab_take(&slab), *second = gm_slab_take(&slab);
    gm_slab_give(&slab, first);
    gm_slab_give(&slab, second);
    cr_assert_eq(gm_slab_take(&slab), second);
    cr_assert_eq(gm_slab_take(&slab), first);
    void *third = gm_slab_take(&slab);
    cr_assert(third != NULL && third != first && third != second);
    cr_assert_null(gm_slab_take(&slab));
    gm_slab_fini(&slab);
    gm_slab_fini(&slab); /* zeroed by then */
}
