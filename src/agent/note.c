/* Notes of servers. Owner: the link's ring. */
#include "agent/note.h"

#include <string.h>

#include <jansson.h>

#include "agent/dialler.h"
#include "base/log.h"

/* Said just before the link ends. */
static void token_expired(struct gm_agent_link *link, const json_t *note)
{
    const char *message = json_string_value(json_object_get(note, "message"));
    gm_log_warn("the server says that the token has expired",
                GM_STR("service", link->service->config->name),
                GM_STR("message", message == NULL ? "" : message));
}

/* The answer to a token of ours that it does not take. */
static void token_refused(struct gm_agent_link *link, const json_t *note)
{
    const char *reason = json_string_value(json_object_get(note, "reason"));
    if (json_is_false(json_object_get(note, "accepted")))
        gm_log_warn("the server does not take the new token: the one before counts",
                    GM_STR("service", link->service->config->name),
                    GM_STR("serverID", link->link.hello.server_id),
                    GM_UINT("lane", link->link.hello.lane),
                    GM_STR("reason", reason == NULL ? "" : reason));
}

/* Its links go on until they are closed; no new request comes from there for long. */
static void draining(struct gm_agent_link *link, const json_t *note)
{
    (void)note;
    gm_agent_link_leaves(link);
}

/* Other agents have found more servers than we, somebody says. */
static void servers(struct gm_agent_link *link, const json_t *note)
{
    json_int_t n = json_integer_value(json_object_get(note, "at_least"));
    if (n > 0)
        gm_agent_link_hears(link, n < GM_CONFIG_PEERS_MAX ? (uint32_t)n : GM_CONFIG_PEERS_MAX);
}

static const struct {
    const char *type;
    void (*take)(struct gm_agent_link *link, const json_t *note);
} rows[] = {
    {"draining", draining},
    {"servers", servers},
    {"token_expired", token_expired},
    {"token", token_refused},
};

void gm_agent_note(struct gm_link *link, const char *json, size_t len)
{
    struct gm_agent_link *self = GM_CONTAINER_OF(link, struct gm_agent_link, link);
    json_t *note = json_loadb(json, len, 0, NULL);
    const char *type = json_string_value(json_object_get(note, "type"));
    for (size_t i = 0; type != NULL && i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(type, rows[i].type) == 0)
            rows[i].take(self, note);
    }
    json_decref(note);
}
