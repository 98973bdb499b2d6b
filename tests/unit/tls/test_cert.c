/* What is read out of certificates, and what of damaged ones. */
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "tls/files.h"

static uint8_t *der;
static size_t der_len;
static struct gm_tls_cert cert;

static void load(const char *path)
{
    char why[GM_TLS_WHY_BYTES];
    struct gm_tls_text text;
    struct gm_tls_pem pem;
    free(der);
    cr_assert_eq(gm_tls_read_file(path, "file", &text, why), 0, "%s", why);
    const char *at = text.bytes;
    do
        cr_assert(gm_tls_pem_next(&at, &pem));
    while (!gm_tls_pem_is(&pem, "CERTIFICATE"));
    cr_assert_eq(gm_tls_pem_decode(&pem, &der, &der_len), 0);
    cr_assert_eq(gm_tls_cert_parse(der, der_len, &cert), 0);
    gm_tls_text_free(&text);
}

static void drop(void)
{
    free(der);
    der = NULL;
}

TestSuite(cert, .fini = drop);

static const char *subject(void)
{
    static char out[GM_TLS_SUBJECT_BYTES];
    ssize_t len = gm_tls_cert_subject(&cert, out);
    cr_assert(len >= 0 && (size_t)len == strlen(out));
    return out;
}

Test(cert, names_and_dates)
{
    load(CERT("p256.crt"));
    cr_assert_eq(cert.not_before, 1577836800);
    cr_assert_eq(cert.not_after, 2380435750);
    cr_assert(!gm_tls_cert_is_self_issued(&cert));
    static const char *const good[] = {"example.test", "EXAMPLE.test", "example.test.",
                                       "a.wild.test",  "127.0.0.1",    "::1",
                                       "[::1]",        "0:0::1"};
    static const char *const bad[] = {
        "wild.test", "a.b.wild.test",    "foo.part.test", "a.top", "127.0.0.2",  "::2",
        "leaf-p256", "mail@mailed.test", "mailed.test",   "",      "127.0.0.1.", "example.test "};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        cr_assert(gm_tls_cert_is_for(&cert, good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert(!gm_tls_cert_is_for(&cert, bad[i]), "%s", bad[i]);
    load(CERT("self-signed.crt"));
    cr_assert(gm_tls_cert_is_self_issued(&cert));
    load(CERT("not-yet.crt")); /* GeneralizedTime: from 2050 on */
    cr_assert_eq(cert.not_after, 2556144000);
}

Test(cert, the_common_name_counts_only_without_alternatives)
{
    load(CERT("only-common-name.crt"));
    cr_assert(gm_tls_cert_is_for(&cert, "example.test"));
    cr_assert(!gm_tls_cert_is_for(&cert, "127.0.0.1"));
    load(CERT("other-name.crt"));
    cr_assert(!gm_tls_cert_is_for(&cert, "example.test"));
    cr_assert(gm_tls_cert_is_for(&cert, "elsewhere.test"));
}

Test(cert, subjects_are_spelt_as_rfc_4514_has_it)
{
    load(CERT("client.crt"));
    cr_assert_str_eq(subject(), "CN=agent-1,O=Example");
    load(CERT("client-odd.crt"));
    cr_assert_str_eq(subject(), "CN=J\\C3\\B6rg\\0D\\0AX-Evil: 1,"
                                "OU=\\ #a\\,b\\+c\\\"d\\;\\<e\\>\\\\\\ ,"
                                "1.2.840.113549.1.9.1=#16086140622E74657374,DC=example,C=NL");
    load(CERT("client-long.crt"));
    char out[GM_TLS_SUBJECT_BYTES];
    cr_assert_eq(gm_tls_cert_subject(&cert, out), -GM_E_LIMIT);
}

/* Each byte changed, each length cut: it reads what is there and nothing else. */
Test(cert, damage_is_borne, .timeout = 60)
{
    static const char *const files[] = {CERT("p256.crt"), CERT("client-odd.crt")};
    char out[GM_TLS_SUBJECT_BYTES];
    for (size_t f = 0; f < 2; f++) {
        load(files[f]);
        for (size_t i = 0; i < der_len; i++) {
            uint8_t was = der[i];
            for (unsigned value = 0; value < 256; value += 5) {
                der[i] = (uint8_t)(was + value);
                if (gm_tls_cert_parse(der, der_len, &cert) != 0)
                    continue;
                (void)gm_tls_cert_is_for(&cert, "example.test");
                cr_assert(gm_tls_cert_subject(&cert, out) < (ssize_t)sizeof out);
            }
            der[i] = was;
        }
        for (size_t len = 0; len < der_len; len++) {
            uint8_t *exact = malloc(len + 1);
            memcpy(exact + 1, der, len);
            cr_assert(gm_tls_cert_parse(exact + 1, len, &cert) != 0);
            free(exact);
        }
    }
}
