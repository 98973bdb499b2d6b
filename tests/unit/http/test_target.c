/*
 * Configured URLs, authorities, service paths, percent-decoding.
 */
#include "util.h"

#include "http/target.h"

#define ALL 31u

static struct gm_http_span span(const char *text)
{
    return (struct gm_http_span){text, strlen(text)};
}

static const struct {
    const char *text;
    unsigned scheme;
    bool tls, ipv6;
    const char *host, *authority;
    unsigned port;
    const char *path;
} good_urls[] = {
    {"http://a", GM_HTTP_SCHEME_HTTP, false, false, "a", "a", 80, ""},
    {"HTTP://A.b-c_d:8080/", GM_HTTP_SCHEME_HTTP, false, false, "A.b-c_d", "A.b-c_d:8080", 8080,
     ""},
    {"https://10.0.0.1/x/y//", GM_HTTP_SCHEME_HTTPS, true, false, "10.0.0.1", "10.0.0.1", 443,
     "/x/y"},
    {"ws://a:1/p%20q", GM_HTTP_SCHEME_WS, false, false, "a", "a:1", 1, "/p%20q"},
    {"wss://a:65535", GM_HTTP_SCHEME_WSS, true, false, "a", "a:65535", 65535, ""},
    {"http://[::1]", GM_HTTP_SCHEME_HTTP, false, true, "::1", "[::1]", 80, ""},
    {"http://[::ffff:1.2.3.4]:81/z", GM_HTTP_SCHEME_HTTP, false, true, "::ffff:1.2.3.4",
     "[::ffff:1.2.3.4]:81", 81, "/z"},
    {"unix:/run/a b.sock", GM_HTTP_SCHEME_UNIX, false, false, "", "", 0, "/run/a b.sock"},
    {"unix:/", GM_HTTP_SCHEME_UNIX, false, false, "", "", 0, "/"},
};

Test(target, good_urls)
{
    for (size_t i = 0; i < sizeof(good_urls) / sizeof(good_urls[0]); i++) {
        struct gm_http_url u;
        size_t len = strlen(good_urls[i].text);
        char *copy = copy_of(good_urls[i].text, len);
        int r = gm_http_url_parse((struct gm_http_span){copy, len}, ALL, &u);
        cr_assert_eq(r, 0, "%s: %s", good_urls[i].text, gm_http_error_name(r));
        cr_assert_eq(u.scheme, good_urls[i].scheme);
        cr_assert_eq(u.tls, good_urls[i].tls);
        cr_assert_eq(u.ipv6, good_urls[i].ipv6);
        cr_assert_eq(u.port, good_urls[i].port);
        ASSERT_SPAN(u.host, good_urls[i].host);
        ASSERT_SPAN(u.authority, good_urls[i].authority);
        ASSERT_SPAN(u.path, good_urls[i].path);
        free(copy);
    }
}

static const struct {
    const char *text;
    enum gm_http_error error;
} bad_urls[] = {
    {"", GM_HTTP_E_URL_SCHEME},
    {"a:80", GM_HTTP_E_URL_SCHEME},
    {"localhost", GM_HTTP_E_URL_SCHEME},
    {"ftp://a", GM_HTTP_E_URL_SCHEME},
    {"http:/a", GM_HTTP_E_URL_SCHEME},
    {"http//a", GM_HTTP_E_URL_SCHEME},
    {"http://", GM_HTTP_E_URL_HOST},
    {"http:///x", GM_HTTP_E_URL_HOST},
    {"http://:80", GM_HTTP_E_URL_HOST},
    {"http://a b", GM_HTTP_E_URL_HOST},
    {"http://a%zz", GM_HTTP_E_URL_HOST},
    {"http://[::1", GM_HTTP_E_URL_HOST},
    {"http://[::1]x", GM_HTTP_E_URL_HOST},
    {"http://[a]", GM_HTTP_E_URL_HOST},
    {"http://a\r\nX:y", GM_HTTP_E_URL_HOST},
    {"http://::1/", GM_HTTP_E_URL_HOST},
    {"http://u:p@a", GM_HTTP_E_URL_USERINFO},
    {"http://@a", GM_HTTP_E_URL_USERINFO},
    {"http://a:", GM_HTTP_E_URL_PORT},
    {"http://a:0", GM_HTTP_E_URL_PORT},
    {"http://a:65536", GM_HTTP_E_URL_PORT},
    {"http://a:000080", GM_HTTP_E_URL_PORT},
    {"http://a:8o", GM_HTTP_E_URL_PORT},
    {"http://a:80:80", GM_HTTP_E_URL_PORT},
    {"http://a/b c", GM_HTTP_E_URL_PATH},
    {"http://a/\xc3\xa4", GM_HTTP_E_URL_PATH},
    {"http://a/%4", GM_HTTP_E_URL_PATH},
    {"http://a?x", GM_HTTP_E_URL_QUERY},
    {"http://a/?x", GM_HTTP_E_URL_QUERY},
    {"http://a#x", GM_HTTP_E_URL_QUERY},
    {"unix:", GM_HTTP_E_URL_SOCKET},
    {"unix:a", GM_HTTP_E_URL_SOCKET},
};

Test(target, bad_urls)
{
    struct gm_http_url u;
    for (size_t i = 0; i < sizeof(bad_urls) / sizeof(bad_urls[0]); i++)
        ASSERT_ERROR(gm_http_url_parse(span(bad_urls[i].text), ALL, &u), bad_urls[i].error,
                     bad_urls[i].text);
    ASSERT_ERROR(
        gm_http_url_parse(span("https://a"), GM_HTTP_SCHEME_HTTP | GM_HTTP_SCHEME_UNIX, &u),
        GM_HTTP_E_URL_SCHEME_REFUSED, "https");
    ASSERT_ERROR(gm_http_url_parse((struct gm_http_span){"unix:/a\0b", 9}, ALL, &u),
                 GM_HTTP_E_URL_SOCKET, "NUL");
    char path[200] = "unix:/";
    memset(path + 6, 'a', 106);
    cr_assert_eq(gm_http_url_parse(span(path), ALL, &u), 0);
    memset(path + 6, 'a', 107);
    ASSERT_ERROR(gm_http_url_parse(span(path), ALL, &u), GM_HTTP_E_URL_SOCKET, path);
    char host[400] = "http://";
    memset(host + 7, 'a', 255);
    cr_assert_eq(gm_http_url_parse(span(host), ALL, &u), 0);
    memset(host + 7, 'a', 256);
    ASSERT_ERROR(gm_http_url_parse(span(host), ALL, &u), GM_HTTP_E_URL_HOST, host);
    struct gm_http_span name, port;
    ASSERT_ERROR(gm_http_authority_split((struct gm_http_span){host + 7, 256}, &name, &port),
                 GM_HTTP_E_HOST_INVALID, "");
    ASSERT_ERROR(gm_http_authority_split(span(""), &name, &port), GM_HTTP_E_HOST_INVALID, "");
}

Test(target, authority)
{
    struct gm_http_span host, port;
    cr_assert_eq(gm_http_authority_split(span("[::1]:8"), &host, &port), 0);
    ASSERT_SPAN(host, "[::1]");
    ASSERT_SPAN(port, "8");
    cr_assert_eq(gm_http_authority_split(span("a:"), &host, &port), 0);
    ASSERT_SPAN(host, "a");
    ASSERT_SPAN(port, "");
}

static const struct {
    const char *target;
    int result;
    const char *raw, *name;
    bool slash;
    const char *rest;
} services[] = {
    {"/services/svc", 1, "svc", "svc", true, ""},
    {"/services/svc?x=1", 1, "svc", "svc", true, "?x=1"},
    {"/services/svc?", 1, "svc", "svc", true, "?"},
    {"/services/svc/", 1, "svc", "svc", false, "/"},
    {"/services/svc//a%2F%zz/../b?c/d?e", 1, "svc", "svc", false, "//a%2F%zz/../b?c/d?e"},
    {"/services/s%76c/x", 1, "s%76c", "svc", false, "/x"},
    {"/services/a%20b%c3%A4", 1, "a%20b%c3%A4", "a b\xc3\xa4", true, ""},
    {"/services/...", 1, "...", "...", true, ""},
    {"/services/%2525", 1, "%2525", "%25", true, ""},
    {"/services", -GM_HTTP_E_SERVICE_PATH, NULL, NULL, false, NULL},
    {"/services?x", -GM_HTTP_E_SERVICE_PATH, NULL, NULL, false, NULL},
    {"/services/", -GM_HTTP_E_SERVICE_PATH, NULL, NULL, false, NULL},
    {"/services//x", -GM_HTTP_E_SERVICE_PATH, NULL, NULL, false, NULL},
    {"/services/?x", -GM_HTTP_E_SERVICE_PATH, NULL, NULL, false, NULL},
    {"/services/svc%2Fz/q", -GM_HTTP_E_SERVICE_NAME, NULL, NULL, false, NULL},
    {"/services/svc%2f", -GM_HTTP_E_SERVICE_NAME, NULL, NULL, false, NULL},
    {"/services/%00", -GM_HTTP_E_SERVICE_NAME, NULL, NULL, false, NULL},
    {"/services/a%0d%0ab", -GM_HTTP_E_SERVICE_NAME, NULL, NULL, false, NULL},
    {"/services/a%09", -GM_HTTP_E_SERVICE_NAME, NULL, NULL, false, NULL},
    {"/services/a%7F", -GM_HTTP_E_SERVICE_NAME, NULL, NULL, false, NULL},
    {"/services/./x", -GM_HTTP_E_SERVICE_NAME, NULL, NULL, false, NULL},
    {"/services/../health", -GM_HTTP_E_SERVICE_NAME, NULL, NULL, false, NULL},
    {"/services/%2e%2E/health", -GM_HTTP_E_SERVICE_NAME, NULL, NULL, false, NULL},
    {"/services/%", -GM_HTTP_E_SERVICE_NAME, NULL, NULL, false, NULL},
    {"/services/%4", -GM_HTTP_E_SERVICE_NAME, NULL, NULL, false, NULL},
    {"/", 0, NULL, NULL, false, NULL},
    {"/health", 0, NULL, NULL, false, NULL},
    {"/servicesx/a", 0, NULL, NULL, false, NULL},
    {"/Services/a", 0, NULL, NULL, false, NULL},
    {"//services/a", 0, NULL, NULL, false, NULL},
};

Test(target, services)
{
    for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
        struct gm_http_service_path s;
        size_t len = strlen(services[i].target);
        char *copy = copy_of(services[i].target, len);
        int r = gm_http_service_split((struct gm_http_span){copy, len}, &s);
        cr_assert_eq(r, services[i].result, "%s: %d %s", services[i].target, r,
                     gm_http_error_name(r));
        if (r == 1) {
            ASSERT_SPAN(s.raw_name, services[i].raw);
            cr_assert_str_eq(s.name, services[i].name);
            cr_assert_eq(s.name_len, strlen(services[i].name));
            cr_assert_eq(s.slash, services[i].slash);
            ASSERT_SPAN(s.rest, services[i].rest);
        }
        free(copy);
    }
}

/* An empty span may have no address. */
Test(target, nothing_at_all)
{
    const struct gm_http_span nothing = {NULL, 0};
    struct gm_http_service_path s;
    struct gm_http_span host, port;
    struct gm_http_url u;
    char out[1];
    cr_assert_eq(gm_http_service_split(nothing, &s), 0);
    cr_assert_eq(gm_http_service_split(span("/serv"), &s), 0);
    cr_assert_eq(gm_http_url_parse(nothing, ALL, &u), -GM_HTTP_E_URL_SCHEME);
    cr_assert_eq(gm_http_authority_split(nothing, &host, &port), -GM_HTTP_E_HOST_INVALID);
    cr_assert_eq(gm_http_percent_decode(nothing, out, 0), 0);
}

Test(target, a_service_name_has_a_limit)
{
    struct gm_http_service_path s;
    char text[400] = "/services/";
    memset(text + 10, 'a', GM_HTTP_SERVICE_NAME_MAX);
    cr_assert_eq(gm_http_service_split(span(text), &s), 1);
    cr_assert_eq(s.name_len, GM_HTTP_SERVICE_NAME_MAX);
    memset(text + 10, 'a', GM_HTTP_SERVICE_NAME_MAX + 1);
    cr_assert_eq(gm_http_service_split(span(text), &s), -GM_HTTP_E_SERVICE_NAME);
}

Test(target, percent_decoding_of_every_byte)
{
    for (unsigned c = 0; c < 256; c++) {
        char text[8], out[4];
        for (int upper = 0; upper < 2; upper++) {
            snprintf(text, sizeof(text), upper ? "a%%%02Xb" : "a%%%02xb", c);
            cr_assert_eq(gm_http_percent_decode(span(text), out, 3), 3);
            cr_assert(out[0] == 'a' && (unsigned char)out[1] == c && out[2] == 'b');
        }
        cr_assert_eq(gm_http_percent_decode(span(text), out, 2), -GM_HTTP_E_TARGET);
    }
}
