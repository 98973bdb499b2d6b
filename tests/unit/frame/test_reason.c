/* The table of reasons: its own shape, and agreement with PROTOCOL.md section 9, row by row. */
#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "frame/reason.h"

Test(reason, rows_are_sound)
{
    for (uint16_t code = 0; code < GM_REASON_COUNT; code++) {
        const struct gm_reason *r = gm_reason_get(code);
        cr_assert_eq(r->code, code);
        cr_assert(strlen(r->name) > 0 &&
                  strspn(r->name, "abcdefghijklmnopqrstuvwxyz_") == strlen(r->name));
        size_t n = strlen(r->text);
        cr_assert(n > 8 && isupper((unsigned char)r->text[0]) && r->text[n - 1] == '.', "%s",
                  r->name);
        cr_assert(code == 0 ? r->status == 0 : r->status >= 400 && r->status <= 599);
        for (uint16_t other = 0; other < code; other++)
            cr_assert_str_neq(gm_reason_get(other)->name, r->name);
    }
}

Test(reason, unknown_code_reads_as_internal)
{
    cr_assert_eq(gm_reason_get(GM_REASON_COUNT)->code, GM_REASON_INTERNAL);
    cr_assert_eq(gm_reason_get(UINT16_MAX)->code, GM_REASON_INTERNAL);
}

/* Reads one "code | name | HTTP | marks" group at *p and compares it. Returns 1 for a row, 0
 * otherwise. */
static int check_cell(const char *p)
{
    unsigned code = 0;
    char name[40];
    char http[8];
    char marks[16] = "";
    if (sscanf(p, "| %u | %39[a-z_] | %7[^ |] |%15[^|\n]", &code, name, http, marks) < 3)
        return 0;
    if (code >= GM_REASON_COUNT)
        return 0;
    const struct gm_reason *r = gm_reason_get((uint16_t)code);
    cr_assert_str_eq(r->name, name);
    unsigned status = 0;
    if (sscanf(http, "%u", &status) == 1)
        cr_assert_eq(r->status, status, "%s", name);
    else
        cr_assert_eq(r->status, 0, "%s", name);
    cr_assert_eq((r->flags & GM_REASON_UNTOUCHED) != 0, strstr(marks, "○") != NULL, "%s", name);
    cr_assert_eq((r->flags & GM_REASON_ELSEWHERE) != 0, strstr(marks, "↻") != NULL, "%s", name);
    return 1;
}

Test(reason, table_agrees_with_the_protocol_text)
{
    FILE *f = fopen(PROTOCOL_MD, "r");
    cr_assert_not_null(f);
    char line[4096];
    int rows = 0;
    bool inside = false;
    while (fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, "## ", 3) == 0)
            inside = strncmp(line, "## 9.", 5) == 0;
        if (!inside || line[0] != '|')
            continue;
        /* Two groups of four cells a line: the second begins at the fifth bar. */
        rows += check_cell(line);
        char *p = line;
        for (int bars = 0; *p != '\0'; p++) {
            if (*p == '|' && ++bars == 5)
                break;
        }
        rows += check_cell(p);
    }
    fclose(f);
    cr_assert_eq(rows, GM_REASON_COUNT);
}
