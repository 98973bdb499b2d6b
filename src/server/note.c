/* A note's type and what is done about it: one row each. Owner: the link's ring. */
#include "server/note.h"

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/log.h"

static void count(struct gm_server_link *self, enum gm_metrics_message message)
{
    gm_metrics_count(&self->ctx->metrics, message);
}

static void take_ready(struct gm_server_link *self, const json_t *note)
{
    (void)note;
    count(self, GM_METRICS_RECV_READY);
    gm_attach_ready(self, true);
    gm_attach_old_drains(self, false);
}

static void take_draining(struct gm_server_link *self, const json_t *note)
{
    (void)note;
    count(self, GM_METRICS_RECV_DRAINING);
    gm_attach_old_drains(self, true);
}

static void take_not_ready(struct gm_server_link *self, const json_t *note)
{
    (void)note;
    count(self, GM_METRICS_RECV_NOT_READY);
    gm_attach_ready(self, false);
}

/* So long a report of that many servers counts; those who have them repeat it six times meanwhile.
 */
#define FOUND_S 60u

/* What one agent has found the others may find, too: who reports less than the most is told. */
static void share_found(struct gm_server_link *self, int64_t reported)
{
    _Atomic uint64_t *shared = &self->ctx->shared->servers_found;
    uint64_t found = atomic_load_explicit(shared, memory_order_relaxed);
    uint64_t now_s = gm_ring_now_ns(self->ctx->ring) / 1000000000u,
             servers = (uint64_t)reported < GM_CONFIG_PEERS_MAX ? (uint64_t)reported
                                                                : GM_CONFIG_PEERS_MAX;
    if (servers == 0 || gm_link_is_old(&self->link))
        return;
    if (servers >= (found & UINT16_MAX) || now_s - (found >> 16) >= FOUND_S) {
        atomic_store_explicit(shared, now_s << 16 | servers, memory_order_relaxed);
        return;
    }
    char text[64];
    int len = snprintf(text, sizeof text, "{\"type\":\"servers\",\"at_least\":%u}",
                       (unsigned)(found & UINT16_MAX));
    if (gm_link_note(&self->link, text, (size_t)len) < 0)
        gm_log_debug("an agent is not told of other servers", GM_STR("agentID", self->subject));
}

static void take_report(struct gm_server_link *self, const json_t *note)
{
    struct gm_card *card = self->card;
    struct gm_report report;
    count(self, GM_METRICS_RECV_METRICS);
    if (card == NULL)
        return; /* a surplus link, about to close */
    for (unsigned i = 0; i < GM_REPORT_FIGURES; i++)
        report.figure[i] = atomic_load_explicit(&card->figure[i], memory_order_relaxed);
    gm_report_decode(note, &report);
    for (unsigned i = 0; i < GM_REPORT_FIGURES; i++)
        atomic_store_explicit(&card->figure[i], report.figure[i], memory_order_relaxed);
    share_found(self, report.figure[GM_REPORT_SERVERS]);
}

static void take_token(struct gm_server_link *self, const json_t *note)
{
    const json_t *token = json_object_get(note, "token");
    count(self, GM_METRICS_RECV_TOKEN);
    if (json_is_string(token))
        gm_renew_take(self, json_string_value(token), json_string_length(token));
}

static const struct {
    const char *type;
    void (*take)(struct gm_server_link *self, const json_t *note);
} notes[] = {
    {"ready", take_ready},
    {"not_ready", take_not_ready},
    {GM_REPORT_TYPE, take_report},
    {"token", take_token},
    {"draining", take_draining},
};

void gm_note_take(struct gm_link *link, const char *json, size_t len)
{
    struct gm_server_link *self = GM_CONTAINER_OF(link, struct gm_server_link, link);
    json_t *note = json_loadb(json, len, 0, NULL);
    const char *type = json_string_value(json_object_get(note, "type"));
    size_t row = 0, end = sizeof notes / sizeof notes[0];
    while (row < end && (type == NULL || strcmp(notes[row].type, type) != 0))
        row++;
    if (row < end)
        notes[row].take(self, note);
    else
        count(self, GM_METRICS_RECV_UNKNOWN);
    json_decref(note);
}
