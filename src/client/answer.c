/* A backend's answer: heads, body, trailers, end; and the grants that let it come. Owner: one ring.
 *
 * Invariants: what is granted to the socket and what has come but is not used never exceed what the
 * owner has room for (before the head: GM_CALL_HEAD_GRANT); a body is handed on whole, or the call
 * fails. */
#include <string.h>

#include "client/internal.h"

/* Below this the socket is granted more while heads are awaited. */
#define HEAD_GRANT_LOW 4096u

/* ---- The head ---- */

static void drop_head(struct gm_call *call)
{
    if (call->head != NULL)
        gm_buf_put(call->head);
    call->head = NULL;
    call->head_len = call->head_copied = 0;
    call->head_scanned = 0;
}

/* A gathering block with room for `need` bytes, what it holds included; NULL: none. */
static struct gm_buf *head_room(struct gm_call *call, uint32_t need)
{
    if (call->head != NULL && call->head->size >= need)
        return call->head;
    struct gm_buf *block = gm_ring_block(
        client_ring(call), need <= GM_BLOCK_SMALL_BYTES ? GM_BLOCK_SMALL : GM_BLOCK_HEAD);
    if (block == NULL)
        return NULL;
    if (call->head != NULL) {
        memcpy(block->data, call->head->data, call->head_len);
        gm_buf_put(call->head);
    }
    call->head = block;
    return block;
}

/* The head is longer than the first slice: copies the next one behind what is gathered. False: no
 * more has come, or it is too long, or there is no memory (the call has failed). */
static bool gather_head(struct gm_call *call)
{
    gm_chain_consume(&call->in, client_segs(call), call->head_copied);
    call->head_copied = 0;
    if (call->in.count == 0)
        return false;
    gm_slice front = gm_chain_front(&call->in);
    uint32_t need = call->head_len + front.len;
    struct gm_buf *block = need > GM_BLOCK_HEAD_BYTES ? NULL : head_room(call, need);
    if (block == NULL) {
        client_fail(call,
                    need > GM_BLOCK_HEAD_BYTES ? GM_REASON_BACKEND_PROTOCOL : GM_REASON_OVERLOAD,
                    false);
        return false;
    }
    memcpy(block->data + call->head_len, front.data, front.len);
    gm_counter_add(GM_COUNTER_COPIES_SMALL, 1);
    gm_counter_add(GM_COUNTER_COPIES_SMALL_BYTES, front.len);
    call->head_len += front.len;
    call->head_copied = front.len;
    return true;
}

/* The head's `len` bytes have been used: input goes on behind them. */
static void head_used(struct gm_call *call, uint32_t len)
{
    uint32_t used = len;
    if (call->head != NULL)
        used = call->head_copied - (call->head_len - len);
    gm_chain_consume(&call->in, client_segs(call), used);
    drop_head(call);
}

/* Says whether such an answer may come to such a request. */
static bool head_fits(struct gm_call *call, const struct gm_http_response *head)
{
    bool tunnel = head->framing.body == GM_HTTP_BODY_TUNNEL;
    if (tunnel)
        return head->status == 101 && call->upgrade;
    return head->status >= 200 || ++call->interims <= GM_CALL_INTERIM_MAX;
}

static void begin_body(struct gm_call *call, const struct gm_http_response *head)
{
    gm_timer_cancel(&call->timer);
    call->framing = head->framing.body;
    call->answer_left = head->framing.body == GM_HTTP_BODY_LENGTH ? head->framing.length : 0;
    call->keep_alive = head->framing.keep_alive;
    call->state = call->framing == GM_HTTP_BODY_TUNNEL ? GM_CALL_RAW : GM_CALL_BODY;
    if (call->framing == GM_HTTP_BODY_CHUNKED)
        gm_http_chunked_init(&call->decoder, NULL, 0);
}

static void end_answer(struct gm_call *call, const struct gm_http_fields *trailers)
{
    struct gm_http_fields none = {0};
    struct gm_buf *scratch = call->scratch; /* the trailers lie in it */
    call->scratch = NULL;
    call->answer_ended = true;
    if (call->state != GM_CALL_RAW || call->request_done)
        client_finish(call);
    call->ops->on_end(call, trailers != NULL ? trailers : &none);
    if (scratch != NULL)
        gm_buf_put(scratch);
}

static void take_final_head(struct gm_call *call, const struct gm_http_response *head,
                            uint32_t head_len)
{
    bool none = head->framing.body == GM_HTTP_BODY_NONE ||
                (head->framing.body == GM_HTTP_BODY_LENGTH && head->framing.length == 0);
    begin_body(call, head);
    call->ops->on_head(call, head, none);
    if (call->state == GM_CALL_IDLE)
        return;
    head_used(call, head_len);
    if (none)
        end_answer(call, NULL);
}

/* Tries to make a head of what has come. True: something moved, look again. */
static bool take_head(struct gm_call *call)
{
    if (call->head == NULL && call->in.count == 0)
        return false;
    struct gm_http_field fields[GM_HTTP_FIELDS_MAX];
    struct gm_http_response head;
    gm_http_response_init(&head, fields, GM_HTTP_FIELDS_MAX, GM_HTTP_HEAD_MAX);
    gm_slice text = call->head != NULL ? (gm_slice){call->head->data, call->head_len, NULL}
                                       : gm_chain_front(&call->in);
    int len = gm_http_parse_response((const char *)text.data, text.len, &call->head_scanned,
                                     (enum gm_http_method)call->method, &head);
    if (len == 0)
        return gather_head(call);
    if (len < 0 || !head_fits(call, &head)) {
        client_fail(call, GM_REASON_BACKEND_PROTOCOL, false);
        return false;
    }
    if (head.status >= 200 || head.status == 101) {
        take_final_head(call, &head, (uint32_t)len);
        return false;
    }
    call->ops->on_head(call, &head, false);
    if (call->state == GM_CALL_IDLE)
        return false;
    head_used(call, (uint32_t)len);
    return true;
}

/* ---- The body ---- */

/* The first `n` bytes of the front slice, moved out or shared. */
static gm_slice take_front(struct gm_call *call, uint32_t n)
{
    gm_slice front = gm_chain_front(&call->in);
    if (n == front.len)
        return gm_chain_pop(&call->in, client_segs(call));
    front = gm_slice_ref((gm_slice){front.data, n, front.buf});
    gm_chain_consume(&call->in, client_segs(call), n);
    return front;
}

static void take_plain(struct gm_call *call, size_t room)
{
    bool counted = call->framing == GM_HTTP_BODY_LENGTH;
    uint64_t n = gm_chain_front(&call->in).len;
    if (n > room)
        n = room;
    if (counted && n > call->answer_left)
        n = call->answer_left;
    if (counted)
        call->answer_left -= n;
    call->ops->on_data(call, take_front(call, (uint32_t)n));
    if (call->state != GM_CALL_IDLE && counted && call->answer_left == 0)
        end_answer(call, NULL);
}

static void end_chunked(struct gm_call *call)
{
    struct gm_http_field list[GM_HTTP_FIELDS_MAX];
    struct gm_http_fields trailers = {.list = list, .max = GM_HTTP_FIELDS_MAX};
    if (gm_http_chunked_trailers(&call->decoder, &trailers) < 0)
        client_fail(call, GM_REASON_BACKEND_PROTOCOL, false);
    else
        end_answer(call, &trailers);
}

static void take_chunked(struct gm_call *call, size_t room)
{
    struct gm_http_chunked_step step;
    gm_slice front = gm_chain_front(&call->in);
    int rc = gm_http_chunked_feed(&call->decoder, (const char *)front.data,
                                  front.len < room ? front.len : room, &step);
    if (rc < 0) {
        client_fail(call, GM_REASON_BACKEND_PROTOCOL, false);
        return;
    }
    gm_slice data = {0};
    if (rc == GM_HTTP_CHUNKED_DATA)
        data = gm_slice_ref(
            (gm_slice){(uint8_t *)(uintptr_t)step.data.p, (uint32_t)step.data.len, front.buf});
    gm_chain_consume(&call->in, client_segs(call), step.consumed);
    if (rc == GM_HTTP_CHUNKED_DATA) {
        call->ops->on_data(call, data);
    } else if (rc == GM_HTTP_CHUNKED_SCRATCH) {
        call->scratch = gm_ring_block(client_ring(call), GM_BLOCK_SMALL);
        if (call->scratch == NULL)
            client_fail(call, GM_REASON_OVERLOAD, false);
        else
            gm_http_chunked_lend(&call->decoder, (char *)call->scratch->data, call->scratch->size);
    } else if (rc == GM_HTTP_CHUNKED_DONE) {
        end_chunked(call);
    }
}

static bool in_body(const struct gm_call *call)
{
    return call->state >= GM_CALL_BODY && !call->answer_ended;
}

static void take_body(struct gm_call *call)
{
    while (in_body(call) && call->in.count > 0) {
        size_t room = call->ops->room(call);
        if (room == 0)
            return;
        if (call->framing == GM_HTTP_BODY_CHUNKED)
            take_chunked(call, room);
        else
            take_plain(call, room);
    }
}

/* ---- The run ---- */

/* Everything that came has been used, and nothing will follow. */
static void input_over(struct gm_call *call)
{
    bool until_close = call->state == GM_CALL_RAW ||
                       (call->state == GM_CALL_BODY && call->framing == GM_HTTP_BODY_UNTIL_CLOSE);
    if (until_close && call->in_error == 0)
        end_answer(call, NULL);
    else
        client_fail(call, GM_REASON_BACKEND_CLOSED, false);
}

/* Lets the backend send what there is room for. */
static void grant(struct gm_call *call)
{
    if (call->in_ended || call->answer_ended)
        return;
    struct gm_conn *conn = &call->backend->conn;
    uint64_t left = gm_conn_recv_left(conn), held = left + call->in.bytes;
    if (call->state == GM_CALL_HEAD) {
        if (left < HEAD_GRANT_LOW)
            gm_conn_recv(conn, GM_POOL_CLIENT, GM_CALL_HEAD_GRANT - left);
        return;
    }
    uint64_t room = call->ops->room(call);
    /* A grant costs a submission: wait for a worthwhile one, unless reading stands still. */
    if (room > held && (room - held >= GM_CLIENT_BUF_BYTES || left == 0))
        gm_conn_recv(conn, GM_POOL_CLIENT, room - held);
}

void client_run(struct gm_call *call)
{
    if (call->running)
        return; /* a callback below asks for what is being done */
    call->running = true;
    while (call->state == GM_CALL_HEAD && take_head(call))
        continue;
    take_body(call);
    if (call->state >= GM_CALL_HEAD && call->in_ended && !call->answer_ended && call->in.count == 0)
        input_over(call);
    call->running = false;
    if (call->state < GM_CALL_HEAD)
        return;
    grant(call);
    client_hold(call);
}
