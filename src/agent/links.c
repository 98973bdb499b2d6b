/* Links as their own ring sees them: begun by a dialler's mail, reported to it, drained, ended.
 *
 * Owner: the link's ring. Invariants: down is reported once, closed once and last; a surplus link
 * is not reported up. */
#include <stdio.h>
#include <string.h>

#include "agent/dialler.h"
#include "agent/health.h"
#include "agent/note.h"
#include "agent/serve.h"

static const struct gm_link_ops agent_link_ops;

static struct gm_agent_link *agent_link_of(struct gm_link *link)
{
    return GM_CONTAINER_OF(link, struct gm_agent_link, link);
}

static void report(struct gm_agent_link *self, struct gm_mail *mail,
                   void (*deliver)(struct gm_mail *))
{
    mail->deliver = deliver;
    gm_ring_mail(self->ctx->ring, gm_dialler_ring(self->service->dialler), mail);
}

static void report_down(struct gm_agent_link *self, const char *cause)
{
    (void)snprintf(self->cause, sizeof self->cause, "%s", cause);
    self->down_ns = gm_ring_now_ns(self->ctx->ring);
    gm_timer_cancel(&self->deadline);
    gm_agent_report_end(self);
    gm_task_cancel(&self->end_task);
    report(self, &self->mail_down, gm_dialler_link_down);
}

/* ---- What the server is told ---- */

/* A note that found no room is tried again then; one that has left is repeated, because a server
 * short of memory may drop it. */
#define TELL_AGAIN_NS  100000000ull
#define TELL_REPEAT_NS 10000000000ull

static void tell(struct gm_agent_link *self)
{
    static const char ready[] = "{\"type\":\"ready\",\"state\":\"ready\"}",
                      not_ready[] = "{\"type\":\"not_ready\",\"state\":\"not_ready\"}",
                      draining[] = "{\"type\":\"draining\",\"state\":\"draining\"}";
    struct gm_ring *ring = self->ctx->ring;
    bool now = gm_agent_health_ready(self->service);
    uint64_t now_ns = gm_ring_now_ns(ring);
    bool known = now == self->told_ready && now_ns - self->told_ns < TELL_REPEAT_NS;
    if (known || self->up_ns == 0 || self->ctx->draining || !gm_link_is_up(&self->link))
        return;
    int rc = now ? gm_link_note(&self->link, ready, sizeof ready - 1)
                 : gm_link_note(&self->link, not_ready, sizeof not_ready - 1);
    /* To 0.0.6 "not ready" means nothing, but who drains may be ready again. */
    if (rc >= 0 && !now && gm_link_is_old(&self->link))
        rc = gm_link_note(&self->link, draining, sizeof draining - 1);
    if (rc >= 0) {
        self->told_ready = now;
        self->told_ns = now_ns;
    } else if (rc != -GM_E_CLOSED) {
        gm_timer_set(ring, &self->ctx->tell_timer, now_ns + TELL_AGAIN_NS);
    }
}

void gm_agent_links_tell(struct gm_agent_ring *ctx)
{
    for (struct gm_list *node = ctx->links.next; node != &ctx->links; node = node->next)
        tell(GM_CONTAINER_OF(node, struct gm_agent_link, node));
}

void gm_agent_links_tell_again(struct gm_timer *timer)
{
    gm_agent_links_tell(GM_CONTAINER_OF(timer, struct gm_agent_ring, tell_timer));
}

/* ---- What the link tells ---- */

static void link_up(struct gm_link *link)
{
    struct gm_agent_link *self = agent_link_of(link);
    gm_timer_cancel(&self->deadline);
    self->surplus = link->hello.lane >= link->hello.lanes;
    if (self->surplus) {
        gm_ring_soon(self->ctx->ring, &self->end_task);
        return;
    }
    self->up_ns = self->told_ns = gm_ring_now_ns(self->ctx->ring);
    tell(self); /* it may have changed since the greeting was made */
    gm_agent_report_begin(self);
    report(self, &self->mail_up, gm_dialler_link_up);
}

static void link_surplus(struct gm_task *task)
{
    struct gm_agent_link *self = GM_CONTAINER_OF(task, struct gm_agent_link, end_task);
    gm_link_end(&self->link, GM_REASON_NONE, GM_WS_CLOSE_NORMAL, "surplus");
}

static void link_drains(struct gm_link *link)
{
    struct gm_agent_link *self = agent_link_of(link);
    self->leaving = true;
    if (self->up_ns != 0)
        report(self, &self->mail_drain, gm_dialler_link_drains);
}

void gm_agent_link_leaves(struct gm_agent_link *self)
{
    if (self->up_ns == 0 || self->leave_told)
        return;
    self->leaving = self->leave_told = true;
    report(self, &self->mail_leave, gm_dialler_link_leaves);
}

void gm_agent_link_hears(struct gm_agent_link *self, uint32_t at_least)
{
    if (self->up_ns == 0 || atomic_load_explicit(&self->heard, memory_order_acquire) != 0)
        return;
    atomic_store_explicit(&self->heard, at_least, memory_order_release);
    report(self, &self->mail_hear, gm_dialler_link_hears);
}

static void link_down(struct gm_link *link, enum gm_reason_code reason, const char *text)
{
    struct gm_agent_link *self = agent_link_of(link);
    (void)reason;
    self->surplus = self->surplus || link->duplicate; /* 0.0.x says so by refusing it */
    report_down(self, text);
}

static void link_closed(struct gm_link *link)
{
    struct gm_agent_link *self = agent_link_of(link);
    gm_list_remove(&self->node);
    report(self, &self->mail_closed, gm_dialler_link_closed);
}

static const struct gm_link_ops agent_link_ops = {
    .on_up = link_up,
    .on_drain = link_drains,
    .on_note = gm_agent_note,
    .on_down = link_down,
    .on_closed = link_closed,
};

static void link_late(struct gm_timer *timer)
{
    struct gm_agent_link *self = GM_CONTAINER_OF(timer, struct gm_agent_link, deadline);
    gm_link_end(&self->link, GM_REASON_TIMEOUT, GM_WS_CLOSE_GOING_AWAY,
                "the link was not established in time");
}

/* ---- Beginning, draining, ending ---- */

static void configure(const struct gm_agent_link *self, struct gm_link_config *config)
{
    const char *name = self->service->config->name;
    *config = (struct gm_link_config){
        .ops = &agent_link_ops,
        .mux_ops = &gm_serve_mux_ops,
        .role = GM_MUX_AGENT,
        .stream_limit = GM_AGENT_STREAMS_MAX,
        .window = GM_AGENT_WINDOW,
        .old = {.request_limit = (uint32_t)self->ctx->shared->config->max_concurrent_requests},
        .ready = {.stream_limit = GM_AGENT_STREAMS_MAX,
                  .window = GM_AGENT_WINDOW,
                  .not_ready = !self->told_ready},
    };
    config->ready.request_limit = (uint32_t)self->ctx->shared->config->max_concurrent_requests;
    memcpy(config->ready.instance, self->service->instance, sizeof self->service->instance);
    (void)snprintf(config->ready.service, sizeof config->ready.service, "%s",
                   name == NULL ? "" : name);
}

static int dial(struct gm_agent_link *self)
{
    const struct gm_agent_shared *shared = self->ctx->shared;
    const struct gm_target *server = &shared->server;
    static const char path[] = "/agent";
    struct gm_link_config config;
    self->told_ready = gm_agent_health_ready(self->service);
    configure(self, &config);
    struct gm_tls_client *const *tls =
        gm_trust_place(&shared->trust, gm_ring_index(self->ctx->ring));
    if (tls != NULL) {
        config.room = &self->ctx->tls_room;
        config.tls = gm_tls_connect(*tls, shared->trust.name);
        if (config.tls == NULL)
            return -GM_E_NOMEM;
    }
    struct gm_link_dial what = {
        .addr = &self->addr,
        .proxy = shared->proxy.used ? &shared->proxy.link : NULL,
        .host = {shared->host, strlen(shared->host)},
        .target = {path, sizeof path - 1},
        .token = {self->token, self->token_len},
        .lane = self->wish,
        .lane_server = {self->wish_server, strlen(self->wish_server)},
    };
    if (server->prefix.len > 0)
        what.target = (struct gm_ws_text){server->prefix.p, server->prefix.len};
    return gm_link_dial(self->ctx->ring, &self->link, &what, &config);
}

void gm_agent_link_begin(struct gm_mail *mail)
{
    struct gm_agent_link *self = GM_CONTAINER_OF(mail, struct gm_agent_link, mail_begin);
    struct gm_ring *ring = self->ctx->ring;
    gm_list_init(&self->node);
    gm_timer_init(&self->deadline, link_late);
    gm_task_init(&self->end_task, link_surplus);
    int rc = self->ctx->draining ? -GM_E_CLOSED : dial(self);
    explicit_bzero(self->token, self->token_len);
    if (rc < 0) {
        report_down(self, gm_error_text(rc));
        report(self, &self->mail_closed, gm_dialler_link_closed);
        return;
    }
    gm_list_push_back(&self->ctx->links, &self->node);
    gm_timer_set(ring, &self->deadline,
                 gm_ring_now_ns(ring) + self->ctx->shared->config->connect_timeout_ns);
}

void gm_agent_links_drain(struct gm_agent_ring *ctx)
{
    for (struct gm_list *node = ctx->links.next; node != &ctx->links; node = node->next) {
        struct gm_agent_link *self = GM_CONTAINER_OF(node, struct gm_agent_link, node);
        gm_agent_report_now(self);
        if (gm_link_is_up(&self->link))
            gm_link_drain(&self->link);
        else
            gm_link_end(&self->link, GM_REASON_DRAINING, GM_WS_CLOSE_GOING_AWAY, "draining");
    }
}

void gm_agent_links_end(struct gm_agent_ring *ctx)
{
    for (struct gm_list *node = ctx->links.next; node != &ctx->links; node = node->next) {
        struct gm_agent_link *self = GM_CONTAINER_OF(node, struct gm_agent_link, node);
        gm_link_end(&self->link, GM_REASON_DRAINING, GM_WS_CLOSE_GOING_AWAY, "going away");
    }
}

void gm_agent_links_forget(struct gm_agent_ring *ctx)
{
    for (struct gm_list *node = ctx->links.next; node != &ctx->links; node = node->next)
        gm_link_forget(&GM_CONTAINER_OF(node, struct gm_agent_link, node)->link);
}
