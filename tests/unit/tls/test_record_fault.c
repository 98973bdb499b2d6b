/* The library fails at each of its calls in turn: a record is then not sealed, not opened, a key
 * not changed, and nothing else has happened. The linker leads the calls through here (--wrap). */
#include <criterion/criterion.h>
#include <string.h>

#include "record_world.h"
#include "tls/aead.h"

/* Wide AES-GCM calls no library and cannot fail. */
static void use_the_library(void)
{
    gm_tls_aead_narrow(true);
}
TestSuite(record_fault, .init = use_the_library);

/* Calls that still succeed; UINT32_MAX: all. */
static uint32_t calls_left = UINT32_MAX;
static bool fails(void)
{
    if (calls_left == UINT32_MAX)
        return false;
    return calls_left == 0 || calls_left-- == 0;
}

#define WRAPPED(name, parameters, arguments)                                                       \
    int __real_##name parameters;                                                                  \
    int __wrap_##name parameters;                                                                  \
    int __wrap_##name parameters                                                                   \
    {                                                                                              \
        return fails() ? BAD_STATE_E : __real_##name arguments;                                    \
    }

WRAPPED(wc_AesGcmSetKey, (Aes * aes, const byte *key, word32 len), (aes, key, len))
WRAPPED(wc_AesGcmEncrypt,
        (Aes * aes, byte *out, const byte *in, word32 len, const byte *iv, word32 iv_len, byte *tag,
         word32 tag_len, const byte *aad, word32 aad_len),
        (aes, out, in, len, iv, iv_len, tag, tag_len, aad, aad_len))
WRAPPED(wc_HKDF_Expand,
        (int type, const byte *key, word32 key_len, const byte *info, word32 info_len, byte *out,
         word32 len),
        (type, key, key_len, info, info_len, out, len))
WRAPPED(wc_ChaCha20Poly1305_Init,
        (ChaChaPoly_Aead * aead, const byte *key, const byte *iv, int encrypt),
        (aead, key, iv, encrypt))
WRAPPED(wc_ChaCha20Poly1305_UpdateAad, (ChaChaPoly_Aead * aead, const byte *aad, word32 len),
        (aead, aad, len))
WRAPPED(wc_ChaCha20Poly1305_UpdateData,
        (ChaChaPoly_Aead * aead, const byte *in, byte *out, word32 len), (aead, in, out, len))
WRAPPED(wc_ChaCha20Poly1305_Final, (ChaChaPoly_Aead * aead, byte *tag), (aead, tag))
WRAPPED(wc_ChaCha20Poly1305_Encrypt,
        (const byte *key, const byte *iv, const byte *aad, word32 aad_len, const byte *in,
         word32 len, byte *out, byte *tag),
        (key, iv, aad, aad_len, in, len, out, tag))
#ifdef WOLFSSL_AESGCM_STREAM
WRAPPED(wc_AesGcmInit, (Aes * aes, const byte *key, word32 len, const byte *iv, word32 iv_len),
        (aes, key, len, iv, iv_len))
WRAPPED(wc_AesGcmEncryptUpdate,
        (Aes * aes, byte *out, const byte *in, word32 len, const byte *aad, word32 aad_len),
        (aes, out, in, len, aad, aad_len))
WRAPPED(wc_AesGcmEncryptFinal, (Aes * aes, byte *tag, word32 len), (aes, tag, len))
WRAPPED(wc_AesGcmDecryptUpdate,
        (Aes * aes, byte *out, const byte *in, word32 len, const byte *aad, word32 aad_len),
        (aes, out, in, len, aad, aad_len))
#endif

/* Seals into blocks of that size while the library fails earlier or later; at last it does not. */
static uint32_t seal_through_faults(struct rec_world *world, struct gm_tls_flow *flow)
{
    uint32_t len = (uint32_t)world->plain.bytes, live = world->live;
    for (uint32_t good = 0;; good++) {
        calls_left = good;
        int sealed = gm_tls_record_seal(flow, GM_TLS_DATA, &world->plain, len, &world->sink);
        calls_left = UINT32_MAX;
        if (sealed == 0)
            return good;
        cr_assert_eq(sealed, -GM_E_TLS);
        cr_assert(world->plain.bytes == len && world->wire.bytes == 0 && world->live == live);
        cr_assert_eq(gm_tls_flow_sequence(flow), 0);
    }
}

Test(record_fault, sealing_that_fails_has_not_happened)
{
    uint8_t content[300], out[400];
    rec_fill(content, sizeof content);
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        for (unsigned whole = 0; whole < 2; whole++) {
            struct rec_world world;
            rec_begin(&world, whole ? 4096 : 100);
            struct gm_tls_flow *sealer = rec_flow(rec_version(suite), rec_cipher(suite));
            struct gm_tls_flow *opener = rec_flow(rec_version(suite), rec_cipher(suite));
            rec_push_random(&world, &world.plain, content, (uint32_t[]){sizeof content, 90});
            uint32_t faults = seal_through_faults(&world, sealer);
            cr_assert_geq(faults, whole ? 1 : 5);
            cr_assert_eq(gm_tls_record_open(opener, &world.wire, &world.plain, &world.segs),
                         GM_TLS_DATA);
            cr_assert_eq(rec_read(&world.plain, out, sizeof out), sizeof content);
            cr_assert_arr_eq(out, content, sizeof content);
            gm_tls_flow_free(sealer);
            gm_tls_flow_free(opener);
            rec_end(&world);
        }
    }
}

Test(record_fault, opening_that_fails_gives_nothing_out)
{
    uint8_t content[300];
    rec_fill(content, sizeof content);
    for (unsigned suite = rec_next(0); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        int opened = -GM_E_TLS_RECORD;
        for (uint32_t good = 0; opened < 0; good++) {
            struct rec_world world;
            rec_begin(&world, 100);
            struct gm_tls_flow *sealer = rec_flow(rec_version(suite), rec_cipher(suite));
            struct gm_tls_flow *opener = rec_flow(rec_version(suite), rec_cipher(suite));
            rec_push(&world, &world.plain, content, sizeof content);
            cr_assert_eq(
                gm_tls_record_seal(sealer, GM_TLS_DATA, &world.plain, sizeof content, &world.sink),
                0);
            calls_left = good;
            opened = gm_tls_record_open(opener, &world.wire, &world.plain, &world.segs);
            calls_left = UINT32_MAX;
            cr_assert(opened == -GM_E_TLS_RECORD || opened == GM_TLS_DATA);
            cr_assert_eq(world.plain.bytes, opened < 0 ? 0 : sizeof content);
            cr_assert_eq(world.wire.bytes, 0);
            cr_assert(opened < 0 || good >= 4);
            gm_tls_flow_free(sealer);
            gm_tls_flow_free(opener);
            rec_end(&world);
        }
    }
}

/* A flow whose update failed goes on with the keys it had. */
Test(record_fault, an_update_that_fails_has_not_happened)
{
    for (unsigned suite = rec_next(3); suite < REC_SUITES; suite = rec_next(suite + 1)) {
        struct rec_world world;
        rec_begin(&world, 4096);
        struct gm_tls_flow *sealer = rec_flow(rec_version(suite), rec_cipher(suite));
        struct gm_tls_flow *opener = rec_flow(rec_version(suite), rec_cipher(suite));
        int updated = -GM_E_TLS;
        for (uint32_t good = 0; updated < 0; good++) {
            rec_push(&world, &world.plain, "before", 6);
            cr_assert_eq(gm_tls_record_seal(sealer, GM_TLS_DATA, &world.plain, 6, &world.sink), 0);
            cr_assert_eq(gm_tls_record_open(opener, &world.wire, &world.plain, &world.segs),
                         GM_TLS_DATA);
            gm_chain_clear(&world.plain, &world.segs);
            calls_left = good;
            updated = gm_tls_flow_update(sealer);
            calls_left = UINT32_MAX;
            cr_assert(updated == -GM_E_TLS || (updated == 0 && good >= 3));
            cr_assert_eq(gm_tls_flow_sequence(sealer), updated == 0 ? 0 : good + 1);
        }
        gm_tls_flow_free(sealer);
        gm_tls_flow_free(opener);
        rec_end(&world);
    }
}

Test(record_fault, a_flow_without_a_key_is_none)
{
    struct gm_tls_keys keys = rec_keys(GM_TLS_1_3, GM_TLS_AES_128_GCM);
    if (!gm_tls_record_has(keys.cipher))
        cr_skip_test("this build of wolfSSL has no AES-GCM in pieces");
    calls_left = 0;
    struct gm_tls_flow *flow = gm_tls_flow_new(&keys);
    calls_left = UINT32_MAX;
    cr_assert_null(flow);
    gm_tls_flow_free(flow);
}
