/* A call's request on its way to the backend: head, body, trailers, end. Owner: one ring.
 *
 * Invariants: the head is framed anew from what the block says; a counted body is as long as it
 * was announced, or the call does not end well; nothing is copied but heads and small pieces. */
#include <string.h>

#include "client/internal.h"
#include "http/writer.h"

/* What the writer adds to a block at most: the request line's blanks and version, Host, framing. */
#define REQUEST_ADDED_BYTES 512u

static struct gm_http_span span_of(const char *p, size_t len)
{
    return (struct gm_http_span){p, len};
}

/* What came with the request, but for what we set ourselves (`ours` may be NULL). */
static void write_fields(struct gm_http_out *out, struct gm_head_fields fields,
                         const struct gm_client_fields *ours)
{
    struct gm_head_field field;
    while (gm_head_next(&fields, &field)) {
        struct gm_http_span name = span_of(field.name, field.name_len);
        if (ours == NULL || !gm_client_fields_name(ours, name))
            gm_http_write_field(out, name, span_of(field.value, field.value_len));
    }
}

static void write_framing(struct gm_http_out *out, const struct gm_call *call,
                          const struct gm_head_request *head)
{
    if (call->chunked)
        gm_http_write_field(out, GM_HTTP_LIT("Transfer-Encoding"), GM_HTTP_LIT("chunked"));
    else if (head->content_length != GM_HEAD_LENGTH_UNKNOWN)
        gm_http_write_field_u64(out, GM_HTTP_LIT("Content-Length"), head->content_length);
    bool trailers = (head->flags & GM_HEAD_FLAG_TE_TRAILERS) != 0;
    if (trailers)
        gm_http_write_field(out, GM_HTTP_LIT("TE"), GM_HTTP_LIT("trailers"));
    if (call->upgrade)
        gm_http_write_field(out, GM_HTTP_LIT("Connection"),
                            trailers ? GM_HTTP_LIT("Upgrade, TE") : GM_HTTP_LIT("Upgrade"));
    else if (trailers)
        gm_http_write_field(out, GM_HTTP_LIT("Connection"), GM_HTTP_LIT("TE"));
}

static void write_head(struct gm_call *call)
{
    const struct gm_target *target = call->pool->config.target;
    const struct gm_client_fields *ours = call->pool->config.fields;
    struct gm_conn *conn = &call->backend->conn;
    struct gm_head_request head;
    gm_head_view_request(call->block.data, &head); /* it was checked before the call began */
    size_t need =
        call->block.len + target->prefix.len + target->authority.len + REQUEST_ADDED_BYTES;
    char *place = gm_conn_reserve(conn, need);
    if (place == NULL)
        return; /* on_broken follows */
    struct gm_http_out out;
    gm_http_out_init(&out, place, need);
    gm_http_write_request_line(&out, span_of(head.method, head.method_len), target->prefix,
                               span_of(head.target, head.target_len), 1);
    if (ours == NULL || !ours->host)
        gm_http_write_field(&out, GM_HTTP_LIT("Host"),
                            head.authority_len > 0 ? span_of(head.authority, head.authority_len)
                                                   : target->authority);
    write_fields(&out, head.fields, ours);
    write_framing(&out, call, &head);
    if (ours == NULL)
        gm_http_write_end(&out);
    GM_ASSERT(out.error == 0); /* a checked block, and an upper bound of room */
    gm_conn_commit(conn, out.len);
    if (ours == NULL)
        return;
    gm_conn_write(conn, ours->text, ours->len);
    gm_conn_write(conn, "\r\n", 2);
}

/* ---- Body ---- */

/* Keeps what is written for a second attempt, while that is possible. */
static void keep_for_repeat(struct gm_call *call, gm_slice slice)
{
    if (!call->may_repeat)
        return;
    if (call->replay.bytes + slice.len <= GM_CALL_REPLAY_BYTES) {
        gm_slice copy = gm_slice_ref(slice);
        if (gm_chain_push(&call->replay, client_segs(call), copy) == 0)
            return;
        gm_slice_put(copy);
    }
    client_forget(call);
}

/* Takes the slice. */
static void write_body(struct gm_call *call, gm_slice slice)
{
    struct gm_conn *conn = &call->backend->conn;
    keep_for_repeat(call, slice);
    if (!call->chunked) {
        gm_conn_write_slice(conn, slice);
        return;
    }
    char chunk[GM_HTTP_CHUNK_HEAD_MAX];
    gm_conn_write(conn, chunk, gm_http_chunk_head(chunk, slice.len));
    gm_conn_write_slice(conn, slice);
    gm_conn_write(conn, GM_HTTP_CHUNK_TAIL, sizeof GM_HTTP_CHUNK_TAIL - 1);
}

int gm_call_data(struct gm_call *call, gm_slice slice)
{
    bool counted = !call->chunked && call->state != GM_CALL_RAW;
    bool fits = !call->request_done && (!counted || slice.len <= call->body_left);
    if (call->state == GM_CALL_IDLE || !fits) {
        gm_slice_put(slice);
        return call->state == GM_CALL_IDLE ? 0 : -GM_E_PROTOCOL;
    }
    if (counted)
        call->body_left -= slice.len;
    if (call->state >= GM_CALL_HEAD) {
        write_body(call, slice);
    } else if (gm_chain_push(&call->held, client_segs(call), slice) < 0) {
        gm_slice_put(slice);
        return -GM_E_NOMEM;
    }
    client_hold(call);
    return 0;
}

static void write_trailers(struct gm_call *call, gm_slice block)
{
    struct gm_head_fields fields;
    struct gm_conn *conn = &call->backend->conn;
    size_t need = block.len + 16;
    if (gm_head_read_trailers(block.data, block.len, &fields) < 0)
        return; /* checked by the owner; the body ends without them */
    char *place = gm_conn_reserve(conn, need);
    if (place == NULL)
        return;
    struct gm_http_out out;
    gm_http_out_init(&out, place, need);
    gm_http_write_raw(&out, GM_HTTP_LIT(GM_HTTP_CHUNK_LAST));
    write_fields(&out, fields, call->pool->config.fields);
    gm_http_write_end(&out);
    GM_ASSERT(out.error == 0);
    gm_conn_commit(conn, out.len);
    call->request_ended = true;
}

void gm_call_trailers(struct gm_call *call, gm_slice block)
{
    if (call->state == GM_CALL_IDLE || !call->chunked || call->request_done)
        return;
    if (call->state < GM_CALL_HEAD) {
        call->trailers = gm_slice_ref(block);
        return;
    }
    client_forget(call); /* a second attempt would have to keep them, too: rare enough */
    write_trailers(call, block);
}

static void write_end(struct gm_call *call)
{
    if (call->chunked && !call->request_ended)
        gm_conn_write(&call->backend->conn, GM_HTTP_CHUNK_END, sizeof GM_HTTP_CHUNK_END - 1);
    call->request_ended = true;
    client_await_head(call);
}

int gm_call_end(struct gm_call *call)
{
    if (call->state == GM_CALL_IDLE || call->request_done)
        return 0;
    if (call->body_left > 0)
        return -GM_E_PROTOCOL;
    call->request_done = true;
    if (call->state == GM_CALL_RAW) {
        call->request_ended = true;
        if (call->answer_ended)
            client_finish(call);
        else
            gm_conn_finish(&call->backend->conn);
    } else if (call->state >= GM_CALL_HEAD) {
        write_end(call);
    }
    return 0;
}

void client_send_request(struct gm_call *call)
{
    write_head(call);
    struct gm_chain held = call->held;
    call->held = (struct gm_chain){0};
    while (held.count > 0)
        write_body(call, gm_chain_pop(&held, client_segs(call)));
    if (call->trailers.len > 0)
        write_trailers(call, call->trailers);
    gm_slice_put(call->trailers);
    call->trailers = (gm_slice){0};
    if (call->request_done)
        write_end(call);
    else if (call->upgrade)
        client_await_head(call); /* nothing more is sent before the answer */
    if (!call->may_repeat)
        client_forget(call);
}

void client_await_head(struct gm_call *call)
{
    uint64_t span_ns = call->pool->config.header_timeout_ns;
    if (span_ns > 0 && call->state == GM_CALL_HEAD)
        gm_timer_set(client_ring(call), &call->timer, gm_ring_now_ns(client_ring(call)) + span_ns);
}
