/* The near half of a request: its life, its body on the way to the link, second attempts. The
 * answer is relay.c's.
 *
 * Owner: the client's ring. Invariants: unpulled <= upload_reserved; the window's size is reserved
 * as long as the exchange is in use; the card is held from open to release, and NULL exactly while
 * the exchange waits for one; a new attempt has a new generation, so that messages of the old one
 * find nobody. */
#include "server/exchange.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "codec/codec.h"
#include "frame/head.h"
#include "server/access.h"
#include "server/admit.h"
#include "server/figures.h"
#include "server/queue.h"
#include "server/request.h"

/* ---- Life ---- */

/* Thousands of requests may wait for their answers with a body kept for a second attempt: not in
 * receive buffers, when those are short. */
static void exchange_evacuate(struct gm_holder *holder)
{
    struct gm_exchange *exchange = GM_CONTAINER_OF(holder, struct gm_exchange, holder);
    gm_ring_evacuate(exchange->ctx->ring, &exchange->replay);
}

_Static_assert(sizeof(struct gm_exchange) - offsetof(struct gm_exchange, request_id) <
                   GM_REQUEST_ID_MAX + _Alignof(struct gm_exchange),
               "the texts come last: what followed them would not be cleared");

static struct gm_exchange *exchange_take(struct gm_server_ring *ctx)
{
    if (ctx->exchange_free_count == 0)
        return NULL;
    uint32_t index = ctx->exchange_free[--ctx->exchange_free_count];
    struct gm_exchange *exchange = &ctx->exchanges[index];
    uint32_t generation = exchange->generation;
    memset(exchange, 0, offsetof(struct gm_exchange, service));
    exchange->ctx = ctx;
    exchange->index = index;
    exchange->generation = generation + 1;
    exchange->in_use = true;
    gm_holder_init(&exchange->holder, exchange_evacuate);
    ctx->exchange_used_count++;
    return exchange;
}

/* Its card and its place are free, for whoever comes next. */
static void exchange_vacate(struct gm_exchange *exchange)
{
    struct gm_server_ring *ctx = exchange->ctx;
    uint64_t now_ns = gm_ring_now_ns(ctx->ring);
    struct gm_card *card = exchange->card;
    /* One that found no place has freed none. */
    bool counts = (gm_reason_get(exchange->reason)->flags & GM_REASON_UNTOUCHED) == 0;
    if (card != NULL && counts)
        gm_rate_add(&card->rate, now_ns);
    if (card != NULL)
        gm_card_end(card);
    exchange->card = NULL;
    if (exchange->active && counts)
        gm_rate_add(&ctx->shared->rate, now_ns);
    if (exchange->active)
        gm_place_give(ctx);
    exchange->active = false;
}

static void exchange_release(struct gm_exchange *exchange)
{
    struct gm_server_ring *ctx = exchange->ctx;
    gm_figures_ended(exchange);
    gm_access_ended(exchange);
    if (exchange->ticket != NULL)
        gm_queue_leave(exchange);
    exchange_vacate(exchange);
    gm_slice_put(exchange->open_block);
    gm_slice_put(exchange->said);
    gm_chain_clear(&exchange->replay, gm_ring_segs(ctx->ring));
    gm_ring_unhold(&exchange->holder);
    if (exchange->trailer_scratch != NULL)
        gm_buf_put(exchange->trailer_scratch);
    gm_client_unreserve(exchange->client, exchange->window.size);
    gm_ring_unreserve(ctx->ring, exchange->upload_reserved);
    exchange->in_use = false;
    exchange->generation++;
    ctx->exchange_free[ctx->exchange_free_count++] = exchange->index;
    ctx->exchange_used_count--;
}

void gm_exchange_tell(struct gm_exchange *exchange, const struct gm_port_message *source)
{
    struct gm_port_message message = *source;
    message.to_far = true;
    message.pair = (struct gm_pair_id){exchange->index, exchange->generation,
                                       (uint16_t)gm_ring_index(exchange->ctx->ring)};
    gm_port_send(&exchange->ctx->port, exchange->far_ring, &message);
}

static void exchange_reset(struct gm_exchange *exchange, enum gm_reason_code reason)
{
    if (exchange->card != NULL) /* else no link knows of it */
        gm_exchange_tell(
            exchange, &(struct gm_port_message){.kind = GM_PORT_RESET, .reason = (uint16_t)reason});
}

void gm_exchange_finish(struct gm_exchange *exchange)
{
    struct gm_client *client = exchange->client;
    bool clean = exchange->request_done && exchange->keep_alive &&
                 exchange->framing != GM_ANSWER_UNTIL_CLOSE;
    if (!exchange->request_done)
        exchange_reset(exchange, GM_REASON_NONE);
    exchange_release(exchange);
    gm_client_exchange_done(client, clean);
}

void gm_exchange_cancel(struct gm_exchange *exchange, enum gm_reason_code reason)
{
    exchange->reason = (uint16_t)reason;
    exchange_reset(exchange, reason);
    exchange_release(exchange);
}

static void exchange_log_failure(const struct gm_exchange *exchange, enum gm_reason_code reason)
{
    gm_log_warn("request failed",
                GM_STRN("requestID", exchange->request_id, exchange->request_id_len),
                GM_STRN("service", exchange->service, exchange->service_len),
                GM_STR("reason", gm_reason_get((uint16_t)reason)->name),
                GM_BOOL("answered", !exchange->final_passed));
}

/* Whose place is meant. */
struct want {
    const char *service;
    size_t service_len;
    uint32_t agent_limit; /* of the agent that refused; 0: not known */
    uint32_t ahead;       /* requests that wait already */
    gm_slice said;        /* by the agent; may be empty */
};

#define EXCHANGE_MESSAGE_MAX (GM_REGISTRY_SERVICE_MAX + 64u)

/* The agent's own words, of which no byte is taken on trust. */
static void exchange_quote(char message[EXCHANGE_MESSAGE_MAX], gm_slice said)
{
    size_t len = said.len < EXCHANGE_MESSAGE_MAX - 1 ? said.len : EXCHANGE_MESSAGE_MAX - 1;
    for (size_t i = 0; i < len; i++)
        message[i] = said.data[i] >= 0x20 && said.data[i] < 0x7f ? (char)said.data[i] : '?';
    message[len] = '\0';
}

/* What there is to say about a request that found no place, or of which the agent has said more
 * than a reason: numbers, names and words into `message`, and when a place will be free. */
static void exchange_explain(struct gm_server_ring *ctx, const struct want *want,
                             struct gm_answer *answer, char message[EXCHANGE_MESSAGE_MAX])
{
    uint64_t milli = 0;
    uint32_t limit;
    switch (answer->reason) {
    case GM_REASON_AGENT_UNAVAILABLE:
        (void)snprintf(message, EXCHANGE_MESSAGE_MAX, "No agents available for service %.*s",
                       (int)want->service_len, want->service);
        break;
    case GM_REASON_RATE_LIMIT:
        (void)snprintf(message, EXCHANGE_MESSAGE_MAX,
                       "Server concurrent request limit reached (%lld)",
                       (long long)ctx->shared->config->max_concurrent_requests);
        milli = gm_rate_read(&ctx->shared->rate, gm_ring_now_ns(ctx->ring));
        break;
    case GM_REASON_AGENT_LIMIT:
        limit = want->agent_limit != 0
                    ? want->agent_limit
                    : gm_registry_limit(ctx->registry, want->service, want->service_len);
        if (limit == 0)
            (void)snprintf(message, EXCHANGE_MESSAGE_MAX, "%s", answer->message);
        else
            (void)snprintf(message, EXCHANGE_MESSAGE_MAX, "%s (%u)", answer->message, limit);
        milli = gm_registry_rate(ctx->registry, want->service, want->service_len);
        break;
    case GM_REASON_BACKEND_CLOSED:
        if (want->said.len == 0)
            return;
        exchange_quote(message, want->said);
        answer->message = message;
        return;
    default:
        return;
    }
    answer->message = message;
    if (answer->reason != GM_REASON_AGENT_UNAVAILABLE)
        answer->retry_after_s = gm_rate_wait_s(milli, want->ahead + 1u);
}

/* After an answer of ours the connection goes on: nothing of the request is still to come. */
static bool exchange_keeps(const struct gm_exchange *exchange)
{
    return exchange->request_done && exchange->keep_alive && !exchange->client->close_after &&
           exchange->ctx->phase != GM_SERVER_DRAINING;
}

static void exchange_answer(struct gm_exchange *exchange, enum gm_reason_code reason)
{
    struct gm_answer answer = gm_answer_for(reason);
    char message[EXCHANGE_MESSAGE_MAX];
    exchange_explain(
        exchange->ctx,
        &(struct want){.service = exchange->service,
                       .service_len = exchange->service_len,
                       .ahead = exchange->ahead,
                       .said = exchange->said,
                       .agent_limit = exchange->card == NULL ? 0 : exchange->card->request_limit},
        &answer, message);
    answer.json = exchange->accepts_json;
    answer.head_only = exchange->method == GM_HTTP_HEAD;
    answer.close = !exchange_keeps(exchange);
    answer.http10 = exchange->http10;
    answer.request_id = (struct gm_http_span){exchange->request_id, exchange->request_id_len};
    exchange->status = (uint16_t)answer.status;
    exchange->bytes_out += gm_answer_write(exchange->ctx, &exchange->client->conn, &answer);
}

void gm_exchange_fail(struct gm_exchange *exchange, enum gm_reason_code reason)
{
    struct gm_client *client = exchange->client;
    exchange->reason = (uint16_t)reason;
    exchange_log_failure(exchange, reason);
    exchange_reset(exchange, reason);
    bool answered = !exchange->final_passed, clean = answered && exchange_keeps(exchange);
    /* A chunked or counted body that stops short is an error to every client; one that ends with
     * the connection needs a RST to be one. */
    bool ends_with_close =
        exchange->framing == GM_ANSWER_UNTIL_CLOSE || exchange->framing == GM_ANSWER_RAW;
    if (answered)
        exchange_answer(exchange, reason);
    else
        gm_counter_add(GM_COUNTER_REQUESTS_FAILED, 1);
    exchange_release(exchange);
    if (!answered && ends_with_close)
        gm_client_cut(client, true);
    else
        gm_client_exchange_done(client, clean);
}

/* ---- Opening ---- */

/* Sends its head to the link; `card` has been begun. */
static void exchange_open(struct gm_exchange *exchange, struct gm_card *card)
{
    exchange->card = card;
    exchange->far_ring = card->ring;
    exchange->attempts++;
    exchange->send_room = card->request_window;
    exchange->unpulled = 0;
    struct gm_port_message open = {
        .kind = GM_PORT_OPEN,
        .slice = exchange->open_block,
        .amount = exchange->window.credit,
        .link_index = card->link_index,
        .link_generation = card->link_generation,
    };
    if (exchange->request_done)
        open.flags |= GM_PORT_END_STREAM;
    /* A block longer than one frame is taken apart where it stands when it leaves, so that it
     * cannot be sent twice. */
    if (open.slice.len <= GM_FRAME_PAYLOAD_MAX)
        (void)gm_slice_ref(open.slice);
    else
        exchange->open_block = (gm_slice){0};
    if (card->ring != gm_ring_index(exchange->ctx->ring))
        gm_counter_add(GM_COUNTER_CROSSINGS, 1);
    gm_exchange_tell(exchange, &open);
}

static void exchange_refuse(struct gm_client *client, const struct gm_exchange_request *request,
                            enum gm_reason_code reason)
{
    struct gm_answer answer = gm_answer_for(reason);
    char message[EXCHANGE_MESSAGE_MAX];
    exchange_explain(
        client->ctx,
        &(struct want){.service = request->service, .service_len = request->service_len}, &answer,
        message);
    gm_figures_refused(client->ctx, (struct gm_http_span){request->service, request->service_len},
                       request->who, reason);
    answer.who = request->who;
    answer.service = (struct gm_http_span){request->service, request->service_len};
    gm_admit_answer(client, request->head, answer);
}

static void exchange_describe(struct gm_exchange *exchange,
                              const struct gm_exchange_request *request)
{
    const struct gm_http_framing *framing = &request->head->framing;
    exchange->method = request->head->method_id;
    exchange->idempotent = gm_http_method_idempotent((enum gm_http_method)request->head->method_id);
    exchange->request_body = framing->body;
    exchange->request_left = framing->body == GM_HTTP_BODY_LENGTH ? framing->length : 0;
    exchange->upgrade = framing->upgrade != GM_HTTP_UPGRADE_NONE;
    exchange->http10 = framing->version_minor == 0;
    exchange->keep_alive = framing->keep_alive;
    exchange->accepts_json = gm_answer_wants_json(request->head);
    bool body = framing->body == GM_HTTP_BODY_CHUNKED || exchange->request_left > 0;
    exchange->request_done = !body && !exchange->upgrade;
    if (framing->body == GM_HTTP_BODY_CHUNKED)
        gm_http_chunked_init(&exchange->chunked, NULL, 0);
    exchange->service_len = (uint16_t)request->service_len;
    memcpy(exchange->service, request->service, request->service_len);
    gm_request_id(exchange->ctx, request->head, exchange->request_id, &exchange->request_id_len);
}

static bool exchange_reserve(struct gm_exchange *exchange)
{
    struct gm_ring *ring = exchange->ctx->ring;
    uint32_t window =
        gm_window_initial(gm_ring_reservable(ring), exchange->ctx->exchange_used_count);
    if (!gm_ring_reserve(ring, window))
        return false;
    gm_window_init(&exchange->window, window);
    if (exchange->request_done)
        return true;
    if (!gm_ring_reserve(ring, window))
        return false;
    exchange->upload_reserved = window;
    return true;
}

/* Takes both places, or says why there are none. With a queue, an agent that is thought to be full
 * is waited for; without one it is asked all the same. */
static enum gm_reason_code find_place(struct gm_server_ring *ctx,
                                      const struct gm_exchange_request *request,
                                      struct gm_card **card)
{
    const char *service = request->service;
    size_t len = request->service_len;
    bool upgrade = request->head->framing.upgrade != GM_HTTP_UPGRADE_NONE;
    if (gm_queue_waits(ctx, service, len) && gm_registry_serves(ctx->registry, service, len))
        return GM_REASON_AGENT_LIMIT; /* they are older */
    struct gm_card *found = gm_queue_is_on(ctx)
                                ? gm_registry_pick_free(ctx->registry, service, len, NULL, upgrade)
                                : gm_registry_pick(ctx->registry, service, len, NULL, upgrade);
    if (found == NULL && !gm_place_none(ctx->shared))
        return gm_registry_serves(ctx->registry, service, len) ? GM_REASON_AGENT_LIMIT
                                                               : GM_REASON_AGENT_UNAVAILABLE;
    if (found == NULL || !gm_place_take(ctx->shared))
        return GM_REASON_RATE_LIMIT;
    gm_card_begin(found);
    *card = found;
    return GM_REASON_NONE;
}

/* An exchange with all that it needs but a place; negative: it has been released. */
static int exchange_prepare(struct gm_exchange *exchange, struct gm_client *client,
                            const struct gm_exchange_request *request)
{
    exchange->client = client;
    gm_figures_began(exchange, request->who);
    gm_access_began(exchange, request->head);
    exchange_describe(exchange, request);
    int rc = exchange_reserve(exchange)
                 ? gm_request_encode(exchange, request, &exchange->open_block)
                 : -GM_E_NOMEM;
    if (rc < 0)
        exchange_release(exchange);
    return rc;
}

struct gm_exchange *gm_exchange_start(struct gm_client *client,
                                      const struct gm_exchange_request *request)
{
    struct gm_server_ring *ctx = client->ctx;
    struct gm_card *card = NULL;
    enum gm_reason_code none = find_place(ctx, request, &card);
    bool wait = gm_queue_is_on(ctx) && none != GM_REASON_NONE &&
                gm_registry_serves(ctx->registry, request->service, request->service_len);
    struct gm_exchange *exchange = none == GM_REASON_NONE || wait ? exchange_take(ctx) : NULL;
    if (exchange == NULL && card != NULL) {
        gm_card_end(card);
        gm_place_give(ctx);
    }
    if (exchange == NULL) {
        bool full = none == GM_REASON_NONE || wait;
        exchange_refuse(client, request, full ? GM_REASON_OVERLOAD : none);
        return NULL;
    }
    exchange->card = card;
    exchange->active = card != NULL;
    int rc = exchange_prepare(exchange, client, request);
    if (rc < 0) {
        exchange_refuse(client, request,
                        rc == -GM_E_LIMIT ? GM_REASON_HEADER_TOO_LARGE : GM_REASON_OVERLOAD);
        return NULL;
    }
    if (wait && !gm_queue_join(exchange, false)) {
        exchange_release(exchange);
        exchange_refuse(client, request, GM_REASON_OVERLOAD);
        return NULL;
    }
    client->exchange = exchange;
    if (!wait)
        exchange_open(exchange, card);
    return exchange;
}

/* ---- Again ---- */

static void replay_keep(struct gm_exchange *exchange, gm_slice piece);

/* All of the request that is held, to another link; `card` has been begun. */
static void exchange_resend(struct gm_exchange *exchange, struct gm_card *card)
{
    bool ended = exchange->request_done;
    exchange->request_done = ended && exchange->replay.count == 0;
    exchange_open(exchange, card);
    exchange->request_done = ended;
    struct gm_seg_pool *segs = gm_ring_segs(exchange->ctx->ring);
    struct gm_chain again = exchange->replay;
    exchange->replay = (struct gm_chain){0};
    while (again.count > 0) {
        /* Pieces of one buffer have become one again: another ring takes no more than a frame's. */
        gm_slice piece = gm_chain_front(&again);
        if (piece.len > GM_FRAME_PAYLOAD_MAX)
            piece.len = GM_FRAME_PAYLOAD_MAX;
        (void)gm_slice_ref(piece);
        gm_chain_consume(&again, segs, piece.len);
        replay_keep(exchange, piece); /* an agent may refuse it again */
        gm_exchange_tell(exchange, &(struct gm_port_message){.kind = GM_PORT_DATA, .slice = piece});
        exchange->send_room -= piece.len;
        exchange->unpulled += piece.len;
        if (ended && again.count == 0)
            gm_exchange_tell(exchange, &(struct gm_port_message){.kind = GM_PORT_END});
    }
}

void gm_exchange_go(struct gm_exchange *exchange, struct gm_card *card)
{
    exchange->card = card;
    exchange->active = true;
    if (exchange->replay.bytes > card->request_window) {
        gm_exchange_fail(exchange, GM_REASON_AGENT_LIMIT);
        return;
    }
    exchange_resend(exchange, card);
    gm_client_touch(exchange->client);
    gm_client_pump(exchange->client);
}

/* The link in use is done with; one of 0.0.x may not know that yet. */
static void exchange_let_go(struct gm_exchange *exchange)
{
    exchange_reset(exchange, GM_REASON_CANCELLED);
    exchange->generation++;
    gm_card_end(exchange->card);
}

/* No agent has a place for it after all: it waits, as old as it is. False: it cannot. */
static bool exchange_wait(struct gm_exchange *exchange)
{
    struct gm_server_ring *ctx = exchange->ctx;
    if (!gm_queue_is_on(ctx) || !gm_queue_join(exchange, true))
        return false;
    exchange_let_go(exchange);
    exchange->card = NULL;
    exchange->active = false;
    gm_place_give(ctx);
    return true;
}

/* The agent has refused it for its limit: another that is not thought to be full; the first time
 * also one that is, unless there is a queue to wait in. */
static struct gm_card *pick_less_full(struct gm_exchange *exchange)
{
    struct gm_registry *registry = exchange->ctx->registry;
    struct gm_card *old = exchange->card, *card = NULL;
    gm_registry_full(registry, old);
    if (exchange->refusals < GM_EXCHANGE_REFUSALS) {
        exchange->refusals++;
        card = gm_registry_pick_free(registry, exchange->service, exchange->service_len, old,
                                     exchange->upgrade);
    }
    if (card != NULL || exchange->refusals > 1 || gm_queue_is_on(exchange->ctx))
        return card;
    card = gm_registry_pick(registry, exchange->service, exchange->service_len, old,
                            exchange->upgrade);
    return card != NULL && card->agent != old->agent ? card : NULL;
}

bool gm_exchange_retry(struct gm_exchange *exchange, uint16_t reason, uint8_t flags)
{
    struct gm_server_ring *ctx = exchange->ctx;
    bool untouched = (flags & GM_PORT_UNTOUCHED) != 0;
    /* Refusals for a limit are no attempts: nothing has been tried. */
    bool full = untouched && reason == GM_REASON_AGENT_LIMIT;
    if (exchange->head_passed || exchange->open_block.buf == NULL || exchange->request_stopped ||
        (exchange->attempts >= GM_EXCHANGE_ATTEMPTS && !full))
        return false;
    bool elsewhere = exchange->idempotent && !exchange->upgrade &&
                     (gm_reason_get(reason)->flags & GM_REASON_ELSEWHERE) != 0;
    if (!untouched && !elsewhere)
        return false;
    struct gm_card *old = exchange->card;
    struct gm_card *card = full ? pick_less_full(exchange)
                                : gm_registry_pick(ctx->registry, exchange->service,
                                                   exchange->service_len, old, exchange->upgrade);
    if (full)
        exchange->attempts--;
    if (card == NULL || exchange->replay.bytes > card->request_window)
        return full && exchange_wait(exchange);
    gm_counter_add(GM_COUNTER_RETRIES, 1);
    gm_log_info("request moves to another link",
                GM_STRN("requestID", exchange->request_id, exchange->request_id_len),
                GM_STRN("service", exchange->service, exchange->service_len),
                GM_STR("reason", gm_reason_get(reason)->name));
    exchange_let_go(exchange);
    gm_card_begin(card);
    exchange_resend(exchange, card);
    return true;
}

/* ---- The request's body ---- */

uint64_t gm_exchange_room(const struct gm_exchange *exchange)
{
    if (exchange->request_done || exchange->card == NULL)
        return 0;
    if (exchange->request_stopped)
        return GM_CLIENT_BUF_BYTES;
    /* Before the agent has agreed to the upgrade nothing may be sent. */
    if (exchange->upgrade && exchange->framing != GM_ANSWER_RAW)
        return 0;
    uint64_t space = exchange->upload_reserved - exchange->unpulled;
    return space < exchange->send_room ? space : exchange->send_room;
}

static void replay_drop(struct gm_exchange *exchange)
{
    gm_ring_unhold(&exchange->holder);
    gm_chain_clear(&exchange->replay, gm_ring_segs(exchange->ctx->ring));
    gm_slice_put(exchange->open_block);
    exchange->open_block = (gm_slice){0};
}

/* Keeps the piece for a second attempt, as long as there may be one. */
static void replay_keep(struct gm_exchange *exchange, gm_slice piece)
{
    if (exchange->open_block.buf == NULL)
        return;
    /* What is kept is charged to the stream: no more than was reserved for its upload, so that
     * `unpulled` stays within it when all of it is sent again. */
    uint32_t most = exchange->upload_reserved < GM_EXCHANGE_REPLAY_MAX ? exchange->upload_reserved
                                                                       : GM_EXCHANGE_REPLAY_MAX;
    if (exchange->upgrade || exchange->replay.bytes + piece.len > most) {
        replay_drop(exchange);
        return;
    }
    struct gm_ring *ring = exchange->ctx->ring;
    if (gm_chain_push(&exchange->replay, gm_ring_segs(ring), gm_slice_ref(piece)) < 0) {
        gm_slice_put(piece);
        replay_drop(exchange);
        return;
    }
    gm_ring_hold(ring, &exchange->holder);
}

void gm_exchange_commit(struct gm_exchange *exchange)
{
    exchange->head_passed = true;
    replay_drop(exchange);
}

/* A long body gets more room, if there is any. */
static void upload_grow(struct gm_exchange *exchange)
{
    if (exchange->unpulled > exchange->upload_reserved / 2)
        exchange->upload_reserved = gm_ring_reserve_double(
            exchange->ctx->ring, exchange->upload_reserved, GM_EXCHANGE_UPLOAD_MAX);
}

/* Sends the first `len` bytes of `from`, a borrowed slice of this ring. */
static void exchange_send_data(struct gm_exchange *exchange, gm_slice from, uint32_t len)
{
    exchange->bytes_in += len;
    if (exchange->request_stopped)
        return;
    gm_slice piece = gm_slice_ref((gm_slice){from.data, len, from.buf});
    exchange->send_room -= len;
    exchange->unpulled += len;
    upload_grow(exchange);
    replay_keep(exchange, piece);
    gm_exchange_tell(exchange, &(struct gm_port_message){.kind = GM_PORT_DATA, .slice = piece});
}

static void exchange_end_request(struct gm_exchange *exchange)
{
    exchange->request_done = true;
    if (!exchange->request_stopped)
        gm_exchange_tell(exchange, &(struct gm_port_message){.kind = GM_PORT_END});
}

/* The trailers of a chunked request, checked by the decoder, as a block. True: sent, and with them
 * the end. */
static bool exchange_send_trailers(struct gm_exchange *exchange)
{
    struct gm_http_field list[GM_HTTP_FIELDS_MAX];
    struct gm_http_fields fields = {.list = list, .max = GM_HTTP_FIELDS_MAX};
    if (exchange->request_stopped || gm_http_chunked_trailers(&exchange->chunked, &fields) <= 0)
        return false;
    struct gm_buf *buf = gm_ring_block(exchange->ctx->ring, GM_BLOCK_SMALL);
    if (buf == NULL)
        return false;
    struct gm_head_writer writer;
    gm_head_write_trailers(&writer, buf->data + GM_MUX_HEAD_ROOM, buf->size - GM_MUX_HEAD_ROOM);
    for (uint16_t i = 0; i < fields.count; i++) {
        if ((list[i].flags & (GM_HTTP_FIELD_HOP | GM_HTTP_FIELD_DERIVED)) != 0)
            continue;
        gm_head_write_field(&writer, &(struct gm_head_field){list[i].name, list[i].value,
                                                             list[i].name_len, list[i].value_len});
    }
    int len = gm_head_write_finish(&writer);
    if (len < 0) {
        gm_buf_put(buf);
        return false;
    }
    gm_slice block = {buf->data, (uint32_t)len + GM_MUX_HEAD_ROOM, buf};
    replay_drop(exchange); /* trailers are not kept: a second attempt would go without them */
    gm_exchange_tell(exchange, &(struct gm_port_message){.kind = GM_PORT_TRAILERS, .slice = block});
    exchange->request_done = true;
    return true;
}

/* One step of a chunked body. Bytes of input used, or a negative error. */
static int feed_chunked(struct gm_exchange *exchange, gm_slice front, uint32_t max)
{
    struct gm_http_chunked_step step;
    int rc = gm_http_chunked_feed(&exchange->chunked, (const char *)front.data,
                                  front.len < max ? front.len : max, &step);
    if (rc < 0)
        return rc;
    if (rc == GM_HTTP_CHUNKED_DATA) {
        exchange_send_data(
            exchange,
            (gm_slice){(uint8_t *)(uintptr_t)step.data.p, (uint32_t)step.data.len, front.buf},
            (uint32_t)step.data.len);
    } else if (rc == GM_HTTP_CHUNKED_SCRATCH) {
        exchange->trailer_scratch = gm_ring_block(exchange->ctx->ring, GM_BLOCK_SMALL);
        if (exchange->trailer_scratch == NULL)
            return -GM_HTTP_E_TRAILER_TOO_LARGE;
        gm_http_chunked_lend(&exchange->chunked, (char *)exchange->trailer_scratch->data,
                             exchange->trailer_scratch->size);
    } else if (rc == GM_HTTP_CHUNKED_DONE && !exchange_send_trailers(exchange)) {
        exchange_end_request(exchange);
    }
    return (int)step.consumed;
}

static int feed_counted(struct gm_exchange *exchange, gm_slice front, uint32_t max)
{
    uint64_t len = front.len < max ? front.len : max;
    if (!exchange->upgrade && len > exchange->request_left)
        len = exchange->request_left;
    exchange_send_data(exchange, front, (uint32_t)len);
    if (exchange->upgrade)
        return (int)len;
    exchange->request_left -= len;
    if (exchange->request_left == 0)
        exchange_end_request(exchange);
    return (int)len;
}

int gm_exchange_feed(struct gm_exchange *exchange, struct gm_chain *input)
{
    struct gm_seg_pool *segs = gm_ring_segs(exchange->ctx->ring);
    while (input->count > 0) {
        uint64_t room = gm_exchange_room(exchange);
        if (room == 0)
            return 0;
        uint32_t max = room < GM_FRAME_PAYLOAD_MAX ? (uint32_t)room : GM_FRAME_PAYLOAD_MAX;
        gm_slice front = gm_chain_front(input);
        bool chunked = exchange->request_body == GM_HTTP_BODY_CHUNKED && !exchange->upgrade;
        int used =
            chunked ? feed_chunked(exchange, front, max) : feed_counted(exchange, front, max);
        if (used < 0) {
            gm_exchange_fail(exchange, GM_REASON_BAD_REQUEST);
            return used;
        }
        gm_chain_consume(input, segs, (size_t)used);
    }
    return 0;
}

void gm_exchange_input_ended(struct gm_exchange *exchange)
{
    if (!exchange->request_done)
        exchange_end_request(exchange);
    if (exchange->answer_done)
        gm_exchange_finish(exchange);
}
