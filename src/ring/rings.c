/* The set of rings: memory, threads, start, stop, end.
 *
 * The starting thread creates everything that other threads may name (mailboxes, wake descriptors)
 * before any ring runs, and frees it after all have ended: a ring may always be mailed and woken.
 * Each ring opens and closes its back-end on its own thread (io_uring insists), and closes it only
 * when no ring runs turns any more. The lock is for start and stop alone. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/pages.h"
#include "ring/internal.h"
#include "ring/rings_cpu.h"
#include "ring/uring_probe.h"

#define EPOLL_BECAUSE "epoll, because io_uring cannot be used: "

/* Sockets per ring when RLIMIT_NOFILE says "as many as you like". */
#define SOCKS_PER_RING_MAX (1u << 20)
/* Descriptors of a ring that are no sockets in the table: ring, eventfd, files, DNS, a margin for
 * connections being accepted. */
#define FDS_SPARE 64u

#pragma weak gm_backend_sim

/* ---- Small questions ---- */

uint32_t gm_rings_count(const struct gm_rings *rings)
{
    return rings->count;
}
const char *gm_rings_backend(const struct gm_rings *rings)
{
    return rings->backend->name;
}
const char *gm_rings_describe(const struct gm_rings *rings)
{
    return rings->describe;
}
struct gm_counter_set *gm_rings_counters(struct gm_rings *rings)
{
    return &rings->counters;
}

struct gm_ring *gm_rings_get(struct gm_rings *rings, uint32_t index)
{
    GM_ASSERT(index < rings->count);
    return rings->ring[index];
}

/* ---- Memory of one ring ---- */

static void ring_free(struct gm_ring *ring)
{
    if (ring == NULL)
        return;
    if (ring->wake_fd >= 0)
        (void)close(ring->wake_fd);
    gm_store_fini(&ring->store);
    gm_slab_fini(&ring->desks);
    uint32_t count = ring->rings->config.count;
    gm_pages_unmap(ring->slots, sizeof(struct gm_slot) * ring->socks_max);
    gm_pages_unmap(ring->outboxes, sizeof(struct gm_outbox) * count);
    gm_pages_unmap(ring->outbox_targets, sizeof(uint32_t) * count);
    gm_pages_unmap(ring, sizeof *ring);
}

static void on_stop_mail(struct gm_mail *mail)
{
    GM_CONTAINER_OF(mail, struct gm_ring, stop_mail)->stopping = true;
}

static struct gm_ring *ring_new(struct gm_rings *rings, uint32_t index)
{
    struct gm_ring *ring = gm_pages_map(sizeof *ring);
    if (ring == NULL)
        return NULL;
    ring->rings = rings;
    ring->backend = rings->backend;
    ring->index = (uint16_t)index;
    ring->counters = gm_counter_block_of(&rings->counters, index);
    ring->slot_free = UINT32_MAX;
    ring->socks_max = rings->config.socks_max;
    ring->pin_cpu = -1;
    ring->wake_fd = -1;
    ring->stop_mail.deliver = on_stop_mail;
    gm_list_init(&ring->soon);
    gm_list_init(&ring->flush);
    gm_list_init(&ring->finished);
    for (unsigned i = 0; i < GM_POOL_COUNT; i++)
        gm_list_init(&ring->starved[i]);
    gm_mailbox_init(&ring->mailbox);
    uint32_t count = rings->config.count;
    ring->slots = gm_pages_map(sizeof(struct gm_slot) * ring->socks_max);
    ring->outboxes = gm_pages_map(sizeof(struct gm_outbox) * count);
    ring->outbox_targets = gm_pages_map(sizeof(uint32_t) * count);
    if (ring->slots == NULL || ring->outboxes == NULL || ring->outbox_targets == NULL)
        goto fail;
    if (gm_store_init(&ring->store, ring, rings->config.memory_bytes) < 0)
        goto fail;
    if (gm_slab_init(&ring->desks, GM_DESK_BYTES, GM_DESKS_PER_SOCK * ring->socks_max) < 0)
        goto fail;
    if (rings->backend->kernel_fds && (ring->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        goto fail;
    return ring;
fail:
    ring_free(ring);
    return NULL;
}

static void rings_free(struct gm_rings *rings)
{
    for (uint32_t i = 0; rings->ring != NULL && i < rings->config.count; i++)
        ring_free(rings->ring[i]);
    free(rings->ring);
    gm_counter_set_fini(&rings->counters);
    free(rings->features_off);
    (void)pthread_mutex_destroy(&rings->lock);
    (void)pthread_cond_destroy(&rings->moved);
    free(rings);
}

/* ---- Configuration ---- */

/* The soft limit up to the hard one; returns what we have. */
static uint64_t raise_nofile(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1024;
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {limit.rlim_max, limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
            limit = raised;
    }
    return limit.rlim_cur;
}

static int settle_config(struct gm_rings *rings, char *why)
{
    struct gm_rings_config *config = &rings->config;
    if (config->count == 0)
        config->count = gm_rings_default_count();
    if (config->count > GM_RINGS_MAX) {
        (void)snprintf(why, GM_WHY_BYTES, "%u rings asked for, %u is the most", config->count,
                       GM_RINGS_MAX);
        return -GM_E_CONFIG;
    }
    if (config->memory_bytes < GM_RING_MEMORY_MIN) {
        (void)snprintf(why, GM_WHY_BYTES, "ring memory of %llu bytes asked for, %u is the least",
                       (unsigned long long)config->memory_bytes, GM_RING_MEMORY_MIN);
        return -GM_E_CONFIG;
    }
    uint64_t files = config->io == GM_IO_SIM ? 65536u : raise_nofile();
    if (config->socks_max == 0) {
        uint64_t share = files / config->count;
        share = share > 2u * FDS_SPARE ? share - FDS_SPARE : FDS_SPARE;
        config->socks_max = share > SOCKS_PER_RING_MAX ? SOCKS_PER_RING_MAX : (uint32_t)share;
    }
    return 0;
}

/* Which back-end it will be, and the line that says so. */
static int choose_backend(struct gm_rings *rings, char *why)
{
    enum gm_io io = rings->config.io;
    if (io == GM_IO_SIM) {
        if (&gm_backend_sim == NULL) {
            (void)snprintf(why, GM_WHY_BYTES, "this build has no simulated network");
            return -GM_E_CONFIG;
        }
        rings->backend = &gm_backend_sim;
        (void)snprintf(rings->describe, sizeof rings->describe, "simulated network, virtual time");
        return 0;
    }
    if (io == GM_IO_EPOLL) {
        rings->backend = &gm_backend_epoll;
        (void)snprintf(rings->describe, sizeof rings->describe, "epoll, as configured");
        return 0;
    }
    char reason[GM_WHY_BYTES];
    int r = gm_uring_probe(rings->config.features_off, &rings->features, reason);
    if (r == 0) {
        rings->backend = &gm_backend_uring;
        gm_uring_describe(&rings->features, rings->describe, sizeof rings->describe);
        return 0;
    }
    if (io == GM_IO_URING || r == -GM_E_CONFIG) {
        (void)snprintf(why, GM_WHY_BYTES, "%s", reason);
        return r;
    }
    rings->backend = &gm_backend_epoll;
    (void)snprintf(rings->describe, sizeof rings->describe, EPOLL_BECAUSE "%.400s", reason);
    return 0;
}

/* Ring i to the i-th processor of the mask, where the mask is ours alone. */
static void plan_pinning(struct gm_rings *rings)
{
    cpu_set_t mask;
    uint32_t affinity = gm_cpu_affinity(&mask);
    if (!rings->config.pin || rings->count > affinity ||
        !gm_cpu_may_pin(affinity, gm_cpu_quota("/")))
        return;
    uint32_t next = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && next < rings->count; cpu++) {
        if (CPU_ISSET((size_t)cpu, &mask))
            rings->ring[next++]->pin_cpu = cpu;
    }
}

static struct gm_rings *rings_new(const struct gm_rings_config *config,
                                  const struct gm_rings_ops *ops, char *why, int *error)
{
    struct gm_rings *rings = aligned_alloc(64, (sizeof *rings + 63u) & ~(size_t)63u);
    *error = -ENOMEM;
    (void)snprintf(why, GM_WHY_BYTES, "not enough memory or descriptors for the rings");
    if (rings == NULL)
        return NULL;
    memset(rings, 0, sizeof *rings);
    rings->config = *config;
    if (ops != NULL)
        rings->ops = *ops;
    (void)pthread_mutex_init(&rings->lock, NULL);
    (void)pthread_cond_init(&rings->moved, NULL);
    atomic_init(&rings->stop_asked, 0u);
    atomic_init(&rings->pools_short, 0u);
    atomic_init(&rings->short_epoch, 0u);
    if (config->features_off != NULL &&
        (rings->features_off = strdup(config->features_off)) == NULL)
        goto fail;
    rings->config.features_off = rings->features_off;
    *error = settle_config(rings, why);
    if (*error == 0)
        *error = choose_backend(rings, why);
    if (*error < 0)
        goto fail;
    *error = gm_counter_set_init(&rings->counters, rings->config.count);
    if (*error < 0)
        goto fail;
    *error = -ENOMEM;
    rings->count = rings->config.count;
    rings->ring = calloc(rings->count, sizeof(struct gm_ring *));
    if (rings->ring == NULL)
        goto fail;
    for (uint32_t i = 0; i < rings->count; i++) {
        if ((rings->ring[i] = ring_new(rings, i)) == NULL)
            goto fail;
    }
    plan_pinning(rings);
    *error = 0;
    return rings;
fail:
    rings_free(rings);
    return NULL;
}

/* ---- Threads ---- */

static void pin_self(const struct gm_ring *ring)
{
    if (ring->pin_cpu < 0)
        return;
    cpu_set_t mask;
    CPU_ZERO(&mask);
    CPU_SET((size_t)ring->pin_cpu, &mask);
    (void)pthread_setaffinity_np(pthread_self(), sizeof mask, &mask); /* a preference, not a need */
}

/* The two gates of the start: every ring has opened its back-end; every ring has run `init`. Only
 * when all have opened does any program see its rings, so that a set which cannot be set up can be
 * given up and begun anew on another back-end. */
enum gate { GATE_OPENED = 1, GATE_READY = 2 };

/* Tells the starter how it went and waits until it has heard from everybody. */
static bool meet_at_gate(struct gm_ring *ring, enum gate gate, int result, const char *why)
{
    struct gm_rings *rings = ring->rings;
    (void)pthread_mutex_lock(&rings->lock);
    rings->arrived++;
    if (result < 0 && rings->failed++ == 0) {
        rings->first_error = result;
        memcpy(rings->why, why, GM_WHY_BYTES);
    }
    (void)pthread_cond_broadcast(&rings->moved);
    while (rings->gate < (uint32_t)gate)
        (void)pthread_cond_wait(&rings->moved, &rings->lock);
    bool run = rings->gate_well[gate];
    (void)pthread_mutex_unlock(&rings->lock);
    return run;
}

/* The starter's side: waits for all rings at the gate, opens it, and says whether all is well. */
static bool open_gate(struct gm_rings *rings, enum gate gate)
{
    (void)pthread_mutex_lock(&rings->lock);
    while (rings->arrived < rings->threads)
        (void)pthread_cond_wait(&rings->moved, &rings->lock);
    bool well = rings->failed == 0;
    rings->gate_well[gate] = well;
    rings->arrived = 0;
    rings->gate = (uint32_t)gate;
    (void)pthread_cond_broadcast(&rings->moved);
    (void)pthread_mutex_unlock(&rings->lock);
    return well;
}

/* No back-end is closed before every ring has made its last turn: until then it may be woken. */
static void meet_at_end(struct gm_rings *rings)
{
    (void)pthread_mutex_lock(&rings->lock);
    rings->ended++;
    (void)pthread_cond_broadcast(&rings->moved);
    while (rings->ended < rings->threads)
        (void)pthread_cond_wait(&rings->moved, &rings->lock);
    (void)pthread_mutex_unlock(&rings->lock);
}

static void *ring_main(void *arg)
{
    struct gm_ring *ring = arg;
    char why[GM_WHY_BYTES] = "", name[16];
    (void)snprintf(name, sizeof name, "ring-%u", ring->index);
    (void)pthread_setname_np(pthread_self(), name);
    pin_self(ring); /* before the first touch of the ring's memory */
    int r = gm_core_open(ring, why);
    if (meet_at_gate(ring, GATE_OPENED, r, why)) {
        r = gm_core_begin(ring, why);
        if (meet_at_gate(ring, GATE_READY, r, why)) {
            while (gm_core_turn(ring))
                continue;
        }
    }
    gm_core_enter(ring);
    if (ring->initialised && ring->rings->ops.fini != NULL)
        ring->rings->ops.fini(ring, ring->rings->ops.arg);
    meet_at_end(ring->rings);
    gm_core_end(ring);
    return NULL;
}

/* Starts the threads; on failure those that run are told to end. *opened: the failure came after
 * every back-end had been opened. */
static int start_threads(struct gm_rings *rings, bool *opened)
{
    uint32_t running = 0;
    int r = 0;
    (void)pthread_mutex_lock(&rings->lock); /* nobody counts the others before all are there */
    while (running < rings->count && r == 0) {
        r = -pthread_create(&rings->ring[running]->thread, NULL, ring_main, rings->ring[running]);
        if (r == 0)
            running++;
    }
    rings->threads = running;
    if (r < 0 && rings->failed++ == 0) {
        rings->first_error = r;
        (void)snprintf(rings->why, sizeof rings->why, "cannot start a thread: %s",
                       gm_error_text(r));
    }
    (void)pthread_mutex_unlock(&rings->lock);
    *opened = open_gate(rings, GATE_OPENED);
    if (*opened && open_gate(rings, GATE_READY))
        return 0;
    for (uint32_t i = 0; i < running; i++)
        (void)pthread_join(rings->ring[i]->thread, NULL);
    return rings->first_error;
}

/* Simulation: everything on the caller's thread. */
static int begin_all(struct gm_rings *rings)
{
    int r = 0;
    uint32_t begun = 0;
    for (; begun < rings->count && r == 0; begun++) {
        r = gm_core_open(rings->ring[begun], rings->why);
        if (r == 0)
            r = gm_core_begin(rings->ring[begun], rings->why);
    }
    gm_core_leave();
    return r;
}

static void end_all(struct gm_rings *rings)
{
    for (uint32_t i = 0; i < rings->count; i++) {
        struct gm_ring *ring = rings->ring[i];
        gm_core_enter(ring);
        if (ring->initialised && rings->ops.fini != NULL)
            rings->ops.fini(ring, rings->ops.arg);
    }
    for (uint32_t i = 0; i < rings->count; i++)
        gm_core_end(rings->ring[i]);
}

/* One attempt on the back-end that `config` names or choose_backend finds. */
static int start_once(const struct gm_rings_config *config, const struct gm_rings_ops *ops,
                      struct gm_rings **out, char *why)
{
    int r;
    bool opened = false, uring = false;
    struct gm_rings *rings = rings_new(config, ops, why, &r);
    *out = rings;
    if (rings == NULL)
        return r;
    bool threads = rings->config.io != GM_IO_SIM;
    r = threads ? start_threads(rings, &opened) : begin_all(rings);
    if (r == 0) {
        why[0] = '\0';
        return 0;
    }
    memcpy(why, rings->why, GM_WHY_BYTES);
    if (!threads)
        end_all(rings);
    uring = rings->backend == &gm_backend_uring;
    *out = NULL;
    rings_free(rings);
    return uring && !opened && config->io == GM_IO_AUTO ? -EAGAIN : r;
}

int gm_rings_start(const struct gm_rings_config *config, const struct gm_rings_ops *ops,
                   struct gm_rings **out, char *why)
{
    int r = start_once(config, ops, out, why);
    if (r != -EAGAIN || config->io != GM_IO_AUTO)
        return r;
    /* The probe's small ring could be set up, all of ours could not (lockable memory, most likely):
     * what `auto` promises is a start. */
    char reason[GM_WHY_BYTES];
    memcpy(reason, why, sizeof reason);
    struct gm_rings_config fallback = *config;
    fallback.io = GM_IO_EPOLL;
    r = start_once(&fallback, ops, out, why);
    if (r == 0)
        (void)snprintf((*out)->describe, sizeof(*out)->describe, EPOLL_BECAUSE "%.400s", reason);
    return r;
}

void gm_rings_stop(struct gm_rings *rings)
{
    if (atomic_exchange_explicit(&rings->stop_asked, 1u, memory_order_acq_rel) != 0)
        return;
    for (uint32_t i = 0; i < rings->count; i++)
        gm_rings_mail(rings, i, &rings->ring[i]->stop_mail);
}

void gm_rings_join(struct gm_rings *rings)
{
    if (rings->config.io == GM_IO_SIM)
        end_all(rings);
    else
        for (uint32_t i = 0; i < rings->count; i++)
            (void)pthread_join(rings->ring[i]->thread, NULL);
    rings_free(rings);
}
