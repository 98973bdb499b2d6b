/* Fuzzes the opening of records under a known key. Input: suite and mode (1 byte), cut pattern
 * (1), place and value of a change (3), then either the bytes of a wire, or a text (content, and
 * with TLS 1.3 type and padding) that is encrypted here, changed there, and must then be refused;
 * unchanged it must open to what the rules say, worked out here a second time. */
#include <stdlib.h>
#include <string.h>

#include "tls/aead.h"

#define INPUT_MAX 40000u
#define SEGS      4096u
#define HEAD      5u /* bytes of input before the wire or text */

static uint32_t live;
static void on_free(struct gm_buf_home *home, struct gm_buf *buf)
{
    (void)home;
    live--;
    free(buf->data);
    free(buf);
}
static struct gm_buf_home home = {.ring = GM_RING_NONE, .on_free = on_free};
static _Alignas(8) char seg_memory[SEGS * sizeof(struct gm_seg)];
static struct gm_seg_pool segs;

/* Every slice its own allocation, so that a byte too far shows. */
static void push(struct gm_chain *chain, const uint8_t *bytes, size_t len)
{
    struct gm_buf *buf = calloc(1, sizeof *buf);
    GM_ASSERT(buf != NULL);
    *buf = (struct gm_buf){.data = malloc(len), .size = (uint32_t)len, .refs = 1, .home = &home};
    GM_ASSERT(buf->data != NULL);
    memcpy(buf->data, bytes, len);
    live++;
    int pushed = gm_chain_push(chain, &segs, (gm_slice){buf->data, (uint32_t)len, buf});
    GM_ASSERT(pushed == 0);
}

/* Pieces whose lengths `pattern` decides; 0 gives one piece. */
static void push_cut(struct gm_chain *chain, const uint8_t *bytes, size_t len, uint8_t pattern)
{
    uint32_t seed = pattern;
    size_t most = len / 2000 + 1 + pattern;
    for (size_t at = 0, step; at < len; at += step) {
        seed = seed * 1664525u + 1013904223u;
        step = pattern == 0 ? len : 1 + (seed >> 16) % most;
        step = step < len - at ? step : len - at;
        push(chain, bytes + at, step);
    }
}

static struct gm_tls_keys make_keys(uint8_t suite)
{
    struct gm_tls_keys keys = {.version = suite < 3 ? GM_TLS_1_2 : GM_TLS_1_3,
                               .cipher = (enum gm_tls_cipher)(suite % 3)};
    keys.secret_len = (uint8_t)gm_tls_aead_hash_bytes(keys.cipher);
    memset(keys.key, 0x5a, sizeof keys.key);
    memset(keys.iv, 0xa5, sizeof keys.iv);
    return keys;
}

/* Opens whatever the wire holds until it ends or is refused. Nothing was made with the key, so
 * nothing but the record in the clear can be right. */
static void open_wire(struct gm_tls_flow *flow, struct gm_chain *wire)
{
    struct gm_chain plain = {0};
    for (int len; (len = gm_tls_record_length(wire)) > 0 && (size_t)len <= wire->bytes;) {
        size_t before = wire->bytes;
        int opened = gm_tls_record_open(flow, wire, &plain, &segs);
        GM_ASSERT(opened == -GM_E_TLS_RECORD || opened == GM_TLS_CHANGE_CIPHER_SPEC);
        GM_ASSERT(wire->bytes == before - (size_t)len);
        GM_ASSERT(plain.bytes == 0 && gm_tls_flow_sequence(flow) == 0);
        if (opened < 0)
            break;
    }
    gm_chain_clear(wire, &segs);
}

/* Encrypts the text as the flow's record 0; returns the record's length. */
static uint32_t forge(const struct gm_tls_keys *keys, uint8_t outer, uint8_t *record,
                      uint32_t text_len)
{
    struct gm_tls_aead_head head = {.aad_len = GM_TLS_HEADER_BYTES};
    struct gm_tls_aead aead;
    bool explicit = keys->version == GM_TLS_1_2 && keys->cipher != GM_TLS_CHACHA20_POLY1305;
    uint32_t at = GM_TLS_HEADER_BYTES + (explicit ? 8 : 0);
    uint32_t len = at + text_len + GM_TLS_TAG_BYTES;
    uint32_t body = len - GM_TLS_HEADER_BYTES;
    memmove(record + at, record, text_len);
    memset(record, 0, at);
    memcpy(record, (uint8_t[]){outer, 3, 3, (uint8_t)(body >> 8), (uint8_t)body}, 5);
    memcpy(head.nonce, keys->iv, sizeof head.nonce);
    if (explicit)
        memset(head.nonce + 4, 0, 8);
    memcpy(head.aad, record, GM_TLS_HEADER_BYTES);
    if (keys->version == GM_TLS_1_2) {
        memset(head.aad, 0, 8);
        memcpy(head.aad + 8, (uint8_t[]){outer, 3, 3, (uint8_t)(text_len >> 8), (uint8_t)text_len},
               5);
        head.aad_len = GM_TLS_AAD_MAX;
    }
    int bad = gm_tls_aead_init(&aead, keys->cipher, keys->key);
    bad |= gm_tls_aead_seal_whole(&aead, &head, record + at, text_len, record + at + text_len);
    GM_ASSERT(bad == 0);
    gm_tls_aead_wipe(&aead);
    return len;
}

/* What a genuine record with this text opens to: its type, and where its content ends. */
static int judge(const struct gm_tls_keys *keys, uint8_t outer, const uint8_t *text, uint32_t *len)
{
    uint8_t type = outer;
    if (keys->version == GM_TLS_1_3) {
        if (*len > GM_TLS_PAYLOAD_MAX + 1)
            return -GM_E_TLS_RECORD;
        while (*len > 0 && text[*len - 1] == 0)
            --*len;
        if (*len == 0)
            return -GM_E_TLS_RECORD;
        type = text[--*len];
        if (type == GM_TLS_CHANGE_CIPHER_SPEC)
            return -GM_E_TLS_RECORD;
    }
    if (*len > GM_TLS_PAYLOAD_MAX || type < GM_TLS_CHANGE_CIPHER_SPEC || type > GM_TLS_DATA)
        return -GM_E_TLS_RECORD;
    return *len == 0 && type != GM_TLS_DATA ? -GM_E_TLS_RECORD : (int)type;
}

static void open_forged(const struct gm_tls_keys *keys, const uint8_t *p, const uint8_t *text,
                        uint32_t text_len)
{
    static uint8_t record[INPUT_MAX + 64];
    struct gm_chain wire = {0}, plain = {0};
    uint8_t outer = keys->version == GM_TLS_1_3 ? GM_TLS_DATA : (uint8_t)(20 + p[0] / 64);
    memcpy(record, text, text_len);
    uint32_t len = forge(keys, outer, record, text_len), content_len = text_len;
    int expected = judge(keys, outer, text, &content_len);
    if (p[4] != 0) { /* not in the length: that would make it another record */
        uint32_t place = ((uint32_t)p[2] << 8 | p[3]) % len;
        place = place == 3 || place == 4 ? 0 : place;
        record[place] ^= p[4];
        expected = -GM_E_TLS_RECORD;
    }
    struct gm_tls_flow *flow = gm_tls_flow_new(keys);
    GM_ASSERT(flow != NULL);
    push_cut(&wire, record, len, p[1]);
    int opened = gm_tls_record_open(flow, &wire, &plain, &segs);
    GM_ASSERT(opened == expected && wire.bytes == 0);
    GM_ASSERT(plain.bytes == (expected < 0 ? 0 : content_len));
    for (size_t at = 0; plain.bytes > 0;) {
        gm_slice slice = gm_chain_pop(&plain, &segs);
        GM_ASSERT(memcmp(slice.data, text + at, slice.len) == 0);
        at += slice.len;
        gm_slice_put(slice);
    }
    gm_tls_flow_free(flow);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < HEAD || n > INPUT_MAX)
        return 0;
    struct gm_tls_keys keys = make_keys((p[0] & 31u) % 6);
    gm_seg_pool_init(&segs, seg_memory, sizeof seg_memory);
    if ((p[0] & 32u) != 0) {
        struct gm_chain wire = {0};
        struct gm_tls_flow *flow = gm_tls_flow_new(&keys);
        GM_ASSERT(flow != NULL);
        push_cut(&wire, p + HEAD, n - HEAD, p[1]);
        open_wire(flow, &wire);
        gm_tls_flow_free(flow);
    } else {
        open_forged(&keys, p, p + HEAD, (uint32_t)(n - HEAD));
    }
    GM_ASSERT(live == 0 && segs.free_count == segs.total_count);
    return 0;
}
