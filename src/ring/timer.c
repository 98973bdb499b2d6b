/* The timer wheel. Owner: its ring. See timer.h for the invariant. */
#include "ring/timer.h"

#define LEVEL_BITS 6u
#define SLOT_MASK  (GM_WHEEL_SLOTS - 1u)

static uint64_t tick_up(uint64_t ns)
{
    uint64_t tick = ns / GM_TICK_NS;
    return tick + (ns % GM_TICK_NS != 0);
}

void gm_timer_init(struct gm_timer *timer, void (*on_expire)(struct gm_timer *timer))
{
    *timer = (struct gm_timer){.on_expire = on_expire};
    gm_list_init(&timer->node);
}

void gm_timer_cancel(struct gm_timer *timer)
{
    gm_list_remove(&timer->node);
}

void gm_wheel_init(struct gm_wheel *wheel, uint64_t now_ns)
{
    wheel->tick = now_ns / GM_TICK_NS;
    for (unsigned level = 0; level < GM_WHEEL_LEVELS; level++) {
        wheel->busy[level] = 0;
        for (unsigned i = 0; i < GM_WHEEL_SLOTS; i++)
            gm_list_init(&wheel->slots[level][i]);
    }
}

/* Links the timer into the slot for `tick`, which is not before `earliest`. */
static void wheel_insert(struct gm_wheel *wheel, struct gm_timer *timer, uint64_t earliest)
{
    uint64_t tick = tick_up(timer->deadline_ns);
    if (tick < earliest)
        tick = earliest;
    unsigned level = 0;
    uint64_t slot = tick, now = wheel->tick;
    while (slot - now >= GM_WHEEL_SLOTS) {
        if (level == GM_WHEEL_LEVELS - 1u) {
            slot =
                now +
                SLOT_MASK; /* beyond the wheel: it is looked at again when this slot comes round */
            break;
        }
        level++;
        slot = tick >> (level * LEVEL_BITS);
        now = wheel->tick >> (level * LEVEL_BITS);
    }
    timer->slot_ns = (slot << (level * LEVEL_BITS)) * GM_TICK_NS;
    gm_list_push_back(&wheel->slots[level][slot & SLOT_MASK], &timer->node);
    wheel->busy[level] |= 1ull << (slot & SLOT_MASK);
}

void gm_wheel_set(struct gm_wheel *wheel, struct gm_timer *timer, uint64_t deadline_ns)
{
    timer->deadline_ns = deadline_ns;
    if (gm_timer_armed(timer)) {
        if (deadline_ns >= timer->slot_ns)
            return;
        gm_list_remove(&timer->node);
    }
    wheel_insert(wheel, timer, wheel->tick + 1u);
}

/* The next tick at which a slot of any level has to be emptied. */
static uint64_t wheel_next_tick(const struct gm_wheel *wheel)
{
    uint64_t best = UINT64_MAX;
    for (unsigned level = 0; level < GM_WHEEL_LEVELS; level++) {
        if (wheel->busy[level] == 0)
            continue;
        uint64_t from = (wheel->tick >> (level * LEVEL_BITS)) + 1u;
        unsigned turn = (unsigned)(from & SLOT_MASK);
        uint64_t bits = turn == 0 ? wheel->busy[level]
                                  : wheel->busy[level] >> turn | wheel->busy[level]
                                                                     << (GM_WHEEL_SLOTS - turn);
        uint64_t tick = (from + (unsigned)__builtin_ctzll(bits)) << (level * LEVEL_BITS);
        if (tick < best)
            best = tick;
    }
    return best;
}

/* Empties the slot of `level` that starts at the wheel's tick into `out`. */
static void wheel_empty(struct gm_wheel *wheel, unsigned level, struct gm_list *out)
{
    unsigned slot = (unsigned)(wheel->tick >> (level * LEVEL_BITS) & SLOT_MASK);
    wheel->busy[level] &= ~(1ull << slot);
    gm_list_splice_back(out, &wheel->slots[level][slot]);
}

/* One tick: higher slots that start now move down, then the bottom slot is due. */
static uint32_t wheel_tick(struct gm_wheel *wheel)
{
    struct gm_list moving, *node;
    uint32_t expired = 0;
    gm_list_init(&moving);
    for (unsigned level = GM_WHEEL_LEVELS - 1u; level > 0; level--) {
        uint64_t below = (1ull << (level * LEVEL_BITS)) - 1u;
        if ((wheel->tick & below) == 0)
            wheel_empty(wheel, level, &moving);
    }
    while ((node = gm_list_pop_front(&moving)) != NULL)
        wheel_insert(wheel, GM_CONTAINER_OF(node, struct gm_timer, node), wheel->tick);
    wheel_empty(wheel, 0, &moving);
    while ((node = gm_list_pop_front(&moving)) != NULL) {
        struct gm_timer *timer = GM_CONTAINER_OF(node, struct gm_timer, node);
        if (tick_up(timer->deadline_ns) > wheel->tick) {
            wheel_insert(wheel, timer, wheel->tick + 1u);
            continue;
        }
        expired++;
        timer->on_expire(timer);
    }
    return expired;
}

uint32_t gm_wheel_advance(struct gm_wheel *wheel, uint64_t now_ns)
{
    uint64_t until = now_ns / GM_TICK_NS;
    uint32_t expired = 0;
    while (wheel->tick < until) {
        uint64_t next = wheel_next_tick(wheel);
        if (next > until) {
            wheel->tick = until;
            break;
        }
        wheel->tick = next;
        expired += wheel_tick(wheel);
    }
    return expired;
}

uint64_t gm_wheel_next_ns(const struct gm_wheel *wheel)
{
    uint64_t tick = wheel_next_tick(wheel);
    return tick > UINT64_MAX / GM_TICK_NS ? UINT64_MAX : tick * GM_TICK_NS;
}
