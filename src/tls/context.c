/* Contexts: what the library needs to know of a server or a client, made from files.
 *
 * Owner: the thread that makes one; then constant, shared by reference between rings. The library
 * counts references of its own objects atomically, so sessions may be made and freed on any thread.
 */
#include "tls/context.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls/aead.h"
#include "tls/cert.h"
#include "tls/files.h"
#include "tls/pairs.h"

#include <wolfssl/wolfcrypt/cpuid.h>

/* Of a directory of roots. */
#define ROOT_FILES_MAX 4096

/* ---- The library ---- */

int gm_tls_init(void)
{
    return wolfSSL_Init() == WOLFSSL_SUCCESS ? 0 : -GM_E_TLS;
}

bool gm_tls_accelerated(void)
{
#if defined(WOLFSSL_AESNI)
    return IS_INTEL_AESNI(cpuid_get_flags()) != 0;
#elif defined(WOLFSSL_ARMASM)
    return true;
#else
    return false;
#endif
}

static const char *aes_description(bool own_records)
{
    if (!gm_tls_accelerated())
        return "no AES in hardware";
    return own_records && gm_tls_aead_is_wide() ? "AES-NI, VAES" : "AES-NI";
}

const char *gm_tls_describe(void)
{
    static char text[96];
#ifdef HAVE_SECRET_CALLBACK
    bool own = gm_tls_record_has(GM_TLS_AES_128_GCM);
#else
    bool own = false; /* library.c */
#endif
    (void)snprintf(text, sizeof text, "wolfSSL %s, %s, records: %s", wolfSSL_lib_version(),
                   aes_description(own), own ? "own" : "the library's");
    return text;
}

/* What servers and clients have in common. Suites in the server's order of preference: without AES
 * in hardware ChaCha20 is the fastest. NULL: out of memory. */
static WOLFSSL_CTX *ctx_new(WOLFSSL_METHOD *method)
{
    static const char with_aes[] =
        "TLS13-AES128-GCM-SHA256:TLS13-CHACHA20-POLY1305-SHA256:TLS13-AES256-GCM-SHA384:"
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
        "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
        "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";
    static const char without_aes[] =
        "TLS13-CHACHA20-POLY1305-SHA256:TLS13-AES128-GCM-SHA256:TLS13-AES256-GCM-SHA384:"
        "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
        "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";
    int groups[] = {WOLFSSL_ECC_X25519, WOLFSSL_ECC_SECP256R1, WOLFSSL_ECC_SECP384R1};
    WOLFSSL_CTX *ctx = method == NULL ? NULL : wolfSSL_CTX_new(method);
    if (ctx == NULL)
        return NULL;
    bool good =
        wolfSSL_CTX_SetMinVersion(ctx, WOLFSSL_TLSV1_2) == WOLFSSL_SUCCESS &&
        wolfSSL_CTX_set_cipher_list(ctx, gm_tls_accelerated() ? with_aes : without_aes) ==
            WOLFSSL_SUCCESS &&
        wolfSSL_CTX_set_groups(ctx, groups, sizeof groups / sizeof groups[0]) == WOLFSSL_SUCCESS &&
        wolfSSL_CTX_SetMinRsaKey_Sz(ctx, 2048) == WOLFSSL_SUCCESS &&
        wolfSSL_CTX_SetMinEccKey_Sz(ctx, 256) == WOLFSSL_SUCCESS;
    if (!good) {
        wolfSSL_CTX_free(ctx);
        return NULL;
    }
    /* Resumption is by tickets alone: a table would be one for all names and contexts. */
    (void)wolfSSL_CTX_set_session_cache_mode(ctx, WOLFSSL_SESS_CACHE_OFF);
    gm_tls_library_configure(ctx);
    return ctx;
}

WOLFSSL_CTX *gm_tls_server_ctx(void)
{
    return ctx_new(wolfSSLv23_server_method());
}

/* ---- Roots ---- */

/* Where roots go. */
struct roots {
    WOLFSSL_CTX *ctx;
    struct gm_tls_crls *crls; /* that they may have signed; NULL: none */
};

/* Roots of Go Daddy, Starfield and others have the serial number 0, which the library refuses. What
 * makes a root one is that it is in the file: neither its number nor its own signature is looked
 * at, so the copy that the library gets has another number. */
static void renumber_zero(uint8_t *der, size_t len)
{
    struct gm_tls_cert cert;
    if (gm_tls_cert_parse(der, len, &cert) == 0 && cert.serial.len == 1 && cert.serial.at[0] == 0)
        der[cert.serial.at - der] = 1;
}

static int add_root(const struct roots *roots, const struct gm_tls_pem *pem)
{
    uint8_t *der;
    size_t len;
    int rc = gm_tls_pem_decode(pem, &der, &len);
    if (rc < 0)
        return rc;
    renumber_zero(der, len);
    /* Whether a root is in force is for the day of use; the library would refuse it today. */
    int wolf = wolfSSL_CTX_load_verify_buffer_ex(roots->ctx, der, (long)len, WOLFSSL_FILETYPE_ASN1,
                                                 0, WOLFSSL_LOAD_FLAG_DATE_ERR_OKAY);
    if (wolf == WOLFSSL_SUCCESS)
        gm_tls_crls_meet(roots->crls, der, len);
    free(der);
    return wolf == WOLFSSL_SUCCESS ? 0 : -GM_E_PROTOCOL;
}

/* The roots of one text. `unusable` (may be NULL) counts those that the library cannot use. Returns
 * how many were taken. */
static int add_roots(const struct roots *roots, const char *text, int *unusable)
{
    struct gm_tls_pem pem;
    int added = 0;
    while (gm_tls_pem_next(&text, &pem)) {
        if (!gm_tls_pem_is(&pem, "CERTIFICATE") && !gm_tls_pem_is(&pem, "TRUSTED CERTIFICATE"))
            continue;
        if (add_root(roots, &pem) == 0)
            added++;
        else if (unusable != NULL)
            (*unusable)++;
    }
    return added;
}

/* A file that the user has named: each of its certificates must do. */
static int load_roots(const struct roots *roots, const char *path, const char *what, char *why)
{
    struct gm_tls_text text;
    int unusable = 0, rc = gm_tls_read_file(path, what, &text, why);
    if (rc < 0)
        return rc;
    int added = add_roots(roots, text.bytes, &unusable);
    gm_tls_text_free(&text);
    if (unusable > 0)
        return gm_tls_why(
            why, -GM_E_CONFIG,
            "%d of the certificates in the %s %s cannot be used: they are damaged, or "
            "have keys other than RSA of 2048 to 4096 bits and ECDSA on P-256 and "
            "P-384; take them out or replace them",
            unusable, what, path);
    if (added == 0)
        return gm_tls_why(why, -GM_E_CONFIG,
                          "the %s %s has no certificate: it must be PEM, with -----BEGIN "
                          "CERTIFICATE-----",
                          what, path);
    return 0;
}

/* A file of the system's: what cannot be used is passed over. Returns how many roots it has. */
static int try_file(const struct roots *roots, const char *path)
{
    struct gm_tls_text text;
    char why[GM_TLS_WHY_BYTES];
    if (gm_tls_read_file(path, "roots", &text, why) < 0)
        return 0;
    int added = add_roots(roots, text.bytes, NULL);
    gm_tls_text_free(&text);
    return added;
}

static int try_directory(const struct roots *roots, const char *directory)
{
    struct dirent **entries;
    int count = scandir(directory, &entries, NULL, NULL), added = 0;
    for (int i = 0; i < count; i++) {
        char path[PATH_MAX];
        int len = snprintf(path, sizeof path, "%s/%s", directory, entries[i]->d_name);
        bool fits = len < (int)sizeof path && i < ROOT_FILES_MAX;
        if (fits && entries[i]->d_name[0] != '.')
            added += try_file(roots, path);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    return added;
}

/* The system's roots, as OpenSSL's variables or the distribution have them. */
static int load_system_roots(const struct roots *roots, char *why)
{
    static const char *const places[] = {
        "/etc/ssl/certs/ca-certificates.crt", /* Debian, Arch, Alpine */
        "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora, RHEL */
        "/etc/ssl/ca-bundle.pem",             /* openSUSE */
        "/etc/ssl/cert.pem",                  /* Alpine, the BSDs */
    };
    const char *file = getenv("SSL_CERT_FILE"), *directory = getenv("SSL_CERT_DIR");
    int added = 0;
    if (file != NULL && file[0] != '\0')
        added += try_file(roots, file);
    if (directory != NULL && directory[0] != '\0')
        added += try_directory(roots, directory);
    if (file == NULL && directory == NULL) {
        for (size_t i = 0; added == 0 && i < sizeof places / sizeof places[0]; i++)
            added = try_file(roots, places[i]);
    }
    if (added > 0)
        return 0;
    if (file != NULL || directory != NULL)
        return gm_tls_why(why, -GM_E_CONFIG,
                          "no root certificates in SSL_CERT_FILE (%s) and SSL_CERT_DIR (%s): mend "
                          "or unset them, or name your CA with the ca-file option",
                          file != NULL ? file : "not set",
                          directory != NULL ? directory : "not set");
    return gm_tls_why(why, -GM_E_CONFIG,
                      "this system has no root certificates: tried %s, %s, %s and %s; install "
                      "ca-certificates, or name your CA with the ca-file option",
                      places[0], places[1], places[2], places[3]);
}

/* ---- Servers ---- */

/* Clients' certificates. Tickets are off with them: a ticket has no room for the subject that was
 * verified, and a session resumed without it would be somebody else's. */
static int ask_clients(struct gm_tls_server *server, const struct gm_tls_server_config *config,
                       char *why)
{
    bool required = config->client_auth == GM_TLS_CLIENTS_REQUIRED;
    int mode = WOLFSSL_VERIFY_PEER | (required ? WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
    for (uint32_t i = 0; i < server->pair_count; i++) {
        WOLFSSL_CTX *ctx = server->pairs[i].ctx;
        const struct roots roots = {ctx, server->crls};
        int rc = load_roots(&roots, config->client_ca_file, "client CA file", why);
        if (rc < 0)
            return rc;
        wolfSSL_CTX_set_verify(ctx, mode, gm_tls_library_verify);
        if (wolfSSL_CTX_no_ticket_TLSv13(ctx) != 0 ||
            wolfSSL_CTX_NoTicketTLSv12(ctx) != WOLFSSL_SUCCESS)
            return gm_tls_why(why, -GM_E_TLS, "the TLS library cannot do without tickets");
    }
    return gm_tls_crls_check(server->crls, config->crl_file, why);
}

static int server_load(struct gm_tls_server *server, const struct gm_tls_server_config *config,
                       char *why)
{
    int rc = 0;
    if (config->cert_file == NULL && config->directory == NULL)
        return gm_tls_why(
            why, -GM_E_CONFIG,
            "TLS needs a certificate: name one with its key, or a directory of pairs");
    if ((config->cert_file == NULL) != (config->key_file == NULL))
        return gm_tls_why(why, -GM_E_CONFIG, "a certificate file needs a key file and vice versa");
    bool asks = config->client_auth != GM_TLS_CLIENTS_ANY;
    if (asks && config->client_ca_file == NULL)
        return gm_tls_why(why, -GM_E_CONFIG,
                          "clients cannot be asked for certificates without the CA that they must "
                          "come from: name it as client CA");
    if (config->cert_file != NULL)
        rc = gm_tls_pairs_add(server, config->cert_file, config->key_file, why);
    if (rc == 0 && config->directory != NULL)
        rc = gm_tls_pairs_add_directory(server, config->directory, why);
    if (rc == 0 && asks && config->crl_file != NULL)
        rc = gm_tls_crls_load(config->crl_file, &server->crls, why);
    if (rc == 0 && asks)
        rc = ask_clients(server, config, why);
    gm_tls_pairs_sort(server);
    return rc;
}

int gm_tls_server_new(const struct gm_tls_server_config *config, struct gm_tls_server **out,
                      char *why)
{
    *out = NULL;
    why[0] = '\0';
    struct gm_tls_server *server = calloc(1, sizeof *server);
    if (server == NULL)
        return gm_tls_why(why, -GM_E_NOMEM, "out of memory");
    atomic_init(&server->refs, 1);
    int rc = server_load(server, config, why);
    if (rc < 0) {
        gm_tls_server_put(server);
        return rc;
    }
    *out = server;
    return 0;
}

struct gm_tls_server *gm_tls_server_ref(struct gm_tls_server *server)
{
    atomic_fetch_add_explicit(&server->refs, 1, memory_order_relaxed);
    return server;
}

void gm_tls_server_put(struct gm_tls_server *server)
{
    if (server == NULL || atomic_fetch_sub_explicit(&server->refs, 1, memory_order_acq_rel) != 1)
        return;
    gm_tls_pairs_free(server);
    gm_tls_crls_free(server->crls);
    free(server);
}

size_t gm_tls_server_pairs(const struct gm_tls_server *server)
{
    return server->pair_count;
}

long long gm_tls_server_not_after(const struct gm_tls_server *server)
{
    long long soonest = LLONG_MAX;
    for (uint32_t i = 0; i < server->pair_count; i++) {
        if (server->pairs[i].not_after < soonest)
            soonest = server->pairs[i].not_after;
    }
    return soonest;
}

long long gm_tls_server_crl_until(const struct gm_tls_server *server)
{
    return gm_tls_crls_until(server->crls);
}

/* ---- Clients ---- */

/* Whom a client believes. */
static int client_trust(struct gm_tls_client *client, const struct gm_tls_client_config *config,
                        char *why)
{
    int rc = 0;
    wolfSSL_CTX_set_verify(client->ctx, WOLFSSL_VERIFY_PEER, gm_tls_library_verify);
    if (config->crl_file != NULL)
        rc = gm_tls_crls_load(config->crl_file, &client->crls, why);
    if (rc < 0)
        return rc;
    const struct roots roots = {client->ctx, client->crls};
    rc = config->ca_file != NULL ? load_roots(&roots, config->ca_file, "CA file", why)
                                 : load_system_roots(&roots, why);
    return rc < 0 ? rc : gm_tls_crls_check(client->crls, config->crl_file, why);
}

static int client_load(struct gm_tls_client *client, const struct gm_tls_client_config *config,
                       char *why)
{
    int rc = 0;
    if ((config->cert_file == NULL) != (config->key_file == NULL))
        return gm_tls_why(why, -GM_E_CONFIG, "a certificate file needs a key file and vice versa");
    client->insecure = config->insecure;
    client->ctx = ctx_new(wolfSSLv23_client_method());
    if (client->ctx == NULL)
        return gm_tls_why(why, -GM_E_NOMEM, "out of memory");
    if (config->insecure)
        wolfSSL_CTX_set_verify(client->ctx, WOLFSSL_VERIFY_NONE, NULL);
    else
        rc = client_trust(client, config, why);
    if (rc == 0 && config->cert_file != NULL)
        rc = gm_tls_pair_load(client->ctx, config->cert_file, config->key_file, NULL, why);
    return rc;
}

int gm_tls_client_new(const struct gm_tls_client_config *config, struct gm_tls_client **out,
                      char *why)
{
    *out = NULL;
    why[0] = '\0';
    struct gm_tls_client *client = calloc(1, sizeof *client);
    if (client == NULL)
        return gm_tls_why(why, -GM_E_NOMEM, "out of memory");
    atomic_init(&client->refs, 1);
    int rc = client_load(client, config, why);
    if (rc < 0) {
        gm_tls_client_put(client);
        return rc;
    }
    *out = client;
    return 0;
}

long long gm_tls_client_crl_until(const struct gm_tls_client *client)
{
    return gm_tls_crls_until(client->crls);
}

struct gm_tls_client *gm_tls_client_ref(struct gm_tls_client *client)
{
    atomic_fetch_add_explicit(&client->refs, 1, memory_order_relaxed);
    return client;
}

void gm_tls_client_put(struct gm_tls_client *client)
{
    if (client == NULL || atomic_fetch_sub_explicit(&client->refs, 1, memory_order_acq_rel) != 1)
        return;
    wolfSSL_CTX_free(client->ctx);
    gm_tls_crls_free(client->crls);
    free(client);
}
