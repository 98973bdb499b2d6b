/*
 * Field names, lists, and the error table.
 */
#include "util.h"

static struct gm_http_span span(const char *text)
{
    return (struct gm_http_span){text, strlen(text)};
}

/* Parses one field whose line is followed by `padding` bytes, so that both the wide and the narrow
 * lookup are met. */
static uint8_t id_by_parser(struct gm_http_span name, size_t padding, int *result)
{
    struct gm_http_field fields[2];
    struct gm_http_response res;
    char *text = malloc(64 + name.len + padding);
    size_t n = 0, scanned = 0;
    memcpy(text, "HTTP/1.1 204\r\n", 14);
    n = 14;
    memcpy(text + n, name.p, name.len);
    n += name.len;
    memcpy(text + n, ":\r\nZ:", 5);
    n += 5;
    memset(text + n, 'p', padding);
    n += padding;
    memcpy(text + n, "\r\n\r\n", 4);
    n += 4;
    char *exact = copy_of(text, n);
    gm_http_response_init(&res, fields, 2, GM_HTTP_HEAD_MAX);
    *result = gm_http_parse_response(exact, n, &scanned, GM_HTTP_GET, &res);
    free(exact);
    free(text);
    return *result > 0 ? fields[0].id : 0xff;
}

Test(field, every_known_name_is_found_whatever_its_case)
{
    for (unsigned id = 1; id < GM_HTTP_ID_COUNT; id++) {
        struct gm_http_span name = gm_http_field_known_name((enum gm_http_field_id)id);
        char upper[40], mixed[40];
        cr_assert(name.len >= 2 && name.len <= 32);
        for (size_t i = 0; i < name.len; i++) {
            char c = name.p[i];
            upper[i] = (char)(c >= 'a' && c <= 'z' ? c - 32 : c);
            mixed[i] = i & 1 ? c : upper[i];
        }
        cr_assert_eq(gm_http_field_lookup(name.p, name.len), (enum gm_http_field_id)id);
        cr_assert_eq(gm_http_field_lookup(upper, name.len), (enum gm_http_field_id)id);
        /* Names whose value is left empty here but must not be are refused after they were found.
         */
        for (size_t padding = 0; padding < 40; padding += 39) {
            int result;
            uint8_t found = id_by_parser((struct gm_http_span){mixed, name.len}, padding, &result);
            cr_assert(found == id || result == -GM_HTTP_E_LENGTH_INVALID ||
                          result == -GM_HTTP_E_CODING_INVALID,
                      "%.*s: %u", (int)name.len, mixed, found);
        }
    }
}

/* Any single byte changed makes a name another name: unknown, or refused if the byte is no tchar.
 */
Test(field, near_misses_are_not_known)
{
    for (unsigned id = 1; id < GM_HTTP_ID_COUNT; id++) {
        struct gm_http_span name = gm_http_field_known_name((enum gm_http_field_id)id);
        char other[40];
        for (unsigned i = 0; i < name.len; i++) {
            for (unsigned c = 0; c < 256; c++) {
                memcpy(other, name.p, name.len);
                other[i] = (char)c;
                if (gm_http_span_equal_nocase((struct gm_http_span){other, name.len}, name))
                    continue;
                cr_assert_neq(gm_http_field_lookup(other, name.len), (enum gm_http_field_id)id);
                int result;
                uint8_t found = id_by_parser((struct gm_http_span){other, name.len}, 39, &result);
                cr_assert_neq(found, id, "%s with byte %u = 0x%02x", name.p, i, c);
            }
        }
        memcpy(other, name.p, name.len);
        other[name.len] = 's';
        cr_assert_neq(gm_http_field_lookup(other, name.len + 1), (enum gm_http_field_id)id);
        cr_assert_neq(gm_http_field_lookup(other, name.len - 1), (enum gm_http_field_id)id);
    }
    cr_assert_eq(gm_http_field_lookup("", 0), GM_HTTP_ID_OTHER);
    cr_assert_eq(gm_http_field_lookup("t", 1), GM_HTTP_ID_OTHER);
    cr_assert_eq(gm_http_field_lookup("sec-websocket-extensions-of-a-long-kind", 39),
                 GM_HTTP_ID_OTHER);
}

/* Each byte value is or is not allowed in a name, a value and a target, whether the 16-byte scan or
 * the byte loop meets it; the reference is written out from the RFCs here once more. */
Test(field, byte_classes)
{
    for (unsigned c = 0; c < 256; c++) {
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        bool token = letter || (c != 0 && c < 128 && strchr("!#$%&'*+-.^_`|~", (int)c) != NULL);
        bool value = c == '\t' || (c >= ' ' && c != 127);
        bool target = c > ' ' && c < 127 && c != '#' && c != '%';
        for (unsigned at = 0; at < 34; at++) {
            char text[160];
            struct parsed_request t;
            char name[40], filler[40];
            memset(name, 'x', 35);
            memset(filler, 'y', 35);
            name[35] = filler[35] = '\0';
            int n = snprintf(text, sizeof(text), "GET / HTTP/1.0\r\n%s: a\r\n\r\n", name);
            text[16 + at] = (char)c;
            parse_request(&t, text, (size_t)n);
            cr_assert_eq(t.result == n, token || (c == ':' && at > 0), "name byte 0x%02x at %u", c,
                         at);
            free(t.copy);
            n = snprintf(text, sizeof(text), "GET / HTTP/1.0\r\nA: %s\r\n\r\n", filler);
            text[19 + at] = (char)c;
            parse_request(&t, text, (size_t)n);
            cr_assert_eq(t.result == n, value, "value byte 0x%02x at %u", c, at);
            free(t.copy);
            n = snprintf(text, sizeof(text), "GET /%s HTTP/1.0\r\n\r\n", filler);
            text[5 + at] = (char)c;
            parse_request(&t, text, (size_t)n);
            cr_assert_eq(t.result == n, target, "target byte 0x%02x at %u", c, at);
            free(t.copy);
        }
    }
}

Test(field, find)
{
    struct parsed_request t;
    const char *text =
        "GET / HTTP/1.0\r\nX-Forwarded-For: 1\r\nX-A: 2\r\nx-forwarded-for: 3\r\n\r\n";
    parse_request(&t, text, strlen(text));
    unsigned from = 0;
    ASSERT_SPAN(
        gm_http_field_value(gm_http_fields_find(&t.req.fields, GM_HTTP_ID_X_FORWARDED_FOR, NULL)),
        "1");
    ASSERT_SPAN(
        gm_http_field_value(gm_http_fields_find(&t.req.fields, GM_HTTP_ID_X_FORWARDED_FOR, &from)),
        "1");
    ASSERT_SPAN(
        gm_http_field_value(gm_http_fields_find(&t.req.fields, GM_HTTP_ID_X_FORWARDED_FOR, &from)),
        "3");
    cr_assert_null(gm_http_fields_find(&t.req.fields, GM_HTTP_ID_X_FORWARDED_FOR, &from));
    cr_assert_null(gm_http_fields_find(&t.req.fields, GM_HTTP_ID_DATE, NULL));
    cr_assert(gm_http_fields_has(&t.req.fields, GM_HTTP_ID_OTHER));
    ASSERT_SPAN(gm_http_field_value(gm_http_fields_find_name(&t.req.fields, span("x-a"))), "2");
    cr_assert_null(gm_http_fields_find_name(&t.req.fields, span("x-b")));
    free(t.copy);
}

Test(field, lists)
{
    struct gm_http_span rest = span(" ,a, b c\t,,\td,"), e;
    cr_assert(gm_http_list_next(&rest, &e));
    ASSERT_SPAN(e, "a");
    cr_assert(gm_http_list_next(&rest, &e));
    ASSERT_SPAN(e, "b c");
    cr_assert(gm_http_list_next(&rest, &e));
    ASSERT_SPAN(e, "d");
    cr_assert(!gm_http_list_next(&rest, &e));
    cr_assert(!gm_http_list_next(&rest, &e));
    cr_assert(gm_http_span_equal((struct gm_http_span){NULL, 0}, span("")));
    rest = (struct gm_http_span){NULL, 0};
    cr_assert(!gm_http_list_next(&rest, &e));
    cr_assert(!gm_http_span_equal(span("a"), span("A")));
}

Test(field, error_table)
{
    cr_assert_eq(gm_http_error_status(-GM_HTTP_E_BARE_CR), 400);
    cr_assert_eq(gm_http_error_status(GM_HTTP_E_HEAD_TOO_LARGE), 431);
    cr_assert_eq(gm_http_error_status(-GM_HTTP_E_CODING_UNKNOWN), 501);
    cr_assert_eq(gm_http_error_status(-GM_HTTP_E_VERSION_UNSUPPORTED), 505);
    cr_assert_eq(gm_http_error_status(-GM_HTTP_E_TARGET_TOO_LONG), 414);
    cr_assert_eq(gm_http_error_status(-GM_HTTP_E_EXPECT_UNKNOWN), 417);
    cr_assert_str_eq(gm_http_error_name(-GM_HTTP_E_HOST_MISSING), "HOST_MISSING");
    static const int strangers[] = {
        0,         1,        -1, GM_HTTP_E_FIRST, -GM_HTTP_E_FIRST, GM_HTTP_E_END, -GM_HTTP_E_END,
        INT32_MAX, INT32_MIN};
    for (unsigned i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++) {
        cr_assert_eq(gm_http_error_status(strangers[i]), 500);
        cr_assert_str_eq(gm_http_error_name(strangers[i]), "UNKNOWN");
        cr_assert_str_eq(gm_http_error_text(strangers[i]), "unknown error");
    }
    for (int e = GM_HTTP_E_FIRST + 1; e < GM_HTTP_E_END; e++)
        cr_assert(strlen(gm_http_error_text(-e)) > 10);
}
