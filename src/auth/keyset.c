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
#include "auth/wolf.h"
#include "base/assert.h"

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

static int damaged(const char *name, struct gm_auth_error *error)
{
    return gm_auth_fail(error, -EINVAL, "%s holds a damaged RSA public key; " MAKE_PUBLIC, name);
}

/* The modulus is odd, the exponent odd and above 1. */
int gm_public_key_make(struct gm_public_key *out, const char *name,
                       const struct gm_key_numbers *numbers, struct gm_auth_error *error)
{
    const uint8_t *n = numbers->modulus, *e = numbers->exponent;
    size_t n_len = numbers->modulus_len, e_len = numbers->exponent_len;
    if (n[n_len - 1] % 2 == 0 || e[e_len - 1] % 2 == 0 || (e_len == 1 && e[0] == 1) ||
        e_len > GM_KEY_EXPONENT_BYTES_MAX)
        return damaged(name, error);
    size_t bits = n_len * 8 - (size_t)(__builtin_clz(n[0]) - 24);
    if (bits < GM_KEY_BITS_MIN || bits > GM_KEY_BITS_MAX)
        return gm_auth_fail(error, -EINVAL,
                            "%s holds an RSA key of %zu bits; accepted are %d to %d bits "
                            "(openssl genrsa -out PRIVATE.pem 2048)",
                            name, bits, GM_KEY_BITS_MIN, GM_KEY_BITS_MAX);
    memset(out, 0, sizeof(*out));
    out->modulus_len = (uint16_t)n_len;
    out->exponent_len = (uint16_t)e_len;
    memcpy(out->modulus, n, n_len);
    memcpy(out->exponent, e, e_len);
    gm_public_key_identify(out);
    return 0;
}

/* RSAPublicKey (RFC 8017 A.1.1) into numbers. */
static int read_rsa_key(struct gm_public_key *out, struct gm_der rsa_key, const char *name,
                        struct gm_auth_error *error)
{
    struct gm_der n;
    struct gm_der e;
    if (!gm_der_take_positive(&rsa_key, &n) || !gm_der_take_positive(&rsa_key, &e) ||
        rsa_key.len != 0)
        return damaged(name, error);
    return gm_public_key_make(out, name, &(struct gm_key_numbers){n.p, n.len, e.p, e.len}, error);
}

/* The text that RFC 7638 §3.1 hashes: required members in order, no white space. */
static size_t thumbprint_text(const struct gm_public_key *key, char *out)
{
    static const char e_open[] = "{\"e\":\"", n_open[] = "\",\"kty\":\"RSA\",\"n\":\"",
                      close[] = "\"}";
    size_t n = sizeof e_open - 1;
    memcpy(out, e_open, n);
    n += gm_base64url_encode(out + n, key->exponent, key->exponent_len);
    memcpy(out + n, n_open, sizeof n_open - 1);
    n += sizeof n_open - 1;
    n += gm_base64url_encode(out + n, key->modulus, key->modulus_len);
    memcpy(out + n, close, sizeof close - 1);
    return n + sizeof close - 1;
}

void gm_public_key_identify(struct gm_public_key *key)
{
    enum {
        FRAME_BYTES = 64, /* more than the three constant parts */
        DIGEST_BYTES = 32,
    };
    char text[FRAME_BYTES + GM_BASE64_ENCODED_MAX(GM_KEY_MODULUS_BYTES_MAX) +
              GM_BASE64_ENCODED_MAX(GM_KEY_EXPONENT_BYTES_MAX)];
    uint8_t digest[DIGEST_BYTES];
    _Static_assert(GM_BASE64_ENCODED_MAX(DIGEST_BYTES) <= GM_KEY_ID_BYTES_MAX, "it must hold it");
    size_t len = thumbprint_text(key, text);
    GM_ASSERT(wc_Sha256Hash((const byte *)text, (word32)len, digest) == 0);
    memcpy(key->mark.bytes, digest, sizeof key->mark.bytes);
    if (key->id_len == 0)
        key->id_len = (uint16_t)gm_base64url_encode(key->id, digest, sizeof digest);
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

struct gm_keyset *gm_keyset_new(uint32_t room)
{
    /* Seeds the JSON tables here, because that may read a file and a ring must not. */
    json_object_seed(0);
    return calloc(1, sizeof(struct gm_keyset) + room * sizeof(struct gm_public_key));
}

bool gm_keyset_has(const struct gm_keyset *keys, const struct gm_key_mark *mark)
{
    for (uint32_t i = 0; i < keys->count; i++) {
        if (memcmp(&keys->keys[i].mark, mark, sizeof *mark) == 0)
            return true;
    }
    return false;
}

void gm_keyset_admit(struct gm_keyset *keys)
{
    if (!gm_keyset_has(keys, &keys->keys[keys->count].mark))
        keys->count++;
}

bool gm_keyset_equal(const struct gm_keyset *a, const struct gm_keyset *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    return a->count == b->count && memcmp(a->keys, b->keys, a->count * sizeof(a->keys[0])) == 0;
}

int gm_keyset_merge(struct gm_keyset **out, const struct gm_keyset *first,
                    const struct gm_keyset *second, struct gm_auth_error *error)
{
    const struct gm_keyset *const parts[] = {first, second};
    uint32_t room = (first == NULL ? 0 : first->count) + (second == NULL ? 0 : second->count);
    *out = NULL;
    struct gm_keyset *keys = gm_keyset_new(room);
    if (keys == NULL)
        return gm_auth_fail(error, -ENOMEM, "out of memory");
    for (size_t part = 0; part < 2; part++) {
        for (uint32_t i = 0; parts[part] != NULL && i < parts[part]->count; i++) {
            keys->keys[keys->count] = parts[part]->keys[i];
            gm_keyset_admit(keys);
        }
    }
    if (keys->count > GM_KEYSET_KEYS_MAX) {
        gm_keyset_put(keys);
        return gm_auth_fail(error, -E2BIG,
                            "files and JWK Set hold more than %d keys together; remove those no "
                            "longer in use",
                            GM_KEYSET_KEYS_MAX);
    }
    *out = keys;
    return 0;
}

static int load_key_file(struct gm_public_key *out, const char *path, struct gm_auth_error *error)
{
    char *text;
    size_t len;
    struct gm_auth_file file = {path, "public key file", GM_KEY_FILE_BYTES_MAX};
    int rc = gm_auth_read_file(&text, &len, &file, error);
    if (rc == 0)
        rc = gm_public_key_parse(out, path, text, len, error);
    free(text);
    return rc;
}

int gm_keyset_load_file(struct gm_keyset **out, const char *path, struct gm_auth_error *error)
{
    *out = NULL;
    struct gm_keyset *keys = gm_keyset_new(1);
    if (keys == NULL)
        return gm_auth_fail(error, -ENOMEM, "out of memory");
    int rc = load_key_file(&keys->keys[0], path, error);
    if (rc != 0) {
        gm_keyset_put(keys);
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
    struct gm_keyset *keys = gm_keyset_new(1);
    if (keys == NULL)
        return gm_auth_fail(error, -ENOMEM, "out of memory");
    int rc = gm_public_key_parse(&keys->keys[0], name, pem, strlen(pem), error);
    if (rc != 0) {
        gm_keyset_put(keys);
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
        gm_keyset_admit(keys);
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
    struct gm_keyset *keys = gm_keyset_new(GM_KEYSET_KEYS_MAX);
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
        gm_keyset_put(keys);
        return rc;
    }
    *out = keys;
    return 0;
}

struct gm_keyset *gm_keyset_ref(struct gm_keyset *keys)
{
    atomic_fetch_add_explicit(&keys->shares, 1, memory_order_relaxed);
    return keys;
}

void gm_keyset_put(struct gm_keyset *keys)
{
    if (keys != NULL && atomic_fetch_sub_explicit(&keys->shares, 1, memory_order_acq_rel) == 0)
        free(keys);
}
