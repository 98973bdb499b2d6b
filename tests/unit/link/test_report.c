/* The agent's report: what is written is read back; what a stranger writes does no harm. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <string.h>

#include "link/report.h"

Test(report, comes_back_as_it_was)
{
    struct gm_report report, back = {0};
    char text[1024];
    for (unsigned i = 0; i < GM_REPORT_FIGURES; i++)
        report.figure[i] = i == GM_REPORT_DRAINING ? 1 : 1000 + (int64_t)i;
    int len = gm_report_encode(&report, text, sizeof text);
    cr_assert_gt(len, 0);
    json_t *object = json_loadb(text, (size_t)len, 0, NULL);
    cr_assert_str_eq(json_string_value(json_object_get(object, "type")), "metrics");
    cr_assert_eq(
        json_integer_value(json_object_get(json_object_get(object, "frames_sent"), "data")),
        report.figure[GM_REPORT_SENT + GM_REPORT_DATA]);
    gm_report_decode(object, &back);
    cr_assert_arr_eq(back.figure, report.figure, sizeof report.figure);
    json_decref(object);
    cr_assert_eq(gm_report_encode(&report, text, 40), -GM_E_LIMIT);
}

Test(report, what_is_missing_or_ill_typed_stays)
{
    static const char *const texts[] = {
        "{}",
        "[]",
        "3",
        "{\"concurrent_requests\":\"7\",\"draining\":1,\"frames_sent\":[1]}",
        "{\"concurrent_requests\":-1,\"frames_sent\":{\"data\":null,\"start\":1.5}}",
        "{\"concurrent_requests\":9223372036854775807}",
    };
    for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct gm_report report, before;
        for (unsigned f = 0; f < GM_REPORT_FIGURES; f++)
            report.figure[f] = 5;
        before = report;
        json_t *value = json_loads(texts[i], JSON_DECODE_ANY, NULL);
        cr_assert_not_null(value);
        gm_report_decode(value, &report);
        cr_assert_arr_eq(report.figure, before.figure, sizeof report.figure, "%s", texts[i]);
        json_decref(value);
    }
}

Test(report, of_version_0_0_x)
{
    struct gm_report report = {0};
    json_t *object = json_loads("{\"type\":\"metrics\",\"rate_limit_rejections\":3,"
                                "\"draining\":true,\"frames_received\":{\"start\":9,\"odd\":1}}",
                                0, NULL);
    gm_report_decode(object, &report);
    cr_assert_eq(report.figure[GM_REPORT_REJECTIONS], 3);
    cr_assert_eq(report.figure[GM_REPORT_DRAINING], 1);
    cr_assert_eq(report.figure[GM_REPORT_RECEIVED + GM_REPORT_START], 9);
    json_decref(object);
}
