/* The set of rings: starting, what it says of itself, mail and its order, buffers that travel,
 * tasks, time, chance. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "ring/rings_cpu.h"

#define MEMORY (16u << 20)

/* ---- Start
 * -----------------------------------------------------------------------------------------------------------------------------------
 */

Test(rings, describes_itself)
{
    struct gm_rings *rings = start(&variants[0], 2, MEMORY);
    cr_assert_str_eq(gm_rings_backend(rings), "io_uring");
    cr_assert_eq(strncmp(gm_rings_describe(rings), "io_uring with ", 14), 0, "%s",
                 gm_rings_describe(rings));
    cr_assert_eq(gm_rings_count(rings), 2u);
    finish(rings);
    rings = start(&variants[1], 1, MEMORY);
    cr_assert(strstr(gm_rings_describe(rings), "switched off: defer-taskrun") != NULL, "%s",
              gm_rings_describe(rings));
    cr_assert(strstr(gm_rings_describe(rings), " with ") == NULL, "%s", gm_rings_describe(rings));
    finish(rings);
}

static int start_with(struct gm_rings_config config, const struct gm_rings_ops *ops, char *why)
{
    struct gm_rings *rings = NULL;
    int r = gm_rings_start(&config, ops, &rings, why);
    if (r == 0) {
        gm_rings_stop(rings);
        gm_rings_join(rings);
    }
    return r;
}

Test(rings, refuses_by_name)
{
    char why[GM_WHY_BYTES];
    cr_assert_eq(start_with((struct gm_rings_config){.memory_bytes = MEMORY,
                                                     .count = 1,
                                                     .features_off = "msg-ring,teleport"},
                            NULL, why),
                 -GM_E_CONFIG);
    cr_assert(strstr(why, "\"teleport\"") != NULL && strstr(why, "recv-limit") != NULL, "%s", why);
    cr_assert_eq(start_with((struct gm_rings_config){.memory_bytes = 1000, .count = 1}, NULL, why),
                 -GM_E_CONFIG);
    cr_assert(strstr(why, "memory") != NULL);
    cr_assert_eq(
        start_with((struct gm_rings_config){.memory_bytes = MEMORY, .count = 1000}, NULL, why),
        -GM_E_CONFIG);
    cr_assert(strstr(why, "256") != NULL);
}

static _Atomic uint32_t inits, finis;
static int init_second_fails(struct gm_ring *ring, void *arg)
{
    (void)arg;
    inits++;
    return gm_ring_index(ring) == 1 ? -ENOSPC : 0;
}
static void count_fini(struct gm_ring *ring, void *arg)
{
    (void)ring;
    (void)arg;
    finis++;
}
Test(rings, a_failing_init_stops_the_start)
{
    char why[GM_WHY_BYTES];
    struct gm_rings_ops ops = {.init = init_second_fails, .fini = count_fini};
    for (enum gm_io io = GM_IO_URING; io <= GM_IO_EPOLL; io++) {
        inits = finis = 0;
        cr_assert_eq(
            start_with((struct gm_rings_config){.io = io, .memory_bytes = MEMORY, .count = 3}, &ops,
                       why),
            -ENOSPC);
        cr_assert(strstr(why, "ring 1") != NULL, "%s", why);
        cr_assert_eq(inits, 3u);
        cr_assert_eq(finis, 2u, "those that began have ended");
    }
}

/* A ring may serve its first request before the starter runs again. */
static int look_for_the_set(struct gm_ring *ring, void *arg)
{
    struct gm_rings **out = arg;
    return *out == gm_ring_rings(ring) ? 0 : -ENOENT;
}
Test(rings, the_set_is_known_before_the_first_turn)
{
    char why[GM_WHY_BYTES];
    struct gm_rings *rings = NULL;
    struct gm_rings_ops ops = {.init = look_for_the_set, .arg = &rings};
    for (enum gm_io io = GM_IO_URING; io <= GM_IO_EPOLL; io++) {
        struct gm_rings_config config = {.io = io, .memory_bytes = MEMORY, .count = 2};
        cr_assert_eq(gm_rings_start(&config, &ops, &rings, why), 0, "%s", why);
        finish(rings);
        rings = NULL;
    }
    struct gm_rings_ops failing = {.init = init_second_fails};
    struct gm_rings_config config = {.io = GM_IO_EPOLL, .memory_bytes = MEMORY, .count = 2};
    cr_assert_eq(gm_rings_start(&config, &failing, &rings, why), -ENOSPC);
    cr_assert_null(rings);
}

Test(rings, raises_descriptor_limit)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 256;
    setrlimit(RLIMIT_NOFILE, &limit);
    struct gm_rings *rings = start(&variants[0], 1, MEMORY);
    getrlimit(RLIMIT_NOFILE, &limit);
    cr_assert_eq(limit.rlim_cur, limit.rlim_max);
    finish(rings);
}

/* Sockets still open at the end are closed with the rings. */
static void leave_open(struct gm_ring *ring, void *arg)
{
    struct rec *rec = arg;
    rec_open(rec, ring, rec->detached_fd);
    gm_sock_recv(&rec->sock, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
}
CASE(open_sockets_end_with_their_ring)
{
    struct gm_rings *rings = start(variant, 1, MEMORY);
    struct rec *rec = rec_new(rings);
    int fd[2];
    char byte;
    cr_assert(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
    rec->detached_fd = fd[1];
    on_ring(rings, 0, leave_open, rec);
    gm_rings_stop(rings);
    gm_rings_join(rings);
    cr_assert_eq(recv(fd[0], &byte, 1, 0), 0);
    cr_assert_eq(rec->ends, 0u);
    close(fd[0]);
    rec_free(rec);
}

CASE(stops_at_once_and_twice)
{
    struct gm_rings *rings = start(variant, 3, MEMORY);
    gm_rings_stop(rings);
    gm_rings_stop(rings);
    gm_rings_join(rings);
}

/* ---- Processors
 * -----------------------------------------------------------------------------------------------------------------------------------
 */

static void put_file(const char *root, const char *path, const char *text)
{
    char full[512], part[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (size_t i = 1; full[i] != '\0'; i++) {
        if (full[i] != '/')
            continue;
        snprintf(part, sizeof part, "%.*s", (int)i, full);
        mkdir(part, 0700);
    }
    FILE *file = fopen(full, "w");
    cr_assert(file != NULL, "%s", full);
    fputs(text, file);
    fclose(file);
}

static void remove_files(const char *root)
{
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", root);
    cr_assert_eq(system(command), 0);
}

Test(cpu, quota_of_cgroup_v2_and_its_parents)
{
    char root[] = "/tmp/gm-cgroup-XXXXXX", base[64];
    cr_assert(mkdtemp(root) != NULL);
    snprintf(base, sizeof base, "%s/", root);
    cr_assert_eq(gm_cpu_quota(base), UINT32_MAX, "nothing to read is no limit");
    put_file(base, "proc/self/cgroup", "0::/a/b\n");
    put_file(base, "sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    cr_assert_eq(gm_cpu_quota(base), UINT32_MAX);
    put_file(base, "sys/fs/cgroup/a/cpu.max", "250000 100000\n");
    cr_assert_eq(gm_cpu_quota(base), 3u, "the parent's, rounded up");
    put_file(base, "sys/fs/cgroup/a/b/cpu.max", "150000 100000\n");
    cr_assert_eq(gm_cpu_quota(base), 2u);
    put_file(base, "sys/fs/cgroup/cpu.max", "50000 100000\n");
    cr_assert_eq(gm_cpu_quota(base), 1u, "the root's own, as a container sees it");
    put_file(base, "sys/fs/cgroup/cpu.max", "garbage\n");
    cr_assert_eq(gm_cpu_quota(base), 2u);
    remove_files(root);
}

Test(cpu, quota_of_cgroup_v1)
{
    char root[] = "/tmp/gm-cgroup-XXXXXX", base[64];
    cr_assert(mkdtemp(root) != NULL);
    snprintf(base, sizeof base, "%s/", root);
    put_file(base, "proc/self/cgroup", "5:cpuset:/x\n4:cpuacct,cpu:/docker/1\n");
    put_file(base, "sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us", "-1\n");
    put_file(base, "sys/fs/cgroup/cpu/docker/1/cpu.cfs_period_us", "100000\n");
    cr_assert_eq(gm_cpu_quota(base), UINT32_MAX);
    put_file(base, "sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us", "400000\n");
    put_file(base, "sys/fs/cgroup/cpu/docker/cpu.cfs_period_us", "100000\n");
    cr_assert_eq(gm_cpu_quota(base), 4u);
    remove_files(root);
}

Test(cpu, pinning_only_without_a_smaller_quota)
{
    cr_assert(gm_cpu_may_pin(4, UINT32_MAX));
    cr_assert(gm_cpu_may_pin(4, 4));
    cr_assert_not(gm_cpu_may_pin(4, 3));
    cr_assert_not(gm_cpu_may_pin(1, UINT32_MAX));
    cr_assert_geq(gm_rings_default_count(), 1u);
}

/* ---- Mail
 * ---------------------------------------------------------------------------------------------------------------------------------------------
 */

struct letter {
    struct gm_mail mail;
    uint32_t from, number;
};
#define LETTERS 20000u
struct post_office {
    struct gm_rings *rings;
    struct letter *letters[3];
    uint32_t sent[3];
    uint32_t next[3]; /* ring 0 only */
    struct gm_task task[3];
    _Atomic uint32_t received, disorder;
};
static struct post_office office;

static void letter_deliver(struct gm_mail *mail)
{
    struct letter *letter = GM_CONTAINER_OF(mail, struct letter, mail);
    if (letter->number != office.next[letter->from]++)
        office.disorder++;
    office.received++;
}
struct wish {
    struct gm_mail mail;
    uint32_t ring;
};
static struct wish wishes[3];
/* Sends some, then asks itself by mail to go on: many turns, chains of all lengths. */
static void send_some(struct gm_mail *mail)
{
    struct wish *wish = GM_CONTAINER_OF(mail, struct wish, mail);
    struct gm_ring *ring = gm_rings_get(office.rings, wish->ring);
    uint32_t some = office.sent[wish->ring] % 17u;
    for (uint32_t i = 0; i <= some && office.sent[wish->ring] < LETTERS; i++) {
        struct letter *letter = &office.letters[wish->ring][office.sent[wish->ring]++];
        gm_ring_mail(ring, 0, &letter->mail);
    }
    if (office.sent[wish->ring] < LETTERS)
        gm_ring_mail(ring, wish->ring, &wish->mail);
}
static void begin_sending(struct gm_ring *ring, void *arg)
{
    (void)arg;
    uint32_t index = gm_ring_index(ring);
    wishes[index] = (struct wish){.mail.deliver = send_some, .ring = index};
    gm_ring_mail(ring, index, &wishes[index].mail);
}

CASE(mail_arrives_once_and_in_order)
{
    memset(&office, 0, sizeof office);
    office.rings = start(variant, 3, MEMORY);
    for (uint32_t from = 0; from < 3; from++) {
        office.letters[from] = calloc(LETTERS, sizeof(struct letter));
        for (uint32_t i = 0; i < LETTERS; i++)
            office.letters[from][i] =
                (struct letter){.mail.deliver = letter_deliver, .from = from, .number = i};
    }
    on_ring(office.rings, 1, begin_sending, NULL);
    on_ring(office.rings, 2, begin_sending, NULL);
    /* The test's own thread is the third sender. */
    for (uint32_t i = 0; i < LETTERS; i++)
        gm_rings_mail(office.rings, 0, &office.letters[0][i].mail);
    WAIT_UNTIL(office.received == 3 * LETTERS);
    cr_assert_eq(office.disorder, 0u);
    gm_rings_stop(office.rings);
    gm_rings_join(office.rings);
    for (uint32_t from = 0; from < 3; from++)
        free(office.letters[from]);
}

/* Two rings that sleep between letters wake each other, every time. */
struct ball {
    struct gm_mail mail;
    struct gm_rings *rings;
    uint32_t at, left;
    _Atomic bool done;
};
static void ball_deliver(struct gm_mail *mail)
{
    struct ball *ball = GM_CONTAINER_OF(mail, struct ball, mail);
    struct gm_ring *ring = gm_rings_get(ball->rings, ball->at);
    if (ball->left-- == 0) {
        ball->done = true;
        return;
    }
    ball->at = 1 - ball->at;
    gm_ring_mail(ring, ball->at, &ball->mail);
}
CASE(sleeping_rings_wake_each_other)
{
    struct ball ball = {.mail.deliver = ball_deliver, .left = 3000};
    ball.rings = start(variant, 2, MEMORY);
    gm_rings_mail(ball.rings, 0, &ball.mail);
    WAIT_UNTIL(ball.done);
    cr_assert_gt(gm_counter_sum(gm_rings_counters(ball.rings), GM_COUNTER_WAKES_SENT), 100u);
    finish(ball.rings);
}

/* ---- Buffers that travel
 * ----------------------------------------------------------------------------------------------------------------------------------
 */

struct parcel {
    struct gm_mail mail;
    gm_slice slice;
    struct gm_rings *rings;
};
struct carrier {
    struct gm_rings *rings;
    struct gm_sock sock;
    int fd;
    struct parcel parcels[4096];
    uint32_t sent;
    _Atomic uint64_t checked;
    uint64_t at; /* ring 1 */
    _Atomic uint32_t closed, wrong;
};
static struct carrier carrier;
static void parcel_deliver(struct gm_mail *mail)
{
    struct parcel *parcel = GM_CONTAINER_OF(mail, struct parcel, mail);
    if (!is_pattern(parcel->slice.data, carrier.at, parcel->slice.len))
        carrier.wrong++;
    carrier.at += parcel->slice.len;
    uint64_t sum = carrier.at;
    gm_slice_put(parcel->slice); /* foreign: goes home by mail */
    carrier.checked = sum;
}
static void carry(struct gm_sock *sock, gm_slice slice)
{
    struct parcel *parcel = &carrier.parcels[carrier.sent++];
    cr_assert_leq(carrier.sent, 4096u);
    *parcel = (struct parcel){.mail.deliver = parcel_deliver, .slice = slice};
    gm_ring_mail(sock->ring, 1, &parcel->mail);
}
static void carrier_closed(struct gm_sock *sock)
{
    (void)sock;
    carrier.closed++;
}
static void carrier_ended(struct gm_sock *sock, int error)
{
    (void)error;
    gm_sock_close(sock, false);
}
static const struct gm_sock_ops carrier_ops = {
    .on_recv = carry, .on_closed = carrier_closed, .on_recv_end = carrier_ended};
static void open_carrier(struct gm_ring *ring, void *arg)
{
    (void)arg;
    cr_assert(gm_sock_open(ring, &carrier.sock, carrier.fd, &carrier_ops) == 0);
    gm_sock_recv(&carrier.sock, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
}
/* More bytes than the pool holds, read on one ring and released on another. */
CASE(foreign_buffers_come_home)
{
    memset(&carrier, 0, sizeof carrier);
    carrier.rings = start(variant, 2, GM_RING_MEMORY_MIN);
    int fd[2];
    tcp_pair(fd);
    carrier.fd = fd[1];
    on_ring(carrier.rings, 0, open_carrier, NULL);
    size_t total = 4u << 20;
    for (size_t at = 0; at < total; at += 8192) {
        write_pattern(fd[0], at, 8192);
        while (at + 8192 - carrier.checked > 512u << 10)
            short_pause(); /* at most half the pool is travelling */
    }
    WAIT_UNTIL(carrier.checked == total);
    cr_assert_eq(carrier.wrong, 0u);
    close(fd[0]);
    WAIT_UNTIL(carrier.closed == 1);
    finish(carrier.rings);
}

/* Ring 1 holds ring 0's buffers and sleeps; when ring 0 runs short, it is woken, moves them into
 * blocks of its own, and all bytes arrive. */
struct hoard {
    struct gm_chain chain; /* ring 1 */
    struct gm_holder holder;
    struct gm_ring *ring;
    uint64_t checked;
    _Atomic uint32_t evacuated;
};
static struct hoard hoard;
static void hoard_evacuate(struct gm_holder *holder)
{
    (void)holder;
    gm_ring_evacuate(hoard.ring, &hoard.chain);
    hoard.evacuated++;
}
static void hoard_begin(struct gm_ring *ring, void *arg)
{
    (void)arg;
    hoard.ring = ring;
    gm_holder_init(&hoard.holder, hoard_evacuate);
    gm_ring_hold(ring, &hoard.holder);
}
static void hoard_deliver(struct gm_mail *mail)
{
    struct parcel *parcel = GM_CONTAINER_OF(mail, struct parcel, mail);
    uint64_t len = parcel->slice.len;
    cr_assert(gm_chain_push(&hoard.chain, gm_ring_segs(hoard.ring), parcel->slice) == 0);
    carrier.checked += len;
}
static void hoard_end(struct gm_ring *ring, void *arg)
{
    (void)arg;
    while (hoard.chain.count > 0) {
        gm_slice slice = gm_chain_pop(&hoard.chain, gm_ring_segs(ring));
        if (!is_pattern(slice.data, hoard.checked, slice.len))
            carrier.wrong++;
        hoard.checked += slice.len;
        gm_slice_put(slice);
    }
    gm_ring_unhold(&hoard.holder);
}
static void carry_to_hoard(struct gm_sock *sock, gm_slice slice)
{
    struct parcel *parcel = &carrier.parcels[carrier.sent++];
    cr_assert_leq(carrier.sent, 4096u);
    *parcel = (struct parcel){.mail.deliver = hoard_deliver, .slice = slice};
    gm_ring_mail(sock->ring, 1, &parcel->mail);
}
static const struct gm_sock_ops hoarder_ops = {
    .on_recv = carry_to_hoard, .on_closed = carrier_closed, .on_recv_end = carrier_ended};
static void open_hoarder(struct gm_ring *ring, void *arg)
{
    (void)arg;
    cr_assert(gm_sock_open(ring, &carrier.sock, carrier.fd, &hoarder_ops) == 0);
    gm_sock_recv(&carrier.sock, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
}
CASE(foreign_holders_are_evacuated)
{
    memset(&carrier, 0, sizeof carrier);
    memset(&hoard, 0, sizeof hoard);
    carrier.rings = start(variant, 2, GM_RING_MEMORY_MIN);
    int fd[2];
    tcp_pair(fd);
    carrier.fd = fd[1];
    on_ring(carrier.rings, 1, hoard_begin, NULL);
    on_ring(carrier.rings, 0, open_hoarder, NULL);
    size_t total = 2u << 20; /* twice ring 0's pool */
    for (size_t at = 0; at < total; at += 8192)
        write_pattern(fd[0], at, 8192);
    WAIT_UNTIL(carrier.checked == total);
    cr_assert_gt(hoard.evacuated, 0u);
    on_ring(carrier.rings, 1, hoard_end, NULL);
    cr_assert_eq(hoard.checked, total);
    cr_assert_eq(carrier.wrong, 0u);
    close(fd[0]);
    WAIT_UNTIL(carrier.closed == 1);
    finish(carrier.rings);
}

/* ---- Turns
 * -------------------------------------------------------------------------------------------------------------------------------------------------
 */

static char story[64];
static struct gm_task first_soon, second_soon, a_flush;
static struct gm_timer a_timer;
static struct gm_ring *story_ring;
static _Atomic bool told;
static void tell(const char *word)
{
    size_t len = strlen(story);
    (void)snprintf(story + len, sizeof story - len, "%s", word);
}
static void run_second(struct gm_task *task)
{
    (void)task;
    tell("second ");
}
static void run_first(struct gm_task *task)
{
    (void)task;
    tell("first ");
    gm_ring_soon(story_ring, &second_soon);
    gm_ring_soon(story_ring, &second_soon);
}
static void run_flush(struct gm_task *task)
{
    (void)task;
    tell("flush ");
    told = true;
}
static void on_timer(struct gm_timer *timer)
{
    (void)timer;
    tell("timer ");
    gm_ring_flush(story_ring, &a_flush);
    gm_ring_soon(story_ring, &first_soon);
}
static void begin_story(struct gm_ring *ring, void *arg)
{
    (void)arg;
    story_ring = ring;
    gm_task_init(&first_soon, run_first);
    gm_task_init(&second_soon, run_second);
    gm_task_init(&a_flush, run_flush);
    gm_timer_init(&a_timer, on_timer);
    gm_timer_set(ring, &a_timer, gm_ring_now_ns(ring) + 10000000u);
    tell("begin ");
}
Test(rings, order_of_a_turn)
{
    struct gm_rings *rings = start(&variants[0], 1, MEMORY);
    on_ring(rings, 0, begin_story, NULL);
    WAIT_UNTIL(told);
    cr_assert_str_eq(story, "begin timer first second flush ");
    finish(rings);
}

static uint64_t gaps[2];
static _Atomic uint32_t gap_step;
static struct gm_timer gap_timer;
static void note_gap(struct gm_timer *timer)
{
    struct gm_ring *ring = story_ring;
    (void)timer;
    gaps[gap_step] = gm_ring_gap_ns(ring);
    gap_step++; /* only now may the test look */
    if (gap_step < 2)
        gm_timer_set(ring, &gap_timer, gm_ring_now_ns(ring) + 10000000u);
}
static void be_away(struct gm_ring *ring, void *arg)
{
    (void)arg;
    story_ring = ring;
    gm_timer_init(&gap_timer, note_gap);
    gm_timer_set(ring, &gap_timer, gm_ring_now_ns(ring) + 10000000u);
    usleep(1200000);
}
Test(rings, a_long_turn_is_told)
{
    struct gm_rings *rings = start(&variants[0], 1, MEMORY);
    on_ring(rings, 0, be_away, NULL);
    WAIT_UNTIL(gap_step == 2);
    cr_assert_geq(gaps[0], 1100000000u);
    cr_assert_eq(gaps[1], 0u, "only the turn after it");
    finish(rings);
}

static void draw(struct gm_ring *ring, void *arg)
{
    uint8_t *out = arg;
    for (unsigned i = 0; i < 3; i++)
        gm_ring_random(ring, out + i * 3000u, 3000);
}
Test(rings, random_bytes_are_not_repeated)
{
    struct gm_rings *rings = start(&variants[0], 1, MEMORY);
    static uint8_t bytes[9000];
    uint32_t histogram[256] = {0};
    on_ring(rings, 0, draw, bytes);
    for (unsigned i = 0; i < sizeof bytes; i++)
        histogram[bytes[i]]++;
    for (unsigned i = 0; i < 256; i++)
        cr_assert(histogram[i] > 5 && histogram[i] < 90, "byte %u: %u times", i, histogram[i]);
    for (unsigned i = 0; i + 32 < sizeof bytes; i += 16)
        cr_assert(memcmp(bytes + i, bytes + i + 16, 16) != 0);
    cr_assert(memcmp(bytes, bytes + 3000, 16) != 0 && memcmp(bytes, bytes + 6000, 16) != 0);
    finish(rings);
}

/* ---- Addresses
 * -----------------------------------------------------------------------------------------------------------------------------------------------
 */

Test(addr, text_and_length)
{
    char text[160];
    union gm_addr a = {.in = {.sin_family = AF_INET,
                              .sin_port = htons(80),
                              .sin_addr.s_addr = htonl(0xc0000201u)}};
    gm_addr_text(&a, text, sizeof text);
    cr_assert_str_eq(text, "192.0.2.1:80");
    cr_assert_eq(gm_addr_len(&a), sizeof(struct sockaddr_in));
    a = (union gm_addr){.in6 = {.sin6_family = AF_INET6,
                                .sin6_port = htons(443),
                                .sin6_addr = IN6ADDR_LOOPBACK_INIT}};
    gm_addr_text(&a, text, sizeof text);
    cr_assert_str_eq(text, "[::1]:443");
    cr_assert_eq(gm_addr_len(&a), sizeof(struct sockaddr_in6));
    a = (union gm_addr){.un = {.sun_family = AF_UNIX, .sun_path = "/run/x"}};
    gm_addr_text(&a, text, sizeof text);
    cr_assert_str_eq(text, "unix:/run/x");
    cr_assert_eq(gm_addr_len(&a), offsetof(struct sockaddr_un, sun_path) + 7u);
    memset(a.un.sun_path, 'y', sizeof a.un.sun_path); /* no NUL at all */
    gm_addr_text(&a, text, sizeof text);
    cr_assert_eq(strlen(text), 5u + sizeof a.un.sun_path);
    cr_assert_eq(gm_addr_len(&a), sizeof(struct sockaddr_un));
    memcpy(a.un.sun_path, "\0name\0", 6);
    memset(a.un.sun_path + 5, 0, sizeof a.un.sun_path - 5);
    gm_addr_text(&a, text, sizeof text);
    cr_assert_str_eq(text, "unix:@name");
    gm_addr_text(&a, text, 6);
    cr_assert_str_eq(text, "unix:");
    a.base.sa_family = AF_UNSPEC;
    gm_addr_text(&a, text, sizeof text);
    cr_assert_str_eq(text, "?");
}
