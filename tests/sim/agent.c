/* A scripted agent on a link of link/link.h: does with each request what its target says.
 *
 * Owner: the agents' ring. Invariants: a stream's record lives from on_open to on_closed; at most
 * QUEUE_BYTES of an answer are queued; bytes of a request are checked as they come. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame/head.h"
#include "ring/internal.h"
#include "world.h"

#define QUEUE_BYTES 16384u

struct sim_stream {
    struct gm_list node;
    struct sim_agent *agent;
    struct gm_stream *stream;
    struct gm_timer timer;
    struct gm_chain pending; /* ECHO: received, not yet given back */
    uint32_t id, down, at, up_got, sent, undrained, slow_ns;
    uint16_t reason;
    uint8_t kind;
    bool slept, sleeps, stopped;
    bool early, stop, untouched, request_ended, interim, head, over, is_head, body;
};

static struct sim_agent *agent_of(struct gm_link *link)
{
    return GM_CONTAINER_OF(link, struct sim_agent, link);
}
static struct gm_seg_pool *segs(const struct sim_stream *self)
{
    return gm_ring_segs(self->agent->world->agent_ring);
}

/* ---- The answer ---- */

static void stream_head(struct sim_stream *self, uint16_t status, bool end)
{
    struct gm_buf *buf = gm_ring_block(self->agent->world->agent_ring, GM_BLOCK_SMALL);
    if (buf == NULL) {
        gm_stream_reset(self->stream, GM_REASON_OVERLOAD, 0);
        self->over = true;
        return;
    }
    bool streamed =
        self->kind == ANSWER_STREAMED || self->kind == ANSWER_ECHO || self->kind == ANSWER_TRAILERS;
    bool body = status == 200 && !self->is_head && (streamed || self->down > 0);
    struct gm_head_response head = {
        .status = status,
        .reason = "Simulated",
        .reason_len = 9,
        .content_length = status < 200 || streamed ? GM_HEAD_LENGTH_UNKNOWN : self->down,
        .flags = body ? GM_HEAD_FLAG_BODY : 0};
    struct gm_head_writer writer;
    gm_head_write_response(&writer, buf->data + GM_MUX_HEAD_ROOM, buf->size - GM_MUX_HEAD_ROOM,
                           &head);
    gm_head_write_field(&writer, &(struct gm_head_field){"X-Agent", "sim", 7, 3});
    int len = gm_head_write_finish(&writer);
    GM_ASSERT(len > 0);
    gm_slice block = {buf->data, (uint32_t)len + GM_MUX_HEAD_ROOM, buf};
    if (gm_stream_head(self->stream, block, end) == -GM_E_NOMEM) {
        gm_stream_reset(self->stream, GM_REASON_OVERLOAD, 0);
        self->over = true;
    }
    if (status >= 200) {
        self->head = true;
        self->body = body;
    }
}

/* Queues up to `limit` bytes of the pattern in all. True: there they are. */
static bool stream_fill(struct sim_stream *self, uint32_t limit)
{
    struct gm_stream *stream = self->stream;
    while (self->sent < limit && gm_stream_queued(stream) < QUEUE_BYTES) {
        uint32_t n = gm_stream_room(stream), left = limit - self->sent;
        uint32_t most = 1 + (uint32_t)world_rand(self->agent->world, GM_BLOCK_SMALL_BYTES);
        n = n < left ? n : left;
        n = n < most ? n : most;
        struct gm_buf *buf =
            n == 0 ? NULL : gm_ring_block(self->agent->world->agent_ring, GM_BLOCK_SMALL);
        if (buf == NULL)
            return false;
        n = n < buf->size ? n : buf->size;
        for (uint32_t i = 0; i < n; i++)
            buf->data[i] = world_byte(self->id, true, self->sent + i);
        int rc = gm_stream_data(stream, (gm_slice){buf->data, n, buf});
        self->sent += n;
        if (rc < 0)
            return false;
    }
    return self->sent >= limit;
}

static void stream_reset(struct sim_stream *self)
{
    struct sim_request *request = world_request(self->agent->world, self->id);
    if (request != NULL && self->untouched && self->reason == GM_REASON_AGENT_LIMIT)
        request->refusals++;
    gm_stream_reset(self->stream, self->reason, self->untouched ? GM_FRAME_RESET_UNTOUCHED : 0);
    self->over = true;
}

static void stream_finish(struct sim_stream *self)
{
    self->over = true;
    if (!self->request_ended && self->stop)
        gm_stream_stop(self->stream, GM_REASON_NONE);
    if (self->kind != ANSWER_TRAILERS || !self->body) {
        gm_stream_end(self->stream);
        return;
    }
    struct gm_buf *buf = gm_ring_block(self->agent->world->agent_ring, GM_BLOCK_SMALL);
    struct gm_head_writer writer;
    GM_ASSERT(buf != NULL);
    gm_head_write_trailers(&writer, buf->data + GM_MUX_HEAD_ROOM, buf->size - GM_MUX_HEAD_ROOM);
    gm_head_write_field(&writer, &(struct gm_head_field){"X-Sum", "1", 5, 1});
    int len = gm_head_write_finish(&writer);
    GM_ASSERT(len > 0);
    gm_slice block = {buf->data, (uint32_t)len + GM_MUX_HEAD_ROOM, buf};
    if (gm_stream_trailers(self->stream, block) == -GM_E_NOMEM)
        gm_stream_reset(self->stream, GM_REASON_OVERLOAD, 0);
}

static void stream_echo(struct sim_stream *self)
{
    while (self->pending.count > 0 && gm_stream_room(self->stream) > 0) {
        gm_slice piece = gm_chain_pop(&self->pending, segs(self));
        uint32_t room = gm_stream_room(self->stream);
        if (piece.len > room) {
            gm_slice front = gm_slice_cut(&piece, room);
            struct gm_chain rest = self->pending;
            self->pending = (struct gm_chain){0};
            GM_ASSERT(gm_chain_push(&self->pending, segs(self), piece) == 0);
            while (rest.count > 0)
                GM_ASSERT(gm_chain_push(&self->pending, segs(self),
                                        gm_chain_pop(&rest, segs(self))) == 0);
            piece = front;
        }
        uint32_t len = piece.len;
        self->sent += len;
        if (gm_stream_data(self->stream, piece) < 0)
            return;
        gm_stream_drained(self->stream, len, gm_ring_now_ns(self->agent->world->agent_ring));
    }
    if (self->request_ended && self->pending.count == 0)
        stream_finish(self);
}

static void link_break(struct sim_agent *agent)
{
    gm_sim_cut(&agent->link.conn.sock);
}

/* Body and end of an answer whose head has gone. */
static void stream_body(struct sim_stream *self)
{
    switch ((enum sim_kind_of_answer)self->kind) {
    case ANSWER_ECHO:
        if (self->body)
            stream_echo(self);
        else
            stream_finish(self);
        return;
    case ANSWER_CUT:
        if (stream_fill(self, self->at))
            stream_reset(self);
        return;
    case ANSWER_VANISH:
        if (!stream_fill(self, self->at))
            return;
        self->over = true;
        gm_sim_note(self->agent->world->sim, self->id);
        gm_timer_set(self->agent->world->agent_ring, &self->timer,
                     gm_ring_now_ns(self->agent->world->agent_ring) + 1);
        return;
    default:
        if (!self->body || stream_fill(self, self->down))
            stream_finish(self);
        return;
    }
}

/* Does what can be done now. */
static void stream_advance(struct sim_stream *self)
{
    if (self->over)
        return;
    bool waits = !self->early && !self->request_ended && self->kind != ANSWER_ECHO;
    if (self->kind == ANSWER_NEVER || (waits && self->kind != ANSWER_RESET))
        return;
    if (self->kind == ANSWER_SLOW && !self->slept) {
        self->slept = true;
        self->sleeps = true;
        gm_timer_set(self->agent->world->agent_ring, &self->timer,
                     gm_ring_now_ns(self->agent->world->agent_ring) + self->at * SIM_MS);
    }
    if (self->sleeps)
        return;
    if (self->kind == ANSWER_RESET) {
        if (self->stop && !self->stopped && !self->request_ended) {
            self->stopped = true;
            gm_stream_stop(self->stream, GM_REASON_NONE);
        }
        if (self->early || self->request_ended || self->up_got >= self->at)
            stream_reset(self);
    } else if (!self->head) {
        if (self->kind == ANSWER_INTERIM && !self->interim) {
            self->interim = true;
            stream_head(self, 103, false);
        }
        if (self->kind == ANSWER_DRAIN)
            gm_link_drain(&self->agent->link);
        if (!self->over)
            stream_head(self, 200, false);
    }
    if (!self->over && self->head)
        stream_body(self);
    gm_link_kick(&self->agent->link);
}

static void stream_drain(struct sim_stream *self)
{
    uint32_t bytes = self->undrained;
    self->undrained = 0;
    if (bytes > 0)
        gm_stream_drained(self->stream, bytes, gm_ring_now_ns(self->agent->world->agent_ring));
}

static void stream_tick(struct gm_timer *timer)
{
    struct sim_stream *self = GM_CONTAINER_OF(timer, struct sim_stream, timer);
    if (self->kind == ANSWER_VANISH && self->over) {
        link_break(self->agent);
        return;
    }
    stream_drain(self);
    if (gm_ring_now_ns(self->agent->world->agent_ring) >= timer->deadline_ns)
        self->sleeps = false;
    stream_advance(self);
    gm_link_kick(&self->agent->link);
}

/* Now, or after this agent's own delay. */
static void stream_later(struct sim_stream *self)
{
    if (self->sleeps)
        return;
    if (self->slow_ns == 0)
        stream_tick(&self->timer);
    else if (!gm_timer_armed(&self->timer))
        gm_timer_set(self->agent->world->agent_ring, &self->timer,
                     gm_ring_now_ns(self->agent->world->agent_ring) + self->slow_ns);
}

/* ---- The stream's events ---- */

static bool stream_read_target(struct sim_stream *self, const struct gm_head_request *head)
{
    char target[256];
    unsigned kind, id, down, at, reason, flags;
    if (head->target_len >= sizeof target)
        return false;
    memcpy(target, head->target, head->target_len);
    target[head->target_len] = '\0';
    if (sscanf(target, "/k/%u/%u/%u/%u/%u/%u", &kind, &id, &down, &at, &reason, &flags) != 6)
        return false;
    self->kind = (uint8_t)kind;
    self->id = id;
    self->down = down;
    self->at = at;
    self->reason = (uint16_t)reason;
    self->early = (flags & 1) != 0;
    self->stop = (flags & 2) != 0;
    self->untouched = (flags & 4) != 0;
    self->is_head = head->method_len == 4 && memcmp(head->method, "HEAD", 4) == 0;
    return true;
}

static void on_open(struct gm_stream *stream, gm_slice block, bool end)
{
    struct sim_agent *agent = agent_of(gm_link_of(stream->mux));
    struct sim_world *world = agent->world;
    struct gm_head_request head;
    if (!gm_ring_reserve(world->agent_ring, stream->window.size)) {
        stream->window.size = 0;
        stream->window.credit = 0;
        gm_stream_reset(stream, GM_REASON_OVERLOAD, GM_FRAME_RESET_UNTOUCHED);
        return;
    }
    struct sim_stream *self = calloc(1, sizeof *self);
    GM_ASSERT(self != NULL);
    self->agent = agent;
    self->stream = stream;
    gm_timer_init(&self->timer, stream_tick);
    gm_list_push_back(&agent->streams, &self->node);
    stream->user = self;
    if (gm_head_read_request(block.data, block.len, &head) < 0 ||
        !stream_read_target(self, &head)) {
        world_fail(world, "agent %u got a request it cannot read", agent->index);
        gm_stream_reset(stream, GM_REASON_PROTOCOL_ERROR, 0);
        return;
    }
    struct sim_request *request = world_request(world, self->id);
    if (request != NULL) {
        request->agents++;
        request->on_agent = (int8_t)agent->index;
    }
    if (world_chance(world, 30))
        self->slow_ns = (uint32_t)(SIM_MS * (1 + world_rand(world, world->strict ? 40 : 400)));
    self->request_ended = end;
    stream_later(self);
}

static void on_data(struct gm_stream *stream, gm_slice slice)
{
    struct sim_stream *self = stream->user;
    for (uint32_t i = 0; i < slice.len; i++) {
        if (slice.data[i] == world_byte(self->id, false, self->up_got + i))
            continue;
        world_fail(self->agent->world, "request %u: byte %u of its body is wrong at the agent",
                   self->id, self->up_got + i);
        break;
    }
    self->up_got += slice.len;
    if (self->kind == ANSWER_ECHO && !self->over) {
        GM_ASSERT(gm_chain_push(&self->pending, segs(self), slice) == 0);
    } else {
        self->undrained += slice.len;
        gm_slice_put(slice);
    }
    stream_later(self);
}

static void on_trailers(struct gm_stream *stream, gm_slice block)
{
    (void)stream;
    (void)block;
}

static void on_end(struct gm_stream *stream)
{
    struct sim_stream *self = stream->user;
    self->request_ended = true;
    struct sim_request *request = world_request(self->agent->world, self->id);
    bool stopped = self->stopped || (self->stop && self->over);
    if (request != NULL && self->up_got != request->up && !stopped)
        world_fail(self->agent->world, "request %u: its body ended after %u of %u bytes", self->id,
                   self->up_got, request->up);
    stream_later(self);
}

static void on_reset(struct gm_stream *stream, uint16_t reason, uint16_t flags)
{
    struct sim_stream *self = stream->user;
    (void)reason;
    (void)flags;
    if (self != NULL)
        self->over = true;
}

static void on_stop(struct gm_stream *stream, uint16_t reason)
{
    struct sim_stream *self = stream->user;
    if (self->over)
        return;
    self->over = true;
    gm_stream_reset(stream, reason, 0);
}

static void on_credit(struct gm_stream *stream, uint32_t delta)
{
    (void)delta;
    stream_later(stream->user);
}

static void on_pulled(struct gm_stream *stream, uint32_t bytes)
{
    struct sim_stream *self = stream->user;
    (void)bytes;
    if (!self->over && !self->sleeps)
        gm_timer_set(self->agent->world->agent_ring, &self->timer,
                     gm_ring_now_ns(self->agent->world->agent_ring) + 1 + self->slow_ns);
}

static void on_closed(struct gm_stream *stream)
{
    struct sim_stream *self = stream->user;
    struct gm_ring *ring =
        ((struct sim_agent *)agent_of(gm_link_of(stream->mux)))->world->agent_ring;
    gm_ring_unreserve(ring, stream->window.size);
    if (self == NULL)
        return;
    gm_timer_cancel(&self->timer);
    struct sim_request *request = world_request(self->agent->world, self->id);
    if (request != NULL && request->on_agent == (int8_t)self->agent->index)
        request->on_agent = -1;
    gm_chain_clear(&self->pending, segs(self));
    gm_list_remove(&self->node);
    free(self);
}

static const struct gm_mux_ops mux_ops = {
    .on_hello = gm_link_mux_hello,
    .on_open = on_open,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_end = on_end,
    .on_reset = on_reset,
    .on_stop = on_stop,
    .on_credit = on_credit,
    .on_pulled = on_pulled,
    .on_closed = on_closed,
    .on_pong = gm_link_mux_pong,
    .on_drain = gm_link_mux_drain,
    .on_drain_ack = gm_link_mux_drain_ack,
    .on_note = gm_link_mux_note,
    .gather = gm_link_mux_gather,
    .reserve = gm_link_mux_reserve,
};

/* ---- The link ---- */

static void agent_dial(struct sim_agent *agent);

static void agent_redial(struct gm_timer *timer)
{
    struct sim_agent *agent = GM_CONTAINER_OF(timer, struct sim_agent, redial);
    if (agent->retired && agent->alive)
        gm_link_end(&agent->link, GM_REASON_NONE, GM_WS_CLOSE_NORMAL, "surplus");
    else if (!agent->retired && !agent->alive)
        agent_dial(agent);
}

static void link_up(struct gm_link *link)
{
    if (link->hello.lane < link->hello.lanes)
        return;
    /* Surplus: closed at once, from outside this callback. */
    agent_of(link)->retired = true;
    gm_timer_set(agent_of(link)->world->agent_ring, &agent_of(link)->redial, 0);
}
static void link_drains(struct gm_link *link)
{
    (void)link;
}
static void link_down(struct gm_link *link, enum gm_reason_code reason, const char *text)
{
    (void)link;
    (void)reason;
    (void)text;
}
static void link_closed(struct gm_link *link)
{
    struct sim_agent *agent = agent_of(link);
    agent->alive = false;
    agent->frozen = false;
    if (!agent->retired)
        gm_timer_set(agent->world->agent_ring, &agent->redial,
                     gm_ring_now_ns(agent->world->agent_ring) + 100 * SIM_MS);
}

static const struct gm_link_ops link_ops = {
    .on_up = link_up, .on_drain = link_drains, .on_down = link_down, .on_closed = link_closed};

static void agent_dial(struct sim_agent *agent)
{
    struct sim_world *world = agent->world;
    struct gm_link_config config = {.ops = &link_ops,
                                    .mux_ops = &mux_ops,
                                    .role = GM_MUX_AGENT,
                                    .stream_limit =
                                        (world->strict ? 64 : 4) + (uint32_t)world_rand(world, 100),
                                    .window = agent->window};
    (void)snprintf(config.ready.instance, sizeof config.ready.instance, "instance%u",
                   agent->instance);
    (void)snprintf(config.ready.service, sizeof config.ready.service, "svc");
    config.ready.stream_limit = config.stream_limit;
    config.ready.window = agent->window;
    union gm_addr addr = world_server_addr();
    struct gm_link_dial dial = {.addr = &addr,
                                .host = {"sim", 3},
                                .target = {"/agent", 6},
                                .token = {world_agent_token, strlen(world_agent_token)},
                                .lane = agent->lane};
    agent->alive = gm_link_dial(world->agent_ring, &agent->link, &dial, &config) == 0;
    if (agent->alive && agent->lies > 0) {
        agent->lies--;
        agent->link.ready.instance[0] = 'I'; /* the upgrade request has been written */
    }
}

static void agent_begin(void *arg)
{
    agent_dial(arg);
}

void agent_start(struct sim_world *world, uint32_t index)
{
    static const uint32_t windows[] = {65536, 65536, 16384, 4096, 1000};
    struct sim_agent *agent = &world->agents[index];
    agent->world = world;
    agent->index = index;
    agent->instance = (uint32_t)world_rand(world, 3);
    agent->lane = -1;
    agent->lies = !world->strict && world_chance(world, 10) ? 3 : 0;
    agent->window = windows[world_rand(world, 5)];
    gm_list_init(&agent->streams);
    gm_timer_init(&agent->redial, agent_redial);
    gm_sim_do(world->sim, world->agent_ring, agent_begin, agent);
}

static void retire(void *arg)
{
    struct sim_agent *agent = arg;
    agent->retired = true;
    gm_timer_cancel(&agent->redial);
    if (agent->alive)
        gm_link_end(&agent->link, GM_REASON_NONE, GM_WS_CLOSE_NORMAL, "retired");
}

void agent_retire(struct sim_agent *agent)
{
    gm_sim_do(agent->world->sim, agent->world->agent_ring, retire, agent);
}

void agent_freeze(struct sim_agent *agent)
{
    if (!agent->alive || !gm_link_is_up(&agent->link))
        return;
    agent->frozen = true;
    agent->frozen_ns = gm_sim_now(agent->world->sim);
    gm_sim_freeze(&agent->link.conn.sock, UINT64_MAX, true);
}

void agents_free(struct sim_world *world)
{
    for (uint32_t i = 0; i < world->agent_count; i++) {
        struct gm_list *node;
        while ((node = gm_list_pop_front(&world->agents[i].streams)) != NULL)
            free(GM_CONTAINER_OF(node, struct sim_stream, node));
        if (world->agents[i].alive)
            free(world->agents[i].link.mux_memory);
    }
}
