/* A client connection: gathering heads, granting receives, deadlines, the end. Owner: the ring that
 * accepted it.
 *
 * Invariants: the input holds what has been received and not used, in order, and is there only
 * while there is such; a head block exists only while a head is incomplete or waits for its token;
 * in state EXCHANGE and RAW `exchange` is set, in every other it is NULL. */
#include "server/client.h"

#include <string.h>

#include "base/log.h"
#include "server/admit.h"
#include "server/answer.h"
#include "server/attach.h"
#include "server/exchange.h"

/* Granted ahead while no body is being read: some dozen pipelined heads, and all that a client can
 * make us hold unasked. */
#define CLIENT_HEAD_GRANT     16384u
#define CLIENT_HEAD_GRANT_LOW 4096u
/* While so much of earlier answers waits for the client to read it, its next request waits, too:
 * whoever pipelines and does not read would fill our memory. */
#define CLIENT_ANSWERS_MAX 16384u

static const struct gm_conn_ops client_ops;
static void client_run(struct gm_client *client);
static void client_expect_proxy(struct gm_client *client);
static bool client_secure(struct gm_client *client);
static void client_evacuate(struct gm_holder *holder);

static struct gm_client *client_of(struct gm_conn *conn)
{
    return GM_CONTAINER_OF(conn, struct gm_client, conn);
}
static struct gm_seg_pool *client_segs(struct gm_client *client)
{
    return gm_ring_segs(client->ctx->ring);
}

void gm_client_accept(struct gm_server_ring *ctx, int fd, enum gm_client_face face, bool tls)
{
    struct gm_client *client = gm_slab_take(&ctx->client_slab);
    if (client != NULL) {
        *client = (struct gm_client){.ctx = ctx, .face = (uint8_t)face, .tls = tls};
        gm_list_init(&client->node);
    }
    if (client == NULL || gm_conn_open(ctx->ring, &client->conn, fd, &client_ops) < 0) {
        if (client != NULL)
            gm_client_free(client);
        gm_ring_close_fd(ctx->ring, fd);
        gm_log_warn("connection refused: no room for another",
                    GM_UINT("ring", gm_ring_index(ctx->ring)));
        return;
    }
    bool proxied = face == GM_FACE_PUBLIC && ctx->shared->config->proxy_protocol == 1;
    client->state = proxied ? GM_CLIENT_PROXY : GM_CLIENT_HEAD;
    gm_list_push_back(&ctx->clients, &client->node);
    gm_conn_deadline(&client->conn, ctx->shared->config->header_timeout_ns);
    client->close_after = ctx->phase == GM_SERVER_DRAINING;
    if (proxied)
        client_expect_proxy(client);
    else if (!tls || client_secure(client))
        gm_conn_recv(&client->conn, GM_POOL_CLIENT, CLIENT_HEAD_GRANT);
}

/* ---- Input ---- */

/* The client's input, made when there is none. */
static struct gm_client_input *client_input(struct gm_client *client)
{
    if (client->input == NULL) {
        client->input = gm_ring_desk(client->ctx->ring);
        *client->input = (struct gm_client_input){.client = client};
        gm_list_init(&client->input->queue);
        gm_holder_init(&client->input->holder, client_evacuate);
    }
    return client->input;
}

static size_t client_unused(const struct gm_client *client)
{
    return client->input == NULL ? 0 : client->input->bytes.bytes;
}

static void client_head_drop(struct gm_client_input *input)
{
    if (input->head != NULL) {
        gm_buf_put(input->head);
        input->client->ctx->head_blocks--;
    }
    input->head = NULL;
    input->head_len = input->head_scanned = input->head_copied = 0;
    gm_list_remove(&input->queue);
}

static void client_input_give(struct gm_client *client)
{
    gm_ring_unhold(&client->input->holder);
    gm_ring_desk_give(client->ctx->ring, client->input);
    client->input = NULL;
}

static void client_input_drop(struct gm_client *client)
{
    if (client->input == NULL)
        return;
    client_head_drop(client->input);
    gm_chain_clear(&client->input->bytes, client_segs(client));
    client_input_give(client);
}

/* What is left of the input waits, or it has been used up. */
static void client_input_settle(struct gm_client *client)
{
    struct gm_client_input *input = client->input;
    if (input == NULL)
        return;
    if (input->bytes.count > 0)
        gm_ring_hold(client->ctx->ring, &input->holder);
    else if (input->head != NULL)
        gm_ring_unhold(&input->holder);
    else
        client_input_give(client);
}

void gm_client_free(struct gm_client *client)
{
    client_input_drop(client); /* what came while its connection was handed over */
    gm_list_remove(&client->node);
    gm_slab_give(&client->ctx->client_slab, client);
}

static void client_leave(struct gm_client *client)
{
    client->state = GM_CLIENT_LEAVING;
    client_input_drop(client);
}

static void client_close(struct gm_client *client)
{
    client_leave(client);
    gm_conn_close(&client->conn);
}

static void client_abort(struct gm_client *client, bool reset)
{
    client_leave(client);
    gm_conn_abort(&client->conn, reset);
}

static void client_refuse(struct gm_client *client, struct gm_answer answer)
{
    if (client->state == GM_CLIENT_PROXY) {
        client_abort(client, false); /* it has not said yet what it speaks */
        return;
    }
    client->close_after = true;
    gm_admit_answer(client, NULL, answer);
    client_close(client);
}

/* ---- Heads ---- */

/* A place for a head of more than `have` bytes. When none is left, or incomplete heads hold half of
 * what answers and frames are written into, the oldest on this ring makes room. */
static struct gm_buf *client_head_block(struct gm_client *client, uint32_t have)
{
    enum gm_block kind = have < GM_BLOCK_SMALL_BYTES / 2 ? GM_BLOCK_SMALL : GM_BLOCK_HEAD;
    struct gm_server_ring *ctx = client->ctx;
    bool many = ctx->head_blocks >= gm_ring_block_count(ctx->ring, GM_BLOCK_SMALL) / 2;
    struct gm_buf *block = many ? NULL : gm_ring_block(ctx->ring, kind);
    struct gm_list *oldest = gm_list_first(&ctx->partial_heads);
    if (block != NULL)
        return block;
    if (oldest != NULL && oldest != &client->input->queue)
        client_refuse(GM_CONTAINER_OF(oldest, struct gm_client_input, queue)->client,
                      gm_answer_for(GM_REASON_REQUEST_TIMEOUT));
    return gm_ring_block(ctx->ring, kind);
}

/* Copies the front slice behind the incomplete head. False: no more input, or no room (answered).
 */
static bool client_gather(struct gm_client *client)
{
    struct gm_client_input *input = client->input;
    gm_chain_consume(&input->bytes, client_segs(client), input->head_copied);
    input->head_copied = 0;
    if (input->bytes.count == 0)
        return false;
    gm_slice front = gm_chain_front(&input->bytes);
    uint32_t room = input->head != NULL ? input->head->size - input->head_len : 0;
    if (room < front.len) {
        struct gm_buf *block = client_head_block(client, input->head_len + front.len);
        if (block == NULL || block->size < input->head_len + front.len) {
            if (block != NULL)
                gm_buf_put(block);
            client_refuse(client, gm_answer_for(block == NULL ? GM_REASON_OVERLOAD
                                                              : GM_REASON_HEADER_TOO_LARGE));
            return false;
        }
        if (input->head != NULL) {
            memcpy(block->data, input->head->data, input->head_len);
            gm_buf_put(input->head);
        } else {
            client->ctx->head_blocks++;
        }
        input->head = block;
    }
    memcpy(input->head->data + input->head_len, front.data, front.len);
    gm_counter_add(GM_COUNTER_COPIES_SMALL, 1);
    gm_counter_add(GM_COUNTER_COPIES_SMALL_BYTES, front.len);
    input->head_len += front.len;
    input->head_copied = front.len;
    if (gm_list_empty(&input->queue))
        gm_list_push_back(&client->ctx->partial_heads, &input->queue);
    return true;
}

/* The head, or PROXY header, of `len` bytes has been dealt with: input goes on behind it. */
static void client_head_used(struct gm_client *client, uint32_t len)
{
    struct gm_client_input *input = client->input;
    if (input->head != NULL) {
        uint32_t surplus = input->head_len - len;
        GM_ASSERT(surplus <= input->head_copied);
        len = input->head_copied - surplus;
    }
    gm_chain_consume(&input->bytes, client_segs(client), len);
    client_head_drop(input);
    client->head_begun = false;
}

/* The rest of the head, or its turn, has to come until its deadline. */
static void client_head_waits(struct gm_client *client)
{
    if (client->head_begun)
        return;
    client->head_begun = true;
    gm_conn_deadline(&client->conn, client->ctx->shared->config->header_timeout_ns);
}

/* All that has come of the head under way. False: nothing has. */
static bool client_front(const struct gm_client *client, gm_slice *front)
{
    const struct gm_client_input *input = client->input;
    if (input == NULL || (input->head == NULL && input->bytes.count == 0))
        return false;
    *front = input->head != NULL ? (gm_slice){input->head->data, input->head_len, NULL}
                                 : gm_chain_front(&input->bytes);
    return true;
}

static void client_parse_failed(struct gm_client *client, int error)
{
    static const struct {
        int status;
        enum gm_reason_code reason;
    } rows[] = {{431, GM_REASON_HEADER_TOO_LARGE},
                {414, GM_REASON_URI_TOO_LONG},
                {501, GM_REASON_NOT_IMPLEMENTED},
                {505, GM_REASON_VERSION_NOT_SUPPORTED},
                {417, GM_REASON_EXPECTATION_FAILED}};
    enum gm_reason_code reason = GM_REASON_BAD_REQUEST;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].status == gm_http_error_status(error))
            reason = rows[i].reason;
    }
    struct gm_answer answer = gm_answer_for(reason);
    answer.message = gm_http_error_text(error);
    gm_counter_add(GM_COUNTER_REQUESTS, 1);
    client_refuse(client, answer);
}

static bool client_admit(struct gm_client *client, const struct gm_http_request *request,
                         uint32_t len)
{
    switch (gm_admit(client, request)) {
    case GM_ADMIT_HANDED:
    case GM_ADMIT_HELD:
        return false;
    case GM_ADMIT_WAIT:
        gm_client_wait(client, &client->ctx->verify_waiting);
        gm_server_verify_later(client->ctx);
        return false;
    case GM_ADMIT_STARTED:
        client_head_used(client, len);
        client->state = client->exchange->upgrade ? GM_CLIENT_RAW : GM_CLIENT_EXCHANGE;
        return true;
    case GM_ADMIT_ANSWERED:
        client_head_used(client, len);
        if (client->close_after) {
            client_close(client);
            return false;
        }
        gm_conn_deadline(&client->conn, client->ctx->shared->config->keepalive_timeout_ns);
        client->state = GM_CLIENT_HEAD;
        return true;
    }
    return false;
}

/* Tries to make a request of what has come. True: something moved, look again. */
static bool client_take_head(struct gm_client *client)
{
    gm_slice front;
    if (!client_front(client, &front))
        return false;
    struct gm_http_field fields[GM_HTTP_FIELDS_MAX];
    struct gm_http_request request;
    gm_http_request_init(&request, fields, GM_HTTP_FIELDS_MAX,
                         (uint32_t)client->ctx->shared->config->header_bytes);
    size_t scanned = client->input->head_scanned;
    int len = gm_http_parse_request((const char *)front.data, front.len, &scanned, &request);
    client->input->head_scanned = (uint32_t)scanned;
    if (len == 0) {
        client_head_waits(client);
        return client_gather(client);
    }
    if (len < 0) {
        client_parse_failed(client, len);
        return false;
    }
    client->input->head_scanned = 0; /* a head that waits for its token is parsed again */
    return client_admit(client, &request, (uint32_t)len);
}

/* ---- PROXY headers ---- */

static void client_refuse_proxy(struct gm_client *client, const char *problem)
{
    char from[INET6_ADDRSTRLEN];
    (void)gm_peer_text(&client->peer, from);
    gm_counter_add(GM_COUNTER_PROXY_REFUSED, 1);
    gm_log_warn("connection closed: --proxy-protocol is on", GM_STR("problem", problem),
                GM_STR("from", from));
    client_abort(client, false);
}

static void client_expect_proxy(struct gm_client *client)
{
    const struct gm_server_config *config = client->ctx->shared->config;
    gm_peer_learn(&client->peer, &client->conn, config);
    if (config->trusted_proxies_text != NULL && !client->peer.trusted)
        client_refuse_proxy(client, "it comes from none of --trusted-proxies");
    else
        gm_conn_recv(&client->conn, GM_POOL_CLIENT, GM_PROXY_HEADER_MAX);
}

/* True: something moved, look again. */
static bool client_take_proxy(struct gm_client *client)
{
    gm_slice front;
    if (!client_front(client, &front))
        return false;
    struct gm_proxy_header header;
    int len = gm_proxy_header_parse(front.data, front.len, &header);
    if (len == 0)
        return client_gather(client);
    if (len < 0) {
        client_refuse_proxy(client, len == -GM_E_NOT_FOUND ? "it begins without a PROXY header"
                                    : len == -GM_E_LIMIT   ? "its PROXY header is too long"
                                                           : "its PROXY header is malformed");
        return false;
    }
    client_head_used(client, (uint32_t)len);
    gm_peer_told(&client->peer, &header, client->ctx->shared->config);
    client->state = GM_CLIENT_HEAD;
    gm_conn_deadline(&client->conn, client->ctx->shared->config->header_timeout_ns);
    return !client->tls || client_secure(client);
}

/* ---- TLS ---- */

/* From here on the connection speaks TLS, what has come already included. False: it is over. */
static bool client_secure(struct gm_client *client)
{
    struct gm_server_ring *ctx = client->ctx;
    struct gm_tls *session = client->input_ended ? NULL : gm_tls_accept(ctx->tls);
    if (session == NULL ||
        gm_conn_secure(&client->conn, session, &ctx->tls_room, GM_POOL_CLIENT) < 0) {
        client_abort(client, false);
        return false;
    }
    while (client_unused(client) > 0)
        gm_conn_unread(&client->conn, gm_chain_pop(&client->input->bytes, client_segs(client)));
    return true;
}

static void client_tls_failed(struct gm_client *client, int error)
{
    char from[INET6_ADDRSTRLEN];
    gm_peer_learn(&client->peer, &client->conn, client->ctx->shared->config);
    (void)gm_peer_text(&client->peer, from);
    gm_log_warn("TLS with a client failed", GM_STR("from", from), GM_ERRTEXT(gm_error_text(error)));
}

/* ---- The run of a connection ---- */

static void client_feed(struct gm_client *client)
{
    if (client->input != NULL && gm_exchange_feed(client->exchange, &client->input->bytes) < 0)
        return;
    /* Only now: whether the client or the backend is waited for depends on what has been fed. */
    gm_client_touch(client);
    gm_client_pump(client);
}

static void client_top_up(struct gm_client *client)
{
    uint64_t left = gm_conn_recv_left(&client->conn);
    if (left < CLIENT_HEAD_GRANT_LOW && client_unused(client) < CLIENT_HEAD_GRANT)
        gm_conn_recv(&client->conn, GM_POOL_CLIENT, CLIENT_HEAD_GRANT);
}

static bool client_reads_answers(const struct gm_client *client)
{
    return gm_conn_queued(&client->conn) < CLIENT_ANSWERS_MAX;
}

static void client_run(struct gm_client *client)
{
    while (client->state == GM_CLIENT_PROXY) {
        if (!client_take_proxy(client))
            break;
    }
    /* A connection that ends before its header, or without one, is a balancer's look at us. */
    if (client->state == GM_CLIENT_PROXY && client->input_ended) {
        client_abort(client, false);
        return;
    }
    while (client->state == GM_CLIENT_HEAD && client_reads_answers(client)) {
        if (!client_take_head(client))
            break;
    }
    if (client->state == GM_CLIENT_EXCHANGE || client->state == GM_CLIENT_RAW)
        client_feed(client);
    if (client->state == GM_CLIENT_HEAD && client_reads_answers(client)) {
        if (client->input_ended) {
            client_close(client);
            return;
        }
        client_top_up(client);
    }
    client_input_settle(client);
}

void gm_client_pump(struct gm_client *client)
{
    if (client->exchange == NULL || client->input_ended)
        return;
    if (client_unused(client) > 0 && gm_exchange_room(client->exchange) > 0) {
        client_run(client);
        return;
    }
    uint64_t room = gm_exchange_room(client->exchange),
             held = gm_conn_recv_left(&client->conn) + client_unused(client);
    if (room <= held)
        return;
    uint64_t want = room - held;
    /* A grant costs a submission: wait for a worthwhile one, unless reading stands still. */
    if (want >= GM_CLIENT_BUF_BYTES || held == 0)
        gm_conn_recv(&client->conn, GM_POOL_CLIENT, want);
}

void gm_client_exchange_done(struct gm_client *client, bool clean)
{
    client->exchange = NULL;
    if (client->state == GM_CLIENT_LEAVING)
        return;
    if (!clean || client->close_after || client->ctx->phase == GM_SERVER_DRAINING) {
        client_close(client);
        return;
    }
    client->state = GM_CLIENT_HEAD;
    client->head_begun = false;
    gm_conn_deadline(&client->conn, client->ctx->shared->config->keepalive_timeout_ns);
    client_run(client);
}

void gm_client_unreserve(struct gm_client *client, uint32_t bytes)
{
    uint32_t all = client->answer_reserved + bytes;
    size_t queued = gm_conn_queued(&client->conn);
    client->answer_reserved = queued < all ? (uint32_t)queued : all;
    gm_ring_unreserve(client->ctx->ring, all - client->answer_reserved);
}

void gm_client_cut(struct gm_client *client, bool reset)
{
    client->exchange = NULL;
    client_abort(client, reset);
}

static void client_recv(struct gm_conn *conn, gm_slice slice)
{
    struct gm_client *client = client_of(conn);
    if (gm_chain_push(&client_input(client)->bytes, client_segs(client), slice) < 0) {
        gm_slice_put(slice);
        struct gm_exchange *exchange = client->exchange;
        client->exchange = NULL;
        if (exchange != NULL)
            gm_exchange_cancel(exchange, GM_REASON_OVERLOAD);
        client_abort(client, true);
        return;
    }
    if (client->state != GM_CLIENT_VERIFY)
        client_run(client);
}

/* The client has gone while a request was under way: the far half is cancelled within this turn. */
static void client_gone(struct gm_client *client)
{
    if (client->exchange != NULL) {
        struct gm_exchange *exchange = client->exchange;
        client->exchange = NULL;
        gm_exchange_cancel(exchange, GM_REASON_CANCELLED);
    }
    client_abort(client, false);
}

static void client_recv_end(struct gm_conn *conn, int error)
{
    struct gm_client *client = client_of(conn);
    client->input_ended = true;
    if (error <= -GM_E_TLS && error != -GM_E_TLS_TRUNCATED)
        client_tls_failed(client, error);
    /* Between requests nothing can be cut short: many a client ends without close_notify. */
    if (error == -GM_E_TLS_TRUNCATED && client->state == GM_CLIENT_HEAD)
        error = 0;
    bool waits = client->exchange != NULL && client->exchange->ticket != NULL;
    if (error < 0 || client->state == GM_CLIENT_VERIFY || client->state == GM_CLIENT_EXCHANGE ||
        waits) {
        client_gone(client);
        return;
    }
    if (client->state == GM_CLIENT_RAW)
        gm_exchange_input_ended(client->exchange);
    else
        client_run(client);
}

static void client_hangup(struct gm_conn *conn)
{
    struct gm_client *client = client_of(conn);
    bool answers_wait = client->state == GM_CLIENT_HEAD && gm_conn_queued(conn) > 0;
    bool waits = client->exchange != NULL && client->exchange->ticket != NULL;
    if ((client->state != GM_CLIENT_RAW || waits) && !answers_wait)
        client_gone(client);
}

static void client_sent(struct gm_conn *conn, size_t bytes)
{
    struct gm_client *client = client_of(conn);
    (void)bytes;
    if (client->answer_reserved > 0)
        gm_client_unreserve(client, 0);
    if (client->exchange != NULL)
        gm_exchange_drained(client->exchange);
    else if (client->state == GM_CLIENT_HEAD)
        client_run(client);
}

static void client_broken(struct gm_conn *conn, int error)
{
    (void)error;
    client_gone(client_of(conn));
}

static void client_closed(struct gm_conn *conn)
{
    struct gm_client *client = client_of(conn);
    GM_ASSERT(client->exchange == NULL);
    if (client->attach != NULL)
        gm_attach_dropped(client);
    gm_ring_unreserve(client->ctx->ring, client->answer_reserved);
    gm_client_free(client);
}

void gm_client_forget(struct gm_client *client)
{
    gm_timer_cancel(&client->conn.timer);
    if (client->attach != NULL)
        gm_attach_dropped(client);
    gm_tls_free(gm_conn_take_tls(&client->conn));
    gm_client_free(client);
}

void gm_client_hand_over(struct gm_client *client, struct gm_attach *attach)
{
    client_leave(client);
    client->attach = attach;
    gm_conn_detach(&client->conn);
}

static void client_detached(struct gm_conn *conn, int fd)
{
    gm_attach_detached(client_of(conn), fd);
}

/* Buffers are short: what belongs to the request under way moves to blocks; what was pipelined
 * behind it is dropped, and the connection ends after the answer, as HTTP allows. */
static void client_evacuate(struct gm_holder *holder)
{
    struct gm_client_input *input = GM_CONTAINER_OF(holder, struct gm_client_input, holder);
    struct gm_client *client = input->client;
    bool behind = client->exchange != NULL && client->exchange->request_done;
    if (!behind) {
        gm_ring_evacuate(client->ctx->ring, &input->bytes);
        return;
    }
    client_input_drop(client);
    client->close_after = true;
}

/* ---- Deadlines ---- */

/* The client owes body bytes that we are ready for. */
static bool client_owes(const struct gm_client *client)
{
    const struct gm_exchange *exchange = client->exchange;
    return client->state == GM_CLIENT_EXCHANGE && !exchange->request_done &&
           gm_exchange_room(exchange) > 0;
}

void gm_client_touch(struct gm_client *client)
{
    const struct gm_server_config *config = client->ctx->shared->config;
    uint64_t span = client_owes(client) ? config->body_timeout_ns : config->idle_timeout_ns;
    gm_conn_deadline(&client->conn, span);
}

static void client_expired(struct gm_conn *conn)
{
    struct gm_client *client = client_of(conn);
    switch ((enum gm_client_state)client->state) {
    case GM_CLIENT_PROXY:
        client_refuse_proxy(client, "its PROXY header did not come in time");
        return;
    case GM_CLIENT_HEAD:
    case GM_CLIENT_VERIFY:
        if (client->head_begun)
            client_refuse(client, gm_answer_for(GM_REASON_REQUEST_TIMEOUT));
        else
            client_close(client);
        return;
    case GM_CLIENT_EXCHANGE:
    case GM_CLIENT_RAW:
        if (client->exchange->ticket != NULL) {
            gm_client_touch(client); /* what it waits for has a deadline of its own */
            return;
        }
        gm_exchange_fail(client->exchange,
                         client_owes(client) ? GM_REASON_REQUEST_TIMEOUT : GM_REASON_TIMEOUT);
        return;
    case GM_CLIENT_LEAVING:
        return;
    }
}

void gm_client_wait(struct gm_client *client, struct gm_list *waiting)
{
    client->state = GM_CLIENT_VERIFY;
    client_head_waits(client);
    gm_list_remove(&client->input->queue);
    gm_list_push_back(waiting, &client->input->queue);
}

void gm_client_resume(struct gm_list *waiting)
{
    struct gm_list now, *node;
    gm_list_init(&now);
    gm_list_splice_back(&now, waiting);
    while ((node = gm_list_pop_front(&now)) != NULL) {
        struct gm_client *client = GM_CONTAINER_OF(node, struct gm_client_input, queue)->client;
        client->state = GM_CLIENT_HEAD;
        client_run(client);
    }
}

void gm_client_drain(struct gm_client *client)
{
    client->close_after = true;
    bool idle = client->state == GM_CLIENT_PROXY ||
                (client->state == GM_CLIENT_HEAD && !client->head_begun);
    if (idle && gm_conn_queued(&client->conn) == 0)
        client_abort(client, false);
    else if (idle)
        client_close(client);
}

static const struct gm_conn_ops client_ops = {
    .on_recv = client_recv,
    .on_recv_end = client_recv_end,
    .on_hangup = client_hangup,
    .on_sent = client_sent,
    .on_broken = client_broken,
    .on_deadline = client_expired,
    .on_closed = client_closed,
    .on_detached = client_detached,
};
