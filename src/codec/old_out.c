/* 0.0.x, outbound: owner's calls made wire-ready, and the pull, one frame at a time. Owner: the
 * link's ring.
 *
 * Order: control of streams (which may end in a CANCEL), CANCELs, refusals, heads, DATA in turns.
 * Each step puts one frame into the batch and says so. A server frames the body itself: DATA of a
 * body without length carries chunks, since the agent passes bytes on as they are. Callbacks come
 * after the stream's own state and lists are settled, since they may queue more on any stream. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/internal.h"
#include "codec/old_head.h"
#include "http/writer.h"

#define CHUNK_HEAD_LEN 6u /* four digits: a frame has at most 16 KiB */
#define CHUNK_TAIL     "\r\n"
#define CHUNK_END      "0\r\n\r\n"

GM_STATIC_ASSERT(GM_MUX_OLD_CORK >= OLD_HEADER_MAX + 256 + OLD_ERROR_TEXT_MAX, "an error's START");

/* ---- What the owner gives ---- */

/* Room for a frame's header and text made of `slice`, on this ring; NULL: out of memory. */
static struct gm_buf *text_block(struct gm_mux *mux, size_t block_len)
{
    return mux->ops->gather(mux, OLD_HEADER_MAX + block_len + GM_OLD_TEXT_ADDED);
}

int mux_old_open(struct gm_mux *mux, const struct gm_mux_open *open, struct gm_stream **out)
{
    const uint8_t *block = open->head.data + GM_MUX_OPEN_ROOM;
    size_t len = open->head.len - GM_MUX_OPEN_ROOM;
    struct gm_buf *buf = text_block(mux, len);
    if (buf == NULL)
        return -GM_E_NOMEM;
    struct gm_old_request told;
    int got = gm_old_request_text(block, len, (char *)buf->data + OLD_HEADER_LEN,
                                  buf->size - OLD_HEADER_LEN, &told);
    struct gm_stream_begin begin = {GM_DIR_HEAD, GM_DIR_BODY, GM_MUX_OLD_SEND_WINDOW, open->window};
    struct gm_stream *stream = got < 0 ? NULL : mux_begin(mux, &begin);
    if (stream == NULL) {
        gm_buf_put(buf);
        return got == -ENOTSUP || got == -GM_E_PROTOCOL ? -ENOTSUP : -GM_E_LIMIT;
    }
    gm_slice_put(open->head);
    struct old_side *side = old_side_of(stream);
    side->flags &= OLD_QUEUED;
    side->flags |= (uint8_t)((told.head ? OLD_HEAD_ONLY : 0u) | (told.chunked ? OLD_CHUNKED : 0u) |
                             (told.expects ? OLD_EXPECTS : 0u));
    stream->user = open->user;
    stream->head_bytes = old_put_header(buf->data, stream, OLD_START) + (uint32_t)got;
    int error =
        gm_chain_push(&stream->queue, mux->segs, (gm_slice){buf->data, stream->head_bytes, buf});
    GM_ASSERT(error == 0); /* gm_stream_open has looked */
    if (open->end)
        stream->out = GM_DIR_ENDING;
    gm_list_push_back(&mux->heads, &stream->node);
    *out = stream;
    return 0;
}

/* Queues text as a frame. The buffer is taken. */
static int queue_text(struct gm_stream *stream, struct gm_buf *buf, uint32_t len)
{
    if (gm_chain_push(&stream->queue, stream->mux->segs, (gm_slice){buf->data, len, buf}) == 0)
        return 0;
    gm_buf_put(buf);
    return -GM_E_NOMEM;
}

int mux_old_head(struct gm_stream *stream, gm_slice head, bool end)
{
    struct gm_mux *mux = stream->mux;
    size_t len = head.len - GM_MUX_HEAD_ROOM;
    struct gm_buf *buf = text_block(mux, len);
    uint32_t header = buf == NULL ? 0 : old_put_header(buf->data, stream, OLD_START);
    int got = buf == NULL ? -GM_E_NOMEM
                          : gm_old_response_text(head.data + GM_MUX_HEAD_ROOM, len,
                                                 (char *)buf->data + header, buf->size - header);
    gm_slice_put(head);
    if (got < 0 && buf != NULL)
        gm_buf_put(buf);
    if (got >= 0)
        got = queue_text(stream, buf, header + (uint32_t)got) < 0 ? -GM_E_NOMEM : got;
    if (got < 0) {
        stream->out = GM_DIR_HEAD; /* not begun: the owner resets */
        return -GM_E_NOMEM;
    }
    stream->head_bytes += header + (uint32_t)got;
    if (end)
        stream->out = GM_DIR_ENDING;
    if (gm_list_empty(&stream->node))
        gm_list_push_back(&mux->heads, &stream->node);
    return 0;
}

int mux_old_trailers(struct gm_stream *stream, gm_slice trailers)
{
    size_t len = trailers.len - GM_MUX_HEAD_ROOM;
    bool wanted = (old_side_of(stream)->flags & OLD_CHUNKED) != 0;
    struct gm_buf *buf = wanted ? text_block(stream->mux, len) : NULL;
    int got = -GM_E_NOMEM;
    if (buf != NULL)
        got = gm_old_trailers_text(trailers.data + GM_MUX_HEAD_ROOM, len,
                                   (char *)buf->data + OLD_HEADER_LEN, buf->size - OLD_HEADER_LEN);
    gm_slice_put(trailers);
    if (buf != NULL && got < 0)
        gm_buf_put(buf);
    if (got >= 0) {
        uint32_t bytes = old_put_header(buf->data, stream, OLD_DATA) + (uint32_t)got;
        got = queue_text(stream, buf, bytes);
        stream->trailer_bytes = got < 0 ? 0 : bytes;
    }
    if (wanted && got < 0) {
        stream->out = GM_DIR_BODY; /* not ended: the owner resets */
        return got;
    }
    mux_schedule(stream); /* what has no chunks goes without trailers */
    return 0;
}

/* ---- Frames ---- */

struct pull {
    struct gm_mux *mux;
    struct gm_batch *batch;
};

static void count(struct gm_mux *mux)
{
    mux->stats.frames_out++;
}

/* A frame of a stream with this payload, copied. */
static void put_frame(struct pull *pull, const struct gm_stream *stream, enum old_type type,
                      const char *payload)
{
    uint8_t frame[OLD_HEADER_MAX + 256 + OLD_ERROR_TEXT_MAX];
    uint32_t header = old_put_header(frame, stream, type), len = (uint32_t)strlen(payload);
    GM_ASSERT(header + len <= sizeof frame);
    memcpy(frame + header, payload, len);
    memcpy(gm_batch_place(pull->batch, header + len), frame, header + len);
    count(pull->mux);
}

static bool pull_cancels(struct pull *pull)
{
    struct gm_mux_old *old = pull->mux->old;
    if (old->cancel_first == 0)
        return false;
    struct old_side *side = &old->sides[old->cancel_first - 1u];
    old->cancel_first = side->next;
    if (old->cancel_first == 0)
        old->cancel_last = 0;
    side->next = 0;
    side->flags &= (uint8_t)~OLD_QUEUED;
    old_put_cancel(gm_batch_place(pull->batch, OLD_HEADER_LEN), pull->mux, side->cancel_id);
    count(pull->mux);
    return true;
}

static bool pull_refusals(struct pull *pull)
{
    static const char text[] = "The agent has no capacity left for this request.";
    struct gm_mux_old *old = pull->mux->old;
    if (old->refusal_count == 0)
        return false;
    const struct old_refusal *refusal = &old->refusals[--old->refusal_count];
    uint32_t header = 5u + refusal->id_len;
    uint8_t *out = gm_batch_place(pull->batch, header + (uint32_t)sizeof text - 1);
    memcpy(out, (const uint8_t[]){OLD_END, 0, 0, 0, refusal->id_len}, 5);
    memcpy(out + 5, refusal->id, refusal->id_len);
    memcpy(out + header, text, sizeof text - 1);
    count(pull->mux);
    return true;
}

/* ---- Control of streams ---- */

/* Server: the request is complete, or the agent reads no more of it. False: there is nothing to
 * say. */
static bool put_request_end(struct pull *pull, struct gm_stream *stream)
{
    struct old_side *side = old_side_of(stream);
    bool chunked = (side->flags & (OLD_CHUNKED | OLD_CHUNKS_END)) == OLD_CHUNKED;
    if (stream->in < GM_DIR_ENDED && chunked) {
        side->flags |= OLD_CHUNKS_END;
        put_frame(pull, stream, OLD_DATA, CHUNK_END);
        mux_pend(stream, GM_STREAM_PENDING_END);
        return true;
    }
    bool said = stream->in < GM_DIR_ENDED;
    if (said)
        put_frame(pull, stream, OLD_END, "");
    mux_sent_end(stream);
    return said;
}

/* Server: the agent is to give up, and need not answer. */
static void put_cancel(struct pull *pull, struct gm_stream *stream)
{
    struct gm_mux *mux = pull->mux;
    bool told = (stream->flags & GM_STREAM_DETACHED) != 0;
    put_frame(pull, stream, OLD_CANCEL, "");
    mux->stats.resets_out++;
    old_cancelled(stream);
    if (!told)
        mux->ops->on_reset(stream, GM_REASON_CANCELLED, GM_MUX_RESET_LOCAL);
}

static bool put_server_control(struct pull *pull, struct gm_stream *stream, uint16_t pending)
{
    if ((pending & (GM_STREAM_PENDING_RESET | GM_STREAM_PENDING_STOP)) != 0) {
        put_cancel(pull, stream);
        return true;
    }
    return (pending & GM_STREAM_PENDING_END) != 0 && put_request_end(pull, stream);
}

/* Agent: a request that cannot be answered otherwise. 502 is what a server makes of END with a
 * text; every other status is an answer of our own, in two frames. True: more is to follow. */
static bool put_error(struct pull *pull, struct gm_stream *stream)
{
    struct old_side *side = old_side_of(stream);
    const struct gm_reason *reason = gm_reason_get(stream->reset_reason);
    uint32_t limit = pull->mux->old->request_limit;
    char text[OLD_ERROR_TEXT_MAX], head[256];
    if (stream->reset_reason == GM_REASON_AGENT_LIMIT && limit > 0)
        (void)snprintf(text, sizeof text, "Agent concurrent request limit reached (%u)", limit);
    else
        (void)snprintf(text, sizeof text, "%s", reason->text);
    bool said = (side->flags & (OLD_ANSWERED | OLD_TOLD)) != 0;
    if ((side->flags & OLD_TOLD) != 0) {
        put_frame(pull, stream, OLD_END, "");
        return false;
    }
    if (said || reason->status == 502 || reason->status < 400 || reason->status == 499) {
        put_frame(pull, stream, OLD_END, text);
        return false;
    }
    if ((side->flags & OLD_ERROR_HEAD) == 0) {
        (void)snprintf(head, sizeof head,
                       "HTTP/1.1 %u %.*s\r\nContent-Length: %zu\r\nContent-Type: text/plain\r\n"
                       "X-Gimlet-Error: %s\r\n\r\n",
                       reason->status, (int)gm_http_reason(reason->status).len,
                       gm_http_reason(reason->status).p, strlen(text), reason->name);
        put_frame(pull, stream, OLD_START, head);
        side->flags |= OLD_ERROR_HEAD;
        return true;
    }
    put_frame(pull, stream, OLD_DATA, text);
    side->flags |= OLD_TOLD;
    return true;
}

static bool put_agent_control(struct pull *pull, struct gm_stream *stream, uint16_t pending)
{
    /* After CANCEL the server knows of no such request. */
    bool known = stream->in != GM_DIR_RESET && (stream->flags & GM_STREAM_STOP_RECEIVED) == 0;
    if ((pending & GM_STREAM_PENDING_RESET) != 0) {
        if (known && put_error(pull, stream)) {
            mux_pend(stream, GM_STREAM_PENDING_RESET);
            return true;
        }
        enum gm_stream_verdict verdict = gm_stream_step(stream, GM_STREAM_SENT_RESET);
        GM_ASSERT(verdict == GM_STREAM_ACCEPT);
        pull->mux->stats.resets_out++;
        return known;
    }
    if ((pending & GM_STREAM_PENDING_END) == 0)
        return false; /* STOP: nobody can be told */
    if (known)
        put_frame(pull, stream, OLD_END, "");
    mux_sent_end(stream);
    return known;
}

static bool pull_control(struct pull *pull)
{
    struct gm_mux *mux = pull->mux;
    struct gm_list *node;
    bool put = false;
    while (!put && (node = gm_list_first(&mux->control)) != NULL) {
        struct gm_stream *stream = GM_CONTAINER_OF(node, struct gm_stream, control);
        uint16_t pending = stream->flags & GM_STREAM_PENDING;
        gm_list_remove(node);
        stream->flags &= (uint16_t)~GM_STREAM_PENDING;
        put = mux->role == GM_MUX_SERVER ? put_server_control(pull, stream, pending)
                                         : put_agent_control(pull, stream, pending);
        mux_close_if_done(stream);
    }
    return put;
}

/* ---- Heads ---- */

/* Server: the client may begin its body. */
static void say_continue(struct gm_stream *stream)
{
    struct gm_mux *mux = stream->mux;
    old_side_of(stream)->flags &= (uint8_t)~OLD_EXPECTS;
    struct gm_buf *buf = mux->ops->gather(mux, GM_OLD_CONTINUE_MAX);
    if (buf == NULL)
        return; /* it will not wait for ever */
    int len = gm_old_continue_block(buf->data, buf->size);
    if (len > 0 && gm_stream_step(stream, GM_STREAM_IN_INTERIM) == GM_STREAM_ACCEPT)
        mux->ops->on_head(stream, (gm_slice){buf->data, (uint32_t)len, buf}, false);
    gm_buf_put(buf);
}

static bool pull_heads(struct pull *pull)
{
    struct gm_mux *mux = pull->mux;
    struct gm_list *node = gm_list_first(&mux->heads);
    if (node == NULL)
        return false;
    struct gm_stream *stream = GM_CONTAINER_OF(node, struct gm_stream, node);
    mux_append(pull->batch, mux_take_front(stream, stream->head_bytes));
    stream->head_bytes = 0;
    if (mux->role == GM_MUX_AGENT)
        old_side_of(stream)->flags |= OLD_ANSWERED;
    count(mux);
    mux_heads_left(stream);
    if (mux->role == GM_MUX_SERVER && (old_side_of(stream)->flags & OLD_EXPECTS) != 0)
        say_continue(stream);
    mux_close_if_done(stream);
    return true;
}

/* ---- DATA ---- */

static void pull_trailers(struct pull *pull, struct gm_stream *stream)
{
    mux_append(pull->batch, mux_take_front(stream, stream->trailer_bytes));
    stream->trailer_bytes = 0;
    old_side_of(stream)->flags |= OLD_CHUNKS_END;
    gm_sched_remove(&pull->mux->sched, &stream->sched);
    count(pull->mux);
    mux_schedule(stream); /* END */
}

/* Moves whole slices until the frame has `limit` bytes or the batch no piece left; one is kept for
 * a chunk's end. */
static uint32_t fill_frame(struct pull *pull, struct gm_stream *stream, uint32_t limit)
{
    uint32_t len = 0;
    while (stream->data_bytes > 0) {
        uint32_t n = mux_front_bytes(stream);
        if (len + n > limit || !gm_batch_fits(pull->batch, sizeof CHUNK_TAIL, 1))
            break;
        /* Small slices are copied only while the chunk's end still fits behind them. */
        gm_slice slice = mux_take_front(stream, n);
        if (gm_batch_fits(pull->batch, (size_t)n + sizeof CHUNK_TAIL, 1))
            mux_append(pull->batch, slice);
        else
            gm_batch_move(pull->batch, slice);
        stream->data_bytes -= n;
        len += n;
    }
    return len;
}

static void chunk_head(uint8_t out[CHUNK_HEAD_LEN], uint32_t len)
{
    char text[CHUNK_HEAD_LEN + 1];
    (void)snprintf(text, sizeof text, "%04x\r\n", len & 0xffffu);
    memcpy(out, text, CHUNK_HEAD_LEN);
}

static void uploading(struct gm_stream *stream)
{
    struct old_side *side = old_side_of(stream);
    if (stream->mux->role != GM_MUX_SERVER || (side->flags & OLD_UPLOADING) != 0)
        return;
    side->flags |= OLD_UPLOADING;
    stream->mux->old->uploads++;
}

/* The bytes have left, and as many more may be queued. */
static void sent_data(struct gm_stream *stream, uint32_t len)
{
    struct gm_mux *mux = stream->mux;
    gm_sched_spend(&mux->sched, &stream->sched, len);
    mux->stats.data_bytes_out += len;
    if (stream->data_bytes + stream->trailer_bytes == 0) {
        gm_sched_remove(&mux->sched, &stream->sched);
        mux_schedule(stream); /* END, if that is next */
    }
    uploading(stream);
    /* send_credit counts what is queued too, so that it stays as it is while the room grows. */
    mux->ops->on_pulled(stream, len);
    if (gm_stream_step(stream, GM_STREAM_IN_CREDIT) == GM_STREAM_ACCEPT &&
        (stream->flags & GM_STREAM_DETACHED) == 0)
        mux->ops->on_credit(stream, len);
}

static void put_data(struct pull *pull, struct gm_stream *stream)
{
    bool chunked = (old_side_of(stream)->flags & OLD_CHUNKED) != 0;
    uint8_t header[OLD_HEADER_MAX];
    uint32_t len = old_put_header(header, stream, OLD_DATA);
    uint8_t *place = gm_batch_place(pull->batch, len + (chunked ? CHUNK_HEAD_LEN : 0u));
    memcpy(place, header, len);
    uint32_t limit =
        stream->sched.deficit < GM_FRAME_PAYLOAD_MAX ? stream->sched.deficit : GM_FRAME_PAYLOAD_MAX;
    uint32_t bytes = fill_frame(pull, stream, limit);
    GM_ASSERT(bytes > 0);
    if (chunked) {
        chunk_head(place + len, bytes);
        memcpy(gm_batch_place(pull->batch, sizeof CHUNK_TAIL - 1), CHUNK_TAIL,
               sizeof CHUNK_TAIL - 1);
    }
    count(pull->mux);
    sent_data(stream, bytes);
}

static bool pull_turns(struct pull *pull)
{
    struct gm_sched *sched = &pull->mux->sched;
    struct gm_sched_node *node;
    while ((node = gm_sched_current(sched)) != NULL) {
        struct gm_stream *stream = GM_CONTAINER_OF(node, struct gm_stream, sched);
        if (stream->data_bytes == 0) {
            pull_trailers(pull, stream);
            return true;
        }
        if (mux_front_bytes(stream) <= stream->sched.deficit) {
            put_data(pull, stream);
            return true;
        }
        gm_sched_rotate(sched);
    }
    return false;
}

/* ---- The pull ---- */

bool mux_old_ready(const struct gm_mux *mux)
{
    const struct gm_mux_old *old = mux->old;
    return (mux->flags & MUX_GREET_SENT) != 0 &&
           (old->cancel_first != 0 || old->refusal_count > 0 || !gm_list_empty(&mux->control) ||
            !gm_list_empty(&mux->heads) || !gm_list_empty(&mux->closing) ||
            mux->sched.ready_count > 0);
}

void mux_old_pull(struct gm_mux *mux, struct gm_batch *batch)
{
    struct pull pull = {mux, batch};
    GM_ASSERT(batch->cork_max - batch->cork_used >= GM_MUX_OLD_CORK);
    if ((mux->flags & MUX_GREET_SENT) == 0)
        return;
    (void)(pull_control(&pull) || pull_cancels(&pull) || pull_refusals(&pull) ||
           pull_heads(&pull) || pull_turns(&pull));
}
