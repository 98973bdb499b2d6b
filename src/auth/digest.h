/*
 * SHA-256 (FIPS 180-4) and HMAC with it (RFC 2104), from the one crypto library. Pure; any thread.
 */
#ifndef GM_AUTH_DIGEST_H
#define GM_AUTH_DIGEST_H

#include <stddef.h>
#include <stdint.h>

enum { GM_SHA256_BYTES = 32 };

/* Bytes that belong to somebody else. */
struct gm_bytes {
    const void *p;
    size_t len;
};

/* 0, or -EIO when the library fails: then `out` is not to be used. */
int gm_sha256(struct gm_bytes text, uint8_t out[GM_SHA256_BYTES])
    __attribute__((warn_unused_result));
/* Likewise. `out` may be the key itself. */
int gm_hmac_sha256(struct gm_bytes key, struct gm_bytes text, uint8_t out[GM_SHA256_BYTES])
    __attribute__((warn_unused_result));

#endif
