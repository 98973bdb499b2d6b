/* Native frames, inbound: the feed (frame/PROTOCOL.md sections 3 to 5). Owner: the link's ring.
 *
 * The frame reader gives pieces of units. What happens to a unit is decided at its first piece and
 * kept in unit_stream (NULL: skipped); END_STREAM is acted on at its last piece, whether or not the
 * unit was skipped. A stream cannot close while one of its units is under way, since its own
 * direction is then still open. Faults of the link end in fault(), faults of a stream in
 * mux_fail(). */
#include "codec/internal.h"

#include <string.h>

struct feed {
    struct gm_mux *mux;
    gm_slice slice; /* the input; pieces point into it */
    const struct gm_frame_event *event;
};

static int fault(struct gm_mux *mux, uint16_t reason, const char *text)
{
    mux->flags |= MUX_ENDED;
    mux->fault_reason = reason;
    mux->fault_text = text;
    return -GM_E_PROTOCOL;
}

static int protocol_fault(struct gm_mux *mux, const char *text)
{
    return fault(mux, GM_REASON_PROTOCOL_ERROR, text);
}

/* --- Which stream? --- */

enum found {
    FOUND,      /* in use */
    FOUND_LATE, /* a generation that has ended: ignored */
    FOUND_FAULT /* was never opened */
};

static enum found find_stream(struct gm_mux *mux, uint32_t id, struct gm_stream **out)
{
    uint16_t slot = gm_frame_slot(id);
    if (slot > mux->touched)
        return FOUND_FAULT;
    struct gm_stream *stream = mux_slot(mux, slot);
    if ((stream->flags & GM_STREAM_SEEN) == 0)
        return FOUND_FAULT;
    /* A server's OPEN that has not left yet already bears the next generation: the newest one on
     * the wire is the one before. */
    bool opened = gm_stream_in_use(stream) && (stream->flags & GM_STREAM_OPENED) != 0;
    uint16_t newest = gm_frame_generation(stream->id);
    if (gm_stream_in_use(stream) && !opened)
        newest--;
    int16_t ahead = (int16_t)(uint16_t)(gm_frame_generation(id) - newest);
    if (ahead > 0)
        return FOUND_FAULT;
    *out = stream;
    return ahead == 0 && opened ? FOUND : FOUND_LATE;
}

static int late(struct gm_mux *mux)
{
    mux->stats.late_frames++;
    return 0;
}

/* --- Blocks: HELLO, READY, NOTE, OPEN, HEAD, TRAILERS. --- */

static void drop_gathered(struct gm_mux *mux)
{
    if (mux->gathered != NULL)
        gm_buf_put(mux->gathered);
    mux->gathered = NULL;
}

/* Bytes in front of the block proper. */
static uint32_t prefix_of(uint8_t type)
{
    return type == GM_FRAME_OPEN ? GM_FRAME_OPEN_PREFIX_LEN : 0u;
}

/* The most a unit of this type may hold; greetings and notes are bounded by their frame.
 */
static uint32_t block_max(const struct gm_mux *mux, uint8_t type)
{
    bool single = type == GM_FRAME_HELLO || type == GM_FRAME_READY || type == GM_FRAME_NOTE;
    return single ? GM_FRAME_PAYLOAD_MAX : mux->head_max + prefix_of(type);
}

/* Copies a piece of a block that straddles. Returns the reason for which it cannot be held,
 * GM_REASON_NONE for none. */
static uint16_t gather(struct gm_mux *mux, const struct gm_frame_event *event)
{
    uint32_t max = block_max(mux, event->type);
    if (mux->gathered == NULL) {
        bool more = (event->flags & GM_FRAME_FLAG_MORE) != 0;
        if (!more && event->length > max)
            return GM_REASON_HEADER_TOO_LARGE;
        uint32_t need = more ? max : event->length;
        mux->gathered = mux->ops->gather(mux, need);
        if (mux->gathered == NULL)
            return GM_REASON_OVERLOAD;
        GM_ASSERT(mux->gathered->size >= need);
    }
    if (event->offset + event->data_len > max)
        return GM_REASON_HEADER_TOO_LARGE;
    memcpy(mux->gathered->data + event->offset, event->data, event->data_len);
    return GM_REASON_NONE;
}

/* The whole unit, borrowed: from the gathered block, or in the input itself when it lies there in
 * one piece. */
static gm_slice whole_block(const struct feed *feed)
{
    const struct gm_frame_event *event = feed->event;
    struct gm_buf *gathered = feed->mux->gathered;
    if (gathered != NULL)
        return (gm_slice){gathered->data, event->offset + event->data_len, gathered};
    return (gm_slice){feed->slice.data + (event->data - feed->slice.data), event->data_len,
                      feed->slice.buf};
}

/* Takes a piece of a block in. Returns true when `block` holds it whole; *reason is not NONE when
 * it cannot be held. */
static bool collect(const struct feed *feed, gm_slice *block, uint16_t *reason)
{
    const struct gm_frame_event *event = feed->event;
    *reason = GM_REASON_NONE;
    bool last = (event->mark & GM_FRAME_LAST) != 0;
    if (last && (event->mark & GM_FRAME_FIRST) != 0) {
        if (event->data_len > block_max(feed->mux, event->type))
            *reason = GM_REASON_HEADER_TOO_LARGE;
    } else {
        *reason = gather(feed->mux, event);
    }
    if (!last || *reason != GM_REASON_NONE)
        return false;
    *block = whole_block(feed);
    return true;
}

static int feed_greeting(struct feed *feed)
{
    struct gm_mux *mux = feed->mux;
    uint8_t expected = mux->role == GM_MUX_SERVER ? GM_FRAME_READY : GM_FRAME_HELLO;
    bool early = mux->role == GM_MUX_SERVER && (mux->flags & MUX_GREET_SENT) == 0;
    if (feed->event->type != expected || early || (mux->flags & MUX_GREET_RECEIVED) != 0)
        return protocol_fault(mux, "a greeting at the wrong end or time");
    gm_slice block;
    uint16_t reason;
    if (!collect(feed, &block, &reason))
        return reason == GM_REASON_NONE ? 0 : fault(mux, reason, "no memory for the greeting");
    mux->flags |= MUX_GREET_RECEIVED;
    int error = mux->ops->on_hello(mux, block.data, block.len);
    drop_gathered(mux);
    return error < 0 ? protocol_fault(mux, "an unusable greeting") : 0;
}

/* A note that cannot be held is lost: whoever sent it repeats what matters. */
static int feed_note(struct feed *feed)
{
    struct gm_mux *mux = feed->mux;
    gm_slice block;
    uint16_t reason = GM_REASON_NONE;
    if ((feed->event->mark & GM_FRAME_FIRST) != 0)
        mux->unit_skip = false;
    if (!mux->unit_skip && collect(feed, &block, &reason) && block.len > 0)
        mux->ops->on_note(mux, block.data, block.len);
    if (reason != GM_REASON_NONE)
        mux->unit_skip = true;
    if (mux->unit_skip || (feed->event->mark & GM_FRAME_LAST) != 0)
        drop_gathered(mux);
    if ((feed->event->mark & GM_FRAME_LAST) != 0)
        mux->unit_skip = false;
    return 0;
}

/* --- The final frame of the peer. --- */

static void end_in(struct gm_stream *stream)
{
    switch (gm_stream_step(stream, GM_STREAM_IN_END)) {
    case GM_STREAM_ACCEPT:
        stream->mux->ops->on_end(stream);
        break;
    case GM_STREAM_VIOLATE:
        mux_fail(stream, GM_REASON_PROTOCOL_ERROR, 0);
        break;
    default:
        break; /* reset by us before */
    }
    mux_close_if_done(stream);
}

/* After a unit's last piece. */
static void finish_unit(const struct feed *feed)
{
    struct gm_stream *stream = feed->mux->unit_stream;
    drop_gathered(feed->mux);
    feed->mux->unit_stream = NULL;
    feed->mux->unit_skip = false;
    if (stream != NULL && (feed->event->flags & GM_FRAME_FLAG_END_STREAM) != 0)
        end_in(stream);
}

/* --- OPEN. --- */

/* Puts the slot in use, or says what is wrong with the OPEN. */
static int begin_open(struct feed *feed)
{
    struct gm_mux *mux = feed->mux;
    uint32_t id = feed->event->stream;
    uint16_t slot = gm_frame_slot(id);
    if (mux->role != GM_MUX_AGENT || (mux->flags & MUX_GREET_SENT) == 0)
        return protocol_fault(mux, "OPEN at the wrong end or before READY");
    if ((mux->flags & MUX_PEER_NO_OPENS) != 0)
        return protocol_fault(mux, "OPEN after DRAIN or DRAIN_ACK");
    if (slot > mux->stream_limit)
        return protocol_fault(mux, "OPEN of a slot above stream_limit");
    struct gm_stream *stream = mux_slot(mux, slot);
    if (stream->mux == NULL)
        mux_slot_init(mux, slot);
    bool seen = (stream->flags & GM_STREAM_SEEN) != 0;
    uint16_t next = seen ? (uint16_t)(gm_frame_generation(stream->id) + 1u) : 0u;
    if (gm_stream_in_use(stream) || gm_frame_generation(id) != next)
        return protocol_fault(mux, "OPEN of a stream that is not its slot's next");

    gm_list_remove(&stream->node); /* from the list of free slots */
    stream->id = id;
    struct gm_stream_begin begin = {GM_DIR_BODY, GM_DIR_HEAD, 0, mux->window};
    gm_stream_begin(stream, &begin);
    stream->flags |= GM_STREAM_OPENED | GM_STREAM_SEEN | GM_STREAM_HIDDEN;
    mux->open_count++;
    mux->stats.streams_opened++;
    mux->unit_stream = stream;
    mux->unit_skip = false;
    return 0;
}

static int finish_open(struct feed *feed, gm_slice block)
{
    struct gm_mux *mux = feed->mux;
    struct gm_stream *stream = mux->unit_stream;
    if (block.len < GM_FRAME_OPEN_PREFIX_LEN)
        return protocol_fault(mux, "OPEN without a window");
    uint32_t credit = gm_frame_get_u32(block.data);
    if (credit > GM_FRAME_CREDIT_MAX) {
        mux_fail(stream, GM_REASON_FLOW_CONTROL, GM_FRAME_RESET_UNTOUCHED);
        return 0;
    }
    stream->send_credit = credit;
    stream->flags &= (uint16_t)~GM_STREAM_HIDDEN;
    block.data += GM_FRAME_OPEN_PREFIX_LEN;
    block.len -= GM_FRAME_OPEN_PREFIX_LEN;
    mux->ops->on_open(stream, block, (feed->event->flags & GM_FRAME_FLAG_END_STREAM) != 0);
    return 0;
}

static int feed_open(struct feed *feed)
{
    struct gm_mux *mux = feed->mux;
    int error = 0;
    if ((feed->event->mark & GM_FRAME_FIRST) != 0)
        error = begin_open(feed);
    if (error < 0)
        return error;
    gm_slice block;
    uint16_t reason = GM_REASON_NONE;
    if (!mux->unit_skip && collect(feed, &block, &reason))
        error = finish_open(feed, block);
    if (reason != GM_REASON_NONE) {
        mux_fail(mux->unit_stream, reason, GM_FRAME_RESET_UNTOUCHED);
        mux->unit_skip = true;
        drop_gathered(mux);
    }
    if (error == 0 && (feed->event->mark & GM_FRAME_LAST) != 0)
        finish_unit(feed);
    return error;
}

/* --- HEAD and TRAILERS. --- */

/* Finds the stream of a unit's first piece. 1: it is in use; 0: late, the unit is skipped;
 * negative: fault. */
static int begin_unit(struct feed *feed)
{
    struct gm_mux *mux = feed->mux;
    mux->unit_skip = true;
    mux->unit_stream = NULL;
    struct gm_stream *stream = NULL;
    switch (find_stream(mux, feed->event->stream, &stream)) {
    case FOUND_FAULT:
        return protocol_fault(mux, "a frame for a stream that was never opened");
    case FOUND_LATE:
        return late(mux);
    case FOUND:
        break;
    }
    mux->unit_stream = stream;
    mux->unit_skip = false;
    return 1;
}

/* Acts on the verdict over a unit: the rest of it is skipped unless it is accepted. */
static int judge_unit(struct feed *feed, enum gm_stream_verdict verdict)
{
    struct gm_mux *mux = feed->mux;
    mux->unit_skip = verdict != GM_STREAM_ACCEPT;
    if (verdict == GM_STREAM_FATAL)
        return protocol_fault(mux, "a frame after the final frame of its direction");
    if (verdict == GM_STREAM_VIOLATE)
        mux_fail(mux->unit_stream, GM_REASON_PROTOCOL_ERROR, 0);
    if (verdict == GM_STREAM_IGNORE)
        mux->stats.late_frames++;
    return 0;
}

/* A whole HEAD. Its status tells whether it is the final one; END_STREAM on a 1xx is a violation.
 */
static void finish_head(struct feed *feed, gm_slice block)
{
    struct gm_mux *mux = feed->mux;
    struct gm_stream *stream = mux->unit_stream;
    bool end = (feed->event->flags & GM_FRAME_FLAG_END_STREAM) != 0;
    bool readable = block.len >= GM_MUX_STATUS_END;
    bool interim = readable && gm_mux_is_interim(block.data);
    enum gm_stream_verdict verdict =
        gm_stream_step(stream, interim ? GM_STREAM_IN_INTERIM : GM_STREAM_IN_HEAD);
    if (verdict == GM_STREAM_ACCEPT && (!readable || (interim && end)))
        verdict = GM_STREAM_VIOLATE;
    if (verdict == GM_STREAM_ACCEPT)
        mux->ops->on_head(stream, block, end);
    else if (verdict == GM_STREAM_VIOLATE)
        mux_fail(stream, GM_REASON_PROTOCOL_ERROR, 0);
}

/* The first piece: may such a unit come at all? HEAD is judged when its status is known; here only
 * whether the direction is open. */
static int begin_block(struct feed *feed)
{
    struct gm_mux *mux = feed->mux;
    bool head = feed->event->type == GM_FRAME_HEAD;
    if (head && mux->role != GM_MUX_SERVER)
        return protocol_fault(mux, "HEAD from the server");
    int found = begin_unit(feed);
    if (found <= 0)
        return found;
    struct gm_stream *stream = mux->unit_stream;
    if (!head)
        return judge_unit(feed, gm_stream_step(stream, GM_STREAM_IN_TRAILERS));
    if (stream->in >= GM_DIR_ENDED)
        return judge_unit(feed, GM_STREAM_FATAL);
    if ((stream->flags & GM_STREAM_DETACHED) != 0)
        return judge_unit(feed, GM_STREAM_IGNORE);
    return 0;
}

static int feed_block(struct feed *feed)
{
    struct gm_mux *mux = feed->mux;
    int error = 0;
    if ((feed->event->mark & GM_FRAME_FIRST) != 0)
        error = begin_block(feed);
    if (error < 0)
        return error;
    gm_slice block;
    uint16_t reason = GM_REASON_NONE;
    struct gm_stream *stream = mux->unit_stream;
    if (!mux->unit_skip && collect(feed, &block, &reason)) {
        if (feed->event->type == GM_FRAME_HEAD)
            finish_head(feed, block);
        else if ((stream->flags & (GM_STREAM_DETACHED | GM_STREAM_STOP_SENT)) == 0)
            mux->ops->on_trailers(stream, block);
    }
    if (reason != GM_REASON_NONE) {
        mux_fail(stream, reason, 0);
        mux->unit_skip = true;
        drop_gathered(mux);
    }
    if ((feed->event->mark & GM_FRAME_LAST) != 0)
        finish_unit(feed);
    return 0;
}

/* --- DATA. --- */

/* The frame's header: its length is charged at once, so that a frame is taken whole or not at all.
 */
static int begin_data(struct feed *feed)
{
    struct gm_mux *mux = feed->mux;
    int found = begin_unit(feed);
    if (found <= 0)
        return found;
    struct gm_stream *stream = mux->unit_stream;
    enum gm_stream_verdict verdict = gm_stream_step(stream, GM_STREAM_IN_DATA);
    int error = judge_unit(feed, verdict);
    if (error < 0 || verdict == GM_STREAM_VIOLATE)
        return error;
    if (!gm_window_receive(&stream->window, feed->event->length)) {
        mux_fail(stream, GM_REASON_FLOW_CONTROL, 0); /* ignored when we have reset it already */
        mux->unit_skip = true;
    }
    return 0;
}

static int feed_data(struct feed *feed)
{
    struct gm_mux *mux = feed->mux;
    const struct gm_frame_event *event = feed->event;
    int error = 0;
    if ((event->mark & GM_FRAME_FIRST) != 0)
        error = begin_data(feed);
    if (error < 0)
        return error;
    struct gm_stream *stream = mux->unit_stream;
    bool wanted =
        !mux->unit_skip && (stream->flags & (GM_STREAM_DETACHED | GM_STREAM_STOP_SENT)) == 0;
    mux->stats.data_bytes_in += event->data_len;
    if (!wanted) {
        mux->stats.dropped_bytes += event->data_len;
    } else if (event->data_len > 0) {
        gm_slice piece = {feed->slice.data + (event->data - feed->slice.data), event->data_len,
                          feed->slice.buf};
        mux->ops->on_data(stream, gm_slice_ref(piece));
    }
    if ((event->mark & GM_FRAME_LAST) != 0)
        finish_unit(feed);
    return 0;
}

/* --- Control frames. --- */

static void credit_in(struct gm_stream *stream, uint32_t delta)
{
    if (gm_stream_step(stream, GM_STREAM_IN_CREDIT) != GM_STREAM_ACCEPT || delta == 0)
        return;
    stream->mux->stats.credits_in++;
    if (delta > GM_FRAME_CREDIT_MAX - stream->send_credit) {
        mux_fail(stream, GM_REASON_FLOW_CONTROL, 0);
        return;
    }
    stream->send_credit += delta;
    stream->mux->ops->on_credit(stream, delta);
}

static void stop_in(struct gm_stream *stream, uint16_t reason)
{
    if (gm_stream_step(stream, GM_STREAM_IN_STOP) != GM_STREAM_ACCEPT)
        return;
    mux_schedule(stream); /* drops the body */
    stream->mux->ops->on_stop(stream, reason);
}

static int reset_in(struct gm_stream *stream, const uint8_t *payload)
{
    struct gm_mux *mux = stream->mux;
    uint16_t reason = gm_frame_get_u16(payload);
    uint16_t flags = gm_frame_get_u16(payload + 2) & GM_FRAME_RESET_UNTOUCHED;
    enum gm_stream_verdict verdict = gm_stream_step(stream, GM_STREAM_IN_RESET);
    if (verdict == GM_STREAM_FATAL)
        return protocol_fault(mux, "RESET after the final frame of its direction");
    mux->stats.resets_in++;
    mux_apply_reset(stream, reason, 0);
    if (verdict == GM_STREAM_ACCEPT)
        mux->ops->on_reset(stream, reason, mux->role == GM_MUX_SERVER ? flags : 0);
    mux_close_if_done(stream);
    return 0;
}

static int feed_stream_control(struct feed *feed)
{
    struct gm_mux *mux = feed->mux;
    const struct gm_frame_event *event = feed->event;
    int found = begin_unit(feed);
    if (found <= 0)
        return found;
    struct gm_stream *stream = mux->unit_stream;
    mux->unit_stream = NULL;
    switch (event->type) {
    case GM_FRAME_CREDIT:
        credit_in(stream, gm_frame_get_u32(event->data));
        return 0;
    case GM_FRAME_STOP:
        stop_in(stream, gm_frame_get_u16(event->data));
        return 0;
    case GM_FRAME_RESET:
        return reset_in(stream, event->data);
    default:
        if (stream->in >= GM_DIR_ENDED)
            return protocol_fault(mux, "END after the final frame of its direction");
        end_in(stream);
        return 0;
    }
}

static int feed_link_control(struct feed *feed)
{
    struct gm_mux *mux = feed->mux;
    switch (feed->event->type) {
    case GM_FRAME_PING:
        memcpy(mux->pong, feed->event->data,
               GM_FRAME_PING_LEN); /* only the newest is answered (section 11) */
        mux->flags |= MUX_PONG;
        break;
    case GM_FRAME_PONG:
        mux->ops->on_pong(mux, feed->event->data);
        break;
    case GM_FRAME_DRAIN: {
        bool first = (mux->flags & MUX_PEER_DRAINING) == 0;
        mux->flags |= MUX_DRAIN_ACK | MUX_PEER_DRAINING;
        if (mux->role == GM_MUX_AGENT)
            mux->flags |= MUX_PEER_NO_OPENS;
        if (first)
            mux->ops->on_drain(mux);
        break;
    }
    default: /* DRAIN_ACK; one that nobody asked for, or a second one, means nothing */
        if ((mux->flags & MUX_DRAINING) == 0 || (mux->flags & MUX_DRAIN_ACKED) != 0)
            break;
        mux->flags |= MUX_DRAIN_ACKED;
        if (mux->role == GM_MUX_AGENT)
            mux->flags |= MUX_PEER_NO_OPENS;
        mux->ops->on_drain_ack(mux);
        break;
    }
    return 0;
}

/* --- The feed. --- */

static int dispatch(struct feed *feed)
{
    struct gm_mux *mux = feed->mux;
    uint8_t type = feed->event->type;
    if (type == GM_FRAME_HELLO || type == GM_FRAME_READY)
        return feed_greeting(feed);
    if ((mux->flags & MUX_GREET_RECEIVED) == 0)
        return protocol_fault(mux, "a frame before the greeting");
    switch (type) {
    case GM_FRAME_OPEN:
        return feed_open(feed);
    case GM_FRAME_HEAD:
    case GM_FRAME_TRAILERS:
        return feed_block(feed);
    case GM_FRAME_DATA:
        return feed_data(feed);
    case GM_FRAME_END:
    case GM_FRAME_RESET:
    case GM_FRAME_STOP:
    case GM_FRAME_CREDIT:
        return feed_stream_control(feed);
    case GM_FRAME_NOTE:
        return feed_note(feed);
    default:
        return feed_link_control(feed);
    }
}

static int feed_events(struct gm_mux *mux, gm_slice slice)
{
    struct gm_frame_event event;
    struct feed feed = {mux, slice, &event};
    const uint8_t *data = slice.data;
    size_t len = slice.len;
    for (;;) {
        int got = gm_frame_reader_next(&mux->reader, &data, &len, &event);
        if (got < 0)
            return protocol_fault(mux, gm_frame_fault_text(mux->reader.fault));
        if (got == 0)
            return 0;
        int error = dispatch(&feed);
        if (error < 0)
            return error;
    }
}

int gm_mux_feed(struct gm_mux *mux, uint64_t now_ns, gm_slice slice)
{
    GM_ASSERT((mux->flags & MUX_BUSY) == 0);
    int result = -GM_E_PROTOCOL;
    if ((mux->flags & MUX_ENDED) == 0) {
        mux->flags |= MUX_BUSY;
        mux->fed_ns = now_ns;
        result = feed_events(mux, slice);
        mux->stats.frames_in = mux->reader.frame_count;
        mux->stats.unknown_frames = mux->reader.unknown_count;
        mux->flags &= (uint16_t)~MUX_BUSY;
    }
    gm_slice_put(slice);
    return result;
}
