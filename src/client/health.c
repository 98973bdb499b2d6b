/* Checks of a backend. Owner: one ring.
 *
 * Invariants: one check at a time; GM_CALL_HEAD_GRANT is reserved exactly while `checking`; a
 * verdict is told once for each check. A check that could not be made for want of our own memory
 * says nothing about the backend. */
#include "client/health.h"

#include <stdio.h>
#include <string.h>

#include "base/version.h"

static const struct gm_call_ops health_call_ops;

static struct gm_health *health_of(struct gm_call *call)
{
    return GM_CONTAINER_OF(call, struct gm_health, call);
}
static struct gm_ring *ring_of(const struct gm_health *health)
{
    return health->config.backend.store->ring;
}

/* ---- Verdicts ---- */

static void judge(struct gm_health *health, bool good)
{
    bool first = health->checks == 0, before = health->healthy;
    uint32_t enough = good ? health->config.success_threshold : health->config.failure_threshold;
    health->in_a_row = first || health->last_good != good ? 1 : health->in_a_row + 1;
    health->last_good = good;
    health->checks++;
    health->failures += !good;
    if (health->in_a_row >= enough)
        health->healthy = good;
    health->config.on_checked(health, good ? NULL : health->why,
                              first || health->healthy != before);
}

/* The check is over; the next one is armed. */
static void check_end(struct gm_health *health)
{
    struct gm_ring *ring = ring_of(health);
    uint64_t now_ns = gm_ring_now_ns(ring), next_ns = health->begun_ns + health->config.interval_ns;
    gm_call_cancel(&health->call);
    gm_ring_unreserve(ring, GM_CALL_HEAD_GRANT);
    health->checking = false;
    gm_timer_set(ring, &health->timer, next_ns > now_ns ? next_ns : now_ns);
}

static void check_failed(struct gm_health *health, const char *why)
{
    (void)snprintf(health->why, sizeof health->why, "%s", why);
    check_end(health);
    judge(health, false);
}

/* ---- The answer ---- */

static size_t answer_room(struct gm_call *call)
{
    (void)call;
    return GM_CALL_HEAD_GRANT;
}

static void answer_head(struct gm_call *call, const struct gm_http_response *head, bool end)
{
    struct gm_health *health = health_of(call);
    (void)end;
    if (head->status >= 200)
        health->status = head->status;
}

static void answer_over(struct gm_health *health)
{
    bool good = gm_codes_has(health->config.codes, health->status);
    if (!good)
        (void)snprintf(health->why, sizeof health->why, "the backend answers with status %u",
                       health->status);
    check_end(health);
    judge(health, good);
}

static void answer_data(struct gm_call *call, gm_slice slice)
{
    struct gm_health *health = health_of(call);
    health->body_bytes += slice.len;
    gm_slice_put(slice);
    if (health->body_bytes > GM_HEALTH_BODY_MAX)
        answer_over(health);
}

static void answer_end(struct gm_call *call, const struct gm_http_fields *trailers)
{
    (void)trailers;
    answer_over(health_of(call));
}

static void answer_sent(struct gm_call *call)
{
    (void)call;
}

static void answer_failed(struct gm_call *call, enum gm_reason_code reason, bool untouched)
{
    struct gm_health *health = health_of(call);
    (void)untouched;
    if (health->status != 0)
        answer_over(health);
    else
        check_failed(health, gm_reason_get((uint16_t)reason)->text);
}

static const struct gm_call_ops health_call_ops = {
    .room = answer_room,
    .on_head = answer_head,
    .on_data = answer_data,
    .on_end = answer_end,
    .on_sent = answer_sent,
    .on_fail = answer_failed,
};

/* ---- The request ---- */

static int encode(struct gm_health *health, gm_slice *out)
{
    struct gm_buf *buf = gm_ring_block(ring_of(health), GM_BLOCK_SMALL);
    if (buf == NULL)
        return -GM_E_NOMEM;
    static const char agent[] = "gimlet-health/" GM_VERSION;
    struct gm_head_writer writer;
    struct gm_head_request head = {
        .method = "GET",
        .method_len = 3,
        .target = health->config.path,
        .target_len = (uint16_t)strlen(health->config.path),
        .content_length = GM_HEAD_LENGTH_UNKNOWN,
    };
    gm_head_write_request(&writer, buf->data, buf->size, &head);
    gm_head_write_field(&writer,
                        &(struct gm_head_field){"User-Agent", agent, 10, sizeof agent - 1});
    gm_head_write_field(&writer, &(struct gm_head_field){"Accept", "*/*", 6, 3});
    int len = gm_head_write_finish(&writer);
    GM_ASSERT(len > 0); /* a path that has been checked */
    *out = (gm_slice){buf->data, (uint32_t)len, buf};
    return 0;
}

static int check_call(struct gm_health *health)
{
    gm_slice block;
    struct gm_head_request head;
    int rc = encode(health, &block);
    if (rc < 0)
        return rc;
    rc = gm_head_read_request(block.data, block.len, &head);
    GM_ASSERT(rc == 0); /* we have written it */
    struct gm_call_request request = {.head = &head, .block = block};
    rc = gm_call_start(&health->call, &health->pool, &health_call_ops, &request);
    gm_slice_put(block);
    return rc < 0 ? rc : gm_call_end(&health->call);
}

static void check_begin(struct gm_health *health)
{
    struct gm_ring *ring = ring_of(health);
    health->begun_ns = gm_ring_now_ns(ring);
    if (!gm_ring_reserve(ring, GM_CALL_HEAD_GRANT)) {
        gm_timer_set(ring, &health->timer, health->begun_ns + health->config.interval_ns);
        return;
    }
    health->checking = true;
    health->status = 0;
    health->body_bytes = 0;
    health->pool.config.fields = health->config.backend.fields;
    gm_timer_set(ring, &health->timer, health->begun_ns + health->config.timeout_ns);
    int rc = check_call(health);
    if (rc == -GM_E_NOMEM)
        check_end(health);
    else if (rc < 0)
        check_failed(health, gm_reason_get(GM_REASON_BACKEND_CONNECT)->text);
}

static void timer_fired(struct gm_timer *timer)
{
    struct gm_health *health = GM_CONTAINER_OF(timer, struct gm_health, timer);
    if (!health->checking)
        check_begin(health);
    else if (health->status != 0)
        answer_over(health);
    else
        check_failed(health, "the backend did not answer in time");
}

/* ---- Life ---- */

void gm_health_init(struct gm_health *health, const struct gm_health_config *config)
{
    *health = (struct gm_health){.config = *config, .target = *config->backend.target};
    health->target.prefix = (struct gm_http_span){0};
    struct gm_backend_config backend = config->backend;
    backend.target = &health->target;
    backend.connect_timeout_ns = config->timeout_ns;
    backend.header_timeout_ns = 0; /* our own timer is for the whole check */
    backend.idle_timeout_ns = 0;   /* each check asks for a connection, too */
    gm_backend_pool_init(&health->pool, &backend);
    gm_timer_init(&health->timer, timer_fired);
}

void gm_health_start(struct gm_health *health)
{
    health->pool.config.control = health->config.backend.control;
    check_begin(health);
}

void gm_health_stop(struct gm_health *health)
{
    if (health->checking)
        check_end(health);
    gm_timer_cancel(&health->timer);
}
