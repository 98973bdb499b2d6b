/*
 * Making tokens: a private key file and RS256 (RFC 7518 §3.3). For `gimlet jwt` and for tests; one
 * thread, allocates, blocks on files. Key material is wiped before memory goes back, and no message
 * ever holds any.
 */
#ifndef GM_AUTH_SIGN_H
#define GM_AUTH_SIGN_H

#include <stdbool.h>
#include <stddef.h>

#include "auth/keyset.h"

enum {
    GM_SIGN_KEY_BITS = 2048,          /* of keys we make */
    GM_SIGN_PAYLOAD_BYTES_MAX = 5632, /* leaves room for header and RSA-4096 signature in 8 KiB */
    GM_PUBLIC_KEY_DER_MAX = 1024,     /* SubjectPublicKeyInfo; of RSA-4096: 550 bytes */
    GM_PUBLIC_KEY_PEM_MAX = 1536,
};

struct gm_private_key;

/*
 * Reads an unencrypted RSA key, PEM, PKCS#1 or PKCS#8. 0 and a new key (gm_private_key_free), or a
 * negative errno with *error: -ENOENT when there is no such file.
 */
int gm_private_key_load(struct gm_private_key **out, const char *path, struct gm_auth_error *error)
    __attribute__((warn_unused_result));

/*
 * Makes a new RSA key: `path` (PKCS#8 PEM, mode 0600, parent directories made as needed) and,
 * beside it, the public key (SubjectPublicKeyInfo PEM) under the same name with its suffix replaced
 * by .pub, a path that is written to `public_path` (room bytes). `path` appears complete or not at
 * all and is never overwritten: -EEXIST when another process made it meanwhile. 0 or a negative
 * errno.
 */
int gm_private_key_create(const char *path, char *public_path, size_t room,
                          struct gm_auth_error *error) __attribute__((warn_unused_result));

/* Accepts NULL. */
void gm_private_key_free(struct gm_private_key *key);

/* The public half. False: the key is outside the sizes that servers accept. */
bool gm_private_key_public(struct gm_private_key *key, struct gm_public_key *out);

/*
 * Signs header and payload (JSON texts, NUL-terminated) with SHA-256, -384 or -512 as `bits` says;
 * writes the token, NUL-terminated, to `out` (room bytes). Its length, or a negative errno: -E2BIG
 * when it would exceed `room` or GM_JWT_TOKEN_BYTES_MAX.
 */
struct gm_sign_text {
    const char *header;
    const char *payload;
    int bits;
};
int gm_jwt_sign(struct gm_private_key *key, const struct gm_sign_text *text, char *out, size_t room,
                struct gm_auth_error *error) __attribute__((warn_unused_result));

/* The same in two steps, for keys that are elsewhere: first what is to be signed, with room left
 * for a signature of up to `signature_len` bytes; then the signature behind the `len` bytes of it.
 * Both return the length so far. */
int gm_jwt_begin(const struct gm_sign_text *text, size_t signature_len, char *out, size_t room,
                 struct gm_auth_error *error) __attribute__((warn_unused_result));
int gm_jwt_finish(char *out, size_t len, const uint8_t *signature, size_t signature_len);

/* Whether servers take such claims: kinds and limits, not times. */
bool gm_jwt_payload_fits(const char *payload);

/* A public key's DER as PEM, NUL-terminated. Its length; 0 for one that is too long. */
size_t gm_public_key_pem(const uint8_t *der, size_t len, char out[GM_PUBLIC_KEY_PEM_MAX]);

#endif
