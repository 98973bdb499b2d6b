/*
 * A principal is what a verified credential may do: own a service (agent), call services (client),
 * use scopes. It is packed into one block of size_bytes without pointers, so that it can live in a
 * cache slot, be copied with memcpy and be kept for the life of a link. Immutable after
 * gm_principal_pack. Pure, no allocation.
 */
#ifndef GM_AUTH_PRINCIPAL_H
#define GM_AUTH_PRINCIPAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/jwt.h"

struct gm_principal {
    int64_t expires_s; /* unix seconds; rights end when now >= expires_s */
    int64_t not_before_s;
    uint16_t size_bytes; /* the whole block: this struct, its spans, its text */
    uint8_t audience;    /* enum gm_audience: CLIENT or AGENT */
    uint8_t scopes_count;
    uint16_t services_count;
    uint16_t text_offset;         /* of the text, from the start of the block */
    struct gm_claim_span subject; /* offsets count from the start of the text */
    struct gm_claim_span service;
    struct gm_key_mark key;       /* which key has signed the credential */
    struct gm_claim_span spans[]; /* services_count patterns, then scopes_count scopes */
};

enum {
    /* Enough for any accepted claims. */
    GM_PRINCIPAL_BYTES_MAX =
        sizeof(struct gm_principal) +
        sizeof(struct gm_claim_span) * (GM_CLAIMS_SERVICES_MAX + GM_CLAIMS_SCOPES_MAX) +
        GM_CLAIMS_TEXT_BYTES,
};

/* Bytes that gm_principal_pack will need for these claims: at most GM_PRINCIPAL_BYTES_MAX. */
size_t gm_principal_size(const struct gm_claims *claims);

/* Packs accepted claims into `block` (at least gm_principal_size bytes, aligned to 8). Returns the
 * block. */
struct gm_principal *gm_principal_pack(const struct gm_claims *claims, void *block);

/* Texts of the principal: borrowed from it, *len bytes, not NUL-terminated. Who it is; the service
 * it owns. */
const char *gm_principal_subject(const struct gm_principal *p, size_t *len);
const char *gm_principal_service(const struct gm_principal *p, size_t *len);

/* True for an agent's credential whose `service` is exactly `name`. */
bool gm_principal_may_own(const struct gm_principal *p, const char *name, size_t len);

/* True for a client's credential when one of its patterns matches the whole `name` (auth/glob.h).
 */
bool gm_principal_may_call(const struct gm_principal *p, const char *name, size_t len);

/* True when the scope list holds exactly `scope` (NUL-terminated); both audiences. */
bool gm_principal_has_scope(const struct gm_principal *p, const char *scope);

#endif
