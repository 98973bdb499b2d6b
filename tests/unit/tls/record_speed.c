/* Measures the record layer: nanoseconds per record, sealed and opened, by cipher, version and
 * size, and the ciphers alone, in one go and in pieces. Not a test; run by hand. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tls/aead.h"

#define BLOCK   4096u
#define SEGS    64u
#define WINDOWS 8u
#define WINDOW  0.01 /* seconds */

static _Alignas(16) uint8_t block_bytes[8][BLOCK];
static struct gm_buf block_bufs[8];
static unsigned blocks_out;
static void on_free(struct gm_buf_home *home, struct gm_buf *buf)
{
    (void)home, (void)buf;
    blocks_out--;
}
static struct gm_buf_home home = {.ring = GM_RING_NONE, .on_free = on_free};
static struct gm_buf *take_block(void *arg)
{
    (void)arg;
    unsigned i = blocks_out++;
    block_bufs[i] =
        (struct gm_buf){.data = block_bytes[i], .size = BLOCK, .refs = 1, .home = &home};
    return &block_bufs[i];
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static _Alignas(8) char seg_memory[SEGS * sizeof(struct gm_seg)];
static uint8_t payload[GM_TLS_PAYLOAD_MAX];

static struct gm_tls_keys keys_of(enum gm_tls_version version, enum gm_tls_cipher cipher)
{
    struct gm_tls_keys keys = {.version = version, .cipher = cipher};
    keys.secret_len = (uint8_t)gm_tls_aead_hash_bytes(cipher);
    for (unsigned i = 0; i < sizeof keys.key; i++)
        keys.key[i] = (uint8_t)(i * 7);
    return keys;
}

/* One record through both flows; adds the times of the two halves. */
static void pass(struct gm_tls_flow *const flows[2], struct gm_seg_pool *segs, uint32_t len,
                 double *spent)
{
    struct gm_chain plain = {0}, wire = {0};
    struct gm_tls_sink sink = {.out = &wire, .segs = segs, .block = take_block};
    int bad = gm_chain_push(&plain, segs, (gm_slice){payload, len, NULL});
    double start = seconds();
    bad |= gm_tls_record_seal(flows[0], GM_TLS_DATA, &plain, len, &sink);
    double middle = seconds();
    bad |= gm_tls_record_open(flows[1], &wire, &plain, segs) - GM_TLS_DATA;
    double end = seconds();
    if (bad != 0 || plain.bytes != len)
        abort();
    gm_chain_clear(&plain, segs);
    spent[0] += middle - start;
    spent[1] += end - middle;
}

/* The best of several windows: the machine is not ours alone. */
static void measure_records(enum gm_tls_version version, enum gm_tls_cipher cipher, uint32_t len)
{
    struct gm_tls_keys keys = keys_of(version, cipher);
    struct gm_tls_flow *flows[2] = {gm_tls_flow_new(&keys), gm_tls_flow_new(&keys)};
    struct gm_seg_pool segs;
    gm_seg_pool_init(&segs, seg_memory, sizeof seg_memory);
    double best[2] = {1, 1}, clock = seconds();
    for (int i = 0; i < 1000; i++)
        (void)seconds();
    clock = (seconds() - clock) / 1000;
    for (unsigned window = 0; window < WINDOWS; window++) {
        double spent[2] = {0, 0};
        unsigned rounds = 0;
        for (; spent[0] + spent[1] < WINDOW; rounds++)
            pass(flows, &segs, len, spent);
        for (unsigned i = 0; i < 2; i++)
            best[i] = spent[i] / rounds < best[i] ? spent[i] / rounds : best[i];
    }
    printf("  %5u bytes: seal %7.0f ns, open %7.0f ns\n", len, (best[0] - clock) * 1e9,
           (best[1] - clock) * 1e9);
    gm_tls_flow_free(flows[0]);
    gm_tls_flow_free(flows[1]);
}

/* `pieces` 0: in one go. */
static void cipher_once(struct gm_tls_aead *aead, uint32_t len, uint32_t pieces)
{
    static uint8_t out[GM_TLS_PAYLOAD_MAX + 16];
    struct gm_tls_aead_head head = {.aad_len = GM_TLS_HEADER_BYTES};
    struct gm_tls_aead_run run;
    uint8_t tag[GM_TLS_TAG_BYTES];
    int bad;
    if (pieces == 0) {
        memcpy(out, payload, len);
        bad = gm_tls_aead_seal_whole(aead, &head, out, len, tag);
    } else {
        bad = gm_tls_aead_begin(&run, aead, &head, true);
        uint32_t step = len / pieces;
        for (uint32_t at = 0; at < len; at += step)
            bad |=
                gm_tls_aead_seal(&run, out + at, payload + at, len - at < step ? len - at : step);
        bad |= gm_tls_aead_tag(&run, tag);
    }
    if (bad != 0)
        abort();
}

static double cipher_ns(struct gm_tls_aead *aead, uint32_t len, uint32_t pieces)
{
    double best = 1;
    for (unsigned window = 0; window < WINDOWS; window++) {
        unsigned rounds = 0;
        double start = seconds(), spent = 0;
        for (; spent < WINDOW; rounds++) {
            cipher_once(aead, len, pieces);
            spent = seconds() - start;
        }
        best = spent / rounds < best ? spent / rounds : best;
    }
    return best * 1e9;
}

int main(void)
{
    for (unsigned i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i * 31 + 1);
    static const char *const names[] = {"AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305"};
    static const uint32_t sizes[] = {64, 512, 1500, 4000, 16384};
    for (unsigned c = 0; c < 3; c++) {
        struct gm_tls_aead aead;
        struct gm_tls_keys keys = keys_of(GM_TLS_1_3, c);
        if (!gm_tls_record_has(c))
            continue;
        if (gm_tls_aead_init(&aead, c, keys.key) != 0)
            return 1;
        printf("%s\n", names[c]);
        for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++)
            printf(
                "  %5u bytes: copied and in one go %6.0f ns, one piece %6.0f ns, four odd %6.0f\n",
                sizes[s], cipher_ns(&aead, sizes[s], 0), cipher_ns(&aead, sizes[s], 1),
                cipher_ns(&aead, sizes[s] - 1, 4));
        gm_tls_aead_wipe(&aead);
        for (unsigned v = GM_TLS_1_2; v <= GM_TLS_1_3; v++) {
            printf(" TLS 1.%u\n", v - 0x0301);
            for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++)
                measure_records(v, c, sizes[s]);
        }
    }
    printf("bytes: key %zu, ChaCha run %zu\n", sizeof(struct gm_tls_aead), sizeof(ChaChaPoly_Aead));
    return 0;
}
