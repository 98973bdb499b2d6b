/* The control thread: a mailbox, c-ares and a poll. Owner of everything here: the thread itself,
 * except `stopping`.
 *
 * Invariants: a job is answered at most once, by mail to the ring that asked; after the thread has
 * ended nobody is mailed. */
#include "control/control.h"

#include <ares.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/counter.h"
#include "base/file.h"
#include "control/watch.h"
#include "ring/mailbox.h"

#define RESOLV_CONF "/etc/resolv.conf"
/* Per server and try, two tries: a dial has five seconds in all. */
#define QUERY_TIMEOUT_MS 1500
#define QUERY_TRIES      2

struct gm_control {
    struct gm_rings *rings; /* set before the thread runs, which alone looks at it */
    struct gm_mailbox box;
    pthread_t thread;
    bool started; /* the thread; the starter's */
    int wake_fd;
    ares_channel channel;
    bool channel_open;
    struct timespec resolv_changed; /* of the resolv.conf that `channel` has read */
    uint32_t queries;               /* under way in the channel */
    struct gm_watch *watches;
    uint64_t look_ms; /* when they are looked at next */
    /* 1 once the thread is to end. Writer: gm_control_stop (release); readers: the thread and
     * askers (acquire). Publishes nothing but itself. */
    _Atomic uint32_t stopping;
};

static bool is_stopping(struct gm_control *control)
{
    return atomic_load_explicit(&control->stopping, memory_order_acquire) != 0;
}

static void wake(struct gm_control *control)
{
    uint64_t one = 1;
    ssize_t n = write(control->wake_fd, &one, sizeof one);
    (void)n; /* full means that it is awake already */
}

static void submit(struct gm_control *control, struct gm_mail *mail)
{
    if (is_stopping(control))
        return;
    atomic_store_explicit(&mail->next, NULL, memory_order_relaxed);
    gm_mailbox_publish(&control->box, mail, mail);
    if (gm_mailbox_must_wake(&control->box))
        wake(control);
}

/* ---- Jobs ---- */

static void job_work(struct gm_mail *mail)
{
    struct gm_control_job *job = GM_CONTAINER_OF(mail, struct gm_control_job, mail);
    job->work(job);
}

void gm_control_submit(struct gm_control *control, struct gm_control_job *job)
{
    job->mail.deliver = job_work;
    submit(control, &job->mail);
}

/* ---- Files ---- */

static void file_deliver(struct gm_mail *mail)
{
    struct gm_control_file *file = GM_CONTAINER_OF(mail, struct gm_control_file, mail);
    file->on_done(file);
}

static int file_read(struct gm_control_file *file)
{
    int fd = open(file->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = gm_file_read(fd, file->text, sizeof file->text);
    (void)close(fd);
    if (n < 0)
        return (int)n;
    file->len = (uint32_t)n;
    /* A full room may be a part of the file. */
    return file->len == sizeof file->text ? -GM_E_LIMIT : 0;
}

static void file_work(struct gm_mail *mail)
{
    struct gm_control_file *file = GM_CONTAINER_OF(mail, struct gm_control_file, mail);
    file->error = file_read(file);
    mail->deliver = file_deliver;
    gm_rings_mail(file->control->rings, file->ring, mail);
}

void gm_control_read_file(struct gm_control *control, struct gm_ring *from,
                          struct gm_control_file *file)
{
    file->control = control;
    file->ring = gm_ring_index(from);
    file->error = 0;
    file->len = 0;
    file->mail.deliver = file_work;
    submit(control, &file->mail);
}

/* ---- Names ---- */

static void lookup_deliver(struct gm_mail *mail)
{
    struct gm_control_lookup *lookup = GM_CONTAINER_OF(mail, struct gm_control_lookup, mail);
    lookup->on_done(lookup);
}

static void lookup_answer(struct gm_control_lookup *lookup)
{
    lookup->mail.deliver = lookup_deliver;
    gm_rings_mail(lookup->control->rings, lookup->ring, &lookup->mail);
}

static void lookup_fail(struct gm_control_lookup *lookup, int error, const char *text)
{
    lookup->error = error;
    lookup->error_text = text;
    lookup->count = 0;
    lookup_answer(lookup);
}

static void take_address(struct gm_control_lookup *lookup, const struct ares_addrinfo_node *node)
{
    union gm_addr *addr = &lookup->addrs[lookup->count];
    if (lookup->count == GM_CONTROL_ADDRS_MAX || node->ai_addrlen > sizeof *addr)
        return;
    memset(addr, 0, sizeof *addr);
    memcpy(addr, node->ai_addr, node->ai_addrlen);
    if (addr->base.sa_family == AF_INET)
        addr->in.sin_port = htons(lookup->port);
    else if (addr->base.sa_family == AF_INET6)
        addr->in6.sin6_port = htons(lookup->port);
    else
        return;
    lookup->count++;
}

static void lookup_done(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
    struct gm_control_lookup *lookup = arg;
    struct gm_control *control = lookup->control;
    (void)timeouts;
    control->queries--;
    if (status == ARES_EDESTRUCTION || status == ARES_ECANCELLED || is_stopping(control)) {
        if (info != NULL)
            ares_freeaddrinfo(info);
        return;
    }
    if (status != ARES_SUCCESS) {
        lookup_fail(lookup, -GM_E_NOT_FOUND, ares_strerror(status));
        return;
    }
    for (const struct ares_addrinfo_node *node = info->nodes; node != NULL; node = node->ai_next)
        take_address(lookup, node);
    ares_freeaddrinfo(info);
    if (lookup->count == 0)
        lookup_fail(lookup, -GM_E_NOT_FOUND, "the name has no address");
    else
        lookup_answer(lookup);
}

/* A channel reads resolv.conf once; when the file has changed (another network, a restarted
 * container) the next quiet moment makes a new one. */
static bool channel_ready(struct gm_control *control)
{
    struct stat now = {0};
    (void)stat(RESOLV_CONF, &now);
    bool changed = now.st_mtim.tv_sec != control->resolv_changed.tv_sec ||
                   now.st_mtim.tv_nsec != control->resolv_changed.tv_nsec;
    if (control->channel_open && (!changed || control->queries > 0))
        return true;
    if (control->channel_open)
        ares_destroy(control->channel);
    struct ares_options options = {.timeout = QUERY_TIMEOUT_MS, .tries = QUERY_TRIES};
    control->channel_open = ares_init_options(&control->channel, &options,
                                              ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES) == ARES_SUCCESS;
    control->resolv_changed = now.st_mtim;
    return control->channel_open;
}

static void lookup_work(struct gm_mail *mail)
{
    struct gm_control_lookup *lookup = GM_CONTAINER_OF(mail, struct gm_control_lookup, mail);
    struct gm_control *control = lookup->control;
    if (!channel_ready(control)) {
        lookup_fail(lookup, -GM_E_NOMEM, "the resolver could not be started");
        return;
    }
    struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    control->queries++;
    ares_getaddrinfo(control->channel, lookup->host, NULL, &hints, lookup_done, lookup);
}

void gm_control_resolve(struct gm_control *control, struct gm_ring *from,
                        struct gm_control_lookup *lookup)
{
    lookup->control = control;
    lookup->ring = gm_ring_index(from);
    lookup->error = 0;
    lookup->error_text = NULL;
    lookup->count = 0;
    lookup->mail.deliver = lookup_work;
    submit(control, &lookup->mail);
}

/* ---- Watches ---- */

static uint64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static void watch_work(struct gm_mail *mail)
{
    struct gm_watch *watch = GM_CONTAINER_OF(mail, struct gm_watch, mail);
    struct gm_control *control = watch->control;
    watch->next = control->watches;
    control->watches = watch;
}

void gm_control_watch(struct gm_control *control, struct gm_watch *watch)
{
    watch->control = control;
    watch->mail.deliver = watch_work;
    submit(control, &watch->mail);
}

static void look_around(struct gm_control *control)
{
    uint64_t now = now_ms();
    if (control->watches == NULL || now < control->look_ms)
        return;
    control->look_ms = now + GM_WATCH_PERIOD_MS;
    for (struct gm_watch *watch = control->watches; watch != NULL; watch = watch->next)
        gm_watch_look(watch);
}

/* Until the next look; -1: nothing is watched. */
static int look_wait_ms(const struct gm_control *control)
{
    uint64_t now = now_ms();
    if (control->watches == NULL)
        return -1;
    return control->look_ms > now ? (int)(control->look_ms - now) : 0;
}

/* ---- The thread ---- */

/* Fills fds[1..] with what c-ares waits for; returns how many there are in all. */
static nfds_t poll_set(struct gm_control *control, struct pollfd fds[1 + ARES_GETSOCK_MAXNUM])
{
    nfds_t count = 1;
    fds[0] = (struct pollfd){.fd = control->wake_fd, .events = POLLIN};
    if (!control->channel_open)
        return count;
    ares_socket_t socks[ARES_GETSOCK_MAXNUM];
    /* Its own macros shift a one into the sign bit. */
    unsigned mask = (unsigned)ares_getsock(control->channel, socks, ARES_GETSOCK_MAXNUM);
    for (unsigned i = 0; i < ARES_GETSOCK_MAXNUM; i++) {
        short events = (short)(((mask >> i & 1u) != 0 ? POLLIN : 0) |
                               ((mask >> (i + ARES_GETSOCK_MAXNUM) & 1u) != 0 ? POLLOUT : 0));
        if (events != 0)
            fds[count++] = (struct pollfd){.fd = socks[i], .events = events};
    }
    return count;
}

static int wait_ms(struct gm_control *control)
{
    struct timeval left;
    int look = look_wait_ms(control);
    if (!control->channel_open || ares_timeout(control->channel, NULL, &left) == NULL)
        return look;
    int answer = (int)(left.tv_sec * 1000 + left.tv_usec / 1000 + 1);
    return look >= 0 && look < answer ? look : answer;
}

static void serve_channel(struct gm_control *control, const struct pollfd *fds, nfds_t count)
{
    const short bad = POLLERR | POLLHUP;
    for (nfds_t i = 1; i < count; i++) {
        bool readable = (fds[i].revents & (POLLIN | bad)) != 0,
             writable = (fds[i].revents & (POLLOUT | bad)) != 0;
        if (readable || writable)
            ares_process_fd(control->channel, readable ? fds[i].fd : ARES_SOCKET_BAD,
                            writable ? fds[i].fd : ARES_SOCKET_BAD);
    }
    if (control->channel_open)
        ares_process_fd(control->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD); /* timeouts */
}

static void turn(struct gm_control *control)
{
    struct gm_mail *mail;
    while ((mail = gm_mailbox_take(&control->box)) != NULL)
        mail->deliver(mail);
    look_around(control);
    struct pollfd fds[1 + ARES_GETSOCK_MAXNUM];
    nfds_t count = poll_set(control, fds);
    if (!gm_mailbox_sleep(&control->box))
        return;
    int ready = is_stopping(control) ? 0 : poll(fds, count, wait_ms(control));
    gm_mailbox_awake(&control->box);
    uint64_t wakes;
    if (ready > 0 && fds[0].revents != 0) {
        ssize_t n = read(control->wake_fd, &wakes, sizeof wakes);
        (void)n;
    }
    if (ready >= 0)
        serve_channel(control, fds, count);
}

static void *control_thread(void *arg)
{
    struct gm_control *control = arg;
    (void)pthread_setname_np(pthread_self(), "gimlet-control");
    gm_counter_attach(
        gm_counter_block_of(gm_rings_counters(control->rings), gm_rings_count(control->rings)));
    while (!is_stopping(control))
        turn(control);
    if (control->channel_open)
        ares_destroy(control->channel);
    control->channel_open = false;
    gm_counter_attach(NULL);
    return NULL;
}

int gm_control_new(struct gm_control **out)
{
    struct gm_control *control = calloc(1, sizeof *control);
    if (control == NULL)
        return -GM_E_NOMEM;
    int rc = -GM_E_NOMEM;
    if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
        goto fail_library;
    gm_mailbox_init(&control->box);
    control->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = control->wake_fd < 0 ? -errno : 0;
    if (rc < 0)
        goto fail_wake;
    *out = control;
    return 0;
fail_wake:
    ares_library_cleanup();
fail_library:
    free(control);
    return rc;
}

int gm_control_start(struct gm_control *control, struct gm_rings *rings)
{
    control->rings = rings;
    int rc = -pthread_create(&control->thread, NULL, control_thread, control);
    control->started = rc == 0;
    return rc;
}

void gm_control_stop(struct gm_control *control)
{
    if (control == NULL || is_stopping(control))
        return;
    atomic_store_explicit(&control->stopping, 1, memory_order_release);
    wake(control);
    if (control->started)
        (void)pthread_join(control->thread, NULL);
}

void gm_control_free(struct gm_control *control)
{
    if (control == NULL)
        return;
    gm_control_stop(control);
    (void)close(control->wake_fd);
    ares_library_cleanup();
    free(control);
}
