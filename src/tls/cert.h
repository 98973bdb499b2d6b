/* What we ask of an X.509 certificate (RFC 5280) beyond the library's verification: names, subject,
 * validity. Reads DER in place; pure. Private to tls/. */
#ifndef GM_TLS_CERT_H
#define GM_TLS_CERT_H

#include <sys/types.h>

#include "base/error.h"
#include "tls/der.h"

/* The longest subject we spell, NUL included; a longer one is refused, never cut. */
#define GM_TLS_SUBJECT_BYTES 1024u

/* Spans borrow from the DER. */
struct gm_tls_cert {
    struct gm_tls_span serial;          /* content of the INTEGER */
    struct gm_tls_span issuer, subject; /* content of the Name: RelativeDistinguishedNames */
    struct gm_tls_span names;           /* content of subjectAltName's GeneralNames */
    bool has_names;                     /* the extension is there, even if it is empty */
    long long not_before, not_after;    /* seconds since 1970 */
};

/* 0, or -GM_E_PROTOCOL: this is no certificate. */
int gm_tls_cert_parse(const uint8_t *der, size_t len, struct gm_tls_cert *out) GM_WARN_UNUSED;
/* The next dNSName of the certificate, *walk starting as cert->names. False: no more. */
bool gm_tls_cert_next_dns(struct gm_tls_span *walk, struct gm_tls_span *name);
/* Whether it is for `host`, a name or an address. The common name counts only where there is no
 * subjectAltName at all, and never for an address. */
bool gm_tls_cert_is_for(const struct gm_tls_cert *cert, const char *host);
/* The last commonName of the subject; empty when there is none. */
struct gm_tls_span gm_tls_cert_common_name(const struct gm_tls_cert *cert);
bool gm_tls_cert_is_self_issued(const struct gm_tls_cert *cert);
/* The subject as RFC 4514 spells it, most specific first; printable ASCII only, the rest escaped.
 * Its length, or -GM_E_LIMIT, -GM_E_PROTOCOL. */
ssize_t gm_tls_cert_subject(const struct gm_tls_cert *cert,
                            char out[GM_TLS_SUBJECT_BYTES]) GM_WARN_UNUSED;

#endif
