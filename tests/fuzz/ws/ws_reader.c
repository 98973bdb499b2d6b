/* Fuzzes the WebSocket reader: whatever the bytes, the events are the same however the input is
 * cut. Input: role and limit (1 byte), cut pattern (1 byte), then the bytes of a connection. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "ws/ws.h"

#define INPUT_MAX 65536u

struct record {
    int result;
    uint16_t close_code;
    size_t len;
    uint8_t bytes[4 * INPUT_MAX];
};

static void note(struct record *r, const void *p, size_t n)
{
    GM_ASSERT(n <= sizeof(r->bytes) - r->len);
    if (n > 0)
        memcpy(r->bytes + r->len, p, n);
    r->len += n;
}

/* Pieces of a message join: only what cuts may not change is noted. */
static void note_event(struct record *r, const struct gm_ws_event *e)
{
    if (e->kind != GM_WS_EVENT_DATA || (e->mark & GM_WS_FIRST)) {
        note(r, &e->kind, 1);
        note(r, &e->opcode, 1);
        note(r, &e->close_code, 2);
    }
    note(r, e->data, e->len);
    if (e->mark & GM_WS_LAST)
        note(r, "|", 1);
}

/* Feeds p in pieces whose lengths `pattern` decides; 0 gives one piece. */
static void feed(struct record *r, uint8_t setup, const uint8_t *p, size_t n, uint8_t pattern)
{
    struct gm_ws_reader reader;
    gm_ws_reader_init(&reader, (setup & 1u) ? GM_WS_SERVER : GM_WS_CLIENT,
                      (uint64_t)(setup >> 1) * 16u);
    r->result = 0;
    r->len = 0;
    uint32_t seed = pattern;
    for (size_t at = 0; at < n && r->result >= 0;) {
        seed = seed * 1664525u + 1013904223u;
        size_t part =
            pattern == 0 ? n : 1 + (seed >> 16) % (pattern & 0x3fu ? pattern & 0x3fu : 1u);
        part = part < n - at ? part : n - at;
        uint8_t *copy = malloc(part);
        GM_ASSERT(copy != NULL);
        memcpy(copy, p + at, part);
        uint8_t *data = copy;
        size_t len = part;
        struct gm_ws_event e;
        while ((r->result = gm_ws_reader_next(&reader, &data, &len, &e)) == 1) {
            GM_ASSERT(e.kind != GM_WS_EVENT_DATA || e.len == 0 ||
                      (e.data >= copy && e.data + e.len == data));
            note_event(r, &e);
        }
        GM_ASSERT(r->result < 0 || (len == 0 && data == copy + part));
        free(copy);
        at += part;
    }
    r->close_code = reader.close_code;
    GM_ASSERT(r->result == 0 || r->result == -GM_E_PROTOCOL);
    GM_ASSERT((r->result < 0) == (r->close_code != 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static struct record whole;
    static struct record split;
    if (n < 2 || n > INPUT_MAX)
        return 0;
    feed(&whole, p[0], p + 2, n - 2, 0);
    feed(&split, p[0], p + 2, n - 2, p[1] | 1u);
    GM_ASSERT(whole.result == split.result && whole.close_code == split.close_code);
    /* A failing message's good beginning may be told in pieces before the failure shows. */
    GM_ASSERT(whole.result < 0 ? whole.len <= split.len : whole.len == split.len);
    GM_ASSERT(memcmp(whole.bytes, split.bytes, whole.len) == 0);
    return 0;
}
