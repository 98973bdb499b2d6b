/*
 * `gimlet server`: its option table, and what must hold between options. Start-up, one thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "base/text.h"
#include "config/config.h"
#include "config/runtime_options.h"

#define FIELD(name) offsetof(struct gm_server_config, name)

static const char *check_listen_address(const char *value)
{
    struct in6_addr address;
    if (strcmp(value, "*") == 0 || inet_pton(AF_INET, value, &address) == 1 ||
        inet_pton(AF_INET6, value, &address) == 1)
        return NULL;
    return "is not an IPv4 or IPv6 address, or * for all";
}

/* It is a label of metrics and stands in what agents are told (GM_LINK_NAME_MAX of link/hello.h).
 */
#define SERVER_ID_MAX 255u

static const char *check_server_id(const char *value)
{
    size_t len = strlen(value);
    bool good = len <= SERVER_ID_MAX && gm_text_is_utf8(value, len);
    for (size_t i = 0; good && i < len; i++)
        good = (unsigned char)value[i] >= ' ' && value[i] != 0x7f;
    return good ? NULL : "is not a name of at most 255 bytes in UTF-8, without control characters";
}

static const struct gm_option_choice client_auth_names[] = {
    {"none", GM_CONFIG_CLIENTS_NONE},
    {"optional", GM_CONFIG_CLIENTS_OPTIONAL},
    {"require", GM_CONFIG_CLIENTS_REQUIRE},
    {NULL, 0},
};

static const struct gm_option_choice off_or_on[] = {{"off", 0}, {"on", 1}, {NULL, 0}};

static const struct gm_option options[] = {
    {.flag = "http-port",
     .argument = "PORT",
     .fallback = "8080",
     .group = "Listening",
     .help = "Port for clients and agents, 0 for any free one, or off",
     .kind = GM_OPTION_PORT,
     .flags = GM_OPTION_OFF,
     .offset = FIELD(http_port)},
    {.flag = "https-port",
     .argument = "PORT",
     .shown = "off",
     .help = "The same over TLS: https:// for clients, wss:// for agents",
     .kind = GM_OPTION_PORT,
     .flags = GM_OPTION_OFF,
     .offset = FIELD(https_port)},
    {.flag = "metrics-port",
     .argument = "PORT",
     .fallback = "9090",
     .help = "Port for /metrics and /debug/counters, or off",
     .kind = GM_OPTION_PORT,
     .flags = GM_OPTION_OFF,
     .offset = FIELD(metrics_port)},
    {.flag = "metrics-series-max",
     .argument = "N",
     .fallback = "5000",
     .help = "Series of request counts kept per ring; beyond it one that is labelled other",
     .kind = GM_OPTION_INTEGER,
     .offset = FIELD(metrics_series_max),
     .max = 100000},
    {.flag = "metrics-retention",
     .argument = "DURATION",
     .fallback = "10m",
     .help = "An idle series is left out so long after its last agent has gone",
     .kind = GM_OPTION_DURATION,
     .offset = FIELD(metrics_retention_ns),
     .max = GM_CONFIG_TIME_MAX},
    {.flag = "health-port",
     .argument = "PORT",
     .shown = "the main port",
     .help = "Port to which /health and /status move, without TLS",
     .kind = GM_OPTION_PORT,
     .flags = GM_OPTION_OFF,
     .offset = FIELD(health_port)},
    {.flag = "listen-address",
     .argument = "ADDRESS",
     .fallback = "*",
     .shown = "*, all of IPv4 and IPv6",
     .help = "Address to listen on",
     .check = check_listen_address,
     .offset = FIELD(listen_address)},
    {.flag = "server-id",
     .argument = "ID",
     .shown = "random at each start",
     .help = "Name of this server in logs and towards agents",
     .check = check_server_id,
     .offset = FIELD(server_id)},
    {.flag = "tls-cert",
     .argument = "FILE",
     .group = "TLS (files are read again when they change)",
     .help = "Certificate of the TLS port in PEM, followed by its intermediates",
     .offset = FIELD(tls_cert)},
    {.flag = "tls-key",
     .argument = "FILE",
     .help = "Its private key in PEM",
     .offset = FIELD(tls_key)},
    {.flag = "tls-dir",
     .argument = "DIR",
     .help = "Folder of pairs NAME.crt (or NAME.pem) and NAME.key: each serves the names in its "
             "certificate. Other names get --tls-cert, or the first pair",
     .offset = FIELD(tls_dir)},
    {.flag = "tls-client-ca",
     .argument = "FILE",
     .help = "Certificates in PEM that sign those of clients and agents. The subject is passed on "
             "as X-Forwarded-Client-Cert",
     .offset = FIELD(tls_client_ca)},
    {.flag = "tls-client-crl",
     .argument = "FILE",
     .shown = "none",
     .help = "Revocation lists in PEM for certificates of clients and agents: one that its "
             "issuer's list names is refused, and so is what it has issued. Issuers without a list "
             "in the file are believed; a list that has expired still counts, with a warning",
     .offset = FIELD(tls_client_crl)},
    {.flag = "tls-client-auth",
     .argument = "none|optional|require",
     .shown = "require with --tls-client-ca, else none",
     .help = "Whether clients and agents on the TLS port are asked for a certificate",
     .kind = GM_OPTION_CHOICE,
     .choices = client_auth_names,
     .offset = FIELD(tls_client_auth)},
    GM_TLS_ROWS(struct gm_server_config),
    {.flag = "proxy-protocol",
     .argument = "off|on",
     .fallback = "off",
     .group = "Behind load balancers",
     .help = "on: each connection to the ports for clients and agents must begin with a PROXY "
             "header, version 1 or 2, also before TLS; one without is closed",
     .kind = GM_OPTION_CHOICE,
     .choices = off_or_on,
     .offset = FIELD(proxy_protocol)},
    {.flag = "trusted-proxies",
     .argument = "CIDR[,CIDR...]",
     .shown = "everybody's are kept",
     .help = "Clients whose X-Forwarded-* and Forwarded fields are kept and extended; those of "
             "others are replaced. none: nobody's are kept. Where it is set, only these may send a "
             "PROXY header",
     .flags = GM_OPTION_TRIM,
     .offset = FIELD(trusted_proxies_text)},
    {.flag = "token-public-key-file",
     .argument = "FILE",
     .group = "Tokens (a key is required; files are read again when they change)",
     .help = "RSA public key in PEM that tokens are checked with",
     .offset = FIELD(token_public_key_file)},
    {.flag = "token-public-key-dir",
     .argument = "DIR",
     .help =
         "Folder of such keys (*.pem, *.pub): a token signed by any is good. Wins over the file",
     .offset = FIELD(token_public_key_dir)},
    {.flag = "token-public-key",
     .argument = "PEM",
     .help = "The key itself. The file and the folder win over it",
     .offset = FIELD(token_public_key)},
    {.flag = "token-jwks",
     .argument = "FILE|URL",
     .help =
         "JWK Set whose RSA keys for signatures are good, too: a file, or an http:// or https:// "
         "address. The last set that was good is kept",
     .offset = FIELD(token_jwks)},
    {.flag = "token-jwks-refresh",
     .argument = "DURATION",
     .fallback = "5m",
     .help = "The address is asked again so often, and soon when a token names an unknown key "
             "(kid), at most every 30 s",
     .kind = GM_OPTION_DURATION,
     .offset = FIELD(token_jwks_refresh_ns),
     .min = GM_SECONDS(1),
     .max = GM_CONFIG_TIME_MAX},
    {.flag = "token-jwks-ca-file",
     .argument = "FILE",
     .shown = "the system's",
     .help = "Certificates in PEM that sign the address's",
     .offset = FIELD(token_jwks_ca_file)},
    {.flag = "token-issuer",
     .argument = "ISSUER",
     .fallback = "gimlet",
     .help = "Issuer that a token must name",
     .offset = FIELD(token_issuer)},
    {.flag = "header-timeout",
     .argument = "DURATION",
     .fallback = "30s",
     .group = "Times (a bare number is seconds, 0 switches a limit off)",
     .help = "A request head must be complete by then",
     .kind = GM_OPTION_DURATION,
     .offset = FIELD(header_timeout_ns),
     .max = GM_CONFIG_TIME_MAX},
    {.flag = "body-timeout",
     .argument = "DURATION",
     .fallback = "60s",
     .help = "Longest silence of a client that is sending a body",
     .kind = GM_OPTION_DURATION,
     .offset = FIELD(body_timeout_ns),
     .max = GM_CONFIG_TIME_MAX},
    {.flag = "idle-timeout",
     .argument = "DURATION",
     .fallback = "10m",
     .help = "Longest silence of a backend that is answering",
     .kind = GM_OPTION_DURATION,
     .offset = FIELD(idle_timeout_ns),
     .max = GM_CONFIG_TIME_MAX},
    {.flag = "keepalive-timeout",
     .argument = "DURATION",
     .fallback = "620s",
     .help =
         "A client connection without a request is closed then; longer than the 600 s of common "
         "load balancers",
     .kind = GM_OPTION_DURATION,
     .offset = FIELD(keepalive_timeout_ns),
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
     .fallback = "1000",
     .group = "Limits",
     .help = "Requests in progress, 0 or less for no limit",
     .kind = GM_OPTION_INTEGER,
     .flags = GM_OPTION_NEGATIVE_ZERO,
     .offset = FIELD(max_concurrent_requests),
     .max = GM_CONFIG_REQUESTS_MAX},
    {.flag = "queue-size",
     .argument = "N",
     .fallback = "0",
     .help = "Requests of each service that may wait for a place under these limits and the "
             "agents', first come, first served; 0: none, they get 429",
     .kind = GM_OPTION_INTEGER,
     .offset = FIELD(queue_size),
     .max = GM_CONFIG_QUEUE_MAX},
    {.flag = "queue-timeout",
     .argument = "DURATION",
     .fallback = "10s",
     .help = "Longest wait in the queue",
     .kind = GM_OPTION_DURATION,
     .offset = FIELD(queue_timeout_ns),
     .min = GM_SECONDS(1) / 100,
     .max = GM_CONFIG_TIME_MAX},
    {.flag = "header-bytes",
     .argument = "SIZE",
     .fallback = "64KiB",
     .help = "Longest request head",
     .kind = GM_OPTION_SIZE,
     .offset = FIELD(header_bytes),
     .min = GM_KIB(1),
     .max = GM_CONFIG_HEADER_BYTES_MAX},
    {.flag = "stream-limit",
     .argument = "N",
     .fallback = "4096",
     .help = "Requests in progress on one agent link",
     .kind = GM_OPTION_INTEGER,
     .offset = FIELD(stream_limit),
     .min = 1,
     .max = GM_CONFIG_STREAMS_MAX},
    {.flag = "response-buffer-size",
     .argument = "N",
     .help = "Taken from 0.0.x and without effect: what a response may hold here is counted in "
             "bytes, out of --ring-memory",
     .check = gm_config_check_frames,
     .offset = FIELD(response_buffer_size)},
    {.flag = "lanes",
     .argument = "N",
     .fallback = "0",
     .shown = "as many as rings, at most 4",
     .help = "Links that each agent opens to this server",
     .kind = GM_OPTION_INTEGER,
     .offset = FIELD(lanes),
     .max = GM_CONFIG_LANES_MAX},
    {.flag = "peers",
     .argument = "N",
     .fallback = "0",
     .shown = "0, not known",
     .help = "Servers behind the agents' address, this one included: agents stop looking for more "
             "once they have found so many. Without it they find out by trying",
     .kind = GM_OPTION_INTEGER,
     .offset = FIELD(peers),
     .max = GM_CONFIG_PEERS_MAX},
    {.flag = "access-log",
     .argument = "off|FILE|-",
     .shown = "off",
     .group = "Access log",
     .help = "File to which each request adds a line of JSON, or - for standard output. It is "
             "opened again when it has been moved away",
     .offset = FIELD(access_log)},
    {.flag = "access-log-query",
     .help = "With the queries of the paths, which may hold what is not for logs",
     .kind = GM_OPTION_SWITCH,
     .offset = FIELD(access_log_query)},
    GM_RUNTIME_ROWS(struct gm_server_config),
};

const struct gm_option_program gm_server_program = {
    .name = "gimlet server",
    .old_name = "gimlet-server",
    .summary =
        "Takes HTTP requests and agent links, and carries each request to an agent's backend.",
    .epilogue = "Examples:\n"
                "  gimlet server --http-port 8080 --token-public-key-file gimlet.pub\n"
                "  gimlet server --http-port off --https-port 8443 --tls-cert cert.pem \\\n"
                "                --tls-key key.pem --token-public-key-file gimlet.pub",
    .env_prefix = "GIMLET_SERVER_",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
};

/* Eight random hex digits, as in version 0.0.x. */
static const char *random_id(struct gm_arena *arena)
{
    uint32_t bits;
    char text[9];
    if (getrandom(&bits, sizeof bits, 0) != (ssize_t)sizeof bits)
        return NULL;
    (void)snprintf(text, sizeof text, "%08x", bits);
    return gm_arena_text(arena, text, sizeof text - 1);
}

static enum gm_option_result complete_proxies(struct gm_server_config *config,
                                              struct gm_option_context *context)
{
    const char *text = config->trusted_proxies_text, *wrong;
    if (text == NULL)
        return GM_OPTIONS_READY;
    int rc = gm_cidr_parse(text, &config->arena, &config->trusted_proxies, &wrong);
    if (rc == 0 && config->proxy_protocol == 1 && config->trusted_proxies.count == 0)
        return gm_option_refuse(&gm_server_program, context, 2,
                                "--trusted-proxies none lets nobody send the header that "
                                "--proxy-protocol on asks for: name the load balancers");
    if (rc == 0)
        return GM_OPTIONS_READY;
    if (rc == -ENOMEM)
        return gm_option_refuse(&gm_server_program, context, 1, "out of memory");
    if (rc == -E2BIG)
        return gm_option_refuse(&gm_server_program, context, 2,
                                "--trusted-proxies: more than %u networks", GM_CIDR_MAX);
    size_t shown = strcspn(wrong, ",");
    if (shown > INET6_ADDRSTRLEN)
        shown = INET6_ADDRSTRLEN;
    return gm_option_refuse(&gm_server_program, context, 2, "--trusted-proxies: \"%.*s\" %s",
                            (int)shown, wrong,
                            rc == -ERANGE ? "has address bits set behind its prefix"
                                          : "is not a network (10.0.0.0/8, 2001:db8::/32)");
}

/* What is wrong with the TLS options together, or NULL. Files are looked at when they are loaded.
 */
static const char *check_tls(const struct gm_server_config *config)
{
    bool any = config->tls_cert != NULL || config->tls_key != NULL || config->tls_dir != NULL ||
               config->tls_client_ca != NULL || config->tls_client_crl != NULL ||
               config->tls_client_auth != GM_CONFIG_CLIENTS_UNSAID;
    bool asks = config->tls_client_auth == GM_CONFIG_CLIENTS_OPTIONAL ||
                config->tls_client_auth == GM_CONFIG_CLIENTS_REQUIRE;
    if (config->https_port < 0 && config->http_port < 0)
        return "--http-port is off and there is no --https-port: nobody could connect";
    if (config->https_port < 0 && any)
        return "the --tls-* options are for --https-port, which is off: name a port";
    if (config->tls_cert != NULL && config->tls_key == NULL)
        return "--tls-cert needs --tls-key: the private key of that certificate";
    if (config->tls_key != NULL && config->tls_cert == NULL)
        return "--tls-key needs --tls-cert: the certificate of that key";
    if (config->https_port >= 0 && config->tls_cert == NULL && config->tls_dir == NULL)
        return "--https-port needs a certificate: --tls-cert and --tls-key, or --tls-dir";
    if (asks && config->tls_client_ca == NULL)
        return "--tls-client-auth needs --tls-client-ca: whose certificates are good?";
    if (config->tls_client_crl != NULL &&
        (config->tls_client_ca == NULL || config->tls_client_auth == GM_CONFIG_CLIENTS_NONE))
        return "--tls-client-crl is for certificates of clients, and none is asked for: name "
               "--tls-client-ca, without --tls-client-auth none";
    return NULL;
}

static enum gm_option_result complete_tls(struct gm_server_config *config,
                                          struct gm_option_context *context)
{
    const char *wrong = check_tls(config);
    if (wrong != NULL)
        return gm_option_refuse(&gm_server_program, context, 2, "%s", wrong);
    if (config->tls_client_auth == GM_CONFIG_CLIENTS_UNSAID)
        config->tls_client_auth =
            config->tls_client_ca != NULL ? GM_CONFIG_CLIENTS_REQUIRE : GM_CONFIG_CLIENTS_NONE;
    return GM_OPTIONS_READY;
}

static enum gm_option_result complete(struct gm_server_config *config,
                                      struct gm_option_context *context)
{
    if (config->token_jwks_ca_file != NULL &&
        (config->token_jwks == NULL || strncasecmp(config->token_jwks, "https://", 8) != 0))
        return gm_option_refuse(&gm_server_program, context, 2,
                                "--token-jwks-ca-file is for an https:// address of --token-jwks");
    if (config->token_public_key_file == NULL && config->token_public_key_dir == NULL &&
        config->token_public_key == NULL && config->token_jwks == NULL)
        return gm_option_refuse(&gm_server_program, context, 1,
                                "Configuration error: no key to check tokens with; one of "
                                "--token-public-key-file, --token-public-key-dir, "
                                "--token-public-key and --token-jwks is required");
    if (complete_tls(config, context) != GM_OPTIONS_READY ||
        complete_proxies(config, context) != GM_OPTIONS_READY)
        return GM_OPTIONS_EXIT;
    if (config->access_log != NULL && strcasecmp(config->access_log, "off") == 0)
        config->access_log = NULL;
    if (config->access_log == NULL && config->access_log_query)
        return gm_option_refuse(&gm_server_program, context, 2,
                                "--access-log-query is for --access-log, which is off");
    if (config->server_id == NULL)
        config->server_id = random_id(&config->arena);
    if (config->server_id == NULL)
        return gm_option_refuse(&gm_server_program, context, 1,
                                "cannot make a server id: no random numbers or no memory");
    return GM_OPTIONS_READY;
}

enum gm_option_result gm_server_config_load(struct gm_server_config *config, int argc, char **argv,
                                            struct gm_option_context *context)
{
    struct gm_option_input input = {.argc = argc, .argv = argv, .context = context};
    memset(config, 0, sizeof *config);
    enum gm_option_result result =
        gm_option_parse(&gm_server_program, &input, config, &config->arena);
    if (result == GM_OPTIONS_READY)
        result = complete(config, context);
    config->old_name = context->called != NULL;
    if (result != GM_OPTIONS_READY)
        gm_server_config_fini(config);
    return result;
}

void gm_server_config_fini(struct gm_server_config *config)
{
    gm_arena_fini(&config->arena);
    memset(config, 0, sizeof *config);
}
