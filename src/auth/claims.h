/*
 * From the payload's JSON to struct gm_claims: types, limits, dates. Pure but for the JSON tree it
 * reads. Private to auth/.
 */
#ifndef GM_AUTH_CLAIMS_H
#define GM_AUTH_CLAIMS_H

#include <stdbool.h>

#include "auth/jwt.h"

struct json_t;

enum {
    GM_CLAIMS_DATE_MAX = 0x3afff4417f, /* 9999-12-31T23:59:59Z: later dates are held at it */
};

struct gm_claims_dates {
    bool has_expires;
    bool has_not_before;
};

/* Fills *out, zeroed by the caller. False when a claim has the wrong type or breaks a limit. */
bool gm_claims_from_json(struct gm_claims *out, struct gm_claims_dates *dates,
                         const struct json_t *payload);

/* True when the span's text is exactly `text` (NUL-terminated). */
bool gm_claims_span_is(const struct gm_claims *claims, struct gm_claim_span span, const char *text);

#endif
