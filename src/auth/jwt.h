/*
 * JSON Web Tokens as Gimlet uses them: RFC 7515 compact form, RSASSA-PKCS1-v1_5 with SHA-256,
 * SHA-384 or SHA-512 (RFC 7518 §3.3), claims of RFC 7519 plus service, services and scope.
 *
 * Pure: bytes and a time go in, a result and claims come out. Any thread may verify; the key set
 * and the rules are only read. A verification may allocate (JSON, big numbers) and costs one RSA
 * operation per key tried, so the data path calls it through auth/cache.h. Nothing here keeps or
 * prints a token.
 */
#ifndef GM_AUTH_JWT_H
#define GM_AUTH_JWT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/keyset.h"

enum {
    GM_JWT_TOKEN_BYTES_MAX = 8192, /* design §5.8; a longer token is malformed, unread */
    GM_JWT_DEPTH_MAX = 16, /* nesting of header and payload JSON, checked before they are parsed */
    GM_CLAIMS_SERVICES_MAX = 128,   /* patterns in `services` */
    GM_CLAIMS_SCOPES_MAX = 32,      /* entries in `scope` */
    GM_CLAIMS_TEXT_BYTES = 4096,    /* all claim texts together */
    GM_CLAIMS_NAME_BYTES_MAX = 255, /* one text: issuer, subject, service, pattern or scope */
};

/* Claims beyond these limits make the token GM_JWT_MALFORMED: nothing is ever cut short silently.
 */

/* Values are stable: they index the text table and appear in metrics. */
enum gm_jwt_result {
    GM_JWT_OK = 0,
    GM_JWT_MALFORMED,
    GM_JWT_UNSUPPORTED_METHOD,
    GM_JWT_INVALID_SIGNATURE,
    GM_JWT_EXPIRED,
    GM_JWT_NOT_YET_VALID,
    GM_JWT_UNAUTHORIZED,
    GM_JWT_RESULT_COUNT,
};

/* The body text of the 401 that reports `result` (spec/gimlet.md §2.5), without newline. Static. */
const char *gm_jwt_text(enum gm_jwt_result result);

/* What a token is for (its `aud`). ANY accepts either; the claims say which it was. */
enum gm_audience {
    GM_AUDIENCE_ANY = 0,
    GM_AUDIENCE_CLIENT, /* "gimlet-client": may call services */
    GM_AUDIENCE_AGENT,  /* "gimlet-agent": may own one service */
};

/* One claim text inside gm_claims.text (or a principal's text): not NUL-terminated. */
struct gm_claim_span {
    uint16_t offset;
    uint16_t len;
};

/* The verified claims, self-contained: spans point into text, so the struct may be copied as it is.
 */
struct gm_claims {
    int64_t expires_s;         /* `exp`, unix seconds; the token is dead when now >= expires_s */
    int64_t not_before_s;      /* `nbf`, or 0 when absent */
    enum gm_audience audience; /* CLIENT or AGENT, never ANY, in accepted claims */
    uint16_t rsa_operations;   /* RSA operations this verification cost; set for refusals too */
    uint16_t services_count;
    uint16_t scopes_count;
    uint16_t text_len;
    bool key_unknown;       /* the token names a key (`kid`) that is not in the set; for refusals
                               too */
    struct gm_key_mark key; /* which key has confirmed it */
    struct gm_claim_span issuer;
    struct gm_claim_span subject;
    struct gm_claim_span service; /* agents; empty for clients that have none */
    struct gm_claim_span services[GM_CLAIMS_SERVICES_MAX];
    struct gm_claim_span scopes[GM_CLAIMS_SCOPES_MAX];
    char text[GM_CLAIMS_TEXT_BYTES];
};

/* What tokens are held against. Borrowed and only read; usually one per process, shared by all
 * rings. */
struct gm_jwt_rules {
    const struct gm_keyset *keys;
    const char *issuer; /* NUL-terminated; `iss` must equal it */
};

/* One question: is this token good for that purpose at this time? */
struct gm_jwt_query {
    const char *token; /* borrowed; without surrounding white space; needs no final NUL */
    size_t token_len;
    enum gm_audience audience; /* what the request needs */
    int64_t now_s;             /* unix seconds */
};

/*
 * Verifies a token. Writes *out always; its claims mean something only on GM_JWT_OK, not_before_s
 * also on GM_JWT_NOT_YET_VALID.
 *
 * Order of checks (spec/gimlet.md §2.5): segments, base64url, JSON and claim types; algorithm;
 * signature, by the keys that its `kid` names or, when none has that name, by every key in order;
 * exp; nbf; presence of exp; issuer, subject, audience, service or services. A signature that any
 * key confirms decides for good, so that an expired token is called expired whichever key signed
 * it. Claim names are matched exactly (RFC 7519 §4) and a name that occurs twice makes the token
 * malformed.
 */
enum gm_jwt_result gm_jwt_verify(const struct gm_jwt_rules *rules, const struct gm_jwt_query *query,
                                 struct gm_claims *out) __attribute__((warn_unused_result));

#endif
