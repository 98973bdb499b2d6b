/*
 * Private keys and signing: loading, making, refusing.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/base64.h"
#include "auth/jwt.h"
#include "fixture.h"
#include "keys.h"

static struct gm_auth_error error;

Test(sign, loads_both_forms)
{
    struct gm_public_key found;
    struct gm_keyset *wanted = fixture_keys(key_a_public, key_b_public, key_c_public, NULL);
    const char *const private_keys[] = {key_a_private, key_b_private, key_c_private};
    for (size_t i = 0; i < 3; i++) {
        struct gm_private_key *key = fixture_private(private_keys[i]);
        cr_assert(gm_private_key_public(key, &found));
        cr_expect_eq(memcmp(&found, &wanted->keys[i], sizeof(found)), 0);
        gm_private_key_free(key);
    }
    gm_keyset_put(wanted);
    gm_private_key_free(NULL);
}

/* A signature that is made elsewhere gives the same token. */
Test(sign, in_two_steps)
{
    static const char header[] = "{\"alg\":\"RS256\",\"typ\":\"JWT\"}";
    char whole[2048], parts[2048];
    struct gm_private_key *key = fixture_private(key_a_private);
    struct gm_sign_text text = {header, "{\"sub\":\"x\"}", 256};
    int len = gm_jwt_sign(key, &text, whole, sizeof(whole), &error);
    cr_assert(len > 0);
    const char *last = strrchr(whole, '.') + 1;
    uint8_t signature[GM_KEY_MODULUS_BYTES_MAX + 3];
    int64_t signature_len = gm_base64url_decode(signature, last, strlen(last));
    int n = gm_jwt_begin(&text, 256, parts, sizeof(parts), &error);
    cr_assert(n > 0 && strlen(parts) == (size_t)n && parts[n - 1] != '.');
    cr_assert_eq(gm_jwt_finish(parts, (size_t)n, signature, (size_t)signature_len), len);
    cr_assert_str_eq(parts, whole);
    cr_assert_eq(gm_jwt_begin(&text, 256, parts, 64, &error), -E2BIG);
    gm_private_key_free(key);
}

Test(sign, claims_that_servers_take)
{
    char many[GM_CLAIMS_NAME_BYTES_MAX + 64];
    cr_assert(gm_jwt_payload_fits("{\"sub\":\"x\",\"services\":[\"a\",\"\"],\"exp\":1}"));
    cr_assert_not(gm_jwt_payload_fits("{\"sub\":1}"));
    cr_assert_not(gm_jwt_payload_fits("[]"));
    cr_assert_not(gm_jwt_payload_fits("{"));
    (void)snprintf(many, sizeof(many), "{\"sub\":\"%0*d\"}", GM_CLAIMS_NAME_BYTES_MAX + 1, 0);
    cr_assert_not(gm_jwt_payload_fits(many));
}

Test(sign, public_keys_as_pem)
{
    static const uint8_t der[GM_PUBLIC_KEY_DER_MAX + 1] = {0x30};
    char pem[GM_PUBLIC_KEY_PEM_MAX];
    cr_assert_eq(gm_public_key_pem(der, 3, pem), strlen(pem));
    cr_assert_str_eq(pem, "-----BEGIN PUBLIC KEY-----\nMAAA\n-----END PUBLIC KEY-----\n");
    cr_assert_eq(gm_public_key_pem(der, GM_PUBLIC_KEY_DER_MAX, pem), strlen(pem));
    cr_assert_eq(gm_public_key_pem(der, sizeof(der), pem), 0u);
    cr_assert_str_eq(pem, "");
}

static void refuses(const char *pem, const char *words)
{
    char path[64];
    struct gm_private_key *key;
    fixture_file(path, pem);
    cr_expect_eq(gm_private_key_load(&key, path, &error), -EINVAL);
    cr_expect_null(key);
    cr_expect_not_null(strstr(error.text, words), "%s", error.text);
    cr_expect_not_null(strstr(error.text, path), "%s", error.text);
    cr_expect_null(strstr(error.text, "MII"), "%s", error.text);
    unlink(path);
}

Test(sign, refusals)
{
    struct gm_private_key *key;
    refuses("", "no complete PEM block");
    refuses("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "RSA private key");
    refuses("-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n", "RSA private key");
    refuses(key_a_public, "RSA private key");
    refuses(key_encrypted_private, "passphrase");
    refuses("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE "
            "KEY-----\n",
            "passphrase");
    refuses(key_small_private, "1024 bits");
    cr_expect_eq(gm_private_key_load(&key, "/nonexistent/key.pem", &error), -ENOENT);
    cr_expect_not_null(strstr(error.text, "/nonexistent/key.pem"));
}

/* A private key cut short anywhere is refused, not misread. */
Test(sign, truncated_key)
{
    for (size_t cut = 0; cut + 2 < strlen(key_a_private); cut += 61) {
        char path[64];
        char text[4096];
        struct gm_private_key *key;
        snprintf(text, sizeof(text), "%.*s", (int)cut, key_a_private);
        fixture_file(path, text);
        cr_expect_eq(gm_private_key_load(&key, path, &error), -EINVAL);
        unlink(path);
    }
}

static mode_t mode_of(const char *path)
{
    struct stat st;
    cr_assert_eq(stat(path, &st), 0, "%s", path);
    return st.st_mode & 07777;
}

Test(sign, makes_a_key, .timeout = 60)
{
    char dir[] = "/tmp/gm-sign-XXXXXX";
    char path[100];
    char public_path[200];
    char token[FIXTURE_TOKEN_ROOM];
    struct gm_private_key *key;
    struct gm_keyset *keys;
    struct gm_claims claims;
    cr_assert_not_null(mkdtemp(dir));
    umask(0);
    snprintf(path, sizeof(path), "%s/deep/er/private.key.pem", dir);
    cr_assert_eq(gm_private_key_create(path, public_path, sizeof(public_path), &error), 0, "%s",
                 error.text);
    cr_expect_eq(mode_of(path), 0600);
    cr_expect_eq(mode_of(public_path), 0644);
    cr_expect_not_null(strstr(public_path, "/deep/er/private.key.pub"), "%s", public_path);

    cr_assert_eq(gm_private_key_load(&key, path, &error), 0, "%s", error.text);
    cr_assert_eq(gm_keyset_load_file(&keys, public_path, &error), 0, "%s", error.text);
    cr_assert_gt(gm_jwt_sign(key, &(struct gm_sign_text){RS256_HEADER, CLIENT_CLAIMS, 256}, token,
                             sizeof(token), &error),
                 0);
    cr_expect_eq(fixture_verify(keys, token, &claims), GM_JWT_OK);
    gm_private_key_free(key);
    gm_keyset_put(keys);

    /* It is PKCS#8, and a second call does not lose it. */
    FILE *f = fopen(path, "r");
    char line[64];
    cr_assert_not_null(fgets(line, sizeof(line), f));
    cr_expect_str_eq(line, "-----BEGIN PRIVATE KEY-----\n");
    fclose(f);
    cr_expect_eq(gm_private_key_create(path, public_path, sizeof(public_path), &error), -EEXIST);
    cr_assert_eq(gm_private_key_load(&key, path, &error), 0);
    gm_private_key_free(key);
    fixture_remove(dir);
}

Test(sign, paths_that_cannot_be)
{
    char public_path[64];
    cr_expect_eq(gm_private_key_create("/tmp/x.pub", public_path, sizeof(public_path), &error),
                 -EINVAL);
    cr_expect_eq(gm_private_key_create("/tmp/", public_path, sizeof(public_path), &error), -EINVAL);
    cr_expect_eq(
        gm_private_key_create("/dev/null/key.pem", public_path, sizeof(public_path), &error),
        -ENOTDIR);
    cr_expect_not_null(strstr(error.text, "/dev/null/key.pem"));
}

Test(sign, limits)
{
    static char payload[GM_SIGN_PAYLOAD_BYTES_MAX + 2];
    char token[FIXTURE_TOKEN_ROOM];
    struct gm_private_key *key = fixture_private(key_a_private);
    struct gm_sign_text text = {RS256_HEADER, payload, 256};
    memset(payload, 'x', GM_SIGN_PAYLOAD_BYTES_MAX);
    int len = gm_jwt_sign(key, &text, token, sizeof(token), &error);
    cr_expect_gt(len, 7000);
    cr_expect_leq(len, GM_JWT_TOKEN_BYTES_MAX);
    payload[GM_SIGN_PAYLOAD_BYTES_MAX] = 'x';
    cr_expect_eq(gm_jwt_sign(key, &text, token, sizeof(token), &error), -E2BIG);
    text.payload = "{}";
    cr_expect_eq(gm_jwt_sign(key, &text, token, 100, &error), -E2BIG);
    gm_private_key_free(key);
}
