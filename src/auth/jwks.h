/*
 * JWK Sets (RFC 7517) as key sets: what identity providers publish their signing keys as. Pure but
 * for memory; blocks on nothing, yet is for the control thread: it parses JSON and makes a set.
 *
 * Of a set the RSA keys that may verify signatures count: `use` absent or "sig", `key_ops` absent
 * or with "verify", `alg` absent or RS256, RS384, RS512, a modulus of 2048 to 4096 bits. All others
 * are passed over, as RFC 7517 §5 asks: sets hold keys of several kinds.
 */
#ifndef GM_AUTH_JWKS_H
#define GM_AUTH_JWKS_H

#include "auth/keyset.h"

enum {
    GM_JWKS_BYTES_MAX = 256 * 1024, /* large providers, certificates included, need 20 KiB */
    GM_JWKS_MEMBERS_MAX = 1024,     /* keys of all kinds in one set */
};

/* The set in `text` (`len` bytes, borrowed, of which nothing is believed); keys without `kid` are
 * called by their thumbprint. `name` is what the error message calls it. *out as in keyset.h. 0, or
 * -EINVAL (no JWK Set, or no key in it that counts), -E2BIG (a limit), -ENOMEM with *error. */
int gm_jwks_parse(struct gm_keyset **out, const char *name, const char *text, size_t len,
                  struct gm_auth_error *error) __attribute__((warn_unused_result));

/* The same from a file. Blocks. */
int gm_jwks_load_file(struct gm_keyset **out, const char *path, struct gm_auth_error *error)
    __attribute__((warn_unused_result));

#endif
