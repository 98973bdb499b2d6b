/*
 * Private keys and signatures. Every buffer that held a key is wiped on every way out.
 */
#include "auth/sign.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/base64.h"
#include "auth/claims.h"
#include "auth/files.h"
#include "auth/jwt.h"
#include "auth/pem.h"
#include "auth/wolf.h"

enum {
    KEY_DER_BYTES_MAX = 4096, /* PKCS#8 of RSA-4096 is under 2,400 bytes */
    KEY_PEM_BYTES_MAX = 8192,
    PATH_BYTES_MAX = 4096,
};

struct gm_private_key {
    RsaKey rsa;
    WC_RNG random;
};

/* A key without numbers in it yet. */
static struct gm_private_key *key_new(void)
{
    struct gm_private_key *key = calloc(1, sizeof(*key));
    if (key == NULL)
        return NULL;
    if (wc_InitRng(&key->random) != 0)
        goto fail_memory;
    if (wc_InitRsaKey(&key->rsa, NULL) != 0)
        goto fail_random;
    /* The generator blinds the private operation against timing. */
    if (wc_RsaSetRNG(&key->rsa, &key->random) != 0)
        goto fail_rsa;
    return key;
fail_rsa:
    wc_FreeRsaKey(&key->rsa);
fail_random:
    wc_FreeRng(&key->random);
fail_memory:
    free(key);
    return NULL;
}

void gm_private_key_free(struct gm_private_key *key)
{
    if (key == NULL)
        return;
    wc_FreeRsaKey(&key->rsa);
    wc_FreeRng(&key->random);
    explicit_bzero(key, sizeof(*key));
    free(key);
}

/* From PrivateKeyInfo (RFC 5958) to the RSAPrivateKey in it; a PKCS#1 key is that already. */
static struct gm_der open_pkcs8(struct gm_der der)
{
    struct gm_der whole = der;
    struct gm_der info;
    struct gm_der version;
    struct gm_der algorithm;
    struct gm_der oid;
    struct gm_der inner;
    bool is_pkcs8 = gm_der_take(&der, GM_DER_SEQUENCE, &info) &&
                    gm_der_take(&info, GM_DER_INTEGER, &version) &&
                    gm_der_take(&info, GM_DER_SEQUENCE, &algorithm) &&
                    gm_der_take(&algorithm, GM_DER_OID, &oid) && gm_der_is_rsa_oid(&oid) &&
                    gm_der_take(&info, GM_DER_OCTET_STRING, &inner);
    return is_pkcs8 ? inner : whole;
}

static int decode_key(struct gm_private_key *key, const char *path, const char *pem, size_t len,
                      struct gm_auth_error *error)
{
    static const char cure[] = "make one with: openssl genrsa -out KEY.pem 2048";
    uint8_t der[GM_BASE64_DECODED_MAX(KEY_PEM_BYTES_MAX)];
    struct gm_pem_block block;
    if (!gm_pem_find(&block, pem, len))
        return gm_auth_fail(error, -EINVAL, "%s holds no complete PEM block; %s", path, cure);
    if (strcmp(block.label, "ENCRYPTED PRIVATE KEY") == 0 ||
        memmem(block.body, block.body_len, "ENCRYPTED", 9) != NULL)
        return gm_auth_fail(error, -EINVAL,
                            "%s is encrypted; take off its passphrase with: openssl rsa -in %s "
                            "-out PLAIN.pem",
                            path, path);
    int64_t der_len =
        block.body_len > KEY_PEM_BYTES_MAX ? -1 : gm_base64_decode(der, block.body, block.body_len);
    int rc = -1;
    if (der_len >= 0) {
        struct gm_der inner = open_pkcs8((struct gm_der){der, (size_t)der_len});
        word32 index = 0;
        rc = wc_RsaPrivateKeyDecode(inner.p, &index, &key->rsa, (word32)inner.len);
    }
    explicit_bzero(der, sizeof(der));
    if (rc != 0)
        return gm_auth_fail(error, -EINVAL, "%s holds no unencrypted RSA private key; %s", path,
                            cure);
    int bits = wc_RsaEncryptSize(&key->rsa) * 8;
    if (bits < GM_KEY_BITS_MIN || bits > GM_KEY_BITS_MAX)
        return gm_auth_fail(error, -EINVAL,
                            "%s holds an RSA key of %d bits; servers accept %d to %d; %s", path,
                            bits, GM_KEY_BITS_MIN, GM_KEY_BITS_MAX, cure);
    return 0;
}

int gm_private_key_load(struct gm_private_key **out, const char *path, struct gm_auth_error *error)
{
    char *pem;
    size_t len;
    *out = NULL;
    struct gm_auth_file file = {path, "private key file", GM_KEY_FILE_BYTES_MAX};
    int rc = gm_auth_read_file(&pem, &len, &file, error);
    if (rc != 0)
        return rc;
    struct gm_private_key *key = key_new();
    if (key == NULL)
        rc = gm_auth_fail(error, -ENOMEM, "no memory or no random numbers for a key");
    else
        rc = decode_key(key, path, pem, len, error);
    explicit_bzero(pem, len);
    free(pem);
    if (rc != 0) {
        gm_private_key_free(key);
        return rc;
    }
    *out = key;
    return 0;
}

/* Writes tag and length before `len` bytes of content to come. Bytes written: at most 4. */
static size_t der_header(uint8_t *out, uint8_t tag, size_t len)
{
    size_t n = 0;
    out[n++] = tag;
    if (len >= 0x100) {
        out[n++] = 0x82;
        out[n++] = (uint8_t)(len >> 8);
    } else if (len >= 0x80) {
        out[n++] = 0x81;
    }
    out[n++] = (uint8_t)len;
    return n;
}

/* The key as PrivateKeyInfo. Bytes written, or negative. */
static int key_to_pkcs8(struct gm_private_key *key, uint8_t *out, size_t room)
{
    static const uint8_t version_and_algorithm[] = {0x02, 0x01, 0x00, 0x30, 0x0d, 0x06,
                                                    0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7,
                                                    0x0d, 0x01, 0x01, 0x01, 0x05, 0x00};
    uint8_t pkcs1[KEY_DER_BYTES_MAX];
    uint8_t octets[4];
    int len = wc_RsaKeyToDer(&key->rsa, pkcs1, sizeof(pkcs1));
    if (len < 0)
        return len;
    size_t octets_len = der_header(octets, GM_DER_OCTET_STRING, (size_t)len);
    size_t content = sizeof(version_and_algorithm) + octets_len + (size_t)len;
    int total = -1;
    if (content + 4 <= room) {
        size_t n = der_header(out, GM_DER_SEQUENCE, content);
        memcpy(out + n, version_and_algorithm, sizeof(version_and_algorithm));
        n += sizeof(version_and_algorithm);
        memcpy(out + n, octets, octets_len);
        n += octets_len;
        memcpy(out + n, pkcs1, (size_t)len);
        total = (int)n + len;
    }
    explicit_bzero(pkcs1, sizeof(pkcs1));
    return total;
}

/* Writes a PEM block with lines of 64 characters into `out` (KEY_PEM_BYTES_MAX). Its length. */
static size_t write_pem(char *out, const char *label, const uint8_t *der, size_t der_len)
{
    char text[GM_BASE64_ENCODED_MAX(KEY_DER_BYTES_MAX)];
    size_t text_len = gm_base64_encode(text, der, der_len);
    size_t n = (size_t)snprintf(out, KEY_PEM_BYTES_MAX, "-----BEGIN %s-----\n", label);
    for (size_t i = 0; i < text_len; i += 64) {
        size_t line = text_len - i < 64 ? text_len - i : 64;
        memcpy(out + n, text + i, line);
        n += line;
        out[n++] = '\n';
    }
    n += (size_t)snprintf(out + n, KEY_PEM_BYTES_MAX - n, "-----END %s-----\n", label);
    explicit_bzero(text, sizeof(text));
    return n;
}

static int write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        text += n;
        len -= (size_t)n;
    }
    return fsync(fd) == 0 ? 0 : -errno;
}

struct file_text {
    const char *path;
    const char *text;
    size_t len;
    mode_t mode;
    bool replace;
};

/* Writes beside the path, then renames: no reader sees half a key, no existing key is lost. */
static int put_file(const struct file_text *file)
{
    char temporary[PATH_BYTES_MAX];
    int n = snprintf(temporary, sizeof(temporary), "%s.XXXXXX", file->path);
    if (n < 0 || (size_t)n >= sizeof(temporary))
        return -ENAMETOOLONG;
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = fchmod(fd, file->mode) == 0 ? 0 : -errno;
    if (rc == 0)
        rc = write_all(fd, file->text, file->len);
    close(fd);
    if (rc == 0 && file->replace)
        rc = rename(temporary, file->path) == 0 ? 0 : -errno;
    else if (rc == 0)
        rc = link(temporary, file->path) == 0 ? 0 : -errno;
    /* Gone already after a rename. */
    unlink(temporary);
    return rc;
}

/* Makes the directories above `path`, as mkdir -p would. */
static int make_parents(const char *path)
{
    char partial[PATH_BYTES_MAX];
    size_t len = strlen(path);
    if (len >= sizeof(partial))
        return -ENAMETOOLONG;
    memcpy(partial, path, len + 1);
    for (size_t i = 1; i < len; i++) {
        if (partial[i] != '/')
            continue;
        partial[i] = '\0';
        if (mkdir(partial, 0777) != 0 && errno != EEXIST)
            return -errno;
        partial[i] = '/';
    }
    return 0;
}

/* `path` with the suffix of its last component, if it has one, replaced by .pub. */
static int public_path_of(char *out, size_t room, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    size_t keep = dot != NULL && dot != name ? (size_t)(dot - path) : strlen(path);
    int n = snprintf(out, room, "%.*s.pub", (int)keep, path);
    if (*name == '\0' || n < 0 || (size_t)n >= room)
        return -EINVAL;
    return strcmp(out, path) != 0 ? 0 : -EINVAL;
}

/* Both files of a key that has just been made; the private one decides whether it exists. */
static int put_key(struct gm_private_key *key, const char *path, const char *public_path)
{
    uint8_t der[KEY_DER_BYTES_MAX];
    char pem[KEY_PEM_BYTES_MAX];
    int rc = key_to_pkcs8(key, der, sizeof(der));
    if (rc < 0) {
        rc = -EIO;
        goto wipe;
    }
    size_t len = write_pem(pem, "PRIVATE KEY", der, (size_t)rc);
    rc = put_file(&(struct file_text){path, pem, len, 0600, false});
    if (rc != 0)
        goto wipe;
    rc = wc_RsaKeyToPublicDer(&key->rsa, der, sizeof(der));
    if (rc < 0) {
        rc = -EIO;
        goto wipe;
    }
    len = write_pem(pem, "PUBLIC KEY", der, (size_t)rc);
    rc = put_file(&(struct file_text){public_path, pem, len, 0644, true});
wipe:
    explicit_bzero(der, sizeof(der));
    explicit_bzero(pem, sizeof(pem));
    return rc;
}

int gm_private_key_create(const char *path, char *public_path, size_t room,
                          struct gm_auth_error *error)
{
    int rc = public_path_of(public_path, room, path);
    if (rc != 0)
        return gm_auth_fail(error, rc,
                            "%s cannot name a new private key: its public key would be written to "
                            "the same name with .pub; end it in .pem",
                            path);
    rc = make_parents(path);
    if (rc != 0)
        return gm_auth_fail(error, rc, "cannot make the directory of %s: %s", path, strerror(-rc));
    struct gm_private_key *key = key_new();
    if (key == NULL)
        return gm_auth_fail(error, -ENOMEM, "no memory or no random numbers for a key");
    if (wc_MakeRsaKey(&key->rsa, GM_SIGN_KEY_BITS, WC_RSA_EXPONENT, &key->random) != 0)
        rc = gm_auth_fail(error, -EIO, "making an RSA key failed");
    if (rc == 0) {
        rc = put_key(key, path, public_path);
        if (rc != 0)
            gm_auth_fail(error, rc, "cannot write the new key %s: %s", path, strerror(-rc));
    }
    gm_private_key_free(key);
    return rc;
}

bool gm_private_key_public(struct gm_private_key *key, struct gm_public_key *out)
{
    struct gm_auth_error error;
    uint8_t der[KEY_DER_BYTES_MAX];
    char pem[KEY_PEM_BYTES_MAX];
    int len = wc_RsaKeyToPublicDer(&key->rsa, der, sizeof(der));
    if (len < 0)
        return false;
    size_t pem_len = write_pem(pem, "PUBLIC KEY", der, (size_t)len);
    return gm_public_key_parse(out, "key", pem, pem_len, &error) == 0;
}

/* DigestInfo of the text, encoded by the library. Bytes written, 0 on failure. */
static word32 digest_info(uint8_t *out, int bits, const char *text, size_t len)
{
    uint8_t digest[WC_MAX_DIGEST_SIZE];
    enum wc_HashType type = bits == 512   ? WC_HASH_TYPE_SHA512
                            : bits == 384 ? WC_HASH_TYPE_SHA384
                                          : WC_HASH_TYPE_SHA256;
    word32 digest_len = (word32)bits / 8;
    if (wc_Hash(type, (const byte *)text, (word32)len, digest, digest_len) != 0)
        return 0;
    return wc_EncodeSignature(out, digest, digest_len, wc_GetCTC_HashOID((int)type));
}

int gm_jwt_begin(const struct gm_sign_text *text, size_t signature_len, char *out, size_t room,
                 struct gm_auth_error *error)
{
    size_t header_len = strlen(text->header);
    size_t payload_len = strlen(text->payload);
    size_t most = GM_BASE64_ENCODED_MAX(header_len) + GM_BASE64_ENCODED_MAX(payload_len) +
                  GM_BASE64_ENCODED_MAX(signature_len) + 3;
    if (payload_len > GM_SIGN_PAYLOAD_BYTES_MAX || most > room || most > GM_JWT_TOKEN_BYTES_MAX)
        return gm_auth_fail(error, -E2BIG,
                            "the token would be longer than the %d bytes that servers accept; use "
                            "fewer or shorter names",
                            GM_JWT_TOKEN_BYTES_MAX);
    size_t n = gm_base64url_encode(out, (const uint8_t *)text->header, header_len);
    out[n++] = '.';
    n += gm_base64url_encode(out + n, (const uint8_t *)text->payload, payload_len);
    out[n] = '\0';
    return (int)n;
}

int gm_jwt_finish(char *out, size_t len, const uint8_t *signature, size_t signature_len)
{
    out[len++] = '.';
    len += gm_base64url_encode(out + len, signature, signature_len);
    out[len] = '\0';
    return (int)len;
}

int gm_jwt_sign(struct gm_private_key *key, const struct gm_sign_text *text, char *out, size_t room,
                struct gm_auth_error *error)
{
    uint8_t info[128];
    uint8_t signature[GM_KEY_MODULUS_BYTES_MAX];
    int n = gm_jwt_begin(text, (size_t)wc_RsaEncryptSize(&key->rsa), out, room, error);
    if (n < 0)
        return n;
    word32 info_len = digest_info(info, text->bits, out, (size_t)n);
    int len = -1;
    if (info_len > 0)
        len = wc_RsaSSL_Sign(info, info_len, signature, sizeof(signature), &key->rsa, &key->random);
    if (len < 0)
        return gm_auth_fail(error, -EIO, "signing failed (wolfCrypt error %d)", len);
    return gm_jwt_finish(out, (size_t)n, signature, (size_t)len);
}

bool gm_jwt_payload_fits(const char *payload)
{
    struct gm_claims *claims = calloc(1, sizeof(*claims));
    struct gm_claims_dates dates = {0};
    json_t *object = json_loads(payload, 0, NULL);
    bool fits =
        claims != NULL && json_is_object(object) && gm_claims_from_json(claims, &dates, object);
    json_decref(object);
    free(claims);
    return fits;
}

size_t gm_public_key_pem(const uint8_t *der, size_t len, char out[GM_PUBLIC_KEY_PEM_MAX])
{
    char pem[KEY_PEM_BYTES_MAX];
    size_t pem_len = len <= GM_PUBLIC_KEY_DER_MAX ? write_pem(pem, "PUBLIC KEY", der, len) : 0;
    memcpy(out, pem, pem_len);
    out[pem_len] = '\0';
    return pem_len;
}
