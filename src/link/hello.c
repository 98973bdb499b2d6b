/* Greetings as JSON. Any thread. Invariant: nothing a peer says is longer than its field, and
 * nothing required is missing. */
#include "link/hello.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "frame/frame.h"

#define HELLO_VERSION "0.1.0"
#define ZERO_MASK     "zero-mask"
#define NOT_READY     "not_ready"

static int finish(json_t *document, void *out, size_t cap)
{
    if (document == NULL)
        return -GM_E_LIMIT;
    size_t len = json_dumpb(document, out, cap, JSON_COMPACT);
    json_decref(document);
    return len == 0 || len > cap ? -GM_E_LIMIT : (int)len;
}

static json_t *features(bool zero_mask)
{
    return zero_mask ? json_pack("[s]", ZERO_MASK) : json_array();
}

int gm_hello_encode(const struct gm_hello *hello, void *out, size_t cap)
{
    json_t *document =
        json_pack("{s:s,s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:o,s:s}", "server_id", hello->server_id,
                  "instance", hello->instance, "lane", (int)hello->lane, "lanes", (int)hello->lanes,
                  "stream_limit", (int)hello->stream_limit, "window", (int)hello->window,
                  "frame_max", (int)GM_FRAME_PAYLOAD_MAX, "head_max", (int)GM_FRAME_BLOCK_MAX,
                  "features", features(hello->zero_mask), "version", HELLO_VERSION);
    if (document != NULL && hello->peers > 0 &&
        json_object_set_new(document, "peers", json_integer((json_int_t)hello->peers)) < 0) {
        json_decref(document);
        document = NULL;
    }
    return finish(document, out, cap);
}

int gm_ready_encode(const struct gm_ready *ready, void *out, size_t cap)
{
    return finish(json_pack("{s:s,s:s,s:i,s:i,s:i,s:i,s:i,s:o,s:s,s:s*}", "instance",
                            ready->instance, "service", ready->service, "stream_limit",
                            (int)ready->stream_limit, "request_limit", (int)ready->request_limit,
                            "window", (int)ready->window, "frame_max", (int)GM_FRAME_PAYLOAD_MAX,
                            "head_max", (int)GM_FRAME_BLOCK_MAX, "features",
                            features(ready->zero_mask), "version", HELLO_VERSION, "state",
                            ready->not_ready ? NOT_READY : NULL),
                  out, cap);
}

/* Features that we do not know are of no concern. */
static bool lists(const json_t *document, const char *feature)
{
    const json_t *list = json_object_get(document, "features");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (text != NULL && strcmp(text, feature) == 0)
            return true;
    }
    return false;
}

static bool take_text(const json_t *document, const char *key, char *out, size_t cap)
{
    const char *text = json_string_value(json_object_get(document, key));
    if (text == NULL || strlen(text) >= cap)
        return false;
    memcpy(out, text, strlen(text) + 1);
    return true;
}

static bool take_number(const json_t *document, const char *key, uint32_t max, uint32_t *out)
{
    const json_t *value = json_object_get(document, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > (json_int_t)max)
        return false;
    *out = (uint32_t)json_integer_value(value);
    return true;
}

/* frame_max and head_max may be absent; ours are the largest there are, so a smaller one of the
 * peer cannot be honoured and is refused. */
static bool limits_fit(const json_t *document)
{
    const json_t *frame_max = json_object_get(document, "frame_max"),
                 *head_max = json_object_get(document, "head_max");
    return (frame_max == NULL ||
            json_integer_value(frame_max) >= (json_int_t)GM_FRAME_PAYLOAD_MAX) &&
           (head_max == NULL || json_integer_value(head_max) >= (json_int_t)GM_FRAME_BLOCK_MAX);
}

int gm_hello_decode(const void *json, size_t len, struct gm_hello *out)
{
    json_t *document = json_loadb(json, len, 0, NULL);
    bool good = document != NULL &&
                take_text(document, "server_id", out->server_id, sizeof out->server_id) &&
                take_text(document, "instance", out->instance, sizeof out->instance) &&
                take_number(document, "lane", UINT16_MAX, &out->lane) &&
                take_number(document, "lanes", UINT16_MAX, &out->lanes) && out->lanes > 0 &&
                take_number(document, "stream_limit", GM_FRAME_SLOT_MAX, &out->stream_limit) &&
                out->stream_limit > 0 &&
                take_number(document, "window", GM_FRAME_CREDIT_MAX, &out->window) &&
                limits_fit(document);
    out->zero_mask = good && lists(document, ZERO_MASK);
    /* A hint: what makes no sense is as good as none. */
    if (!good || !take_number(document, "peers", UINT16_MAX, &out->peers))
        out->peers = 0;
    json_decref(document);
    return good ? 0 : -GM_E_PROTOCOL;
}

int gm_ready_decode(const void *json, size_t len, struct gm_ready *out)
{
    json_t *document = json_loadb(json, len, 0, NULL);
    *out = (struct gm_ready){0};
    bool good = document != NULL &&
                take_text(document, "instance", out->instance, sizeof out->instance) &&
                limits_fit(document);
    if (good) {
        (void)take_text(document, "service", out->service, sizeof out->service);
        if (json_object_get(document, "stream_limit") != NULL)
            good = take_number(document, "stream_limit", GM_FRAME_SLOT_MAX, &out->stream_limit);
        if (good && json_object_get(document, "window") != NULL)
            good = take_number(document, "window", GM_LINK_WINDOW_MAX, &out->window);
        if (good && json_object_get(document, "request_limit") != NULL)
            good = take_number(document, "request_limit", INT32_MAX, &out->request_limit);
        out->zero_mask = lists(document, ZERO_MASK);
        const char *state = json_string_value(json_object_get(document, "state"));
        out->not_ready = state != NULL && strcmp(state, NOT_READY) == 0;
    }
    json_decref(document);
    return good ? 0 : -GM_E_PROTOCOL;
}
