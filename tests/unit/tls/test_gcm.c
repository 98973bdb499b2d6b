/* Wide AES-GCM beside wolfCrypt's: the same ciphertext and tags whatever the length and wherever a
 * text is cut, and a tag that is wrong is seen. Skipped where the build or the processor has none.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "record_world.h"
#include "tls/aead.h"

#define LONGEST (GM_TLS_PAYLOAD_MAX + 1u)

struct pair {
    struct gm_tls_aead wide, library;
    struct gm_tls_aead_head head;
};

static bool can(void)
{
    return gm_tls_aead_is_wide() && gm_tls_record_has(GM_TLS_AES_128_GCM);
}

static void pair_begin(struct pair *pair, enum gm_tls_cipher cipher, uint8_t aad_len)
{
    uint8_t key[32];
    rec_fill(key, sizeof key);
    cr_assert_eq(gm_tls_aead_init(&pair->wide, cipher, key), 0);
    gm_tls_aead_narrow(true);
    cr_assert_not(gm_tls_aead_is_wide());
    cr_assert_eq(gm_tls_aead_init(&pair->library, cipher, key), 0);
    gm_tls_aead_narrow(false);
    cr_assert(pair->wide.wide && !pair->library.wide);
    rec_fill(pair->head.nonce, sizeof pair->head.nonce);
    rec_fill(pair->head.aad, sizeof pair->head.aad);
    pair->head.aad_len = aad_len;
}

static void pair_end(struct pair *pair)
{
    gm_tls_aead_wipe(&pair->wide);
    gm_tls_aead_wipe(&pair->library);
}

/* Pieces of random length up to `most` from `in` to `out`, which may be the same. */
static void run_pieces(struct gm_tls_aead_run *run, uint8_t *out, const uint8_t *in,
                       const uint32_t len_and_most[2])
{
    for (uint32_t done = 0, len = len_and_most[0]; done < len;) {
        uint32_t step = 1 + rec_random() % len_and_most[1];
        step = step < len - done ? step : len - done;
        int failed = run->u.gcm.sealing ? gm_tls_aead_seal(run, out + done, in + done, step)
                                        : gm_tls_aead_open(run, out + done, step);
        cr_assert_eq(failed, 0);
        done += step;
    }
}

/* Text sealed by one and opened by the other, in pieces, and sealed by both at once. */
static void compare(struct pair *pair, const uint8_t *text, uint32_t len, uint32_t most)
{
    static uint8_t wide[LONGEST], library[LONGEST];
    uint8_t wide_tag[GM_TLS_TAG_BYTES], tag[GM_TLS_TAG_BYTES];
    struct gm_tls_aead_run run;
    memcpy(library, text, len);
    cr_assert_eq(gm_tls_aead_seal_whole(&pair->library, &pair->head, library, len, tag), 0);
    memcpy(wide, text, len);
    cr_assert_eq(gm_tls_aead_seal_whole(&pair->wide, &pair->head, wide, len, wide_tag), 0);
    cr_assert(memcmp(wide, library, len) == 0 && memcmp(wide_tag, tag, sizeof tag) == 0,
              "%u bytes in one go", len);
    memset(wide, 0, len);
    cr_assert_eq(gm_tls_aead_begin(&run, &pair->wide, &pair->head, true), 0);
    run_pieces(&run, wide, text, (uint32_t[]){len, most});
    cr_assert_eq(gm_tls_aead_tag(&run, wide_tag), 0);
    cr_assert(memcmp(wide, library, len) == 0 && memcmp(wide_tag, tag, sizeof tag) == 0,
              "%u bytes in pieces of up to %u", len, most);
    cr_assert_eq(gm_tls_aead_begin(&run, &pair->wide, &pair->head, false), 0);
    run_pieces(&run, library, library, (uint32_t[]){len, most});
    cr_assert_eq(gm_tls_aead_check(&run, tag), 0);
    cr_assert_eq(memcmp(library, text, len), 0, "%u bytes opened in pieces of up to %u", len, most);
}

Test(gcm, does_what_wolfcrypt_does)
{
    static uint8_t text[LONGEST];
    if (!can())
        cr_skip_test("no wide AES-GCM here");
    rec_fill(text, sizeof text);
    for (unsigned cipher = GM_TLS_AES_128_GCM; cipher <= GM_TLS_AES_256_GCM; cipher++) {
        struct pair pair;
        pair_begin(&pair, cipher, cipher == GM_TLS_AES_128_GCM ? 5 : 13);
        for (uint32_t len = 0; len <= 600; len++)
            compare(&pair, text, len, 1 + len % 97);
        for (unsigned round = 0; round < 60; round++)
            compare(&pair, text + round % 17, LONGEST - 17 - rec_random() % 4000,
                    round % 3 == 0 ? 40 : 5000);
        compare(&pair, text, LONGEST, LONGEST);
        pair_end(&pair);
    }
}

Test(gcm, is_the_same_wherever_a_text_is_cut)
{
    uint8_t text[150], whole[150], bytes[150], right[GM_TLS_TAG_BYTES], tag[GM_TLS_TAG_BYTES];
    if (!can())
        cr_skip_test("no wide AES-GCM here");
    struct pair pair;
    pair_begin(&pair, GM_TLS_AES_128_GCM, 13);
    rec_fill(text, sizeof text);
    memcpy(whole, text, sizeof text);
    cr_assert_eq(gm_tls_aead_seal_whole(&pair.library, &pair.head, whole, sizeof whole, right), 0);
    for (uint32_t first = 0; first <= sizeof text; first++) {
        for (uint32_t second = first; second <= sizeof text; second++) {
            struct gm_tls_aead_run run;
            cr_assert_eq(gm_tls_aead_begin(&run, &pair.wide, &pair.head, true), 0);
            int failed = gm_tls_aead_seal(&run, bytes, text, first);
            failed |= gm_tls_aead_seal(&run, bytes + first, text + first, second - first);
            failed |= gm_tls_aead_seal(&run, bytes + second, text + second,
                                       (uint32_t)sizeof text - second);
            failed |= gm_tls_aead_tag(&run, tag);
            cr_assert(failed == 0 && memcmp(bytes, whole, sizeof whole) == 0 &&
                          memcmp(tag, right, sizeof tag) == 0,
                      "cut at %u and %u", first, second);
        }
    }
    pair_end(&pair);
}

Test(gcm, sees_any_changed_bit)
{
    uint8_t text[40], bytes[40], tag[GM_TLS_TAG_BYTES];
    if (!can())
        cr_skip_test("no wide AES-GCM here");
    struct pair pair;
    pair_begin(&pair, GM_TLS_AES_256_GCM, 5);
    rec_fill(text, sizeof text);
    cr_assert_eq(gm_tls_aead_seal_whole(&pair.wide, &pair.head, text, sizeof text, tag), 0);
    for (unsigned bit = 0; bit < 8 * (sizeof text + sizeof tag + 5 + GM_TLS_NONCE_BYTES); bit++) {
        struct gm_tls_aead_head head = pair.head;
        uint8_t wrong[GM_TLS_TAG_BYTES], mask = (uint8_t)(1u << bit % 8);
        uint32_t at = bit / 8;
        memcpy(bytes, text, sizeof text);
        memcpy(wrong, tag, sizeof tag);
        if (at < sizeof text)
            bytes[at] ^= mask;
        else if (at < sizeof text + sizeof tag)
            wrong[at - sizeof text] ^= mask;
        else if (at < sizeof text + sizeof tag + 5)
            head.aad[at - sizeof text - sizeof tag] ^= mask;
        else
            head.nonce[at - sizeof text - sizeof tag - 5] ^= mask;
        cr_assert_eq(gm_tls_aead_open_whole(&pair.wide, &head, bytes, sizeof bytes, wrong),
                     -GM_E_TLS, "bit %u", bit);
    }
    memcpy(bytes, text, sizeof text);
    cr_assert_eq(gm_tls_aead_open_whole(&pair.wide, &pair.head, bytes, sizeof bytes, tag), 0);
    pair_end(&pair);
}

Test(gcm, leaves_nothing_of_a_run_behind)
{
    if (!can())
        cr_skip_test("no wide AES-GCM here");
    static const uint8_t nothing[sizeof(struct gm_tls_gcm_run)];
    uint8_t bytes[21] = {0}, tag[GM_TLS_TAG_BYTES];
    struct pair pair;
    pair_begin(&pair, GM_TLS_AES_128_GCM, 5);
    for (unsigned given_up = 0; given_up < 2; given_up++) {
        struct gm_tls_aead_run run;
        cr_assert_eq(gm_tls_aead_begin(&run, &pair.wide, &pair.head, true), 0);
        cr_assert_eq(gm_tls_aead_seal(&run, bytes, bytes, sizeof bytes), 0);
        if (given_up)
            gm_tls_aead_abandon(&run);
        else
            cr_assert_eq(gm_tls_aead_tag(&run, tag), 0);
        cr_assert_eq(memcmp(&run.u.gcm, nothing, sizeof nothing), 0);
    }
    pair_end(&pair);
}
