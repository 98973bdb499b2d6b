/* Revocation lists: read and sorted here, their signatures verified by the library.
 *
 * Owner: a context. Invariants: every span lies in its list's DER; serial numbers are sorted; a
 * list decides nothing in favour of a certificate before its signature has been verified, either
 * with a root's key when it was loaded or, for an intermediate that only peers show, with that of a
 * certificate that leads to a root. */
#include "tls/crl.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tls/cert.h"
#include "tls/context.h"
#include "tls/files.h"

#define TAG_EXTENSIONS 0xA0 /* [0] of TBSCertList */
#define ISSUER_SHOWN   200  /* bytes of its name in a sentence */

struct list {
    uint8_t *der;
    size_t der_len;
    struct gm_tls_span issuer;
    struct gm_tls_span *serials; /* sorted */
    size_t serial_count;
    long long until;       /* LLONG_MAX: it names no end */
    _Atomic bool verified; /* set by any thread, never cleared; relaxed: it publishes nothing */
    bool refused;          /* a root has its name, but has not signed it */
};

struct gm_tls_crls {
    struct list *lists;
    size_t count;
};

static bool same(struct gm_tls_span a, struct gm_tls_span b)
{
    return gm_tls_der_is(a, (const char *)b.at, b.len);
}

/* ---- Reading ---- */

/* Whether one of them must be understood: delta, partial and indirect lists say what they are by
 * such extensions, and neither we nor the library understand any. */
static bool has_critical(struct gm_tls_span extensions)
{
    struct gm_tls_span extension, oid, critical;
    while (gm_tls_der_take(&extensions, GM_TLS_DER_SEQUENCE, &extension)) {
        if (gm_tls_der_take(&extension, GM_TLS_DER_OID, &oid) &&
            gm_tls_der_take(&extension, GM_TLS_DER_BOOLEAN, &critical) && critical.len == 1 &&
            critical.at[0] != 0)
            return true;
    }
    return extensions.len > 0; /* not read to its end: not understood */
}

/* The next serial number, without leading zeros. 1: taken; 0: no more; negative: not understood. */
static int next_serial(struct gm_tls_span *entries, struct gm_tls_span *serial)
{
    struct gm_tls_span entry, extensions;
    long long since;
    if (entries->len == 0)
        return 0;
    if (!gm_tls_der_take(entries, GM_TLS_DER_SEQUENCE, &entry) ||
        !gm_tls_der_take(&entry, GM_TLS_DER_INTEGER, serial) || !gm_tls_der_time(&entry, &since))
        return -GM_E_PROTOCOL;
    if (gm_tls_der_take(&entry, GM_TLS_DER_SEQUENCE, &extensions) && has_critical(extensions))
        return -GM_E_LIMIT;
    while (serial->len > 1 && serial->at[0] == 0) {
        serial->at++;
        serial->len--;
    }
    return 1;
}

static int compare(const void *left, const void *right)
{
    const struct gm_tls_span *a = left, *b = right;
    if (a->len != b->len)
        return a->len < b->len ? -1 : 1;
    return memcmp(a->at, b->at, a->len);
}

static int read_serials(struct list *list, struct gm_tls_span entries)
{
    struct gm_tls_span walk = entries, serial;
    size_t count = 0;
    int rc;
    while ((rc = next_serial(&walk, &serial)) > 0)
        count++;
    if (rc < 0 || count == 0)
        return rc;
    list->serials = calloc(count, sizeof *list->serials);
    if (list->serials == NULL)
        return -GM_E_NOMEM;
    while (next_serial(&entries, &serial) > 0)
        list->serials[list->serial_count++] = serial;
    qsort(list->serials, count, sizeof *list->serials, compare);
    return 0;
}

static bool is_time(struct gm_tls_span in)
{
    return in.len > 0 && (in.at[0] == GM_TLS_DER_UTC_TIME || in.at[0] == GM_TLS_DER_GENERAL_TIME);
}

/* -GM_E_PROTOCOL: damaged; -GM_E_LIMIT: of a kind that is not understood. */
static int read_list(struct list *list)
{
    struct gm_tls_span in = {list->der, list->der_len}, whole, tbs, skipped, entries, extensions;
    long long since;
    if (!gm_tls_der_take(&in, GM_TLS_DER_SEQUENCE, &whole) ||
        !gm_tls_der_take(&whole, GM_TLS_DER_SEQUENCE, &tbs))
        return -GM_E_PROTOCOL;
    (void)gm_tls_der_take(&tbs, GM_TLS_DER_INTEGER, &skipped); /* the version */
    if (!gm_tls_der_take(&tbs, GM_TLS_DER_SEQUENCE, &skipped) ||
        !gm_tls_der_take(&tbs, GM_TLS_DER_SEQUENCE, &list->issuer) ||
        !gm_tls_der_time(&tbs, &since))
        return -GM_E_PROTOCOL;
    list->until = LLONG_MAX;
    if (is_time(tbs) && !gm_tls_der_time(&tbs, &list->until))
        return -GM_E_PROTOCOL;
    if (gm_tls_der_take(&tbs, GM_TLS_DER_SEQUENCE, &entries)) {
        int rc = read_serials(list, entries);
        if (rc < 0)
            return rc;
    }
    if (gm_tls_der_take(&tbs, TAG_EXTENSIONS, &skipped)) {
        if (!gm_tls_der_take(&skipped, GM_TLS_DER_SEQUENCE, &extensions))
            return -GM_E_PROTOCOL;
        if (has_critical(extensions))
            return -GM_E_LIMIT;
    }
    return tbs.len == 0 ? 0 : -GM_E_PROTOCOL;
}

static int add_list(struct gm_tls_crls *crls, const struct gm_tls_pem *pem)
{
    struct list *lists = realloc(crls->lists, (crls->count + 1) * sizeof *lists);
    if (lists == NULL)
        return -GM_E_NOMEM;
    crls->lists = lists;
    struct list *list = &lists[crls->count++];
    *list = (struct list){0};
    int rc = gm_tls_pem_decode(pem, &list->der, &list->der_len);
    return rc < 0 ? rc : read_list(list);
}

static int say_list(int rc, size_t number, const char *path, char *why)
{
    if (rc == -GM_E_NOMEM)
        return gm_tls_why(why, rc, "out of memory");
    if (rc == -GM_E_LIMIT)
        return gm_tls_why(why, -GM_E_CONFIG,
                          "list %zu of the CRL file %s is a delta, a partial or an indirect one "
                          "(it has critical extensions), which cannot be used: take the CA's "
                          "complete list",
                          number, path);
    return gm_tls_why(why, -GM_E_CONFIG,
                      "list %zu of the CRL file %s is damaged: fetch it from its CA again", number,
                      path);
}

static int read_lists(struct gm_tls_crls *crls, const char *text, const char *path, char *why)
{
    struct gm_tls_pem pem;
    while (gm_tls_pem_next(&text, &pem)) {
        if (!gm_tls_pem_is(&pem, "X509 CRL"))
            continue;
        int rc = add_list(crls, &pem);
        if (rc < 0)
            return say_list(rc, crls->count, path, why);
    }
    if (crls->count > 0)
        return 0;
    return gm_tls_why(why, -GM_E_CONFIG,
                      "the CRL file %s has no revocation list: it must be PEM, with -----BEGIN "
                      "X509 CRL-----",
                      path);
}

int gm_tls_crls_load(const char *path, struct gm_tls_crls **out, char *why)
{
    struct gm_tls_text text;
    *out = NULL;
#ifndef HAVE_CRL
    return gm_tls_why(why, -GM_E_CONFIG,
                      "the CRL file %s cannot be used: this wolfSSL was built without revocation "
                      "lists; use the bundled one",
                      path);
#endif
    int rc = gm_tls_read_file(path, "CRL file", &text, why);
    if (rc < 0)
        return rc;
    struct gm_tls_crls *crls = calloc(1, sizeof *crls);
    rc = crls == NULL ? gm_tls_why(why, -GM_E_NOMEM, "out of memory")
                      : read_lists(crls, text.bytes, path, why);
    gm_tls_text_free(&text);
    if (rc < 0)
        gm_tls_crls_free(crls);
    else
        *out = crls;
    return rc;
}

void gm_tls_crls_free(struct gm_tls_crls *crls)
{
    if (crls == NULL)
        return;
    for (size_t i = 0; i < crls->count; i++) {
        free(crls->lists[i].serials);
        free(crls->lists[i].der);
    }
    free(crls->lists);
    free(crls);
}

long long gm_tls_crls_until(const struct gm_tls_crls *crls)
{
    long long soonest = LLONG_MAX;
    for (size_t i = 0; crls != NULL && i < crls->count; i++) {
        if (crls->lists[i].until < soonest)
            soonest = crls->lists[i].until;
    }
    return soonest;
}

/* ---- Signatures ---- */

/* What the library says of the list, signed as it should be by the holder of this certificate: in a
 * context of its own, where there is no other issuer. Expired certificates count: they were in
 * force when they signed. */
static int library_says(const struct list *list, const uint8_t *der, size_t len)
{
    int rc = 0;
#ifdef HAVE_CRL
    WOLFSSL_CTX *ctx = wolfSSL_CTX_new(wolfSSLv23_client_method());
    if (ctx != NULL &&
        wolfSSL_CTX_load_verify_buffer_ex(ctx, der, (long)len, WOLFSSL_FILETYPE_ASN1, 0,
                                          WOLFSSL_LOAD_FLAG_DATE_ERR_OKAY) == WOLFSSL_SUCCESS)
        rc = wolfSSL_CTX_LoadCRLBuffer(ctx, list->der, (long)list->der_len, WOLFSSL_FILETYPE_ASN1);
    wolfSSL_CTX_free(ctx);
#else
    (void)list, (void)der, (void)len;
#endif
    return rc;
}

static bool is_signed_by(const struct list *list, const uint8_t *der, size_t len)
{
    int rc = library_says(list, der, len);
#ifndef WOLFSSL_NO_CRL_DATE_CHECK
    /* Such a library stops at the date of an expired list, before its signature; versions differ in
     * what they call that. The list counts all the same: what it revokes is refused, everything
     * else is as without a list. */
    bool expired = list->until < (long long)time(NULL);
    if (expired && (rc == ASN_PARSE_E || rc == ASN_AFTER_DATE_E || rc == CRL_CERT_DATE_ERR))
        return true;
#endif
    return rc == WOLFSSL_SUCCESS;
}

static bool is_verified(struct list *list)
{
    return atomic_load_explicit(&list->verified, memory_order_relaxed);
}

static void set_verified(struct list *list)
{
    atomic_store_explicit(&list->verified, true, memory_order_relaxed);
}

void gm_tls_crls_meet(struct gm_tls_crls *crls, const uint8_t *der, size_t len)
{
    struct gm_tls_cert root;
    if (crls == NULL || gm_tls_cert_parse(der, len, &root) < 0)
        return;
    for (size_t i = 0; i < crls->count; i++) {
        struct list *list = &crls->lists[i];
        if (is_verified(list) || !same(list->issuer, root.subject))
            continue;
        if (is_signed_by(list, der, len))
            set_verified(list);
        else
            list->refused = true;
    }
}

int gm_tls_crls_check(const struct gm_tls_crls *crls, const char *path, char *why)
{
    for (size_t i = 0; crls != NULL && i < crls->count; i++) {
        struct list *list = &crls->lists[i];
        char name[GM_TLS_SUBJECT_BYTES] = "";
        if (is_verified(list) || !list->refused)
            continue;
        if (gm_tls_cert_subject(&(struct gm_tls_cert){.subject = list->issuer}, name) < 0)
            name[0] = '\0';
        return gm_tls_why(why, -GM_E_CONFIG,
                          "list %zu of the CRL file %s is not signed by the CA that it names, "
                          "\"%.*s\": fetch it from that CA again, or check the CA file",
                          i + 1, path, ISSUER_SHOWN, name);
    }
    return 0;
}

/* ---- Chains ---- */

struct chain {
    WOLFSSL_CTX *ctx;
    const WOLFSSL_BUFFER_INFO *certs;
    int count;
};

/* Looks for the list's signer among what the peer shows. It must lead to a root itself: the library
 * passes over superfluous certificates, and one of those may be anybody's. */
static bool verify_by_chain(struct list *list, const struct chain *chain)
{
    for (int i = 0; i < chain->count; i++) {
        const WOLFSSL_BUFFER_INFO *der = &chain->certs[i];
        struct gm_tls_cert cert;
        if (gm_tls_cert_parse(der->buffer, der->length, &cert) < 0 ||
            !same(cert.subject, list->issuer))
            continue;
        WOLFSSL_CERT_MANAGER *manager = wolfSSL_CTX_GetCertManager(chain->ctx);
        if (wolfSSL_CertManagerVerifyBuffer(manager, der->buffer, (long)der->length,
                                            WOLFSSL_FILETYPE_ASN1) == WOLFSSL_SUCCESS &&
            is_signed_by(list, der->buffer, der->length))
            return true;
    }
    return false;
}

/* Whether one certificate is revoked: 1 or 0, or -GM_E_TLS_CRL. */
static int is_revoked(struct gm_tls_crls *crls, const struct gm_tls_cert *cert,
                      const struct chain *chain)
{
    struct gm_tls_span serial = cert->serial;
    while (serial.len > 1 && serial.at[0] == 0) {
        serial.at++;
        serial.len--;
    }
    for (size_t i = 0; i < crls->count; i++) {
        struct list *list = &crls->lists[i];
        if (!same(list->issuer, cert->issuer))
            continue;
        if (!is_verified(list)) {
            if (!verify_by_chain(list, chain))
                return -GM_E_TLS_CRL;
            set_verified(list);
        }
        if (list->serial_count > 0 &&
            bsearch(&serial, list->serials, list->serial_count, sizeof serial, compare) != NULL)
            return 1;
    }
    return 0;
}

int gm_tls_crls_judge(struct gm_tls_crls *crls, WOLFSSL_CTX *ctx, const WOLFSSL_BUFFER_INFO *certs,
                      int count)
{
    const struct chain chain = {ctx, certs, count};
    for (int i = 0; crls != NULL && i < count; i++) {
        struct gm_tls_cert cert;
        if (gm_tls_cert_parse(certs[i].buffer, certs[i].length, &cert) < 0)
            return -GM_E_TLS;
        int rc = is_revoked(crls, &cert, &chain);
        if (rc < 0)
            return rc;
        if (rc > 0)
            return i == 0 ? -GM_E_TLS_REVOKED : -GM_E_TLS_REVOKED_CHAIN;
    }
    return 0;
}
