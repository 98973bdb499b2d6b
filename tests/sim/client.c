/* A client of the simulated world: sends HTTP bytes whole, in pieces, pipelined, half, slowly;
 * reads the answers with suspicion.
 *
 * Owner: the clients' ring. Invariants: bytes of an answer's body are compared as they come;
 * `receiving` is the request whose answer is being read; a request's outcome is set once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "http/chunked.h"
#include "http/parser.h"
#include "server/exchange.h"
#include "world.h"

static const char *const methods[] = {"GET", "POST", "PUT", "HEAD"};
static const struct gm_sock_ops sock_ops;

static struct sim_client *client_of(struct gm_sock *sock)
{
    return GM_CONTAINER_OF(sock, struct sim_client, sock);
}

/* ---- Plans ---- */

static uint32_t draw_size(struct sim_world *world)
{
    switch (world_rand(world, 8)) {
    case 0:
        return 0;
    case 1:
        return 1;
    case 2:
    case 3:
        return (uint32_t)world_rand(world, 3000);
    case 4:
    case 5:
        return (uint32_t)world_rand(world, 40000);
    case 6:
        return 65536;
    default:
        return (uint32_t)world_rand(world, 150000);
    }
}

static void draw_body(struct sim_world *world, struct sim_request *request)
{
    request->method = world_chance(world, 45) ? 0 : (uint8_t)(1 + world_rand(world, 3));
    if (request->method == 3) {
        request->kind = ANSWER_FIXED;
        return;
    }
    request->up = request->method == 0 ? 0 : draw_size(world);
    request->chunked = request->up > 0 && world_chance(world, 40);
    if (request->kind == ANSWER_ECHO || request->kind == ANSWER_SINK)
        request->down = request->up;
}

static void draw_request(struct sim_world *world, struct sim_request *request)
{
    static const uint16_t reasons[] = {
        GM_REASON_REFUSED,          GM_REASON_BACKEND_CONNECT, GM_REASON_BACKEND_CLOSED,
        GM_REASON_BACKEND_PROTOCOL, GM_REASON_BACKEND_TIMEOUT, GM_REASON_AGENT_LIMIT,
        GM_REASON_OVERLOAD,         GM_REASON_CANCELLED,       GM_REASON_NONE,
        GM_REASON_INTERNAL,         GM_REASON_DRAINING,        999};
    *request = (struct sim_request){.id = world->next_id++, .on_agent = -1};
    unsigned kinds = world->strict ? ANSWER_CUT + 1 : ANSWER_KINDS;
    request->kind = (uint8_t)world_rand(world, world_chance(world, 60) ? ANSWER_RESET : kinds);
    request->down = draw_size(world);
    draw_body(world, request);
    /* An answer of no bytes cannot be cut. */
    if ((request->kind == ANSWER_CUT || request->kind == ANSWER_VANISH) && request->down == 0)
        request->down = 1;
    request->at = request->down > 0 ? (uint32_t)world_rand(world, request->down) : 0;
    if (request->kind == ANSWER_SLOW)
        request->at = 1500 + (uint32_t)world_rand(world, 5500);
    request->reason = reasons[world_rand(world, sizeof reasons / sizeof reasons[0])];
    request->untouched = request->kind == ANSWER_RESET && world_chance(world, 50);
    request->early = world_chance(world, 25) && request->kind != ANSWER_SINK;
    request->stop = world_chance(world, 50);
    request->http10 = world_chance(world, 10) && !request->chunked;
}

static void client_plan(struct sim_client *client)
{
    struct sim_world *world = client->world;
    client->temper = world->strict || world_chance(world, 50)
                         ? (uint8_t)world_rand(world, 2)
                         : (uint8_t)world_rand(world, TEMPER_TYPES);
    client->request_count = 1 + (uint32_t)world_rand(world, SIM_REQUESTS_MAX);
    client->pipelined = world_chance(world, 30);
    for (uint32_t i = 0; i < client->request_count; i++) {
        struct sim_request *request = &client->requests[i];
        draw_request(world, request);
        /* More than any window, where the network is up to it. */
        bool fast = world->profile.buffer_bytes >= 32768 && world->profile.slow_permille == 0;
        if (request->kind == ANSWER_STREAMED && fast && client->temper == TEMPER_GOOD &&
            world_chance(world, 4))
            request->down = 5u << 20;
        request->expect_close = i + 1 == client->request_count && world_chance(world, 50);
    }
    client->temper_ns = world_rand(world, 3 * SIM_SECOND);
    if (client->temper == TEMPER_SLOW)
        client->temper_ns = 1 + world_rand(world, 20 * SIM_MS);
    client->temper_bytes = (uint32_t)world_rand(world, world_chance(world, 50) ? 400 : 60000);
}

/* ---- Sending ---- */

static size_t put_body(const struct sim_request *request, struct sim_world *world, uint8_t *out)
{
    size_t len = 0;
    for (uint32_t done = 0; done < request->up;) {
        uint32_t n = request->up - done;
        if (request->chunked) {
            uint32_t most = 1 + (uint32_t)world_rand(world, world_chance(world, 50) ? 30 : 20000);
            n = n < most ? n : most;
            len += gm_http_chunk_head((char *)out + len, n);
        }
        for (uint32_t i = 0; i < n; i++)
            out[len++] = world_byte(request->id, false, done + i);
        done += n;
        if (request->chunked) {
            memcpy(out + len, "\r\n", 2);
            len += 2;
        }
    }
    if (request->chunked) {
        memcpy(out + len, GM_HTTP_CHUNK_END, sizeof GM_HTTP_CHUNK_END - 1);
        len += sizeof GM_HTTP_CHUNK_END - 1;
    }
    return len;
}

/* Requests without a credential, as many as the server takes. */
static void flood_load(struct sim_client *client)
{
    static const char request[] = "GET /services/svc/ HTTP/1.1\r\nHost: a\r\n\r\n";
    size_t len = sizeof request - 1, count = 2000;
    client->out = malloc(len * count);
    GM_ASSERT(client->out != NULL);
    for (size_t i = 0; i < count; i++)
        memcpy(client->out + i * len, request, len);
    client->out_len = len * count;
    client->out_sent = 0;
}

static void client_load(struct sim_client *client)
{
    if (client->temper == TEMPER_FLOOD) {
        flood_load(client);
        return;
    }
    const struct sim_request *request = &client->requests[client->sending];
    char framing[64] = "";
    if (request->chunked)
        (void)snprintf(framing, sizeof framing, "Transfer-Encoding: chunked\r\n");
    else if (request->method == 1 || request->method == 2)
        (void)snprintf(framing, sizeof framing, "Content-Length: %u\r\n", request->up);
    unsigned flags =
        (request->early ? 1u : 0u) | (request->stop ? 2u : 0u) | (request->untouched ? 4u : 0u);
    /* One-byte chunks cost six bytes each. */
    client->out = malloc((size_t)request->up * 7 + 4096);
    GM_ASSERT(client->out != NULL);
    int len =
        snprintf((char *)client->out, 4096,
                 "%s /services/svc/k/%u/%u/%u/%u/%u/%u HTTP/1.%d\r\nHost: sim\r\n"
                 "Authorization: Bearer %s\r\nX-Request-Id: %u\r\n%s%s\r\n",
                 methods[request->method], request->kind, request->id, request->down, request->at,
                 request->reason, flags, request->http10 ? 0 : 1, world_client_token, request->id,
                 framing, request->expect_close ? "Connection: close\r\n" : "");
    client->out_len = (size_t)len + put_body(request, client->world, client->out + len);
    client->out_sent = 0;
}

static void client_send(struct sim_client *client)
{
    if (!client->connected || client->over || gm_sock_sending(&client->sock))
        return;
    if (client->out == NULL) {
        bool next =
            client->sending == 0 || client->pipelined || client->receiving >= client->sending;
        if (client->sending >= client->request_count || !next)
            return;
        client_load(client);
    }
    size_t left = client->out_len - client->out_sent, n = left;
    if (world_chance(client->world, 40))
        n = 1 + world_rand(client->world, left);
    if (client->temper == TEMPER_HALF) {
        size_t may =
            client->temper_bytes > client->out_total ? client->temper_bytes - client->out_total : 0;
        n = n < may ? n : may;
    }
    if (n == 0)
        return;
    struct iovec iov = {client->out + client->out_sent, n};
    int rc = gm_sock_send(&client->sock, &iov, 1, n < left);
    GM_ASSERT(rc == 0);
}

static void client_tick(struct gm_timer *timer)
{
    struct sim_client *client = GM_CONTAINER_OF(timer, struct sim_client, timer);
    client_send(client);
    if (client->open && client->temper == TEMPER_SLOW && client->connected &&
        gm_sock_recv_left(&client->sock) == 0) {
        gm_sock_recv(&client->sock, GM_POOL_CLIENT, 1 + world_rand(client->world, 6000));
        gm_timer_set(client->world->client_ring, timer,
                     gm_ring_now_ns(client->world->client_ring) + client->temper_ns);
    }
}

static void client_sent(struct gm_sock *sock, ssize_t result)
{
    struct sim_client *client = client_of(sock);
    if (result <= 0)
        return;
    client->out_sent += (size_t)result;
    client->out_total += (size_t)result;
    if (client->out_sent == client->out_len) {
        if (client->temper != TEMPER_FLOOD)
            client->requests[client->sending++].sent = true;
        free(client->out);
        client->out = NULL;
    }
    if (world_chance(client->world, 20) && !gm_timer_armed(&client->timer))
        gm_timer_set(client->world->client_ring, &client->timer,
                     gm_ring_now_ns(client->world->client_ring) +
                         world_rand(client->world, 50 * SIM_MS));
    else if (client->out == NULL || client->out_sent > 0)
        client_send(client);
}

static void client_writable(struct gm_sock *sock)
{
    client_send(client_of(sock));
}

/* ---- Receiving ---- */

static void outcome(struct sim_client *client, enum sim_outcome what)
{
    struct sim_request *request = &client->requests[client->receiving];
    if (request->outcome == OUTCOME_NONE)
        request->outcome = (uint8_t)what;
    client->receiving++;
    client->in_body = client->got_request_bytes = false;
}

static void body_bytes(struct sim_client *client, const uint8_t *bytes, size_t len)
{
    struct sim_request *request = &client->requests[client->receiving];
    if (request->status != 200)
        return;
    bool up = request->kind == ANSWER_ECHO;
    for (size_t i = 0; i < len; i++, request->got++) {
        if (bytes[i] == world_byte(request->id, !up, request->got))
            continue;
        world_fail(client->world, "request %u: byte %u of its answer is wrong", request->id,
                   request->got);
        return;
    }
}

static void answer_complete(struct sim_client *client)
{
    struct sim_request *request = &client->requests[client->receiving];
    if (request->status != 200) {
        outcome(client, OUTCOME_ERROR);
        return;
    }
    uint32_t due = request->method == 3 ? 0 : request->down;
    if (request->got != due)
        world_fail(client->world, "request %u: a complete answer of %u bytes instead of %u",
                   request->id, request->got, due);
    if (request->kind == ANSWER_CUT || request->kind == ANSWER_RESET ||
        request->kind == ANSWER_NEVER || request->kind == ANSWER_VANISH)
        world_fail(client->world, "request %u: a complete answer where none can be", request->id);
    outcome(client, OUTCOME_COMPLETE);
}

static bool has_reason(const struct gm_http_response *response)
{
    return gm_http_fields_find_name(&response->fields, GM_HTTP_LIT("x-gimlet-error")) != NULL;
}

/* Bytes used; 0: more are needed. */
static size_t take_head(struct sim_client *client)
{
    struct gm_http_field list[GM_HTTP_FIELDS_MAX];
    struct gm_http_response response;
    size_t scanned = 0;
    struct sim_request *request = &client->requests[client->receiving];
    gm_http_response_init(&response, list, GM_HTTP_FIELDS_MAX, GM_HTTP_HEAD_MAX);
    static const enum gm_http_method ids[] = {GM_HTTP_GET, GM_HTTP_POST, GM_HTTP_PUT, GM_HTTP_HEAD};
    int len = gm_http_parse_response((const char *)client->in, client->in_len, &scanned,
                                     ids[request->method], &response);
    if (len < 0)
        world_fail(client->world, "request %u: the answer is not HTTP (%d)", request->id, len);
    if (len <= 0)
        return 0;
    if (response.status < 200)
        return (size_t)len;
    request->status = response.status;
    if (response.status != 200 && !has_reason(&response))
        world_fail(client->world, "request %u: status %u without X-Gimlet-Error", request->id,
                   response.status);
    if (response.status == 200 && has_reason(&response))
        world_fail(client->world, "request %u: 200 with X-Gimlet-Error", request->id);
    client->in_body = true;
    client->last_answer = !response.framing.keep_alive;
    client->body_chunked = response.framing.body == GM_HTTP_BODY_CHUNKED;
    client->body_counted =
        response.framing.body == GM_HTTP_BODY_LENGTH || response.framing.body == GM_HTTP_BODY_NONE;
    request->until_close = response.framing.body == GM_HTTP_BODY_UNTIL_CLOSE;
    client->body_left = response.framing.body == GM_HTTP_BODY_LENGTH ? response.framing.length : 0;
    if (client->body_chunked)
        gm_http_chunked_init(client->chunked, (char *)client->scratch, 4096);
    return (size_t)len;
}

static size_t take_chunks(struct sim_client *client, bool *complete)
{
    struct gm_http_chunked_step step;
    size_t used = 0;
    while (used < client->in_len && !*complete) {
        int rc = gm_http_chunked_feed(client->chunked, (const char *)client->in + used,
                                      client->in_len - used, &step);
        if (rc < 0) {
            world_fail(client->world, "request %u: broken chunk in the answer",
                       client->requests[client->receiving].id);
            return client->in_len;
        }
        if (rc == GM_HTTP_CHUNKED_DATA)
            body_bytes(client, (const uint8_t *)step.data.p, step.data.len);
        used += step.consumed;
        *complete = rc == GM_HTTP_CHUNKED_DONE;
    }
    return used;
}

static size_t take_body(struct sim_client *client)
{
    size_t used = client->in_len;
    bool complete = false;
    if (client->body_chunked) {
        used = take_chunks(client, &complete);
    } else {
        if (client->body_counted && used > client->body_left)
            used = (size_t)client->body_left;
        body_bytes(client, client->in, used);
        client->body_left -= client->body_counted ? used : 0;
        complete = client->body_counted && client->body_left == 0;
    }
    if (complete)
        answer_complete(client);
    return used;
}

static void client_read(struct sim_client *client)
{
    while (!client->world->failed && (client->in_len > 0 || client->in_body)) {
        /* A 408 to half a HEAD request has a body: nobody knew that it was one. */
        if (client->last_answer && !client->in_body)
            return;
        if (client->receiving >= client->request_count || client->receiving > client->sending) {
            world_fail(client->world, "answer %u of %u (%u sent) that nobody asked for: %.*s",
                       client->receiving, client->request_count, client->sending,
                       (int)client->in_len, (const char *)client->in);
            return;
        }
        uint32_t before = client->receiving;
        bool head = !client->in_body;
        size_t used = head ? take_head(client) : take_body(client);
        memmove(client->in, client->in + used, client->in_len - used);
        client->in_len -= used;
        if (used == 0 && client->receiving == before && head == !client->in_body)
            return;
    }
}

static void client_recv(struct gm_sock *sock, gm_slice slice)
{
    struct sim_client *client = client_of(sock);
    if (client->in_len + slice.len > client->in_cap) {
        client->in_cap = (client->in_len + slice.len) * 2;
        client->in = realloc(client->in, client->in_cap);
        GM_ASSERT(client->in != NULL);
    }
    memcpy(client->in + client->in_len, slice.data, slice.len);
    client->in_len += slice.len;
    client->in_total += slice.len;
    gm_slice_put(slice);
    client->got_request_bytes = true;
    client_read(client);
    if (client->temper == TEMPER_STALL && client->in_total < client->temper_bytes)
        gm_sock_recv(sock, GM_POOL_CLIENT, 1 + world_rand(client->world, 4096));
    else if (client->temper == TEMPER_STALL && client->rises_ns > 0 &&
             !gm_timer_armed(&client->temper_timer))
        gm_timer_set(client->world->client_ring, &client->temper_timer,
                     gm_ring_now_ns(client->world->client_ring) + client->rises_ns);
    if (client->temper == TEMPER_SLOW && !gm_timer_armed(&client->timer))
        gm_timer_set(client->world->client_ring, &client->timer,
                     gm_ring_now_ns(client->world->client_ring) + client->temper_ns);
    client_send(client);
}

/* ---- The end ---- */

static void client_end(struct sim_client *client, bool reset)
{
    if (client->over)
        return;
    client->over = true;
    gm_timer_cancel(&client->timer);
    gm_timer_cancel(&client->temper_timer);
    if (client->open)
        gm_sock_close(&client->sock, reset);
}

static void client_recv_end(struct gm_sock *sock, int error)
{
    struct sim_client *client = client_of(sock);
    if (client->receiving < client->request_count && client->in_body) {
        struct sim_request *request = &client->requests[client->receiving];
        if (error == 0 && request->until_close && !client->world->half_closes)
            answer_complete(client);
        else
            outcome(client, OUTCOME_CUT);
    }
    client_end(client, false);
}

static void client_hangup(struct gm_sock *sock)
{
    struct sim_client *client = client_of(sock);
    if (client->temper == TEMPER_FLOOD || (client->temper == TEMPER_STALL && client->rises_ns == 0))
        client_end(client, false);
}

static void client_temper(struct gm_timer *timer)
{
    struct sim_client *client = GM_CONTAINER_OF(timer, struct sim_client, temper_timer);
    if (client->temper == TEMPER_STALL)
        gm_sock_recv(&client->sock, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
    else
        client_end(client, client->temper == TEMPER_RESET);
}

static void client_connected(struct gm_sock *sock, int error)
{
    struct sim_client *client = client_of(sock);
    if (error < 0) {
        client_end(client, false);
        return;
    }
    client->connected = true;
    uint64_t grant = GM_RECV_UNLIMITED;
    if (client->temper == TEMPER_FLOOD)
        grant = 0;
    if (client->temper == TEMPER_SLOW || client->temper == TEMPER_STALL)
        grant = 1 + world_rand(client->world, 4096);
    gm_sock_recv(sock, GM_POOL_CLIENT, grant);
    if (client->temper == TEMPER_FIN || client->temper == TEMPER_RESET)
        gm_timer_set(client->world->client_ring, &client->temper_timer,
                     gm_ring_now_ns(client->world->client_ring) + client->temper_ns);
    client_send(client);
}

static void client_closed(struct gm_sock *sock)
{
    client_of(sock)->open = false;
}

static const struct gm_sock_ops sock_ops = {.on_recv = client_recv,
                                            .on_recv_end = client_recv_end,
                                            .on_hangup = client_hangup,
                                            .on_sent = client_sent,
                                            .on_writable = client_writable,
                                            .on_connect = client_connected,
                                            .on_closed = client_closed};

static void client_dial(void *arg)
{
    struct sim_client *client = arg;
    union gm_addr addr = world_server_addr();
    client->open =
        gm_sock_connect(client->world->client_ring, &client->sock, &addr, &sock_ops) == 0;
}

static void client_begin(void *arg)
{
    struct sim_client *client = arg;
    if (!client->world->ending)
        gm_sim_do(client->world->sim, client->world->client_ring, client_dial, client);
}

void client_start(struct sim_world *world, struct sim_client *client, uint64_t at_ns)
{
    client->world = world;
    client_plan(client);
    client_start_planned(world, client, at_ns);
}

void client_start_planned(struct sim_world *world, struct sim_client *client, uint64_t at_ns)
{
    client->world = world;
    client->chunked = calloc(1, sizeof *client->chunked);
    client->scratch = malloc(4096);
    GM_ASSERT(client->chunked != NULL && client->scratch != NULL);
    gm_timer_init(&client->timer, client_tick);
    gm_timer_init(&client->temper_timer, client_temper);
    gm_sim_at(world->sim, at_ns, client_begin, client);
}

void client_free(struct sim_client *client)
{
    free(client->out);
    free(client->in);
    free(client->chunked);
    free(client->scratch);
}

/* ---- The judgement ---- */

/* In a strict world: what must have come out. */
static void judge_strict(struct sim_client *client, const struct sim_request *request)
{
    enum sim_outcome due = OUTCOME_COMPLETE;
    if (request->kind == ANSWER_RESET)
        due = OUTCOME_ERROR;
    if (request->kind == ANSWER_CUT && request->method != 3)
        due = OUTCOME_CUT;
    /* A RESET may overtake the head that was queued before it. */
    bool overtaken = due == OUTCOME_CUT && request->outcome == OUTCOME_ERROR;
    if (request->outcome != due && !overtaken)
        world_fail(client->world,
                   "request %u (kind %u, method %u, up %u, down %u, early %d, stop %d, temper %u, "
                   "seen by %u): outcome %u instead of %u, status %u, %u bytes",
                   request->id, request->kind, request->method, request->up, request->down,
                   request->early, request->stop, client->temper, request->agents, request->outcome,
                   due, request->status, request->got);
    if (request->kind != ANSWER_RESET || request->outcome != OUTCOME_ERROR || client->world->real)
        return;
    uint16_t status = gm_reason_get(request->reason == GM_REASON_NONE ? GM_REASON_AGENT_DISCONNECT
                                                                      : request->reason)
                          ->status;
    if (request->status != status)
        world_fail(client->world, "request %u: reset with reason %u became status %u", request->id,
                   request->reason, request->status);
}

void client_judge(struct sim_client *client)
{
    struct sim_world *world = client->world;
    bool usable = true;
    for (uint32_t i = 0; i < client->request_count; i++) {
        const struct sim_request *request = &client->requests[i];
        world->complete += request->outcome == OUTCOME_COMPLETE;
        world->errors += request->outcome == OUTCOME_ERROR;
        world->cut += request->outcome == OUTCOME_CUT;
        world->retried += request->agents > 1;
        /* Refusals for a limit are no attempts, and bounded by themselves. */
        uint32_t attempts = (uint32_t)request->agents - request->refusals;
        if (request->refusals > GM_EXCHANGE_REFUSALS + 1u || attempts > (world->real ? 4u : 2u))
            world_fail(world, "request %u was given to %u agents", request->id, request->agents);
        if (world->strict && usable)
            judge_strict(client, request);
        /* The connection ends behind an error, a cut, an early answer and its own wish. */
        if (request->outcome != OUTCOME_COMPLETE || request->early || request->http10 ||
            request->expect_close)
            usable = false;
    }
}
