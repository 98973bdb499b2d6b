/* Targets: what a configured URL says, and what is refused. */
#include <criterion/criterion.h>
#include <string.h>

#include "client/target.h"

static bool is(struct gm_http_span span, const char *text)
{
    return span.len == strlen(text) && memcmp(span.p, text, span.len) == 0;
}

Test(target, literals_need_no_name_service)
{
    struct gm_target target;
    char text[80];
    cr_assert(gm_target_parse("http://192.0.2.1:81/a/", GM_HTTP_SCHEME_HTTP, &target) == 0);
    gm_addr_text(&target.literal, text, sizeof text);
    cr_assert(target.resolved && is(target.prefix, "/a") && is(target.authority, "192.0.2.1:81"));
    cr_assert_str_eq(text, "192.0.2.1:81");
    cr_assert(gm_target_parse("http://[2001:db8::1]", GM_HTTP_SCHEME_HTTP, &target) == 0);
    gm_addr_text(&target.literal, text, sizeof text);
    cr_assert(target.resolved && is(target.authority, "[2001:db8::1]") && target.prefix.len == 0);
    cr_assert_str_eq(text, "[2001:db8::1]:80");
}

Test(target, names_are_left_to_the_dial)
{
    struct gm_target target;
    cr_assert(gm_target_parse("ws://gateway.example:8080/agent", GM_HTTP_SCHEME_WS, &target) == 0);
    cr_assert(!target.resolved && is(target.host, "gateway.example") && target.url.port == 8080);
    cr_assert(is(target.prefix, "/agent"));
    cr_assert(gm_target_parse("http://1.2.3", GM_HTTP_SCHEME_HTTP, &target) == 0);
    cr_assert(!target.resolved, "not an address");
}

Test(target, a_socket_path)
{
    struct gm_target target;
    cr_assert(gm_target_parse("unix:/run/x.sock", GM_HTTP_SCHEME_UNIX, &target) == 0);
    cr_assert(target.resolved && target.literal.un.sun_family == AF_UNIX);
    cr_assert_str_eq(target.literal.un.sun_path, "/run/x.sock");
    cr_assert(is(target.authority, "localhost") && target.prefix.len == 0);
}

Test(target, refusals)
{
    struct gm_target target;
    char prefix[GM_TARGET_PREFIX_MAX + 32] = "http://h/";
    memset(prefix + strlen(prefix), 'p', GM_TARGET_PREFIX_MAX);
    cr_assert_eq(gm_target_parse("https://h", GM_HTTP_SCHEME_HTTP, &target),
                 -GM_HTTP_E_URL_SCHEME_REFUSED);
    cr_assert_eq(gm_target_parse("http://h:0", GM_HTTP_SCHEME_HTTP, &target), -GM_HTTP_E_URL_PORT);
    cr_assert_eq(gm_target_parse("unix:x", GM_HTTP_SCHEME_UNIX, &target), -GM_HTTP_E_URL_SOCKET);
    cr_assert_eq(gm_target_parse(prefix, GM_HTTP_SCHEME_HTTP, &target), -GM_HTTP_E_URL_PATH);
}
