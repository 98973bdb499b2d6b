/*
 * The token cache of one ring: known tokens cost no RSA, no JSON and no allocation. One owner
 * thread; everything it uses is carved out of memory given at start, so nothing a peer sends can
 * make it grow.
 *
 * Three set-associative tables share one lookup: small and large accepted tokens, and refusals.
 * Refusals have their own table, so a flood of bad tokens cannot push good ones out. Only refusals
 * that cost RSA are kept.
 *
 * Collisions: the slot is found by XXH3-128 under a random secret, but an accepted token is
 * recognised only when its stored bytes are all equal (constant-time compare), so that no collision
 * can lend anyone another's rights. The bytes themselves, not a SHA-256: comparing 700 of them was
 * measured at 70 ns, hashing them at 570 ns (bundled wolfCrypt) to 3,200 ns (Debian's). A refusal
 * stores hash and length only: a collision there needs the secret and can only refuse, for seconds.
 */
#ifndef GM_AUTH_CACHE_H
#define GM_AUTH_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/jwt.h"
#include "auth/principal.h"

enum {
    GM_TOKEN_CACHE_SECRET_BYTES = 192, /* XXH3_SECRET_DEFAULT_SIZE */
    GM_TOKEN_CACHE_WAYS = 8,
    GM_TOKEN_CACHE_SMALL_BYTES =
        1024, /* token + principal: an RS256 token of a few claims is ~700 */
    GM_TOKEN_CACHE_REFUSAL_SECONDS = 5, /* longest life of a refusal */
};

/* How many tokens each table holds; rounded up to a power of two, at least GM_TOKEN_CACHE_WAYS
 * each. */
struct gm_token_cache_limits {
    uint32_t small_slots;   /* 1 KiB each: default 2048 */
    uint32_t large_slots;   /* 13 KiB each: default 64 */
    uint32_t refusal_slots; /* 32 bytes each: default 1024 */
};

struct gm_token_cache_table {
    unsigned char *slots; /* sets × GM_TOKEN_CACHE_WAYS slots of slot_bytes */
    uint64_t *tags;       /* first half of the hash of each slot, 0 = empty: one line per set */
    uint8_t *hands;       /* CLOCK hand of each set */
    uint32_t sets_mask;
    uint32_t slot_bytes;
};

struct gm_token_cache {
    struct gm_token_cache_table small, large, refusals;
    uint32_t epoch;                                 /* raised by flush: older entries are misses */
    uint64_t hits, misses, refusal_hits, evictions; /* for metrics; only the owner writes */
    unsigned char secret[GM_TOKEN_CACHE_SECRET_BYTES];
};

/* The defaults named above. */
struct gm_token_cache_limits gm_token_cache_default_limits(void);

/* Bytes of memory, aligned to 64, that a cache of these limits needs; 0 when they are absurd (over
 * 4 GiB). */
size_t gm_token_cache_bytes(const struct gm_token_cache_limits *limits);

/*
 * Carves the cache out of `memory` (gm_token_cache_bytes bytes, zeroed, aligned to 64; borrowed
 * until fini; pages are touched only as tokens arrive). `secret` is GM_TOKEN_CACHE_SECRET_BYTES of
 * a CSPRNG, copied; each ring has its own.
 */
void gm_token_cache_init(struct gm_token_cache *cache, const struct gm_token_cache_limits *limits,
                         void *memory, const unsigned char *secret);

/* Wipes tokens and secret. The memory goes back to its owner. Accepts a zeroed cache. */
void gm_token_cache_fini(struct gm_token_cache *cache);

/* Forgets everything in O(1): call when the key set or the issuer changes. */
void gm_token_cache_flush(struct gm_token_cache *cache);

enum gm_token_lookup {
    GM_TOKEN_MISS = 0, /* unknown: verify, within the turn's RSA budget */
    GM_TOKEN_HIT,      /* answered: see *result */
};

/* The answer to one token. */
struct gm_token_answer {
    enum gm_jwt_result result;
    const struct gm_principal *principal; /* set exactly when result is GM_JWT_OK */
    bool key_unknown; /* it has just been refused by keys of which none has the name it gives */
};

/*
 * Hit path: O(1), no allocation, no RSA, time checked against the query's again. The principal is
 * borrowed until the next gm_token_cache_verify or gm_token_cache_flush on this cache: authorise at
 * once, and copy (memcpy of size_bytes) what a link must keep. A known token of the other audience
 * is GM_JWT_UNAUTHORIZED, an over-long or empty one GM_JWT_MALFORMED, without a miss.
 */
enum gm_token_lookup gm_token_cache_lookup(struct gm_token_cache *cache,
                                           const struct gm_jwt_query *query,
                                           struct gm_token_answer *out);

/*
 * Miss path: verifies by `rules`, keeps the outcome where that saves RSA later, and answers like a
 * lookup. A token that has become known since the miss costs nothing. May evict: earlier principals
 * of this cache are gone. Returns the number of RSA operations spent, for the caller's budget.
 */
unsigned gm_token_cache_verify(struct gm_token_cache *cache, const struct gm_jwt_rules *rules,
                               const struct gm_jwt_query *query, struct gm_token_answer *out);

#endif
