/* Model-based property test: a server's and an agent's mux back to back over a lossless pipe that
 * splits where it likes.
 *
 * Random operations from a seed; after every step the invariants of stream/ and codec/ are checked
 * against a model of each stream: bytes arrive in order and unchanged, each direction ends once,
 * credit is never exceeded, slots are reused only after both finals, nothing leaks, and in the end
 * both tables are empty. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "codec/codec.h"
#include "testbuf.h"

#define SLOTS  6u
#define PAIRS  512u
#define WIRE   (1u << 20)
#define SERVER 0
#define AGENT  1
#define STEPS  1200

struct half {
    struct gm_stream *stream; /* NULL: not yet, or closed */
    struct gm_chain held;     /* taken by on_data, not yet drained */
    uint64_t sent, received, pulled;
    uint32_t granted; /* by this half, in all */
    bool opened, headed, ended, we_reset, we_stopped, truncated;
    bool got_end, got_reset, got_stop, got_final_head, got_trailers, sent_trailers, closed;
};

struct end {
    struct gm_mux mux;
    struct gm_seg_pool segs;
    void *table, *seg_memory;
    uint8_t *wire; /* what this end has sent and the other not yet read */
    size_t wire_len;
    uint32_t gathers_refused;
    int hellos, drains, drain_acks, pongs, notes, noted;
};

struct world {
    uint64_t seed, random, now_ns;
    struct end ends[2];
    struct half halves[PAIRS][2];
    uint32_t pairs; /* uids handed out */
    struct gm_seg_pool held_segs;
    void *held_memory;
    bool stingy; /* memory callbacks say no now and then */
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
static struct half *peer_of(const struct gm_stream *stream)
{
    return &w->halves[uid_of(stream)][!side_of(stream->mux)];
}

/* --- Blocks: kind, flags, status, uid, filler. --- */

static uint32_t make_block(uint8_t *out, uint32_t uid, uint16_t status)
{
    uint32_t len = below(8) == 0 ? 16000u + below(49000) : 8u + below(600);
    out[0] = status ? 2 : 1;
    out[1] = 0;
    gm_frame_set_u16(out + 2, status);
    gm_frame_set_u32(out + 4, uid);
    for (uint32_t i = 8; i < len; i++)
        out[i] = pattern(uid, 3, i);
    return len;
}
static uint32_t check_block(gm_slice block, uint16_t *status)
{
    CHECK(block.len >= 8);
    uint32_t uid = gm_frame_get_u32(block.data + 4);
    CHECK(uid < w->pairs);
    *status = gm_frame_get_u16(block.data + 2);
    for (uint32_t i = 8; i < block.len; i++)
        CHECK(block.data[i] == pattern(uid, 3, i));
    return uid;
}

/* --- Callbacks. --- */

static int on_hello(struct gm_mux *mux, const uint8_t *json, size_t len)
{
    CHECK(len == 2 && memcmp(json, "{}", 2) == 0);
    struct gm_mux_peer peer = {.window = 4096, .stream_limit = SLOTS};
    gm_mux_set_peer(mux, &peer);
    w->ends[side_of(mux)].hellos++;
    if (side_of(mux) == AGENT)
        gm_mux_greet(mux, testbuf_block(GM_MUX_HEAD_ROOM, "{}", 2, false));
    return 0;
}
static void on_open(struct gm_stream *stream, gm_slice block, bool end)
{
    uint16_t status;
    uint32_t uid = check_block(block, &status);
    (void)end;
    stream->user = (void *)(uintptr_t)(uid + 1);
    struct half *half = half_of(stream);
    CHECK(!half->opened && peer_of(stream)->opened);
    half->opened = true;
    half->stream = stream;
    half->granted = stream->window.size;
    if (below(10) == 0) {
        half->we_reset = true;
        gm_stream_reset(stream, GM_REASON_REFUSED, GM_FRAME_RESET_UNTOUCHED);
    }
}
static void live(const struct gm_stream *stream)
{
    struct half *half = half_of(stream);
    CHECK(half->stream == stream && !half->closed && !half->we_reset && !half->got_reset);
}
static void on_head(struct gm_stream *stream, gm_slice block, bool end)
{
    uint16_t status;
    live(stream);
    struct half *half = half_of(stream);
    (void)end;
    CHECK(check_block(block, &status) == uid_of(stream) && !half->got_final_head && !half->got_end);
    half->got_final_head = status >= 200 || status == 101;
}
static void on_data(struct gm_stream *stream, gm_slice slice)
{
    live(stream);
    struct half *half = half_of(stream);
    CHECK(!half->we_stopped && !half->got_end && !half->got_trailers);
    int dir = side_of(stream->mux) == SERVER ? AGENT : SERVER;
    for (uint32_t i = 0; i < slice.len; i++)
        CHECK(slice.data[i] == pattern(uid_of(stream), dir, half->received + i));
    half->received += slice.len;
    CHECK(half->received <= peer_of(stream)->sent);
    if (gm_chain_push(&half->held, &w->held_segs, slice) < 0)
        CHECK(!"the test's own pool is too small");
}
static void on_trailers(struct gm_stream *stream, gm_slice block)
{
    uint16_t status;
    live(stream);
    CHECK(check_block(block, &status) == uid_of(stream) && !half_of(stream)->got_end &&
          !half_of(stream)->we_stopped);
    half_of(stream)->got_trailers = true;
}
static void on_end(struct gm_stream *stream)
{
    live(stream);
    struct half *half = half_of(stream), *peer = peer_of(stream);
    CHECK(!half->got_end && peer->ended);
    half->got_end = true;
    if (!half->we_stopped) {
        CHECK(half->received == peer->sent && half->got_trailers == peer->sent_trailers);
        CHECK(side_of(stream->mux) == AGENT || half->got_final_head);
    }
}
static void on_reset(struct gm_stream *stream, uint16_t reason, uint16_t flags)
{
    live(stream);
    struct half *half = half_of(stream), *peer = peer_of(stream);
    half->got_reset = true;
    if ((flags & GM_MUX_RESET_LOST) != 0)
        return;
    if ((flags & GM_MUX_RESET_LOCAL) != 0)
        CHECK(w->stingy && reason == GM_REASON_OVERLOAD);
    else
        CHECK(peer->we_reset || peer->got_reset || w->stingy);
}
static void on_stop(struct gm_stream *stream, uint16_t reason)
{
    live(stream);
    struct half *half = half_of(stream), *peer = peer_of(stream);
    CHECK(!half->got_stop && (peer->we_stopped || peer->we_reset || peer->got_reset) &&
          reason != 0);
    CHECK(gm_stream_queued(stream) == 0 || stream->head_bytes > 0);
    half->got_stop = true;
}
static void on_credit(struct gm_stream *stream, uint32_t delta)
{
    live(stream);
    CHECK(delta > 0 && gm_stream_room(stream) >= delta);
}
static void on_pulled(struct gm_stream *stream, uint32_t bytes)
{
    live(stream);
    half_of(stream)->pulled += bytes;
    CHECK(half_of(stream)->pulled <= half_of(stream)->sent);
}
static void release_held(struct half *half)
{
    gm_chain_clear(&half->held, &w->held_segs);
}
static void on_closed(struct gm_stream *stream)
{
    struct half *half = half_of(stream);
    CHECK(half->stream == stream && !half->closed);
    CHECK(half->we_reset || half->got_reset || (half->got_end && half->ended));
    half->closed = true;
    half->stream = NULL;
    release_held(half);
}
static void on_pong(struct gm_mux *mux, const uint8_t *opaque)
{
    CHECK(memcmp(opaque, "12345678", 8) == 0);
    w->ends[side_of(mux)].pongs++;
}
static void on_drain(struct gm_mux *mux)
{
    w->ends[side_of(mux)].drains++;
}
static void on_drain_ack(struct gm_mux *mux)
{
    w->ends[side_of(mux)].drain_acks++;
}
static void on_note(struct gm_mux *mux, const uint8_t *json, size_t len)
{
    CHECK(len > 0 && len <= GM_FRAME_PAYLOAD_MAX && json[0] == 'n' && json[len - 1] == 'n');
    w->ends[side_of(mux)].notes++;
}
static struct gm_buf *on_gather(struct gm_mux *mux, size_t bytes)
{
    CHECK(bytes <= GM_FRAME_BLOCK_MAX + GM_FRAME_OPEN_PREFIX_LEN);
    bool greeted = w->ends[side_of(mux)].hellos > 0;
    return w->stingy && greeted && below(8) == 0 ? NULL : testbuf_new((uint32_t)bytes, false);
}
static bool on_reserve(struct gm_mux *mux, uint32_t bytes)
{
    (void)mux;
    return bytes <= (1u << 18) && below(2) == 0;
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

/* --- Operations. --- */

static struct half *pick(int side)
{
    struct gm_mux *mux = &w->ends[side].mux;
    if (mux->touched == 0)
        return NULL;
    struct gm_stream *stream = &mux->slots[below(mux->touched)];
    return gm_stream_in_use(stream) && stream->user != NULL ? half_of(stream) : NULL;
}

static void do_open(void)
{
    static uint8_t block[70000];
    if (w->pairs == PAIRS)
        return;
    uint32_t uid = w->pairs++;
    uint32_t len = make_block(block, uid, 0);
    struct half *half = &w->halves[uid][SERVER];
    struct gm_mux_open open = {
        .head = testbuf_block(GM_MUX_OPEN_ROOM, block, len, below(2)),
        .window = below(4) == 0 ? 0 : below(70000),
        .end = below(3) == 0,
        .user = (void *)(uintptr_t)(uid + 1),
    };
    half->granted = open.window;
    half->opened = true; /* the peer may look before we return */
    int error = gm_stream_open(&w->ends[SERVER].mux, &open, &half->stream);
    if (error < 0) {
        CHECK(error == -GM_E_LIMIT || error == -GM_E_CLOSED || (error == -GM_E_NOMEM && w->stingy));
        half->opened = false;
        gm_slice_put(open.head);
        return;
    }
    half->headed = true;
    half->ended = open.end;
}

/* The outcome of a call that takes its slice. */
static void outcome(struct half *half, int error)
{
    if (error != -GM_E_NOMEM)
        return;
    CHECK(w->stingy);
    half->we_reset = true;
    gm_stream_reset(half->stream, GM_REASON_OVERLOAD, 0);
}

static void do_head(struct half *half)
{
    static uint8_t block[70000];
    if (half->headed || half->ended)
        return;
    static const uint16_t statuses[] = {100, 103, 200, 204, 101};
    uint16_t status = statuses[below(5)];
    bool final = status >= 200 || status == 101;
    uint32_t len = make_block(block, uid_of(half->stream), status);
    bool end = final && below(4) == 0;
    int error =
        gm_stream_head(half->stream, testbuf_block(GM_MUX_HEAD_ROOM, block, len, below(2)), end);
    half->headed = final;
    half->ended = half->ended || end;
    outcome(half, error);
}

static void do_data(int side, struct half *half)
{
    uint32_t room = gm_stream_room(half->stream);
    if (!half->headed || half->ended || room == 0)
        return;
    bool foreign = below(3) == 0;
    uint32_t max = foreign ? GM_FRAME_PAYLOAD_MAX : 40000u;
    uint32_t len = below(4) == 0 ? below(max + 1) : below(300);
    if (len > room)
        len = room;
    gm_slice slice = testbuf_slice(len, foreign);
    for (uint32_t i = 0; i < len; i++)
        slice.data[i] = pattern(uid_of(half->stream), side, half->sent + i);
    bool cut = !foreign && len > 2 && below(3) == 0;
    if (cut) { /* two adjacent slices of one buffer, to be merged */
        gm_slice front = gm_slice_cut(&slice, 1 + below(len - 1));
        uint32_t n = front.len;
        int error = gm_stream_data(half->stream, front);
        half->sent += error == -GM_E_NOMEM ? 0 : n;
        if (error < 0) {
            gm_slice_put(slice);
            outcome(half, error);
            return;
        }
        len -= n;
    }
    int error = gm_stream_data(half->stream, slice);
    half->sent += error == -GM_E_NOMEM ? 0 : len;
    outcome(half, error);
}

static void do_end(struct half *half)
{
    static uint8_t block[70000];
    if (half->ended || !(half->headed || half->got_stop))
        return;
    half->ended = true;
    if (below(3) > 0 || !half->headed) {
        gm_stream_end(half->stream);
        return;
    }
    uint32_t len = make_block(block, uid_of(half->stream), 1);
    half->sent_trailers = true;
    outcome(half, gm_stream_trailers(half->stream,
                                     testbuf_block(GM_MUX_HEAD_ROOM, block, len, below(2))));
}

static void do_drain(struct half *half)
{
    if (half->held.count == 0)
        return;
    uint32_t n = 1 + below((uint32_t)half->held.bytes);
    gm_chain_consume(&half->held, &w->held_segs, n);
    if (!half->got_reset)
        gm_stream_drained(half->stream, n, w->now_ns);
}

static void send_note(struct end *end)
{
    static char text[3000];
    memset(text, 'n', sizeof text);
    gm_slice json = testbuf_block(GM_MUX_HEAD_ROOM, text, 1 + below(sizeof text), below(2));
    end->noted += gm_mux_note(&end->mux, json) == 0;
}

static void do_pull(int side)
{
    static uint8_t cork[8192];
    gm_slice pieces[64];
    struct end *end = &w->ends[side];
    struct gm_batch batch;
    gm_batch_init(&batch, pieces, (uint16_t)(GM_BATCH_PIECES_MIN + below(60)), cork,
                  GM_BATCH_CORK_MIN + below(8000));
    batch.copy_max = below(2) ? 0 : below(600);
    if (end->wire_len > WIRE / 4)
        return;
    bool ready = gm_mux_ready(&end->mux), closing = !gm_list_empty(&end->mux.closing);
    size_t max = 1 + below(100000);
    size_t got = gm_mux_pull(&end->mux, &batch, max);
    CHECK(got == batch.bytes && (got > 0 || !ready || closing));
    CHECK(got <= max || got <= GM_FRAME_BLOCK_MAX + 64u);
    size_t sum = 0;
    for (unsigned i = 0; i < batch.piece_count; i++) {
        memcpy(end->wire + end->wire_len, pieces[i].data, pieces[i].len);
        end->wire_len += pieces[i].len;
        sum += pieces[i].len;
        if (pieces[i].buf != NULL)
            memset(pieces[i].data, 0xee,
                   pieces[i].len); /* as masking does: a moved slice is held by nobody else */
    }
    CHECK(sum == got);
    gm_batch_drop(&batch);
}

/* Delivers some bytes of `side` to the other end. */
static void do_deliver(int side)
{
    struct end *from = &w->ends[side];
    if (from->wire_len == 0)
        return;
    static const uint32_t sizes[] = {1, 9, 50, 1000, 70000};
    uint32_t len = 1 + below(sizes[below(5)]);
    if (len > from->wire_len)
        len = (uint32_t)from->wire_len;
    gm_slice slice = testbuf_slice(len, false);
    memcpy(slice.data, from->wire, len);
    from->wire_len -= len;
    memmove(from->wire, from->wire + len, from->wire_len);
    struct gm_mux *mux = &w->ends[!side].mux;
    int error = gm_mux_feed(mux, w->now_ns, slice);
    cr_assert(error == 0, "seed %llu: %s", (unsigned long long)w->seed, mux->fault_text);
}

/* --- Invariants. --- */

static void check_stream(struct gm_stream *stream)
{
    CHECK(stream->data_bytes <= stream->send_credit && stream->send_credit <= GM_FRAME_CREDIT_MAX);
    CHECK(stream->queue.bytes ==
          (size_t)stream->head_bytes + stream->data_bytes + stream->trailer_bytes);
    struct gm_window *window = &stream->window;
    CHECK((uint64_t)window->credit + window->held + window->owed == window->size);
    if (stream->user == NULL)
        return;
    struct half *half = half_of(stream);
    CHECK(half->stream == stream);
    struct gm_stream *other = peer_of(stream)->stream;
    if (other == NULL || (other->flags & stream->flags & GM_STREAM_OPENED) == 0)
        return;
    CHECK(other->id == stream->id);
    /* What the peer thinks it may send is never more than what we have granted. */
    if ((other->flags & GM_STREAM_DETACHED) == 0 && (stream->flags & GM_STREAM_DETACHED) == 0)
        CHECK(other->send_credit <= window->credit);
}

static void check_end(const struct end *end)
{
    uint32_t open = 0;
    for (uint32_t slot = 0; slot < end->mux.touched; slot++) {
        struct gm_stream *stream = &end->mux.slots[slot];
        if (stream->mux == NULL)
            continue; /* agent: the OPEN of this slot was taken back */
        if (!gm_stream_in_use(stream)) {
            CHECK(stream->queue.count == 0);
            CHECK(gm_list_empty(&stream->control));
            CHECK(!gm_sched_queued(&stream->sched));
            continue;
        }
        open++;
        check_stream(stream);
    }
    CHECK(open == end->mux.open_count);
}

/* --- The run. --- */

static void end_init(struct end *end, enum gm_mux_role role, uint32_t segs)
{
    end->seg_memory = malloc(segs * sizeof(struct gm_seg));
    gm_seg_pool_init(&end->segs, end->seg_memory, segs * sizeof(struct gm_seg));
    end->table = calloc(1, gm_mux_memory(SLOTS));
    end->wire = malloc(WIRE);
    struct gm_mux_config config = {
        .ops = &ops,
        .segs = &end->segs,
        .memory = end->table,
        .window = role == GM_MUX_AGENT ? 4096 : 0,
        .stream_limit = SLOTS,
        .role = role,
    };
    gm_mux_init(&end->mux, &config);
}

static void end_fini(struct end *end)
{
    CHECK(end->mux.open_count == 0 && end->segs.free_count == end->segs.total_count);
    gm_mux_fini(&end->mux);
    for (size_t i = 0; i < gm_mux_memory(SLOTS); i++)
        CHECK(((uint8_t *)end->table)[i] == 0);
    free(end->seg_memory);
    free(end->table);
    free(end->wire);
}

static void step(void)
{
    int side = (int)below(2);
    struct half *half = pick(side);
    w->now_ns += below(3000000);
    switch (below(16)) {
    case 0:
        do_open();
        break;
    case 1:
        if (half != NULL && !half->we_reset && !half->got_reset)
            do_head(half);
        break;
    case 2:
    case 3:
    case 4:
    case 5:
        if (half != NULL)
            do_data(side, half);
        break;
    case 6:
        if (half != NULL && !half->we_reset && !half->got_reset)
            do_end(half);
        break;
    case 7:
        if (half != NULL && below(4) == 0) {
            half->we_reset = true;
            gm_stream_reset(half->stream, GM_REASON_CANCELLED, 0);
        }
        break;
    case 8:
        if (half != NULL && below(3) == 0) {
            half->we_stopped = true;
            gm_stream_stop(half->stream, GM_REASON_CANCELLED);
        }
        break;
    case 9:
        if (half != NULL)
            do_drain(half);
        break;
    case 10:
        if (half != NULL && half->stream->window.size < 100000)
            gm_stream_grant(half->stream, below(9000));
        break;
    case 11:
        if (below(8) == 0) {
            gm_mux_ping(&w->ends[side].mux, (const uint8_t *)"12345678");
            send_note(&w->ends[side]);
        }
        break;
    case 12:
    case 13:
        do_pull(side);
        break;
    default:
        do_deliver(side);
        break;
    }
    check_end(&w->ends[SERVER]);
    check_end(&w->ends[AGENT]);
}

/* Lets every stream come to its end. */
static void settle(void)
{
    for (int round = 0; round < 3000; round++) {
        for (int side = 0; side < 2; side++) {
            struct gm_mux *mux = &w->ends[side].mux;
            for (uint32_t slot = 0; slot < mux->touched; slot++) {
                struct gm_stream *stream = &mux->slots[slot];
                struct half *half =
                    gm_stream_in_use(stream) && stream->user != NULL ? half_of(stream) : NULL;
                if (half == NULL || half->we_reset || half->got_reset)
                    continue;
                do_drain(half);
                do_head(half);
                if (half->stream != NULL && !half->we_reset)
                    do_end(half);
            }
            do_pull(side);
            for (int i = 0; i < 10; i++)
                do_deliver(side);
            check_end(&w->ends[side]);
        }
        if (w->ends[0].mux.open_count + w->ends[1].mux.open_count + w->ends[0].wire_len +
                    w->ends[1].wire_len ==
                0 &&
            !gm_mux_ready(&w->ends[0].mux) && !gm_mux_ready(&w->ends[1].mux))
            return;
    }
    CHECK(!"it settles");
}

static uint64_t total_closed, total_late, total_trailers, total_credits, total_lost;

static void run(uint64_t seed)
{
    w = calloc(1, sizeof *w);
    w->seed = seed;
    w->random = seed * 0x9E3779B97F4A7C15ull + 1;
    w->now_ns = 1000;
    rnd();
    w->stingy = below(4) == 0;
    w->held_memory = malloc(4096 * sizeof(struct gm_seg));
    gm_seg_pool_init(&w->held_segs, w->held_memory, 4096 * sizeof(struct gm_seg));
    end_init(&w->ends[SERVER], GM_MUX_SERVER, w->stingy ? 4 : 2000);
    end_init(&w->ends[AGENT], GM_MUX_AGENT, w->stingy ? 4 : 2000);
    gm_mux_greet(&w->ends[SERVER].mux, testbuf_block(GM_MUX_HEAD_ROOM, "{}", 2, false));
    for (int i = 0; i < STEPS; i++)
        step();
    bool drained = below(2);
    if (below(5) == 0) {
        gm_mux_abort(&w->ends[SERVER].mux, GM_REASON_AGENT_DISCONNECT);
        gm_mux_abort(&w->ends[AGENT].mux, GM_REASON_CANCELLED);
        total_lost++;
    } else {
        if (drained)
            gm_mux_drain(&w->ends[below(2)].mux);
        settle();
        CHECK(!drained || w->ends[SERVER].drains + w->ends[AGENT].drains == 1);
        CHECK(!drained || w->ends[SERVER].drain_acks + w->ends[AGENT].drain_acks == 1);
        for (int side = 0; side < 2; side++) {
            gm_mux_abort(&w->ends[side].mux, 0);
            CHECK(w->ends[side].hellos == 1);
            CHECK(w->ends[side].notes <= w->ends[!side].noted);
            CHECK(w->stingy || w->ends[side].notes == w->ends[!side].noted);
        }
    }
    for (uint32_t uid = 0; uid < w->pairs; uid++) {
        for (int side = 0; side < 2; side++) {
            struct half *half = &w->halves[uid][side];
            CHECK(!half->opened || half->closed);
            total_closed += half->closed;
            total_trailers += half->got_trailers;
        }
    }
    total_late += w->ends[0].mux.stats.late_frames + w->ends[1].mux.stats.late_frames;
    total_credits += w->ends[0].mux.stats.credits_in;
    end_fini(&w->ends[SERVER]);
    end_fini(&w->ends[AGENT]);
    CHECK(w->held_segs.free_count == w->held_segs.total_count);
    CHECK(testbuf_live == 0);
    free(w->held_memory);
    free(w);
}

Test(model, two_muxes_back_to_back, .timeout = 400)
{
    const char *from = getenv("GM_SEED"), *count = getenv("GM_SEEDS");
    uint64_t first = from != NULL ? strtoull(from, NULL, 10) : 1;
    uint64_t last = first + (from != NULL ? 1 : count != NULL ? strtoull(count, NULL, 10) : 1500);
    for (uint64_t seed = first; seed < last; seed++)
        run(seed);
    if (from != NULL)
        return;
    cr_log_info("closed %llu late %llu trailers %llu credits %llu lost %llu",
                (unsigned long long)total_closed, (unsigned long long)total_late,
                (unsigned long long)total_trailers, (unsigned long long)total_credits,
                (unsigned long long)total_lost);
    /* The run is worth something only if these things happened. */
    cr_assert(total_closed > 10000 && total_late > 100 && total_trailers > 100 &&
              total_credits > 100 && total_lost > 100);
}
