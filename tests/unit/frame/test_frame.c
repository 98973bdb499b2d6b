/* Frames: writers and reader by example, and one property: how the input is cut up changes nothing.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "frame/frame.h"

static const uint8_t opaque[8] = {1, 2, 3, 4, 5, 6, 7, 8};

/* --- A record of what a reader said, with the pieces of a unit joined --- */

struct record {
    uint8_t bytes[1 << 18];
    size_t len;
    size_t units;
    int result; /* last result of the reader */
    uint8_t fault;
    uint64_t unknown;
    bool idle;
    bool open; /* in the middle of a unit */
};

static void note(struct record *r, const void *p, size_t n)
{
    cr_assert(r->len + n <= sizeof(r->bytes));
    if (n > 0)
        memcpy(r->bytes + r->len, p, n);
    r->len += n;
}

static void note_event(struct record *r, const struct gm_frame_event *e, uint32_t *offset)
{
    cr_assert_eq((e->mark & GM_FRAME_FIRST) != 0, !r->open, "FIRST exactly at a unit's start");
    if (e->mark & GM_FRAME_FIRST) {
        *offset = 0;
        note(r, &e->type, 1);
        note(r, &e->stream, 4);
    }
    cr_assert_eq(e->offset, *offset);
    cr_assert_leq(e->data_len, e->length);
    note(r, e->data, e->data_len);
    *offset += e->data_len;
    r->open = !(e->mark & GM_FRAME_LAST);
    if (!r->open) {
        note(r, "|", 1);
        note(r, &e->flags, 1);
        r->units++;
    }
}

/* Feeds `p` in pieces: `first` bytes, then steps of `step` (0: the rest), each in a block of its
 * own so that ASan sees overreads. */
static void feed(struct record *r, const uint8_t *p, size_t n, size_t first, size_t step)
{
    struct gm_frame_reader reader;
    gm_frame_reader_init(&reader);
    memset(r, 0, offsetof(struct record, bytes));
    r->len = r->units = 0;
    r->result = 0;
    r->open = false;
    uint32_t offset = 0;
    size_t at = 0;
    size_t want = first;
    while (at < n || want == 0) {
        size_t part = want < n - at ? want : n - at;
        uint8_t *copy = malloc(part + 1);
        memcpy(copy, p + at, part);
        const uint8_t *data = part > 0 ? copy : NULL;
        size_t len = part;
        struct gm_frame_event e;
        while ((r->result = gm_frame_reader_next(&reader, &data, &len, &e)) == 1)
            note_event(r, &e, &offset);
        if (r->result == 0)
            cr_assert_eq(len, 0);
        free(copy);
        at += part;
        want = step > 0 ? step : n;
        if (r->result < 0)
            break;
    }
    r->fault = reader.fault;
    r->unknown = reader.unknown_count;
    r->idle = gm_frame_reader_idle(&reader);
    if (r->result < 0) {
        const uint8_t *data = p;
        size_t len = n;
        struct gm_frame_event e;
        cr_assert_eq(gm_frame_reader_next(&reader, &data, &len, &e), r->result, "a fault sticks");
        cr_assert_eq(len, n);
    }
}

static void expect_same(const struct record *a, const struct record *b, size_t where)
{
    cr_assert_eq(a->result, b->result, "split at %zu", where);
    cr_assert_eq(a->fault, b->fault, "split at %zu", where);
    cr_assert_eq(a->units, b->units, "split at %zu", where);
    cr_assert_eq(a->unknown, b->unknown, "split at %zu", where);
    cr_assert_eq(a->idle, b->idle, "split at %zu", where);
    cr_assert_eq(a->len, b->len, "split at %zu", where);
    cr_assert_eq(memcmp(a->bytes, b->bytes, a->len), 0, "split at %zu", where);
}

static struct record whole;
static struct record split;

static void expect_splits_agree(const uint8_t *p, size_t n, size_t stride)
{
    feed(&whole, p, n, n, 0);
    for (size_t i = 0; i <= n; i += stride) {
        feed(&split, p, n, i, 0);
        expect_same(&whole, &split, i);
    }
    for (size_t step = 1; step <= 13; step++) {
        feed(&split, p, n, step, step);
        expect_same(&whole, &split, step);
    }
}

/* --- Building input --- */

struct wire {
    uint8_t p[200000];
    size_t len;
};
static struct wire wire;

static void add(uint8_t type, uint8_t flags, uint16_t length, uint32_t stream)
{
    uint8_t *p = wire.p + wire.len;
    p[0] = type;
    p[1] = flags;
    gm_frame_set_u16(p + 2, length);
    gm_frame_set_u32(p + 4, stream);
    for (size_t i = 0; i < length; i++)
        p[8 + i] = (uint8_t)(i * 7 + type);
    wire.len += 8u + length;
}

static uint8_t fault_of_wire(void)
{
    feed(&whole, wire.p, wire.len, wire.len, 0);
    cr_assert_eq(whole.result < 0, whole.fault != 0);
    cr_assert(whole.result == 0 || whole.result == -GM_E_PROTOCOL);
    size_t n = wire.len;
    wire.len = 0;
    for (size_t step = 1; step < 9; step++) {
        feed(&split, wire.p, n, step, step);
        expect_same(&whole, &split, step);
    }
    return whole.fault;
}

/* --- Writing --- */

Test(frame, header_bytes)
{
    uint8_t out[8];
    cr_assert_eq(gm_frame_put_header(out, GM_FRAME_DATA, 1, 0x1234, 0xaabbccdd), 8);
    const uint8_t want[8] = {5, 1, 0x34, 0x12, 0xdd, 0xcc, 0xbb, 0xaa};
    cr_assert_arr_eq(out, want, 8);
    cr_assert_eq(gm_frame_stream(0x1122, 0x3344), 0x33441122u);
    cr_assert_eq(gm_frame_slot(0x33441122u), 0x1122);
    cr_assert_eq(gm_frame_generation(0x33441122u), 0x3344);
}

Test(frame, control_frames_read_back)
{
    uint8_t *p = wire.p;
    size_t n = 0;
    n += gm_frame_put_end(p + n, 7);
    n += gm_frame_put_reset(p + n, 8, 0x0102, GM_FRAME_RESET_UNTOUCHED);
    n += gm_frame_put_stop(p + n, 9, 0x0304);
    n += gm_frame_put_credit(p + n, 10, 0x05060708);
    n += gm_frame_put_ping(p + n, GM_FRAME_PING, opaque);
    n += gm_frame_put_ping(p + n, GM_FRAME_PONG, opaque);
    n += gm_frame_put_drain(p + n, GM_FRAME_DRAIN);
    n += gm_frame_put_drain(p + n, GM_FRAME_DRAIN_ACK);
    static const struct {
        uint8_t type;
        uint32_t stream;
        uint32_t len;
    } want[] = {{GM_FRAME_END, 7, 0},     {GM_FRAME_RESET, 8, 4},    {GM_FRAME_STOP, 9, 2},
                {GM_FRAME_CREDIT, 10, 4}, {GM_FRAME_PING, 0, 8},     {GM_FRAME_PONG, 0, 8},
                {GM_FRAME_DRAIN, 0, 0},   {GM_FRAME_DRAIN_ACK, 0, 0}};
    struct gm_frame_reader reader;
    gm_frame_reader_init(&reader);
    const uint8_t *data = p;
    size_t len = n;
    struct gm_frame_event e;
    for (size_t i = 0; i < 8; i++) {
        cr_assert_eq(gm_frame_reader_next(&reader, &data, &len, &e), 1);
        cr_assert_eq(e.type, want[i].type);
        cr_assert_eq(e.stream, want[i].stream);
        cr_assert_eq(e.data_len, want[i].len);
        cr_assert_eq(e.mark, GM_FRAME_FIRST | GM_FRAME_LAST);
        if (e.type == GM_FRAME_RESET)
            cr_assert(gm_frame_get_u16(e.data) == 0x0102 && gm_frame_get_u16(e.data + 2) == 1);
        if (e.type == GM_FRAME_STOP)
            cr_assert_eq(gm_frame_get_u16(e.data), 0x0304);
        if (e.type == GM_FRAME_CREDIT)
            cr_assert_eq(gm_frame_get_u32(e.data), 0x05060708u);
        if (e.data_len == 8)
            cr_assert_arr_eq(e.data, opaque, 8);
    }
    cr_assert_eq(gm_frame_reader_next(&reader, &data, &len, &e), 0);
    cr_assert_eq(reader.frame_count, 8);
    expect_splits_agree(p, n, 1);
}

static void wrap_and_read_back(uint8_t type, size_t payload_len)
{
    static uint8_t payload[GM_FRAME_BLOCK_MAX + 4];
    for (size_t i = 0; i < payload_len; i++)
        payload[i] = (uint8_t)(i ^ (i >> 8));
    size_t total = gm_frame_block_size(payload_len);
    uint8_t *buf = malloc(total);
    struct gm_frame_block block = {type, GM_FRAME_FLAG_END_STREAM, 0x00010002, payload_len};
    memcpy(buf + 8, payload, payload_len);
    cr_assert_eq(gm_frame_block_wrap(buf, total - 1, &block), -GM_E_LIMIT);
    cr_assert_eq(gm_frame_block_wrap(buf, total, &block), (int)total);
    feed(&whole, buf, total, total, 0);
    cr_assert_eq(whole.result, 0);
    cr_assert_eq(whole.units, 1);
    cr_assert(whole.idle);
    cr_assert_eq(whole.len, payload_len + 7);
    cr_assert_eq(whole.bytes[0], type);
    cr_assert_eq(memcmp(whole.bytes + 5, payload, payload_len), 0);
    cr_assert_eq(whole.bytes[whole.len - 1], GM_FRAME_FLAG_END_STREAM);
    feed(&split, buf, total, 3, 1009);
    expect_same(&whole, &split, payload_len);
    free(buf);
}

Test(frame, blocks_of_every_size_class)
{
    static const size_t sizes[] = {0, 1, 4, 16383, 16384, 16385, 32768, 32769, 49152, 65535};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        wrap_and_read_back(GM_FRAME_HEAD, sizes[i]);
        wrap_and_read_back(GM_FRAME_OPEN, sizes[i] + 4);
    }
    cr_assert_eq(gm_frame_block_size(16384), 16392);
    cr_assert_eq(gm_frame_block_size(16385), 16385 + 16);
}

/* --- Reading --- */

Test(frame, every_split_of_a_mixed_stream)
{
    wire.len = 0;
    add(GM_FRAME_HELLO, 0, 40, 0);
    add(GM_FRAME_OPEN, GM_FRAME_FLAG_END_STREAM, 30, 0x00000001);
    add(200, 0xff, 17, 0x12340000);
    add(GM_FRAME_PING, 0, 8, 0);
    add(GM_FRAME_OPEN, GM_FRAME_FLAG_MORE, 20, 0x00000002);
    add(GM_FRAME_OPEN, GM_FRAME_FLAG_MORE, 1, 0x00000002);
    add(GM_FRAME_OPEN, 0, 0, 0x00000002);
    add(GM_FRAME_DATA, 0, 0, 0x00000002);
    add(GM_FRAME_DATA, GM_FRAME_FLAG_END_STREAM, 33, 0x00000002);
    add(255, 0, 0, 0);
    add(GM_FRAME_RESET, 0, 16, 0x00000002);
    add(GM_FRAME_CREDIT, 0, 4, 0xffff0001);
    add(GM_FRAME_END, 0, 3, 0x00000001);
    add(GM_FRAME_TRAILERS, 0, 9, 0x00000001);
    expect_splits_agree(wire.p, wire.len, 1);
    cr_assert_eq(whole.units, 10);
    cr_assert_eq(whole.unknown, 2);
    cr_assert(whole.idle);
}

Test(frame, a_cut_stream_is_not_idle)
{
    wire.len = 0;
    add(GM_FRAME_DATA, 0, 10, 1);
    for (size_t n = 1; n < wire.len; n++) {
        feed(&whole, wire.p, n, n, 0);
        cr_assert_eq(whole.result, 0);
        cr_assert_not(whole.idle);
    }
    wire.len = 0;
    add(GM_FRAME_HEAD, GM_FRAME_FLAG_MORE, 10, 1);
    feed(&whole, wire.p, wire.len, wire.len, 0);
    cr_assert_not(whole.idle);
}

Test(frame, data_is_delivered_as_it_arrives_without_copying)
{
    wire.len = 0;
    add(GM_FRAME_DATA, 0x80 | GM_FRAME_FLAG_MORE, 100, 1);
    struct gm_frame_reader reader;
    gm_frame_reader_init(&reader);
    const uint8_t *data = wire.p;
    size_t len = 30;
    struct gm_frame_event e;
    cr_assert_eq(gm_frame_reader_next(&reader, &data, &len, &e), 1);
    cr_assert_eq(e.data, wire.p + 8);
    cr_assert(e.data_len == 22 && e.mark == GM_FRAME_FIRST && e.length == 100);
    cr_assert_eq(e.flags, 0, "flags that mean nothing on DATA are taken off");
    cr_assert_eq(gm_frame_reader_next(&reader, &data, &len, &e), 0);
    len = 78;
    cr_assert_eq(gm_frame_reader_next(&reader, &data, &len, &e), 1);
    cr_assert(e.data == wire.p + 30 && e.data_len == 78 && e.mark == GM_FRAME_LAST &&
              e.offset == 22);
}

Test(frame, faults)
{
    wire.len = 0;
    add(0, 0, 0, 0);
    cr_assert_eq(fault_of_wire(), GM_FRAME_FAULT_TYPE);
    static const uint8_t too_long[8] = {GM_FRAME_DATA, 0, 0x01, 0x40, 1, 0, 0, 0};
    memcpy(wire.p, too_long, 8);
    wire.len = 8;
    cr_assert_eq(fault_of_wire(), GM_FRAME_FAULT_LENGTH);
    wire.p[0] = 99; /* unknown types too */
    wire.len = 8;
    cr_assert_eq(fault_of_wire(), GM_FRAME_FAULT_LENGTH);
    for (uint8_t type = 1; type < GM_FRAME_TYPE_COUNT; type++) {
        bool link = type == GM_FRAME_HELLO || type == GM_FRAME_READY || type >= GM_FRAME_PING;
        add(type, 0, 8, link ? 1 : 0);
        cr_assert_eq(fault_of_wire(), GM_FRAME_FAULT_STREAM, "%s", gm_frame_type_name(type));
        add(type, 0, 8, 0x00010000);
        cr_assert_eq(fault_of_wire(), GM_FRAME_FAULT_STREAM, "slot 0");
        add(type, 0, 8, link ? 0 : 1);
        cr_assert_eq(fault_of_wire(), GM_FRAME_FAULT_NONE);
    }
    static const struct {
        uint8_t type, least;
    } controls[] = {{GM_FRAME_RESET, 4},
                    {GM_FRAME_STOP, 2},
                    {GM_FRAME_CREDIT, 4},
                    {GM_FRAME_PING, 8},
                    {GM_FRAME_PONG, 8}};
    for (size_t i = 0; i < 5; i++) {
        uint32_t stream = controls[i].least == 8 ? 0 : 1;
        add(controls[i].type, 0, (uint16_t)(controls[i].least - 1), stream);
        cr_assert_eq(fault_of_wire(), GM_FRAME_FAULT_CONTROL);
        add(controls[i].type, 0, 17, stream);
        cr_assert_eq(fault_of_wire(), GM_FRAME_FAULT_CONTROL);
        add(controls[i].type, 0, 16, stream);
        cr_assert_eq(fault_of_wire(), GM_FRAME_FAULT_NONE);
    }
}

Test(frame, faults_of_blocks)
{
    wire.len = 0;
    add(GM_FRAME_OPEN, GM_FRAME_FLAG_MORE | GM_FRAME_FLAG_END_STREAM, 5, 1);
    cr_assert_eq(fault_of_wire(), GM_FRAME_FAULT_FLAGS);
    add(GM_FRAME_HEAD, GM_FRAME_FLAG_MORE, 0, 1);
    cr_assert_eq(fault_of_wire(), GM_FRAME_FAULT_FLAGS);
    static const struct {
        uint8_t type;
        uint32_t stream;
    } intruders[] = {{GM_FRAME_OPEN, 2}, {GM_FRAME_HEAD, 1}, {GM_FRAME_PING, 0}, {77, 1}};
    for (size_t i = 0; i < 4; i++) {
        add(GM_FRAME_OPEN, GM_FRAME_FLAG_MORE, 5, 1);
        add(intruders[i].type, 0, 8, intruders[i].stream);
        cr_assert_eq(fault_of_wire(), GM_FRAME_FAULT_SEQUENCE);
    }
    for (uint8_t type = GM_FRAME_OPEN; type <= GM_FRAME_TRAILERS; type++) {
        if (type == GM_FRAME_DATA)
            continue;
        uint16_t last =
            (uint16_t)(GM_FRAME_BLOCK_MAX - 3 * 16384 + (type == GM_FRAME_OPEN ? 4 : 0));
        for (uint16_t extra = 0; extra < 2; extra++) {
            for (int i = 0; i < 3; i++)
                add(type, GM_FRAME_FLAG_MORE, 16384, 1);
            /* OPEN's block with its prefix is three bytes above four whole frames. */
            if (type == GM_FRAME_OPEN)
                add(type, GM_FRAME_FLAG_MORE, 16000, 1);
            add(type, 0, (uint16_t)(last + extra - (type == GM_FRAME_OPEN ? 16000 : 0)), 1);
            cr_assert_eq(fault_of_wire(), extra ? GM_FRAME_FAULT_BLOCK : GM_FRAME_FAULT_NONE);
        }
    }
}

Test(frame, names_and_texts)
{
    for (unsigned i = 0; i < 256; i++) {
        cr_assert(strlen(gm_frame_type_name((uint8_t)i)) > 2);
        cr_assert(strlen(gm_frame_fault_text((uint8_t)i)) > 2);
    }
    cr_assert_str_eq(gm_frame_type_name(GM_FRAME_DRAIN_ACK), "DRAIN_ACK");
    cr_assert_str_eq(gm_frame_type_name(0), "unknown");
    cr_assert_str_eq(gm_frame_fault_text(GM_FRAME_FAULT_COUNT), "unknown fault");
}

Test(frame, random_streams_split_anywhere)
{
    uint32_t seed = 12345;
    for (int round = 0; round < 300; round++) {
        wire.len = 0;
        for (int i = 0; i < 12; i++) {
            seed = seed * 1664525u + 1013904223u;
            uint8_t type = (uint8_t)((seed >> 24) % 17 + (round % 3 == 0 ? 0 : 1));
            bool link = type <= 2 || type >= 11;
            add(type, (uint8_t)(seed >> 8 & 0x81u), (uint16_t)((seed >> 16) % 23),
                link ? 0 : (seed & 0xf0fu) | 1u);
        }
        expect_splits_agree(wire.p, wire.len, 5);
    }
}
