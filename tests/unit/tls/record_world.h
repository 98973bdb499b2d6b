/* What tests of the record layer stand on: buffers that are counted and exactly as long as they
 * say, a segment pool and a supply of blocks that end when the test wants, and records made by
 * hand. One thread; one world at a time. */
#ifndef RECORD_WORLD_H
#define RECORD_WORLD_H

#include "tls/record.h"

#define REC_SEGS 4096u

struct rec_world {
    struct gm_seg_pool segs;
    uint32_t block_bytes; /* of the next block */
    uint32_t blocks_left;
    struct gm_tls_sink sink; /* into `wire` */
    struct gm_chain wire, plain;
    uint32_t live; /* buffers that hold a reference */
    void *memory;
};

void rec_begin(struct rec_world *world, uint32_t block_bytes);
/* Clears the chains; fails the test when a buffer or a segment was lost. */
void rec_end(struct rec_world *world);
/* All but `left` segments vanish from the pool; returns what rec_give_segs() takes back. */
struct gm_seg *rec_take_segs(struct rec_world *world, uint32_t left);
void rec_give_segs(struct rec_world *world, struct gm_seg *taken);

/* Appends a copy of the bytes as one slice of its own buffer, or as two, cut at `cut` (0 < cut <
 * len), or as many of random length up to `most`. */
void rec_push(struct rec_world *world, struct gm_chain *chain, const void *bytes, uint32_t len);
void rec_push_cut(struct rec_world *world, struct gm_chain *chain, const uint8_t *bytes,
                  const uint32_t len_and_cut[2]);
void rec_push_random(struct rec_world *world, struct gm_chain *chain, const uint8_t *bytes,
                     const uint32_t len_and_most[2]);
/* Copies what the chain holds (at most `max`); returns how many bytes that is. */
uint32_t rec_read(const struct gm_chain *chain, uint8_t *out, uint32_t max);

/* xorshift; the same numbers in every run. */
uint32_t rec_random(void);
void rec_fill(uint8_t *bytes, uint32_t len);
/* Length of the bytes that a text of hexadecimal digits stands for; blanks are skipped. */
uint32_t rec_hex(const char *text, uint8_t *out, uint32_t max);

/* Keys made by a rule: key[i] = 7i, iv[i] = 0xa0 + i, secret[i] = 3i + 1. */
struct gm_tls_keys rec_keys(enum gm_tls_version version, enum gm_tls_cipher cipher);
struct gm_tls_flow *rec_flow(enum gm_tls_version version, enum gm_tls_cipher cipher);
/* A record of any kind under rec_keys, whatever the rules say: its header with `outer` type, then
 * `text` encrypted as it is (with TLS 1.3, content, type and padding). Returns its length. */
struct rec_text {
    enum gm_tls_version version;
    enum gm_tls_cipher cipher;
    uint64_t sequence;
    uint8_t outer;
    const uint8_t *bytes;
    uint32_t len;
};
uint32_t rec_forge(const struct rec_text *text, uint8_t *record);

/* For loops over everything: the first suite from this one on that the library can do. TLS 1.3
 * begins at 3. */
#define REC_SUITES 6u
unsigned rec_next(unsigned suite);
enum gm_tls_version rec_version(unsigned suite);
enum gm_tls_cipher rec_cipher(unsigned suite);

#endif
