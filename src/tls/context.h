/* Who we are and whom we trust: certificates, keys and roots, read from files and constant from
 * then on. A change of files makes a new context; sessions keep the one they began with.
 *
 * Any thread; reference counted (atomic). Reads files, so: never on a data ring. */
#ifndef GM_TLS_CONTEXT_H
#define GM_TLS_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define GM_TLS_WHY_BYTES 512u

/* Once per process, before anything else of tls/. */
int gm_tls_init(void) GM_WARN_UNUSED;
/* "wolfSSL 5.7.2, AES-NI, VAES, records: own" for the start-up log; static. */
const char *gm_tls_describe(void);
/* The library does AES in hardware: without it TLS costs forty times as much. */
bool gm_tls_accelerated(void);

/* ---- Server side ---- */

enum gm_tls_client_auth { GM_TLS_CLIENTS_ANY, GM_TLS_CLIENTS_OPTIONAL, GM_TLS_CLIENTS_REQUIRED };

struct gm_tls_server_config {
    const char *cert_file; /* PEM chain, leaf first; NULL when `directory` is given */
    const char *key_file;  /* PEM */
    /* Pairs NAME.crt + NAME.key (or NAME.pem + NAME.key), each serving the names in its
     * certificate (subjectAltName, wildcards as RFC 6125); NULL: none. Who asks for a name that no
     * pair has gets cert_file's, or the first pair in the order of their names. */
    const char *directory;
    const char *client_ca_file; /* PEM roots for client certificates; NULL: none asked for */
    const char *crl_file; /* PEM lists of clients' certificates that are revoked; NULL: none */
    enum gm_tls_client_auth client_auth;
};

struct gm_tls_server;
/* *out has one reference. Failure: negative, `why` (GM_TLS_WHY_BYTES) names the file, what is wrong
 * with it and what to do. */
int gm_tls_server_new(const struct gm_tls_server_config *config, struct gm_tls_server **out,
                      char *why) GM_WARN_UNUSED;
struct gm_tls_server *gm_tls_server_ref(struct gm_tls_server *server);
void gm_tls_server_put(struct gm_tls_server *server);
/* Number of pairs, and the soonest end of a certificate's validity (seconds since 1970), for log
 * and metrics. */
size_t gm_tls_server_pairs(const struct gm_tls_server *server);
long long gm_tls_server_not_after(const struct gm_tls_server *server);
/* The soonest nextUpdate of its revocation lists, likewise; LLONG_MAX: there is none. */
long long gm_tls_server_crl_until(const struct gm_tls_server *server);

/* ---- Client side ---- */

struct gm_tls_client_config {
    const char *ca_file; /* PEM roots instead of the system's; NULL: the system's */
    const char
        *crl_file;         /* PEM revocation lists, one or more: a certificate that its issuer's
                              list names is refused, and so is who it leads to. Issuers without a
                              list are believed, and lists that have expired still count. NULL: none */
    const char *cert_file; /* our own certificate, if the server asks; NULL: none */
    const char *key_file;
    bool insecure; /* any certificate will do: said loudly by the caller */
};

struct gm_tls_client;
int gm_tls_client_new(const struct gm_tls_client_config *config, struct gm_tls_client **out,
                      char *why) GM_WARN_UNUSED;
/* As gm_tls_server_crl_until. */
long long gm_tls_client_crl_until(const struct gm_tls_client *client);
struct gm_tls_client *gm_tls_client_ref(struct gm_tls_client *client);
void gm_tls_client_put(struct gm_tls_client *client);

#endif
