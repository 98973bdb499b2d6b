/* Frames: header codec and incremental reader (frame/PROTOCOL.md section 3).
 *
 * The reader is a small state machine: between frames it wants a header (type == 0), inside one it
 * wants `remaining` bytes. Only what the end of an input splits is copied: 8 header bytes, or a
 * control payload of at most 16. Everything that a header can be wrong about is judged in one
 * function, check_header(), before a payload byte is looked at.
 */
#include "frame/frame.h"

#include <string.h>

#include "base/assert.h"
#include "base/error.h"

GM_STATIC_ASSERT(GM_FRAME_HEADER_LEN <= GM_FRAME_CONTROL_MAX, "the scratch holds a header too");

/* What the protocol says of each type. `control_min` is the least payload of a control frame. */
struct type_rule {
    const char *name;
    uint8_t flags; /* RULE_… */
    uint8_t control_min;
};

#define RULE_LINK    0x01u /* stream 0; the others need a slot */
#define RULE_CONTROL 0x02u /* gathered and given whole */
#define RULE_BLOCK   0x04u /* may be continued by MORE */
#define RULE_END     0x08u /* END_STREAM means something */

static const struct type_rule rules[GM_FRAME_TYPE_COUNT] = {
    [GM_FRAME_HELLO] = {"HELLO", RULE_LINK, 0},
    [GM_FRAME_READY] = {"READY", RULE_LINK, 0},
    [GM_FRAME_OPEN] = {"OPEN", RULE_BLOCK | RULE_END, 0},
    [GM_FRAME_HEAD] = {"HEAD", RULE_BLOCK | RULE_END, 0},
    [GM_FRAME_DATA] = {"DATA", RULE_END, 0},
    [GM_FRAME_TRAILERS] = {"TRAILERS", RULE_BLOCK | RULE_END, 0},
    [GM_FRAME_END] = {"END", RULE_CONTROL, 0},
    [GM_FRAME_RESET] = {"RESET", RULE_CONTROL, 4},
    [GM_FRAME_STOP] = {"STOP", RULE_CONTROL, 2},
    [GM_FRAME_CREDIT] = {"CREDIT", RULE_CONTROL, 4},
    [GM_FRAME_PING] = {"PING", RULE_LINK | RULE_CONTROL, GM_FRAME_PING_LEN},
    [GM_FRAME_PONG] = {"PONG", RULE_LINK | RULE_CONTROL, GM_FRAME_PING_LEN},
    [GM_FRAME_DRAIN] = {"DRAIN", RULE_LINK | RULE_CONTROL, 0},
    [GM_FRAME_DRAIN_ACK] = {"DRAIN_ACK", RULE_LINK | RULE_CONTROL, 0},
    [GM_FRAME_NOTE] = {"NOTE", RULE_LINK, 0},
};

static bool type_known(uint8_t type)
{
    return type > 0 && type < GM_FRAME_TYPE_COUNT;
}

/* --- Writing --- */

size_t gm_frame_put_header(uint8_t *out, uint8_t type, uint8_t flags, uint16_t length,
                           uint32_t stream)
{
    GM_ASSERT(type != 0 && length <= GM_FRAME_PAYLOAD_MAX);
    out[0] = type;
    out[1] = flags;
    gm_frame_set_u16(out + 2, length);
    gm_frame_set_u32(out + 4, stream);
    return GM_FRAME_HEADER_LEN;
}

size_t gm_frame_put_end(uint8_t *out, uint32_t stream)
{
    return gm_frame_put_header(out, GM_FRAME_END, 0, 0, stream);
}

size_t gm_frame_put_reset(uint8_t *out, uint32_t stream, uint16_t reason, uint16_t reset_flags)
{
    uint8_t *payload = out + gm_frame_put_header(out, GM_FRAME_RESET, 0, 4, stream);
    gm_frame_set_u16(payload, reason);
    gm_frame_set_u16(payload + 2, reset_flags);
    return GM_FRAME_HEADER_LEN + 4;
}

size_t gm_frame_put_stop(uint8_t *out, uint32_t stream, uint16_t reason)
{
    uint8_t *payload = out + gm_frame_put_header(out, GM_FRAME_STOP, 0, 2, stream);
    gm_frame_set_u16(payload, reason);
    return GM_FRAME_HEADER_LEN + 2;
}

size_t gm_frame_put_credit(uint8_t *out, uint32_t stream, uint32_t delta)
{
    uint8_t *payload = out + gm_frame_put_header(out, GM_FRAME_CREDIT, 0, 4, stream);
    gm_frame_set_u32(payload, delta);
    return GM_FRAME_HEADER_LEN + 4;
}

size_t gm_frame_put_ping(uint8_t *out, uint8_t type, const uint8_t opaque[GM_FRAME_PING_LEN])
{
    GM_ASSERT(type == GM_FRAME_PING || type == GM_FRAME_PONG);
    uint8_t *payload = out + gm_frame_put_header(out, type, 0, GM_FRAME_PING_LEN, 0);
    memcpy(payload, opaque, GM_FRAME_PING_LEN);
    return GM_FRAME_HEADER_LEN + GM_FRAME_PING_LEN;
}

size_t gm_frame_put_drain(uint8_t *out, uint8_t type)
{
    GM_ASSERT(type == GM_FRAME_DRAIN || type == GM_FRAME_DRAIN_ACK);
    return gm_frame_put_header(out, type, 0, 0, 0);
}

static size_t frames_of(size_t payload_len)
{
    if (payload_len <= GM_FRAME_PAYLOAD_MAX)
        return 1;
    return (payload_len + GM_FRAME_PAYLOAD_MAX - 1) / GM_FRAME_PAYLOAD_MAX;
}

size_t gm_frame_block_size(size_t payload_len)
{
    return payload_len + frames_of(payload_len) * GM_FRAME_HEADER_LEN;
}

int gm_frame_block_wrap(uint8_t *buf, size_t cap, const struct gm_frame_block *block)
{
    GM_ASSERT(type_known(block->type) && (rules[block->type].flags & RULE_BLOCK) != 0);
    GM_ASSERT((block->flags & GM_FRAME_FLAG_MORE) == 0);
    size_t prefix = block->type == GM_FRAME_OPEN ? GM_FRAME_OPEN_PREFIX_LEN : 0;
    GM_ASSERT(block->payload_len <= GM_FRAME_BLOCK_MAX + prefix);
    size_t total = gm_frame_block_size(block->payload_len);
    if (total > cap)
        return -GM_E_LIMIT;

    /* From the last frame to the first: each part moves right by one header for every frame in
     * front of it, onto bytes already moved away. */
    uint8_t flags = block->flags;
    size_t left = block->payload_len;
    for (size_t i = frames_of(block->payload_len); i-- > 0;) {
        size_t start = i * GM_FRAME_PAYLOAD_MAX;
        size_t part = left - start;
        uint8_t *frame = buf + start + i * GM_FRAME_HEADER_LEN;
        memmove(frame + GM_FRAME_HEADER_LEN, buf + GM_FRAME_HEADER_LEN + start, part);
        gm_frame_put_header(frame, block->type, flags, (uint16_t)part, block->stream);
        flags = GM_FRAME_FLAG_MORE;
        left = start;
    }
    return (int)total;
}

/* --- Reading --- */

void gm_frame_reader_init(struct gm_frame_reader *reader)
{
    memset(reader, 0, sizeof(*reader));
}

bool gm_frame_reader_idle(const struct gm_frame_reader *reader)
{
    return reader->type == 0 && reader->scratch_len == 0 && reader->chain_type == 0 &&
           reader->fault == GM_FRAME_FAULT_NONE;
}

/* Judges a frame that continues, or may begin, a block. `reader` holds the header's fields. */
static enum gm_frame_fault check_block(const struct gm_frame_reader *reader)
{
    if (reader->flags & GM_FRAME_FLAG_MORE) {
        if ((reader->flags & GM_FRAME_FLAG_END_STREAM) || reader->length == 0)
            return GM_FRAME_FAULT_FLAGS;
    }
    size_t max =
        GM_FRAME_BLOCK_MAX + (reader->type == GM_FRAME_OPEN ? GM_FRAME_OPEN_PREFIX_LEN : 0);
    size_t before = reader->chain_type != 0 ? reader->unit_offset : 0;
    return before + reader->length > max ? GM_FRAME_FAULT_BLOCK : GM_FRAME_FAULT_NONE;
}

static enum gm_frame_fault check_header(const struct gm_frame_reader *reader)
{
    if (reader->type == 0)
        return GM_FRAME_FAULT_TYPE;
    if (reader->length > GM_FRAME_PAYLOAD_MAX)
        return GM_FRAME_FAULT_LENGTH;
    if (reader->chain_type != 0 &&
        (reader->type != reader->chain_type || reader->stream != reader->chain_stream))
        return GM_FRAME_FAULT_SEQUENCE;
    if (!type_known(reader->type))
        return GM_FRAME_FAULT_NONE;

    const struct type_rule *rule = &rules[reader->type];
    bool stream_right =
        (rule->flags & RULE_LINK) ? reader->stream == 0 : gm_frame_slot(reader->stream) != 0;
    if (!stream_right)
        return GM_FRAME_FAULT_STREAM;
    if ((rule->flags & RULE_CONTROL) &&
        (reader->length < rule->control_min || reader->length > GM_FRAME_CONTROL_MAX))
        return GM_FRAME_FAULT_CONTROL;
    return (rule->flags & RULE_BLOCK) ? check_block(reader) : GM_FRAME_FAULT_NONE;
}

/* Removes flags that mean nothing on this type, so that nobody above acts on them. */
static uint8_t known_flags(uint8_t type, uint8_t flags)
{
    uint8_t known = 0;
    if (rules[type].flags & RULE_END)
        known |= GM_FRAME_FLAG_END_STREAM;
    if (rules[type].flags & RULE_BLOCK)
        known |= GM_FRAME_FLAG_MORE;
    return flags & known;
}

/* Takes a header in; on success a frame is under way. */
static int begin_frame(struct gm_frame_reader *reader, const uint8_t *header)
{
    reader->type = header[0];
    reader->flags = header[1];
    reader->length = gm_frame_get_u16(header + 2);
    reader->stream = gm_frame_get_u32(header + 4);
    reader->scratch_len = 0;
    reader->fault = (uint8_t)check_header(reader);
    if (reader->fault != GM_FRAME_FAULT_NONE)
        return -GM_E_PROTOCOL;

    reader->remaining = reader->length;
    reader->frame_count++;
    if (!type_known(reader->type)) {
        reader->unknown_count++;
        return 0;
    }
    reader->flags = known_flags(reader->type, reader->flags);
    if (reader->chain_type == 0)
        reader->unit_offset = 0;
    return 0;
}

/* Passes over n bytes of input; without input there may be no pointer either. */
static void advance(const uint8_t **data, size_t *len, size_t n)
{
    if (n > 0)
        *data += n;
    *len -= n;
}

/* Moves bytes from the input to the scratch until it holds `want`; true when it does. */
static bool gather(struct gm_frame_reader *reader, const uint8_t **data, size_t *len, size_t want)
{
    size_t n = want - reader->scratch_len;
    if (n > *len)
        n = *len;
    if (n == 0)
        return false;
    memcpy(reader->scratch + reader->scratch_len, *data, n);
    reader->scratch_len = (uint8_t)(reader->scratch_len + n);
    advance(data, len, n);
    return reader->scratch_len == want;
}

/* Wants a header. Returns 1 when a frame is under way, 0 when the input is used up, or a fault. */
static int read_header(struct gm_frame_reader *reader, const uint8_t **data, size_t *len)
{
    int error;
    if (reader->scratch_len == 0 && *len >= GM_FRAME_HEADER_LEN) {
        error = begin_frame(reader, *data);
        advance(data, len, GM_FRAME_HEADER_LEN);
    } else {
        if (!gather(reader, data, len, GM_FRAME_HEADER_LEN))
            return 0;
        error = begin_frame(reader, reader->scratch);
    }
    return error < 0 ? error : 1;
}

/* Fills in what all events have in common, for `n` payload bytes at `data`, and moves past them. */
static void emit(struct gm_frame_reader *reader, const uint8_t *data, uint32_t n,
                 struct gm_frame_event *event)
{
    bool frame_done = n == reader->remaining;
    bool more = (reader->flags & GM_FRAME_FLAG_MORE) != 0;
    *event = (struct gm_frame_event){
        .data = data,
        .data_len = n,
        .offset = reader->unit_offset,
        .stream = reader->stream,
        .length = reader->length,
        .type = reader->type,
        .flags = reader->flags,
        .mark = (uint8_t)((reader->unit_offset == 0 ? GM_FRAME_FIRST : 0u) |
                          (frame_done && !more ? GM_FRAME_LAST : 0u)),
    };
    reader->remaining -= n;
    reader->unit_offset += n;
    if (!frame_done)
        return;
    reader->chain_type = more ? reader->type : 0;
    reader->chain_stream = reader->stream;
    reader->type = 0;
}

/* Wants a control payload, whole. Same results as gm_frame_reader_next(). */
static int read_control(struct gm_frame_reader *reader, const uint8_t **data, size_t *len,
                        struct gm_frame_event *event)
{
    if (reader->scratch_len == 0 && *len >= reader->length) {
        const uint8_t *payload = *data;
        advance(data, len, reader->length);
        emit(reader, payload, reader->length, event);
        return 1;
    }
    if (!gather(reader, data, len, reader->length))
        return 0;
    reader->scratch_len = 0;
    emit(reader, reader->scratch, reader->length, event);
    return 1;
}

/* Skips what has come of an unknown frame. */
static void skip_unknown(struct gm_frame_reader *reader, const uint8_t **data, size_t *len)
{
    size_t n = reader->remaining < *len ? reader->remaining : *len;
    advance(data, len, n);
    reader->remaining -= (uint32_t)n;
    if (reader->remaining == 0)
        reader->type = 0;
}

/* Wants payload, as much as there is. */
static int read_payload(struct gm_frame_reader *reader, const uint8_t **data, size_t *len,
                        struct gm_frame_event *event)
{
    if (*len == 0 && reader->remaining > 0)
        return 0;
    const uint8_t *piece = *data;
    uint32_t n = *len < reader->remaining ? (uint32_t)*len : reader->remaining;
    advance(data, len, n);
    emit(reader, piece, n, event);
    return 1;
}

int gm_frame_reader_next(struct gm_frame_reader *reader, const uint8_t **data, size_t *len,
                         struct gm_frame_event *event)
{
    if (reader->fault != GM_FRAME_FAULT_NONE)
        return -GM_E_PROTOCOL;
    for (;;) {
        if (reader->type == 0) {
            int got = read_header(reader, data, len);
            if (got <= 0)
                return got;
        }
        if (type_known(reader->type))
            break;
        skip_unknown(reader, data, len);
        if (reader->type != 0)
            return 0;
    }
    if (rules[reader->type].flags & RULE_CONTROL)
        return read_control(reader, data, len, event);
    return read_payload(reader, data, len, event);
}

/* --- Names --- */

const char *gm_frame_type_name(uint8_t type)
{
    return type_known(type) ? rules[type].name : "unknown";
}

const char *gm_frame_fault_text(uint8_t fault)
{
    static const char *const texts[GM_FRAME_FAULT_COUNT] = {
        [GM_FRAME_FAULT_NONE] = "no fault",
        [GM_FRAME_FAULT_LENGTH] = "frame payload longer than 16384 bytes",
        [GM_FRAME_FAULT_TYPE] = "frame of type 0",
        [GM_FRAME_FAULT_STREAM] = "stream id does not fit the frame type",
        [GM_FRAME_FAULT_CONTROL] = "control frame payload too short or too long",
        [GM_FRAME_FAULT_SEQUENCE] = "block interrupted by another frame",
        [GM_FRAME_FAULT_FLAGS] = "MORE on an empty or final frame",
        [GM_FRAME_FAULT_BLOCK] = "block longer than 65535 bytes",
    };
    return fault < GM_FRAME_FAULT_COUNT ? texts[fault] : "unknown fault";
}
