/* The mux's table of streams and the owner's calls. Owner: the link's ring.
 *
 * Every change of a stream's state goes through gm_stream_step; what is here acts on its verdict.
 * Nothing in this file writes a frame but the headers around blocks, which are made wire-ready as
 * soon as they are queued. */
#include "codec/internal.h"

#include <string.h>

/* --- The table. --- */

size_t gm_mux_memory(uint16_t stream_limit)
{
    return (size_t)stream_limit * sizeof(struct gm_stream);
}

void gm_mux_init(struct gm_mux *mux, const struct gm_mux_config *config)
{
    GM_ASSERT(config->stream_limit > 0 && config->memory != NULL);
    GM_ASSERT(config->window <= GM_WINDOW_MAX);
    *mux = (struct gm_mux){
        .user = config->user,
        .ops = config->ops,
        .segs = config->segs,
        .slots = config->memory,
        .window = config->window,
        .head_max = config->head_max > 0 ? config->head_max : GM_FRAME_BLOCK_MAX,
        .stream_limit = config->stream_limit,
        .open_limit = config->stream_limit,
        .role = (uint8_t)config->role,
    };
    gm_frame_reader_init(&mux->reader);
    gm_list_init(&mux->free);
    gm_list_init(&mux->control);
    gm_list_init(&mux->heads);
    gm_list_init(&mux->closing);
    gm_sched_init(&mux->sched);
}

void gm_mux_fini(struct gm_mux *mux)
{
    GM_ASSERT(mux->open_count == 0 && mux->greeting.buf == NULL && mux->gathered == NULL);
    if (mux->slots != NULL)
        memset(mux->slots, 0, mux->touched * sizeof(struct gm_stream));
    *mux = (struct gm_mux){0};
}

void mux_slot_init(struct gm_mux *mux, uint16_t slot)
{
    struct gm_stream *stream = mux_slot(mux, slot);
    stream->mux = mux;
    stream->id = gm_frame_stream(slot, 0);
    gm_sched_node_init(&stream->sched);
    gm_list_init(&stream->node);
    gm_list_init(&stream->control);
    if (slot > mux->touched)
        mux->touched = slot;
}

void mux_pend(struct gm_stream *stream, uint16_t pending)
{
    stream->flags |= pending;
    if ((stream->flags & GM_STREAM_OPENED) != 0 && gm_list_empty(&stream->control))
        gm_list_push_back(&stream->mux->control, &stream->control);
}

void mux_purge(struct gm_stream *stream)
{
    gm_chain_clear(&stream->queue, stream->mux->segs);
    stream->head_bytes = stream->data_bytes = stream->trailer_bytes = 0;
    stream->flags &= (uint16_t)~GM_STREAM_END_ON_BLOCK;
    gm_sched_remove(&stream->mux->sched, &stream->sched);
    gm_list_remove(&stream->node);
}

void mux_close(struct gm_stream *stream)
{
    struct gm_mux *mux = stream->mux;
    if (mux->old != NULL)
        mux_old_closing(stream);
    GM_ASSERT(mux->unit_stream != stream || stream->in >= GM_DIR_ENDED);
    mux_purge(stream);
    gm_list_remove(&stream->control);
    if ((stream->flags & GM_STREAM_HIDDEN) == 0)
        mux->ops->on_closed(stream);
    if ((stream->flags & (GM_STREAM_OPENED | GM_STREAM_SEEN)) == GM_STREAM_SEEN)
        stream->id -= 1u << 16; /* the OPEN was taken back: its generation is still to be used */
    stream->user = NULL;
    stream->in = stream->out = GM_DIR_IDLE;
    stream->flags &= GM_STREAM_SEEN;
    gm_list_push_back(&mux->free, &stream->node);
    mux->open_count--;
    mux->stats.streams_closed++;
}

void mux_apply_reset(struct gm_stream *stream, uint16_t reason, uint16_t reset_flags)
{
    mux_purge(stream);
    if ((stream->flags & GM_STREAM_OPENED) == 0) {
        /* The peer has never heard of it: nothing to tell, and nothing will come. */
        gm_list_push_back(&stream->mux->closing, &stream->node);
        return;
    }
    stream->flags &= (uint16_t) ~(GM_STREAM_PENDING_END | GM_STREAM_PENDING_CREDIT);
    stream->grant_pending = 0;
    if (stream->out == GM_DIR_RESETTING) {
        if ((stream->flags & GM_STREAM_PENDING_RESET) != 0)
            return;
        stream->reset_reason = reason;
        stream->reset_flags = reset_flags;
        stream->flags &= (uint16_t)~GM_STREAM_PENDING_STOP;
        mux_pend(stream, GM_STREAM_PENDING_RESET);
    } else if (stream->in < GM_DIR_ENDED && (stream->flags & GM_STREAM_STOP_SENT) == 0) {
        /* Our final frame has passed, so no RESET may follow it: STOP asks the peer for its own. */
        stream->stop_reason = reason;
        stream->flags |= GM_STREAM_STOP_SENT;
        mux_pend(stream, GM_STREAM_PENDING_STOP);
    }
}

void mux_fail(struct gm_stream *stream, uint16_t reason, uint16_t reset_flags)
{
    if (gm_stream_step(stream, GM_STREAM_OUT_RESET) != GM_STREAM_ACCEPT)
        return;
    mux_apply_reset(stream, reason, reset_flags);
    if ((stream->flags & GM_STREAM_HIDDEN) == 0)
        stream->mux->ops->on_reset(stream, reason, (uint16_t)(reset_flags | GM_MUX_RESET_LOCAL));
}

/* The peer has stopped our body: drops it. Heads go first and still go; when some are queued this
 * comes back to it after them. */
static void drop_body(struct gm_stream *stream)
{
    if (stream->data_bytes + stream->trailer_bytes == 0)
        return;
    gm_chain_clear(&stream->queue, stream->mux->segs);
    if (stream->trailer_bytes > 0)
        stream->flags &= (uint16_t)~GM_STREAM_END_ON_BLOCK;
    stream->data_bytes = stream->trailer_bytes = 0;
    gm_sched_remove(&stream->mux->sched, &stream->sched);
}

void mux_schedule(struct gm_stream *stream)
{
    if (stream->head_bytes > 0)
        return;
    if ((stream->flags & GM_STREAM_STOP_RECEIVED) != 0)
        drop_body(stream);
    if (stream->data_bytes + stream->trailer_bytes > 0)
        gm_sched_add(&stream->mux->sched, &stream->sched);
    else if (stream->out == GM_DIR_ENDING)
        mux_pend(stream, GM_STREAM_PENDING_END);
}

void gm_mux_abort(struct gm_mux *mux, uint16_t reason)
{
    GM_ASSERT((mux->flags & MUX_BUSY) == 0);
    mux->flags |= MUX_ENDED | MUX_BUSY;
    for (uint32_t slot = 1; slot <= mux->touched; slot++) {
        struct gm_stream *stream = mux_slot(mux, (uint16_t)slot);
        if (!gm_stream_in_use(stream))
            continue;
        bool silent = (stream->flags & (GM_STREAM_DETACHED | GM_STREAM_HIDDEN)) != 0;
        bool opened = (stream->flags & GM_STREAM_OPENED) != 0;
        stream->flags |= GM_STREAM_DETACHED;
        if (!silent)
            mux->ops->on_reset(stream, reason,
                               opened ? GM_MUX_RESET_LOST
                                      : GM_MUX_RESET_LOST | GM_FRAME_RESET_UNTOUCHED);
        mux->unit_stream = NULL;
        mux_close(stream);
    }
    if (mux->greeting.buf != NULL)
        gm_slice_put(mux->greeting);
    mux->greeting = (gm_slice){0};
    for (; mux->note_count > 0; mux->note_count--)
        gm_slice_put(mux->notes[mux->note_count - 1]);
    if (mux->gathered != NULL)
        gm_buf_put(mux->gathered);
    mux->gathered = NULL;
    mux->flags &= (uint16_t)~MUX_BUSY;
}

/* --- The link's calls. --- */

bool gm_mux_is_up(const struct gm_mux *mux)
{
    return (mux->flags & MUX_GREET_SENT) != 0 && (mux->flags & MUX_GREET_RECEIVED) != 0 &&
           (mux->flags & MUX_ENDED) == 0;
}

void gm_mux_greet(struct gm_mux *mux, gm_slice json)
{
    GM_ASSERT((mux->flags & MUX_GREET_SENT) == 0 && mux->greeting.len == 0);
    GM_ASSERT(json.buf != NULL && json.len > GM_MUX_HEAD_ROOM &&
              json.len <= GM_MUX_HEAD_ROOM + GM_FRAME_PAYLOAD_MAX);
    uint8_t type = mux->role == GM_MUX_SERVER ? GM_FRAME_HELLO : GM_FRAME_READY;
    gm_frame_put_header(json.data, type, 0, (uint16_t)(json.len - GM_MUX_HEAD_ROOM), 0);
    mux->greeting = json;
}

int gm_mux_note(struct gm_mux *mux, gm_slice json)
{
    GM_ASSERT(json.buf != NULL && json.len > GM_MUX_HEAD_ROOM &&
              json.len <= GM_MUX_HEAD_ROOM + GM_FRAME_PAYLOAD_MAX);
    int error = !gm_mux_is_up(mux)                    ? -GM_E_CLOSED
                : mux->note_count == GM_MUX_NOTES_MAX ? -GM_E_LIMIT
                                                      : 0;
    if (error < 0) {
        gm_slice_put(json);
        return error;
    }
    gm_frame_put_header(json.data, GM_FRAME_NOTE, 0, (uint16_t)(json.len - GM_MUX_HEAD_ROOM), 0);
    mux->notes[mux->note_count++] = json;
    return 0;
}

void gm_mux_set_peer(struct gm_mux *mux, const struct gm_mux_peer *peer)
{
    mux->peer_window = peer->window <= GM_FRAME_CREDIT_MAX ? peer->window : GM_FRAME_CREDIT_MAX;
    if (peer->stream_limit < mux->open_limit)
        mux->open_limit = peer->stream_limit;
}

void gm_mux_ping(struct gm_mux *mux, const uint8_t opaque[GM_FRAME_PING_LEN])
{
    memcpy(mux->ping, opaque, GM_FRAME_PING_LEN);
    mux->flags |= MUX_PING;
}

void gm_mux_drain(struct gm_mux *mux)
{
    if ((mux->flags & MUX_DRAINING) == 0)
        mux->flags |= MUX_DRAINING | MUX_DRAIN;
}

/* --- The owner's calls on streams. --- */

/* Frame headers around a block, in place; its flags end our direction when `end`. */
static gm_slice wrap(const struct gm_stream *stream, uint8_t type, gm_slice slice, bool end)
{
    GM_ASSERT(slice.buf != NULL && slice.len >= GM_MUX_HEAD_ROOM);
    struct gm_frame_block block = {
        .type = type,
        .flags = end ? GM_FRAME_FLAG_END_STREAM : 0u,
        .stream = stream->id,
        .payload_len = slice.len - GM_FRAME_HEADER_LEN,
    };
    size_t room = (size_t)(slice.buf->data + slice.buf->size - slice.data);
    int len = gm_frame_block_wrap(slice.data, room, &block);
    GM_ASSERT(len > 0);
    slice.len = (uint32_t)len;
    return slice;
}

/* A slot for a new stream of ours: the one longest free, so that late frames have had their time,
 * else a fresh one. */
static struct gm_stream *take_slot(struct gm_mux *mux)
{
    if (mux->open_count >= mux->open_limit)
        return NULL;
    struct gm_list *node = gm_list_pop_front(&mux->free);
    if (node != NULL)
        return GM_CONTAINER_OF(node, struct gm_stream, node);
    if (mux->touched >= mux->stream_limit)
        return NULL;
    mux_slot_init(mux, (uint16_t)(mux->touched + 1));
    return mux_slot(mux, (uint16_t)mux->touched);
}

struct gm_stream *mux_begin(struct gm_mux *mux, const struct gm_stream_begin *begin)
{
    struct gm_stream *stream = take_slot(mux);
    if (stream == NULL)
        return NULL;
    /* A slot's first OPEN that passes has generation 0; one that was taken back has used none
     * (mux_close). */
    if ((stream->flags & GM_STREAM_SEEN) != 0)
        stream->id += 1u << 16;
    gm_stream_begin(stream, begin);
    mux->open_count++;
    mux->stats.streams_opened++;
    return stream;
}

int gm_stream_open(struct gm_mux *mux, const struct gm_mux_open *open, struct gm_stream **out)
{
    GM_ASSERT(mux->role == GM_MUX_SERVER && open->head.len > GM_MUX_OPEN_ROOM);
    if (!gm_mux_is_up(mux) || (mux->flags & (MUX_DRAINING | MUX_PEER_DRAINING)) != 0)
        return -GM_E_CLOSED;
    if (mux->segs->free_count == 0)
        return -GM_E_NOMEM;
    if (mux->old != NULL)
        return mux_old_open(mux, open, out);
    struct gm_stream_begin begin = {GM_DIR_HEAD, GM_DIR_BODY, mux->peer_window, open->window};
    struct gm_stream *stream = mux_begin(mux, &begin);
    if (stream == NULL)
        return -GM_E_LIMIT;
    stream->user = open->user;

    gm_frame_set_u32(open->head.data + GM_FRAME_HEADER_LEN, open->window);
    gm_slice head = wrap(stream, GM_FRAME_OPEN, open->head, open->end);
    stream->head_bytes = head.len;
    int error = gm_chain_push(&stream->queue, mux->segs, head);
    GM_ASSERT(error == 0);
    if (open->end) {
        stream->out = GM_DIR_ENDING;
        stream->flags |= GM_STREAM_END_ON_BLOCK;
    }
    gm_list_push_back(&mux->heads, &stream->node);
    *out = stream;
    return 0;
}

/* Judges an owner's call; true when it is to be acted on. */
static bool allowed(struct gm_stream *stream, enum gm_stream_event event)
{
    enum gm_stream_verdict verdict = gm_stream_step(stream, event);
    GM_ASSERT(verdict == GM_STREAM_ACCEPT || verdict == GM_STREAM_IGNORE);
    return verdict == GM_STREAM_ACCEPT;
}

static int drop(gm_slice slice, int error)
{
    gm_slice_put(slice);
    return error;
}

int gm_stream_head(struct gm_stream *stream, gm_slice head, bool end)
{
    struct gm_mux *mux = stream->mux;
    GM_ASSERT(mux->role == GM_MUX_AGENT && head.len >= GM_MUX_HEAD_ROOM + GM_MUX_STATUS_END);
    bool interim = gm_mux_is_interim(head.data + GM_MUX_HEAD_ROOM);
    GM_ASSERT(!interim || !end);
    if (!allowed(stream, interim ? GM_STREAM_OUT_INTERIM : GM_STREAM_OUT_HEAD))
        return drop(head, -GM_E_CLOSED);
    if (mux->old != NULL)
        return interim ? drop(head, 0) : mux_old_head(stream, head, end);
    head = wrap(stream, GM_FRAME_HEAD, head, end);
    uint32_t len = head.len;
    if (gm_chain_push(&stream->queue, mux->segs, head) < 0)
        return drop(head, -GM_E_NOMEM);
    stream->head_bytes += len;
    if (end) {
        stream->out = GM_DIR_ENDING;
        stream->flags |= GM_STREAM_END_ON_BLOCK;
    }
    if (gm_list_empty(&stream->node))
        gm_list_push_back(&mux->heads, &stream->node);
    return 0;
}

int gm_stream_data(struct gm_stream *stream, gm_slice slice)
{
    if (!allowed(stream, GM_STREAM_OUT_DATA))
        return drop(slice, -GM_E_CLOSED);
    if (slice.len == 0)
        return drop(slice, 0);
    GM_ASSERT(slice.buf != NULL && slice.len <= gm_stream_room(stream));
    GM_ASSERT(slice.buf->home->ring == gm_ring_self || slice.len <= GM_FRAME_PAYLOAD_MAX);
    uint32_t len = slice.len;
    if (gm_chain_push(&stream->queue, stream->mux->segs, slice) < 0)
        return drop(slice, -GM_E_NOMEM);
    stream->data_bytes += len;
    mux_schedule(stream);
    return 0;
}

int gm_stream_trailers(struct gm_stream *stream, gm_slice trailers)
{
    if (stream->out == GM_DIR_BODY && (stream->flags & GM_STREAM_STOP_RECEIVED) != 0) {
        gm_stream_end(stream);
        return drop(trailers, -GM_E_CLOSED);
    }
    if (!allowed(stream, GM_STREAM_OUT_END))
        return drop(trailers, -GM_E_CLOSED);
    if (stream->mux->old != NULL)
        return mux_old_trailers(stream, trailers);
    trailers = wrap(stream, GM_FRAME_TRAILERS, trailers, true);
    uint32_t len = trailers.len;
    if (gm_chain_push(&stream->queue, stream->mux->segs, trailers) < 0) {
        stream->out = GM_DIR_BODY; /* not ended: the owner resets */
        return drop(trailers, -GM_E_NOMEM);
    }
    stream->trailer_bytes = len;
    stream->flags |= GM_STREAM_END_ON_BLOCK;
    mux_schedule(stream);
    return 0;
}

void gm_stream_end(struct gm_stream *stream)
{
    if (allowed(stream, GM_STREAM_OUT_END))
        mux_schedule(stream);
}

void gm_stream_reset(struct gm_stream *stream, uint16_t reason, uint16_t flags)
{
    if (allowed(stream, GM_STREAM_OUT_RESET))
        mux_apply_reset(stream, reason, flags);
}

void gm_stream_stop(struct gm_stream *stream, uint16_t reason)
{
    if (!allowed(stream, GM_STREAM_OUT_STOP))
        return;
    if (stream->mux->old != NULL && stream->mux->role == GM_MUX_AGENT)
        return; /* what still comes is dropped: 0.0.x cannot be told */
    stream->stop_reason = reason;
    stream->flags &= (uint16_t)~GM_STREAM_PENDING_CREDIT;
    stream->grant_pending = 0;
    mux_pend(stream, GM_STREAM_PENDING_STOP);
}

static void grant(struct gm_stream *stream, uint32_t bytes)
{
    if (stream->mux->old != NULL)
        return; /* 0.0.x knows no credit: the window alone has changed */
    stream->grant_pending += bytes;
    mux_pend(stream, GM_STREAM_PENDING_CREDIT);
}

static bool reserve_more(void *arg, uint32_t bytes)
{
    struct gm_mux *mux = arg;
    return mux->ops->reserve(mux, bytes);
}

void gm_stream_drained(struct gm_stream *stream, uint32_t bytes, uint64_t now_ns)
{
    if (!allowed(stream, GM_STREAM_OUT_GRANT))
        return;
    struct gm_window_env env = {now_ns, stream->mux->rtt_ns, reserve_more, stream->mux};
    uint32_t delta = gm_window_drain(&stream->window, bytes, &env);
    if (delta > 0)
        grant(stream, delta);
}

void gm_stream_grant(struct gm_stream *stream, uint32_t bytes)
{
    /* The window counts what was reserved, whether or not there is still anyone to tell. */
    gm_window_widen(&stream->window, bytes);
    if (bytes > 0 && allowed(stream, GM_STREAM_OUT_GRANT))
        grant(stream, bytes);
}

void gm_stream_regrant(struct gm_stream *stream, uint32_t bytes)
{
    gm_window_regrant(&stream->window, bytes);
    if (bytes > 0 && allowed(stream, GM_STREAM_OUT_GRANT))
        grant(stream, bytes);
}
