/* /debug/counters over HTTP: one request per connection. Owner: ring 0. It allocates: it is asked
 * for once a second at most. */
#include "agent/ops.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "http/parser.h"

#define REQUEST_MAX 4096u
#define ASKER_NS    5000000000ull

struct asker {
    struct gm_conn conn;
    struct gm_timer timer;
    size_t len, scanned;
    char head[REQUEST_MAX];
};

static struct asker *asker_of(struct gm_conn *conn)
{
    return GM_CONTAINER_OF(conn, struct asker, conn);
}

static void answer(struct asker *asker, const char *status, const char *text, size_t len)
{
    char head[160];
    int head_len = snprintf(head, sizeof head,
                            "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                            "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                            status, len);
    gm_timer_cancel(&asker->timer);
    gm_conn_write(&asker->conn, head, (size_t)head_len);
    gm_conn_write(&asker->conn, text, len);
    gm_conn_close(&asker->conn);
}

static void answer_counters(struct asker *asker)
{
    struct gm_rings *rings = gm_ring_rings(gm_conn_ring(&asker->conn));
    size_t cap = GM_COUNTER_RENDER_MAX(gm_rings_count(rings)) + 128;
    char *text = malloc(cap);
    if (text == NULL) {
        answer(asker, "500 Internal Server Error", "out of memory\n", 14);
        return;
    }
    int prefix = snprintf(text, cap, "io_backend{name=\"%s\"} 1\n", gm_rings_backend(rings));
    ptrdiff_t len =
        gm_counter_render(gm_rings_counters(rings), text + prefix, cap - (size_t)prefix);
    answer(asker, "200 OK", text, (size_t)prefix + (size_t)(len < 0 ? 0 : len));
    free(text);
}

static void asker_recv(struct gm_conn *conn, gm_slice slice)
{
    struct asker *asker = asker_of(conn);
    size_t room = sizeof asker->head - asker->len, n = slice.len < room ? slice.len : room;
    memcpy(asker->head + asker->len, slice.data, n);
    asker->len += n;
    gm_slice_put(slice);
    struct gm_http_field fields[GM_HTTP_FIELDS_MAX];
    struct gm_http_request request;
    gm_http_request_init(&request, fields, GM_HTTP_FIELDS_MAX, sizeof asker->head);
    int rc = gm_http_parse_request(asker->head, asker->len, &asker->scanned, &request);
    if (rc < 0)
        answer(asker, "400 Bad Request", "400 bad request\n", 16);
    else if (rc > 0 && gm_http_span_equal(request.path, GM_HTTP_LIT("/debug/counters")))
        answer_counters(asker);
    else if (rc > 0)
        answer(asker, "404 Not Found", "404 page not found\n", 19);
}

static void asker_gone(struct gm_conn *conn, int error)
{
    (void)error;
    gm_timer_cancel(&asker_of(conn)->timer);
    gm_conn_abort(conn, false);
}

static void asker_hangup(struct gm_conn *conn)
{
    asker_gone(conn, 0);
}

static void asker_sent(struct gm_conn *conn, size_t bytes)
{
    (void)conn;
    (void)bytes;
}

static void asker_expired(struct gm_timer *timer)
{
    gm_conn_abort(&GM_CONTAINER_OF(timer, struct asker, timer)->conn, false);
}

static void asker_closed(struct gm_conn *conn)
{
    free(asker_of(conn));
}

static const struct gm_conn_ops asker_ops = {
    .on_recv = asker_recv,
    .on_recv_end = asker_gone,
    .on_hangup = asker_hangup,
    .on_sent = asker_sent,
    .on_broken = asker_gone,
    .on_closed = asker_closed,
};

static void accept_asker(struct gm_listener *listener, int fd)
{
    struct gm_ring *ring = listener->sock.ring;
    struct asker *asker = calloc(1, sizeof *asker);
    if (asker == NULL || gm_conn_open(ring, &asker->conn, fd, &asker_ops) < 0) {
        free(asker);
        gm_ring_close_fd(ring, fd);
        return;
    }
    gm_timer_init(&asker->timer, asker_expired);
    gm_timer_set(ring, &asker->timer, gm_ring_now_ns(ring) + ASKER_NS);
    gm_conn_recv(&asker->conn, GM_POOL_CLIENT, REQUEST_MAX);
}

static void listener_closed(struct gm_listener *listener)
{
    (void)listener;
}

int gm_agent_ops_listen(struct gm_agent_ring *ctx)
{
    int32_t port = ctx->shared->config->metrics_port;
    union gm_addr addr = {.in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)}};
    ctx->metrics_listener.on_accept = accept_asker;
    ctx->metrics_listener.on_closed = listener_closed;
    int rc = gm_listener_open(ctx->ring, &ctx->metrics_listener, &addr);
    if (rc < 0)
        gm_log_fatal("cannot listen", GM_INT("port", port), GM_ERRNO(rc));
    else
        gm_log_info("metrics", GM_INT("port", gm_listener_port(&ctx->metrics_listener)));
    return rc;
}
