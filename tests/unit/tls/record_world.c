/* Buffers, blocks and forged records for tests: see record_world.h. */
#include "record_world.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tls/aead.h"

#ifdef TLS_TEST_NARROW
/* A program of its own for wolfCrypt's AES, where it would not be taken by itself. */
__attribute__((constructor)) static void choose_aes(void)
{
    gm_tls_aead_narrow(true);
}
#endif

static struct rec_world *current;
static uint32_t random_state = 2463534242u;

static void on_free(struct gm_buf_home *home, struct gm_buf *buf)
{
    (void)home;
    current->live--;
    free(buf->data);
    free(buf);
}
static struct gm_buf_home rec_home = {.ring = GM_RING_NONE, .on_free = on_free};

static struct gm_buf *make_buf(struct rec_world *world, uint32_t size)
{
    struct gm_buf *buf = calloc(1, sizeof *buf);
    *buf = (struct gm_buf){.data = malloc(size), .size = size, .refs = 1, .home = &rec_home};
    world->live++;
    return buf;
}

static struct gm_buf *take_block(void *arg)
{
    struct rec_world *world = arg;
    if (world->blocks_left == 0)
        return NULL;
    world->blocks_left--;
    return make_buf(world, world->block_bytes);
}

void rec_begin(struct rec_world *world, uint32_t block_bytes)
{
    *world = (struct rec_world){.block_bytes = block_bytes, .blocks_left = UINT32_MAX};
    world->memory = malloc(REC_SEGS * sizeof(struct gm_seg));
    gm_seg_pool_init(&world->segs, world->memory, REC_SEGS * sizeof(struct gm_seg));
    world->sink = (struct gm_tls_sink){
        .out = &world->wire, .segs = &world->segs, .block = take_block, .arg = world};
    current = world;
}

void rec_end(struct rec_world *world)
{
    gm_chain_clear(&world->wire, &world->segs);
    gm_chain_clear(&world->plain, &world->segs);
    cr_assert_eq(world->live, 0, "%u buffers lost", world->live);
    cr_assert_eq(world->segs.free_count, world->segs.total_count);
    free(world->memory);
}

struct gm_seg *rec_take_segs(struct rec_world *world, uint32_t left)
{
    struct gm_seg *taken = NULL;
    while (world->segs.free_count > left) {
        struct gm_seg *seg = world->segs.free;
        world->segs.free = seg->next;
        world->segs.free_count--;
        seg->next = taken;
        taken = seg;
    }
    return taken;
}

void rec_give_segs(struct rec_world *world, struct gm_seg *taken)
{
    while (taken != NULL) {
        struct gm_seg *next = taken->next;
        taken->next = world->segs.free;
        world->segs.free = taken;
        world->segs.free_count++;
        taken = next;
    }
}

void rec_push(struct rec_world *world, struct gm_chain *chain, const void *bytes, uint32_t len)
{
    if (len == 0)
        return;
    struct gm_buf *buf = make_buf(world, len);
    memcpy(buf->data, bytes, len);
    cr_assert_eq(gm_chain_push(chain, &world->segs, (gm_slice){buf->data, len, buf}), 0);
}

void rec_push_cut(struct rec_world *world, struct gm_chain *chain, const uint8_t *bytes,
                  const uint32_t len_and_cut[2])
{
    rec_push(world, chain, bytes, len_and_cut[1]);
    rec_push(world, chain, bytes + len_and_cut[1], len_and_cut[0] - len_and_cut[1]);
}

void rec_push_random(struct rec_world *world, struct gm_chain *chain, const uint8_t *bytes,
                     const uint32_t len_and_most[2])
{
    for (uint32_t at = 0, step; at < len_and_most[0]; at += step) {
        uint32_t rest = len_and_most[0] - at;
        step = 1 + rec_random() % len_and_most[1];
        step = step < rest ? step : rest;
        rec_push(world, chain, bytes + at, step);
    }
}

uint32_t rec_read(const struct gm_chain *chain, uint8_t *out, uint32_t max)
{
    uint32_t len = 0;
    for (const struct gm_seg *seg = chain->head; seg != NULL; seg = seg->next) {
        for (unsigned i = 0; i < seg->count; i++) {
            gm_slice slice = seg->slices[seg->first + i];
            cr_assert_leq(slice.len, max - len);
            memcpy(out + len, slice.data, slice.len);
            len += slice.len;
        }
    }
    cr_assert_eq(len, chain->bytes);
    return len;
}

uint32_t rec_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

void rec_fill(uint8_t *bytes, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(rec_random() >> 11);
}

static int digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c == '\0' ? NULL : strchr(digits, c);
    return at == NULL ? -1 : (int)(at - digits);
}

uint32_t rec_hex(const char *text, uint8_t *out, uint32_t max)
{
    uint32_t len = 0;
    for (; *text != '\0'; text++) {
        if (*text == ' ')
            continue;
        int high = digit(text[0]), low = digit(text[1]);
        cr_assert(high >= 0 && low >= 0 && len < max, "bad hexadecimal at %s", text);
        out[len++] = (uint8_t)(high << 4 | low);
        text++;
    }
    return len;
}

struct gm_tls_keys rec_keys(enum gm_tls_version version, enum gm_tls_cipher cipher)
{
    struct gm_tls_keys keys = {.version = version, .cipher = cipher};
    keys.secret_len = cipher == GM_TLS_AES_256_GCM ? 48 : 32;
    for (unsigned i = 0; i < sizeof keys.key; i++)
        keys.key[i] = (uint8_t)(i * 7);
    for (unsigned i = 0; i < sizeof keys.iv; i++)
        keys.iv[i] = (uint8_t)(0xa0 + i);
    for (unsigned i = 0; i < keys.secret_len; i++)
        keys.secret[i] = (uint8_t)(i * 3 + 1);
    return keys;
}

struct gm_tls_flow *rec_flow(enum gm_tls_version version, enum gm_tls_cipher cipher)
{
    struct gm_tls_keys keys = rec_keys(version, cipher);
    struct gm_tls_flow *flow = gm_tls_flow_new(&keys);
    cr_assert_not_null(flow);
    return flow;
}

uint32_t rec_forge(const struct rec_text *text, uint8_t *record)
{
    struct gm_tls_keys keys = rec_keys(text->version, text->cipher);
    bool explicit = text->version == GM_TLS_1_2 && text->cipher != GM_TLS_CHACHA20_POLY1305;
    uint32_t at = GM_TLS_HEADER_BYTES + (explicit ? 8 : 0);
    uint32_t body = at - GM_TLS_HEADER_BYTES + text->len + GM_TLS_TAG_BYTES;
    uint8_t sequence[8];
    for (unsigned i = 0; i < 8; i++)
        sequence[i] = (uint8_t)(text->sequence >> (56 - 8 * i));
    memcpy(record, (uint8_t[]){text->outer, 3, 3, (uint8_t)(body >> 8), (uint8_t)body}, 5);
    struct gm_tls_aead_head head = {.aad_len = GM_TLS_HEADER_BYTES};
    memcpy(head.nonce, keys.iv, sizeof head.nonce);
    memcpy(head.aad, record, GM_TLS_HEADER_BYTES);
    if (text->version == GM_TLS_1_2) {
        memcpy(head.aad, sequence, 8);
        memcpy(head.aad + 8,
               (uint8_t[]){text->outer, 3, 3, (uint8_t)(text->len >> 8), (uint8_t)text->len}, 5);
        head.aad_len = 13;
    }
    for (unsigned i = 0; i < 8; i++)
        head.nonce[4 + i] = explicit ? sequence[i] : head.nonce[4 + i] ^ sequence[i];
    if (explicit)
        memcpy(record + GM_TLS_HEADER_BYTES, sequence, 8);
    memcpy(record + at, text->bytes, text->len);
    struct gm_tls_aead aead;
    cr_assert_eq(gm_tls_aead_init(&aead, text->cipher, keys.key), 0);
    cr_assert_eq(
        gm_tls_aead_seal_whole(&aead, &head, record + at, text->len, record + at + text->len), 0);
    gm_tls_aead_wipe(&aead);
    return GM_TLS_HEADER_BYTES + body;
}

unsigned rec_next(unsigned suite)
{
    while (suite < REC_SUITES && !gm_tls_record_has(rec_cipher(suite)))
        suite++;
    return suite;
}

enum gm_tls_version rec_version(unsigned suite)
{
    return suite < 3 ? GM_TLS_1_2 : GM_TLS_1_3;
}

enum gm_tls_cipher rec_cipher(unsigned suite)
{
    return (enum gm_tls_cipher)(suite % 3);
}
