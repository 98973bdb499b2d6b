/*
 * The public keys that tokens are verified with. Loaded once, by the main or the control thread,
 * then immutable: every ring reads the same set without a lock. A reload makes a new set and
 * retires the old one when no ring uses it any more. Keys are plain numbers (modulus, exponent), so
 * that sharing needs no per-thread state.
 *
 * Accepted: PEM SubjectPublicKeyInfo (`openssl rsa -pubout`) with an RSA key of 2048 to 4096 bits.
 * Only the first PEM block of a file counts; its label is not checked.
 */
#ifndef GM_AUTH_KEYSET_H
#define GM_AUTH_KEYSET_H

#include <stddef.h>
#include <stdint.h>

enum {
    GM_KEY_BITS_MIN = 2048, /* RFC 7518 §3.3 */
    GM_KEY_BITS_MAX = 4096, /* what wolfCrypt's single-precision code is built for */
    GM_KEY_MODULUS_BYTES_MAX = GM_KEY_BITS_MAX / 8,
    GM_KEY_EXPONENT_BYTES_MAX = 8,
    GM_KEYSET_KEYS_MAX = 64, /* each key may cost one RSA operation per unknown token */
    GM_KEY_FILE_BYTES_MAX = 64 * 1024,
    GM_AUTH_ERROR_BYTES = 512,
};

/* One sentence for the operator: what is wrong with which file, and how to mend it. Never holds key
 * material. */
struct gm_auth_error {
    char text[GM_AUTH_ERROR_BYTES];
};

struct gm_public_key {
    uint16_t modulus_len; /* without leading zero bytes; also the length of its signatures */
    uint16_t exponent_len;
    uint8_t modulus[GM_KEY_MODULUS_BYTES_MAX];
    uint8_t exponent[GM_KEY_EXPONENT_BYTES_MAX];
};

struct gm_keyset {
    uint32_t count;
    struct gm_public_key keys[];
};

/*
 * Each loader gives a new set in *out (the caller frees it with gm_keyset_free) and returns 0, or
 * leaves *out NULL, fills *error and returns a negative errno: -ENOENT, -EACCES … from the file
 * system, -EINVAL for contents that are no usable key, -E2BIG for a limit above. They block on file
 * input: never on a ring.
 */
int gm_keyset_load_file(struct gm_keyset **out, const char *path, struct gm_auth_error *error)
    __attribute__((warn_unused_result));

/* Entries of `path` ending in .pem or .pub, in byte order of their names; one bad file fails the
 * whole load. */
int gm_keyset_load_dir(struct gm_keyset **out, const char *path, struct gm_auth_error *error)
    __attribute__((warn_unused_result));

/* PEM text itself; `name` (a flag or variable) is what the error message calls it. */
int gm_keyset_load_inline(struct gm_keyset **out, const char *name, const char *pem,
                          struct gm_auth_error *error) __attribute__((warn_unused_result));

/* Accepts NULL. */
void gm_keyset_free(struct gm_keyset *keys);

/* The first PEM block of `pem` (len bytes) as a key. 0, or -EINVAL with *error; `name` as above.
 * Pure. */
int gm_public_key_parse(struct gm_public_key *out, const char *name, const char *pem, size_t len,
                        struct gm_auth_error *error) __attribute__((warn_unused_result));

#endif
