/* The answer's way: messages of the far half become HTTP on the client's connection, and what the
 * client takes becomes credit.
 *
 * Owner: the client's ring. Invariants: nothing follows the final head but its body; a body leaves
 * whole or is cut visibly; a grant is made only for bytes the socket has taken. */
#include <string.h>

#include "frame/head.h"
#include "server/answer.h"
#include "server/exchange.h"

/* A response block as text: as many bytes, four more per field at most being there already, and
 * what we add. */
#define RELAY_ADDED_BYTES 512u

/* Fields of an answer that mean something to us. */
enum { RELAY_DATE = 1, RELAY_REQUEST_ID = 2, RELAY_OUR_ERROR = 4 };

static bool is_named(const struct gm_head_field *field, const char *name)
{
    return strncasecmp(field->name, name, field->name_len) == 0;
}

/* Which of them it is; 0: none. Hardly any other has one of their lengths. */
static inline unsigned known_field(const struct gm_head_field *field)
{
    switch (field->name_len) {
    case sizeof "Date" - 1:
        return is_named(field, "Date") ? RELAY_DATE : 0;
    case sizeof "X-Request-Id" - 1:
        return is_named(field, "X-Request-Id") ? RELAY_REQUEST_ID : 0;
    case sizeof "X-Gimlet-Error" - 1:
        return is_named(field, "X-Gimlet-Error") ? RELAY_OUR_ERROR : 0;
    default:
        return 0;
    }
}

/* Returns which of the known fields there were. */
static unsigned relay_fields(struct gm_http_out *out, struct gm_head_fields fields)
{
    unsigned found = 0;
    struct gm_head_field field;
    while (gm_head_next(&fields, &field)) {
        unsigned known = known_field(&field);
        found |= known;
        /* The gateway's own field: no backend speaks in its name. */
        if (known != RELAY_OUR_ERROR)
            gm_http_write_field(out, (struct gm_http_span){field.name, field.name_len},
                                (struct gm_http_span){field.value, field.value_len});
    }
    return found;
}

static enum gm_answer_framing choose_framing(const struct gm_exchange *exchange,
                                             const struct gm_head_response *head)
{
    if (head->status == 101)
        return GM_ANSWER_RAW;
    if (exchange->method == GM_HTTP_HEAD || head->status == 204 || head->status == 304)
        return GM_ANSWER_NONE;
    if ((head->flags & GM_HEAD_FLAG_BODY) == 0)
        return GM_ANSWER_NONE;
    if (head->content_length != GM_HEAD_LENGTH_UNKNOWN)
        return GM_ANSWER_LENGTH;
    return exchange->http10 ? GM_ANSWER_UNTIL_CLOSE : GM_ANSWER_CHUNKED;
}

static void relay_framing(struct gm_http_out *out, struct gm_exchange *exchange,
                          const struct gm_head_response *head)
{
    bool counted = head->content_length != GM_HEAD_LENGTH_UNKNOWN;
    if (exchange->framing == GM_ANSWER_RAW) {
        gm_http_write_field(out, GM_HTTP_LIT("Connection"), GM_HTTP_LIT("Upgrade"));
        return;
    }
    if (exchange->framing == GM_ANSWER_CHUNKED)
        gm_http_write_field(out, GM_HTTP_LIT("Transfer-Encoding"), GM_HTTP_LIT("chunked"));
    else if (counted)
        gm_http_write_field_u64(out, GM_HTTP_LIT("Content-Length"), head->content_length);
    else if (exchange->framing == GM_ANSWER_NONE && exchange->method != GM_HTTP_HEAD &&
             head->status != 204 && head->status != 304)
        gm_http_write_field(out, GM_HTTP_LIT("Content-Length"), GM_HTTP_LIT("0"));
    if (exchange->framing == GM_ANSWER_UNTIL_CLOSE || exchange->client->close_after ||
        exchange->ctx->phase == GM_SERVER_DRAINING)
        exchange->keep_alive = false;
    if (!exchange->keep_alive)
        gm_http_write_field(out, GM_HTTP_LIT("Connection"), GM_HTTP_LIT("close"));
    else if (exchange->http10)
        gm_http_write_field(out, GM_HTTP_LIT("Connection"), GM_HTTP_LIT("keep-alive"));
}

static void write_head(struct gm_exchange *exchange, const struct gm_head_response *head,
                       size_t block_len)
{
    struct gm_conn *conn = &exchange->client->conn;
    bool interim = head->status < 200 && head->status != 101;
    size_t need = block_len + RELAY_ADDED_BYTES;
    char *place = gm_conn_reserve(conn, need);
    if (place == NULL)
        return;
    struct gm_http_out out;
    gm_http_out_init(&out, place, need);
    gm_http_write_status_line(&out, 1, head->status,
                              (struct gm_http_span){head->reason, head->reason_len});
    unsigned found = relay_fields(&out, head->fields);
    if (!interim) {
        relay_framing(&out, exchange, head);
        if ((found & RELAY_DATE) == 0)
            gm_http_write_field(
                &out, GM_HTTP_LIT("Date"),
                (struct gm_http_span){gm_server_date(exchange->ctx), GM_HTTP_DATE_LEN});
        if ((found & RELAY_REQUEST_ID) == 0)
            gm_http_write_field(
                &out, GM_HTTP_LIT("X-Request-Id"),
                (struct gm_http_span){exchange->request_id, exchange->request_id_len});
    }
    gm_http_write_end(&out);
    GM_ASSERT(out.error ==
              0); /* the block was checked when it was read, and the room is an upper bound */
    gm_conn_commit(conn, out.len);
}

/* The answer's own head has come. */
static void relay_began(struct gm_exchange *exchange, uint16_t status)
{
    exchange->status = status;
    exchange->first_byte_ns = gm_ring_now_ns(exchange->ctx->ring);
}

/* On another link, or in the queue for one. False: neither may be. */
static bool relay_again(struct gm_exchange *exchange, uint16_t reason, uint8_t flags)
{
    if (!gm_exchange_retry(exchange, reason, flags))
        return false;
    /* The new link may take more than the old one did: a body that stood still goes on. */
    gm_client_touch(exchange->client);
    gm_client_pump(exchange->client);
    return true;
}

/* "Agent concurrent request limit reached (N)". */
#define OLD_REFUSAL_MIN 42u
#define OLD_REFUSAL_MAX 52u

/* An agent of 0.0.x that is full says so by an answer of its own, of a form that no backend's has:
 * 429 with a type, a length, and nothing else. */
static bool is_old_refusal(const struct gm_exchange *exchange, const struct gm_head_response *head)
{
    struct gm_head_fields fields = head->fields;
    struct gm_head_field field;
    return exchange->card->old && head->status == 429 && head->content_length >= OLD_REFUSAL_MIN &&
           head->content_length <= OLD_REFUSAL_MAX && gm_head_next(&fields, &field) &&
           field.value_len == sizeof "text/plain" - 1 &&
           memcmp(field.value, "text/plain", field.value_len) == 0 &&
           !gm_head_next(&fields, &field);
}

/* An agent may be anybody's, and clients of others may share the client's connection: nothing may
 * stand in an answer that one of them would take for the next. */
static bool head_fits(struct gm_exchange *exchange, const struct gm_head_response *head)
{
    if (head->status == 101)
        return exchange->upgrade && (head->flags & GM_HEAD_FLAG_UPGRADE) != 0;
    if (head->status < 200)
        return ++exchange->interims <= GM_EXCHANGE_INTERIMS_MAX;
    bool promised = head->content_length != GM_HEAD_LENGTH_UNKNOWN && head->content_length > 0 &&
                    exchange->method != GM_HTTP_HEAD && head->status != 304;
    return !promised || (head->flags & GM_HEAD_FLAG_BODY) != 0;
}

static void relay_head(struct gm_exchange *exchange, gm_slice block)
{
    struct gm_head_response head;
    if (exchange->final_passed || gm_head_read_response(block.data, block.len, &head) < 0 ||
        !head_fits(exchange, &head)) {
        gm_slice_put(block);
        gm_exchange_fail(exchange, GM_REASON_PROTOCOL_ERROR);
        return;
    }
    if (is_old_refusal(exchange, &head) &&
        relay_again(exchange, GM_REASON_AGENT_LIMIT, GM_PORT_UNTOUCHED)) {
        gm_slice_put(block);
        return;
    }
    bool interim = head.status < 200 && head.status != 101;
    if (!interim) {
        exchange->framing = (uint8_t)choose_framing(exchange, &head);
        exchange->answer_left = exchange->framing == GM_ANSWER_LENGTH ? head.content_length : 0;
    }
    if (!interim || !exchange->http10) {
        write_head(exchange, &head, block.len);
        gm_exchange_commit(exchange);
    }
    exchange->final_passed = !interim;
    if (!interim)
        relay_began(exchange, head.status);
    gm_slice_put(block);
    /* An upgrade that was refused is an ordinary exchange from here on, without a request body. */
    if (!interim && exchange->upgrade && exchange->framing != GM_ANSWER_RAW) {
        exchange->upgrade = false;
        exchange->client->state = GM_CLIENT_EXCHANGE;
        gm_exchange_input_ended(exchange);
    }
}

static void relay_data(struct gm_exchange *exchange, gm_slice slice)
{
    struct gm_conn *conn = &exchange->client->conn;
    bool fits = exchange->final_passed && exchange->framing != GM_ANSWER_NONE &&
                gm_window_receive(&exchange->window, slice.len) &&
                (exchange->framing != GM_ANSWER_LENGTH || slice.len <= exchange->answer_left);
    if (!fits) {
        gm_slice_put(slice);
        gm_exchange_fail(exchange, GM_REASON_PROTOCOL_ERROR);
        return;
    }
    exchange->bytes_out += slice.len;
    if (exchange->framing == GM_ANSWER_LENGTH)
        exchange->answer_left -= slice.len;
    if (exchange->framing != GM_ANSWER_CHUNKED) {
        gm_conn_write_slice(conn, slice);
        return;
    }
    char chunk[GM_HTTP_CHUNK_HEAD_MAX];
    gm_conn_write(conn, chunk, gm_http_chunk_head(chunk, slice.len));
    gm_conn_write_slice(conn, slice);
    gm_conn_write(conn, GM_HTTP_CHUNK_TAIL, 2);
}

static void relay_end(struct gm_exchange *exchange)
{
    if (!exchange->final_passed || exchange->answer_left > 0) {
        gm_exchange_fail(exchange, GM_REASON_PROTOCOL_ERROR);
        return;
    }
    exchange->answer_done = true;
    if (exchange->framing == GM_ANSWER_CHUNKED)
        gm_conn_write(&exchange->client->conn, GM_HTTP_CHUNK_END, sizeof GM_HTTP_CHUNK_END - 1);
    if (exchange->framing == GM_ANSWER_RAW && !exchange->request_done) {
        gm_conn_finish(&exchange->client->conn);
        return;
    }
    gm_exchange_finish(exchange);
}

static void relay_trailers(struct gm_exchange *exchange, gm_slice block)
{
    struct gm_head_fields fields;
    size_t need = block.len + 16;
    char *place = NULL;
    if (exchange->framing == GM_ANSWER_CHUNKED &&
        gm_head_read_trailers(block.data, block.len, &fields) >= 0)
        place = gm_conn_reserve(&exchange->client->conn, need);
    if (place != NULL) {
        struct gm_http_out out;
        gm_http_out_init(&out, place, need);
        gm_http_write_raw(&out, GM_HTTP_LIT(GM_HTTP_CHUNK_LAST));
        (void)relay_fields(&out, fields);
        gm_http_write_end(&out);
        GM_ASSERT(out.error == 0);
        gm_conn_commit(&exchange->client->conn, out.len);
        exchange->framing = GM_ANSWER_NONE; /* the last chunk has been written */
    }
    gm_slice_put(block);
}

/* The agent wants no more of the body: our direction ends here, what still comes is read and
 * dropped. */
static void relay_stop(struct gm_exchange *exchange)
{
    if (exchange->request_done || exchange->request_stopped)
        return;
    gm_exchange_tell(exchange, &(struct gm_port_message){.kind = GM_PORT_END});
    exchange->request_stopped = true;
}

static void relay_reset(struct gm_exchange *exchange, const struct gm_port_message *message)
{
    uint16_t reason = message->reason;
    if (relay_again(exchange, reason, message->flags)) {
        gm_slice_put(message->slice);
        return;
    }
    exchange->said = message->slice;
    gm_exchange_fail(exchange, reason == GM_REASON_NONE ? GM_REASON_AGENT_DISCONNECT
                                                        : (enum gm_reason_code)reason);
}

void gm_exchange_on_message(void *context, const struct gm_port_message *message)
{
    struct gm_server_ring *ctx = context;
    struct gm_exchange *exchange = &ctx->exchanges[message->pair.index];
    if (!exchange->in_use || exchange->generation != message->pair.generation) {
        gm_slice_put(message->slice); /* it has ended, and told its far half so */
        return;
    }
    struct gm_client *client = exchange->client;
    switch ((enum gm_port_kind)message->kind) {
    case GM_PORT_HEAD:
        relay_head(exchange, message->slice);
        break;
    case GM_PORT_DATA:
        relay_data(exchange, message->slice);
        break;
    case GM_PORT_TRAILERS:
        relay_trailers(exchange, message->slice);
        break;
    case GM_PORT_RESET:
        relay_reset(exchange, message);
        return;
    case GM_PORT_STOP:
        relay_stop(exchange);
        break;
    case GM_PORT_CREDIT:
        exchange->send_room += message->amount;
        break;
    case GM_PORT_PULLED:
        exchange->unpulled -=
            message->amount < exchange->unpulled ? message->amount : exchange->unpulled;
        break;
    case GM_PORT_END:
        break;
    case GM_PORT_OPEN:
    case GM_PORT_GRANT:
    case GM_PORT_KINDS:
        GM_UNREACHABLE("a message for the far half");
    }
    /* A failure above has ended the exchange, and perhaps begun the next one in its place. */
    if (!exchange->in_use || exchange->generation != message->pair.generation)
        return;
    gm_client_touch(client);
    if (message->kind == GM_PORT_END || (message->flags & GM_PORT_END_STREAM) != 0)
        relay_end(exchange);
    else if (message->kind == GM_PORT_STOP || message->kind == GM_PORT_CREDIT ||
             message->kind == GM_PORT_PULLED || message->kind == GM_PORT_HEAD)
        gm_client_pump(client);
}

/* ---- Credit ---- */

static bool relay_reserve(void *arg, uint32_t bytes)
{
    struct gm_exchange *exchange = arg;
    return gm_ring_reserve_more(exchange->ctx->ring, bytes);
}

/* What the connection still holds counts as not drained, its framing bytes too: a grant is late by
 * those few bytes, never early. */
void gm_exchange_drained(struct gm_exchange *exchange)
{
    size_t queued = gm_conn_queued(&exchange->client->conn);
    if (exchange->window.held <= queued || exchange->answer_done)
        return;
    struct gm_window_env env = {
        .now_ns = gm_ring_now_ns(exchange->ctx->ring),
        .rtt_ns = atomic_load_explicit(&exchange->card->rtt_ns, memory_order_relaxed),
        .reserve = relay_reserve,
        .arg = exchange,
    };
    uint32_t grant =
        gm_window_drain(&exchange->window, (uint32_t)(exchange->window.held - queued), &env);
    gm_client_touch(exchange->client);
    if (grant > 0)
        gm_exchange_tell(exchange,
                         &(struct gm_port_message){.kind = GM_PORT_GRANT, .amount = grant});
}
