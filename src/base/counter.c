/*
 * The counter table and what reads it: sums and the text of /debug/counters.
 *
 * Writers are the inline functions of counter.h, each on the block of its own thread; everything
 * here only reads blocks, from any thread, with relaxed loads.
 */
#include "base/counter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"

struct counter_row {
    const char *name;
    enum gm_counter_kind kind;
    const char *help;
};

static const struct counter_row rows[GM_COUNTER_COUNT] = {
#define COUNTER_ROW(constant, name, kind, help) {#name, GM_COUNTER_KIND_##kind, help},
    GM_COUNTER_LIST(COUNTER_ROW)
#undef COUNTER_ROW
};

/* Every name, a label and 20 digits fit a line of GM_COUNTER_LINE_MAX. */
#define COUNTER_NAME_MAX 40
#define COUNTER_NAME_CHECK(constant, name, kind, help)                                             \
    _Static_assert(sizeof(#name) <= COUNTER_NAME_MAX, "counter name too long: " #name);
GM_COUNTER_LIST(COUNTER_NAME_CHECK)
#undef COUNTER_NAME_CHECK

/* Where threads count that own no block: never read, so nothing is lost that was promised. */
static struct gm_counter_block nowhere;

_Thread_local struct gm_counter_block *gm_counter_mine = &nowhere;

int gm_counter_set_init(struct gm_counter_set *set, unsigned rings)
{
    if (rings == 0 || rings > GM_COUNTER_BLOCKS_MAX - 1)
        return -EINVAL;
    size_t size = (rings + 1u) * sizeof(struct gm_counter_block);
    struct gm_counter_block *blocks = aligned_alloc(GM_COUNTER_ALIGN, size);
    if (blocks == NULL)
        return -ENOMEM;
    memset(blocks, 0, size);
    *set = (struct gm_counter_set){.blocks = blocks, .block_count = rings + 1u};
    return 0;
}

void gm_counter_set_fini(struct gm_counter_set *set)
{
    free(set->blocks);
    *set = (struct gm_counter_set){0};
}

struct gm_counter_block *gm_counter_block_of(const struct gm_counter_set *set, unsigned ring)
{
    GM_ASSERT(ring < set->block_count);
    return &set->blocks[ring];
}

void gm_counter_attach(struct gm_counter_block *block)
{
    gm_counter_mine = block != NULL ? block : &nowhere;
}

static uint64_t value_in(const struct gm_counter_set *set, unsigned block, enum gm_counter counter)
{
    return atomic_load_explicit(&set->blocks[block].value[counter], memory_order_relaxed);
}

uint64_t gm_counter_sum(const struct gm_counter_set *set, enum gm_counter counter)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < set->block_count; i++)
        sum += value_in(set, i, counter);
    return sum;
}

const char *gm_counter_name(enum gm_counter counter)
{
    GM_ASSERT((unsigned)counter < GM_COUNTER_COUNT);
    return rows[counter].name;
}

enum gm_counter_kind gm_counter_kind_of(enum gm_counter counter)
{
    GM_ASSERT((unsigned)counter < GM_COUNTER_COUNT);
    return rows[counter].kind;
}

const char *gm_counter_help(enum gm_counter counter)
{
    GM_ASSERT((unsigned)counter < GM_COUNTER_COUNT);
    return rows[counter].help;
}

/* A gauge is signed: one block may have raised what another lowered. */
static void put_value(struct gm_text *out, enum gm_counter counter, uint64_t value)
{
    (void)gm_text_put(out, " ", 1);
    if (rows[counter].kind == GM_COUNTER_KIND_GAUGE)
        (void)gm_text_signed(out, (int64_t)value);
    else
        (void)gm_text_unsigned(out, value);
    (void)gm_text_put(out, "\n", 1);
}

static void put_block_line(struct gm_text *out, const struct gm_counter_set *set,
                           enum gm_counter counter, unsigned block)
{
    (void)gm_text_str(out, rows[counter].name);
    (void)gm_text_str(out, "{ring=\"");
    if (block + 1u == set->block_count)
        (void)gm_text_str(out, "control");
    else
        (void)gm_text_unsigned(out, block);
    (void)gm_text_str(out, "\"}");
    put_value(out, counter, value_in(set, block, counter));
}

ptrdiff_t gm_counter_render(const struct gm_counter_set *set, char *buf, size_t cap)
{
    struct gm_text out = {.at = buf, .cap = cap};
    for (unsigned c = 0; c < GM_COUNTER_COUNT; c++) {
        enum gm_counter counter = (enum gm_counter)c;
        (void)gm_text_str(&out, rows[c].name);
        put_value(&out, counter, gm_counter_sum(set, counter));
        for (unsigned i = 0; i < set->block_count; i++)
            put_block_line(&out, set, counter, i);
    }
    return out.cut ? -ENOSPC : (ptrdiff_t)out.len;
}
