/*
 * Verification of a token, the checks in the order that spec/gimlet.md §2.5 gives. Each step is one
 * function; gm_jwt_verify reads as the list of them.
 */
#include "auth/jwt.h"

#include <jansson.h>
#include <string.h>

#include "auth/claims.h"
#include "auth/jws.h"
#include "auth/keyset.h"

const char *gm_jwt_text(enum gm_jwt_result result)
{
    static const char *const texts[GM_JWT_RESULT_COUNT] = {
        [GM_JWT_OK] = "OK",
        [GM_JWT_MALFORMED] = "Token malformed",
        [GM_JWT_UNSUPPORTED_METHOD] = "Unsupported signing method",
        [GM_JWT_INVALID_SIGNATURE] = "Invalid signature",
        [GM_JWT_EXPIRED] = "Token expired",
        [GM_JWT_NOT_YET_VALID] = "Token not valid yet",
        [GM_JWT_UNAUTHORIZED] = "Unauthorized",
    };
    unsigned index = (unsigned)result;
    return texts[index < GM_JWT_RESULT_COUNT ? index : GM_JWT_UNAUTHORIZED];
}

/* Claims of the payload, typed. */
static bool read_claims(const struct gm_jws *jws, struct gm_claims *out,
                        struct gm_claims_dates *dates)
{
    json_t *payload = gm_jws_parse_object(jws->payload, jws->payload_len);
    if (payload == NULL)
        return false;
    bool ok = gm_claims_from_json(out, dates, payload);
    json_decref(payload);
    return ok;
}

/* What the header says that matters here. */
struct header {
    enum gm_jws_method method;
    size_t kid_len; /* 0: none, or none that a key of ours could have */
    char kid[GM_KEY_ID_BYTES_MAX];
};

static bool is_named(const struct gm_public_key *key, const struct header *header)
{
    return key->id_len == header->kid_len && memcmp(key->id, header->kid, key->id_len) == 0;
}

static bool names_one(const struct gm_keyset *keys, const struct header *header)
{
    for (uint32_t i = 0; i < keys->count; i++) {
        if (is_named(&keys->keys[i], header))
            return true;
    }
    return false;
}

static enum gm_jwt_result check_signature(const struct gm_jws *jws, const char *token,
                                          const struct header *header, const struct gm_keyset *keys,
                                          struct gm_claims *out)
{
    bool named = header->kid_len > 0 && names_one(keys, header);
    out->key_unknown = header->kid_len > 0 && !named;
    for (uint32_t i = 0; i < keys->count; i++) {
        const struct gm_public_key *key = &keys->keys[i];
        if (named && !is_named(key, header))
            continue;
        out->key = key->mark;
        if (gm_jws_confirm(jws, token, header->method, key, &out->rsa_operations))
            return GM_JWT_OK;
    }
    return GM_JWT_INVALID_SIGNATURE;
}

static enum gm_jwt_result check_dates(const struct gm_claims *claims,
                                      const struct gm_claims_dates *dates, int64_t now_s)
{
    if (dates->has_expires && now_s >= claims->expires_s)
        return GM_JWT_EXPIRED;
    if (dates->has_not_before && now_s < claims->not_before_s)
        return GM_JWT_NOT_YET_VALID;
    return dates->has_expires ? GM_JWT_OK : GM_JWT_UNAUTHORIZED;
}

static enum gm_jwt_result check_rights(const struct gm_claims *claims, const char *issuer,
                                       enum gm_audience wanted)
{
    bool ok = gm_claims_span_is(claims, claims->issuer, issuer) && claims->subject.len > 0 &&
              claims->audience != GM_AUDIENCE_ANY &&
              (wanted == GM_AUDIENCE_ANY || wanted == claims->audience);
    bool usable = claims->audience == GM_AUDIENCE_AGENT ? claims->service.len > 0
                                                        : claims->services_count > 0;
    return ok && usable ? GM_JWT_OK : GM_JWT_UNAUTHORIZED;
}

/* False when the header is no JSON object. A `kid` that is no string is none. */
static bool read_header(const struct gm_jws *jws, struct header *out)
{
    json_t *json = gm_jws_parse_object(jws->header, jws->header_len);
    if (json == NULL)
        return false;
    const json_t *kid = json_object_get(json, "kid");
    out->method = gm_jws_method_by_name(json_string_value(json_object_get(json, "alg")));
    out->kid_len = json_string_length(kid);
    if (out->kid_len > sizeof out->kid)
        out->kid_len = 0;
    if (out->kid_len > 0)
        memcpy(out->kid, json_string_value(kid), out->kid_len);
    json_decref(json);
    return true;
}

enum gm_jwt_result gm_jwt_verify(const struct gm_jwt_rules *rules, const struct gm_jwt_query *query,
                                 struct gm_claims *out)
{
    struct gm_jws jws;
    struct gm_claims_dates dates = {false, false};
    struct header header;

    memset(out, 0, sizeof(*out));
    if (gm_jws_split(&jws, query->token, query->token_len) != GM_JWS_SPLIT_OK ||
        !read_header(&jws, &header) || !read_claims(&jws, out, &dates))
        return GM_JWT_MALFORMED;
    if (header.method == GM_JWS_UNKNOWN)
        return GM_JWT_UNAUTHORIZED;
    if (!gm_jws_decode_signature(&jws))
        return GM_JWT_MALFORMED;
    if (header.method == GM_JWS_REFUSED)
        return GM_JWT_UNSUPPORTED_METHOD;

    enum gm_jwt_result result = check_signature(&jws, query->token, &header, rules->keys, out);
    if (result == GM_JWT_OK)
        result = check_dates(out, &dates, query->now_s);
    if (result == GM_JWT_OK)
        result = check_rights(out, rules->issuer, query->audience);
    return result;
}
