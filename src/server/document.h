/* A document of any length as an answer: heap memory that the connection refers to and frees, so
 * that a page of metrics takes nothing out of the pools that requests live on. */
#ifndef GM_SERVER_DOCUMENT_H
#define GM_SERVER_DOCUMENT_H

#include "server/admit.h"

/* Answers 200 with `text` (malloc'd, taken, `len` bytes; NULL: memory ran out, 500). On the
 * client's ring. */
enum gm_admit_result gm_document_answer(struct gm_client *client,
                                        const struct gm_http_request *head, const char *type,
                                        char *text, size_t len);

#endif
