/*
 * Digests by wolfCrypt. HMAC is spelled out over its SHA-256: the library's own call refuses short
 * keys where it is built for FIPS.
 */
#include "auth/digest.h"

#include <errno.h>
#include <string.h>

#include "auth/wolf.h"

enum { BLOCK_BYTES = 64 };

int gm_sha256(struct gm_bytes text, uint8_t out[GM_SHA256_BYTES])
{
    return wc_Sha256Hash(text.p, (word32)text.len, out) == 0 ? 0 : -EIO;
}

/* H(block || text), the two halves of an HMAC. */
static int hash_two(const uint8_t block[BLOCK_BYTES], struct gm_bytes text,
                    uint8_t out[GM_SHA256_BYTES])
{
    wc_Sha256 sha;
    if (wc_InitSha256(&sha) != 0)
        return -EIO;
    int rc = wc_Sha256Update(&sha, block, BLOCK_BYTES);
    if (rc == 0)
        rc = wc_Sha256Update(&sha, text.p, (word32)text.len);
    if (rc == 0)
        rc = wc_Sha256Final(&sha, out);
    wc_Sha256Free(&sha);
    return rc == 0 ? 0 : -EIO;
}

int gm_hmac_sha256(struct gm_bytes key, struct gm_bytes text, uint8_t out[GM_SHA256_BYTES])
{
    uint8_t block[BLOCK_BYTES] = {0}, inner[GM_SHA256_BYTES];
    int rc = 0;
    if (key.len > BLOCK_BYTES)
        rc = gm_sha256(key, block);
    else if (key.len > 0)
        memcpy(block, key.p, key.len);
    for (size_t i = 0; i < BLOCK_BYTES; i++)
        block[i] ^= 0x36;
    if (rc == 0)
        rc = hash_two(block, text, inner);
    for (size_t i = 0; i < BLOCK_BYTES; i++)
        block[i] ^= 0x36 ^ 0x5c;
    if (rc == 0)
        rc = hash_two(block, (struct gm_bytes){inner, sizeof inner}, out);
    explicit_bzero(block, sizeof block);
    explicit_bzero(inner, sizeof inner);
    return rc;
}
