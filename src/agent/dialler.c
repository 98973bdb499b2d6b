/* The dialler: slots, one per lane, each with at most one link. Owner: the dialler's ring.
 *
 * A slot's life: token and address are asked for, a link is made and given to its ring, its fate
 * comes back by mail. Invariants: one fresh lane is dialled at a time, so that lanes are filled in
 * order; a lost one is dialled again on its own; a link belongs to its ring until its last mail. */
#include "agent/dialler.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* A server that refuses the token is asked again at the longest wait, and half of it at least. */
#define STATUS_UNAUTHORIZED 401
#define STATUS_FORBIDDEN    403
/* min << 20 is beyond every maximum that can be configured. */
#define BACKOFF_DOUBLINGS 20u

enum slot_state {
    SLOT_UNUSED,
    SLOT_WAITING,   /* for its timer */
    SLOT_PREPARING, /* token, addresses */
    SLOT_DIALLING,
    SLOT_UP
};

struct gm_dial_slot {
    struct gm_dialler *dialler;
    struct gm_agent_link *link;
    struct gm_timer timer;
    uint32_t index;
    uint32_t failures; /* in a row */
    uint32_t addr_index, addr_count;
    int wish;      /* lane it held last; negative: none */
    uint8_t state; /* enum slot_state */
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
    uint32_t lanes; /* as many as the server wants */
    bool stopped;
    struct gm_list links;                           /* all that have been made and not been freed */
    struct gm_dial_slot slots[GM_CONFIG_LANES_MAX]; /* touched as used */
};

static void slot_begin(struct gm_dial_slot *slot);
static void slot_expired(struct gm_timer *timer);

static const char *service_name(const struct gm_dialler *dialler)
{
    const char *name = dialler->service->config->name;
    return name != NULL ? name : "";
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
    dialler->lanes = 1;
    gm_list_init(&dialler->links);
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
    for (uint32_t i = 0; i < GM_CONFIG_LANES_MAX; i++) {
        if (dialler->slots[i].dialler != NULL)
            explicit_bzero(dialler->slots[i].file.text, sizeof dialler->slots[i].file.text);
    }
    free(dialler);
}

/* ---- Waiting ---- */

/* A random wait below a ceiling that doubles with each failure (full jitter), so that agents whose
 * server has gone do not come back as one. */
static uint64_t backoff_ns(struct gm_dial_slot *slot, bool longest)
{
    const struct gm_agent_config *config = slot->dialler->shared->config;
    uint64_t ceiling = config->reconnect_min_ns, random;
    for (uint32_t i = 0; i < slot->failures && i < BACKOFF_DOUBLINGS; i++)
        ceiling = ceiling < config->reconnect_max_ns ? ceiling * 2 : ceiling;
    if (longest || ceiling > config->reconnect_max_ns)
        ceiling = config->reconnect_max_ns;
    gm_ring_random(slot->dialler->ctx->ring, &random, sizeof random);
    return longest ? ceiling / 2 + random % (ceiling / 2 + 1) : random % (ceiling + 1);
}

static uint64_t slot_wait(struct gm_dial_slot *slot, bool longest)
{
    uint64_t span_ns = backoff_ns(slot, longest);
    struct gm_ring *ring = slot->dialler->ctx->ring;
    slot->failures++;
    slot->state = SLOT_WAITING;
    gm_timer_set(ring, &slot->timer, gm_ring_now_ns(ring) + span_ns);
    return span_ns;
}

static void slot_expired(struct gm_timer *timer)
{
    slot_begin(GM_CONTAINER_OF(timer, struct gm_dial_slot, timer));
}

static void slot_fail(struct gm_dial_slot *slot, const char *what, const char *error)
{
    uint64_t span_ns = slot_wait(slot, false);
    gm_log_warn("cannot dial the server", GM_STR("service", service_name(slot->dialler)),
                GM_STR("step", what), GM_ERRTEXT(error), GM_NS("retryIn", span_ns));
}

/* ---- Preparing: token, then addresses ---- */

static void slot_dial(struct gm_dial_slot *slot)
{
    struct gm_dialler *dialler = slot->dialler;
    struct gm_agent_shared *shared = dialler->shared;
    struct gm_agent_link *link = calloc(1, sizeof *link);
    gm_counter_add(GM_COUNTER_ALLOCATIONS, 1);
    if (link == NULL) {
        slot_fail(slot, "memory", "out of memory");
        return;
    }
    uint32_t lane = slot->wish >= 0 ? (uint32_t)slot->wish : slot->index;
    link->ctx =
        shared->ring_contexts[(dialler->service_index + lane) % gm_rings_count(shared->rings)];
    link->service = dialler->service;
    link->slot = slot;
    link->addr = slot->lookup.addrs[slot->addr_index++];
    link->wish = slot->wish;
    memcpy(link->token, slot->token, slot->token_len);
    link->token_len = slot->token_len;
    gm_list_push_back(&dialler->links, &link->owned);
    slot->link = link;
    slot->state = SLOT_DIALLING;
    link->mail_begin.deliver = gm_agent_link_begin;
    gm_ring_mail(dialler->ctx->ring, gm_ring_index(link->ctx->ring), &link->mail_begin);
}

static void slot_resolved(struct gm_control_lookup *lookup)
{
    struct gm_dial_slot *slot = GM_CONTAINER_OF(lookup, struct gm_dial_slot, lookup);
    if (slot->dialler->stopped)
        return;
    if (lookup->error < 0) {
        slot_fail(slot, "resolve", lookup->error_text);
        return;
    }
    slot->addr_index = 0;
    slot->addr_count = lookup->count;
    slot_dial(slot);
}

static void slot_resolve(struct gm_dial_slot *slot)
{
    struct gm_agent_shared *shared = slot->dialler->shared;
    const struct gm_target *server = shared->proxy.used ? &shared->proxy.target : &shared->server;
    if (server->resolved) {
        slot->lookup.addrs[0] = server->literal;
        slot->lookup.count = 1;
        slot_resolved(&slot->lookup);
        return;
    }
    memcpy(slot->lookup.host, server->host.p, server->host.len);
    slot->lookup.host[server->host.len] = '\0';
    slot->lookup.port = server->url.port;
    slot->lookup.on_done = slot_resolved;
    gm_control_resolve(shared->control, slot->dialler->ctx->ring, &slot->lookup);
}

static void slot_token(struct gm_dial_slot *slot, const char *text, size_t len)
{
    struct gm_ws_text token;
    const char *problem = gm_agent_token_find(text, len, &token);
    if (problem != NULL) {
        slot_fail(slot, "token", problem);
        return;
    }
    slot->token = token.p;
    slot->token_len = (uint32_t)token.len;
    slot_resolve(slot);
}

static void slot_file_read(struct gm_control_file *file)
{
    struct gm_dial_slot *slot = GM_CONTAINER_OF(file, struct gm_dial_slot, file);
    if (slot->dialler->stopped)
        return;
    if (file->error == -GM_E_LIMIT)
        slot_fail(slot, file->path, "the token file is too long");
    else if (file->error < 0)
        slot_fail(slot, file->path, gm_error_text(file->error));
    else
        slot_token(slot, file->text, file->len);
}

/* Every dial reads the token and the name again: both may have changed. */
static void slot_begin(struct gm_dial_slot *slot)
{
    const struct gm_agent_service *config = slot->dialler->service->config;
    slot->state = SLOT_PREPARING;
    if (config->token_file == NULL) {
        slot_token(slot, config->token, strlen(config->token));
        return;
    }
    slot->file.path = config->token_file;
    slot->file.on_done = slot_file_read;
    gm_control_read_file(slot->dialler->shared->control, slot->dialler->ctx->ring, &slot->file);
}

/* Puts the first unused lane to work. */
static void begin_next(struct gm_dialler *dialler)
{
    for (uint32_t i = 0; i < dialler->lanes; i++) {
        struct gm_dial_slot *slot = &dialler->slots[i];
        if (slot->state != SLOT_UNUSED)
            continue;
        slot->dialler = dialler;
        slot->index = i;
        slot->wish = -1;
        gm_timer_init(&slot->timer, slot_expired);
        slot_begin(slot);
        return;
    }
}

void gm_dialler_start(struct gm_dialler *dialler)
{
    dialler->ctx = dialler->shared->ring_contexts[gm_dialler_ring(dialler)];
    begin_next(dialler);
}

void gm_dialler_stop(struct gm_dialler *dialler)
{
    dialler->stopped = true;
    for (uint32_t i = 0; i < GM_CONFIG_LANES_MAX; i++) {
        if (dialler->slots[i].state == SLOT_WAITING)
            gm_timer_cancel(&dialler->slots[i].timer);
    }
}

void gm_dialler_retry(struct gm_dialler *dialler)
{
    for (uint32_t i = 0; i < GM_CONFIG_LANES_MAX; i++) {
        struct gm_dial_slot *slot = &dialler->slots[i];
        if (slot->state != SLOT_WAITING || dialler->stopped)
            continue;
        slot->failures = 0;
        (void)slot_wait(slot, false);
    }
}

/* ---- The fate of a link ---- */

void gm_dialler_link_up(struct gm_mail *mail)
{
    struct gm_agent_link *link = GM_CONTAINER_OF(mail, struct gm_agent_link, mail_up);
    struct gm_dial_slot *slot = link->slot;
    struct gm_dialler *dialler = slot->dialler;
    const struct gm_hello *hello = &link->link.hello;
    slot->state = SLOT_UP;
    slot->wish = (int)hello->lane;
    dialler->lanes = hello->lanes < GM_CONFIG_LANES_MAX ? hello->lanes : GM_CONFIG_LANES_MAX;
    gm_log_info("linked to the server", GM_STR("service", service_name(dialler)),
                GM_STR("serverID", hello->server_id), GM_UINT("lane", hello->lane),
                GM_UINT("lanes", hello->lanes), GM_UINT("ring", gm_ring_index(link->ctx->ring)));
    if (!dialler->stopped)
        begin_next(dialler);
}

void gm_dialler_link_drains(struct gm_mail *mail)
{
    struct gm_agent_link *link = GM_CONTAINER_OF(mail, struct gm_agent_link, mail_drain);
    struct gm_dial_slot *slot = link->slot;
    if (slot == NULL || slot->dialler->stopped)
        return;
    gm_log_info(
        "the server drains: dialling a replacement", GM_STR("service", service_name(slot->dialler)),
        GM_STR("serverID", link->link.hello.server_id), GM_UINT("lane", link->link.hello.lane));
    /* Without a wish: asking for the lane would end the streams that still run on the old link. */
    link->slot = NULL;
    slot->link = NULL;
    slot->wish = -1;
    slot->failures = 0;
    slot_begin(slot);
}

static void slot_refused(struct gm_dial_slot *slot, const struct gm_agent_link *link)
{
    uint16_t status = link->link.http_status;
    bool final = status == STATUS_UNAUTHORIZED || status == STATUS_FORBIDDEN;
    uint64_t span_ns = slot_wait(slot, final);
    gm_log_warn("the server refused the link", GM_STR("service", service_name(slot->dialler)),
                GM_UINT("status", status), GM_ERRTEXT(link->link.http_text),
                GM_NS("retryIn", span_ns));
}

static void slot_lost(struct gm_dial_slot *slot, const struct gm_agent_link *link)
{
    bool good = link->down_ns - link->up_ns >= GM_DIALLER_GOOD_NS;
    if (good)
        slot->failures = 0;
    uint64_t span_ns = slot_wait(slot, false);
    gm_log_warn("link to the server lost", GM_STR("service", service_name(slot->dialler)),
                GM_STR("serverID", link->link.hello.server_id),
                GM_UINT("lane", link->link.hello.lane), GM_ERRTEXT(link->cause),
                GM_NS("retryIn", span_ns));
}

static void slot_unreached(struct gm_dial_slot *slot, const struct gm_agent_link *link)
{
    char address[80];
    if (slot->addr_index < slot->addr_count) {
        slot_dial(slot); /* the name has another address */
        return;
    }
    uint64_t span_ns = slot_wait(slot, false);
    gm_addr_text(&link->addr, address, sizeof address);
    gm_log_warn("cannot link to the server", GM_STR("service", service_name(slot->dialler)),
                GM_STR("address", address), GM_ERRTEXT(link->cause), GM_NS("retryIn", span_ns));
}

static uint32_t lanes_up(const struct gm_dialler *dialler)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < GM_CONFIG_LANES_MAX; i++)
        count += dialler->slots[i].state == SLOT_UP;
    return count;
}

/* The server has all the lanes it wants, or an old link of ours still holds the lane. */
static void slot_surplus(struct gm_dial_slot *slot, const struct gm_agent_link *link)
{
    struct gm_dialler *dialler = slot->dialler;
    uint32_t wanted = link->link.hello.lanes;
    dialler->lanes = wanted < GM_CONFIG_LANES_MAX ? wanted : GM_CONFIG_LANES_MAX;
    slot->wish = -1;
    if (lanes_up(dialler) >= dialler->lanes)
        slot->state = SLOT_UNUSED;
    else
        (void)slot_wait(slot, false);
}

void gm_dialler_link_down(struct gm_mail *mail)
{
    struct gm_agent_link *link = GM_CONTAINER_OF(mail, struct gm_agent_link, mail_down);
    struct gm_dial_slot *slot = link->slot;
    if (slot == NULL)
        return;
    link->slot = NULL;
    slot->link = NULL;
    if (slot->dialler->stopped)
        slot->state = SLOT_UNUSED;
    else if (link->surplus)
        slot_surplus(slot, link);
    else if (link->link.http_status != 0)
        slot_refused(slot, link);
    else if (link->up_ns != 0)
        slot_lost(slot, link);
    else
        slot_unreached(slot, link);
}

void gm_dialler_link_closed(struct gm_mail *mail)
{
    struct gm_agent_link *link = GM_CONTAINER_OF(mail, struct gm_agent_link, mail_closed);
    gm_list_remove(&link->owned);
    free(link);
}
