/*
 * The token cache: what is remembered, for how long, for whom; that its bounds hold.
 */
#include <criterion/criterion.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/cache.h"
#include "fixture.h"
#include "keys.h"

static struct gm_token_cache cache;
static struct gm_token_answer answer;
static struct gm_keyset *keys;
static struct gm_jwt_rules rules;
static void *memory;
static char token[FIXTURE_TOKEN_ROOM];
static const struct gm_token_cache_limits tiny = {8, 8, 8};

static void start(const struct gm_token_cache_limits *limits)
{
    unsigned char secret[GM_TOKEN_CACHE_SECRET_BYTES];
    for (size_t i = 0; i < sizeof(secret); i++)
        secret[i] = (unsigned char)(i * 73 + 5);
    size_t bytes = gm_token_cache_bytes(limits);
    memory = aligned_alloc(64, bytes);
    memset(memory, 0, bytes);
    gm_token_cache_init(&cache, limits, memory, secret);
    keys = fixture_keys(key_a_public, NULL);
    rules = (struct gm_jwt_rules){keys, "gimlet"};
}

static void stop(void)
{
    gm_token_cache_fini(&cache);
    gm_keyset_put(keys);
    free(memory);
}

static struct gm_jwt_query query_at(enum gm_audience audience, int64_t now_s)
{
    return (struct gm_jwt_query){token, strlen(token), audience, now_s};
}

static enum gm_token_lookup look(enum gm_audience audience, int64_t now_s)
{
    struct gm_jwt_query query = query_at(audience, now_s);
    return gm_token_cache_lookup(&cache, &query, &answer);
}

static unsigned verify(enum gm_audience audience, int64_t now_s)
{
    struct gm_jwt_query query = query_at(audience, now_s);
    return gm_token_cache_verify(&cache, &rules, &query, &answer);
}

/* A signed client token of its own, valid until `exp`. */
static void client_token(int number, int exp)
{
    char payload[300];
    snprintf(payload, sizeof(payload),
             CLIENT_CLAIMS_OPEN ",\"n\":%d,\"nbf\":1700000000,\"exp\":%d}", number, exp);
    fixture_sign(key_a_private, 256, RS256_HEADER, payload, token);
}

Test(cache, sizes)
{
    struct gm_token_cache_limits limits = gm_token_cache_default_limits();
    size_t bytes = gm_token_cache_bytes(&limits);
    cr_expect_gt(bytes, 2u << 20);
    cr_expect_lt(bytes, 4u << 20);
    cr_expect_eq(bytes % 64, 0);
    limits.small_slots = UINT32_MAX;
    cr_expect_eq(gm_token_cache_bytes(&limits), 0);
    limits.small_slots = 1 << 23;
    cr_expect_eq(gm_token_cache_bytes(&limits), 0);
    struct gm_token_cache zeroed = {0};
    gm_token_cache_fini(&zeroed);
}

Test(cache, hit_needs_no_rsa_and_no_memory)
{
    start(&tiny);
    client_token(1, 1700000100);
    cr_assert_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_MISS);
    cr_expect_eq(cache.misses, 1);
    cr_assert_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 1);
    cr_assert_eq(answer.result, GM_JWT_OK);
    cr_expect(gm_principal_may_call(answer.principal, "svc", 3));

    struct mallinfo2 before = mallinfo2();
    for (int i = 0; i < 1000; i++) {
        cr_assert_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_HIT);
        cr_assert_eq(answer.result, GM_JWT_OK);
    }
    struct mallinfo2 after = mallinfo2();
    cr_expect_eq(before.uordblks, after.uordblks);
    cr_expect_eq(cache.hits, 1000);
    cr_expect(gm_principal_may_call(answer.principal, "svc", 3));
    /* The miss path, too, finds what has become known. */
    cr_expect_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 0);
    cr_expect_eq(answer.result, GM_JWT_OK);
    stop();
}

Test(cache, time_and_audience_are_asked_at_every_hit)
{
    start(&tiny);
    client_token(1, 1700000100);
    cr_assert_eq(verify(GM_AUDIENCE_AGENT, FIXTURE_NOW), 1);
    cr_expect_eq(answer.result, GM_JWT_UNAUTHORIZED);
    cr_expect_null(answer.principal);
    cr_assert_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_HIT);
    cr_expect_eq(answer.result, GM_JWT_OK);
    cr_assert_eq(look(GM_AUDIENCE_ANY, FIXTURE_NOW), GM_TOKEN_HIT);
    cr_expect_eq(answer.result, GM_JWT_OK);
    cr_assert_eq(look(GM_AUDIENCE_AGENT, FIXTURE_NOW), GM_TOKEN_HIT);
    cr_expect_eq(answer.result, GM_JWT_UNAUTHORIZED);

    cr_assert_eq(look(GM_AUDIENCE_CLIENT, 1700000099), GM_TOKEN_HIT);
    cr_expect_eq(answer.result, GM_JWT_OK);
    cr_assert_eq(look(GM_AUDIENCE_CLIENT, 1700000100), GM_TOKEN_HIT);
    cr_expect_eq(answer.result, GM_JWT_EXPIRED);
    cr_expect_null(answer.principal);
    /* A clock set back: not valid yet, though it was. */
    cr_assert_eq(look(GM_AUDIENCE_CLIENT, 1699999999), GM_TOKEN_HIT);
    cr_expect_eq(answer.result, GM_JWT_NOT_YET_VALID);
    stop();
}

Test(cache, flush_forgets)
{
    start(&tiny);
    client_token(1, 1700000100);
    cr_assert_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 1);
    gm_token_cache_flush(&cache);
    cr_assert_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_MISS);

    /* The reason to flush: other keys. */
    struct gm_keyset *others = fixture_keys(key_b_public, NULL);
    rules.keys = others;
    cr_assert_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 1);
    cr_expect_eq(answer.result, GM_JWT_INVALID_SIGNATURE);
    cr_assert_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_HIT);
    cr_expect_eq(answer.result, GM_JWT_INVALID_SIGNATURE);
    gm_token_cache_flush(&cache);
    rules.keys = keys;
    cr_assert_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_MISS);
    cr_assert_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 1);
    cr_expect_eq(answer.result, GM_JWT_OK);
    gm_keyset_put(others);
    stop();
}

/* The stored bytes decide: a token that differs anywhere is another token. */
Test(cache, near_misses)
{
    start(&tiny);
    client_token(1, 1700000100);
    cr_assert_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 1);
    size_t len = strlen(token);
    for (size_t i = 0; i < len; i++) {
        token[i] ^= 1;
        cr_assert_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_MISS, "%zu", i);
        token[i] ^= 1;
    }
    token[len - 1] = '\0';
    cr_assert_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_MISS);
    cr_expect_null(answer.principal);
    stop();
}

/*
 * A forged collision: the slot of a good token is made to carry the hash of another token of the
 * same length. Only the comparison of all bytes is left to tell them apart, and it does.
 */
Test(cache, hash_collision_lends_no_rights)
{
    start(&tiny);
    client_token(1, 1700000100);
    cr_assert_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 1);
    uint64_t good_tag = 0;
    size_t good_slot = 0;
    for (size_t i = 0; i < 8; i++) {
        if (cache.small.tags[i] != 0) {
            good_tag = cache.small.tags[i];
            good_slot = i;
        }
    }
    char good[FIXTURE_TOKEN_ROOM];
    memcpy(good, token, sizeof(good));
    client_token(2, 1700000100);
    cr_assert_eq(strlen(good), strlen(token));
    cr_assert_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 1);
    size_t other_slot = 0;
    for (size_t i = 0; i < 8; i++) {
        if (cache.small.tags[i] != 0 && cache.small.tags[i] != good_tag)
            other_slot = i;
    }
    /* The second token's tag and hash onto the first one's slot; its own slot is emptied. */
    cache.small.tags[good_slot] = cache.small.tags[other_slot];
    memcpy(cache.small.slots + good_slot * cache.small.slot_bytes,
           cache.small.slots + other_slot * cache.small.slot_bytes, sizeof(uint64_t));
    cache.small.tags[other_slot] = 0;
    cr_expect_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_MISS);
    stop();
}

Test(cache, refusals_are_short_and_bounded)
{
    start(&tiny);
    client_token(1, 1700000100);
    size_t len = strlen(token);
    memcpy(token + len - 5, "XXXXX", 5);
    cr_assert_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 1);
    cr_expect_eq(answer.result, GM_JWT_INVALID_SIGNATURE);
    cr_assert_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_HIT);
    cr_expect_eq(answer.result, GM_JWT_INVALID_SIGNATURE);
    cr_expect_eq(cache.refusal_hits, 1);
    cr_assert_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW + GM_TOKEN_CACHE_REFUSAL_SECONDS - 1),
                 GM_TOKEN_HIT);
    cr_assert_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW + GM_TOKEN_CACHE_REFUSAL_SECONDS),
                 GM_TOKEN_MISS);
    /* A clock set back by an hour does not make it live for an hour. */
    cr_assert_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW - 3600), GM_TOKEN_MISS);

    /* Bad tokens push out bad tokens only. */
    client_token(2, 1700000100);
    cr_assert_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 1);
    char good[FIXTURE_TOKEN_ROOM];
    memcpy(good, token, sizeof(good));
    for (int i = 0; i < 100; i++) {
        token[strlen(token) - 5] = (char)('a' + i % 10);
        token[strlen(token) - 4] = (char)('a' + i / 10);
        cr_assert_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 1);
    }
    cr_expect_geq(cache.evictions, 92);
    memcpy(token, good, sizeof(good));
    cr_expect_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_HIT);
    cr_expect_eq(answer.result, GM_JWT_OK);
    stop();
}

Test(cache, refusals_without_rsa_are_not_kept)
{
    start(&tiny);
    static const char *const cheap[] = {"a", "a.b.c", "e30.e30.AAAA"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(token, sizeof(token), "%s", cheap[i]);
        cr_expect_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_MISS);
        cr_expect_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 0);
        cr_expect_neq(answer.result, GM_JWT_OK);
        cr_expect_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_MISS);
    }
    token[0] = '\0';
    cr_expect_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_HIT);
    cr_expect_eq(answer.result, GM_JWT_MALFORMED);
    cr_expect_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 0);
    memset(token, 'a', GM_JWT_TOKEN_BYTES_MAX + 1);
    token[GM_JWT_TOKEN_BYTES_MAX + 1] = '\0';
    cr_expect_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_HIT);
    cr_expect_eq(answer.result, GM_JWT_MALFORMED);
    cr_expect_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 0);
    cr_expect_eq(answer.result, GM_JWT_MALFORMED);
    stop();
}

/* A token that becomes valid in two seconds is refused for two seconds, not for five. */
Test(cache, not_yet_valid_ends_on_time)
{
    start(&tiny);
    client_token(1, 1700000100);
    cr_assert_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW - 2), 1);
    cr_expect_eq(answer.result, GM_JWT_NOT_YET_VALID);
    cr_expect_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW - 1), GM_TOKEN_HIT);
    cr_expect_eq(answer.result, GM_JWT_NOT_YET_VALID);
    cr_expect_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_MISS);
    cr_assert_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 1);
    cr_expect_eq(answer.result, GM_JWT_OK);
    cr_expect_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_HIT);
    cr_expect_eq(answer.result, GM_JWT_OK);
    stop();
}

/* Eight slots: the one in use stays while strangers pass through; spare slots are taken first. */
Test(cache, eviction_spares_what_is_used)
{
    start(&tiny);
    client_token(0, 1700000100);
    char favourite[FIXTURE_TOKEN_ROOM];
    memcpy(favourite, token, sizeof(favourite));
    cr_assert_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 1);
    for (int i = 1; i < 8; i++) {
        client_token(i, 1700000010);
        cr_assert_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 1);
    }
    cr_expect_eq(cache.evictions, 0);
    for (int i = 8; i < 40; i++) {
        client_token(i, 1700000100);
        cr_assert_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 1);
        memcpy(token, favourite, sizeof(favourite));
        if (i > 8) /* the very first sweep finds every slot used and may take any */
            cr_expect_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_HIT, "%d", i);
        else if (look(GM_AUDIENCE_CLIENT, FIXTURE_NOW) == GM_TOKEN_MISS)
            cr_assert_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 1);
    }
    cr_expect_geq(cache.evictions, 32);
    /* Once all have expired, a new token evicts nobody. */
    uint64_t evictions = cache.evictions;
    client_token(99, 1700000900);
    cr_assert_eq(verify(GM_AUDIENCE_CLIENT, 1700000200), 1);
    cr_expect_eq(answer.result, GM_JWT_OK);
    cr_expect_eq(cache.evictions, evictions);
    stop();
}

/* The largest token there can be has a slot, beside the small ones. */
Test(cache, large_tokens)
{
    start(&tiny);
    char payload[GM_SIGN_PAYLOAD_BYTES_MAX + 1];
    size_t n = (size_t)snprintf(payload, sizeof(payload),
                                "{\"iss\":\"gimlet\",\"aud\":\"gimlet-client\",\"sub\":\"s\","
                                "\"exp\":1700000100,\"services\":[");
    for (int i = 0; i < GM_CLAIMS_SERVICES_MAX; i++)
        n += (size_t)snprintf(payload + n, sizeof(payload) - n, "%s\"service-%020d\"",
                              i > 0 ? "," : "", i);
    n += (size_t)snprintf(payload + n, sizeof(payload) - n, "],\"pad\":\"");
    while (n < sizeof(payload) - 10)
        payload[n++] = 'x';
    snprintf(payload + n, sizeof(payload) - n, "\"}");
    fixture_sign(key_a_private, 256, RS256_HEADER, payload, token);
    cr_assert_gt(strlen(token), 7000);
    cr_assert_eq(verify(GM_AUDIENCE_CLIENT, FIXTURE_NOW), 1);
    cr_assert_eq(answer.result, GM_JWT_OK);
    cr_assert_eq(look(GM_AUDIENCE_CLIENT, FIXTURE_NOW), GM_TOKEN_HIT);
    cr_assert_eq(answer.result, GM_JWT_OK);
    cr_expect(gm_principal_may_call(answer.principal, "service-00000000000000000127", 28));
    cr_expect_not(gm_principal_may_call(answer.principal, "service-00000000000000000128", 28));
    stop();
}
