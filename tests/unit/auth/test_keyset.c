/*
 * Loading of public keys: file, directory, text; what is refused, and that the message says what
 * and how to mend it without showing key material.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/pem.h"
#include "fixture.h"
#include "keys.h"

static struct gm_auth_error error;

static void put(const char *dir, const char *name, const char *contents)
{
    char path[300];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    cr_assert_not_null(f);
    cr_assert_geq(fputs(contents, f), 0);
    cr_assert_eq(fclose(f), 0);
}

static void refuses(const char *pem, const char *words)
{
    struct gm_public_key key;
    error.text[0] = '\0';
    cr_expect_eq(gm_public_key_parse(&key, "THIS", pem, strlen(pem), &error), -EINVAL, "%s", words);
    cr_expect_not_null(strstr(error.text, "THIS"), "%s", error.text);
    cr_expect_not_null(strstr(error.text, words), "%s | %s", words, error.text);
    cr_expect_not_null(strstr(error.text, "openssl"), "%s", error.text);
    cr_expect_null(strstr(error.text, "MII"), "%s", error.text);
}

Test(keyset, inline_text)
{
    struct gm_keyset *keys;
    cr_assert_eq(gm_keyset_load_inline(&keys, "--token-public-key", key_a_public, &error), 0);
    cr_expect_eq(keys->count, 1);
    cr_expect_eq(keys->keys[0].modulus_len, 256);
    cr_expect_geq(keys->keys[0].modulus[0], 0x80);
    cr_expect_eq(keys->keys[0].exponent_len, 3);
    cr_expect_eq(memcmp(keys->keys[0].exponent, "\x01\x00\x01", 3), 0);
    gm_keyset_put(keys);

    cr_assert_eq(gm_keyset_load_inline(&keys, "--token-public-key", "nonsense", &error), -EINVAL);
    cr_expect_null(keys);
    cr_expect_not_null(strstr(error.text, "--token-public-key"));
    gm_keyset_put(NULL);
}

Test(keyset, rsa_4096_and_odd_wrapping)
{
    struct gm_public_key key;
    char text[4096];
    cr_assert_eq(gm_public_key_parse(&key, "c", key_c_public, strlen(key_c_public), &error), 0);
    cr_expect_eq(key.modulus_len, 512);

    /* Text around the block, CRLF line ends, a second block: the first block counts. */
    size_t n = (size_t)snprintf(text, sizeof(text), "a comment\r\n");
    for (const char *p = key_a_public; *p != '\0'; p++) {
        if (*p == '\n')
            text[n++] = '\r';
        text[n++] = *p;
    }
    snprintf(text + n, sizeof(text) - n, "%s", key_c_public);
    cr_assert_eq(gm_public_key_parse(&key, "a", text, strlen(text), &error), 0, "%s", error.text);
    cr_expect_eq(key.modulus_len, 256);
}

/* The label is not checked: what is inside counts. */
Test(keyset, label_is_free)
{
    struct gm_public_key key;
    char text[2048];
    const char *body = strchr(key_a_public, '\n') + 1;
    snprintf(text, sizeof(text), "-----BEGIN SOMETHING-----\n%.*s-----END SOMETHING-----",
             (int)(strstr(body, "-----END") - body), body);
    cr_assert_eq(gm_public_key_parse(&key, "a", text, strlen(text), &error), 0, "%s", error.text);
}

Test(keyset, refusals_name_thing_and_cure)
{
    refuses("", "no complete PEM block");
    refuses("-----BEGIN PUBLIC KEY-----", "no complete PEM block");
    refuses("-----BEGIN PUBLIC KEY-----\nAAAA\n", "no complete PEM block");
    refuses("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY--", "no complete PEM block");
    refuses("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END OTHER KEYS-----\n",
            "no complete PEM block");
    refuses("-----BEGIN PUBLIC KEY\nAAAA\n-----END PUBLIC KEY-----\n", "no complete PEM block");
    refuses("-----BEGIN\n", "no complete PEM block");
    refuses("-----BEGIN X\n-----END X-----\n", "no complete PEM block");
    refuses("-----BEGIN PUBLIC KEY-----\n!!!\n-----END PUBLIC KEY-----\n", "not base64");
    refuses("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", "SubjectPublicKeyInfo");
    refuses("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "SubjectPublicKeyInfo");
    refuses(key_a_public_pkcs1, "RSAPublicKey_in");
    refuses(key_a_private, "private key, which does not belong");
    refuses(key_b_private, "private key, which does not belong");
    refuses(key_encrypted_private, "private key, which does not belong");
    refuses("-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n", "openssl x509");
    refuses(key_ec_public, "not RSA");
    refuses(key_small_public, "1024 bits");
}

/* A key file with any one byte of its DER changed or cut is refused or is another key: never a
 * crash. */
Test(keyset, damaged_der)
{
    struct gm_public_key good;
    struct gm_public_key key;
    char text[2048];
    cr_assert_eq(gm_public_key_parse(&good, "a", key_a_public, strlen(key_a_public), &error), 0);
    size_t body = (size_t)(strchr(key_a_public, '\n') + 1 - key_a_public);
    size_t end = (size_t)(strstr(key_a_public, "\n-----END") - key_a_public);
    size_t same = 0;
    for (size_t i = body; i < end; i++) {
        snprintf(text, sizeof(text), "%s", key_a_public);
        text[i] = text[i] == 'A' ? 'B' : 'A';
        if (gm_public_key_parse(&key, "a", text, strlen(text), &error) == 0)
            same += memcmp(&key, &good, sizeof(key)) == 0;
    }
    /* Only the NULL parameters of the algorithm say nothing about the key: five characters at most.
     */
    cr_expect_leq(same, 5);
    for (size_t cut = 0; cut < strlen(key_a_public) - 2; cut++)
        cr_assert_eq(gm_public_key_parse(&key, "a", key_a_public, cut, &error), -EINVAL);
}

Test(keyset, file)
{
    struct gm_keyset *keys;
    char path[64];
    fixture_file(path, key_a_public);
    cr_assert_eq(gm_keyset_load_file(&keys, path, &error), 0);
    cr_expect_eq(keys->count, 1);
    gm_keyset_put(keys);
    unlink(path);

    cr_expect_eq(gm_keyset_load_file(&keys, path, &error), -ENOENT);
    cr_expect_null(keys);
    cr_expect_not_null(strstr(error.text, path));
    cr_expect_eq(gm_keyset_load_file(&keys, "/tmp", &error), -EISDIR);

    char *big = malloc(GM_KEY_FILE_BYTES_MAX + 2);
    memset(big, 'x', GM_KEY_FILE_BYTES_MAX + 1);
    big[GM_KEY_FILE_BYTES_MAX + 1] = '\0';
    fixture_file(path, big);
    cr_expect_eq(gm_keyset_load_file(&keys, path, &error), -E2BIG);
    cr_expect_not_null(strstr(error.text, path));
    unlink(path);
    free(big);
}

Test(keyset, directory_order_and_choice)
{
    char dir[] = "/tmp/gm-keys-XXXXXX";
    char sub[64];
    struct gm_keyset *keys;
    cr_assert_not_null(mkdtemp(dir));
    cr_expect_eq(gm_keyset_load_dir(&keys, dir, &error), -EINVAL);
    cr_expect_not_null(strstr(error.text, dir));

    put(dir, "b.pem", key_a_public);
    put(dir, "a.pub", key_c_public);
    put(dir, "Z.pem", key_b_public);
    put(dir, "c.pem", key_a_public); /* the same once more */
    put(dir, "notes.txt", "not a key");
    put(dir, "pem", "not a key");
    snprintf(sub, sizeof(sub), "%s/sub.pem", dir);
    cr_assert_eq(mkdir(sub, 0700), 0);
    put(sub, "d.pem", "not a key");
    cr_assert_eq(gm_keyset_load_dir(&keys, dir, &error), 0, "%s", error.text);

    struct gm_keyset *wanted = fixture_keys(key_b_public, key_c_public, key_a_public, NULL);
    cr_assert_eq(keys->count, 3);
    for (uint32_t i = 0; i < 3; i++)
        cr_expect_eq(memcmp(&keys->keys[i], &wanted->keys[i], sizeof(keys->keys[0])), 0, "%u", i);
    gm_keyset_put(keys);
    gm_keyset_put(wanted);

    /* One bad file fails the whole load, by its name. */
    put(dir, "d.pem", "not a key");
    cr_expect_eq(gm_keyset_load_dir(&keys, dir, &error), -EINVAL);
    cr_expect_null(keys);
    cr_expect_not_null(strstr(error.text, "d.pem"));

    cr_expect_eq(gm_keyset_load_dir(&keys, "/nonexistent/keys", &error), -ENOENT);
    cr_expect_not_null(strstr(error.text, "/nonexistent/keys"));
    fixture_remove(dir);
}

Test(keyset, directory_follows_links_and_names_broken_ones)
{
    char dir[] = "/tmp/gm-keys-XXXXXX";
    char target[64];
    char path[64];
    struct gm_keyset *keys;
    cr_assert_not_null(mkdtemp(dir));
    fixture_file(target, key_a_public);
    snprintf(path, sizeof(path), "%s/a.pem", dir);
    cr_assert_eq(symlink(target, path), 0);
    cr_assert_eq(gm_keyset_load_dir(&keys, dir, &error), 0, "%s", error.text);
    cr_expect_eq(keys->count, 1);
    gm_keyset_put(keys);
    unlink(target);
    cr_expect_eq(gm_keyset_load_dir(&keys, dir, &error), -ENOENT);
    cr_expect_not_null(strstr(error.text, "a.pem"));
    fixture_remove(dir);
}

static bool takes(const char *bytes, size_t len, uint8_t tag)
{
    struct gm_der in = {(const uint8_t *)bytes, len};
    struct gm_der content;
    return gm_der_take(&in, tag, &content);
}

Test(der, lengths)
{
    cr_expect(takes("\x30\x00", 2, 0x30));
    cr_expect(takes("\x30\x02\x01\x02", 4, 0x30));
    cr_expect_not(takes("\x30\x03\x01\x02", 4, 0x30));
    cr_expect_not(takes("\x30\x02\x01\x02", 4, 0x02));
    cr_expect_not(takes("\x30", 1, 0x30));
    cr_expect_not(takes("", 0, 0x30));
    cr_expect_not(takes("\x30\x80\x00\x00", 4, 0x30)); /* indefinite */
    cr_expect_not(takes("\x30\x81\x01\x00", 4, 0x30)); /* not the shortest form */
    cr_expect_not(takes("\x30\x82\x00\x81\x00", 5, 0x30));
    cr_expect_not(takes("\x30\x81", 2, 0x30));
    cr_expect_not(takes("\x30\x84\x00\x00\x00\x01\x00", 7, 0x30));
    cr_expect_not(takes("\x30\x83\xff\xff\xff\x00", 6, 0x30));
    char longer[0x83 + 3] = "\x30\x81\x83";
    cr_expect(takes(longer, sizeof(longer), 0x30));
    cr_expect_not(takes(longer, sizeof(longer) - 1, 0x30));
}

static int positive(const char *bytes, size_t len)
{
    struct gm_der in = {(const uint8_t *)bytes, len};
    struct gm_der digits;
    return gm_der_take_positive(&in, &digits) ? (int)digits.len : -1;
}

Test(der, integers)
{
    cr_expect_eq(positive("\x02\x01\x03", 3), 1);
    cr_expect_eq(positive("\x02\x02\x00\x80", 4), 1);
    cr_expect_eq(positive("\x02\x01\x00", 3), -1);
    cr_expect_eq(positive("\x02\x01\x80", 3), -1);     /* negative */
    cr_expect_eq(positive("\x02\x02\x00\x7f", 4), -1); /* a needless zero */
    cr_expect_eq(positive("\x02\x00", 2), -1);
    cr_expect_eq(positive("\x04\x01\x03", 3), -1);
}
