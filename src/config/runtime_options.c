/*
 * Named values of the options that both programs share, and checks. Constant tables.
 */
#include "config/runtime_options.h"

#include "config/value.h"

const struct gm_option_choice gm_config_io_names[] = {
    {"auto", GM_CONFIG_IO_AUTO},
    {"uring", GM_CONFIG_IO_URING},
    {"epoll", GM_CONFIG_IO_EPOLL},
    {NULL, 0},
};

const struct gm_option_choice gm_config_level_names[] = {
    {"DEBUG", GM_LOG_DEBUG},  {"INFO", GM_LOG_INFO},   {"WARN", GM_LOG_WARN},
    {"WARNING", GM_LOG_WARN}, {"ERROR", GM_LOG_ERROR}, {NULL, 0},
};

const struct gm_option_choice gm_config_format_names[] = {
    {"json", GM_LOG_JSON},
    {"console", GM_LOG_CONSOLE},
    {NULL, 0},
};

const struct gm_option_choice gm_config_auto_or_off[] = {{"auto", 1}, {"off", 0}, {NULL, 0}};

const char *gm_config_check_frames(const char *value)
{
    int64_t frames;
    return gm_value_integer(value, &frames) == 0 ? NULL : "is not a whole number";
}
