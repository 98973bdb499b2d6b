/* Renewal of a link's token. Owner: the link's ring. Invariants: a token waits exactly while the
 * timer runs; it is wiped before its memory goes; nothing of it is ever logged. */
#include "server/renew.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "auth/principal.h"
#include "base/log.h"
#include "base/text.h"
#include "server/attach.h"

/* The turn's budget for RSA is spent: again soon. */
#define BUSY_NS 1000000ull
/* The longest reason, and what stands around it. */
#define NOTE_MAX 256u

void gm_renew_forget(struct gm_server_link *self)
{
    struct gm_renew *renew = &self->renew;
    gm_timer_cancel(&renew->timer);
    if (renew->token != NULL)
        explicit_bzero(renew->token, renew->len);
    free(renew->token);
    renew->token = NULL;
    renew->len = 0;
}

static bool is_text(const char *text, size_t len, const char *wanted)
{
    return len == strlen(wanted) && memcmp(text, wanted, len) == 0;
}

/* Why this credential cannot take the place of the link's; NULL: it can. */
static const char *check(const struct gm_server_link *self, const struct gm_principal *principal)
{
    size_t subject_len, service_len;
    const char *subject = gm_principal_subject(principal, &subject_len),
               *service = gm_principal_service(principal, &service_len);
    if (!is_text(subject, subject_len, self->subject))
        return "it is for another subject";
    if (!is_text(service, service_len, self->service))
        return "it is for another service";
    if (principal->expires_s < self->expires_s)
        return "it expires sooner than the one before";
    return NULL;
}

/* So that it stands in the agent's log, too. */
static void tell(struct gm_server_link *self, const char *why)
{
    char note[NOTE_MAX];
    struct gm_text out = {.at = note, .cap = sizeof note};
    (void)gm_text_str(&out, "{\"type\":\"token\",\"accepted\":false,\"reason\":");
    (void)gm_text_json(&out, why, strlen(why), sizeof note);
    (void)gm_text_str(&out, "}");
    if (!out.cut)
        (void)!gm_link_note(&self->link, note, out.len);
}

static void refuse(struct gm_server_link *self, const char *why)
{
    tell(self, why);
    gm_log_warn("agent's new token cannot be used: the one before stays",
                GM_STR("agentID", self->subject), GM_STR("service", self->service),
                GM_UINT("lane", self->lane), GM_STR("reason", why));
}

static void replace(struct gm_server_link *self, const struct gm_principal *principal)
{
    char until[32] = "";
    time_t end = (time_t)principal->expires_s;
    struct tm parts;
    bool same = principal->expires_s == self->expires_s;
    gm_attach_renew(self, principal);
    if (same)
        return; /* it is the one we have, or as good as that */
    if (gmtime_r(&end, &parts) != NULL)
        (void)strftime(until, sizeof until, "%Y-%m-%dT%H:%M:%SZ", &parts);
    gm_log_info("agent's token renewed", GM_STR("agentID", self->subject),
                GM_STR("service", self->service), GM_UINT("lane", self->lane),
                GM_STR("expiresAt", until));
}

static void judge(struct gm_server_link *self, const struct gm_token_answer *answer)
{
    if (answer->result != GM_JWT_OK) {
        refuse(self, gm_jwt_text(answer->result));
        return;
    }
    const char *why = check(self, answer->principal);
    if (why != NULL)
        refuse(self, why);
    else
        replace(self, answer->principal);
}

static void due(struct gm_timer *timer)
{
    struct gm_server_link *self = GM_CONTAINER_OF(timer, struct gm_server_link, renew.timer);
    struct gm_renew *renew = &self->renew;
    struct gm_ring *ring = self->ctx->ring;
    struct gm_credential credential = {.token = {renew->token, renew->len}};
    struct gm_token_answer answer;
    if (gm_admit_verify(self->ctx, &credential, GM_AUDIENCE_AGENT, &answer) < 0) {
        gm_timer_set(ring, timer, gm_ring_now_ns(ring) + BUSY_NS);
        return;
    }
    renew->last_ns = gm_ring_now_ns(ring);
    judge(self, &answer);
    gm_renew_forget(self);
}

void gm_renew_init(struct gm_server_link *self)
{
    self->renew = (struct gm_renew){0};
    gm_timer_init(&self->renew.timer, due);
}

void gm_renew_take(struct gm_server_link *self, const char *token, size_t len)
{
    struct gm_renew *renew = &self->renew;
    struct gm_ring *ring = self->ctx->ring;
    uint64_t now_ns = gm_ring_now_ns(ring), at_ns = renew->last_ns + GM_RENEW_PERIOD_NS;
    gm_renew_forget(self);
    if (self->draining)
        return;
    if (len == 0 || len > GM_JWT_TOKEN_BYTES_MAX) {
        refuse(self, gm_jwt_text(GM_JWT_MALFORMED));
        return;
    }
    renew->token = malloc(len);
    if (renew->token == NULL)
        return; /* the token before stays, as if none had come */
    gm_counter_add(GM_COUNTER_ALLOCATIONS, 1);
    memcpy(renew->token, token, len);
    renew->len = (uint32_t)len;
    gm_timer_set(ring, &renew->timer, at_ns > now_ns && renew->last_ns != 0 ? at_ns : now_ns);
}
