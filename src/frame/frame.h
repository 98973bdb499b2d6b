/* Frames: the native tunnel's wire format, header codec and incremental reader.
 *
 * Normative text: frame/PROTOCOL.md. All integers are little-endian. Pure code: bytes in, events
 * out; no I/O, no clock, no allocation. One reader belongs to one link and to that link's thread.
 * Invariants: the reader never holds a pointer into its input after a call returned; a fault is
 * sticky; nothing is sized by a number the peer sent.
 */
#ifndef GM_FRAME_FRAME_H
#define GM_FRAME_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GM_FRAME_SUBPROTOCOL "gimlet.v1"
#define GM_FRAME_HEADER_LEN  8u
/* Largest payload: long enough that the 8-byte header costs 0.05 %, short enough that a control
 * frame behind one waits 13 us at 10 Gbit/s. */
#define GM_FRAME_PAYLOAD_MAX 16384u
/* Largest payload of a control frame. What lies beyond the defined bytes is room to grow, and
 * ignored. */
#define GM_FRAME_CONTROL_MAX 16u
/* Longest frame that gm_frame_put_* write. */
#define GM_FRAME_CONTROL_FRAME_MAX (GM_FRAME_HEADER_LEN + 8u)
/* Largest head block (frame/head.h), and the prefix that OPEN puts in front of it. */
#define GM_FRAME_BLOCK_MAX       65535u
#define GM_FRAME_OPEN_PREFIX_LEN 4u
/* Largest outstanding credit of one direction; a CREDIT that would lift it above resets the stream
 * (flow_control). */
#define GM_FRAME_CREDIT_MAX (1u << 30)
#define GM_FRAME_PING_LEN   8u
/* Slots are 1..65535: slot 0 would make stream 0, the link itself. */
#define GM_FRAME_SLOT_MAX 65535u

enum gm_frame_type {
    GM_FRAME_HELLO = 1,    /* server -> agent, first frame; JSON */
    GM_FRAME_READY = 2,    /* agent -> server, first frame; JSON */
    GM_FRAME_OPEN = 3,     /* server -> agent: window u32, request block */
    GM_FRAME_HEAD = 4,     /* agent -> server: response block; repeats for 1xx */
    GM_FRAME_DATA = 5,     /* body or raw bytes; consumes credit */
    GM_FRAME_TRAILERS = 6, /* trailer block */
    GM_FRAME_END = 7,      /* the sender's direction is complete; no payload */
    GM_FRAME_RESET = 8,    /* reason u16, flags u16: both directions end */
    GM_FRAME_STOP = 9,     /* reason u16: no interest in the peer's direction */
    GM_FRAME_CREDIT = 10,  /* delta u32: the receiver may send so many more bytes */
    GM_FRAME_PING = 11,    /* 8 opaque bytes */
    GM_FRAME_PONG = 12,    /* the same 8 bytes */
    GM_FRAME_DRAIN = 13,   /* no payload */
    GM_FRAME_DRAIN_ACK = 14,
    GM_FRAME_NOTE = 15, /* JSON: what the two ends tell each other beside the streams */
    GM_FRAME_TYPE_COUNT
};

/* Flags of the frame header. Unknown ones are ignored. */
#define GM_FRAME_FLAG_END_STREAM 0x01u /* OPEN, HEAD, DATA, TRAILERS: as if END followed */
#define GM_FRAME_FLAG_MORE       0x02u /* OPEN, HEAD, TRAILERS: the next frame continues this block */

/* Flags in a RESET's payload. */
#define GM_FRAME_RESET_UNTOUCHED                                                                   \
    0x0001u /* no backend was touched: the request may be repeated whatever its method */

/* A stream id is slot | generation << 16. */
static inline uint32_t gm_frame_stream(uint16_t slot, uint16_t generation)
{
    return (uint32_t)slot | (uint32_t)generation << 16;
}
static inline uint16_t gm_frame_slot(uint32_t stream)
{
    return (uint16_t)(stream & 0xffffu);
}
static inline uint16_t gm_frame_generation(uint32_t stream)
{
    return (uint16_t)(stream >> 16);
}

/* Unaligned little-endian access for payloads (OPEN's window, for instance). */
static inline uint16_t gm_frame_get_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t gm_frame_get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t gm_frame_get_u64(const uint8_t *p)
{
    return (uint64_t)gm_frame_get_u32(p) | (uint64_t)gm_frame_get_u32(p + 4) << 32;
}
static inline void gm_frame_set_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline void gm_frame_set_u32(uint8_t *p, uint32_t v)
{
    gm_frame_set_u16(p, (uint16_t)v);
    gm_frame_set_u16(p + 2, (uint16_t)(v >> 16));
}
static inline void gm_frame_set_u64(uint8_t *p, uint64_t v)
{
    gm_frame_set_u32(p, (uint32_t)v);
    gm_frame_set_u32(p + 4, (uint32_t)(v >> 32));
}

/* --- Writing. Each function fills `out` and returns the bytes written; none can fail. --- */

/* Writes the 8-byte header. `length` is the payload's, at most GM_FRAME_PAYLOAD_MAX (asserted). */
size_t gm_frame_put_header(uint8_t *out, uint8_t type, uint8_t flags, uint16_t length,
                           uint32_t stream);

/* Whole control frames; `out` has room for GM_FRAME_CONTROL_FRAME_MAX bytes. */
size_t gm_frame_put_end(uint8_t *out, uint32_t stream);
size_t gm_frame_put_reset(uint8_t *out, uint32_t stream, uint16_t reason, uint16_t reset_flags);
size_t gm_frame_put_stop(uint8_t *out, uint32_t stream, uint16_t reason);
size_t gm_frame_put_credit(uint8_t *out, uint32_t stream, uint32_t delta);
/* `type` is GM_FRAME_PING or GM_FRAME_PONG. */
size_t gm_frame_put_ping(uint8_t *out, uint8_t type, const uint8_t opaque[GM_FRAME_PING_LEN]);
/* `type` is GM_FRAME_DRAIN or GM_FRAME_DRAIN_ACK. */
size_t gm_frame_put_drain(uint8_t *out, uint8_t type);

/* Bytes that a payload of OPEN, HEAD or TRAILERS takes on the wire, headers included: one frame, or
 * several joined by MORE. */
size_t gm_frame_block_size(size_t payload_len);

/* Puts frame headers around a payload in place: the caller wrote `payload_len` bytes (OPEN: window
 * and block) at buf + GM_FRAME_HEADER_LEN and `cap` is the room at buf. Payloads above 16 KiB are
 * moved apart to fit the further headers in. `flags` may hold END_STREAM, which lands on the last
 * frame. Returns the bytes on the wire, or -GM_E_LIMIT when `cap` is too small. */
struct gm_frame_block {
    uint8_t type; /* OPEN, HEAD or TRAILERS */
    uint8_t flags;
    uint32_t stream;
    size_t payload_len;
};
int gm_frame_block_wrap(uint8_t *buf, size_t cap, const struct gm_frame_block *block)
    __attribute__((warn_unused_result));

/* --- Reading. --- */

/* What a peer did wrong; the link ends with it. Texts by gm_frame_fault_text(). */
enum gm_frame_fault {
    GM_FRAME_FAULT_NONE = 0,
    GM_FRAME_FAULT_LENGTH,   /* payload above GM_FRAME_PAYLOAD_MAX */
    GM_FRAME_FAULT_TYPE,     /* type 0: the peer lost its place */
    GM_FRAME_FAULT_STREAM,   /* a stream frame on slot 0, or a link frame on a stream */
    GM_FRAME_FAULT_CONTROL,  /* a control payload shorter or longer than its type allows */
    GM_FRAME_FAULT_SEQUENCE, /* MORE not followed by the same type and stream */
    GM_FRAME_FAULT_FLAGS,    /* MORE together with END_STREAM, or on an empty payload */
    GM_FRAME_FAULT_BLOCK,    /* a block longer than GM_FRAME_BLOCK_MAX (OPEN: plus its prefix) */
    GM_FRAME_FAULT_COUNT
};

/* Pieces are marked; most units come in one piece that bears both marks. */
#define GM_FRAME_FIRST 0x01u
#define GM_FRAME_LAST  0x02u

/* One event: a piece of a unit. A unit is one frame, or all frames of a block joined by MORE.
 *  - Control units (END RESET STOP CREDIT PING PONG DRAIN DRAIN_ACK) always come whole, at least as
 * long as their type demands.
 *  - Others come as their bytes arrive. A unit without payload gives one event with data_len 0,
 * FIRST and LAST.
 *  - `flags` are those of the frame that the piece lies in: END_STREAM counts on LAST, and is final
 * there. Frames of unknown type never appear; they are counted in the reader. */
struct gm_frame_event {
    const uint8_t *data; /* borrow: into the input, or the reader's scratch until the next call */
    uint32_t data_len;
    uint32_t offset; /* of the piece in its unit's payload */
    uint32_t stream;
    uint16_t length; /* payload bytes of the frame that the piece lies in; of the whole unit when
                        FIRST and no MORE */
    uint8_t type;
    uint8_t flags;
    uint8_t mark;
};

struct gm_frame_reader {
    uint64_t frame_count;   /* frames begun, unknown ones included */
    uint64_t unknown_count; /* frames skipped by length */
    uint32_t stream;        /* of the frame under way */
    uint32_t remaining;     /* payload bytes of it still to come */
    uint32_t unit_offset;   /* payload bytes of the unit already passed */
    uint32_t chain_stream;  /* stream of the block that MORE left open */
    uint16_t length;
    uint8_t type; /* 0 between frames */
    uint8_t flags;
    uint8_t chain_type; /* type of the block that MORE left open; 0 for none */
    uint8_t fault;      /* enum gm_frame_fault; sticky */
    uint8_t scratch_len;
    uint8_t scratch[GM_FRAME_CONTROL_MAX]; /* a header, or a control payload, split by the input's
                                              end */
};

/* Prepares a reader; no resources, so nothing to undo. */
void gm_frame_reader_init(struct gm_frame_reader *reader);

/* Takes bytes from *data (advancing *data and reducing *len) up to the next event.
 * Returns 1 with *event filled, 0 when all input is used up, -GM_E_PROTOCOL on a peer's fault
 * (reader->fault says which; every later call returns the same). */
int gm_frame_reader_next(struct gm_frame_reader *reader, const uint8_t **data, size_t *len,
                         struct gm_frame_event *event) __attribute__((warn_unused_result));

/* True between units: an end of the link here cuts nothing off. */
bool gm_frame_reader_idle(const struct gm_frame_reader *reader);

/* Constant texts for logs and tests; never NULL. */
const char *gm_frame_fault_text(uint8_t fault);
const char *gm_frame_type_name(uint8_t type);

#endif
