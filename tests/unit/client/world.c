/* See world.h. */
#include "world.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "ring/internal.h"

static void put(struct text *text, const void *bytes, size_t len)
{
    cr_assert(text->len + len < TEXT_MAX);
    memcpy(text->bytes + text->len, bytes, len);
    text->len += len;
    text->bytes[text->len] = '\0';
}

/* ---- The backend ---- */

static struct peer *peer_of(struct gm_conn *conn)
{
    return GM_CONTAINER_OF(conn, struct peer, conn);
}

/* Length of the whole request at `start`, 0 when it has not all come. */
static size_t request_len(const struct peer *peer, const struct step *step)
{
    const char *text = peer->got.bytes + peer->start;
    const char *end = strstr(text, "\r\n\r\n");
    if (end == NULL)
        return 0;
    size_t head = (size_t)(end + 4 - text);
    if (step->body >= 0)
        return peer->got.len - peer->start >= head + (size_t)step->body ? head + (size_t)step->body
                                                                        : 0;
    const char *last = strstr(end + 2, "\r\n0\r\n");
    const char *stop = last == NULL ? NULL : strstr(last + 3, "\r\n\r\n");
    return stop == NULL ? 0 : (size_t)(stop + 4 - text);
}

static bool peer_step(struct peer *peer)
{
    struct world *world = peer->world;
    if (world->script_at == world->script_len || peer->got.len == peer->start)
        return false;
    const struct step *step = &world->script[world->script_at];
    size_t len = request_len(peer, step);
    bool head = strstr(peer->got.bytes + peer->start, "\r\n\r\n") != NULL;
    if (len == 0 && !(step->early && head && !peer->answered))
        return false;
    if (!peer->answered && step->answer != NULL)
        gm_conn_write(&peer->conn, step->answer,
                      step->answer_len > 0 ? step->answer_len : strlen(step->answer));
    peer->answered = true;
    if (step->then == FIN)
        gm_conn_close(&peer->conn);
    else if (step->then == RST)
        gm_conn_abort(&peer->conn, true);
    if (len == 0 && step->then == STAY)
        return false;
    peer->start += len;
    peer->answered = false;
    world->script_at++;
    return step->then == STAY;
}

static void peer_recv(struct gm_conn *conn, gm_slice slice)
{
    struct peer *peer = peer_of(conn);
    put(&peer->got, slice.data, slice.len);
    gm_slice_put(slice);
    while (peer_step(peer))
        continue;
}

static void peer_recv_end(struct gm_conn *conn, int error)
{
    (void)error;
    peer_of(conn)->ended = true;
    gm_conn_close(conn);
}
static void peer_hangup(struct gm_conn *conn)
{
    (void)conn;
}
static void peer_sent(struct gm_conn *conn, size_t bytes)
{
    (void)conn;
    (void)bytes;
}
static void peer_broken(struct gm_conn *conn, int error)
{
    (void)error;
    gm_conn_abort(conn, true);
}
static void peer_closed(struct gm_conn *conn)
{
    peer_of(conn)->closed = true;
}
static const struct gm_conn_ops peer_ops = {.on_recv = peer_recv,
                                            .on_recv_end = peer_recv_end,
                                            .on_hangup = peer_hangup,
                                            .on_sent = peer_sent,
                                            .on_broken = peer_broken,
                                            .on_closed = peer_closed};

static void accept_peer(struct gm_listener *listener, int fd)
{
    struct world *world = GM_CONTAINER_OF(listener, struct world, listener);
    struct peer *peer = calloc(1, sizeof *peer);
    cr_assert(peer != NULL && world->accepted < PEERS);
    peer->world = world;
    world->peers[world->accepted++] = peer;
    int rc = gm_conn_open(listener->sock.ring, &peer->conn, fd, &peer_ops);
    cr_assert(rc == 0);
    gm_conn_recv(&peer->conn, GM_POOL_CLIENT, GM_RECV_UNLIMITED);
}
static void listener_closed(struct gm_listener *listener)
{
    (void)listener;
}

static void do_listen(void *arg)
{
    struct world *world = arg;
    union gm_addr addr = {.in = {.sin_family = AF_INET,
                                 .sin_port = htons(8000),
                                 .sin_addr.s_addr = htonl(0x0a000001)}};
    world->listener.on_accept = accept_peer;
    world->listener.on_closed = listener_closed;
    int rc = gm_listener_open(gm_rings_get(world->far, 0), &world->listener, &addr);
    cr_assert(rc == 0);
}

/* ---- The owner ---- */

static struct owner *owner_of(struct gm_call *call)
{
    return GM_CONTAINER_OF(call, struct owner, call);
}
static size_t owner_room(struct gm_call *call)
{
    return owner_of(call)->room;
}
static void put_fields(struct text *text, const struct gm_http_fields *fields)
{
    for (uint16_t i = 0; i < fields->count; i++) {
        put(text, fields->list[i].name, fields->list[i].name_len);
        put(text, "=", 1);
        put(text, fields->list[i].value, fields->list[i].value_len);
        put(text, ";", 1);
    }
}
static void owner_head(struct gm_call *call, const struct gm_http_response *head, bool end)
{
    struct owner *owner = owner_of(call);
    owner->head_count++;
    owner->last_status = head->status;
    owner->head_end = end;
    put_fields(&owner->heads, &head->fields);
    put(&owner->heads, "|", 1);
}
static void owner_data(struct gm_call *call, gm_slice slice)
{
    struct owner *owner = owner_of(call);
    cr_assert(slice.len > 0 && slice.len <= owner->room, "no more than there is room for");
    cr_assert(owner->ends == 0);
    put(&owner->body, slice.data, slice.len);
    gm_slice_put(slice);
    if (owner->room != SIZE_MAX)
        owner->room -= slice.len;
}
static void owner_end(struct gm_call *call, const struct gm_http_fields *trailers)
{
    owner_of(call)->ends++;
    put_fields(&owner_of(call)->trailers, trailers);
}
static void owner_sent(struct gm_call *call)
{
    owner_of(call)->sents++;
}
static void owner_fail(struct gm_call *call, enum gm_reason_code reason, bool untouched)
{
    struct owner *owner = owner_of(call);
    owner->fails++;
    owner->reason = reason;
    owner->untouched = untouched;
    cr_assert(!gm_call_active(call));
}
static const struct gm_call_ops owner_ops = {.room = owner_room,
                                             .on_head = owner_head,
                                             .on_data = owner_data,
                                             .on_end = owner_end,
                                             .on_sent = owner_sent,
                                             .on_fail = owner_fail};

/* ---- The world ---- */

static struct gm_rings *start(struct gm_sim *sim)
{
    struct gm_rings *rings;
    char why[512];
    struct gm_rings_config config = {.io = GM_IO_SIM,
                                     .count = 1,
                                     .memory_bytes = GM_RING_MEMORY_MIN,
                                     .socks_max = 256,
                                     .sim = sim};
    int rc = gm_rings_start(&config, NULL, &rings, why);
    cr_assert(rc == 0, "%s", why);
    return rings;
}

static void do_init(void *arg)
{
    struct world *world = arg;
    int rc = gm_backend_store_init(&world->store, world->ring, 64);
    cr_assert(rc == 0);
    struct gm_backend_config config = {.store = &world->store,
                                       .target = &world->target,
                                       .connect_timeout_ns = 5 * SECOND,
                                       .idle_timeout_ns = 4 * SECOND,
                                       .header_timeout_ns = 10 * SECOND};
    gm_backend_pool_init(&world->pool, &config);
}

struct world *world_new(uint64_t seed, const char *target)
{
    struct world *world = calloc(1, sizeof *world);
    cr_assert(world != NULL);
    world->sim = gm_sim_new(seed);
    world->agent = start(world->sim);
    world->far = start(world->sim);
    world->ring = gm_rings_get(world->agent, 0);
    int rc = gm_target_parse(target, GM_HTTP_SCHEME_HTTP | GM_HTTP_SCHEME_UNIX, &world->target);
    cr_assert(rc == 0);
    gm_sim_do(world->sim, gm_rings_get(world->far, 0), do_listen, world);
    gm_sim_do(world->sim, world->ring, do_init, world);
    world->owner.world = world;
    world->owner.room = SIZE_MAX;
    return world;
}

static void do_drain(void *arg)
{
    struct world *world = arg;
    if (world->clock.on_expire != NULL)
        gm_timer_cancel(&world->clock);
    gm_call_cancel(&world->owner.call);
    gm_backend_pool_drain(&world->pool);
}

void world_free(struct world *world)
{
    if (world->owner.call.pool != NULL)
        gm_sim_do(world->sim, world->ring, do_drain, world);
    gm_sim_run_for(world->sim, SECOND);
    cr_expect_eq(world->ring->socks_count, 0u, "every connection has been closed");
    for (unsigned i = 0; i < GM_STORE_POOLS; i++) {
        const struct gm_pool_state *pool = &world->ring->store.pools[i];
        uint32_t filling = i <= GM_STORE_LINK ? 1 : 0; /* the one that receives go to */
        cr_expect(gm_pool_unheld(pool) + filling >= pool->count, "pool %u", i);
    }
    cr_expect_eq(world->ring->store.segs.free_count, world->ring->store.segs.total_count);
    gm_rings_join(world->agent);
    gm_rings_join(world->far);
    gm_sim_free(world->sim);
    gm_backend_store_fini(&world->store);
    for (unsigned i = 0; i < world->accepted; i++)
        free(world->peers[i]);
    free(world);
}

struct work {
    struct world *world;
    void (*fn)(struct world *);
    const struct ask *ask;
};

static void do_work(void *arg)
{
    struct work *work = arg;
    work->fn(work->world);
}

void world_do(struct world *world, void (*fn)(struct world *world))
{
    struct work work = {.world = world, .fn = fn};
    gm_sim_do(world->sim, world->ring, do_work, &work);
}

static void wake(struct gm_timer *timer)
{
    (void)timer; /* a turn reads the clock */
}

static void do_wake(struct world *world)
{
    if (world->clock.on_expire == NULL)
        gm_timer_init(&world->clock, wake);
    gm_timer_set(world->ring, &world->clock, world->wake_ns);
}

/* Ends with a turn of the agent's ring, so that it knows what time it is. */
void world_run(struct world *world, uint64_t ns)
{
    uint64_t until_ns = gm_sim_now(world->sim) + ns;
    world->wake_ns = until_ns - (ns > 20 * MS ? 10 * MS : ns / 2);
    world_do(world, do_wake);
    gm_sim_run_until(world->sim, until_ns);
}

/* ---- Asking ---- */

static void write_fields(struct gm_head_writer *writer, const char *fields)
{
    while (fields != NULL && *fields != '\0') {
        const char *colon = strchr(fields, ':'), *end = strchr(fields, '\n');
        gm_head_write_field(writer,
                            &(struct gm_head_field){fields, colon + 2, (uint16_t)(colon - fields),
                                                    (uint16_t)(end - colon - 2)});
        fields = end + 1;
    }
}

static void give_body(struct world *world, const struct ask *ask)
{
    struct owner *owner = &world->owner;
    const uint8_t *from = ask->body;
    size_t left = ask->body_len;
    while (left > 0 && owner->data_rc == 0) {
        struct gm_buf *buf = gm_ring_block(world->ring, GM_BLOCK_SMALL);
        cr_assert(buf != NULL);
        uint32_t n = left < buf->size ? (uint32_t)left : buf->size;
        memcpy(buf->data, from, n);
        owner->data_rc = gm_call_data(&owner->call, (gm_slice){buf->data, n, buf});
        from += n;
        left -= n;
    }
}

static void give_trailers(struct world *world, const char *trailers)
{
    struct gm_buf *buf = gm_ring_block(world->ring, GM_BLOCK_SMALL);
    struct gm_head_writer writer;
    gm_head_write_trailers(&writer, buf->data, buf->size);
    write_fields(&writer, trailers);
    int len = gm_head_write_finish(&writer);
    cr_assert(len > 0);
    gm_slice block = {buf->data, (uint32_t)len, buf};
    gm_call_trailers(&world->owner.call, block);
    gm_slice_put(block);
}

static void do_ask(void *arg)
{
    struct work *work = arg;
    struct world *world = work->world;
    const struct ask *ask = work->ask;
    struct owner *owner = &world->owner;
    bool large = ask->fields != NULL && strlen(ask->fields) > GM_BLOCK_SMALL_BYTES / 2;
    struct gm_buf *buf = gm_ring_block(world->ring, large ? GM_BLOCK_HEAD : GM_BLOCK_SMALL);
    struct gm_head_writer writer;
    struct gm_head_request head = {.method = ask->method,
                                   .method_len = (uint8_t)strlen(ask->method),
                                   .target = ask->target,
                                   .target_len = (uint16_t)strlen(ask->target),
                                   .authority = ask->authority,
                                   .authority_len = (uint16_t)strlen(ask->authority),
                                   .content_length = ask->content_length,
                                   .flags = ask->flags};
    gm_head_write_request(&writer, buf->data, buf->size, &head);
    write_fields(&writer, ask->fields);
    int len = gm_head_write_finish(&writer);
    cr_assert(len > 0, "%d", len);
    gm_slice block = {buf->data, (uint32_t)len, buf};
    int rc = gm_head_read_request(block.data, block.len, &head);
    cr_assert(rc == 0);
    owner->data_rc = owner->end_rc = 0;
    struct gm_call_request request = {.head = &head, .block = block};
    owner->start_rc = gm_call_start(&owner->call, &world->pool, &owner_ops, &request);
    gm_slice_put(block);
    if (owner->start_rc < 0)
        return;
    give_body(world, ask);
    if (ask->trailers != NULL)
        give_trailers(world, ask->trailers);
    if (!ask->open && owner->data_rc == 0)
        owner->end_rc = gm_call_end(&owner->call);
}

void world_ask(struct world *world, const struct ask *ask)
{
    struct owner *owner = &world->owner;
    owner->body.len = owner->heads.len = owner->trailers.len = 0;
    owner->body.bytes[0] = owner->heads.bytes[0] = owner->trailers.bytes[0] = '\0';
    owner->ends = owner->fails = owner->sents = owner->head_count = owner->last_status = 0;
    struct work work = {.world = world, .ask = ask};
    gm_sim_do(world->sim, world->ring, do_ask, &work);
}
