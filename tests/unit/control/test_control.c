/* The control thread beside a real ring: names and files asked for on the ring, answered there. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "control/control.h"

struct world {
    struct gm_rings *rings;
    struct gm_control *control;
    struct gm_control_lookup lookup;
    struct gm_control_file file;
    struct gm_control_job job;
    struct gm_mail mail;
    struct gm_ring *answered_on;
    pthread_t worked_on;
    _Atomic unsigned asked, done; /* release by the ring, acquire by the test */
};

static void lookup_done(struct gm_control_lookup *lookup)
{
    struct world *world = GM_CONTAINER_OF(lookup, struct world, lookup);
    cr_assert_eq(gm_ring_self, 0, "answered on the ring that asked");
    atomic_fetch_add_explicit(&world->done, 1, memory_order_release);
}

static void file_done(struct gm_control_file *file)
{
    struct world *world = GM_CONTAINER_OF(file, struct world, file);
    cr_assert_eq(gm_ring_self, 0);
    atomic_fetch_add_explicit(&world->done, 1, memory_order_release);
}

static void ask_lookup(struct gm_mail *mail)
{
    struct world *world = GM_CONTAINER_OF(mail, struct world, mail);
    world->lookup.on_done = lookup_done;
    gm_control_resolve(world->control, gm_rings_get(world->rings, 0), &world->lookup);
    atomic_fetch_add_explicit(&world->asked, 1, memory_order_release);
}

static void ask_file(struct gm_mail *mail)
{
    struct world *world = GM_CONTAINER_OF(mail, struct world, mail);
    world->file.on_done = file_done;
    gm_control_read_file(world->control, gm_rings_get(world->rings, 0), &world->file);
    atomic_fetch_add_explicit(&world->asked, 1, memory_order_release);
}

static void job_work(struct gm_control_job *job)
{
    struct world *world = GM_CONTAINER_OF(job, struct world, job);
    world->worked_on = pthread_self();
    atomic_fetch_add_explicit(&world->done, 1, memory_order_release);
}

/* The rings run, and the thread does not yet. */
static struct world *world_before(void)
{
    struct world *world = calloc(1, sizeof *world);
    struct gm_rings_config config = {
        .io = GM_IO_EPOLL, .count = 1, .memory_bytes = GM_RING_MEMORY_MIN, .socks_max = 64};
    char why[512];
    cr_assert_eq(gm_control_new(&world->control), 0);
    int rc = gm_rings_start(&config, NULL, &world->rings, why);
    cr_assert(rc == 0, "%s", why);
    return world;
}

static struct world *world_new(void)
{
    struct world *world = world_before();
    cr_assert_eq(gm_control_start(world->control, world->rings), 0);
    return world;
}

static void world_free(struct world *world)
{
    gm_control_stop(world->control);
    gm_rings_stop(world->rings);
    gm_rings_join(world->rings);
    gm_control_free(world->control);
    free(world);
}

static bool await(_Atomic unsigned *count, unsigned wanted)
{
    struct timespec pause = {.tv_nsec = 1000000};
    for (unsigned i = 0; i < 20000; i++) {
        if (atomic_load_explicit(count, memory_order_acquire) >= wanted)
            return true;
        (void)nanosleep(&pause, NULL);
    }
    return false;
}

static void ask(struct world *world, void (*deliver)(struct gm_mail *))
{
    unsigned before = atomic_load_explicit(&world->done, memory_order_acquire);
    world->mail.deliver = deliver;
    gm_rings_mail(world->rings, 0, &world->mail);
    cr_assert(await(&world->done, before + 1), "it is answered");
}

Test(control, a_name_has_addresses)
{
    struct world *world = world_new();
    (void)snprintf(world->lookup.host, sizeof world->lookup.host, "localhost");
    world->lookup.port = 8080;
    for (unsigned round = 0; round < 3; round++) {
        ask(world, ask_lookup);
        cr_assert(world->lookup.error == 0 && world->lookup.count > 0, "%s",
                  world->lookup.error_text == NULL ? "" : world->lookup.error_text);
        char text[80];
        gm_addr_text(&world->lookup.addrs[0], text, sizeof text);
        cr_assert(strcmp(text, "127.0.0.1:8080") == 0 || strcmp(text, "[::1]:8080") == 0, "%s",
                  text);
    }
    world_free(world);
}

Test(control, a_name_that_does_not_exist_fails_with_words, .timeout = 60)
{
    struct world *world = world_new();
    (void)snprintf(world->lookup.host, sizeof world->lookup.host, "no-such-host.invalid");
    ask(world, ask_lookup);
    cr_assert(world->lookup.error < 0 && world->lookup.error_text != NULL &&
              world->lookup.count == 0);
    world_free(world);
}

static void put_file(const char *path, size_t len)
{
    FILE *file = fopen(path, "w");
    cr_assert(file != NULL);
    for (size_t i = 0; i < len; i++)
        (void)fputc('a' + (int)(i % 26), file);
    (void)fclose(file);
}

Test(control, a_file_is_read_whole_and_anew)
{
    struct world *world = world_new();
    char path[] = "/tmp/gm-control-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    (void)close(fd);
    world->file.path = path;
    static const size_t lengths[] = {0, 1, 9000, GM_CONTROL_FILE_MAX - 1};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        put_file(path, lengths[i]);
        ask(world, ask_file);
        cr_assert(world->file.error == 0 && world->file.len == lengths[i]);
        cr_assert(lengths[i] == 0 ||
                  world->file.text[lengths[i] - 1] == 'a' + (int)((lengths[i] - 1) % 26));
    }
    put_file(path, GM_CONTROL_FILE_MAX + 1);
    ask(world, ask_file);
    cr_assert_eq(world->file.error, -GM_E_LIMIT);
    (void)unlink(path);
    ask(world, ask_file);
    cr_assert_eq(world->file.error, -ENOENT);
    world_free(world);
}

Test(control, a_job_is_done_on_the_thread)
{
    struct world *world = world_new();
    world->job.work = job_work;
    for (unsigned i = 1; i <= 3; i++) { /* once it has begun to work it may be given again */
        gm_control_submit(world->control, &world->job);
        cr_assert(await(&world->done, i));
        cr_assert_not(pthread_equal(world->worked_on, pthread_self()));
    }
    world_free(world);
}

/* Rings run before their starter can start the thread. */
Test(control, what_is_asked_before_the_thread_runs_is_answered_then)
{
    struct world *world = world_before();
    (void)snprintf(world->lookup.host, sizeof world->lookup.host, "127.0.0.1");
    world->mail.deliver = ask_lookup;
    gm_rings_mail(world->rings, 0, &world->mail);
    cr_assert(await(&world->asked, 1));
    cr_assert_eq(atomic_load_explicit(&world->done, memory_order_acquire), 0u);
    cr_assert_eq(gm_control_start(world->control, world->rings), 0);
    cr_assert(await(&world->done, 1));
    cr_assert_eq(world->lookup.error, 0);
    world_free(world);
}

Test(control, one_that_never_ran_ends_with_what_it_was_given)
{
    struct world *world = world_before();
    world->job.work = job_work;
    gm_control_submit(world->control, &world->job);
    world_free(world);
    gm_control_free(NULL);
}

Test(control, after_a_stop_nothing_is_answered)
{
    struct world *world = world_new();
    gm_control_stop(world->control);
    world->job.work = job_work;
    gm_control_submit(world->control, &world->job);
    (void)snprintf(world->lookup.host, sizeof world->lookup.host, "localhost");
    world->mail.deliver = ask_lookup;
    gm_rings_mail(world->rings, 0, &world->mail);
    cr_assert(await(&world->asked, 1));
    cr_assert_eq(atomic_load_explicit(&world->done, memory_order_acquire), 0u);
    world_free(world);
}

/* A query that waits for a name server when the thread ends leaves nothing behind. */
Test(control, a_stop_does_not_wait_for_answers)
{
    struct world *world = world_new();
    (void)snprintf(world->lookup.host, sizeof world->lookup.host, "slow.example");
    world->mail.deliver = ask_lookup;
    gm_rings_mail(world->rings, 0, &world->mail);
    cr_assert(await(&world->asked, 1));
    world_free(world);
}
