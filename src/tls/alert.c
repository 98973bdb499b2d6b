/* Two tables. Owner: none, constant. */
#include "tls/alert.h"

#include <stddef.h>

#include "base/error.h"
#include "tls/wolf.h"

static const struct {
    uint8_t description;
    int meaning;
} alerts[] = {
    {44, GM_E_TLS_REVOKED},   /* certificate_revoked */
    {45, GM_E_TLS_EXPIRED},   /* certificate_expired */
    {48, GM_E_TLS_UNTRUSTED}, /* unknown_ca */
    {70, GM_E_TLS_VERSION},   /* protocol_version */
    {71, GM_E_TLS_VERSION},   /* insufficient_security */
    {112, GM_E_TLS_NAME},     /* unrecognized_name */
    {116, GM_E_TLS_NO_CERT},  /* certificate_required */
};

int gm_tls_alert_meaning(uint8_t description, int first)
{
    const uint8_t handshake_failure = 40;
    if (description == handshake_failure && first)
        return -GM_E_TLS_VERSION; /* nothing of what the hello offered will do */
    for (size_t i = 0; i < sizeof alerts / sizeof alerts[0]; i++) {
        if (alerts[i].description == description)
            return -alerts[i].meaning;
    }
    return -GM_E_TLS_ALERT;
}

static const struct {
    int code, meaning;
} codes[] = {
    /* A library with the OpenSSL layer gives its callbacks OpenSSL's codes (X509_V_ERR_…). */
    {10, GM_E_TLS_EXPIRED},   /* the certificate has expired */
    {14, GM_E_TLS_EXPIRED},   /* likewise: its notAfter is what is wrong */
    {9, GM_E_TLS_NOT_YET},    /* the certificate is not yet valid */
    {13, GM_E_TLS_NOT_YET},   /* its notBefore */
    {2, GM_E_TLS_UNTRUSTED},  /* no issuer */
    {7, GM_E_TLS_UNTRUSTED},  /* its signature */
    {18, GM_E_TLS_UNTRUSTED}, /* self-signed */
    {19, GM_E_TLS_UNTRUSTED}, /* self-signed, in the chain */
    {20, GM_E_TLS_UNTRUSTED}, /* no issuer here */
    {21, GM_E_TLS_UNTRUSTED}, /* the leaf's signature */
    {24, GM_E_TLS_UNTRUSTED}, /* no CA */
    {25, GM_E_TLS_UNTRUSTED}, /* the path is too long */
    {ASN_AFTER_DATE_E, GM_E_TLS_EXPIRED},
    {ASN_BEFORE_DATE_E, GM_E_TLS_NOT_YET},
    {ASN_NO_SIGNER_E, GM_E_TLS_UNTRUSTED},
    {ASN_SELF_SIGNED_E, GM_E_TLS_UNTRUSTED}, /* the verifier tells a lone one apart */
    {ASN_SIG_CONFIRM_E, GM_E_TLS_UNTRUSTED},
    {ASN_SIG_OID_E, GM_E_TLS_UNTRUSTED},
    {ASN_SIG_HASH_E, GM_E_TLS_UNTRUSTED},
    {ASN_SIG_KEY_E, GM_E_TLS_UNTRUSTED},
    {ASN_PATHLEN_INV_E, GM_E_TLS_UNTRUSTED},
    {ASN_PATHLEN_SIZE_E, GM_E_TLS_UNTRUSTED},
    {ASN_NAME_INVALID_E, GM_E_TLS_UNTRUSTED},
    {NOT_CA_ERROR, GM_E_TLS_UNTRUSTED},
    {CRL_CERT_REVOKED, GM_E_TLS_REVOKED},
    {OCSP_CERT_REVOKED, GM_E_TLS_REVOKED},
    {DOMAIN_NAME_MISMATCH, GM_E_TLS_NAME},
    {IPADDR_MISMATCH, GM_E_TLS_NAME},
    {NO_PEER_CERT, GM_E_TLS_NO_CERT},
    {VERSION_ERROR, GM_E_TLS_VERSION},
    {UNSUPPORTED_SUITE, GM_E_TLS_VERSION},
    {MATCH_SUITE_ERROR, GM_E_TLS_VERSION},
    {UNSUPPORTED_PROTO_VERSION, GM_E_TLS_VERSION},
    {INVALID_PARAMETER, GM_E_TLS},
    {DECRYPT_ERROR, GM_E_TLS_RECORD},
    {VERIFY_MAC_ERROR, GM_E_TLS_RECORD},
    {AES_GCM_AUTH_E, GM_E_TLS_RECORD},
    {MAC_CMP_FAILED_E, GM_E_TLS_RECORD},
    {LENGTH_ERROR, GM_E_TLS_RECORD},
    {SANITY_CIPHER_E, GM_E_TLS_RECORD},
    {UNKNOWN_RECORD_TYPE, GM_E_TLS_RECORD},
    {MEMORY_E, GM_E_NOMEM},
    {MEMORY_ERROR, GM_E_NOMEM},
};

int gm_tls_library_meaning(int code)
{
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (codes[i].code == code)
            return -codes[i].meaning;
    }
    return -GM_E_TLS;
}
