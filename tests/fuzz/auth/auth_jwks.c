/*
 * Fuzz target: any bytes as a JWK Set. What is accepted is a set within the limits that the
 * verifier counts on, every key of it named and none of it twice; what is refused says why.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "auth/jwks.h"

static void check(bool law)
{
    if (!law)
        abort();
}

static void check_key(const struct gm_public_key *key)
{
    check(key->modulus_len >= GM_KEY_BITS_MIN / 8 && key->modulus_len <= GM_KEY_BITS_MAX / 8);
    check(key->exponent_len > 0 && key->exponent_len <= GM_KEY_EXPONENT_BYTES_MAX);
    check(key->modulus[0] != 0 && key->exponent[0] != 0);
    check(key->id_len > 0 && key->id_len <= GM_KEY_ID_BYTES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gm_auth_error error;
    struct gm_keyset *keys;
    /* A block of its own, so that a step past its end is seen. */
    char *text = malloc(size + (size == 0));
    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    memset(&error, 'x', sizeof(error));
    if (gm_jwks_parse(&keys, "fuzz", text, size, &error) < 0) {
        check(keys == NULL && memchr(error.text, '\0', sizeof(error.text)) != NULL);
        free(text);
        return 0;
    }
    check(keys->count > 0 && keys->count <= GM_KEYSET_KEYS_MAX);
    for (uint32_t i = 0; i < keys->count; i++) {
        check_key(&keys->keys[i]);
        for (uint32_t j = 0; j < i; j++)
            check(memcmp(&keys->keys[i].mark, &keys->keys[j].mark, sizeof(keys->keys[i].mark)) !=
                  0);
    }
    gm_keyset_put(keys);
    free(text);
    return 0;
}
