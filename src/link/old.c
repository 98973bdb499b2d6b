/* A link to a peer of 0.0.x: greetings and control as JSON in TEXT messages, requests in BINARY
 * ones, one frame each. Owner: the link's ring.
 *
 * 0.0.x knows no credit. What a stream cannot take stays in `input`, and nothing behind it is read:
 * the socket is granted no more than is held, and that is reserved. Invariants: bytes granted and
 * bytes in `input` together never exceed LINK_GRANT_BYTES by more than an upgrade's answer; while
 * piece_left is not 0 the first bytes of `input` are payload whose WebSocket framing has been
 * removed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/counter.h"
#include "base/pages.h"
#include "link/internal.h"
#include "ws/mask.h"

/* Requests that were on their way when an agent of ours said that it drains come within so long. */
#define OLD_GRACE_NS 1000000000ull
/* Ends of 0.0.x that wait for one stream read nothing, not even a ping. An agent whose backend
 * takes no upload still sends figures every 10 s; a server whose client takes no answer, a ping
 * every 30 s. */
#define OLD_AGENT_STUCK_NS  12000000000ull
#define OLD_SERVER_STUCK_NS 60000000000ull

#define DUPLICATE_TEXT "Cannot create multiple connections"

struct link_old {
    struct gm_link *link;
    struct gm_ring *ring;
    void *mux_memory;
    struct gm_chain input;
    struct gm_holder holder; /* while `input` holds bytes */
    struct gm_task resume;
    struct gm_timer grace;
    struct gm_buf *text; /* a TEXT message in pieces */
    uint32_t text_len;
    uint32_t piece_left;
    uint8_t piece_marks;
    bool paused, proving;
    bool ended; /* the peer has ended its direction, behind what is in `input` */
    char agent_id[GM_LINK_NAME_MAX], service[GM_LINK_NAME_MAX];
};

static struct gm_ring *old_ring(const struct gm_link *link)
{
    return link->old->ring;
}

/* ---- Life ---- */

static void old_run(struct gm_link *link);
static void old_proved(struct gm_link *link);

static void old_resume(struct gm_task *task)
{
    struct gm_link *link = GM_CONTAINER_OF(task, struct link_old, resume)->link;
    if (link->state != LINK_ENDED)
        old_run(link);
}

static void old_evacuate(struct gm_holder *holder)
{
    struct link_old *old = GM_CONTAINER_OF(holder, struct link_old, holder);
    gm_ring_evacuate(old_ring(old->link), &old->input);
}

static void old_grace_over(struct gm_timer *timer)
{
    struct gm_link *link = GM_CONTAINER_OF(timer, struct link_old, grace)->link;
    link->drain_acked = true;
    gm_conn_kick(&link->conn);
}

int link_old_begin(struct gm_link *link, struct gm_ring *ring, const struct gm_link_old *names)
{
    size_t bytes = gm_mux_old_memory((enum gm_mux_role)link->role, link->mux.stream_limit);
    struct link_old *old = calloc(1, sizeof *old);
    void *memory = gm_pages_map(bytes);
    gm_counter_add(GM_COUNTER_ALLOCATIONS, 2);
    if (old == NULL || memory == NULL || !gm_ring_reserve(ring, LINK_GRANT_BYTES)) {
        free(old);
        gm_pages_unmap(memory, bytes);
        return -GM_E_NOMEM;
    }
    old->link = link;
    old->ring = ring;
    old->mux_memory = memory;
    gm_holder_init(&old->holder, old_evacuate);
    gm_task_init(&old->resume, old_resume);
    gm_timer_init(&old->grace, old_grace_over);
    struct gm_mux_old_config config = {.memory = memory, .request_limit = names->request_limit};
    gm_ring_random(ring, config.random, sizeof config.random);
    gm_mux_old_begin(&link->mux, &config);
    if (names->agent_id != NULL) {
        (void)snprintf(old->agent_id, sizeof old->agent_id, "%s", names->agent_id);
        (void)snprintf(old->service, sizeof old->service, "%s", names->service);
    }
    link->old = old;
    return 0;
}

void link_old_down(struct gm_link *link)
{
    struct link_old *old = link->old;
    if (old == NULL)
        return;
    gm_chain_clear(&old->input, gm_ring_segs(old_ring(link)));
    old->piece_left = 0;
    old->paused = false;
    gm_ring_unhold(&old->holder);
    gm_task_cancel(&old->resume);
    gm_timer_cancel(&old->grace);
    if (old->text != NULL)
        gm_buf_put(old->text);
    old->text = NULL;
}

void link_old_release(struct gm_link *link)
{
    struct link_old *old = link->old;
    if (old == NULL)
        return;
    link_old_down(link);
    gm_ring_unreserve(old->ring, LINK_GRANT_BYTES);
    gm_pages_unmap(old->mux_memory,
                   gm_mux_old_memory((enum gm_mux_role)link->role, link->mux.stream_limit));
    free(old);
    link->old = NULL;
}

/* ---- TEXT, outbound ---- */

int link_old_text(struct gm_link *link, const char *json, size_t len)
{
    uint8_t *place = gm_conn_reserve(&link->conn, GM_WS_HEADER_MAX + len);
    if (place == NULL)
        return -GM_E_NOMEM;
    struct gm_ws_header header = {.length = len,
                                  .key = link_mask_key(link),
                                  .opcode = GM_WS_TEXT,
                                  .fin = true,
                                  .masked = link->role == GM_MUX_AGENT};
    size_t head = gm_ws_header_write(place, &header);
    memcpy(place + head, json, len);
    if (header.key != 0)
        (void)gm_ws_mask(place + head, len, header.key, 0);
    gm_conn_commit(&link->conn, head + len);
    gm_counter_add(GM_COUNTER_MESSAGES_SENT, 1);
    return 0;
}

static void old_say(struct gm_link *link, const char *json)
{
    (void)link_old_text(link, json, strlen(json));
}

/* Takes the document. */
static void old_say_document(struct gm_link *link, json_t *document)
{
    char text[4096];
    size_t len = document == NULL ? 0 : json_dumpb(document, text, sizeof text, JSON_COMPACT);
    json_decref(document);
    if (len > 0 && len <= sizeof text)
        (void)link_old_text(link, text, len);
}

static void old_up(struct gm_link *link)
{
    gm_mux_set_peer(&link->mux,
                    &(struct gm_mux_peer){.window = GM_MUX_OLD_SEND_WINDOW,
                                          .stream_limit = (uint16_t)link->ready.stream_limit});
    gm_mux_old_up(&link->mux);
    link_rise(link);
}

void gm_link_old_greet(struct gm_link *link)
{
    struct link_old *old = link->old;
    if (link->state != LINK_GREETING)
        return;
    old_say_document(link, json_pack("{s:s,s:s,s:s}", "server_id", link->hello.server_id,
                                     "agent_id", old->agent_id, "service_name", old->service));
    link->ready.stream_limit = link->hello.stream_limit;
    link->ready.window = GM_MUX_OLD_SEND_WINDOW;
    link->ready.not_ready = true; /* it is to say when it is */
    old_up(link);
}

void gm_link_old_refuse(struct gm_link *link)
{
    struct link_old *old = link->old;
    if (link->state == LINK_ENDED)
        return;
    old_say_document(link, json_pack("{s:s,s:s,s:s,s:s}", "error",
                                     DUPLICATE_TEXT " to a server with the same JWT", "agent_id",
                                     old->agent_id, "server_id", link->hello.server_id, "hint",
                                     "Give each agent process a token with a subject of its own."));
    link_finish(link, "another link of the same subject is alive");
}

/* ---- TEXT, inbound ---- */

/* Agent: the server's id, which is chosen by its owner, as an instance, which stands in headers. */
static void old_instance(struct gm_link *link)
{
    char *out = link->hello.instance;
    size_t len = 0;
    for (const char *p = link->hello.server_id; *p != '\0' && len < GM_LINK_INSTANCE_MAX - 1; p++) {
        bool plain = (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') ||
                     (*p >= 'A' && *p <= 'Z') || *p == '-';
        out[len++] = plain ? *p : '_';
    }
    out[len] = '\0';
}

/* Agent: the server's first message decides. */
static void old_told_first(struct gm_link *link, const json_t *document)
{
    const char *server = json_string_value(json_object_get(document, "server_id")),
               *error = json_string_value(json_object_get(document, "error"));
    char text[128];
    if (server != NULL)
        (void)snprintf(link->hello.server_id, sizeof link->hello.server_id, "%s", server);
    old_instance(link);
    link->hello.lanes = 1;
    if (error != NULL) {
        link->duplicate = server != NULL && strstr(error, DUPLICATE_TEXT) != NULL;
        link->hello.lane = 1; /* one more than it wants */
        (void)snprintf(text, sizeof text, "the server says: %.100s", error);
        gm_link_end(link, GM_REASON_NONE, GM_WS_CLOSE_NORMAL, text);
        return;
    }
    if (server == NULL)
        return; /* not a hello: the greeting's deadline decides */
    link->hello.lane = 0;
    link->hello.stream_limit = link->ready.stream_limit;
    if (!link->ready.not_ready)
        old_say(link, "{\"type\":\"ready\",\"state\":\"ready\"}");
    old_up(link);
}

static void old_told(struct gm_link *link, const char *json, size_t len)
{
    json_t *document = json_loadb(json, len, 0, NULL);
    const char *type = json_string_value(json_object_get(document, "type"));
    if (link->role == GM_MUX_AGENT && link->state == LINK_GREETING) {
        old_told_first(link, document);
    } else if (type != NULL && link->state == LINK_UP && link->ops->on_note != NULL) {
        link->ops->on_note(link, json, len);
    }
    json_decref(document);
}

static void old_text_drop(struct link_old *old)
{
    if (old->text != NULL)
        gm_buf_put(old->text);
    old->text = NULL;
    old->text_len = 0;
}

/* A piece of a TEXT message. One that is too long, or finds no memory, is ignored. */
static void old_text_piece(struct gm_link *link, const struct gm_ws_event *event)
{
    struct link_old *old = link->old;
    bool last = (event->mark & GM_WS_LAST) != 0;
    if ((event->mark & GM_WS_FIRST) != 0) {
        old_text_drop(old);
        if (last) {
            old_told(link, (const char *)event->data, event->len);
            return;
        }
        old->text = gm_ring_block(old_ring(link), GM_BLOCK_HEAD);
    }
    if (old->text == NULL)
        return;
    if (event->len > GM_FRAME_PAYLOAD_MAX - old->text_len) {
        old_text_drop(old);
        return;
    }
    memcpy(old->text->data + old->text_len, event->data, event->len);
    old->text_len += (uint32_t)event->len;
    if (!last)
        return;
    struct gm_buf *text = old->text;
    uint32_t len = old->text_len;
    old->text = NULL;
    old_told(link, (const char *)text->data, len);
    gm_buf_put(text);
}

/* ---- Receiving ---- */

/* Gives the mux what is left of the piece; the bytes it took. */
static uint32_t old_feed(struct gm_link *link, gm_slice piece, unsigned marks)
{
    if (link->state != LINK_UP)
        return piece.len; /* before its greeting a peer has no requests */
    return gm_mux_old_feed(&link->mux, gm_ring_now_ns(old_ring(link)), piece, marks);
}

static uint32_t old_piece(struct gm_link *link, gm_slice front)
{
    struct link_old *old = link->old;
    uint32_t n = front.len < old->piece_left ? front.len : old->piece_left;
    unsigned marks = n == old->piece_left ? old->piece_marks : 0;
    uint32_t used = old_feed(link, (gm_slice){front.data, n, front.buf}, marks);
    old->piece_left -= used;
    return used;
}

/* Frames of the front slice, until one of them is not taken whole; the bytes that are done with. */
static uint32_t old_slice(struct gm_link *link, gm_slice front)
{
    struct link_old *old = link->old;
    struct gm_ws_event event;
    uint8_t *data = front.data;
    size_t len = front.len;
    int rc;
    while ((rc = gm_ws_reader_next(&link->ws, &data, &len, &event)) > 0) {
        bool message = event.kind == GM_WS_EVENT_DATA;
        if (message && event.opcode == GM_WS_TEXT) {
            old_text_piece(link, &event);
        } else if (message) {
            gm_slice piece = {event.data, (uint32_t)event.len, front.buf};
            old->piece_left = piece.len - old_feed(link, piece, event.mark);
            old->piece_marks = event.mark & GM_WS_LAST;
        } else if (!link_event(link, &event, front)) {
            return front.len;
        }
        if (old->piece_left > 0)
            return (uint32_t)(data - front.data) - old->piece_left;
        if (link->state == LINK_ENDED)
            return front.len;
    }
    if (rc < 0)
        gm_link_end(link, GM_REASON_PROTOCOL_ERROR, link->ws.close_code, "broken WebSocket frame");
    return front.len;
}

/* Works off what has come, until a stream's window is full. */
static void old_run(struct gm_link *link)
{
    struct link_old *old = link->old;
    struct gm_ring *ring = old_ring(link);
    bool blocked = false;
    while (!blocked && old->input.count > 0) {
        gm_slice front = gm_slice_ref(gm_chain_front(&old->input));
        uint32_t used = old->piece_left > 0 ? old_piece(link, front) : old_slice(link, front);
        gm_slice_put(front);
        if (link->state == LINK_ENDED)
            return;
        gm_chain_consume(&old->input, gm_ring_segs(ring), used);
        if (used > 0)
            gm_conn_recv(&link->conn, GM_POOL_LINK, used);
        blocked = gm_mux_old_blocked(&link->mux);
    }
    if (blocked && !old->paused)
        gm_counter_add(GM_COUNTER_LINK_PAUSES, 1);
    old->paused = blocked;
    if (blocked)
        gm_ring_hold(ring, &old->holder);
    else
        gm_ring_unhold(&old->holder);
    if (old->ended && !blocked)
        link_lost(link, "the peer closed the connection");
    else
        gm_conn_kick(&link->conn);
}

bool link_old_ends(struct gm_link *link)
{
    if (!link_old_paused(link))
        return false;
    link->old->ended = true;
    return true;
}

void link_old_recv(struct gm_link *link, gm_slice slice)
{
    struct link_old *old = link->old;
    if (old->proving)
        old_proved(link);
    if (gm_chain_push(&old->input, gm_ring_segs(old_ring(link)), slice) < 0) {
        gm_slice_put(slice);
        link_lost(link, "out of memory for the link");
        return;
    }
    if (!old->paused)
        old_run(link);
}

void link_old_kick(struct gm_link *link)
{
    struct link_old *old = link->old;
    if (old->paused && !gm_mux_old_blocked(&link->mux))
        gm_ring_soon(old_ring(link), &old->resume);
}

bool link_old_paused(const struct gm_link *link)
{
    return link->old != NULL && link->old->paused;
}

/* ---- Sending ---- */

void link_old_flush(struct gm_link *link)
{
    gm_slice pieces[LINK_BATCH_PIECES];
    struct gm_batch batch;
    struct gm_buf *cork = NULL;
    uint32_t used = 0;
    while (gm_conn_queued(&link->conn) < GM_LINK_QUEUE_BYTES && gm_mux_ready(&link->mux)) {
        if (cork == NULL || cork->size - used < GM_WS_HEADER_MAX + GM_MUX_OLD_CORK) {
            if (cork != NULL)
                gm_buf_put(cork);
            cork = gm_ring_block(old_ring(link), GM_BLOCK_SMALL);
            used = 0;
        }
        if (cork == NULL) {
            link_starve(link);
            break;
        }
        gm_batch_init(&batch, pieces, LINK_BATCH_PIECES, cork->data + used, cork->size - used);
        batch.copy_max = GM_CONN_CORK_MAX;
        (void)gm_batch_place(&batch, GM_WS_HEADER_MAX);
        if (gm_mux_pull(&link->mux, &batch, GM_LINK_QUEUE_BYTES) == 0)
            break;
        used += batch.cork_used;
        link_queue_message(link, &batch, cork);
    }
    if (cork != NULL)
        gm_buf_put(cork);
    link_old_kick(link); /* the stream that blocked may have been closed */
}

/* ---- Liveness, drain ---- */

void link_old_pong(struct gm_link *link, const struct gm_ws_event *event)
{
    if (event->len == GM_FRAME_PING_LEN)
        gm_link_mux_pong(&link->mux, event->data);
}

uint64_t link_old_pong_ns(const struct gm_link *link)
{
    if (link->role == GM_MUX_AGENT)
        return OLD_SERVER_STUCK_NS;
    return gm_mux_old_uploading(&link->mux) ? OLD_AGENT_STUCK_NS : GM_LINK_PONG_NS;
}

static void old_proved(struct gm_link *link)
{
    link->old->proving = false;
    if (link->ops->on_proved != NULL)
        link->ops->on_proved(link);
}

void gm_link_old_prove(struct gm_link *link)
{
    struct link_old *old = link->old;
    old->proving = true;
    if (old->paused)
        old_proved(link); /* we are the ones who do not listen */
    else
        link_ask(link);
}

void link_old_drain(struct gm_link *link)
{
    if (link->role == GM_MUX_SERVER || link->state != LINK_UP) {
        link->drain_acked = true; /* there is nobody to ask */
        return;
    }
    old_say(link, "{\"type\":\"draining\",\"state\":\"draining\"}");
    gm_timer_set(old_ring(link), &link->old->grace, gm_ring_now_ns(old_ring(link)) + OLD_GRACE_NS);
}
