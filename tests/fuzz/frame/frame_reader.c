/* Fuzzes the frame reader: whatever the bytes, the units are the same however the input is cut.
 * Input: cut pattern (1 byte), then the bytes of a link. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "frame/frame.h"

#define INPUT_MAX 131072u

struct record {
    int result;
    uint8_t fault;
    uint64_t frames;
    uint64_t unknown;
    bool idle;
    bool open;
    uint32_t offset;
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

/* Checks what every event promises, and notes what cuts may not change. */
static void note_event(struct record *r, const struct gm_frame_event *e)
{
    GM_ASSERT(((e->mark & GM_FRAME_FIRST) != 0) == !r->open);
    GM_ASSERT(e->length <= GM_FRAME_PAYLOAD_MAX && e->data_len <= e->length);
    if (e->mark & GM_FRAME_FIRST) {
        r->offset = 0;
        note(r, &e->type, 1);
        note(r, &e->stream, 4);
    }
    GM_ASSERT(e->offset == r->offset);
    note(r, e->data, e->data_len);
    r->offset += e->data_len;
    r->open = !(e->mark & GM_FRAME_LAST);
    GM_ASSERT(e->type < GM_FRAME_END || e->type == GM_FRAME_NOTE ||
              (e->mark == (GM_FRAME_FIRST | GM_FRAME_LAST) && e->data_len == e->length));
    GM_ASSERT(r->offset <= GM_FRAME_BLOCK_MAX + GM_FRAME_OPEN_PREFIX_LEN);
    if (!r->open)
        note(r, &e->flags, 1);
}

static void feed(struct record *r, const uint8_t *p, size_t n, uint8_t pattern)
{
    struct gm_frame_reader reader;
    gm_frame_reader_init(&reader);
    r->result = 0;
    r->len = 0;
    r->open = false;
    uint32_t seed = pattern;
    for (size_t at = 0; at < n && r->result >= 0;) {
        seed = seed * 1664525u + 1013904223u;
        size_t part =
            pattern == 0 ? n : 1 + (seed >> 16) % (pattern & 0x3fu ? pattern & 0x3fu : 1u);
        part = part < n - at ? part : n - at;
        uint8_t *copy = malloc(part);
        GM_ASSERT(copy != NULL);
        memcpy(copy, p + at, part);
        const uint8_t *data = copy;
        size_t len = part;
        struct gm_frame_event e;
        while ((r->result = gm_frame_reader_next(&reader, &data, &len, &e)) == 1)
            note_event(r, &e);
        GM_ASSERT(r->result < 0 || len == 0);
        free(copy);
        at += part;
    }
    r->fault = reader.fault;
    r->frames = reader.frame_count;
    r->unknown = reader.unknown_count;
    r->idle = gm_frame_reader_idle(&reader);
    GM_ASSERT(r->result == 0 || r->result == -GM_E_PROTOCOL);
    GM_ASSERT((r->result < 0) == (r->fault != GM_FRAME_FAULT_NONE));
    GM_ASSERT(!(r->idle && r->open));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static struct record whole;
    static struct record split;
    if (n < 1 || n > INPUT_MAX)
        return 0;
    feed(&whole, p + 1, n - 1, 0);
    feed(&split, p + 1, n - 1, p[0] | 1u);
    GM_ASSERT(whole.result == split.result && whole.fault == split.fault && whole.len == split.len);
    GM_ASSERT(whole.frames == split.frames && whole.unknown == split.unknown &&
              whole.idle == split.idle);
    GM_ASSERT(memcmp(whole.bytes, split.bytes, whole.len) == 0);
    return 0;
}
