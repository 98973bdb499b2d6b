/* See bench.h. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

#include "ws/mask.h"

static struct end *end_of(struct gm_link *link)
{
    return GM_CONTAINER_OF(link, struct end, link);
}

/* ---- What a link is told ---- */

static void on_up(struct gm_link *link)
{
    end_of(link)->ups++;
}
static void on_drain(struct gm_link *link)
{
    end_of(link)->drains++;
}
static void on_silent(struct gm_link *link, bool silent)
{
    if (silent)
        end_of(link)->silences++;
    else
        end_of(link)->voices++;
}
static void on_down(struct gm_link *link, enum gm_reason_code reason, const char *text)
{
    struct end *end = end_of(link);
    end->downs++;
    end->reason = reason;
    end->text = text;
    end->down_ns = gm_ring_now_ns(gm_conn_ring(&link->conn));
}
static void on_closed(struct gm_link *link)
{
    end_of(link)->closes++;
}
static void on_note(struct gm_link *link, const char *json, size_t len)
{
    char *note = end_of(link)->note;
    cr_assert_lt(len, sizeof end_of(link)->note);
    memcpy(note, json, len);
    note[len] = '\0';
}
static void on_proved(struct gm_link *link)
{
    end_of(link)->proofs++;
}
const struct gm_link_ops bench_link_ops = {.on_up = on_up,
                                           .on_drain = on_drain,
                                           .on_note = on_note,
                                           .on_proved = on_proved,
                                           .on_silent = on_silent,
                                           .on_down = on_down,
                                           .on_closed = on_closed};

static void keep_block(struct end *end, gm_slice block)
{
    end->head_len = block.len;
    memcpy(end->head, block.data, block.len);
}
static void on_open(struct gm_stream *stream, gm_slice block, bool last)
{
    struct end *end = end_of(gm_link_of(stream->mux));
    (void)last;
    end->opens++;
    end->stream = stream;
    keep_block(end, block);
}
static void on_head(struct gm_stream *stream, gm_slice block, bool last)
{
    struct end *end = end_of(gm_link_of(stream->mux));
    (void)last;
    end->heads++;
    keep_block(end, block);
}
static void on_data(struct gm_stream *stream, gm_slice slice)
{
    end_of(gm_link_of(stream->mux))->data_bytes += slice.len;
    gm_slice_put(slice);
}
static void on_block(struct gm_stream *stream, gm_slice block)
{
    (void)stream;
    (void)block;
}
static void on_end(struct gm_stream *stream)
{
    end_of(gm_link_of(stream->mux))->ends++;
}
static void on_reset(struct gm_stream *stream, uint16_t reason, uint16_t flags)
{
    struct end *end = end_of(gm_link_of(stream->mux));
    end->resets++;
    end->reset_reason = reason;
    end->reset_flags = flags;
}
static void on_stop(struct gm_stream *stream, uint16_t reason)
{
    (void)stream;
    (void)reason;
}
static void on_count(struct gm_stream *stream, uint32_t count)
{
    (void)stream;
    (void)count;
}
static void on_stream_closed(struct gm_stream *stream)
{
    struct end *end = end_of(gm_link_of(stream->mux));
    end->stream_closes++;
    end->stream = NULL;
}
const struct gm_mux_ops bench_mux_ops = {.on_hello = gm_link_mux_hello,
                                         .on_open = on_open,
                                         .on_head = on_head,
                                         .on_data = on_data,
                                         .on_trailers = on_block,
                                         .on_end = on_end,
                                         .on_reset = on_reset,
                                         .on_stop = on_stop,
                                         .on_credit = on_count,
                                         .on_pulled = on_count,
                                         .on_closed = on_stream_closed,
                                         .on_pong = gm_link_mux_pong,
                                         .on_drain = gm_link_mux_drain,
                                         .on_drain_ack = gm_link_mux_drain_ack,
                                         .on_note = gm_link_mux_note,
                                         .gather = gm_link_mux_gather,
                                         .reserve = gm_link_mux_reserve};

/* ---- Beginnings ---- */

struct gm_link_config server_config(void)
{
    return (struct gm_link_config){.ops = &bench_link_ops,
                                   .mux_ops = &bench_mux_ops,
                                   .role = GM_MUX_SERVER,
                                   .stream_limit = 20,
                                   .hello = {.server_id = "s",
                                             .instance = "server",
                                             .lane = 2,
                                             .lanes = 4,
                                             .stream_limit = 20,
                                             .window = 65536},
                                   .ready = {.instance = "agent"}};
}

struct gm_link_config agent_config(void)
{
    return (struct gm_link_config){
        .ops = &bench_link_ops,
        .mux_ops = &bench_mux_ops,
        .role = GM_MUX_AGENT,
        .stream_limit = 10,
        .window = 4096,
        .ready = {.instance = "agent", .service = "svc", .stream_limit = 10, .window = 4096}};
}

const char some_accept[] = "0123456789012345678901234567";

static void accept_link(struct wire *w, int fd)
{
    struct bench *b = GM_CONTAINER_OF(w, struct bench, w);
    struct gm_link_config config = server_config();
    cr_assert_eq(gm_link_accept(w->near, &b->server.link, fd, some_accept, &config), 0);
}

/* A server's link on the near ring, a bare socket as its agent. */
struct bench *bench_server(uint64_t seed)
{
    struct bench *b = calloc(1, sizeof *b);
    cr_assert_not_null(b);
    b->w.peer_grant = GM_RECV_UNLIMITED;
    b->w.on_accept = accept_link;
    wire_open(&b->w, seed);
    wire_run(&b->w, 10 * MS_NS);
    return b;
}

void dial(struct bench *b, struct gm_ring *ring)
{
    struct gm_link_config config = agent_config();
    union gm_addr addr = wire_addr();
    struct gm_link_dial how = {
        .addr = &addr, .host = {"h", 1}, .target = {"/agent", 6}, .token = {"t.o.k", 5}, .lane = 3};
    wire_enter(&b->w, ring);
    cr_assert_eq(gm_link_dial(ring, &b->agent.link, &how, &config), 0);
    wire_leave(&b->w, ring);
    wire_run(&b->w, 50 * MS_NS);
}

/* An agent's link on the near ring, a bare socket as its server. */
struct bench *bench_agent(uint64_t seed)
{
    struct bench *b = calloc(1, sizeof *b);
    cr_assert_not_null(b);
    gm_sim_profile_default(&b->w.profile);
    /* An answer comes as it was sent. */
    b->w.profile.split_permille = b->w.profile.short_permille = 0;
    wire_peer_listen(&b->w, seed);
    dial(b, b->w.near);
    return b;
}

void bench_close(struct bench *b)
{
    wire_close(&b->w);
    free(b);
}

/* Text of the upgrade request that the bare server has received. */
const char *request_text(struct bench *b)
{
    b->w.got = realloc(b->w.got, b->w.got_cap = b->w.got_len + 1);
    b->w.got[b->w.got_len] = '\0';
    return (const char *)b->w.got;
}

void send_text(struct bench *b, const char *text)
{
    wire_peer_send(&b->w, text, strlen(text));
    wire_run(&b->w, 20 * MS_NS);
}

/* ---- Frames by hand ---- */

size_t ws_frame(uint8_t *out, struct gm_ws_header header, const void *payload)
{
    size_t head = gm_ws_header_write(out, &header);
    memcpy(out + head, payload, header.length);
    if (header.masked)
        (void)gm_ws_mask(out + head, header.length, header.key, 0);
    return head + header.length;
}

const char ready_json[] =
    "{\"instance\":\"agent\",\"service\":\"svc\",\"stream_limit\":7,\"window\":1234}";

size_t ready_frame(uint8_t *out, const char *json)
{
    size_t head = gm_frame_put_header(out, GM_FRAME_READY, 0, (uint16_t)strlen(json), 0);
    memcpy(out + head, json, strlen(json));
    return head + strlen(json);
}

void peer_ws(struct bench *b, struct gm_ws_header header, const void *payload)
{
    static uint8_t out[70000];
    size_t len = ws_frame(out, header, payload);
    wire_peer_send(&b->w, out, len);
    wire_run(&b->w, 20 * MS_NS);
}

void peer_ready(struct bench *b)
{
    uint8_t frame[512];
    size_t len = ready_frame(frame, ready_json);
    peer_ws(b,
            (struct gm_ws_header){
                .length = len, .key = 7, .opcode = GM_WS_BINARY, .fin = true, .masked = true},
            frame);
}

/* The CLOSE frame that a server's link has sent: the last thing received. */
uint16_t close_code(const struct bench *b)
{
    for (size_t at = b->w.got_len; at-- > 0;) {
        const uint8_t *p = b->w.got + at;
        if (p[0] == (GM_WS_FIN | GM_WS_CLOSE) && at + 2u + p[1] == b->w.got_len && p[1] >= 2)
            return (uint16_t)(p[2] << 8 | p[3]);
    }
    return 0;
}

/* ---- Two links ---- */

/* What stands in front of the server's link: reads the upgrade request, then hands over. */
struct front {
    struct gm_sock sock;
    struct bench *bench;
    char text[4096];
    size_t len;
    char accept[GM_WS_ACCEPT_LEN];
};
static struct front front;
static bool front_old, front_refuses; /* a server of 0.0.x */

static void front_recv(struct gm_sock *sock, gm_slice slice)
{
    cr_assert_lt(front.len + slice.len, sizeof front.text);
    memcpy(front.text + front.len, slice.data, slice.len);
    front.len += slice.len;
    gm_slice_put(slice);
    if (strstr(front.text, "\r\n\r\n") == NULL)
        return;
    const char *key = strstr(front.text, "Sec-WebSocket-Key: ");
    cr_assert_not_null(key);
    struct gm_ws_text text = {key + 19, GM_WS_KEY_LEN};
    cr_assert_eq(gm_ws_accept(text, gm_link_sha1, front.accept), 0);
    gm_sock_detach(sock);
}
static void front_end(struct gm_sock *sock, int error)
{
    (void)sock;
    (void)error;
}
static void front_detached(struct gm_sock *sock, int fd)
{
    struct gm_link *link = &front.bench->server.link;
    struct gm_link_config config = server_config();
    if (front_old)
        config.old = (struct gm_link_old){.agent_id = "a", .service = "svc"};
    cr_assert_eq(gm_link_accept(sock->ring, link, fd, front.accept, &config), 0);
    if (front_old && front_refuses)
        gm_link_old_refuse(link);
    else if (front_old)
        gm_link_old_greet(link);
}
static const struct gm_sock_ops front_ops = {
    .on_recv = front_recv, .on_recv_end = front_end, .on_detached = front_detached};

static void front_accept(struct gm_listener *listener, int fd)
{
    struct wire *w = GM_CONTAINER_OF(listener, struct wire, listener);
    memset(&front, 0, sizeof front);
    front.bench = GM_CONTAINER_OF(w, struct bench, w);
    cr_assert_eq(gm_sock_open(w->near, &front.sock, fd, &front_ops), 0);
    gm_sock_recv(&front.sock, GM_POOL_CLIENT, sizeof front.text - 1);
}
static void front_closed(struct gm_listener *listener)
{
    (void)listener;
}

static struct bench *pair(const struct gm_sim_profile *profile, uint64_t seed)
{
    struct bench *b = calloc(1, sizeof *b);
    union gm_addr addr = wire_addr();
    cr_assert_not_null(b);
    if (profile != NULL)
        b->w.profile = *profile;
    wire_rings(&b->w, seed);
    b->w.listener.on_accept = front_accept;
    b->w.listener.on_closed = front_closed;
    wire_enter(&b->w, b->w.near);
    cr_assert_eq(gm_listener_open(b->w.near, &b->w.listener, &addr), 0);
    wire_leave(&b->w, b->w.near);
    dial(b, b->w.far);
    wire_run(&b->w, SECOND_NS);
    return b;
}

struct bench *bench_pair(const struct gm_sim_profile *profile, uint64_t seed)
{
    front_old = false;
    struct bench *b = pair(profile, seed);
    cr_assert(b->server.ups == 1 && b->agent.ups == 1);
    return b;
}

struct bench *bench_old_pair(const struct gm_sim_profile *profile, uint64_t seed, bool refuse)
{
    front_old = true;
    front_refuses = refuse;
    return pair(profile, seed);
}
