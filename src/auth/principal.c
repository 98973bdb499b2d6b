/*
 * Packing of a principal and the three questions asked of it.
 */
#include "auth/principal.h"

#include <string.h>

#include "auth/glob.h"
#include "base/assert.h"

size_t gm_principal_size(const struct gm_claims *claims)
{
    size_t spans = (size_t)claims->services_count + claims->scopes_count;
    return sizeof(struct gm_principal) + spans * sizeof(struct gm_claim_span) + claims->text_len;
}

struct gm_principal *gm_principal_pack(const struct gm_claims *claims, void *block)
{
    struct gm_principal *p = block;
    size_t size = gm_principal_size(claims);
    GM_ASSERT(size <= GM_PRINCIPAL_BYTES_MAX && claims->audience != GM_AUDIENCE_ANY);

    p->expires_s = claims->expires_s;
    p->not_before_s = claims->not_before_s;
    p->size_bytes = (uint16_t)size;
    p->audience = (uint8_t)claims->audience;
    p->scopes_count = (uint8_t)claims->scopes_count;
    p->services_count = claims->services_count;
    p->text_offset = (uint16_t)(size - claims->text_len);
    p->subject = claims->subject;
    p->service = claims->service;
    p->key = claims->key;
    memcpy(p->spans, claims->services, claims->services_count * sizeof(p->spans[0]));
    memcpy(p->spans + claims->services_count, claims->scopes,
           claims->scopes_count * sizeof(p->spans[0]));
    memcpy((char *)block + p->text_offset, claims->text, claims->text_len);
    return p;
}

static const char *text_of(const struct gm_principal *p, struct gm_claim_span span, size_t *len)
{
    *len = span.len;
    return (const char *)p + p->text_offset + span.offset;
}

const char *gm_principal_subject(const struct gm_principal *p, size_t *len)
{
    return text_of(p, p->subject, len);
}

const char *gm_principal_service(const struct gm_principal *p, size_t *len)
{
    return text_of(p, p->service, len);
}

bool gm_principal_may_own(const struct gm_principal *p, const char *name, size_t len)
{
    size_t service_len;
    const char *service = gm_principal_service(p, &service_len);
    return p->audience == GM_AUDIENCE_AGENT && service_len == len &&
           memcmp(service, name, len) == 0;
}

bool gm_principal_may_call(const struct gm_principal *p, const char *name, size_t len)
{
    if (p->audience != GM_AUDIENCE_CLIENT)
        return false;
    for (uint32_t i = 0; i < p->services_count; i++) {
        size_t pattern_len;
        const char *pattern = text_of(p, p->spans[i], &pattern_len);
        if (gm_glob_match(pattern, pattern_len, name, len))
            return true;
    }
    return false;
}

bool gm_principal_has_scope(const struct gm_principal *p, const char *scope)
{
    size_t scope_len = strlen(scope);
    for (uint32_t i = 0; i < p->scopes_count; i++) {
        size_t len;
        const char *text = text_of(p, p->spans[p->services_count + i], &len);
        if (len == scope_len && memcmp(text, scope, len) == 0)
            return true;
    }
    return false;
}
