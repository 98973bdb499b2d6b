/*
 * The rows that both programs' option tables share: the ring runtime and the log. Private to
 * config/.
 */
#ifndef GM_CONFIG_RUNTIME_OPTIONS_H
#define GM_CONFIG_RUNTIME_OPTIONS_H

#include <stddef.h>

#include "config/config.h"

#define GM_SECONDS(n) ((int64_t)(n)*INT64_C(1000000000))
#define GM_KIB(n)     ((int64_t)(n) << 10)
#define GM_MIB(n)     ((int64_t)(n) << 20)
#define GM_GIB(n)     ((int64_t)(n) << 30)

/* Ten years: whoever means "never" writes some large number, and it still adds to any clock. */
#define GM_CONFIG_TIME_MAX GM_SECONDS(3650 * 86400)
/* Concurrent requests: more than a process may hold descriptors, and still a signed 32-bit number.
 */
#define GM_CONFIG_REQUESTS_MAX INT64_C(1000000000)
/* Health checks: more often than ten times a second is a load, less than daily no check, and nobody
 * counts to a thousand. */
#define GM_CONFIG_HEALTH_TIME_MIN      (GM_SECONDS(1) / 10)
#define GM_CONFIG_HEALTH_TIME_MAX      GM_SECONDS(86400)
#define GM_CONFIG_HEALTH_THRESHOLD_MAX 1000
/* One ring's memory: below 4 MiB its buffer pools do not fit; 64 GiB is a whole machine. */
#define GM_CONFIG_RING_MEMORY_MIN GM_MIB(8)
#define GM_CONFIG_RING_MEMORY_MAX GM_GIB(64)
#define GM_CONFIG_LOG_RATE_MAX    1000000

extern const struct gm_option_choice gm_config_io_names[];
extern const struct gm_option_choice gm_config_level_names[];
extern const struct gm_option_choice gm_config_format_names[];
extern const struct gm_option_choice gm_config_auto_or_off[];

/* Judges a number of frames, which 0.0.x counted its buffers in. */
const char *gm_config_check_frames(const char *value);

/* How TLS is done, whoever speaks it: fields `allow_slow_tls` and `kernel_tls` of the program's
 * struct. */
#define GM_TLS_ROWS(config)                                                                        \
    {.flag = "allow-slow-tls",                                                                     \
     .help = "Start also where AES is not done in hardware: TLS costs forty times as much there",  \
     .kind = GM_OPTION_SWITCH,                                                                     \
     .offset = offsetof(config, allow_slow_tls)},                                                  \
    {                                                                                              \
        .flag = "kernel-tls", .argument = "auto|off", .fallback = "auto",                          \
        .help = "Let the kernel seal and open TLS records where it can (module tls; TLS 1.3 from " \
                "Linux 6.14 on)",                                                                  \
        .kind = GM_OPTION_CHOICE, .choices = gm_config_auto_or_off,                                \
        .offset = offsetof(config, kernel_tls)                                                     \
    }

/* `config` is the program's struct, with the shared part in its field `runtime`. */
#define GM_RUNTIME_ROWS(config)                                                                    \
    {.flag = "io",                                                                                 \
     .argument = "BACKEND",                                                                        \
     .fallback = "auto",                                                                           \
     .group = "Runtime",                                                                           \
     .help = "uring, epoll, or auto: io_uring where the system allows it",                         \
     .kind = GM_OPTION_CHOICE,                                                                     \
     .choices = gm_config_io_names,                                                                \
     .offset = offsetof(config, runtime.io)},                                                      \
        {.flag = "io-disable",                                                                     \
         .argument = "LIST",                                                                       \
         .help = "Optional kernel features to leave unused: names from the start-up log line "     \
                 "with commas between, or all",                                                    \
         .offset = offsetof(config, runtime.io_disable)},                                          \
        {.flag = "rings",                                                                          \
         .argument = "N",                                                                          \
         .fallback = "0",                                                                          \
         .shown = "one per usable core",                                                           \
         .help = "Threads that carry traffic",                                                     \
         .kind = GM_OPTION_INTEGER,                                                                \
         .offset = offsetof(config, runtime.rings),                                                \
         .max = GM_CONFIG_RINGS_MAX},                                                              \
        {.flag = "ring-memory",                                                                    \
         .argument = "SIZE",                                                                       \
         .fallback = "64MiB",                                                                      \
         .help = "Budget of each ring for buffers and credit",                                     \
         .kind = GM_OPTION_SIZE,                                                                   \
         .offset = offsetof(config, runtime.ring_memory_bytes),                                    \
         .min = GM_CONFIG_RING_MEMORY_MIN,                                                         \
         .max = GM_CONFIG_RING_MEMORY_MAX},                                                        \
        {.flag = "log-level",                                                                      \
         .argument = "LEVEL",                                                                      \
         .fallback = "INFO",                                                                       \
         .group = "Log",                                                                           \
         .help = "DEBUG, INFO, WARN or ERROR",                                                     \
         .env_also = "GIMLET_LOG_LEVEL",                                                           \
         .kind = GM_OPTION_CHOICE,                                                                 \
         .choices = gm_config_level_names,                                                         \
         .offset = offsetof(config, runtime.log_level)},                                           \
        {.flag = "log-format",                                                                     \
         .argument = "FORMAT",                                                                     \
         .fallback = "json",                                                                       \
         .help = "json, or console for people",                                                    \
         .env_also = "GIMLET_LOG_FORMAT",                                                          \
         .kind = GM_OPTION_CHOICE,                                                                 \
         .choices = gm_config_format_names,                                                        \
         .offset = offsetof(config, runtime.log_format)},                                          \
    {                                                                                              \
        .flag = "log-rate", .argument = "N", .fallback = "20",                                     \
        .help = "Lines per second that one place in the program may log, 0 for no limit",          \
        .kind = GM_OPTION_INTEGER, .offset = offsetof(config, runtime.log_rate),                   \
        .max = GM_CONFIG_LOG_RATE_MAX                                                              \
    }

#endif
