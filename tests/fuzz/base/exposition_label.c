/*
 * Fuzz target: any bytes as the value of a label. The sample stays one line, and its value is what
 * follows the one closing quote.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/exposition.h"
#include "base/text.h"

static void check(bool law)
{
    if (!law)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char begin[] = "a{x=\"", end[] = "\"} 7\n";
    struct gm_exposition page = {0};
    gm_exposition_begin(&page, "a");
    gm_exposition_label(&page, "x", (const char *)data, size);
    gm_exposition_unsigned(&page, 7);
    check(!page.failed && page.len >= sizeof begin - 1 + sizeof end - 1);
    check(memcmp(page.text, begin, sizeof begin - 1) == 0);
    size_t at = sizeof begin - 1, close = page.len - (sizeof end - 1);
    check(memcmp(page.text + close, end, sizeof end - 1) == 0);
    while (at < close) {
        size_t unit = gm_text_utf8_length((const unsigned char *)page.text + at, close - at);
        check(unit > 0 && page.text[at] != '"' && page.text[at] != '\n');
        if (page.text[at] == '\\') {
            check(at + 1 < close && strchr("\\\"n", page.text[at + 1]) != NULL);
            unit = 2;
        }
        at += unit;
    }
    check(at == close);
    free(page.text);
    return 0;
}
