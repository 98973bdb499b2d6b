/* Serving: stream events to calls, call events to the stream. Owner: the link's ring.
 *
 * Invariants: our direction is ended once: by the head, the trailers, END or RESET; a body cut
 * short ends with RESET; what is held for a stream was reserved before; the place under
 * --max-concurrent-requests is held until the stream is closed. */
#include "agent/serve.h"

#include <errno.h>
#include <string.h>

#include "agent/dialler.h"
#include "frame/head.h"

static const struct gm_call_ops serve_call_ops;

static struct gm_serve *serve_of(struct gm_call *call)
{
    return GM_CONTAINER_OF(call, struct gm_serve, call);
}
static struct gm_agent_link *link_of(struct gm_stream *stream)
{
    return GM_CONTAINER_OF(gm_link_of(stream->mux), struct gm_agent_link, link);
}
static struct gm_agent_figures *figures_of(struct gm_stream *stream)
{
    return &link_of(stream)->figures;
}
static struct gm_agent_tally *tally_of(const struct gm_agent_link *link)
{
    return &link->ctx->tallies[link->service - link->ctx->shared->services];
}
static void serve_kick(struct gm_serve *serve)
{
    gm_link_kick(gm_link_of(serve->stream->mux));
}

/* ---- Life ---- */

static bool place_take(struct gm_agent_shared *shared)
{
    int64_t limit = shared->config->max_concurrent_requests;
    int64_t before = atomic_fetch_add_explicit(&shared->active_requests, 1, memory_order_relaxed);
    if (limit == 0 || before < limit)
        return true;
    atomic_fetch_sub_explicit(&shared->active_requests, 1, memory_order_relaxed);
    return false;
}

static void place_give(struct gm_agent_shared *shared)
{
    atomic_fetch_sub_explicit(&shared->active_requests, 1, memory_order_relaxed);
}

static struct gm_serve *serve_take(struct gm_agent_ring *ctx, struct gm_stream *stream)
{
    if (ctx->serve_free_count == 0)
        return NULL;
    struct gm_serve *serve = &ctx->serves[ctx->serve_free[--ctx->serve_free_count]];
    memset(serve, 0, sizeof *serve);
    serve->ctx = ctx;
    serve->stream = stream;
    serve->service = (uint32_t)(link_of(stream)->service - ctx->shared->services);
    gm_agent_tally_begin(&ctx->tallies[serve->service]);
    gm_list_push_back(&ctx->running, &serve->node);
    figures_of(stream)->active++;
    stream->user = serve;
    return serve;
}

/* The window is ours to give back once nothing can arrive in it any more. It may have grown. */
static void window_give(struct gm_serve *serve)
{
    if (!serve->window_reserved)
        return;
    serve->window_reserved = false;
    gm_ring_unreserve(serve->ctx->ring, serve->stream->window.size);
}

static void serve_release(struct gm_serve *serve)
{
    struct gm_agent_ring *ctx = serve->ctx;
    gm_call_cancel(&serve->call);
    window_give(serve);
    gm_ring_unreserve(ctx->ring, serve->answer_reserved);
    gm_list_remove(&serve->node);
    figures_of(serve->stream)->active--;
    gm_agent_tally_end(&ctx->tallies[serve->service]);
    gm_agent_tally_count(&ctx->tallies[serve->service], serve->reason);
    serve->stream = NULL;
    ctx->serve_free[ctx->serve_free_count++] = (uint32_t)(serve - ctx->serves);
    place_give(ctx->shared);
}

/* Ends the stream with a reason; the call is over, or is ended now. */
static void serve_reset(struct gm_serve *serve, enum gm_reason_code reason, bool untouched)
{
    gm_call_cancel(&serve->call);
    if (serve->detached)
        return;
    serve->detached = true;
    figures_of(serve->stream)->sent[GM_REPORT_CANCEL]++;
    serve->reason = (uint16_t)reason;
    gm_stream_reset(serve->stream, (uint16_t)reason, untouched ? GM_FRAME_RESET_UNTOUCHED : 0);
    serve_kick(serve);
}

void gm_serve_cut_all(struct gm_agent_ring *ctx)
{
    for (struct gm_list *node = ctx->running.next; node != &ctx->running; node = node->next)
        serve_reset(GM_CONTAINER_OF(node, struct gm_serve, node), GM_REASON_DRAINING, false);
}

/* ---- OPEN ---- */

/* A stream that has no serve, or one that has not begun. */
static void refuse(struct gm_stream *stream, enum gm_reason_code reason)
{
    struct gm_serve *serve = stream->user;
    if (serve == NULL)
        gm_agent_tally_count(tally_of(link_of(stream)), (uint16_t)reason);
    else
        serve->reason = (uint16_t)reason;
    gm_counter_add(GM_COUNTER_STREAMS_REFUSED, 1);
    figures_of(stream)->sent[GM_REPORT_CANCEL]++;
    gm_stream_reset(stream, (uint16_t)reason, GM_FRAME_RESET_UNTOUCHED);
    gm_link_kick(gm_link_of(stream->mux));
}

/* The request window when a body may come, and room for the answer's beginning. */
static bool serve_reserve(struct gm_serve *serve, bool end)
{
    struct gm_ring *ring = serve->ctx->ring;
    if (!gm_ring_reserve(ring, GM_SERVE_ANSWER_MIN))
        return false;
    serve->answer_reserved = GM_SERVE_ANSWER_MIN;
    if (end)
        return true;
    serve->window_reserved = gm_ring_reserve(ring, serve->stream->window.size);
    return serve->window_reserved;
}

static enum gm_reason_code start_reason(int rc)
{
    return rc == -GM_E_NOMEM ? GM_REASON_OVERLOAD : GM_REASON_BACKEND_CONNECT;
}

static bool method_is(const struct gm_head_request *head, const char *name)
{
    return head->method_len == strlen(name) && memcmp(head->method, name, head->method_len) == 0;
}

static void serve_open(struct gm_stream *stream, gm_slice block, bool end)
{
    struct gm_agent_link *link = link_of(stream);
    struct gm_agent_ring *ctx = link->ctx;
    struct gm_head_request head;
    link->figures.received[GM_REPORT_START]++;
    stream->user = NULL;
    int rc = gm_head_read_request(block.data, block.len, &head);
    if (rc < 0) {
        refuse(stream, rc == -ENOTSUP ? GM_REASON_NOT_IMPLEMENTED : GM_REASON_PROTOCOL_ERROR);
        return;
    }
    if (method_is(&head, "CONNECT")) {
        refuse(stream, GM_REASON_NOT_IMPLEMENTED);
        return;
    }
    if (!place_take(ctx->shared)) {
        link->figures.rejections++;
        refuse(stream, GM_REASON_AGENT_LIMIT);
        return;
    }
    struct gm_serve *serve = serve_take(ctx, stream);
    if (serve == NULL) {
        place_give(ctx->shared);
        refuse(stream, GM_REASON_OVERLOAD);
        return;
    }
    gm_counter_add(GM_COUNTER_REQUESTS, 1);
    struct gm_backend_pool *pool = &ctx->pools[link->service - ctx->shared->services];
    struct gm_call_request request = {.head = &head, .block = block};
    rc = serve_reserve(serve, end) ? gm_call_start(&serve->call, pool, &serve_call_ops, &request)
                                   : -GM_E_NOMEM;
    if (rc < 0) {
        serve->detached = true;
        link->figures.backend_failures += rc != -GM_E_NOMEM;
        refuse(stream, start_reason(rc));
        return;
    }
    gm_link_kick(&link->link); /* there is a stream now: silence is noticed sooner */
}

/* ---- The request's body ---- */

static struct gm_serve *live(struct gm_stream *stream)
{
    struct gm_serve *serve = stream->user;
    return serve == NULL || serve->detached ? NULL : serve;
}

/* The server broke its promise about the body, or memory for it ran out. */
static void request_failed(struct gm_serve *serve, int rc)
{
    serve_reset(serve, rc == -GM_E_NOMEM ? GM_REASON_OVERLOAD : GM_REASON_PROTOCOL_ERROR, false);
}

static void serve_data(struct gm_stream *stream, gm_slice slice)
{
    struct gm_serve *serve = live(stream);
    figures_of(stream)->received[GM_REPORT_DATA]++;
    if (serve == NULL) {
        gm_slice_put(slice);
        return;
    }
    int rc = gm_call_data(&serve->call, slice);
    if (rc < 0)
        request_failed(serve, rc);
}

static void serve_trailers(struct gm_stream *stream, gm_slice block)
{
    struct gm_serve *serve = live(stream);
    struct gm_head_fields fields;
    if (serve == NULL)
        return;
    if (gm_head_read_trailers(block.data, block.len, &fields) < 0)
        request_failed(serve, -GM_E_PROTOCOL);
    else
        gm_call_trailers(&serve->call, block);
}

/* What the backend's socket has taken is granted again. */
static void serve_drained(struct gm_serve *serve)
{
    struct gm_stream *stream = serve->stream;
    size_t queued = gm_call_queued(&serve->call);
    if (serve->detached || !serve->window_reserved)
        return;
    if (stream->window.held > queued) {
        gm_stream_drained(stream, (uint32_t)(stream->window.held - queued),
                          gm_ring_now_ns(serve->ctx->ring));
        serve_kick(serve);
    }
    bool over = stream->in >= GM_DIR_ENDED && stream->window.held == 0;
    if (over)
        window_give(serve);
}

static void serve_end(struct gm_stream *stream)
{
    struct gm_serve *serve = live(stream);
    figures_of(stream)->received[GM_REPORT_END]++;
    if (serve == NULL)
        return;
    bool stopped = (stream->flags & GM_STREAM_STOP_SENT) != 0;
    int rc = stopped ? 0 : gm_call_end(&serve->call);
    if (rc < 0)
        request_failed(serve, rc);
}

/* ---- The server's word on the answer ---- */

static void serve_was_reset(struct gm_stream *stream, uint16_t reason, uint16_t flags)
{
    struct gm_serve *serve = live(stream);
    if ((flags & (GM_MUX_RESET_LOCAL | GM_MUX_RESET_LOST)) == 0)
        figures_of(stream)->received[GM_REPORT_CANCEL]++;
    if (serve == NULL)
        return;
    serve->detached = true;
    serve->reason = reason == GM_REASON_NONE ? GM_REASON_CANCELLED : reason;
    gm_call_cancel(&serve->call);
}

/* Nobody wants the answer: the backend's work is given up, and both directions end. */
static void serve_stopped(struct gm_stream *stream, uint16_t reason)
{
    struct gm_serve *serve = live(stream);
    if (serve == NULL || serve->answer_done)
        return;
    gm_call_cancel(&serve->call);
    serve->answer_done = true;
    serve->reason = reason == GM_REASON_NONE ? GM_REASON_CANCELLED : reason;
    gm_stream_stop(stream, reason);
    gm_stream_end(stream);
    serve_kick(serve);
}

static void serve_credit(struct gm_stream *stream, uint32_t delta)
{
    struct gm_serve *serve = live(stream);
    (void)delta;
    if (serve != NULL)
        gm_call_pump(&serve->call);
}

static void serve_pulled(struct gm_stream *stream, uint32_t bytes)
{
    struct gm_serve *serve = live(stream);
    if (serve == NULL)
        return;
    serve->unpulled -= bytes;
    gm_call_pump(&serve->call);
}

static void serve_closed(struct gm_stream *stream)
{
    struct gm_serve *serve = stream->user;
    if (serve != NULL)
        serve_release(serve);
    stream->user = NULL;
}

/* ---- The answer ---- */

static void put_field(struct gm_head_writer *writer, const struct gm_http_field *field)
{
    gm_head_write_field(writer, &(struct gm_head_field){field->name, field->value, field->name_len,
                                                        field->value_len});
}

/* X-Gimlet-Error is the gateway's word alone. */
static bool field_passes(const struct gm_http_field *field, uint16_t status)
{
    if (field->id == GM_HTTP_ID_UPGRADE)
        return status == 101;
    return field->id != GM_HTTP_ID_X_GIMLET_ERROR &&
           (field->flags & (GM_HTTP_FIELD_HOP | GM_HTTP_FIELD_DERIVED)) == 0;
}

static struct gm_head_response block_head(const struct gm_http_response *head)
{
    const struct gm_http_framing *framing = &head->framing;
    struct gm_head_response block = {
        .reason = head->reason.p,
        .reason_len = (uint8_t)(head->reason.len <= GM_HEAD_REASON_MAX ? head->reason.len : 0),
        .status = head->status,
        .content_length = GM_HEAD_LENGTH_UNKNOWN,
    };
    bool silent = head->status < 200 || head->status == 204;
    if (!silent && framing->has_length)
        block.content_length = framing->length;
    bool body = framing->body == GM_HTTP_BODY_CHUNKED ||
                framing->body == GM_HTTP_BODY_UNTIL_CLOSE ||
                (framing->body == GM_HTTP_BODY_LENGTH && framing->length > 0);
    if (body)
        block.flags |= GM_HEAD_FLAG_BODY;
    if (framing->body == GM_HTTP_BODY_TUNNEL)
        block.flags |= GM_HEAD_FLAG_UPGRADE;
    if (framing->version_minor == 0)
        block.flags |= GM_HEAD_FLAG_HTTP10;
    return block;
}

/* An upper bound of the block's size, so that the right kind of block is taken at once. */
static size_t block_bound(const struct gm_http_response *head)
{
    size_t bound = GM_MUX_HEAD_ROOM + GM_MUX_TAIL_ROOM + GM_HEAD_RESPONSE_LEN + head->reason.len;
    for (uint16_t i = 0; i < head->fields.count; i++)
        bound += 4u + head->fields.list[i].name_len + head->fields.list[i].value_len;
    return bound;
}

/* Writes the head into a block of its own. Negative: -GM_E_NOMEM, or it cannot be expressed. */
static int encode_head(struct gm_ring *ring, const struct gm_http_response *head, gm_slice *out)
{
    struct gm_buf *buf = gm_ring_block(
        ring, block_bound(head) <= GM_BLOCK_SMALL_BYTES ? GM_BLOCK_SMALL : GM_BLOCK_HEAD);
    if (buf == NULL)
        return -GM_E_NOMEM;
    struct gm_head_writer writer;
    struct gm_head_response block = block_head(head);
    gm_head_write_response(&writer, buf->data + GM_MUX_HEAD_ROOM,
                           buf->size - GM_MUX_HEAD_ROOM - GM_MUX_TAIL_ROOM, &block);
    for (uint16_t i = 0; i < head->fields.count; i++) {
        const struct gm_http_field *field = &head->fields.list[i];
        if (field_passes(field, head->status))
            put_field(&writer, field);
    }
    int len = gm_head_write_finish(&writer);
    if (len < 0) {
        gm_buf_put(buf);
        return len;
    }
    *out = (gm_slice){buf->data, (uint32_t)len + GM_MUX_HEAD_ROOM, buf};
    return 0;
}

static void answer_head(struct gm_call *call, const struct gm_http_response *head, bool end)
{
    struct gm_serve *serve = serve_of(call);
    gm_slice block;
    int rc = encode_head(serve->ctx->ring, head, &block);
    if (rc == 0) {
        serve->answer_done = end;
        figures_of(serve->stream)->sent[GM_REPORT_START]++;
        figures_of(serve->stream)->sent[GM_REPORT_END] += end;
        rc = gm_stream_head(serve->stream, block, end);
    }
    if (rc < 0 && rc != -GM_E_CLOSED)
        serve_reset(serve, rc == -GM_E_NOMEM ? GM_REASON_OVERLOAD : GM_REASON_BACKEND_PROTOCOL,
                    false);
    else
        serve_kick(serve);
}

static size_t answer_room(struct gm_call *call)
{
    const struct gm_serve *serve = serve_of(call);
    uint32_t room = gm_stream_room(serve->stream),
             space = serve->answer_reserved > serve->unpulled
                         ? serve->answer_reserved - serve->unpulled
                         : 0;
    return room < space ? room : space;
}

/* A long answer gets more room, if there is any. */
static void answer_grow(struct gm_serve *serve)
{
    if (serve->unpulled > serve->answer_reserved / 2)
        serve->answer_reserved =
            gm_ring_reserve_double(serve->ctx->ring, serve->answer_reserved, GM_SERVE_ANSWER_MAX);
}

static void answer_data(struct gm_call *call, gm_slice slice)
{
    struct gm_serve *serve = serve_of(call);
    uint32_t len = slice.len;
    int rc = gm_stream_data(serve->stream, slice);
    if (rc == -GM_E_NOMEM) {
        serve_reset(serve, GM_REASON_OVERLOAD, false);
        return;
    }
    if (rc == 0) {
        serve->unpulled += len;
        figures_of(serve->stream)->sent[GM_REPORT_DATA]++;
    }
    answer_grow(serve);
    serve_kick(serve);
}

/* Queues the trailers, which end our direction. False: there are none that may pass. */
static bool answer_trailers(struct gm_serve *serve, const struct gm_http_fields *trailers)
{
    if (trailers->count == 0)
        return false;
    struct gm_buf *buf = gm_ring_block(serve->ctx->ring, GM_BLOCK_SMALL);
    if (buf == NULL)
        return false;
    struct gm_head_writer writer;
    gm_head_write_trailers(&writer, buf->data + GM_MUX_HEAD_ROOM,
                           buf->size - GM_MUX_HEAD_ROOM - GM_MUX_TAIL_ROOM);
    for (uint16_t i = 0; i < trailers->count; i++) {
        if (field_passes(&trailers->list[i], 0))
            put_field(&writer, &trailers->list[i]);
    }
    int len = gm_head_write_finish(&writer);
    if (len < 0) {
        gm_buf_put(buf);
        return false;
    }
    gm_slice block = {buf->data, (uint32_t)len + GM_MUX_HEAD_ROOM, buf};
    int rc = gm_stream_trailers(serve->stream, block);
    if (rc == -GM_E_NOMEM)
        serve_reset(serve, GM_REASON_OVERLOAD, false);
    return true;
}

static void answer_end(struct gm_call *call, const struct gm_http_fields *trailers)
{
    struct gm_serve *serve = serve_of(call);
    struct gm_stream *stream = serve->stream;
    if (serve->detached)
        return;
    /* Answered before the request was complete: nobody reads the rest of it. */
    if (!gm_call_active(call) && stream->in < GM_DIR_ENDED)
        gm_stream_stop(stream, GM_REASON_NONE);
    if (!serve->answer_done) {
        serve->answer_done = true;
        figures_of(stream)->sent[GM_REPORT_END]++;
        if (!answer_trailers(serve, trailers))
            gm_stream_end(stream);
    }
    serve_kick(serve);
}

static void answer_sent(struct gm_call *call)
{
    serve_drained(serve_of(call));
}

static void answer_failed(struct gm_call *call, enum gm_reason_code reason, bool untouched)
{
    /* Memory of ours that was short is no failure of the backend's. */
    figures_of(serve_of(call)->stream)->backend_failures += reason != GM_REASON_OVERLOAD;
    serve_reset(serve_of(call), reason, untouched);
}

static const struct gm_call_ops serve_call_ops = {
    .room = answer_room,
    .on_head = answer_head,
    .on_data = answer_data,
    .on_end = answer_end,
    .on_sent = answer_sent,
    .on_fail = answer_failed,
};

const struct gm_mux_ops gm_serve_mux_ops = {
    .on_hello = gm_link_mux_hello,
    .on_open = serve_open,
    .on_data = serve_data,
    .on_trailers = serve_trailers,
    .on_end = serve_end,
    .on_reset = serve_was_reset,
    .on_stop = serve_stopped,
    .on_credit = serve_credit,
    .on_pulled = serve_pulled,
    .on_closed = serve_closed,
    .on_pong = gm_link_mux_pong,
    .on_drain = gm_link_mux_drain,
    .on_drain_ack = gm_link_mux_drain_ack,
    .on_note = gm_link_mux_note,
    .gather = gm_link_mux_gather,
    .reserve = gm_link_mux_reserve,
};
