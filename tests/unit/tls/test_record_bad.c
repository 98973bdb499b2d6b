/* Records that are wrong: damaged, cut short, repeated, out of order, too long, badly padded, and
 * of types that have no place. Nothing of them may come out. */
#include <criterion/criterion.h>
#include <string.h>

#include "record_world.h"

#define ROOM (GM_TLS_RECORD_MAX + 1024u)

static uint8_t record[ROOM], text[ROOM];

/* What opening the record says to a fresh flow that expects `sequence`. Whatever it says, nothing
 * stays behind, and after an error nothing has come out. The record is also given in two pieces,
 * with the same result. */
static int open_at(unsigned suite, uint64_t sequence, uint32_t len)
{
    int results[2];
    for (unsigned pieces = 1; pieces <= 2; pieces++) {
        struct rec_world world;
        rec_begin(&world, 4096);
        struct gm_tls_keys keys = rec_keys(rec_version(suite), rec_cipher(suite));
        keys.sequence = sequence;
        struct gm_tls_flow *flow = gm_tls_flow_new(&keys);
        if (pieces == 1)
            rec_push(&world, &world.wire, record, len);
        else
            rec_push_cut(&world, &world.wire, record, (uint32_t[]){len, len / 2});
        results[pieces - 1] = gm_tls_record_open(flow, &world.wire, &world.plain, &world.segs);
        cr_assert_eq(world.wire.bytes, 0);
        if (results[pieces - 1] < 0)
            cr_assert_eq(world.plain.bytes, 0);
        gm_tls_flow_free(flow);
        rec_end(&world);
    }
    cr_assert_eq(results[0], results[1]);
    return results[0];
}

/* Forges a record of `len` bytes of `text` and opens it. */
static int open_text(unsigned suite, uint8_t outer, uint32_t len)
{
    struct rec_text forged = {.version = rec_version(suite),
                              .cipher = rec_cipher(suite),
                              .sequence = 5,
                              .outer = outer,
                              .bytes = text,
                              .len = len};
    return open_at(suite, 5, rec_forge(&forged, record));
}

/* Seals a message by the book; returns its length. */
static uint32_t seal_message(struct gm_tls_flow *flow, uint8_t *out, const void *message,
                             uint32_t len)
{
    struct rec_world world;
    rec_begin(&world, 64);
    rec_push(&world, &world.plain, message, len);
    cr_assert_eq(gm_tls_record_seal(flow, GM_TLS_DATA, &world.plain, len, &world.sink), 0);
    uint32_t sealed = rec_read(&world.wire, out, ROOM);
    rec_end(&world);
    return sealed;
}

static int length_of(const uint8_t *bytes, uint32_t len)
{
    struct rec_world world;
    rec_begin(&world, 64);
    rec_push_random(&world, &world.wire, bytes, (uint32_t[]){len, 2});
    int result = gm_tls_record_length(&world.wire);
    rec_end(&world);
    return result;
}

Test(record_bad, no_flipped_bit_goes_unnoticed)
{
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct gm_tls_flow *flow = rec_flow(rec_version(suite), rec_cipher(suite));
        uint32_t len = seal_message(flow, record, "nineteen bytes long", 19);
        cr_assert_eq(open_at(suite, 0, len), GM_TLS_DATA);
        for (uint32_t bit = 0; bit < len * 8; bit++) {
            record[bit / 8] ^= (uint8_t)(1u << bit % 8);
            int whole = length_of(record, len);
            if (whole == (int)len) /* else it is refused at once, or more is waited for, or less */
                cr_assert_eq(open_at(suite, 0, len), -GM_E_TLS_RECORD, "suite %u bit %u", suite,
                             bit);
            else
                cr_assert(whole == -GM_E_TLS_RECORD || bit / 8 == 3 || bit / 8 == 4);
            if (whole > 0 && whole < (int)len)
                cr_assert_eq(open_at(suite, 0, (uint32_t)whole), -GM_E_TLS_RECORD);
            record[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        cr_assert_eq(open_at(suite, 0, len), GM_TLS_DATA);
        gm_tls_flow_free(flow);
    }
}

/* Cut at every length, its header telling the truth about it. */
Test(record_bad, what_is_cut_short_is_refused)
{
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct gm_tls_flow *flow = rec_flow(rec_version(suite), rec_cipher(suite));
        uint32_t len = seal_message(flow, record, "nineteen bytes long", 19);
        for (uint32_t cut = 6; cut < len; cut++) {
            record[3] = 0;
            record[4] = (uint8_t)(cut - GM_TLS_HEADER_BYTES);
            cr_assert_eq(open_at(suite, 0, cut), -GM_E_TLS_RECORD);
        }
        gm_tls_flow_free(flow);
    }
}

Test(record_bad, what_is_repeated_skipped_or_swapped_is_refused)
{
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct gm_tls_flow *flow = rec_flow(rec_version(suite), rec_cipher(suite));
        for (uint64_t sent = 0; sent < 3; sent++) {
            uint32_t len = seal_message(flow, record, "again", 5);
            for (uint64_t expected = 0; expected < 4; expected++)
                cr_assert_eq(open_at(suite, expected, len),
                             expected == sent ? GM_TLS_DATA : -GM_E_TLS_RECORD);
        }
        gm_tls_flow_free(flow);
    }
}

Test(record_bad, another_key_salt_or_cipher_is_refused)
{
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct gm_tls_flow *flow = rec_flow(rec_version(suite), rec_cipher(suite));
        uint32_t len = seal_message(flow, record, "for the other", 13);
        gm_tls_flow_free(flow);
        for (unsigned other = rec_next(0); other < REC_SUITES; other = rec_next(other + 1))
            cr_assert_eq(open_at(other, 0, len), other == suite ? GM_TLS_DATA : -GM_E_TLS_RECORD);
        struct gm_tls_keys keys = rec_keys(rec_version(suite), rec_cipher(suite));
        keys.iv[0] ^= 1;
        flow = gm_tls_flow_new(&keys);
        len = seal_message(flow, record, "for the other", 13);
        cr_assert_eq(open_at(suite, 0, len), -GM_E_TLS_RECORD);
        gm_tls_flow_free(flow);
    }
}

/* RFC 8446 section 5.2 and RFC 5246 section 6.2: 2^14 bytes of content, 1.3 one for the type and
 * none for padding beyond. */
Test(record_bad, content_has_its_limit)
{
    rec_fill(text, sizeof text);
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        uint32_t limit = GM_TLS_PAYLOAD_MAX + (suite >= 3 ? 1 : 0);
        text[limit - 1] = text[limit] = text[limit + 1] = GM_TLS_DATA;
        cr_assert_eq(open_text(suite, GM_TLS_DATA, limit), GM_TLS_DATA);
        cr_assert_eq(open_text(suite, GM_TLS_DATA, limit + 1), -GM_E_TLS_RECORD);
        text[100] = GM_TLS_DATA;
        memset(text + 101, 0, limit);
        cr_assert_eq(open_text(suite, GM_TLS_DATA, limit), GM_TLS_DATA);
        cr_assert_eq(open_text(suite, GM_TLS_DATA, limit + 1), -GM_E_TLS_RECORD);
    }
}

Test(record_bad, headers_that_cannot_be_are_refused)
{
    static const struct {
        uint8_t bytes[5];
        int expected;
    } headers[] = {
        {{20, 3, 3, 0, 1}, 6},
        {{21, 3, 3, 0, 2}, 7},
        {{22, 3, 1, 2, 0}, 517}, /* a first ClientHello says 3.1 */
        {{23, 3, 3, 0, 0}, 5},
        {{23, 3, 3, 0x41, 0}, 5 + 16384 + 256},
        {{23, 3, 3, 0x41, 1}, -GM_E_TLS_RECORD},
        {{23, 3, 3, 0xff, 0xff}, -GM_E_TLS_RECORD},
        {{19, 3, 3, 0, 1}, -GM_E_TLS_RECORD},
        {{24, 3, 3, 0, 1}, -GM_E_TLS_RECORD},
        {{23, 2, 3, 0, 1}, -GM_E_TLS_RECORD},
        {{23, 4, 3, 0, 1}, -GM_E_TLS_RECORD},
        {{'G', 'E', 'T', ' ', '/'}, -GM_E_TLS_RECORD},
    };
    for (unsigned i = 0; i < sizeof headers / sizeof *headers; i++) {
        for (uint32_t part = 0; part < 5; part++)
            cr_assert_eq(length_of(headers[i].bytes, part), 0);
        cr_assert_eq(length_of(headers[i].bytes, 5), headers[i].expected, "header %u", i);
    }
}

/* Padding may be any length, content any content, and cuts anywhere, zeros included. */
Test(record_bad, padding_is_taken_off_wherever_it_is_cut)
{
    static const uint8_t content[] = {7, 0, 0, 9, 0};
    for (unsigned suite = rec_next(3); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        for (uint32_t padding = 0; padding < 40; padding++) {
            uint32_t inner = sizeof content + 1 + padding;
            memset(text, 0, inner);
            memcpy(text, content, sizeof content);
            text[sizeof content] = GM_TLS_HANDSHAKE;
            struct rec_text forged = {GM_TLS_1_3, rec_cipher(suite), 0, GM_TLS_DATA, text, inner};
            uint32_t len = rec_forge(&forged, record);
            for (uint32_t most = 1; most < 60; most += 7) {
                struct rec_world world;
                uint8_t out[16];
                rec_begin(&world, 64);
                struct gm_tls_flow *flow = rec_flow(GM_TLS_1_3, rec_cipher(suite));
                rec_push_random(&world, &world.wire, record, (uint32_t[]){len, most});
                cr_assert_eq(gm_tls_record_open(flow, &world.wire, &world.plain, &world.segs),
                             GM_TLS_HANDSHAKE);
                cr_assert_eq(rec_read(&world.plain, out, sizeof out), sizeof content);
                cr_assert_arr_eq(out, content, sizeof content);
                gm_tls_flow_free(flow);
                rec_end(&world);
            }
        }
    }
}

Test(record_bad, all_padding_is_refused)
{
    memset(text, 0, sizeof text);
    for (unsigned suite = rec_next(3); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        for (uint32_t len = 0; len < 100; len += 3)
            cr_assert_eq(open_text(suite, GM_TLS_DATA, len), -GM_E_TLS_RECORD);
        cr_assert_eq(open_text(suite, GM_TLS_DATA, GM_TLS_PAYLOAD_MAX + 1), -GM_E_TLS_RECORD);
    }
}

/* RFC 8446 section 5.4, RFC 5246 section 6.2.1. */
Test(record_bad, only_data_may_be_empty)
{
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        for (unsigned type = 0; type < 256; type++) {
            memset(text, 0, 8);
            text[0] = (uint8_t)type;
            int empty = suite >= 3 ? open_text(suite, GM_TLS_DATA, 1 + type % 4)
                                   : open_text(suite, (uint8_t)type, 0);
            cr_assert_eq(empty, type == GM_TLS_DATA ? GM_TLS_DATA : -GM_E_TLS_RECORD);
        }
    }
}

/* A byte of content, of every type there might be. */
Test(record_bad, types_without_a_place_are_refused)
{
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        for (unsigned type = 0; type < 256; type++) {
            bool known = type >= GM_TLS_ALERT && type <= GM_TLS_DATA;
            text[0] = 1;
            text[1] = (uint8_t)type;
            if (suite >= 3) {
                cr_assert_eq(open_text(suite, GM_TLS_DATA, 2),
                             known ? (int)type : -GM_E_TLS_RECORD);
                text[1] = GM_TLS_DATA; /* the outer type is always that of data */
                cr_assert_eq(open_text(suite, (uint8_t)type, 2),
                             type == GM_TLS_DATA ? GM_TLS_DATA : -GM_E_TLS_RECORD);
            } else {
                known = known || type == GM_TLS_CHANGE_CIPHER_SPEC;
                cr_assert_eq(open_text(suite, (uint8_t)type, 1),
                             known ? (int)type : -GM_E_TLS_RECORD);
            }
        }
    }
}

/* The record that 1.3 sends for middleboxes: in the clear, one byte, and it takes no number. */
Test(record_bad, only_the_compatibility_record_comes_in_the_clear)
{
    static const uint8_t good[] = {20, 3, 3, 0, 1, 1};
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        memcpy(record, good, sizeof good);
        int expected = suite >= 3 ? GM_TLS_CHANGE_CIPHER_SPEC : -GM_E_TLS_RECORD;
        cr_assert_eq(open_at(suite, 3, sizeof good), expected);
        record[5] = 2;
        cr_assert_eq(open_at(suite, 3, sizeof good), -GM_E_TLS_RECORD);
        memcpy(record, (uint8_t[]){20, 3, 3, 0, 2, 1, 1}, 7);
        cr_assert_eq(open_at(suite, 3, 7), -GM_E_TLS_RECORD);
        memcpy(record, (uint8_t[]){21, 3, 3, 0, 2, 2, 40}, 7); /* an alert in the clear */
        cr_assert_eq(open_at(suite, 3, 7), -GM_E_TLS_RECORD);
        memcpy(record, (uint8_t[]){20, 3, 3, 0, 0}, 5);
        cr_assert_eq(open_at(suite, 3, 5), -GM_E_TLS_RECORD);
    }
    struct rec_world world;
    rec_begin(&world, 64);
    struct gm_tls_flow *flow = rec_flow(GM_TLS_1_3, GM_TLS_CHACHA20_POLY1305);
    rec_push(&world, &world.wire, good, sizeof good);
    cr_assert_eq(gm_tls_record_open(flow, &world.wire, &world.plain, &world.segs),
                 GM_TLS_CHANGE_CIPHER_SPEC);
    cr_assert(gm_tls_flow_sequence(flow) == 0 && world.plain.bytes == 0 && world.wire.bytes == 0);
    gm_tls_flow_free(flow);
    rec_end(&world);
}

/* TLS 1.2 says its version in the clear and in what is authenticated; 1.3 ignores the outer one as
 * a number, but it too is authenticated. */
Test(record_bad, another_version_in_the_header_is_refused)
{
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct gm_tls_flow *flow = rec_flow(rec_version(suite), rec_cipher(suite));
        uint32_t len = seal_message(flow, record, "3.1", 3);
        for (unsigned byte = 1; byte <= 2; byte++) {
            record[byte] ^= 2;
            cr_assert_eq(open_at(suite, 0, len), -GM_E_TLS_RECORD);
            record[byte] ^= 2;
        }
        gm_tls_flow_free(flow);
    }
}

Test(record_bad, the_last_number_is_never_used)
{
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct gm_tls_keys keys = rec_keys(rec_version(suite), rec_cipher(suite));
        keys.sequence = UINT64_MAX - 1;
        struct gm_tls_flow *flow = gm_tls_flow_new(&keys);
        uint32_t len = seal_message(flow, record, "last", 4);
        cr_assert_eq(open_at(suite, UINT64_MAX - 1, len), GM_TLS_DATA);
        struct rec_world world;
        rec_begin(&world, 64);
        rec_push(&world, &world.plain, "more", 4);
        cr_assert_eq(gm_tls_record_seal(flow, GM_TLS_DATA, &world.plain, 4, &world.sink),
                     -GM_E_TLS);
        cr_assert(world.plain.bytes == 4 && world.wire.bytes == 0);
        rec_end(&world);
        struct rec_text forged = {
            keys.version, keys.cipher, UINT64_MAX, GM_TLS_DATA, (const uint8_t *)"a\x17", 2};
        cr_assert_eq(open_at(suite, UINT64_MAX, rec_forge(&forged, record)), -GM_E_TLS_RECORD);
        gm_tls_flow_free(flow);
    }
}
