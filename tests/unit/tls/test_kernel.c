/* Kernel TLS: one end of a connection is the kernel's, the other ours, over a loopback socket.
 * Where this kernel cannot, tests are skipped with its reason. */
#include "tls/kernel.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fixture.h"

#define PATIENCE_MS 20000

static const struct plan plain_plan;
/* The end whose records are ours, the end whose records are the kernel's, and their sockets. */
static struct end *ours, *theirs;
static int our_fd = -1, their_fd = -1;

/* ---- The connection ---- */

static void need_kernel(bool tls13)
{
    struct gm_tls_kernel found;
    gm_tls_kernel_probe(&found);
    gm_tls_kernel_enable(&found);
    if (!(tls13 ? found.tls13 : found.tls12))
        cr_skip_test("%s", found.why_not);
}

static void connect_sockets(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    our_fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(bind(listener, (struct sockaddr *)&at, len), 0);
    cr_assert_eq(listen(listener, 1), 0);
    cr_assert_eq(getsockname(listener, (struct sockaddr *)&at, &len), 0);
    cr_assert_eq(connect(our_fd, (struct sockaddr *)&at, len), 0);
    their_fd = accept(listener, NULL, NULL);
    cr_assert(their_fd >= 0);
    cr_assert_eq(setsockopt(our_fd, SOL_TCP, TCP_NODELAY, &on, sizeof on), 0);
    cr_assert_eq(close(listener), 0);
}

static void hang_up(void)
{
    for (int *fd = &our_fd; fd != NULL; fd = fd == &our_fd ? &their_fd : NULL) {
        if (*fd >= 0)
            cr_assert_eq(close(*fd), 0);
        *fd = -1;
    }
    world_end();
}

static void post(struct gm_chain *records);
static int fetch(void);

/* The handshake in memory; what is left of it has arrived; then the kernel takes one end. */
static void stand(const char *suite, bool tls12, bool kernel_serves)
{
    world.tls12 = tls12;
    world.suites = suite;
    cr_assert(world_meet(&plain_plan, "example.test"));
    ours = kernel_serves ? &world.c : &world.s;
    theirs = kernel_serves ? &world.s : &world.c;
    connect_sockets();
    struct gm_tls_io io = end_io(ours);
    cr_assert_eq(gm_tls_open(ours->tls, &io), 0); /* the ticket, if it is the kernel's end that
                                                     serves */
    size_t behind = theirs->in.bytes;
    post(&theirs->in);
    cr_assert_eq(gm_tls_kernel_take_receiving(theirs->tls, their_fd), 0);
    cr_assert_eq(gm_tls_kernel_take_sending(theirs->tls, their_fd), 0);
    cr_assert(gm_tls_kernel_sends(theirs->tls) && gm_tls_kernel_receives(theirs->tls));
    cr_assert_eq(behind > 0, !kernel_serves && !tls12, "%zu bytes", behind);
    if (behind > 0) /* the ticket, for the kernel's end: a message to be passed over */
        cr_assert_eq(fetch(), 0);
}

static void wait_for(int fd, short events)
{
    struct pollfd watch = {.fd = fd, .events = events};
    cr_assert_eq(poll(&watch, 1, PATIENCE_MS), 1, "nothing happens");
}

/* Records go to the kernel's end. */
static void post(struct gm_chain *records)
{
    while (records->count > 0) {
        gm_slice slice = gm_chain_pop(records, world_segs());
        cr_assert_eq(send(our_fd, slice.data, slice.len, MSG_NOSIGNAL), slice.len);
        gm_slice_put(slice);
    }
}

/* One receive at the kernel's end: payload arrives in theirs->plain, or something else was heard.
 * As gm_tls_open. */
static int fetch(void)
{
    struct gm_tls_io io = end_io(theirs);
    static uint8_t bytes[20000];
    wait_for(their_fd, POLLIN);
    ssize_t got = recv(their_fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0 && errno == EIO)
        return gm_tls_kernel_hear(theirs->tls, their_fd, &io);
    if (got < 0)
        return errno == EAGAIN ? 0 : gm_tls_kernel_failed(theirs->tls, their_fd, -errno, &io);
    struct end payload = {0};
    arrive(&payload, bytes, (size_t)got);
    while (payload.in.count > 0)
        cr_assert_eq(
            gm_chain_push(&theirs->plain, world_segs(), gm_chain_pop(&payload.in, world_segs())),
            0);
    return gm_tls_kernel_got(theirs->tls, &io);
}

static int hear_one(void)
{
    post(&ours->out);
    return fetch();
}

static void say(void)
{
    cr_assert_eq(gm_tls_kernel_say(theirs->tls, their_fd), 0);
}

/* Reads what has come to our end and opens it, until there is `want` of payload or an end. */
static int open_until(size_t want)
{
    struct gm_tls_io io = end_io(ours);
    static uint8_t bytes[20000];
    int rc = 0;
    do {
        wait_for(our_fd, POLLIN);
        ssize_t got = recv(our_fd, bytes, sizeof bytes, MSG_DONTWAIT);
        cr_assert(got > 0);
        arrive(ours, bytes, (size_t)got);
        rc = gm_tls_open(ours->tls, &io);
    } while (rc == 0 && ours->plain.bytes < want);
    return rc;
}

static void talk_to_kernel(size_t len, uint32_t seed)
{
    struct gm_tls_io io = end_io(ours);
    struct gm_chain plain = {0};
    put_plain(&plain, len, seed);
    cr_assert_eq(gm_tls_seal(ours->tls, &plain, SIZE_MAX, &io.sink), (ssize_t)len);
    post(&ours->out);
    while (theirs->plain.bytes < len)
        cr_assert_eq(fetch(), 0);
    expect_plain(&theirs->plain, len, seed);
}

static void talk_from_kernel(size_t len, uint32_t seed)
{
    struct gm_chain plain = {0};
    put_plain(&plain, len, seed);
    say();
    while (plain.count > 0) {
        gm_slice slice = gm_chain_pop(&plain, world_segs());
        cr_assert_eq(send(their_fd, slice.data, slice.len, MSG_NOSIGNAL), slice.len);
        gm_tls_kernel_sent(theirs->tls, slice.len);
        gm_slice_put(slice);
    }
    cr_assert_eq(open_until(len), 0);
    expect_plain(&ours->plain, len, seed);
}

/* ---- Tests ---- */

Test(kernel, the_probe_says_what_is_missing)
{
    struct gm_tls_kernel found;
    gm_tls_kernel_probe(&found);
    cr_assert_eq(found.why_not == NULL, found.tls12 && found.tls13);
    cr_assert(found.tls12 || !found.tls13, "TLS 1.3 without 1.2");
}

Test(kernel, nothing_is_taken_that_was_not_enabled, .fini = world_end)
{
    need_own_records();
    struct gm_tls_kernel none = {.why_not = "off"};
    gm_tls_kernel_enable(&none);
    cr_assert(!gm_tls_kernel_is_enabled());
    cr_assert(world_meet(&plain_plan, "example.test"));
    cr_assert_lt(gm_tls_kernel_take_sending(world.c.tls, -1), 0);
    cr_assert_lt(gm_tls_kernel_take_receiving(world.c.tls, -1), 0);
    cr_assert(!gm_tls_kernel_sends(world.c.tls) && !gm_tls_kernel_receives(world.c.tls));
}

static void pass_payload(const char *const *suites, bool tls12)
{
    static const size_t sizes[] = {1, 255, 16384, 16385, 70000};
    for (unsigned mix = 0; mix < 6; mix++) {
        stand(suites[mix / 2], tls12, mix % 2 == 0);
        for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            talk_to_kernel(sizes[i], i);
            talk_from_kernel(sizes[i], i + 10);
        }
        hang_up();
    }
}

Test(kernel, payload_passes_in_tls_12, .timeout = 120)
{
    static const char *const suites[] = {"ECDHE-ECDSA-AES128-GCM-SHA256",
                                         "ECDHE-ECDSA-AES256-GCM-SHA384",
                                         "ECDHE-ECDSA-CHACHA20-POLY1305"};
    need_own_records();
    need_kernel(false);
    pass_payload(suites, true);
}

Test(kernel, payload_passes_in_tls_13, .timeout = 120)
{
    static const char *const suites[] = {"TLS13-AES128-GCM-SHA256", "TLS13-AES256-GCM-SHA384",
                                         "TLS13-CHACHA20-POLY1305-SHA256"};
    need_own_records();
    need_kernel(true);
    pass_payload(suites, false);
}

Test(kernel, keys_are_renewed_from_either_side, .timeout = 60)
{
    need_own_records();
    need_kernel(true);
    for (unsigned mix = 0; mix < 2; mix++) {
        stand(NULL, false, mix == 0);
        for (uint32_t i = 0; i < 4; i++) {
            struct gm_tls_io io = end_io(ours);
            cr_assert_eq(gm_tls_rekey(ours->tls, i >= 2, &io.sink), 0);
            cr_assert_eq(hear_one(), 0);
            talk_to_kernel(3000, i);
            talk_from_kernel(3000, i + 10); /* its own update first, when it was asked */
        }
        struct gm_tls_io io = end_io(theirs);
        cr_assert_eq(gm_tls_rekey(theirs->tls, true, &io.sink), 0);
        talk_from_kernel(20000, 7);
        cr_assert_eq(hear_one(), 0); /* ours: it asked */
        talk_to_kernel(20000, 8);
        hang_up();
    }
}

Test(kernel, keys_are_renewed_before_they_wear_out, .fini = hang_up)
{
    need_own_records();
    need_kernel(true);
    stand(NULL, false, true);
    theirs->tls->kernel_records = GM_TLS_REKEY_RECORDS - 2;
    talk_from_kernel(20000, 1);
    uint8_t before[sizeof(struct gm_tls_keys)], after[sizeof(struct gm_tls_keys)];
    gm_tls_flow_keys(ours->tls->rx, (struct gm_tls_keys *)before);
    talk_from_kernel(20000, 2);
    gm_tls_flow_keys(ours->tls->rx, (struct gm_tls_keys *)after);
    cr_assert(memcmp(before, after, sizeof before) != 0);
    cr_assert_lt(theirs->tls->kernel_records, 10);
    talk_from_kernel(20000, 3);
}

Test(kernel, tickets_are_passed_over, .fini = hang_up)
{
    need_own_records();
    need_kernel(true);
    stand(NULL, false, false);
    talk_to_kernel(100, 1);
    talk_from_kernel(100, 2);
}

static void end_both_ways(bool tls12)
{
    for (unsigned mix = 0; mix < 2; mix++) {
        stand(NULL, tls12, mix == 0);
        struct gm_tls_io io = end_io(ours), their_io = end_io(theirs);
        talk_from_kernel(100, 1);
        cr_assert_eq(gm_tls_close_notify(theirs->tls, &their_io.sink), 0);
        say();
        cr_assert_eq(open_until(1), 1);
        talk_to_kernel(500, 2); /* that direction goes on */
        cr_assert_eq(gm_tls_close_notify(ours->tls, &io.sink), 0);
        cr_assert_eq(hear_one(), 1);
        hang_up();
    }
}

Test(kernel, an_end_is_told_in_tls_12, .timeout = 60)
{
    need_own_records();
    need_kernel(false);
    end_both_ways(true);
}

Test(kernel, an_end_is_told_in_tls_13, .timeout = 60)
{
    need_own_records();
    need_kernel(true);
    end_both_ways(false);
}

Test(kernel, an_alert_ends_the_session, .fini = hang_up)
{
    need_own_records();
    need_kernel(false);
    stand(NULL, true, true);
    struct gm_tls_io io = end_io(ours);
    cr_assert_eq(gm_tls_direct_alert(ours->tls, GM_TLS_FATAL, GM_TLS_INTERNAL_ERROR, &io.sink), 0);
    cr_assert_lt(hear_one(), 0);
}

Test(kernel, a_damaged_record_is_answered_with_an_alert, .timeout = 60)
{
    need_own_records();
    need_kernel(false);
    for (unsigned mix = 0; mix < 2; mix++) {
        stand(NULL, true, mix == 0);
        struct gm_tls_io io = end_io(ours);
        struct gm_chain plain = {0};
        put_plain(&plain, 200, 1);
        cr_assert_eq(gm_tls_seal(ours->tls, &plain, 200, &io.sink), 200);
        gm_chain_front(&ours->out).data[40] ^= 1;
        cr_assert_eq(hear_one(), -GM_E_TLS_RECORD);
        say();
        cr_assert_eq(open_until(1), -GM_E_TLS_ALERT);
        hang_up();
    }
}

Test(kernel, what_is_no_record_is_answered_with_an_alert, .fini = hang_up)
{
    need_own_records();
    need_kernel(false);
    stand(NULL, true, true);
    cr_assert_eq(send(our_fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 18);
    cr_assert_eq(fetch(), -GM_E_TLS_RECORD);
    say();
    cr_assert_eq(open_until(1), -GM_E_TLS_ALERT);
}

/* The first two bytes of a NewSessionTicket, and payload before the rest. */
Test(kernel, payload_within_a_message_is_refused, .fini = hang_up)
{
    need_own_records();
    need_kernel(true);
    stand(NULL, false, false);
    struct gm_tls_io io = end_io(ours);
    struct gm_chain part = {0};
    uint8_t bytes[2] = {4, 0};
    cr_assert_eq(gm_chain_push(&part, world_segs(), (gm_slice){bytes, 2, NULL}), 0);
    cr_assert_eq(gm_tls_record_seal(ours->tls->tx, GM_TLS_HANDSHAKE, &part, 2, &io.sink), 0);
    cr_assert_eq(hear_one(), 0);
    put_plain(&part, 10, 1);
    cr_assert_eq(gm_tls_seal(ours->tls, &part, 10, &io.sink), 10);
    cr_assert_eq(hear_one(), -GM_E_TLS_RECORD);
    gm_chain_clear(&theirs->plain, world_segs());
}

Test(kernel, messages_without_end_are_refused, .fini = hang_up)
{
    need_own_records();
    need_kernel(true);
    stand(NULL, false, true);
    int rc = 0;
    unsigned count = 0;
    for (; rc == 0 && count < 100; count++) {
        struct gm_tls_io io = end_io(ours);
        cr_assert_eq(gm_tls_rekey(ours->tls, false, &io.sink), 0);
        rc = hear_one();
    }
    cr_assert_eq(rc, -GM_E_TLS_RECORD);
    cr_assert_gt(count, 30);
}

Test(kernel, what_is_on_its_way_is_seen, .fini = hang_up, .timeout = 60)
{
    static uint8_t bytes[65536];
    need_own_records();
    need_kernel(false);
    stand(NULL, true, true);
    uint32_t left;
    size_t sent = 0;
    for (ssize_t n; (n = send(their_fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0;)
        sent += (size_t)n;
    cr_assert_gt(sent, 0);
    cr_assert(!gm_tls_kernel_is_drained(their_fd, &left));
    cr_assert_gt(left, 0);
    for (size_t got = 0; got < sent;) /* with headers and tags there is more */
        got += (size_t)recv(our_fd, bytes, sizeof bytes, 0);
    for (unsigned quiet = 0; quiet < 2; (void)poll(NULL, 0, 10))
        quiet = gm_tls_kernel_is_drained(their_fd, &left) ? quiet + 1 : 0;
    cr_assert_eq(left, 0);
    /* A connection that is over does not keep anybody waiting. */
    while (send(their_fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        continue;
    struct linger now = {.l_onoff = 1};
    cr_assert_eq(setsockopt(our_fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    cr_assert_eq(close(our_fd), 0);
    our_fd = -1;
    cr_assert(gm_tls_kernel_is_drained(their_fd, &left));
}
