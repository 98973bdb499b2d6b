/* The server's certificates: loaded at start, and again when their files change.
 *
 * Owner: the main thread until the rings stand, then the control thread, which builds a new set
 * apart from the rings and gives each of them a reference; connections keep the set that they began
 * with. A set that cannot be loaded changes nothing. */
#ifndef GM_SERVER_CERTS_H
#define GM_SERVER_CERTS_H

#include "control/watch.h"
#include "tls/context.h"

struct gm_server_ring;
struct gm_server_shared;

struct gm_certs {
    struct gm_server_shared *shared;
    struct gm_tls_server *newest; /* NULL: no TLS */
    struct gm_watch watch;
};

/* Loads what the configuration names; nothing, where it has no TLS port. Failures have been logged
 * with cause and cure. */
int gm_certs_load(struct gm_certs *certs, struct gm_server_shared *shared) GM_WARN_UNUSED;
/* Rings and control thread stand: begins to watch the files. */
void gm_certs_watch(struct gm_certs *certs);
/* The rings have gone. Accepts a zeroed struct. */
void gm_certs_fini(struct gm_certs *certs);

/* A ring's part: its reference, and what it has not taken yet. */
void gm_certs_ring_init(struct gm_certs *certs, struct gm_server_ring *ctx);
void gm_certs_ring_fini(struct gm_server_ring *ctx);

#endif
