/*
 * Base64 (RFC 4648) for tokens and PEM. Pure, no allocation. Private to auth/, but for the token
 * maker's and the tests' use. Non-zero bits after the last whole byte are ignored: tokens in the
 * field carry them, and a common check of tampered signatures counts on it (spec/gimlet.md §2.5).
 */
#ifndef GM_AUTH_BASE64_H
#define GM_AUTH_BASE64_H

#include <stddef.h>
#include <stdint.h>

/* Room that decoding or encoding `len` bytes may need. */
#define GM_BASE64_DECODED_MAX(len) ((len) / 4 * 3 + 3)
#define GM_BASE64_ENCODED_MAX(len) (((len) + 2) / 3 * 4)

/* base64url without padding. Bytes written, or -1 for a foreign character, '=' or a lone one. */
int64_t gm_base64url_decode(uint8_t *out, const char *in, size_t len);

/* base64url without padding. Bytes written; no final NUL. */
size_t gm_base64url_encode(char *out, const uint8_t *in, size_t len);

/* Standard alphabet with padding, white space skipped, as in PEM. Bytes written, or -1. */
int64_t gm_base64_decode(uint8_t *out, const char *in, size_t len);

/* Standard alphabet with padding. Bytes written; no final NUL. */
size_t gm_base64_encode(char *out, const uint8_t *in, size_t len);

#endif
