/* Head blocks: requests, responses and trailers as length-prefixed fields, not HTTP text.
 *
 * Normative text: frame/PROTOCOL.md section 6. The writer fills a caller's bounded buffer and
 * refuses what the reader would refuse; the reader re-checks every length and every byte and gives
 * pointers into its input. Pure code, no allocation; a writer or a walk belongs to whoever made it.
 * Invariant: a block that decodes can be written as HTTP/1.1 without any further check.
 */
#ifndef GM_FRAME_HEAD_H
#define GM_FRAME_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frame/frame.h"

/* 128 fields of a client's or a backend's head (http/), and what the gateway adds to them. */
#define GM_HEAD_FIELDS_MAX 160u
#define GM_HEAD_METHOD_MAX 255u
#define GM_HEAD_REASON_MAX 255u
/* No Content-Length field. */
#define GM_HEAD_LENGTH_UNKNOWN UINT64_MAX

/* Kinds of block (first byte). */
#define GM_HEAD_REQUEST  1u
#define GM_HEAD_RESPONSE 2u
#define GM_HEAD_TRAILERS 3u

/* Fixed parts, in front of the strings and fields. */
#define GM_HEAD_REQUEST_LEN  20u
#define GM_HEAD_RESPONSE_LEN 16u
#define GM_HEAD_TRAILERS_LEN 4u

/* Flags of a request or response block. Unknown ones are ignored. */
#define GM_HEAD_FLAG_HTTP10 0x01u /* the client, or the backend, spoke HTTP/1.0 */
#define GM_HEAD_FLAG_BODY   0x02u /* body bytes may follow */
#define GM_HEAD_FLAG_UPGRADE                                                                       \
    0x04u /* request: wants an upgrade (field Upgrade names it); response: is the 101 that grants  \
             it */
#define GM_HEAD_FLAG_TE_TRAILERS 0x08u /* request: the client takes trailers */

/* Name and value as on the wire, original case and order. Borrow: into the block. */
struct gm_head_field {
    const char *name;
    const char *value;
    uint16_t name_len;
    uint16_t value_len;
};

/* Fields of a checked block; a value to be copied and walked by gm_head_next(). */
struct gm_head_fields {
    const uint8_t *at;
    uint16_t count; /* still to come */
};

/* content_length is the Content-Length field, GM_HEAD_LENGTH_UNKNOWN for none. Request: above 0
 * only with BODY. Response: without BODY (answers to HEAD, 304) it informs; 1xx and 204 have none.
 * BODY with length 0 does not exist; BODY with none is a body whose end only END tells. */
struct gm_head_request {
    const char *method;
    const char *target;    /* raw, as the client sent it */
    const char *authority; /* host[:port]; may be empty (HTTP/1.0) */
    uint64_t content_length;
    struct gm_head_fields fields; /* ignored by the writer */
    uint16_t target_len;
    uint16_t authority_len;
    uint8_t method_len;
    uint8_t flags;
};

struct gm_head_response {
    const char *reason; /* may be empty */
    uint64_t content_length;
    struct gm_head_fields fields; /* ignored by the writer */
    uint16_t status;              /* 100..999 */
    uint8_t reason_len;
    uint8_t flags;
};

/* --- Writing: begin, field…, finish. The first failure sticks and finish reports it, so that the
 * steps need no check of their own. --- */

struct gm_head_writer {
    uint8_t *p;
    size_t cap;
    size_t len;
    int error;             /* 0, or what finish will return */
    uint16_t count;        /* fields so far */
    uint16_t count_offset; /* where finish writes it */
    bool upgrade;          /* the field Upgrade may be written */
    uint8_t kind;
};

/* `buf` (borrowed until finish) has room for `cap` bytes; no more than GM_FRAME_BLOCK_MAX are used.
 */
void gm_head_write_request(struct gm_head_writer *writer, void *buf, size_t cap,
                           const struct gm_head_request *request);
void gm_head_write_response(struct gm_head_writer *writer, void *buf, size_t cap,
                            const struct gm_head_response *response);
void gm_head_write_trailers(struct gm_head_writer *writer, void *buf, size_t cap);
void gm_head_write_field(struct gm_head_writer *writer, const struct gm_head_field *field);

/* Returns the block's length, -GM_E_LIMIT when it did not fit (buffer, or the limits above),
 * -EINVAL when something given to it may not be in a block. */
int gm_head_write_finish(struct gm_head_writer *writer) __attribute__((warn_unused_result));

/* --- Reading. `p` is one whole block (an OPEN's: behind its window), borrowed for as long as `out`
 * is used. --- */

/* Returns 0, or -GM_E_PROTOCOL: a length, a byte or a field that the protocol forbids. A request
 * block of another kind gives -ENOTSUP. */
int gm_head_read_request(const uint8_t *p, size_t len, struct gm_head_request *out)
    __attribute__((warn_unused_result));
/* The same for a block that gm_head_read_request has accepted, without looking at it again. */
void gm_head_view_request(const uint8_t *p, struct gm_head_request *out);
int gm_head_read_response(const uint8_t *p, size_t len, struct gm_head_response *out)
    __attribute__((warn_unused_result));
int gm_head_read_trailers(const uint8_t *p, size_t len, struct gm_head_fields *out)
    __attribute__((warn_unused_result));

/* Gives the next field of a checked block; false when there is none left. */
bool gm_head_next(struct gm_head_fields *fields, struct gm_head_field *out);

#endif
