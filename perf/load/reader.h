/*
 * Reads one HTTP/1.1 message, request or answer, from pieces of any size: the head is kept as text,
 * the body is handed on where it lies. Only what the generators and their backend say and are told:
 * a body has a Content-Length or is chunked, and a message without either has none.
 * It judges no more than it must to count right; the strict parser is what is being measured.
 */
#ifndef GM_LOAD_READER_H
#define GM_LOAD_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define GM_READER_HEAD_MAX 2048u

enum gm_reader_state {
    GM_READER_HEAD,
    GM_READER_BODY,       /* `left` bytes of the body, or of this chunk */
    GM_READER_CHUNK_SIZE, /* in the line with a chunk's size */
    GM_READER_CHUNK_END,  /* in the line end behind a chunk */
    GM_READER_TRAILER,    /* in the lines behind the last chunk */
    GM_READER_DONE,
};

struct gm_span {
    const char *bytes;
    size_t len;
};

struct gm_reader {
    enum gm_reader_state state;
    bool chunked, extension; /* the rest of a size's line says nothing */
    uint32_t head_len, line_len;
    uint64_t left, body_bytes; /* still to come; seen so far */
    char head[GM_READER_HEAD_MAX];
};

/* Ready for the next message. */
void gm_reader_begin(struct gm_reader *reader);

/* Takes bytes up to the end of the next piece of body, or of the message. Returns how many, at
 * least one of a message that is not done; *body borrows the piece from them, or is empty.
 * -EBADMSG: this is no such message, or its head is too long. */
ssize_t gm_reader_take(struct gm_reader *reader, struct gm_span input, struct gm_span *body);

/* The value of a field of the complete head, up to its line's end; NULL: there is none. Borrowed.
 */
const char *gm_reader_field(const struct gm_reader *reader, const char *name);

/* The status of a complete answer's head, 0 for a request. */
uint32_t gm_reader_status(const struct gm_reader *reader);

#endif
