/* Prints what a handshake costs in CPU time and an idle session in heap bytes. Run by hand:
 * session-speed CERTIFICATES-DIRECTORY. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tls/internal.h"

#define SEGS     512u
#define ROUNDS   300u
#define SESSIONS 500u

static _Alignas(8) char seg_memory[SEGS * sizeof(struct gm_seg)];
static struct gm_seg_pool segs;

static void on_free(struct gm_buf_home *home, struct gm_buf *buf)
{
    (void)home;
    free(buf->data);
    free(buf);
}
static struct gm_buf_home home = {.ring = GM_RING_NONE, .on_free = on_free};

static struct gm_buf *block(void *arg)
{
    struct gm_buf *buf = calloc(1, sizeof *buf);
    (void)arg;
    if (buf == NULL)
        abort();
    *buf = (struct gm_buf){.data = malloc(4096), .size = 4096, .refs = 1, .home = &home};
    return buf;
}

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

struct side {
    struct gm_tls *tls;
    struct gm_chain in;
    double us;
};

static int step(struct side *side, struct side *peer)
{
    struct gm_chain plain = {0};
    struct gm_tls_io io = {.in = &side->in,
                           .plain = &plain,
                           .sink = {.out = &peer->in, .segs = &segs, .block = block}};
    double start = now_us();
    int rc = gm_tls_is_ready(side->tls) ? 1 : gm_tls_handshake(side->tls, &io);
    side->us += now_us() - start;
    return rc;
}

static void shake(struct side *c, struct side *s)
{
    for (unsigned turn = 0; turn < 6; turn++) {
        if (step(c, s) < 0 || step(s, c) < 0)
            abort();
    }
    if (!gm_tls_is_ready(c->tls) || !gm_tls_is_ready(s->tls))
        abort();
}

static void drop(struct side *side)
{
    gm_tls_free(side->tls);
    gm_chain_clear(&side->in, &segs);
    side->tls = NULL;
}

static void start(struct side *c, struct side *s, struct gm_tls_client *client,
                  struct gm_tls_server *server)
{
    c->tls = gm_tls_connect(client, "example.test");
    s->tls = gm_tls_accept(server);
    if (c->tls == NULL || s->tls == NULL)
        abort();
}

static void measure_full(const char *what, struct gm_tls_client *client,
                         struct gm_tls_server *server)
{
    struct side c = {0}, s = {0};
    for (unsigned i = 0; i < ROUNDS; i++) {
        start(&c, &s, client, server);
        shake(&c, &s);
        drop(&c);
        drop(&s);
    }
    printf("%-10s full handshake: server %.0f us, client %.0f us\n", what, s.us / ROUNDS,
           c.us / ROUNDS);
}

static void measure_resumed(const char *what, struct gm_tls_client *client,
                            struct gm_tls_server *server)
{
    struct side c = {0}, s = {0};
    gm_tls_set_reference(true);
    start(&c, &s, client, server);
    shake(&c, &s);
    struct gm_chain plain = {0}, out = {0};
    struct gm_tls_io io = {
        .in = &c.in, .plain = &plain, .sink = {.out = &out, .segs = &segs, .block = block}};
    if (gm_tls_open(c.tls, &io) != 0) /* the ticket */
        abort();
    WOLFSSL_SESSION *session = wolfSSL_get1_session(c.tls->ssl);
    gm_tls_set_reference(false);
    drop(&c);
    drop(&s);
    c.us = s.us = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        start(&c, &s, client, server);
        if (wolfSSL_set_session(c.tls->ssl, session) != WOLFSSL_SUCCESS)
            abort();
        shake(&c, &s);
        if (!gm_tls_facts(s.tls).resumed)
            abort();
        drop(&c);
        drop(&s);
    }
    wolfSSL_SESSION_free(session);
    printf("%-10s resumed handshake: server %.0f us, client %.0f us\n", what, s.us / ROUNDS,
           c.us / ROUNDS);
}

static size_t heap(void)
{
    return mallinfo2().uordblks;
}

/* Heap of the sessions of one side, once idle. */
static void measure_heap(const char *what, struct gm_tls_client *client,
                         struct gm_tls_server *server)
{
    static struct side c[SESSIONS], s[SESSIONS];
    size_t before = heap();
    for (unsigned i = 0; i < SESSIONS; i++) {
        start(&c[i], &s[i], client, server);
        shake(&c[i], &s[i]);
        gm_chain_clear(&c[i].in, &segs);
    }
    size_t both = heap();
    for (unsigned i = 0; i < SESSIONS; i++)
        drop(&c[i]);
    size_t servers = heap();
    for (unsigned i = 0; i < SESSIONS; i++)
        drop(&s[i]);
    printf("%-10s heap per idle session: server %zu bytes, client %zu bytes\n", what,
           (servers - before) / SESSIONS, (both - servers) / SESSIONS);
}

static void measure(const char *what, const char *certs)
{
    char cert[512], key[512], ca[512], why[GM_TLS_WHY_BYTES];
    (void)snprintf(cert, sizeof cert, "%s/%s.crt", certs, what);
    (void)snprintf(key, sizeof key, "%s/%s.key", certs, what);
    (void)snprintf(ca, sizeof ca, "%s/root.crt", certs);
    struct gm_tls_server_config server_config = {.cert_file = cert, .key_file = key};
    struct gm_tls_client_config client_config = {.ca_file = ca};
    struct gm_tls_server *server;
    struct gm_tls_client *client;
    if (gm_tls_init() < 0 || gm_tls_server_new(&server_config, &server, why) < 0 ||
        gm_tls_client_new(&client_config, &client, why) < 0) {
        (void)fprintf(stderr, "%s\n", why);
        exit(1);
    }
    measure_full(what, client, server);
    measure_resumed(what, client, server);
    measure_heap(what, client, server);
    gm_tls_set_reference(true);
    measure_heap("reference", client, server);
    gm_tls_set_reference(false);
    gm_tls_server_put(server);
    gm_tls_client_put(client);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    gm_seg_pool_init(&segs, seg_memory, sizeof seg_memory);
    printf("%s\n", gm_tls_describe());
    measure("p256", argv[1]);
    measure("p384", argv[1]);
    measure("rsa", argv[1]);
    return 0;
}
