/*
 * Fuzz target: the chunked decoder. Whole against pieces: the same data, the same end, the same
 * trailers, the same error; and what was decoded, encoded again, decodes to the same data.
 */
#include "check.h"

#include "http/chunked.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Inputs are cut to this; encoded again a byte at worst costs six. */
#define INPUT_MAX 4096

struct decoded {
    int result;
    size_t consumed, len;
    int trailers;
    char data[INPUT_MAX];
    char scratch[256];
};

/* Feeds one exactly sized piece; true while more is wanted. */
static bool feed(struct decoded *t, struct gm_http_chunked *d, const uint8_t *data, size_t len)
{
    char *copy = copy_of(data, len);
    size_t n = 0;
    while (n < len) {
        struct gm_http_chunked_step step;
        t->result = gm_http_chunked_feed(d, copy + n, len - n, &step);
        if (t->result < 0)
            break;
        check_inside(step.data, copy + n, step.consumed);
        memcpy(t->data + t->len, step.data.p, step.data.len);
        t->len += step.data.len;
        n += step.consumed;
        if (t->result == GM_HTTP_CHUNKED_DONE)
            break;
        if (t->result == GM_HTTP_CHUNKED_SCRATCH)
            gm_http_chunked_lend(d, t->scratch, sizeof(t->scratch));
    }
    t->consumed += n;
    free(copy);
    return t->result >= 0 && t->result != GM_HTTP_CHUNKED_DONE;
}

static void decode(struct decoded *t, const uint8_t *data, size_t size, size_t pace)
{
    struct gm_http_chunked d;
    struct gm_http_field list[16];
    struct gm_http_fields fields = {.list = list, .max = 16};
    bool more = true;
    t->result = t->trailers = 0;
    t->consumed = t->len = 0;
    gm_http_chunked_init(&d, NULL, 0);
    for (size_t n = 0; n < size && more; n += pace)
        more = feed(t, &d, data + n, pace < size - n ? pace : size - n);
    GM_ASSERT(gm_http_chunked_done(&d) == (t->result == GM_HTTP_CHUNKED_DONE));
    if (t->result == GM_HTTP_CHUNKED_DONE) {
        t->trailers = gm_http_chunked_trailers(&d, &fields);
        if (t->trailers > 0)
            check_fields(&fields, t->scratch, sizeof(t->scratch));
    }
}

static void check_encoded(const struct decoded *t, size_t chunk)
{
    static uint8_t text[6 * INPUT_MAX + 64];
    static struct decoded again;
    size_t len = 0;
    for (size_t n = 0; n < t->len; n += chunk) {
        size_t part = chunk < t->len - n ? chunk : t->len - n;
        len += gm_http_chunk_head((char *)text + len, part);
        memcpy(text + len, t->data + n, part);
        memcpy(text + len + part, GM_HTTP_CHUNK_TAIL, 2);
        len += part + 2;
    }
    memcpy(text + len, GM_HTTP_CHUNK_END, 5);
    decode(&again, text, len + 5, chunk);
    GM_ASSERT(again.result == GM_HTTP_CHUNKED_DONE && again.consumed == len + 5);
    GM_ASSERT(again.len == t->len && memcmp(again.data, t->data, t->len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct decoded whole, pieces;
    if (size < 2 || size > INPUT_MAX)
        return 0;
    size_t pace = (size_t)data[0] + 1;
    decode(&whole, data + 1, size - 1, size);
    decode(&pieces, data + 1, size - 1, pace);
    bool ended = whole.result < 0 || whole.result == GM_HTTP_CHUNKED_DONE;
    GM_ASSERT(!ended || whole.result == pieces.result);
    GM_ASSERT(ended == (pieces.result < 0 || pieces.result == GM_HTTP_CHUNKED_DONE));
    GM_ASSERT(whole.len == pieces.len && memcmp(whole.data, pieces.data, whole.len) == 0);
    GM_ASSERT(whole.trailers == pieces.trailers);
    GM_ASSERT(whole.result < 0 || whole.consumed == pieces.consumed);
    if (whole.result == GM_HTTP_CHUNKED_DONE)
        check_encoded(&whole, pace);
    return 0;
}
