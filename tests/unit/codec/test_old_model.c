/* Property test of the 0.0.x dialect: a server's and an agent's mux back to back, messages cut
 * where they may be, readers slow, streams broken off.
 *
 * Random operations from a seed. Bytes arrive in order and unchanged; an END comes only behind all
 * of them; a mux never gives more than a window takes, and a blocked message goes on where it
 * stopped; every stream is closed; nothing leaks. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "codec/codec.h"
#include "frame/head.h"
#include "testbuf.h"
#include "ws/ws.h"

#define SLOTS    5u
#define PAIRS    200u
#define STEPS    3000
#define SERVER   0
#define AGENT    1
#define MESSAGES 4096u

struct half {
    struct gm_stream *stream; /* NULL: not yet, or closed */
    uint64_t sent, received, to_send;
    uint32_t held;
    bool shown, headed, ended, got_head, got_end, got_reset, we_reset, closed;
};

struct message {
    uint8_t *bytes;
    uint32_t len, at;
};

struct end {
    struct gm_mux mux;
    struct gm_seg_pool segs;
    void *table, *seg_memory, *memory;
    struct message wire[MESSAGES]; /* sent by this end, not yet read whole by the other */
    uint32_t first, count;
};

struct world {
    uint64_t seed, random;
    struct end ends[2];
    struct half halves[PAIRS][2];
    uint32_t pairs;
};

static struct world *w;

static uint64_t rnd(void)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random * 0x2545F4914F6CDD1Dull >> 11;
}
static uint32_t below(uint32_t n)
{
    return (uint32_t)(rnd() % n);
}

#define CHECK(x) cr_assert((x), "seed %llu: %s", (unsigned long long)w->seed, #x)

static uint8_t pattern(uint32_t uid, int dir, uint64_t at)
{
    return (uint8_t)(uid * 31u + (uint32_t)dir * 101u + at * 7u + (at >> 8));
}
static int side_of(const struct gm_mux *mux)
{
    return mux == &w->ends[SERVER].mux ? SERVER : AGENT;
}
static uint32_t uid_of(const struct gm_stream *stream)
{
    return (uint32_t)(uintptr_t)stream->user - 1u;
}
static struct half *half_of(const struct gm_stream *stream)
{
    return &w->halves[uid_of(stream)][side_of(stream->mux)];
}
static struct half *other_of(const struct gm_stream *stream)
{
    return &w->halves[uid_of(stream)][!side_of(stream->mux)];
}

/* --- Callbacks. --- */

static void on_open(struct gm_stream *s, gm_slice block, bool end)
{
    struct gm_head_request head;
    CHECK(gm_head_read_request(block.data, block.len, &head) == 0);
    uint32_t uid = 0;
    for (unsigned i = 1; i < head.target_len; i++)
        uid = uid * 10 + (uint32_t)(head.target[i] - '0');
    CHECK(uid < w->pairs && head.target[0] == '/');
    s->user = (void *)(uintptr_t)(uid + 1u);
    struct half *half = half_of(s);
    CHECK(!half->shown);
    half->shown = true;
    half->stream = s;
    CHECK(end == (other_of(s)->to_send == 0));
}
static void on_head(struct gm_stream *s, gm_slice block, bool end)
{
    struct gm_head_response head;
    CHECK(gm_head_read_response(block.data, block.len, &head) == 0);
    CHECK(head.status == 200 && !end && !half_of(s)->got_head);
    half_of(s)->got_head = true;
}
static void on_data(struct gm_stream *s, gm_slice slice)
{
    struct half *half = half_of(s);
    CHECK(!half->got_end && !half->got_reset && slice.len > 0);
    for (uint32_t i = 0; i < slice.len; i++)
        CHECK(slice.data[i] == pattern(uid_of(s), !side_of(s->mux), half->received + i));
    half->received += slice.len;
    half->held += slice.len;
    CHECK(s->window.held >= half->held || side_of(s->mux) == SERVER);
    gm_slice_put(slice);
}
static void on_end(struct gm_stream *s)
{
    struct half *half = half_of(s);
    CHECK(!half->got_end && !half->got_reset);
    half->got_end = true;
    CHECK(half->received == other_of(s)->to_send);
}
static void on_reset(struct gm_stream *s, uint16_t reason, uint16_t flags)
{
    (void)reason, (void)flags;
    CHECK(!half_of(s)->we_reset && !half_of(s)->got_reset);
    half_of(s)->got_reset = true;
}
static void on_stop(struct gm_stream *s, uint16_t reason)
{
    (void)reason;
    half_of(s)->ended = true;
    gm_stream_end(s);
}
static void on_amount(struct gm_stream *s, uint32_t amount)
{
    (void)s;
    CHECK(amount > 0);
}
static void on_closed(struct gm_stream *s)
{
    struct half *half = half_of(s);
    CHECK(!half->closed);
    half->closed = true;
    half->stream = NULL;
}
static struct gm_buf *on_gather(struct gm_mux *m, size_t bytes)
{
    (void)m;
    return testbuf_new((uint32_t)bytes, false);
}
static bool on_reserve(struct gm_mux *m, uint32_t bytes)
{
    (void)m, (void)bytes;
    return below(2);
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

/* --- The wire. --- */

static void pull(int side)
{
    static uint8_t cork[4096];
    struct end *end = &w->ends[side];
    gm_slice pieces[16];
    struct gm_batch batch;
    if (end->count == MESSAGES)
        return;
    gm_batch_init(&batch, pieces, (uint16_t)(5 + below(12)), cork, 1000);
    batch.copy_max = below(500);
    size_t len = gm_mux_pull(&end->mux, &batch, 1), at = 0;
    if (len > 0) {
        struct message *message = &end->wire[(end->first + end->count++) % MESSAGES];
        *message = (struct message){.bytes = malloc(len), .len = (uint32_t)len};
        for (unsigned i = 0; i < batch.piece_count; i++) {
            memcpy(message->bytes + at, pieces[i].data, pieces[i].len);
            at += pieces[i].len;
        }
        CHECK(at == len);
    }
    gm_batch_drop(&batch);
}

/* The other end reads a piece of the oldest message, unless it is blocked. */
static void deliver(int from)
{
    struct end *end = &w->ends[from];
    struct gm_mux *mux = &w->ends[!from].mux;
    if (end->count == 0 || gm_mux_old_blocked(mux))
        return;
    struct message *message = &end->wire[end->first];
    uint32_t left = message->len - message->at, n = below(3) == 0 ? 1 + below(left) : left;
    gm_slice slice = testbuf_slice(n, false);
    memcpy(slice.data, message->bytes + message->at, n);
    unsigned marks = (message->at == 0 ? GM_WS_FIRST : 0u) | (n == left ? GM_WS_LAST : 0u);
    uint32_t used = gm_mux_old_feed(mux, 1, slice, marks);
    gm_slice_put(slice);
    CHECK(used == n || (used < n && gm_mux_old_blocked(mux)));
    message->at += used;
    if (message->at < message->len)
        return;
    free(message->bytes);
    end->first = (end->first + 1) % MESSAGES;
    end->count--;
}

/* --- Owners. --- */

static void open_pair(void)
{
    uint8_t block[200];
    char target[16];
    struct gm_head_writer writer;
    struct gm_stream *stream;
    uint32_t uid = w->pairs;
    if (uid == PAIRS)
        return;
    struct half *half = &w->halves[uid][SERVER];
    half->to_send = below(2) ? below(200000) : 0;
    w->halves[uid][AGENT].to_send = below(2) ? below(300000) : below(100);
    int len = snprintf(target, sizeof target, "/%u", uid);
    gm_head_write_request(
        &writer, block, sizeof block,
        &(struct gm_head_request){.method = "POST",
                                  .method_len = 4,
                                  .target = target,
                                  .target_len = (uint16_t)len,
                                  .authority = "h",
                                  .authority_len = 1,
                                  .content_length =
                                      half->to_send > 0 ? half->to_send : GM_HEAD_LENGTH_UNKNOWN,
                                  .flags = half->to_send > 0 ? GM_HEAD_FLAG_BODY : 0});
    len = gm_head_write_finish(&writer);
    CHECK(len > 0);
    struct gm_mux_open open = {.head =
                                   testbuf_block(GM_MUX_OPEN_ROOM, block, (uint32_t)len, below(2)),
                               .window = 2000 + below(70000),
                               .end = half->to_send == 0,
                               .user = (void *)(uintptr_t)(uid + 1u)};
    w->pairs++; /* known before the callbacks come */
    if (gm_stream_open(&w->ends[SERVER].mux, &open, &stream) < 0) {
        gm_slice_put(open.head);
        w->pairs--;
        return;
    }
    half->shown = true;
    half->stream = stream;
    half->ended = half->to_send == 0;
}

static void answer(struct half *half)
{
    uint8_t block[100];
    struct gm_head_writer writer;
    gm_head_write_response(&writer, block, sizeof block,
                           &(struct gm_head_response){.status = 200,
                                                      .content_length = GM_HEAD_LENGTH_UNKNOWN,
                                                      .flags = GM_HEAD_FLAG_BODY});
    int len = gm_head_write_finish(&writer);
    gm_slice head = testbuf_block(GM_MUX_HEAD_ROOM, block, (uint32_t)len, below(2));
    half->headed = gm_stream_head(half->stream, head, false) == 0;
}

static void send(uint32_t uid, int side)
{
    struct half *half = &w->halves[uid][side];
    uint64_t left = half->to_send - half->sent;
    if (left == 0) {
        half->ended = true;
        gm_stream_end(half->stream);
        return;
    }
    uint32_t room = gm_stream_room(half->stream), max = left < room ? (uint32_t)left : room;
    if (max == 0)
        return;
    uint32_t n = 1 + below(max < 16384 ? max : 16384);
    gm_slice slice = testbuf_slice(n, below(2));
    for (uint32_t i = 0; i < n; i++)
        slice.data[i] = pattern(uid, side, half->sent + i);
    if (gm_stream_data(half->stream, slice) == 0)
        half->sent += n;
}

static void take(struct half *half, int side)
{
    if (half->held == 0)
        return;
    uint32_t n = 1 + below(half->held);
    half->held -= n;
    if (side == AGENT)
        gm_stream_drained(half->stream, n, 1 + below(1000000));
    else
        gm_stream_regrant(half->stream, n);
}

static void act(uint32_t uid, int side)
{
    struct half *half = &w->halves[uid][side];
    if (half->stream == NULL || half->we_reset || half->got_reset)
        return;
    uint32_t what = below(200);
    if (what == 0) {
        half->we_reset = true;
        /* Other reasons of an agent become answers of their own: test_old.c. */
        gm_stream_reset(half->stream,
                        side == AGENT ? GM_REASON_BACKEND_CLOSED : (uint16_t)(1 + below(20)), 0);
    } else if (what < 80) {
        take(half, side);
    } else if (side == AGENT && !half->headed) {
        answer(half);
    } else if (!half->ended) {
        send(uid, side);
    }
}

static void step(void)
{
    uint32_t what = below(20);
    if (what == 0)
        open_pair();
    else if (what < 6)
        pull((int)below(2));
    else if (what < 12)
        deliver((int)below(2));
    else if (w->pairs > 0)
        act(w->pairs - 1 - below(w->pairs < 8 ? w->pairs : 8), (int)below(2));
}

/* --- Worlds. --- */

static void begin(struct end *end, enum gm_mux_role role)
{
    struct gm_mux_config config = {.ops = &ops,
                                   .segs = &end->segs,
                                   .window = role == GM_MUX_AGENT ? 3000 : 0,
                                   .stream_limit = SLOTS,
                                   .role = role};
    end->table = config.memory = calloc(SLOTS, sizeof(struct gm_stream));
    end->seg_memory = malloc(300 * sizeof(struct gm_seg));
    end->memory = calloc(1, gm_mux_old_memory(role, SLOTS));
    gm_seg_pool_init(&end->segs, end->seg_memory, 300 * sizeof(struct gm_seg));
    gm_mux_init(&end->mux, &config);
    struct gm_mux_old_config old = {.memory = end->memory};
    for (unsigned i = 0; i < sizeof old.random; i++)
        old.random[i] = (uint8_t)rnd();
    gm_mux_old_begin(&end->mux, &old);
    gm_mux_set_peer(&end->mux, &(struct gm_mux_peer){GM_MUX_OLD_SEND_WINDOW, SLOTS});
    gm_mux_old_up(&end->mux);
}
static void finish(struct end *end)
{
    gm_mux_abort(&end->mux, GM_REASON_CANCELLED);
    gm_mux_fini(&end->mux);
    CHECK(end->segs.free_count == end->segs.total_count);
    for (; end->count > 0; end->count--, end->first = (end->first + 1) % MESSAGES)
        free(end->wire[end->first].bytes);
    free(end->table);
    free(end->seg_memory);
    free(end->memory);
}

/* Everybody reads, and answers to the end. */
static void settle(void)
{
    for (uint32_t uid = 0; uid < w->pairs; uid++) {
        for (int side = 0; side < 2; side++) {
            struct half *half = &w->halves[uid][side];
            if (half->stream == NULL || half->we_reset || half->got_reset)
                continue;
            take(half, side);
            if (side == AGENT && !half->headed)
                answer(half);
            if (!half->ended && (side == SERVER || half->headed))
                send(uid, side);
        }
    }
    for (int i = 0; i < 8; i++) {
        pull(i % 2);
        deliver(i % 2);
    }
}

static void run(uint64_t seed)
{
    w = calloc(1, sizeof *w);
    w->seed = seed;
    w->random = seed * 0x9e3779b97f4a7c15ull + 1;
    begin(&w->ends[SERVER], GM_MUX_SERVER);
    begin(&w->ends[AGENT], GM_MUX_AGENT);
    for (int i = 0; i < STEPS; i++)
        step();
    bool open = true;
    for (int i = 0; i < 20000 && open; i++) {
        settle();
        open = gm_mux_open_count(&w->ends[SERVER].mux) > 0 || gm_mux_ready(&w->ends[SERVER].mux) ||
               gm_mux_open_count(&w->ends[AGENT].mux) > 0 || w->ends[SERVER].count > 0 ||
               w->ends[AGENT].count > 0;
    }
    CHECK(!open);
    for (uint32_t uid = 0; uid < w->pairs; uid++) {
        for (int side = 0; side < 2; side++) {
            struct half *half = &w->halves[uid][side];
            CHECK(half->closed || !half->shown);
            bool whole = half->got_end && half->received == w->halves[uid][!side].to_send;
            CHECK(!half->shown || whole || half->got_reset || half->we_reset);
        }
    }
    finish(&w->ends[SERVER]);
    finish(&w->ends[AGENT]);
    CHECK(testbuf_live == 0);
    free(w);
}

Test(old_model, random_worlds)
{
    for (uint64_t seed = 1; seed <= 60; seed++)
        run(seed);
}
