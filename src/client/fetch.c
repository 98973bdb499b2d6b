/* One request and its answer's body. Owner: one ring. Invariants: GM_CALL_HEAD_GRANT is reserved,
 * the timer runs and the call is under way exactly while `busy`; no byte is written behind `room`.
 */
#include "client/fetch.h"

#include <stdio.h>
#include <string.h>

#include "base/version.h"

#define STATUS_OK 200

static const struct gm_call_ops fetch_call_ops;

static struct gm_fetch *fetch_of(struct gm_call *call)
{
    return GM_CONTAINER_OF(call, struct gm_fetch, call);
}
static struct gm_ring *ring_of(const struct gm_fetch *fetch)
{
    return fetch->config.backend.store->ring;
}

void gm_fetch_cancel(struct gm_fetch *fetch)
{
    if (!fetch->busy)
        return;
    fetch->busy = false;
    gm_call_cancel(&fetch->call);
    gm_timer_cancel(&fetch->timer);
    gm_ring_unreserve(ring_of(fetch), GM_CALL_HEAD_GRANT);
}

static void done(struct gm_fetch *fetch, int error, const char *problem)
{
    gm_fetch_cancel(fetch);
    fetch->error = error;
    fetch->config.on_done(fetch, problem);
}

/* ---- The answer ---- */

static size_t answer_room(struct gm_call *call)
{
    (void)call;
    return GM_CALL_HEAD_GRANT;
}

static void answer_head(struct gm_call *call, const struct gm_http_response *head, bool end)
{
    struct gm_fetch *fetch = fetch_of(call);
    (void)end;
    if (head->status < 200)
        return;
    fetch->status = head->status;
    if (fetch->status == STATUS_OK || fetch->config.any_status)
        return;
    (void)snprintf(fetch->problem, sizeof fetch->problem, "it was answered with status %u",
                   head->status);
    done(fetch, -GM_E_PROTOCOL, fetch->problem);
}

static void answer_data(struct gm_call *call, gm_slice slice)
{
    struct gm_fetch *fetch = fetch_of(call);
    bool fits = slice.len <= fetch->config.room_bytes - fetch->len;
    if (fits) {
        memcpy(fetch->config.room + fetch->len, slice.data, slice.len);
        fetch->len += slice.len;
    }
    gm_slice_put(slice);
    if (fits)
        return;
    (void)snprintf(fetch->problem, sizeof fetch->problem, "it is larger than %zu bytes",
                   fetch->config.room_bytes);
    done(fetch, -GM_E_LIMIT, fetch->problem);
}

static void answer_end(struct gm_call *call, const struct gm_http_fields *trailers)
{
    (void)trailers;
    done(fetch_of(call), 0, NULL);
}

static void answer_sent(struct gm_call *call)
{
    (void)call;
}

static void answer_failed(struct gm_call *call, enum gm_reason_code reason, bool untouched)
{
    const char *why = "the connection broke, or what came was not valid HTTP";
    (void)untouched;
    if (reason == GM_REASON_BACKEND_CONNECT)
        why = "no connection could be made";
    else if (reason == GM_REASON_OVERLOAD)
        why = "out of memory";
    done(fetch_of(call), reason == GM_REASON_OVERLOAD ? -GM_E_NOMEM : -GM_E_CLOSED, why);
}

static const struct gm_call_ops fetch_call_ops = {
    .room = answer_room,
    .on_head = answer_head,
    .on_data = answer_data,
    .on_end = answer_end,
    .on_sent = answer_sent,
    .on_fail = answer_failed,
};

static void late(struct gm_timer *timer)
{
    done(GM_CONTAINER_OF(timer, struct gm_fetch, timer), -GM_E_TIMEOUT, "it did not come in time");
}

/* ---- The request ---- */

static void put_field(struct gm_head_writer *writer, const char *name, const char *value)
{
    size_t name_len = strlen(name), value_len = strlen(value);
    if (name_len > UINT16_MAX || value_len > UINT16_MAX) {
        writer->error = -GM_E_LIMIT;
        return;
    }
    gm_head_write_field(
        writer, &(struct gm_head_field){name, value, (uint16_t)name_len, (uint16_t)value_len});
}

/* Methods whose requests say that they have no body. */
static bool is_counted(const char *method)
{
    return strcmp(method, "PUT") == 0 || strcmp(method, "POST") == 0;
}

static int encode(const struct gm_fetch *fetch, gm_slice *out)
{
    const struct gm_fetch_config *config = &fetch->config;
    const char *method = config->method != NULL ? config->method : "GET";
    struct gm_buf *buf = gm_ring_block(ring_of(fetch), GM_BLOCK_HEAD);
    if (buf == NULL)
        return -GM_E_NOMEM;
    struct gm_head_writer writer;
    struct gm_head_request head = {
        .method = method,
        .method_len = (uint8_t)strlen(method),
        .target = config->path,
        .target_len = (uint16_t)strlen(config->path),
        .content_length =
            config->body_len > 0 || is_counted(method) ? config->body_len : GM_HEAD_LENGTH_UNKNOWN,
        .flags = config->body_len > 0 ? GM_HEAD_FLAG_BODY : 0,
    };
    gm_head_write_request(&writer, buf->data, buf->size, &head);
    put_field(&writer, "User-Agent", "gimlet/" GM_VERSION);
    if (config->accept != NULL)
        put_field(&writer, "Accept", config->accept);
    for (size_t i = 0; i < config->field_count; i++)
        put_field(&writer, config->fields[i].name, config->fields[i].value);
    int len = gm_head_write_finish(&writer);
    *out = (gm_slice){buf->data, len > 0 ? (uint32_t)len : 0, buf};
    return len;
}

/* The call has begun: its body and its end. */
static int send_body(struct gm_fetch *fetch)
{
    const struct gm_fetch_config *config = &fetch->config;
    if (config->body_len == 0)
        return gm_call_end(&fetch->call);
    struct gm_buf *buf = gm_ring_block(ring_of(fetch), GM_BLOCK_HEAD);
    if (buf == NULL)
        return -GM_E_NOMEM;
    memcpy(buf->data, config->body, config->body_len);
    int rc = gm_call_data(&fetch->call, (gm_slice){buf->data, (uint32_t)config->body_len, buf});
    return rc < 0 ? rc : gm_call_end(&fetch->call);
}

static int call(struct gm_fetch *fetch)
{
    gm_slice block = {0};
    struct gm_head_request head;
    if (fetch->config.body_len > GM_FETCH_BODY_MAX)
        return -GM_E_LIMIT;
    int rc = encode(fetch, &block);
    if (rc > 0)
        rc = gm_head_read_request(block.data, block.len, &head);
    if (rc >= 0) {
        struct gm_call_request request = {.head = &head, .block = block};
        rc = gm_call_start(&fetch->call, &fetch->pool, &fetch_call_ops, &request);
    }
    gm_slice_put(block);
    return rc < 0 ? rc : send_body(fetch);
}

void gm_fetch_begin(struct gm_fetch *fetch)
{
    struct gm_ring *ring = ring_of(fetch);
    GM_ASSERT(!fetch->busy);
    fetch->status = 0;
    fetch->len = 0;
    if (!gm_ring_reserve(ring, GM_CALL_HEAD_GRANT)) {
        fetch->error = -GM_E_NOMEM;
        fetch->config.on_done(fetch, "out of memory");
        return;
    }
    fetch->busy = true;
    gm_timer_set(ring, &fetch->timer, gm_ring_now_ns(ring) + fetch->config.timeout_ns);
    int rc = call(fetch);
    if (rc < 0)
        done(fetch, rc, gm_error_text(rc));
}

void gm_fetch_init(struct gm_fetch *fetch, const struct gm_fetch_config *config)
{
    memset(fetch, 0, sizeof *fetch);
    fetch->config = *config;
    struct gm_backend_config backend = config->backend;
    backend.connect_timeout_ns = config->timeout_ns;
    backend.header_timeout_ns = 0; /* our own timer is for the whole */
    backend.idle_timeout_ns = 0;
    gm_backend_pool_init(&fetch->pool, &backend);
    gm_timer_init(&fetch->timer, late);
}
