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

static enum gm_jwt_result check_signature(const struct gm_jws *jws, const char *token,
                                          enum gm_jws_method method, const struct gm_keyset *keys,
                                          uint16_t *rsa_operations)
{
    for (uint32_t i = 0; i < keys->count; i++) {
        if (gm_jws_confirm(jws, token, method, &keys->keys[i], rsa_operations))
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

/* The algorithm that the header names; false when the header is no JSON object. */
static bool read_method(const struct gm_jws *jws, enum gm_jws_method *method)
{
    json_t *header = gm_jws_parse_object(jws->header, jws->header_len);
    if (header == NULL)
        return false;
    *method = gm_jws_method_by_name(json_string_value(json_object_get(header, "alg")));
    json_decref(header);
    return true;
}

enum gm_jwt_result gm_jwt_verify(const struct gm_jwt_rules *rules, const struct gm_jwt_query *query,
                                 struct gm_claims *out)
{
    struct gm_jws jws;
    struct gm_claims_dates dates = {false, false};
    enum gm_jws_method method;

    memset(out, 0, sizeof(*out));
    if (gm_jws_split(&jws, query->token, query->token_len) != GM_JWS_SPLIT_OK ||
        !read_method(&jws, &method) || !read_claims(&jws, out, &dates))
        return GM_JWT_MALFORMED;
    if (method == GM_JWS_UNKNOWN)
        return GM_JWT_UNAUTHORIZED;
    if (!gm_jws_decode_signature(&jws))
        return GM_JWT_MALFORMED;
    if (method == GM_JWS_REFUSED)
        return GM_JWT_UNSUPPORTED_METHOD;

    enum gm_jwt_result result =
        check_signature(&jws, query->token, method, rules->keys, &out->rsa_operations);
    if (result == GM_JWT_OK)
        result = check_dates(out, &dates, query->now_s);
    if (result == GM_JWT_OK)
        result = check_rights(out, rules->issuer, query->audience);
    return result;
}
