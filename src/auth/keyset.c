/*
 * Loading of public keys. Whatever is wrong is said with the file's name and the command that mends
 * it; key material never reaches a message.
 */
#include "auth/keyset.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "auth/base64.h"
#include "auth/files.h"
#include "auth/pem.h"

#define MAKE_PUBLIC "make one with: openssl rsa -in PRIVATE.pem -pubout -out PUBLIC.pem"

/* What a block with this label is, and what to do about it; the general advice for other labels. */
static const char *advice_for(const char *label)
{
    static const struct {
        const char *label;
        const char *advice;
    } known[] = {
        {"RSA PUBLIC KEY", "it is a PKCS#1 key; convert it with: openssl rsa -RSAPublicKey_in "
                           "-in KEY.pem -pubout -out PUBLIC.pem"},
        {"CERTIFICATE", "it is a certificate; extract its key with: openssl x509 -in CERT.pem "
                        "-noout -pubkey"},
        {"PRIVATE KEY", "it is a private key, which does not belong on a server; " MAKE_PUBLIC},
        {"RSA PRIVATE KEY", "it is a private key, which does not belong on a server; " MAKE_PUBLIC},
        {"ENCRYPTED PRIVATE KEY",
         "it is a private key, which does not belong on a server; " MAKE_PUBLIC},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(label, known[i].label) == 0)
            return known[i].advice;
    }
    return MAKE_PUBLIC;
}

/* SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) down to the RSAPublicKey in it. *is_rsa is
 * false when it is one, but of another kind of key. */
static bool open_spki(struct gm_der der, struct gm_der *rsa_key, bool *is_rsa)
{
    struct gm_der spki;
    struct gm_der algorithm;
    struct gm_der oid;
    struct gm_der bits;
    *is_rsa = true;
    if (!gm_der_take(&der, GM_DER_SEQUENCE, &spki) || der.len != 0 ||
        !gm_der_take(&spki, GM_DER_SEQUENCE, &algorithm) ||
        !gm_der_take(&algorithm, GM_DER_OID, &oid))
        return false;
    /* The bit string's first byte counts unused bits: none here. */
    if (!gm_der_take(&spki, GM_DER_BIT_STRING, &bits) || spki.len != 0 || bits.len < 1 ||
        bits.p[0] != 0)
        return false;
    *is_rsa = gm_der_is_rsa_oid(&oid);
    if (!*is_rsa)
        return false;
    bits = (struct gm_der){bits.p + 1, bits.len - 1};
    return gm_der_take(&bits, GM_DER_SEQUENCE, rsa_key) && bits.len == 0;
}

static size_t bits_of(const struct gm_der *digits)
{
    return digits->len * 8 - (size_t)(__builtin_clz(digits->p[0]) - 24);
}

/* RSAPublicKey (RFC 8017 A.1.1) into numbers. The modulus is odd, the exponent odd and above 1. */
static int read_rsa_key(struct gm_public_key *out, struct gm_der rsa_key, const char *name,
                        struct gm_auth_error *error)
{
    struct gm_der n;
    struct gm_der e;
    if (!gm_der_take_positive(&rsa_key, &n) || !gm_der_take_positive(&rsa_key, &e) ||
        rsa_key.len != 0 || n.p[n.len - 1] % 2 == 0 || e.p[e.len - 1] % 2 == 0 ||
        (e.len == 1 && e.p[0] == 1) || e.len > GM_KEY_EXPONENT_BYTES_MAX)
        return gm_auth_fail(error, -EINVAL, "%s holds a damaged RSA public key; " MAKE_PUBLIC,
                            name);
    size_t bits = bits_of(&n);
    if (bits < GM_KEY_BITS_MIN || bits > GM_KEY_BITS_MAX)
        return gm_auth_fail(error, -EINVAL,
                            "%s holds an RSA key of %zu bits; accepted are %d to %d bits "
                            "(openssl genrsa -out PRIVATE.pem 2048)",
                            name, bits, GM_KEY_BITS_MIN, GM_KEY_BITS_MAX);
    memset(out, 0, sizeof(*out));
    out->modulus_len = (uint16_t)n.len;
    out->exponent_len = (uint16_t)e.len;
    memcpy(out->modulus, n.p, n.len);
    memcpy(out->exponent, e.p, e.len);
    return 0;
}

int gm_public_key_parse(struct gm_public_key *out, const char *name, const char *pem, size_t len,
                        struct gm_auth_error *error)
{
    enum { DER_BYTES_MAX = 4096 }; /* an RSA-4096 key takes 550 */
    uint8_t der[GM_BASE64_DECODED_MAX(DER_BYTES_MAX * 2)];
    struct gm_pem_block block;
    struct gm_der rsa_key;
    bool is_rsa;

    if (!gm_pem_find(&block, pem, len))
        return gm_auth_fail(error, -EINVAL, "%s holds no complete PEM block; " MAKE_PUBLIC, name);
    int64_t der_len = -1;
    if (block.body_len <= DER_BYTES_MAX * 2)
        der_len = gm_base64_decode(der, block.body, block.body_len);
    if (der_len < 0)
        return gm_auth_fail(error, -EINVAL, "%s holds a PEM block that is not base64; " MAKE_PUBLIC,
                            name);
    if (open_spki((struct gm_der){der, (size_t)der_len}, &rsa_key, &is_rsa))
        return read_rsa_key(out, rsa_key, name, error);
    if (!is_rsa)
        return gm_auth_fail(error, -EINVAL,
                            "%s holds a public key that is not RSA; tokens are signed with RSA "
                            "keys only (openssl genrsa -out PRIVATE.pem 2048)",
                            name);
    return gm_auth_fail(error, -EINVAL, "%s holds no public key in SubjectPublicKeyInfo form: %s",
                        name, advice_for(block.label));
}

/* A set with room for `room` keys, none in it yet. */
static struct gm_keyset *keyset_new(uint32_t room)
{
    /* Seeds the JSON tables here, because that may read a file and a ring must not. */
    json_object_seed(0);
    return calloc(1, sizeof(struct gm_keyset) + room * sizeof(struct gm_public_key));
}

/* Counts the key just written behind the last one, unless it is there already: it would only cost.
 */
static void keyset_admit(struct gm_keyset *keys)
{
    for (uint32_t i = 0; i < keys->count; i++) {
        if (memcmp(&keys->keys[i], &keys->keys[keys->count], sizeof(keys->keys[0])) == 0)
            return;
    }
    keys->count++;
}

static int load_key_file(struct gm_public_key *out, const char *path, struct gm_auth_error *error)
{
    char *text;
    size_t len;
    int rc = gm_auth_read_file(&text, &len, path, "public key file", error);
    if (rc == 0)
        rc = gm_public_key_parse(out, path, text, len, error);
    free(text);
    return rc;
}

int gm_keyset_load_file(struct gm_keyset **out, const char *path, struct gm_auth_error *error)
{
    *out = NULL;
    struct gm_keyset *keys = keyset_new(1);
    if (keys == NULL)
        return gm_auth_fail(error, -ENOMEM, "out of memory");
    int rc = load_key_file(&keys->keys[0], path, error);
    if (rc != 0) {
        gm_keyset_free(keys);
        return rc;
    }
    keys->count = 1;
    *out = keys;
    return 0;
}

int gm_keyset_load_inline(struct gm_keyset **out, const char *name, const char *pem,
                          struct gm_auth_error *error)
{
    *out = NULL;
    struct gm_keyset *keys = keyset_new(1);
    if (keys == NULL)
        return gm_auth_fail(error, -ENOMEM, "out of memory");
    int rc = gm_public_key_parse(&keys->keys[0], name, pem, strlen(pem), error);
    if (rc != 0) {
        gm_keyset_free(keys);
        return rc;
    }
    keys->count = 1;
    *out = keys;
    return 0;
}

static int is_key_name(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);
    return len >= 4 && (strcmp(entry->d_name + len - 4, ".pem") == 0 ||
                        strcmp(entry->d_name + len - 4, ".pub") == 0);
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* One entry of the directory: a regular file (or a link to one) becomes a key, others are passed
 * over. */
static int load_entry(struct gm_keyset *keys, const char *dir, const char *name,
                      struct gm_auth_error *error)
{
    char path[4096];
    struct stat st;
    int n = snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof(path))
        return gm_auth_fail(error, -ENAMETOOLONG, "the path of key %s is too long", name);
    if (stat(path, &st) != 0)
        return gm_auth_fail(error, -errno, "cannot open the public key file %s: %s", path,
                            strerror(errno));
    if (!S_ISREG(st.st_mode))
        return 0;
    if (keys->count == GM_KEYSET_KEYS_MAX)
        return gm_auth_fail(error, -E2BIG,
                            "%s holds more than %d keys; remove those no longer in use", dir,
                            GM_KEYSET_KEYS_MAX);
    int rc = load_key_file(&keys->keys[keys->count], path, error);
    if (rc == 0)
        keyset_admit(keys);
    return rc;
}

int gm_keyset_load_dir(struct gm_keyset **out, const char *path, struct gm_auth_error *error)
{
    *out = NULL;
    struct dirent **entries;
    int count = scandir(path, &entries, is_key_name, by_bytes);
    if (count < 0)
        return gm_auth_fail(error, -errno, "cannot read the public key directory %s: %s", path,
                            strerror(errno));
    struct gm_keyset *keys = keyset_new(GM_KEYSET_KEYS_MAX);
    int rc = 0;
    if (keys == NULL)
        rc = gm_auth_fail(error, -ENOMEM, "out of memory");
    for (int i = 0; i < count; i++) {
        if (rc == 0)
            rc = load_entry(keys, path, entries[i]->d_name, error);
        free(entries[i]);
    }
    free(entries);
    if (rc == 0 && keys->count == 0)
        rc = gm_auth_fail(error, -EINVAL,
                          "%s holds no public key: put at least one file named *.pem or *.pub "
                          "there; " MAKE_PUBLIC,
                          path);
    if (rc != 0) {
        gm_keyset_free(keys);
        return rc;
    }
    *out = keys;
    return 0;
}

void gm_keyset_free(struct gm_keyset *keys)
{
    free(keys);
}
