/* Revoked certificates: of servers and of clients, leaf and above, with lists that are good, old,
 * forged, of others or damaged. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fixture.h"
#include "tls/files.h"

#include <wolfssl/wolfcrypt/coding.h>

static char why[GM_TLS_WHY_BYTES];

static const struct {
    const char *cert, *crl;
    int client;
} cases[] = {
    {CERT("p256.crt"), CERT("leaf.crl"), -GM_E_TLS_REVOKED},
    {CERT("p256.crt"), CERT("middle.crl"), -GM_E_TLS_REVOKED_CHAIN},
    {CERT("p256.crt"), CERT("many.crl"), -GM_E_TLS_REVOKED},
    {CERT("p256.crt"), CERT("two.crl"), -GM_E_TLS_REVOKED},
    {CERT("p256.crt"), CERT("nobody.crl"), 1},
    {CERT("p256.crt"), CERT("low.crl"), 1},
    {CERT("p256.crt"), CERT("stranger.crl"), 1},
    {CERT("p256.crt"), CERT("client.crl"), 1},
    {CERT("p256.crt"), CERT("expired.crl"), -GM_E_TLS_REVOKED},
    {CERT("p256.crt"), CERT("expired-nobody.crl"), 1},
    {CERT("p256.crt"), CERT("forged.crl"), -GM_E_TLS_CRL},
    {CERT("p256-false.crt"), CERT("forged.crl"), -GM_E_TLS_CRL},
    {CERT("p256-false.crt"), CERT("leaf.crl"), -GM_E_TLS_REVOKED},
    {CERT("p256-false.crt"), CERT("nobody.crl"), 1},
    {CERT("odd-serial.crt"), CERT("many.crl"), -GM_E_TLS_REVOKED},
    {CERT("odd-serial.crt"), CERT("leaf.crl"), 1},
    {CERT("deep.crt"), CERT("low.crl"), -GM_E_TLS_REVOKED_CHAIN},
    {CERT("deep.crt"), CERT("middle.crl"), -GM_E_TLS_REVOKED_CHAIN},
    {CERT("deep.crt"), CERT("leaf.crl"), 1},
};

/* Twice each: the second time the lists have been verified. Once only with a false intermediate:
 * when the library has met the true one of that name, it refuses the other by itself. */
Test(crl, servers_are_refused_when_any_of_their_chain_is_revoked, .timeout = 120)
{
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        struct plan plan = {
            .cert = cases[i / 2].cert, .key = CERT("p256.key"), .crl = cases[i / 2].crl};
        world_plan(&plan);
        world.tls12 = i % 2 == 1;
        int times = strcmp(plan.cert, CERT("p256-false.crt")) == 0 ? 1 : 2;
        for (int again = 0; again < times; again++) {
            world_start("example.test");
            (void)world_shake();
            cr_assert_eq(world.c.result, cases[i / 2].client, "%s with %s (1.%d, %d): %d, %s",
                         plan.cert, plan.crl, world.tls12 ? 2 : 3, again, world.c.result,
                         gm_error_text(world.c.result));
            cr_assert(world.s.result == 1 || world.c.result < 0);
        }
        if (world.c.result == 1)
            talk(&world.c, &world.s, 100, 1);
        world_end();
    }
}

/* An alert is all that the other side hears, and no byte of its own is taken. */
Test(crl, clients_are_refused_when_revoked, .timeout = 60)
{
    static const struct {
        const char *crl;
        int server;
    } lists[] = {
        {CERT("client.crl"), -GM_E_TLS_REVOKED},
        {CERT("nobody.crl"), 1},
        {CERT("leaf.crl"), 1},
        {NULL, 1},
    };
    for (size_t i = 0; i < 4 * sizeof lists / sizeof lists[0]; i++) {
        struct plan plan = {.client_ca = CERT("root.crt"),
                            .client_auth =
                                i % 4 < 2 ? GM_TLS_CLIENTS_REQUIRED : GM_TLS_CLIENTS_OPTIONAL,
                            .client_cert = CERT("client.crt"),
                            .client_key = CERT("client.key"),
                            .client_crl = lists[i / 4].crl};
        world.tls12 = i % 2 == 1;
        (void)world_meet(&plan, "example.test");
        cr_assert_eq(world.s.result, lists[i / 4].server, "case %zu: %d", i, world.s.result);
        if (world.s.result < 0 && world.tls12)
            cr_assert(world.c.result < 0);
        if (world.s.result == 1)
            cr_assert_str_eq(gm_tls_facts(world.s.tls).peer_subject, "CN=agent-1,O=Example");
        world_end();
    }
}

Test(crl, leaf_and_chain_have_words_of_their_own)
{
    cr_assert_not_null(strstr(gm_error_text(-GM_E_TLS_REVOKED), "has been revoked"));
    cr_assert_not_null(strstr(gm_error_text(-GM_E_TLS_REVOKED_CHAIN), "revoked chain"));
    cr_assert_not_null(strstr(gm_error_text(-GM_E_TLS_CRL), "not signed"));
}

/* ---- Loading ---- */

static struct gm_tls_client *client_of(const char *crl)
{
    struct gm_tls_client_config config = {.ca_file = CERT("root.crt"), .crl_file = crl};
    struct gm_tls_client *client;
    cr_assert_eq(gm_tls_init(), 0);
    int rc = gm_tls_client_new(&config, &client, why);
    cr_assert_eq(rc == 0, client != NULL);
    cr_assert_eq(rc == 0, why[0] == '\0', "%s", why);
    return client;
}

static void refused(const char *crl, const char *words)
{
    cr_assert_null(client_of(crl), "%s", crl);
    cr_assert_not_null(strstr(why, words), "\"%s\" is not in \"%s\"", words, why);
    cr_assert_not_null(strstr(why, crl), "names no file: %s", why);
}

Test(crl, what_is_no_list_is_refused_in_words)
{
    refused(CERT("missing.crl"), "No such file or directory; check the path");
    refused(CERTS, "Is a directory");
    refused(CERT("root.crt"), "has no revocation list: it must be PEM");
    refused(CERT("empty.crt"), "has no revocation list");
    refused(CERT("binary.crl"), "openssl crl -inform der");
    refused(CERT("damaged.crl"), "list 1 of the CRL file");
    refused(CERT("damaged.crl"), "is damaged: fetch it");
    refused(CERT("delta.crl"), "list 2 of the CRL file");
    refused(CERT("delta.crl"), "take the CA's complete list");
    refused(CERT("forged-root.crl"),
            "is not signed by the CA that it names, \"CN=Root,O=Example\"");
}

Test(crl, a_server_reads_its_own_just_so)
{
    struct gm_tls_server_config config = {.cert_file = CERT("p256.crt"),
                                          .key_file = CERT("p256.key"),
                                          .client_ca_file = CERT("roots.crt"),
                                          .client_auth = GM_TLS_CLIENTS_REQUIRED,
                                          .crl_file = CERT("damaged.crl")};
    struct gm_tls_server *server;
    cr_assert_eq(gm_tls_init(), 0);
    cr_assert_eq(gm_tls_server_new(&config, &server, why), -GM_E_CONFIG);
    cr_assert_not_null(strstr(why, CERT("damaged.crl")));
    config.crl_file = CERT("forged-root.crl");
    cr_assert_eq(gm_tls_server_new(&config, &server, why), -GM_E_CONFIG);
    cr_assert_not_null(strstr(why, "is not signed by"));
    config.crl_file = CERT("many.crl");
    cr_assert_eq(gm_tls_server_new(&config, &server, why), 0, "%s", why);
    cr_assert_eq(gm_tls_server_crl_until(server), 2380435750);
    gm_tls_server_put(server);
}

Test(crl, lists_tell_their_end)
{
    struct gm_tls_client *client = client_of(CERT("expired-nobody.crl"));
    cr_assert_not_null(client, "%s", why);
    cr_assert_eq(gm_tls_client_crl_until(client), 983750400); /* 2001-03-05 */
    gm_tls_client_put(client);
    client = client_of(CERT("nobody.crl"));
    cr_assert_eq(gm_tls_client_crl_until(client), 2380435750);
    gm_tls_client_put(client);
    client = client_of(NULL);
    cr_assert_eq(gm_tls_client_crl_until(client), LLONG_MAX);
    gm_tls_client_put(client);
}

/* ---- Damage ---- */

/* Whether bytes that claim to be a list are read as one. */
static bool loads(const uint8_t *der, size_t len, const char *path)
{
    static const char begin[] = "-----BEGIN X509 CRL-----\n", end[] = "-----END X509 CRL-----\n";
    byte text[4096];
    word32 text_len = sizeof text;
    struct gm_tls_crls *crls;
    cr_assert_eq(Base64_Encode(der, (word32)len, text, &text_len), 0);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    (void)fprintf(file, "%s%.*s%s", begin, (int)text_len, (const char *)text, end);
    cr_assert_eq(fclose(file), 0);
    int rc = gm_tls_crls_load(path, &crls, why);
    cr_assert_eq(rc == 0, crls != NULL);
    (void)gm_tls_crls_until(crls);
    gm_tls_crls_free(crls);
    return rc == 0;
}

/* Each byte changed, each length cut: it reads what is there and nothing else. */
Test(crl, damage_is_borne, .timeout = 120)
{
    char path[] = "/tmp/gimlet-crl-XXXXXX";
    struct gm_tls_text text;
    struct gm_tls_pem pem;
    uint8_t *der;
    size_t len;
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    (void)close(fd);
    cr_assert_eq(gm_tls_init(), 0);
    cr_assert_eq(gm_tls_read_file(CERT("leaf.crl"), "file", &text, why), 0, "%s", why);
    const char *at = text.bytes;
    cr_assert(gm_tls_pem_next(&at, &pem));
    cr_assert_eq(gm_tls_pem_decode(&pem, &der, &len), 0);
    cr_assert(loads(der, len, path));
    for (size_t i = 0; i < len; i++) {
        uint8_t was = der[i];
        for (unsigned value = 1; value < 256; value += 37) {
            der[i] = (uint8_t)(was + value);
            (void)loads(der, len, path);
        }
        der[i] = was;
    }
    for (size_t cut = 1; cut < len; cut++)
        cr_assert(!loads(der, cut, path), "%zu of %zu bytes", cut, len);
    free(der);
    gm_tls_text_free(&text);
    (void)unlink(path);
}
