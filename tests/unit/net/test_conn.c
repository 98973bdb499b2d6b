/* A connection: order of what is written, short writes, the close protocol and its limits, memory
 * that runs out. In virtual time, on the simulated back-end. */
#include <stdlib.h>
#include <string.h>

#include "wire.h"

const struct gm_conn_ops *wire_conn_ops(void);

static uint8_t byte_at(size_t at)
{
    return (uint8_t)(at * 7 + (at >> 8) * 13 + (at >> 16));
}

static void expect_bytes(const struct wire *w, size_t len)
{
    cr_assert_eq(w->got_len, len, "%zu bytes instead of %zu", w->got_len, len);
    for (size_t i = 0; i < len; i++)
        cr_assert_eq(w->got[i], byte_at(i), "byte %zu", i);
}

/* A slice in a block of the near ring that continues the pattern. */
static gm_slice pattern_slice(struct wire *w, size_t at, uint32_t len)
{
    struct gm_buf *buf =
        gm_ring_block(w->near, len <= GM_BLOCK_SMALL_BYTES ? GM_BLOCK_SMALL : GM_BLOCK_HEAD);
    cr_assert_not_null(buf);
    for (uint32_t i = 0; i < len; i++)
        buf->data[i] = byte_at(at + i);
    return (gm_slice){buf->data, len, buf};
}

/* One write of a drawn kind at `at`; returns its length. */
static uint32_t write_some(struct wire *w, size_t at)
{
    static uint8_t bytes[70000];
    uint32_t kind = (uint32_t)gm_sim_rand(w->sim, 5);
    uint32_t len = 1 + (uint32_t)gm_sim_rand(w->sim, kind == 3 ? 60000 : kind == 0 ? 9000 : 4000);
    for (uint32_t i = 0; i < len; i++)
        bytes[i] = byte_at(at + i);
    if (kind == 0) {
        gm_conn_write(&w->conn, bytes, len);
    } else if (kind == 1) {
        gm_conn_write_slice(&w->conn, pattern_slice(w, at, len));
    } else if (kind == 2) {
        gm_conn_push(&w->conn, pattern_slice(w, at, len));
    } else {
        /* Less is committed than was reserved. */
        void *place = gm_conn_reserve(&w->conn, len + gm_sim_rand(w->sim, 90));
        cr_assert_not_null(place);
        memcpy(place, bytes, len);
        gm_conn_commit(&w->conn, len);
    }
    return len;
}

Test(conn, what_is_written_leaves_in_order_whatever_the_socket_takes)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct wire w = {.peer_grant = GM_RECV_UNLIMITED};
        gm_sim_profile_default(&w.profile);
        w.profile.buffer_bytes = 512u << (seed % 8);
        w.profile.short_permille = 300;
        wire_open(&w, seed);
        size_t at = 0;
        for (unsigned turn = 0; turn < 12; turn++) {
            wire_enter(&w, w.near);
            for (uint64_t n = gm_sim_rand(w.sim, 6); n > 0; n--)
                at += write_some(&w, at);
            cr_assert_eq(gm_conn_queued(&w.conn) + w.sent, at);
            wire_leave(&w, w.near);
            wire_run(&w, gm_sim_rand(w.sim, 400000));
        }
        wire_run(&w, 60 * SECOND_NS);
        expect_bytes(&w, at);
        cr_assert_eq(gm_conn_queued(&w.conn), 0);
        cr_assert_eq(w.sent, at);
        wire_enter(&w, w.near);
        gm_conn_close(&w.conn);
        wire_leave(&w, w.near);
        wire_run(&w, SECOND_NS);
        cr_assert(w.peer_ends == 1 && w.peer_error == 0);
        wire_close(&w);
        cr_assert(w.closes == 1 && w.brokens == 0);
    }
}

Test(conn, writes_of_one_turn_leave_as_one_send)
{
    struct wire w = {.peer_grant = GM_RECV_UNLIMITED};
    wire_open(&w, 1);
    wire_enter(&w, w.near);
    for (unsigned i = 0; i < 20; i++)
        gm_conn_write(&w.conn, "0123456789", 10);
    gm_conn_push(&w.conn, pattern_slice(&w, 0, 3000));
    wire_leave(&w, w.near);
    wire_run(&w, SECOND_NS);
    cr_assert_eq(w.got_len, 3200);
    cr_assert_eq(w.sents, 1);
    wire_enter(&w, w.near);
    gm_conn_abort(&w.conn, false);
    wire_leave(&w, w.near);
    wire_close(&w);
}

static void fill(struct wire *w, size_t bytes)
{
    wire_enter(w, w->near);
    for (size_t at = 0; at < bytes; at += 4000)
        gm_conn_push(&w->conn,
                     pattern_slice(w, at, bytes - at < 4000 ? (uint32_t)(bytes - at) : 4000u));
    wire_leave(w, w->near);
}

static void near_close(struct wire *w)
{
    wire_enter(w, w->near);
    gm_conn_close(&w->conn);
    cr_assert_not(gm_conn_is_open(&w->conn));
    wire_leave(w, w->near);
}

Test(conn, a_polite_close_sends_everything_before_the_end)
{
    struct wire w = {.peer_grant = 1000};
    wire_open(&w, 3);
    fill(&w, 300000);
    near_close(&w);
    wire_run(&w, 5 * SECOND_NS);
    cr_assert(w.closes == 0 && w.peer_ends == 0, "it waits for a slow reader");
    wire_peer_read(&w, GM_RECV_UNLIMITED);
    wire_run(&w, SECOND_NS);
    expect_bytes(&w, 300000);
    cr_assert(w.peer_ends == 1 && w.peer_error == 0);
    cr_assert_eq(w.closes, 0, "it lingers for the peer's end");
    wire_peer_close(&w, false);
    wire_run(&w, SECOND_NS / 10);
    cr_assert_eq(w.closes, 1);
    wire_close(&w);
    cr_assert(w.ends == 0 && w.recvs == 0 && w.sents == 0, "nothing but on_closed follows a close");
}

Test(conn, lingering_has_a_deadline)
{
    struct wire w = {.peer_grant = GM_RECV_UNLIMITED};
    wire_open(&w, 4);
    fill(&w, 10);
    near_close(&w);
    wire_run(&w, GM_CONN_LINGER_NS - SECOND_NS / 5);
    cr_assert_eq(w.closes, 0);
    wire_run(&w, SECOND_NS / 2);
    cr_assert_eq(w.closes, 1);
    wire_close(&w);
}

Test(conn, lingering_discards_so_much_and_no_more)
{
    static uint8_t bytes[64 << 10];
    struct wire w = {.peer_grant = GM_RECV_UNLIMITED};
    wire_open(&w, 5);
    fill(&w, 10);
    near_close(&w);
    wire_run(&w, SECOND_NS / 100);
    for (unsigned i = 0; i < 3; i++) {
        wire_peer_send(&w, bytes, sizeof bytes);
        wire_run(&w, SECOND_NS / 50);
    }
    cr_assert_eq(w.closes, 0, "192 KiB are borne");
    cr_assert_eq(w.peer_error, 0);
    for (size_t sent = 3 * sizeof bytes;
         w.closes == 0 && sent < GM_CONN_LINGER_BYTES + sizeof bytes; sent += sizeof bytes) {
        wire_peer_send(&w, bytes, sizeof bytes);
        wire_run(&w, SECOND_NS / 200);
    }
    cr_assert_eq(w.closes, 1, "so much is enough, long before the deadline");
    cr_assert_eq(w.recvs, 0);
    wire_close(&w);
}

/* Links receive into the other pool. */
Test(conn, a_connection_of_the_link_pool_lingers_there)
{
    struct wire w = {.peer_grant = GM_RECV_UNLIMITED};
    wire_open(&w, 6);
    wire_enter(&w, w.near);
    gm_conn_recv(&w.conn, GM_POOL_LINK, GM_RECV_UNLIMITED);
    wire_leave(&w, w.near);
    fill(&w, 10);
    near_close(&w);
    wire_run(&w, SECOND_NS / 10);
    wire_peer_send(&w, "late", 4);
    wire_run(&w, SECOND_NS / 10);
    wire_peer_close(&w, false);
    wire_run(&w, SECOND_NS / 10);
    cr_assert_eq(w.closes, 1);
    wire_close(&w);
}

Test(conn, a_close_that_stalls_ends_with_a_reset)
{
    struct wire w = {.peer_grant = 100};
    gm_sim_profile_default(&w.profile);
    w.profile.buffer_bytes = 4096;
    wire_open(&w, 7);
    fill(&w, 50000);
    near_close(&w);
    wire_run(&w, GM_CONN_CLOSE_STALL_NS - SECOND_NS);
    cr_assert_eq(w.closes, 0);
    wire_run(&w, 2 * SECOND_NS);
    cr_assert_eq(w.closes, 1);
    wire_peer_read(&w, GM_RECV_UNLIMITED);
    wire_run(&w, SECOND_NS);
    cr_assert(w.peer_ends == 1 && w.peer_error < 0, "the missing bytes must not look like the end");
    wire_close(&w);
}

Test(conn, a_peer_that_has_ended_is_not_lingered_for)
{
    struct wire w = {.peer_grant = GM_RECV_UNLIMITED};
    wire_open(&w, 8);
    wire_enter(&w, w.near);
    gm_conn_recv(&w.conn, GM_POOL_CLIENT, 1000);
    wire_leave(&w, w.near);
    wire_enter(&w, w.far);
    gm_sock_shutdown(&w.peer);
    wire_leave(&w, w.far);
    wire_run(&w, SECOND_NS / 10);
    cr_assert(w.ends == 1 && w.end_error == 0);
    fill(&w, 5000);
    near_close(&w);
    wire_run(&w, SECOND_NS / 10);
    cr_assert_eq(w.closes, 1);
    expect_bytes(&w, 5000);
    cr_assert(w.peer_ends == 1 && w.peer_error == 0);
    wire_close(&w);
}

Test(conn, half_a_close_leaves_the_other_half)
{
    struct wire w = {.peer_grant = GM_RECV_UNLIMITED};
    wire_open(&w, 9);
    wire_enter(&w, w.near);
    gm_conn_recv(&w.conn, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
    wire_leave(&w, w.near);
    fill(&w, 100000);
    wire_enter(&w, w.near);
    gm_conn_finish(&w.conn);
    wire_leave(&w, w.near);
    wire_run(&w, SECOND_NS);
    expect_bytes(&w, 100000);
    cr_assert(w.peer_ends == 1 && w.peer_error == 0 && w.closes == 0);
    wire_peer_send(&w, "still here", 10);
    wire_run(&w, SECOND_NS);
    cr_assert_eq(w.received, 10);
    wire_enter(&w, w.near);
    gm_conn_abort(&w.conn, false);
    wire_leave(&w, w.near);
    wire_close(&w);
    cr_assert_eq(w.closes, 1);
}

static struct gm_buf *hogged[4096];

Test(conn, memory_that_runs_out_while_writing_is_told_later_and_once)
{
    struct wire w = {.peer_grant = GM_RECV_UNLIMITED, .close_on_broken = true};
    wire_open(&w, 10);
    unsigned count = wire_hog(&w, GM_STORE_CORK, hogged);
    wire_enter(&w, w.near);
    w.in_call = true;
    gm_conn_write(&w.conn, "lost", 4);
    cr_assert_null(gm_conn_reserve(&w.conn, 10));
    gm_conn_write(&w.conn, "lost", 4);
    w.in_call = false;
    wire_leave(&w, w.near);
    wire_unhog(&w, hogged, count);
    wire_run(&w, SECOND_NS);
    cr_assert(w.brokens == 1 && w.broken_error == -GM_E_NOMEM);
    cr_assert_eq(w.closes, 1);
    cr_assert(w.peer_ends == 1 && w.peer_error < 0, "a queue with a hole is no clean end");
    wire_close(&w);
}

Test(conn, memory_that_runs_out_while_closing_resets)
{
    struct wire w = {.peer_grant = GM_RECV_UNLIMITED};
    wire_open(&w, 11);
    wire_enter(&w, w.near);
    gm_conn_write(&w.conn, "the tail of an answer", 21);
    gm_conn_close(&w.conn);
    struct gm_seg_pool *segs = gm_ring_segs(w.near), kept = *segs;
    segs->free = NULL;
    segs->free_count = 0;
    wire_leave(&w, w.near);
    wire_run(&w, SECOND_NS / 10);
    segs->free = kept.free;
    segs->free_count = kept.free_count;
    wire_run(&w, SECOND_NS);
    cr_assert_eq(w.closes, 1);
    cr_assert(w.got_len == 0 && w.peer_ends == 1 && w.peer_error < 0);
    wire_close(&w);
}

Test(conn, nothing_is_written_after_the_close)
{
    struct wire w = {.peer_grant = GM_RECV_UNLIMITED};
    wire_open(&w, 12);
    wire_enter(&w, w.near);
    gm_conn_write(&w.conn, "a", 1);
    gm_conn_close(&w.conn);
    gm_conn_write(&w.conn, "b", 1);
    gm_conn_write_slice(&w.conn, pattern_slice(&w, 0, 4000));
    gm_conn_push(&w.conn, pattern_slice(&w, 0, 4000));
    cr_assert_null(gm_conn_reserve(&w.conn, 10));
    gm_conn_finish(&w.conn);
    gm_conn_close(&w.conn);
    wire_leave(&w, w.near);
    wire_run(&w, SECOND_NS);
    cr_assert(w.got_len == 1 && w.got[0] == 'a');
    wire_close(&w);
    cr_assert_eq(w.closes, 1);
}

Test(conn, an_abort_drops_what_is_queued)
{
    struct wire w = {.peer_grant = 10};
    wire_open(&w, 13);
    fill(&w, 200000);
    wire_run(&w, SECOND_NS);
    wire_enter(&w, w.near);
    gm_conn_abort(&w.conn, true);
    wire_leave(&w, w.near);
    wire_run(&w, SECOND_NS);
    cr_assert_eq(w.closes, 1);
    wire_peer_read(&w, GM_RECV_UNLIMITED);
    wire_run(&w, SECOND_NS);
    cr_assert(w.peer_ends == 1 && w.peer_error < 0);
    wire_close(&w);
}

Test(conn, a_reset_by_the_peer_is_told_once)
{
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct wire w = {.peer_grant = 10};
        wire_open(&w, seed);
        wire_enter(&w, w.near);
        gm_conn_recv(&w.conn, GM_POOL_CLIENT, 1000);
        wire_leave(&w, w.near);
        fill(&w, 200000);
        wire_peer_close(&w, true);
        wire_run(&w, SECOND_NS);
        cr_assert(w.ends + w.brokens >= 1, "seed %u", (unsigned)seed);
        cr_assert(w.ends <= 1 && w.brokens <= 1);
        wire_enter(&w, w.near);
        gm_conn_close(&w.conn);
        wire_leave(&w, w.near);
        wire_run(&w, 40 * SECOND_NS);
        cr_assert_eq(w.closes, 1);
        wire_close(&w);
    }
}

/* Our sends fail, and yet the peer has something to say. */
static void fail_sends(struct wire *w)
{
    wire_enter(w, w->near);
    gm_conn_recv(&w->conn, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
    wire_leave(w, w->near);
    gm_sim_half_close(&w->conn.sock);
    fill(w, 100000);
    wire_run(w, SECOND_NS / 10);
    cr_assert(w->brokens == 0 && gm_conn_queued(&w->conn) == 0);
}

Test(conn, what_the_peer_says_after_a_failed_send_is_still_heard)
{
    struct wire w = {.peer_grant = GM_RECV_UNLIMITED};
    wire_open(&w, 17);
    fail_sends(&w);
    wire_peer_send(&w, "too large", 9);
    wire_enter(&w, w.far);
    gm_sock_shutdown(&w.peer);
    wire_leave(&w, w.far);
    wire_run(&w, SECOND_NS / 10);
    cr_assert(w.received == 9 && w.ends == 1 && w.brokens == 0);
    near_close(&w);
    wire_run(&w, SECOND_NS);
    cr_assert_eq(w.closes, 1);
    wire_close(&w);
}

Test(conn, a_failed_send_and_silence_break_the_connection)
{
    struct wire w = {.peer_grant = GM_RECV_UNLIMITED, .close_on_broken = true};
    wire_open(&w, 18);
    fail_sends(&w);
    fill(&w, 10); /* dropped */
    wire_run(&w, GM_CONN_VERDICT_NS / 2);
    cr_assert_eq(w.brokens, 0);
    wire_run(&w, GM_CONN_VERDICT_NS);
    cr_assert(w.brokens == 1 && w.broken_error < 0 && w.closes == 1);
    wire_close(&w);
}

Test(conn, bytes_wait_for_the_connection_they_are_dialled_with)
{
    struct wire w = {.peer_grant = GM_RECV_UNLIMITED};
    union gm_addr addr = wire_addr();
    wire_rings(&w, 14);
    wire_enter(&w, w.near);
    cr_assert_eq(gm_conn_dial(w.near, &w.conn, &addr, wire_conn_ops()), 0);
    gm_conn_write(&w.conn, "too early", 9);
    wire_leave(&w, w.near);
    wire_run(&w, 5 * SECOND_NS);
    cr_assert(w.connects == 1 && w.connect_error < 0, "nobody listens");
    wire_enter(&w, w.near);
    gm_conn_close(&w.conn);
    wire_leave(&w, w.near);
    wire_run(&w, SECOND_NS);
    cr_assert_eq(w.closes, 1);
    wire_close(&w);
}

/* What waits for a blocked socket leaves the receive buffers when those run short, unchanged. */
Test(conn, a_blocked_queue_is_evacuated)
{
    static uint8_t bytes[60000];
    struct wire w = {.keep = true};
    gm_sim_profile_default(&w.profile);
    w.profile.buffer_bytes = 65536;
    wire_open(&w, 15);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = byte_at(i);
    wire_enter(&w, w.near);
    gm_conn_recv(&w.conn, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
    wire_leave(&w, w.near);
    /* More than the way back holds, so that the rest is kept here. */
    for (unsigned i = 0; i < 2; i++) {
        wire_peer_send(&w, bytes, sizeof bytes);
        wire_run(&w, SECOND_NS);
    }
    size_t queued = gm_conn_queued(&w.conn);
    cr_assert_gt(queued, 0);
    unsigned count = wire_hog(&w, GM_STORE_CLIENT, hogged);
    wire_run(&w, SECOND_NS);
    cr_assert_eq(gm_conn_queued(&w.conn), queued);
    cr_assert_gt(gm_store_free_count(&w.near->store, GM_STORE_CLIENT), 0);
    wire_unhog(&w, hogged, count);
    wire_peer_read(&w, GM_RECV_UNLIMITED);
    wire_run(&w, SECOND_NS);
    cr_assert_eq(w.got_len, 2 * sizeof bytes);
    for (size_t i = 0; i < w.got_len; i++)
        cr_assert_eq(w.got[i], bytes[i % sizeof bytes]);
    near_close(&w);
    wire_close(&w);
}

Test(conn, a_detached_connection_goes_on_elsewhere)
{
    struct wire w = {.peer_grant = GM_RECV_UNLIMITED};
    wire_open(&w, 16);
    wire_enter(&w, w.near);
    gm_conn_recv(&w.conn, GM_POOL_CLIENT, 100);
    gm_conn_detach(&w.conn);
    wire_leave(&w, w.near);
    wire_run(&w, SECOND_NS);
    cr_assert(w.detaches == 1 && w.closes == 0);
    int fd = w.detached_fd;
    wire_enter(&w, w.near);
    cr_assert_eq(gm_conn_open(w.near, &w.conn, fd, wire_conn_ops()), 0);
    gm_conn_write(&w.conn, "again", 5);
    gm_conn_close(&w.conn);
    wire_leave(&w, w.near);
    wire_run(&w, SECOND_NS);
    cr_assert(w.got_len == 5 && memcmp(w.got, "again", 5) == 0);
    wire_close(&w);
}
