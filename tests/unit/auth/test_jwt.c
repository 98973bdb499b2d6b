/*
 * Verification of tokens: every rule of spec/gimlet.md §2.5 by hand-made, really signed tokens.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/base64.h"
#include "auth/glob.h"
#include "fixture.h"
#include "keys.h"

static struct gm_claims claims;
static char token[FIXTURE_TOKEN_ROOM];

Test(jwt, texts)
{
    cr_expect_str_eq(gm_jwt_text(GM_JWT_MALFORMED), "Token malformed");
    cr_expect_str_eq(gm_jwt_text(GM_JWT_UNSUPPORTED_METHOD), "Unsupported signing method");
    cr_expect_str_eq(gm_jwt_text(GM_JWT_INVALID_SIGNATURE), "Invalid signature");
    cr_expect_str_eq(gm_jwt_text(GM_JWT_EXPIRED), "Token expired");
    cr_expect_str_eq(gm_jwt_text(GM_JWT_NOT_YET_VALID), "Token not valid yet");
    cr_expect_str_eq(gm_jwt_text(GM_JWT_UNAUTHORIZED), "Unauthorized");
    cr_expect_str_eq(gm_jwt_text((enum gm_jwt_result)99), "Unauthorized");
    for (int i = 0; i < GM_JWT_RESULT_COUNT; i++)
        cr_expect_not_null(gm_jwt_text((enum gm_jwt_result)i));
}

/* One payload, properly signed by RS256, and what becomes of it at FIXTURE_NOW. */
struct payload_case {
    const char *what;
    const char *payload;
    enum gm_audience audience;
    enum gm_jwt_result result;
};

#define ANY    GM_AUDIENCE_ANY
#define CLIENT GM_AUDIENCE_CLIENT
#define AGENT  GM_AUDIENCE_AGENT
#define BASE   "\"iss\":\"gimlet\",\"sub\":\"s\",\"exp\":1700000100,"
#define CB     BASE "\"aud\":\"gimlet-client\",\"services\":[\"*\"]"

static const struct payload_case payload_cases[] = {
    {"client", CLIENT_CLAIMS, CLIENT, GM_JWT_OK},
    {"client for any", CLIENT_CLAIMS, ANY, GM_JWT_OK},
    {"client for agent", CLIENT_CLAIMS, AGENT, GM_JWT_UNAUTHORIZED},
    {"agent", AGENT_CLAIMS, AGENT, GM_JWT_OK},
    {"agent for any", AGENT_CLAIMS, ANY, GM_JWT_OK},
    {"agent for client", AGENT_CLAIMS, CLIENT, GM_JWT_UNAUTHORIZED},
    /* types */
    {"array", "[]", CLIENT, GM_JWT_MALFORMED},
    {"null", "null", CLIENT, GM_JWT_MALFORMED},
    {"string", "\"x\"", CLIENT, GM_JWT_MALFORMED},
    {"empty", "", CLIENT, GM_JWT_MALFORMED},
    {"garbage after", CLIENT_CLAIMS "x", CLIENT, GM_JWT_MALFORMED},
    {"white space around", " " CLIENT_CLAIMS " ", CLIENT, GM_JWT_OK},
    {"no claims", "{}", CLIENT, GM_JWT_UNAUTHORIZED},
    {"repeated name", "{" CB ",\"sub\":\"t\"}", CLIENT, GM_JWT_MALFORMED},
    {"number iss", "{\"iss\":1}", CLIENT, GM_JWT_MALFORMED},
    {"number sub", "{\"sub\":1}", CLIENT, GM_JWT_MALFORMED},
    {"number jti", "{\"jti\":1}", CLIENT, GM_JWT_MALFORMED},
    {"number aud", "{\"aud\":1}", CLIENT, GM_JWT_MALFORMED},
    {"number in aud", "{\"aud\":[1]}", CLIENT, GM_JWT_MALFORMED},
    {"number service", "{\"service\":1}", CLIENT, GM_JWT_MALFORMED},
    {"string services", "{\"services\":\"a\"}", CLIENT, GM_JWT_MALFORMED},
    {"number in services", "{\"services\":[\"a\",1]}", CLIENT, GM_JWT_MALFORMED},
    {"null in services", "{\"services\":[null]}", CLIENT, GM_JWT_MALFORMED},
    {"string scope", "{\"scope\":\"status\"}", CLIENT, GM_JWT_MALFORMED},
    {"object scope", "{\"scope\":{}}", CLIENT, GM_JWT_MALFORMED},
    {"number in scope", "{\"scope\":[1]}", CLIENT, GM_JWT_MALFORMED},
    {"string exp", "{\"exp\":\"1\"}", CLIENT, GM_JWT_MALFORMED},
    {"string nbf", "{\"nbf\":\"1\"}", CLIENT, GM_JWT_MALFORMED},
    {"string iat", "{\"iat\":\"1\"}", CLIENT, GM_JWT_MALFORMED},
    {"true exp", "{\"exp\":true}", CLIENT, GM_JWT_MALFORMED},
    {"escaped NUL", "{" CB ",\"x\":\"\\u0000\"}", CLIENT, GM_JWT_MALFORMED},
    {"invalid UTF-8", "{" CB ",\"x\":\"\xff\"}", CLIENT, GM_JWT_MALFORMED},
    {"depth 16", "{" CB ",\"x\":[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]}", CLIENT, GM_JWT_OK},
    {"depth 17", "{" CB ",\"x\":[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}", CLIENT, GM_JWT_MALFORMED},
    {"brackets in a string", "{" CB ",\"x\":\"\\\"[[[[[[[[[[[[[[[[[[[[[\"}", CLIENT, GM_JWT_OK},
    {"huge integer elsewhere", "{" CB ",\"x\":123456789012345678901234567890}", CLIENT, GM_JWT_OK},
    {"nulls are absent",
     "{" CB ",\"nbf\":null,\"iat\":null,\"jti\":null,\"service\":null,\"scope\":null}", CLIENT,
     GM_JWT_OK},
    {"other case of a name", "{\"ISS\":1,\"SERVICES\":1," CB "}", CLIENT, GM_JWT_OK},
    /* dates */
    {"exp now", "{" CB ",\"nbf\":1}", CLIENT, GM_JWT_OK},
    {"exp = now", "{\"exp\":1700000000}", CLIENT, GM_JWT_EXPIRED},
    {"exp a fraction after now", "{\"exp\":1700000000.9}", CLIENT, GM_JWT_EXPIRED},
    {"exp 0", "{\"exp\":0}", CLIENT, GM_JWT_EXPIRED},
    {"exp negative", "{\"exp\":-1.5e300}", CLIENT, GM_JWT_EXPIRED},
    {"exp null", CLIENT_CLAIMS_OPEN ",\"exp\":null}", CLIENT, GM_JWT_UNAUTHORIZED},
    {"exp absent", CLIENT_CLAIMS_OPEN "}", CLIENT, GM_JWT_UNAUTHORIZED},
    {"exp now + 1", CLIENT_CLAIMS_OPEN ",\"exp\":1700000001}", CLIENT, GM_JWT_OK},
    {"exp real", CLIENT_CLAIMS_OPEN ",\"exp\":1.700000001e9}", CLIENT, GM_JWT_OK},
    {"exp far", CLIENT_CLAIMS_OPEN ",\"exp\":99999999999999}", CLIENT, GM_JWT_OK},
    {"exp overflow", CLIENT_CLAIMS_OPEN ",\"exp\":1e400}", CLIENT, GM_JWT_MALFORMED},
    {"nbf = now", CLIENT_CLAIMS_OPEN ",\"exp\":1700000100,\"nbf\":1700000000}", CLIENT, GM_JWT_OK},
    {"nbf now + 1", CLIENT_CLAIMS_OPEN ",\"exp\":1700000100,\"nbf\":1700000001}", CLIENT,
     GM_JWT_NOT_YET_VALID},
    {"nbf without exp", CLIENT_CLAIMS_OPEN ",\"nbf\":1700000001}", CLIENT, GM_JWT_NOT_YET_VALID},
    {"exp wins over nbf", "{\"exp\":1,\"nbf\":1700000001}", CLIENT, GM_JWT_EXPIRED},
    {"iat in the future", CLIENT_CLAIMS_OPEN ",\"exp\":1700000100,\"iat\":1800000000}", CLIENT,
     GM_JWT_OK},
    {"expired wins over issuer", "{\"iss\":\"x\",\"exp\":1}", CLIENT, GM_JWT_EXPIRED},
    /* issuer, audience, subject, service */
    {"issuer",
     "{\"iss\":\"gimlet2\",\"sub\":\"s\",\"exp\":1700000100,\"aud\":\"gimlet-client\",\"services\":"
     "[\"*\"]}",
     CLIENT, GM_JWT_UNAUTHORIZED},
    {"issuer prefix",
     "{\"iss\":\"gimle\",\"sub\":\"s\",\"exp\":1700000100,\"aud\":\"gimlet-client\",\"services\":["
     "\"*\"]}",
     CLIENT, GM_JWT_UNAUTHORIZED},
    {"no issuer",
     "{\"sub\":\"s\",\"exp\":1700000100,\"aud\":\"gimlet-client\",\"services\":[\"*\"]}", CLIENT,
     GM_JWT_UNAUTHORIZED},
    {"no subject",
     "{\"iss\":\"gimlet\",\"exp\":1700000100,\"aud\":\"gimlet-client\",\"services\":[\"*\"]}",
     CLIENT, GM_JWT_UNAUTHORIZED},
    {"empty subject",
     "{\"iss\":\"gimlet\",\"sub\":\"\",\"exp\":1700000100,\"aud\":\"gimlet-client\",\"services\":["
     "\"*\"]}",
     CLIENT, GM_JWT_UNAUTHORIZED},
    {"no audience", "{" BASE "\"services\":[\"*\"]}", CLIENT, GM_JWT_UNAUTHORIZED},
    {"no audience, any", "{" BASE "\"services\":[\"*\"]}", ANY, GM_JWT_UNAUTHORIZED},
    {"null audience", "{" BASE "\"aud\":null,\"services\":[\"*\"]}", CLIENT, GM_JWT_UNAUTHORIZED},
    {"other audience", "{" BASE "\"aud\":\"gimlet\",\"services\":[\"*\"]}", ANY,
     GM_JWT_UNAUTHORIZED},
    {"audience list", "{" BASE "\"aud\":[\"gimlet-client\"],\"services\":[\"*\"]}", CLIENT,
     GM_JWT_OK},
    {"audience of two",
     "{" BASE "\"aud\":[\"gimlet-client\",\"gimlet-agent\"],\"services\":[\"*\"]}", CLIENT,
     GM_JWT_UNAUTHORIZED},
    {"audience twice",
     "{" BASE "\"aud\":[\"gimlet-client\",\"gimlet-client\"],\"services\":[\"*\"]}", CLIENT,
     GM_JWT_UNAUTHORIZED},
    {"audience of none", "{" BASE "\"aud\":[],\"services\":[\"*\"]}", CLIENT, GM_JWT_UNAUTHORIZED},
    {"client without services", "{" BASE "\"aud\":\"gimlet-client\"}", CLIENT, GM_JWT_UNAUTHORIZED},
    {"client with no services", "{" BASE "\"aud\":\"gimlet-client\",\"services\":[]}", CLIENT,
     GM_JWT_UNAUTHORIZED},
    {"client with service", "{" BASE "\"aud\":\"gimlet-client\",\"service\":\"x\"}", CLIENT,
     GM_JWT_UNAUTHORIZED},
    {"client with an empty pattern", "{" BASE "\"aud\":\"gimlet-client\",\"services\":[\"\"]}",
     CLIENT, GM_JWT_OK},
    {"agent without service", "{" BASE "\"aud\":\"gimlet-agent\",\"services\":[\"x\"]}", AGENT,
     GM_JWT_UNAUTHORIZED},
    {"agent with empty service", "{" BASE "\"aud\":\"gimlet-agent\",\"service\":\"\"}", AGENT,
     GM_JWT_UNAUTHORIZED},
};

Test(jwt, payloads)
{
    struct gm_keyset *keys = fixture_keys(key_a_public, NULL);
    struct gm_jwt_rules rules = {keys, "gimlet"};
    for (size_t i = 0; i < sizeof(payload_cases) / sizeof(payload_cases[0]); i++) {
        const struct payload_case *c = &payload_cases[i];
        size_t len = fixture_sign(key_a_private, 256, RS256_HEADER, c->payload, token);
        struct gm_jwt_query query = {token, len, c->audience, FIXTURE_NOW};
        enum gm_jwt_result result = gm_jwt_verify(&rules, &query, &claims);
        cr_expect_eq(result, c->result, "%s: %s", c->what, gm_jwt_text(result));
    }
    gm_keyset_put(keys);
}

Test(jwt, claims_come_out)
{
    struct gm_keyset *keys = fixture_keys(key_a_public, NULL);
    struct gm_jwt_rules rules = {keys, "acme"};
    size_t len = fixture_sign(
        key_a_private, 256, RS256_HEADER,
        "{\"iss\":\"acme\",\"aud\":[\"gimlet-agent\"],\"sub\":\"b\\u00f6b\",\"service\":\"svc\","
        "\"services\":[\"x\",\"y*\"],\"scope\":[\"status\"],\"exp\":1700000100.7,\"nbf\":5}",
        token);
    struct gm_jwt_query query = {token, len, AGENT, FIXTURE_NOW};
    cr_assert_eq(gm_jwt_verify(&rules, &query, &claims), GM_JWT_OK);
    cr_expect_eq(claims.expires_s, 1700000100);
    cr_expect_eq(claims.not_before_s, 5);
    cr_expect_eq(claims.audience, AGENT);
    cr_expect_eq(claims.rsa_operations, 1);
    cr_expect_eq(claims.services_count, 2);
    cr_expect_eq(claims.scopes_count, 1);
    cr_expect_eq(claims.subject.len, 4);
    cr_expect_eq(memcmp(claims.text + claims.subject.offset,
                        "b\xc3\xb6"
                        "b",
                        4),
                 0);
    cr_expect_eq(memcmp(claims.text + claims.services[1].offset, "y*", 2), 0);
    cr_expect_eq(memcmp(claims.text + claims.scopes[0].offset, "status", 6), 0);
    cr_expect_eq(memcmp(claims.text + claims.issuer.offset, "acme", 4), 0);
    gm_keyset_put(keys);
}

struct header_case {
    const char *header;
    const char *signature;
    enum gm_jwt_result result;
};

Test(jwt, headers)
{
    static const struct header_case cases[] = {
        {"{\"alg\":\"PS256\"}", "AAAA", GM_JWT_UNSUPPORTED_METHOD},
        {"{\"alg\":\"PS384\"}", "AAAA", GM_JWT_UNSUPPORTED_METHOD},
        {"{\"alg\":\"ES256\"}", "AAAA", GM_JWT_UNSUPPORTED_METHOD},
        {"{\"alg\":\"ES512\"}", "AAAA", GM_JWT_UNSUPPORTED_METHOD},
        {"{\"alg\":\"HS256\"}", "AAAA", GM_JWT_UNSUPPORTED_METHOD},
        {"{\"alg\":\"HS512\"}", "AAAA", GM_JWT_UNSUPPORTED_METHOD},
        {"{\"alg\":\"EdDSA\"}", "AAAA", GM_JWT_UNSUPPORTED_METHOD},
        {"{\"alg\":\"none\"}", "", GM_JWT_UNSUPPORTED_METHOD},
        {"{\"alg\":\"HS256\"}", "A!", GM_JWT_MALFORMED},
        {"{\"alg\":\"NONE\"}", "", GM_JWT_UNAUTHORIZED},
        {"{\"alg\":\"rs256\"}", "AAAA", GM_JWT_UNAUTHORIZED},
        {"{\"alg\":\"RS257\"}", "A!", GM_JWT_UNAUTHORIZED},
        {"{\"alg\":256}", "AAAA", GM_JWT_UNAUTHORIZED},
        {"{\"alg\":null}", "AAAA", GM_JWT_UNAUTHORIZED},
        {"{}", "AAAA", GM_JWT_UNAUTHORIZED},
        {"[]", "AAAA", GM_JWT_MALFORMED},
        {"", "AAAA", GM_JWT_MALFORMED},
        {"{\"alg\":\"RS256\"", "AAAA", GM_JWT_MALFORMED},
        {"{\"alg\":\"RS256\"}", "", GM_JWT_INVALID_SIGNATURE},
        {"{\"alg\":\"RS256\"}", "AAAA", GM_JWT_INVALID_SIGNATURE},
        {"{\"alg\":\"RS256\"}", "A", GM_JWT_MALFORMED},
        {"{\"alg\":\"RS256\"}", "AA==", GM_JWT_MALFORMED},
        {"{\"alg\":\"RS256\"}", "AA+/", GM_JWT_MALFORMED},
    };
    struct gm_keyset *keys = fixture_keys(key_a_public, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fixture_assemble(cases[i].header, CLIENT_CLAIMS, cases[i].signature, token);
        enum gm_jwt_result result = fixture_verify(keys, token, &claims);
        cr_expect_eq(result, cases[i].result, "%s %s: %s", cases[i].header, cases[i].signature,
                     gm_jwt_text(result));
        cr_expect_eq(claims.rsa_operations, 0);
    }
    gm_keyset_put(keys);
}

/* kid, typ and crit are ignored. */
Test(jwt, extra_header_members)
{
    struct gm_keyset *keys = fixture_keys(key_a_public, NULL);
    fixture_sign(key_a_private, 256, "{\"kid\":\"7\",\"crit\":[\"x\"],\"typ\":5,\"alg\":\"RS256\"}",
                 CLIENT_CLAIMS, token);
    cr_expect_eq(fixture_verify(keys, token, &claims), GM_JWT_OK);
    gm_keyset_put(keys);
}

Test(jwt, segments)
{
    struct gm_keyset *keys = fixture_keys(key_a_public, NULL);
    static const char *const bad[] = {"a",
                                      ".",
                                      "..",
                                      "...",
                                      "a.b",
                                      "a.b.c.d",
                                      "e30.e30",
                                      "e30.e30.AAAA.AAAA",
                                      "e30=.e30.AAAA",
                                      "e30.e30=.AAAA",
                                      "e3.e30.AAAA",
                                      "e30.e3.AAAA",
                                      "+.e30.AAAA"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect_eq(fixture_verify(keys, bad[i], &claims), GM_JWT_MALFORMED, "%s", bad[i]);

    fixture_sign(key_a_private, 256, RS256_HEADER, CLIENT_CLAIMS, token);
    size_t len = strlen(token);
    cr_assert_eq(fixture_verify(keys, token, &claims), GM_JWT_OK);
    token[len] = '.';
    token[len + 1] = '\0';
    cr_expect_eq(fixture_verify(keys, token, &claims), GM_JWT_MALFORMED);
    gm_keyset_put(keys);
}

Test(jwt, lengths)
{
    struct gm_keyset *keys = fixture_keys(key_a_public, NULL);
    struct gm_jwt_rules rules = {keys, "gimlet"};
    struct gm_jwt_query query = {token, 0, CLIENT, FIXTURE_NOW};
    cr_expect_eq(gm_jwt_verify(&rules, &query, &claims), GM_JWT_MALFORMED);

    size_t len = fixture_assemble(RS256_HEADER, CLIENT_CLAIMS, "", token);
    memset(token + len, 'A', sizeof(token) - len);
    query.token_len = GM_JWT_TOKEN_BYTES_MAX;
    cr_expect_eq(gm_jwt_verify(&rules, &query, &claims), (GM_JWT_TOKEN_BYTES_MAX - len) % 4 == 1
                                                             ? GM_JWT_MALFORMED
                                                             : GM_JWT_INVALID_SIGNATURE);
    query.token_len = GM_JWT_TOKEN_BYTES_MAX + 1;
    cr_expect_eq(gm_jwt_verify(&rules, &query, &claims), GM_JWT_MALFORMED);
    gm_keyset_put(keys);
}

Test(jwt, all_three_hashes_and_no_confusion_between_them)
{
    struct gm_keyset *keys = fixture_keys(key_a_public, NULL);
    static const char *const headers[] = {"{\"alg\":\"RS256\"}", "{\"alg\":\"RS384\"}",
                                          "{\"alg\":\"RS512\"}"};
    for (int signed_by = 0; signed_by < 3; signed_by++) {
        for (int named = 0; named < 3; named++) {
            fixture_sign(key_a_private, 256 + 128 * signed_by, headers[named], CLIENT_CLAIMS,
                         token);
            cr_expect_eq(fixture_verify(keys, token, &claims),
                         named == signed_by ? GM_JWT_OK : GM_JWT_INVALID_SIGNATURE);
        }
    }
    gm_keyset_put(keys);
}

/* The check that scripts make: the last five characters replaced must be a wrong signature. */
Test(jwt, last_five_characters)
{
    struct gm_keyset *keys = fixture_keys(key_a_public, NULL);
    size_t len = fixture_sign(key_a_private, 256, RS256_HEADER, CLIENT_CLAIMS, token);
    memcpy(token + len - 5, "XXXXX", 5);
    cr_expect_eq(fixture_verify(keys, token, &claims), GM_JWT_INVALID_SIGNATURE);
    gm_keyset_put(keys);
}

/* Any changed character of a good token is refused, whichever way; only unused trailing bits pass.
 */
Test(jwt, tampered_at_every_position, .timeout = 60)
{
    struct gm_keyset *keys = fixture_keys(key_a_public, NULL);
    size_t len = fixture_sign(key_a_private, 256, RS256_HEADER, CLIENT_CLAIMS, token);
    for (size_t i = 0; i < len; i++) {
        char was = token[i];
        token[i] = was == 'A' ? 'g' : 'A';
        enum gm_jwt_result result = fixture_verify(keys, token, &claims);
        token[i] = '!';
        enum gm_jwt_result foreign = fixture_verify(keys, token, &claims);
        token[i] = was;
        cr_expect_neq(result, GM_JWT_OK, "position %zu", i);
        cr_expect_eq(foreign, GM_JWT_MALFORMED, "position %zu", i);
    }
    /* 342 characters carry 2052 bits: the last four are no part of the signature. */
    char *last = &token[len - 1];
    const char *alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    long value = strchr(alphabet, *last) - alphabet;
    *last = alphabet[value ^ 0x0f];
    cr_expect_eq(fixture_verify(keys, token, &claims), GM_JWT_OK);
    *last = alphabet[value ^ 0x10];
    cr_expect_eq(fixture_verify(keys, token, &claims), GM_JWT_INVALID_SIGNATURE);
    gm_keyset_put(keys);
}

Test(jwt, truncated_at_every_position)
{
    struct gm_keyset *keys = fixture_keys(key_a_public, NULL);
    struct gm_jwt_rules rules = {keys, "gimlet"};
    size_t len = fixture_sign(key_a_private, 256, RS256_HEADER, CLIENT_CLAIMS, token);
    for (size_t cut = 0; cut < len; cut++) {
        char *copy = malloc(cut + 1); /* its own block, so that a sanitizer sees any step past it */
        memcpy(copy, token, cut);
        struct gm_jwt_query query = {copy, cut, CLIENT, FIXTURE_NOW};
        cr_assert_neq(gm_jwt_verify(&rules, &query, &claims), GM_JWT_OK, "%zu", cut);
        free(copy);
    }
    gm_keyset_put(keys);
}

Test(jwt, several_keys)
{
    struct gm_keyset *all = fixture_keys(key_b_public, key_c_public, key_a_public, NULL);
    struct gm_keyset *others = fixture_keys(key_b_public, key_c_public, NULL);
    fixture_sign(key_a_private, 256, RS256_HEADER, CLIENT_CLAIMS, token);
    cr_expect_eq(fixture_verify(all, token, &claims), GM_JWT_OK);
    /* The 4096-bit key cannot have made this signature: it is not tried. */
    cr_expect_eq(claims.rsa_operations, 2);
    cr_expect_eq(fixture_verify(others, token, &claims), GM_JWT_INVALID_SIGNATURE);
    cr_expect_eq(claims.rsa_operations, 1);

    fixture_sign(key_b_private, 256, RS256_HEADER, CLIENT_CLAIMS, token);
    cr_expect_eq(fixture_verify(all, token, &claims), GM_JWT_OK);
    cr_expect_eq(claims.rsa_operations, 1);
    fixture_sign(key_c_private, 512, "{\"alg\":\"RS512\"}", CLIENT_CLAIMS, token);
    cr_expect_eq(fixture_verify(all, token, &claims), GM_JWT_OK);

    /* Expired by the first of three keys: called expired all the same. */
    fixture_sign(key_b_private, 256, RS256_HEADER, CLIENT_CLAIMS_OPEN ",\"exp\":5}", token);
    cr_expect_eq(fixture_verify(all, token, &claims), GM_JWT_EXPIRED);
    gm_keyset_put(all);
    gm_keyset_put(others);
}

/* signature + modulus is the same number to RSA, and must not be a second form of the same token.
 */
Test(jwt, signature_not_below_the_modulus)
{
    struct gm_keyset *keys = fixture_keys(key_a_public, NULL);
    const struct gm_public_key *key = &keys->keys[0];
    uint8_t signature[300];
    size_t found = 0;
    for (int i = 0; i < 64 && found == 0; i++) {
        char payload[300];
        snprintf(payload, sizeof(payload), CLIENT_CLAIMS_OPEN ",\"exp\":1700000100,\"n\":%d}", i);
        size_t len = fixture_sign(key_a_private, 256, RS256_HEADER, payload, token);
        char *text = strrchr(token, '.') + 1;
        cr_assert_eq(gm_base64url_decode(signature, text, strlen(text)), 256);
        unsigned carry = 0;
        for (size_t k = 256; k-- > 0;) {
            unsigned sum = (unsigned)signature[k] + key->modulus[k] + carry;
            signature[k] = (uint8_t)sum;
            carry = sum >> 8;
        }
        found = carry == 0 ? len : 0;
        if (found != 0) {
            size_t n = gm_base64url_encode(text, signature, 256);
            text[n] = '\0';
        }
    }
    /* With a modulus of 0.5 to 1 times 2^2048, a sum without carry turns up soon, or never can. */
    if (found == 0)
        cr_skip("no signature of this key leaves room for the modulus");
    cr_expect_eq(fixture_verify(keys, token, &claims), GM_JWT_INVALID_SIGNATURE);
    cr_expect_eq(claims.rsa_operations, 0);
    gm_keyset_put(keys);
}

/* A payload with `count` services of `len` characters. */
static void many_services(char *payload, size_t room, size_t count, size_t len)
{
    size_t n = (size_t)snprintf(payload, room, "{" BASE "\"aud\":\"gimlet-client\",\"services\":[");
    for (size_t i = 0; i < count; i++) {
        n += (size_t)snprintf(payload + n, room - n, "%s\"%0*d\"", i > 0 ? "," : "", (int)len, 7);
    }
    snprintf(payload + n, room - n, "]}");
}

Test(jwt, limits)
{
    static const struct {
        size_t count, len;
        enum gm_jwt_result result;
    } cases[] = {
        {GM_CLAIMS_SERVICES_MAX, 20, GM_JWT_OK},
        {GM_CLAIMS_SERVICES_MAX + 1, 20, GM_JWT_MALFORMED},
        {1, GM_CLAIMS_NAME_BYTES_MAX, GM_JWT_OK},
        {1, GM_CLAIMS_NAME_BYTES_MAX + 1, GM_JWT_MALFORMED},
        {(GM_CLAIMS_TEXT_BYTES - 7) / 240, 240, GM_JWT_OK},
        {(GM_CLAIMS_TEXT_BYTES - 7) / 240 + 1, 240, GM_JWT_MALFORMED},
    };
    char payload[GM_SIGN_PAYLOAD_BYTES_MAX + 1];
    struct gm_keyset *keys = fixture_keys(key_a_public, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        many_services(payload, sizeof(payload), cases[i].count, cases[i].len);
        fixture_sign(key_a_private, 256, RS256_HEADER, payload, token);
        cr_expect_eq(fixture_verify(keys, token, &claims), cases[i].result, "case %zu", i);
    }
    gm_keyset_put(keys);
}
