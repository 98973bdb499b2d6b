/* Native frames, outbound: the pull (frame/PROTOCOL.md sections 3 to 5). Owner: the link's ring.
 *
 * One pull walks the classes in order: greeting, link control, stream control, notes, heads, drain,
 * DATA in turns. Each step appends whole frames or nothing, and stops the pull when the batch is
 * full; what is left stays where it was, for the next pull. Callbacks (on_pulled, on_closed) come
 * after the stream's own state and lists are settled, since they may queue more on any stream. */
#include "codec/internal.h"

#include <string.h>

/* CREDIT, STOP and the final frame of one stream. */
#define STREAM_CONTROL_MAX (GM_FRAME_HEADER_LEN * 3u + 4u + 2u + 4u)
GM_STATIC_ASSERT(STREAM_CONTROL_MAX <= GM_BATCH_CORK_MIN, "an empty batch must take them");
GM_STATIC_ASSERT(GM_FRAME_CONTROL_FRAME_MAX <= GM_BATCH_CORK_MIN, "and a PING");

struct pull {
    struct gm_mux *mux;
    struct gm_batch *batch;
    size_t bytes_max;
};

/* May `len` more bytes go into this batch? An empty one takes its first unit whatever it measures.
 */
static bool has_room(const struct pull *pull, size_t len)
{
    return pull->batch->bytes == 0 || pull->batch->bytes + len <= pull->bytes_max;
}

/* Room for `len` bytes of control frames. */
static bool has_control_room(const struct pull *pull, size_t len)
{
    return has_room(pull, len) && gm_batch_fits(pull->batch, len, 0);
}

/* --- Link frames. --- */

static bool pull_greeting(struct pull *pull)
{
    struct gm_mux *mux = pull->mux;
    if ((mux->flags & MUX_GREET_SENT) != 0)
        return true;
    if (mux->greeting.len == 0 || !has_room(pull, mux->greeting.len) ||
        !gm_batch_fits(pull->batch, 0, 0))
        return false; /* nothing may go before it */
    mux_append(pull->batch, mux->greeting);
    mux->greeting = (gm_slice){0};
    mux->flags |= MUX_GREET_SENT;
    mux->stats.frames_out++;
    return true;
}

/* Appends one link frame and takes its mark away. */
static bool put_link(struct pull *pull, uint16_t flag, uint8_t type, const uint8_t *opaque)
{
    struct gm_mux *mux = pull->mux;
    if ((mux->flags & flag) == 0)
        return true;
    uint32_t len = GM_FRAME_HEADER_LEN + (opaque != NULL ? GM_FRAME_PING_LEN : 0u);
    if (!has_control_room(pull, len))
        return false;
    uint8_t *out = gm_batch_place(pull->batch, len);
    if (opaque != NULL)
        gm_frame_put_ping(out, type, opaque);
    else
        gm_frame_put_drain(out, type);
    mux->flags &= (uint16_t)~flag;
    mux->stats.frames_out++;
    return true;
}

static bool pull_pings(struct pull *pull)
{
    return put_link(pull, MUX_PONG, GM_FRAME_PONG, pull->mux->pong) &&
           put_link(pull, MUX_PING, GM_FRAME_PING, pull->mux->ping);
}

/* Behind every OPEN that was queued before: none may follow these frames. */
static bool pull_drain(struct pull *pull)
{
    return put_link(pull, MUX_DRAIN_ACK, GM_FRAME_DRAIN_ACK, NULL) &&
           put_link(pull, MUX_DRAIN, GM_FRAME_DRAIN, NULL);
}

static bool pull_notes(struct pull *pull)
{
    struct gm_mux *mux = pull->mux;
    uint8_t sent = 0;
    while (sent < mux->note_count && has_room(pull, mux->notes[sent].len) &&
           gm_batch_fits(pull->batch, 0, 0))
        mux_append(pull->batch, mux->notes[sent++]);
    if (sent == 0)
        return mux->note_count == 0;
    mux->stats.frames_out += sent;
    mux->note_count = (uint8_t)(mux->note_count - sent);
    memmove(mux->notes, mux->notes + sent, mux->note_count * sizeof mux->notes[0]);
    return mux->note_count == 0;
}

/* --- Control frames of streams. --- */

static void put_stream_control(struct pull *pull, struct gm_stream *stream)
{
    struct gm_mux *mux = pull->mux;
    uint8_t frames[STREAM_CONTROL_MAX];
    size_t len = 0;
    uint16_t pending = stream->flags & GM_STREAM_PENDING;
    stream->flags &= (uint16_t)~GM_STREAM_PENDING;
    if ((pending & GM_STREAM_PENDING_CREDIT) != 0) {
        len += gm_frame_put_credit(frames + len, stream->id, stream->grant_pending);
        stream->grant_pending = 0;
        mux->stats.credits_out++;
        mux->stats.frames_out++;
    }
    if ((pending & GM_STREAM_PENDING_STOP) != 0) {
        len += gm_frame_put_stop(frames + len, stream->id, stream->stop_reason);
        mux->stats.frames_out++;
    }
    if ((pending & GM_STREAM_PENDING_END) != 0) {
        len += gm_frame_put_end(frames + len, stream->id);
        mux_sent_end(stream);
        mux->stats.frames_out++;
    }
    if ((pending & GM_STREAM_PENDING_RESET) != 0) {
        len +=
            gm_frame_put_reset(frames + len, stream->id, stream->reset_reason, stream->reset_flags);
        enum gm_stream_verdict verdict = gm_stream_step(stream, GM_STREAM_SENT_RESET);
        GM_ASSERT(verdict == GM_STREAM_ACCEPT);
        mux->stats.resets_out++;
        mux->stats.frames_out++;
    }
    if (len > 0)
        memcpy(gm_batch_place(pull->batch, (uint32_t)len), frames, len);
}

static bool pull_control(struct pull *pull)
{
    struct gm_list *node;
    while ((node = gm_list_first(&pull->mux->control)) != NULL) {
        struct gm_stream *stream = GM_CONTAINER_OF(node, struct gm_stream, control);
        if (!has_control_room(pull, STREAM_CONTROL_MAX))
            return false;
        gm_list_remove(node);
        put_stream_control(pull, stream);
        mux_close_if_done(stream);
    }
    return true;
}

/* --- Heads. --- */

static bool pull_heads(struct pull *pull)
{
    struct gm_list *node;
    while ((node = gm_list_first(&pull->mux->heads)) != NULL) {
        struct gm_stream *stream = GM_CONTAINER_OF(node, struct gm_stream, node);
        uint32_t front = gm_chain_front(&stream->queue).len;
        uint32_t len = front < stream->head_bytes ? front : stream->head_bytes;
        if (!has_room(pull, len) || !gm_batch_fits(pull->batch, 0, 0))
            return false;
        mux_append(pull->batch, mux_take_front(stream, len));
        stream->head_bytes -= len;
        pull->mux->stats.frames_out++;
        if (stream->head_bytes > 0)
            continue;
        mux_heads_left(stream);
        mux_close_if_done(stream);
    }
    return true;
}

/* --- DATA and trailers. --- */

enum turn {
    TURN_SERVED, /* something has left: the same stream may go on */
    TURN_OVER,   /* its deficit is spent */
    TURN_FULL    /* the batch is full */
};

static enum turn pull_trailers(struct pull *pull, struct gm_stream *stream)
{
    while (stream->trailer_bytes > 0) {
        uint32_t len = gm_chain_front(&stream->queue).len;
        if (!has_room(pull, len) || !gm_batch_fits(pull->batch, 0, 0))
            return TURN_FULL;
        mux_append(pull->batch, mux_take_front(stream, len));
        stream->trailer_bytes -= len;
    }
    pull->mux->stats.frames_out++;
    gm_sched_remove(&pull->mux->sched, &stream->sched);
    mux_sent_end(stream);
    mux_close_if_done(stream);
    return TURN_SERVED;
}

/* Moves whole slices into the batch until the frame has `limit` bytes or the batch no piece left;
 * returns the payload's length. */
static uint32_t fill_frame(struct pull *pull, struct gm_stream *stream, uint32_t limit)
{
    uint32_t len = 0;
    while (stream->data_bytes > 0) {
        uint32_t n = mux_front_bytes(stream);
        if (len + n > limit || !gm_batch_fits(pull->batch, 0, 0))
            break;
        mux_append(pull->batch, mux_take_front(stream, n));
        stream->data_bytes -= n;
        len += n;
    }
    return len;
}

/* How long a frame may be now; 0 when the batch has no room for what the stream must send next. */
static uint32_t frame_limit(const struct pull *pull, const struct gm_stream *stream)
{
    uint32_t limit =
        stream->sched.deficit < GM_FRAME_PAYLOAD_MAX ? stream->sched.deficit : GM_FRAME_PAYLOAD_MAX;
    size_t used = pull->batch->bytes + GM_FRAME_HEADER_LEN;
    if (!gm_batch_fits(pull->batch, GM_FRAME_HEADER_LEN, 1))
        return 0;
    if (pull->batch->bytes == 0)
        return limit;
    size_t room = pull->bytes_max > used ? pull->bytes_max - used : 0;
    return room < limit ? (uint32_t)room : limit;
}

static enum turn pull_data(struct pull *pull, struct gm_stream *stream)
{
    struct gm_mux *mux = pull->mux;
    if (stream->data_bytes == 0)
        return pull_trailers(pull, stream);
    uint32_t want = mux_front_bytes(stream);
    if (want > stream->sched.deficit)
        return TURN_OVER;
    uint32_t limit = frame_limit(pull, stream);
    if (want > limit)
        return TURN_FULL;

    uint8_t *header = gm_batch_place(pull->batch, GM_FRAME_HEADER_LEN);
    uint32_t len = fill_frame(pull, stream, limit);
    bool end =
        stream->data_bytes == 0 && stream->trailer_bytes == 0 && stream->out == GM_DIR_ENDING;
    gm_frame_put_header(header, GM_FRAME_DATA, end ? GM_FRAME_FLAG_END_STREAM : 0, (uint16_t)len,
                        stream->id);
    gm_sched_spend(&mux->sched, &stream->sched, len);
    stream->send_credit -= len;
    mux->stats.frames_out++;
    mux->stats.data_bytes_out += len;
    if (end)
        mux_sent_end(stream);
    if (stream->data_bytes + stream->trailer_bytes == 0)
        gm_sched_remove(&mux->sched, &stream->sched);
    mux->ops->on_pulled(stream, len);
    mux_close_if_done(stream);
    return TURN_SERVED;
}

static void pull_turns(struct pull *pull)
{
    struct gm_sched_node *node;
    while ((node = gm_sched_current(&pull->mux->sched)) != NULL) {
        enum turn turn = pull_data(pull, GM_CONTAINER_OF(node, struct gm_stream, sched));
        if (turn == TURN_FULL)
            return;
        if (turn == TURN_OVER)
            gm_sched_rotate(&pull->mux->sched);
    }
}

/* --- The pull. --- */

bool gm_mux_ready(const struct gm_mux *mux)
{
    if ((mux->flags & MUX_ENDED) != 0)
        return false;
    if (mux->old != NULL)
        return mux_old_ready(mux);
    if ((mux->flags & MUX_GREET_SENT) == 0)
        return mux->greeting.len > 0;
    return (mux->flags & (MUX_PING | MUX_PONG | MUX_DRAIN | MUX_DRAIN_ACK)) != 0 ||
           mux->note_count > 0 || !gm_list_empty(&mux->control) || !gm_list_empty(&mux->heads) ||
           !gm_list_empty(&mux->closing) || mux->sched.ready_count > 0;
}

size_t gm_mux_pull(struct gm_mux *mux, struct gm_batch *batch, size_t bytes_max)
{
    GM_ASSERT((mux->flags & MUX_BUSY) == 0);
    if ((mux->flags & MUX_ENDED) != 0)
        return 0;
    struct pull pull = {mux, batch, bytes_max};
    size_t before = batch->bytes;
    mux->flags |= MUX_BUSY;
    mux_close_taken_back(mux);
    if (mux->old != NULL)
        mux_old_pull(mux, batch);
    else if (pull_greeting(&pull) && pull_pings(&pull) && pull_control(&pull) &&
             pull_notes(&pull) && pull_heads(&pull) && pull_drain(&pull))
        pull_turns(&pull);
    mux->flags &= (uint16_t)~MUX_BUSY;
    return batch->bytes - before;
}
