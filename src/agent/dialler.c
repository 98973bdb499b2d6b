/* The dialler: makes dials when the mesh says so, and tells the mesh what became of them. Owner:
 * the dialler's ring.
 *
 * A dial's life: token and address are asked for, a link is made and given to its ring, its fate
 * comes back by mail. Invariants: at most DIALS are under way, and the timer is set exactly while
 * there is room for one more; a link belongs to its ring until its last mail. */
#include "agent/dialler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/mesh.h"
#include "base/log.h"

/* A server that refuses the token is asked again at the longest wait, and half of it at least. */
#define STATUS_UNAUTHORIZED 401
#define STATUS_FORBIDDEN    403
/* Under way at once: an address that does not answer holds up nobody else. */
#define DIALS 4u
/* Dials that fail are worth a line this often: while others are linked to, and while none is,
 * unless it is another failure than the last. */
#define FAILURE_LOG_NS 30000000000ull
#define ALONE_LOG_NS   1000000000ull

struct gm_dial {
    struct gm_dialler *dialler;
    bool busy; /* from the timer to the greeting, or to the failure */
    uint32_t addr_index, addr_left;
    const char *token;
    uint32_t token_len;
    struct gm_control_lookup lookup;
    struct gm_control_file file;
};

struct gm_dialler {
    struct gm_agent_shared *shared;
    struct gm_agent_service_info *service;
    struct gm_agent_ring *ctx;
    uint32_t service_index;
    bool stopped;
    uint64_t failure_logged_ns; /* 0: never */
    const char *failure_logged; /* which: a literal */
    struct gm_timer timer;
    struct gm_list links; /* all that have been made and not been freed */
    struct gm_mesh mesh;
    struct gm_dial dials[DIALS];
};

static void dialler_expired(struct gm_timer *timer);

static const char *service_name(const struct gm_dialler *dialler)
{
    const char *name = dialler->service->config->name;
    return name != NULL ? name : "";
}

static uint64_t now_of(const struct gm_dialler *dialler)
{
    return gm_ring_now_ns(dialler->ctx->ring);
}

static uint64_t random_of(const struct gm_dialler *dialler)
{
    uint64_t random;
    gm_ring_random(dialler->ctx->ring, &random, sizeof random);
    return random;
}

uint32_t gm_dialler_ring(const struct gm_dialler *dialler)
{
    return dialler->service_index % gm_rings_count(dialler->shared->rings);
}

struct gm_dialler *gm_dialler_new(struct gm_agent_shared *shared, uint32_t service_index)
{
    struct gm_dialler *dialler = calloc(1, sizeof *dialler);
    if (dialler == NULL)
        return NULL;
    dialler->shared = shared;
    dialler->service = &shared->services[service_index];
    dialler->service_index = service_index;
    gm_list_init(&dialler->links);
    gm_timer_init(&dialler->timer, dialler_expired);
    for (uint32_t i = 0; i < DIALS; i++)
        dialler->dials[i].dialler = dialler;
    return dialler;
}

void gm_dialler_free(struct gm_dialler *dialler)
{
    struct gm_list *node;
    if (dialler == NULL)
        return;
    while ((node = gm_list_pop_front(&dialler->links)) != NULL) {
        struct gm_agent_link *link = GM_CONTAINER_OF(node, struct gm_agent_link, owned);
        free(link);
    }
    for (uint32_t i = 0; i < DIALS; i++)
        explicit_bzero(dialler->dials[i].file.text, sizeof dialler->dials[i].file.text);
    free(dialler);
}

/* ---- When to dial ---- */

static struct gm_dial *free_dial(struct gm_dialler *dialler)
{
    for (uint32_t i = 0; i < DIALS; i++) {
        if (!dialler->dials[i].busy)
            return &dialler->dials[i];
    }
    return NULL;
}

/* After whatever may have changed the mesh's mind. The span to the next dial. */
static uint64_t schedule(struct gm_dialler *dialler)
{
    uint64_t now_ns = now_of(dialler), next_ns = dialler->mesh.next_ns;
    atomic_store_explicit(&dialler->service->servers, gm_mesh_servers(&dialler->mesh),
                          memory_order_relaxed);
    if (dialler->stopped || free_dial(dialler) == NULL || next_ns == UINT64_MAX)
        gm_timer_cancel(&dialler->timer);
    else
        gm_timer_set(dialler->ctx->ring, &dialler->timer, next_ns);
    return next_ns > now_ns ? next_ns - now_ns : 0;
}

/* The dial is over without a link. Returns the span to the next. */
static uint64_t dial_failed(struct gm_dial *dial, bool longest)
{
    struct gm_dialler *dialler = dial->dialler;
    dial->busy = false;
    gm_mesh_failed(&dialler->mesh, longest, now_of(dialler), random_of(dialler));
    return schedule(dialler);
}

static bool worth_a_line(struct gm_dialler *dialler, const char *failure)
{
    uint64_t since_ns = now_of(dialler) - dialler->failure_logged_ns;
    bool alone = gm_mesh_servers(&dialler->mesh) == 0,
         same = !alone || dialler->failure_logged == failure;
    if (dialler->failure_logged_ns != 0 && same &&
        since_ns < (alone ? ALONE_LOG_NS : FAILURE_LOG_NS))
        return false;
    dialler->failure_logged_ns = now_of(dialler);
    dialler->failure_logged = failure;
    return true;
}

static void dial_fail(struct gm_dial *dial, const char *what, const char *error)
{
    uint64_t span_ns = dial_failed(dial, false);
    if (worth_a_line(dial->dialler, "dial"))
        gm_log_warn("cannot dial the server", GM_STR("service", service_name(dial->dialler)),
                    GM_STR("step", what), GM_ERRTEXT(error), GM_NS("retryIn", span_ns));
}

/* ---- Preparing: token, then addresses ---- */

/* It goes into a header, and a server can call itself anything. */
static bool is_plain(const char *instance)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    return instance[strspn(instance, plain)] == '\0';
}

/* What the link asks for, and the ring that it is for. */
static void link_aim(struct gm_agent_link *link, struct gm_dialler *dialler)
{
    struct gm_agent_shared *shared = dialler->shared;
    struct gm_mesh_lane wish;
    uint32_t lane = gm_mesh_lane_guess(&dialler->mesh);
    link->wish = -1;
    if (gm_mesh_wish(&dialler->mesh, random_of(dialler), &wish) && is_plain(wish.instance) &&
        strlen(wish.instance) < sizeof link->wish_server) {
        lane = wish.lane;
        link->wish = (int)lane;
        (void)snprintf(link->wish_server, sizeof link->wish_server, "%s", wish.instance);
    }
    link->ctx =
        shared->ring_contexts[(dialler->service_index + lane) % gm_rings_count(shared->rings)];
}

static void dial_link(struct gm_dial *dial)
{
    struct gm_dialler *dialler = dial->dialler;
    struct gm_agent_link *link = calloc(1, sizeof *link);
    gm_counter_add(GM_COUNTER_ALLOCATIONS, 1);
    gm_counter_add(GM_COUNTER_LINK_DIALS, 1);
    if (link == NULL) {
        dial_fail(dial, "memory", "out of memory");
        return;
    }
    link_aim(link, dialler);
    link->service = dialler->service;
    link->dial = dial;
    link->addr = dial->lookup.addrs[dial->addr_index++ % dial->lookup.count];
    dial->addr_left--;
    memcpy(link->token, dial->token, dial->token_len);
    link->token_len = dial->token_len;
    gm_list_push_back(&dialler->links, &link->owned);
    link->mail_begin.deliver = gm_agent_link_begin;
    gm_ring_mail(dialler->ctx->ring, gm_ring_index(link->ctx->ring), &link->mail_begin);
}

/* A name with several addresses may be several servers: each dial begins with another one. */
static void dial_resolved(struct gm_control_lookup *lookup)
{
    struct gm_dial *dial = GM_CONTAINER_OF(lookup, struct gm_dial, lookup);
    if (dial->dialler->stopped)
        return;
    if (lookup->error < 0 || lookup->count == 0) {
        dial_fail(dial, "resolve", lookup->error_text);
        return;
    }
    dial->addr_index = (uint32_t)(random_of(dial->dialler) % lookup->count);
    dial->addr_left = lookup->count;
    dial_link(dial);
}

static void dial_resolve(struct gm_dial *dial)
{
    struct gm_agent_shared *shared = dial->dialler->shared;
    const struct gm_target *server = shared->proxy.used ? &shared->proxy.target : &shared->server;
    if (server->resolved) {
        dial->lookup.addrs[0] = server->literal;
        dial->lookup.count = 1;
        dial_resolved(&dial->lookup);
        return;
    }
    memcpy(dial->lookup.host, server->host.p, server->host.len);
    dial->lookup.host[server->host.len] = '\0';
    dial->lookup.port = server->url.port;
    dial->lookup.on_done = dial_resolved;
    gm_control_resolve(shared->control, dial->dialler->ctx->ring, &dial->lookup);
}

static void dial_token(struct gm_dial *dial, const char *text, size_t len)
{
    struct gm_ws_text token;
    const char *problem = gm_agent_token_find(text, len, &token);
    if (problem != NULL) {
        dial_fail(dial, "token", problem);
        return;
    }
    dial->token = token.p;
    dial->token_len = (uint32_t)token.len;
    dial_resolve(dial);
}

static void dial_file_read(struct gm_control_file *file)
{
    struct gm_dial *dial = GM_CONTAINER_OF(file, struct gm_dial, file);
    if (dial->dialler->stopped)
        return;
    if (file->error == -GM_E_LIMIT)
        dial_fail(dial, file->path, "the token file is too long");
    else if (file->error < 0)
        dial_fail(dial, file->path, gm_error_text(file->error));
    else
        dial_token(dial, file->text, file->len);
}

/* Every dial reads the token and the name again: both may have changed. */
static void dial_begin(struct gm_dial *dial)
{
    const struct gm_agent_service *config = dial->dialler->service->config;
    dial->lookup.error = 0;
    if (config->token_file == NULL) {
        dial_token(dial, config->token, strlen(config->token));
        return;
    }
    dial->file.path = config->token_file;
    dial->file.on_done = dial_file_read;
    gm_control_read_file(dial->dialler->shared->control, dial->dialler->ctx->ring, &dial->file);
}

static void dialler_expired(struct gm_timer *timer)
{
    struct gm_dialler *dialler = GM_CONTAINER_OF(timer, struct gm_dialler, timer);
    struct gm_dial *dial = free_dial(dialler);
    if (dial == NULL)
        return;
    dial->busy = true;
    gm_mesh_dialled(&dialler->mesh, now_of(dialler));
    (void)schedule(dialler);
    dial_begin(dial);
}

void gm_dialler_start(struct gm_dialler *dialler)
{
    const struct gm_agent_config *config = dialler->shared->config;
    struct gm_mesh_config mesh = {.check_ns = config->connection_check_interval_ns,
                                  .retry_min_ns = config->reconnect_min_ns,
                                  .retry_max_ns = config->reconnect_max_ns};
    dialler->ctx = dialler->shared->ring_contexts[gm_dialler_ring(dialler)];
    gm_mesh_init(&dialler->mesh, &mesh, now_of(dialler));
    dialler_expired(&dialler->timer);
}

void gm_dialler_stop(struct gm_dialler *dialler)
{
    dialler->stopped = true;
    gm_timer_cancel(&dialler->timer);
}

void gm_dialler_retry(struct gm_dialler *dialler)
{
    if (dialler->ctx == NULL)
        return; /* it has not begun yet */
    gm_mesh_retry(&dialler->mesh, now_of(dialler), random_of(dialler));
    (void)schedule(dialler);
}

/* ---- The fate of a link ---- */

/* What tells servers apart: one of 0.0.x has its name alone. */
static const char *instance_of(const struct gm_agent_link *link)
{
    const struct gm_hello *hello = &link->link.hello;
    return hello->instance[0] != '\0' ? hello->instance : hello->server_id;
}

/* One that held the same lane is dead, and its end is no news. */
static void supersede(struct gm_dialler *dialler, const struct gm_agent_link *link)
{
    for (struct gm_list *node = dialler->links.next; node != &dialler->links; node = node->next) {
        struct gm_agent_link *other = GM_CONTAINER_OF(node, struct gm_agent_link, owned);
        if (other != link && other->counted && other->link.hello.lane == link->link.hello.lane &&
            strcmp(instance_of(other), instance_of(link)) == 0)
            other->counted = false;
    }
}

static struct gm_mesh_lane lane_of(const struct gm_agent_link *link)
{
    return (struct gm_mesh_lane){instance_of(link), link->link.hello.lane};
}

/* The mesh hears what the server has said. */
static void tell_greeting(struct gm_dialler *dialler, const struct gm_agent_link *link)
{
    const struct gm_hello *hello = &link->link.hello;
    struct gm_mesh_greeting greeting = {.instance = instance_of(link),
                                        .lane = hello->lane,
                                        .lanes = hello->lanes,
                                        .peers = hello->peers};
    if (link->link.duplicate)
        greeting.lane = greeting.lanes = 1;
    (void)gm_mesh_greeted(&dialler->mesh, &greeting, now_of(dialler), random_of(dialler));
}

void gm_dialler_link_up(struct gm_mail *mail)
{
    struct gm_agent_link *link = GM_CONTAINER_OF(mail, struct gm_agent_link, mail_up);
    struct gm_dialler *dialler = link->service->dialler;
    const struct gm_hello *hello = &link->link.hello;
    link->dial->busy = false;
    link->dial = NULL;
    supersede(dialler, link);
    link->counted = true;
    tell_greeting(dialler, link);
    (void)schedule(dialler);
    gm_log_info("linked to the server", GM_STR("service", service_name(dialler)),
                GM_STR("serverID", hello->server_id), GM_UINT("lane", hello->lane),
                GM_UINT("lanes", hello->lanes), GM_UINT("ring", gm_ring_index(link->ctx->ring)),
                GM_UINT("servers", gm_mesh_servers(&dialler->mesh)));
}

void gm_dialler_link_drains(struct gm_mail *mail)
{
    struct gm_agent_link *link = GM_CONTAINER_OF(mail, struct gm_agent_link, mail_drain);
    struct gm_dialler *dialler = link->service->dialler;
    if (!link->counted || dialler->stopped)
        return;
    link->counted = false;
    gm_mesh_released(&dialler->mesh, lane_of(link), now_of(dialler), random_of(dialler));
    (void)schedule(dialler);
    gm_log_info(
        "the server drains: dialling a replacement", GM_STR("service", service_name(dialler)),
        GM_STR("serverID", link->link.hello.server_id), GM_UINT("lane", link->link.hello.lane));
}

/* The first of its links to say so speaks for the server. */
void gm_dialler_link_leaves(struct gm_mail *mail)
{
    struct gm_agent_link *link = GM_CONTAINER_OF(mail, struct gm_agent_link, mail_leave);
    struct gm_dialler *dialler = link->service->dialler;
    if (dialler->stopped ||
        !gm_mesh_leaving(&dialler->mesh, instance_of(link), now_of(dialler), random_of(dialler)))
        return;
    (void)schedule(dialler);
    gm_log_info("the server drains: looking for others", GM_STR("service", service_name(dialler)),
                GM_STR("serverID", link->link.hello.server_id),
                GM_UINT("servers", gm_mesh_servers(&dialler->mesh)));
}

void gm_dialler_link_hears(struct gm_mail *mail)
{
    struct gm_agent_link *link = GM_CONTAINER_OF(mail, struct gm_agent_link, mail_hear);
    struct gm_dialler *dialler = link->service->dialler;
    uint32_t at_least = atomic_exchange_explicit(&link->heard, 0, memory_order_acq_rel);
    if (dialler->stopped ||
        !gm_mesh_told(&dialler->mesh, at_least, now_of(dialler), random_of(dialler)))
        return;
    (void)schedule(dialler);
    gm_log_debug("other agents have more servers: looking for them",
                 GM_STR("service", service_name(dialler)), GM_UINT("servers", at_least));
}

static void dial_refused(struct gm_dial *dial, const struct gm_agent_link *link)
{
    uint16_t status = link->link.http_status;
    bool final = status == STATUS_UNAUTHORIZED || status == STATUS_FORBIDDEN;
    uint64_t span_ns = dial_failed(dial, final);
    if (worth_a_line(dial->dialler, "refused"))
        gm_log_warn("the server refused the link", GM_STR("service", service_name(dial->dialler)),
                    GM_UINT("status", status), GM_ERRTEXT(link->link.http_text),
                    GM_NS("retryIn", span_ns));
}

static void dial_unreached(struct gm_dial *dial, const struct gm_agent_link *link)
{
    char address[80];
    if (dial->addr_left > 0) {
        dial_link(dial); /* the name has another address */
        return;
    }
    uint64_t span_ns = dial_failed(dial, false);
    gm_addr_text(&link->addr, address, sizeof address);
    if (worth_a_line(dial->dialler, "link"))
        gm_log_warn("cannot link to the server", GM_STR("service", service_name(dial->dialler)),
                    GM_STR("address", address), GM_ERRTEXT(link->cause), GM_NS("retryIn", span_ns));
}

/* The server has all the links that it wants of us, or a dead one of ours still holds the lane that
 * we miss. */
static void dial_surplus(struct gm_dial *dial, const struct gm_agent_link *link)
{
    struct gm_dialler *dialler = dial->dialler;
    dial->busy = false;
    gm_counter_add(GM_COUNTER_LINK_DIALS_SURPLUS, 1);
    tell_greeting(dialler, link);
    uint64_t span_ns = schedule(dialler);
    gm_log_debug("the server has all its links", GM_STR("service", service_name(dialler)),
                 GM_STR("serverID", link->link.hello.server_id), GM_NS("nextIn", span_ns));
}

static void dial_over(struct gm_dial *dial, struct gm_agent_link *link)
{
    link->dial = NULL;
    if (dial->dialler->stopped)
        dial->busy = false;
    else if (link->surplus || link->link.duplicate)
        dial_surplus(dial, link);
    else if (link->link.http_status != 0)
        dial_refused(dial, link);
    else
        dial_unreached(dial, link);
}

static void link_lost(struct gm_dialler *dialler, const struct gm_agent_link *link)
{
    const struct gm_hello *hello = &link->link.hello;
    gm_mesh_lost(&dialler->mesh, lane_of(link), link->down_ns - link->up_ns, now_of(dialler),
                 random_of(dialler));
    uint64_t span_ns = schedule(dialler);
    if (link->leave_told)
        gm_log_debug("link to a draining server closed", GM_STR("service", service_name(dialler)),
                     GM_STR("serverID", hello->server_id), GM_UINT("lane", hello->lane));
    else
        gm_log_warn("link to the server lost", GM_STR("service", service_name(dialler)),
                    GM_STR("serverID", hello->server_id), GM_UINT("lane", hello->lane),
                    GM_ERRTEXT(link->cause), GM_NS("retryIn", span_ns));
}

void gm_dialler_link_down(struct gm_mail *mail)
{
    struct gm_agent_link *link = GM_CONTAINER_OF(mail, struct gm_agent_link, mail_down);
    struct gm_dialler *dialler = link->service->dialler;
    bool counted = link->counted;
    link->counted = false;
    if (link->dial != NULL)
        dial_over(link->dial, link);
    else if (counted && !dialler->stopped)
        link_lost(dialler, link);
}

void gm_dialler_link_closed(struct gm_mail *mail)
{
    struct gm_agent_link *link = GM_CONTAINER_OF(mail, struct gm_agent_link, mail_closed);
    gm_list_remove(&link->owned);
    free(link);
}
