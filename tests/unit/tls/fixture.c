/* The two ends of tests/unit/tls, their memory and their wire. One thread. */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>

#define SEGS     65536u
#define IS_BLOCK 1u

struct world world;

static uint32_t live;
static struct gm_seg_pool segs;
static struct gm_seg *seg_memory;
static uint32_t seed_now = 1;

static void on_free(struct gm_buf_home *home, struct gm_buf *buf)
{
    (void)home;
    live--;
    if (buf->index == IS_BLOCK && world.blocks_left != NO_LIMIT)
        world.blocks_left++;
    free(buf->data);
    free(buf);
}
static struct gm_buf_home home = {.ring = GM_RING_NONE, .on_free = on_free};

static struct gm_buf *buf_new(uint32_t size)
{
    struct gm_buf *buf = calloc(1, sizeof *buf);
    cr_assert_not_null(buf);
    *buf = (struct gm_buf){.data = malloc(size), .size = size, .refs = 1, .home = &home};
    cr_assert_not_null(buf->data);
    live++;
    return buf;
}

static struct gm_buf *world_block(void *arg)
{
    (void)arg;
    if (world.blocks_left == 0)
        return NULL;
    if (world.blocks_left != NO_LIMIT)
        world.blocks_left--;
    struct gm_buf *block = buf_new(world.block_bytes);
    block->index = IS_BLOCK;
    return block;
}

struct gm_seg_pool *world_segs(void)
{
    return &segs;
}

uint32_t world_random(void)
{
    seed_now = seed_now * 1664525u + 1013904223u;
    return seed_now >> 8;
}

void need_own_records(void)
{
#ifndef HAVE_SECRET_CALLBACK
    cr_skip_test("this library has no HAVE_SECRET_CALLBACK: records are its own");
#endif
}

void world_plan(const struct plan *plan)
{
    char why[GM_TLS_WHY_BYTES];
    seg_memory = calloc(SEGS, sizeof *seg_memory);
    cr_assert_not_null(seg_memory);
    gm_seg_pool_init(&segs, seg_memory, SEGS * sizeof *seg_memory);
    world.block_bytes = world.block_bytes == 0 ? 4096 : world.block_bytes;
    world.blocks_left = NO_LIMIT;
    cr_assert_eq(gm_tls_init(), 0);
    bool by_default = plan->cert == NULL && plan->directory == NULL;
    struct gm_tls_server_config server = {
        .cert_file = by_default ? CERT("p256.crt") : plan->cert,
        .key_file = by_default ? CERT("p256.key") : plan->key,
        .directory = plan->directory,
        .client_ca_file = plan->client_ca,
        .client_auth = plan->client_auth,
        .crl_file = plan->client_crl,
    };
    struct gm_tls_client_config client = {
        .ca_file = plan->ca == NULL ? CERT("root.crt") : plan->ca,
        .cert_file = plan->client_cert,
        .key_file = plan->client_key,
        .insecure = plan->insecure,
        .crl_file = plan->crl,
    };
    int rc = gm_tls_server_new(&server, &world.server, why);
    cr_assert_eq(rc, 0, "%s", why);
    rc = gm_tls_client_new(&client, &world.client, why);
    cr_assert_eq(rc, 0, "%s", why);
}

static void end_clear(struct end *end)
{
    gm_tls_free(end->tls);
    gm_chain_clear(&end->in, &segs);
    gm_chain_clear(&end->plain, &segs);
    gm_chain_clear(&end->out, &segs);
    *end = (struct end){0};
}

void world_start(const char *name)
{
    end_clear(&world.c);
    end_clear(&world.s);
    gm_tls_set_reference(world.client_reference);
    world.c.tls = gm_tls_connect(world.client, name);
    gm_tls_set_reference(world.server_reference);
    world.s.tls = gm_tls_accept(world.server);
    gm_tls_set_reference(false);
    cr_assert(world.c.tls != NULL && world.s.tls != NULL);
    if (world.tls12)
        (void)wolfSSL_set_options(world.c.tls->ssl, WOLFSSL_OP_NO_TLSv1_3);
    if (world.suites != NULL)
        cr_assert_eq(wolfSSL_set_cipher_list(world.c.tls->ssl, world.suites), WOLFSSL_SUCCESS);
}

struct gm_tls_io end_io(struct end *end)
{
    return (struct gm_tls_io){
        .in = &end->in,
        .plain = &end->plain,
        .sink = {.out = &end->out, .segs = &segs, .block = world_block},
    };
}

static uint32_t next_cut(size_t left)
{
    size_t n = left;
    if (world.cut == CUT_RANDOM)
        n = 1 + world_random() % (world_random() % 4 == 0 ? 2000 : 30);
    else if (world.cut > 0)
        n = world.cut;
    return (uint32_t)(n < left ? n : left);
}

void arrive(struct end *to, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    while (len > 0) {
        uint32_t n = next_cut(len);
        struct gm_buf *buf = buf_new(n);
        memcpy(buf->data, at, n);
        cr_assert_eq(gm_chain_push(&to->in, &segs, (gm_slice){buf->data, n, buf}), 0);
        at += n;
        len -= n;
    }
}

void carry(struct end *from, struct end *to)
{
    size_t len = from->out.bytes, at = 0;
    uint8_t *bytes = malloc(len + 1);
    while (from->out.count > 0) {
        gm_slice slice = gm_chain_pop(&from->out, &segs);
        memcpy(bytes + at, slice.data, slice.len);
        at += slice.len;
        gm_slice_put(slice);
    }
    arrive(to, bytes, len);
    free(bytes);
}

/* Lets one end work with the first byte, two bytes … of what has come, as slices arrive. */
static void end_shake(struct end *end)
{
    struct gm_chain all = end->in;
    end->in = (struct gm_chain){0};
    do {
        if (all.count > 0)
            cr_assert_eq(gm_chain_push(&end->in, &segs, gm_chain_pop(&all, &segs)), 0);
        struct gm_tls_io io = end_io(end);
        if (end->result == 0 && !gm_tls_is_ready(end->tls))
            end->result = gm_tls_handshake(end->tls, &io);
    } while (all.count > 0);
}

bool world_shake(void)
{
    for (int turn = 0; turn < 12; turn++) {
        end_shake(&world.c);
        carry(&world.c, &world.s);
        end_shake(&world.s);
        carry(&world.s, &world.c);
    }
    return world.c.result == 1 && world.s.result == 1;
}

bool world_meet(const struct plan *plan, const char *name)
{
    world_plan(plan);
    world_start(name);
    return world_shake();
}

void world_end(void)
{
    end_clear(&world.c);
    end_clear(&world.s);
    gm_tls_server_put(world.server);
    gm_tls_client_put(world.client);
    cr_assert_eq(live, 0, "%u buffers are left", live);
    cr_assert_eq(segs.free_count, segs.total_count);
    free(seg_memory);
    world = (struct world){0};
}

/* ---- Payload ---- */

static uint8_t pattern(uint32_t seed, size_t at)
{
    return (uint8_t)((at * 31 + (at >> 8) + seed * 101) & 0xFF);
}

void put_plain(struct gm_chain *chain, size_t len, uint32_t seed)
{
    for (size_t at = 0; at < len;) {
        uint32_t n = next_cut(len - at);
        struct gm_buf *buf = buf_new(n);
        for (uint32_t i = 0; i < n; i++)
            buf->data[i] = pattern(seed, at + i);
        cr_assert_eq(gm_chain_push(chain, &segs, (gm_slice){buf->data, n, buf}), 0);
        at += n;
    }
}

void expect_plain(struct gm_chain *chain, size_t len, uint32_t seed)
{
    size_t at = 0;
    cr_assert_eq(chain->bytes, len, "%zu of %zu bytes", chain->bytes, len);
    while (chain->count > 0) {
        gm_slice slice = gm_chain_pop(chain, &segs);
        for (uint32_t i = 0; i < slice.len; i++, at++)
            cr_assert_eq(slice.data[i], pattern(seed, at), "byte %zu", at);
        gm_slice_put(slice);
    }
}

void talk(struct end *from, struct end *to, size_t len, uint32_t seed)
{
    struct gm_chain plain = {0};
    put_plain(&plain, len, seed);
    struct gm_tls_io from_io = end_io(from), to_io = end_io(to);
    cr_assert_eq(gm_tls_seal(from->tls, &plain, SIZE_MAX, &from_io.sink), (ssize_t)len);
    cr_assert_eq(plain.count, 0);
    carry(from, to);
    cr_assert_eq(gm_tls_open(to->tls, &to_io), 0);
    cr_assert_eq(to->in.bytes, 0);
    expect_plain(&to->plain, len, seed);
}
