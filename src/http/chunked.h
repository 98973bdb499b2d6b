/*
 * The chunked transfer coding: an incremental decoder that hands out spans of its input (data is
 * never copied), and an encoder of chunk heads. Trailers alone are copied, into a scratch buffer of
 * the caller's, because they may straddle receive buffers. Chunk extensions are bounded, checked
 * and dropped. Pure; one owner per decoder. Invariant: what is reported does not depend on how the
 * input was cut. Source: RFC 9112 §7.1.
 */
#ifndef GM_HTTP_CHUNKED_H
#define GM_HTTP_CHUNKED_H

#include "http/error.h"
#include "http/field.h"

/* Extension bytes in one chunk head. */
#define GM_HTTP_CHUNK_EXTENSION_MAX 256
/* Extension bytes that may be in excess of data bytes over a whole body: else a peer could feed us
 * nothing but those. */
#define GM_HTTP_CHUNK_EXCESS_MAX 16384
/* Longest chunk head that gm_http_chunk_head writes: 16 digits and CRLF. */
#define GM_HTTP_CHUNK_HEAD_MAX 18

enum gm_http_chunked_result {
    GM_HTTP_CHUNKED_MORE = 0, /* all input consumed, nothing to hand out */
    GM_HTTP_CHUNKED_DATA,     /* step.data holds body bytes; feed the rest of the input again */
    GM_HTTP_CHUNKED_SCRATCH,  /* a trailer begins and no scratch was lent: lend one (or give up),
                                 then feed the rest */
    GM_HTTP_CHUNKED_DONE,     /* the body is complete; bytes behind step.consumed belong to the next
                                 message */
};

struct gm_http_chunked_step {
    size_t consumed;          /* bytes of the input that are used up, step.data included */
    struct gm_http_span data; /* within the input */
};

struct gm_http_chunked {
    uint64_t
        left; /* data bytes still to come of this chunk; while a size is read, its value so far */
    char *scratch; /* lent; may be NULL until trailers begin */
    uint32_t scratch_cap;
    uint32_t trailer_len; /* bytes of the trailer section in scratch, its empty line included once
                             done; 0: none */
    uint32_t line_start;  /* offset in scratch of the trailer line being gathered */
    uint32_t excess;
    uint16_t extension_len;
    uint8_t digits;
    uint8_t state;
};

/* `scratch` (borrowed until the trailers have been used; cap ≤ GM_HTTP_HEAD_MAX) may be NULL with
 * cap 0, since most bodies have no trailers: see GM_HTTP_CHUNKED_SCRATCH. */
void gm_http_chunked_init(struct gm_http_chunked *d, char *scratch, uint32_t scratch_cap);
/* Lends a scratch buffer late. Only before any trailer byte was consumed. */
void gm_http_chunked_lend(struct gm_http_chunked *d, char *scratch, uint32_t scratch_cap);
/* One step. Result: enum gm_http_chunked_result, or -GM_HTTP_E_x, after which the decoder must not
 * be fed again. Loop: while input is left, feed it; advance by step->consumed; after DONE do not
 * feed. A call with len 0 gives MORE. */
__attribute__((warn_unused_result)) int gm_http_chunked_feed(struct gm_http_chunked *d,
                                                             const char *buf, size_t len,
                                                             struct gm_http_chunked_step *step);
/* After DONE: the trailers, pointing into scratch. `fields` has its storage set (list, max).
 * Result: their number, or -GM_HTTP_E_FIELD_TOO_MANY. (Lines were checked as they came; framing,
 * routing and credential fields are refused.) */
__attribute__((warn_unused_result)) int gm_http_chunked_trailers(const struct gm_http_chunked *d,
                                                                 struct gm_http_fields *fields);
/* True once DONE was reported. A connection that ends while this is false has cut the body short.
 */
bool gm_http_chunked_done(const struct gm_http_chunked *d);

/* Writes the head of a chunk of n > 0 bytes; returns its length (3–18). The n bytes and
 * GM_HTTP_CHUNK_TAIL follow. */
size_t gm_http_chunk_head(char out[static GM_HTTP_CHUNK_HEAD_MAX], uint64_t n);
#define GM_HTTP_CHUNK_TAIL "\r\n"
/* Ends a body without trailers. With trailers: GM_HTTP_CHUNK_LAST, field lines (http/writer.h),
 * empty line. */
#define GM_HTTP_CHUNK_END  "0\r\n\r\n"
#define GM_HTTP_CHUNK_LAST "0\r\n"

#endif
