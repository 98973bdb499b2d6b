/*
 * PEM blocks (RFC 7468) and the little DER (X.690) that key files need. Pure. Private to auth/.
 */
#ifndef GM_AUTH_PEM_H
#define GM_AUTH_PEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GM_PEM_LABEL_BYTES_MAX = 64 };

/* A block found in a text: its label (NUL-terminated) and where its base64 body lies. Borrowed. */
struct gm_pem_block {
    char label[GM_PEM_LABEL_BYTES_MAX];
    const char *body;
    size_t body_len;
};

/* The first block of `text`. False when there is no complete one. */
bool gm_pem_find(struct gm_pem_block *out, const char *text, size_t len);

/* A run of DER bytes; reading takes from its front. */
struct gm_der {
    const uint8_t *p;
    size_t len;
};

enum {
    GM_DER_INTEGER = 0x02,
    GM_DER_BIT_STRING = 0x03,
    GM_DER_OCTET_STRING = 0x04,
    GM_DER_NULL = 0x05,
    GM_DER_OID = 0x06,
    GM_DER_SEQUENCE = 0x30,
};

/* Takes one element with this tag off the front; *content is what it holds. False: not there. */
bool gm_der_take(struct gm_der *in, uint8_t tag, struct gm_der *content);

/* A positive INTEGER off the front, without its leading zero byte. */
bool gm_der_take_positive(struct gm_der *in, struct gm_der *digits);

/* The object identifier 1.2.840.113549.1.1.1 (rsaEncryption), content bytes. */
bool gm_der_is_rsa_oid(const struct gm_der *oid);

#endif
