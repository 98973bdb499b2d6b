/* WebSocket frames (RFC 6455 section 5), both roles: header codec and incremental reader.
 *
 * Pure code: bytes in, events out; no I/O, no clock, no allocation. One reader belongs to one
 * connection and its thread. Data is unmasked in place and handed on as it arrives, across
 * fragments and input ends; control payloads are gathered in the reader. Invariants: no pointer
 * into the input survives a call; a failure is sticky; no extension is ever in use (RSV = 0).
 */
#ifndef GM_WS_WS_H
#define GM_WS_WS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GM_WS_HEADER_MAX  14u  /* 2 + 8 length + 4 key */
#define GM_WS_CONTROL_MAX 125u /* section 5.5 */
#define GM_WS_FIN         0x80u

enum gm_ws_opcode {
    GM_WS_CONTINUATION = 0x0,
    GM_WS_TEXT = 0x1,
    GM_WS_BINARY = 0x2,
    GM_WS_CLOSE = 0x8,
    GM_WS_PING = 0x9,
    GM_WS_PONG = 0xa
};

/* Close codes (section 7.4.1 and the IANA registry). */
enum gm_ws_close_code {
    GM_WS_CLOSE_NORMAL = 1000,
    GM_WS_CLOSE_GOING_AWAY = 1001,
    GM_WS_CLOSE_PROTOCOL = 1002,
    GM_WS_CLOSE_UNSUPPORTED = 1003,
    GM_WS_CLOSE_NO_STATUS = 1005, /* never on the wire: a CLOSE frame without a code */
    GM_WS_CLOSE_ABNORMAL = 1006,  /* never on the wire: no CLOSE frame came */
    GM_WS_CLOSE_BAD_DATA = 1007,
    GM_WS_CLOSE_POLICY = 1008,
    GM_WS_CLOSE_TOO_BIG = 1009,
    GM_WS_CLOSE_INTERNAL = 1011,
    GM_WS_CLOSE_RESTART = 1012,
    GM_WS_CLOSE_TRY_LATER = 1013
};

/* --- Headers. --- */

struct gm_ws_header {
    uint64_t length; /* payload bytes */
    uint32_t key;    /* the wire's four bytes in memory order; 0 when not masked */
    uint8_t opcode;
    bool fin;
    bool masked;
};

/* Reads one header. Returns its length, 0 when more bytes are needed, -GM_E_PROTOCOL: RSV bits, a
 * reserved opcode, a fragmented or long control frame, a length not in its shortest form or above
 * 2^63-1. Errors show as early as their byte does, so that splits do not matter. */
int gm_ws_header_read(const uint8_t *p, size_t n, struct gm_ws_header *out)
    __attribute__((warn_unused_result));

/* Length of the header that gm_ws_header_write() makes: 2..14 bytes. */
size_t gm_ws_header_size(uint64_t length, bool masked);

/* Writes a header, shortest form; `out` has room for GM_WS_HEADER_MAX. A control frame of more than
 * 125 bytes or without FIN is a bug (asserted). Returns its length. */
size_t gm_ws_header_write(uint8_t *out, const struct gm_ws_header *header);

/* Writes a CLOSE frame's payload: code and as much of `text` (UTF-8, may be NULL) as fits whole
 * characters; `out` has room for GM_WS_CONTROL_MAX. Codes that may not be sent (1005, 1006, …) give
 * an empty payload. Returns its length. */
size_t gm_ws_close_write(uint8_t *out, uint16_t code, const char *text);

/* True for codes that a CLOSE frame may carry (sections 7.4.1, 7.4.2). */
bool gm_ws_close_code_valid(uint16_t code);

/* --- Reading. --- */

enum gm_ws_role {
    GM_WS_SERVER, /* reads a client's frames: every one must be masked */
    GM_WS_CLIENT  /* reads a server's frames: none may be */
};

enum gm_ws_event_kind {
    GM_WS_EVENT_DATA = 1, /* a piece of a message */
    GM_WS_EVENT_PING,     /* to be answered by a PONG with the same payload */
    GM_WS_EVENT_PONG,
    GM_WS_EVENT_CLOSE /* close_code is 1005 when absent; data is the text behind it. Later input is
                         swallowed */
};

/* Marks of a DATA piece in its message. A message gives exactly one FIRST and one LAST; an empty
 * one gives one event with both. */
#define GM_WS_FIRST 0x01u
#define GM_WS_LAST  0x02u

struct gm_ws_event {
    uint8_t *data; /* borrow: DATA: into the input, unmasked; else the reader's scratch, until the
                      next call */
    size_t len;
    uint16_t close_code;
    uint8_t kind;
    uint8_t opcode; /* DATA: GM_WS_TEXT or GM_WS_BINARY */
    uint8_t mark;
};

struct gm_ws_reader {
    uint64_t remaining;   /* payload bytes of the frame under way */
    uint64_t message_len; /* counted only under a limit: payload bytes of the message so far */
    uint64_t message_max; /* 0: no limit (the native tunnel, which never gathers a message) */
    uint32_t key;
    uint16_t close_code;    /* after a failure: what to close with; 0 before */
    uint8_t role;           /* enum gm_ws_role */
    uint8_t state;          /* private */
    uint8_t message_opcode; /* 0 between messages */
    uint8_t opcode;         /* of the frame under way */
    uint8_t phase;          /* of the mask */
    uint8_t utf8;           /* private: state of the text check, 0 between messages */
    uint8_t scratch_len;
    bool fin;
    bool begun;                         /* FIRST was given */
    uint8_t scratch[GM_WS_CONTROL_MAX]; /* a split header, or a control payload */
};

/* Prepares a reader; no resources, so nothing to undo. `message_max` bounds the payload of one
 * message (0: none). */
void gm_ws_reader_init(struct gm_ws_reader *reader, enum gm_ws_role role, uint64_t message_max);

/* Takes bytes from *data (advancing *data, reducing *len, unmasking in place what it passes) up to
 * the next event. Returns 1 with *event filled, 0 when all input is used up, -GM_E_PROTOCOL on a
 * peer's failure: reader->close_code is 1002, 1007 (text that is not UTF-8) or 1009 (message above
 * message_max); every later call returns the same. */
int gm_ws_reader_next(struct gm_ws_reader *reader, uint8_t **data, size_t *len,
                      struct gm_ws_event *event) __attribute__((warn_unused_result));

#endif
