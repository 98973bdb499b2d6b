/* Sessions by example: a client of ours and a server of ours over every cut of the wire, with our
 * records and the library's on either side. */
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

static const struct plan plain_plan;

Test(session, a_client_and_a_server_agree_and_talk, .fini = world_end)
{
    cr_assert(world_meet(&plain_plan, "example.test"), "%d %d", world.c.result, world.s.result);
    talk(&world.c, &world.s, 1000, 1);
    talk(&world.s, &world.c, 100000, 2);
    talk(&world.c, &world.s, 1, 3);
    struct gm_tls_facts c = gm_tls_facts(world.c.tls), s = gm_tls_facts(world.s.tls);
    cr_assert_eq(c.version, GM_TLS_1_3);
    cr_assert_eq(s.version, GM_TLS_1_3);
    cr_assert_eq(s.cipher, gm_tls_accelerated() ? GM_TLS_AES_128_GCM : GM_TLS_CHACHA20_POLY1305);
    cr_assert_str_eq(s.server_name, "example.test");
    cr_assert_str_eq(s.peer_subject, "");
    cr_assert_str_eq(c.peer_subject, "CN=leaf-p256,O=Example");
    cr_assert(!s.resumed);
}

static const struct {
    const char *suite, *rsa_suite;
    bool tls12;
    enum gm_tls_cipher cipher;
} suites[] = {
    {"TLS13-AES128-GCM-SHA256", NULL, false, GM_TLS_AES_128_GCM},
    {"TLS13-AES256-GCM-SHA384", NULL, false, GM_TLS_AES_256_GCM},
    {"TLS13-CHACHA20-POLY1305-SHA256", NULL, false, GM_TLS_CHACHA20_POLY1305},
    {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", true, GM_TLS_AES_128_GCM},
    {"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384", true, GM_TLS_AES_256_GCM},
    {"ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305", true,
     GM_TLS_CHACHA20_POLY1305},
};
#define SUITES (sizeof suites / sizeof suites[0])

static const struct {
    const char *cert, *key;
    bool rsa;
} keys[] = {
    {CERT("p256.crt"), CERT("p256.key"), false},
    {CERT("p256.crt"), CERT("p256-traditional.key"), false},
    {CERT("p256.crt"), CERT("parameters.key"), false},
    {CERT("combined.crt"), CERT("combined.crt"), false},
    {CERT("p384.crt"), CERT("p384.key"), false},
    {CERT("p384.crt"), CERT("p384-traditional.key"), false},
    {CERT("rsa.crt"), CERT("rsa.key"), true},
    {CERT("rsa3072.crt"), CERT("rsa3072-traditional.key"), true},
};
#define KEYS (sizeof keys / sizeof keys[0])

Test(session, every_suite_with_every_kind_of_key, .timeout = 120)
{
    for (size_t k = 0; k < KEYS; k++) {
        struct plan plan = {.cert = keys[k].cert, .key = keys[k].key};
        for (size_t i = 0; i < SUITES; i++) {
            bool rsa12 = keys[k].rsa && suites[i].tls12;
            world.suites = rsa12 ? suites[i].rsa_suite : suites[i].suite;
            world.tls12 = suites[i].tls12;
            cr_assert(world_meet(&plan, "example.test"), "%s with %s: %d %d", world.suites,
                      plan.key, world.c.result, world.s.result);
            struct gm_tls_facts facts = gm_tls_facts(world.s.tls);
            cr_assert_eq(facts.cipher, suites[i].cipher);
            cr_assert_eq(facts.version, suites[i].tls12 ? GM_TLS_1_2 : GM_TLS_1_3);
            talk(&world.c, &world.s, 20000, 1);
            talk(&world.s, &world.c, 20000, 2);
            world_end();
        }
    }
}

Test(session, our_records_and_the_library_s_understand_each_other, .timeout = 120)
{
    need_own_records();
    for (unsigned mix = 0; mix < 4 * SUITES; mix++) {
        world.client_reference = (mix & 1) != 0;
        world.server_reference = (mix & 2) != 0;
        world.suites = suites[mix / 4].suite;
        world.tls12 = suites[mix / 4].tls12;
        world.cut = CUT_RANDOM;
        cr_assert(world_meet(&plain_plan, "example.test"), "mix %u", mix);
        cr_assert_eq(world.c.tls->ssl != NULL, world.client_reference);
        cr_assert_eq(world.s.tls->ssl != NULL, world.server_reference);
        for (uint32_t i = 0; i < 6; i++) {
            talk(&world.c, &world.s, 1 + i * 7001, i);
            talk(&world.s, &world.c, 1 + i * 5003, i + 50);
        }
        world_end();
    }
}

Test(session, the_handshake_bears_every_cut_of_the_wire, .timeout = 120)
{
    for (unsigned mix = 0; mix < 2; mix++) {
        world.tls12 = mix == 1;
        world.cut = 1;
        cr_assert(world_meet(&plain_plan, "example.test"), "byte by byte: %d %d", world.c.result,
                  world.s.result);
        talk(&world.c, &world.s, 300, 1);
        world_end();
    }
    world_plan(&plain_plan);
    for (unsigned i = 0; i < 60; i++) {
        world.tls12 = i % 2 == 1;
        world.cut = i < 30 ? CUT_RANDOM : i;
        world.block_bytes = 64 + i * 5;
        world_start("example.test");
        cr_assert(world_shake(), "round %u: %d %d", i, world.c.result, world.s.result);
        talk(&world.s, &world.c, 3000, i);
    }
    world_end();
}
