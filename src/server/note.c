/* A note's type and what is done about it: one row each. Owner: the link's ring. */
#include "server/note.h"

#include <string.h>

#include <jansson.h>

static void take_ready(struct gm_server_link *self, const json_t *note)
{
    (void)note;
    gm_attach_ready(self, true);
}

static void take_not_ready(struct gm_server_link *self, const json_t *note)
{
    (void)note;
    gm_attach_ready(self, false);
}

static const struct {
    const char *type;
    void (*take)(struct gm_server_link *self, const json_t *note);
} notes[] = {
    {"ready", take_ready},
    {"not_ready", take_not_ready},
};

void gm_note_take(struct gm_link *link, const char *json, size_t len)
{
    json_t *note = json_loadb(json, len, 0, NULL);
    const char *type = json_string_value(json_object_get(note, "type"));
    for (size_t i = 0; type != NULL && i < sizeof notes / sizeof notes[0]; i++) {
        if (strcmp(notes[i].type, type) == 0)
            notes[i].take(GM_CONTAINER_OF(link, struct gm_server_link, link), note);
    }
    json_decref(note);
}
