/*
 * The public keys that tokens are verified with. Made by the main or the control thread, then
 * immutable: every ring reads the same set without a lock and holds a reference to it. A reload
 * makes a new set; the old one goes with its last reference. Keys are plain numbers (modulus,
 * exponent), so that sharing needs no per-thread state.
 *
 * Accepted: PEM SubjectPublicKeyInfo (`openssl rsa -pubout`) with an RSA key of 2048 to 4096 bits
 * (only the first PEM block of a file counts; its label is not checked), and JWK Sets (jwks.h).
 */
#ifndef GM_AUTH_KEYSET_H
#define GM_AUTH_KEYSET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GM_KEY_BITS_MIN = 2048, /* RFC 7518 §3.3 */
    GM_KEY_BITS_MAX = 4096, /* what wolfCrypt's single-precision code is built for */
    GM_KEY_MODULUS_BYTES_MAX = GM_KEY_BITS_MAX / 8,
    GM_KEY_EXPONENT_BYTES_MAX = 8,
    GM_KEY_ID_BYTES_MAX = 128, /* a longer `kid` counts as none */
    GM_KEY_MARK_BYTES = 16,
    GM_KEYSET_KEYS_MAX = 64, /* each key may cost one RSA operation per unknown token */
    GM_KEY_FILE_BYTES_MAX = 64 * 1024,
    GM_AUTH_ERROR_BYTES = 512,
};

/* One sentence for the operator: what is wrong with which file, and how to mend it. Never holds key
 * material. */
struct gm_auth_error {
    char text[GM_AUTH_ERROR_BYTES];
};

/* Tells a key from others, whatever it is called: half of its thumbprint (RFC 7638, SHA-256). */
struct gm_key_mark {
    uint8_t bytes[GM_KEY_MARK_BYTES];
};

struct gm_public_key {
    uint16_t modulus_len; /* without leading zero bytes; also the length of its signatures */
    uint16_t exponent_len;
    uint16_t id_len; /* of what a token's `kid` may name it by; never 0 once it is identified */
    uint8_t modulus[GM_KEY_MODULUS_BYTES_MAX];
    uint8_t exponent[GM_KEY_EXPONENT_BYTES_MAX];
    char id[GM_KEY_ID_BYTES_MAX]; /* not NUL-terminated */
    struct gm_key_mark mark;
};

struct gm_keyset {
    /* References beyond the first, so that a zeroed block is a set with one. Writers: whoever takes
     * or gives one up (acq_rel); the last frees it. */
    _Atomic uint32_t shares;
    uint32_t count;
    struct gm_public_key keys[];
};

/*
 * Each loader gives a new set in *out (the caller holds its reference) and returns 0, or
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

/* All keys of both sets, those of `first` first; a key that is in both counts once, as `first`
 * names it. Either may be NULL; both are borrowed. *out as above; -E2BIG or -ENOMEM with *error. */
int gm_keyset_merge(struct gm_keyset **out, const struct gm_keyset *first,
                    const struct gm_keyset *second, struct gm_auth_error *error)
    __attribute__((warn_unused_result));

/* Another reference, and the end of one. Any thread. The second accepts NULL. */
struct gm_keyset *gm_keyset_ref(struct gm_keyset *keys);
void gm_keyset_put(struct gm_keyset *keys);

/* The same keys by the same names in the same order. Either may be NULL. */
bool gm_keyset_equal(const struct gm_keyset *a, const struct gm_keyset *b);
/* True when one of the keys has this mark. */
bool gm_keyset_has(const struct gm_keyset *keys, const struct gm_key_mark *mark);

/* A set for `room` keys, none in it yet; NULL: out of memory. For makers of sets. */
struct gm_keyset *gm_keyset_new(uint32_t room);
/* The key just written behind the last one counts, unless its numbers are there already: then it
 * would only cost. */
void gm_keyset_admit(struct gm_keyset *keys);

/* The numbers of an RSA key, big-endian without leading zero bytes, not empty. Borrowed. */
struct gm_key_numbers {
    const uint8_t *modulus;
    size_t modulus_len;
    const uint8_t *exponent;
    size_t exponent_len;
};

/* Makes a key of them, called by its thumbprint. 0, or -EINVAL with *error: `name` holds no key
 * that tokens may be signed with. Pure. */
int gm_public_key_make(struct gm_public_key *out, const char *name,
                       const struct gm_key_numbers *numbers, struct gm_auth_error *error)
    __attribute__((warn_unused_result));

/* Computes mark and, where there is no name yet, the thumbprint in base64url as its name. */
void gm_public_key_identify(struct gm_public_key *key);

/* The first PEM block of `pem` (len bytes) as a key. 0, or -EINVAL with *error; `name` as above.
 * Pure. */
int gm_public_key_parse(struct gm_public_key *out, const char *name, const char *pem, size_t len,
                        struct gm_auth_error *error) __attribute__((warn_unused_result));

#endif
