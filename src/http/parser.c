/*
 * Start lines, and the two entry points that turn bytes into a parsed head (http/parser.h). Pure.
 * A head that arrives whole is parsed in one pass. One that arrives in pieces is checked line by
 * line as lines complete (nothing kept, so that the bytes may move) and parsed once more when its
 * empty line is there. Invariant: the verdict on a prefix of the input is the same whichever way it
 * was reached.
 */
#include "http/internal.h"

#include "base/assert.h"
#include "http/target.h"

#include <string.h>

/* Every full parse within this many bytes happens afresh: what is judged by position, not by line,
 * lies in there. */
#define FRESH_BYTES (2 * GM_HTTP_LEADING_LINES_MAX)

static const struct {
    struct gm_http_span name;
    bool idempotent;
} methods[] = {
    [GM_HTTP_OTHER] = {{NULL, 0}, false},        [GM_HTTP_GET] = {{"GET", 3}, true},
    [GM_HTTP_HEAD] = {{"HEAD", 4}, true},        [GM_HTTP_POST] = {{"POST", 4}, false},
    [GM_HTTP_PUT] = {{"PUT", 3}, true},          [GM_HTTP_DELETE] = {{"DELETE", 6}, true},
    [GM_HTTP_CONNECT] = {{"CONNECT", 7}, false}, [GM_HTTP_OPTIONS] = {{"OPTIONS", 7}, true},
    [GM_HTTP_TRACE] = {{"TRACE", 5}, true},      [GM_HTTP_PATCH] = {{"PATCH", 5}, false},
};

enum gm_http_method gm_http_method_lookup(struct gm_http_span method)
{
    for (unsigned i = GM_HTTP_GET; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (gm_http_span_equal(method, methods[i].name))
            return (enum gm_http_method)i;
    }
    return GM_HTTP_OTHER;
}

bool gm_http_method_idempotent(enum gm_http_method method)
{
    return methods[method].idempotent;
}

static void fields_init(struct gm_http_fields *fields, struct gm_http_field *list, uint16_t max)
{
    GM_ASSERT(max > 0 && max <= GM_HTTP_FIELDS_MAX);
    *fields = (struct gm_http_fields){.list = list, .max = max};
}

void gm_http_request_init(struct gm_http_request *req, struct gm_http_field *list, uint16_t max,
                          uint32_t head_max)
{
    GM_ASSERT(head_max > 0 && head_max <= GM_HTTP_HEAD_MAX);
    *req = (struct gm_http_request){.head_max = head_max};
    fields_init(&req->fields, list, max);
}

void gm_http_response_init(struct gm_http_response *res, struct gm_http_field *list, uint16_t max,
                           uint32_t head_max)
{
    GM_ASSERT(head_max > 0 && head_max <= GM_HTTP_HEAD_MAX);
    *res = (struct gm_http_response){.head_max = head_max};
    fields_init(&res->fields, list, max);
}

/* Whether a full parse can say anything that the last one did not: an error, or the whole head. */
static bool worth_parsing(const char *buf, size_t limit, size_t scanned)
{
    if (scanned <= FRESH_BYTES)
        return true;
    if (scanned >= limit || memchr(buf + scanned, '\n', limit - scanned) == NULL)
        return false;
    const char *before = memrchr(buf, '\n', scanned);
    if (before == NULL || before - buf < FRESH_BYTES)
        return true;

    const char *p = before + 1, *end = buf + limit;
    struct gm_http_field unused;
    int r;
    do
        r = gm_http_line_parse(&p, end, &unused);
    while (r == GM_HTTP_LINE_FIELD);
    return r != GM_HTTP_LINE_MORE;
}

/* "HTTP/x.y" at p. 0 with the minor version, or an error; `end` is the end of what is there. */
static int version_parse(const char *p, const char *end, uint8_t *minor)
{
    if (end - p < 8)
        return -GM_HTTP_E_VERSION;
    if (memcmp(p, "HTTP/1.", 7) == 0 && (p[7] == '0' || p[7] == '1')) {
        *minor = (uint8_t)(p[7] - '0');
        return 0;
    }
    bool formed = memcmp(p, "HTTP/", 5) == 0 && gm_http_is(p[5], GM_HTTP_C_DIGIT) && p[6] == '.' &&
                  gm_http_is(p[7], GM_HTTP_C_DIGIT);
    return formed ? -GM_HTTP_E_VERSION_UNSUPPORTED : -GM_HTTP_E_VERSION;
}

/* What is wrong at q, where something of a start line should have gone on. */
static int start_line_error(const char *q, const char *end, int otherwise)
{
    if (q == end)
        return otherwise;
    if (*q == '\n')
        return -GM_HTTP_E_BARE_LF;
    if (*q == '\r' && q + 1 < end && q[1] != '\n')
        return -GM_HTTP_E_BARE_CR;
    return otherwise;
}

/* scheme://authority[path][?query] */
static int absolute_parse(struct gm_http_request *req)
{
    const char *p = req->target.p, *end = p + req->target.len;
    const char *colon = memchr(p, ':', req->target.len);
    if (colon == NULL || end - colon < 3 || colon[1] != '/' || colon[2] != '/')
        return -GM_HTTP_E_TARGET;
    req->scheme = (struct gm_http_span){p, (size_t)(colon - p)};
    if (!gm_http_span_equal_nocase(req->scheme, GM_HTTP_LIT("http")) &&
        !gm_http_span_equal_nocase(req->scheme, GM_HTTP_LIT("https")))
        return -GM_HTTP_E_TARGET;

    const char *host = colon + 3, *stop = host;
    while (stop < end && *stop != '/' && *stop != '?')
        stop++;
    req->authority = (struct gm_http_span){host, (size_t)(stop - host)};
    struct gm_http_span name, port;
    if (gm_http_authority_split(req->authority, &name, &port) < 0)
        return -GM_HTTP_E_TARGET;
    req->path = (struct gm_http_span){stop, (size_t)(end - stop)};
    return 0;
}

static int authority_parse(struct gm_http_request *req)
{
    struct gm_http_span name, port;
    if (gm_http_authority_split(req->target, &name, &port) < 0 || port.len == 0)
        return -GM_HTTP_E_TARGET_FORM;
    req->form = GM_HTTP_FORM_AUTHORITY;
    req->authority = req->target;
    return 0;
}

/* Takes the target apart; req->path holds path and query together until the end. */
static int target_parse(struct gm_http_request *req)
{
    const struct gm_http_span none = {req->target.p, 0};
    req->scheme = req->authority = req->path = req->query = none;
    if (req->method_id == GM_HTTP_CONNECT)
        return authority_parse(req);
    if (req->target.p[0] == '/') {
        req->form = GM_HTTP_FORM_ORIGIN;
        req->path = req->target;
    } else if (req->target.len == 1 && req->target.p[0] == '*') {
        req->form = GM_HTTP_FORM_ASTERISK;
        return req->method_id == GM_HTTP_OPTIONS ? 0 : -GM_HTTP_E_TARGET_FORM;
    } else {
        req->form = GM_HTTP_FORM_ABSOLUTE;
        int r = absolute_parse(req);
        if (r < 0)
            return r;
    }
    const char *end = req->path.p + req->path.len;
    const char *mark = memchr(req->path.p, '?', req->path.len);
    if (mark == NULL)
        mark = end;
    req->query = (struct gm_http_span){mark, (size_t)(end - mark)};
    req->path.len = (size_t)(mark - req->path.p);
    return gm_http_escapes_valid(req->path) ? 0 : -GM_HTTP_E_TARGET;
}

/* "METHOD SP target SP HTTP/1.x CRLF" at *p, where a token begins; an error is judged by the
 * caller, who knows whether the line is complete. */
static int request_line_parse(const char **p, const char *end, struct gm_http_request *req)
{
    const char *q = gm_http_skip(*p, end, GM_HTTP_C_TOKEN);
    if (q == end || *q == '\r' || *q == '\n')
        return start_line_error(q, end, -GM_HTTP_E_REQUEST_LINE);
    if (*q != ' ')
        return -GM_HTTP_E_METHOD;
    req->method = (struct gm_http_span){*p, (size_t)(q - *p)};
    if (req->method.len > GM_HTTP_METHOD_MAX)
        return -GM_HTTP_E_METHOD_TOO_LONG;
    req->method_id = (uint8_t)gm_http_method_lookup(req->method);

    const char *target = q + 1;
    q = gm_http_scan_target(target, end);
    if (q == end || *q == '\r' || *q == '\n' || q == target)
        return start_line_error(q, end, -GM_HTTP_E_REQUEST_LINE);
    if (*q != ' ')
        return -GM_HTTP_E_TARGET;
    req->target = (struct gm_http_span){target, (size_t)(q - target)};

    int r = version_parse(++q, end, &req->framing.version_minor);
    if (r < 0)
        return r;
    q += 8;
    if (end - q < 2 || q[0] != '\r' || q[1] != '\n')
        return start_line_error(q, end, -GM_HTTP_E_REQUEST_LINE);
    *p = q + 2;
    return target_parse(req);
}

/* Steps over empty lines. 1: something else begins at *p; 0: more bytes are needed; or an error. */
static int leading_lines_skip(const char **p, const char *end)
{
    for (unsigned i = 0; *p < end; i++, *p += 2) {
        if (**p == '\n')
            return -GM_HTTP_E_BARE_LF;
        if (**p != '\r')
            return 1;
        if (i == GM_HTTP_LEADING_LINES_MAX)
            return -GM_HTTP_E_LEADING_LINES;
        if (end - *p < 2)
            return 0;
        if ((*p)[1] != '\n')
            return -GM_HTTP_E_BARE_CR;
    }
    return 0;
}

/* Length of a complete head, 0, or an error. */
static int request_parse(const char *buf, const char *end, struct gm_http_request *req)
{
    const char *p = buf;
    int r = leading_lines_skip(&p, end);
    if (r <= 0)
        return r;
    if (!gm_http_is(*p, GM_HTTP_C_TOKEN))
        return -GM_HTTP_E_METHOD;
    const char *line = p;
    req->framing = (struct gm_http_framing){0};
    r = request_line_parse(&p, end, req);
    if (r < 0)
        return memchr(line, '\n', (size_t)(end - line)) != NULL ? r : 0;

    struct gm_http_index index;
    index.overflow = false;
    r = gm_http_lines_parse(&p, end, &req->fields, &index);
    if (r <= 0)
        return r;
    if (index.overflow)
        return -GM_HTTP_E_FIELD_TOO_MANY;
    r = gm_http_derive_request(req, &index);
    return r < 0 ? r : (int)(p - buf);
}

int gm_http_parse_request(const char *buf, size_t len, size_t *scanned, struct gm_http_request *req)
{
    if (len == 0)
        return 0;
    size_t limit = len < req->head_max ? len : req->head_max;
    int r = worth_parsing(buf, limit, *scanned) ? request_parse(buf, buf + limit, req) : 0;
    if (r != 0)
        return r;
    *scanned = limit;
    if (len < req->head_max)
        return 0;
    /* The limit is reached: whose fault was it, the request line's or the fields'? */
    const char *p = buf, *end = buf + limit;
    (void)leading_lines_skip(&p, end);
    bool line_done = memchr(p, '\n', (size_t)(end - p)) != NULL;
    return line_done ? -GM_HTTP_E_HEAD_TOO_LARGE : -GM_HTTP_E_TARGET_TOO_LONG;
}

/* "HTTP/1.x SP NNN [SP reason] CRLF" at *p. The space before an empty reason is often left out, and
 * harmless. */
static int status_line_parse(const char **p, const char *end, struct gm_http_response *res)
{
    const char *q = *p;
    int r = version_parse(q, end, &res->framing.version_minor);
    if (r < 0)
        return r == -GM_HTTP_E_VERSION ? -GM_HTTP_E_STATUS_LINE : r;
    q += 8;
    if (q == end || *q != ' ')
        return start_line_error(q, end, -GM_HTTP_E_STATUS_LINE);
    unsigned status = 0;
    for (q++; q < *p + 12; q++) {
        if (q == end || !gm_http_is(*q, GM_HTTP_C_DIGIT))
            return start_line_error(q, end, -GM_HTTP_E_STATUS_LINE);
        status = 10 * status + (unsigned)(*q - '0');
    }
    if (q == end || status < 100 || (*q != ' ' && *q != '\r'))
        return start_line_error(q, end, -GM_HTTP_E_STATUS_LINE);
    res->status = (uint16_t)status;

    const char *reason = *q == ' ' ? q + 1 : q;
    q = gm_http_scan_value(reason, end);
    if (end - q < 2 || q[0] != '\r' || q[1] != '\n')
        return start_line_error(q, end, -GM_HTTP_E_STATUS_LINE);
    res->reason = (struct gm_http_span){reason, (size_t)(q - reason)};
    *p = q + 2;
    return 0;
}

static int response_parse(const char *buf, const char *end, enum gm_http_method method,
                          struct gm_http_response *res)
{
    const char *p = buf;
    res->framing = (struct gm_http_framing){0};
    int r = status_line_parse(&p, end, res);
    if (r < 0)
        return memchr(buf, '\n', (size_t)(end - buf)) != NULL ? r : 0;

    struct gm_http_index index;
    index.overflow = false;
    r = gm_http_lines_parse(&p, end, &res->fields, &index);
    if (r <= 0)
        return r;
    if (index.overflow)
        return -GM_HTTP_E_FIELD_TOO_MANY;
    r = gm_http_derive_response(res, method, &index);
    return r < 0 ? r : (int)(p - buf);
}

int gm_http_parse_response(const char *buf, size_t len, size_t *scanned, enum gm_http_method method,
                           struct gm_http_response *res)
{
    if (len == 0)
        return 0;
    size_t limit = len < res->head_max ? len : res->head_max;
    int r = worth_parsing(buf, limit, *scanned) ? response_parse(buf, buf + limit, method, res) : 0;
    if (r != 0)
        return r;
    *scanned = limit;
    return len < res->head_max ? 0 : -GM_HTTP_E_HEAD_TOO_LARGE;
}
