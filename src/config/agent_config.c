/*
 * `gimlet agent`: its option table, and how its services are put together. Start-up, one thread.
 *
 * One service is `--target-url` with a token; several are `--service name=target,token-file=FILE`,
 * one flag each, so that a service, its token and its trust cannot be mismatched.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "config/agent_service.h"
#include "config/runtime_options.h"
#include "config/value.h"

#define FIELD(name) offsetof(struct gm_agent_config, name)

#define TARGET_DEFAULT "http://backend:8000"

static bool starts_with(const char *text, const char *prefix)
{
    return strncasecmp(text, prefix, strlen(prefix)) == 0;
}

static const char *check_server_url(const char *value)
{
    const char *rest = starts_with(value, "wss://")  ? value + 6
                       : starts_with(value, "ws://") ? value + 5
                                                     : "";
    return rest[0] != '\0' && rest[0] != '/' ? NULL : "is not a ws:// or wss:// URL";
}

static const struct gm_option options[] = {
    {.flag = "server-url",
     .argument = "URL",
     .fallback = "ws://server:8080/agent",
     .group = "Link and services",
     .help = "Where the server listens for agents, ws://host[:port][/path] or wss:// over TLS",
     .check = check_server_url,
     .flags = GM_OPTION_TRIM,
     .offset = FIELD(server_url)},
    {.flag = "target-url",
     .argument = "URL",
     .shown = TARGET_DEFAULT,
     .help =
         "The backend of a single service: http://host[:port][/prefix], https://... or unix:/path. "
         "The token says which service it is",
     .check = gm_agent_check_target,
     .flags = GM_OPTION_TRIM,
     .offset = FIELD(target_url)},
    {.flag = "service",
     .argument = "NAME=TARGET[,token-file=FILE,...]",
     .help = "A service and its backend, instead of --target-url. Without token-file it uses "
             "--token-file or --token, which only one service can. For an https:// backend also "
             "ca-file=FILE, crl-file=FILE, server-name=NAME, client-cert=FILE, client-key=FILE, "
             "insecure-skip-verify. backend-header=NAME:VALUE and health-check-path=PATH, "
             "health-check-interval=DURATION and so on stand before the options of these names",
     .kind = GM_OPTION_REPEAT,
     .secret = "backend-header=",
     .check = gm_agent_check_service,
     .offset = FIELD(service_options)},
    {.flag = "token-file",
     .argument = "FILE",
     .help =
         "File with the agent's token, read again when it changes: links that stand get the new "
         "one. Wins over --token",
     .flags = GM_OPTION_TRIM,
     .offset = FIELD(token_file)},
    {.flag = "token",
     .argument = "TOKEN",
     .help = "The token itself; others on the machine can see a flag",
     .flags = GM_OPTION_TRIM | GM_OPTION_SECRET,
     .offset = FIELD(token)},
    {.flag = "ca-file",
     .argument = "FILE",
     .shown = "the system's",
     .group = "TLS to the server (wss://; files are read again when they change)",
     .help = "Certificates in PEM that the server's must be signed by",
     .offset = FIELD(tls.ca_file)},
    {.flag = "crl-file",
     .argument = "FILE",
     .shown = "none",
     .help = "Revocation lists in PEM: a server is refused when its certificate, or one above it, "
             "is in its issuer's list. Issuers without a list in the file are believed; a list "
             "that has expired still counts, with a warning",
     .offset = FIELD(tls.crl_file)},
    {.flag = "server-name",
     .argument = "NAME",
     .shown = "the host in the URL",
     .help = "Name that the server's certificate must be for, sent as SNI and Host",
     .offset = FIELD(tls.server_name)},
    {.flag = "client-cert",
     .argument = "FILE",
     .help = "The agent's own certificate in PEM, for a server that asks for one",
     .offset = FIELD(tls.client_cert)},
    {.flag = "client-key",
     .argument = "FILE",
     .help = "Its private key in PEM",
     .offset = FIELD(tls.client_key)},
    {.flag = "insecure-skip-verify",
     .help = "Take any certificate: whoever stands in between gets the token. For trials only",
     .kind = GM_OPTION_SWITCH,
     .offset = FIELD(tls.insecure)},
    GM_TLS_ROWS(struct gm_agent_config),
    {.flag = "backend-ca-file",
     .argument = "FILE",
     .shown = "the system's",
     .group = "TLS to the backend of --target-url (https://; files likewise)",
     .help = "Certificates in PEM that the backend's must be signed by",
     .offset = FIELD(backend_tls.ca_file)},
    {.flag = "backend-crl-file",
     .argument = "FILE",
     .shown = "none",
     .help = "Revocation lists in PEM for the backend's certificate, as --crl-file",
     .offset = FIELD(backend_tls.crl_file)},
    {.flag = "backend-server-name",
     .argument = "NAME",
     .shown = "the host in the URL",
     .help = "Name that the backend's certificate must be for, sent as SNI",
     .offset = FIELD(backend_tls.server_name)},
    {.flag = "backend-client-cert",
     .argument = "FILE",
     .help = "The agent's own certificate in PEM, for a backend that asks for one",
     .offset = FIELD(backend_tls.client_cert)},
    {.flag = "backend-client-key",
     .argument = "FILE",
     .help = "Its private key in PEM",
     .offset = FIELD(backend_tls.client_key)},
    {.flag = "backend-insecure-skip-verify",
     .help = "Take any certificate of the backend's. For trials only",
     .kind = GM_OPTION_SWITCH,
     .offset = FIELD(backend_tls.insecure)},
    {.flag = "backend-header",
     .argument = "NAME:VALUE",
     .group = "Backend",
     .help = "A field set in every request to the backend, an API key for example, instead of the "
             "client's of that name. NAME:@FILE reads the value from a file, again when it "
             "changes; others on the machine can see a value in a flag. In the variable one a line",
     .kind = GM_OPTION_REPEAT,
     .check = gm_agent_check_header,
     .flags = GM_OPTION_SECRET | GM_OPTION_LINES,
     .offset = FIELD(header_options)},
    {.flag = "health-check-path",
     .argument = "PATH",
     .shown = "off",
     .help = "GET this path of the backend now and then; while it fails the server sends no "
             "requests here. A path in --target-url is not put in front of it",
     .check = gm_agent_check_health_path,
     .flags = GM_OPTION_TRIM,
     .offset = FIELD(health.path)},
    {.flag = "health-check-interval",
     .argument = "DURATION",
     .fallback = "5s",
     .help = "From the beginning of a check to that of the next",
     .kind = GM_OPTION_DURATION,
     .offset = FIELD(health.interval_ns),
     .min = GM_CONFIG_HEALTH_TIME_MIN,
     .max = GM_CONFIG_HEALTH_TIME_MAX},
    {.flag = "health-check-timeout",
     .argument = "DURATION",
     .fallback = "3s",
     .help = "A check that takes longer has failed",
     .kind = GM_OPTION_DURATION,
     .offset = FIELD(health.timeout_ns),
     .min = GM_CONFIG_HEALTH_TIME_MIN,
     .max = GM_CONFIG_HEALTH_TIME_MAX},
    {.flag = "health-check-codes",
     .argument = "LIST",
     .fallback = "200-299",
     .help = "Status codes of a healthy backend, with commas between",
     .check = gm_agent_check_health_codes,
     .flags = GM_OPTION_TRIM,
     .offset = FIELD(health.codes_text)},
    {.flag = "health-check-failure-threshold",
     .argument = "N",
     .fallback = "2",
     .help = "Failures in a row after which the backend counts as unhealthy",
     .kind = GM_OPTION_INTEGER,
     .offset = FIELD(health.failure_threshold),
     .min = 1,
     .max = GM_CONFIG_HEALTH_THRESHOLD_MAX},
    {.flag = "health-check-success-threshold",
     .argument = "N",
     .fallback = "1",
     .help = "Successes in a row after which it counts as healthy",
     .kind = GM_OPTION_INTEGER,
     .offset = FIELD(health.success_threshold),
     .min = 1,
     .max = GM_CONFIG_HEALTH_THRESHOLD_MAX},
    {.flag = "metrics-port",
     .argument = "PORT",
     .shown = "off",
     .group = "Metrics and health",
     .help = "Port for the agent's own /metrics and /debug/counters",
     .kind = GM_OPTION_PORT,
     .flags = GM_OPTION_OFF,
     .offset = FIELD(metrics_port)},
    {.flag = "health-port",
     .argument = "PORT",
     .shown = "off",
     .help =
         "Port for the agent's own /health: 200 when every service has a link and no backend is "
         "known to be unhealthy, else 503. May be the metrics port",
     .kind = GM_OPTION_PORT,
     .flags = GM_OPTION_OFF,
     .offset = FIELD(health_port)},
    {.flag = "connect-timeout",
     .argument = "DURATION",
     .fallback = "5s",
     .group = "Times (a bare number is seconds)",
     .help = "A connection to the backend or the server must stand by then",
     .kind = GM_OPTION_DURATION,
     .offset = FIELD(connect_timeout_ns),
     .min = GM_SECONDS(1) / 1000,
     .max = GM_CONFIG_TIME_MAX},
    {.flag = "response-header-timeout",
     .argument = "DURATION",
     .fallback = "10m",
     .help = "A backend must begin its answer by then, 0 for no limit",
     .kind = GM_OPTION_DURATION,
     .offset = FIELD(response_header_timeout_ns),
     .max = GM_CONFIG_TIME_MAX},
    {.flag = "backend-idle-timeout",
     .argument = "DURATION",
     .fallback = "4s",
     .help =
         "An unused backend connection is closed then, 0 keeps none; common backends close at 5 s",
     .kind = GM_OPTION_DURATION,
     .offset = FIELD(backend_idle_timeout_ns),
     .max = GM_CONFIG_TIME_MAX},
    {.flag = "reconnect-min",
     .argument = "DURATION",
     .fallback = "250ms",
     .help = "Longest wait before the first attempt to link again; it doubles with each",
     .kind = GM_OPTION_DURATION,
     .offset = FIELD(reconnect_min_ns),
     .min = GM_SECONDS(1) / 1000,
     .max = GM_CONFIG_TIME_MAX},
    {.flag = "reconnect-max",
     .argument = "DURATION",
     .fallback = "5s",
     .help = "Longest wait between attempts while no server answers",
     .kind = GM_OPTION_DURATION,
     .offset = FIELD(reconnect_max_ns),
     .min = GM_SECONDS(1) / 1000,
     .max = GM_CONFIG_TIME_MAX},
    {.flag = "connection-check-interval",
     .argument = "DURATION",
     .fallback = "5s",
     .shown = "5s; 0 for never",
     .help = "An agent that has found all servers looks again whether there are more: first after "
             "this time, then less and less often, down to once a minute",
     .kind = GM_OPTION_DURATION,
     .offset = FIELD(connection_check_interval_ns),
     .max = GM_CONFIG_TIME_MAX},
    {.flag = "shutdown-timeout",
     .argument = "DURATION",
     .fallback = "30s",
     .shown = "30s; 0 ends at once",
     .help = "Requests still running that long after a stop signal are cut",
     .kind = GM_OPTION_DURATION,
     .flags = GM_OPTION_NEGATIVE_ZERO,
     .offset = FIELD(shutdown_timeout_ns),
     .max = GM_CONFIG_TIME_MAX},
    {.flag = "max-concurrent-requests",
     .argument = "N",
     .fallback = "50",
     .group = "Limits",
     .help = "Requests in progress in this process, 0 for no limit",
     .kind = GM_OPTION_INTEGER,
     .offset = FIELD(max_concurrent_requests),
     .max = GM_CONFIG_REQUESTS_MAX},
    {.flag = "request-buffer-size",
     .argument = "N",
     .help = "Taken from 0.0.x and without effect: what a request may hold here is counted in "
             "bytes, out of --ring-memory",
     .check = gm_config_check_frames,
     .offset = FIELD(request_buffer_size)},
    GM_RUNTIME_ROWS(struct gm_agent_config),
};

const struct gm_option_program gm_agent_program = {
    .name = "gimlet agent",
    .old_name = "gimlet-agent",
    .summary =
        "Dials a server and answers its requests from backends beside it. Opens no public port.",
    .epilogue = "Examples:\n"
                "  gimlet agent --server-url ws://gateway:8080/agent --target-url "
                "http://127.0.0.1:8000 \\\n"
                "               --token-file agent.token\n"
                "  gimlet agent --server-url wss://gateway.example.com/agent \\\n"
                "               --service llm=http://127.0.0.1:8000,token-file=llm.token \\\n"
                "               --service tts=unix:/run/tts.sock,token-file=tts.token\n"
                "In $GIMLET_AGENT_SERVICE services are separated by white space.\n"
                "The server is dialled through the HTTP proxy that $HTTPS_PROXY (for wss://) or\n"
                "$HTTP_PROXY (for ws://) names, unless $NO_PROXY names the server.",
    .env_prefix = "GIMLET_AGENT_",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
};

static enum gm_option_result no_memory(struct gm_option_context *context)
{
    return gm_option_refuse(&gm_agent_program, context, 1, "out of memory");
}

static enum gm_option_result no_token(const char *service, struct gm_option_context *context)
{
    return gm_option_refuse(&gm_agent_program, context, 1,
                            "Configuration error: no token%s%s; set --token-file or --token "
                            "(GIMLET_AGENT_TOKEN_FILE or GIMLET_AGENT_TOKEN)%s",
                            service != NULL ? " for service " : "", service != NULL ? service : "",
                            service != NULL ? ", or its token-file=" : "");
}

static bool has_tls(const struct gm_agent_tls *tls)
{
    return tls->ca_file != NULL || tls->crl_file != NULL || tls->server_name != NULL ||
           tls->client_cert != NULL || tls->client_key != NULL || tls->insecure;
}

/* What is wrong with these together, towards such a URL; or NULL. */
static const char *check_tls(const struct gm_agent_tls *tls, const char *url, const char *scheme)
{
    if (has_tls(tls) && !starts_with(url, scheme))
        return "TLS options are given, but the URL asks for none: they would protect nothing";
    if ((tls->client_cert == NULL) != (tls->client_key == NULL))
        return "client-cert and client-key belong together: one of them is missing";
    if (tls->insecure && tls->ca_file != NULL)
        return "ca-file and insecure-skip-verify exclude each other: is the certificate checked?";
    if (tls->insecure && tls->crl_file != NULL)
        return "crl-file and insecure-skip-verify exclude each other: is the certificate checked?";
    return NULL;
}

static enum gm_option_result complete_tls(struct gm_agent_config *config,
                                          struct gm_option_context *context)
{
    const char *wrong = check_tls(&config->tls, config->server_url, "wss://");
    if (wrong != NULL)
        return gm_option_refuse(&gm_agent_program, context, 2, "--server-url %s: %s",
                                gm_value_public(config->server_url), wrong);
    for (size_t i = 0; i < config->service_count; i++) {
        const struct gm_agent_service *service = &config->services[i];
        wrong = check_tls(&service->tls, service->target, "https://");
        if (wrong != NULL)
            return gm_option_refuse(&gm_agent_program, context, 2, "%s%s %s: %s",
                                    service->name != NULL ? "--service " : "--target-url",
                                    service->name != NULL ? service->name : "",
                                    gm_value_public(service->target), wrong);
    }
    return GM_OPTIONS_READY;
}

/* The value may hold a password, so it is not repeated. */
static enum gm_option_result complete_proxy(struct gm_agent_config *config,
                                            struct gm_option_context *context)
{
    struct gm_proxy_choice *proxy = &config->proxy;
    if (gm_proxy_choose(context->environment, config->server_url, &config->arena, proxy) < 0)
        return no_memory(context);
    if (proxy->url == NULL || starts_with(proxy->url, "http://") ||
        strstr(proxy->url, "://") == NULL)
        return GM_OPTIONS_READY;
    return gm_option_refuse(&gm_agent_program, context, 2,
                            "%s: only a proxy of the form http://[user:password@]host:port can be "
                            "used; name the server in NO_PROXY to do without",
                            proxy->variable);
}

static enum gm_option_result single_service(struct gm_agent_config *config,
                                            struct gm_option_context *context)
{
    const char *target = config->target_url != NULL ? config->target_url : TARGET_DEFAULT;
    struct gm_agent_service *service = gm_arena_alloc(&config->arena, sizeof *service);
    if (service == NULL)
        return no_memory(context);
    service->target = gm_agent_full_target(&config->arena, target, strlen(target));
    if (service->target == NULL)
        return no_memory(context);
    service->tls = config->backend_tls;
    config->services = service;
    config->service_count = 1;
    return GM_OPTIONS_READY;
}

static enum gm_option_result many_services(struct gm_agent_config *config,
                                           struct gm_option_context *context)
{
    const struct gm_option_list *list = &config->service_options;
    if (config->target_url != NULL)
        return gm_option_refuse(&gm_agent_program, context, 2,
                                "--target-url and --service exclude each other: name that backend "
                                "in a --service of its own");
    if (has_tls(&config->backend_tls))
        return gm_option_refuse(&gm_agent_program, context, 2,
                                "the --backend-* options are for --target-url: a --service has its "
                                "own, %.*s,ca-file=FILE",
                                (int)strcspn(list->items[0], ","), list->items[0]);
    config->services = gm_arena_alloc(&config->arena, list->count * sizeof *config->services);
    if (config->services == NULL)
        return no_memory(context);
    for (size_t i = 0; i < list->count; i++) {
        struct gm_agent_service *service = &config->services[i];
        if (gm_agent_take_service(&config->arena, list->items[i], service) < 0)
            return no_memory(context);
        for (size_t j = 0; j < i; j++) {
            if (strcmp(config->services[j].name, service->name) == 0)
                return gm_option_refuse(&gm_agent_program, context, 2,
                                        "--service: %s is named twice", service->name);
        }
    }
    config->service_count = list->count;
    return GM_OPTIONS_READY;
}

/* Services without a token file of their own share --token-file or --token; as a token names one
 * service, only one of them can. */
static enum gm_option_result give_tokens(struct gm_agent_config *config,
                                         struct gm_option_context *context)
{
    const struct gm_agent_service *sharer = NULL;
    for (size_t i = 0; i < config->service_count; i++) {
        struct gm_agent_service *service = &config->services[i];
        if (service->token_file != NULL)
            continue;
        if (config->token_file == NULL && config->token == NULL)
            return no_token(service->name, context);
        if (sharer != NULL)
            return gm_option_refuse(&gm_agent_program, context, 2,
                                    "--service: %s and %s have no token-file, and one token cannot "
                                    "serve two services",
                                    sharer->name, service->name);
        sharer = service;
        service->token_file = config->token_file;
        service->token = config->token_file == NULL ? config->token : NULL;
    }
    return GM_OPTIONS_READY;
}

static enum gm_option_result inherit(struct gm_agent_config *config,
                                     struct gm_option_context *context)
{
    for (size_t i = 0; i < config->service_count; i++) {
        int rc = gm_agent_inherit(&config->arena, &config->header_options, &config->health,
                                  &config->services[i]);
        if (rc == -E2BIG)
            return gm_option_refuse(&gm_agent_program, context, 2,
                                    "--backend-header: more than %u fields for one service",
                                    GM_AGENT_HEADERS_MAX);
        if (rc < 0)
            return no_memory(context);
    }
    return GM_OPTIONS_READY;
}

static enum gm_option_result complete(struct gm_agent_config *config,
                                      struct gm_option_context *context)
{
    if (config->reconnect_min_ns > config->reconnect_max_ns)
        return gm_option_refuse(&gm_agent_program, context, 2,
                                "--reconnect-min is longer than --reconnect-max");
    enum gm_option_result result = config->service_options.count > 0
                                       ? many_services(config, context)
                                       : single_service(config, context);
    if (result == GM_OPTIONS_READY)
        result = inherit(config, context);
    if (result == GM_OPTIONS_READY)
        result = complete_tls(config, context);
    if (result == GM_OPTIONS_READY)
        result = complete_proxy(config, context);
    return result == GM_OPTIONS_READY ? give_tokens(config, context) : result;
}

enum gm_option_result gm_agent_config_load(struct gm_agent_config *config, int argc, char **argv,
                                           struct gm_option_context *context)
{
    struct gm_option_input input = {.argc = argc, .argv = argv, .context = context};
    memset(config, 0, sizeof *config);
    enum gm_option_result result =
        gm_option_parse(&gm_agent_program, &input, config, &config->arena);
    if (result == GM_OPTIONS_READY)
        result = complete(config, context);
    if (result != GM_OPTIONS_READY)
        gm_agent_config_fini(config);
    return result;
}

void gm_agent_config_fini(struct gm_agent_config *config)
{
    gm_arena_fini(&config->arena);
    memset(config, 0, sizeof *config);
}
