/*
 * Segments, JSON and RSA of a token. The signature check compares the whole encoded message (RFC
 * 8017 §9.2) that the key yields with the one we expect, in constant time: no padding is parsed, so
 * there is nothing to forge in it.
 */
#include "auth/jws.h"

#include <jansson.h>
#include <string.h>

#include "auth/wolf.h"
#include "base/equal.h"

enum { DIGEST_BYTES_MAX = 64, PREFIX_BYTES = 19 };

/* DigestInfo up to the digest: RFC 8017 §9.2, note 1. */
struct digest_info {
    uint8_t digest_len;
    uint8_t prefix[PREFIX_BYTES];
};

static const struct digest_info digest_infos[] = {
    [GM_JWS_RS256] = {32,
                      {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04,
                       0x02, 0x01, 0x05, 0x00, 0x04, 0x20}},
    [GM_JWS_RS384] = {48,
                      {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04,
                       0x02, 0x02, 0x05, 0x00, 0x04, 0x30}},
    [GM_JWS_RS512] = {64,
                      {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04,
                       0x02, 0x03, 0x05, 0x00, 0x04, 0x40}},
};

enum gm_jws_split gm_jws_split(struct gm_jws *jws, const char *token, size_t len)
{
    jws->signature_len = 0;
    if (len == 0 || len > GM_JWT_TOKEN_BYTES_MAX)
        return GM_JWS_SPLIT_LENGTH;
    const char *dot = memchr(token, '.', len);
    if (dot == NULL)
        return GM_JWS_SPLIT_SEGMENTS;
    const char *end = token + len;
    const char *payload = dot + 1;
    const char *dot2 = memchr(payload, '.', (size_t)(end - payload));
    if (dot2 == NULL)
        return GM_JWS_SPLIT_SEGMENTS;
    jws->signature_text = dot2 + 1;
    jws->signature_text_len = (size_t)(end - jws->signature_text);
    if (memchr(jws->signature_text, '.', jws->signature_text_len) != NULL)
        return GM_JWS_SPLIT_SEGMENTS;
    jws->signed_len = (size_t)(dot2 - token);

    int64_t n = gm_base64url_decode(jws->header, token, (size_t)(dot - token));
    if (n < 0)
        return GM_JWS_SPLIT_HEADER;
    jws->header_len = (size_t)n;
    n = gm_base64url_decode(jws->payload, payload, (size_t)(dot2 - payload));
    if (n < 0)
        return GM_JWS_SPLIT_PAYLOAD;
    jws->payload_len = (size_t)n;
    return GM_JWS_SPLIT_OK;
}

bool gm_jws_decode_signature(struct gm_jws *jws)
{
    uint8_t decoded[GM_BASE64_DECODED_MAX(GM_JWT_TOKEN_BYTES_MAX)];
    int64_t n = gm_base64url_decode(decoded, jws->signature_text, jws->signature_text_len);
    if (n < 0)
        return false;
    jws->signature_len = 0;
    if (n <= (int64_t)sizeof(jws->signature)) {
        memcpy(jws->signature, decoded, (size_t)n);
        jws->signature_len = (size_t)n;
    }
    return true;
}

/* The parser recurses on nesting; this bounds it beforehand. Brackets inside strings do not count.
 */
static bool depth_within_limit(const uint8_t *text, size_t len)
{
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = text[i];
        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == '{' || c == '['))
            depth++;
        else if (!in_string && (c == '}' || c == ']'))
            depth--;
        if (depth > GM_JWT_DEPTH_MAX)
            return false;
    }
    return true;
}

struct json_t *gm_jws_parse_object(const uint8_t *text, size_t len)
{
    if (!depth_within_limit(text, len))
        return NULL;
    json_t *json = json_loadb((const char *)text, len, JSON_REJECT_DUPLICATES, NULL);
    /* An integer beyond 64 bits is no reason to fail: it may be any claim, and dates are clamped.
     */
    if (json == NULL)
        json = json_loadb((const char *)text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL,
                          NULL);
    if (json != NULL && !json_is_object(json)) {
        json_decref(json);
        return NULL;
    }
    return json;
}

enum gm_jws_method gm_jws_method_by_name(const char *name)
{
    static const struct {
        const char *name;
        enum gm_jws_method method;
    } methods[] = {
        {"RS256", GM_JWS_RS256},   {"RS384", GM_JWS_RS384},   {"RS512", GM_JWS_RS512},
        {"PS256", GM_JWS_REFUSED}, {"PS384", GM_JWS_REFUSED}, {"PS512", GM_JWS_REFUSED},
        {"ES256", GM_JWS_REFUSED}, {"ES384", GM_JWS_REFUSED}, {"ES512", GM_JWS_REFUSED},
        {"HS256", GM_JWS_REFUSED}, {"HS384", GM_JWS_REFUSED}, {"HS512", GM_JWS_REFUSED},
        {"EdDSA", GM_JWS_REFUSED}, {"none", GM_JWS_REFUSED},
    };
    for (size_t i = 0; name != NULL && i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(name, methods[i].name) == 0)
            return methods[i].method;
    }
    return GM_JWS_UNKNOWN;
}

static bool digest_text(enum gm_jws_method method, const char *text, size_t len, uint8_t *digest)
{
    const byte *bytes = (const byte *)text;
    switch (method) {
    case GM_JWS_RS256:
        return wc_Sha256Hash(bytes, (word32)len, digest) == 0;
    case GM_JWS_RS384:
        return wc_Sha384Hash(bytes, (word32)len, digest) == 0;
    case GM_JWS_RS512:
        return wc_Sha512Hash(bytes, (word32)len, digest) == 0;
    default:
        return false;
    }
}

/* What the signature must turn into: 00 01 FF … FF 00 DigestInfo, as long as the modulus. */
static void encode_message(uint8_t *out, size_t len, const struct digest_info *info,
                           const uint8_t *digest)
{
    size_t tail = (size_t)PREFIX_BYTES + info->digest_len;
    memset(out, 0xff, len);
    out[0] = 0x00;
    out[1] = 0x01;
    out[len - tail - 1] = 0x00;
    memcpy(out + len - tail, info->prefix, PREFIX_BYTES);
    memcpy(out + len - info->digest_len, digest, info->digest_len);
}

/* signature ^ exponent mod modulus, in `len` bytes. False when the library cannot compute it. */
static bool rsa_public(const struct gm_public_key *key, const uint8_t *signature, uint8_t *out)
{
    RsaKey rsa;
    word32 out_len = key->modulus_len;
    if (wc_InitRsaKey(&rsa, NULL) != 0)
        return false;
    int rc = wc_RsaPublicKeyDecodeRaw(key->modulus, key->modulus_len, key->exponent,
                                      key->exponent_len, &rsa);
    if (rc == 0)
        rc = wc_RsaFunction(signature, key->modulus_len, out, &out_len, RSA_PUBLIC_DECRYPT, &rsa,
                            NULL);
    wc_FreeRsaKey(&rsa);
    return rc == 0 && out_len == key->modulus_len;
}

bool gm_jws_confirm(const struct gm_jws *jws, const char *token, enum gm_jws_method method,
                    const struct gm_public_key *key, uint16_t *rsa_operations)
{
    /* A number not below the modulus would be reduced: a second signature for the same token. */
    if (jws->signature_len != key->modulus_len ||
        memcmp(jws->signature, key->modulus, key->modulus_len) >= 0)
        return false;
    uint8_t digest[DIGEST_BYTES_MAX];
    if (!digest_text(method, token, jws->signed_len, digest))
        return false;
    uint8_t expected[GM_KEY_MODULUS_BYTES_MAX];
    uint8_t found[GM_KEY_MODULUS_BYTES_MAX];
    encode_message(expected, key->modulus_len, &digest_infos[method], digest);
    ++*rsa_operations;
    return rsa_public(key, jws->signature, found) &&
           gm_equal_constant_time(expected, found, key->modulus_len);
}
