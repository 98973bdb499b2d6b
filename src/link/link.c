/* A link: handshake, greetings, WebSocket framing, flush, liveness, drain, end. Owner: one ring.
 *
 * Invariants: after gm_link_end nothing reaches the owner but on_closed; the mux is aborted exactly
 * once; a WebSocket message is built and queued whole within one flush, so that control frames of
 * the WebSocket never fall into one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/counter.h"
#include "base/pages.h"
#include "frame/reason.h"
#include "http/parser.h"
#include "link/internal.h"
#include "ws/mask.h"

#define UPGRADE_REQUEST_MAX (11u * 1024u)
/* What a stream that becomes ready finds ahead of it at most: a queue that had room for a byte, the
 * last message that went into it (GM_LINK_QUEUE_BYTES, or one head), and what TLS adds. */
#define LINK_QUEUED_MAX (2u * GM_LINK_QUEUE_BYTES + GM_BLOCK_SMALL_BYTES * 2u)

static const struct gm_conn_ops link_conn_ops;
static void link_tick(struct gm_timer *timer);
static void link_starved(struct gm_timer *timer);
static void link_evacuate(struct gm_holder *holder);

static struct gm_link *link_of_conn(struct gm_conn *conn)
{
    return GM_CONTAINER_OF(conn, struct gm_link, conn);
}
static struct gm_ring *link_ring(const struct gm_link *link)
{
    return gm_conn_ring(&link->conn);
}
bool gm_link_is_up(const struct gm_link *link)
{
    return link->state == LINK_UP;
}

/* ---- Beginning ---- */

static int link_prepare(struct gm_ring *ring, struct gm_link *link,
                        const struct gm_link_config *config)
{
    memset(link, 0, sizeof *link);
    link->ops = config->ops;
    link->role = (uint8_t)config->role;
    link->hello = config->hello;
    link->ready = config->ready;
    link->request_limit = config->old.request_limit;
    /* Zero pages that are touched only as slots come into use. */
    link->mux_memory = gm_pages_map(gm_mux_memory((uint16_t)config->stream_limit));
    gm_counter_add(GM_COUNTER_ALLOCATIONS, 1);
    if (link->mux_memory == NULL)
        return -GM_E_NOMEM;
    gm_mux_init(&link->mux, &(struct gm_mux_config){
                                .ops = config->mux_ops,
                                .user = link,
                                .segs = gm_ring_segs(ring),
                                .memory = link->mux_memory,
                                .window = config->window,
                                .stream_limit = (uint16_t)config->stream_limit,
                                .role = config->role,
                            });
    gm_ws_reader_init(&link->ws, config->role == GM_MUX_SERVER ? GM_WS_SERVER : GM_WS_CLIENT, 0);
    gm_timer_init(&link->timer, link_tick);
    gm_timer_init(&link->starved, link_starved);
    gm_holder_init(&link->holder, link_evacuate);
    return 0;
}

static void link_release(struct gm_link *link)
{
    gm_timer_cancel(&link->timer);
    gm_timer_cancel(&link->starved);
    link_proxy_release(link);
    if (link->head != NULL)
        gm_buf_put(link->head);
    link->head = NULL;
    link_old_release(link);
    gm_pages_unmap(link->mux_memory, gm_mux_memory(link->mux.stream_limit));
    link->mux_memory = NULL;
}

void gm_link_forget(struct gm_link *link)
{
    link_release(link);
    gm_tls_free(gm_conn_take_tls(&link->conn));
}

void link_arm(struct gm_link *link, uint64_t span_ns)
{
    gm_timer_set(link_ring(link), &link->timer, gm_ring_now_ns(link_ring(link)) + span_ns);
}

static void link_stick(struct gm_link *link)
{
    link->stuck = "out of memory for the link";
    link_arm(link, 0);
}

/* False: it could not be, nothing may be said in the clear, and the timer ends the link. */
static bool link_secure(struct gm_link *link, const struct gm_link_config *config)
{
    if (config->tls == NULL)
        return true;
    link->hello.zero_mask = link->role == GM_MUX_SERVER;
    link->ready.zero_mask = link->role == GM_MUX_AGENT;
    if (gm_conn_secure(&link->conn, config->tls, config->room, GM_POOL_LINK) == 0)
        return true;
    link_stick(link);
    return false;
}

int gm_link_accept(struct gm_ring *ring, struct gm_link *link, int fd,
                   const char accept[GM_WS_ACCEPT_LEN], const struct gm_link_config *config)
{
    bool old = config->old.agent_id != NULL;
    int rc = link_prepare(ring, link, config);
    if (rc == 0 && old)
        rc = link_old_begin(link, ring, &config->old);
    if (rc == 0)
        rc = gm_conn_open(ring, &link->conn, fd, &link_conn_ops);
    if (rc < 0) {
        gm_tls_free(config->tls);
        link_release(link);
        return rc;
    }
    link->state = LINK_GREETING;
    link->last_recv_ns = gm_ring_now_ns(ring);
    if (!link_secure(link, config))
        return 0;
    char head[512];
    struct gm_ws_text protocol = {GM_FRAME_SUBPROTOCOL, sizeof GM_FRAME_SUBPROTOCOL - 1};
    int len =
        gm_ws_write_response(head, sizeof head, accept, old ? (struct gm_ws_text){0} : protocol);
    GM_ASSERT(len > 0);
    gm_conn_write(&link->conn, head, (size_t)len);
    gm_sock_set_lowat(&link->conn.sock, GM_LINK_QUEUE_BYTES);
    gm_conn_recv(&link->conn, GM_POOL_LINK, old ? LINK_GRANT_BYTES : GM_RECV_UNLIMITED);
    link_arm(link, GM_LINK_GREETING_NS);
    if (!old && !link_greet(link))
        gm_conn_kick(&link->conn); /* no block: the greeting deadline ends the link */
    return 0;
}

/* Writes the upgrade request; its length, or not above 0. */
static int link_request(struct gm_link *link, const struct gm_link_dial *dial,
                        char head[UPGRADE_REQUEST_MAX])
{
    uint8_t random[16];
    char fields[2 * GM_LINK_INSTANCE_MAX + 9 * 1024], lane[GM_LINK_INSTANCE_MAX + 64] = "";
    gm_ring_random(link_ring(link), random, sizeof random);
    gm_ws_key(random, link->key);
    if (dial->lane >= 0)
        (void)snprintf(lane, sizeof lane, "Gimlet-Lane: %d\r\n%s%.*s%s", dial->lane,
                       dial->lane_server.len > 0 ? "Gimlet-Server: " : "",
                       (int)dial->lane_server.len, dial->lane_server.p,
                       dial->lane_server.len > 0 ? "\r\n" : "");
    int len =
        snprintf(fields, sizeof fields, "Authorization: Bearer %.*s\r\nGimlet-Instance: %s\r\n%s",
                 (int)dial->token.len, dial->token.p, link->ready.instance, lane);
    struct gm_ws_request request = {
        .target = dial->target,
        .host = dial->host,
        .protocol = {GM_FRAME_SUBPROTOCOL, sizeof GM_FRAME_SUBPROTOCOL - 1},
        .fields = {fields, len < (int)sizeof fields ? (size_t)len : sizeof fields - 1},
        .key = link->key,
    };
    len = gm_ws_write_request(head, UPGRADE_REQUEST_MAX, &request);
    explicit_bzero(fields, sizeof fields);
    return len;
}

int gm_link_dial(struct gm_ring *ring, struct gm_link *link, const struct gm_link_dial *dial,
                 const struct gm_link_config *config)
{
    char head[UPGRADE_REQUEST_MAX];
    int rc = link_prepare(ring, link, config);
    if (rc == 0)
        rc = gm_conn_dial(ring, &link->conn, dial->addr, &link_conn_ops);
    if (rc < 0) {
        gm_tls_free(config->tls);
        link_release(link);
        return rc;
    }
    link->state = LINK_DIALLING;
    link_arm(link, GM_LINK_GREETING_NS); /* covers the connect, the upgrade and the greetings */
    int len = link_request(link, dial, head);
    struct gm_ws_text request = {head, len > 0 ? (size_t)len : 0};
    if (dial->proxy == NULL && link_secure(link, config)) {
        gm_conn_write(&link->conn, request.p, request.len);
        gm_conn_recv(&link->conn, GM_POOL_LINK, LINK_GRANT_BYTES);
    } else if (dial->proxy != NULL) {
        link->ready.zero_mask = config->tls != NULL;
        if (link_proxy_begin(link, dial->proxy, config, request))
            gm_conn_recv(&link->conn, GM_POOL_LINK, LINK_GRANT_BYTES);
        else
            link_stick(link);
    }
    explicit_bzero(head, sizeof head);
    return 0;
}

/* ---- Ending ---- */

static void link_count(struct gm_link *link)
{
    const struct gm_mux_stats *stats = &link->mux.stats;
    const struct {
        uint64_t value;
        enum gm_counter counter;
    } rows[GM_LINK_COUNTED] = {
        {stats->frames_out, GM_COUNTER_FRAMES_SENT},
        {stats->frames_in, GM_COUNTER_FRAMES_RECEIVED},
        {stats->credits_out, GM_COUNTER_CREDITS_SENT},
        {stats->credits_in, GM_COUNTER_CREDITS_RECEIVED},
        {stats->streams_opened, GM_COUNTER_STREAMS_OPENED},
        {stats->streams_closed, GM_COUNTER_STREAMS_ENDED},
        {stats->resets_in + stats->resets_out, GM_COUNTER_STREAMS_RESET},
        {stats->late_frames, GM_COUNTER_LATE_FRAMES},
        {link->mux.sched.contended, GM_COUNTER_DATA_CONTENDED},
        {link->mux.sched.overrun, GM_COUNTER_DATA_OVERRUN_BYTES},
    };
    for (unsigned i = 0; i < GM_LINK_COUNTED; i++) {
        if (rows[i].value == link->mux_seen[i])
            continue;
        gm_counter_add(rows[i].counter, rows[i].value - link->mux_seen[i]);
        link->mux_seen[i] = rows[i].value;
    }
}

static void link_down(struct gm_link *link, enum gm_reason_code reason, const char *text)
{
    link->state = LINK_ENDED;
    gm_timer_cancel(&link->timer);
    gm_timer_cancel(&link->starved);
    gm_ring_unhold(&link->holder);
    gm_mux_abort(&link->mux, (uint16_t)reason);
    link_count(link);
    gm_mux_fini(&link->mux);
    link_old_down(link);
    link->ops->on_down(link, reason, text);
}

void gm_link_end(struct gm_link *link, enum gm_reason_code reason, uint16_t code, const char *text)
{
    if (link->state == LINK_ENDED)
        return;
    bool framed = link->state == LINK_UP || link->state == LINK_GREETING;
    if (framed) {
        uint8_t payload[GM_WS_CONTROL_MAX];
        link_control(link, GM_WS_CLOSE, payload, gm_ws_close_write(payload, code, text));
    }
    link_down(link, reason, link_proxy_text(link, text));
    if (framed)
        gm_conn_close(&link->conn);
    else
        gm_conn_abort(&link->conn, false);
}

void link_finish(struct gm_link *link, const char *text)
{
    link_down(link, GM_REASON_NONE, text);
    gm_conn_close(&link->conn);
}

/* The connection is of no use any more: the peer is gone, or silent. */
void link_lost(struct gm_link *link, const char *text)
{
    if (link->state == LINK_ENDED)
        return;
    link_down(link, GM_REASON_AGENT_DISCONNECT, link_proxy_text(link, text));
    gm_conn_abort(&link->conn, true);
}

/* ---- Sending ---- */

uint32_t link_mask_key(struct gm_link *link)
{
    uint32_t key = 0;
    if (link->role == GM_MUX_AGENT && !link->zero_mask)
        gm_ring_random(link_ring(link), &key, sizeof key);
    return key;
}

void link_control(struct gm_link *link, uint8_t opcode, const void *payload, size_t len)
{
    uint8_t frame[GM_WS_HEADER_MAX + GM_WS_CONTROL_MAX];
    uint32_t key = link_mask_key(link);
    struct gm_ws_header header = {.length = len,
                                  .key = key,
                                  .opcode = opcode,
                                  .fin = true,
                                  .masked = link->role == GM_MUX_AGENT};
    size_t head = gm_ws_header_write(frame, &header);
    memcpy(frame + head, payload, len);
    if (header.masked)
        (void)gm_ws_mask(frame + head, len, key, 0);
    gm_conn_write(&link->conn, frame, head + len);
}

void link_queue_message(struct gm_link *link, struct gm_batch *batch, struct gm_buf *cork)
{
    size_t payload = batch->bytes - GM_WS_HEADER_MAX;
    struct gm_ws_header header = {.length = payload,
                                  .key = link_mask_key(link),
                                  .opcode = GM_WS_BINARY,
                                  .fin = true,
                                  .masked = link->role == GM_MUX_AGENT};
    uint8_t bytes[GM_WS_HEADER_MAX];
    uint32_t head = (uint32_t)gm_ws_header_write(bytes, &header);
    gm_slice *first = &batch->pieces[0];
    memcpy(first->data + GM_WS_HEADER_MAX - head, bytes, head);
    unsigned phase = 0;
    bool touched = header.key != 0;
    if (touched)
        phase = gm_ws_mask(first->data + GM_WS_HEADER_MAX, first->len - GM_WS_HEADER_MAX,
                           header.key, 0);
    for (uint16_t i = 1; touched && i < batch->piece_count; i++) {
        phase = gm_ws_mask(batch->pieces[i].data, batch->pieces[i].len, header.key, phase);
    }
    first->data += GM_WS_HEADER_MAX - head;
    first->len -= GM_WS_HEADER_MAX - head;
    for (uint16_t i = 0; i < batch->piece_count; i++) {
        gm_slice piece = batch->pieces[i];
        if (piece.buf == NULL) {
            gm_buf_ref(cork);
            piece.buf = cork;
        }
        gm_conn_push(&link->conn, piece);
    }
    /* The first message of an agent holds READY: the mask goes with what follows it. */
    link->zero_mask = link->hello.zero_mask && link->ready.zero_mask;
    gm_counter_add(GM_COUNTER_MESSAGES_SENT, 1);
    gm_counter_add(GM_COUNTER_COPIES_SMALL_BYTES, batch->copied_bytes);
}

/* One WebSocket message of whatever is ready. False: no memory, or nothing to say. */
static bool link_message(struct gm_link *link)
{
    gm_slice pieces[LINK_BATCH_PIECES];
    struct gm_batch batch;
    struct gm_buf *cork = gm_ring_block(link_ring(link), GM_BLOCK_SMALL);
    if (cork == NULL)
        return false;
    gm_batch_init(&batch, pieces, LINK_BATCH_PIECES, cork->data, cork->size);
    batch.copy_max = GM_CONN_CORK_MAX;
    (void)gm_batch_place(&batch, GM_WS_HEADER_MAX);
    size_t pulled = gm_mux_pull(&link->mux, &batch, GM_LINK_QUEUE_BYTES);
    if (pulled > 0)
        link_queue_message(link, &batch, cork);
    gm_buf_put(cork);
    return pulled > 0;
}

static void link_finish_drain(struct gm_link *link)
{
    if (link->drain_acked && link->state == LINK_UP && gm_mux_open_count(&link->mux) == 0)
        gm_link_end(link, GM_REASON_DRAINING, GM_WS_CLOSE_GOING_AWAY, "drained");
}

/* Blocks were short when there was something to say: they may be back. */
static void link_starved(struct gm_timer *timer)
{
    gm_conn_kick(&GM_CONTAINER_OF(timer, struct gm_link, starved)->conn);
}

void link_starve(struct gm_link *link)
{
    gm_timer_set(link_ring(link), &link->starved, gm_ring_now_ns(link_ring(link)) + GM_TICK_NS);
}

static void link_flush(struct gm_conn *conn)
{
    struct gm_link *link = link_of_conn(conn);
    if (link->state != LINK_UP && link->state != LINK_GREETING)
        return;
    if (link->old != NULL)
        link_old_flush(link);
    while (link->old == NULL && gm_conn_queued(conn) < GM_LINK_QUEUE_BYTES &&
           gm_mux_ready(&link->mux)) {
        if (link_message(link))
            continue;
        link_starve(link);
        break;
    }
    if (!gm_mux_ready(&link->mux))
        gm_ring_unhold(&link->holder);
    if (GM_UNLIKELY(link->old == NULL && gm_conn_queued(conn) > LINK_QUEUED_MAX))
        gm_counter_add(GM_COUNTER_LINK_OVERRUN_BYTES, gm_conn_queued(conn) - LINK_QUEUED_MAX);
    link_count(link);
    link_finish_drain(link);
}

static void link_evacuate(struct gm_holder *holder)
{
    struct gm_link *link = GM_CONTAINER_OF(holder, struct gm_link, holder);
    for (struct gm_list *node = link->mux.sched.ready.next; node != &link->mux.sched.ready;
         node = node->next) {
        gm_ring_evacuate(link_ring(link),
                         &GM_CONTAINER_OF(node, struct gm_stream, sched.node)->queue);
    }
}

/* Somebody waits for this peer now: its silence is judged by the short span. */
static void link_hurry(struct gm_link *link)
{
    uint64_t latest = gm_ring_now_ns(link_ring(link)) + GM_LINK_BUSY_SILENCE_NS;
    if (link->state == LINK_UP && link->pinged_ns == 0 && link->timer.deadline_ns > latest)
        gm_timer_set(link_ring(link), &link->timer, latest);
}

void gm_link_kick(struct gm_link *link)
{
    if (link->state == LINK_ENDED)
        return;
    gm_conn_kick(&link->conn);
    if (link->old != NULL)
        link_old_kick(link);
    /* Until a flush finds nothing left: a full socket may keep the streams waiting from here on. */
    gm_ring_hold(link_ring(link), &link->holder);
    link_hurry(link);
}

void gm_link_drain(struct gm_link *link)
{
    if (link->draining || link->state == LINK_ENDED)
        return;
    link->draining = true;
    gm_mux_drain(&link->mux);
    if (link->old != NULL)
        link_old_drain(link);
    gm_conn_kick(&link->conn);
    link_hurry(link);
}

/* ---- Receiving ---- */

/* How long the peer may say nothing before it is asked. */
static uint64_t link_silence(const struct gm_link *link)
{
    bool awaited = gm_mux_open_count(&link->mux) > 0 || (link->draining && !link->drain_acked);
    return awaited ? GM_LINK_BUSY_SILENCE_NS : GM_LINK_IDLE_SILENCE_NS;
}

bool link_event(struct gm_link *link, const struct gm_ws_event *event, gm_slice slice)
{
    switch ((enum gm_ws_event_kind)event->kind) {
    case GM_WS_EVENT_DATA:
        if (event->opcode != GM_WS_BINARY) {
            gm_link_end(link, GM_REASON_PROTOCOL_ERROR, GM_WS_CLOSE_UNSUPPORTED,
                        "text messages are not spoken here");
            return false;
        }
        if (event->len == 0)
            return true;
        if (gm_mux_feed(&link->mux, gm_ring_now_ns(link_ring(link)),
                        gm_slice_ref((gm_slice){event->data, (uint32_t)event->len, slice.buf})) <
            0) {
            gm_link_end(link, (enum gm_reason_code)link->mux.fault_reason, GM_WS_CLOSE_PROTOCOL,
                        link->mux.fault_text);
            return false;
        }
        return link->state != LINK_ENDED;
    case GM_WS_EVENT_PING:
        /* Whoever asks and does not read gets no more answers (RFC 6455 section 5.5.3 lets us). */
        if (gm_conn_queued(&link->conn) < GM_LINK_QUEUE_BYTES)
            link_control(link, GM_WS_PONG, event->data, event->len);
        return true;
    case GM_WS_EVENT_PONG:
        if (link->old != NULL)
            link_old_pong(link, event);
        return true;
    case GM_WS_EVENT_CLOSE: {
        /* 1000 and 1001 are a plan carried out: surplus, drained, going away. */
        bool planned =
            event->close_code == GM_WS_CLOSE_NORMAL || event->close_code == GM_WS_CLOSE_GOING_AWAY;
        gm_link_end(link, planned ? GM_REASON_DRAINING : GM_REASON_AGENT_DISCONNECT,
                    event->close_code == GM_WS_CLOSE_NO_STATUS ? GM_WS_CLOSE_NORMAL
                                                               : event->close_code,
                    "closed by the peer");
        return false;
    }
    }
    return true;
}

static void link_frames(struct gm_link *link, gm_slice slice)
{
    struct gm_ws_event event;
    uint8_t *data = slice.data;
    size_t len = slice.len;
    int rc;
    while ((rc = gm_ws_reader_next(&link->ws, &data, &len, &event)) > 0) {
        if (!link_event(link, &event, slice))
            break;
    }
    gm_slice_put(slice);
    if (rc < 0)
        gm_link_end(link, GM_REASON_PROTOCOL_ERROR, link->ws.close_code, "broken WebSocket frame");
    else if (link->state != LINK_ENDED && (gm_mux_ready(&link->mux) || link->drain_acked))
        gm_conn_kick(&link->conn); /* the last stream's end may end a drained link */
}

/* The upgrade was answered with something else: keep status and first line for the log. */
static void link_refused(struct gm_link *link, uint16_t status, const char *body, size_t len)
{
    size_t keep = 0;
    while (keep < len && keep < sizeof link->http_text - 1 && body[keep] != '\n' &&
           body[keep] != '\r')
        keep++;
    memcpy(link->http_text, body, keep);
    link->http_status = status;
    link_lost(link, "the server refused the link");
}

static struct gm_ws_text span_text(const struct gm_http_fields *fields, enum gm_http_field_id id)
{
    const struct gm_http_field *field = gm_http_fields_find(fields, id, NULL);
    return field == NULL ? (struct gm_ws_text){0}
                         : (struct gm_ws_text){field->value, field->value_len};
}

/* Agent: the answer to the upgrade. What follows the head is the first frames. */
static void link_upgraded(struct gm_link *link, int head_len,
                          const struct gm_http_response *response)
{
    const char *text = (const char *)link->head->data;
    if (response->status != 101) {
        link_refused(link, response->status, text + head_len, link->head_len - (uint32_t)head_len);
        return;
    }
    struct gm_ws_upgrade upgrade = {
        .upgrade = span_text(&response->fields, GM_HTTP_ID_UPGRADE),
        .connection = span_text(&response->fields, GM_HTTP_ID_CONNECTION),
        .accept = span_text(&response->fields, GM_HTTP_ID_SEC_WEBSOCKET_ACCEPT),
        .protocol = span_text(&response->fields, GM_HTTP_ID_SEC_WEBSOCKET_PROTOCOL),
        .extensions = span_text(&response->fields, GM_HTTP_ID_SEC_WEBSOCKET_EXTENSIONS),
        .status = response->status,
        .is_http11 = response->framing.version_minor == 1,
    };
    int rc = gm_ws_check_response(&upgrade, link->key, gm_link_sha1, GM_FRAME_SUBPROTOCOL);
    if (rc < 0) {
        link_lost(link, "the server's answer is not a WebSocket upgrade");
        return;
    }
    /* One that chooses no subprotocol is of 0.0.x. */
    struct gm_link_old names = {.request_limit = link->request_limit};
    if (rc == 0 && link_old_begin(link, link_ring(link), &names) < 0) {
        link_lost(link, "out of memory for the link");
        return;
    }
    link->state = LINK_GREETING;
    gm_sock_set_lowat(&link->conn.sock, GM_LINK_QUEUE_BYTES);
    if (rc > 0)
        gm_conn_recv(&link->conn, GM_POOL_LINK, GM_RECV_UNLIMITED);
    uint32_t rest = link->head_len - (uint32_t)head_len;
    struct gm_buf *head = link->head;
    link->head = NULL;
    if (rest == 0)
        gm_buf_put(head);
    else if (link->old != NULL)
        link_old_recv(link, (gm_slice){head->data + head_len, rest, head});
    else
        link_frames(link, (gm_slice){head->data + head_len, rest, head});
}

int link_gather_answer(struct gm_link *link, gm_slice slice, enum gm_http_method method,
                       struct gm_http_response *response)
{
    if (link->head == NULL)
        link->head = gm_ring_block(link_ring(link), GM_BLOCK_HEAD);
    uint32_t room = link->head == NULL ? 0 : link->head->size - link->head_len;
    if (room < slice.len) {
        gm_slice_put(slice);
        link_lost(link, link->proxy != NULL ? "its answer is too long"
                                            : "the server's answer is too long");
        return -GM_E_LIMIT;
    }
    memcpy(link->head->data + link->head_len, slice.data, slice.len);
    link->head_len += slice.len;
    gm_slice_put(slice);
    size_t scanned = 0;
    int len = gm_http_parse_response((const char *)link->head->data, link->head_len, &scanned,
                                     method, response);
    if (len < 0)
        link_lost(link, link->proxy != NULL ? "its answer is not HTTP"
                                            : "the server's answer is not HTTP");
    return len;
}

static void link_gather_upgrade(struct gm_link *link, gm_slice slice)
{
    struct gm_http_field fields[GM_HTTP_FIELDS_MAX];
    struct gm_http_response response;
    gm_http_response_init(&response, fields, GM_HTTP_FIELDS_MAX, LINK_UPGRADE_HEAD_MAX);
    int len = link_gather_answer(link, slice, GM_HTTP_GET, &response);
    if (len > 0)
        link_upgraded(link, len, &response);
}

static void link_recv(struct gm_conn *conn, gm_slice slice)
{
    struct gm_link *link = link_of_conn(conn);
    if (link->state == LINK_ENDED) {
        gm_slice_put(slice);
        return;
    }
    link->last_recv_ns = gm_ring_now_ns(link_ring(link));
    if (link->pinged_ns != 0) {
        /* Silence is measured from here, not from when the answer was due. */
        link->pinged_ns = 0;
        link_arm(link, link_silence(link));
    }
    if (link->silent) {
        link->silent = false;
        if (link->ops->on_silent != NULL)
            link->ops->on_silent(link, false);
    }
    if (link->state < LINK_GREETING)
        gm_conn_recv(conn, GM_POOL_LINK, slice.len);
    if (link->proxy != NULL)
        link_proxy_recv(link, slice);
    else if (link->state == LINK_UPGRADING)
        link_gather_upgrade(link, slice);
    else if (link->old != NULL)
        link_old_recv(link, slice);
    else
        link_frames(link, slice);
}

static void link_recv_end(struct gm_conn *conn, int error)
{
    if (error == 0 && link_old_ends(link_of_conn(conn)))
        return;
    link_lost(link_of_conn(conn), error <= -GM_E_TLS ? gm_error_text(error)
                                  : error < 0        ? "the connection broke"
                                                     : "the peer closed the connection");
}

static void link_connected(struct gm_conn *conn, int error)
{
    struct gm_link *link = link_of_conn(conn);
    if (error < 0)
        link_lost(link, gm_error_text(error));
    else if (link->proxy != NULL)
        link_proxy_connected(link);
    else
        link->state = LINK_UPGRADING;
}

static void link_sent(struct gm_conn *conn, size_t bytes)
{
    (void)bytes;
    struct gm_link *link = link_of_conn(conn);
    if (link->state != LINK_ENDED && gm_mux_ready(&link->mux))
        gm_conn_kick(conn);
}

static void link_broken(struct gm_conn *conn, int error)
{
    struct gm_link *link = link_of_conn(conn);
    if (link->state != LINK_ENDED)
        link_lost(link,
                  error == -GM_E_NOMEM ? "out of memory for the link" : "the connection broke");
    else
        gm_conn_abort(conn, true);
}

/* Of a peer of 0.0.x that we have paused: what it said before is still read, in time. */
static void link_hangup(struct gm_conn *conn)
{
    if (!link_old_paused(link_of_conn(conn)))
        link_lost(link_of_conn(conn), "the peer closed the connection");
}

static void link_closed(struct gm_conn *conn)
{
    struct gm_link *link = link_of_conn(conn);
    link_release(link);
    link->ops->on_closed(link);
}

/* ---- Liveness ---- */

void link_ping(struct gm_link *link)
{
    uint8_t opaque[GM_FRAME_PING_LEN];
    uint64_t now_ns = gm_ring_now_ns(link_ring(link));
    memcpy(opaque, &now_ns, sizeof opaque);
    link->measured_ns = now_ns;
    if (link->old != NULL)
        link_control(link, GM_WS_PING, opaque, sizeof opaque);
    else
        gm_mux_ping(&link->mux, opaque);
    gm_conn_kick(&link->conn);
    gm_counter_add(GM_COUNTER_PINGS_SENT, 1);
}

static uint64_t link_pong_ns(const struct gm_link *link)
{
    return link->old != NULL ? link_old_pong_ns(link) : GM_LINK_PONG_NS;
}

void link_ask(struct gm_link *link)
{
    if (link->pinged_ns != 0)
        return;
    link->pinged_ns = gm_ring_now_ns(link_ring(link));
    link_ping(link);
    link_arm(link, link_pong_ns(link));
}

static void link_tick(struct gm_timer *timer)
{
    struct gm_link *link = GM_CONTAINER_OF(timer, struct gm_link, timer);
    uint64_t now_ns = gm_ring_now_ns(link_ring(link));
    if (link->state != LINK_UP) {
        link_lost(link, link->stuck != NULL ? link->stuck
                        : link->state == LINK_DIALLING
                            ? "the connection was not established in time"
                            : "the peer did not greet in time");
        return;
    }
    bool slept = gm_ring_gap_ns(link_ring(link)) > 0;
    if (slept || link_old_paused(link)) {
        /* We were the ones who slept, or did not listen. */
        gm_counter_add(GM_COUNTER_TURN_GAP_REARMS, slept ? 1 : 0);
        link->pinged_ns = 0;
        link->last_recv_ns = now_ns;
    }
    if (link->pinged_ns != 0 && now_ns - link->pinged_ns >= link_pong_ns(link)) {
        gm_counter_add(GM_COUNTER_LINKS_DEAD, 1);
        link_lost(link, "the peer is silent");
        return;
    }
    if (link->pinged_ns != 0) {
        link_arm(link, link->pinged_ns + link_pong_ns(link) - now_ns);
        return;
    }
    uint64_t span = link_silence(link);
    if (gm_mux_open_count(&link->mux) > 0 && now_ns - link->measured_ns >= GM_LINK_MEASURE_NS)
        link_ping(link);
    if (now_ns - link->last_recv_ns < span) {
        gm_timer_set(link_ring(link), timer, link->last_recv_ns + span);
        return;
    }
    link->silent = true;
    if (link->ops->on_silent != NULL)
        link->ops->on_silent(link, true);
    link_ask(link);
}

static const struct gm_conn_ops link_conn_ops = {
    .on_recv = link_recv,
    .on_recv_end = link_recv_end,
    .on_hangup = link_hangup,
    .on_flush = link_flush,
    .on_sent = link_sent,
    .on_broken = link_broken,
    .on_connect = link_connected,
    .on_closed = link_closed,
};
