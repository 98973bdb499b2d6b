/* What the tests of the 0.0.x dialect share: one mux whose owner writes a story, messages fed byte
 * for byte in any pieces, frames pulled one at a time. One thread; included by one file of each
 * test. */
#ifndef OLD_WORLD_H
#define OLD_WORLD_H

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "codec/codec.h"
#include "frame/head.h"
#include "testbuf.h"
#include "ws/ws.h"

#define SLOTS  3u
#define ID     "8badf00d-1234-4567-89ab-0123456789ab"
#define ID_TWO "feedface-1234-4567-89ab-0123456789ab"

static char story[8192];
static struct gm_mux mux;
static struct gm_seg_pool segs;
static struct gm_seg seg_memory[64];
static struct gm_stream table[SLOTS];
static _Alignas(8) uint8_t memory[8192];
static struct gm_stream *last;
static bool refuse_gather, hold_data;
static uint16_t refuse_open;
static uint32_t step; /* bytes of a message that are fed at a time */

#define TELL(...) (void)snprintf(story + strlen(story), sizeof story - strlen(story), __VA_ARGS__)

static inline void tell_head(const char *what, const uint8_t *block, uint32_t len, bool end)
{
    struct gm_head_request request;
    struct gm_head_response response;
    if (gm_head_read_request(block, len, &request) == 0)
        TELL("%s %.*s %.*s%s%s;", what, request.method_len, request.method, request.target_len,
             request.target, (request.flags & GM_HEAD_FLAG_BODY) != 0 ? " body" : "",
             end ? " end" : "");
    else if (gm_head_read_response(block, len, &response) == 0)
        TELL("%s %u%s%s;", what, response.status,
             (response.flags & GM_HEAD_FLAG_BODY) != 0 ? " body" : "", end ? " end" : "");
    else
        TELL("%s?;", what);
}
static inline void on_open(struct gm_stream *s, gm_slice block, bool end)
{
    last = s;
    tell_head("open", block.data, block.len, end);
    if (refuse_open != 0)
        gm_stream_reset(s, refuse_open, GM_FRAME_RESET_UNTOUCHED);
}
static inline void on_head(struct gm_stream *s, gm_slice block, bool end)
{
    (void)s;
    tell_head("head", block.data, block.len, end);
}
static inline void on_data(struct gm_stream *s, gm_slice slice)
{
    TELL("data %u;", slice.len);
    if (!hold_data && s->mux->role == GM_MUX_AGENT)
        gm_stream_drained(s, slice.len, 1);
    else if (!hold_data)
        gm_stream_regrant(s, slice.len);
    gm_slice_put(slice);
}
static inline void on_end(struct gm_stream *s)
{
    (void)s, TELL("end;");
}
static inline void on_reset(struct gm_stream *s, uint16_t reason, uint16_t flags)
{
    (void)s, TELL("reset %s %x;", gm_reason_get(reason)->name, flags);
}
static inline void on_stop(struct gm_stream *s, uint16_t reason)
{
    (void)reason, TELL("stop;");
    gm_stream_end(s);
}
static inline void on_credit(struct gm_stream *s, uint32_t delta)
{
    (void)s, TELL("credit %u;", delta);
}
static inline void on_pulled(struct gm_stream *s, uint32_t bytes)
{
    (void)s, TELL("pulled %u;", bytes);
}
static inline void on_closed(struct gm_stream *s)
{
    (void)s, TELL("closed;");
}
static inline struct gm_buf *on_gather(struct gm_mux *m, size_t bytes)
{
    (void)m;
    return refuse_gather ? NULL : testbuf_new((uint32_t)bytes, false);
}
static inline bool on_reserve(struct gm_mux *m, uint32_t bytes)
{
    (void)m, (void)bytes;
    return false;
}
static const struct gm_mux_ops ops = {
    .on_open = on_open,
    .on_head = on_head,
    .on_data = on_data,
    .on_end = on_end,
    .on_reset = on_reset,
    .on_stop = on_stop,
    .on_credit = on_credit,
    .on_pulled = on_pulled,
    .on_closed = on_closed,
    .gather = on_gather,
    .reserve = on_reserve,
};

/* --- Life. --- */

static inline void start(enum gm_mux_role role)
{
    struct gm_mux_config config = {.ops = &ops,
                                   .segs = &segs,
                                   .memory = table,
                                   .window = role == GM_MUX_AGENT ? 5000 : 0,
                                   .stream_limit = SLOTS,
                                   .head_max = 1000,
                                   .role = role};
    struct gm_mux_old_config old = {.memory = memory, .request_limit = 7};
    cr_assert_leq(gm_mux_old_memory(role, SLOTS), sizeof memory);
    memset(memory, 0, sizeof memory);
    story[0] = 0;
    refuse_gather = hold_data = false;
    refuse_open = 0;
    step = 1000000;
    gm_seg_pool_init(&segs, seg_memory, sizeof seg_memory);
    gm_mux_init(&mux, &config);
    for (unsigned i = 0; i < sizeof old.random; i++)
        old.random[i] = (uint8_t)(0x11 * i);
    gm_mux_old_begin(&mux, &old);
    cr_assert(!gm_mux_is_up(&mux) && !gm_mux_ready(&mux));
    gm_mux_set_peer(&mux, &(struct gm_mux_peer){GM_MUX_OLD_SEND_WINDOW, SLOTS});
    gm_mux_old_up(&mux);
    cr_assert(gm_mux_is_up(&mux));
}
static inline void finish(void)
{
    gm_mux_abort(&mux, GM_REASON_CANCELLED);
    gm_mux_fini(&mux);
    cr_assert_eq(testbuf_live, 0);
    cr_assert_eq(segs.free_count, segs.total_count);
}
#define EXPECT_STORY(text)                                                                         \
    do {                                                                                           \
        cr_assert_str_eq(story, text);                                                             \
        story[0] = 0;                                                                              \
    } while (0)

/* --- The wire. --- */

static uint8_t message[200000];
static uint32_t message_len, message_at;

/* Goes on with the message until it has been taken or is blocked. True: it has. */
static inline bool go_on(void)
{
    while (message_at < message_len || message_len == 0) {
        uint32_t n = message_len - message_at < step ? message_len - message_at : step;
        gm_slice slice = testbuf_slice(n > 0 ? n : 1, false);
        slice.len = n;
        memcpy(slice.data, message + message_at, n);
        unsigned marks = (message_at == 0 ? GM_WS_FIRST : 0u) |
                         (message_at + n == message_len ? GM_WS_LAST : 0u);
        uint32_t used = gm_mux_old_feed(&mux, 1, slice, marks);
        gm_slice_put(slice);
        message_at += used;
        if (message_len == 0)
            return true;
        if (used == n)
            continue;
        cr_assert(gm_mux_old_blocked(&mux));
        return false;
    }
    return true;
}
static inline bool feed_bytes(const void *bytes, size_t len)
{
    memcpy(message, bytes, len);
    message_len = (uint32_t)len;
    message_at = 0;
    return go_on();
}
static inline bool feed(uint8_t type, const char *id, const void *payload, size_t len)
{
    static uint8_t frame[200000];
    size_t id_len = strlen(id);
    frame[0] = type;
    frame[1] = frame[2] = frame[3] = 0;
    frame[4] = (uint8_t)id_len;
    memcpy(frame + 5, id, id_len);
    if (len > 0)
        memcpy(frame + 5 + id_len, payload, len);
    return feed_bytes(frame, 5 + id_len + len);
}
static inline bool feed_text(uint8_t type, const char *id, const char *payload)
{
    return feed(type, id, payload, strlen(payload));
}

static uint8_t out[100000];
static uint32_t out_len;

/* One frame: its type's letter and payload, "" when there is none. The id goes to out_id. */
static char out_id[80];
static inline const char *pull(void)
{
    static uint8_t cork[2048];
    static gm_slice pieces[16];
    static char text[100000];
    struct gm_batch batch;
    gm_batch_init(&batch, pieces, 16, cork, sizeof cork);
    batch.copy_max = 100;
    out_len = 0;
    if (gm_mux_pull(&mux, &batch, 1) == 0)
        return "";
    for (unsigned i = 0; i < batch.piece_count; i++) {
        memcpy(out + out_len, pieces[i].data, pieces[i].len);
        out_len += pieces[i].len;
    }
    gm_batch_drop(&batch);
    cr_assert(out[1] == 0 && out[2] == 0 && out[3] == 0 && out[4] < sizeof out_id);
    memcpy(out_id, out + 5, out[4]);
    out_id[out[4]] = '\0';
    (void)snprintf(text, sizeof text, "%c %.*s", "?SDEC"[out[0] <= 4 ? out[0] : 0],
                   (int)(out_len - 5 - out[4]), (const char *)out + 5 + out[4]);
    return text;
}

/* --- What an owner does. --- */

static inline gm_slice request_block(const char *method, uint64_t length, uint8_t flags)
{
    uint8_t block[200];
    struct gm_head_writer writer;
    struct gm_head_request head = {.method = method,
                                   .method_len = (uint8_t)strlen(method),
                                   .target = "/",
                                   .target_len = 1,
                                   .authority = "h",
                                   .authority_len = 1,
                                   .content_length = length,
                                   .flags = flags};
    gm_head_write_request(&writer, block, sizeof block, &head);
    if ((flags & GM_HEAD_FLAG_BODY) != 0)
        gm_head_write_field(&writer, &(struct gm_head_field){"Expect", "100-continue", 6, 12});
    int len = gm_head_write_finish(&writer);
    cr_assert_gt(len, 0);
    return testbuf_block(GM_MUX_OPEN_ROOM, block, (uint32_t)len, true);
}
static inline int open_with(gm_slice head, bool end, struct gm_stream **stream)
{
    return gm_stream_open(&mux, &(struct gm_mux_open){.head = head, .window = 1000, .end = end},
                          stream);
}
static inline struct gm_stream *open_get(void)
{
    struct gm_stream *stream;
    cr_assert_eq(open_with(request_block("GET", GM_HEAD_LENGTH_UNKNOWN, 0), true, &stream), 0);
    return stream;
}
static inline gm_slice response_block(uint16_t status, uint8_t flags)
{
    uint8_t block[100];
    struct gm_head_writer writer;
    gm_head_write_response(&writer, block, sizeof block,
                           &(struct gm_head_response){.status = status,
                                                      .content_length = GM_HEAD_LENGTH_UNKNOWN,
                                                      .flags = flags});
    int len = gm_head_write_finish(&writer);
    cr_assert_gt(len, 0);
    return testbuf_block(GM_MUX_HEAD_ROOM, block, (uint32_t)len, false);
}
static inline void send(struct gm_stream *stream, uint32_t len)
{
    gm_slice slice = testbuf_slice(len, false);
    memset(slice.data, 'x', len);
    cr_assert_eq(gm_stream_data(stream, slice), 0);
}

/* The id of the frame pulled last. */
static inline const char *keep_id(char out_text[80])
{
    (void)snprintf(out_text, 80, "%s", out_id);
    return out_text;
}

#endif
