/* Tries every optional feature of io_uring once, by its behaviour, on a throw-away ring; words for
 * what stands in the way.
 *
 * Start-up code on one thread. Every test leaves nothing behind in the ring that the next one could
 * take for its own: completions carry the test's mark, buffers a group of their own. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "ring/uring_abi.h"

#define PROBE_ENTRIES      64u
#define PROBE_CQES_PER_SQE 8u
#define PROBE_WHY_BYTES    512u
#define PROBE_BUFS         4u
#define PROBE_BUF_BYTES    4096u
/* No probe waits for anything that is not there already; this bounds a kernel that behaves in ways
 * we have not seen. */
#define PROBE_WAIT_NS 200000000

static const char *const names[GM_URING_FEATURE_COUNT] = {
#define FEATURE_NAME(constant, name) name,
    GM_URING_FEATURES(FEATURE_NAME)
#undef FEATURE_NAME
};

const char *gm_uring_feature_name(enum gm_uring_feature feature)
{
    GM_ASSERT((unsigned)feature < GM_URING_FEATURE_COUNT);
    return names[feature];
}

/* ---- Setting up ---- */

static int try_setup(struct io_uring *uring, unsigned entries, unsigned flags)
{
    struct io_uring_params params = {.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
                                     .cq_entries = entries * PROBE_CQES_PER_SQE};
    return io_uring_queue_init_params(entries, uring, &params);
}

int gm_uring_ring_init(struct io_uring *uring, unsigned entries,
                       const struct gm_uring_features *features)
{
    int r = -EINVAL;
    if (gm_uring_has(features, GM_URING_DEFER_TASKRUN))
        r = try_setup(uring, entries,
                      IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
                          IORING_SETUP_DEFER_TASKRUN);
    if (r == -EINVAL && gm_uring_has(features, GM_URING_COOP_TASKRUN))
        r = try_setup(uring, entries, IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN);
    if (r == -EINVAL)
        r = try_setup(uring, entries, IORING_SETUP_SUBMIT_ALL);
    if (r < 0)
        return r;
    if (gm_uring_has(features, GM_URING_REGISTERED_RING))
        (void)io_uring_register_ring_fd(uring); /* else each call looks the ring up */
    return 0;
}

/* ---- Words ---- */

static long read_number(const char *path, const char *key)
{
    char line[256];
    FILE *file = fopen(path, "re");
    long value = -1;
    if (file == NULL)
        return -1;
    while (value < 0 && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0)
            value = strtol(line + strlen(key), NULL, 10);
    }
    (void)fclose(file);
    return value;
}

void gm_uring_explain(int error, char *why, size_t cap)
{
    long disabled = read_number("/proc/sys/kernel/io_uring_disabled", "");
    long seccomp = read_number("/proc/self/status", "Seccomp:");
    struct utsname system;
    const char *release = uname(&system) == 0 ? system.release : "?";
    if (error == -EPERM && disabled > 0) {
        (void)snprintf(why, cap,
                       "sysctl kernel.io_uring_disabled is %ld: set it to 0 (sysctl -w "
                       "kernel.io_uring_disabled=0)%s, or run with --io epoll",
                       disabled,
                       disabled == 1 ? ", or put our group into kernel.io_uring_group" : "");
    } else if ((error == -EPERM || error == -ENOSYS || error == -EACCES) && seccomp > 0) {
        (void)snprintf(why, cap,
                       "a seccomp profile forbids io_uring (%s): allow io_uring_setup, "
                       "io_uring_enter and io_uring_register (Docker: --security-opt "
                       "seccomp=PROFILE; Kubernetes: seccompProfile type Localhost; systemd: "
                       "SystemCallFilter=@aio), or run with --io epoll",
                       strerrorname_np(-error));
    } else if (error == -ENOSYS || error == -EINVAL || error == -EOPNOTSUPP) {
        (void)snprintf(why, cap,
                       "the kernel is too old or built without io_uring (%s; 6.1 or later is "
                       "needed, this is %s): run with --io epoll",
                       strerrorname_np(-error), release);
    } else if (error == -ENOMEM) {
        (void)snprintf(why, cap,
                       "not enough lockable memory for io_uring (ENOMEM): raise RLIMIT_MEMLOCK "
                       "(ulimit -l, systemd LimitMEMLOCK=) or the cgroup's "
                       "memory limit, or run with --io epoll");
    } else if (error == -EMFILE || error == -ENFILE) {
        (void)snprintf(why, cap,
                       "no descriptor left for io_uring (%s): raise RLIMIT_NOFILE (ulimit -n)",
                       strerrorname_np(-error));
    } else {
        (void)snprintf(why, cap,
                       "io_uring cannot be set up: %s (kernel %s, no sysctl or seccomp profile "
                       "seen): run with --io epoll",
                       strerrorname_np(-error) != NULL ? strerrorname_np(-error) : "?", release);
    }
}

static void append(char *out, size_t cap, const char *title, uint32_t set)
{
    size_t len = strlen(out);
    const char *separator = title;
    for (unsigned i = 0; i < GM_URING_FEATURE_COUNT; i++) {
        if ((set >> i & 1u) == 0)
            continue;
        int n = snprintf(out + len, cap - len, "%s%s", separator, names[i]);
        if (n < 0 || (size_t)n >= cap - len)
            return;
        len += (size_t)n;
        separator = ", ";
    }
}

void gm_uring_describe(const struct gm_uring_features *features, char *out, size_t cap)
{
    (void)snprintf(out, cap, "io_uring");
    append(out, cap, " with ", features->found & ~features->off);
    append(out, cap, "; not in this kernel: ",
           ~(features->found | features->off) & ((1u << GM_URING_FEATURE_COUNT) - 1u));
    append(out, cap, "; switched off: ", features->off);
}

/* ---- Which are switched off ---- */

static int find_name(const char *name, size_t len)
{
    for (int i = 0; i < (int)GM_URING_FEATURE_COUNT; i++) {
        if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0)
            return i;
    }
    return -1;
}

static int parse_off(const char *off, uint32_t *set, char *why)
{
    *set = 0;
    while (off != NULL && *off != '\0') {
        size_t len = strcspn(off, ",");
        int feature = find_name(off, len);
        if (len == 3 && memcmp(off, "all", 3) == 0) {
            *set = (1u << GM_URING_FEATURE_COUNT) - 1u;
        } else if (feature >= 0) {
            *set |= 1u << feature;
        } else if (len > 0) {
            int n = snprintf(why, PROBE_WHY_BYTES,
                             "--io-disable: there is no io_uring feature \"%.*s\"; these are: all",
                             (int)(len < 64 ? len : 64), off);
            if (n > 0)
                append(why, PROBE_WHY_BYTES, ", ", (1u << GM_URING_FEATURE_COUNT) - 1u);
            return -GM_E_CONFIG;
        }
        off += len + (off[len] == ',');
    }
    return 0;
}

/* ---- One completion at a time ---- */

struct probe {
    struct io_uring uring;
    uint64_t mark; /* user_data of the test under way */
    int pair[2], other[2];
    struct io_uring_buf_ring *ring;
    uint8_t *bufs;
    uint16_t group;
    bool opened;
};

struct probe_cqe {
    int32_t res;
    uint32_t flags;
    uint32_t which; /* low bits of user_data: which of the test's requests */
};

/* The next completion of this test; false when none comes. */
static bool next_cqe(struct probe *p, struct probe_cqe *out)
{
    for (;;) {
        struct __kernel_timespec wait = {.tv_nsec = PROBE_WAIT_NS};
        struct io_uring_cqe *cqe = NULL;
        int r = io_uring_submit_and_wait_timeout(&p->uring, &cqe, 1, &wait, NULL);
        if (cqe == NULL) {
            if (r == -EINTR)
                continue;
            return false;
        }
        uint64_t mark = cqe->user_data & ~(uint64_t)15u;
        *out = (struct probe_cqe){cqe->res, cqe->flags, (uint32_t)(cqe->user_data & 15u)};
        io_uring_cqe_seen(&p->uring, cqe);
        if (mark == p->mark)
            return true;
    }
}

static struct io_uring_sqe *next_sqe(struct probe *p, uint32_t which)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&p->uring);
    GM_ASSERT(sqe != NULL); /* a test queues a handful of 64 */
    memset(sqe, 0, sizeof *sqe);
    sqe->user_data = p->mark | which;
    return sqe;
}

static void tag(struct probe *p, struct io_uring_sqe *sqe, uint32_t which)
{
    sqe->user_data = p->mark | which;
}

/* A fresh group of buffers (the old one is given up with its memory at the end). */
static bool use_buffers(struct probe *p, bool inc)
{
    p->group++;
    memset(p->ring, 0, PROBE_BUF_BYTES);
    io_uring_buf_ring_init(p->ring);
    if (gm_abi_register_buffers(&p->uring, p->ring, PROBE_BUFS, p->group, inc) < 0)
        return false;
    int mask = io_uring_buf_ring_mask(PROBE_BUFS);
    for (int i = 0; i < (int)PROBE_BUFS; i++)
        io_uring_buf_ring_add(p->ring, p->bufs + (size_t)i * PROBE_BUF_BYTES, PROBE_BUF_BYTES,
                              (unsigned short)i, mask, i);
    io_uring_buf_ring_advance(p->ring, (int)PROBE_BUFS);
    return true;
}

static void drop_buffers(struct probe *p)
{
    (void)io_uring_unregister_buf_ring(&p->uring, p->group);
}

static void queue_recv(struct probe *p, int fd, uint32_t which, bool multishot, uint32_t len)
{
    struct io_uring_sqe *sqe = next_sqe(p, which);
    if (multishot)
        io_uring_prep_recv_multishot(sqe, fd, NULL, len, 0);
    else
        io_uring_prep_recv(sqe, fd, NULL, len, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = p->group;
    tag(p, sqe, which);
}

/* Ends whatever waits on the descriptor and eats its completions. */
static void cancel_fd(struct probe *p, int fd)
{
    struct probe_cqe cqe;
    struct io_uring_sqe *sqe = next_sqe(p, 0);
    io_uring_prep_cancel_fd(sqe, fd, IORING_ASYNC_CANCEL_ALL);
    tag(p, sqe, 15);
    while (next_cqe(p, &cqe) && cqe.which != 15)
        continue;
    p->mark += 16;
}

static bool put_bytes(int fd, size_t len)
{
    static const char bytes[4096];
    return send(fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len;
}

static void eat_bytes(int fd)
{
    char bytes[4096];
    while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        continue;
}

/* ---- The tests ---- */

/* What there is no other way for: buffer rings and cancelling by descriptor, both 5.19. */
static bool test_required(struct probe *p)
{
    struct probe_cqe cqe;
    if (!use_buffers(p, false))
        return false;
    queue_recv(p, p->pair[0], 1, false, 100);
    bool ok = put_bytes(p->pair[1], 200) && next_cqe(p, &cqe) && cqe.res == 100 &&
              (cqe.flags & IORING_CQE_F_BUFFER) != 0;
    eat_bytes(p->pair[0]);
    queue_recv(p, p->pair[0], 2, false, 100);
    struct io_uring_sqe *sqe = next_sqe(p, 3);
    io_uring_prep_cancel_fd(sqe, p->pair[0], IORING_ASYNC_CANCEL_ALL);
    tag(p, sqe, 3);
    for (unsigned i = 0; ok && i < 2; i++)
        ok = next_cqe(p, &cqe) && (cqe.which == 2 ? cqe.res == -ECANCELED : cqe.res == 1);
    drop_buffers(p);
    return ok;
}

static bool test_multishot_recv(struct probe *p)
{
    struct probe_cqe cqe;
    if (!use_buffers(p, false))
        return false;
    queue_recv(p, p->pair[0], 1, true, 0);
    bool ok = true;
    for (unsigned i = 0; ok && i < 2; i++)
        ok = put_bytes(p->pair[1], 10) && next_cqe(p, &cqe) && cqe.res == 10 &&
             (cqe.flags & IORING_CQE_F_MORE) != 0;
    cancel_fd(p, p->pair[0]);
    eat_bytes(p->pair[0]);
    drop_buffers(p);
    return ok;
}

/* 3000 bytes come, 1000 at most are taken at a time, and the request ends by itself with the
 * receive that makes 1001 of them: together never more than 2000 (Linux 6.18 takes the last receive
 * whole, an exact kernel might cut it). */
static bool test_recv_limit(struct probe *p)
{
    struct probe_cqe cqe;
    if (!use_buffers(p, false))
        return false;
    queue_recv(p, p->pair[0], 1, true, 1000);
    struct io_uring_sqe *last =
        &p->uring.sq.sqes[(p->uring.sq.sqe_tail - 1u) & *p->uring.sq.kring_mask];
    gm_abi_set_optlen(last, 1001);
    bool ok = put_bytes(p->pair[1], 3000) && next_cqe(p, &cqe) && cqe.res == 1000 &&
              (cqe.flags & IORING_CQE_F_MORE) != 0;
    ok = ok && next_cqe(p, &cqe) && cqe.res > 0 && cqe.res <= 1000 &&
         (cqe.flags & IORING_CQE_F_MORE) == 0;
    cancel_fd(p, p->pair[0]);
    eat_bytes(p->pair[0]);
    drop_buffers(p);
    return ok;
}

/* Pieces of one buffer are told apart only by the order of completions; so, besides filling, the
 * order must hold between one-shot requests (whose completions a kernel may hold back) and
 * multishot ones. */
static bool test_inc_order(struct probe *p, bool armed_first, bool multishot)
{
    struct probe_cqe first, second;
    bool ok = true;
    if (!armed_first)
        ok = put_bytes(p->pair[1], 100) && put_bytes(p->other[1], 300);
    queue_recv(p, p->pair[0], 1, false, 2000);
    queue_recv(p, p->other[0], 2, multishot, multishot ? 0 : 2000);
    if (armed_first)
        ok = io_uring_submit(&p->uring) == 2 && put_bytes(p->pair[1], 100) &&
             put_bytes(p->other[1], 300);
    ok = ok && next_cqe(p, &first) && next_cqe(p, &second);
    ok = ok && first.which == 1 && first.res == 100 && second.which == 2 && second.res == 300;
    ok = ok && first.flags >> 16 == second.flags >> 16;
    cancel_fd(p, p->other[0]);
    cancel_fd(p, p->pair[0]);
    return ok;
}

static bool test_inc_buffers(struct probe *p, bool multishot)
{
    struct probe_cqe cqe;
    if (!use_buffers(p, true))
        return false;
    bool ok = true;
    for (unsigned i = 0; ok && i < 2; i++) {
        queue_recv(p, p->pair[0], 1, false, 1000);
        ok = put_bytes(p->pair[1], 1000) && next_cqe(p, &cqe) && cqe.res == 1000 &&
             (cqe.flags & GM_ABI_CQE_F_BUF_MORE) != 0;
    }
    ok = ok && test_inc_order(p, false, multishot) && test_inc_order(p, true, multishot);
    eat_bytes(p->pair[0]);
    eat_bytes(p->other[0]);
    drop_buffers(p);
    return ok;
}

static int listen_somewhere(struct sockaddr_storage *addr, socklen_t *len)
{
    /* An abstract name chosen by the kernel: no port, no file. */
    struct sockaddr name = {.sa_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    *len = sizeof *addr;
    if (bind(fd, &name, sizeof name.sa_family) == 0 && listen(fd, 4) == 0 &&
        getsockname(fd, (struct sockaddr *)addr, len) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static bool test_multishot_accept(struct probe *p)
{
    struct sockaddr_storage addr;
    socklen_t len;
    struct probe_cqe cqe;
    int listener = listen_somewhere(&addr, &len);
    if (listener < 0)
        return false;
    struct io_uring_sqe *sqe = next_sqe(p, 1);
    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    tag(p, sqe, 1);
    bool ok = io_uring_submit(&p->uring) == 1;
    for (unsigned i = 0; ok && i < 2; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ok = fd >= 0 && connect(fd, (struct sockaddr *)&addr, len) == 0 && next_cqe(p, &cqe) &&
             (cqe.flags & IORING_CQE_F_MORE) != 0;
        if (ok && cqe.res > 2)
            (void)close(cqe.res);
        else
            ok = false;
        if (fd >= 0)
            (void)close(fd);
    }
    cancel_fd(p, listener);
    (void)close(listener);
    return ok;
}

static bool test_multishot_poll(struct probe *p)
{
    struct probe_cqe cqe;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return false;
    struct io_uring_sqe *sqe = next_sqe(p, 1);
    io_uring_prep_poll_multishot(sqe, fd, POLLIN);
    tag(p, sqe, 1);
    bool ok = io_uring_submit(&p->uring) == 1;
    for (unsigned i = 0; ok && i < 2; i++)
        ok = eventfd_write(fd, 1) == 0 && next_cqe(p, &cqe) && cqe.res > 0 &&
             (cqe.flags & IORING_CQE_F_MORE) != 0;
    cancel_fd(p, fd);
    (void)close(fd);
    return ok;
}

/* To another ring, set up as ours are: older kernels refuse targets with deferred task work. */
static bool test_msg_ring(struct probe *p, const struct gm_uring_features *features)
{
    struct io_uring target;
    struct probe_cqe cqe;
    if (gm_uring_ring_init(&target, 8, features) < 0)
        return false;
    struct io_uring_sqe *sqe = next_sqe(p, 1);
    io_uring_prep_msg_ring(sqe, target.ring_fd, 0, 77, 0);
    tag(p, sqe, 1);
    bool ok = next_cqe(p, &cqe) && cqe.res == 0;
    struct io_uring_cqe *got = NULL;
    struct __kernel_timespec wait = {.tv_nsec = PROBE_WAIT_NS};
    (void)io_uring_submit_and_wait_timeout(&target, &got, 1, &wait, NULL);
    ok = ok && got != NULL && got->user_data == 77;
    io_uring_queue_exit(&target);
    return ok;
}

static void set(struct gm_uring_features *features, enum gm_uring_feature feature, bool found)
{
    if (found)
        features->found |= 1u << feature;
    else
        features->found &= ~(1u << feature);
}

static void test_all(struct probe *p, struct gm_uring_features *out)
{
    set(out, GM_URING_CQE_SKIP, (p->uring.features & IORING_FEAT_CQE_SKIP) != 0);
    set(out, GM_URING_MULTISHOT_RECV, test_multishot_recv(p));
    p->mark += 16;
    set(out, GM_URING_RECV_LIMIT, gm_uring_has(out, GM_URING_MULTISHOT_RECV) && test_recv_limit(p));
    p->mark += 16;
    set(out, GM_URING_INC_BUFFERS, test_inc_buffers(p, gm_uring_has(out, GM_URING_MULTISHOT_RECV)));
    p->mark += 16;
    set(out, GM_URING_MULTISHOT_ACCEPT, test_multishot_accept(p));
    p->mark += 16;
    set(out, GM_URING_MULTISHOT_POLL, test_multishot_poll(p));
    p->mark += 16;
    set(out, GM_URING_MSG_RING, test_msg_ring(p, out));
}

/* Which set-up flags the kernel takes. */
static int test_setup(struct gm_uring_features *out)
{
    static const struct {
        enum gm_uring_feature feature;
        unsigned flags;
    } rows[] = {
        {GM_URING_DEFER_TASKRUN,
         IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN},
        {GM_URING_COOP_TASKRUN, IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN},
    };
    struct io_uring uring;
    int r = try_setup(&uring, PROBE_ENTRIES, IORING_SETUP_SUBMIT_ALL);
    if (r < 0)
        return r;
    set(out, GM_URING_REGISTERED_RING, io_uring_register_ring_fd(&uring) == 1);
    io_uring_queue_exit(&uring);
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        r = try_setup(&uring, PROBE_ENTRIES, rows[i].flags);
        set(out, rows[i].feature, r == 0);
        if (r == 0)
            io_uring_queue_exit(&uring);
    }
    return 0;
}

static int open_probe(struct probe *p, const struct gm_uring_features *features)
{
    *p = (struct probe){.mark = 1024, .pair = {-1, -1}, .other = {-1, -1}};
    int r = gm_uring_ring_init(&p->uring, PROBE_ENTRIES, features);
    if (r < 0)
        return r;
    p->opened = true;
    void *memory = mmap(NULL, (PROBE_BUFS + 1u) * (size_t)PROBE_BUF_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        r = -errno;
    else
        p->ring = memory;
    p->bufs = (uint8_t *)memory + PROBE_BUF_BYTES;
    if (r == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->pair) != 0)
        r = -errno;
    if (r == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->other) != 0)
        r = -errno;
    return r;
}

static void close_probe(struct probe *p)
{
    if (p->opened)
        io_uring_queue_exit(&p->uring);
    if (p->ring != NULL)
        (void)munmap(p->ring, (PROBE_BUFS + 1u) * (size_t)PROBE_BUF_BYTES);
    int fds[] = {p->pair[0], p->pair[1], p->other[0], p->other[1]};
    for (unsigned i = 0; i < 4; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
}

int gm_uring_probe(const char *off, struct gm_uring_features *out, char *why)
{
    struct probe probe;
    *out = (struct gm_uring_features){0};
    int r = parse_off(off, &out->off, why);
    if (r < 0)
        return r;
    r = test_setup(out);
    if (r < 0) {
        gm_uring_explain(r, why, PROBE_WHY_BYTES);
        return r;
    }
    r = open_probe(&probe, out);
    if (r == 0) {
        uint32_t needed = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_EXT_ARG;
        if ((probe.uring.features & needed) != needed || !test_required(&probe))
            r = -EOPNOTSUPP;
        else
            test_all(&probe, out);
    }
    if (r < 0)
        gm_uring_explain(r, why, PROBE_WHY_BYTES);
    close_probe(&probe);
    return r;
}
