/* Lists of revoked certificates (RFC 5280 section 5), and what they say of a chain.
 *
 * Built by one thread, then constant but for what has been verified since; any thread asks. A list
 * counts for the certificates of the issuer that it names. Whoever has no list is not asked about:
 * its certificates are accepted. A list beyond its nextUpdate still counts: what it revokes stays
 * revoked, what it does not name is accepted as if there were none. Private to tls/. */
#ifndef GM_TLS_CRL_H
#define GM_TLS_CRL_H

#include "tls/wolf.h"

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct gm_tls_crls;

/* Reads all lists of a PEM file. *out is the caller's. -GM_E_CONFIG and others, `why` set. */
int gm_tls_crls_load(const char *path, struct gm_tls_crls **out, char *why) GM_WARN_UNUSED;
/* Accepts NULL. */
void gm_tls_crls_free(struct gm_tls_crls *crls);
/* A root that is trusted: the lists in its name are verified with its key. NULL lists: nothing. */
void gm_tls_crls_meet(struct gm_tls_crls *crls, const uint8_t *der, size_t len);
/* After the last root. -GM_E_CONFIG: a list in the name of a root was not signed by it. */
int gm_tls_crls_check(const struct gm_tls_crls *crls, const char *path, char *why) GM_WARN_UNUSED;
/* The soonest nextUpdate, seconds since 1970; LLONG_MAX: none, or NULL lists. */
long long gm_tls_crls_until(const struct gm_tls_crls *crls);

/* Judges a chain that the library has verified against `ctx`, leaf first. 0; -GM_E_TLS_REVOKED: the
 * leaf; -GM_E_TLS_REVOKED_CHAIN: another one; -GM_E_TLS_CRL: the list of an issuer is not signed by
 * it; -GM_E_TLS: this is no certificate. */
int gm_tls_crls_judge(struct gm_tls_crls *crls, WOLFSSL_CTX *ctx, const WOLFSSL_BUFFER_INFO *certs,
                      int count) GM_WARN_UNUSED;

#endif
