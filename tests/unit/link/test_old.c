/* Two links in the dialect of 0.0.x, as a server and an agent of ours speak it: greetings,
 * requests, full windows, liveness by virtual time, drain, duplicates. On the simulated back-end.
 */
#include <string.h>

#include "base/counter.h"
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

static struct bench *old_pair(uint64_t seed)
{
    struct bench *b = bench_old_pair(NULL, seed, false);
    cr_assert(b->server.ups == 1 && b->agent.ups == 1);
    cr_assert(gm_link_is_old(&b->server.link) && gm_link_is_old(&b->agent.link));
    return b;
}

static gm_slice block(struct gm_ring *ring, bool response, uint32_t front)
{
    struct gm_buf *buf = gm_ring_block(ring, GM_BLOCK_SMALL);
    struct gm_head_writer writer;
    cr_assert_not_null(buf);
    struct gm_head_request request = {.method = "GET",
                                      .method_len = 3,
                                      .target = "/",
                                      .target_len = 1,
                                      .authority = "h",
                                      .authority_len = 1,
                                      .content_length = GM_HEAD_LENGTH_UNKNOWN};
    struct gm_head_response answer = {
        .status = 200, .content_length = GM_HEAD_LENGTH_UNKNOWN, .flags = GM_HEAD_FLAG_BODY};
    if (response)
        gm_head_write_response(&writer, buf->data + front, buf->size - front, &answer);
    else
        gm_head_write_request(&writer, buf->data + front, buf->size - front, &request);
    int n = gm_head_write_finish(&writer);
    cr_assert_gt(n, 0);
    return (gm_slice){buf->data, (uint32_t)n + front, buf};
}

static void open_stream(struct bench *b, uint32_t window)
{
    wire_enter(&b->w, b->w.near);
    struct gm_mux_open open = {
        .head = block(b->w.near, false, GM_MUX_OPEN_ROOM), .window = window, .end = true};
    cr_assert_eq(gm_stream_open(&b->server.link.mux, &open, &b->server.stream), 0);
    gm_link_kick(&b->server.link);
    wire_leave(&b->w, b->w.near);
    wire_run(&b->w, SECOND_NS / 2);
    cr_assert_eq(b->agent.opens, 1);
}

/* The agent's answer: a head and `len` bytes, in pieces of a block; `last`: and its end. */
static void answer(struct bench *b, bool head, uint32_t len, bool last)
{
    wire_enter(&b->w, b->w.far);
    if (head)
        cr_assert_eq(
            gm_stream_head(b->agent.stream, block(b->w.far, true, GM_MUX_HEAD_ROOM), false), 0);
    while (len > 0) {
        struct gm_buf *buf = gm_ring_block(b->w.far, GM_BLOCK_SMALL);
        cr_assert_not_null(buf);
        uint32_t n = len < buf->size ? len : buf->size;
        memset(buf->data, 'x', n);
        cr_assert_eq(gm_stream_data(b->agent.stream, (gm_slice){buf->data, n, buf}), 0);
        len -= n;
    }
    if (last)
        gm_stream_end(b->agent.stream);
    gm_link_kick(&b->agent.link);
    wire_leave(&b->w, b->w.far);
    wire_run(&b->w, SECOND_NS / 2);
}

static void regrant(struct bench *b, uint32_t bytes)
{
    wire_enter(&b->w, b->w.near);
    gm_stream_regrant(b->server.stream, bytes);
    gm_link_kick(&b->server.link);
    wire_leave(&b->w, b->w.near);
    wire_run(&b->w, SECOND_NS / 2);
}

Test(old, greetings)
{
    struct bench *b = old_pair(1);
    const struct gm_hello *hello = &b->agent.link.hello;
    cr_assert_str_eq(hello->server_id, "s");
    cr_assert_str_eq(hello->instance, "s");
    cr_assert(hello->lane == 0 && hello->lanes == 1);
    cr_assert(b->server.link.ready.not_ready, "until it says otherwise");
    cr_assert_not_null(strstr(b->server.note, "\"ready\""));
    static const char note[] = "{\"type\":\"metrics\"}";
    wire_enter(&b->w, b->w.far);
    cr_assert_eq(gm_link_note(&b->agent.link, note, sizeof note - 1), 0);
    wire_leave(&b->w, b->w.far);
    wire_run(&b->w, SECOND_NS);
    cr_assert_str_eq(b->server.note, note);
    end_link(b);
}

Test(old, a_request_and_its_answer)
{
    struct bench *b = old_pair(2);
    open_stream(b, 65536);
    answer(b, true, 10000, true);
    cr_assert(b->server.heads == 1 && b->server.data_bytes == 10000 && b->server.ends == 1);
    cr_assert(b->server.stream_closes == 1 && b->agent.stream_closes == 1);
    end_link(b);
}

/* Also in any pieces that a network makes of it. */
Test(old, a_full_window_pauses_the_link)
{
    for (uint64_t seed = 1; seed < 20; seed++) {
        struct bench *b = old_pair(seed);
        open_stream(b, 5000);
        for (unsigned i = 0; i < 10; i++)
            answer(b, i == 0, 10000, i == 9);
        cr_assert(b->server.data_bytes == 5000 && b->server.ends == 0);
        wire_run(&b->w, 60 * SECOND_NS);
        cr_assert(b->server.downs == 0, "who does not listen hears no pong");
        regrant(b, 3000);
        cr_assert_eq(b->server.data_bytes, 8000);
        for (unsigned i = 0; i < 30 && b->server.data_bytes < 100000; i++)
            regrant(b, 5000);
        wire_run(&b->w, SECOND_NS);
        cr_assert(b->server.data_bytes == 100000 && b->server.ends == 1);
        wire_run(&b->w, 60 * SECOND_NS);
        cr_assert(b->server.downs == 0 && b->agent.downs == 0);
        end_link(b);
    }
}

Test(old, what_came_before_the_end_is_read)
{
    struct bench *b = old_pair(3);
    open_stream(b, 5000);
    answer(b, true, 20000, true);
    cr_assert_eq(b->server.data_bytes, 5000);
    wire_enter(&b->w, b->w.far);
    gm_link_end(&b->agent.link, GM_REASON_NONE, GM_WS_CLOSE_NORMAL, "over");
    wire_leave(&b->w, b->w.far);
    wire_run(&b->w, 10 * SECOND_NS);
    cr_assert_eq(b->server.downs, 0);
    for (unsigned i = 0; i < 5 && b->server.ends == 0; i++)
        regrant(b, 5000);
    wire_run(&b->w, SECOND_NS);
    cr_assert(b->server.data_bytes == 20000 && b->server.ends == 1 && b->server.resets == 0);
    cr_assert(b->server.downs == 1);
    wire_run(&b->w, 10 * SECOND_NS);
    bench_close(b);
}

Test(old, silence)
{
    struct bench *b = old_pair(4);
    wire_run(&b->w, 60 * SECOND_NS);
    cr_assert(b->server.downs == 0 && b->server.silences == b->server.voices);
    uint64_t last_ns = b->server.link.last_recv_ns;
    gm_sim_freeze(&b->agent.link.conn.sock, UINT64_MAX, true);
    wire_run(&b->w, 120 * SECOND_NS);
    cr_assert(b->server.downs == 1 && b->server.closes == 1);
    uint64_t after_ns = b->server.down_ns - last_ns;
    cr_assert(after_ns >= GM_LINK_IDLE_SILENCE_NS + GM_LINK_PONG_NS &&
              after_ns < GM_LINK_IDLE_SILENCE_NS + GM_LINK_PONG_NS + 50 * MS_NS);
    bench_close(b);
}

static void prove(struct bench *b)
{
    wire_enter(&b->w, b->w.near);
    gm_link_old_prove(&b->server.link);
    wire_leave(&b->w, b->w.near);
    wire_run(&b->w, 4 * SECOND_NS);
}

Test(old, a_sign_of_life_or_none)
{
    struct bench *b = old_pair(5);
    prove(b);
    cr_assert(b->server.proofs == 1 && b->server.downs == 0);
    gm_sim_freeze(&b->agent.link.conn.sock, UINT64_MAX, true);
    prove(b);
    cr_assert(b->server.proofs == 1 && b->server.downs == 1);
    wire_run(&b->w, 120 * SECOND_NS);
    bench_close(b);
}

Test(old, an_agent_drains)
{
    struct bench *b = old_pair(6);
    open_stream(b, 65536);
    wire_enter(&b->w, b->w.far);
    gm_link_drain(&b->agent.link);
    wire_leave(&b->w, b->w.far);
    wire_run(&b->w, 5 * SECOND_NS);
    cr_assert_not_null(strstr(b->server.note, "\"draining\""));
    cr_assert(b->agent.downs == 0, "a stream is open");
    answer(b, true, 100, true);
    wire_run(&b->w, 5 * SECOND_NS);
    cr_assert(b->server.ends == 1 && b->agent.downs == 1 && b->server.downs == 1);
    bench_close(b);
}

/* However much stands before it: a server that does not hear it goes on sending requests. */
Test(old, an_agent_with_much_to_say_still_says_that_it_drains)
{
    struct bench *b = old_pair(9);
    static const char note[] = "{\"type\":\"metrics\"}";
    uint8_t pong[GM_WS_HEADER_MAX];
    size_t len = ws_frame(
        pong, (struct gm_ws_header){.opcode = GM_WS_PONG, .fin = true, .masked = true, .key = 1},
        "");
    gm_sim_freeze(&b->server.link.conn.sock, SECOND_NS, true);
    wire_enter(&b->w, b->w.far);
    while (gm_conn_queued(&b->agent.link.conn) < 2 * GM_LINK_QUEUE_BYTES)
        gm_conn_write(&b->agent.link.conn, pong, len);
    cr_assert_eq(gm_link_note(&b->agent.link, note, sizeof note - 1), -GM_E_LIMIT);
    gm_link_drain(&b->agent.link);
    wire_leave(&b->w, b->w.far);
    wire_run(&b->w, 2 * SECOND_NS);
    cr_assert_not_null(strstr(b->server.note, "\"draining\""));
    wire_run(&b->w, 5 * SECOND_NS);
    cr_assert(b->agent.downs == 1 && b->server.downs == 1);
    bench_close(b);
}

Test(old, a_server_lets_its_streams_finish)
{
    struct bench *b = old_pair(7);
    open_stream(b, 65536);
    wire_enter(&b->w, b->w.near);
    gm_link_drain(&b->server.link);
    wire_leave(&b->w, b->w.near);
    wire_run(&b->w, 5 * SECOND_NS);
    cr_assert(b->server.downs == 0);
    answer(b, true, 100, true);
    wire_run(&b->w, 5 * SECOND_NS);
    cr_assert(b->server.ends == 1 && b->server.downs == 1 && b->agent.downs == 1);
    bench_close(b);
}

Test(old, a_duplicate_is_told)
{
    struct bench *b = bench_old_pair(NULL, 8, true);
    wire_run(&b->w, 5 * SECOND_NS);
    cr_assert(b->agent.ups == 0 && b->agent.downs == 1 && b->agent.link.duplicate);
    cr_assert_str_eq(b->agent.link.hello.instance, "s");
    cr_assert(b->agent.link.hello.lane >= b->agent.link.hello.lanes, "it is one too many");
    cr_assert_eq(b->server.downs, 1);
    bench_close(b);
}
