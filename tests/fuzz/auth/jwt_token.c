/*
 * Fuzz target: any bytes as a token. The first byte chooses how the rest is used: as a whole token,
 * or as header or payload of one, so that the fuzzer gets past base64. Nothing it can write is
 * signed, so nothing may be accepted, and the cache must answer as the verifier does.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "auth/base64.h"
#include "auth/cache.h"
#include "auth/jwt.h"
#include "auth/keyset.h"

/* An RSA-2048 modulus of 0xcb… bytes and exponent 65537: a number like any other, no known key. */
static struct gm_keyset *make_keys(void)
{
    struct gm_keyset *keys = calloc(1, sizeof(*keys) + sizeof(keys->keys[0]));
    if (keys == NULL)
        abort();
    keys->count = 1;
    keys->keys[0].modulus_len = 256;
    memset(keys->keys[0].modulus, 0xcb, 256);
    keys->keys[0].exponent_len = 3;
    memcpy(keys->keys[0].exponent, "\x01\x00\x01", 3);
    return keys;
}

static size_t put_segment(char *out, const void *bytes, size_t len)
{
    return gm_base64url_encode(out, bytes, len);
}

/* The token that the input stands for, in `out`. Its length. */
static size_t build(char *out, const uint8_t *data, size_t size)
{
    static const char header[] = "{\"alg\":\"RS256\"}";
    static const char payload[] = "{\"exp\":9999999999}";
    uint8_t choice = (uint8_t)(data[0] % 3);
    data++;
    size--;
    if (choice == 0) {
        memcpy(out, data, size);
        return size;
    }
    size_t n =
        choice == 1 ? put_segment(out, data, size) : put_segment(out, header, sizeof(header) - 1);
    out[n++] = '.';
    n += choice == 2 ? put_segment(out + n, data, size)
                     : put_segment(out + n, payload, sizeof(payload) - 1);
    out[n++] = '.';
    /* A signature below the modulus, so that RSA is computed. */
    uint8_t signature[256];
    memset(signature, 0x11, sizeof(signature));
    return n + gm_base64url_encode(out + n, signature, sizeof(signature));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct gm_token_cache cache;
    static struct gm_keyset *keys;
    static char scratch[3 * GM_JWT_TOKEN_BYTES_MAX];
    if (keys == NULL) {
        struct gm_token_cache_limits limits = {8, 8, 8};
        unsigned char secret[GM_TOKEN_CACHE_SECRET_BYTES];
        size_t bytes = gm_token_cache_bytes(&limits);
        void *memory = aligned_alloc(64, bytes);
        if (memory == NULL)
            abort();
        memset(memory, 0, bytes);
        memset(secret, 0x5a, sizeof(secret));
        gm_token_cache_init(&cache, &limits, memory, secret);
        keys = make_keys();
    }
    if (size == 0 || size > GM_JWT_TOKEN_BYTES_MAX + 100)
        return 0;
    size_t len = build(scratch, data, size);
    char *token = malloc(len + (len == 0)); /* its own block: any step past it is seen */
    if (token == NULL)
        return 0;
    memcpy(token, scratch, len);

    struct gm_jwt_rules rules = {keys, "gimlet"};
    struct gm_jwt_query query = {token, len, GM_AUDIENCE_ANY, 1700000000};
    struct gm_claims claims;
    struct gm_token_answer answer;
    enum gm_jwt_result result = gm_jwt_verify(&rules, &query, &claims);
    if (result == GM_JWT_OK)
        abort();
    if (gm_token_cache_lookup(&cache, &query, &answer) == GM_TOKEN_MISS)
        gm_token_cache_verify(&cache, &rules, &query, &answer);
    if (answer.result != result || answer.principal != NULL)
        abort();
    free(token);
    return 0;
}
