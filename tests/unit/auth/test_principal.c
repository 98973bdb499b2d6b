/*
 * Principals: packing and the questions asked of them.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "auth/principal.h"

static void add_text(struct gm_claims *claims, struct gm_claim_span *span, const char *text)
{
    span->offset = claims->text_len;
    span->len = (uint16_t)strlen(text);
    memcpy(claims->text + span->offset, text, span->len);
    claims->text_len = (uint16_t)(claims->text_len + span->len);
}

static struct gm_principal *pack(struct gm_claims *claims)
{
    /* Exactly the size: a sanitizer sees any step past it. */
    return gm_principal_pack(claims, malloc(gm_principal_size(claims)));
}

Test(principal, client)
{
    struct gm_claims claims = {.expires_s = 99, .not_before_s = 3, .audience = GM_AUDIENCE_CLIENT};
    add_text(&claims, &claims.subject, "alice");
    add_text(&claims, &claims.service, "own");
    add_text(&claims, &claims.services[claims.services_count++], "team-*");
    add_text(&claims, &claims.services[claims.services_count++], "x");
    add_text(&claims, &claims.services[claims.services_count++], "[");
    add_text(&claims, &claims.scopes[claims.scopes_count++], "status");
    struct gm_principal *p = pack(&claims);
    size_t len;
    cr_expect_eq(p->size_bytes, gm_principal_size(&claims));
    cr_expect_eq(p->expires_s, 99);
    cr_expect_eq(p->not_before_s, 3);
    const char *subject = gm_principal_subject(p, &len);
    cr_expect(len == 5 && memcmp(subject, "alice", 5) == 0);

    cr_expect(gm_principal_may_call(p, "team-a", 6));
    cr_expect(gm_principal_may_call(p, "x", 1));
    cr_expect_not(gm_principal_may_call(p, "xy", 2));
    cr_expect_not(gm_principal_may_call(p, "[", 1));
    cr_expect_not(gm_principal_may_call(p, "status", 6));
    cr_expect_not(gm_principal_may_own(p, "own", 3));
    cr_expect(gm_principal_has_scope(p, "status"));
    cr_expect_not(gm_principal_has_scope(p, "statu"));
    cr_expect_not(gm_principal_has_scope(p, "x"));

    /* A copy is as good as the original. */
    struct gm_principal *copy = malloc(p->size_bytes);
    memcpy(copy, p, p->size_bytes);
    free(p);
    cr_expect(gm_principal_may_call(copy, "team-b", 6));
    free(copy);
}

Test(principal, agent)
{
    struct gm_claims claims = {.expires_s = 99, .audience = GM_AUDIENCE_AGENT};
    add_text(&claims, &claims.service, "sv*");
    add_text(&claims, &claims.services[claims.services_count++], "*");
    struct gm_principal *p = pack(&claims);
    size_t len;
    const char *service = gm_principal_service(p, &len);
    cr_expect(len == 3 && memcmp(service, "sv*", 3) == 0);
    cr_expect(gm_principal_may_own(p, "sv*", 3));
    cr_expect_not(gm_principal_may_own(p, "svc", 3)); /* a name, not a pattern */
    cr_expect_not(gm_principal_may_own(p, "sv", 2));
    cr_expect_not(gm_principal_may_call(p, "svc", 3));
    cr_expect_not(gm_principal_has_scope(p, "status"));
    free(p);
}
