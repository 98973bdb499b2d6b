/*
 * Fuzz target: request heads. Whole against pieces (cut by the first input byte), limits, framing
 * rules, and parse ∘ write ∘ parse = parse.
 */
#include "check.h"

#include "http/target.h"
#include "http/writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct gm_http_field list[GM_HTTP_FIELDS_MAX], list_again[GM_HTTP_FIELDS_MAX];

static void check_request(const struct gm_http_request *req, const char *buf, int head_len)
{
    const struct gm_http_framing *f = &req->framing;
    size_t len = (size_t)head_len;
    GM_ASSERT(len >= 4 && memcmp(buf + len - 4, "\r\n\r\n", 4) == 0);
    check_fields(&req->fields, buf, len);
    check_inside(req->target, buf, len);
    check_inside(req->host, buf, req->host.len > 0 ? len : SIZE_MAX / 2);
    GM_ASSERT(req->form != GM_HTTP_FORM_ORIGIN || (req->path.len > 0 && req->path.p[0] == '/'));
    GM_ASSERT(req->path.len + req->query.len <= req->target.len);
    GM_ASSERT(f->version_minor == 0 || gm_http_fields_has(&req->fields, GM_HTTP_ID_HOST));
    bool coded = gm_http_fields_has(&req->fields, GM_HTTP_ID_TRANSFER_ENCODING);
    GM_ASSERT(coded == (f->body == GM_HTTP_BODY_CHUNKED));
    GM_ASSERT(f->has_length == gm_http_fields_has(&req->fields, GM_HTTP_ID_CONTENT_LENGTH));
    GM_ASSERT(f->has_length == (f->body == GM_HTTP_BODY_LENGTH));
    GM_ASSERT(f->length <= (uint64_t)INT64_MAX && (f->length == 0 || f->has_length));
    GM_ASSERT(f->upgrade == GM_HTTP_UPGRADE_NONE ||
              (f->body != GM_HTTP_BODY_CHUNKED && f->length == 0));

    struct gm_http_service_path service;
    if (req->form == GM_HTTP_FORM_ORIGIN && gm_http_service_split(req->target, &service) == 1) {
        GM_ASSERT(service.name_len > 0 && strlen(service.name) == service.name_len);
        GM_ASSERT(strpbrk(service.name, "/\r\n\t") == NULL);
        check_inside(service.rest, req->target.p, req->target.len);
    }
}

static void check_rewritten(const struct gm_http_request *req)
{
    static char buf[GM_HTTP_HEAD_MAX + 1024];
    struct gm_http_request again;
    struct gm_http_out out;
    size_t scanned = 0;
    gm_http_out_init(&out, buf, sizeof(buf));
    (void)gm_http_write_request_line(&out, req->method, GM_HTTP_LIT(""), req->target,
                                     req->framing.version_minor);
    (void)gm_http_write_fields(&out, &req->fields, 0);
    GM_ASSERT(gm_http_write_end(&out) == 0);
    if (out.len > GM_HTTP_HEAD_MAX)
        return;
    gm_http_request_init(&again, list_again, GM_HTTP_FIELDS_MAX, GM_HTTP_HEAD_MAX);
    GM_ASSERT(gm_http_parse_request(buf, out.len, &scanned, &again) == (int)out.len);
    GM_ASSERT(gm_http_span_equal(req->target, again.target) &&
              gm_http_span_equal(req->host, again.host));
    GM_ASSERT(req->fields.count == again.fields.count && req->framing.body == again.framing.body);
    GM_ASSERT(req->framing.length == again.framing.length &&
              req->framing.keep_alive == again.framing.keep_alive);
    for (unsigned i = 0; i < again.fields.count; i++) {
        const struct gm_http_field *a = &req->fields.list[i], *b = &again.fields.list[i];
        GM_ASSERT(gm_http_span_equal(gm_http_field_name(a), gm_http_field_name(b)));
        GM_ASSERT(gm_http_span_equal(gm_http_field_value(a), gm_http_field_value(b)) &&
                  a->flags == b->flags);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t pace = (size_t)data[0] + 1;
    /* Most inputs run with roomy limits; one bit chooses tight ones. */
    uint32_t head_max = data[1] & 128 ? 64u + (data[1] & 127u) : GM_HTTP_HEAD_MAX;
    uint16_t max = data[1] & 128 ? 3 : GM_HTTP_FIELDS_MAX;
    data += 2;
    size -= 2;

    struct gm_http_request req;
    size_t scanned = 0;
    int pieces = 0;
    for (size_t n = 0; pieces == 0; n += pace) {
        n = n < size ? n : size;
        char *part = copy_of(data, n);
        gm_http_request_init(&req, list, max, head_max);
        pieces = gm_http_parse_request(part, n, &scanned, &req);
        free(part);
        if (n == size)
            break;
    }
    char *whole = copy_of(data, size);
    scanned = 0;
    gm_http_request_init(&req, list, max, head_max);
    int r = gm_http_parse_request(whole, size, &scanned, &req);
    GM_ASSERT(r == pieces);
    GM_ASSERT(r >= 0 || gm_http_error_status(r) != 500);
    if (r > 0) {
        check_request(&req, whole, r);
        check_rewritten(&req);
    }
    free(whole);
    return 0;
}
