/* The simulation's clock, chance and event heap, and the rings' turns.
 *
 * One thread. Invariants: time never goes back; the heap is ordered by (time, drawn tie, sequence),
 * so that simultaneous events come in an order that depends on the seed alone; a ring that has
 * anything to do has exactly one valid SIM_TURN event, the one with its turn_sequence. */
#include "ring/sim.h"

#include <stdlib.h>
#include <string.h>

#include "ring/fill.h"
#include "ring/sim_net.h"

#define NS_PER_S     1000000000ull
#define SIM_START_NS (1000 * NS_PER_S)

void *sim_grow(void *array, uint32_t *cap, uint32_t need, size_t item_bytes)
{
    if (need <= *cap)
        return array;
    uint32_t grown = *cap == 0 ? 16 : *cap;
    while (grown < need)
        grown *= 2;
    void *larger = realloc(array, grown * item_bytes);
    GM_ASSERT(larger != NULL);
    *cap = grown;
    return larger;
}

/* ---- Chance ---- */

/* SplitMix64 (Steele, Lea, Flood 2014): one word of state, full period, good enough mixing for
 * choices. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

uint64_t sim_rand_next(struct sim_rand *rand)
{
    rand->state += 0x9e3779b97f4a7c15ull;
    return mix(rand->state);
}

uint64_t sim_rand_below(struct sim_rand *rand, uint64_t bound)
{
    if (bound == 0)
        return 0;
    return (uint64_t)(((unsigned __int128)sim_rand_next(rand) * bound) >> 64);
}

uint64_t gm_sim_rand(struct gm_sim *sim, uint64_t bound)
{
    return bound == 0 ? sim_rand_next(&sim->test) : sim_rand_below(&sim->test, bound);
}

/* ---- Digest ---- */

void sim_trace(struct gm_sim *sim, enum sim_kind kind, uint64_t a, uint64_t b)
{
    const uint64_t words[] = {sim->now_ns, (uint64_t)kind, a, b};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        sim->hash = mix(sim->hash + 0x9e3779b97f4a7c15ull + words[i]);
}

uint64_t gm_sim_hash(const struct gm_sim *sim)
{
    return sim->hash;
}
void gm_sim_note(struct gm_sim *sim, uint64_t value)
{
    sim_trace(sim, SIM_NOTE, value, 0);
}
uint64_t gm_sim_now(const struct gm_sim *sim)
{
    return sim->now_ns;
}
uint64_t gm_sim_steps(const struct gm_sim *sim)
{
    return sim->steps;
}
uint32_t gm_sim_open_count(const struct gm_sim *sim)
{
    return sim->conns_open;
}

/* ---- The heap ---- */

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
    if (a->at_ns != b->at_ns)
        return a->at_ns < b->at_ns;
    if (a->tie != b->tie)
        return a->tie < b->tie;
    return a->sequence < b->sequence;
}

void sim_post(struct gm_sim *sim, uint64_t delay_ns, struct sim_event event)
{
    event.at_ns = sim->now_ns + delay_ns;
    event.tie = sim_rand_next(&sim->order);
    event.sequence = ++sim->sequence;
    if (event.kind == SIM_TURN)
        event.ring->turn_sequence = event.sequence;
    if (event.conn != NULL)
        event.conn->events++;
    sim->heap = sim_grow(sim->heap, &sim->heap_cap, sim->heap_count + 1, sizeof *sim->heap);
    uint32_t at = sim->heap_count++;
    while (at > 0 && event_before(&event, &sim->heap[(at - 1) / 2])) {
        sim->heap[at] = sim->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    sim->heap[at] = event;
}

static struct sim_event heap_pop(struct gm_sim *sim)
{
    struct sim_event top = sim->heap[0], last = sim->heap[--sim->heap_count];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= sim->heap_count)
            break;
        if (child + 1 < sim->heap_count && event_before(&sim->heap[child + 1], &sim->heap[child]))
            child++;
        if (!event_before(&sim->heap[child], &last))
            break;
        sim->heap[at] = sim->heap[child];
        at = child;
    }
    sim->heap[at] = last;
    if (top.conn != NULL)
        top.conn->events--;
    return top;
}

static bool event_stale(const struct sim_event *event)
{
    if (event->ring != NULL && event->ring->ring == NULL)
        return true;
    return event->kind == SIM_TURN && event->sequence != event->ring->turn_sequence;
}

/* The next event that still means something, or NULL. */
static const struct sim_event *heap_peek(struct gm_sim *sim)
{
    while (sim->heap_count > 0 && event_stale(&sim->heap[0]))
        (void)heap_pop(sim);
    return sim->heap_count > 0 ? &sim->heap[0] : NULL;
}

/* ---- Rings ---- */

void sim_ring_due(struct sim_ring *ring, uint64_t at_ns)
{
    if (ring->ring == NULL || ring->stopped || ring->in_turn)
        return;
    if (at_ns < ring->stalled_until_ns)
        at_ns = ring->stalled_until_ns;
    if (at_ns >= ring->turn_ns)
        return;
    ring->turn_ns = at_ns;
    sim_post(ring->sim, at_ns - ring->sim->now_ns,
             (struct sim_event){.kind = SIM_TURN, .ring = ring});
}

/* At some time within the profile's turn_max_ns; at least 1 ns, so that time passes. */
static void ring_due_soon(struct sim_ring *ring)
{
    struct gm_sim *sim = ring->sim;
    sim_ring_due(ring, sim->now_ns + 1 + sim_rand_below(&sim->net, sim->profile.turn_max_ns));
}

void sim_rouse(struct sim_node *node)
{
    struct sim_ring *ring = node->ring;
    if (ring == NULL || ring->ring == NULL)
        return;
    if (!node->active) {
        node->active = true;
        ring->active =
            sim_grow(ring->active, &ring->active_cap, ring->active_count + 1, sizeof *ring->active);
        ring->active[ring->active_count++] = node;
    }
    ring_due_soon(ring);
}

static bool ring_starved(const struct sim_ring *ring)
{
    for (unsigned pool = 0; pool < GM_POOL_COUNT; pool++) {
        if (!gm_list_empty(&ring->ring->starved[pool]) &&
            gm_fill_supply(ring->ring, pool, ring->fill[pool]) > 0)
            return true;
    }
    return false;
}

/* When it will have its next turn: after what the core has to do, what the network has for it and
 * its timers. */
static void ring_schedule(struct sim_ring *ring)
{
    uint64_t next_ns = gm_core_next_ns(ring->ring), now_ns = ring->sim->now_ns;
    if (next_ns <= now_ns || ring->active_count > 0 || ring_starved(ring))
        ring_due_soon(ring);
    else if (next_ns != GM_WAIT_FOREVER)
        sim_ring_due(ring,
                     next_ns + sim_rand_below(&ring->sim->net, ring->sim->profile.turn_max_ns));
}

static void ring_turn(struct sim_ring *ring)
{
    ring->turn_ns = SIM_FOREVER;
    ring->in_turn = true;
    bool more = gm_core_turn(ring->ring);
    ring->in_turn = false;
    if (more)
        ring_schedule(ring);
    else
        ring->stopped = true;
    gm_core_leave();
}

static void ring_mail(struct sim_ring *ring, const struct sim_event *event)
{
    gm_mailbox_publish(&ring->ring->mailbox, event->first, event->last);
    ring_due_soon(ring);
}

void gm_sim_do(struct gm_sim *sim, struct gm_ring *ring, void (*fn)(void *arg), void *arg)
{
    struct sim_ring *on = ring->backend_state;
    GM_ASSERT(gm_ring_current == NULL && on->sim == sim);
    gm_core_enter(ring);
    on->in_turn = true;
    fn(arg);
    on->in_turn = false;
    ring_schedule(on);
    gm_core_leave();
}

void gm_sim_at(struct gm_sim *sim, uint64_t at_ns, void (*fn)(void *arg), void *arg)
{
    uint64_t delay_ns = at_ns > sim->now_ns ? at_ns - sim->now_ns : 0;
    sim_post(sim, delay_ns, (struct sim_event){.kind = SIM_CALL, .call = fn, .arg = arg});
}

void gm_sim_stall(struct gm_ring *ring, uint64_t ns)
{
    struct sim_ring *on = ring->backend_state;
    struct gm_sim *sim = on->sim;
    on->stalled_until_ns = sim->now_ns + ns;
    if (on->turn_ns == SIM_FOREVER || on->turn_ns >= on->stalled_until_ns)
        return;
    /* The turn that was due is put off. */
    on->turn_ns = SIM_FOREVER;
    sim_ring_due(on, on->stalled_until_ns);
}

/* ---- Running ---- */

bool gm_sim_step(struct gm_sim *sim)
{
    if (heap_peek(sim) == NULL)
        return false;
    struct sim_event event = heap_pop(sim);
    GM_ASSERT(event.at_ns >= sim->now_ns);
    sim->now_ns = event.at_ns;
    sim->steps++;
    sim_trace(sim, event.kind,
              event.ring != NULL   ? event.ring->id
              : event.conn != NULL ? event.conn->id
                                   : 0,
              event.side);
    switch (event.kind) {
    case SIM_TURN:
        ring_turn(event.ring);
        break;
    case SIM_MAIL:
        ring_mail(event.ring, &event);
        break;
    case SIM_CALL:
        event.call(event.arg);
        break;
    default:
        sim_conn_event(sim, &event);
        break;
    }
    sim_conns_reap(sim);
    return true;
}

bool gm_sim_run_until(struct gm_sim *sim, uint64_t until_ns)
{
    const struct sim_event *next;
    while ((next = heap_peek(sim)) != NULL && next->at_ns <= until_ns)
        (void)gm_sim_step(sim);
    if (until_ns > sim->now_ns)
        sim->now_ns = until_ns;
    return next != NULL;
}

bool gm_sim_run_when(struct gm_sim *sim, bool (*done)(void *arg), void *arg, uint64_t until_ns)
{
    while (!done(arg)) {
        const struct sim_event *next = heap_peek(sim);
        if (next == NULL || next->at_ns > until_ns)
            return false;
        (void)gm_sim_step(sim);
    }
    return true;
}

/* ---- Life ---- */

void gm_sim_profile_default(struct gm_sim_profile *profile)
{
    *profile = (struct gm_sim_profile){
        .latency_min_ns = 50000,
        .latency_max_ns = 200000,
        .buffer_bytes = 64u << 10,
        .segment_bytes = 16u << 10,
        .split_permille = 100,
        .short_permille = 20,
        .turn_max_ns = 20000,
        .mail_max_ns = 20000,
        .fault_within_ns = NS_PER_S,
        .freeze_max_ns = NS_PER_S,
        .delay_max_ns = NS_PER_S / 10,
        .slow_bytes_per_s = 100000,
    };
}

struct gm_sim *gm_sim_new(uint64_t seed)
{
    /* rings.c names the back-end weakly, so that a product that never simulates does not carry it:
     * this is the name that links it. */
    GM_ASSERT(!gm_backend_sim.kernel_fds);
    struct gm_sim *sim = calloc(1, sizeof *sim);
    if (sim == NULL)
        return NULL;
    sim->seed = seed;
    sim->now_ns = SIM_START_NS;
    sim->net.state = mix(
        seed ^
        0x6e6574); /* streams of their own, so that a draw more in one leaves the others alone */
    sim->order.state = mix(seed ^ 0x6f72646572);
    sim->test.state = mix(seed ^ 0x74657374);
    sim->next_port = 32768;
    gm_sim_profile_default(&sim->profile);
    return sim;
}

void gm_sim_set_profile(struct gm_sim *sim, const struct gm_sim_profile *profile)
{
    GM_ASSERT(profile->buffer_bytes > 0 && profile->segment_bytes > 0 &&
              profile->latency_min_ns <= profile->latency_max_ns);
    sim->profile = *profile;
}

void gm_sim_free(struct gm_sim *sim)
{
    if (sim == NULL)
        return;
    while (sim->rings != NULL) {
        struct sim_ring *ring = sim->rings;
        GM_ASSERT(ring->ring == NULL); /* gm_rings_join comes first */
        sim->rings = ring->next;
        free(ring->active);
        free(ring->batch);
        free(ring->mail_due_ns);
        free(ring);
    }
    sim_conns_free(sim);
    free(sim->heap);
    free(sim->handles);
    free(sim);
}
