/* The certificates of a server: pairs of certificate and key, and which name gets which. Built by
 * one thread, constant from then on. Private to tls/. */
#ifndef GM_TLS_PAIRS_H
#define GM_TLS_PAIRS_H

#include "tls/internal.h"

/* Takes one pair more into `server`. -GM_E_CONFIG and others, `why` set. */
int gm_tls_pairs_add(struct gm_tls_server *server, const char *cert_file, const char *key_file,
                     char *why) GM_WARN_UNUSED;
/* All pairs of a directory, in the order of their names. */
int gm_tls_pairs_add_directory(struct gm_tls_server *server, const char *directory,
                               char *why) GM_WARN_UNUSED;
/* Sorts the names; after the last pair. */
void gm_tls_pairs_sort(struct gm_tls_server *server);
void gm_tls_pairs_free(struct gm_tls_server *server);

/* Gives `ctx` a certificate with its chain and its key; *not_after of the leaf. `server`: the
 * leaf's names are added for its pair_count-th pair; may be NULL. */
int gm_tls_pair_load(WOLFSSL_CTX *ctx, const char *cert_file, const char *key_file,
                     struct gm_tls_server *server, char *why) GM_WARN_UNUSED;
/* context.c: a new server CTX with the settings that all have. NULL: out of memory. */
WOLFSSL_CTX *gm_tls_server_ctx(void);

#endif
