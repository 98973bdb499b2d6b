/* Route, credential, policy. Owner: the client's ring. Invariant: nothing reaches a service before
 * its credential has been verified and its patterns have been asked; a credential that was the
 * gateway's is never passed on. */
#include "server/admit.h"

#include <string.h>

#include "auth/principal.h"
#include "http/target.h"
#include "server/access.h"
#include "server/attach.h"
#include "server/exchange.h"
#include "server/figures.h"
#include "server/ops.h"
#include "server/request.h"
#include "server/status.h"

#define BEARER "Bearer "

void gm_admit_answer(struct gm_client *client, const struct gm_http_request *head,
                     struct gm_answer answer)
{
    char id[GM_REQUEST_ID_MAX];
    uint8_t id_len;
    gm_request_id(client->ctx, head, id, &id_len);
    answer.request_id = (struct gm_http_span){id, id_len};
    if (head != NULL) {
        bool body = head->framing.body == GM_HTTP_BODY_CHUNKED ||
                    (head->framing.body == GM_HTTP_BODY_LENGTH && head->framing.length > 0);
        /* A body that nobody will read: the connection cannot be used again. */
        if (body || !head->framing.keep_alive || client->ctx->phase == GM_SERVER_DRAINING)
            client->close_after = true;
        answer.json = gm_answer_wants_json(head);
        answer.head_only = head->method_id == GM_HTTP_HEAD;
        answer.http10 = head->framing.version_minor == 0;
    }
    answer.close = client->close_after;
    size_t bytes = gm_answer_write(client->ctx, &client->conn, &answer);
    gm_access_answered(client, head, &answer, bytes);
}

static enum gm_admit_result refuse(struct gm_client *client, const struct gm_http_request *head,
                                   enum gm_reason_code reason, const char *message)
{
    struct gm_answer answer = gm_answer_for(reason);
    answer.message = message;
    gm_admit_answer(client, head, answer);
    return GM_ADMIT_ANSWERED;
}

/* ---- Credentials ---- */

/* Proxy-Authorization is the gateway's own field: with it, Authorization is the backend's business.
 */
static const char *find_credential(const struct gm_http_request *head, enum gm_audience audience,
                                   struct gm_credential *out)
{
    const struct gm_http_field *field =
        gm_http_fields_find(&head->fields, GM_HTTP_ID_PROXY_AUTHORIZATION, NULL);
    out->in_authorization = field == NULL;
    if (field == NULL)
        field = gm_http_fields_find(&head->fields, GM_HTTP_ID_AUTHORIZATION, NULL);
    if (field == NULL || field->value_len == 0)
        return "Missing Authorization header";
    if (field->value_len < sizeof BEARER || memcmp(field->value, BEARER, sizeof BEARER - 1) != 0)
        return audience == GM_AUDIENCE_CLIENT
                   ? "Invalid Authorization header format"
                   : "Invalid Authorization header format (use 'Bearer <token>')";
    out->token = (struct gm_http_span){field->value + sizeof BEARER - 1,
                                       field->value_len - (sizeof BEARER - 1)};
    return NULL;
}

static bool verify_budget(struct gm_server_ring *ctx)
{
    uint64_t now_ns = gm_ring_now_ns(ctx->ring);
    if (ctx->verify_turn_ns != now_ns) {
        ctx->verify_turn_ns = now_ns;
        ctx->verify_left = GM_SERVER_VERIFY_PER_TURN;
    }
    return ctx->verify_left > 0;
}

int gm_admit_verify(struct gm_server_ring *ctx, const struct gm_credential *credential,
                    enum gm_audience audience, struct gm_token_answer *out)
{
    struct gm_jwt_query query = {
        .token = credential->token.p,
        .token_len = credential->token.len,
        .audience = audience,
        .now_s = gm_ring_wall_s(ctx->ring),
    };
    if (gm_token_cache_lookup(&ctx->tokens, &query, out) == GM_TOKEN_HIT) {
        gm_counter_add(GM_COUNTER_TOKEN_HITS, 1);
    } else {
        if (!verify_budget(ctx))
            return -GM_E_LIMIT;
        unsigned spent = gm_token_cache_verify(&ctx->tokens, &ctx->keys.rules, &query, out);
        ctx->verify_left -= spent < ctx->verify_left ? spent : ctx->verify_left;
        gm_counter_add(GM_COUNTER_TOKEN_MISSES, 1);
        if (out->key_unknown)
            gm_keys_ring_missed(ctx);
    }
    if (out->result != GM_JWT_OK)
        gm_counter_add(GM_COUNTER_TOKEN_REJECTS, 1);
    return 0;
}

/* The address of the keys has not answered since the start: nobody is refused for good. */
static void answer_without_keys(struct gm_client *client, const struct gm_http_request *head)
{
    struct gm_answer answer = gm_answer_for(GM_REASON_OVERLOAD);
    answer.infra_code = NULL;
    answer.message = "The keys that tokens are checked with have not been loaded yet";
    answer.retry_after_s = 1;
    gm_admit_answer(client, head, answer);
}

int gm_admit_credential(struct gm_client *client, const struct gm_http_request *head,
                        enum gm_audience audience, struct gm_admission *out)
{
    const char *problem = find_credential(head, audience, &out->credential);
    if (problem != NULL) {
        (void)refuse(client, head, GM_REASON_UNAUTHORIZED, problem);
        return GM_ADMIT_ANSWERED;
    }
    if (client->ctx->keys.set->count == 0) {
        answer_without_keys(client, head);
        return GM_ADMIT_ANSWERED;
    }
    struct gm_token_answer answer;
    if (gm_admit_verify(client->ctx, &out->credential, audience, &answer) < 0)
        return GM_ADMIT_WAIT;
    if (answer.result != GM_JWT_OK) {
        gm_log_error("token refused", GM_STR("reason", gm_jwt_text(answer.result)));
        (void)refuse(client, head, GM_REASON_UNAUTHORIZED, gm_jwt_text(answer.result));
        return GM_ADMIT_ANSWERED;
    }
    out->principal = answer.principal;
    return GM_ADMIT_STARTED;
}

/* ---- Routes ---- */

static enum gm_admit_result forbid(struct gm_client *client, const struct gm_http_request *head,
                                   const struct gm_principal *who, struct gm_http_span service)
{
    gm_log_error("service not permitted", GM_STRN("service", service.p, service.len));
    gm_figures_refused(client->ctx, service, who, GM_REASON_FORBIDDEN);
    struct gm_answer answer = gm_answer_for(GM_REASON_FORBIDDEN);
    answer.message = "Forbidden";
    answer.who = who;
    answer.service = service;
    gm_admit_answer(client, head, answer);
    return GM_ADMIT_ANSWERED;
}

static enum gm_admit_result admit_service(struct gm_client *client,
                                          const struct gm_http_request *head,
                                          const struct gm_http_service_path *path)
{
    struct gm_admission admission;
    int rc = gm_admit_credential(client, head, GM_AUDIENCE_CLIENT, &admission);
    struct gm_http_span name = {path->name, path->name_len};
    if (rc == GM_ADMIT_ANSWERED)
        gm_figures_refused(client->ctx, name, NULL, GM_REASON_UNAUTHORIZED);
    if (rc != GM_ADMIT_STARTED)
        return (enum gm_admit_result)rc;
    if (!gm_principal_may_call(admission.principal, path->name, path->name_len))
        return forbid(client, head, admission.principal, name);
    struct gm_exchange_request request = {
        .head = head,
        .service = path->name,
        .service_len = path->name_len,
        .prefix = path->slash ? GM_HTTP_LIT("/") : (struct gm_http_span){0},
        .target = path->rest,
        .who = admission.principal,
        .strip_authorization = admission.credential.in_authorization,
    };
    return gm_exchange_start(client, &request) != NULL ? GM_ADMIT_STARTED : GM_ADMIT_ANSWERED;
}

/* What stands on the main port, or on a port of its own. */
static enum gm_admit_result admit_operator(struct gm_client *client,
                                           const struct gm_http_request *head)
{
    if (gm_http_span_equal(head->path, GM_HTTP_LIT("/status")))
        return gm_status_answer(client, head);
    return gm_ops_health(client, head);
}

static enum gm_admit_result admit_public(struct gm_client *client,
                                         const struct gm_http_request *head)
{
    if (head->form == GM_HTTP_FORM_ASTERISK) {
        gm_admit_answer(
            client, head,
            (struct gm_answer){.status = 200, .content_type = "text/plain", .body = ""});
        return GM_ADMIT_ANSWERED;
    }
    if (head->form == GM_HTTP_FORM_AUTHORITY)
        return refuse(client, head, GM_REASON_METHOD_NOT_ALLOWED, NULL);
    if (gm_http_span_equal(head->path, GM_HTTP_LIT("/agent")))
        return gm_attach_request(client, head);
    if (client->ctx->shared->config->health_port < 0 &&
        (gm_http_span_equal(head->path, GM_HTTP_LIT("/health")) ||
         gm_http_span_equal(head->path, GM_HTTP_LIT("/status"))))
        return admit_operator(client, head);
    struct gm_http_service_path path;
    struct gm_http_span target = {head->path.p, head->path.len + head->query.len};
    int rc = gm_http_service_split(target, &path);
    if (rc == 0)
        return refuse(client, head, GM_REASON_NOT_FOUND, "404 page not found");
    if (rc < 0)
        return refuse(client, head, GM_REASON_BAD_REQUEST, gm_http_error_text(rc));
    return admit_service(client, head, &path);
}

enum gm_admit_result gm_admit(struct gm_client *client, const struct gm_http_request *head)
{
    enum gm_admit_result result;
    switch ((enum gm_client_face)client->face) {
    case GM_FACE_METRICS:
        result = gm_ops_metrics(client, head);
        break;
    case GM_FACE_HEALTH:
        result = admit_operator(client, head);
        break;
    case GM_FACE_PUBLIC:
    default:
        result = admit_public(client, head);
        break;
    }
    if (result != GM_ADMIT_WAIT && result != GM_ADMIT_HELD)
        gm_counter_add(GM_COUNTER_REQUESTS, 1);
    return result;
}
