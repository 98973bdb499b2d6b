/* 0.0.x: the table of request ids, and what happens at the ends of a stream. Owner: the link's
 * ring.
 *
 * Server: an id is the stream's own number and a tail that is random for the link, so that finding
 * a stream needs no table, and an id of a stream that has ended finds nothing. Agent: ids are the
 * server's to choose; they are kept with their slots and found by a keyed hash. Invariants: a
 * stream is in the agent's table from START until it is closed; at most one CANCEL waits for each
 * slot, since a slot's next START leaves behind it. */
#include <string.h>

#include <xxhash.h>

#include "codec/internal.h"

static const char old_digits[] = "0123456789abcdef";

static uint32_t bucket_count(uint16_t stream_limit)
{
    uint32_t count = 1;
    while (count < stream_limit)
        count *= 2;
    return count;
}

size_t gm_mux_old_memory(enum gm_mux_role role, uint16_t stream_limit)
{
    size_t bytes = sizeof(struct gm_mux_old) + (size_t)stream_limit * sizeof(struct old_side);
    if (role == GM_MUX_AGENT)
        bytes += bucket_count(stream_limit) * sizeof(uint16_t);
    return bytes;
}

/* A version 4 UUID behind its first 8 digits. */
static void make_tail(uint8_t tail[OLD_UUID_LEN - 8u], const uint8_t random[GM_MUX_OLD_RANDOM])
{
    static const char pattern[] = "-xxxx-4xxx-yxxx-xxxxxxxxxxxx";
    unsigned nibble = 2 * sizeof(uint32_t);
    for (unsigned i = 0; i < sizeof pattern - 1; i++) {
        tail[i] = (uint8_t)pattern[i];
        if (pattern[i] != 'x' && pattern[i] != 'y')
            continue;
        unsigned value = (unsigned)random[nibble / 2] >> (nibble % 2 * 4) & 15u;
        tail[i] = (uint8_t)old_digits[pattern[i] == 'y' ? (8u | (value & 3u)) : value];
        nibble++;
    }
}

void gm_mux_old_begin(struct gm_mux *mux, const struct gm_mux_old_config *config)
{
    GM_ASSERT(mux->old == NULL && mux->touched == 0 && mux->flags == 0);
    struct gm_mux_old *old = config->memory;
    old->sides = (struct old_side *)(void *)(old + 1);
    if (mux->role == GM_MUX_AGENT) {
        old->buckets = (uint16_t *)(void *)(old->sides + mux->stream_limit);
        old->bucket_mask = bucket_count(mux->stream_limit) - 1;
    }
    memcpy(&old->id_mask, config->random, sizeof old->id_mask);
    memcpy(&old->seed, config->random, sizeof old->seed);
    make_tail(old->tail, config->random);
    old->request_limit = config->request_limit;
    old->state = OLD_IN_SKIP;
    mux->peer_window = GM_MUX_OLD_SEND_WINDOW;
    mux->old = old;
}

void gm_mux_old_up(struct gm_mux *mux)
{
    GM_ASSERT(mux->old != NULL);
    mux->flags |= MUX_GREET_SENT | MUX_GREET_RECEIVED;
}

bool gm_mux_old_blocked(const struct gm_mux *mux)
{
    const struct gm_stream *stream = mux->old->blocked;
    return stream != NULL && stream->window.credit == 0 &&
           (stream->flags & (GM_STREAM_DETACHED | GM_STREAM_STOP_SENT)) == 0;
}

gm_slice gm_mux_old_said(const struct gm_mux *mux)
{
    struct gm_mux_old *old = mux->old;
    return old == NULL ? (gm_slice){0} : (gm_slice){old->said, old->said_len, NULL};
}

bool gm_mux_old_uploading(const struct gm_mux *mux)
{
    return mux->old->uploads > 0;
}

/* ---- Ids ---- */

static void put_uuid(uint8_t out[OLD_UUID_LEN], const struct gm_mux_old *old, uint32_t id)
{
    id ^= old->id_mask;
    for (unsigned i = 0; i < 8; i++)
        out[i] = (uint8_t)old_digits[id >> (28 - 4 * i) & 15u];
    memcpy(out + 8, old->tail, sizeof old->tail);
}

static struct gm_stream *find_uuid(struct gm_mux *mux, const uint8_t *text, size_t len)
{
    const struct gm_mux_old *old = mux->old;
    uint32_t id = 0;
    if (len != OLD_UUID_LEN || memcmp(text + 8, old->tail, sizeof old->tail) != 0)
        return NULL;
    for (unsigned i = 0; i < 8; i++) {
        const char *digit = memchr(old_digits, text[i], 16);
        if (digit == NULL)
            return NULL;
        id = id << 4 | (uint32_t)(digit - old_digits);
    }
    id ^= old->id_mask;
    uint16_t slot = (uint16_t)id;
    if (slot == 0 || slot > mux->touched)
        return NULL;
    struct gm_stream *stream = mux_slot(mux, slot);
    bool open = gm_stream_in_use(stream) && (stream->flags & GM_STREAM_OPENED) != 0;
    return open && stream->id == id ? stream : NULL;
}

static uint16_t *bucket_of(const struct gm_mux_old *old, const uint8_t *id, size_t len)
{
    return &old->buckets[XXH3_64bits_withSeed(id, len, old->seed) & old->bucket_mask];
}

struct gm_stream *old_find(struct gm_mux *mux, const uint8_t *id, size_t len)
{
    if (mux->role == GM_MUX_SERVER)
        return find_uuid(mux, id, len);
    if (len == 0)
        return NULL;
    for (uint16_t slot = *bucket_of(mux->old, id, len); slot != 0;) {
        const struct old_side *side = &mux->old->sides[slot - 1u];
        if (side->id_len == len && memcmp(side->id, id, len) == 0)
            return mux_slot(mux, slot);
        slot = side->next;
    }
    return NULL;
}

void old_enter(struct gm_stream *stream, const uint8_t *id, uint8_t len)
{
    struct old_side *side = old_side_of(stream);
    uint16_t *bucket = bucket_of(stream->mux->old, id, len);
    memcpy(side->id, id, len);
    side->id_len = len;
    side->next = *bucket;
    *bucket = (uint16_t)stream->id;
}

static void leave(struct gm_mux *mux, struct old_side *side, uint16_t slot)
{
    uint16_t *at = bucket_of(mux->old, side->id, side->id_len);
    while (*at != slot)
        at = &mux->old->sides[*at - 1u].next;
    *at = side->next;
    side->next = 0;
    side->id_len = 0;
}

/* ---- Headers ---- */

static void put_head(uint8_t *out, enum old_type type, uint32_t id_len)
{
    out[0] = (uint8_t)type;
    out[1] = out[2] = out[3] = 0; /* an id is short: the length's first three bytes */
    out[4] = (uint8_t)id_len;
}

uint32_t old_put_header(uint8_t *out, const struct gm_stream *stream, enum old_type type)
{
    const struct gm_mux *mux = stream->mux;
    const struct old_side *side = old_side_of(stream);
    uint32_t len = mux->role == GM_MUX_SERVER ? OLD_UUID_LEN : side->id_len;
    put_head(out, type, len);
    if (mux->role == GM_MUX_SERVER)
        put_uuid(out + 5, mux->old, stream->id);
    else
        memcpy(out + 5, side->id, len);
    return 5 + len;
}

void old_put_cancel(uint8_t out[OLD_HEADER_LEN], const struct gm_mux *mux, uint32_t id)
{
    put_head(out, OLD_CANCEL, OLD_UUID_LEN);
    put_uuid(out + 5, mux->old, id);
}

/* ---- Ends ---- */

/* A server of 0.0.x says CANCEL at the end of every request, and so do we: it releases what the
 * agent still holds of it. */
static void queue_cancel(struct gm_stream *stream)
{
    struct gm_mux_old *old = stream->mux->old;
    struct old_side *side = old_side_of(stream);
    uint16_t slot = (uint16_t)stream->id;
    GM_ASSERT((side->flags & OLD_QUEUED) == 0);
    side->cancel_id = stream->id;
    side->next = 0;
    if (old->cancel_last != 0)
        old->sides[old->cancel_last - 1u].next = slot;
    else
        old->cancel_first = slot;
    old->cancel_last = slot;
    side->flags = OLD_QUEUED;
}

void mux_old_closing(struct gm_stream *stream)
{
    struct gm_mux *mux = stream->mux;
    struct old_side *side = old_side_of(stream);
    if (mux->unit_stream == stream)
        mux->unit_stream = NULL; /* the rest of the message is dropped */
    if (mux->old->blocked == stream)
        mux->old->blocked = NULL;
    if (side->held != NULL)
        gm_buf_put(side->held);
    side->held = NULL;
    if ((side->flags & OLD_UPLOADING) != 0)
        mux->old->uploads--;
    if (side->id_len > 0)
        leave(mux, side, (uint16_t)stream->id);
    bool cancel = mux->role == GM_MUX_SERVER && (stream->flags & GM_STREAM_OPENED) != 0 &&
                  (side->flags & OLD_CANCELLED) == 0;
    side->flags &= OLD_QUEUED; /* of the stream before: this one's START has not left */
    if (cancel)
        queue_cancel(stream);
}

void old_cancelled(struct gm_stream *stream)
{
    old_side_of(stream)->flags |= OLD_CANCELLED;
    /* The agent need not answer, and what it still sends finds no stream. */
    if (stream->in < GM_DIR_ENDED)
        (void)gm_stream_step(stream, GM_STREAM_IN_RESET);
    if (stream->out == GM_DIR_RESETTING)
        (void)gm_stream_step(stream, GM_STREAM_SENT_RESET);
}
