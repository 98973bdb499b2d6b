/* The state machine of a stream (frame/PROTOCOL.md section 4). Owner: the link's ring; called by
 * the mux alone. */
#include "stream/stream.h"

#include "base/assert.h"

void gm_stream_begin(struct gm_stream *stream, const struct gm_stream_begin *begin)
{
    GM_ASSERT(!gm_stream_in_use(stream) && stream->queue.bytes == 0);
    stream->user = NULL;
    stream->head_bytes = stream->data_bytes = stream->trailer_bytes = 0;
    stream->send_credit = begin->send_credit;
    stream->grant_pending = 0;
    stream->flags &= GM_STREAM_SEEN;
    stream->in = (uint8_t)begin->in;
    stream->out = (uint8_t)begin->out;
    gm_window_init(&stream->window, begin->window);
}

static bool marked(const struct gm_stream *stream, unsigned flags)
{
    return (stream->flags & flags) != 0;
}

/* A legal answer to an owner's call in state `legal`; nothing once the stream was reset. */
static enum gm_stream_verdict allow(const struct gm_stream *stream, bool legal)
{
    if (marked(stream, GM_STREAM_DETACHED))
        return GM_STREAM_IGNORE;
    return legal ? GM_STREAM_ACCEPT : GM_STREAM_MISUSE;
}

/* Judges a HEAD, DATA or TRAILERS of the peer that is legal in state `legal`. */
static enum gm_stream_verdict judge(const struct gm_stream *stream, bool legal)
{
    if (stream->in >= GM_DIR_ENDED)
        return GM_STREAM_FATAL;
    if (marked(stream, GM_STREAM_DETACHED))
        return GM_STREAM_IGNORE;
    return legal ? GM_STREAM_ACCEPT : GM_STREAM_VIOLATE;
}

/* The peer's body: what we have stopped is legal and dropped. */
static enum gm_stream_verdict judge_body(const struct gm_stream *stream)
{
    bool legal = stream->in == GM_DIR_BODY && !marked(stream, GM_STREAM_HAD_TRAILERS);
    enum gm_stream_verdict verdict = judge(stream, legal);
    if (verdict == GM_STREAM_ACCEPT && marked(stream, GM_STREAM_STOP_SENT))
        return GM_STREAM_IGNORE;
    return verdict;
}

/* END is final whatever it ends: an answer without a final HEAD is a violation, unless we had
 * stopped it. */
static enum gm_stream_verdict end_in(struct gm_stream *stream)
{
    bool legal = stream->in == GM_DIR_BODY || marked(stream, GM_STREAM_STOP_SENT);
    enum gm_stream_verdict verdict = judge(stream, legal);
    if (verdict != GM_STREAM_FATAL)
        stream->in = GM_DIR_ENDED;
    return verdict;
}

static enum gm_stream_verdict reset_in(struct gm_stream *stream)
{
    enum gm_stream_verdict verdict = judge(stream, true);
    if (verdict == GM_STREAM_FATAL)
        return verdict;
    stream->in = GM_DIR_RESET;
    stream->flags |= GM_STREAM_DETACHED;
    if (stream->out < GM_DIR_RESETTING)
        stream->out = GM_DIR_RESETTING; /* the echo */
    return verdict;
}

static enum gm_stream_verdict reset_out(struct gm_stream *stream)
{
    if (marked(stream, GM_STREAM_DETACHED))
        return GM_STREAM_IGNORE;
    stream->flags |= GM_STREAM_DETACHED;
    if (stream->out < GM_DIR_RESETTING)
        stream->out = GM_DIR_RESETTING;
    return GM_STREAM_ACCEPT;
}

/* STOP and CREDIT of the peer concern our direction; they mean nothing once it is over. */
static enum gm_stream_verdict stop_in(struct gm_stream *stream)
{
    if (stream->out >= GM_DIR_RESETTING ||
        marked(stream, GM_STREAM_STOP_RECEIVED | GM_STREAM_DETACHED))
        return GM_STREAM_IGNORE;
    stream->flags |= GM_STREAM_STOP_RECEIVED;
    return GM_STREAM_ACCEPT;
}

static enum gm_stream_verdict end_out(struct gm_stream *stream)
{
    bool stopped_headless = stream->out == GM_DIR_HEAD && marked(stream, GM_STREAM_STOP_RECEIVED);
    enum gm_stream_verdict verdict = allow(stream, stream->out == GM_DIR_BODY || stopped_headless);
    if (verdict == GM_STREAM_ACCEPT)
        stream->out = GM_DIR_ENDING;
    return verdict;
}

/* STOP and grants of ours concern the peer's direction. */
static enum gm_stream_verdict about_in(const struct gm_stream *stream)
{
    bool over =
        stream->in >= GM_DIR_ENDED || marked(stream, GM_STREAM_STOP_SENT | GM_STREAM_DETACHED);
    return over ? GM_STREAM_IGNORE : GM_STREAM_ACCEPT;
}

static enum gm_stream_verdict sent(struct gm_stream *stream, enum gm_dir from, enum gm_dir to)
{
    if (stream->out != from)
        return GM_STREAM_MISUSE;
    stream->out = (uint8_t)to;
    return GM_STREAM_ACCEPT;
}

enum gm_stream_verdict gm_stream_step(struct gm_stream *stream, enum gm_stream_event event)
{
    enum gm_stream_verdict verdict = GM_STREAM_MISUSE;
    GM_ASSERT(gm_stream_in_use(stream));
    switch (event) {
    case GM_STREAM_IN_INTERIM:
        return judge(stream, stream->in == GM_DIR_HEAD);
    case GM_STREAM_IN_HEAD:
        verdict = judge(stream, stream->in == GM_DIR_HEAD);
        if (verdict == GM_STREAM_ACCEPT)
            stream->in = GM_DIR_BODY;
        return verdict;
    case GM_STREAM_IN_DATA:
        return judge_body(stream);
    case GM_STREAM_IN_TRAILERS:
        verdict = judge_body(stream);
        if (verdict < GM_STREAM_VIOLATE)
            stream->flags |= GM_STREAM_HAD_TRAILERS;
        return verdict;
    case GM_STREAM_IN_END:
        return end_in(stream);
    case GM_STREAM_IN_RESET:
        return reset_in(stream);
    case GM_STREAM_IN_STOP:
        return stop_in(stream);
    case GM_STREAM_IN_CREDIT:
        if (stream->out >= GM_DIR_ENDING || marked(stream, GM_STREAM_STOP_RECEIVED))
            return GM_STREAM_IGNORE;
        return GM_STREAM_ACCEPT;
    case GM_STREAM_OUT_INTERIM:
        return allow(stream, stream->out == GM_DIR_HEAD);
    case GM_STREAM_OUT_HEAD:
        verdict = allow(stream, stream->out == GM_DIR_HEAD);
        if (verdict == GM_STREAM_ACCEPT)
            stream->out = GM_DIR_BODY;
        return verdict;
    case GM_STREAM_OUT_DATA:
        verdict = allow(stream, stream->out == GM_DIR_BODY);
        if (verdict == GM_STREAM_ACCEPT && marked(stream, GM_STREAM_STOP_RECEIVED))
            return GM_STREAM_IGNORE;
        return verdict;
    case GM_STREAM_OUT_END:
        return end_out(stream);
    case GM_STREAM_OUT_RESET:
        return reset_out(stream);
    case GM_STREAM_OUT_STOP:
        verdict = about_in(stream);
        stream->flags |= GM_STREAM_STOP_SENT;
        return verdict;
    case GM_STREAM_OUT_GRANT:
        return about_in(stream);
    case GM_STREAM_SENT_END:
        return sent(stream, GM_DIR_ENDING, GM_DIR_ENDED);
    case GM_STREAM_SENT_RESET:
        return sent(stream, GM_DIR_RESETTING, GM_DIR_RESET);
    case GM_STREAM_EVENT_COUNT:
        break;
    }
    return verdict;
}
