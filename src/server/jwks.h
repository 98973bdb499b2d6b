/* A JWK Set that is fetched from an address: at start, again and again, and soon when a token names
 * a key that is not known.
 *
 * Owner: ring 0, which fetches; what has come is read by the control thread, to which `body`
 * belongs meanwhile. The last set that was good is kept, whatever happens to the address. */
#ifndef GM_SERVER_JWKS_H
#define GM_SERVER_JWKS_H

#include "auth/jwks.h"
#include "client/fetch.h"

/* After a token with an unknown key the set is fetched, but not sooner than this after the last
 * time: such tokens cost their sender nothing. */
#define GM_JWKS_WANTED_NS 30000000000ull
/* After failures: a second, twice that, and so on up to this (or the ordinary time, if shorter). */
#define GM_JWKS_RETRY_MAX_NS 30000000000ull
#define GM_JWKS_TIMEOUT_NS   10000000000ull

struct gm_server_ring;
struct gm_server_shared;

struct gm_jwks;

/* What the time of the next fetch depends on. */
struct gm_jwks_when {
    uint64_t past_ns; /* since the last one began */
    uint64_t refresh_ns;
    uint32_t failures; /* in a row */
    bool wanted;       /* a token has named an unknown key meanwhile */
};
/* It is time for a fetch. Pure. */
bool gm_jwks_is_due(const struct gm_jwks_when *when);

/* True when `source` is an address, not a file. */
bool gm_jwks_is_url(const char *source);

/* On the control thread: the set (taken) has been fetched and read. False: it cannot be used,
 * *error says why. */
typedef bool gm_jwks_take(struct gm_server_shared *shared, struct gm_keyset *set,
                          struct gm_auth_error *error);

/* What fetches from the configured address; failures have been logged with cause and cure. NULL in
 * *out where none is configured. */
int gm_jwks_new(struct gm_jwks **out, struct gm_server_shared *shared,
                gm_jwks_take *take) GM_WARN_UNUSED;
/* Rings and control thread stand: the first fetch begins. Accepts NULL, like those below. */
void gm_jwks_start(struct gm_jwks *jwks);
/* Any ring: a token names a key that nobody knows. */
void gm_jwks_want(struct gm_jwks *jwks);
/* On ring 0, at its end. */
void gm_jwks_ring_fini(struct gm_jwks *jwks);
/* The rings have gone. */
void gm_jwks_free(struct gm_jwks *jwks);

#endif
