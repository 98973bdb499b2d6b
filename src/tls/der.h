/* A walk through DER (X.690), element by element, in place. Pure. Private to tls/. */
#ifndef GM_TLS_DER_H
#define GM_TLS_DER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GM_TLS_DER_BOOLEAN = 0x01,
    GM_TLS_DER_INTEGER = 0x02,
    GM_TLS_DER_OCTET_STRING = 0x04,
    GM_TLS_DER_OID = 0x06,
    GM_TLS_DER_UTF8 = 0x0C,
    GM_TLS_DER_NUMERIC = 0x12,
    GM_TLS_DER_PRINTABLE = 0x13,
    GM_TLS_DER_IA5 = 0x16,
    GM_TLS_DER_UTC_TIME = 0x17,
    GM_TLS_DER_GENERAL_TIME = 0x18,
    GM_TLS_DER_VISIBLE = 0x1A,
    GM_TLS_DER_SEQUENCE = 0x30,
    GM_TLS_DER_SET = 0x31,
};

/* Borrows. */
struct gm_tls_span {
    const uint8_t *at;
    size_t len;
};

/* Takes one element off the front, whatever its tag. False: there is none, or it is cut short. */
bool gm_tls_der_any(struct gm_tls_span *in, uint8_t *tag, struct gm_tls_span *content);
/* The same for one tag only; nothing is taken when another comes. */
bool gm_tls_der_take(struct gm_tls_span *in, uint8_t tag, struct gm_tls_span *content);
/* A UTCTime or GeneralizedTime, as seconds since 1970 (RFC 5280 section 4.1.2.5). */
bool gm_tls_der_time(struct gm_tls_span *in, long long *out);
bool gm_tls_der_is(struct gm_tls_span span, const char *bytes, size_t len);

#endif
