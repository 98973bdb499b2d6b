/* What tests of the record layer stand on: buffers that are counted and exactly as long as they
 * say, a segment pool and a supply of blocks that end when the test wants, and records made by
 * hand. One thread; one world at a time. */
#ifndef RECORD_WORLD_H
#define RECORD_WORLD_H

#include "tls/record.h"

#define WORLD_SEGS 4096u

struct world {
    struct gm_seg_pool segs;
    uint32_t block_bytes; /* of the next block */
    uint32_t blocks_left;
    struct gm_tls_sink sink; /* into `wire` */
    struct gm_chain wire, plain;
    uint32_t live; /* buffers that hold a reference */
    void *memory;
};

void world_begin(struct world *world, uint32_t block_bytes);
/* Clears the chains; fails the test when a buffer or a segment was lost. */
void world_end(struct world *world);
/* All but `left` segments vanish from the pool; returns what world_give_segs() takes back. */
struct gm_seg *world_take_segs(struct world *world, uint32_t left);
void world_give_segs(struct world *world, struct gm_seg *taken);

/* Appends a copy of the bytes as one slice of its own buffer, or as two, cut at `cut` (0 < cut <
 * len), or as many of random length up to `most`. */
void world_push(struct world *world, struct gm_chain *chain, const void *bytes, uint32_t len);
void world_push_cut(struct world *world, struct gm_chain *chain, const uint8_t *bytes,
                    const uint32_t len_and_cut[2]);
void world_push_random(struct world *world, struct gm_chain *chain, const uint8_t *bytes,
                       const uint32_t len_and_most[2]);
/* Copies what the chain holds (at most `max`); returns how many bytes that is. */
uint32_t world_read(const struct gm_chain *chain, uint8_t *out, uint32_t max);

/* xorshift; the same numbers in every run. */
uint32_t world_random(void);
void world_fill(uint8_t *bytes, uint32_t len);
/* Length of the bytes that a text of hexadecimal digits stands for; blanks are skipped. */
uint32_t world_hex(const char *text, uint8_t *out, uint32_t max);

/* Keys made by a rule: key[i] = 7i, iv[i] = 0xa0 + i, secret[i] = 3i + 1. */
struct gm_tls_keys world_keys(enum gm_tls_version version, enum gm_tls_cipher cipher);
struct gm_tls_flow *world_flow(enum gm_tls_version version, enum gm_tls_cipher cipher);
/* A record of any kind under world_keys, whatever the rules say: its header with `outer` type, then
 * `text` encrypted as it is (with TLS 1.3, content, type and padding). Returns its length. */
struct world_text {
    enum gm_tls_version version;
    enum gm_tls_cipher cipher;
    uint64_t sequence;
    uint8_t outer;
    const uint8_t *bytes;
    uint32_t len;
};
uint32_t world_forge(const struct world_text *text, uint8_t *record);

/* For loops over everything. */
#define WORLD_SUITES 6u
enum gm_tls_version world_version(unsigned suite);
enum gm_tls_cipher world_cipher(unsigned suite);

#endif
