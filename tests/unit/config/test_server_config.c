/*
 * `gimlet server`: its defaults, what it requires, and that its table is sound.
 */
#include <string.h>

#include "capture.h"
#include "config/config.h"

static struct capture capture;
static struct gm_server_config config;

static enum gm_option_result load(const char *const *words, char *const *environment)
{
    char *argv[ARGS_MAX + 1] = {0};
    int argc = words_to_argv(words, argv);
    capture_begin(&capture, environment);
    enum gm_option_result result = gm_server_config_load(&config, argc, argv, &capture.context);
    capture_end(&capture);
    free_argv(argc, argv);
    return result;
}

static void finish(void)
{
    gm_server_config_fini(&config);
    gm_server_config_fini(&config);
    capture_free(&capture);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NO_WORDS   ((const char *const[]){NULL})
#define SECOND     UINT64_C(1000000000)

Test(server_config, defaults)
{
    cr_assert_eq(load(WORDS("--token-public-key-file=k.pub"), NULL), GM_OPTIONS_READY);
    cr_assert_str_eq(config.listen_address, "*");
    cr_assert_eq(config.http_port, 8080);
    cr_assert_eq(config.https_port, -1);
    cr_assert_null(config.tls_cert);
    cr_assert_eq(config.tls_client_auth, GM_CONFIG_CLIENTS_NONE);
    cr_assert_not(config.allow_slow_tls);
    cr_assert_eq(config.metrics_port, 9090);
    cr_assert_eq(config.health_port, -1);
    cr_assert_eq(strspn(config.server_id, "0123456789abcdef"), 8);
    cr_assert_eq(strlen(config.server_id), 8);
    cr_assert_str_eq(config.token_public_key_file, "k.pub");
    cr_assert_null(config.token_public_key_dir);
    cr_assert_null(config.token_public_key);
    cr_assert_str_eq(config.token_issuer, "gimlet");
    cr_assert_eq(config.lanes, 0);
    cr_assert_eq(config.stream_limit, 4096);
    cr_assert_eq(config.max_concurrent_requests, 1000);
    cr_assert_eq(config.header_bytes, 65536);
    cr_assert_eq(config.header_timeout_ns, 30 * SECOND);
    cr_assert_eq(config.body_timeout_ns, 60 * SECOND);
    cr_assert_eq(config.idle_timeout_ns, 600 * SECOND);
    cr_assert_eq(config.keepalive_timeout_ns, 620 * SECOND);
    cr_assert_eq(config.shutdown_timeout_ns, 30 * SECOND);
    cr_assert_eq(config.runtime.io, GM_CONFIG_IO_AUTO);
    cr_assert_null(config.runtime.io_disable);
    cr_assert_eq(config.runtime.rings, 0);
    cr_assert_eq(config.runtime.ring_memory_bytes, 64u << 20);
    cr_assert_eq(config.runtime.log_level, GM_LOG_INFO);
    cr_assert_eq(config.runtime.log_format, GM_LOG_JSON);
    cr_assert_eq(config.runtime.log_rate, 20);
    cr_assert_eq(config.proxy_protocol, 0);
    cr_assert_null(config.trusted_proxies_text);
    cr_assert_eq(config.trusted_proxies.count, 0);
    finish();
}

Test(server_config, tls)
{
    char cert[] = "GIMLET_SERVER_TLS_CERT=/c", key[] = "GIMLET_SERVER_TLS_KEY=/k";
    char *environment[] = {cert, key, NULL};
    cr_assert_eq(load(WORDS("--token-public-key=k", "--http-port=off", "--https-port=8443",
                            "--tls-dir=/d", "--tls-client-ca=/ca", "--tls-client-crl=/crl"),
                      environment),
                 GM_OPTIONS_READY, "%s", capture.err);
    cr_assert_eq(config.http_port, -1);
    cr_assert_eq(config.https_port, 8443);
    cr_assert_str_eq(config.tls_cert, "/c");
    cr_assert_str_eq(config.tls_key, "/k");
    cr_assert_str_eq(config.tls_dir, "/d");
    cr_assert_str_eq(config.tls_client_ca, "/ca");
    cr_assert_str_eq(config.tls_client_crl, "/crl");
    cr_assert_eq(config.tls_client_auth, GM_CONFIG_CLIENTS_REQUIRE);
    finish();
    static const struct {
        const char *word;
        int auth;
    } auths[] = {{"--tls-client-auth=none", GM_CONFIG_CLIENTS_NONE},
                 {"--tls-client-auth=Optional", GM_CONFIG_CLIENTS_OPTIONAL},
                 {"--tls-client-auth=require", GM_CONFIG_CLIENTS_REQUIRE}};
    for (size_t i = 0; i < sizeof auths / sizeof auths[0]; i++) {
        cr_assert_eq(load(WORDS("--token-public-key=k", "--https-port=0", "--tls-dir=/d",
                                "--tls-client-ca=/ca", auths[i].word),
                          NULL),
                     GM_OPTIONS_READY, "%s", capture.err);
        cr_assert_eq(config.tls_client_auth, auths[i].auth);
        finish();
    }
}

Test(server_config, tls_that_cannot_be_meant)
{
    static const struct {
        const char *words[4];
        const char *part;
    } cases[] = {
        {{"--http-port=off", NULL}, "nobody could connect"},
        {{"--tls-cert=/c", "--tls-key=/k", NULL}, "for --https-port, which is off"},
        {{"--tls-client-auth=none", NULL}, "for --https-port, which is off"},
        {{"--https-port=1", NULL}, "--https-port needs a certificate"},
        {{"--https-port=1", "--tls-cert=/c", NULL}, "--tls-cert needs --tls-key"},
        {{"--https-port=1", "--tls-dir=/d", "--tls-key=/k", NULL}, "--tls-key needs --tls-cert"},
        {{"--https-port=1", "--tls-dir=/d", "--tls-client-auth=require", NULL},
         "--tls-client-auth needs --tls-client-ca"},
        {{"--https-port=1", "--tls-dir=/d", "--tls-client-crl=/crl", NULL},
         "--tls-client-crl is for certificates of clients, and none is asked for"},
        {{"--https-port=1", "--tls-dir=/d", "--tls-client-auth=yes", NULL},
         "--tls-client-auth: \"yes\" is not one of none, optional, require"},
        {{"--https-port=x", NULL}, "is not a port (0 to 65535, or off)"},
    };
    char token[] = "GIMLET_SERVER_TOKEN_PUBLIC_KEY=k";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_assert_eq(load(cases[i].words, (char *[]){token, NULL}), GM_OPTIONS_EXIT);
        cr_assert_not_null(strstr(capture.err, cases[i].part), "%s", capture.err);
        cr_assert_eq(capture.context.exit_code, 2);
        finish();
    }
}

Test(server_config, proxies)
{
    char protocol[] = "GIMLET_SERVER_PROXY_PROTOCOL=On",
         trusted[] = "GIMLET_SERVER_TRUSTED_PROXIES= 10.0.0.0/8, ::1 ";
    char *environment[] = {protocol, trusted, NULL};
    cr_assert_eq(load(WORDS("--token-public-key=k"), environment), GM_OPTIONS_READY, "%s",
                 capture.err);
    cr_assert_eq(config.proxy_protocol, 1);
    cr_assert_eq(config.trusted_proxies.count, 2);
    cr_assert_not_null(config.trusted_proxies_text);
    finish();
    cr_assert_eq(load(WORDS("--token-public-key=k", "--trusted-proxies=none"), NULL),
                 GM_OPTIONS_READY, "%s", capture.err);
    cr_assert_not_null(config.trusted_proxies_text);
    cr_assert_eq(config.trusted_proxies.count, 0);
    finish();
    cr_assert_eq(
        load(WORDS("--token-public-key=k", "--trusted-proxies=none", "--proxy-protocol=on"), NULL),
        GM_OPTIONS_EXIT);
    cr_assert_str_eq(capture.err,
                     "gimlet server: --trusted-proxies none lets nobody send the header that "
                     "--proxy-protocol on asks for: name the load balancers\n");
    cr_assert_eq(capture.context.exit_code, 2);
    finish();
}

Test(server_config, server_ids_that_agents_can_be_told)
{
    char longest[300] = "--server-id=";
    memset(longest + strlen(longest), 'x', 255);
    cr_assert_eq(load(WORDS("--token-public-key=k", longest), NULL), GM_OPTIONS_READY);
    cr_assert_eq(strlen(config.server_id), 255);
    finish();
    cr_assert_eq(load(WORDS("--token-public-key=k", "--server-id=\u00fc x"), NULL),
                 GM_OPTIONS_READY);
    finish();
    longest[strlen(longest)] = 'x';
    const char *const wrong[] = {longest, "--server-id=\377", "--server-id=a\nb",
                                 "--server-id=\xe2\x82"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cr_assert_eq(load(WORDS("--token-public-key=k", wrong[i]), NULL), GM_OPTIONS_EXIT);
        cr_assert_eq(capture.context.exit_code, 2);
        cr_assert_not_null(strstr(capture.err, "--server-id"), "case %zu", i);
        finish();
    }
}

Test(server_config, server_ids_differ)
{
    char first[16];
    cr_assert_eq(load(WORDS("--token-public-key=k"), NULL), GM_OPTIONS_READY);
    (void)snprintf(first, sizeof first, "%s", config.server_id);
    finish();
    cr_assert_eq(load(WORDS("--token-public-key=k"), NULL), GM_OPTIONS_READY);
    cr_assert_str_neq(first, config.server_id);
    finish();
}

Test(server_config, old_names_of_flags_and_variables_work)
{
    char port[] = "GIMLET_SERVER_HTTP_PORT=1", id[] = "GIMLET_SERVER_SERVER_ID=me",
         dir[] = "GIMLET_SERVER_TOKEN_PUBLIC_KEY_DIR=d", level[] = "GIMLET_LOG_LEVEL=warning",
         format[] = "GIMLET_SERVER_LOG_FORMAT=console", idle[] = "GIMLET_SERVER_IDLE_TIMEOUT=5",
         limit[] = "GIMLET_SERVER_MAX_CONCURRENT_REQUESTS=-1";
    char *environment[] = {port, id, dir, level, format, idle, limit, NULL};
    cr_assert_eq(load(WORDS("-metrics-port", "2", "-health-port=3", "--shutdown-timeout", "1m",
                            "--token-issuer=us"),
                      environment),
                 GM_OPTIONS_READY, "%s", capture.err);
    cr_assert_eq(config.http_port, 1);
    cr_assert_eq(config.metrics_port, 2);
    cr_assert_eq(config.health_port, 3);
    cr_assert_str_eq(config.server_id, "me");
    cr_assert_str_eq(config.token_public_key_dir, "d");
    cr_assert_str_eq(config.token_issuer, "us");
    cr_assert_eq(config.runtime.log_level, GM_LOG_WARN);
    cr_assert_eq(config.runtime.log_format, GM_LOG_CONSOLE);
    cr_assert_eq(config.idle_timeout_ns, 5 * SECOND);
    cr_assert_eq(config.shutdown_timeout_ns, 60 * SECOND);
    cr_assert_eq(config.max_concurrent_requests, 0);
    finish();
}

Test(server_config, a_key_is_required)
{
    cr_assert_eq(load(NO_WORDS, NULL), GM_OPTIONS_EXIT);
    cr_assert_eq(capture.context.exit_code, 1);
    static const char *const parts[] = {"Configuration error: ", "--token-public-key-file",
                                        "--token-public-key-dir", "--token-public-key and",
                                        "--token-jwks is required"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        cr_assert_not_null(strstr(capture.err, parts[i]), "%s", capture.err);
    finish();
}

Test(server_config, unusable_values_are_refused)
{
    static const struct {
        const char *word;
        const char *text;
    } cases[] = {
        {"--idle-timeout=2d",
         "gimlet server: --idle-timeout: \"2d\" is not a duration (examples: 300ms, 10s, 1m30s)\n"},
        {"--listen-address=localhost", "gimlet server: --listen-address: \"localhost\" is not an "
                                       "IPv4 or IPv6 address, or * for all\n"},
        {"--token-jwks-refresh=0",
         "gimlet server: --token-jwks-refresh: \"0\" is out of range (1s to 87600h)\n"},
        {"--token-jwks-ca-file=ca.pem",
         "gimlet server: --token-jwks-ca-file is for an https:// address of --token-jwks\n"},
        {"--header-bytes=65KiB",
         "gimlet server: --header-bytes: \"65KiB\" is out of range (1KiB to 64KiB)\n"},
        {"--stream-limit=0", "gimlet server: --stream-limit: \"0\" is out of range (1 to 65535)\n"},
        {"--lanes=65", "gimlet server: --lanes: \"65\" is out of range (0 to 64)\n"},
        {"--rings=-1", "gimlet server: --rings: \"-1\" is out of range (0 to 256)\n"},
        {"--ring-memory=1",
         "gimlet server: --ring-memory: \"1\" is out of range (8MiB to 64GiB)\n"},
        {"--io=iocp", "gimlet server: --io: \"iocp\" is not one of auto, uring, epoll\n"},
        {"--proxy-protocol=v2", "gimlet server: --proxy-protocol: \"v2\" is not one of off, on\n"},
        {"--trusted-proxies=::1,10.0.0.1/8,::2",
         "gimlet server: --trusted-proxies: \"10.0.0.1/8\" has address bits set behind its "
         "prefix\n"},
        {"--trusted-proxies=::1, load-balancer.example.com",
         "gimlet server: --trusted-proxies: \"load-balancer.example.com\" is not a network "
         "(10.0.0.0/8, 2001:db8::/32)\n"},
        {"--log-format=xml", "gimlet server: --log-format: \"xml\" is not one of json, console\n"},
        {"--http-port=no",
         "gimlet server: --http-port: \"no\" is not a port (0 to 65535, or off)\n"},
        {"--response-buffer-size=1k",
         "gimlet server: --response-buffer-size: \"1k\" is not a whole number\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_assert_eq(load(WORDS("--token-public-key=k", cases[i].word), NULL), GM_OPTIONS_EXIT);
        cr_assert_str_eq(capture.err, cases[i].text);
        cr_assert_eq(capture.context.exit_code, 2);
        finish();
    }
}

Test(server_config, addresses_of_both_families)
{
    static const char *const good[] = {"--listen-address=127.0.0.1", "--listen-address=::1",
                                       "--listen-address=::", "--listen-address=*"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        cr_assert_eq(load(WORDS("--token-public-key=k", good[i]), NULL), GM_OPTIONS_READY);
        cr_assert_str_eq(config.listen_address, strchr(good[i], '=') + 1);
        finish();
    }
}

/* Variables that Kubernetes makes for a Service named like the program are not ours. */
Test(server_config, service_links_are_left_alone)
{
    char host[] = "GIMLET_SERVER_SERVICE_HOST=10.0.0.1",
         port[] = "GIMLET_SERVER_PORT=tcp://10.0.0.1:80",
         proto[] = "GIMLET_SERVER_PORT_8080_TCP_PROTO=tcp",
         addr[] = "GIMLET_SERVER_PORT_8080_TCP_ADDR=h",
         named[] = "GIMLET_SERVER_SERVICE_PORT_HTTP=8080",
         plain[] = "GIMLET_SERVER_SERVICE_PORT=8080";
    char *environment[] = {host, port, proto, addr, named, plain, NULL};
    cr_assert_eq(load(WORDS("--token-public-key=k"), environment), GM_OPTIONS_READY, "%s",
                 capture.err);
    cr_assert_eq(config.http_port, 8080);
    finish();
}

/* A table is sound when each row has what its kind needs, and help and defaults work. */
static void check_table(const struct gm_option_program *program)
{
    for (size_t i = 0; i < program->option_count; i++) {
        const struct gm_option *option = &program->options[i];
        cr_assert(option->argument != NULL || option->kind == GM_OPTION_SWITCH);
        cr_assert_not_null(option->help, "%s", option->flag);
        cr_assert_neq(option->help[strlen(option->help) - 1], '.', "%s", option->flag);
        cr_assert((option->kind == GM_OPTION_CHOICE) == (option->choices != NULL));
        bool limited = option->kind == GM_OPTION_INTEGER || option->kind == GM_OPTION_DURATION ||
                       option->kind == GM_OPTION_SIZE;
        cr_assert(!limited || option->max > option->min, "%s has no limit", option->flag);
        for (size_t j = 0; j < i; j++) {
            cr_assert_str_neq(option->flag, program->options[j].flag);
            cr_assert_neq(option->offset, program->options[j].offset);
        }
    }
    cr_assert_not_null(program->options[0].group);
}

Test(server_config, tables_are_sound)
{
    check_table(&gm_server_program);
    check_table(&gm_agent_program);
}
