/* The note "metrics" as JSON. Any thread; it keeps nothing. */
#include "link/report.h"

#include <string.h>

#include <jansson.h>

static const char *const names[GM_REPORT_SENT] = {
    [GM_REPORT_REJECTIONS] = "rate_limit_rejections",
    [GM_REPORT_CONCURRENT] = "concurrent_requests",
    [GM_REPORT_REQUEST_BUFFER] = "request_channel_buffer",
    [GM_REPORT_BACKEND_FAILURES] = "backend_failures",
    [GM_REPORT_WRITE_ERRORS] = "websocket_write_errors",
    [GM_REPORT_UPTIME_S] = "connection_uptime_seconds",
    [GM_REPORT_DRAINING] = "draining",
    [GM_REPORT_SERVERS] = "servers",
};

const char *const gm_report_kind_names[GM_REPORT_KIND_COUNT] = {
#define KIND_NAME(constant, name) [GM_REPORT_##constant] = name,
    GM_REPORT_KINDS(KIND_NAME)
#undef KIND_NAME
};

static json_t *kinds_json(const int64_t *figure)
{
    json_t *object = json_object();
    for (unsigned i = 0; i < GM_REPORT_KIND_COUNT; i++)
        (void)json_object_set_new(object, gm_report_kind_names[i], json_integer(figure[i]));
    return object;
}

int gm_report_encode(const struct gm_report *report, void *out, size_t cap)
{
    json_t *object = json_object();
    (void)json_object_set_new(object, "type", json_string(GM_REPORT_TYPE));
    for (unsigned i = 0; i < GM_REPORT_SENT; i++)
        (void)json_object_set_new(object, names[i],
                                  i == GM_REPORT_DRAINING ? json_boolean(report->figure[i] != 0)
                                                          : json_integer(report->figure[i]));
    (void)json_object_set_new(object, "frames_sent", kinds_json(report->figure + GM_REPORT_SENT));
    (void)json_object_set_new(object, "frames_received",
                              kinds_json(report->figure + GM_REPORT_RECEIVED));
    size_t len = json_dumpb(object, out, cap, JSON_COMPACT);
    json_decref(object);
    return len == 0 || len > cap ? -GM_E_LIMIT : (int)len;
}

/* Sums over all links of a server must not overflow, whatever an agent says. */
#define FIGURE_MAX ((json_int_t)1 << 48)

static void take(const json_t *value, int64_t *figure)
{
    json_int_t n = json_is_integer(value) ? json_integer_value(value) : -1;
    if (n >= 0 && n <= FIGURE_MAX)
        *figure = n;
}

static void take_kinds(const json_t *object, int64_t *figure)
{
    for (unsigned i = 0; i < GM_REPORT_KIND_COUNT; i++)
        take(json_object_get(object, gm_report_kind_names[i]), &figure[i]);
}

void gm_report_decode(const json_t *object, struct gm_report *report)
{
    for (unsigned i = 0; i < GM_REPORT_SENT; i++) {
        const json_t *value = json_object_get(object, names[i]);
        if (i != GM_REPORT_DRAINING)
            take(value, &report->figure[i]);
        else if (json_is_boolean(value))
            report->figure[i] = json_is_true(value);
    }
    take_kinds(json_object_get(object, "frames_sent"), report->figure + GM_REPORT_SENT);
    take_kinds(json_object_get(object, "frames_received"), report->figure + GM_REPORT_RECEIVED);
}
