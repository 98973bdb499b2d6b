/* The keys that tokens are checked with: loaded at start, again when their files change, and from
 * an address (jwks.h).
 *
 * Owner: the main thread until the rings stand, then the control thread, which makes a new set
 * apart from the rings and gives each of them a reference. A ring that takes one forgets every
 * token it knows, and drains the links whose token was signed with a key that is no longer there. A
 * file that cannot be used changes nothing: the keys before it stay. */
#ifndef GM_SERVER_KEYS_H
#define GM_SERVER_KEYS_H

#include "auth/jwt.h"
#include "control/watch.h"
#include "server/jwks.h"

struct gm_server_ring;
struct gm_server_shared;

struct gm_keys {
    struct gm_server_shared *shared;
    struct gm_keyset *loaded;  /* of the options and their files; NULL: there are none */
    struct gm_keyset *fetched; /* NULL: nothing has come, or nothing is fetched */
    struct gm_keyset *newest;  /* both: what the rings have, or are about to have; may be empty
                                  until something has been fetched */
    struct gm_watch watch;     /* without paths: no file is read */
    struct gm_jwks *jwks;      /* NULL: nothing is fetched */
};

/* Loads what the configuration names. Failures have been logged with cause and cure. */
int gm_keys_load(struct gm_keys *keys, struct gm_server_shared *shared) GM_WARN_UNUSED;
/* Rings and control thread stand: begins to watch the files, and to fetch. */
void gm_keys_watch(struct gm_keys *keys);
/* The rings have gone. Accepts a zeroed struct. */
void gm_keys_fini(struct gm_keys *keys);

/* A ring's part. */
struct gm_ring_keys {
    struct gm_keyset *set;     /* never NULL between init and fini */
    struct gm_jwt_rules rules; /* with that set */
    /* A newer one, or NULL. Writers: the control thread (acq_rel: publishes the set; takes back one
     * that was not taken) and the ring, which takes it (acquire). */
    _Atomic(struct gm_keyset *) next;
};
void gm_keys_ring_init(struct gm_keys *keys, struct gm_server_ring *ctx);
void gm_keys_ring_fini(struct gm_server_ring *ctx);
/* On the ring: a token has been refused by keys of which none has the name it gives. */
void gm_keys_ring_missed(struct gm_server_ring *ctx);
/* On the ring: takes a newer set if there is one, with all that follows from it. */
void gm_keys_ring_adopt(struct gm_server_ring *ctx);

#endif
