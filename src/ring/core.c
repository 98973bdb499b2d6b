/* The loop: one turn after another, in the order that ring.h promises. Owner: the ring's thread;
 * gm_rings_mail runs anywhere.
 *
 * Invariants: callbacks run only from here; mail leaves at the end of a turn, one publication per
 * target; a ring waits only when it has neither mail, tasks nor sockets to end. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "ring/internal.h"

#define NS_PER_S 1000000000ull
/* A turn that kept us away for longer is told (ring.h). */
#define GAP_MIN_NS NS_PER_S

/* ---- Time, chance ---- */

uint64_t gm_ring_now_ns(const struct gm_ring *ring)
{
    return ring->now_ns;
}
int64_t gm_ring_wall_s(const struct gm_ring *ring)
{
    return ring->wall_s;
}
uint64_t gm_ring_gap_ns(const struct gm_ring *ring)
{
    return ring->gap_ns;
}
uint32_t gm_ring_index(const struct gm_ring *ring)
{
    return ring->index;
}
struct gm_rings *gm_ring_rings(const struct gm_ring *ring)
{
    return ring->rings;
}
void gm_ring_set_user(struct gm_ring *ring, void *user)
{
    ring->user = user;
}
void *gm_ring_user(const struct gm_ring *ring)
{
    return ring->user;
}

static void read_clock(struct gm_ring *ring)
{
    if (ring->backend->clock != NULL) {
        ring->backend->clock(ring, &ring->now_ns, &ring->wall_s);
        return;
    }
    struct timespec mono, wall;
    (void)clock_gettime(CLOCK_MONOTONIC, &mono);
    (void)clock_gettime(CLOCK_REALTIME_COARSE, &wall);
    ring->now_ns = (uint64_t)mono.tv_sec * NS_PER_S + (uint64_t)mono.tv_nsec;
    ring->wall_s = wall.tv_sec;
}

static void random_refill(struct gm_ring *ring)
{
    size_t have = 0;
    while (have < sizeof ring->random) {
        ssize_t n = getrandom(ring->random + have, sizeof ring->random - have, 0);
        GM_ASSERT(n > 0 ||
                  errno == EINTR); /* cannot fail otherwise with a valid buffer, since Linux 3.17 */
        if (n > 0)
            have += (size_t)n;
    }
    ring->random_left = sizeof ring->random;
}

void gm_ring_random(struct gm_ring *ring, void *out, size_t len)
{
    uint8_t *to = out;
    if (ring->backend->random != NULL) {
        ring->backend->random(ring, out, len);
        return;
    }
    while (len > 0) {
        if (ring->random_left == 0)
            random_refill(ring);
        size_t n = len < ring->random_left ? len : ring->random_left;
        uint8_t *from = ring->random + sizeof ring->random - ring->random_left;
        memcpy(to, from, n);
        memset(from, 0, n); /* what has been handed out is not kept */
        ring->random_left -= (uint32_t)n;
        to += n;
        len -= n;
    }
}

void gm_timer_set(struct gm_ring *ring, struct gm_timer *timer, uint64_t deadline_ns)
{
    gm_wheel_set(&ring->wheel, timer, deadline_ns);
}

/* ---- Tasks ---- */

void gm_task_init(struct gm_task *task, void (*run)(struct gm_task *task))
{
    gm_list_init(&task->node);
    task->run = run;
}
void gm_ring_soon(struct gm_ring *ring, struct gm_task *task)
{
    if (gm_list_empty(&task->node))
        gm_list_push_back(&ring->soon, &task->node);
}
void gm_ring_flush(struct gm_ring *ring, struct gm_task *task)
{
    if (gm_list_empty(&task->node))
        gm_list_push_back(&ring->flush, &task->node);
}
void gm_task_cancel(struct gm_task *task)
{
    gm_list_remove(&task->node);
}

static void run_tasks(struct gm_list *list)
{
    struct gm_list *node;
    while ((node = gm_list_pop_front(list)) != NULL) {
        struct gm_task *task = GM_CONTAINER_OF(node, struct gm_task, node);
        task->run(task);
    }
}

/* Flushing may ask for more tasks of both kinds (a link's batch makes a client's connection dirty):
 * all of it belongs to this turn. */
static void run_all_tasks(struct gm_ring *ring)
{
    do {
        run_tasks(&ring->soon);
        struct gm_list *node = gm_list_pop_front(&ring->flush);
        if (node == NULL)
            continue;
        struct gm_task *task = GM_CONTAINER_OF(node, struct gm_task, node);
        task->run(task);
    } while (!gm_list_empty(&ring->soon) || !gm_list_empty(&ring->flush));
}

/* ---- Desks ---- */

uint32_t gm_ring_socks_max(const struct gm_ring *ring)
{
    return ring->socks_max;
}

void *gm_ring_desk(struct gm_ring *ring)
{
    void *desk = gm_slab_take(&ring->desks);
    GM_ASSERT(desk != NULL);
    return desk;
}

void gm_ring_desk_give(struct gm_ring *ring, void *desk)
{
    gm_slab_give(&ring->desks, desk);
}

/* ---- Mail ---- */

void gm_ring_mail(struct gm_ring *from, uint32_t to, struct gm_mail *mail)
{
    GM_ASSERT(to < from->rings->count && gm_ring_current == from);
    struct gm_outbox *box = &from->outboxes[to];
    atomic_store_explicit(&mail->next, NULL, memory_order_relaxed);
    if (box->first == NULL) {
        box->first = mail;
        from->outbox_targets[from->outbox_count++] = to;
    } else {
        atomic_store_explicit(
            &box->last->next, mail,
            memory_order_relaxed); /* published by the exchange at the end of the turn */
    }
    box->last = mail;
    gm_counter_add(GM_COUNTER_MAIL_SENT, 1);
}

/* Straight into the mailbox, or to the simulation, which decides when. */
static void publish(struct gm_ring *from, struct gm_ring *to, struct gm_mail *first,
                    struct gm_mail *last)
{
    if (to->backend->post != NULL) {
        to->backend->post(from, to, first, last);
        return;
    }
    gm_mailbox_publish(&to->mailbox, first, last);
    if (from == to || !gm_mailbox_must_wake(&to->mailbox))
        return;
    gm_counter_add(GM_COUNTER_WAKES_SENT, 1);
    to->backend->wake(from, to);
}

void gm_rings_mail(struct gm_rings *rings, uint32_t to, struct gm_mail *mail)
{
    GM_ASSERT(to < rings->count);
    atomic_store_explicit(&mail->next, NULL, memory_order_relaxed);
    gm_counter_add(GM_COUNTER_MAIL_SENT, 1);
    publish(NULL, rings->ring[to], mail, mail);
}

static void publish_outboxes(struct gm_ring *ring)
{
    for (uint32_t i = 0; i < ring->outbox_count; i++) {
        uint32_t to = ring->outbox_targets[i];
        struct gm_outbox box = ring->outboxes[to];
        ring->outboxes[to] = (struct gm_outbox){NULL, NULL};
        publish(ring, ring->rings->ring[to], box.first, box.last);
    }
    ring->outbox_count = 0;
}

static void deliver_mail(struct gm_ring *ring)
{
    uint32_t taken = 0;
    struct gm_mail *mail;
    while (taken < GM_TURN_MAIL_MAX && (mail = gm_mailbox_take(&ring->mailbox)) != NULL) {
        taken++;
        mail->deliver(mail);
    }
    if (taken > 0)
        gm_counter_add(GM_COUNTER_MAIL_RECEIVED, taken);
}

/* ---- The turn ---- */

void gm_core_enter(struct gm_ring *ring)
{
    gm_ring_current = ring;
    gm_ring_self = ring->index;
    gm_counter_attach(ring->counters);
}

void gm_core_leave(void)
{
    gm_ring_current = NULL;
    gm_ring_self = GM_RING_NONE;
    gm_counter_attach(NULL);
}

uint64_t gm_core_next_ns(struct gm_ring *ring)
{
    bool work = ring->stopping || !gm_list_empty(&ring->finished) || !gm_list_empty(&ring->soon) ||
                !gm_list_empty(&ring->flush) || ring->outbox_count > 0 ||
                !gm_mailbox_empty(&ring->mailbox);
    return work ? 0 : gm_wheel_next_ns(&ring->wheel);
}

/* How long nobody looked, beyond what we had meant to wait. */
static void measure_gap(struct gm_ring *ring, uint64_t before_ns)
{
    uint64_t elapsed = ring->now_ns - before_ns;
    uint64_t away = elapsed > ring->waiting_ns ? elapsed - ring->waiting_ns : 0;
    ring->gap_ns = away >= GAP_MIN_NS ? away : 0;
}

void gm_core_woken(struct gm_ring *ring)
{
    uint64_t before = ring->now_ns;
    if (ring->waiting_ns > 0)
        gm_mailbox_awake(&ring->mailbox);
    read_clock(ring);
    measure_gap(ring, before);
    ring->woken = true;
}

/* Once `sleeping` is set: has a pool become short since we last gave up what we hold? */
static bool pressed(struct gm_ring *ring)
{
    return atomic_load_explicit(&ring->rings->short_epoch, memory_order_acquire) !=
               ring->store.epoch_seen &&
           !gm_list_empty(&ring->store.holders);
}

/* Waits as long as nothing is to be done; the back-end delivers. */
static void wait_for_events(struct gm_ring *ring)
{
    uint64_t next = gm_core_next_ns(ring);
    ring->waiting_ns = 0;
    if (next > ring->now_ns && gm_mailbox_sleep(&ring->mailbox)) {
        if (pressed(ring)) {
            gm_mailbox_awake(&ring->mailbox);
        } else {
            ring->waiting_ns = next == UINT64_MAX ? GM_WAIT_FOREVER : next - ring->now_ns;
            gm_counter_add(GM_COUNTER_SLEEPS, 1);
        }
    }
    ring->woken = false;
    ring->backend->wait(ring, ring->waiting_ns);
    GM_ASSERT(ring->woken);
}

bool gm_core_turn(struct gm_ring *ring)
{
    gm_core_enter(ring);
    gm_counter_add(GM_COUNTER_TURNS, 1);
    wait_for_events(ring);
    gm_core_finish_all(ring);
    deliver_mail(ring);
    (void)gm_wheel_advance(&ring->wheel, ring->now_ns);
    run_all_tasks(ring);
    gm_store_relieve(&ring->store);
    publish_outboxes(ring);
    return !ring->stopping;
}

int gm_core_open(struct gm_ring *ring, char *why)
{
    gm_core_enter(ring);
    read_clock(ring);
    gm_wheel_init(&ring->wheel, ring->now_ns);
    int r = ring->backend->open(ring, why);
    if (r < 0)
        return r;
    ring->opened = true;
    read_clock(ring);
    return 0;
}

int gm_core_begin(struct gm_ring *ring, char *why)
{
    gm_core_enter(ring);
    if (ring->rings->ops.init != NULL) {
        int r = ring->rings->ops.init(ring, ring->rings->ops.arg);
        if (r < 0) {
            (void)snprintf(why, GM_WHY_BYTES, "ring %u: %s", ring->index, gm_error_text(r));
            return r;
        }
    }
    ring->initialised = true;
    publish_outboxes(ring);
    return 0;
}

void gm_core_end(struct gm_ring *ring)
{
    gm_core_enter(ring);
    if (ring->opened) {
        ring->backend->close(ring);
        for (uint32_t i = 0; ring->backend->kernel_fds && i < ring->slot_fresh; i++) {
            if (ring->slots[i].sock != NULL)
                (void)close((int)ring->slots[i].link);
        }
        ring->slot_fresh = 0;
    }
    ring->opened = false;
    gm_core_leave();
}
