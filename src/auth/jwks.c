/*
 * Reading of JWK Sets. A member that is no usable key is passed over; what is no set at all, or a
 * set without one usable key, is refused by its name. Nothing of the text reaches a message.
 */
#include "auth/jwks.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "auth/base64.h"
#include "auth/files.h"
#include "auth/jws.h"

/* Longest base64url text of a number that could be used, with a leading zero byte. */
#define NUMBER_TEXT_MAX GM_BASE64_ENCODED_MAX(GM_KEY_MODULUS_BYTES_MAX + 1)

/* A number of the key into `room` (for NUMBER_TEXT_MAX characters), without leading zero bytes. */
static bool take_number(const json_t *key, const char *name, uint8_t *room, const uint8_t **digits,
                        size_t *len)
{
    const json_t *value = json_object_get(key, name);
    size_t text_len = json_string_length(value);
    if (!json_is_string(value) || text_len > NUMBER_TEXT_MAX)
        return false;
    int64_t n = gm_base64url_decode(room, json_string_value(value), text_len);
    while (n > 0 && *room == 0) {
        room++;
        n--;
    }
    *digits = room;
    *len = n > 0 ? (size_t)n : 0;
    return n > 0;
}

/* True when the member is absent, or exactly `text`. */
static bool is_absent_or(const json_t *key, const char *name, const char *text)
{
    const json_t *value = json_object_get(key, name);
    return value == NULL || (json_is_string(value) && strcmp(json_string_value(value), text) == 0);
}

static bool may_verify(const json_t *key)
{
    const json_t *operations = json_object_get(key, "key_ops");
    if (operations == NULL)
        return true;
    for (size_t i = 0; i < json_array_size(operations); i++) {
        const char *name = json_string_value(json_array_get(operations, i));
        if (name != NULL && strcmp(name, "verify") == 0)
            return true;
    }
    return false;
}

static bool is_for_signatures(const json_t *key)
{
    const char *type = json_string_value(json_object_get(key, "kty"));
    bool algorithm = is_absent_or(key, "alg", "RS256") || is_absent_or(key, "alg", "RS384") ||
                     is_absent_or(key, "alg", "RS512");
    return type != NULL && strcmp(type, "RSA") == 0 && algorithm &&
           is_absent_or(key, "use", "sig") && may_verify(key);
}

/* One member of the set. False: it is none that counts. */
static bool take_key(struct gm_public_key *out, const json_t *key)
{
    uint8_t n_room[GM_BASE64_DECODED_MAX(NUMBER_TEXT_MAX)];
    uint8_t e_room[GM_BASE64_DECODED_MAX(NUMBER_TEXT_MAX)];
    struct gm_key_numbers numbers;
    struct gm_auth_error error;
    if (!is_for_signatures(key) ||
        !take_number(key, "n", n_room, &numbers.modulus, &numbers.modulus_len) ||
        !take_number(key, "e", e_room, &numbers.exponent, &numbers.exponent_len) ||
        gm_public_key_make(out, "a key", &numbers, &error) < 0)
        return false;
    const json_t *id = json_object_get(key, "kid");
    size_t id_len = json_string_length(id);
    if (id_len == 0 || id_len > sizeof out->id)
        return true;
    memset(out->id, 0, sizeof out->id);
    memcpy(out->id, json_string_value(id), id_len);
    out->id_len = (uint16_t)id_len;
    return true;
}

static int take_keys(struct gm_keyset *keys, const json_t *members, const char *name,
                     struct gm_auth_error *error)
{
    for (size_t i = 0; i < json_array_size(members); i++) {
        /* One place is spare, so that a key too many is seen, and the same key twice is not. */
        if (take_key(&keys->keys[keys->count], json_array_get(members, i)))
            gm_keyset_admit(keys);
        if (keys->count > GM_KEYSET_KEYS_MAX)
            return gm_auth_fail(error, -E2BIG, "%s holds more than %d keys for signatures", name,
                                GM_KEYSET_KEYS_MAX);
    }
    if (keys->count > 0)
        return 0;
    return gm_auth_fail(error, -EINVAL,
                        "%s holds no key that tokens could be checked with: none is of type RSA, "
                        "for signatures, and %d to %d bits long",
                        name, GM_KEY_BITS_MIN, GM_KEY_BITS_MAX);
}

int gm_jwks_parse(struct gm_keyset **out, const char *name, const char *text, size_t len,
                  struct gm_auth_error *error)
{
    *out = NULL;
    if (len > GM_JWKS_BYTES_MAX)
        return gm_auth_fail(error, -E2BIG, "%s is larger than %d bytes", name, GM_JWKS_BYTES_MAX);
    struct gm_keyset *keys = gm_keyset_new(GM_KEYSET_KEYS_MAX + 1);
    if (keys == NULL)
        return gm_auth_fail(error, -ENOMEM, "out of memory");
    json_t *document = gm_jws_parse_object((const uint8_t *)text, len);
    const json_t *members = json_object_get(document, "keys");
    int rc;
    if (!json_is_array(members))
        rc = gm_auth_fail(error, -EINVAL, "%s is no JWK Set: a JSON object with an array \"keys\"",
                          name);
    else if (json_array_size(members) > GM_JWKS_MEMBERS_MAX)
        rc = gm_auth_fail(error, -E2BIG, "%s holds more than %d keys", name, GM_JWKS_MEMBERS_MAX);
    else
        rc = take_keys(keys, members, name, error);
    json_decref(document);
    if (rc < 0) {
        gm_keyset_put(keys);
        return rc;
    }
    *out = keys;
    return 0;
}

int gm_jwks_load_file(struct gm_keyset **out, const char *path, struct gm_auth_error *error)
{
    char *text;
    size_t len;
    *out = NULL;
    struct gm_auth_file file = {path, "JWK Set", GM_JWKS_BYTES_MAX};
    int rc = gm_auth_read_file(&text, &len, &file, error);
    if (rc == 0)
        rc = gm_jwks_parse(out, path, text, len, error);
    free(text);
    return rc;
}
