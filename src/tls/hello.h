/* What a server must know of a ClientHello before it answers: the name asked for (SNI, RFC 6066
 * section 3), out of input that is not consumed. Pure. Private to tls/. */
#ifndef GM_TLS_HELLO_H
#define GM_TLS_HELLO_H

#include "base/chain.h"
#include "tls/names.h"

/* The longest hello we wait for. Those of browsers with post-quantum shares have 2 KiB. */
#define GM_TLS_HELLO_MAX (16u << 10)

struct gm_tls_hello {
    char name[GM_TLS_NAME_BYTES]; /* normal; "" when none was asked for, or none that a host has */
    uint32_t missing;             /* not whole: at least so many bytes are still to come */
    bool headless; /* whole, in records of which the first has not even the message's header:
                      allowed (RFC 8446 section 5.1), but more than the library bears */
};

/* Looks at the hello at the front of `in`, over slices and records. 1: it is whole, or it is
 * something that the library had better refuse; 0: more is needed; negative: -GM_E_TLS_PLAINTEXT
 * (text where TLS was expected), -GM_E_TLS_RECORD (neither), -GM_E_LIMIT (too long). */
int gm_tls_hello_peek(const struct gm_chain *in, struct gm_tls_hello *out) GM_WARN_UNUSED;
/* For one that is headless: takes it out of `in`, and gives it as one record (owned by the caller,
 * who frees it). NULL: out of memory, nothing has happened. */
uint8_t *gm_tls_hello_join(struct gm_chain *in, struct gm_seg_pool *segs,
                           uint32_t *len) GM_WARN_UNUSED;
/* The same judgement of a first byte alone: 0, -GM_E_TLS_PLAINTEXT or -GM_E_TLS_RECORD. */
int gm_tls_hello_first_byte(const struct gm_chain *in) GM_WARN_UNUSED;

#endif
