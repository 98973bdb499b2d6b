/*
 * Fuzz target: response heads. Whole against pieces, and the framing rules of RFC 9112 §6.3 stated
 * once more.
 */
#include "check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct gm_http_field list[GM_HTTP_FIELDS_MAX];

static void check_framing(const struct gm_http_response *res, enum gm_http_method method)
{
    const struct gm_http_framing *f = &res->framing;
    bool tunnel = res->status == 101 ||
                  (method == GM_HTTP_CONNECT && res->status >= 200 && res->status < 300);
    bool none =
        method == GM_HTTP_HEAD || res->status < 200 || res->status == 204 || res->status == 304;
    GM_ASSERT(res->status >= 100 && res->status <= 999);
    if (tunnel)
        GM_ASSERT(f->body == GM_HTTP_BODY_TUNNEL && !f->keep_alive);
    else if (none)
        GM_ASSERT(f->body == GM_HTTP_BODY_NONE);
    else if (f->has_length)
        GM_ASSERT(f->body == GM_HTTP_BODY_LENGTH);
    else if (gm_http_fields_has(&res->fields, GM_HTTP_ID_TRANSFER_ENCODING))
        GM_ASSERT(f->body == GM_HTTP_BODY_CHUNKED);
    else
        GM_ASSERT(f->body == GM_HTTP_BODY_UNTIL_CLOSE && !f->keep_alive);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t pace = (size_t)data[0] + 1;
    enum gm_http_method method = (enum gm_http_method)(data[1] % (GM_HTTP_PATCH + 1));
    data += 2;
    size -= 2;

    struct gm_http_response res;
    size_t scanned = 0;
    int pieces = 0;
    gm_http_response_init(&res, list, GM_HTTP_FIELDS_MAX, GM_HTTP_HEAD_MAX);
    for (size_t n = 0; pieces == 0; n += pace) {
        n = n < size ? n : size;
        char *part = copy_of(data, n);
        pieces = gm_http_parse_response(part, n, &scanned, method, &res);
        free(part);
        if (n == size)
            break;
    }
    char *whole = copy_of(data, size);
    scanned = 0;
    int r = gm_http_parse_response(whole, size, &scanned, method, &res);
    GM_ASSERT(r == pieces);
    if (r > 0) {
        check_fields(&res.fields, whole, (size_t)r);
        check_inside(res.reason, whole, (size_t)r);
        check_framing(&res, method);
    }
    free(whole);
    return 0;
}
