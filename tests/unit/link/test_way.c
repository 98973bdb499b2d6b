/* What lies between the ends of a link: a proxy that is asked for a tunnel, and TLS, which makes
 * masks needless. The peer speaks by hand, on the simulated back-end. */
#include <stdlib.h>
#include <string.h>

#include "bench.h"

/* ---- Masks ---- */

/* Answers the upgrade request; the greeting follows. */
static void answer_upgrade(struct bench *b, bool zero_mask)
{
    char *key = strstr(request_text(b), "Sec-WebSocket-Key: ");
    char accept[GM_WS_ACCEPT_LEN], head[512];
    uint8_t frame[1024];
    cr_assert_not_null(key);
    cr_assert_eq(gm_ws_accept((struct gm_ws_text){key + 19, GM_WS_KEY_LEN}, gm_link_sha1, accept),
                 0);
    int len = gm_ws_write_response(
        head, sizeof head, accept,
        (struct gm_ws_text){GM_FRAME_SUBPROTOCOL, sizeof GM_FRAME_SUBPROTOCOL - 1});
    cr_assert_gt(len, 0);
    wire_peer_send(&b->w, head, (size_t)len);
    wire_run(&b->w, 20 * MS_NS);
    struct gm_hello hello = server_config().hello;
    hello.zero_mask = zero_mask;
    int json = gm_hello_encode(&hello, frame + 8, sizeof frame - 8);
    cr_assert_gt(json, 0);
    size_t n = gm_frame_put_header(frame, GM_FRAME_HELLO, 0, (uint16_t)json, 0);
    peer_ws(b,
            (struct gm_ws_header){.length = n + (size_t)json, .opcode = GM_WS_BINARY, .fin = true},
            frame);
}

/* Counts the frames in what has come from `at` on, and those of them with a key. */
static void count_frames(const struct bench *b, size_t at, unsigned *frames, unsigned *keyed)
{
    struct gm_ws_header header;
    *frames = *keyed = 0;
    while (at < b->w.got_len) {
        int head = gm_ws_header_read(b->w.got + at, b->w.got_len - at, &header);
        cr_assert(head > 0 && header.masked, "an agent's frames carry the bit in any case");
        at += (size_t)head + header.length;
        *frames += 1;
        *keyed += header.key != 0;
    }
}

Test(way, masks_go_when_both_ends_say_so)
{
    for (unsigned i = 0; i < 4; i++) {
        struct bench *b = bench_agent(20 + i);
        bool ours = (i & 1) != 0, theirs = (i & 2) != 0;
        unsigned frames, keyed;
        b->agent.link.ready.zero_mask = ours;
        size_t before = b->w.got_len;
        answer_upgrade(b, theirs);
        wire_run(&b->w, 50 * MS_NS);
        cr_assert_eq(b->agent.ups, 1);
        count_frames(b, before, &frames, &keyed);
        cr_assert(frames >= 1 && keyed >= 1, "READY is masked in any case");
        before = b->w.got_len;
        for (unsigned ping = 0; ping < 3; ping++) {
            peer_ws(b, (struct gm_ws_header){.length = 5, .opcode = GM_WS_PING, .fin = true},
                    "hello");
            wire_run(&b->w, 50 * MS_NS);
        }
        count_frames(b, before, &frames, &keyed);
        cr_assert_eq(frames, 3);
        cr_assert_eq(keyed, ours && theirs ? 0u : 3u, "agent %d, server %d", ours, theirs);
        bool plain = memmem(b->w.got + before, b->w.got_len - before, "hello", 5) != NULL;
        cr_assert_eq(plain, ours && theirs);
        wire_peer_close(&b->w, false);
        wire_run(&b->w, SECOND_NS);
        cr_assert_eq(b->agent.closes, 1);
        bench_close(b);
    }
}

/* ---- Proxies ---- */

static struct bench *bench_proxied(uint64_t seed, const char *credentials)
{
    struct bench *b = calloc(1, sizeof *b);
    cr_assert_not_null(b);
    gm_sim_profile_default(&b->w.profile);
    b->w.profile.split_permille = b->w.profile.short_permille = 0;
    wire_peer_listen(&b->w, seed);
    struct gm_link_config config = agent_config();
    union gm_addr addr = wire_addr();
    struct gm_link_proxy proxy = {
        .name = "proxy:3128", .to = "[2001:db8::1]:443", .credentials = credentials};
    struct gm_link_dial how = {.addr = &addr,
                               .proxy = &proxy,
                               .host = {"h", 1},
                               .target = {"/agent", 6},
                               .token = {"t.o.k", 5},
                               .lane = -1};
    wire_enter(&b->w, b->w.near);
    cr_assert_eq(gm_link_dial(b->w.near, &b->agent.link, &how, &config), 0);
    wire_leave(&b->w, b->w.near);
    wire_run(&b->w, 50 * MS_NS);
    return b;
}

Test(way, through_a_proxy)
{
    static const char *const asked[] = {
        "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n",
        "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n"
        "Proxy-Authorization: Basic eA==\r\n\r\n"};
    for (unsigned i = 0; i < 2; i++) {
        struct bench *b = bench_proxied(30 + i, i == 0 ? NULL : "Basic eA==");
        cr_assert_eq(b->w.got_len, strlen(asked[i]), "nothing but the CONNECT");
        cr_assert_eq(memcmp(b->w.got, asked[i], b->w.got_len), 0);
        send_text(b, "HTTP/1.1 200 Connection established\r\nVia: a");
        wire_run(&b->w, 50 * MS_NS);
        cr_assert_eq(b->w.got_len, strlen(asked[i]), "the answer is not whole");
        send_text(b, "\r\n\r\n");
        wire_run(&b->w, 50 * MS_NS);
        const char *request = request_text(b) + strlen(asked[i]);
        cr_assert_eq(strncmp(request, "GET /agent HTTP/1.1\r\n", 21), 0);
        cr_assert_not_null(strstr(request, "Authorization: Bearer t.o.k\r\n"));
        cr_assert_null(strstr(request, "Proxy-"), "the server is not told");
        answer_upgrade(b, false);
        wire_run(&b->w, 50 * MS_NS);
        cr_assert_eq(b->agent.ups, 1);
        wire_peer_close(&b->w, false);
        wire_run(&b->w, SECOND_NS);
        cr_assert(b->agent.downs == 1 && b->agent.closes == 1);
        bench_close(b);
    }
}

Test(way, a_proxy_that_refuses)
{
    static const char *const answers[] = {
        "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.0 503 Service Unavailable\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nsurplus",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "",
    };
    for (unsigned i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct bench *b = bench_proxied(40 + i, NULL);
        size_t before = b->w.got_len;
        if (answers[i][0] != '\0')
            send_text(b, answers[i]);
        else
            wire_peer_close(&b->w, false);
        wire_run(&b->w, 2 * SECOND_NS);
        cr_assert(b->agent.downs == 1 && b->agent.closes == 1 && b->agent.ups == 0, "%s",
                  answers[i]);
        cr_assert_eq(b->w.got_len, before, "the token was not given away");
        bench_close(b);
    }
}

Test(way, a_proxy_that_says_nothing)
{
    struct bench *b = bench_proxied(50, NULL);
    wire_run(&b->w, GM_LINK_GREETING_NS + SECOND_NS);
    cr_assert(b->agent.downs == 1 && b->agent.closes == 1);
    bench_close(b);
}
