/* wolfCrypt's AES-GCM and ChaCha20-Poly1305, and tls/gcm.c's AES-GCM. Owner: the flow that holds
 * the key, one ring at a time; wolfCrypt keeps the running state of an AES record inside the key's
 * object. */
#include "tls/aead.h"

#include <string.h>

#include "base/equal.h"

/* Written by tests only. */
static bool kept_narrow;

uint32_t gm_tls_aead_key_bytes(enum gm_tls_cipher cipher)
{
    return cipher == GM_TLS_AES_128_GCM ? 16 : 32;
}

uint32_t gm_tls_aead_hash_bytes(enum gm_tls_cipher cipher)
{
    return cipher == GM_TLS_AES_256_GCM ? 48 : 32;
}

int gm_tls_aead_hash(enum gm_tls_cipher cipher)
{
    return cipher == GM_TLS_AES_256_GCM ? WC_SHA384 : WC_SHA256;
}

bool gm_tls_aead_has(enum gm_tls_cipher cipher)
{
#ifdef WOLFSSL_AESGCM_STREAM
    (void)cipher;
    return true;
#else
    return cipher == GM_TLS_CHACHA20_POLY1305 || gm_tls_aead_is_wide();
#endif
}

bool gm_tls_aead_is_wide(void)
{
    return !kept_narrow && gm_tls_gcm_works();
}

void gm_tls_aead_narrow(bool narrow)
{
    kept_narrow = narrow;
}

static int result(int wolf)
{
    return GM_LIKELY(wolf == 0) ? 0 : -GM_E_TLS;
}

int gm_tls_aead_init(struct gm_tls_aead *aead, enum gm_tls_cipher cipher, const uint8_t *key)
{
    memset(aead, 0, sizeof *aead);
    aead->cipher = cipher;
    if (cipher == GM_TLS_CHACHA20_POLY1305) {
        memcpy(aead->u.chacha, key, sizeof aead->u.chacha);
        return 0;
    }
    if (gm_tls_aead_is_wide()) {
        aead->wide = true;
        gm_tls_gcm_key_init(&aead->u.gcm, key, gm_tls_aead_key_bytes(cipher));
        return 0;
    }
    if (wc_AesInit(&aead->u.aes, NULL, INVALID_DEVID) != 0)
        return -GM_E_TLS;
    return result(wc_AesGcmSetKey(&aead->u.aes, key, gm_tls_aead_key_bytes(cipher)));
}

void gm_tls_aead_wipe(struct gm_tls_aead *aead)
{
    if (aead->cipher != GM_TLS_CHACHA20_POLY1305 && !aead->wide)
        wc_AesFree(&aead->u.aes);
    explicit_bzero(aead, sizeof *aead);
}

/* ---- Wide AES-GCM ---- */

static int gcm_check(struct gm_tls_gcm_run *run, const uint8_t tag[GM_TLS_TAG_BYTES])
{
    uint8_t right[GM_TLS_TAG_BYTES];
    gm_tls_gcm_tag(run, right);
    bool equal = gm_equal_constant_time(tag, right, sizeof right);
    explicit_bzero(right, sizeof right);
    return equal ? 0 : -GM_E_TLS;
}

static int gcm_seal_whole(struct gm_tls_aead *aead, const struct gm_tls_aead_head *head,
                          uint8_t *bytes, uint32_t len, uint8_t tag[GM_TLS_TAG_BYTES])
{
    struct gm_tls_gcm_run run;
    gm_tls_gcm_begin(&run, &aead->u.gcm, head, true);
    gm_tls_gcm_text(&run, bytes, bytes, len);
    gm_tls_gcm_tag(&run, tag);
    return 0;
}

static int gcm_open_whole(struct gm_tls_aead *aead, const struct gm_tls_aead_head *head,
                          uint8_t *bytes, uint32_t len, const uint8_t tag[GM_TLS_TAG_BYTES])
{
    struct gm_tls_gcm_run run;
    gm_tls_gcm_begin(&run, &aead->u.gcm, head, false);
    gm_tls_gcm_text(&run, bytes, bytes, len);
    return gcm_check(&run, tag);
}

/* ---- In one go ---- */

int gm_tls_aead_seal_whole(struct gm_tls_aead *aead, const struct gm_tls_aead_head *head,
                           uint8_t *bytes, uint32_t len, uint8_t tag[GM_TLS_TAG_BYTES])
{
    if (aead->wide)
        return gcm_seal_whole(aead, head, bytes, len, tag);
    if (aead->cipher != GM_TLS_CHACHA20_POLY1305)
        return result(wc_AesGcmEncrypt(&aead->u.aes, bytes, bytes, len, head->nonce,
                                       sizeof head->nonce, tag, GM_TLS_TAG_BYTES, head->aad,
                                       head->aad_len));
    return result(wc_ChaCha20Poly1305_Encrypt(aead->u.chacha, head->nonce, head->aad, head->aad_len,
                                              bytes, len, bytes, tag));
}

int gm_tls_aead_open_whole(struct gm_tls_aead *aead, const struct gm_tls_aead_head *head,
                           uint8_t *bytes, uint32_t len, const uint8_t tag[GM_TLS_TAG_BYTES])
{
    if (aead->wide)
        return gcm_open_whole(aead, head, bytes, len, tag);
    if (aead->cipher != GM_TLS_CHACHA20_POLY1305)
        return result(wc_AesGcmDecrypt(&aead->u.aes, bytes, bytes, len, head->nonce,
                                       sizeof head->nonce, tag, GM_TLS_TAG_BYTES, head->aad,
                                       head->aad_len));
    return result(wc_ChaCha20Poly1305_Decrypt(aead->u.chacha, head->nonce, head->aad, head->aad_len,
                                              bytes, len, tag, bytes));
}

/* ---- wolfCrypt's AES-GCM piece by piece ---- */

#ifdef WOLFSSL_AESGCM_STREAM
static int aes_begin(Aes *aes, const struct gm_tls_aead_head *head, bool sealing)
{
    int wolf = wc_AesGcmInit(aes, NULL, 0, head->nonce, sizeof head->nonce);
    if (wolf != 0)
        return wolf;
    return sealing ? wc_AesGcmEncryptUpdate(aes, NULL, NULL, 0, head->aad, head->aad_len)
                   : wc_AesGcmDecryptUpdate(aes, NULL, NULL, 0, head->aad, head->aad_len);
}
static int aes_seal(Aes *aes, uint8_t *out, const uint8_t *in, uint32_t len)
{
    return wc_AesGcmEncryptUpdate(aes, out, in, len, NULL, 0);
}
static int aes_open(Aes *aes, uint8_t *bytes, uint32_t len)
{
    return wc_AesGcmDecryptUpdate(aes, bytes, bytes, len, NULL, 0);
}
static int aes_tag(Aes *aes, uint8_t *tag)
{
    return wc_AesGcmEncryptFinal(aes, tag, GM_TLS_TAG_BYTES);
}
static int aes_check(Aes *aes, const uint8_t *tag)
{
    return wc_AesGcmDecryptFinal(aes, tag, GM_TLS_TAG_BYTES);
}
#else
/* gm_tls_aead_has() says so, and no flow is made. */
static int aes_begin(Aes *aes, const struct gm_tls_aead_head *head, bool sealing)
{
    (void)aes, (void)head, (void)sealing;
    return NOT_COMPILED_IN;
}
static int aes_seal(Aes *aes, uint8_t *out, const uint8_t *in, uint32_t len)
{
    (void)aes, (void)out, (void)in, (void)len;
    return NOT_COMPILED_IN;
}
static int aes_open(Aes *aes, uint8_t *bytes, uint32_t len)
{
    (void)aes, (void)bytes, (void)len;
    return NOT_COMPILED_IN;
}
static int aes_tag(Aes *aes, uint8_t *tag)
{
    (void)aes, (void)tag;
    return NOT_COMPILED_IN;
}
static int aes_check(Aes *aes, const uint8_t *tag)
{
    (void)aes, (void)tag;
    return NOT_COMPILED_IN;
}
#endif

/* ---- Piece by piece ---- */

static bool is_chacha(const struct gm_tls_aead_run *run)
{
    return run->aead->cipher == GM_TLS_CHACHA20_POLY1305;
}

int gm_tls_aead_begin(struct gm_tls_aead_run *run, struct gm_tls_aead *aead,
                      const struct gm_tls_aead_head *head, bool sealing)
{
    run->aead = aead;
    if (aead->wide) {
        gm_tls_gcm_begin(&run->u.gcm, &aead->u.gcm, head, sealing);
        return 0;
    }
    if (!is_chacha(run))
        return result(aes_begin(&aead->u.aes, head, sealing));
    int wolf = wc_ChaCha20Poly1305_Init(&run->u.chacha, aead->u.chacha, head->nonce,
                                        sealing ? CHACHA20_POLY1305_AEAD_ENCRYPT
                                                : CHACHA20_POLY1305_AEAD_DECRYPT);
    if (wolf == 0)
        wolf = wc_ChaCha20Poly1305_UpdateAad(&run->u.chacha, head->aad, head->aad_len);
    return result(wolf);
}

int gm_tls_aead_seal(struct gm_tls_aead_run *run, uint8_t *out, const uint8_t *in, uint32_t len)
{
    if (run->aead->wide) {
        gm_tls_gcm_text(&run->u.gcm, out, in, len);
        return 0;
    }
    return result(is_chacha(run) ? wc_ChaCha20Poly1305_UpdateData(&run->u.chacha, in, out, len)
                                 : aes_seal(&run->aead->u.aes, out, in, len));
}

int gm_tls_aead_open(struct gm_tls_aead_run *run, uint8_t *bytes, uint32_t len)
{
    if (run->aead->wide) {
        gm_tls_gcm_text(&run->u.gcm, bytes, bytes, len);
        return 0;
    }
    return result(is_chacha(run) ? wc_ChaCha20Poly1305_UpdateData(&run->u.chacha, bytes, bytes, len)
                                 : aes_open(&run->aead->u.aes, bytes, len));
}

int gm_tls_aead_tag(struct gm_tls_aead_run *run, uint8_t tag[GM_TLS_TAG_BYTES])
{
    if (run->aead->wide) {
        gm_tls_gcm_tag(&run->u.gcm, tag);
        return 0;
    }
    return result(is_chacha(run) ? wc_ChaCha20Poly1305_Final(&run->u.chacha, tag)
                                 : aes_tag(&run->aead->u.aes, tag));
}

int gm_tls_aead_check(struct gm_tls_aead_run *run, const uint8_t tag[GM_TLS_TAG_BYTES])
{
    if (run->aead->wide)
        return gcm_check(&run->u.gcm, tag);
    if (!is_chacha(run))
        return result(aes_check(&run->aead->u.aes, tag));
    uint8_t right[GM_TLS_TAG_BYTES];
    int wolf = wc_ChaCha20Poly1305_Final(&run->u.chacha, right);
    if (wolf == 0)
        wolf = wc_ChaCha20Poly1305_CheckTag(tag, right);
    explicit_bzero(right, sizeof right);
    return result(wolf);
}

void gm_tls_aead_abandon(struct gm_tls_aead_run *run)
{
    if (is_chacha(run) || run->aead->wide)
        explicit_bzero(&run->u, sizeof run->u);
}
