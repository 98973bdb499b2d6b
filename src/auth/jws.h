/*
 * The envelope of a token (RFC 7515 §3.1, compact form): three base64url segments, an algorithm and
 * a signature over the first two. Pure; the JSON inside is the caller's business. Used by the
 * verifier and by `gimlet jwt inspect`.
 */
#ifndef GM_AUTH_JWS_H
#define GM_AUTH_JWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/base64.h"
#include "auth/jwt.h"
#include "auth/keyset.h"

struct json_t;

enum gm_jws_method {
    GM_JWS_UNKNOWN = 0, /* no registered name, or none at all */
    GM_JWS_REFUSED,     /* a registered algorithm that Gimlet does not accept */
    GM_JWS_RS256,
    GM_JWS_RS384,
    GM_JWS_RS512,
};

/* A token taken apart: borrowed texts of the token, decoded segments in place. */
struct gm_jws {
    size_t signed_len; /* the first two segments with their dot, from the start of the token */
    const char *signature_text;
    size_t signature_text_len;
    size_t header_len;
    size_t payload_len;
    size_t signature_len;
    uint8_t header[GM_BASE64_DECODED_MAX(GM_JWT_TOKEN_BYTES_MAX)];
    uint8_t payload[GM_BASE64_DECODED_MAX(GM_JWT_TOKEN_BYTES_MAX)];
    uint8_t signature[GM_KEY_MODULUS_BYTES_MAX];
};

enum gm_jws_split {
    GM_JWS_SPLIT_OK = 0,
    GM_JWS_SPLIT_LENGTH,   /* empty or longer than GM_JWT_TOKEN_BYTES_MAX */
    GM_JWS_SPLIT_SEGMENTS, /* not exactly three segments */
    GM_JWS_SPLIT_HEADER,   /* a segment that is not base64url */
    GM_JWS_SPLIT_PAYLOAD,
};

/* Splits the token and decodes header and payload. */
enum gm_jws_split gm_jws_split(struct gm_jws *jws, const char *token, size_t len);

/*
 * Decodes the signature. False when it is not base64url. A signature longer than any key's gets
 * signature_len 0, which no key confirms.
 */
bool gm_jws_decode_signature(struct gm_jws *jws);

/* A JSON object of limited depth, without repeated names; NULL otherwise. Caller json_decref()s. */
struct json_t *gm_jws_parse_object(const uint8_t *text, size_t len);

/* `name` may be NULL. */
enum gm_jws_method gm_jws_method_by_name(const char *name);

/*
 * True when `key` confirms the signature over the first signed_len bytes of `token` with `method`
 * (RS256, RS384 or RS512; RFC 8017 §8.2.2). *rsa_operations grows by one if it had to compute.
 */
bool gm_jws_confirm(const struct gm_jws *jws, const char *token, enum gm_jws_method method,
                    const struct gm_public_key *key, uint16_t *rsa_operations);

#endif
