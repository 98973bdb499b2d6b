/*
 * JWK Sets: which keys count, what they are called, what is refused; names in tokens; sets joined.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "auth/base64.h"
#include "auth/jwks.h"
#include "fixture.h"
#include "keys.h"

enum { TEXT_ROOM = 16384 };

static struct gm_auth_error error;
static char text[TEXT_ROOM];
static char token[FIXTURE_TOKEN_ROOM];
static struct gm_claims claims;

/* A member with these numbers and whatever else is given (`more` begins with a comma). */
static size_t put_member(char *out, const char *public_pem, const char *more)
{
    struct gm_public_key key;
    char n[1024] = "";
    char e[64] = "";
    cr_assert_eq(gm_public_key_parse(&key, "k", public_pem, strlen(public_pem), &error), 0);
    n[gm_base64url_encode(n, key.modulus, key.modulus_len)] = '\0';
    e[gm_base64url_encode(e, key.exponent, key.exponent_len)] = '\0';
    return (size_t)snprintf(out, 4096, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"%s}", n, e, more);
}

static const char *set_of_one(const char *public_pem, const char *more)
{
    size_t n = (size_t)snprintf(text, sizeof(text), "{\"keys\":[");
    n += put_member(text + n, public_pem, more);
    snprintf(text + n, sizeof(text) - n, "]}");
    return text;
}

static int parse(const char *document, struct gm_keyset **keys)
{
    error.text[0] = '\0';
    return gm_jwks_parse(keys, "THE SET", document, strlen(document), &error);
}

static void refuses(const char *document, int code)
{
    struct gm_keyset *keys;
    cr_expect_eq(parse(document, &keys), code, "%s", document);
    cr_expect_null(keys);
    cr_expect_not_null(strstr(error.text, "THE SET"), "%s", error.text);
}

static bool is_called(const struct gm_public_key *key, const char *name)
{
    return key->id_len == strlen(name) && memcmp(key->id, name, key->id_len) == 0;
}

/* The example of RFC 7638 §3.1. */
Test(jwks, thumbprint)
{
    struct gm_keyset *keys;
    const char *set =
        "{\"keys\":[{\"kty\":\"RSA\",\"n\":"
        "\"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_"
        "BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_"
        "FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-"
        "bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw\","
        "\"e\":\"AQAB\",\"alg\":\"RS256\"}]}";
    cr_assert_eq(parse(set, &keys), 0, "%s", error.text);
    cr_expect(is_called(&keys->keys[0], "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
    gm_keyset_put(keys);
}

Test(jwks, the_same_key_as_from_pem)
{
    struct gm_keyset *keys;
    struct gm_keyset *wanted = fixture_keys(key_a_public, NULL);
    cr_assert_eq(parse(set_of_one(key_a_public, ""), &keys), 0, "%s", error.text);
    cr_expect(gm_keyset_equal(keys, wanted));
    gm_keyset_put(keys);

    cr_assert_eq(parse(set_of_one(key_a_public, ",\"kid\":\"k1\""), &keys), 0, "%s", error.text);
    cr_expect(is_called(&keys->keys[0], "k1"));
    cr_expect_not(gm_keyset_equal(keys, wanted), "another name");
    cr_expect(gm_keyset_has(wanted, &keys->keys[0].mark), "the same numbers");
    gm_keyset_put(keys);
    gm_keyset_put(wanted);
}

Test(jwks, which_members_count)
{
    static const struct {
        const char *more;
        bool counts;
    } rows[] = {
        {"", true},
        {",\"use\":\"sig\"", true},
        {",\"use\":\"enc\"", false},
        {",\"use\":1", false},
        {",\"alg\":\"RS256\"", true},
        {",\"alg\":\"RS384\"", true},
        {",\"alg\":\"RS512\"", true},
        {",\"alg\":\"PS256\"", false},
        {",\"alg\":\"RSA-OAEP\"", false},
        {",\"key_ops\":[\"verify\"]", true},
        {",\"key_ops\":[\"sign\",\"verify\"]", true},
        {",\"key_ops\":[\"encrypt\"]", false},
        {",\"key_ops\":\"verify\"", false},
        {",\"kid\":7", true},
        {",\"x5c\":[\"MIIB\"],\"x5t\":\"abc\",\"unknown\":{\"a\":[1]}", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct gm_keyset *keys;
        int rc = parse(set_of_one(key_a_public, rows[i].more), &keys);
        cr_expect_eq(rc, rows[i].counts ? 0 : -EINVAL, "%s", rows[i].more);
        gm_keyset_put(keys);
    }
}

/* Members of other kinds, and broken ones, are passed over. */
Test(jwks, mixed_set)
{
    struct gm_keyset *keys;
    size_t n = (size_t)snprintf(text, sizeof(text),
                                "{\"x\":1,\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\","
                                "\"y\":\"AA\"},7,null,\"a\",{},"
                                "{\"kty\":\"RSA\"},{\"kty\":\"RSA\",\"n\":\"\",\"e\":\"AQAB\"},"
                                "{\"kty\":\"RSA\",\"n\":\"AAAA\",\"e\":\"AQAB\"},{\"kty\":\"RSA\","
                                "\"n\":\"!!\",\"e\":\"AQAB\"},");
    n += put_member(text + n, key_b_public, ",\"kid\":\"b\"");
    text[n++] = ',';
    n += put_member(text + n, key_b_public, ",\"kid\":\"b again\"");
    text[n++] = ',';
    n += put_member(text + n, key_c_public, ",\"kid\":\"c\"");
    snprintf(text + n, sizeof(text) - n, "]}");
    cr_assert_eq(parse(text, &keys), 0, "%s", error.text);
    cr_expect_eq(keys->count, 2);
    cr_expect(is_called(&keys->keys[0], "b"));
    cr_expect(is_called(&keys->keys[1], "c"));
    gm_keyset_put(keys);
}

Test(jwks, refusals)
{
    refuses("", -EINVAL);
    refuses("[]", -EINVAL);
    refuses("{}", -EINVAL);
    refuses("{\"keys\":{}}", -EINVAL);
    refuses("{\"keys\":[]}", -EINVAL);
    refuses("{\"keys\":[", -EINVAL);
    refuses("<html>not found</html>", -EINVAL);
    refuses("{\"keys\":[],\"keys\":[]}", -EINVAL);

    char *big = malloc(GM_JWKS_BYTES_MAX + 2);
    memset(big, ' ', GM_JWKS_BYTES_MAX + 1);
    big[GM_JWKS_BYTES_MAX + 1] = '\0';
    refuses(big, -E2BIG);
    size_t n = (size_t)snprintf(big, 64, "{\"keys\":[0");
    for (size_t i = 0; i < GM_JWKS_MEMBERS_MAX; i++) {
        big[n++] = ',';
        big[n++] = '0';
    }
    snprintf(big + n, 8, "]}");
    refuses(big, -E2BIG);
    free(big);
}

Test(jwks, file)
{
    struct gm_keyset *keys;
    char path[64];
    fixture_file(path, set_of_one(key_a_public, ",\"kid\":\"k\""));
    cr_assert_eq(gm_jwks_load_file(&keys, path, &error), 0, "%s", error.text);
    cr_expect_eq(keys->count, 1);
    gm_keyset_put(keys);
    unlink(path);
    cr_expect_eq(gm_jwks_load_file(&keys, path, &error), -ENOENT);
    cr_expect_not_null(strstr(error.text, path));
}

/* ---- Names in tokens ---- */

static enum gm_jwt_result verify_named(const struct gm_keyset *keys, const char *header)
{
    fixture_sign(key_a_private, 256, header, CLIENT_CLAIMS, token);
    return fixture_verify(keys, token, &claims);
}

Test(kid, only_the_named_key_is_tried)
{
    struct gm_keyset *keys = fixture_keys(key_b_public, key_c_public, key_a_public, NULL);
    const char *b = "{\"alg\":\"RS256\",\"kid\":\"b\"}";
    const char *a = "{\"alg\":\"RS256\",\"kid\":\"a\"}";
    keys->keys[0].id_len = 1;
    keys->keys[0].id[0] = 'b';
    keys->keys[2].id_len = 1;
    keys->keys[2].id[0] = 'a';

    cr_expect_eq(verify_named(keys, a), GM_JWT_OK);
    cr_expect_eq(claims.rsa_operations, 1);
    cr_expect_not(claims.key_unknown);
    cr_expect_eq(memcmp(&claims.key, &keys->keys[2].mark, sizeof(claims.key)), 0);

    /* Signed with a, but it says b: a good signature of another key does not help. */
    cr_expect_eq(verify_named(keys, b), GM_JWT_INVALID_SIGNATURE);
    cr_expect_eq(claims.rsa_operations, 1);
    cr_expect_not(claims.key_unknown);
    gm_keyset_put(keys);
}

Test(kid, an_unknown_name_tries_all)
{
    struct gm_keyset *keys = fixture_keys(key_b_public, key_a_public, NULL);
    struct gm_keyset *others = fixture_keys(key_b_public, NULL);
    const char *unknown[] = {
        "{\"alg\":\"RS256\",\"kid\":\"nobody\"}",
        "{\"alg\":\"RS256\",\"kid\":\"a\\u0000b\"}",
    };
    cr_expect_eq(verify_named(keys, unknown[0]), GM_JWT_OK);
    cr_expect(claims.key_unknown);
    cr_expect_eq(verify_named(others, unknown[0]), GM_JWT_INVALID_SIGNATURE);
    cr_expect(claims.key_unknown);
    /* The parser of JSON refuses a NUL. */
    cr_expect_eq(verify_named(keys, unknown[1]), GM_JWT_MALFORMED);

    const char *none[] = {"{\"alg\":\"RS256\"}", "{\"alg\":\"RS256\",\"kid\":7}",
                          "{\"alg\":\"RS256\",\"kid\":null}", "{\"alg\":\"RS256\",\"kid\":\"\"}"};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        cr_expect_eq(verify_named(keys, none[i]), GM_JWT_OK, "%s", none[i]);
        cr_expect_not(claims.key_unknown, "%s", none[i]);
    }
    gm_keyset_put(keys);
    gm_keyset_put(others);
}

/* As long as a name may be, and a byte longer: that one is no name. */
Test(kid, length)
{
    struct gm_keyset *keys = fixture_keys(key_b_public, key_a_public, NULL);
    char header[512];
    keys->keys[0].id_len = GM_KEY_ID_BYTES_MAX;
    memset(keys->keys[0].id, 'x', GM_KEY_ID_BYTES_MAX);
    for (int extra = 0; extra < 2; extra++) {
        size_t n = (size_t)snprintf(header, sizeof(header), "{\"alg\":\"RS256\",\"kid\":\"");
        memset(header + n, 'x', (size_t)(GM_KEY_ID_BYTES_MAX + extra));
        n += (size_t)(GM_KEY_ID_BYTES_MAX + extra);
        snprintf(header + n, sizeof(header) - n, "\"}");
        cr_expect_eq(verify_named(keys, header), extra ? GM_JWT_OK : GM_JWT_INVALID_SIGNATURE);
    }
    gm_keyset_put(keys);
}

/* ---- Sets joined ---- */

Test(keyset, merge)
{
    struct gm_keyset *ab = fixture_keys(key_a_public, key_b_public, NULL);
    struct gm_keyset *bc = fixture_keys(key_b_public, key_c_public, NULL);
    struct gm_keyset *keys;
    ab->keys[1].id_len = 1;
    ab->keys[1].id[0] = 'b';
    cr_assert_eq(gm_keyset_merge(&keys, ab, bc, &error), 0);
    cr_expect_eq(keys->count, 3);
    cr_expect(is_called(&keys->keys[1], "b"), "as the first set calls it");
    for (uint32_t i = 0; i < 2; i++) {
        cr_expect(gm_keyset_has(keys, &ab->keys[i].mark));
        cr_expect(gm_keyset_has(keys, &bc->keys[i].mark));
    }
    gm_keyset_put(keys);
    cr_assert_eq(gm_keyset_merge(&keys, NULL, bc, &error), 0);
    cr_expect(gm_keyset_equal(keys, bc));
    cr_expect_not(gm_keyset_equal(keys, ab));
    cr_expect_not(gm_keyset_equal(keys, NULL));
    gm_keyset_put(keys);
    cr_assert_eq(gm_keyset_merge(&keys, NULL, NULL, &error), 0);
    cr_expect_eq(keys->count, 0);
    gm_keyset_put(keys);
    gm_keyset_put(ab);
    gm_keyset_put(bc);
}

Test(keyset, references)
{
    struct gm_keyset *keys = fixture_keys(key_a_public, NULL);
    cr_expect_eq(gm_keyset_ref(keys), keys);
    gm_keyset_put(keys);
    cr_expect_eq(keys->count, 1, "one reference is left");
    gm_keyset_put(keys);
}
