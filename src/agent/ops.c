/* The agent's own ports. Owner: ring 0.
 *
 * Invariants: an asker is in ops->askers until it is freed; while its census is on its way it is
 * kept, though its connection may have gone. */
#include "agent/ops.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/pages.h"
#include "base/log.h"
#include "control/claim.h"
#include "http/parser.h"

#define REQUEST_MAX 4096u
#define ASKER_NS    5000000000ull
/* Connections at a time: more are closed at once. */
#define ASKERS_MAX 64u

/* What a port shows. */
enum { SHOWS_METRICS = 1u, SHOWS_HEALTH = 2u };

typedef struct gm_agent_page (*page_fn)(struct gm_agent_ring *ctx,
                                        const struct gm_agent_census *census);

static const struct {
    const char *path;
    unsigned shown_by;
    page_fn page;
} pages[] = {
    {"/metrics", SHOWS_METRICS, gm_agent_page_metrics},
    {"/debug/counters", SHOWS_METRICS, gm_agent_page_counters},
    {"/health", SHOWS_HEALTH, gm_agent_page_health},
};

struct gm_agent_ops {
    struct gm_agent_ring *ctx;
    struct gm_listener metrics, health;
    unsigned metrics_shows;
    struct gm_list askers;
    uint32_t asker_count;
};

struct asker {
    struct gm_conn conn;
    struct gm_agent_ops *ops;
    struct gm_list node;
    struct gm_timer timer;
    unsigned shows;
    page_fn page; /* that is asked for */
    bool head_only;
    bool counting; /* the census is on its way */
    bool closed;   /* the connection has gone */
    size_t len, scanned;
    char head[REQUEST_MAX];
    struct gm_agent_census *census; /* NULL: nothing has been asked yet */
};

static struct asker *asker_of(struct gm_conn *conn)
{
    return GM_CONTAINER_OF(conn, struct asker, conn);
}

static void asker_free(struct asker *asker)
{
    gm_list_remove(&asker->node);
    asker->ops->asker_count--;
    free(asker->census);
    free(asker);
}

/* ---- Answers ---- */

static void answer(struct asker *asker, const struct gm_agent_page *page, const char *extra)
{
    char head[256];
    int head_len = snprintf(head, sizeof head,
                            "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s"
                            "Connection: close\r\n\r\n",
                            page->status, page->type, page->len, extra);
    gm_timer_cancel(&asker->timer);
    gm_conn_write(&asker->conn, head, (size_t)head_len);
    if (!asker->head_only)
        gm_conn_write(&asker->conn, page->text, page->len);
    gm_conn_close(&asker->conn);
}

static void answer_error(struct asker *asker, const char *status, char *text, const char *extra)
{
    answer(asker,
           &(struct gm_agent_page){.status = status,
                                   .type = "text/plain; charset=utf-8",
                                   .text = text,
                                   .len = strlen(text)},
           extra);
}

/* The census is complete. */
static void counted(struct gm_agent_census *census)
{
    struct asker *asker = census->arg;
    asker->counting = false;
    if (asker->closed) {
        asker_free(asker);
        return;
    }
    if (!gm_conn_is_open(&asker->conn))
        return;
    struct gm_agent_page page = asker->page(asker->ops->ctx, census);
    if (page.text != NULL)
        answer(asker, &page, "");
    else
        answer_error(asker, "500 Internal Server Error", "500 out of memory\n", "");
    free(page.text);
}

static void ask(struct asker *asker)
{
    struct gm_agent_census *census = malloc(sizeof *census);
    if (census == NULL) {
        answer_error(asker, "500 Internal Server Error", "500 out of memory\n", "");
        return;
    }
    asker->census = census;
    asker->counting = true;
    census->shared = asker->ops->ctx->shared;
    census->on_done = counted;
    census->arg = asker;
    gm_agent_census_take(asker->ops->ctx, census);
}

static void route(struct asker *asker, const struct gm_http_request *request)
{
    asker->head_only = request->method_id == GM_HTTP_HEAD;
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        struct gm_http_span path = {pages[i].path, strlen(pages[i].path)};
        if ((asker->shows & pages[i].shown_by) != 0 && gm_http_span_equal(request->path, path))
            asker->page = pages[i].page;
    }
    if (asker->page == NULL) {
        answer_error(asker, "404 Not Found", "404 page not found\n", "");
    } else if (request->method_id != GM_HTTP_GET && request->method_id != GM_HTTP_HEAD) {
        answer_error(asker, "405 Method Not Allowed", "405 only GET and HEAD\n",
                     "Allow: GET, HEAD\r\n");
    } else {
        ask(asker);
    }
}

/* ---- Connections ---- */

static void asker_recv(struct gm_conn *conn, gm_slice slice)
{
    struct asker *asker = asker_of(conn);
    size_t room = sizeof asker->head - asker->len, n = slice.len < room ? slice.len : room;
    memcpy(asker->head + asker->len, slice.data, n);
    asker->len += n;
    gm_slice_put(slice);
    if (asker->counting)
        return; /* one request, and what follows it is not read */
    struct gm_http_field fields[GM_HTTP_FIELDS_MAX];
    struct gm_http_request request;
    gm_http_request_init(&request, fields, GM_HTTP_FIELDS_MAX, sizeof asker->head);
    int rc = gm_http_parse_request(asker->head, asker->len, &asker->scanned, &request);
    if (rc < 0)
        answer_error(asker, "400 Bad Request", "400 bad request\n", "");
    else if (rc > 0)
        route(asker, &request);
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
    struct asker *asker = asker_of(conn);
    gm_timer_cancel(&asker->timer);
    asker->closed = true;
    if (!asker->counting)
        asker_free(asker);
}

static const struct gm_conn_ops asker_ops = {
    .on_recv = asker_recv,
    .on_recv_end = asker_gone,
    .on_hangup = asker_hangup,
    .on_sent = asker_sent,
    .on_broken = asker_gone,
    .on_closed = asker_closed,
};

static void accept_asker(struct gm_agent_ops *ops, int fd, unsigned shows)
{
    struct gm_ring *ring = ops->ctx->ring;
    struct asker *asker = ops->asker_count < ASKERS_MAX ? calloc(1, sizeof *asker) : NULL;
    if (asker == NULL || gm_conn_open(ring, &asker->conn, fd, &asker_ops) < 0) {
        free(asker);
        gm_ring_close_fd(ring, fd);
        return;
    }
    asker->ops = ops;
    asker->shows = shows;
    gm_list_push_back(&ops->askers, &asker->node);
    ops->asker_count++;
    gm_timer_init(&asker->timer, asker_expired);
    gm_timer_set(ring, &asker->timer, gm_ring_now_ns(ring) + ASKER_NS);
    gm_conn_recv(&asker->conn, GM_POOL_CLIENT, REQUEST_MAX);
}

static void accept_metrics(struct gm_listener *listener, int fd)
{
    struct gm_agent_ops *ops = GM_CONTAINER_OF(listener, struct gm_agent_ops, metrics);
    accept_asker(ops, fd, ops->metrics_shows);
}

static void accept_health(struct gm_listener *listener, int fd)
{
    accept_asker(GM_CONTAINER_OF(listener, struct gm_agent_ops, health), fd, SHOWS_HEALTH);
}

static void listener_closed(struct gm_listener *listener)
{
    (void)listener;
}

/* ---- Ports ---- */

static int open_port(struct gm_agent_ring *ctx, struct gm_listener *listener, int32_t port,
                     void (*on_accept)(struct gm_listener *listener, int fd))
{
    union gm_addr addr = gm_claim_any_addr(port);
    listener->on_accept = on_accept;
    listener->on_closed = listener_closed;
    int rc = gm_listener_open(ctx->ring, listener, &addr);
    if (rc < 0)
        gm_log_fatal("cannot listen", GM_INT("port", port), GM_ERRNO(rc));
    return rc;
}

/* 0, or -EADDRINUSE, which has been told. */
static int claim(int32_t port)
{
    union gm_addr addr = gm_claim_any_addr(port);
    if (port <= 0 || gm_claim_port(&addr) != -EADDRINUSE)
        return 0;
    gm_log_fatal("the port is taken: stop what listens there, or choose another",
                 GM_INT("port", port), GM_ERRNO(-EADDRINUSE));
    return -EADDRINUSE;
}

int gm_agent_ops_claim(const struct gm_agent_config *config)
{
    int rc = claim(config->metrics_port);
    return rc < 0 || config->health_port == config->metrics_port ? rc : claim(config->health_port);
}

int gm_agent_ops_listen(struct gm_agent_ring *ctx)
{
    int32_t metrics = ctx->shared->config->metrics_port, health = ctx->shared->config->health_port;
    bool both = metrics > 0 && metrics == health;
    if (metrics < 0 && health < 0)
        return 0;
    struct gm_agent_ops *ops = calloc(1, sizeof *ops);
    if (ops == NULL)
        return -GM_E_NOMEM;
    ctx->ops = ops;
    ops->ctx = ctx;
    ops->metrics_shows = SHOWS_METRICS | (both ? SHOWS_HEALTH : 0);
    gm_list_init(&ops->askers);
    int rc = metrics < 0 ? 0 : open_port(ctx, &ops->metrics, metrics, accept_metrics);
    if (metrics >= 0 && rc >= 0)
        gm_log_info("metrics", GM_INT("port", gm_listener_port(&ops->metrics)));
    if (rc >= 0 && health >= 0 && !both) {
        rc = open_port(ctx, &ops->health, health, accept_health);
        if (rc >= 0)
            gm_log_info("health", GM_INT("port", gm_listener_port(&ops->health)));
    }
    return rc;
}

void gm_agent_ops_free(struct gm_agent_ops *ops)
{
    struct gm_list *node;
    if (ops == NULL)
        return;
    while ((node = gm_list_first(&ops->askers)) != NULL)
        asker_free(GM_CONTAINER_OF(node, struct asker, node));
    free(ops);
}
