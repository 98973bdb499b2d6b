/* Two links: liveness by virtual time, drain, large heads, the end of one told to the other. On the
 * simulated back-end. */
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "frame/head.h"

static void end_link(struct bench *b)
{
    wire_enter(&b->w, b->w.near);
    gm_link_end(&b->server.link, GM_REASON_NONE, GM_WS_CLOSE_NORMAL, "over");
    wire_leave(&b->w, b->w.near);
    wire_run(&b->w, 5 * SECOND_NS);
    cr_assert(b->server.closes == 1 && b->agent.closes == 1);
    bench_close(b);
}

/* A field of `len` bytes, in a block with room in front and behind. */
static gm_slice block(struct gm_ring *ring, bool response, uint32_t front, uint32_t len)
{
    static char value[65536];
    struct gm_buf *buf = gm_ring_block(ring, GM_BLOCK_HEAD);
    struct gm_head_writer writer;
    cr_assert_not_null(buf);
    for (uint32_t i = 0; i < len; i++)
        value[i] = (char)('a' + (i * 7 + i / 26) % 26);
    struct gm_head_request request = {.method = "GET",
                                      .method_len = 3,
                                      .target = "/",
                                      .target_len = 1,
                                      .authority = "h",
                                      .authority_len = 1,
                                      .content_length = GM_HEAD_LENGTH_UNKNOWN};
    struct gm_head_response answer = {.status = 200,
                                      .reason = "",
                                      .content_length = GM_HEAD_LENGTH_UNKNOWN,
                                      .flags = GM_HEAD_FLAG_BODY};
    if (response)
        gm_head_write_response(&writer, buf->data + front, buf->size - front - GM_MUX_TAIL_ROOM,
                               &answer);
    else
        gm_head_write_request(&writer, buf->data + front, buf->size - front - GM_MUX_TAIL_ROOM,
                              &request);
    gm_head_write_field(&writer, &(struct gm_head_field){"x", value, 1, (uint16_t)len});
    int n = gm_head_write_finish(&writer);
    cr_assert_gt(n, 0);
    return (gm_slice){buf->data, (uint32_t)n + front, buf};
}

static void open_stream(struct bench *b, uint32_t field_len)
{
    wire_enter(&b->w, b->w.near);
    struct gm_mux_open open = {
        .head = block(b->w.near, false, GM_MUX_OPEN_ROOM, field_len), .window = 65536, .end = true};
    cr_assert_eq(gm_stream_open(&b->server.link.mux, &open, &b->server.stream), 0);
    gm_link_kick(&b->server.link);
    wire_leave(&b->w, b->w.near);
    wire_run(&b->w, SECOND_NS / 2);
}

static void answer(struct bench *b, uint32_t field_len, bool end)
{
    wire_enter(&b->w, b->w.far);
    cr_assert_eq(
        gm_stream_head(b->agent.stream, block(b->w.far, true, GM_MUX_HEAD_ROOM, field_len), end),
        0);
    gm_link_kick(&b->agent.link);
    wire_leave(&b->w, b->w.far);
    wire_run(&b->w, SECOND_NS / 2);
}

static void freeze(struct bench *b)
{
    gm_sim_freeze(&b->agent.link.conn.sock, UINT64_MAX, true);
}

Test(pair, an_idle_link_that_falls_silent_is_dead_after_eighteen_seconds)
{
    struct bench *b = bench_pair(NULL, 1);
    cr_assert_eq(b->agent.link.hello.lane, 2);
    wire_run(&b->w, 60 * SECOND_NS);
    cr_assert(b->server.downs == 0 && b->server.silences == b->server.voices);
    cr_assert_gt(b->server.silences, 1, "it asks every fifteen seconds");
    uint64_t last_ns = b->server.link.last_recv_ns;
    freeze(b);
    wire_run(&b->w, 30 * SECOND_NS);
    cr_assert(b->server.downs == 1 && b->server.closes == 1);
    cr_assert_str_eq(b->server.text, "the peer is silent");
    uint64_t after_ns = b->server.down_ns - last_ns;
    cr_assert(after_ns >= GM_LINK_IDLE_SILENCE_NS + GM_LINK_PONG_NS &&
                  after_ns < GM_LINK_IDLE_SILENCE_NS + GM_LINK_PONG_NS + 50 * MS_NS,
              "after %.3f s", (double)after_ns / 1e9);
    cr_assert_eq(b->agent.downs, 1, "the other end finds out by itself");
    bench_close(b);
}

Test(pair, a_busy_link_that_falls_silent_is_dead_after_five_seconds)
{
    for (uint64_t wait_ms = 0; wait_ms < 16000; wait_ms += 1700) {
        struct bench *b = bench_pair(NULL, 2 + wait_ms);
        wire_run(&b->w, wait_ms * MS_NS);
        open_stream(b, 10);
        cr_assert_eq(b->agent.opens, 1);
        uint64_t now_ns = gm_sim_now(b->w.sim);
        freeze(b);
        wire_run(&b->w, 20 * SECOND_NS);
        cr_assert(b->server.downs == 1 && b->server.resets == 1);
        cr_assert_eq(b->server.reset_flags & GM_MUX_RESET_LOST, GM_MUX_RESET_LOST);
        cr_assert_eq(b->server.reset_flags & GM_FRAME_RESET_UNTOUCHED, 0);
        uint64_t after_ns = b->server.down_ns - now_ns;
        cr_assert_leq(after_ns, GM_LINK_BUSY_SILENCE_NS + GM_LINK_PONG_NS + 50 * MS_NS,
                      "after %.3f s", (double)after_ns / 1e9);
        bench_close(b);
    }
}

/* A link that was idle gets a stream at the moment its peer falls silent. */
Test(pair, a_stream_on_a_silent_link_is_told_within_five_seconds)
{
    struct bench *b = bench_pair(NULL, 3);
    wire_run(&b->w, 9 * SECOND_NS);
    freeze(b);
    uint64_t now_ns = gm_sim_now(b->w.sim);
    open_stream(b, 10);
    wire_run(&b->w, 20 * SECOND_NS);
    cr_assert(b->server.downs == 1 && b->agent.opens == 0);
    cr_assert_leq(b->server.down_ns - now_ns,
                  GM_LINK_BUSY_SILENCE_NS + GM_LINK_PONG_NS + 50 * MS_NS);
    bench_close(b);
}

Test(pair, any_byte_within_the_three_seconds_is_life)
{
    struct bench *b = bench_pair(NULL, 4);
    open_stream(b, 10);
    gm_sim_freeze(&b->agent.link.conn.sock, 4500 * MS_NS, true);
    wire_run(&b->w, 20 * SECOND_NS);
    cr_assert(b->server.downs == 0 && b->server.silences >= 1);
    cr_assert_eq(b->server.silences, b->server.voices);
    end_link(b);
}

/* A suspended machine: both ends slept, whatever was under way. */
Test(pair, the_one_who_slept_blames_nobody)
{
    struct gm_sim_profile profile;
    gm_sim_profile_default(&profile);
    /* Far apart, so that a ping is often under way. */
    profile.latency_min_ns = profile.latency_max_ns = 90 * MS_NS;
    struct bench *b = bench_pair(&profile, 5);
    gm_sim_delay(&b->agent.link.conn.sock, 350 * MS_NS);
    open_stream(b, 10);
    for (unsigned i = 0; i < 40; i++) {
        gm_sim_stall(b->w.near, 7 * SECOND_NS);
        gm_sim_stall(b->w.far, 7 * SECOND_NS);
        wire_run(&b->w, 7 * SECOND_NS + (2000 + i * 211) * MS_NS);
    }
    cr_assert_eq(b->server.downs, 0);
    end_link(b);
}

Test(pair, a_drained_link_ends_with_its_last_stream)
{
    struct bench *b = bench_pair(NULL, 6);
    open_stream(b, 10);
    wire_enter(&b->w, b->w.near);
    gm_link_drain(&b->server.link);
    gm_link_drain(&b->server.link);
    wire_leave(&b->w, b->w.near);
    wire_run(&b->w, SECOND_NS);
    cr_assert(b->agent.drains == 1 && b->server.downs == 0);
    wire_enter(&b->w, b->w.near);
    struct gm_mux_open open = {.head = block(b->w.near, false, GM_MUX_OPEN_ROOM, 1),
                               .window = 4096};
    struct gm_stream *stream;
    cr_assert_eq(gm_stream_open(&b->server.link.mux, &open, &stream), -GM_E_CLOSED);
    gm_slice_put(open.head);
    wire_leave(&b->w, b->w.near);
    answer(b, 10, true);
    cr_assert_eq(b->server.heads, 1);
    cr_assert(b->server.downs == 1 && b->server.reason == GM_REASON_DRAINING,
              "at once, not with the next ping");
    wire_run(&b->w, 5 * SECOND_NS);
    cr_assert(b->server.closes == 1 && b->agent.closes == 1);
    bench_close(b);
}

Test(pair, a_drained_link_without_streams_ends_at_once)
{
    struct bench *b = bench_pair(NULL, 7);
    wire_enter(&b->w, b->w.far);
    gm_link_drain(&b->agent.link);
    wire_leave(&b->w, b->w.far);
    wire_run(&b->w, SECOND_NS / 10);
    cr_assert(b->server.drains == 1 && b->agent.downs == 1);
    cr_assert_eq(b->agent.reason, GM_REASON_DRAINING);
    wire_run(&b->w, 5 * SECOND_NS);
    cr_assert(b->server.closes == 1 && b->agent.closes == 1);
    bench_close(b);
}

Test(pair, heads_of_any_size_come_through_any_pieces)
{
    static const uint32_t sizes[] = {1, 4000, 16300, 16400, 40000, 65000};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct gm_sim_profile profile;
        gm_sim_profile_default(&profile);
        profile.segment_bytes = 700;
        profile.split_permille = 500;
        profile.buffer_bytes = 5000;
        struct bench *b = bench_pair(&profile, 10 + i);
        open_stream(b, sizes[i]);
        wire_run(&b->w, SECOND_NS);
        cr_assert_eq(b->agent.opens, 1, "%u bytes", sizes[i]);
        struct gm_head_request request;
        struct gm_head_field field;
        cr_assert_eq(gm_head_read_request(b->agent.head, b->agent.head_len, &request), 0);
        cr_assert(gm_head_next(&request.fields, &field) && field.value_len == sizes[i]);
        answer(b, sizes[i], true);
        wire_run(&b->w, SECOND_NS);
        struct gm_head_response response;
        cr_assert_eq(b->server.heads, 1);
        cr_assert_eq(gm_head_read_response(b->server.head, b->server.head_len, &response), 0);
        cr_assert(gm_head_next(&response.fields, &field) && field.value_len == sizes[i]);
        for (uint32_t at = 0; at < sizes[i]; at++)
            cr_assert_eq(field.value[at], (char)('a' + (at * 7 + at / 26) % 26));
        cr_assert(b->server.stream_closes == 1 && b->agent.stream_closes == 1);
        end_link(b);
    }
}

Test(pair, the_end_of_one_link_is_told_to_the_streams_of_both)
{
    struct bench *b = bench_pair(NULL, 20);
    open_stream(b, 10);
    wire_enter(&b->w, b->w.far);
    gm_link_end(&b->agent.link, GM_REASON_DRAINING, GM_WS_CLOSE_GOING_AWAY, "gone");
    cr_assert(b->agent.resets == 1 && b->agent.stream_closes == 1);
    gm_link_kick(&b->agent.link);
    gm_link_end(&b->agent.link, GM_REASON_DRAINING, GM_WS_CLOSE_GOING_AWAY, "gone");
    gm_link_drain(&b->agent.link);
    wire_leave(&b->w, b->w.far);
    wire_run(&b->w, 5 * SECOND_NS);
    cr_assert(b->server.resets == 1 && b->server.stream_closes == 1);
    cr_assert(b->agent.downs == 1 && b->server.downs == 1);
    cr_assert(b->agent.closes == 1 && b->server.closes == 1);
    bench_close(b);
}

Test(pair, a_link_without_memory_ends_and_tells_its_streams)
{
    static struct gm_buf *hogged[4096];
    struct bench *b = bench_pair(NULL, 21);
    open_stream(b, 10);
    unsigned count = wire_hog(&b->w, GM_STORE_CORK, hogged);
    /* Nothing can be said; when there is memory again, the link goes on. */
    wire_run(&b->w, 1500 * MS_NS);
    wire_unhog(&b->w, hogged, count);
    wire_run(&b->w, 10 * SECOND_NS);
    cr_assert_eq(b->server.downs, 0);
    answer(b, 10, true);
    cr_assert_eq(b->server.heads, 1);
    end_link(b);
}
