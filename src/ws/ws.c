/* WebSocket frames: header codec and incremental reader (RFC 6455 section 5).
 *
 * The reader has four states: it wants a header, the payload of a data frame, the payload of a
 * control frame, or nothing more (after CLOSE or a failure). Only what the end of an input splits
 * is copied (a header), and control payloads, which are small and may lie inside a fragmented
 * message.
 */
#include "ws/ws.h"

#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "ws/mask.h"

#define MASK_BIT  0x80u
#define RSV_BITS  0x70u
#define LENGTH_16 126u
#define LENGTH_64 127u

/* --- Headers --- */

static bool opcode_known(uint8_t opcode)
{
    return opcode <= GM_WS_BINARY || (opcode >= GM_WS_CLOSE && opcode <= GM_WS_PONG);
}

static bool opcode_control(uint8_t opcode)
{
    return (opcode & 0x8u) != 0;
}

static uint64_t get_big_endian(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

static void put_big_endian(uint8_t *p, size_t n, uint64_t v)
{
    for (size_t i = n; i-- > 0; v >>= 8)
        p[i] = (uint8_t)v;
}

/* Reads the length that begins at p[1]. Returns the bytes of header before a mask key, 0 for more,
 * or an error. */
static int read_length(const uint8_t *p, size_t n, uint64_t *length)
{
    uint8_t small = p[1] & 0x7fu;
    if (small < LENGTH_16) {
        *length = small;
        return 2;
    }
    size_t wide = small == LENGTH_16 ? 2 : 8;
    /* The top bit must be clear: judged as soon as its byte is there. */
    if (wide == 8 && n > 2 && (p[2] & 0x80u))
        return -GM_E_PROTOCOL;
    if (n < 2 + wide)
        return 0;
    *length = get_big_endian(p + 2, wide);
    if (*length < (wide == 2 ? LENGTH_16 : 0x10000u))
        return -GM_E_PROTOCOL;
    return (int)(2 + wide);
}

int gm_ws_header_read(const uint8_t *p, size_t n, struct gm_ws_header *out)
{
    if (n == 0)
        return 0;
    out->opcode = p[0] & 0x0fu;
    out->fin = (p[0] & GM_WS_FIN) != 0;
    bool control = opcode_control(out->opcode);
    if ((p[0] & RSV_BITS) || !opcode_known(out->opcode) || (control && !out->fin))
        return -GM_E_PROTOCOL;
    if (n == 1)
        return 0;
    if (control && (p[1] & 0x7fu) > GM_WS_CONTROL_MAX)
        return -GM_E_PROTOCOL;
    out->masked = (p[1] & MASK_BIT) != 0;
    int before_key = read_length(p, n, &out->length);
    if (before_key <= 0)
        return before_key;
    out->key = 0;
    if (!out->masked)
        return before_key;
    if (n < (size_t)before_key + 4)
        return 0;
    memcpy(&out->key, p + before_key, 4);
    return before_key + 4;
}

size_t gm_ws_header_size(uint64_t length, bool masked)
{
    size_t wide = length < LENGTH_16 ? 0 : length <= 0xffffu ? 2 : 8;
    return 2 + wide + (masked ? 4u : 0u);
}

size_t gm_ws_header_write(uint8_t *out, const struct gm_ws_header *header)
{
    GM_ASSERT(opcode_known(header->opcode) && header->length <= INT64_MAX);
    GM_ASSERT(!opcode_control(header->opcode) ||
              (header->fin && header->length <= GM_WS_CONTROL_MAX));
    size_t n = gm_ws_header_size(header->length, false);
    uint8_t small = n == 2 ? (uint8_t)header->length : n == 4 ? LENGTH_16 : LENGTH_64;
    out[0] = (uint8_t)(header->opcode | (header->fin ? GM_WS_FIN : 0u));
    out[1] = (uint8_t)(small | (header->masked ? MASK_BIT : 0u));
    if (n > 2)
        put_big_endian(out + 2, n - 2, header->length);
    if (!header->masked)
        return n;
    memcpy(out + n, &header->key, 4);
    return n + 4;
}

/* --- Close codes --- */

bool gm_ws_close_code_valid(uint16_t code)
{
    if (code >= 3000)
        return code <= 4999;
    /* 1004 to 1006 and 1015 never stand in a frame; 1016 and above are not assigned. */
    return code >= 1000 && code <= 1014 && (code < 1004 || code > 1006);
}

size_t gm_ws_close_write(uint8_t *out, uint16_t code, const char *text)
{
    if (!gm_ws_close_code_valid(code))
        return 0;
    put_big_endian(out, 2, code);
    size_t n = text != NULL ? strlen(text) : 0;
    if (n > GM_WS_CONTROL_MAX - 2) {
        n = GM_WS_CONTROL_MAX - 2;
        while (n > 0 && ((uint8_t)text[n] & 0xc0u) == 0x80u)
            n--;
    }
    if (n > 0)
        memcpy(out + 2, text, n);
    return 2 + n;
}

/* --- UTF-8 (RFC 3629), incremental ---
 * The state says how many continuation bytes are missing (low two bits) and which range the next
 * one has to lie in (high bits). */

#define UTF8_START     0x00u
#define UTF8_FAILED    0xffu
#define UTF8_ANY       0x00u /* 80..bf */
#define UTF8_NO_SHORT3 0x10u /* a0..bf: after e0 */
#define UTF8_NO_SURROG 0x20u /* 80..9f: after ed */
#define UTF8_NO_SHORT4 0x30u /* 90..bf: after f0 */
#define UTF8_NO_BEYOND 0x40u /* 80..8f: after f4 */

static uint8_t utf8_lead(uint8_t c)
{
    if (c < 0x80)
        return UTF8_START;
    if (c < 0xc2 || c > 0xf4)
        return UTF8_FAILED;
    if (c < 0xe0)
        return 1u | UTF8_ANY;
    if (c < 0xf0)
        return (uint8_t)(2u | (c == 0xe0 ? UTF8_NO_SHORT3 : c == 0xed ? UTF8_NO_SURROG : UTF8_ANY));
    return (uint8_t)(3u | (c == 0xf0 ? UTF8_NO_SHORT4 : c == 0xf4 ? UTF8_NO_BEYOND : UTF8_ANY));
}

static uint8_t utf8_follow(uint8_t state, uint8_t c)
{
    static const uint8_t ranges[][2] = {
        {0x80, 0xbf}, {0xa0, 0xbf}, {0x80, 0x9f}, {0x90, 0xbf}, {0x80, 0x8f}};
    const uint8_t *range = ranges[state >> 4];
    if (c < range[0] || c > range[1])
        return UTF8_FAILED;
    return (uint8_t)((state & 3u) - 1u);
}

static uint8_t utf8_step(uint8_t state, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n && state != UTF8_FAILED; i++)
        state = state == UTF8_START ? utf8_lead(p[i]) : utf8_follow(state, p[i]);
    return state;
}

/* --- Reading --- */

enum reader_state { WANT_HEADER, WANT_DATA, WANT_CONTROL, CLOSED, FAILED };

void gm_ws_reader_init(struct gm_ws_reader *reader, enum gm_ws_role role, uint64_t message_max)
{
    memset(reader, 0, sizeof(*reader));
    reader->role = (uint8_t)role;
    reader->message_max = message_max;
}

static int fail(struct gm_ws_reader *reader, uint16_t close_code)
{
    reader->state = FAILED;
    reader->close_code = close_code;
    return -GM_E_PROTOCOL;
}

/* A data frame begins: it starts a message or continues one, never the other way round. */
static int begin_data(struct gm_ws_reader *reader, const struct gm_ws_header *header)
{
    bool continues = header->opcode == GM_WS_CONTINUATION;
    if (continues != (reader->message_opcode != 0))
        return fail(reader, GM_WS_CLOSE_PROTOCOL);
    if (!continues) {
        reader->message_opcode = header->opcode;
        reader->message_len = 0;
        reader->begun = false;
    }
    /* message_len never exceeds message_max, so the difference cannot wrap. */
    if (reader->message_max != 0 && header->length > reader->message_max - reader->message_len)
        return fail(reader, GM_WS_CLOSE_TOO_BIG);
    if (reader->message_max != 0)
        reader->message_len += header->length;
    reader->fin = header->fin;
    reader->state = WANT_DATA;
    return 1;
}

static int begin_frame(struct gm_ws_reader *reader, const struct gm_ws_header *header)
{
    reader->scratch_len = 0;
    if (header->masked != (reader->role == GM_WS_SERVER))
        return fail(reader, GM_WS_CLOSE_PROTOCOL);
    reader->remaining = header->length;
    reader->key = header->key;
    reader->phase = 0;
    reader->opcode = header->opcode;
    if (!opcode_control(header->opcode))
        return begin_data(reader, header);
    reader->state = WANT_CONTROL;
    return 1;
}

/* Wants a header. Returns 1 when a frame is under way, 0 when the input is used up, or a failure.
 */
static int read_header(struct gm_ws_reader *reader, uint8_t **data, size_t *len)
{
    struct gm_ws_header header;
    int got = 0;
    if (reader->scratch_len == 0) {
        got = gm_ws_header_read(*data, *len, &header);
        if (got > 0) {
            *data += got;
            *len -= (size_t)got;
        }
    }
    /* Split by an input's end: byte by byte, at most 14 times. */
    while (got == 0 && *len > 0) {
        reader->scratch[reader->scratch_len++] = **data;
        (*data)++;
        (*len)--;
        got = gm_ws_header_read(reader->scratch, reader->scratch_len, &header);
    }
    if (got < 0)
        return fail(reader, GM_WS_CLOSE_PROTOCOL);
    return got == 0 ? 0 : begin_frame(reader, &header);
}

/* Judges a CLOSE payload and fills the event in. */
static int close_event(struct gm_ws_reader *reader, struct gm_ws_event *event)
{
    reader->state = CLOSED;
    event->close_code = GM_WS_CLOSE_NO_STATUS;
    if (event->len == 0)
        return 1;
    if (event->len == 1)
        return fail(reader, GM_WS_CLOSE_PROTOCOL);
    event->close_code = (uint16_t)get_big_endian(event->data, 2);
    if (!gm_ws_close_code_valid(event->close_code))
        return fail(reader, GM_WS_CLOSE_PROTOCOL);
    event->data += 2;
    event->len -= 2;
    if (utf8_step(UTF8_START, event->data, event->len) != UTF8_START)
        return fail(reader, GM_WS_CLOSE_BAD_DATA);
    return 1;
}

/* Wants a control payload, whole. Same results as gm_ws_reader_next(). */
static int read_control(struct gm_ws_reader *reader, uint8_t **data, size_t *len,
                        struct gm_ws_event *event)
{
    size_t n = *len < reader->remaining ? *len : (size_t)reader->remaining;
    if (n > 0) {
        memcpy(reader->scratch + reader->scratch_len, *data, n);
        *data += n;
        *len -= n;
        reader->scratch_len = (uint8_t)(reader->scratch_len + n);
        reader->remaining -= n;
    }
    if (reader->remaining > 0)
        return 0;
    gm_ws_mask(reader->scratch, reader->scratch_len, reader->key, 0);
    *event = (struct gm_ws_event){.data = reader->scratch, .len = reader->scratch_len};
    reader->scratch_len = 0;
    reader->state = WANT_HEADER;
    if (reader->opcode == GM_WS_CLOSE) {
        event->kind = GM_WS_EVENT_CLOSE;
        return close_event(reader, event);
    }
    event->kind = reader->opcode == GM_WS_PING ? GM_WS_EVENT_PING : GM_WS_EVENT_PONG;
    return 1;
}

/* The data frame's last byte has passed; `last` when it ends the message. */
static void end_data(struct gm_ws_reader *reader, bool last)
{
    reader->state = WANT_HEADER;
    if (last)
        reader->message_opcode = 0;
}

/* Wants payload, as much as there is. Returns 1 with an event, 0 when there is nothing to tell
 * (yet), or a failure. */
static int read_data(struct gm_ws_reader *reader, uint8_t **data, size_t *len,
                     struct gm_ws_event *event)
{
    size_t n = *len < reader->remaining ? *len : (size_t)reader->remaining;
    uint8_t *piece = *data;
    reader->remaining -= n;
    bool done = reader->remaining == 0;
    bool last = done && reader->fin;
    if (n > 0) {
        reader->phase = (uint8_t)gm_ws_mask(piece, n, reader->key, reader->phase);
        *data += n;
        *len -= n;
    }
    uint8_t opcode = reader->message_opcode;
    if (opcode == GM_WS_TEXT) {
        reader->utf8 = utf8_step(reader->utf8, piece, n);
        if (reader->utf8 == UTF8_FAILED || (last && reader->utf8 != UTF8_START))
            return fail(reader, GM_WS_CLOSE_BAD_DATA);
    }
    if (done)
        end_data(reader, last);
    if (n == 0 && !last)
        return 0;
    *event = (struct gm_ws_event){
        .data = piece,
        .len = n,
        .kind = GM_WS_EVENT_DATA,
        .opcode = opcode,
        .mark = (uint8_t)((reader->begun ? 0u : GM_WS_FIRST) | (last ? GM_WS_LAST : 0u)),
    };
    reader->begun = true;
    return 1;
}

int gm_ws_reader_next(struct gm_ws_reader *reader, uint8_t **data, size_t *len,
                      struct gm_ws_event *event)
{
    for (;;) {
        int got = 0;
        switch ((enum reader_state)reader->state) {
        case WANT_HEADER:
            got = read_header(reader, data, len);
            if (got <= 0)
                return got;
            continue;
        case WANT_DATA:
            got = read_data(reader, data, len, event);
            if (got != 0 || reader->state == WANT_DATA)
                return got;
            continue;
        case WANT_CONTROL:
            return read_control(reader, data, len, event);
        case CLOSED:
            if (*len > 0)
                *data += *len;
            *len = 0;
            return 0;
        case FAILED:
            return -GM_E_PROTOCOL;
        }
    }
}
