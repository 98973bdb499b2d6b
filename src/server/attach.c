/* From an agent's request to a link that serves. Owner: first the accepting ring, then, from the
 * mail on, the link's ring.
 *
 * Invariants: a lane is held from gm_lanes_take until the link is down or the hand-over has failed;
 * a card is announced exactly while the link is up; a link's handle is stale as soon as its slot is
 * empty. */
#include "server/attach.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/principal.h"
#include "base/log.h"
#include "server/far.h"
#include "server/lanes.h"
#include "server/note.h"
#include "server/rivals.h"

/* What crosses to the link's ring. */
struct gm_attach {
    struct gm_mail mail;
    struct gm_server_ring *to;
    int64_t expires_s;
    struct gm_key_mark key;
    uint32_t lane;
    int fd;
    bool old;           /* an agent of 0.0.x */
    struct gm_tls *tls; /* the connection's session; NULL: plaintext */
    char accept[GM_WS_ACCEPT_LEN];
    char subject[GM_LINK_NAME_MAX], service[GM_LINK_NAME_MAX], instance[GM_LINK_INSTANCE_MAX];
};

/* ---- On the accepting ring ---- */

static struct gm_ws_text field_text(const struct gm_http_request *head, enum gm_http_field_id id)
{
    const struct gm_http_field *field = gm_http_fields_find(&head->fields, id, NULL);
    return field == NULL ? (struct gm_ws_text){0}
                         : (struct gm_ws_text){field->value, field->value_len};
}

/* What those are told who ask without a WebSocket handshake; 400, as 0.0.x answers them. */
#define NO_UPGRADE "Bad Request"

static enum gm_admit_result refuse(struct gm_client *client, const struct gm_http_request *head,
                                   enum gm_reason_code reason, const char *message)
{
    struct gm_answer answer = gm_answer_for(reason);
    answer.infra_code = NULL;
    answer.message = message;
    if (reason == GM_REASON_METHOD_NOT_ALLOWED)
        answer.extra_field = "Allow: GET\r\n";
    else if (message != NULL && strcmp(message, NO_UPGRADE) == 0)
        answer.extra_field = "Sec-WebSocket-Version: " GM_WS_VERSION "\r\n";
    gm_admit_answer(client, head, answer);
    return GM_ADMIT_ANSWERED;
}

static bool instance_valid(const struct gm_http_field *field)
{
    if (field == NULL || field->value_len == 0 || field->value_len >= GM_LINK_INSTANCE_MAX)
        return false;
    for (uint16_t i = 0; i < field->value_len; i++) {
        char c = field->value[i];
        bool good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                    c == '-' || c == '_';
        if (!good)
            return false;
    }
    return true;
}

/* A wish for a lane of another server is none: the balancer has chosen this one. */
static bool lane_is_ours(const struct gm_http_request *head, const char *instance)
{
    const struct gm_http_field *field =
        gm_http_fields_find_name(&head->fields, GM_HTTP_LIT("gimlet-server"));
    return field == NULL || (field->value_len == strlen(instance) &&
                             memcmp(field->value, instance, field->value_len) == 0);
}

static int lane_wish(const struct gm_http_request *head, const char *instance)
{
    const struct gm_http_field *field =
        gm_http_fields_find_name(&head->fields, GM_HTTP_LIT("gimlet-lane"));
    if (!lane_is_ours(head, instance))
        return -1;
    if (field == NULL || field->value_len == 0 || field->value_len > 2)
        return -1;
    int lane = 0;
    for (uint16_t i = 0; i < field->value_len; i++) {
        if (field->value[i] < '0' || field->value[i] > '9')
            return -1;
        lane = lane * 10 + (field->value[i] - '0');
    }
    return lane;
}

/* What is wrong with the upgrade itself, or NULL. An agent that does not offer our subprotocol is
 * of 0.0.x. */
static const char *check_upgrade(const struct gm_http_request *head, enum gm_reason_code *reason,
                                 bool *old)
{
    struct gm_ws_upgrade upgrade = {
        .upgrade = field_text(head, GM_HTTP_ID_UPGRADE),
        .connection = field_text(head, GM_HTTP_ID_CONNECTION),
        .key = field_text(head, GM_HTTP_ID_SEC_WEBSOCKET_KEY),
        .version = field_text(head, GM_HTTP_ID_SEC_WEBSOCKET_VERSION),
        .protocol = field_text(head, GM_HTTP_ID_SEC_WEBSOCKET_PROTOCOL),
        .is_get = head->method_id == GM_HTTP_GET,
        .is_http11 = head->framing.version_minor == 1,
    };
    int status = gm_ws_check_request(&upgrade);
    *reason = status == 405 ? GM_REASON_METHOD_NOT_ALLOWED : GM_REASON_BAD_REQUEST;
    if (status != 0)
        return status == 405 ? "Method Not Allowed" : NO_UPGRADE;
    *old = !gm_ws_protocol_offered(upgrade.protocol, GM_FRAME_SUBPROTOCOL);
    *reason = GM_REASON_BAD_REQUEST;
    if (!*old &&
        !instance_valid(gm_http_fields_find_name(&head->fields, GM_HTTP_LIT("gimlet-instance"))))
        return "Gimlet-Instance is missing or malformed.";
    return NULL;
}

static bool copy_text(char *out, size_t cap, const char *text, size_t len)
{
    if (len >= cap)
        return false;
    memcpy(out, text, len);
    out[len] = '\0';
    return true;
}

static struct gm_attach *attach_make(const struct gm_http_request *head,
                                     const struct gm_principal *principal, bool old)
{
    struct gm_attach *attach = calloc(1, sizeof *attach);
    if (attach == NULL)
        return NULL;
    size_t subject_len, service_len;
    const char *subject = gm_principal_subject(principal, &subject_len),
               *service = gm_principal_service(principal, &service_len);
    const struct gm_http_field *instance =
        gm_http_fields_find_name(&head->fields, GM_HTTP_LIT("gimlet-instance"));
    bool good = copy_text(attach->subject, sizeof attach->subject, subject, subject_len) &&
                copy_text(attach->service, sizeof attach->service, service, service_len) &&
                (old || copy_text(attach->instance, sizeof attach->instance, instance->value,
                                  instance->value_len)) &&
                gm_ws_accept(field_text(head, GM_HTTP_ID_SEC_WEBSOCKET_KEY), gm_link_sha1,
                             attach->accept) == 0;
    attach->expires_s = principal->expires_s;
    attach->old = old;
    attach->key = principal->key;
    if (good)
        return attach;
    free(attach);
    return NULL;
}

/* Chooses lane and ring. Agents of 0.0.x have one link per subject, whatever the service: all that
 * bear a subject meet on one ring. False: out of memory. */
static bool attach_place(struct gm_server_shared *shared, struct gm_attach *attach, int wish)
{
    int lane =
        attach->old ? 0 : gm_lanes_take(shared->lanes, attach->subject, attach->instance, wish);
    if (lane < 0)
        return false;
    const char *name = attach->old ? attach->subject : attach->service;
    uint32_t hash = gm_registry_name_hash(name, strlen(name)) + (uint32_t)lane;
    attach->lane = (uint32_t)lane;
    attach->to = shared->ring_contexts[hash % gm_rings_count(shared->rings)];
    return true;
}

static void attach_unplace(struct gm_server_shared *shared, const struct gm_attach *attach)
{
    if (!attach->old)
        gm_lanes_give(shared->lanes, attach->subject, attach->instance, attach->lane);
}

enum gm_admit_result gm_attach_request(struct gm_client *client, const struct gm_http_request *head)
{
    struct gm_server_shared *shared = client->ctx->shared;
    struct gm_admission admission;
    int rc = gm_admit_credential(client, head, GM_AUDIENCE_AGENT, &admission);
    if (rc != GM_ADMIT_STARTED)
        return (enum gm_admit_result)rc;
    enum gm_reason_code reason;
    bool old = false;
    const char *problem = check_upgrade(head, &reason, &old);
    if (problem != NULL)
        return refuse(client, head, reason, problem);
    if (client->ctx->phase == GM_SERVER_DRAINING)
        return refuse(client, head, GM_REASON_DRAINING, NULL);
    if (gm_conn_queued(&client->conn) > 0)
        return refuse(client, head, GM_REASON_BAD_REQUEST,
                      "An agent's request may not be pipelined.");
    struct gm_attach *attach = attach_make(head, admission.principal, old);
    if (attach == NULL)
        return refuse(client, head, GM_REASON_INTERNAL, NULL);
    if (!attach_place(shared, attach, lane_wish(head, shared->instance))) {
        free(attach);
        return refuse(client, head, GM_REASON_OVERLOAD, NULL);
    }
    gm_client_hand_over(client, attach);
    return GM_ADMIT_HANDED;
}

static void attach_arrive(struct gm_mail *mail);

void gm_attach_detached(struct gm_client *client, int fd)
{
    struct gm_attach *attach = client->attach;
    struct gm_server_ring *ctx = client->ctx;
    attach->tls = gm_conn_take_tls(&client->conn);
    gm_client_free(client);
    attach->fd = fd;
    attach->mail.deliver = attach_arrive;
    gm_ring_mail(ctx->ring, gm_ring_index(attach->to->ring), &attach->mail);
}

void gm_attach_dropped(struct gm_client *client)
{
    struct gm_attach *attach = client->attach;
    attach_unplace(client->ctx->shared, attach);
    free(attach);
}

/* ---- On the link's ring ---- */

static struct gm_server_link *server_link_of(struct gm_link *link)
{
    return GM_CONTAINER_OF(link, struct gm_server_link, link);
}

struct gm_link *gm_attach_find(struct gm_server_ring *ctx, uint32_t index, uint32_t generation)
{
    if (index >= ctx->link_capacity || ctx->links[index] == NULL ||
        ctx->links[index]->generation != generation)
        return NULL;
    return &ctx->links[index]->link;
}

/* A free slot in the table of links, which doubles when it is full. */
static bool link_slot(struct gm_server_ring *ctx, uint32_t *out)
{
    for (uint32_t i = 0; i < ctx->link_capacity; i++) {
        if (ctx->links[i] != NULL)
            continue;
        *out = i;
        return true;
    }
    uint32_t capacity = ctx->link_capacity == 0 ? 16 : ctx->link_capacity * 2;
    struct gm_server_link **links = realloc(ctx->links, capacity * sizeof *links);
    if (links == NULL)
        return false;
    memset(links + ctx->link_capacity, 0, (capacity - ctx->link_capacity) * sizeof *links);
    *out = ctx->link_capacity;
    ctx->links = links;
    ctx->link_capacity = capacity;
    return true;
}

/* A link that drains stays one that drains; one that is not ready need not be heard of either. */
static void card_state(struct gm_server_link *self)
{
    enum gm_card_state state = self->draining    ? GM_CARD_DRAINING
                               : self->not_ready ? GM_CARD_NOT_READY
                               : self->silent    ? GM_CARD_SILENT
                                                 : GM_CARD_READY;
    if (self->card != NULL)
        atomic_store_explicit(&self->card->state, (uint32_t)state, memory_order_relaxed);
}

/* Agents of 0.0.x cannot be told. */
static void tell_drain(struct gm_server_link *self)
{
    static const char note[] = "{\"type\":\"draining\"}";
    if (!gm_link_is_old(&self->link) && gm_link_note(&self->link, note, sizeof note - 1) < 0)
        gm_log_debug("an agent is not told of the drain", GM_STR("agentID", self->subject));
}

static void link_up(struct gm_link *link)
{
    struct gm_server_link *self = server_link_of(link);
    if (!gm_link_is_old(link)) /* that one says it by a note */
        gm_metrics_count(&self->ctx->metrics, GM_METRICS_RECV_READY);
    if (self->lane >= self->ctx->shared->lane_count)
        return; /* surplus: the agent closes it */
    struct gm_card *card = gm_card_new(self->ctx->registry);
    if (card == NULL)
        return; /* it stays attached and unused; the next link may do better */
    memcpy(card->service, self->service, sizeof card->service);
    memcpy(card->subject, self->subject, sizeof card->subject);
    memcpy(card->instance, link->ready.instance, sizeof link->ready.instance);
    card->link_index = self->index;
    card->link_generation = self->generation;
    card->lane = self->lane;
    card->stream_limit = link->ready.stream_limit < link->hello.stream_limit
                             ? link->ready.stream_limit
                             : link->hello.stream_limit;
    card->request_window = link->ready.window;
    card->old = gm_link_is_old(link);
    card->request_limit = link->ready.request_limit;
    atomic_store_explicit(&card->expires_s, self->expires_s, memory_order_relaxed);
    self->card = card;
    self->not_ready = link->ready.not_ready;
    card_state(self);
    gm_card_announce(self->ctx->registry, card);
    if (self->ctx->phase == GM_SERVER_DRAINING)
        tell_drain(self);
    const struct gm_tls *tls = gm_conn_tls(&link->conn);
    gm_log_info("agent attached", GM_STR("agentID", self->subject),
                GM_STR("service", self->service), GM_UINT("lane", self->lane),
                GM_UINT("ring", gm_ring_index(self->ctx->ring)), GM_BOOL("ready", !self->not_ready),
                GM_STR("clientCert", tls == NULL ? "" : gm_tls_facts(tls).peer_subject));
}

static void lane_give(struct gm_server_link *self)
{
    if (self->lane_held)
        gm_lanes_give(self->ctx->shared->lanes, self->subject, self->link.ready.instance,
                      self->lane);
    self->lane_held = false;
}

/* No new requests from here on; the lane is free for the link that replaces this one. */
static void begin_drain(struct gm_server_link *self)
{
    self->draining = true;
    card_state(self);
    lane_give(self);
}

static void link_drains(struct gm_link *link)
{
    struct gm_server_link *self = server_link_of(link);
    begin_drain(self);
    gm_metrics_count(&self->ctx->metrics, GM_METRICS_RECV_DRAINING);
    gm_log_info("agent drains", GM_STR("agentID", self->subject), GM_STR("service", self->service),
                GM_UINT("lane", self->lane));
}

void gm_attach_old_drains(struct gm_server_link *self, bool drains)
{
    if (!gm_link_is_old(&self->link) || self->link.draining || self->draining == drains)
        return;
    self->draining = drains;
    card_state(self);
    if (drains)
        gm_log_info("agent drains", GM_STR("agentID", self->subject),
                    GM_STR("service", self->service), GM_UINT("lane", self->lane));
}

static void link_silent(struct gm_link *link, bool silent)
{
    struct gm_server_link *self = server_link_of(link);
    self->silent = silent;
    card_state(self);
}

/* All links of an agent say the same at nearly the same time: the first lane's word is logged. */
void gm_attach_ready(struct gm_server_link *self, bool ready)
{
    if (self->not_ready == !ready)
        return;
    self->not_ready = !ready;
    card_state(self);
    if (self->card == NULL || self->lane > 0)
        return;
    struct gm_registry_count count = gm_registry_count(self->ctx->registry, self->service);
    if (ready)
        gm_log_info("agent is ready", GM_STR("agentID", self->subject),
                    GM_STR("service", self->service), GM_UINT("ready", count.ready),
                    GM_UINT("notReady", count.not_ready));
    else
        gm_log_info("agent is not ready", GM_STR("agentID", self->subject),
                    GM_STR("service", self->service), GM_UINT("ready", count.ready),
                    GM_UINT("notReady", count.not_ready));
}

static void link_down(struct gm_link *link, enum gm_reason_code reason, const char *text)
{
    struct gm_server_link *self = server_link_of(link);
    gm_timer_cancel(&self->expiry);
    gm_renew_forget(self);
    lane_give(self);
    self->ctx->links[self->index] = NULL;
    self->ctx->link_count--;
    if (self->card != NULL)
        gm_card_withdraw(self->ctx->registry, self->card);
    self->card = NULL;
    if (gm_link_is_old(link))
        gm_rivals_left(self);
    if (self->waiting || self->lane >= self->ctx->shared->lane_count)
        return; /* surplus: it came to learn that, and nobody else needs to */
    gm_log_info("agent detached", GM_STR("agentID", self->subject),
                GM_STR("service", self->service), GM_UINT("lane", self->lane),
                GM_STR("reason", gm_reason_get((uint16_t)reason)->name), GM_STR("cause", text));
}

/* For the windows of near halves, whose ring is another. */
static void link_rtt(struct gm_link *link)
{
    struct gm_card *card = server_link_of(link)->card;
    if (card != NULL)
        atomic_store_explicit(&card->rtt_ns, link->mux.rtt_ns, memory_order_relaxed);
}

static void link_closed(struct gm_link *link)
{
    struct gm_server_link *self = server_link_of(link);
    gm_list_remove(&self->node);
    free(self);
}

/* The credential is good no longer: no new requests, those that run finish, then the link closes;
 * the agent dials again with a fresh one. */
static void retire(struct gm_server_link *self)
{
    static const char token_expired[] =
        "{\"type\":\"token_expired\",\"message\":\"The agent's token has expired.\"}";
    gm_timer_cancel(&self->expiry);
    begin_drain(self);
    if (gm_link_is_old(&self->link) && self->expires_s <= gm_ring_wall_s(self->ctx->ring))
        (void)!gm_link_note(&self->link, token_expired, sizeof token_expired - 1);
    gm_link_drain(&self->link);
}

/* Looks at the credential, and again when it expires, or in an hour: the clock may be set. */
static void check_credential(struct gm_server_link *self)
{
    struct gm_ring *ring = self->ctx->ring;
    int64_t left_s = self->expires_s - gm_ring_wall_s(ring);
    uint64_t span_s = left_s < 3600 ? (uint64_t)left_s : 3600;
    if (left_s <= 0) {
        gm_log_warn("agent's token has expired", GM_STR("agentID", self->subject),
                    GM_STR("service", self->service));
        retire(self);
    } else if (!gm_keyset_has(self->ctx->keys.set, &self->key)) {
        gm_log_warn("the key of an agent's token is no longer accepted",
                    GM_STR("agentID", self->subject), GM_STR("service", self->service));
        retire(self);
    } else {
        gm_timer_set(ring, &self->expiry, gm_ring_now_ns(ring) + span_s * 1000000000ull);
    }
}

static void credential_due(struct gm_timer *timer)
{
    check_credential(GM_CONTAINER_OF(timer, struct gm_server_link, expiry));
}

void gm_attach_renew(struct gm_server_link *self, const struct gm_principal *principal)
{
    self->expires_s = principal->expires_s;
    self->key = principal->key;
    if (self->card != NULL)
        atomic_store_explicit(&self->card->expires_s, self->expires_s, memory_order_relaxed);
    check_credential(self);
}

void gm_attach_recheck(struct gm_server_ring *ctx)
{
    for (uint32_t i = 0; i < ctx->link_capacity; i++) {
        struct gm_server_link *self = ctx->links[i];
        if (self != NULL && gm_timer_armed(&self->expiry))
            check_credential(self);
    }
}

static void link_proved(struct gm_link *link)
{
    gm_rivals_refuse(server_link_of(link));
}

static const struct gm_link_ops server_link_ops = {
    .on_up = link_up,
    .on_drain = link_drains,
    .on_silent = link_silent,
    .on_rtt = link_rtt,
    .on_note = gm_note_take,
    .on_proved = link_proved,
    .on_down = link_down,
    .on_closed = link_closed,
};

static void attach_failed(struct gm_attach *attach)
{
    gm_log_error("agent could not be attached: out of memory", GM_STR("agentID", attach->subject),
                 GM_STR("service", attach->service));
    attach_unplace(attach->to->shared, attach);
    gm_ring_close_fd(attach->to->ring, attach->fd);
}

static void link_configure(const struct gm_attach *attach, struct gm_link_config *config)
{
    const struct gm_server_shared *shared = attach->to->shared;
    *config = (struct gm_link_config){
        .ops = &server_link_ops,
        .mux_ops = &gm_far_mux_ops,
        .role = GM_MUX_SERVER,
        .stream_limit = (uint32_t)shared->config->stream_limit,
        .tls = attach->tls,
        .room = &attach->to->tls_room,
        .hello = {.lane = attach->lane,
                  .lanes = shared->lane_count,
                  .stream_limit = (uint32_t)shared->config->stream_limit,
                  .window = GM_WINDOW_INITIAL_MAX,
                  .peers = (uint32_t)shared->config->peers},
    };
    (void)snprintf(config->hello.server_id, sizeof config->hello.server_id, "%s",
                   shared->config->server_id);
    (void)snprintf(config->hello.instance, sizeof config->hello.instance, "%s", shared->instance);
    memcpy(config->ready.instance, attach->instance, sizeof attach->instance);
    if (attach->old)
        config->old = (struct gm_link_old){.agent_id = attach->subject, .service = attach->service};
}

static void attach_arrive(struct gm_mail *mail)
{
    struct gm_attach *attach = GM_CONTAINER_OF(mail, struct gm_attach, mail);
    struct gm_server_ring *ctx = attach->to;
    /* The ring that has verified the token may know newer keys. */
    gm_keys_ring_adopt(ctx);
    struct gm_server_link *self = calloc(1, sizeof *self);
    struct gm_link_config config;
    link_configure(attach, &config);
    bool slot = self != NULL && link_slot(ctx, &self->index);
    if (slot) {
        self->ctx = ctx;
        self->generation = ++ctx->link_generation;
        self->lane = attach->lane;
        self->lane_held = !attach->old;
        self->expires_s = attach->expires_s;
        self->key = attach->key;
        memcpy(self->subject, attach->subject, sizeof self->subject);
        memcpy(self->service, attach->service, sizeof self->service);
    }
    if (!slot)
        gm_tls_free(attach->tls);
    if (!slot || gm_link_accept(ctx->ring, &self->link, attach->fd, attach->accept, &config) < 0) {
        attach_failed(attach);
        free(self);
    } else {
        ctx->links[self->index] = self;
        ctx->link_count++;
        gm_list_push_back(&ctx->all_links, &self->node);
        gm_metrics_count(&ctx->metrics, GM_METRICS_SENT_HELLO);
        gm_timer_init(&self->expiry, credential_due);
        gm_renew_init(self);
        gm_timer_set(ctx->ring, &self->expiry, gm_ring_now_ns(ctx->ring) + 1000000ull);
        if (attach->old)
            gm_rivals_enter(self);
    }
    free(attach);
}

void gm_attach_announce_drain(struct gm_server_ring *ctx)
{
    for (uint32_t i = 0; i < ctx->link_capacity; i++) {
        /* One that is not up yet hears it when it is. */
        if (ctx->links[i] != NULL && gm_link_is_up(&ctx->links[i]->link))
            tell_drain(ctx->links[i]);
    }
}

void gm_attach_end_all(struct gm_server_ring *ctx)
{
    for (uint32_t i = 0; i < ctx->link_capacity; i++) {
        if (ctx->links[i] != NULL)
            gm_link_end(&ctx->links[i]->link, GM_REASON_DRAINING, GM_WS_CLOSE_GOING_AWAY,
                        "the server shuts down");
    }
}

void gm_attach_fini(struct gm_server_ring *ctx)
{
    struct gm_list *node;
    while ((node = gm_list_pop_front(&ctx->all_links)) != NULL) {
        struct gm_server_link *self = GM_CONTAINER_OF(node, struct gm_server_link, node);
        gm_timer_cancel(&self->expiry);
        gm_renew_forget(self);
        gm_link_forget(&self->link);
        free(self);
    }
    free(ctx->links);
    ctx->links = NULL;
    ctx->link_capacity = 0;
}
