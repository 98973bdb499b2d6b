/* AES-GCM on 256-bit AES instructions (VAES, VPCLMULQDQ, AVX2), where the build has the assembly
 * for it and the processor the instructions: twice as fast as wolfCrypt there. AES, GHASH and the
 * two in one loop are BoringSSL's (subprojects/rust-ring); here is what the mode asks for around
 * them. Private to tls/aead.c, whose header says what calls may follow which.
 *
 * Nothing here fails or allocates. Keys and runs are secret: tag wipes a run, its owner the rest.
 */
#ifndef GM_TLS_GCM_H
#define GM_TLS_GCM_H

#include <stdbool.h>
#include <stdint.h>

#define GM_TLS_GCM_BLOCK 16u

struct gm_tls_aead_head;

/* As the assembly wants it: round keys and their number less one; powers of the hash key. */
struct gm_tls_gcm_key {
    _Alignas(16) uint32_t round_keys[60];
    uint32_t rounds;
    _Alignas(16) uint8_t powers[256];
};

/* A record in the making. `used` bytes of the block under way are done: its key stream is in `pad`,
 * its ciphertext so far in `block`. */
struct gm_tls_gcm_run {
    const struct gm_tls_gcm_key *key;
    _Alignas(16) uint8_t counter[GM_TLS_GCM_BLOCK]; /* of the key stream's next block */
    uint8_t hash[GM_TLS_GCM_BLOCK];
    uint8_t mask[GM_TLS_GCM_BLOCK]; /* over the tag */
    uint8_t pad[GM_TLS_GCM_BLOCK];
    uint8_t block[GM_TLS_GCM_BLOCK];
    uint64_t text_len;
    uint8_t used, aad_len;
    bool sealing;
};

/* This build and this processor can; otherwise nothing else here is called. Any thread. */
bool gm_tls_gcm_works(void);
/* `key_bytes`: 16 or 32. */
void gm_tls_gcm_key_init(struct gm_tls_gcm_key *key, const uint8_t *bytes, uint32_t key_bytes);
void gm_tls_gcm_begin(struct gm_tls_gcm_run *run, const struct gm_tls_gcm_key *key,
                      const struct gm_tls_aead_head *head, bool sealing);
/* The next `len` bytes of the text. `out` is `in`, or does not overlap it. */
void gm_tls_gcm_text(struct gm_tls_gcm_run *run, uint8_t *out, const uint8_t *in, uint32_t len);
void gm_tls_gcm_tag(struct gm_tls_gcm_run *run, uint8_t tag[16]);

#endif
