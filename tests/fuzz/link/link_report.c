/*
 * Fuzz target: any JSON as an agent's report. Figures stay within what can be added up without
 * overflow, what the report does not hold stays as it was, and what is written of them is read
 * back.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "link/report.h"

#define BEFORE 5

static void check(bool law)
{
    if (!law)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gm_report report, back = {0};
    char text[1024];
    for (unsigned i = 0; i < GM_REPORT_FIGURES; i++)
        report.figure[i] = i == GM_REPORT_DRAINING ? 1 : BEFORE;
    json_t *object = json_loadb((const char *)data, size, JSON_DECODE_ANY, NULL);
    gm_report_decode(object, &report);
    for (unsigned i = 0; i < GM_REPORT_FIGURES; i++)
        check(report.figure[i] >= 0 && report.figure[i] <= INT64_C(1) << 48);
    if (!json_is_object(object))
        check(report.figure[GM_REPORT_CONCURRENT] == BEFORE);
    json_decref(object);
    int len = gm_report_encode(&report, text, sizeof text);
    check(len > 0);
    object = json_loadb(text, (size_t)len, 0, NULL);
    check(object != NULL);
    gm_report_decode(object, &back);
    check(memcmp(&back, &report, sizeof back) == 0);
    json_decref(object);
    return 0;
}
