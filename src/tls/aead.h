/* The three ciphers of the record layer behind one set of calls: in one go on bytes that lie
 * together, or piece by piece. wolfCrypt does the work, or for AES-GCM tls/gcm.h where the
 * processor has wider instructions than wolfCrypt uses. Private to tls/.
 *
 * One run at a time per cipher: begin, any number of pieces, then tag or check. Nothing here checks
 * that a nonce is used once; tls/record.c counts. */
#ifndef GM_TLS_AEAD_H
#define GM_TLS_AEAD_H

#include "base/error.h"
#include "tls/gcm.h"
#include "tls/record.h"
#include "tls/wolf.h"

#define GM_TLS_TAG_BYTES   16u
#define GM_TLS_NONCE_BYTES 12u
#define GM_TLS_AAD_MAX     13u

/* A key made ready; lives as long as the flow. ChaCha20-Poly1305 sets up its large state per
 * record, on the stack. */
struct gm_tls_aead {
    enum gm_tls_cipher cipher;
    bool wide; /* `gcm` has the key, not `aes` */
    union {
        Aes aes;
        struct gm_tls_gcm_key gcm;
        uint8_t chacha[32];
    } u;
};

/* What is authenticated before the first byte. */
struct gm_tls_aead_head {
    uint8_t nonce[GM_TLS_NONCE_BYTES];
    uint8_t aad[GM_TLS_AAD_MAX];
    uint8_t aad_len;
};

/* A record in the making; wolfCrypt keeps its own of AES in the key's object. */
struct gm_tls_aead_run {
    struct gm_tls_aead *aead;
    union {
        ChaChaPoly_Aead chacha; /* its state only */
        struct gm_tls_gcm_run gcm;
    } u;
};

/* Bytes of key, of the hash that the suite derives keys with, and that hash in wolfCrypt's numbers.
 */
uint32_t gm_tls_aead_key_bytes(enum gm_tls_cipher cipher);
uint32_t gm_tls_aead_hash_bytes(enum gm_tls_cipher cipher);
int gm_tls_aead_hash(enum gm_tls_cipher cipher);
/* The library can do this cipher piece by piece (the system's may lack it for AES). */
bool gm_tls_aead_has(enum gm_tls_cipher cipher);
/* AES-GCM keys made from now on are tls/gcm.h's. */
bool gm_tls_aead_is_wide(void);
/* For tests, before any ring runs: keys made from now on are wolfCrypt's, or again whose they were.
 */
void gm_tls_aead_narrow(bool narrow);

/* Everything returns 0 or -GM_E_TLS (the library failed or, when checking, the tag is wrong). */
int gm_tls_aead_init(struct gm_tls_aead *aead, enum gm_tls_cipher cipher,
                     const uint8_t *key) GM_WARN_UNUSED;
void gm_tls_aead_wipe(struct gm_tls_aead *aead);

/* In one go, in place: `bytes` becomes ciphertext and `tag` is written, or the tag is checked and
 * `bytes` becomes plaintext (rubbish when the tag is wrong). */
int gm_tls_aead_seal_whole(struct gm_tls_aead *aead, const struct gm_tls_aead_head *head,
                           uint8_t *bytes, uint32_t len,
                           uint8_t tag[GM_TLS_TAG_BYTES]) GM_WARN_UNUSED;
int gm_tls_aead_open_whole(struct gm_tls_aead *aead, const struct gm_tls_aead_head *head,
                           uint8_t *bytes, uint32_t len,
                           const uint8_t tag[GM_TLS_TAG_BYTES]) GM_WARN_UNUSED;

/* Piece by piece. What a run of opening has decrypted must not be looked at before its check. */
int gm_tls_aead_begin(struct gm_tls_aead_run *run, struct gm_tls_aead *aead,
                      const struct gm_tls_aead_head *head, bool sealing) GM_WARN_UNUSED;
int gm_tls_aead_seal(struct gm_tls_aead_run *run, uint8_t *out, const uint8_t *in,
                     uint32_t len) GM_WARN_UNUSED;
int gm_tls_aead_open(struct gm_tls_aead_run *run, uint8_t *bytes, uint32_t len) GM_WARN_UNUSED;
int gm_tls_aead_tag(struct gm_tls_aead_run *run, uint8_t tag[GM_TLS_TAG_BYTES]) GM_WARN_UNUSED;
int gm_tls_aead_check(struct gm_tls_aead_run *run,
                      const uint8_t tag[GM_TLS_TAG_BYTES]) GM_WARN_UNUSED;
/* Gives a run up before its end; wipes what it held. */
void gm_tls_aead_abandon(struct gm_tls_aead_run *run);

#endif
