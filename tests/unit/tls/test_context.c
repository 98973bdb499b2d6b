/* Contexts from files: what is accepted, what is refused with which words, and which pair a name
 * gets. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fixture.h"
#include "tls/aead.h"

static char why[GM_TLS_WHY_BYTES];

static struct gm_tls_server *server_of(const char *cert, const char *key, const char *directory)
{
    struct gm_tls_server_config config = {
        .cert_file = cert, .key_file = key, .directory = directory};
    struct gm_tls_server *server;
    cr_assert_eq(gm_tls_init(), 0);
    int rc = gm_tls_server_new(&config, &server, why);
    cr_assert_eq(rc == 0, server != NULL);
    cr_assert_eq(rc == 0, why[0] == '\0', "%s", why);
    return server;
}

static void refused(const char *cert, const char *key, const char *words)
{
    struct gm_tls_server *server = server_of(cert, key, NULL);
    cr_assert_null(server, "%s with %s", cert, key);
    cr_assert_not_null(strstr(why, words), "\"%s\" is not in \"%s\"", words, why);
    cr_assert(strstr(why, cert) != NULL || strstr(why, key) != NULL, "names no file: %s", why);
}

Test(context, what_cannot_serve_is_refused_in_words)
{
    const char *cert = CERT("p256.crt"), *key = CERT("p256.key");
    refused(CERT("missing.crt"), key, "No such file or directory; check the path");
    refused(cert, CERT("missing.key"), "cannot read the key file");
    refused(CERTS, key, "Is a directory");
    refused(CERT("empty.crt"), key, "has no certificate");
    refused(CERT("text.crt"), key, "has no certificate");
    refused(key, key, "has no certificate");
    refused(CERT("damaged.crt"), key, "is damaged");
    refused(CERT("binary.crt"), key, "is binary, not PEM");
    refused(cert, cert, "has no private key");
    refused(cert, CERT("encrypted.key"), "is encrypted");
    refused(cert, CERT("encrypted-traditional.key"), "is encrypted");
    refused(cert, CERT("rsa.key"), "does not belong to");
    refused(CERT("weak.crt"), CERT("weak.key"), "cannot be used");
    refused("/dev/null", key, "cannot read");
}

Test(context, a_key_of_another_pair_is_refused)
{
    if (IS_OLD_LIBRARY)
        cr_skip_test("this library takes any ECDSA key for any certificate on its curve");
    refused(CERT("p256.crt"), CERT("client.key"), "does not belong to");
}

Test(context, edwards_curves_are_not_for_us)
{
#ifdef HAVE_ED25519
    cr_skip_test("this library has Ed25519");
#endif
    refused(CERT("edwards.crt"), CERT("edwards.key"), "cannot be used");
}

Test(context, an_unreadable_file_says_so)
{
    if (geteuid() == 0)
        cr_skip_test("root reads everything");
    refused("/etc/shadow", CERT("p256.key"), "make it readable");
}

Test(context, what_contradicts_itself_is_refused)
{
    cr_assert_null(server_of(NULL, NULL, NULL));
    cr_assert_not_null(strstr(why, "needs a certificate"));
    cr_assert_null(server_of(CERT("p256.crt"), NULL, NULL));
    struct gm_tls_server_config config = {.cert_file = CERT("p256.crt"),
                                          .key_file = CERT("p256.key"),
                                          .client_auth = GM_TLS_CLIENTS_REQUIRED};
    struct gm_tls_server *server;
    cr_assert_eq(gm_tls_server_new(&config, &server, why), -GM_E_CONFIG);
    cr_assert_not_null(strstr(why, "client CA"));
    config.client_ca_file = CERT("text.crt");
    cr_assert_eq(gm_tls_server_new(&config, &server, why), -GM_E_CONFIG);
    cr_assert_not_null(strstr(why, "the client CA file " CERT("text.crt") " has no certificate"));
    struct gm_tls_client_config client_config = {.ca_file = CERT("damaged.crt")};
    struct gm_tls_client *client;
    cr_assert_eq(gm_tls_client_new(&client_config, &client, why), -GM_E_CONFIG);
    cr_assert_not_null(strstr(why, "1 of the certificates in the CA file"));
    client_config = (struct gm_tls_client_config){.cert_file = CERT("client.crt")};
    cr_assert_eq(gm_tls_client_new(&client_config, &client, why), -GM_E_CONFIG);
    cr_assert_null(client);
}

Test(context, an_expired_certificate_is_loaded_and_tells_its_end)
{
    struct gm_tls_server *server = server_of(CERT("expired.crt"), CERT("p256.key"), NULL);
    cr_assert_not_null(server, "%s", why);
    cr_assert_eq(gm_tls_server_not_after(server), 983750400); /* 2001-03-05 */
    cr_assert_eq(gm_tls_server_pairs(server), 1);
    gm_tls_server_put(server);
}

/* Which of its pairs a server takes, by number. */
static long choice(const struct gm_tls_server *server, const char *name)
{
    return gm_tls_server_choose(server, name) - server->pairs;
}

Test(context, a_name_gets_its_pair)
{
    struct gm_tls_server *server = server_of(NULL, NULL, CERT("pairs"));
    cr_assert_not_null(server, "%s", why);
    cr_assert_eq(gm_tls_server_pairs(server), 3);
    cr_assert_eq(gm_tls_server_not_after(server), 2380435750 + 86400ll * 'a');
    static const struct {
        const char *name;
        long pair;
    } cases[] = {
        {"a.test", 0},      {"b.test", 1},     {"any.b.test", 1},  {"x.b.test", 2},
        {"shared.test", 0}, {"y.x.b.test", 0}, {"example.com", 0}, {"", 0},
        {"unknown", 0},     {"*.b.test", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_assert_eq(choice(server, cases[i].name), cases[i].pair, "%s", cases[i].name);
    gm_tls_server_put(server);
    server = server_of(CERT("p256.crt"), CERT("p256.key"), CERT("pairs"));
    cr_assert_eq(gm_tls_server_pairs(server), 4);
    cr_assert_eq(choice(server, "b.test"), 2);
    cr_assert_eq(choice(server, "other"), 0);
    gm_tls_server_put(server);
}

Test(context, a_directory_without_pairs_is_refused)
{
    cr_assert_null(server_of(NULL, NULL, CERT("no-pairs")));
    cr_assert_not_null(strstr(why, "has no pair"), "%s", why);
    cr_assert_null(server_of(NULL, NULL, CERT("missing")));
    cr_assert_not_null(strstr(why, "cannot read the certificate directory"), "%s", why);
}

Test(context, roots_come_from_the_system_or_its_variables)
{
    struct gm_tls_client_config config = {0};
    struct gm_tls_client *client;
    cr_assert_eq(gm_tls_init(), 0);
    (void)unsetenv("SSL_CERT_DIR");
    (void)setenv("SSL_CERT_FILE", CERT("missing.crt"), 1);
    cr_assert_eq(gm_tls_client_new(&config, &client, why), -GM_E_CONFIG);
    cr_assert_not_null(strstr(why, CERT("missing.crt")), "%s", why);
    (void)setenv("SSL_CERT_DIR", CERT("no-pairs"), 1);
    cr_assert_eq(gm_tls_client_new(&config, &client, why), 0, "%s", why);
    gm_tls_client_put(client);
    (void)unsetenv("SSL_CERT_DIR");
    (void)setenv("SSL_CERT_FILE", CERT("roots.crt"), 1);
    cr_assert_eq(gm_tls_client_new(&config, &client, why), 0, "%s", why);
    gm_tls_client_put(client);
    (void)unsetenv("SSL_CERT_FILE");
    if (access("/etc/ssl/certs/ca-certificates.crt", R_OK) != 0)
        cr_skip_test("no ca-certificates here");
    cr_assert_eq(gm_tls_client_new(&config, &client, why), 0, "%s", why);
    gm_tls_client_put(client);
}

Test(context, the_library_is_described)
{
    cr_assert_eq(gm_tls_init(), 0);
    cr_assert_not_null(strstr(gm_tls_describe(), "wolfSSL "));
    cr_assert_eq(gm_tls_accelerated(), strstr(gm_tls_describe(), "AES-NI") != NULL);
}

/* The description says what this processor gets, by what the kernel says of it. */
Test(context, aes_is_as_wide_as_the_processor_and_the_build_are)
{
#ifdef GM_TLS_VAES
    static const char *const needed[] = {" vaes ", " vpclmulqdq ", " avx2 "};
    char line[8192] = "";
    FILE *file = fopen("/proc/cpuinfo", "re");
    cr_assert_not_null(file);
    while (strncmp(line, "flags", 5) != 0 && fgets(line, sizeof line, file) != NULL)
        continue;
    (void)fclose(file);
    bool wide = true;
    for (unsigned i = 0; i < sizeof needed / sizeof *needed; i++)
        wide = wide && strstr(line, needed[i]) != NULL;
    cr_log_info("VAES: %s", wide ? "yes" : "no");
#else
    bool wide = false;
#endif
    gm_tls_aead_narrow(false);
    cr_assert_eq(strstr(gm_tls_describe(), "AES-NI, VAES") != NULL, wide);
    gm_tls_aead_narrow(true);
    cr_assert_null(strstr(gm_tls_describe(), "VAES"));
}
