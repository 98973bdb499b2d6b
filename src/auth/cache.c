/*
 * The token cache of one ring. Memory: for each table an array of tags (one cache line per set),
 * one of CLOCK hands, one of slots. A slot is a header, then the principal, then the token's bytes.
 */
#include "auth/cache.h"

#include <stdbool.h>
#include <string.h>
#include <xxhash.h>

#include "base/assert.h"
#include "base/equal.h"

enum {
    WAYS = GM_TOKEN_CACHE_WAYS,
    LINE_BYTES = 64,
    SETS_MAX = 1 << 20, /* of one table; far above any use, keeps sizes within 64 bits */
};

_Static_assert(WAYS * sizeof(uint64_t) == LINE_BYTES, "the tags of a set are one cache line");
_Static_assert(GM_TOKEN_CACHE_SECRET_BYTES >= XXH3_SECRET_SIZE_MIN, "the hash needs this much");

struct slot {
    uint64_t hash_low;  /* the half of the hash that is not the tag */
    int64_t deadline_s; /* refusals: forgotten from then on; accepted tokens: their exp */
    uint32_t epoch;
    uint16_t token_len;
    uint8_t result;     /* enum gm_jwt_result */
    uint8_t used;       /* CLOCK's reference bit */
    uint64_t content[]; /* struct gm_principal, then the token; nothing for a refusal */
};

_Static_assert(sizeof(struct slot) == 24, "small tokens count on it");

enum {
    LARGE_BYTES =
        (sizeof(struct slot) + GM_PRINCIPAL_BYTES_MAX + GM_JWT_TOKEN_BYTES_MAX + LINE_BYTES - 1) /
        LINE_BYTES * LINE_BYTES,
    REFUSAL_BYTES = 32,
};

/* A token's place: tag and set come from different bits of the hash. */
struct key {
    uint64_t tag; /* never 0 */
    uint64_t low;
};

static struct key key_of(const struct gm_token_cache *cache, const char *token, size_t len)
{
    XXH128_hash_t hash = XXH3_128bits_withSecret(token, len, cache->secret, sizeof(cache->secret));
    return (struct key){hash.high64 != 0 ? hash.high64 : 1, hash.low64};
}

static struct slot *slot_at(const struct gm_token_cache_table *table, size_t index)
{
    return (struct slot *)(void *)(table->slots + index * table->slot_bytes);
}

static const struct gm_principal *principal_of(const struct slot *slot)
{
    return (const struct gm_principal *)(const void *)slot->content;
}

static char *token_of(struct slot *slot, size_t principal_bytes)
{
    return (char *)slot->content + principal_bytes;
}

/* Is this slot the token's? Accepted tokens by all their bytes, refusals by the whole hash. */
static bool slot_holds(struct slot *slot, struct key key, const struct gm_jwt_query *query)
{
    if (slot->hash_low != key.low || slot->token_len != query->token_len)
        return false;
    if (slot->result != GM_JWT_OK)
        return true;
    return gm_equal_constant_time(token_of(slot, principal_of(slot)->size_bytes), query->token,
                                  query->token_len);
}

/* The live slot that holds the token, or NULL. */
static struct slot *table_find(const struct gm_token_cache *cache,
                               const struct gm_token_cache_table *table, struct key key,
                               const struct gm_jwt_query *query)
{
    size_t first = (size_t)(key.low & table->sets_mask) * WAYS;
    for (size_t way = 0; way < WAYS; way++) {
        if (table->tags[first + way] != key.tag)
            continue;
        struct slot *slot = slot_at(table, first + way);
        if (slot->epoch == cache->epoch && slot_holds(slot, key, query))
            return slot;
    }
    return NULL;
}

/* Empty, of an older epoch, or past its deadline: nobody will miss it. */
static bool slot_is_spare(const struct gm_token_cache *cache,
                          const struct gm_token_cache_table *table, size_t index, int64_t now_s)
{
    if (table->tags[index] == 0)
        return true;
    const struct slot *slot = slot_at(table, index);
    return slot->epoch != cache->epoch || now_s >= slot->deadline_s;
}

/* A slot of the key's set to be overwritten: a spare one, else by CLOCK. Tagged, fields unset. */
static struct slot *table_claim(struct gm_token_cache *cache, struct gm_token_cache_table *table,
                                struct key key, int64_t now_s)
{
    size_t set = (size_t)(key.low & table->sets_mask);
    size_t first = set * WAYS;
    size_t way = 0;
    while (way < WAYS && !slot_is_spare(cache, table, first + way, now_s))
        way++;
    if (way == WAYS) {
        cache->evictions++;
        way = table->hands[set];
        /* At most one round clears bits, the next finds one clear. */
        while (slot_at(table, first + way)->used != 0) {
            slot_at(table, first + way)->used = 0;
            way = (way + 1) % WAYS;
        }
        table->hands[set] = (uint8_t)((way + 1) % WAYS);
    }
    table->tags[first + way] = key.tag;
    return slot_at(table, first + way);
}

static void answer(struct gm_token_answer *out, enum gm_jwt_result result)
{
    *out = (struct gm_token_answer){.result = result};
}

/* A known good token: is it good now, and for this? */
static void answer_principal(struct gm_token_answer *out, const struct gm_principal *principal,
                             const struct gm_jwt_query *query)
{
    if (query->now_s >= principal->expires_s)
        answer(out, GM_JWT_EXPIRED);
    else if (query->now_s < principal->not_before_s)
        answer(out, GM_JWT_NOT_YET_VALID);
    else if (query->audience != GM_AUDIENCE_ANY && query->audience != principal->audience)
        answer(out, GM_JWT_UNAUTHORIZED);
    else
        *out = (struct gm_token_answer){.result = GM_JWT_OK, .principal = principal};
}

/* Refusals hold for seconds, by a clock that may have been set back since. */
static bool refusal_is_current(const struct slot *slot, int64_t now_s)
{
    return now_s < slot->deadline_s && slot->deadline_s - now_s <= GM_TOKEN_CACHE_REFUSAL_SECONDS;
}

static enum gm_token_lookup find_answer(struct gm_token_cache *cache, struct key key,
                                        const struct gm_jwt_query *query,
                                        struct gm_token_answer *out)
{
    struct slot *slot = table_find(cache, &cache->small, key, query);
    if (slot == NULL)
        slot = table_find(cache, &cache->large, key, query);
    if (slot != NULL) {
        slot->used = 1;
        cache->hits++;
        answer_principal(out, principal_of(slot), query);
        return GM_TOKEN_HIT;
    }
    slot = table_find(cache, &cache->refusals, key, query);
    if (slot != NULL && refusal_is_current(slot, query->now_s)) {
        slot->used = 1;
        cache->refusal_hits++;
        answer(out, (enum gm_jwt_result)slot->result);
        return GM_TOKEN_HIT;
    }
    answer(out, GM_JWT_UNAUTHORIZED);
    return GM_TOKEN_MISS;
}

enum gm_token_lookup gm_token_cache_lookup(struct gm_token_cache *cache,
                                           const struct gm_jwt_query *query,
                                           struct gm_token_answer *out)
{
    if (query->token_len == 0 || query->token_len > GM_JWT_TOKEN_BYTES_MAX) {
        answer(out, GM_JWT_MALFORMED);
        return GM_TOKEN_HIT;
    }
    struct key key = key_of(cache, query->token, query->token_len);
    enum gm_token_lookup found = find_answer(cache, key, query, out);
    if (found == GM_TOKEN_MISS)
        cache->misses++;
    return found;
}

static const struct gm_principal *keep_accepted(struct gm_token_cache *cache, struct key key,
                                                const struct gm_jwt_query *query,
                                                const struct gm_claims *claims)
{
    size_t principal_bytes = gm_principal_size(claims);
    size_t needed = sizeof(struct slot) + principal_bytes + query->token_len;
    struct gm_token_cache_table *table =
        needed <= cache->small.slot_bytes ? &cache->small : &cache->large;
    GM_ASSERT(needed <= table->slot_bytes);

    struct slot *slot = table_claim(cache, table, key, query->now_s);
    slot->hash_low = key.low;
    slot->deadline_s = claims->expires_s;
    slot->epoch = cache->epoch;
    slot->token_len = (uint16_t)query->token_len;
    slot->result = GM_JWT_OK;
    slot->used = 1;
    memcpy(token_of(slot, principal_bytes), query->token, query->token_len);
    return gm_principal_pack(claims, slot->content);
}

static void keep_refusal(struct gm_token_cache *cache, struct key key,
                         const struct gm_jwt_query *query, enum gm_jwt_result result,
                         int64_t deadline_s)
{
    struct slot *slot = table_claim(cache, &cache->refusals, key, query->now_s);
    slot->hash_low = key.low;
    slot->deadline_s = deadline_s;
    slot->epoch = cache->epoch;
    slot->token_len = (uint16_t)query->token_len;
    slot->result = (uint8_t)result;
    slot->used = 0; /* a bad token that nobody repeats goes first */
}

unsigned gm_token_cache_verify(struct gm_token_cache *cache, const struct gm_jwt_rules *rules,
                               const struct gm_jwt_query *query, struct gm_token_answer *out)
{
    answer(out, GM_JWT_MALFORMED);
    if (query->token_len == 0 || query->token_len > GM_JWT_TOKEN_BYTES_MAX)
        return 0;
    struct key key = key_of(cache, query->token, query->token_len);
    if (find_answer(cache, key, query, out) == GM_TOKEN_HIT)
        return 0;

    /* What is kept serves both audiences: which one is wanted is asked of the principal. */
    struct gm_jwt_query any = *query;
    struct gm_claims claims;
    any.audience = GM_AUDIENCE_ANY;
    enum gm_jwt_result result = gm_jwt_verify(rules, &any, &claims);
    if (result == GM_JWT_OK) {
        answer_principal(out, keep_accepted(cache, key, query, &claims), query);
        return claims.rsa_operations;
    }
    answer(out, result);
    out->key_unknown = result == GM_JWT_INVALID_SIGNATURE && claims.key_unknown;
    if (claims.rsa_operations > 0) {
        int64_t deadline_s = query->now_s + GM_TOKEN_CACHE_REFUSAL_SECONDS;
        if (result == GM_JWT_NOT_YET_VALID && claims.not_before_s < deadline_s)
            deadline_s = claims.not_before_s;
        keep_refusal(cache, key, query, result, deadline_s);
    }
    return claims.rsa_operations;
}

struct gm_token_cache_limits gm_token_cache_default_limits(void)
{
    return (struct gm_token_cache_limits){
        .small_slots = 2048, .large_slots = 64, .refusal_slots = 1024};
}

/* Sets for this many slots: a power of two; 0 when there are too many. */
static size_t sets_for(uint32_t slots)
{
    size_t sets = 1;
    while (sets * WAYS < slots && sets <= SETS_MAX)
        sets *= 2;
    return sets <= SETS_MAX ? sets : 0;
}

static size_t whole_lines(size_t bytes)
{
    return (bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
}

static size_t table_bytes(size_t sets, size_t slot_bytes)
{
    return sets * LINE_BYTES + whole_lines(sets) + sets * WAYS * slot_bytes;
}

size_t gm_token_cache_bytes(const struct gm_token_cache_limits *limits)
{
    size_t small = sets_for(limits->small_slots);
    size_t large = sets_for(limits->large_slots);
    size_t refusals = sets_for(limits->refusal_slots);
    if (small == 0 || large == 0 || refusals == 0)
        return 0;
    size_t bytes = table_bytes(small, GM_TOKEN_CACHE_SMALL_BYTES) +
                   table_bytes(large, LARGE_BYTES) + table_bytes(refusals, REFUSAL_BYTES);
    return bytes <= UINT32_MAX ? bytes : 0;
}

/* Carves one table off the front of *memory. */
static void table_init(struct gm_token_cache_table *table, size_t sets, uint32_t slot_bytes,
                       unsigned char **memory)
{
    table->tags = (uint64_t *)(void *)*memory;
    table->hands = *memory + sets * LINE_BYTES;
    table->slots = table->hands + whole_lines(sets);
    table->sets_mask = (uint32_t)(sets - 1);
    table->slot_bytes = slot_bytes;
    *memory += table_bytes(sets, slot_bytes);
}

void gm_token_cache_init(struct gm_token_cache *cache, const struct gm_token_cache_limits *limits,
                         void *memory, const unsigned char *secret)
{
    unsigned char *next = memory;
    GM_ASSERT(gm_token_cache_bytes(limits) > 0 && (uintptr_t)memory % LINE_BYTES == 0);
    memset(cache, 0, sizeof(*cache));
    memcpy(cache->secret, secret, sizeof(cache->secret));
    table_init(&cache->small, sets_for(limits->small_slots), GM_TOKEN_CACHE_SMALL_BYTES, &next);
    table_init(&cache->large, sets_for(limits->large_slots), LARGE_BYTES, &next);
    table_init(&cache->refusals, sets_for(limits->refusal_slots), REFUSAL_BYTES, &next);
}

/* Only slots that were ever used are wiped: the others' pages were never touched. */
static void table_wipe(struct gm_token_cache_table *table)
{
    size_t slots = table->slots == NULL ? 0 : ((size_t)table->sets_mask + 1) * WAYS;
    for (size_t i = 0; i < slots; i++) {
        if (table->tags[i] != 0)
            explicit_bzero(slot_at(table, i), table->slot_bytes);
        table->tags[i] = 0;
    }
}

void gm_token_cache_fini(struct gm_token_cache *cache)
{
    table_wipe(&cache->small);
    table_wipe(&cache->large);
    table_wipe(&cache->refusals);
    explicit_bzero(cache, sizeof(*cache));
}

void gm_token_cache_flush(struct gm_token_cache *cache)
{
    cache->epoch++;
}
