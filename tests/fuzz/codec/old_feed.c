/* Fuzz target: a mux of the 0.0.x dialect, fed whatever a peer may send, for each role, with the
 * owner's answers drawn from the same input.
 *
 * Input: byte 0: role and limits; byte 1: how messages are cut; then a script: a byte says what
 * comes next (a message of bytes as they are, a frame with a head that is nearly right, an owner's
 * act), the ones behind it how much. Whatever comes: no assertion trips, no window is exceeded, a
 * message that is blocked is not taken before its stream has room, every stream shown is closed
 * once, and every buffer is released. */
#include <stdio.h>

#include "codec/codec.h"
#include "frame/head.h"
#include "ws/ws.h"

#include "../../unit/codec/testbuf.h"

#define SLOTS 6u
#define SEGS  64u
#define IDS   8u

#define REQUIRE(x)                                                                                 \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                          \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static struct gm_mux mux;
static struct gm_seg_pool segs;
static uint32_t choice;
static int shown;
static struct gm_stream *streams[SLOTS]; /* shown, by slot */
static char ids[IDS][80];                /* seen on the wire, or made up */

static uint32_t choose(uint32_t n)
{
    choice = choice * 1664525u + 1013904223u;
    return (choice >> 8) % n;
}

static void touch(gm_slice s)
{
    volatile uint8_t sink = 0;
    for (uint32_t i = 0; i < s.len; i++)
        sink = (uint8_t)(sink ^ s.data[i]);
}

static gm_slice response_block(void)
{
    uint8_t block[64];
    struct gm_head_writer writer;
    struct gm_head_response head = {.status = choose(4) == 0 ? 103 : 200,
                                    .content_length = GM_HEAD_LENGTH_UNKNOWN};
    gm_head_write_response(&writer, block, sizeof block, &head);
    int len = gm_head_write_finish(&writer);
    REQUIRE(len > 0);
    return testbuf_block(GM_MUX_HEAD_ROOM, block, (uint32_t)len, choose(2));
}

static void send(struct gm_stream *stream)
{
    gm_slice slice = testbuf_slice(1 + choose(3000), choose(2));
    memset(slice.data, 0, slice.len);
    if (slice.len > gm_stream_room(stream))
        slice.len = gm_stream_room(stream);
    (void)!gm_stream_data(stream, slice);
}

/* What an owner may do at any time. */
static void act(struct gm_stream *stream)
{
    uint8_t trailers[] = {3, 0, 0, 0};
    switch (choose(12)) {
    case 0:
        gm_stream_reset(stream, (uint16_t)choose(30), 0);
        break;
    case 1:
        gm_stream_stop(stream, GM_REASON_CANCELLED);
        break;
    case 2:
        gm_stream_drained(stream, stream->window.held, 1000);
        break;
    case 3:
    case 4:
        if (stream->out == GM_DIR_HEAD) {
            gm_slice head = response_block();
            bool final = head.data[GM_MUX_HEAD_ROOM + 2] == 200;
            (void)!gm_stream_head(stream, head, final && choose(3) == 0);
        }
        break;
    case 5:
    case 6:
        if (stream->out == GM_DIR_BODY)
            send(stream);
        break;
    case 7:
        if (stream->out == GM_DIR_BODY)
            gm_stream_end(stream);
        break;
    case 8:
        if (stream->out == GM_DIR_BODY)
            (void)!gm_stream_trailers(
                stream, testbuf_block(GM_MUX_HEAD_ROOM, trailers, sizeof trailers, choose(2)));
        break;
    default:
        break;
    }
}

static void show(struct gm_stream *stream)
{
    uint16_t slot = (uint16_t)stream->id;
    REQUIRE(slot >= 1 && slot <= SLOTS && streams[slot - 1] == NULL);
    streams[slot - 1] = stream;
    stream->user = &shown;
    shown++;
}
static void on_open(struct gm_stream *s, gm_slice block, bool end)
{
    struct gm_head_request head;
    (void)end;
    REQUIRE(gm_head_read_request(block.data, block.len, &head) == 0);
    show(s);
    act(s);
}
static void on_head(struct gm_stream *s, gm_slice block, bool end)
{
    struct gm_head_response head;
    (void)end;
    REQUIRE(gm_head_read_response(block.data, block.len, &head) == 0);
    act(s);
}
static void on_data(struct gm_stream *s, gm_slice slice)
{
    REQUIRE(slice.len > 0 && s->window.held >= slice.len);
    touch(slice);
    gm_slice_put(slice);
    act(s);
}
static void on_end(struct gm_stream *s)
{
    act(s);
}
static void on_reset(struct gm_stream *s, uint16_t reason, uint16_t flags)
{
    (void)reason, (void)flags;
    REQUIRE(s->user == &shown);
    act(s);
}
static void on_stop(struct gm_stream *s, uint16_t reason)
{
    (void)reason;
    act(s);
}
static void on_amount(struct gm_stream *s, uint32_t amount)
{
    REQUIRE(amount > 0);
    act(s);
}
static void on_closed(struct gm_stream *s)
{
    REQUIRE(s->user == &shown && streams[(uint16_t)s->id - 1] == s);
    streams[(uint16_t)s->id - 1] = NULL;
    shown--;
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
    .on_open = on_open,
    .on_head = on_head,
    .on_data = on_data,
    .on_end = on_end,
    .on_reset = on_reset,
    .on_stop = on_stop,
    .on_credit = on_amount,
    .on_pulled = on_amount,
    .on_closed = on_closed,
    .gather = on_gather,
    .reserve = on_reserve,
};

/* Each pull is one frame whose header is sound; its id is remembered. */
static void pull(void)
{
    static uint8_t cork[2048], head[128];
    gm_slice pieces[8];
    struct gm_batch batch;
    gm_batch_init(&batch, pieces, 8, cork, sizeof cork);
    batch.copy_max = 64;
    size_t got = gm_mux_pull(&mux, &batch, 1);
    size_t len = 0;
    for (unsigned i = 0; i < batch.piece_count && len < sizeof head; i++) {
        size_t n = pieces[i].len < sizeof head - len ? pieces[i].len : sizeof head - len;
        memcpy(head + len, pieces[i].data, n);
        len += n;
    }
    if (got > 0) {
        REQUIRE(len >= 5 && head[0] >= 1 && head[0] <= 4);
        REQUIRE(head[1] == 0 && head[2] == 0 && head[3] == 0 && 5u + head[4] <= len);
        if (mux.role == GM_MUX_SERVER && head[0] == 1) {
            char *id = ids[choose(IDS)];
            memcpy(id, head + 5, head[4]);
            id[head[4]] = '\0';
        }
    }
    gm_batch_drop(&batch);
}

static void open_one(void)
{
    uint8_t block[64];
    struct gm_head_writer writer;
    static const char *const methods[] = {"GET", "HEAD", "POST"};
    const char *method = methods[choose(3)];
    bool body = choose(2);
    struct gm_head_request head = {.method = method,
                                   .method_len = (uint8_t)strlen(method),
                                   .target = "/",
                                   .target_len = 1,
                                   .authority = "h",
                                   .authority_len = 1,
                                   .content_length = GM_HEAD_LENGTH_UNKNOWN,
                                   .flags = body ? GM_HEAD_FLAG_BODY : 0};
    gm_head_write_request(&writer, block, sizeof block, &head);
    int len = gm_head_write_finish(&writer);
    REQUIRE(len > 0);
    struct gm_mux_open open = {testbuf_block(GM_MUX_OPEN_ROOM, block, (uint32_t)len, choose(2)),
                               choose(3000), !body, &shown};
    struct gm_stream *stream;
    if (gm_stream_open(&mux, &open, &stream) < 0)
        gm_slice_put(open.head);
    else
        show(stream);
}

static void stir(void)
{
    struct gm_stream *stream = streams[choose(SLOTS)];
    if (stream != NULL)
        act(stream);
    if (choose(2))
        pull();
}

/* Feeds the message in pieces; a blocked one waits until its stream has room, or has gone. */
static void feed(const uint8_t *data, size_t len, uint32_t cut)
{
    size_t at = 0;
    bool blocked = false;
    do {
        size_t n = cut == 0 || cut > len - at ? len - at : cut;
        gm_slice slice = testbuf_slice(n > 0 ? (uint32_t)n : 1, false);
        slice.len = (uint32_t)n;
        if (n > 0)
            memcpy(slice.data, data + at, n);
        unsigned marks =
            (at == 0 && !blocked ? GM_WS_FIRST : 0u) | (at + n == len ? GM_WS_LAST : 0u);
        uint32_t used = gm_mux_old_feed(&mux, 1, slice, marks);
        gm_slice_put(slice);
        REQUIRE(used <= n);
        at += used;
        blocked = used < n;
        REQUIRE(blocked == gm_mux_old_blocked(&mux));
        for (unsigned i = 0; i < 50 && gm_mux_old_blocked(&mux); i++)
            stir();
        if (gm_mux_old_blocked(&mux)) /* nobody wants it */
            for (unsigned i = 0; i < SLOTS; i++)
                if (streams[i] != NULL)
                    gm_stream_reset(streams[i], GM_REASON_TIMEOUT, 0);
        REQUIRE(!gm_mux_old_blocked(&mux));
    } while (at < len);
}

/* A frame whose id and head are mostly right. */
static void feed_frame(const uint8_t *script, uint32_t cut)
{
    static const char *const heads[] = {
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
        "HTTP/1.1 103 Hints\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4000\r\n\r\n",
        "POST /%20 HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
    };
    static uint8_t frame[6000];
    const char *id = ids[script[1] % IDS];
    size_t id_len = strlen(id), len = 5 + id_len;
    frame[0] = script[0] >> 4 & 3u ? (uint8_t)(1 + (script[0] >> 4 & 3u)) : 1;
    memset(frame + 1, 0, 3);
    frame[4] = (uint8_t)id_len;
    memcpy(frame + 5, id, id_len);
    if (frame[0] == 1) {
        const char *head = heads[script[2] % 8];
        memcpy(frame + len, head, strlen(head));
        len += strlen(head);
    } else {
        size_t more = frame[0] == 2 ? script[2] * 20u : script[2] % 8u > 5 ? 3u : 0u;
        memset(frame + len, 'd', more);
        len += more;
    }
    feed(frame, len, cut);
}

static void run(const uint8_t *script, size_t len, uint32_t cut)
{
    while (len >= 3) {
        size_t used = 3, n;
        switch (script[0] & 7u) {
        case 0:
            n = script[1] < len - 2 ? script[1] : len - 2;
            feed(script + 2, n, cut);
            used = 2 + n;
            break;
        case 1:
            if (mux.role == GM_MUX_SERVER)
                open_one();
            used = 1;
            break;
        case 2:
            pull();
            used = 1;
            break;
        default:
            feed_frame(script, cut);
            break;
        }
        stir();
        script += used;
        len -= used;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct gm_seg seg_memory[SEGS];
    static struct gm_stream table[SLOTS];
    static _Alignas(8) uint8_t memory[1 << 14];
    if (len < 2)
        return 0;
    struct gm_mux_config config = {
        .ops = &ops,
        .segs = &segs,
        .memory = table,
        .window = data[0] & 2 ? 2000 : 100,
        .stream_limit = SLOTS,
        .head_max = data[0] & 4 ? 60 : 0,
        .role = data[0] & 1 ? GM_MUX_AGENT : GM_MUX_SERVER,
    };
    struct gm_mux_old_config old = {.memory = memory, .request_limit = data[0] >> 4};
    REQUIRE(gm_mux_old_memory(config.role, SLOTS) <= sizeof memory);
    memset(memory, 0, sizeof memory);
    gm_seg_pool_init(&segs, seg_memory, sizeof seg_memory);
    gm_mux_init(&mux, &config);
    gm_mux_old_begin(&mux, &old);
    gm_mux_set_peer(&mux, &(struct gm_mux_peer){GM_MUX_OLD_SEND_WINDOW, SLOTS});
    gm_mux_old_up(&mux);
    choice = (uint32_t)(data[0] | data[1] << 8);
    shown = 0;
    for (unsigned i = 0; i < IDS; i++)
        (void)snprintf(ids[i], sizeof ids[i], "%0*u", (int)(i * 12), i);
    run(data + 2, len - 2, data[1]);
    for (unsigned i = 0; i < 20; i++)
        pull();
    gm_mux_abort(&mux, GM_REASON_AGENT_DISCONNECT);
    REQUIRE(shown == 0);
    gm_mux_fini(&mux);
    REQUIRE(segs.free_count == segs.total_count);
    REQUIRE(testbuf_live == 0);
    return 0;
}
