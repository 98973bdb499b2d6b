/* AES-GCM (NIST SP 800-38D) from the parts that BoringSSL's assembly offers: whole blocks go
 * through its combined loop; a block that the end of a slice cuts is finished byte by byte.
 * Owner: the flow that holds the key, one ring at a time.
 *
 * Invariants: the hash has taken in every whole block of ciphertext and nothing of the one under
 * way; a counter's value is used for one block. */
#include "tls/gcm.h"

#include <string.h>

#include "tls/aead.h"

static const uint8_t zeroes[GM_TLS_GCM_BLOCK];

/* ---- The assembly ---- */

#ifdef GM_TLS_VAES
#include <cpuid.h>
#include <stdatomic.h>

/* Whole blocks: `len` is a multiple of 16. The counter is not moved on. `key`: gm_tls_gcm_key. */
void aes_gcm_enc_update_vaes_avx2(const uint8_t *in, uint8_t *out, size_t len, const void *key,
                                  const uint8_t *counter, const void *powers, uint8_t *hash);
void aes_gcm_dec_update_vaes_avx2(const uint8_t *in, uint8_t *out, size_t len, const void *key,
                                  const uint8_t *counter, const void *powers, uint8_t *hash);
/* One block: `len` is 16. */
void gcm_ghash_vpclmulqdq_avx2_1(uint8_t *hash, const void *powers, const uint8_t *in, size_t len);
/* `h`: the hash key as two numbers, the more significant first. */
void gcm_init_vpclmulqdq_avx2(void *powers, const uint64_t h[2]);
/* 0, or negative for a length that there is not. */
int aes_hw_set_encrypt_key_base(const uint8_t *bytes, unsigned bits, void *key);
void aes_hw_ctr32_encrypt_blocks(const uint8_t *in, uint8_t *out, size_t blocks, const void *key,
                                 const uint8_t *counter);

bool gm_tls_gcm_works(void)
{
    enum { UNKNOWN, NO, YES };
    /* Kept, because CPUID is slow in virtual machines. Any thread writes and reads it, relaxed: all
     * find the same, and it publishes nothing else. */
    static _Atomic int kept = UNKNOWN;
    int answer = atomic_load_explicit(&kept, memory_order_relaxed);
    if (answer == UNKNOWN) {
        const unsigned vaes = 1u << 9, vpclmulqdq = 1u << 10; /* leaf 7, ECX */
        unsigned a, b, c = 0, d;
        bool has = __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 &&
                   (c & vaes) != 0 && (c & vpclmulqdq) != 0;
        answer = has ? YES : NO;
        atomic_store_explicit(&kept, answer, memory_order_relaxed);
    }
    return answer == YES;
}

static void expand_key(struct gm_tls_gcm_key *key, const uint8_t *bytes, uint32_t key_bytes)
{
    int failed = aes_hw_set_encrypt_key_base(bytes, key_bytes * 8, key);
    GM_ASSERT(failed == 0);
}

static void init_powers(struct gm_tls_gcm_key *key, const uint64_t h[2])
{
    gcm_init_vpclmulqdq_avx2(key->powers, h);
}

static void cipher_block(const struct gm_tls_gcm_key *key, const uint8_t *block, uint8_t *out)
{
    aes_hw_ctr32_encrypt_blocks(zeroes, out, 1, key, block);
}

static void hash_block(struct gm_tls_gcm_run *run, const uint8_t *block)
{
    gcm_ghash_vpclmulqdq_avx2_1(run->hash, run->key->powers, block, GM_TLS_GCM_BLOCK);
}

static void whole_blocks(struct gm_tls_gcm_run *run, uint8_t *out, const uint8_t *in, uint32_t len)
{
    const struct gm_tls_gcm_key *key = run->key;
    if (run->sealing)
        aes_gcm_enc_update_vaes_avx2(in, out, len, key, run->counter, key->powers, run->hash);
    else
        aes_gcm_dec_update_vaes_avx2(in, out, len, key, run->counter, key->powers, run->hash);
}
#else
bool gm_tls_gcm_works(void)
{
    return false;
}

/* No key is made, so none of these is called. */
static void expand_key(struct gm_tls_gcm_key *key, const uint8_t *bytes, uint32_t key_bytes)
{
    (void)key, (void)bytes, (void)key_bytes;
    GM_ASSERT(false);
}
static void init_powers(struct gm_tls_gcm_key *key, const uint64_t h[2])
{
    (void)key, (void)h;
}
static void cipher_block(const struct gm_tls_gcm_key *key, const uint8_t *block, uint8_t *out)
{
    (void)key;
    memcpy(out, block, GM_TLS_GCM_BLOCK);
}
static void hash_block(struct gm_tls_gcm_run *run, const uint8_t *block)
{
    (void)run, (void)block;
}
static void whole_blocks(struct gm_tls_gcm_run *run, uint8_t *out, const uint8_t *in, uint32_t len)
{
    (void)run, (void)out, (void)in, (void)len;
}
#endif

/* ---- The mode ---- */

static uint64_t get_u64(const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return __builtin_bswap64(value);
}

static void put_u64(uint8_t *bytes, uint64_t value)
{
    value = __builtin_bswap64(value);
    memcpy(bytes, &value, sizeof value);
}

void gm_tls_gcm_key_init(struct gm_tls_gcm_key *key, const uint8_t *bytes, uint32_t key_bytes)
{
    _Static_assert(offsetof(struct gm_tls_gcm_key, rounds) == 240, "where the assembly looks");
    expand_key(key, bytes, key_bytes);
    uint8_t block[GM_TLS_GCM_BLOCK];
    cipher_block(key, zeroes, block);
    uint64_t h[2] = {get_u64(block), get_u64(block + 8)};
    init_powers(key, h);
    explicit_bzero(block, sizeof block);
    explicit_bzero(h, sizeof h);
}

static void move_counter(struct gm_tls_gcm_run *run, uint32_t blocks)
{
    uint8_t *low = run->counter + 12;
    uint32_t value;
    memcpy(&value, low, sizeof value);
    value = __builtin_bswap32(__builtin_bswap32(value) + blocks);
    memcpy(low, &value, sizeof value);
}

static void next_pad(struct gm_tls_gcm_run *run, uint8_t *pad)
{
    cipher_block(run->key, run->counter, pad);
    move_counter(run, 1);
}

void gm_tls_gcm_begin(struct gm_tls_gcm_run *run, const struct gm_tls_gcm_key *key,
                      const struct gm_tls_aead_head *head, bool sealing)
{
    uint8_t aad[GM_TLS_GCM_BLOCK] = {0};
    _Static_assert(GM_TLS_AAD_MAX <= sizeof aad, "one block");
    GM_ASSERT(head->aad_len <= GM_TLS_AAD_MAX);
    *run = (struct gm_tls_gcm_run){.key = key, .aad_len = head->aad_len, .sealing = sealing};
    memcpy(run->counter, head->nonce, sizeof head->nonce);
    move_counter(run, 1);
    next_pad(run, run->mask);
    memcpy(aad, head->aad, head->aad_len);
    hash_block(run, aad);
}

/* As much as the block under way has room for; returns how much. */
static uint32_t part_of_block(struct gm_tls_gcm_run *run, uint8_t *out, const uint8_t *in,
                              uint32_t len)
{
    uint32_t room = GM_TLS_GCM_BLOCK - run->used, count = len < room ? len : room;
    for (uint32_t i = 0; i < count; i++, run->used++) {
        uint8_t from = in[i], to = from ^ run->pad[run->used];
        run->block[run->used] = run->sealing ? to : from;
        out[i] = to;
    }
    if (run->used == GM_TLS_GCM_BLOCK) {
        hash_block(run, run->block);
        run->used = 0;
    }
    return count;
}

void gm_tls_gcm_text(struct gm_tls_gcm_run *run, uint8_t *out, const uint8_t *in, uint32_t len)
{
    run->text_len += len;
    uint32_t done = run->used > 0 ? part_of_block(run, out, in, len) : 0;
    uint32_t whole = (len - done) / GM_TLS_GCM_BLOCK * GM_TLS_GCM_BLOCK;
    if (whole > 0) {
        whole_blocks(run, out + done, in + done, whole);
        move_counter(run, whole / GM_TLS_GCM_BLOCK);
        done += whole;
    }
    if (done < len) {
        next_pad(run, run->pad);
        part_of_block(run, out + done, in + done, len - done);
    }
}

void gm_tls_gcm_tag(struct gm_tls_gcm_run *run, uint8_t tag[16])
{
    uint8_t lengths[GM_TLS_GCM_BLOCK]; /* in bits */
    if (run->used > 0) {
        memset(run->block + run->used, 0, GM_TLS_GCM_BLOCK - run->used);
        hash_block(run, run->block);
    }
    put_u64(lengths, run->aad_len * UINT64_C(8));
    put_u64(lengths + 8, run->text_len * 8);
    hash_block(run, lengths);
    for (uint32_t i = 0; i < GM_TLS_GCM_BLOCK; i++)
        tag[i] = run->hash[i] ^ run->mask[i];
    explicit_bzero(run, sizeof *run);
}
