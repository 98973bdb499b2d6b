/* A link against a peer that speaks by hand: handshake in both roles, greetings, WebSocket rules,
 * close codes. On the simulated back-end. */
#include <stdlib.h>
#include <string.h>

#include "bench.h"

/* ---- Handshake ---- */

Test(link, a_server_greets_and_is_up_when_the_agent_has)
{
    struct bench *b = bench_server(1);
    cr_assert_eq(memcmp(b->w.got, "HTTP/1.1 101 ", 13), 0);
    cr_assert_not_null(memmem(b->w.got, b->w.got_len, some_accept, 28));
    cr_assert_not_null(memmem(b->w.got, b->w.got_len, "\"lane\":2", 8));
    cr_assert_eq(b->server.ups, 0);
    peer_ready(b);
    cr_assert(b->server.ups == 1 && gm_link_is_up(&b->server.link));
    cr_assert_str_eq(b->server.link.ready.service, "svc");
    cr_assert_eq(b->server.link.ready.window, 1234);
    cr_assert_eq(b->server.link.mux.open_limit, 7);
    wire_peer_close(&b->w, false);
    wire_run(&b->w, SECOND_NS);
    cr_assert(b->server.downs == 1 && b->server.closes == 1);
    cr_assert_eq(b->server.reason, GM_REASON_AGENT_DISCONNECT);
    bench_close(b);
}

Test(link, greetings_come_in_any_pieces_and_fragments)
{
    uint8_t frame[512], wire[1024];
    for (unsigned piece = 1; piece < 40; piece += 3) {
        struct bench *b = bench_server(piece);
        size_t len = ready_frame(frame, ready_json), used = 0, total = 0;
        /* Fragments of the message, cut again by the network, a PING between them. */
        for (unsigned i = 0; used < len; i++) {
            size_t part = len - used < piece ? len - used : piece;
            total +=
                ws_frame(wire + total,
                         (struct gm_ws_header){.length = part,
                                               .key = 77 + i,
                                               .opcode = i == 0 ? GM_WS_BINARY : GM_WS_CONTINUATION,
                                               .fin = used + part == len,
                                               .masked = true},
                         frame + used);
            used += part;
        }
        for (size_t at = 0; at < total; at += piece) {
            wire_peer_send(&b->w, wire + at, total - at < piece ? total - at : piece);
            wire_run(&b->w, MS_NS);
        }
        wire_run(&b->w, 20 * MS_NS);
        cr_assert(b->server.ups == 1 && b->server.downs == 0, "pieces of %u", piece);
        wire_peer_close(&b->w, true);
        wire_run(&b->w, SECOND_NS);
        cr_assert_eq(b->server.closes, 1);
        bench_close(b);
    }
}

Test(link, a_peer_that_does_not_greet_is_dropped_after_ten_seconds)
{
    struct bench *b = bench_server(2);
    wire_run(&b->w, GM_LINK_GREETING_NS - SECOND_NS);
    cr_assert_eq(b->server.downs, 0);
    wire_run(&b->w, 2 * SECOND_NS);
    cr_assert(b->server.downs == 1 && b->server.closes == 1);
    cr_assert_str_eq(b->server.text, "the peer did not greet in time");
    bench_close(b);
}

Test(link, an_unusable_greeting_ends_the_link_and_keeps_the_instance)
{
    static const char *const bad[] = {"{}", "[", "{\"instance\":\"another\"}",
                                      "{\"instance\":\"agent\",\"window\":-1}",
                                      "{\"instance\":\"agent\",\"frame_max\":100}"};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct bench *b = bench_server(3 + i);
        uint8_t frame[512];
        size_t len = ready_frame(frame, bad[i]);
        peer_ws(b,
                (struct gm_ws_header){
                    .length = len, .key = 9, .opcode = GM_WS_BINARY, .fin = true, .masked = true},
                frame);
        cr_assert(b->server.ups == 0 && b->server.downs == 1, "%s", bad[i]);
        cr_assert_eq(close_code(b), GM_WS_CLOSE_PROTOCOL);
        cr_assert_str_eq(b->server.link.ready.instance, "agent");
        bench_close(b);
    }
}

Test(link, an_agent_asks_as_it_should_and_greets_masked)
{
    struct bench *b = bench_agent(4);
    const char *request = request_text(b);
    char *key = strstr(request, "Sec-WebSocket-Key: ");
    cr_assert_eq(strncmp(request, "GET /agent HTTP/1.1\r\n", 21), 0);
    cr_assert_not_null(strstr(request, "Authorization: Bearer t.o.k\r\n"));
    cr_assert_not_null(strstr(request, "Gimlet-Instance: agent\r\n"));
    cr_assert_not_null(strstr(request, "Gimlet-Lane: 3\r\n"));
    cr_assert_not_null(key);
    char accept[GM_WS_ACCEPT_LEN], head[512];
    cr_assert_eq(gm_ws_accept((struct gm_ws_text){key + 19, GM_WS_KEY_LEN}, gm_link_sha1, accept),
                 0);
    struct gm_ws_text protocol = {GM_FRAME_SUBPROTOCOL, sizeof GM_FRAME_SUBPROTOCOL - 1};
    int len = gm_ws_write_response(head, sizeof head, accept, protocol);
    cr_assert_gt(len, 0);
    /* The greeting follows the head in the same segment. */
    struct gm_hello hello = server_config().hello;
    uint8_t out[2048], frame[1024];
    int json = gm_hello_encode(&hello, frame + 8, sizeof frame - 8);
    cr_assert_gt(json, 0);
    size_t n = gm_frame_put_header(frame, GM_FRAME_HELLO, 0, (uint16_t)json, 0);
    memcpy(out, head, (size_t)len);
    n = (size_t)len + ws_frame(out + len,
                               (struct gm_ws_header){
                                   .length = n + (size_t)json, .opcode = GM_WS_BINARY, .fin = true},
                               frame);
    size_t before = b->w.got_len;
    wire_peer_send(&b->w, out, n);
    wire_run(&b->w, 50 * MS_NS);
    cr_assert(b->agent.ups == 1 && b->agent.link.hello.lanes == 4);
    const uint8_t *reply = b->w.got + before;
    struct gm_ws_header header;
    int at = gm_ws_header_read(reply, b->w.got_len - before, &header);
    cr_assert(at > 0 && header.masked && header.opcode == GM_WS_BINARY && header.key != 0);
    cr_assert_neq(reply[at], GM_FRAME_READY, "masked on the wire");
    wire_peer_close(&b->w, false);
    wire_run(&b->w, SECOND_NS);
    cr_assert(b->agent.downs == 1 && b->agent.closes == 1);
    bench_close(b);
}

Test(link, a_refusal_is_kept_with_its_words)
{
    struct bench *b = bench_agent(5);
    send_text(b, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 14\r\n\r\ntoken expired\nx");
    cr_assert(b->agent.downs == 1 && b->agent.link.http_status == 401);
    cr_assert_str_eq(b->agent.link.http_text, "token expired");
    cr_assert_str_eq(b->agent.text, "the server refused the link");
    wire_run(&b->w, SECOND_NS);
    cr_assert_eq(b->agent.closes, 1);
    bench_close(b);
}

Test(link, answers_that_are_no_upgrade_end_the_dial)
{
    static const struct {
        const char *answer, *text;
    } rows[] = {
        {"garbage\r\n\r\n", "the server's answer is not HTTP"},
        {"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Accept: wrong\r\nSec-WebSocket-Protocol: gimlet.v1\r\n\r\n",
         "the server's answer is not a WebSocket upgrade"},
    };
    for (unsigned i = 0; i < 2; i++) {
        struct bench *b = bench_agent(6 + i);
        send_text(b, rows[i].answer);
        cr_assert_eq(b->agent.downs, 1);
        cr_assert_str_eq(b->agent.text, rows[i].text);
        wire_run(&b->w, SECOND_NS);
        cr_assert_eq(b->agent.closes, 1);
        bench_close(b);
    }
    struct bench *b = bench_agent(8);
    static char endless[8000];
    memset(endless, 'x', sizeof endless);
    memcpy(endless, "HTTP/1.1 200 ", 13);
    wire_peer_send(&b->w, endless, sizeof endless);
    wire_run(&b->w, SECOND_NS);
    cr_assert(b->agent.downs == 1 && b->agent.closes == 1);
    bench_close(b);
}

Test(link, nobody_there_is_told_as_the_systems_word)
{
    struct bench *b = calloc(1, sizeof *b);
    wire_rings(&b->w, 9);
    dial(b, b->w.near);
    wire_run(&b->w, SECOND_NS);
    cr_assert(b->agent.downs == 1 && b->agent.closes == 1);
    cr_assert_not_null(b->agent.text);
    bench_close(b);
}

/* ---- WebSocket rules ---- */

Test(link, what_a_peer_may_not_send_closes_with_the_right_code)
{
    static const struct {
        struct gm_ws_header header;
        uint16_t code;
    } rows[] = {
        {{.length = 4, .opcode = GM_WS_BINARY, .fin = true}, GM_WS_CLOSE_PROTOCOL}, /* unmasked */
        {{.length = 4, .key = 1, .opcode = GM_WS_TEXT, .fin = true, .masked = true},
         GM_WS_CLOSE_UNSUPPORTED},
        {{.length = 4, .key = 1, .opcode = GM_WS_CONTINUATION, .fin = true, .masked = true},
         GM_WS_CLOSE_PROTOCOL},
        /* Frame type 0xee before the greeting. */
        {{.length = 8, .key = 1, .opcode = GM_WS_BINARY, .fin = true, .masked = true},
         GM_WS_CLOSE_PROTOCOL},
    };
    static const uint8_t payload[8] = {GM_FRAME_END, 0, 0, 0, 1, 0, 0, 0};
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bench *b = bench_server(20 + i);
        peer_ws(b, rows[i].header, payload);
        cr_assert_eq(b->server.downs, 1, "row %u", i);
        cr_assert_eq(close_code(b), rows[i].code, "row %u: %u", i, close_code(b));
        wire_run(&b->w, 3 * SECOND_NS);
        cr_assert_eq(b->server.closes, 1);
        bench_close(b);
    }
}

Test(link, a_close_is_answered_with_its_code)
{
    struct bench *b = bench_server(30);
    peer_ready(b);
    uint8_t payload[GM_WS_CONTROL_MAX];
    size_t len = gm_ws_close_write(payload, GM_WS_CLOSE_GOING_AWAY, "bye");
    peer_ws(b,
            (struct gm_ws_header){
                .length = len, .key = 3, .opcode = GM_WS_CLOSE, .fin = true, .masked = true},
            payload);
    cr_assert(b->server.downs == 1 && close_code(b) == GM_WS_CLOSE_GOING_AWAY);
    wire_peer_close(&b->w, false);
    wire_run(&b->w, SECOND_NS);
    cr_assert_eq(b->server.closes, 1);
    bench_close(b);
}

Test(link, a_websocket_ping_is_answered_with_its_payload)
{
    struct bench *b = bench_server(31);
    peer_ready(b);
    size_t before = b->w.got_len;
    peer_ws(b,
            (struct gm_ws_header){
                .length = 5, .key = 3, .opcode = GM_WS_PING, .fin = true, .masked = true},
            "hello");
    cr_assert_not_null(memmem(b->w.got + before, b->w.got_len - before, "\x8a\x05hello", 7));
    wire_peer_close(&b->w, false);
    wire_run(&b->w, SECOND_NS);
    bench_close(b);
}

/* Whoever pings and does not read is not owed a growing heap of answers. */
Test(link, pings_without_end_do_not_fill_the_memory)
{
    struct bench *b = bench_server(32);
    peer_ready(b);
    gm_sim_slow_reader(&b->w.peer, 1);
    static uint8_t out[40000], payload[100];
    for (unsigned i = 0; i < 300; i++) {
        size_t len = 0;
        while (len < sizeof out - 200)
            len += ws_frame(out + len,
                            (struct gm_ws_header){.length = sizeof payload,
                                                  .key = i,
                                                  .opcode = GM_WS_PING,
                                                  .fin = true,
                                                  .masked = true},
                            payload);
        wire_enter(&b->w, b->w.far);
        bool busy = gm_sock_sending(&b->w.peer);
        wire_leave(&b->w, b->w.far);
        if (!busy)
            wire_peer_send(&b->w, out, len);
        wire_run(&b->w, 5 * MS_NS);
        cr_assert_leq(gm_conn_queued(&b->server.link.conn), 2 * GM_LINK_QUEUE_BYTES);
    }
    wire_peer_close(&b->w, true);
    wire_run(&b->w, 40 * SECOND_NS);
    cr_assert_eq(b->server.closes, 1);
    bench_close(b);
}
