/*
 * Shared by the tests of auth/: see fixture.h.
 */
#include "fixture.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "auth/base64.h"

void fixture_file(char *path, const char *contents)
{
    snprintf(path, 64, "/tmp/gm-auth-XXXXXX");
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, contents, strlen(contents)), (ssize_t)strlen(contents));
    close(fd);
}

void fixture_remove(const char *folder)
{
    char command[128];
    int len = snprintf(command, sizeof(command), "rm -rf %s", folder);
    cr_assert(len > 0 && (size_t)len < sizeof(command) && strncmp(folder, "/tmp/gm-", 8) == 0);
    cr_assert_eq(system(command), 0);
}

struct gm_private_key *fixture_private(const char *pem)
{
    char path[64];
    struct gm_private_key *key;
    struct gm_auth_error error;
    fixture_file(path, pem);
    int rc = gm_private_key_load(&key, path, &error);
    unlink(path);
    cr_assert_eq(rc, 0, "%s", error.text);
    return key;
}

struct gm_keyset *fixture_keys(const char *first, ...)
{
    struct gm_auth_error error;
    struct gm_keyset *keys = calloc(1, sizeof(*keys) + 4 * sizeof(struct gm_public_key));
    va_list args;
    va_start(args, first);
    for (const char *pem = first; pem != NULL; pem = va_arg(args, const char *)) {
        int rc = gm_public_key_parse(&keys->keys[keys->count++], "test", pem, strlen(pem), &error);
        cr_assert_eq(rc, 0, "%s", error.text);
    }
    va_end(args);
    return keys;
}

size_t fixture_sign(const char *private_pem, int bits, const char *header, const char *payload,
                    char *token)
{
    struct gm_auth_error error;
    struct gm_private_key *key = fixture_private(private_pem);
    int len = gm_jwt_sign(key, &(struct gm_sign_text){header, payload, bits}, token,
                          FIXTURE_TOKEN_ROOM, &error);
    gm_private_key_free(key);
    cr_assert_gt(len, 0, "%s", error.text);
    return (size_t)len;
}

size_t fixture_assemble(const char *header, const char *payload, const char *signature, char *token)
{
    size_t n = gm_base64url_encode(token, (const uint8_t *)header, strlen(header));
    token[n++] = '.';
    n += gm_base64url_encode(token + n, (const uint8_t *)payload, strlen(payload));
    token[n++] = '.';
    size_t signature_len = strlen(signature);
    memcpy(token + n, signature, signature_len + 1);
    return n + signature_len;
}

enum gm_jwt_result fixture_verify(const struct gm_keyset *keys, const char *token,
                                  struct gm_claims *claims)
{
    struct gm_jwt_rules rules = {keys, "gimlet"};
    struct gm_jwt_query query = {token, strlen(token), GM_AUDIENCE_CLIENT, FIXTURE_NOW};
    return gm_jwt_verify(&rules, &query, claims);
}
