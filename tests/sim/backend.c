/* The real agent in the simulated world, and a scripted backend behind it: does with each request
 * what its target says, as agent.c does without a backend.
 *
 * Owner: the backend's ring. Invariants: a connection serves one request at a time; bytes of a
 * request are checked as they come; what is written ahead is bounded. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/dialler.h"
#include "agent/ringup.h"
#include "http/chunked.h"
#include "http/parser.h"
#include "ring/internal.h"
#include "world.h"

#define BACKEND_PORT  9000
#define BACKEND_AHEAD 32768u

struct sim_backend {
    struct gm_conn conn;
    struct sim_world *world;
    struct gm_timer timer;
    uint8_t *in;
    size_t in_len, in_cap;
    bool busy, head_out, request_ended, chunked_in, sleeps, slept, answered, leaving;
    bool early, stop, is_head, keep;
    struct gm_http_chunked chunked;
    uint64_t body_left;
    uint32_t id, down, at, up_got, sent;
    uint8_t kind;
};

static void backend_run(struct sim_backend *self);

static struct sim_backend *backend_of(struct gm_conn *conn)
{
    return GM_CONTAINER_OF(conn, struct sim_backend, conn);
}

/* ---- The answer ---- */

static bool streamed(const struct sim_backend *self)
{
    return self->kind == ANSWER_STREAMED || self->kind == ANSWER_ECHO ||
           self->kind == ANSWER_TRAILERS;
}

static void put_bytes(struct sim_backend *self, const uint8_t *bytes, uint32_t len)
{
    char chunk[GM_HTTP_CHUNK_HEAD_MAX];
    if (len == 0)
        return;
    if (streamed(self))
        gm_conn_write(&self->conn, chunk, gm_http_chunk_head(chunk, len));
    gm_conn_write(&self->conn, bytes, len);
    if (streamed(self))
        gm_conn_write(&self->conn, "\r\n", 2);
}

static void put_head(struct sim_backend *self)
{
    static const char hints[] = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    char head[256];
    int len;
    if (self->kind == ANSWER_INTERIM)
        gm_conn_write(&self->conn, hints, sizeof hints - 1);
    if (streamed(self))
        len = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    else
        len = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n",
                       self->down);
    gm_conn_write(&self->conn, head, (size_t)len);
    self->head_out = true;
}

static void leave(struct sim_backend *self, bool abort)
{
    self->leaving = true;
    gm_timer_cancel(&self->timer);
    if (abort)
        gm_conn_abort(&self->conn, true);
    else
        gm_conn_close(&self->conn);
}

/* True: up to `limit` bytes of the pattern have been written. */
static bool put_pattern(struct sim_backend *self, uint32_t limit)
{
    uint8_t bytes[3000];
    while (self->sent < limit && gm_conn_queued(&self->conn) < BACKEND_AHEAD) {
        uint32_t n = 1 + (uint32_t)world_rand(self->world, sizeof bytes - 1);
        n = n < limit - self->sent ? n : limit - self->sent;
        for (uint32_t i = 0; i < n; i++)
            bytes[i] = world_byte(self->id, true, self->sent + i);
        put_bytes(self, bytes, n);
        self->sent += n;
    }
    return self->sent >= limit;
}

static void put_end(struct sim_backend *self)
{
    static const char trailers[] = "0\r\nX-Sum: 1\r\n\r\n";
    if (self->kind == ANSWER_TRAILERS && !self->is_head)
        gm_conn_write(&self->conn, trailers, sizeof trailers - 1);
    else if (streamed(self) && !self->is_head)
        gm_conn_write(&self->conn, GM_HTTP_CHUNK_END, sizeof GM_HTTP_CHUNK_END - 1);
    self->answered = true;
    if (!self->keep || (!self->request_ended && self->stop))
        leave(self, false);
}

static void answer_run(struct sim_backend *self)
{
    bool waits = !self->early && !self->request_ended && self->kind != ANSWER_ECHO;
    if (self->kind == ANSWER_NEVER || waits || self->sleeps || self->answered)
        return;
    if (self->kind == ANSWER_RESET) {
        leave(self, true);
        return;
    }
    if (self->kind == ANSWER_SLOW && !self->slept) {
        self->slept = self->sleeps = true;
        gm_timer_set(gm_conn_ring(&self->conn), &self->timer,
                     gm_ring_now_ns(gm_conn_ring(&self->conn)) + self->at * SIM_MS);
        return;
    }
    if (!self->head_out)
        put_head(self);
    bool cut = self->kind == ANSWER_CUT || self->kind == ANSWER_VANISH;
    if (self->kind == ANSWER_ECHO) {
        if (self->request_ended)
            put_end(self);
    } else if (self->is_head || put_pattern(self, cut ? self->at : self->down)) {
        if (cut)
            leave(self, true);
        else
            put_end(self);
    }
}

/* ---- The request ---- */

static void body_bytes(struct sim_backend *self, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] == world_byte(self->id, false, self->up_got + i))
            continue;
        world_fail(self->world, "request %u: byte %zu of its body is wrong at the backend",
                   self->id, self->up_got + i);
        break;
    }
    self->up_got += (uint32_t)len;
    if (self->kind != ANSWER_ECHO)
        return;
    if (!self->head_out)
        put_head(self);
    put_bytes(self, bytes, (uint32_t)len);
}

static void body_ended(struct sim_backend *self)
{
    const struct sim_request *request = world_request(self->world, self->id);
    self->request_ended = true;
    if (request != NULL && self->up_got != request->up)
        world_fail(self->world, "request %u: its body ended after %u of %u bytes", self->id,
                   self->up_got, request->up);
}

static size_t take_body(struct sim_backend *self)
{
    if (!self->chunked_in) {
        size_t n = self->in_len < self->body_left ? self->in_len : (size_t)self->body_left;
        self->body_left -= n;
        body_bytes(self, self->in, n);
        if (self->body_left == 0)
            body_ended(self);
        return n;
    }
    struct gm_http_chunked_step step;
    int rc = gm_http_chunked_feed(&self->chunked, (const char *)self->in, self->in_len, &step);
    if (rc < 0) {
        world_fail(self->world, "request %u: broken chunk at the backend", self->id);
        return self->in_len;
    }
    if (rc == GM_HTTP_CHUNKED_DATA)
        body_bytes(self, (const uint8_t *)step.data.p, step.data.len);
    if (rc == GM_HTTP_CHUNKED_DONE)
        body_ended(self);
    return step.consumed;
}

static bool begin_request(struct sim_backend *self, const struct gm_http_request *head)
{
    char target[256];
    unsigned kind, reason, flags;
    if (head->target.len >= sizeof target)
        return false;
    memcpy(target, head->target.p, head->target.len);
    target[head->target.len] = '\0';
    if (sscanf(target, "/k/%u/%u/%u/%u/%u/%u", &kind, &self->id, &self->down, &self->at, &reason,
               &flags) != 6)
        return false;
    self->kind = (uint8_t)kind;
    self->early = (flags & 1) != 0;
    self->stop = (flags & 2) != 0;
    self->is_head = head->method_id == GM_HTTP_HEAD;
    self->keep = head->framing.keep_alive;
    self->chunked_in = head->framing.body == GM_HTTP_BODY_CHUNKED;
    self->body_left = head->framing.body == GM_HTTP_BODY_LENGTH ? head->framing.length : 0;
    self->up_got = self->sent = 0;
    self->head_out = self->sleeps = self->slept = self->answered = self->request_ended = false;
    self->busy = true;
    gm_http_chunked_init(&self->chunked, NULL, 0);
    struct sim_request *request = world_request(self->world, self->id);
    if (request != NULL)
        request->agents++;
    if (!self->chunked_in && self->body_left == 0)
        body_ended(self);
    return true;
}

static size_t take_head(struct sim_backend *self)
{
    struct gm_http_field fields[GM_HTTP_FIELDS_MAX];
    struct gm_http_request request;
    size_t scanned = 0;
    gm_http_request_init(&request, fields, GM_HTTP_FIELDS_MAX, GM_HTTP_HEAD_MAX);
    int len = gm_http_parse_request((const char *)self->in, self->in_len, &scanned, &request);
    if (len < 0 || (len > 0 && !begin_request(self, &request)))
        world_fail(self->world, "the backend got a request that it cannot read");
    if (len > 0 && gm_http_fields_has(&request.fields, GM_HTTP_ID_AUTHORIZATION))
        world_fail(self->world, "request %u: the gateway's token has reached the backend",
                   self->id);
    return len > 0 ? (size_t)len : 0;
}

static void backend_run(struct sim_backend *self)
{
    while (!self->leaving && !self->world->failed) {
        size_t used = 0;
        if (self->in_len > 0 && (!self->busy || !self->request_ended))
            used = self->busy ? take_body(self) : take_head(self);
        memmove(self->in, self->in + used, self->in_len - used);
        self->in_len -= used;
        if (self->busy)
            answer_run(self);
        bool done = self->busy && self->answered && self->request_ended;
        if (done)
            self->busy = false;
        if (used == 0 && !done)
            return;
    }
}

/* ---- The connection ---- */

static void on_recv(struct gm_conn *conn, gm_slice slice)
{
    struct sim_backend *self = backend_of(conn);
    if (self->in_len + slice.len > self->in_cap) {
        self->in_cap = (self->in_len + slice.len) * 2;
        self->in = realloc(self->in, self->in_cap);
        GM_ASSERT(self->in != NULL);
    }
    memcpy(self->in + self->in_len, slice.data, slice.len);
    self->in_len += slice.len;
    gm_slice_put(slice);
    backend_run(self);
}
static void on_recv_end(struct gm_conn *conn, int error)
{
    (void)error;
    if (!backend_of(conn)->leaving)
        leave(backend_of(conn), false);
}
static void on_hangup(struct gm_conn *conn)
{
    (void)conn;
}
static void on_sent(struct gm_conn *conn, size_t bytes)
{
    (void)bytes;
    backend_run(backend_of(conn));
}
static void on_broken(struct gm_conn *conn, int error)
{
    (void)error;
    leave(backend_of(conn), true);
}
static void on_closed(struct gm_conn *conn)
{
    free(backend_of(conn)->in);
    free(backend_of(conn));
}
static const struct gm_conn_ops conn_ops = {.on_recv = on_recv,
                                            .on_recv_end = on_recv_end,
                                            .on_hangup = on_hangup,
                                            .on_sent = on_sent,
                                            .on_broken = on_broken,
                                            .on_closed = on_closed};

static void backend_tick(struct gm_timer *timer)
{
    struct sim_backend *self = GM_CONTAINER_OF(timer, struct sim_backend, timer);
    self->sleeps = false;
    backend_run(self);
}

static void on_accept(struct gm_listener *listener, int fd)
{
    struct sim_backend *self = calloc(1, sizeof *self);
    GM_ASSERT(self != NULL);
    self->world = GM_CONTAINER_OF(listener, struct sim_world, backend_listener);
    gm_timer_init(&self->timer, backend_tick);
    GM_ASSERT(gm_conn_open(listener->sock.ring, &self->conn, fd, &conn_ops) == 0);
    gm_conn_recv(&self->conn, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
}
static void listener_closed(struct gm_listener *listener)
{
    (void)listener;
}

/* ---- The real agent ---- */

static int backend_init(struct gm_ring *ring, void *arg)
{
    struct sim_world *world = arg;
    union gm_addr addr = world_server_addr();
    addr.in.sin_port = htons(BACKEND_PORT);
    world->backend_listener.on_accept = on_accept;
    world->backend_listener.on_closed = listener_closed;
    return gm_listener_open(ring, &world->backend_listener, &addr);
}

void real_agent_start(struct sim_world *world)
{
    struct gm_rings_ops backend = {.init = backend_init, .arg = world},
                        agent = {.init = gm_agent_ring_init,
                                 .fini = gm_agent_ring_fini,
                                 .arg = &world->agent_shared};
    world->real = true;
    world->agent_config = (struct gm_agent_config){.services = &world->agent_service,
                                                   .service_count = 1,
                                                   .metrics_port = -1,
                                                   .health_port = -1,
                                                   .connect_timeout_ns = 2 * SIM_SECOND,
                                                   .backend_idle_timeout_ns = 4 * SIM_SECOND,
                                                   .reconnect_min_ns = 250 * SIM_MS,
                                                   .reconnect_max_ns = 3 * SIM_SECOND,
                                                   .connection_check_interval_ns = 5 * SIM_SECOND,
                                                   .shutdown_timeout_ns = 5 * SIM_SECOND};
    world->agent_service = (struct gm_agent_service){
        .name = "svc", .target = "http://127.0.0.1:9000", .token = world_agent_token};
    world->agent_shared = (struct gm_agent_shared){.config = &world->agent_config,
                                                   .host = "127.0.0.1:8080",
                                                   .services = &world->agent_info,
                                                   .service_count = 1,
                                                   .ring_contexts = world->agent_contexts};
    world->agent_info = (struct gm_agent_service_info){
        .config = &world->agent_service, .instance = "real", .ready = 1};
    int rc = gm_target_parse("ws://127.0.0.1:8080", GM_HTTP_SCHEME_WS, &world->agent_shared.server);
    if (rc >= 0)
        rc = gm_target_parse(world->agent_service.target, GM_HTTP_SCHEME_HTTP,
                             &world->agent_info.target);
    GM_ASSERT(rc >= 0);
    world->agent_info.dialler = gm_dialler_new(&world->agent_shared, 0);
    world->backend_rings = world_rings(world, 1, &backend);
    world->agent_shared.rings = world_rings(world, 1 + (uint32_t)world_rand(world, 2), &agent);
    gm_agent_dial_all(&world->agent_shared);
}

void real_agent_drain(struct sim_world *world)
{
    gm_agent_drain_all(&world->agent_shared);
    world_run(world, gm_sim_now(world->sim) + 12 * SIM_SECOND);
    if (!world->failed &&
        atomic_load_explicit(&world->agent_shared.rings_done, memory_order_relaxed) !=
            gm_rings_count(world->agent_shared.rings))
        world_fail(world, "the agent's drain is not over");
}

void real_agent_stop(struct sim_world *world, bool join)
{
    if (!join) {
        gm_rings_stop(world->agent_shared.rings);
        gm_rings_stop(world->backend_rings);
        return;
    }
    uint32_t count = gm_rings_count(world->agent_shared.rings);
    gm_rings_join(world->agent_shared.rings);
    gm_rings_join(world->backend_rings);
    for (uint32_t i = 0; i < count; i++)
        gm_agent_ring_free(world->agent_contexts[i]);
    gm_dialler_free(world->agent_info.dialler);
}
