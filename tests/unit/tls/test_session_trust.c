/* Who is believed: the matrix of bad certificates, client certificates, names, versions and
 * protocols, and peers that do not speak TLS at all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

static const struct {
    const char *cert, *name;
    int client, server;
} servers[] = {
    {CERT("p256.crt"), "example.test", 1, 1},
    {CERT("p256.crt"), "Example.TEST.", 1, 1},
    {CERT("p256.crt"), "a.wild.test", 1, 1},
    {CERT("p256.crt"), "127.0.0.1", 1, 1},
    {CERT("p256.crt"), "::1", 1, 1},
    {CERT("p256.crt"), "other.test", -GM_E_TLS_NAME, -GM_E_TLS_ALERT},
    {CERT("p256.crt"), "a.b.wild.test", -GM_E_TLS_NAME, -GM_E_TLS_ALERT},
    {CERT("p256.crt"), "foo.part.test", -GM_E_TLS_NAME, -GM_E_TLS_ALERT},
    {CERT("p256.crt"), "any.top", -GM_E_TLS_NAME, -GM_E_TLS_ALERT},
    {CERT("p256.crt"), "127.0.0.2", -GM_E_TLS_NAME, -GM_E_TLS_ALERT},
    {CERT("p256.crt"), "leaf-p256", -GM_E_TLS_NAME, -GM_E_TLS_ALERT},
    {CERT("other-name.crt"), "example.test", -GM_E_TLS_NAME, -GM_E_TLS_ALERT},
    {CERT("only-common-name.crt"), "example.test", 1, 1},
    {CERT("expired.crt"), "example.test", -GM_E_TLS_EXPIRED, -GM_E_TLS_EXPIRED},
    {CERT("not-yet.crt"), "example.test", -GM_E_TLS_NOT_YET, -GM_E_TLS_EXPIRED},
    {CERT("self-signed.crt"), "example.test", -GM_E_TLS_SELF_SIGNED, 0},
    {CERT("untrusted.crt"), "example.test", -GM_E_TLS_UNTRUSTED, -GM_E_TLS_UNTRUSTED},
    {CERT("no-middle.crt"), "example.test", -GM_E_TLS_UNTRUSTED, -GM_E_TLS_UNTRUSTED},
    {CERT("superfluous.crt"), "example.test", 1, 1},
    {CERT("expired-middle.crt"), "example.test", -GM_E_TLS_EXPIRED, -GM_E_TLS_EXPIRED},
    {CERT("middle-is-no-ca.crt"), "example.test", -GM_E_TLS_UNTRUSTED, 0},
    {CERT("for-clients.crt"), "example.test", -GM_E_TLS, 0},
};

Test(trust, every_fault_of_a_server_certificate_has_its_name, .timeout = 120)
{
    for (size_t i = 0; i < 2 * sizeof servers / sizeof servers[0]; i++) {
        struct plan plan = {.cert = servers[i / 2].cert, .key = CERT("p256.key")};
        world.tls12 = i % 2 == 1;
        (void)world_meet(&plan, servers[i / 2].name);
        cr_assert_eq(world.c.result, servers[i / 2].client, "%s as %s (1.%u): %d, %s", plan.cert,
                     servers[i / 2].name, world.tls12 ? 2 : 3, world.c.result,
                     gm_error_text(world.c.result));
        if (servers[i / 2].server != 0)
            cr_assert_eq(world.s.result, servers[i / 2].server, "%s as %s: the server has %d",
                         plan.cert, servers[i / 2].name, world.s.result);
        world_end();
    }
}

Test(trust, a_self_signed_certificate_can_be_named, .timeout = 60)
{
    struct plan plan = {
        .cert = CERT("self-signed.crt"), .key = CERT("p256.key"), .ca = CERT("self-signed.crt")};
    cr_assert(world_meet(&plan, "example.test"), "%d", world.c.result);
    world_end();
    cr_assert(!world_meet(&plan, "other.test"));
    cr_assert_eq(world.c.result, -GM_E_TLS_NAME);
    world_end();
}

Test(trust, the_insecure_believe_anybody, .timeout = 60)
{
    static const char *const certs[] = {CERT("self-signed.crt"), CERT("expired.crt"),
                                        CERT("untrusted.crt"), CERT("other-name.crt")};
    for (size_t i = 0; i < 4; i++) {
        struct plan plan = {.cert = certs[i], .key = CERT("p256.key"), .insecure = true};
        cr_assert(world_meet(&plan, "whatever.test"), "%s: %d", certs[i], world.c.result);
        cr_assert_str_eq(gm_tls_facts(world.c.tls).peer_subject, "");
        talk(&world.c, &world.s, 10, 1);
        world_end();
    }
}

static const struct {
    enum gm_tls_client_auth mode;
    const char *cert, *key;
    int server, client13; /* what the client hears in TLS 1.3 once it reads */
    const char *subject;
} clients[] = {
    {GM_TLS_CLIENTS_REQUIRED, CERT("client.crt"), CERT("client.key"), 1, 0, "CN=agent-1,O=Example"},
    {GM_TLS_CLIENTS_OPTIONAL, CERT("client.crt"), CERT("client.key"), 1, 0, "CN=agent-1,O=Example"},
    {GM_TLS_CLIENTS_OPTIONAL, NULL, NULL, 1, 0, ""},
    {GM_TLS_CLIENTS_ANY, CERT("client.crt"), CERT("client.key"), 1, 0, ""},
    {GM_TLS_CLIENTS_REQUIRED, NULL, NULL, -GM_E_TLS_NO_CERT, -GM_E_TLS_NO_CERT, ""},
    {GM_TLS_CLIENTS_REQUIRED, CERT("client-expired.crt"), CERT("client-expired.key"),
     -GM_E_TLS_EXPIRED, -GM_E_TLS_EXPIRED, ""},
    {GM_TLS_CLIENTS_OPTIONAL, CERT("client-untrusted.crt"), CERT("client-untrusted.key"),
     -GM_E_TLS_UNTRUSTED, -GM_E_TLS_UNTRUSTED, ""},
    {GM_TLS_CLIENTS_REQUIRED, CERT("client-long.crt"), CERT("client-long.key"), -GM_E_TLS,
     -GM_E_TLS_ALERT, ""},
    {GM_TLS_CLIENTS_REQUIRED, CERT("client-server-usage.crt"), CERT("client-server-usage.key"),
     -GM_E_TLS, -GM_E_TLS_ALERT, ""},
};

Test(trust, clients_show_who_they_are, .timeout = 120)
{
    for (size_t i = 0; i < 2 * sizeof clients / sizeof clients[0]; i++) {
        /* Old libraries have no room for such a subject, and do not even load it. */
        if (IS_OLD_LIBRARY && clients[i / 2].cert != NULL &&
            strcmp(clients[i / 2].cert, CERT("client-long.crt")) == 0)
            continue;
        struct plan plan = {.client_ca = CERT("root.crt"),
                            .client_auth = clients[i / 2].mode,
                            .client_cert = clients[i / 2].cert,
                            .client_key = clients[i / 2].key};
        world.tls12 = i % 2 == 1;
        (void)world_meet(&plan, "example.test");
        cr_assert_eq(world.s.result, clients[i / 2].server, "case %zu: %d", i, world.s.result);
        if (world.s.result == 1) {
            cr_assert_eq(world.c.result, 1);
            cr_assert_str_eq(gm_tls_facts(world.s.tls).peer_subject, clients[i / 2].subject);
            talk(&world.c, &world.s, 100, 1);
        } else if (world.tls12) {
            /* Old libraries end without an alert when there is no certificate in TLS 1.2. */
            bool silent = IS_OLD_LIBRARY && world.s.result == -GM_E_TLS_NO_CERT;
            cr_assert(world.c.result < 0 || silent, "case %zu: %d", i, world.c.result);
        } else {
            /* In TLS 1.3 the client had finished: the refusal comes with the first record. */
            struct gm_tls_io io = end_io(&world.c);
            cr_assert_eq(world.c.result, 1);
            int rc = gm_tls_open(world.c.tls, &io);
            cr_assert_eq(rc, clients[i / 2].client13, "case %zu: %d", i, rc);
        }
        world_end();
    }
}

Test(trust, the_name_asked_for_chooses_the_certificate, .timeout = 60)
{
    static const struct {
        const char *name, *subject;
        int rc;
    } cases[] = {
        {"a.test", "CN=pair-a,O=Example", 1},      {"b.test", "CN=pair-b,O=Example", 1},
        {"any.b.test", "CN=pair-b,O=Example", 1},  {"x.b.test", "CN=pair-c,O=Example", 1},
        {"SHARED.test", "CN=pair-a,O=Example", 1}, {"unknown.test", "", -GM_E_TLS_NAME},
    };
    struct plan plan = {.directory = CERT("pairs")};
    world_plan(&plan);
    world.cut = CUT_RANDOM;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        world_start(cases[i].name);
        (void)world_shake();
        cr_assert_eq(world.c.result, cases[i].rc, "%s: %d", cases[i].name, world.c.result);
        if (cases[i].rc == 1)
            cr_assert_str_eq(gm_tls_facts(world.c.tls).peer_subject, cases[i].subject);
    }
    world_end();
}

/* A client that offers only other protocols. */
Test(trust, protocols_are_agreed_on_or_refused, .timeout = 60)
{
    static const struct {
        const char *offer;
        int server;
    } cases[] = {{"h2", -GM_E_TLS}, {"h2,http/1.1", 1}, {"http/1.1,h2", 1}};
    world.client_reference = true;
    world_plan(&(struct plan){0});
    for (size_t i = 0; i < 6; i++) {
        char offer[32];
        world.tls12 = i >= 3;
        world_start("example.test");
        /* Ours offers http/1.1 only: another of the library's, in its place. */
        wolfSSL_free(world.c.tls->ssl);
        WOLFSSL *ssl = world.c.tls->ssl = wolfSSL_new(world.client->ctx);
        cr_assert_not_null(ssl);
        wolfSSL_SetIOReadCtx(ssl, world.c.tls);
        wolfSSL_SetIOWriteCtx(ssl, world.c.tls);
        wolfSSL_SetCertCbCtx(ssl, world.c.tls);
        if (world.tls12)
            (void)wolfSSL_set_options(ssl, WOLFSSL_OP_NO_TLSv1_3);
        (void)snprintf(offer, sizeof offer, "%s", cases[i % 3].offer);
        cr_assert_eq(
            wolfSSL_UseALPN(ssl, offer, (unsigned)strlen(offer), WOLFSSL_ALPN_CONTINUE_ON_MISMATCH),
            WOLFSSL_SUCCESS);
        (void)world_shake();
        cr_assert_eq(world.s.result, cases[i % 3].server, "%s: %d", cases[i % 3].offer,
                     world.s.result);
        cr_assert_eq(world.c.result == 1, cases[i % 3].server == 1);
    }
    world_end();
}

static int answer(struct end *end, const char *bytes, size_t len)
{
    struct gm_tls_io io = end_io(end);
    world.cut = 0;
    arrive(end, bytes, len);
    int rc = gm_tls_handshake(end->tls, &io);
    cr_assert(rc < 0 || gm_tls_missing(end->tls, &end->in) > 0 || end->in.count == 0);
    return rc;
}

Test(trust, peers_that_do_not_speak_tls_are_named)
{
    static const struct {
        const char *bytes;
        size_t len;
        int server, client;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27, -GM_E_TLS_PLAINTEXT, -GM_E_TLS_PLAINTEXT},
        {"HTTP/1.1 400 Bad Request\r\n", 26, -GM_E_TLS_PLAINTEXT, -GM_E_TLS_PLAINTEXT},
        {"H", 1, -GM_E_TLS_PLAINTEXT, -GM_E_TLS_PLAINTEXT},
        {"\x80\x2e\1\3\1", 5, -GM_E_TLS_RECORD, -GM_E_TLS_RECORD},
        {"\x16\3\1\xff\xff", 5, -GM_E_TLS, -GM_E_TLS_RECORD},
        {"\x16\3\1\0\4\1\0\0\0", 9, -GM_E_TLS, -GM_E_TLS},
        {"\x15\3\3\0\2\2\x28", 7, -GM_E_TLS_VERSION, -GM_E_TLS_VERSION},
        {"\x15\3\3\0\2\2\x46", 7, -GM_E_TLS_VERSION, -GM_E_TLS_VERSION},
        {"\x15\3\3\0\2\2\x70", 7, -GM_E_TLS_NAME, -GM_E_TLS_NAME},
    };
    world_plan(&(struct plan){0});
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        world_start("example.test");
        int rc = answer(&world.s, cases[i].bytes, cases[i].len);
        cr_assert(rc == cases[i].server || (cases[i].server == -GM_E_TLS && rc < 0), "case %zu: %d",
                  i, rc);
        struct gm_tls_io io = end_io(&world.c);
        cr_assert_eq(gm_tls_handshake(world.c.tls, &io), 0);
        rc = answer(&world.c, cases[i].bytes, cases[i].len);
        cr_assert(rc == cases[i].client || (cases[i].client == -GM_E_TLS && rc < 0),
                  "client, case %zu: %d", i, rc);
    }
    world_end();
}

/* One byte of the handshake changed on its way: never a session, never a crash. */
Test(trust, a_damaged_handshake_never_succeeds, .timeout = 120)
{
    world_plan(&(struct plan){0});
    for (unsigned i = 0; i < 120; i++) {
        world.tls12 = i % 2 == 1;
        world.cut = 0;
        world_start("example.test");
        bool damaged = false;
        for (unsigned turn = 0; turn < 8; turn++) {
            struct end *from = turn % 2 == 0 ? &world.c : &world.s;
            struct gm_tls_io io = end_io(from);
            if (from->result == 0 && !gm_tls_is_ready(from->tls))
                from->result = gm_tls_handshake(from->tls, &io);
            /* Not in the ticket, which comes behind the handshake. */
            if (turn == i / 2 % 3 && from->out.count > 0) {
                gm_slice front = gm_chain_front(&from->out);
                front.data[(i * 7 + world_random() % 50) % front.len] ^= (uint8_t)(1u << i % 8);
                damaged = true;
            }
            carry(from, from == &world.c ? &world.s : &world.c);
        }
        cr_assert(damaged);
        /* The legacy versions in record headers and the client's compatibility record mean nothing
         * and may be changed; everything else may not. */
        if (world.c.result == 1 && world.s.result == 1)
            talk(&world.c, &world.s, 100, i);
    }
    world_end();
}
