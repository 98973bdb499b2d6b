/* Fuzzes sessions: a client's and a server's handshake are fed whatever comes, in any cuts; none
 * may crash, leak or become ready. The certificate reader gets the same bytes. Input: which side
 * and cut (1 byte), then what the peer sends. The server's certificate is made beforehand: without
 * GM_FUZZ_CERT and GM_FUZZ_KEY (files) only clients are fuzzed. */
#include <stdlib.h>
#include <string.h>

#include "tls/internal.h"

#define SEGS 4096u

static _Alignas(8) char seg_memory[SEGS * sizeof(struct gm_seg)];
static struct gm_seg_pool segs;
static uint32_t live;
static struct gm_tls_server *server;
static struct gm_tls_client *client;

static void on_free(struct gm_buf_home *home, struct gm_buf *buf)
{
    (void)home;
    live--;
    free(buf->data);
    free(buf);
}
static struct gm_buf_home home = {.ring = GM_RING_NONE, .on_free = on_free};

static struct gm_buf *block_new(uint32_t size)
{
    struct gm_buf *buf = calloc(1, sizeof *buf);
    GM_ASSERT(buf != NULL);
    *buf = (struct gm_buf){.data = malloc(size), .size = size, .refs = 1, .home = &home};
    GM_ASSERT(buf->data != NULL);
    live++;
    return buf;
}
static struct gm_buf *block(void *arg)
{
    (void)arg;
    return block_new(4096);
}

static void start(void)
{
    char why[GM_TLS_WHY_BYTES];
    struct gm_tls_client_config client_config = {.insecure = true};
    struct gm_tls_server_config server_config = {.cert_file = getenv("GM_FUZZ_CERT"),
                                                 .key_file = getenv("GM_FUZZ_KEY")};
    int rc = gm_tls_init();
    GM_ASSERT(rc == 0);
    rc = gm_tls_client_new(&client_config, &client, why);
    GM_ASSERT(rc == 0);
    if (server_config.cert_file == NULL)
        return;
    rc = gm_tls_server_new(&server_config, &server, why);
    GM_ASSERT(rc == 0);
}

static void feed(struct gm_tls *tls, const uint8_t *p, size_t n, size_t cut)
{
    struct gm_chain in = {0}, out = {0}, plain = {0};
    struct gm_tls_io io = {
        .in = &in, .plain = &plain, .sink = {.out = &out, .segs = &segs, .block = block}};
    int rc = gm_tls_handshake(tls, &io);
    for (size_t at = 0; at < n && rc == 0; at += cut) {
        uint32_t len = (uint32_t)(n - at < cut ? n - at : cut);
        struct gm_buf *buf = block_new(len);
        memcpy(buf->data, p + at, len);
        int pushed = gm_chain_push(&in, &segs, (gm_slice){buf->data, len, buf});
        GM_ASSERT(pushed == 0);
        rc = gm_tls_handshake(tls, &io);
        (void)gm_tls_missing(tls, &in);
    }
    GM_ASSERT(rc <= 0 && !gm_tls_is_ready(tls) && plain.count == 0);
    gm_chain_clear(&in, &segs);
    gm_chain_clear(&out, &segs);
}

static void read_certificate(const uint8_t *p, size_t n)
{
    struct gm_tls_cert cert;
    char subject[GM_TLS_SUBJECT_BYTES];
    uint8_t *exact = malloc(n);
    GM_ASSERT(exact != NULL);
    memcpy(exact, p, n);
    if (gm_tls_cert_parse(exact, n, &cert) == 0) {
        (void)gm_tls_cert_is_for(&cert, "example.test");
        ssize_t len = gm_tls_cert_subject(&cert, subject);
        for (ssize_t i = 0; i < len; i++)
            GM_ASSERT(subject[i] >= ' ' && subject[i] <= '~');
    }
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (client == NULL)
        start();
    if (n < 2 || n > 40000)
        return 0;
    gm_seg_pool_init(&segs, seg_memory, sizeof seg_memory);
    bool as_client = (p[0] & 1) != 0 || server == NULL;
    struct gm_tls *tls = as_client ? gm_tls_connect(client, "example.test") : gm_tls_accept(server);
    GM_ASSERT(tls != NULL);
    size_t cut = p[0] < 2 ? n : 1u + p[0] + n / 4096;
    feed(tls, p + 1, n - 1, cut);
    gm_tls_free(tls);
    read_certificate(p + 1, n - 1);
    GM_ASSERT(live == 0 && segs.free_count == segs.total_count);
    return 0;
}
