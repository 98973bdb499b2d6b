/* Heads of Gimlet 0.0.x: HTTP/1.x text on the wire there, blocks (frame/head.h) inside ours.
 *
 * Pure; any thread. An agent of 0.0.x is a raw pipe to its backend, so what a server writes for it
 * is the request as the backend gets it: framed, and for a connection that ends with the answer.
 * Text that a peer sends is read by the strict parser of http/: what is not HTTP/1.x beyond doubt
 * gives -GM_E_PROTOCOL. Every writer fills a caller's buffer and gives the length, or -GM_E_LIMIT
 * when it does not fit; the _BOUNDs say when it always does. */
#ifndef GM_CODEC_OLD_HEAD_H
#define GM_CODEC_OLD_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/field.h"

/* What text may have beyond the block that it was made of: the request line's blanks and version,
 * "Host: ", and the fields of framing. */
#define GM_OLD_TEXT_ADDED 192u
/* What a block may have beyond the text that it was made of: its fixed part, and a byte for each
 * field that stands without a blank. */
#define GM_OLD_BLOCK_ADDED (32u + GM_HTTP_FIELDS_MAX)

struct gm_old_request {
    bool chunked; /* server: the body goes out in chunks that this end frames */
    bool head;    /* HEAD: its answer has no body, whatever it announces */
    bool body;    /* agent: the head promises a body */
    bool expects; /* server: the client may wait for a 100 before it sends the body */
};

/* Server: a request block as the text of a START. -GM_E_PROTOCOL: no block; -ENOTSUP: an upgrade,
 * for which a 0.0.x agent has no way back. */
int gm_old_request_text(const uint8_t *block, size_t len, char *out, size_t cap,
                        struct gm_old_request *told) __attribute__((warn_unused_result));
/* Server: the block of the 100 that nobody else will send: its backend is not asked for one. */
int gm_old_continue_block(uint8_t *out, size_t cap) __attribute__((warn_unused_result));
#define GM_OLD_CONTINUE_MAX 64u
/* Server: trailers of a chunked body, with the last chunk in front and the empty line behind. */
int gm_old_trailers_text(const uint8_t *block, size_t len, char *out, size_t cap)
    __attribute__((warn_unused_result));
/* Server: the text of an agent's START as a response block; bytes behind its empty line are of no
 * meaning. `head`: it answers a HEAD request. 101 is refused: nobody has asked for it. */
int gm_old_response_block(const char *text, size_t len, bool head, uint8_t *out, size_t cap)
    __attribute__((warn_unused_result));

/* Agent: the text of a server's START as a request block. Without a promised body the flag BODY is
 * not set: 0.0.x servers strip Transfer-Encoding, so that only DATA tells (gm_old_block_body).
 * Authorization is left out: those servers pass the client's token on. -ENOTSUP: an upgrade. */
int gm_old_request_block(const char *text, size_t len, uint8_t *out, size_t cap,
                         struct gm_old_request *told) __attribute__((warn_unused_result));
/* Agent: the same text with a target that is one again: servers of 0.0.x decode the client's path
 * and send it as it then is. Blanks, "#" and bytes beyond ASCII are encoded anew; what means
 * something else when bare ("?", "%") cannot be told. 0: there is nothing to mend. */
int gm_old_request_mend(const char *text, size_t len, char *out, size_t cap)
    __attribute__((warn_unused_result));
/* Agent: a response block as the text of a START. */
int gm_old_response_text(const uint8_t *block, size_t len, char *out, size_t cap)
    __attribute__((warn_unused_result));

/* Marks a request block of gm_old_request_block as one with a body of unknown length. */
void gm_old_block_body(uint8_t *block);

#endif
