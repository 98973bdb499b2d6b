/*
 * `gimlet agent`: its defaults, how services and tokens come together, what is refused.
 */
#include <string.h>

#include "capture.h"
#include "config/config.h"

static struct capture capture;
static struct gm_agent_config config;

static enum gm_option_result load(const char *const *words, char *const *environment)
{
    char *argv[ARGS_MAX + 1] = {0};
    int argc = words_to_argv(words, argv);
    capture_begin(&capture, environment);
    enum gm_option_result result = gm_agent_config_load(&config, argc, argv, &capture.context);
    capture_end(&capture);
    free_argv(argc, argv);
    return result;
}

static void finish(void)
{
    gm_agent_config_fini(&config);
    gm_agent_config_fini(&config);
    capture_free(&capture);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NO_WORDS   ((const char *const[]){NULL})
#define MS         UINT64_C(1000000)

static void expect_service(size_t i, const char *name, const char *target, const char *token_file)
{
    const struct gm_agent_service *service = &config.services[i];
    cr_assert(name == NULL ? service->name == NULL : strcmp(service->name, name) == 0);
    cr_assert_str_eq(service->target, target);
    cr_assert(token_file == NULL
                  ? service->token_file == NULL && service->token != NULL
                  : strcmp(service->token_file, token_file) == 0 && service->token == NULL);
}

Test(agent_config, defaults)
{
    cr_assert_eq(load(WORDS("--token", " abc\n"), NULL), GM_OPTIONS_READY);
    cr_assert_str_eq(config.server_url, "ws://server:8080/agent");
    cr_assert_eq(config.service_count, 1);
    expect_service(0, NULL, "http://backend:8000", NULL);
    cr_assert_str_eq(config.services[0].token, "abc");
    cr_assert_eq(config.metrics_port, -1);
    cr_assert_eq(config.max_concurrent_requests, 50);
    cr_assert_eq(config.connect_timeout_ns, 5000 * MS);
    cr_assert_eq(config.backend_idle_timeout_ns, 4000 * MS);
    cr_assert_eq(config.response_header_timeout_ns, 600000 * MS);
    cr_assert_eq(config.reconnect_min_ns, 250 * MS);
    cr_assert_eq(config.reconnect_max_ns, 5000 * MS);
    cr_assert_eq(config.shutdown_timeout_ns, 30000 * MS);
    cr_assert_eq(config.runtime.ring_memory_bytes, 64u << 20);
    cr_assert_eq(config.runtime.log_rate, 20);
    finish();
}

Test(agent_config, a_token_file_wins_over_a_token)
{
    char token[] = "GIMLET_AGENT_TOKEN=abc", file[] = "GIMLET_AGENT_TOKEN_FILE=/t ";
    cr_assert_eq(load(NO_WORDS, (char *[]){token, file, NULL}), GM_OPTIONS_READY);
    expect_service(0, NULL, "http://backend:8000", "/t");
    finish();
}

Test(agent_config, targets_are_completed)
{
    static const struct {
        const char *word;
        const char *target;
    } cases[] = {
        {"--target-url=backend", "http://backend"},
        {"--target-url=10.0.0.1:99", "http://10.0.0.1:99"},
        {"--target-url=http://h:1/prefix", "http://h:1/prefix"},
        {"--target-url=HTTP://h", "HTTP://h"},
        {"--target-url=https://h/p", "https://h/p"},
        {"--target-url= unix:/run/s.sock ", "unix:/run/s.sock"},
        {"--target-url=[::1]:80", "http://[::1]:80"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_assert_eq(load(WORDS("--token=t", cases[i].word), NULL), GM_OPTIONS_READY);
        expect_service(0, NULL, cases[i].target, NULL);
        finish();
    }
}

Test(agent_config, several_services)
{
    cr_assert_eq(load(WORDS("--service=llm=http://h:1/a,b=c,token-file=/a b", "--service",
                            "tts=unix:/s", "--token-file=/shared"),
                      NULL),
                 GM_OPTIONS_READY, "%s", capture.err);
    cr_assert_eq(config.service_count, 2);
    expect_service(0, "llm", "http://h:1/a,b=c", "/a b");
    expect_service(1, "tts", "unix:/s", "/shared");
    finish();
    char services[] = "GIMLET_AGENT_SERVICE=a=h:1,token-file=/a\n  b=h:2,token-file=/b\n";
    cr_assert_eq(load(NO_WORDS, (char *[]){services, NULL}), GM_OPTIONS_READY, "%s", capture.err);
    cr_assert_eq(config.service_count, 2);
    expect_service(0, "a", "http://h:1", "/a");
    expect_service(1, "b", "http://h:2", "/b");
    finish();
    cr_assert_eq(load(WORDS("--service=one=h:1", "--token=t"), NULL), GM_OPTIONS_READY);
    expect_service(0, "one", "http://h:1", NULL);
    finish();
}

Test(agent_config, tls_to_the_server)
{
    char key[] = "GIMLET_AGENT_CLIENT_KEY=/k";
    cr_assert_eq(load(WORDS("--token=t", "--server-url=wss://h", "--ca-file=/ca",
                            "--server-name=gate.example", "--client-cert", "/c", "--crl-file=/crl"),
                      (char *[]){key, NULL}),
                 GM_OPTIONS_READY, "%s", capture.err);
    cr_assert_str_eq(config.server_url, "wss://h");
    cr_assert_str_eq(config.tls.ca_file, "/ca");
    cr_assert_str_eq(config.tls.crl_file, "/crl");
    cr_assert_null(config.services[0].tls.crl_file);
    cr_assert_str_eq(config.tls.server_name, "gate.example");
    cr_assert_str_eq(config.tls.client_cert, "/c");
    cr_assert_str_eq(config.tls.client_key, "/k");
    cr_assert_not(config.tls.insecure);
    cr_assert_null(config.services[0].tls.ca_file);
    finish();
    cr_assert_eq(
        load(WORDS("--token=t", "--server-url=WSS://h:1/x", "--insecure-skip-verify"), NULL),
        GM_OPTIONS_READY, "%s", capture.err);
    cr_assert(config.tls.insecure);
    cr_assert_null(config.tls.ca_file);
    finish();
}

Test(agent_config, tls_to_backends)
{
    cr_assert_eq(load(WORDS("--token=t", "--target-url=https://h", "--backend-ca-file=/ca",
                            "--backend-server-name=n", "--backend-client-cert=/c",
                            "--backend-client-key=/k", "--backend-crl-file=/crl"),
                      NULL),
                 GM_OPTIONS_READY, "%s", capture.err);
    const struct gm_agent_tls *tls = &config.services[0].tls;
    cr_assert_str_eq(tls->ca_file, "/ca");
    cr_assert_str_eq(tls->crl_file, "/crl");
    cr_assert_str_eq(tls->server_name, "n");
    cr_assert_str_eq(tls->client_cert, "/c");
    cr_assert_str_eq(tls->client_key, "/k");
    finish();
    cr_assert_eq(load(WORDS("--service=a=https://h/x,y,client-key=/k,1,ca-file=/c a,"
                            "client-cert=/c,crl-file=/crl,server-name=n,token-file=/t",
                            "--service=b=https://h,insecure-skip-verify,token-file=/u"),
                      NULL),
                 GM_OPTIONS_READY, "%s", capture.err);
    expect_service(0, "a", "https://h/x,y", "/t");
    tls = &config.services[0].tls;
    cr_assert_str_eq(tls->ca_file, "/c a");
    cr_assert_str_eq(tls->crl_file, "/crl");
    cr_assert_str_eq(tls->server_name, "n");
    cr_assert_str_eq(tls->client_cert, "/c");
    cr_assert_str_eq(tls->client_key, "/k,1");
    cr_assert_not(tls->insecure);
    expect_service(1, "b", "https://h", "/u");
    cr_assert(config.services[1].tls.insecure);
    finish();
}

Test(agent_config, health_checks)
{
    cr_assert_eq(load(WORDS("--token=t"), NULL), GM_OPTIONS_READY);
    cr_assert_null(config.services[0].health.path);
    finish();
    char path[] = "GIMLET_AGENT_HEALTH_CHECK_PATH=/health";
    cr_assert_eq(load(WORDS("--token=t"), (char *[]){path, NULL}), GM_OPTIONS_READY);
    const struct gm_agent_health *health = &config.services[0].health;
    cr_assert_str_eq(health->path, "/health");
    cr_assert(health->interval_ns == 5000 * MS && health->timeout_ns == 3000 * MS);
    cr_assert(health->failure_threshold == 2 && health->success_threshold == 1);
    cr_assert(gm_codes_has(&health->codes, 299) && !gm_codes_has(&health->codes, 300));
    finish();
    cr_assert_eq(load(WORDS("--health-check-path=/all", "--health-check-interval=1s",
                            "--service=a=h:1,health-check-path=/own,token-file=/t,"
                            "health-check-codes=200,204,health-check-failure-threshold=7",
                            "--service=b=h:2,token-file=/t",
                            "--service=c=h:3,token-file=/t,health-check-path=off"),
                      NULL),
                 GM_OPTIONS_READY, "%s", capture.err);
    health = &config.services[0].health;
    cr_assert_str_eq(health->path, "/own");
    cr_assert(gm_codes_has(&health->codes, 204) && !gm_codes_has(&health->codes, 201));
    cr_assert(health->failure_threshold == 7 && health->success_threshold == 1);
    cr_assert_eq(health->interval_ns, 1000 * MS);
    cr_assert_str_eq(config.services[1].health.path, "/all");
    cr_assert_null(config.services[2].health.path);
    finish();
}

static void expect_header(size_t service, size_t i, const char *name, const char *value,
                          const char *file)
{
    const struct gm_agent_header *header = &config.services[service].headers[i];
    cr_assert(i < config.services[service].header_count);
    cr_assert_str_eq(header->name, name);
    cr_assert(value == NULL ? header->value == NULL : strcmp(header->value, value) == 0);
    cr_assert(file == NULL ? header->file == NULL : strcmp(header->file, file) == 0);
}

Test(agent_config, backend_headers)
{
    char lines[] = "GIMLET_AGENT_BACKEND_HEADER=X-A: one two \n  X-B:@/run/b b\n\n";
    cr_assert_eq(load(WORDS("--token=t"), (char *[]){lines, NULL}), GM_OPTIONS_READY, "%s",
                 capture.err);
    expect_header(0, 0, "X-A", "one two", NULL);
    expect_header(0, 1, "X-B", NULL, "/run/b b");
    cr_assert_eq(config.services[0].header_count, 2);
    finish();
    cr_assert_eq(load(WORDS("--backend-header", "X-A: all", "--backend-header", "X-C: @/c",
                            "--service=a=h:1,backend-header=x-a:own, really,token-file=/t,"
                            "backend-header=X-D: d",
                            "--service=b=h:2,token-file=/t"),
                      NULL),
                 GM_OPTIONS_READY, "%s", capture.err);
    expect_header(0, 0, "x-a", "own, really", NULL);
    expect_header(0, 1, "X-D", "d", NULL);
    expect_header(0, 2, "X-C", NULL, "/c");
    cr_assert_eq(config.services[0].header_count, 3);
    expect_service(0, "a", "http://h:1", "/t");
    expect_header(1, 0, "X-A", "all", NULL);
    cr_assert_eq(config.services[1].header_count, 2);
    finish();
}

struct refusal {
    const char *words[4];
    const char *text;
    int exit_code;
};

Test(agent_config, refusals)
{
    static const struct refusal cases[] = {
        {{NULL},
         "gimlet agent: Configuration error: no token; set --token-file or --token "
         "(GIMLET_AGENT_TOKEN_FILE or GIMLET_AGENT_TOKEN)\n",
         1},
        {{"--service=a=h:1", NULL},
         "gimlet agent: Configuration error: no token for service a; set --token-file or --token "
         "(GIMLET_AGENT_TOKEN_FILE or GIMLET_AGENT_TOKEN), or its token-file=\n",
         1},
        {{"--service=a=h:1", "--service=b=h:2", "--token=t", NULL},
         "gimlet agent: --service: a and b have no token-file, and one token cannot serve two "
         "services\n",
         2},
        {{"--service=a=h:1,token-file=x", "--service=a=h:2,token-file=y", NULL},
         "gimlet agent: --service: a is named twice\n",
         2},
        {{"--service=a=h:1", "--target-url=h:2", "--token=t", NULL},
         "gimlet agent: --target-url and --service exclude each other: name that backend in a "
         "--service of its own\n",
         2},
        {{"--service=h:1", NULL},
         "gimlet agent: --service: \"h:1\" is not of the form NAME=TARGET[,token-file=FILE,...]\n",
         2},
        {{"--service==h:1", NULL},
         "gimlet agent: --service: \"=h:1\" is not of the form NAME=TARGET[,token-file=FILE,...]\n",
         2},
        {{"--service=a=", NULL},
         "gimlet agent: --service: \"a=\" is not of the form NAME=TARGET[,token-file=FILE,...]\n",
         2},
        {{"--service=a=,token-file=x", NULL},
         "gimlet agent: --service: \"a=,token-file=x\" is not of the form "
         "NAME=TARGET[,token-file=FILE,...]\n",
         2},
        {{"--service=a=h,token-file=", NULL},
         "gimlet agent: --service: \"a=h,token-file=\" has an empty token-file\n",
         2},
        {{"--service=a/b=h", NULL},
         "gimlet agent: --service: \"a/b=h\" has a / in its service name\n",
         2},
        {{"--target-url=https://:443", NULL},
         "gimlet agent: --target-url: \"https://:443\" names no host\n",
         2},
        {{"--target-url=ftp://h", NULL},
         "gimlet agent: --target-url: \"ftp://h\" is not a target: http://host[:port][/prefix], "
         "https://... or unix:/path is expected\n",
         2},
        {{"--target-url=unix:s", NULL},
         "gimlet agent: --target-url: \"unix:s\" is not a socket path: unix:/path is expected\n",
         2},
        {{"--target-url=http:///x", NULL},
         "gimlet agent: --target-url: \"http:///x\" names no host\n",
         2},
        {{"--target-url=:80", NULL}, "gimlet agent: --target-url: \":80\" names no host\n", 2},
        {{"--server-url=http://h/agent", NULL},
         "gimlet agent: --server-url: \"http://h/agent\" is not a ws:// or wss:// URL\n",
         2},
        {{"--server-url=wss://", NULL},
         "gimlet agent: --server-url: \"wss://\" is not a ws:// or wss:// URL\n",
         2},
        {{"--service=a=https://h,token-file=x,token-file=y", NULL},
         "gimlet agent: --service: \"a=https://h,token-file=x,token-file=y\" names token-file "
         "twice\n",
         2},
        {{"--service=a=https://h,cafile=x", NULL},
         "gimlet agent: --service: \"a=https://h,cafile=x\" has a misspelt key; there are "
         "token-file, ca-file, crl-file, server-name, client-cert, client-key, "
         "insecure-skip-verify, backend-header and health-check-path, -interval, -timeout, -codes, "
         "-failure-threshold and -success-threshold\n",
         2},
        {{"--service=a=https://h,ca-file", NULL},
         "gimlet agent: --service: \"a=https://h,ca-file\" has a key without a value\n",
         2},
        {{"--service=a=https://h,insecure-skip-verify=0", NULL},
         "gimlet agent: --service: \"a=https://h,insecure-skip-verify=0\" gives "
         "insecure-skip-verify a value: it stands alone\n",
         2},
        {{"--service=a=h:1,ca-file=x", "--token=t", NULL},
         "gimlet agent: --service a http://h:1: TLS options are given, but the URL asks for none: "
         "they would protect nothing\n",
         2},
        {{"--service=a=h:1", "--backend-ca-file=x", "--token=t", NULL},
         "gimlet agent: the --backend-* options are for --target-url: a --service has its own, "
         "a=h:1,ca-file=FILE\n",
         2},
        {{"--server-url=ws://h", "--crl-file=x", "--token=t", NULL},
         "gimlet agent: --server-url ws://h: TLS options are given, but the URL asks for none: "
         "they would protect nothing\n",
         2},
        {{"--service=a=https://h,crl-file=x,insecure-skip-verify", "--token=t", NULL},
         "gimlet agent: --service a https://h: crl-file and insecure-skip-verify exclude each "
         "other: is the certificate checked?\n",
         2},
        {{"--server-url=ws://h", "--ca-file=x", "--token=t", NULL},
         "gimlet agent: --server-url ws://h: TLS options are given, but the URL asks for none: "
         "they would protect nothing\n",
         2},
        {{"--server-url=wss://h", "--client-cert=x", "--token=t", NULL},
         "gimlet agent: --server-url wss://h: client-cert and client-key belong together: one of "
         "them is missing\n",
         2},
        {{"--service=a=https://h,ca-file=x,insecure-skip-verify", "--token=t", NULL},
         "gimlet agent: --service a https://h: ca-file and insecure-skip-verify exclude each "
         "other: is the certificate checked?\n",
         2},
        {{"--reconnect-min=20s", "--token=t", NULL},
         "gimlet agent: --reconnect-min is longer than --reconnect-max\n",
         2},
        {{"--reconnect-min=0", NULL},
         "gimlet agent: --reconnect-min: \"0\" is out of range (1ms to 87600h)\n",
         2},
        {{"--max-concurrent-requests=-1", NULL},
         "gimlet agent: --max-concurrent-requests: \"-1\" is out of range (0 to 1000000000)\n",
         2},
        {{"--service=a=h:1,backend-header=X-Key: s3cret,tokenfile=x", NULL},
         "gimlet agent: --service: \"a=h:1,backend-header=...\" has a misspelt key; there are "
         "token-file, ca-file, crl-file, server-name, client-cert, client-key, "
         "insecure-skip-verify, backend-header and health-check-path, -interval, -timeout, -codes, "
         "-failure-threshold and -success-threshold\n",
         2},
        {{"--service=a=h:1,backend-header=s3cret", NULL},
         "gimlet agent: --service: \"a=h:1,backend-header=...\" has a backend-header that cannot "
         "be used: see the option --backend-header\n",
         2},
        {{"--service=a=h:1,health-check-interval=soon", NULL},
         "gimlet agent: --service: \"a=h:1,health-check-interval=soon\" has a "
         "health-check-interval that cannot be used: see the option --health-check-interval\n",
         2},
        {{"--service=a=h:1,health-check-success-threshold=0", NULL},
         "gimlet agent: --service: \"a=h:1,health-check-success-threshold=0\" has a "
         "health-check-success-threshold that cannot be used: see the option "
         "--health-check-success-threshold\n",
         2},
        {{"--service=a=h:1,health-check-path=health", NULL},
         "gimlet agent: --service: \"a=h:1,health-check-path=health\" has a health-check-path that "
         "cannot be used: see the option --health-check-path\n",
         2},
        {{"--backend-header=s3cret", NULL},
         "gimlet agent: --backend-header: the value is not of the form NAME: VALUE or NAME: "
         "@FILE\n",
         2},
        {{"--health-check-path=health", NULL},
         "gimlet agent: --health-check-path: \"health\" is not a path: /health for example, of at "
         "most 1024 visible bytes without #, or off\n",
         2},
        {{"--health-check-codes=2xx", NULL},
         "gimlet agent: --health-check-codes: \"2xx\" is not a set of status codes: 200-299 or "
         "200,204 for example\n",
         2},
        {{"--health-check-timeout=0", NULL},
         "gimlet agent: --health-check-timeout: \"0\" is out of range (100ms to 24h)\n",
         2},
        {{"--health-check-failure-threshold=0", NULL},
         "gimlet agent: --health-check-failure-threshold: \"0\" is out of range (1 to 1000)\n",
         2},
        {{"--connection-check-interval=often", NULL},
         "gimlet agent: --connection-check-interval: \"often\" is not a duration (examples: 300ms, "
         "10s, 1m30s)\n",
         2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_assert_eq(load(cases[i].words, NULL), GM_OPTIONS_EXIT, "%s", cases[i].text);
        cr_assert_str_eq(capture.err, cases[i].text);
        cr_assert_eq(capture.context.exit_code, cases[i].exit_code, "%s", cases[i].text);
        finish();
    }
}
