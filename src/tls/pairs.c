/* Loading pairs of certificate and key, and finding the one for a name.
 *
 * Owner: the thread that builds the context; afterwards constant and read by all. Invariants: every
 * pair's key fits its certificate; names are normal and sorted, and where two pairs have the same
 * name the earlier pair comes first. */
#include "tls/pairs.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tls/files.h"

#define PAIRS_MAX 4096u
#define PATH_MAX_ 4096u

/* ---- Certificate ---- */

static int add_name(struct gm_tls_server *server, struct gm_tls_span name)
{
    char normal[GM_TLS_NAME_BYTES];
    if (!gm_tls_name_normal((const char *)name.at, name.len, normal))
        return 0; /* nobody can ask for it */
    size_t bytes = (server->name_count + 1) * sizeof *server->names;
    struct gm_tls_served *names = realloc(server->names, bytes);
    if (names == NULL)
        return -GM_E_NOMEM;
    server->names = names;
    char *copy = strdup(normal);
    if (copy == NULL)
        return -GM_E_NOMEM;
    names[server->name_count++] = (struct gm_tls_served){copy, server->pair_count};
    return 0;
}

static int add_names(struct gm_tls_server *server, const struct gm_tls_cert *cert)
{
    struct gm_tls_span walk = cert->names, name;
    int rc = 0;
    if (!cert->has_names)
        return add_name(server, gm_tls_cert_common_name(cert));
    while (rc == 0 && gm_tls_cert_next_dns(&walk, &name))
        rc = add_name(server, name);
    return rc;
}

/* What the first certificate of the file says. */
static int read_leaf(const struct gm_tls_pem *pem, const char *path, struct gm_tls_server *server,
                     char *why)
{
    uint8_t *der;
    size_t len;
    struct gm_tls_cert cert;
    int rc = gm_tls_pem_decode(pem, &der, &len);
    if (rc == 0)
        rc = gm_tls_cert_parse(der, len, &cert);
    if (rc == 0 && server != NULL) {
        server->pairs[server->pair_count].not_after = cert.not_after;
        rc = add_names(server, &cert);
    }
    free(der);
    if (rc == -GM_E_NOMEM)
        return gm_tls_why(why, rc, "out of memory while reading %s", path);
    if (rc < 0)
        return gm_tls_why(why, -GM_E_CONFIG,
                          "the certificate file %s is damaged: its first certificate cannot be "
                          "decoded; copy it again",
                          path);
    return 0;
}

/* Copies the certificates of a file, and nothing else that it may hold, to `chain`. */
static int collect_chain(const struct gm_tls_text *text, const char *path,
                         struct gm_tls_server *server, char *chain, char *why)
{
    const char *at = text->bytes;
    struct gm_tls_pem pem;
    size_t len = 0;
    while (gm_tls_pem_next(&at, &pem)) {
        if (!gm_tls_pem_is(&pem, "CERTIFICATE"))
            continue;
        int rc = len == 0 ? read_leaf(&pem, path, server, why) : 0;
        if (rc < 0)
            return rc;
        memcpy(chain + len, pem.whole, pem.whole_len);
        len += pem.whole_len;
        chain[len++] = '\n';
    }
    chain[len] = '\0';
    if (len == 0)
        return gm_tls_why(why, -GM_E_CONFIG,
                          "the certificate file %s has no certificate: it must be PEM, with "
                          "-----BEGIN CERTIFICATE-----, the server's own first",
                          path);
    return 0;
}

static int load_certificate(WOLFSSL_CTX *ctx, const char *path, struct gm_tls_server *server,
                            char *why)
{
    struct gm_tls_text text;
    int rc = gm_tls_read_file(path, "certificate file", &text, why);
    if (rc < 0)
        return rc;
    char *chain = malloc(text.len + 2); /* blocks are copied with at least one byte between them */
    if (chain == NULL) {
        rc = gm_tls_why(why, -GM_E_NOMEM, "out of memory while reading %s", path);
        goto done;
    }
    rc = collect_chain(&text, path, server, chain, why);
    if (rc < 0)
        goto done;
    int wolf = wolfSSL_CTX_use_certificate_chain_buffer_format(
        ctx, (const unsigned char *)chain, (long)strlen(chain), WOLFSSL_FILETYPE_PEM);
    if (wolf != WOLFSSL_SUCCESS)
        rc = gm_tls_why(why, -GM_E_CONFIG,
                        "the certificate file %s cannot be used (%s): RSA of 2048 to 4096 bits and "
                        "ECDSA on P-256 and P-384 can, with up to 8 intermediates",
                        path, wolfSSL_ERR_reason_error_string((unsigned long)wolf));
done:
    free(chain);
    gm_tls_text_free(&text);
    return rc;
}

/* ---- Key ---- */

static bool is_encrypted(const struct gm_tls_pem *pem)
{
    static const char mark[] = "ENCRYPTED";
    const char *found = strstr(pem->label, mark);
    return found != NULL && found < pem->body + pem->body_len;
}

/* The first private key of a file. */
static int find_key(const struct gm_tls_text *text, const char *path, struct gm_tls_pem *pem,
                    char *why)
{
    const char *at = text->bytes;
    while (gm_tls_pem_next(&at, pem)) {
        bool key = gm_tls_pem_is(pem, "PRIVATE KEY") || gm_tls_pem_is(pem, "RSA PRIVATE KEY") ||
                   gm_tls_pem_is(pem, "EC PRIVATE KEY") ||
                   gm_tls_pem_is(pem, "ENCRYPTED PRIVATE KEY");
        if (key && is_encrypted(pem))
            return gm_tls_why(why, -GM_E_CONFIG,
                              "the key in %s is encrypted: decrypt it, for example with openssl "
                              "pkey -in %s -out plain.key",
                              path, path);
        if (key)
            return 0;
    }
    return gm_tls_why(why, -GM_E_CONFIG,
                      "the key file %s has no private key: it must be PEM, with -----BEGIN PRIVATE "
                      "KEY----- (or RSA or EC PRIVATE KEY)",
                      path);
}

static int load_key(WOLFSSL_CTX *ctx, const char *path, char *why)
{
    struct gm_tls_text text;
    struct gm_tls_pem pem;
    int rc = gm_tls_read_file(path, "key file", &text, why);
    if (rc == 0)
        rc = find_key(&text, path, &pem, why);
    if (rc == 0 && wolfSSL_CTX_use_PrivateKey_buffer(ctx, (const unsigned char *)pem.whole,
                                                     (long)pem.whole_len,
                                                     WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS)
        rc =
            gm_tls_why(why, -GM_E_CONFIG,
                       "the key in %s cannot be used: it must be RSA of 2048 to 4096 bits or ECDSA "
                       "on P-256 or P-384",
                       path);
    gm_tls_text_free(&text);
    return rc;
}

int gm_tls_pair_load(WOLFSSL_CTX *ctx, const char *cert_file, const char *key_file,
                     struct gm_tls_server *server, char *why)
{
    int rc = load_certificate(ctx, cert_file, server, why);
    if (rc == 0)
        rc = load_key(ctx, key_file, why);
    if (rc == 0 && wolfSSL_CTX_check_private_key(ctx) != WOLFSSL_SUCCESS)
        rc = gm_tls_why(why, -GM_E_CONFIG,
                        "the key in %s does not belong to the certificate in %s: name the key that "
                        "the certificate was requested with",
                        key_file, cert_file);
    return rc;
}

/* ---- Pairs ---- */

int gm_tls_pairs_add(struct gm_tls_server *server, const char *cert_file, const char *key_file,
                     char *why)
{
    if (server->pair_count == PAIRS_MAX)
        return gm_tls_why(why, -GM_E_LIMIT, "more than %u certificates", PAIRS_MAX);
    size_t bytes = (server->pair_count + 1) * sizeof *server->pairs;
    struct gm_tls_pair *pairs = realloc(server->pairs, bytes);
    if (pairs == NULL)
        return gm_tls_why(why, -GM_E_NOMEM, "out of memory while reading %s", cert_file);
    server->pairs = pairs;
    struct gm_tls_pair *pair = &pairs[server->pair_count];
    *pair = (struct gm_tls_pair){.ctx = gm_tls_server_ctx()};
    int rc = pair->ctx == NULL
                 ? gm_tls_why(why, -GM_E_NOMEM, "out of memory while reading %s", cert_file)
                 : gm_tls_pair_load(pair->ctx, cert_file, key_file, server, why);
    if (rc < 0)
        wolfSSL_CTX_free(pair->ctx);
    else
        server->pair_count++;
    return rc;
}

/* The length of NAME in "NAME.crt" or "NAME.pem", or 0. */
static size_t stem_length(const char *file)
{
    size_t len = strlen(file);
    if (file[0] == '.' || len <= 4)
        return 0;
    const char *end = file + len - 4;
    return strcmp(end, ".crt") == 0 || strcmp(end, ".pem") == 0 ? len - 4 : 0;
}

static int keep_certificates(const struct dirent *entry)
{
    return stem_length(entry->d_name) > 0;
}

/* A certificate without a key beside it is no pair: CA certificates often lie there too. */
static int add_file(struct gm_tls_server *server, const char *directory, const char *file,
                    char *why)
{
    char cert[PATH_MAX_], key[PATH_MAX_];
    int cert_len = snprintf(cert, sizeof cert, "%s/%s", directory, file);
    int key_len = snprintf(key, sizeof key, "%s/%.*s.key", directory, (int)stem_length(file), file);
    if (cert_len >= (int)sizeof cert || key_len >= (int)sizeof key)
        return gm_tls_why(why, -ENAMETOOLONG, "the path of %s is too long", file);
    if (access(key, F_OK) != 0 && errno == ENOENT)
        return 0;
    return gm_tls_pairs_add(server, cert, key, why);
}

int gm_tls_pairs_add_directory(struct gm_tls_server *server, const char *directory, char *why)
{
    struct dirent **entries;
    uint32_t before = server->pair_count;
    int count = scandir(directory, &entries, keep_certificates, alphasort);
    if (count < 0)
        return gm_tls_why(why, -errno, "cannot read the certificate directory %s: %s", directory,
                          strerror(errno));
    int rc = 0;
    for (int i = 0; i < count; i++) {
        if (rc == 0)
            rc = add_file(server, directory, entries[i]->d_name, why);
        free(entries[i]);
    }
    free(entries);
    if (rc == 0 && server->pair_count == before)
        rc = gm_tls_why(why, -GM_E_CONFIG,
                        "the certificate directory %s has no pair: each certificate NAME.crt or "
                        "NAME.pem needs its key NAME.key beside it",
                        directory);
    return rc;
}

void gm_tls_pairs_free(struct gm_tls_server *server)
{
    for (uint32_t i = 0; i < server->pair_count; i++)
        wolfSSL_CTX_free(server->pairs[i].ctx);
    for (uint32_t i = 0; i < server->name_count; i++)
        free(server->names[i].name);
    free(server->pairs);
    free(server->names);
}

/* ---- Names ---- */

static int compare_names(const void *left, const void *right)
{
    const struct gm_tls_served *a = left, *b = right;
    int order = strcmp(a->name, b->name);
    if (order != 0)
        return order;
    return a->pair < b->pair ? -1 : a->pair > b->pair;
}

void gm_tls_pairs_sort(struct gm_tls_server *server)
{
    if (server->name_count > 0)
        qsort(server->names, server->name_count, sizeof *server->names, compare_names);
}

/* The first entry with this name, or NULL. */
static const struct gm_tls_served *find_name(const struct gm_tls_server *server, const char *name)
{
    uint32_t low = 0, high = server->name_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (strcmp(server->names[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < server->name_count && strcmp(server->names[low].name, name) == 0;
    return found ? &server->names[low] : NULL;
}

const struct gm_tls_pair *gm_tls_server_choose(const struct gm_tls_server *server, const char *name)
{
    const struct gm_tls_served *found = find_name(server, name);
    const char *rest = strchr(name, '.');
    if (found == NULL && rest != NULL && rest != name) {
        char wild[GM_TLS_NAME_BYTES + 1];
        (void)snprintf(wild, sizeof wild, "*%s", rest);
        found = find_name(server, wild);
        /* "*.com" is in no use: see gm_tls_name_matches. */
        if (found != NULL && !gm_tls_name_matches(wild, strlen(wild), name))
            found = NULL;
    }
    return &server->pairs[found != NULL ? found->pair : 0];
}
