/*
 * `gimlet agent`: its option table, and how its services are put together. Start-up, one thread.
 *
 * One service is `--target-url` with a token; several are `--service name=target,token-file=FILE`,
 * one flag each, so that a service and its token cannot be mismatched.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "config/config.h"
#include "config/runtime_options.h"

#define FIELD(name) offsetof(struct gm_agent_config, name)

#define TARGET_DEFAULT "http://backend:8000"
#define TOKEN_FILE_KEY ",token-file="

static bool starts_with(const char *text, const char *prefix)
{
    return strncasecmp(text, prefix, strlen(prefix)) == 0;
}

static const char *check_server_url(const char *value)
{
    if (starts_with(value, "wss://"))
        return "asks for TLS to the server, which is not supported; use ws://";
    const char *rest = starts_with(value, "ws://") ? value + 5 : "";
    return rest[0] != '\0' && rest[0] != '/' ? NULL : "is not a ws:// URL";
}

/* The target's own grammar is http/target.h's business; here only what it can be at all. */
static const char *check_target(const char *value)
{
    if (starts_with(value, "https://"))
        return "asks for TLS to the backend, which is not supported; use http:// or unix:";
    if (starts_with(value, "unix:"))
        return value[5] == '/' ? NULL : "is not a socket path: unix:/path is expected";
    if (strstr(value, "://") != NULL && !starts_with(value, "http://"))
        return "is not a target: http://host[:port][/prefix] or unix:/path is expected";
    const char *host = starts_with(value, "http://") ? value + 7 : value;
    return *host != '\0' && *host != '/' && *host != ':' ? NULL : "names no host";
}

static const char *check_service(const char *value)
{
    const char *target = strchr(value, '=');
    if (target == NULL || target == value || target[1] == '\0' || target[1] == ',')
        return "is not of the form NAME=TARGET[,token-file=FILE]";
    if (memchr(value, '/', (size_t)(target - value)) != NULL)
        return "has a / in its service name";
    const char *file = strstr(target, TOKEN_FILE_KEY);
    if (file != NULL && file[strlen(TOKEN_FILE_KEY)] == '\0')
        return "has an empty token-file";
    return check_target(target + 1);
}

static const struct gm_option options[] = {
    {.flag = "server-url",
     .argument = "URL",
     .fallback = "ws://server:8080/agent",
     .group = "Link and services",
     .help = "Where the server listens for agents",
     .check = check_server_url,
     .flags = GM_OPTION_TRIM,
     .offset = FIELD(server_url)},
    {.flag = "target-url",
     .argument = "URL",
     .shown = TARGET_DEFAULT,
     .help =
         "The backend of a single service: http://host[:port][/prefix] or unix:/path. The token "
         "says which service it is",
     .check = check_target,
     .flags = GM_OPTION_TRIM,
     .offset = FIELD(target_url)},
    {.flag = "service",
     .argument = "NAME=TARGET[,token-file=FILE]",
     .help = "A service and its backend, instead of --target-url. Without token-file it uses "
             "--token-file "
             "or --token, which only one service can",
     .kind = GM_OPTION_REPEAT,
     .check = check_service,
     .offset = FIELD(service_options)},
    {.flag = "token-file",
     .argument = "FILE",
     .help = "File with the agent's token. Wins over --token",
     .flags = GM_OPTION_TRIM,
     .offset = FIELD(token_file)},
    {.flag = "token",
     .argument = "TOKEN",
     .help = "The token itself; others on the machine can see a flag",
     .flags = GM_OPTION_TRIM | GM_OPTION_SECRET,
     .offset = FIELD(token)},
    {.flag = "metrics-port",
     .argument = "PORT",
     .shown = "off",
     .help = "Port for /debug/counters",
     .kind = GM_OPTION_PORT,
     .flags = GM_OPTION_OFF,
     .offset = FIELD(metrics_port)},
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
     .fallback = "15s",
     .help = "Longest wait between attempts",
     .kind = GM_OPTION_DURATION,
     .offset = FIELD(reconnect_max_ns),
     .min = GM_SECONDS(1) / 1000,
     .max = GM_CONFIG_TIME_MAX},
    {.flag = "shutdown-timeout",
     .argument = "DURATION",
     .fallback = "30s",
     .shown = "30s; 0 ends at once",
     .help = "Requests still running that long after a stop signal are cut",
     .kind = GM_OPTION_DURATION,
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
    GM_RUNTIME_ROWS(struct gm_agent_config),
};

const struct gm_option_program gm_agent_program = {
    .name = "gimlet agent",
    .summary =
        "Dials a server and answers its requests from backends beside it. Opens no public port.",
    .epilogue = "Examples:\n"
                "  gimlet agent --server-url ws://gateway:8080/agent --target-url "
                "http://127.0.0.1:8000 \\\n"
                "               --token-file agent.token\n"
                "  gimlet agent --server-url ws://gateway:8080/agent \\\n"
                "               --service llm=http://127.0.0.1:8000,token-file=llm.token \\\n"
                "               --service tts=unix:/run/tts.sock,token-file=tts.token\n"
                "In $GIMLET_AGENT_SERVICE services are separated by white space.",
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

/* `host:port` was enough for version 0.0.x: it is completed. NULL when memory is out. */
static const char *full_target(struct gm_arena *arena, const char *text, size_t len)
{
    bool complete = starts_with(text, "http://") || starts_with(text, "unix:");
    const char *prefix = complete ? "" : "http://";
    size_t prefix_len = strlen(prefix);
    char *target = gm_arena_alloc(arena, prefix_len + len + 1);
    if (target != NULL) {
        memcpy(target, prefix, prefix_len);
        memcpy(target + prefix_len, text, len);
    }
    return target;
}

/* NAME=TARGET[,token-file=FILE], already checked. The last `,token-file=` counts: a URL may hold a
 * comma. Returns 0 or -ENOMEM. */
static int split_service(struct gm_arena *arena, const char *item, struct gm_agent_service *service)
{
    const char *target = strchr(item, '=') + 1;
    const char *end = strstr(target, TOKEN_FILE_KEY);
    size_t target_len = end != NULL ? (size_t)(end - target) : strlen(target);
    service->name = gm_arena_text(arena, item, (size_t)(target - item) - 1);
    service->target = full_target(arena, target, target_len);
    service->token_file = end != NULL ? end + strlen(TOKEN_FILE_KEY) : NULL;
    return service->name != NULL && service->target != NULL ? 0 : -ENOMEM;
}

static enum gm_option_result single_service(struct gm_agent_config *config,
                                            struct gm_option_context *context)
{
    const char *target = config->target_url != NULL ? config->target_url : TARGET_DEFAULT;
    struct gm_agent_service *service = gm_arena_alloc(&config->arena, sizeof *service);
    if (service == NULL)
        return no_memory(context);
    service->target = full_target(&config->arena, target, strlen(target));
    if (service->target == NULL)
        return no_memory(context);
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
    config->services = gm_arena_alloc(&config->arena, list->count * sizeof *config->services);
    if (config->services == NULL)
        return no_memory(context);
    for (size_t i = 0; i < list->count; i++) {
        struct gm_agent_service *service = &config->services[i];
        if (split_service(&config->arena, list->items[i], service) < 0)
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

static enum gm_option_result complete(struct gm_agent_config *config,
                                      struct gm_option_context *context)
{
    if (config->reconnect_min_ns > config->reconnect_max_ns)
        return gm_option_refuse(&gm_agent_program, context, 2,
                                "--reconnect-min is longer than --reconnect-max");
    enum gm_option_result result = config->service_options.count > 0
                                       ? many_services(config, context)
                                       : single_service(config, context);
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
