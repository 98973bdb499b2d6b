/*
 * Claim typing as the fleet's servers have it (spec/gimlet.md §2.5): null means absent, lists hold
 * strings only, dates are numbers and may be fractions. Every text is copied into the claims' own
 * arena, so that nothing points into the JSON tree afterwards.
 */
#include "auth/claims.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

_Static_assert(GM_CLAIMS_TEXT_BYTES <= UINT16_MAX, "spans count in 16 bits");

static bool keep_text(struct gm_claims *out, struct gm_claim_span *span, const json_t *value)
{
    size_t len = json_string_length(value);
    if (len > GM_CLAIMS_NAME_BYTES_MAX || len > (size_t)GM_CLAIMS_TEXT_BYTES - out->text_len)
        return false;
    span->offset = out->text_len;
    span->len = (uint16_t)len;
    memcpy(out->text + out->text_len, json_string_value(value), len);
    out->text_len = (uint16_t)(out->text_len + len);
    return true;
}

/* The member, or NULL when it is absent or null. */
static const json_t *member(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

static bool take_string(struct gm_claims *out, struct gm_claim_span *span, const json_t *value)
{
    if (value == NULL)
        return true;
    return json_is_string(value) && keep_text(out, span, value);
}

struct span_list {
    struct gm_claim_span *spans;
    uint16_t *count;
    size_t count_max;
};

static bool take_strings(struct gm_claims *out, struct span_list list, const json_t *value)
{
    if (value == NULL)
        return true;
    if (!json_is_array(value) || json_array_size(value) > list.count_max)
        return false;
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        if (!json_is_string(item) || !keep_text(out, &list.spans[i], item))
            return false;
    }
    *list.count = (uint16_t)json_array_size(value);
    return true;
}

/* Whole seconds, the fraction dropped (RFC 7519 §2, NumericDate). */
static bool take_date(int64_t *out, bool *present, const json_t *value)
{
    if (value == NULL)
        return true;
    if (!json_is_number(value))
        return false;
    double seconds = trunc(json_number_value(value));
    const double limit = (double)GM_CLAIMS_DATE_MAX;
    *out = (int64_t)(seconds > limit ? limit : seconds < -limit ? -limit : seconds);
    *present = true;
    return true;
}

/* `aud` names one audience of ours, as a string or a list of one; else the audience stays ANY. */
static bool take_audience(enum gm_audience *out, const json_t *value)
{
    if (value == NULL)
        return true;
    const json_t *only = value;
    if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++) {
            if (!json_is_string(json_array_get(value, i)))
                return false;
        }
        only = json_array_size(value) == 1 ? json_array_get(value, 0) : NULL;
    } else if (!json_is_string(value)) {
        return false;
    }
    if (only != NULL && strcmp(json_string_value(only), "gimlet-agent") == 0)
        *out = GM_AUDIENCE_AGENT;
    if (only != NULL && strcmp(json_string_value(only), "gimlet-client") == 0)
        *out = GM_AUDIENCE_CLIENT;
    return true;
}

bool gm_claims_from_json(struct gm_claims *out, struct gm_claims_dates *dates,
                         const struct json_t *payload)
{
    struct span_list services = {out->services, &out->services_count, GM_CLAIMS_SERVICES_MAX};
    struct span_list scopes = {out->scopes, &out->scopes_count, GM_CLAIMS_SCOPES_MAX};
    const json_t *id = member(payload, "jti");
    int64_t issued_s;
    bool issued;
    return (id == NULL || json_is_string(id)) &&
           take_string(out, &out->issuer, member(payload, "iss")) &&
           take_string(out, &out->subject, member(payload, "sub")) &&
           take_string(out, &out->service, member(payload, "service")) &&
           take_strings(out, services, member(payload, "services")) &&
           take_strings(out, scopes, member(payload, "scope")) &&
           take_audience(&out->audience, member(payload, "aud")) &&
           take_date(&issued_s, &issued, member(payload, "iat")) &&
           take_date(&out->expires_s, &dates->has_expires, member(payload, "exp")) &&
           take_date(&out->not_before_s, &dates->has_not_before, member(payload, "nbf"));
}

bool gm_claims_span_is(const struct gm_claims *claims, struct gm_claim_span span, const char *text)
{
    return strlen(text) == span.len && memcmp(claims->text + span.offset, text, span.len) == 0;
}
