/* 0.0.x, inbound: one message, one frame, in any pieces. Owner: the link's ring.
 *
 * The header says what becomes of the rest: `state`, and unit_stream for frames of a stream in use
 * (NULL while skipping; a stream that closes in the middle of its message takes itself out). What
 * cannot be decoded, is unknown or comes too late is ignored, as 0.0.x does; what breaks a stream's
 * rules resets that stream. Nothing here ends the link. */
#include <string.h>

#include "codec/internal.h"
#include "codec/old_head.h"
#include "ws/ws.h"

struct piece {
    struct gm_mux *mux;
    gm_slice slice; /* what is left of the input */
    bool last;      /* the message ends with it */
};

static void skip(struct gm_mux *mux)
{
    mux->old->state = OLD_IN_SKIP;
    mux->unit_stream = NULL;
}

static void late(struct gm_mux *mux)
{
    mux->stats.late_frames++;
    skip(mux);
}

static bool detached(const struct gm_stream *stream)
{
    return (stream->flags & GM_STREAM_DETACHED) != 0;
}

/* Agent: the owner has not been told of it yet. */
static bool is_hidden(const struct gm_stream *stream)
{
    return (stream->flags & GM_STREAM_HIDDEN) != 0;
}

static void drop_gathered(struct gm_mux *mux)
{
    if (mux->gathered != NULL)
        gm_buf_put(mux->gathered);
    mux->gathered = NULL;
}

/* ---- Ends ---- */

/* The peer's direction is complete. */
static void end_in(struct gm_stream *stream)
{
    if (gm_stream_step(stream, GM_STREAM_IN_END) == GM_STREAM_ACCEPT)
        stream->mux->ops->on_end(stream);
    mux_close_if_done(stream);
}

/* The peer has given up the stream, for good: no word from it follows that matters. */
static void reset_in(struct gm_stream *stream, uint16_t reason)
{
    struct gm_mux *mux = stream->mux;
    enum gm_stream_verdict verdict = gm_stream_step(stream, GM_STREAM_IN_RESET);
    mux->stats.resets_in++;
    mux_apply_reset(stream, reason, 0);
    if (verdict == GM_STREAM_ACCEPT && !is_hidden(stream))
        mux->ops->on_reset(stream, reason, 0);
    mux_close_if_done(stream);
}

/* The peer wants no more of what we send. */
static void stop_in(struct gm_stream *stream, uint16_t reason)
{
    if (gm_stream_step(stream, GM_STREAM_IN_STOP) != GM_STREAM_ACCEPT)
        return;
    mux_schedule(stream); /* drops the body */
    stream->mux->ops->on_stop(stream, reason);
}

/* Server: the answer is whole, and the agent reads no more of the request. */
static void answered(struct gm_stream *stream)
{
    if (stream->out == GM_DIR_BODY)
        stop_in(stream, GM_REASON_NONE);
    end_in(stream);
}

/* Agent: nobody wants the answer, or the request has been answered. */
static void cancelled(struct gm_stream *stream)
{
    if (stream->in < GM_DIR_ENDED)
        reset_in(stream, GM_REASON_CANCELLED);
    else if (!is_hidden(stream))
        stop_in(stream, GM_REASON_CANCELLED);
}

/* ---- START: the text of a head ---- */

/* A block on this ring for what the text becomes. */
static struct gm_buf *block_for(struct gm_mux *mux, size_t text_len)
{
    return mux->ops->gather(mux, text_len + GM_OLD_BLOCK_ADDED);
}

/* Server: the answer's head. */
static void finish_answer_head(struct gm_stream *stream, const char *text, size_t len)
{
    struct gm_mux *mux = stream->mux;
    bool head_only = (old_side_of(stream)->flags & OLD_HEAD_ONLY) != 0;
    struct gm_buf *buf = block_for(mux, len);
    if (buf == NULL) {
        mux_fail(stream, GM_REASON_OVERLOAD, 0);
        return;
    }
    int got = gm_old_response_block(text, len, head_only, buf->data, buf->size);
    bool interim = got > 0 && gm_mux_is_interim(buf->data);
    enum gm_stream_verdict verdict =
        gm_stream_step(stream, interim ? GM_STREAM_IN_INTERIM : GM_STREAM_IN_HEAD);
    if (got < 0 && verdict == GM_STREAM_ACCEPT)
        mux_fail(stream, GM_REASON_BACKEND_PROTOCOL, 0);
    else if (verdict == GM_STREAM_ACCEPT)
        mux->ops->on_head(stream, (gm_slice){buf->data, (uint32_t)got, buf}, head_only && !interim);
    gm_buf_put(buf);
    /* The agent reads it as the answer to a GET, and would wait for a body that never comes. */
    if (verdict == GM_STREAM_ACCEPT && head_only && !interim && !detached(stream))
        answered(stream);
}

/* Agent: tells the owner of the request that was held back. */
static void reveal(struct gm_stream *stream, bool body)
{
    struct gm_mux *mux = stream->mux;
    struct old_side *side = old_side_of(stream);
    struct gm_buf *held = side->held;
    side->held = NULL;
    if (body)
        gm_old_block_body(held->data);
    stream->flags &= (uint16_t)~GM_STREAM_HIDDEN;
    mux->ops->on_open(stream, (gm_slice){held->data, side->held_len, held}, !body);
    gm_buf_put(held);
}

/* Agent: makes the request's block, and holds it. Its length, or why there is none. */
static int hold_block(struct gm_stream *stream, const char *text, size_t len,
                      struct gm_old_request *told)
{
    struct gm_mux *mux = stream->mux;
    struct old_side *side = old_side_of(stream);
    if (side->held != NULL)
        gm_buf_put(side->held);
    side->held = block_for(mux, len);
    return side->held == NULL
               ? -GM_E_NOMEM
               : gm_old_request_block(text, len, side->held->data, side->held->size, told);
}

/* Agent: the same of a head that is none because the server has decoded its target. */
static int hold_mended(struct gm_stream *stream, const char *text, size_t len,
                       struct gm_old_request *told)
{
    struct gm_mux *mux = stream->mux;
    struct gm_buf *buf = mux->ops->gather(mux, mux->head_max);
    if (buf == NULL)
        return -GM_E_NOMEM;
    int got = gm_old_request_mend(text, len, (char *)buf->data, mux->head_max);
    if (got > 0)
        got = hold_block(stream, (const char *)buf->data, (size_t)got, told);
    gm_buf_put(buf);
    return got != 0 ? got : -GM_E_PROTOCOL;
}

/* Agent: a request. One without a promised body waits for the next frame, which is END at once
 * unless a body follows that the server has stripped of its framing. */
static void finish_request_head(struct gm_stream *stream, const char *text, size_t len)
{
    struct old_side *side = old_side_of(stream);
    struct gm_old_request told;
    int got = hold_block(stream, text, len, &told);
    if (got == -GM_E_PROTOCOL)
        got = hold_mended(stream, text, len, &told);
    if (got < 0) {
        mux_fail(stream,
                 got == -GM_E_PROTOCOL ? GM_REASON_BAD_REQUEST
                 : got == -GM_E_LIMIT  ? GM_REASON_HEADER_TOO_LARGE
                 : got == -GM_E_NOMEM  ? GM_REASON_OVERLOAD
                                       : GM_REASON_NOT_IMPLEMENTED,
                 0);
        return;
    }
    side->held_len = (uint32_t)got;
    if (told.body)
        reveal(stream, true);
}

static void finish_start(struct piece *piece, const char *text, size_t len)
{
    struct gm_stream *stream = piece->mux->unit_stream;
    if (detached(stream))
        return;
    if (piece->mux->role == GM_MUX_SERVER)
        finish_answer_head(stream, text, len);
    else
        finish_request_head(stream, text, len);
}

/* Copies a piece of a head that straddles. */
static void gather(struct piece *piece)
{
    struct gm_mux *mux = piece->mux;
    struct gm_mux_old *old = mux->old;
    if (mux->gathered == NULL) {
        mux->gathered = mux->ops->gather(mux, mux->head_max);
        old->text_len = 0;
    }
    bool fits = mux->gathered != NULL && piece->slice.len <= mux->head_max - old->text_len;
    if (!fits) {
        mux_fail(mux->unit_stream,
                 mux->gathered == NULL        ? GM_REASON_OVERLOAD
                 : mux->role == GM_MUX_SERVER ? GM_REASON_BACKEND_PROTOCOL
                                              : GM_REASON_HEADER_TOO_LARGE,
                 0);
        drop_gathered(mux);
        skip(mux);
        return;
    }
    memcpy(mux->gathered->data + old->text_len, piece->slice.data, piece->slice.len);
    old->text_len += piece->slice.len;
}

static void feed_start(struct piece *piece)
{
    struct gm_mux *mux = piece->mux;
    if (piece->last && mux->gathered == NULL && piece->slice.len <= mux->head_max) {
        finish_start(piece, (const char *)piece->slice.data, piece->slice.len);
        return;
    }
    gather(piece);
    if (!piece->last || mux->gathered == NULL)
        return;
    finish_start(piece, (const char *)mux->gathered->data, mux->old->text_len);
    drop_gathered(mux);
}

/* ---- DATA ---- */

/* Gives what the window takes; the bytes taken. */
static uint32_t feed_data(struct piece *piece)
{
    struct gm_mux *mux = piece->mux;
    gm_slice slice = piece->slice;
    uint32_t used = 0;
    while (used < slice.len) {
        struct gm_stream *stream = mux->unit_stream;
        bool wanted =
            stream != NULL && (stream->flags & (GM_STREAM_DETACHED | GM_STREAM_STOP_SENT)) == 0;
        uint32_t left = slice.len - used;
        if (!wanted) {
            mux->stats.dropped_bytes += left;
            return slice.len;
        }
        uint32_t n = left < stream->window.credit ? left : stream->window.credit;
        if (n == 0) {
            mux->old->blocked = stream;
            return used;
        }
        bool fits = gm_window_receive(&stream->window, n);
        GM_ASSERT(fits);
        mux->stats.data_bytes_in += n;
        mux->ops->on_data(stream, gm_slice_ref((gm_slice){slice.data + used, n, slice.buf}));
        used += n;
    }
    return used;
}

/* ---- END, CANCEL ---- */

/* Text of an END: all of it says that there was an error, the first of it which. */
static void gather_said(struct gm_mux_old *old, gm_slice text)
{
    uint32_t room = sizeof old->said - old->said_len, n = text.len < room ? text.len : room;
    if (text.len == 0)
        return;
    memcpy(old->said + old->said_len, text.data, n);
    old->said_len = (uint8_t)(old->said_len + n);
    old->text_len = 1;
}

static void finish_end(struct gm_mux *mux)
{
    struct gm_stream *stream = mux->unit_stream;
    bool error = mux->old->text_len > 0;
    mux->unit_stream = NULL;
    if (mux->role == GM_MUX_SERVER) {
        if (error)
            reset_in(stream, GM_REASON_BACKEND_CLOSED);
        else if (stream->in == GM_DIR_HEAD && !detached(stream))
            reset_in(stream, GM_REASON_BACKEND_PROTOCOL);
        else
            answered(stream);
        return;
    }
    if (error) {
        reset_in(stream, GM_REASON_CANCELLED);
        return;
    }
    if (is_hidden(stream) && !detached(stream))
        reveal(stream, false);
    end_in(stream);
}

/* ---- Headers ---- */

static void refuse(struct gm_mux *mux, const uint8_t *id, uint8_t len)
{
    struct gm_mux_old *old = mux->old;
    if (old->refusal_count == OLD_REFUSALS_MAX)
        return; /* the server's own timeout ends it */
    struct old_refusal *refusal = &old->refusals[old->refusal_count++];
    memcpy(refusal->id, id, len);
    refusal->id_len = len;
}

/* Agent: a new stream, which nobody knows of before its head is whole. */
static void begin_request(struct gm_mux *mux, const uint8_t *id, uint8_t len)
{
    struct gm_stream_begin begin = {GM_DIR_BODY, GM_DIR_HEAD, GM_MUX_OLD_SEND_WINDOW, mux->window};
    if (len == 0) {
        late(mux);
        return;
    }
    struct gm_stream *stream = mux_begin(mux, &begin);
    if (stream == NULL) {
        refuse(mux, id, len);
        skip(mux);
        return;
    }
    gm_list_remove(&stream->node);
    stream->flags |= GM_STREAM_OPENED | GM_STREAM_SEEN | GM_STREAM_HIDDEN;
    old_enter(stream, id, len);
    mux->unit_stream = stream;
    mux->old->state = OLD_IN_START;
}

static void begin_data(struct gm_mux *mux, struct gm_stream *stream)
{
    if (mux->role == GM_MUX_AGENT && is_hidden(stream) && !detached(stream))
        reveal(stream, true);
    bool open =
        stream->in == GM_DIR_BODY && gm_stream_step(stream, GM_STREAM_IN_DATA) == GM_STREAM_ACCEPT;
    if (!open) {
        late(mux);
        return;
    }
    mux->unit_stream = stream;
    mux->old->state = OLD_IN_DATA;
}

/* The header is whole. */
static void begin_frame(struct gm_mux *mux)
{
    struct gm_mux_old *old = mux->old;
    const uint8_t *id = old->header + 5;
    uint8_t type = old->header[0], len = (uint8_t)(old->header_len - 5);
    bool server = mux->role == GM_MUX_SERVER;
    struct gm_stream *stream = old_find(mux, id, len);
    mux->stats.frames_in++;
    if (type == OLD_START && !server && stream == NULL) {
        begin_request(mux, id, len);
        return;
    }
    bool known = type >= OLD_START && type <= (server ? OLD_END : OLD_CANCEL);
    if (!known || stream == NULL) {
        mux->stats.unknown_frames += !known;
        mux->stats.late_frames += known;
        skip(mux);
        return;
    }
    if (type == OLD_DATA) {
        begin_data(mux, stream);
    } else if (type == OLD_CANCEL) {
        skip(mux);
        cancelled(stream);
    } else if (stream->in >= GM_DIR_ENDED ||
               (type == OLD_START && (!server || stream->in != GM_DIR_HEAD))) {
        late(mux);
    } else {
        mux->unit_stream = stream;
        old->text_len = 0;
        old->said_len = 0;
        old->state = type == OLD_START ? OLD_IN_START : OLD_IN_END;
    }
}

/* Takes what the header still needs; the bytes taken. Lengths are counted in 64 bits: four bytes of
 * the peer's cannot make them small. */
static uint32_t take_header(struct gm_mux *mux, const uint8_t *data, uint32_t len)
{
    struct gm_mux_old *old = mux->old;
    uint64_t need = 5;
    if (old->header_len >= 5)
        need += old_id_len(old->header);
    uint64_t more = need - old->header_len;
    uint32_t take = len < more ? len : (uint32_t)more;
    memcpy(old->header + old->header_len, data, take);
    old->header_len = (uint8_t)(old->header_len + take);
    if (old->header_len < 5 || take < more)
        return take;
    uint64_t id_len = old_id_len(old->header);
    if (id_len > OLD_ID_MAX)
        late(mux);
    else if (old->header_len == 5 + id_len)
        begin_frame(mux);
    return take;
}

/* ---- The feed ---- */

static uint32_t feed_rest(struct piece *piece)
{
    struct gm_mux *mux = piece->mux;
    struct gm_mux_old *old = mux->old;
    switch ((enum old_state)old->state) {
    case OLD_IN_DATA:
        return feed_data(piece);
    case OLD_IN_START:
        if (mux->unit_stream != NULL)
            feed_start(piece);
        break;
    case OLD_IN_END:
        gather_said(old, piece->slice);
        if (piece->last && mux->unit_stream != NULL)
            finish_end(mux);
        if (piece->last)
            old->said_len = 0;
        break;
    case OLD_IN_HEADER:
    case OLD_IN_SKIP:
        break;
    }
    return piece->slice.len;
}

uint32_t gm_mux_old_feed(struct gm_mux *mux, uint64_t now_ns, gm_slice slice, unsigned marks)
{
    struct gm_mux_old *old = mux->old;
    GM_ASSERT((mux->flags & (MUX_BUSY | MUX_ENDED)) == 0);
    mux->flags |= MUX_BUSY;
    mux->fed_ns = now_ns;
    old->blocked = NULL;
    if ((marks & GM_WS_FIRST) != 0) {
        drop_gathered(mux);
        mux->unit_stream = NULL;
        old->header_len = 0;
        old->state = OLD_IN_HEADER;
    }
    uint32_t used = 0;
    while (old->state == OLD_IN_HEADER && used < slice.len)
        used += take_header(mux, slice.data + used, slice.len - used);
    struct piece piece = {
        .mux = mux,
        .slice = {slice.data + used, slice.len - used, slice.buf},
        .last = (marks & GM_WS_LAST) != 0,
    };
    used += feed_rest(&piece);
    if (piece.last && used == slice.len) {
        mux->stats.unknown_frames += old->state == OLD_IN_HEADER;
        drop_gathered(mux);
        skip(mux);
    }
    mux->flags &= (uint16_t)~MUX_BUSY;
    return used;
}
