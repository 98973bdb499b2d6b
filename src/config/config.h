/*
 * The configuration of `gimlet server` and `gimlet agent`: plain structs, read once at start.
 *
 * The tables in server_config.c and agent_config.c are the only place where an option's flag,
 * variable, default, limit and help are written; config/option.h is the engine behind them.
 * Texts belong to the struct's arena and live until _fini. Times are nanoseconds, sizes bytes; a
 * time of 0 switches the limit off. Nothing here opens a file or a socket.
 */
#ifndef GM_CONFIG_CONFIG_H
#define GM_CONFIG_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "config/cidr.h"
#include "config/codes.h"
#include "config/option.h"
#include "config/proxy.h"

/* More rings than cores of any machine we know of; more lanes than balancing profits from. */
#define GM_CONFIG_RINGS_MAX 256
#define GM_CONFIG_LANES_MAX 64
/* More servers than anybody puts behind one address. */
#define GM_CONFIG_PEERS_MAX 1024
/* A stream id holds 16 bits of slot (src/frame/PROTOCOL.md). */
#define GM_CONFIG_STREAMS_MAX 65535
/* A frame's head block is at most 65,535 bytes long, and a head is no larger than its block. */
#define GM_CONFIG_HEADER_BYTES_MAX 65536
#define GM_CONFIG_SERVICES_MAX     64
/* More than all rings together hold requests. */
#define GM_CONFIG_QUEUE_MAX INT64_C(1000000)

enum gm_config_io {
    GM_CONFIG_IO_AUTO, /* io_uring, or epoll where io_uring is refused */
    GM_CONFIG_IO_URING,
    GM_CONFIG_IO_EPOLL,
};

/* Whether clients of the TLS port show certificates. */
enum gm_config_client_auth {
    GM_CONFIG_CLIENTS_UNSAID, /* not after gm_server_config_load */
    GM_CONFIG_CLIENTS_NONE,
    GM_CONFIG_CLIENTS_OPTIONAL,
    GM_CONFIG_CLIENTS_REQUIRE,
};

/* What both programs share: the ring runtime and the log. */
struct gm_runtime_config {
    int io;                 /* enum gm_config_io */
    const char *io_disable; /* comma-separated feature names or "all"; NULL = none. The ring knows
                               the names. */
    int64_t rings;          /* 0 = as many as the process may use cores */
    uint64_t ring_memory_bytes; /* budget per ring for buffers and credit */
    int log_level;              /* enum gm_log_level */
    int log_format;             /* enum gm_log_format */
    int64_t log_rate;           /* lines per second and call site; 0 = no limit */
};

struct gm_server_config {
    struct gm_runtime_config runtime;
    const char
        *listen_address; /* "*" = every address, IPv4 and IPv6; else an IPv4 or IPv6 literal */
    int32_t http_port;   /* -1 = off: then https_port is not */
    int32_t https_port;  /* -1 = off */
    const char *tls_cert, *tls_key; /* files; both or neither */
    const char *tls_dir;            /* NULL, or a folder of pairs. One of the two when there is
                                       an https_port */
    const char *tls_client_ca;      /* NULL: no certificate is asked for */
    const char *tls_client_crl;     /* NULL: none is revoked. With tls_client_ca */
    int tls_client_auth;            /* enum gm_config_client_auth */
    bool allow_slow_tls;            /* without AES in hardware, too */
    int kernel_tls;                 /* records by the kernel where it can */
    int32_t metrics_port;           /* -1 = off */
    int64_t metrics_series_max;     /* rows of request counts, per ring */
    uint64_t metrics_retention_ns;  /* what is idle and without agent for so long is left out */
    int32_t health_port;            /* -1 = /health is on the main port */
    const char *server_id;          /* never NULL: eight random hex digits unless given */
    const char
        *token_public_key_file; /* NULL = unset. At least one of the three or token_jwks is set; */
    const char *token_public_key_dir; /* the directory wins over the file, the file over the text */
    const char *token_public_key;     /* PEM text */
    const char *token_jwks;           /* NULL, or a file or http(s):// address */
    const char *token_jwks_ca_file;   /* NULL: the system's roots. Only with an https:// address */
    uint64_t token_jwks_refresh_ns;   /* at least a second */
    const char *token_issuer;
    int64_t lanes;                    /* links per agent; 0 = min(rings, 4) */
    int64_t peers;                    /* servers behind the agents' address; 0 = not known */
    int64_t stream_limit;             /* open streams per link */
    int64_t max_concurrent_requests;  /* 0 = no limit */
    const char *response_buffer_size; /* NULL = unset; of no use but to say so */
    bool old_name;                    /* started as gimlet-server */
    int64_t queue_size;               /* requests of a service that may wait; 0 = none */
    uint64_t queue_timeout_ns;        /* longest wait */
    const char *access_log;           /* NULL: off; "-": standard output; else a file */
    bool access_log_query;            /* with the queries of targets */
    uint64_t header_bytes;            /* longest request head */
    uint64_t header_timeout_ns;       /* a request head must be complete by then */
    uint64_t body_timeout_ns;      /* longest silence of a client that owes body bytes; 0 = off */
    uint64_t idle_timeout_ns;      /* longest silence of a backend that owes an answer; 0 = off */
    uint64_t keepalive_timeout_ns; /* longest idle time of a client connection between requests */
    uint64_t shutdown_timeout_ns;  /* running streams are reset then */
    int proxy_protocol;            /* 1: public connections begin with a PROXY header */
    const char *trusted_proxies_text; /* NULL: nobody has said whom to trust, `trusted_proxies` is
                                         empty and everybody's forwarding fields are kept */
    struct gm_cidr_list trusted_proxies;
    struct gm_arena arena;
};

/* Whom an agent trusts behind TLS, and who it is there. */
struct gm_agent_tls {
    const char *ca_file;                  /* NULL: the system's roots */
    const char *crl_file;                 /* NULL: nothing is revoked */
    const char *server_name;              /* NULL: the URL's host */
    const char *client_cert, *client_key; /* both or neither */
    bool insecure;                        /* nobody is checked; without ca_file, crl_file */
};

/* Fields of one service that are set in its requests. */
#define GM_AGENT_HEADERS_MAX 16u

/* A field of every request to a backend; one of `value` and `file` is NULL. */
struct gm_agent_header {
    const char *name;
    const char *value; /* a secret: not for the log */
    const char *file;  /* holds the value */
};

/* How a backend's health is checked. */
struct gm_agent_health {
    const char *path; /* NULL: not at all */
    const char *codes_text;
    struct gm_codes codes; /* what a healthy one answers; of a service only */
    uint64_t interval_ns, timeout_ns;
    int64_t failure_threshold, success_threshold; /* in a row, at least 1 */
};

/* One service of an agent. */
struct gm_agent_service {
    const char *name;   /* NULL in the single-service form: the token says which service it is */
    const char *target; /* http(s)://host[:port][/prefix] or unix:/path; `host:port` was completed
                           to http:// */
    struct gm_agent_tls tls; /* only with https:// */
    const char *token_file;  /* NULL = use `token` */
    const char *token;       /* NULL = use `token_file`; one of the two is set */
    struct gm_agent_header *headers;
    size_t header_count;
    struct gm_agent_health health;
};

struct gm_agent_config {
    struct gm_runtime_config runtime;
    const char *server_url;       /* ws:// or wss:// */
    struct gm_agent_tls tls;      /* only with wss:// */
    bool allow_slow_tls;          /* without AES in hardware, too */
    int kernel_tls;               /* records by the kernel where it can */
    struct gm_proxy_choice proxy; /* towards the server, from the environment */
    struct gm_agent_service *services;
    size_t service_count;            /* at least 1 */
    int32_t metrics_port;            /* -1 = off */
    int32_t health_port;             /* -1 = off */
    int64_t max_concurrent_requests; /* of the process; 0 = no limit */
    const char *request_buffer_size; /* NULL = unset; of no use but to say so */
    uint64_t connect_timeout_ns;
    uint64_t backend_idle_timeout_ns;    /* a pooled backend connection is closed then */
    uint64_t response_header_timeout_ns; /* from the request's end to the answer's head; 0 = off */
    uint64_t reconnect_min_ns; /* ceilings of the first and of the longest wait between dials */
    uint64_t reconnect_max_ns;
    uint64_t connection_check_interval_ns; /* between looks for more servers; 0 = none */
    uint64_t shutdown_timeout_ns;
    struct gm_arena arena;

    /* Raw options behind `services`; of no use to others. */
    struct gm_option_list service_options, header_options;
    struct gm_agent_health health;
    struct gm_agent_tls backend_tls;
    const char *target_url, *token_file, *token;
};

/* Reads flags and environment. argv[0] is the subcommand's name. GM_OPTIONS_READY: *config is
 * complete and valid. GM_OPTIONS_EXIT: help or a refusal was printed, end with context->exit_code
 * (0 help, 2 an option is unknown or unusable, 1 something required is missing); *config needs no
 * _fini but accepts it.
 *
 *     struct gm_option_context context = gm_option_process();
 *     if (gm_server_config_load(&config, argc, argv, &context) != GM_OPTIONS_READY)
 *         return context.exit_code;
 */
__attribute__((warn_unused_result)) enum gm_option_result
gm_server_config_load(struct gm_server_config *config, int argc, char **argv,
                      struct gm_option_context *context);
__attribute__((warn_unused_result)) enum gm_option_result
gm_agent_config_load(struct gm_agent_config *config, int argc, char **argv,
                     struct gm_option_context *context);

/* Frees the texts. Accept a zeroed struct. */
void gm_server_config_fini(struct gm_server_config *config);
void gm_agent_config_fini(struct gm_agent_config *config);

/* The option tables, for help and documentation. */
extern const struct gm_option_program gm_server_program;
extern const struct gm_option_program gm_agent_program;

#endif
