/* Fuzz target: a mux fed by whatever a peer may send, for each role, with the owner's answers drawn
 * from the same input.
 *
 * Input: byte 0: role, raw or structured; byte 1: how the stream is cut. Raw: the rest is the wire.
 * Structured: the rest is a script of small records that become mostly valid frames, so that deep
 * states are reached. Whatever comes: no assertion trips, every stream shown is closed once, and
 * every buffer is released. */
#include <stdio.h>

#include "codec/codec.h"

#include "../../unit/codec/testbuf.h"

#define SLOTS 8u
#define SEGS  64u

#define REQUIRE(x)                                                                                 \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                          \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static struct gm_mux mux;
static struct gm_seg_pool segs;
static uint64_t now_ns;
static uint32_t choice; /* advances with each callback: the owner's behaviour */
static int shown;

static uint32_t choose(uint32_t n)
{
    choice = choice * 1664525u + 1013904223u;
    return (choice >> 8) % n;
}

static void answer(struct gm_stream *stream)
{
    static const uint8_t head[] = {2, 0, 200, 0};
    switch (choose(12)) {
    case 0:
        gm_stream_reset(stream, GM_REASON_INTERNAL, 0);
        break;
    case 1:
        gm_stream_stop(stream, GM_REASON_CANCELLED);
        break;
    case 2:
        gm_stream_grant(stream, choose(5000));
        break;
    case 3:
    case 4:
        if (stream->out == GM_DIR_HEAD)
            (void)!gm_stream_head(stream,
                                  testbuf_block(GM_MUX_HEAD_ROOM, head, sizeof head, choose(2)),
                                  choose(3) == 0);
        break;
    case 5:
    case 6:
        if (stream->out == GM_DIR_BODY) {
            gm_slice slice = testbuf_slice(choose(300), choose(2));
            memset(slice.data, 0, slice.len);
            if (slice.len > gm_stream_room(stream))
                slice.len = gm_stream_room(stream);
            (void)!gm_stream_data(stream, slice);
        }
        break;
    case 7:
        if (stream->out == GM_DIR_BODY)
            gm_stream_end(stream);
        break;
    case 8:
        if (stream->out == GM_DIR_BODY)
            (void)!gm_stream_trailers(
                stream, testbuf_block(GM_MUX_HEAD_ROOM, head, sizeof head, choose(2)));
        break;
    default:
        break;
    }
}

static int on_hello(struct gm_mux *m, const uint8_t *json, size_t len)
{
    struct gm_mux_peer peer = {.window = 3000, .stream_limit = SLOTS};
    uint8_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + json[i]);
    gm_mux_set_peer(m, &peer);
    if (m->role == GM_MUX_AGENT)
        gm_mux_greet(m, testbuf_block(GM_MUX_HEAD_ROOM, "{}", 2, false));
    return sum == 77 ? -1 : 0;
}
static void touch(gm_slice s)
{
    volatile uint8_t sink = 0;
    for (uint32_t i = 0; i < s.len; i++)
        sink = (uint8_t)(sink ^ s.data[i]);
}
static void on_open(struct gm_stream *s, gm_slice block, bool end)
{
    (void)end;
    touch(block);
    REQUIRE(s->user == NULL);
    s->user = &shown;
    shown++;
    answer(s);
}
static void on_head(struct gm_stream *s, gm_slice block, bool end)
{
    (void)end;
    touch(block);
    answer(s);
}
static void on_data(struct gm_stream *s, gm_slice slice)
{
    REQUIRE(slice.len > 0);
    touch(slice);
    uint32_t len = slice.len;
    gm_slice_put(slice);
    if (choose(3) > 0)
        gm_stream_drained(s, len, now_ns);
    answer(s);
}
static void on_trailers(struct gm_stream *s, gm_slice block)
{
    touch(block);
    answer(s);
}
static void on_end(struct gm_stream *s)
{
    answer(s);
}
static void on_reset(struct gm_stream *s, uint16_t reason, uint16_t flags)
{
    (void)reason, (void)flags;
    REQUIRE(s->user == &shown);
    answer(s);
}
static void on_stop(struct gm_stream *s, uint16_t reason)
{
    (void)reason;
    answer(s);
}
static void on_credit(struct gm_stream *s, uint32_t delta)
{
    REQUIRE(delta > 0);
    answer(s);
}
static void on_pulled(struct gm_stream *s, uint32_t bytes)
{
    (void)bytes;
    answer(s);
}
static void on_closed(struct gm_stream *s)
{
    REQUIRE(s->user == &shown);
    shown--;
}
static void on_pong(struct gm_mux *m, const uint8_t *opaque)
{
    (void)m, (void)opaque;
}
static void on_drain(struct gm_mux *m)
{
    (void)m;
}
static void on_note(struct gm_mux *m, const uint8_t *json, size_t len)
{
    REQUIRE(len > 0);
    uint8_t copy[GM_FRAME_PAYLOAD_MAX];
    memcpy(copy, json, len); /* all of it is there */
    gm_slice echo = testbuf_block(GM_MUX_HEAD_ROOM, copy, (uint32_t)len, choose(2));
    (void)!gm_mux_note(m, echo);
}
static struct gm_buf *on_gather(struct gm_mux *m, size_t bytes)
{
    (void)m;
    return choose(16) == 0 ? NULL : testbuf_new((uint32_t)bytes, false);
}
static bool on_reserve(struct gm_mux *m, uint32_t bytes)
{
    (void)m, (void)bytes;
    return choose(2);
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
    .on_drain_ack = on_drain,
    .on_note = on_note,
    .gather = on_gather,
    .reserve = on_reserve,
};

static void pull(size_t max)
{
    static uint8_t cork[4096];
    gm_slice pieces[16];
    struct gm_batch batch;
    gm_batch_init(&batch, pieces, 16, cork, sizeof cork);
    batch.copy_max = 64;
    do {
        gm_mux_pull(&mux, &batch, max);
        gm_batch_drop(&batch);
    } while (choose(4) != 0 && gm_mux_ready(&mux));
}

static void open_one(void)
{
    static const uint8_t head[] = {1, 0, 0, 0, 'x'};
    struct gm_mux_open open = {testbuf_block(GM_MUX_OPEN_ROOM, head, sizeof head, choose(2)),
                               choose(20000), choose(4) == 0, &shown};
    struct gm_stream *stream;
    if (gm_stream_open(&mux, &open, &stream) < 0)
        gm_slice_put(open.head);
    else
        shown++;
}

/* Feeds and, now and then, opens and pulls. */
static bool feed(const uint8_t *data, size_t len, uint32_t cut)
{
    while (len > 0) {
        uint32_t n = cut == 0 || cut > len ? (uint32_t)len : cut;
        gm_slice slice = testbuf_slice(n, false);
        memcpy(slice.data, data, n);
        now_ns += 100000;
        if (gm_mux_feed(&mux, now_ns, slice) < 0) {
            REQUIRE(mux.fault_text != NULL && mux.fault_reason != 0);
            return false;
        }
        if (mux.role == GM_MUX_SERVER && choose(3) == 0)
            open_one();
        if (choose(3) == 0)
            pull(1 + choose(40000));
        data += n;
        len -= n;
    }
    return true;
}

/* Four script bytes make a frame: type, flags, stream and length drawn so that most are legal. */
static bool feed_script(const uint8_t *data, size_t len, uint32_t cut)
{
    static uint8_t frame[GM_FRAME_HEADER_LEN + GM_FRAME_PAYLOAD_MAX];
    for (; len >= 4; data += 4, len -= 4) {
        static const uint16_t lengths[] = {0, 4, 8, 100, 3000, 16384, 2, 16};
        uint8_t type = (uint8_t)(data[0] % 16);
        bool link = type <= GM_FRAME_READY || (type >= GM_FRAME_PING && type <= GM_FRAME_DRAIN_ACK);
        uint32_t slot = 1u + data[2] % SLOTS;
        uint32_t generation = mux.slots[slot - 1].id >> 16;
        if (data[2] & 0x80)
            generation = data[2] & 0x40 ? generation + 1 : generation - 1;
        uint16_t length = lengths[data[3] % 8];
        if (type >= GM_FRAME_END && length > GM_FRAME_CONTROL_MAX)
            length = 8;
        uint32_t id = link ? 0 : gm_frame_stream((uint16_t)slot, (uint16_t)generation);
        gm_frame_put_header(frame, type == 0 ? GM_FRAME_OPEN : type, data[1] & 3u, length, id);
        memset(frame + GM_FRAME_HEADER_LEN, 0, length);
        frame[GM_FRAME_HEADER_LEN] = data[3];
        frame[GM_FRAME_HEADER_LEN + 1] = data[1];
        frame[GM_FRAME_HEADER_LEN + 2] = 200;
        if (!feed(frame, GM_FRAME_HEADER_LEN + length, cut))
            return false;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct gm_seg seg_memory[SEGS];
    static struct gm_stream table[SLOTS];
    if (len < 2)
        return 0;
    struct gm_mux_config config = {
        .ops = &ops,
        .segs = &segs,
        .memory = table,
        .window = 2000,
        .stream_limit = SLOTS,
        .head_max = data[0] & 4 ? 500 : 0,
        .role = data[0] & 1 ? GM_MUX_AGENT : GM_MUX_SERVER,
    };
    gm_seg_pool_init(&segs, seg_memory, sizeof seg_memory);
    gm_mux_init(&mux, &config);
    choice = (uint32_t)(data[0] | data[1] << 8);
    now_ns = 1;
    shown = 0;
    if (mux.role == GM_MUX_SERVER)
        gm_mux_greet(&mux, testbuf_block(GM_MUX_HEAD_ROOM, "{}", 2, false));
    pull(1000);
    bool scripted = (data[0] & 2) != 0;
    if (scripted) {
        uint8_t greeting[GM_FRAME_HEADER_LEN + 2];
        gm_frame_put_header(greeting, mux.role == GM_MUX_SERVER ? GM_FRAME_READY : GM_FRAME_HELLO,
                            0, 2, 0);
        memcpy(greeting + GM_FRAME_HEADER_LEN, "{}", 2);
        (void)feed(greeting, sizeof greeting, data[1] & 15u);
        pull(1000);
        (void)feed_script(data + 2, len - 2, data[1]);
    } else {
        (void)feed(data + 2, len - 2, data[1]);
    }
    pull(100000);
    gm_mux_abort(&mux, GM_REASON_AGENT_DISCONNECT);
    REQUIRE(shown == 0);
    gm_mux_fini(&mux);
    REQUIRE(segs.free_count == segs.total_count);
    REQUIRE(testbuf_live == 0);
    return 0;
}
