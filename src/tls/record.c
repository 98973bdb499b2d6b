/* The record layer: one direction's keys and counter. Owner: the session, one ring at a time.
 *
 * Invariants: a sequence number is used for one record that left (sealing) or was genuine
 * (opening), and never again; everything that can run short is counted before the cipher starts,
 * so that a record is either done whole or not begun. Chains are walked in place: a record may lie
 * in as many slices, and leave in as many blocks, as it likes. */
#include "tls/record.h"

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "tls/aead.h"

#define EXPLICIT_BYTES                                                                             \
    8u /* of the nonce, in each record of TLS 1.2 with AES (RFC 5288 section 3) */
#define LABEL_MAX 32u
/* The smallest block makes the most pieces. */
#define BLOCK_MIN  64u
#define BLOCKS_MAX ((GM_TLS_PAYLOAD_MAX + GM_TLS_OVERHEAD_MAX) / BLOCK_MIN + 1u)
/* Sealing: up to here payload is copied into the block and encrypted there in one go, which is
 * cheaper than the pieces' set-up. */
#define WHOLE_MAX 4096u

struct gm_tls_flow {
    uint64_t sequence; /* of the next record */
    enum gm_tls_version version;
    uint8_t iv[GM_TLS_NONCE_BYTES];
    uint8_t key[32]; /* for gm_tls_flow_keys: `aead` has only what it made of it */
    uint8_t secret_len;
    uint8_t secret[GM_TLS_SECRET_MAX];
    struct gm_tls_aead aead;
};

/* ---- Keys ---- */

static bool has_explicit_nonce(const struct gm_tls_flow *flow)
{
    return flow->version == GM_TLS_1_2 && flow->aead.cipher != GM_TLS_CHACHA20_POLY1305;
}

bool gm_tls_record_has(enum gm_tls_cipher cipher)
{
    return gm_tls_aead_has(cipher);
}

struct gm_tls_flow *gm_tls_flow_new(const struct gm_tls_keys *keys)
{
    GM_ASSERT(gm_tls_aead_has(keys->cipher));
    GM_ASSERT(keys->version == GM_TLS_1_2 ||
              keys->secret_len == gm_tls_aead_hash_bytes(keys->cipher));
    struct gm_tls_flow *flow = calloc(1, sizeof *flow);
    if (flow == NULL)
        return NULL;
    flow->sequence = keys->sequence;
    flow->version = keys->version;
    memcpy(flow->iv, keys->iv, sizeof flow->iv);
    memcpy(flow->key, keys->key, sizeof flow->key);
    if (keys->version == GM_TLS_1_3) {
        flow->secret_len = keys->secret_len;
        memcpy(flow->secret, keys->secret, keys->secret_len);
    }
    if (gm_tls_aead_init(&flow->aead, keys->cipher, keys->key) != 0) {
        gm_tls_flow_free(flow);
        return NULL;
    }
    return flow;
}

void gm_tls_flow_free(struct gm_tls_flow *flow)
{
    if (flow == NULL)
        return;
    gm_tls_aead_wipe(&flow->aead);
    explicit_bzero(flow, sizeof *flow);
    free(flow);
}

/* HKDF-Expand-Label with an empty context (RFC 8446 section 7.1). */
static int expand_label(const struct gm_tls_flow *flow, const char *label, uint8_t *out,
                        uint32_t out_len)
{
    static const char prefix[] = "tls13 ";
    uint32_t prefix_len = sizeof prefix - 1, label_len = (uint32_t)strlen(label);
    uint8_t info[4 + LABEL_MAX];
    GM_ASSERT(prefix_len + label_len <= LABEL_MAX);
    info[0] = (uint8_t)(out_len >> 8);
    info[1] = (uint8_t)out_len;
    info[2] = (uint8_t)(prefix_len + label_len);
    memcpy(info + 3, prefix, prefix_len);
    memcpy(info + 3 + prefix_len, label, label_len);
    info[3 + prefix_len + label_len] = 0;
    int wolf = wc_HKDF_Expand(gm_tls_aead_hash(flow->aead.cipher), flow->secret, flow->secret_len,
                              info, 4 + prefix_len + label_len, out, out_len);
    return wolf == 0 ? 0 : -GM_E_TLS;
}

int gm_tls_flow_update(struct gm_tls_flow *flow)
{
    enum gm_tls_cipher cipher = flow->aead.cipher;
    if (flow->version != GM_TLS_1_3)
        return -GM_E_TLS;
    struct gm_tls_flow next = {.version = GM_TLS_1_3, .secret_len = flow->secret_len};
    next.aead.cipher = cipher;
    int result = expand_label(flow, "traffic upd", next.secret, next.secret_len);
    if (result == 0)
        result = expand_label(&next, "key", next.key, gm_tls_aead_key_bytes(cipher));
    if (result == 0)
        result = expand_label(&next, "iv", next.iv, sizeof next.iv);
    if (result == 0)
        result = gm_tls_aead_init(&next.aead, cipher, next.key);
    if (result == 0) {
        gm_tls_aead_wipe(&flow->aead);
        *flow = next;
    }
    explicit_bzero(&next, sizeof next);
    return result;
}

void gm_tls_flow_keys(const struct gm_tls_flow *flow, struct gm_tls_keys *out)
{
    *out = (struct gm_tls_keys){.version = flow->version,
                                .cipher = flow->aead.cipher,
                                .sequence = flow->sequence,
                                .secret_len = flow->secret_len};
    memcpy(out->key, flow->key, sizeof out->key);
    memcpy(out->iv, flow->iv, sizeof out->iv);
    memcpy(out->secret, flow->secret, sizeof out->secret);
}

uint64_t gm_tls_flow_sequence(const struct gm_tls_flow *flow)
{
    return flow->sequence;
}

enum gm_tls_version gm_tls_flow_version(const struct gm_tls_flow *flow)
{
    return flow->version;
}

enum gm_tls_cipher gm_tls_flow_cipher(const struct gm_tls_flow *flow)
{
    return flow->aead.cipher;
}

uint32_t gm_tls_flow_overhead(const struct gm_tls_flow *flow)
{
    uint32_t inner = flow->version == GM_TLS_1_3 ? 1 : 0;
    uint32_t nonce = has_explicit_nonce(flow) ? EXPLICIT_BYTES : 0;
    return GM_TLS_HEADER_BYTES + nonce + inner + GM_TLS_TAG_BYTES;
}

/* ---- What both directions share ---- */

static void put_u64(uint8_t *p, uint64_t n)
{
    uint64_t wire = __builtin_bswap64(n);
    memcpy(p, &wire, sizeof wire);
}

static void put_header(uint8_t *p, uint8_t type, uint32_t len)
{
    p[0] = type;
    p[1] = (uint8_t)(GM_TLS_1_2 >> 8);
    p[2] = (uint8_t)(GM_TLS_1_2 & 0xff);
    p[3] = (uint8_t)(len >> 8);
    p[4] = (uint8_t)len;
}

/* Nonce and additional data of the flow's next record. `header` as on the wire, with the explicit
 * nonce behind it where there is one; `len` of the text without expansion. RFC 8446 sections 5.2
 * and 5.3; RFC 5246 section 6.2.3.3, RFC 5288 section 3, RFC 7905 section 2. */
static void make_head(const struct gm_tls_flow *flow, const uint8_t *header, uint32_t len,
                      struct gm_tls_aead_head *head)
{
    memcpy(head->nonce, flow->iv, sizeof head->nonce);
    if (has_explicit_nonce(flow)) {
        memcpy(head->nonce + 4, header + GM_TLS_HEADER_BYTES, EXPLICIT_BYTES);
    } else {
        uint8_t sequence[8];
        put_u64(sequence, flow->sequence);
        for (unsigned i = 0; i < sizeof sequence; i++)
            head->nonce[4 + i] ^= sequence[i];
    }
    if (flow->version == GM_TLS_1_3) {
        memcpy(head->aad, header, GM_TLS_HEADER_BYTES);
        head->aad_len = GM_TLS_HEADER_BYTES;
        return;
    }
    put_u64(head->aad, flow->sequence);
    put_header(head->aad + 8, header[0], len);
    head->aad_len = GM_TLS_AAD_MAX;
}

static bool may_be_empty(enum gm_tls_content type)
{
    return type == GM_TLS_DATA;
}

/* Segments that `count` more slices at the end of the chain may need. */
static uint32_t segs_needed(const struct gm_chain *chain, uint32_t count)
{
    const struct gm_seg *tail = chain->tail;
    uint32_t room = tail == NULL ? 0 : GM_SEG_SLICES - tail->first - tail->count;
    return count <= room ? 0 : (count - room + GM_SEG_SLICES - 1) / GM_SEG_SLICES;
}

/* ---- Walking a chain without taking from it ---- */

struct walk {
    const struct gm_seg *seg;
    uint32_t index, offset;
};

static struct walk walk_begin(const struct gm_chain *chain)
{
    return (struct walk){.seg = chain->head};
}

/* The next piece, at most `max` bytes of one slice. The chain must not be at its end. */
static struct iovec walk_piece(struct walk *walk, uint32_t max)
{
    const gm_slice *slice = &walk->seg->slices[walk->seg->first + walk->index];
    uint32_t rest = slice->len - walk->offset;
    struct iovec piece = {slice->data + walk->offset, rest < max ? rest : max};
    if (rest > max) {
        walk->offset += max;
        return piece;
    }
    walk->offset = 0;
    if (++walk->index == walk->seg->count) {
        walk->seg = walk->seg->next;
        walk->index = 0;
    }
    return piece;
}

static void walk_read(struct walk *walk, uint8_t *out, uint32_t len)
{
    while (len > 0) {
        struct iovec piece = walk_piece(walk, len);
        memcpy(out, piece.iov_base, piece.iov_len);
        out += piece.iov_len;
        len -= (uint32_t)piece.iov_len;
    }
}

/* Slices that `len` bytes from here on lie in. */
static uint32_t walk_count(struct walk walk, uint32_t len)
{
    uint32_t count = 0;
    for (; len > 0; count++)
        len -= (uint32_t)walk_piece(&walk, len).iov_len;
    return count;
}

/* ---- Opening ---- */

static uint32_t body_length(const uint8_t *header)
{
    return (uint32_t)header[3] << 8 | header[4];
}

int gm_tls_record_length(const struct gm_chain *in)
{
    uint8_t header[GM_TLS_HEADER_BYTES];
    if (in->bytes < sizeof header)
        return 0;
    struct walk walk = walk_begin(in);
    walk_read(&walk, header, sizeof header);
    uint32_t len = sizeof header + body_length(header);
    bool possible = header[0] >= GM_TLS_CHANGE_CIPHER_SPEC && header[0] <= GM_TLS_DATA &&
                    header[1] == GM_TLS_1_2 >> 8 && len <= GM_TLS_RECORD_MAX;
    return possible ? (int)len : -GM_E_TLS_RECORD;
}

/* The record at the front, taken apart. */
struct opening {
    struct walk walk; /* at the text */
    uint32_t record_len;
    uint32_t before; /* header and explicit nonce */
    uint32_t text_len;
    struct gm_tls_aead_head head;
    /* Where the content ends, and its type; TLS 1.3 has the type there, behind it. */
    uint32_t content_len;
    uint8_t type;
};

/* The bytes that `flow` expects around a text; false when the record cannot be one of its. */
static bool opening_begin(struct opening *o, const struct gm_tls_flow *flow,
                          const struct gm_chain *in)
{
    uint8_t header[GM_TLS_HEADER_BYTES + EXPLICIT_BYTES];
    o->walk = walk_begin(in);
    walk_read(&o->walk, header, GM_TLS_HEADER_BYTES);
    o->record_len = GM_TLS_HEADER_BYTES + body_length(header);
    GM_ASSERT(o->record_len <= in->bytes);
    o->type = header[0];
    o->before = GM_TLS_HEADER_BYTES + (has_explicit_nonce(flow) ? EXPLICIT_BYTES : 0);
    bool inner = flow->version == GM_TLS_1_3;
    if (o->record_len < o->before + inner + GM_TLS_TAG_BYTES)
        return false;
    o->text_len = o->content_len = o->record_len - o->before - GM_TLS_TAG_BYTES;
    if (o->text_len > GM_TLS_PAYLOAD_MAX + inner || flow->sequence == UINT64_MAX)
        return false;
    /* TLS 1.3 gives the outer version no meaning but authenticates it, and its outer type is always
     * application data; what TLS 1.2 authenticates has our version, whatever the header says. */
    bool ours = header[1] == GM_TLS_1_2 >> 8 && header[2] == (GM_TLS_1_2 & 0xff);
    if (inner ? header[0] != GM_TLS_DATA : !ours)
        return false;
    walk_read(&o->walk, header + GM_TLS_HEADER_BYTES, o->before - GM_TLS_HEADER_BYTES);
    make_head(flow, header, o->text_len, &o->head);
    return true;
}

/* Finds the content's end in a decrypted piece: its last byte that is not padding. */
static bool opening_trim(struct opening *o, struct iovec piece, uint32_t offset)
{
    const uint8_t *bytes = piece.iov_base;
    for (uint32_t i = (uint32_t)piece.iov_len; i-- > 0;) {
        if (bytes[i] != 0) {
            o->content_len = offset + i;
            o->type = bytes[i];
            return true;
        }
    }
    return false;
}

/* TLS 1.3: the end is nearly always in the last piece; where padding goes beyond it, every piece is
 * looked at. No type stays 0: all padding. */
static void opening_unpad(struct opening *o, struct walk text, struct iovec last)
{
    o->type = 0;
    o->content_len = 0;
    if (opening_trim(o, last, o->text_len - (uint32_t)last.iov_len))
        return;
    for (uint32_t done = 0; done < o->text_len;) {
        struct iovec piece = walk_piece(&text, o->text_len - done);
        opening_trim(o, piece, done);
        done += (uint32_t)piece.iov_len;
    }
}

static int open_pieces(struct opening *o, struct gm_tls_flow *flow, struct iovec *piece)
{
    uint8_t tag[GM_TLS_TAG_BYTES];
    struct gm_tls_aead_run run;
    int result = gm_tls_aead_begin(&run, &flow->aead, &o->head, false);
    for (uint32_t left = o->text_len; result == 0 && left > 0;) {
        *piece = walk_piece(&o->walk, left);
        result = gm_tls_aead_open(&run, piece->iov_base, (uint32_t)piece->iov_len);
        left -= (uint32_t)piece->iov_len;
    }
    if (result == 0) {
        walk_read(&o->walk, tag, sizeof tag);
        result = gm_tls_aead_check(&run, tag);
    }
    if (result != 0)
        gm_tls_aead_abandon(&run);
    return result;
}

static int open_whole(struct opening *o, struct gm_tls_flow *flow, struct iovec *text)
{
    uint8_t tag[GM_TLS_TAG_BYTES];
    *text = walk_piece(&o->walk, o->text_len);
    walk_read(&o->walk, tag, sizeof tag);
    return gm_tls_aead_open_whole(&flow->aead, &o->head, text->iov_base, o->text_len, tag);
}

/* Decrypts and checks; 0 or -GM_E_TLS_RECORD. */
static int opening_decrypt(struct opening *o, struct gm_tls_flow *flow)
{
    bool inner = flow->version == GM_TLS_1_3;
    struct walk text = o->walk;
    struct iovec last = {NULL, 0};
    int result = walk_count(text, o->text_len) == 1 ? open_whole(o, flow, &last)
                                                    : open_pieces(o, flow, &last);
    if (result != 0)
        return -GM_E_TLS_RECORD;
    if (inner)
        opening_unpad(o, text, last);
    flow->sequence++;
    /* RFC 8446 sections 5.1, 5.2 and 5.4, RFC 5246 section 6.2.1. */
    bool known = o->type == GM_TLS_ALERT || o->type == GM_TLS_HANDSHAKE || o->type == GM_TLS_DATA ||
                 (!inner && o->type == GM_TLS_CHANGE_CIPHER_SPEC);
    if (!known || (o->content_len == 0 && !may_be_empty(o->type)))
        return -GM_E_TLS_RECORD;
    return 0;
}

/* Moves `len` bytes, which segs_needed() has made room for. */
static void move_front(struct gm_chain *from, struct gm_chain *to, struct gm_seg_pool *segs,
                       uint32_t len)
{
    while (len > 0) {
        gm_slice slice = gm_chain_front(from);
        if (slice.len > len) {
            slice = gm_slice_cut(&slice, len);
            gm_chain_consume(from, segs, len);
        } else {
            slice = gm_chain_pop(from, segs);
        }
        len -= slice.len;
        int pushed = gm_chain_push(to, segs, slice);
        GM_ASSERT(pushed == 0);
    }
}

/* The one record that comes in the clear (RFC 8446 section 5). */
static bool is_compatibility_record(const struct gm_tls_flow *flow, const struct gm_chain *in)
{
    static const uint8_t expected[] = {GM_TLS_CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1};
    uint8_t bytes[sizeof expected];
    if (flow->version != GM_TLS_1_3 || in->bytes < sizeof bytes)
        return false;
    struct walk walk = walk_begin(in);
    walk_read(&walk, bytes, sizeof bytes);
    return memcmp(bytes, expected, sizeof bytes) == 0;
}

int gm_tls_record_open(struct gm_tls_flow *flow, struct gm_chain *in, struct gm_chain *plain,
                       struct gm_seg_pool *segs)
{
    struct opening o;
    if (is_compatibility_record(flow, in)) {
        gm_chain_consume(in, segs, GM_TLS_HEADER_BYTES + 1);
        return GM_TLS_CHANGE_CIPHER_SPEC;
    }
    if (!opening_begin(&o, flow, in)) {
        gm_chain_consume(in, segs, o.record_len);
        return -GM_E_TLS_RECORD;
    }
    if (segs_needed(plain, walk_count(o.walk, o.text_len)) > segs->free_count)
        return -GM_E_NOMEM;
    int result = opening_decrypt(&o, flow);
    if (result != 0) {
        gm_chain_consume(in, segs, o.record_len);
        return result;
    }
    gm_chain_consume(in, segs, o.before);
    move_front(in, plain, segs, o.content_len);
    gm_chain_consume(in, segs, o.record_len - o.before - o.content_len);
    return o.type;
}

/* ---- Sealing ---- */

/* Where a record is written. */
struct blocks {
    uint32_t count, bytes;
    uint32_t index, used; /* the pen: block and bytes of it */
    struct gm_buf *bufs[BLOCKS_MAX];
};

static void blocks_release(struct blocks *blocks)
{
    for (uint32_t i = 0; i < blocks->count; i++)
        gm_buf_put(blocks->bufs[i]);
}

/* Gets blocks for `total` bytes and makes sure of their segments; false: nothing is held. */
static bool blocks_reserve(struct blocks *blocks, const struct gm_tls_sink *sink, uint32_t total)
{
    blocks->count = blocks->bytes = blocks->index = blocks->used = 0;
    while (blocks->bytes < total) {
        struct gm_buf *buf = sink->block(sink->arg);
        if (buf == NULL) {
            blocks_release(blocks);
            return false;
        }
        GM_ASSERT(buf->size >= BLOCK_MIN && blocks->count < BLOCKS_MAX);
        blocks->bufs[blocks->count++] = buf;
        blocks->bytes += buf->size;
    }
    if (segs_needed(sink->out, blocks->count) <= sink->segs->free_count)
        return true;
    blocks_release(blocks);
    return false;
}

/* Room at the pen, at most `max`; the pen moves on. */
static struct iovec blocks_room(struct blocks *blocks, uint32_t max)
{
    struct gm_buf *buf = blocks->bufs[blocks->index];
    uint32_t rest = buf->size - blocks->used;
    struct iovec room = {buf->data + blocks->used, rest < max ? rest : max};
    blocks->used += (uint32_t)room.iov_len;
    if (blocks->used == buf->size) {
        blocks->index++;
        blocks->used = 0;
    }
    return room;
}

static int seal_bytes(struct gm_tls_aead_run *run, struct blocks *blocks, struct iovec bytes)
{
    const uint8_t *at = bytes.iov_base;
    uint32_t len = (uint32_t)bytes.iov_len;
    int result = 0;
    while (result == 0 && len > 0) {
        struct iovec room = blocks_room(blocks, len);
        result = gm_tls_aead_seal(run, room.iov_base, at, (uint32_t)room.iov_len);
        at += room.iov_len;
        len -= (uint32_t)room.iov_len;
    }
    return result;
}

/* `len` payload bytes from the walk, then with TLS 1.3 the type, then the tag. */
struct sealing {
    struct walk walk;
    uint32_t len;
    uint8_t type;
    bool inner;
    struct gm_tls_aead_head head;
};

static int seal_pieces(struct sealing *s, struct gm_tls_aead *aead, struct blocks *blocks)
{
    struct gm_tls_aead_run run;
    uint8_t tag[GM_TLS_TAG_BYTES];
    int result = gm_tls_aead_begin(&run, aead, &s->head, true);
    for (uint32_t left = s->len; result == 0 && left > 0;) {
        struct iovec piece = walk_piece(&s->walk, left);
        result = seal_bytes(&run, blocks, piece);
        left -= (uint32_t)piece.iov_len;
    }
    if (result == 0 && s->inner)
        result = seal_bytes(&run, blocks, (struct iovec){&s->type, 1});
    if (result == 0)
        result = gm_tls_aead_tag(&run, tag);
    if (result != 0) {
        gm_tls_aead_abandon(&run);
        return result;
    }
    for (uint32_t done = 0; done < sizeof tag;) {
        struct iovec room = blocks_room(blocks, (uint32_t)sizeof tag - done);
        memcpy(room.iov_base, tag + done, room.iov_len);
        done += (uint32_t)room.iov_len;
    }
    return 0;
}

static int seal_whole(struct sealing *s, struct gm_tls_aead *aead, struct blocks *blocks)
{
    uint32_t text_len = s->len + s->inner;
    struct iovec room = blocks_room(blocks, text_len + GM_TLS_TAG_BYTES);
    uint8_t *text = room.iov_base;
    walk_read(&s->walk, text, s->len);
    if (s->inner)
        text[s->len] = s->type;
    return gm_tls_aead_seal_whole(aead, &s->head, text, text_len, text + text_len);
}

/* Writes the whole record into the blocks. */
static int seal_record(struct gm_tls_flow *flow, struct sealing *s, struct blocks *blocks)
{
    uint8_t header[GM_TLS_HEADER_BYTES + EXPLICIT_BYTES];
    uint32_t before = GM_TLS_HEADER_BYTES;
    uint32_t total = gm_tls_flow_overhead(flow) + s->len;
    s->inner = flow->version == GM_TLS_1_3;
    put_header(header, s->inner ? GM_TLS_DATA : s->type, total - GM_TLS_HEADER_BYTES);
    if (has_explicit_nonce(flow)) {
        put_u64(header + before, flow->sequence);
        before += EXPLICIT_BYTES;
    }
    make_head(flow, header, s->len, &s->head);
    memcpy(blocks_room(blocks, before).iov_base, header, before);
    if (blocks->count == 1 && s->len <= WHOLE_MAX)
        return seal_whole(s, &flow->aead, blocks);
    return seal_pieces(s, &flow->aead, blocks);
}

int gm_tls_record_seal(struct gm_tls_flow *flow, enum gm_tls_content type, struct gm_chain *plain,
                       uint32_t len, const struct gm_tls_sink *sink)
{
    GM_ASSERT(len <= GM_TLS_PAYLOAD_MAX && len <= plain->bytes && plain != sink->out);
    GM_ASSERT(len > 0 || may_be_empty(type));
    if (flow->sequence == UINT64_MAX)
        return -GM_E_TLS;
    uint32_t total = gm_tls_flow_overhead(flow) + len;
    struct blocks blocks;
    if (!blocks_reserve(&blocks, sink, total))
        return -GM_E_NOMEM;
    struct sealing s = {.walk = walk_begin(plain), .len = len, .type = (uint8_t)type};
    int result = seal_record(flow, &s, &blocks);
    if (result != 0) {
        blocks_release(&blocks);
        return result;
    }
    flow->sequence++;
    gm_chain_consume(plain, sink->segs, len);
    for (uint32_t i = 0; i < blocks.count; i++) {
        uint32_t used = blocks.bufs[i]->size < total ? blocks.bufs[i]->size : total;
        int pushed = gm_chain_push(sink->out, sink->segs,
                                   (gm_slice){blocks.bufs[i]->data, used, blocks.bufs[i]});
        GM_ASSERT(pushed == 0);
        total -= used;
    }
    return 0;
}
