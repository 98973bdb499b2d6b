/* WebSocket frames: headers by example and round trip, the reader's rules one by one, and the
 * property that input cuts change nothing. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "ws/mask.h"
#include "ws/ws.h"

/* --- Headers --- */

static const uint64_t lengths[] = {
    0, 1, 125, 126, 127, 65535, 65536, 1u << 20, (uint64_t)1 << 40, INT64_MAX};

Test(ws, header_round_trip)
{
    static const uint8_t opcodes[] = {0, 1, 2, 8, 9, 10};
    for (size_t o = 0; o < sizeof(opcodes); o++) {
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
            for (unsigned bits = 0; bits < 4; bits++) {
                struct gm_ws_header in = {lengths[i], (bits & 1) ? 0xa1b2c3d4u : 0, opcodes[o],
                                          (bits & 2) != 0, (bits & 1) != 0};
                if (opcodes[o] >= 8 && (!in.fin || in.length > 125))
                    continue;
                uint8_t p[GM_WS_HEADER_MAX];
                size_t n = gm_ws_header_write(p, &in);
                cr_assert_eq(n, gm_ws_header_size(in.length, in.masked));
                struct gm_ws_header out;
                for (size_t cut = 0; cut < n; cut++)
                    cr_assert_eq(gm_ws_header_read(p, cut, &out), 0);
                cr_assert_eq(gm_ws_header_read(p, n, &out), (int)n);
                cr_assert(out.length == in.length && out.key == in.key && out.opcode == in.opcode);
                cr_assert(out.fin == in.fin && out.masked == in.masked);
            }
        }
    }
}

Test(ws, bad_headers_fail_at_the_first_byte_that_shows_it)
{
    static const struct {
        uint8_t p[11];
        size_t shows_at; /* bytes needed to know */
    } rows[] = {
        {{0xc2, 0}, 1}, /* RSV1 */
        {{0xa2, 0}, 1}, /* RSV2 */
        {{0x92, 0}, 1}, /* RSV3 */
        {{0x83, 0}, 1}, /* reserved opcodes */
        {{0x87, 0}, 1},
        {{0x8b, 0}, 1},
        {{0x8f, 0}, 1},
        {{0x09, 0}, 1},           /* fragmented PING */
        {{0x89, 126, 0, 126}, 2}, /* long PING */
        {{0x88, 127}, 2},
        {{0x82, 126, 0, 125}, 4}, /* not the shortest form */
        {{0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 10},
        {{0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0}, 3}, /* top bit */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct gm_ws_header out;
        for (size_t n = 0; n <= sizeof(rows[i].p); n++)
            cr_assert_eq(gm_ws_header_read(rows[i].p, n, &out),
                         n < rows[i].shows_at ? 0 : -GM_E_PROTOCOL, "row %zu, %zu bytes", i, n);
    }
}

/* --- A record of what a reader said, with the pieces of a message joined --- */

struct record {
    int result;
    uint16_t close_code;
    size_t len;
    uint8_t bytes[1 << 17];
};

static void note(struct record *r, const void *p, size_t n)
{
    cr_assert(r->len + n <= sizeof(r->bytes));
    if (n > 0)
        memcpy(r->bytes + r->len, p, n);
    r->len += n;
}

static void note_event(struct record *r, const struct gm_ws_event *e)
{
    if (e->kind == GM_WS_EVENT_DATA) {
        if (e->mark & GM_WS_FIRST)
            note(r, e->opcode == GM_WS_TEXT ? "<text " : "<data ", 6);
        note(r, e->data, e->len);
        if (e->mark & GM_WS_LAST)
            note(r, ">", 1);
        return;
    }
    note(r,
         e->kind == GM_WS_EVENT_PING   ? "<ping "
         : e->kind == GM_WS_EVENT_PONG ? "<pong "
                                       : "<close",
         6);
    if (e->kind == GM_WS_EVENT_CLOSE)
        note(r, &e->close_code, 2);
    note(r, e->data, e->len);
    note(r, ">", 1);
}

struct setup {
    enum gm_ws_role role;
    uint64_t message_max;
};

/* Feeds p in pieces: `first` bytes, then `step` at a time (0: the rest), each in a block of its own
 * so that ASan sees overreads. */
static void feed(struct record *r, struct setup setup, const uint8_t *p, size_t n, size_t first,
                 size_t step)
{
    struct gm_ws_reader reader;
    gm_ws_reader_init(&reader, setup.role, setup.message_max);
    r->result = 0;
    r->len = 0;
    size_t want = first;
    for (size_t at = 0; at < n || want == 0;) {
        size_t part = want < n - at ? want : n - at;
        uint8_t *copy = malloc(part + 1);
        memcpy(copy, p + at, part);
        uint8_t *data = part > 0 ? copy : NULL;
        size_t len = part;
        struct gm_ws_event e;
        while ((r->result = gm_ws_reader_next(&reader, &data, &len, &e)) == 1)
            note_event(r, &e);
        if (r->result == 0)
            cr_assert(len == 0 && (part == 0 || data == copy + part));
        free(copy);
        at += part;
        want = step > 0 ? step : n;
        if (r->result < 0)
            break;
    }
    r->close_code = reader.close_code;
    if (r->result < 0) {
        uint8_t byte = 0;
        uint8_t *data = &byte;
        size_t len = 1;
        struct gm_ws_event e;
        cr_assert_eq(gm_ws_reader_next(&reader, &data, &len, &e), r->result, "a failure sticks");
        cr_assert_eq(len, 1);
    }
}

static struct record whole;
static struct record split;

/* On failure, pieces before the bad byte may have been told already: then one record begins with
 * the other. */
static void expect_same(size_t where)
{
    cr_assert_eq(whole.result, split.result, "split at %zu", where);
    cr_assert_eq(whole.close_code, split.close_code, "split at %zu", where);
    if (whole.result == 0)
        cr_assert_eq(whole.len, split.len, "split at %zu", where);
    cr_assert_leq(whole.len, split.len);
    cr_assert_eq(memcmp(whole.bytes, split.bytes, whole.len), 0, "split at %zu", where);
}

static void expect_splits_agree(struct setup setup, const uint8_t *p, size_t n)
{
    feed(&whole, setup, p, n, n, 0);
    for (size_t i = 0; i <= n; i++) {
        feed(&split, setup, p, n, i, 0);
        expect_same(i);
    }
    for (size_t step = 1; step < 12; step++) {
        feed(&split, setup, p, n, step, step);
        expect_same(step);
    }
}

/* --- Building input --- */

static const struct setup server = {GM_WS_SERVER, 0};
static const struct setup client = {GM_WS_CLIENT, 0};

struct wire {
    bool masked;
    size_t len;
    uint8_t p[1 << 17];
};
static struct wire wire;

static void begin(bool masked)
{
    wire.masked = masked;
    wire.len = 0;
}

static void add(uint8_t opcode_fin, const void *payload, size_t n)
{
    struct gm_ws_header h = {n, wire.masked ? 0x5a17c3e9u + (uint32_t)wire.len : 0, opcode_fin & 15,
                             (opcode_fin & GM_WS_FIN) != 0, wire.masked};
    wire.len += gm_ws_header_write(wire.p + wire.len, &h);
    if (n > 0)
        memcpy(wire.p + wire.len, payload, n);
    gm_ws_mask(wire.p + wire.len, n, h.key, 0);
    wire.len += n;
}

/* Feeds the wire and expects this record; also that cuts do not matter. */
static void expect(struct setup setup, const char *record, size_t n)
{
    expect_splits_agree(setup, wire.p, wire.len);
    cr_assert_eq(whole.result, 0);
    cr_assert_eq(whole.len, n, "%.*s", (int)whole.len, whole.bytes);
    cr_assert_eq(memcmp(whole.bytes, record, n), 0, "%.*s", (int)whole.len, whole.bytes);
}
#define EXPECT(setup, record) expect((setup), (record), sizeof(record) - 1)

static void expect_failure(struct setup setup, uint16_t close_code)
{
    expect_splits_agree(setup, wire.p, wire.len);
    cr_assert_eq(whole.result, -GM_E_PROTOCOL);
    cr_assert_eq(whole.close_code, close_code, "%u", whole.close_code);
}

#define FIN GM_WS_FIN

/* --- Reading --- */

Test(ws, messages_fragments_and_control_frames_both_roles)
{
    for (int masked = 0; masked < 2; masked++) {
        struct setup setup = masked ? server : client;
        begin(masked != 0);
        add(FIN | GM_WS_BINARY, "one", 3);
        add(GM_WS_BINARY, "tw", 2);
        add(FIN | GM_WS_PING, "p", 1);
        add(GM_WS_CONTINUATION, "", 0);
        add(FIN | GM_WS_PONG, "", 0);
        add(FIN | GM_WS_CONTINUATION, "o", 1);
        add(FIN | GM_WS_TEXT, "\xe2\x82\xac", 3);
        add(FIN | GM_WS_BINARY, "", 0);
        add(GM_WS_TEXT, "", 0);
        add(FIN | GM_WS_CONTINUATION, "", 0);
        add(FIN | GM_WS_CLOSE,
            "\x03\xe8"
            "bye",
            5);
        add(FIN | GM_WS_BINARY, "swallowed", 9);
        EXPECT(setup,
               "<data one><data tw<ping p><pong >o><text \xe2\x82\xac><data ><text ><close\xe8\x03"
               "bye>");
    }
}

Test(ws, example_frames_of_the_rfc)
{
    /* Section 5.7. */
    static const uint8_t hello[] = {0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d,
                                    0x7f, 0x9f, 0x4d, 0x51, 0x58};
    memcpy(wire.p, hello, wire.len = sizeof(hello));
    EXPECT(server, "<text Hello>");
    static const uint8_t parts[] = {0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f};
    memcpy(wire.p, parts, wire.len = sizeof(parts));
    EXPECT(client, "<text Hello>");
}

Test(ws, data_is_unmasked_in_place_and_given_at_once)
{
    begin(true);
    add(FIN | GM_WS_BINARY, "0123456789", 10);
    struct gm_ws_reader reader;
    gm_ws_reader_init(&reader, GM_WS_SERVER, 0);
    uint8_t *data = wire.p;
    size_t len = 6 + 3;
    struct gm_ws_event e;
    cr_assert_eq(gm_ws_reader_next(&reader, &data, &len, &e), 1);
    cr_assert(e.data == wire.p + 6 && e.len == 3 && e.mark == GM_WS_FIRST &&
              memcmp(e.data, "012", 3) == 0);
    cr_assert_eq(gm_ws_reader_next(&reader, &data, &len, &e), 0);
    len = 7;
    cr_assert_eq(gm_ws_reader_next(&reader, &data, &len, &e), 1);
    cr_assert(e.data == wire.p + 9 && e.len == 7 && e.mark == GM_WS_LAST &&
              memcmp(e.data, "3456789", 7) == 0);
}

Test(ws, long_forms)
{
    static uint8_t body[70000];
    for (size_t i = 0; i < sizeof(body); i++)
        body[i] = (uint8_t)(i * 11);
    static const size_t sizes[] = {125, 126, 65535, 65536, 70000};
    for (size_t i = 0; i < 5; i++) {
        begin(true);
        add(FIN | GM_WS_BINARY, body, sizes[i]);
        feed(&whole, server, wire.p, wire.len, wire.len, 0);
        cr_assert_eq(whole.len, sizes[i] + 7);
        cr_assert_eq(memcmp(whole.bytes + 6, body, sizes[i]), 0);
        feed(&split, server, wire.p, wire.len, 3, 997);
        expect_same(sizes[i]);
    }
    begin(false);
    add(FIN | GM_WS_PING, body, 125);
    feed(&whole, client, wire.p, wire.len, 1, 1);
    cr_assert_eq(whole.len, 132);
    cr_assert_eq(memcmp(whole.bytes + 6, body, 125), 0);
}

Test(ws, protocol_failures)
{
    begin(false);
    add(FIN | GM_WS_BINARY, "x", 1);
    expect_failure(server, 1002); /* unmasked to a server */
    begin(true);
    add(FIN | GM_WS_PING, "x", 1);
    expect_failure(client, 1002); /* masked to a client */
    begin(true);
    add(FIN | GM_WS_CONTINUATION, "x", 1);
    expect_failure(server, 1002); /* nothing to continue */
    begin(true);
    add(GM_WS_BINARY, "x", 1);
    add(FIN | GM_WS_BINARY, "y", 1);
    expect_failure(server, 1002); /* message inside a message */
    begin(true);
    add(FIN | GM_WS_TEXT, "ok", 2);
    wire.p[wire.len++] = 0xc1; /* RSV1 */
    expect_failure(server, 1002);
    cr_assert_eq(memcmp(whole.bytes, "<text ok>", 9), 0, "what was good before is told");
}

Test(ws, close_frames)
{
    begin(true);
    add(FIN | GM_WS_CLOSE, "", 0);
    EXPECT(server, "<close\xed\x03>"); /* 1005: none given */
    begin(true);
    add(FIN | GM_WS_CLOSE, "\x03", 1);
    expect_failure(server, 1002);
    begin(true);
    add(FIN | GM_WS_CLOSE, "\x03\xe8\xff", 3);
    expect_failure(server, 1007);
    begin(true);
    add(FIN | GM_WS_CLOSE, "\x03\xe8\xc3", 3);
    expect_failure(server, 1007); /* text ends inside a character */
    begin(true);
    add(FIN | GM_WS_CLOSE, "\x03\xed", 2);
    expect_failure(server, 1002); /* 1005 is never on the wire */
}

Test(ws, close_codes)
{
    for (unsigned code = 0; code < 6000; code++) {
        bool good = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
                    (code >= 3000 && code <= 4999);
        cr_assert_eq(gm_ws_close_code_valid((uint16_t)code), good, "%u", code);
    }
    uint8_t out[GM_WS_CONTROL_MAX];
    cr_assert_eq(gm_ws_close_write(out, 1005, "x"), 0);
    cr_assert_eq(gm_ws_close_write(out, 1000, NULL), 2);
    cr_assert_eq(gm_ws_close_write(out, 1002, "bad"), 5);
    cr_assert_eq(memcmp(out,
                        "\x03\xea"
                        "bad",
                        5),
                 0);
    char text[200];
    memset(text, 'a', sizeof(text));
    text[199] = '\0';
    cr_assert_eq(gm_ws_close_write(out, 1000, text), 125);
    memcpy(text + 121, "\xe2\x82\xac", 3); /* a character across the limit is left out whole */
    cr_assert_eq(gm_ws_close_write(out, 1000, text), 123);
}

Test(ws, message_limit)
{
    static const struct setup limited = {GM_WS_SERVER, 10};
    begin(true);
    add(GM_WS_BINARY, "12345", 5);
    add(FIN | GM_WS_PING, "does not count", 14);
    add(FIN | GM_WS_CONTINUATION, "67890", 5);
    add(FIN | GM_WS_BINARY, "1234567890", 10); /* counted anew */
    EXPECT(limited, "<data 12345<ping does not count>67890><data 1234567890>");
    begin(true);
    add(GM_WS_BINARY, "12345", 5);
    add(FIN | GM_WS_CONTINUATION, "678901", 6);
    expect_failure(limited, 1009);
    /* A length alone is enough: nothing is waited for, and sums cannot wrap. */
    struct gm_ws_header h = {INT64_MAX, 1, GM_WS_CONTINUATION, true, true};
    begin(true);
    add(GM_WS_BINARY, "12345", 5);
    wire.len += gm_ws_header_write(wire.p + wire.len, &h);
    expect_failure(limited, 1009);
}

static bool text_accepted(const uint8_t *p, size_t n)
{
    begin(true);
    add(FIN | GM_WS_TEXT, p, n);
    feed(&whole, server, wire.p, wire.len, wire.len, 0);
    feed(&split, server, wire.p, wire.len, 1, 1);
    expect_same(1);
    cr_assert(whole.result == 0 || whole.close_code == GM_WS_CLOSE_BAD_DATA);
    return whole.result == 0;
}

/* RFC 3629's grammar, spelled out for exactly one character. */
static bool is_one_character(const uint8_t *p, size_t n)
{
    uint32_t cp = 0;
    if (n == 1)
        return p[0] < 0x80;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return false;
        cp = cp << 6 | (p[i] & 0x3fu);
    }
    if (n == 2)
        return (p[0] & 0xe0) == 0xc0 && ((p[0] & 0x1fu) << 6 | cp) >= 0x80;
    if (n == 3) {
        cp |= (p[0] & 0x0fu) << 12;
        return (p[0] & 0xf0) == 0xe0 && cp >= 0x800 && (cp < 0xd800 || cp > 0xdfff);
    }
    cp |= (p[0] & 0x07u) << 18;
    return (p[0] & 0xf8) == 0xf0 && cp >= 0x10000 && cp <= 0x10ffff;
}

Test(ws, text_is_utf8)
{
    for (unsigned a = 0; a < 256; a++) {
        uint8_t one[1] = {(uint8_t)a};
        cr_assert_eq(text_accepted(one, 1), a < 0x80);
        for (unsigned b = 0x7f; b < 0xc1; b++) {
            uint8_t p[4] = {(uint8_t)a, (uint8_t)b, 0xbf, 0x80};
            if (a < 0x80)
                continue;
            cr_assert_eq(text_accepted(p, 2), is_one_character(p, 2), "%x %x", a, b);
            cr_assert_eq(text_accepted(p, 3), is_one_character(p, 3), "%x %x", a, b);
            cr_assert_eq(text_accepted(p, 4), is_one_character(p, 4), "%x %x", a, b);
        }
    }
    begin(true); /* a character across fragments, with a control frame in its middle */
    add(GM_WS_TEXT, "a\xe2", 2);
    add(FIN | GM_WS_PING, "", 0);
    add(GM_WS_CONTINUATION, "\x82", 1);
    add(FIN | GM_WS_CONTINUATION, "\xac", 1);
    EXPECT(server, "<text a\xe2<ping >\x82\xac>");
    begin(true);
    add(FIN | GM_WS_BINARY, "\xff\xfe", 2); /* binary is not looked at */
    EXPECT(server, "<data \xff\xfe>");
}

Test(ws, random_streams_split_anywhere)
{
    uint32_t seed = 99;
    for (int round = 0; round < 150; round++) {
        begin(round % 2 == 0);
        bool open = false;
        for (int i = 0; i < 8; i++) {
            seed = seed * 1664525u + 1013904223u;
            static const uint8_t body[40] = "abcdefghijklmnopqrstuvwxyz0123456789";
            bool control = (seed >> 28) < 4;
            bool fin = control || (seed >> 20 & 1);
            uint8_t opcode = control ? (uint8_t)(GM_WS_PING + (seed >> 27 & 1))
                             : open  ? GM_WS_CONTINUATION
                                     : (uint8_t)(1 + (seed >> 19 & 1));
            if (round % 5 == 0 && i == 7)
                opcode = (uint8_t)(seed >> 9 & 1); /* sometimes against the rules */
            add((uint8_t)(opcode | (fin ? FIN : 0)), body, (seed >> 12) % 37);
            if (!control)
                open = !fin;
        }
        expect_splits_agree(wire.masked ? server : client, wire.p, wire.len);
    }
}
