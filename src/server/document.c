/* Documents on the heap. Owner: the client's ring, whose thread makes and frees them. */
#include "server/document.h"

#include <stdlib.h>

struct document {
    struct gm_buf buf;
    struct gm_buf_home home;
};

static void document_free(struct gm_buf_home *home, struct gm_buf *buf)
{
    free(buf->data);
    free(GM_CONTAINER_OF(home, struct document, home));
}

static void document_return(struct gm_buf_home *home, struct gm_buf *buf)
{
    (void)home;
    (void)buf;
    GM_UNREACHABLE("a document never leaves its ring");
}

static struct gm_buf *document_new(char *text, size_t len)
{
    struct document *document = len > UINT32_MAX ? NULL : calloc(1, sizeof *document);
    if (document == NULL)
        return NULL;
    document->home = (struct gm_buf_home){gm_ring_self, document_free, document_return};
    document->buf.data = (uint8_t *)text;
    document->buf.size = (uint32_t)len;
    document->buf.refs = 1;
    document->buf.home = &document->home;
    return &document->buf;
}

enum gm_admit_result gm_document_answer(struct gm_client *client,
                                        const struct gm_http_request *head, const char *type,
                                        char *text, size_t len)
{
    struct gm_buf *buf = text == NULL ? NULL : document_new(text, len);
    if (buf == NULL) {
        free(text);
        gm_admit_answer(client, head, gm_answer_for(GM_REASON_INTERNAL));
        return GM_ADMIT_ANSWERED;
    }
    gm_admit_answer(
        client, head,
        (struct gm_answer){.status = 200, .content_type = type, .body_len = len, .document = buf});
    return GM_ADMIT_ANSWERED;
}
