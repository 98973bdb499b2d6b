/* Records that are right: vectors of the RFCs and of another library, every cipher, version and
 * cut, key updates, and what happens when memory runs out. */
#include <criterion/criterion.h>
#include <string.h>

#include "record_world.h"
#include "tls/aead.h"

#define MESSAGE "A record of forty-one bytes, no more, so."
#define ROOM    (GM_TLS_RECORD_MAX + 64u)

/* ---- Vectors ---- */

/* RFC 8448 section 3, the application traffic of both sides: secret, record number, content. */
static const struct {
    const char *key, *iv;
    uint64_t sequence;
    uint8_t type;
    const char *record;
} rfc8448[] = {
    {"17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9", 0, GM_TLS_DATA,
     "1703030043 "
     "a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e"
     "2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4"},
    {"17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9", 1, GM_TLS_ALERT,
     "1703030013 c9872760655666b74d7ff1153efd6db6d0b0e3"},
    {"9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984", 1, GM_TLS_DATA,
     "1703030043 "
     "2e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb501a59"
     "a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d"},
    {"9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984", 2, GM_TLS_ALERT,
     "1703030013 b58fd67166ebf599d24720cfbe7efa7a8864a9"},
};

Test(record, speaks_as_rfc_8448_does)
{
    if (!gm_tls_record_has(GM_TLS_AES_128_GCM))
        cr_skip_test("this build of wolfSSL has no AES-GCM in pieces");
    for (unsigned i = 0; i < sizeof rfc8448 / sizeof *rfc8448; i++) {
        struct gm_tls_keys keys = {.version = GM_TLS_1_3, .secret_len = 32};
        uint8_t record[128], content[64], out[128];
        keys.sequence = rfc8448[i].sequence;
        rec_hex(rfc8448[i].key, keys.key, 16);
        rec_hex(rfc8448[i].iv, keys.iv, 12);
        uint32_t len = rec_hex(rfc8448[i].record, record, sizeof record);
        uint32_t content_len = rfc8448[i].type == GM_TLS_ALERT ? 2 : 50;
        for (uint32_t at = 0; at < content_len; at++)
            content[at] = (uint8_t)at;
        if (rfc8448[i].type == GM_TLS_ALERT)
            memcpy(content, "\1\0", 2);
        struct rec_world world;
        rec_begin(&world, 4096);
        struct gm_tls_flow *in = gm_tls_flow_new(&keys), *out_flow = gm_tls_flow_new(&keys);
        rec_push(&world, &world.plain, content, content_len);
        cr_assert_eq(
            gm_tls_record_seal(out_flow, rfc8448[i].type, &world.plain, content_len, &world.sink),
            0);
        cr_assert_eq(rec_read(&world.wire, out, sizeof out), len);
        cr_assert_arr_eq(out, record, len);
        cr_assert_eq(gm_tls_record_open(in, &world.wire, &world.plain, &world.segs),
                     rfc8448[i].type);
        cr_assert_eq(rec_read(&world.plain, out, sizeof out), content_len);
        cr_assert_arr_eq(out, content, content_len);
        gm_tls_flow_free(in);
        gm_tls_flow_free(out_flow);
        rec_end(&world);
    }
}

/* RFC 8439 section 2.8.2, in one go and in pieces cut everywhere. */
Test(record, encrypts_as_rfc_8439_does)
{
    static const char text[] = "Ladies and Gentlemen of the class of '99: If I could offer you "
                               "only one tip for the future, sunscreen would be it.";
    uint8_t key[32], cipher[130], out[130];
    uint32_t len = sizeof text - 1;
    struct gm_tls_aead_head head = {.aad_len = 12};
    for (unsigned i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(0x80 + i);
    rec_hex("070000004041424344454647", head.nonce, sizeof head.nonce);
    rec_hex("50515253c0c1c2c3c4c5c6c7", head.aad, sizeof head.aad);
    cr_assert_eq(rec_hex("d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
                         "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
                         "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
                         "3ff4def08e4b7a9de576d26586cec64b6116 1ae10b594f09e26a7e902ecbd0600691",
                         cipher, sizeof cipher),
                 len + GM_TLS_TAG_BYTES);
    struct gm_tls_aead aead;
    struct gm_tls_aead_run run;
    cr_assert_eq(gm_tls_aead_init(&aead, GM_TLS_CHACHA20_POLY1305, key), 0);
    memcpy(out, text, len);
    cr_assert_eq(gm_tls_aead_seal_whole(&aead, &head, out, len, out + len), 0);
    cr_assert_arr_eq(out, cipher, len + GM_TLS_TAG_BYTES);
    for (uint32_t cut = 1; cut < len; cut++) {
        cr_assert_eq(gm_tls_aead_begin(&run, &aead, &head, true), 0);
        cr_assert_eq(gm_tls_aead_seal(&run, out, (const uint8_t *)text, cut), 0);
        cr_assert_eq(gm_tls_aead_seal(&run, out + cut, (const uint8_t *)text + cut, len - cut), 0);
        cr_assert_eq(gm_tls_aead_tag(&run, out + len), 0);
        cr_assert_arr_eq(out, cipher, len + GM_TLS_TAG_BYTES);
    }
    gm_tls_aead_wipe(&aead);
}

/* Made with OpenSSL (Python's cryptography) from the keys of rec_keys: MESSAGE as application
 * data, sequence 0x0102030405060708; then as record 0 after two key updates. */
static const char *const openssl_records[REC_SUITES] = {
    "17030300410102030405060708be5562af1b4ec6e4717a2bcfba97ff1e7514c6e16078130997dd60e0f03ee32c7123"
    "4b"
    "f500cf32343e03d1cbbe815d0fafcd34bf74dfbac4a1",
    "17030300410102030405060708 "
    "1bb613a762c555beae60c1dd02a84e2e653bf9e47e3471f8d02cc4b29377aa50e630e"
    "05cdd63ac3c6c7754a3e620516896843715c9b6c1fc41",
    "1703030039bed8ad3b58b48efdf32dc09ba94c1d318341f686448cea158b062a64f22a04353098b5e9868eebc95f55"
    "50"
    "a85a2a4a07f15da3791b7595b94c",
    "170303003a4ce30e75bb96c32a7cef0eeda305c33aae21a2b744be4f1624526d34adcfeef76d3f75f8caad1171ad55"
    "4c"
    "6a2677b8ef5d289b42c36cfe890cd9",
    "170303003acea16fe6f56e86d78cec5e743ba7eb3b02e50d6b2f40466ca958a7bcd3a923fe3ff6aa2bdfd1761eefc9"
    "42"
    "ad60a8c18d84b80c88af1f882f51f9",
    "170303003abed8ad3b58b48efdf32dc09ba94c1d318341f686448cea158b062a64f22a04353098b5e9868eebc95f4e"
    "05"
    "bc0d4ca5353aac65b2de7b0e3ef4b2",
};
static const char *const openssl_updated[3] = {
    "170303003a4fd06b4f2e21eea94718306c6bf9cb3d1f371708a0f6f8e0f09b54adc4252e7a9cc0a130a1aa73ade492"
    "aa"
    "fcd65b94f4b9b095e807cb1f98eaad",
    "170303003aa18305c2063d5777c73e2184e886f8852a78980c2b836ee913479db871da188d2ec8af711e6bd75b59e5"
    "f8"
    "c83b7c1838821e1787c89710619555",
    "170303003a99beb827e4a900ba4ea2261e97752c9209b10e2a9e178d5f03244ae52b8cd5959bc8a28131d9eefac02d"
    "6f"
    "bf95a8b0253f3e187b7f2631962ddb",
};

/* Seals MESSAGE, compares it with `expected`, opens it again. */
static void expect_record(struct gm_tls_flow *const flows[2], const char *expected)
{
    uint8_t record[128], out[128];
    uint32_t len = rec_hex(expected, record, sizeof record);
    struct rec_world world;
    rec_begin(&world, 4096);
    rec_push(&world, &world.plain, MESSAGE, sizeof MESSAGE - 1);
    cr_assert_eq(
        gm_tls_record_seal(flows[0], GM_TLS_DATA, &world.plain, sizeof MESSAGE - 1, &world.sink),
        0);
    cr_assert_eq(rec_read(&world.wire, out, sizeof out), len);
    cr_assert_arr_eq(out, record, len);
    cr_assert_eq(gm_tls_record_open(flows[1], &world.wire, &world.plain, &world.segs), GM_TLS_DATA);
    cr_assert_eq(rec_read(&world.plain, out, sizeof out), sizeof MESSAGE - 1);
    cr_assert_arr_eq(out, MESSAGE, sizeof MESSAGE - 1);
    rec_end(&world);
}

Test(record, speaks_as_openssl_does)
{
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct gm_tls_keys keys = rec_keys(rec_version(suite), rec_cipher(suite));
        keys.sequence = 0x0102030405060708u;
        struct gm_tls_flow *flows[2] = {gm_tls_flow_new(&keys), gm_tls_flow_new(&keys)};
        expect_record(flows, openssl_records[suite]);
        cr_assert_eq(gm_tls_flow_sequence(flows[0]), keys.sequence + 1);
        cr_assert_eq(gm_tls_flow_sequence(flows[1]), keys.sequence + 1);
        for (unsigned i = 0; i < 4; i++) {
            int updated = gm_tls_flow_update(flows[i % 2]);
            cr_assert_eq(updated, suite < 3 ? -GM_E_TLS : 0);
        }
        cr_assert_eq(gm_tls_flow_sequence(flows[0]), suite < 3 ? keys.sequence + 1 : 0);
        if (suite >= 3)
            expect_record(flows, openssl_updated[suite - 3]);
        gm_tls_flow_free(flows[0]);
        gm_tls_flow_free(flows[1]);
    }
}

/* wolfCrypt decides once per key, for records in one go and in pieces alike. */
Test(record, has_the_processor_do_aes)
{
#if defined(WOLFSSL_AESNI) && defined(WOLFSSL_AESGCM_STREAM)
    if (!__builtin_cpu_supports("aes"))
        cr_skip_test("this processor has no AES");
    struct gm_tls_aead aead;
    uint8_t key[32] = {1};
    gm_tls_aead_narrow(true);
    for (unsigned cipher = GM_TLS_AES_128_GCM; cipher <= GM_TLS_AES_256_GCM; cipher++) {
        cr_assert_eq(gm_tls_aead_init(&aead, cipher, key), 0);
        cr_assert(aead.u.aes.use_aesni);
        gm_tls_aead_wipe(&aead);
    }
#else
    cr_skip_test("this build of wolfSSL has AES in C only");
#endif
}

/* ---- There and back ---- */

struct trip {
    struct gm_tls_flow *out, *in;
    unsigned suite;
};

static struct trip trip_begin(unsigned suite)
{
    return (struct trip){rec_flow(rec_version(suite), rec_cipher(suite)),
                         rec_flow(rec_version(suite), rec_cipher(suite)), suite};
}

static void trip_end(struct trip *trip)
{
    gm_tls_flow_free(trip->out);
    gm_tls_flow_free(trip->in);
}

/* Seals what is in world.plain (which holds `content`), then cuts the wire at `cut` (0: leaves it)
 * and opens it. */
static void trip_once(struct trip *trip, struct rec_world *world, const uint8_t *content,
                      uint32_t cut)
{
    static uint8_t bytes[ROOM];
    uint32_t len = (uint32_t)world->plain.bytes;
    cr_assert_eq(gm_tls_record_seal(trip->out, GM_TLS_DATA, &world->plain, len, &world->sink), 0);
    cr_assert_eq(world->plain.bytes, 0);
    cr_assert_eq(world->wire.bytes, len + gm_tls_flow_overhead(trip->out));
    cr_assert_eq(gm_tls_record_length(&world->wire), (int)world->wire.bytes);
    if (cut > 0) {
        uint32_t wire_len = rec_read(&world->wire, bytes, sizeof bytes);
        gm_chain_clear(&world->wire, &world->segs);
        rec_push_cut(world, &world->wire, bytes, (uint32_t[]){wire_len, cut});
    }
    cr_assert_eq(gm_tls_record_open(trip->in, &world->wire, &world->plain, &world->segs),
                 GM_TLS_DATA);
    cr_assert_eq(world->wire.bytes, 0);
    cr_assert_eq(rec_read(&world->plain, bytes, sizeof bytes), len);
    cr_assert_eq(memcmp(bytes, content, len), 0, "suite %u, %u bytes, cut %u", trip->suite, len,
                 cut);
    gm_chain_clear(&world->plain, &world->segs);
}

Test(record, survives_every_cut_of_payload_and_wire)
{
    uint8_t content[67];
    rec_fill(content, sizeof content);
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct trip trip = trip_begin(suite);
        struct rec_world world;
        rec_begin(&world, 64);
        for (uint32_t cut = 1; cut < sizeof content; cut++) {
            rec_push_cut(&world, &world.plain, content, (uint32_t[]){sizeof content, cut});
            trip_once(&trip, &world, content, 0);
        }
        uint32_t wire = sizeof content + gm_tls_flow_overhead(trip.out);
        for (uint32_t cut = 1; cut < wire; cut++) {
            rec_push(&world, &world.plain, content, sizeof content);
            trip_once(&trip, &world, content, cut);
        }
        rec_end(&world);
        trip_end(&trip);
    }
}

Test(record, fills_blocks_of_every_size)
{
    uint8_t content[67];
    rec_fill(content, sizeof content);
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct trip trip = trip_begin(suite);
        for (uint32_t block = 64; block < 128; block++) {
            struct rec_world world;
            rec_begin(&world, block);
            for (uint32_t len = 0; len <= sizeof content; len++) {
                rec_push(&world, &world.plain, content, len);
                trip_once(&trip, &world, content, 0);
            }
            rec_end(&world);
        }
        trip_end(&trip);
    }
}

Test(record, survives_random_cuts_of_large_records)
{
    static const uint32_t blocks[] = {64, 100, 4096, 32768};
    static uint8_t content[GM_TLS_PAYLOAD_MAX], wire[ROOM];
    rec_fill(content, sizeof content);
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct trip trip = trip_begin(suite);
        for (unsigned round = 0; round < 60; round++) {
            struct rec_world world;
            rec_begin(&world, blocks[round % 4]);
            uint32_t len = round < 8 ? GM_TLS_PAYLOAD_MAX : rec_random() % sizeof content;
            uint32_t most = round % 3 == 0 ? 40000 : 1 + rec_random() % 900;
            rec_push_random(&world, &world.plain, content, (uint32_t[]){len, most});
            cr_assert_eq(gm_tls_record_seal(trip.out, GM_TLS_DATA, &world.plain, len, &world.sink),
                         0);
            uint32_t wire_len = rec_read(&world.wire, wire, sizeof wire);
            gm_chain_clear(&world.wire, &world.segs);
            rec_push_random(&world, &world.wire, wire, (uint32_t[]){wire_len, most});
            cr_assert_eq(gm_tls_record_open(trip.in, &world.wire, &world.plain, &world.segs),
                         GM_TLS_DATA);
            cr_assert_eq(rec_read(&world.plain, wire, sizeof wire), len);
            cr_assert_eq(memcmp(wire, content, len), 0);
            rec_end(&world);
        }
        trip_end(&trip);
    }
}

/* One payload byte per slice and the record's tail in the same buffers as the next record. */
Test(record, takes_records_out_of_the_middle_of_slices)
{
    static uint8_t content[300], wire[600];
    rec_fill(content, sizeof content);
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct trip trip = trip_begin(suite);
        struct rec_world world;
        rec_begin(&world, 4096);
        rec_push_random(&world, &world.plain, content, (uint32_t[]){sizeof content, 1});
        for (unsigned i = 0; i < 3; i++)
            cr_assert_eq(gm_tls_record_seal(trip.out, GM_TLS_DATA, &world.plain, 100, &world.sink),
                         0);
        uint32_t len = rec_read(&world.wire, wire, sizeof wire);
        gm_chain_clear(&world.wire, &world.segs);
        rec_push_cut(&world, &world.wire, wire, (uint32_t[]){len, len / 2});
        for (unsigned i = 0; i < 3; i++)
            cr_assert_eq(gm_tls_record_open(trip.in, &world.wire, &world.plain, &world.segs),
                         GM_TLS_DATA);
        cr_assert_eq(world.wire.bytes, 0);
        cr_assert_eq(rec_read(&world.plain, wire, sizeof wire), sizeof content);
        cr_assert_arr_eq(wire, content, sizeof content);
        rec_end(&world);
        trip_end(&trip);
    }
}

Test(record, reads_shared_payload_and_leaves_it_as_it_was)
{
    uint8_t content[500], after[500];
    rec_fill(content, sizeof content);
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct trip trip = trip_begin(suite);
        struct rec_world world;
        rec_begin(&world, 100);
        rec_push(&world, &world.plain, content, sizeof content);
        gm_slice shared = gm_slice_ref(gm_chain_front(&world.plain));
        cr_assert_eq(gm_tls_record_seal(trip.out, GM_TLS_DATA, &world.plain, 200, &world.sink), 0);
        cr_assert_eq(world.plain.bytes, 300);
        memcpy(after, shared.data, sizeof after);
        cr_assert_arr_eq(after, content, sizeof content);
        gm_slice_put(shared);
        rec_end(&world);
        trip_end(&trip);
    }
}

Test(record, carries_every_type_and_keeps_it_secret_in_1_3)
{
    static const uint8_t types[] = {GM_TLS_ALERT, GM_TLS_HANDSHAKE, GM_TLS_DATA};
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct trip trip = trip_begin(suite);
        struct rec_world world;
        rec_begin(&world, 4096);
        for (unsigned i = 0; i < sizeof types; i++) {
            rec_push(&world, &world.plain, "\1\0", 2);
            cr_assert_eq(gm_tls_record_seal(trip.out, types[i], &world.plain, 2, &world.sink), 0);
            cr_assert_eq(gm_chain_front(&world.wire).data[0], suite < 3 ? types[i] : GM_TLS_DATA);
            cr_assert_eq(gm_tls_record_open(trip.in, &world.wire, &world.plain, &world.segs),
                         types[i]);
            gm_chain_clear(&world.plain, &world.segs);
        }
        cr_assert_eq(gm_tls_flow_version(trip.in), rec_version(suite));
        cr_assert_eq(gm_tls_flow_cipher(trip.in), rec_cipher(suite));
        rec_end(&world);
        trip_end(&trip);
    }
}

Test(record, says_how_much_longer_a_record_is)
{
    static const uint32_t overheads[REC_SUITES] = {29, 29, 21, 22, 22, 22};
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct trip trip = trip_begin(suite);
        cr_assert_eq(gm_tls_flow_overhead(trip.out), overheads[suite]);
        cr_assert_leq(overheads[suite], GM_TLS_OVERHEAD_MAX);
        trip_end(&trip);
    }
}

/* Both ends update at the same record, in any suite of 1.3; one end alone is not understood. */
Test(record, both_ends_update_their_keys_together)
{
    uint8_t content[100];
    rec_fill(content, sizeof content);
    for (unsigned suite = rec_next(3); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct trip trip = trip_begin(suite);
        struct rec_world world;
        rec_begin(&world, 64);
        for (unsigned generation = 0; generation < 5; generation++) {
            for (unsigned i = 0; i < 3; i++) {
                rec_push(&world, &world.plain, content, sizeof content);
                trip_once(&trip, &world, content, 0);
            }
            cr_assert_eq(gm_tls_flow_update(trip.out), 0);
            cr_assert_eq(gm_tls_flow_update(trip.in), 0);
            cr_assert_eq(gm_tls_flow_sequence(trip.in), 0);
        }
        cr_assert_eq(gm_tls_flow_update(trip.out), 0);
        rec_push(&world, &world.plain, content, sizeof content);
        cr_assert_eq(
            gm_tls_record_seal(trip.out, GM_TLS_DATA, &world.plain, sizeof content, &world.sink),
            0);
        cr_assert_eq(gm_tls_record_open(trip.in, &world.wire, &world.plain, &world.segs),
                     -GM_E_TLS_RECORD);
        rec_end(&world);
        trip_end(&trip);
    }
}

/* ---- Shortage ---- */

Test(record, sealing_without_blocks_changes_nothing)
{
    static uint8_t content[3000];
    rec_fill(content, sizeof content);
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct trip trip = trip_begin(suite);
        struct rec_world world;
        rec_begin(&world, 100);
        rec_push_random(&world, &world.plain, content, (uint32_t[]){sizeof content, 500});
        uint32_t live = world.live, count = world.plain.count;
        uint32_t needed = (3000 + gm_tls_flow_overhead(trip.out) + 99) / 100;
        for (uint32_t left = 0; left < needed; left++) {
            world.blocks_left = left;
            cr_assert_eq(gm_tls_record_seal(trip.out, GM_TLS_DATA, &world.plain, sizeof content,
                                            &world.sink),
                         -GM_E_NOMEM);
            cr_assert(world.live == live && world.plain.count == count);
            cr_assert(world.plain.bytes == sizeof content && world.wire.bytes == 0);
            cr_assert_eq(gm_tls_flow_sequence(trip.out), 0);
        }
        world.blocks_left = needed;
        trip_once(&trip, &world, content, 0);
        cr_assert_eq(world.blocks_left, 0);
        rec_end(&world);
        trip_end(&trip);
    }
}

Test(record, sealing_without_segments_changes_nothing)
{
    static uint8_t content[3000];
    rec_fill(content, sizeof content);
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct trip trip = trip_begin(suite);
        struct rec_world world;
        rec_begin(&world, 100);
        rec_push(&world, &world.plain, content, sizeof content);
        uint32_t live = world.live;
        for (uint32_t left = 0;; left++) { /* 31 pieces: four segments */
            struct gm_seg *taken = rec_take_segs(&world, left);
            int sealed = gm_tls_record_seal(trip.out, GM_TLS_DATA, &world.plain, sizeof content,
                                            &world.sink);
            rec_give_segs(&world, taken);
            if (sealed == 0) {
                cr_assert_eq(left, 4);
                break;
            }
            cr_assert_eq(sealed, -GM_E_NOMEM);
            cr_assert(world.live == live && world.plain.bytes == sizeof content);
            cr_assert(world.wire.bytes == 0 && gm_tls_flow_sequence(trip.out) == 0);
        }
        cr_assert_eq(gm_tls_record_open(trip.in, &world.wire, &world.plain, &world.segs),
                     GM_TLS_DATA);
        rec_end(&world);
        trip_end(&trip);
    }
}

Test(record, opening_without_segments_changes_nothing)
{
    static uint8_t content[3000], before[3100], after[3100];
    rec_fill(content, sizeof content);
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct trip trip = trip_begin(suite);
        struct rec_world world;
        rec_begin(&world, 100);
        rec_push(&world, &world.plain, content, sizeof content);
        cr_assert_eq(
            gm_tls_record_seal(trip.out, GM_TLS_DATA, &world.plain, sizeof content, &world.sink),
            0);
        uint32_t len = rec_read(&world.wire, before, sizeof before);
        for (uint32_t left = 0;; left++) {
            struct gm_seg *taken = rec_take_segs(&world, left);
            int opened = gm_tls_record_open(trip.in, &world.wire, &world.plain, &world.segs);
            rec_give_segs(&world, taken);
            if (opened == GM_TLS_DATA) {
                cr_assert_eq(left, 4);
                break;
            }
            cr_assert_eq(opened, -GM_E_NOMEM);
            cr_assert_eq(rec_read(&world.wire, after, sizeof after), len);
            cr_assert_eq(memcmp(after, before, len), 0);
            cr_assert(world.plain.bytes == 0 && gm_tls_flow_sequence(trip.in) == 0);
        }
        cr_assert_eq(rec_read(&world.plain, after, sizeof after), sizeof content);
        cr_assert_arr_eq(after, content, sizeof content);
        rec_end(&world);
        trip_end(&trip);
    }
}
