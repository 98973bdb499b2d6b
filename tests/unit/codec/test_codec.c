/* The native codec by example: one mux, hand-written bytes in, golden bytes out. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "codec/codec.h"
#include "testbuf.h"

#define SLOTS 4u

/* The callbacks write a log, so that a test reads as a story. */
static char story[4096];
static struct gm_mux mux;
static struct gm_seg_pool segs;
static struct gm_seg seg_memory[64];
static struct gm_stream table[SLOTS];
static struct gm_stream *last;
static bool refuse_gather, refuse_hello;

#define TELL(...) (void)snprintf(story + strlen(story), sizeof story - strlen(story), __VA_ARGS__)

static int on_hello(struct gm_mux *m, const uint8_t *json, size_t len)
{
    struct gm_mux_peer peer = {.window = 1000, .stream_limit = 3};
    TELL("hello %.*s;", (int)len, (const char *)json);
    gm_mux_set_peer(m, &peer);
    return refuse_hello ? -GM_E_PROTOCOL : 0;
}
static void on_open(struct gm_stream *s, gm_slice block, bool end)
{
    last = s;
    TELL("open %x len %u end %d;", s->id, block.len, end);
}
static void on_head(struct gm_stream *s, gm_slice block, bool end)
{
    TELL("head %x %u end %d;", s->id, gm_frame_get_u16(block.data + 2), end);
}
static void on_data(struct gm_stream *s, gm_slice slice)
{
    TELL("data %x %.*s;", s->id, (int)slice.len, (const char *)slice.data);
    gm_slice_put(slice);
}
static void on_trailers(struct gm_stream *s, gm_slice block)
{
    TELL("trailers %x %u;", s->id, block.len);
}
static void on_end(struct gm_stream *s)
{
    TELL("end %x;", s->id);
}
static void on_reset(struct gm_stream *s, uint16_t reason, uint16_t flags)
{
    TELL("reset %x %s %x;", s->id, gm_reason_get(reason)->name, flags);
}
static void on_stop(struct gm_stream *s, uint16_t reason)
{
    TELL("stop %x %s;", s->id, gm_reason_get(reason)->name);
}
static void on_credit(struct gm_stream *s, uint32_t delta)
{
    TELL("credit %x %u;", s->id, delta);
}
static void on_pulled(struct gm_stream *s, uint32_t bytes)
{
    TELL("pulled %x %u;", s->id, bytes);
}
static void on_closed(struct gm_stream *s)
{
    TELL("closed %x;", s->id);
}
static void on_pong(struct gm_mux *m, const uint8_t *opaque)
{
    (void)m, TELL("pong %.8s;", (const char *)opaque);
}
static void on_drain(struct gm_mux *m)
{
    (void)m, TELL("drain;");
}
static void on_drain_ack(struct gm_mux *m)
{
    (void)m, TELL("drain_ack;");
}
static void on_note(struct gm_mux *m, const uint8_t *json, size_t len)
{
    (void)m, TELL("note %.*s;", (int)len, (const char *)json);
}
static struct gm_buf *on_gather(struct gm_mux *m, size_t bytes)
{
    (void)m;
    return refuse_gather ? NULL : testbuf_new((uint32_t)bytes, false);
}
static bool on_reserve(struct gm_mux *m, uint32_t bytes)
{
    (void)m;
    TELL("reserve %u;", bytes);
    return true;
}
static const struct gm_mux_ops ops = {
    .on_hello = on_hello,
    .on_open = on_open,
    .on_head = on_head,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_end = on_end,
    .on_reset = on_reset,
    .on_stop = on_stop,
    .on_credit = on_credit,
    .on_pulled = on_pulled,
    .on_closed = on_closed,
    .on_pong = on_pong,
    .on_drain = on_drain,
    .on_drain_ack = on_drain_ack,
    .on_note = on_note,
    .gather = on_gather,
    .reserve = on_reserve,
};

/* --- Wire helpers. --- */

static uint8_t out[300000];
static size_t out_len;

static int feed(const void *bytes, size_t len)
{
    gm_slice slice = testbuf_slice((uint32_t)len, false);
    memcpy(slice.data, bytes, len);
    return gm_mux_feed(&mux, 1, slice);
}
struct sent {
    uint8_t type, flags;
    uint32_t stream;
    const char *payload;
    uint32_t len;
};
static int feed_frame(uint8_t type, uint8_t flags, uint32_t stream, const void *payload,
                      uint32_t len)
{
    static uint8_t frame[8 + 70000];
    frame[0] = type;
    frame[1] = flags;
    gm_frame_set_u16(frame + 2, (uint16_t)len);
    gm_frame_set_u32(frame + 4, stream);
    if (len > 0)
        memcpy(frame + 8, payload, len);
    return feed(frame, 8 + len);
}
static int feed_u32(uint8_t type, uint32_t stream, uint32_t value)
{
    uint8_t payload[4];
    gm_frame_set_u32(payload, value);
    return feed_frame(type, 0, stream, payload, 4);
}
/* OPEN with window and a block of 6 bytes. */
static int feed_open(uint32_t stream, uint32_t window, uint8_t flags)
{
    uint8_t payload[10] = {0};
    gm_frame_set_u32(payload, window);
    payload[4] = 1;
    return feed_frame(GM_FRAME_OPEN, flags, stream, payload, 10);
}
static int feed_head(uint32_t stream, uint16_t status, uint8_t flags)
{
    uint8_t payload[6] = {2};
    gm_frame_set_u16(payload + 2, status);
    return feed_frame(GM_FRAME_HEAD, flags, stream, payload, 6);
}

static size_t pull_max(size_t max, uint16_t pieces_max)
{
    static uint8_t cork[8192];
    static gm_slice pieces[64];
    struct gm_batch batch;
    gm_batch_init(&batch, pieces, pieces_max, cork, sizeof cork);
    batch.copy_max = 100;
    size_t got = gm_mux_pull(&mux, &batch, max);
    for (unsigned i = 0; i < batch.piece_count; i++) {
        memcpy(out + out_len, pieces[i].data, pieces[i].len);
        out_len += pieces[i].len;
    }
    gm_batch_drop(&batch);
    return got;
}
/* Pulls all and says what frames came, one word each: "TYPE:slot[/len][+END]". */
static const char *pull(void)
{
    static char text[4096];
    out_len = 0;
    text[0] = 0;
    while (gm_mux_ready(&mux))
        pull_max(100000, 64);
    for (size_t at = 0; at < out_len;) {
        uint32_t len = gm_frame_get_u16(out + at + 2);
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "%s:%x/%u%s ",
                       gm_frame_type_name(out[at]), gm_frame_get_u32(out + at + 4), len,
                       out[at + 1] == 1   ? "+END"
                       : out[at + 1] == 2 ? "+MORE"
                                          : "");
        at += 8 + len;
    }
    return text;
}

static int note(const char *text)
{
    return gm_mux_note(&mux, testbuf_block(GM_MUX_HEAD_ROOM, text, (uint32_t)strlen(text), false));
}

static void start(enum gm_mux_role role)
{
    struct gm_mux_config config = {.ops = &ops,
                                   .segs = &segs,
                                   .memory = table,
                                   .window = 5000,
                                   .stream_limit = SLOTS,
                                   .head_max = 1000,
                                   .role = role};
    story[0] = 0;
    refuse_gather = refuse_hello = false;
    gm_seg_pool_init(&segs, seg_memory, sizeof seg_memory);
    gm_mux_init(&mux, &config);
    cr_assert(!gm_mux_ready(&mux) && !gm_mux_is_up(&mux) && note("{}") == -GM_E_CLOSED);
    if (role == GM_MUX_SERVER) {
        gm_mux_greet(&mux, testbuf_block(GM_MUX_HEAD_ROOM, "{}", 2, false));
        cr_assert_str_eq(pull(), "HELLO:0/2 ");
        cr_assert_eq(feed_frame(GM_FRAME_READY, 0, 0, "{1}", 3), 0);
    } else {
        cr_assert_eq(feed_frame(GM_FRAME_HELLO, 0, 0, "{1}", 3), 0);
        gm_mux_ping(&mux, (const uint8_t *)"abcdefgh"); /* waits for READY */
        cr_assert(!gm_mux_ready(&mux) && pull_max(100, 8) == 0);
        gm_mux_greet(&mux, testbuf_block(GM_MUX_HEAD_ROOM, "{}", 2, false));
        cr_assert_str_eq(pull(), "READY:0/2 PING:0/8 ");
    }
    cr_assert_str_eq(story, "hello {1};");
    cr_assert(gm_mux_is_up(&mux));
    story[0] = 0;
}
static void server(void)
{
    start(GM_MUX_SERVER);
}
static void agent(void)
{
    start(GM_MUX_AGENT);
}
static void stop(void)
{
    gm_mux_abort(&mux, GM_REASON_AGENT_DISCONNECT);
    gm_mux_fini(&mux);
    cr_assert_eq(segs.free_count, segs.total_count);
    cr_assert_eq(testbuf_live, 0);
}
/* The story since the last look. */
#define STORY(text)                                                                                \
    do {                                                                                           \
        cr_assert_str_eq(story, text);                                                             \
        story[0] = 0;                                                                              \
    } while (0)

static struct gm_stream *open_one(uint32_t window, bool end)
{
    struct gm_mux_open open = {testbuf_block(GM_MUX_OPEN_ROOM, "\1request", 8, false), window, end,
                               NULL};
    struct gm_stream *stream = NULL;
    int error = gm_stream_open(&mux, &open, &stream);
    if (error < 0)
        gm_slice_put(open.head);
    return stream;
}
static int send_bytes(struct gm_stream *stream, uint32_t len, bool foreign)
{
    gm_slice slice = testbuf_slice(len, foreign);
    memset(slice.data, 'x', len);
    return gm_stream_data(stream, slice);
}
static int send_head(struct gm_stream *stream, uint16_t status, bool end)
{
    uint8_t block[6] = {2};
    gm_frame_set_u16(block + 2, status);
    return gm_stream_head(stream, testbuf_block(GM_MUX_HEAD_ROOM, block, 6, true), end);
}

/* --- Notes. --- */

Test(codec, notes_go_in_order_behind_control_and_before_data, .init = agent, .fini = stop)
{
    cr_assert_eq(feed_open(1, 500, 1), 0);
    cr_assert_eq(send_head(last, 200, false), 0);
    cr_assert_eq(send_bytes(last, 5, false), 0);
    cr_assert_eq(note("{\"a\":1}"), 0);
    cr_assert_eq(note("{}"), 0);
    gm_mux_ping(&mux, (const uint8_t *)"abcdefgh");
    cr_assert_str_eq(pull(), "PING:0/8 NOTE:0/7 NOTE:0/2 HEAD:1/6 DATA:1/5 ");
    cr_assert_eq(memcmp(out + 16, "\x0f\0\x07\0\0\0\0\0{\"a\":1}", 15), 0);
}

Test(codec, only_so_many_notes_wait, .init = server, .fini = stop)
{
    for (unsigned i = 0; i < GM_MUX_NOTES_MAX; i++)
        cr_assert_eq(note("{}"), 0);
    cr_assert_eq(note("{}"), -GM_E_LIMIT);
    cr_assert_eq(pull_max(20, 8), 20); /* two fit */
    cr_assert_eq(note("{1}"), 0);
    cr_assert_eq(note("{2}"), 0);
    cr_assert(strstr(pull(), " NOTE:0/2 NOTE:0/3 NOTE:0/3 ") != NULL);
}

Test(codec, a_note_comes_whole_however_it_is_cut, .init = server, .fini = stop)
{
    static const char frame[] = "\x0f\0\x0c\0\0\0\0\0{\"type\":\"x\"}";
    for (size_t cut = 1; cut < sizeof frame - 1; cut++) {
        cr_assert_eq(feed(frame, cut), 0);
        cr_assert_eq(feed(frame + cut, sizeof frame - 1 - cut), 0);
        STORY("note {\"type\":\"x\"};");
    }
    refuse_gather = true; /* lost, and nothing else */
    cr_assert_eq(feed(frame, 10), 0);
    refuse_gather = false;
    cr_assert_eq(feed(frame + 10, sizeof frame - 1 - 10), 0);
    cr_assert_eq(feed_frame(GM_FRAME_NOTE, 0, 0, "", 0), 0);
    STORY("");
    cr_assert_lt(feed_frame(GM_FRAME_NOTE, 0, 3, "{}", 2), 0); /* of a stream */
}

/* --- An exchange. --- */

Test(codec, a_request_seen_by_the_server, .init = server, .fini = stop)
{
    struct gm_stream *s = open_one(65536, false);
    cr_assert_eq(send_bytes(s, 300, false), 0);
    cr_assert_eq(send_bytes(s, 20, true), 0);
    gm_stream_end(s);
    cr_assert_eq(gm_stream_room(s), 680);
    cr_assert_str_eq(pull(), "OPEN:1/12 DATA:1/320+END ");
    cr_assert_eq(memcmp(out, "\x03\x00\x0c\x00\x01\x00\x00\x00\x00\x00\x01\x00\x01request", 20), 0);
    STORY("pulled 1 320;");
    cr_assert_eq(feed_head(1, 103, 0), 0);
    cr_assert_eq(feed_head(1, 200, 0), 0);
    cr_assert_eq(feed_frame(GM_FRAME_DATA, 0, 1, "hello", 5), 0);
    cr_assert_eq(feed_frame(GM_FRAME_TRAILERS, 1, 1, "\3\0\0\0", 4), 0);
    STORY("head 1 103 end 0;head 1 200 end 0;data 1 hello;trailers 1 4;end 1;closed 1;");
    cr_assert_eq(gm_mux_open_count(&mux), 0);
    cr_assert_eq(feed_frame(GM_FRAME_DATA, 0, 1, "late", 4), 0);
    cr_assert_eq(mux.stats.late_frames, 1);
    s = open_one(10, true);
    cr_assert_str_eq(pull(), "OPEN:10001/12+END ");
    cr_assert_eq(feed_head(0x10001, 200, 1), 0);
    STORY("head 10001 200 end 1;end 10001;closed 10001;");
}

Test(codec, a_request_seen_by_the_agent, .init = agent, .fini = stop)
{
    cr_assert_eq(feed_open(2, 500, 0), 0);
    cr_assert_eq(feed_frame(GM_FRAME_DATA, 1, 2, "body", 4), 0);
    STORY("open 2 len 6 end 0;data 2 body;end 2;");
    cr_assert_eq(send_head(last, 100, false), 0);
    cr_assert_eq(send_head(last, 200, false), 0);
    cr_assert_eq(send_bytes(last, 500, false), 0);
    cr_assert_eq(gm_stream_room(last), 0);
    cr_assert_eq(gm_stream_trailers(last, testbuf_block(GM_MUX_HEAD_ROOM, "\3\0\0\0", 4, false)),
                 0);
    cr_assert_str_eq(pull(), "HEAD:2/6 HEAD:2/6 DATA:2/500 TRAILERS:2/4+END ");
    STORY("pulled 2 500;closed 2;");
    cr_assert_eq(feed_open(0x10002, 0, 1), 0);
    STORY("open 10002 len 6 end 1;end 10002;");
    cr_assert_eq(send_head(last, 204, true), 0);
    cr_assert_str_eq(pull(), "HEAD:10002/6+END ");
    STORY("closed 10002;");
}

Test(codec, blocks_that_straddle_are_gathered, .init = agent, .fini = stop)
{
    uint8_t block[600];
    memset(block, 'b', sizeof block);
    cr_assert_eq(feed_frame(GM_FRAME_OPEN, GM_FRAME_FLAG_MORE, 1, block, 3), 0);
    cr_assert_eq(feed_frame(GM_FRAME_OPEN, GM_FRAME_FLAG_MORE, 1, "\0\0", 2),
                 0); /* window "bbb\0" */
    cr_assert_eq(feed_frame(GM_FRAME_OPEN, GM_FRAME_FLAG_END_STREAM, 1, block, 600), 0);
    STORY("open 1 len 601 end 1;end 1;");
    cr_assert_eq(last->send_credit, 0x626262);
}

Test(codec, blocks_above_head_max_end_their_stream_only, .init = agent, .fini = stop)
{
    uint8_t block[1200] = {0};
    cr_assert_eq(feed_frame(GM_FRAME_OPEN, 0, 1, block, 1005), 0);
    cr_assert_eq(feed_frame(GM_FRAME_OPEN, GM_FRAME_FLAG_MORE, 2, block, 900), 0);
    cr_assert_eq(feed_frame(GM_FRAME_OPEN, GM_FRAME_FLAG_MORE, 2, block, 900), 0);
    cr_assert_eq(feed_frame(GM_FRAME_OPEN, GM_FRAME_FLAG_END_STREAM, 2, block, 900), 0);
    STORY("");
    cr_assert_str_eq(pull(), "RESET:1/4 RESET:2/4 ");
    cr_assert_eq(memcmp(out + 8, "\x19\x00\x01\x00", 4), 0); /* header_too_large, UNTOUCHED */
    cr_assert_eq(feed_frame(GM_FRAME_END, 0, 1, "", 0), 0);
    STORY("");
    cr_assert_eq(gm_mux_open_count(&mux), 0);
    cr_assert_eq(feed_open(0x10001, 0, 0), 0);
    STORY("open 10001 len 6 end 0;");
    refuse_gather = true; /* no memory: overload */
    cr_assert_eq(feed_frame(GM_FRAME_TRAILERS, GM_FRAME_FLAG_MORE, 0x10001, block, 9), 0);
    cr_assert_eq(feed_frame(GM_FRAME_TRAILERS, 0, 0x10001, block, 9), 0);
    STORY("reset 10001 overload 100;");
}

/* --- Credit. --- */

Test(codec, data_beyond_the_credit_resets_that_stream, .init = agent, .fini = stop)
{
    static uint8_t body[5001];
    cr_assert_eq(feed_open(1, 9, 0), 0);
    cr_assert_eq(feed_open(2, 9, 0), 0);
    story[0] = 0;
    cr_assert_eq(feed_frame(GM_FRAME_DATA, 0, 1, body, 5001), 0);
    STORY("reset 1 flow_control 100;");
    cr_assert_str_eq(pull(), "RESET:1/4 ");
    cr_assert_eq(feed_frame(GM_FRAME_DATA, 0, 1, body, 5001), 0);
    cr_assert_eq(feed_frame(GM_FRAME_RESET, 0, 1, "\1\0\0\0", 4), 0);
    STORY("closed 1;");
    cr_assert_eq(feed_frame(GM_FRAME_DATA, 0, 2, "ok", 2), 0);
    STORY("data 2 ok;");
}

Test(codec, credit_is_granted_as_it_drains_and_bounded, .init = agent, .fini = stop)
{
    static uint8_t body[4000];
    cr_assert_eq(feed_open(1, 9, 0), 0);
    cr_assert_eq(feed_frame(GM_FRAME_DATA, 0, 1, body, 4000), 0);
    gm_stream_drained(last, 1000, 5);
    cr_assert_str_eq(pull(), "");
    gm_stream_drained(last, 250, 5);
    cr_assert_str_eq(pull(), "CREDIT:1/4 ");
    cr_assert_eq(gm_frame_get_u32(out + 8), 1250);
    gm_stream_grant(last, 7);
    gm_stream_grant(last, 0);
    gm_stream_grant(last, 8);
    cr_assert_str_eq(pull(), "CREDIT:1/4 ");
    cr_assert_eq(gm_frame_get_u32(out + 8), 15);
    story[0] = 0;
    cr_assert_eq(feed_u32(GM_FRAME_CREDIT, 1, 0), 0);
    cr_assert_eq(feed_u32(GM_FRAME_CREDIT, 1, (1u << 30) - 9), 0);
    STORY("credit 1 1073741815;");
    cr_assert_eq(feed_u32(GM_FRAME_CREDIT, 1, 1), 0);
    STORY("reset 1 flow_control 100;");
    gm_stream_grant(last, 100); /* nobody to tell, but counted as reserved */
    cr_assert_eq(last->window.size, 5115);
    cr_assert_eq(feed_open(2, (1u << 30) + 1, 0), 0);
    STORY("");
    cr_assert_str_eq(pull(), "RESET:1/4 RESET:2/4 ");
}

/* --- RESET and STOP. --- */

Test(codec, an_open_taken_back_leaves_no_trace, .init = server, .fini = stop)
{
    struct gm_stream *s = open_one(10, true);
    gm_stream_stop(s, GM_REASON_CANCELLED);
    gm_stream_reset(s, GM_REASON_CANCELLED, 0);
    STORY("");
    cr_assert(gm_mux_ready(&mux));
    cr_assert_str_eq(pull(), "");
    STORY("closed 1;");
    open_one(10, true);
    cr_assert_str_eq(pull(), "OPEN:1/12+END ");
    cr_assert_eq(feed_head(1, 200, 1), 0);
    s = open_one(10, true);
    gm_stream_reset(s, GM_REASON_CANCELLED, 0);
    cr_assert_eq(feed_head(1, 200, 1), 0); /* late, while the next generation has not left */
    cr_assert_str_eq(pull(), "");
    open_one(10, true);
    cr_assert_str_eq(pull(), "OPEN:10001/12+END ");
}

Test(codec, cancelling_after_our_end_is_a_stop, .init = server, .fini = stop)
{
    struct gm_stream *s = open_one(10, true);
    cr_assert_str_eq(pull(), "OPEN:1/12+END ");
    gm_stream_reset(s, GM_REASON_CANCELLED, 0);
    gm_stream_reset(s, GM_REASON_CANCELLED, 0);
    cr_assert_eq(send_bytes(s, 1, false), -GM_E_CLOSED);
    cr_assert_str_eq(pull(), "STOP:1/2 ");
    cr_assert_eq(feed_head(1, 200, 0), 0);
    cr_assert_eq(feed_frame(GM_FRAME_DATA, 0, 1, "dropped", 7), 0);
    STORY("");
    cr_assert_eq(feed_frame(GM_FRAME_END, 0, 1, "", 0), 0);
    STORY("closed 1;");
    cr_assert_eq(mux.stats.dropped_bytes, 7);
}

Test(codec, reset_discards_what_is_queued_and_is_echoed, .init = agent, .fini = stop)
{
    cr_assert_eq(feed_open(1, 5000, 0), 0);
    cr_assert_eq(send_head(last, 200, false), 0);
    cr_assert_eq(send_bytes(last, 4000, true), 0);
    story[0] = 0;
    cr_assert_eq(feed_frame(GM_FRAME_RESET, 0, 1, "\x01\x00\xff\xff", 4), 0);
    STORY("reset 1 cancelled 0;"); /* UNTOUCHED is the agent's to set */
    cr_assert_eq(testbuf_live, 0);
    cr_assert_eq(send_bytes(last, 10, false), -GM_E_CLOSED);
    cr_assert_eq(gm_stream_trailers(last, testbuf_block(GM_MUX_HEAD_ROOM, "\3\0\0\0", 4, false)),
                 -GM_E_CLOSED);
    gm_stream_end(last);
    cr_assert_str_eq(pull(), "RESET:1/4 ");
    cr_assert_eq(memcmp(out + 8, "\x01\x00\x00\x00", 4), 0);
    STORY("closed 1;");
}

Test(codec, untouched_reaches_the_server, .init = server, .fini = stop)
{
    open_one(10, false);
    pull();
    cr_assert_eq(feed_frame(GM_FRAME_RESET, 0, 1, "\x02\x00\x01\x00", 4), 0);
    STORY("reset 1 refused 1;");
    cr_assert_str_eq(pull(), "RESET:1/4 ");
    STORY("closed 1;");
}

Test(codec, stop_drops_the_body_but_not_the_heads, .init = agent, .fini = stop)
{
    cr_assert_eq(feed_open(1, 5000, 1), 0);
    cr_assert_eq(send_head(last, 200, false), 0);
    cr_assert_eq(send_bytes(last, 4000, true), 0);
    story[0] = 0;
    cr_assert_eq(feed_frame(GM_FRAME_STOP, 0, 1, "\x01\x00", 2), 0);
    STORY("stop 1 cancelled;");
    cr_assert_eq(send_bytes(last, 10, false), -GM_E_CLOSED);
    cr_assert_eq(gm_stream_trailers(last, testbuf_block(GM_MUX_HEAD_ROOM, "\3\0\0\0", 4, false)),
                 -GM_E_CLOSED);
    cr_assert_str_eq(pull(), "HEAD:1/6 END:1/0 ");
    STORY("closed 1;");
}

Test(codec, stop_drops_trailers_too, .init = agent, .fini = stop)
{
    cr_assert_eq(feed_open(1, 5000, 1), 0);
    cr_assert_eq(send_head(last, 200, false), 0);
    pull();
    cr_assert_eq(send_bytes(last, 4000, true), 0);
    cr_assert_eq(gm_stream_trailers(last, testbuf_block(GM_MUX_HEAD_ROOM, "\3\0\0\0", 4, false)),
                 0);
    cr_assert_eq(feed_frame(GM_FRAME_STOP, 0, 1, "\x01\x00", 2), 0);
    cr_assert_eq(testbuf_live, 0);
    cr_assert_str_eq(pull(), "END:1/0 ");
}

/* --- The peer's faults. --- */

Test(codec, order_faults_reset_the_stream, .init = server, .fini = stop)
{
    open_one(100, false);
    open_one(100, false);
    open_one(100, false);
    cr_assert_null(open_one(100, false)); /* READY's stream_limit */
    pull();
    cr_assert_eq(feed_frame(GM_FRAME_DATA, 0, 1, "x", 1), 0);
    cr_assert_eq(feed_head(2, 100, 1), 0);
    cr_assert_eq(feed_head(3, 200, 0), 0);
    cr_assert_eq(feed_head(3, 200, 1), 0);
    STORY("reset 1 protocol_error 100;reset 2 protocol_error 100;head 3 200 end 0;reset 3 "
          "protocol_error 100;");
    cr_assert_str_eq(pull(), "RESET:1/4 RESET:2/4 RESET:3/4 ");
    STORY("closed 2;closed 3;");
    cr_assert_eq(feed_frame(GM_FRAME_HEAD, 0, 1, "\2", 1), 0);
    cr_assert_eq(feed_frame(GM_FRAME_END, 0, 1, "", 0), 0);
    STORY("closed 1;");
    open_one(100, false);
    pull();
    cr_assert_eq(feed_frame(GM_FRAME_HEAD, 0, 0x10002, "\2", 1), 0);
    STORY("reset 10002 protocol_error 100;");
}

struct link_fault {
    const char *text;
    uint8_t role, type, flags;
    uint32_t stream;
    uint32_t len;
};

Test(codec, link_faults_end_the_link)
{
    /* Stream 1 is open; its peer has ended its direction; slot 2 has never been opened. */
    static const struct link_fault faults[] = {
        {"greeting", GM_MUX_AGENT, GM_FRAME_HELLO, 0, 0, 2},
        {"greeting", GM_MUX_AGENT, GM_FRAME_READY, 0, 0, 2},
        {"greeting", GM_MUX_SERVER, GM_FRAME_READY, 0, 0, 2},
        {"wrong end", GM_MUX_SERVER, GM_FRAME_OPEN, 0, 2, 20},
        {"HEAD from the server", GM_MUX_AGENT, GM_FRAME_HEAD, 0, 1, 20},
        {"never opened", GM_MUX_AGENT, GM_FRAME_DATA, 0, 2, 1},
        {"never opened", GM_MUX_SERVER, GM_FRAME_HEAD, 0, 2, 9},
        {"never opened", GM_MUX_SERVER, GM_FRAME_CREDIT, 0, 0x10001, 4},
        {"never opened", GM_MUX_AGENT, GM_FRAME_END, 0, 400, 0},
        {"not its slot's next", GM_MUX_AGENT, GM_FRAME_OPEN, 0, 1, 20},
        {"not its slot's next", GM_MUX_AGENT, GM_FRAME_OPEN, 0, 0x10001, 20},
        {"not its slot's next", GM_MUX_AGENT, GM_FRAME_OPEN, 0, 0x10002, 20},
        {"stream_limit", GM_MUX_AGENT, GM_FRAME_OPEN, 0, 5, 20},
        {"without a window", GM_MUX_AGENT, GM_FRAME_OPEN, 0, 2, 3},
        {"final frame", GM_MUX_AGENT, GM_FRAME_DATA, 0, 1, 1},
        {"final frame", GM_MUX_AGENT, GM_FRAME_TRAILERS, 0, 1, 1},
        {"final frame", GM_MUX_AGENT, GM_FRAME_END, 0, 1, 0},
        {"final frame", GM_MUX_AGENT, GM_FRAME_RESET, 0, 1, 4},
        {"final frame", GM_MUX_SERVER, GM_FRAME_HEAD, 0, 1, 9},
        {"16384", GM_MUX_AGENT, GM_FRAME_DATA, 0, 1, 16385},
        {"type 0", GM_MUX_AGENT, 0, 0, 1, 0},
    };
    static uint8_t zeros[20000];
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        const struct link_fault *f = &faults[i];
        start(f->role);
        if (f->role == GM_MUX_SERVER) {
            open_one(10, false);
            pull();
            cr_assert_eq(feed_head(1, 200, 1), 0);
        } else {
            cr_assert_eq(feed_open(1, 10, 1), 0);
        }
        cr_assert_eq(feed_frame(f->type, f->flags, f->stream, zeros, f->len), -GM_E_PROTOCOL,
                     "case %zu", i);
        cr_assert(strstr(mux.fault_text, f->text) != NULL, "case %zu: %s", i, mux.fault_text);
        cr_assert_eq(mux.fault_reason, GM_REASON_PROTOCOL_ERROR);
        cr_assert_eq(feed_frame(GM_FRAME_PING, 0, 0, zeros, 8), -GM_E_PROTOCOL);
        cr_assert(!gm_mux_ready(&mux) && !gm_mux_is_up(&mux) && pull_max(1000, 8) == 0);
        stop();
    }
}

Test(codec, greetings_come_first)
{
    struct gm_mux_config config = {
        .ops = &ops, .segs = &segs, .memory = table, .stream_limit = SLOTS, .role = GM_MUX_AGENT};
    gm_mux_init(&mux, &config);
    cr_assert_lt(feed_frame(GM_FRAME_PING, 0, 0, "12345678", 8), 0);
    stop();
    gm_mux_init(&mux, &config);
    refuse_hello = true;
    cr_assert_lt(feed_frame(GM_FRAME_HELLO, 0, 0, "bad", 3), 0);
    cr_assert(strstr(mux.fault_text, "unusable") != NULL);
    stop();
    refuse_hello = false;
    refuse_gather = true;
    gm_mux_init(&mux, &config);
    cr_assert_eq(feed("\x01\x00\x03\x00\x00\x00\x00\x00{", 9), -GM_E_PROTOCOL);
    cr_assert_eq(mux.fault_reason, GM_REASON_OVERLOAD);
    stop();
    gm_mux_init(&mux, &config);
    cr_assert_eq(feed_frame(GM_FRAME_HELLO, 0, 0, "{}", 2), 0);
    cr_assert_lt(feed_open(1, 1, 0), 0); /* before READY */
    stop();
    config.role = GM_MUX_SERVER;
    gm_mux_init(&mux, &config);
    gm_mux_greet(&mux, testbuf_block(GM_MUX_HEAD_ROOM, "{}", 2, false));
    cr_assert_lt(feed_frame(GM_FRAME_READY, 0, 0, "{}", 2), 0); /* before HELLO */
    stop();
}

/* --- Link frames. --- */

Test(codec, pings_and_drain, .init = agent, .fini = stop)
{
    cr_assert_eq(feed_frame(GM_FRAME_PING, 0, 0, "old.....", 8), 0);
    cr_assert_eq(feed_frame(GM_FRAME_PING, 0, 0, "12345678", 8), 0);
    cr_assert_eq(feed_frame(GM_FRAME_PONG, 0, 0, "abcdefgh", 8), 0);
    cr_assert_eq(feed_frame(GM_FRAME_DRAIN_ACK, 0, 0, "", 0), 0); /* nobody asked */
    cr_assert_eq(feed_frame(200, 0, 77, "future", 6), 0);
    STORY("pong abcdefgh;");
    cr_assert_str_eq(pull(), "PONG:0/8 ");
    cr_assert_eq(memcmp(out + 8, "12345678", 8), 0);
    cr_assert_eq(mux.stats.unknown_frames, 1);
    gm_mux_drain(&mux);
    gm_mux_drain(&mux);
    cr_assert_str_eq(pull(), "DRAIN:0/0 ");
    cr_assert_eq(feed_open(1, 1, 0), 0); /* was on its way */
    STORY("open 1 len 6 end 0;");
    cr_assert_eq(feed_frame(GM_FRAME_DRAIN_ACK, 0, 0, "", 0), 0);
    cr_assert_eq(feed_frame(GM_FRAME_DRAIN_ACK, 0, 0, "", 0), 0);
    cr_assert_eq(feed_frame(GM_FRAME_DRAIN, 0, 0, "", 0), 0);
    cr_assert_eq(feed_frame(GM_FRAME_DRAIN, 0, 0, "", 0), 0);
    STORY("drain_ack;drain;");
    cr_assert_str_eq(pull(), "DRAIN_ACK:0/0 ");
    cr_assert_lt(feed_open(2, 1, 0), 0);
}

Test(codec, the_server_acknowledges_behind_its_opens, .init = server, .fini = stop)
{
    open_one(10, false);
    cr_assert_eq(feed_frame(GM_FRAME_DRAIN, 0, 0, "", 0), 0);
    cr_assert_null(open_one(10, false));
    cr_assert_str_eq(pull(), "OPEN:1/12 DRAIN_ACK:0/0 ");
}

Test(codec, a_lost_link_tells_what_was_untouched, .init = server, .fini = stop)
{
    open_one(10, false);
    pull();
    struct gm_stream *s = open_one(10, false);
    cr_assert_eq(send_bytes(s, 500, false), 0);
    struct gm_stream *t = open_one(10, false);
    gm_stream_reset(t, GM_REASON_CANCELLED, 0);
    gm_mux_abort(&mux, GM_REASON_AGENT_DISCONNECT);
    STORY("reset 1 agent_disconnect 200;closed 1;reset 2 agent_disconnect 201;closed 2;closed 3;");
    cr_assert_null(open_one(10, false));
}

/* --- Pull. --- */

Test(codec, frames_are_whole_slices_of_at_most_16k, .init = agent, .fini = stop)
{
    cr_assert_eq(feed_open(1, 1u << 20, 1), 0);
    cr_assert_eq(send_head(last, 200, false), 0);
    cr_assert_eq(send_bytes(last, 40000, false), 0); /* home: cut */
    cr_assert_eq(send_bytes(last, 16384, true), 0);  /* foreign: whole */
    cr_assert_eq(send_bytes(last, 0, false), 0);
    cr_assert_eq(send_bytes(last, 10, true), 0);
    gm_stream_end(last);
    cr_assert_str_eq(pull(),
                     "HEAD:1/6 DATA:1/16384 DATA:1/16384 DATA:1/7232 DATA:1/16384 DATA:1/10+END ");
}

/* The chain joins neighbours in one buffer: a head, body and trailers that lie side by side are
 * still three things on the wire. */
Test(codec, merged_slices_keep_their_borders, .init = agent, .fini = stop)
{
    cr_assert_eq(feed_open(1, 1u << 20, 1), 0);
    gm_slice body = testbuf_slice(14 + 300 + 12, false);
    memset(body.data, 0, body.len);
    gm_frame_set_u16(body.data + 10, 200);
    gm_slice head = gm_slice_cut(&body, 14);
    gm_slice data = gm_slice_cut(&body, 300);
    cr_assert_eq(gm_stream_head(last, head, false), 0);
    cr_assert_eq(gm_stream_data(last, data), 0);
    cr_assert_eq(gm_stream_trailers(last, body), 0);
    cr_assert_eq(last->queue.count, 1);
    cr_assert_str_eq(pull(), "HEAD:1/6 DATA:1/300 TRAILERS:1/4+END ");
}

/* What was gathered for one block is gone before the next one. */
Test(codec, a_gathered_block_is_released_with_its_unit, .init = agent, .fini = stop)
{
    uint8_t block[600] = {1, 0, 0, 0, 9};
    cr_assert_eq(feed_frame(GM_FRAME_OPEN, GM_FRAME_FLAG_MORE, 1, block, 5), 0);
    cr_assert_eq(testbuf_live, 1);
    cr_assert_eq(feed_frame(GM_FRAME_OPEN, 0, 1, block, 600), 0);
    cr_assert_eq(testbuf_live, 0);
    cr_assert_eq(feed_frame(GM_FRAME_OPEN, 0, 2, block, 30), 0);
    STORY("open 1 len 601 end 0;open 2 len 26 end 0;");
}

Test(codec, control_and_heads_pass_queued_data, .init = agent, .fini = stop)
{
    cr_assert_eq(feed_open(1, 1u << 20, 1), 0);
    struct gm_stream *bulk = last;
    cr_assert_eq(send_head(bulk, 200, false), 0);
    pull();
    cr_assert_eq(send_bytes(bulk, 16384, true), 0);
    cr_assert_eq(feed_open(2, 100, 0), 0);
    cr_assert_eq(send_head(last, 200, false), 0);
    gm_stream_grant(last, 10);
    cr_assert_eq(feed_frame(GM_FRAME_PING, 0, 0, "12345678", 8), 0);
    cr_assert_str_eq(pull(), "PONG:0/8 CREDIT:2/4 HEAD:2/6 DATA:1/16384 ");
}

Test(codec, two_bulk_streams_alternate_and_limits_hold, .init = agent, .fini = stop)
{
    struct gm_stream *streams[3];
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert_eq(feed_open(i + 1, 1u << 20, 1), 0);
        streams[i] = last;
        cr_assert_eq(send_head(last, 200, false), 0);
    }
    pull();
    for (int i = 0; i < 2; i++) {
        for (int n = 0; n < 5; n++)
            cr_assert_eq(send_bytes(streams[i], 16384, true), 0);
    }
    cr_assert_eq(send_bytes(streams[2], 50, true), 0);
    out_len = 0;
    cr_assert_eq(pull_max(1, 8), 16392); /* an empty batch always takes a unit */
    cr_assert_eq(pull_max(2 * 16392, 4),
                 16392 + 58); /* four pieces: a header and a slice, a header and the copy in one */
    uint32_t order[16], count = 0;
    while (gm_mux_ready(&mux)) {
        size_t got = pull_max(40000, 64);
        cr_assert(got > 0 && got <= 40000);
    }
    for (size_t at = 0; at < out_len; at += 8u + gm_frame_get_u16(out + at + 2))
        order[count++] = gm_frame_get_u32(out + at + 4);
    static const uint32_t expected[] = {1, 2, 3, 1, 2, 1, 2, 1, 2, 1, 2};
    cr_assert_eq(count, 11);
    cr_assert_arr_eq(order, expected, sizeof expected);
}

Test(codec, without_segments_nothing_is_opened_and_data_is_refused, .init = server, .fini = stop)
{
    struct gm_stream *s = open_one(10, false);
    while (segs.free_count > 0) { /* fill the pool: foreign slices do not merge */
        int error = send_bytes(s, 1, true);
        cr_assert_eq(error, 0);
    }
    cr_assert_null(open_one(10, false));
    int error = 0;
    for (int i = 0; i < 11 && error == 0; i++)
        error = send_bytes(s, 1, true);
    cr_assert_eq(error, -GM_E_NOMEM);
    gm_stream_reset(s, GM_REASON_OVERLOAD, 0);
}
