/*
 * Which proxy the environment asks for, and who is exempt.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "config/proxy.h"

static void expect(char **environment, const char *url, const char *proxy, const char *variable)
{
    struct gm_arena arena = {0};
    struct gm_proxy_choice choice;
    cr_assert_eq(gm_proxy_choose(environment, url, &arena, &choice), 0);
    if (proxy == NULL) {
        cr_assert_null(choice.url, "%s: %s", url, choice.url);
    } else {
        cr_assert_not_null(choice.url, "%s", url);
        cr_assert_str_eq(choice.url, proxy);
        cr_assert_str_eq(choice.variable, variable);
    }
    gm_arena_fini(&arena);
}

Test(proxy, by_scheme_and_small_letters_first)
{
    char https[] = "HTTPS_PROXY=http://big", small[] = "https_proxy=http://small",
         http[] = "HTTP_PROXY=plain:3128", empty[] = "https_proxy=";
    expect(NULL, "wss://h/agent", NULL, NULL);
    expect((char *[]){https, http, NULL}, "wss://h/agent", "http://big", "HTTPS_PROXY");
    expect((char *[]){https, small, NULL}, "WSS://h/agent", "http://small", "https_proxy");
    expect((char *[]){empty, https, NULL}, "wss://h", "http://big", "HTTPS_PROXY");
    expect((char *[]){https, http, NULL}, "ws://h:8080/agent", "plain:3128", "HTTP_PROXY");
    expect((char *[]){https, NULL}, "ws://h:8080/agent", NULL, NULL);
}

Test(proxy, exempt_servers_are_dialled_directly)
{
    char https[] = "HTTPS_PROXY=http://p", no[] = "NO_PROXY=other,h.example:443",
         small[] = "no_proxy=h.example:444";
    expect((char *[]){https, no, NULL}, "wss://h.example/agent", NULL, NULL);
    expect((char *[]){https, no, NULL}, "wss://h.example:444/agent", "http://p", "HTTPS_PROXY");
    expect((char *[]){https, no, small, NULL}, "wss://h.example:443", "http://p", "HTTPS_PROXY");
    expect((char *[]){https, no, small, NULL}, "wss://h.example:444", NULL, NULL);
}

Test(proxy, this_machine_is_dialled_directly)
{
    static const char *const here[] =
        {"localhost",  "LocalHost:80",           "127.0.0.1", "127.9.9.9:8080", "[::1]",
         "[::1]:8080", "[::ffff:127.0.0.1]:8080"},
                             *const elsewhere[] = {"localhost.example", "128.0.0.1", "[::2]:8080",
                                                   "my.localhost", "[::ffff:10.0.0.1]"};
    char proxy[] = "HTTP_PROXY=http://p", url[64];
    for (size_t i = 0; i < sizeof here / sizeof here[0]; i++) {
        (void)snprintf(url, sizeof url, "ws://%s/agent", here[i]);
        expect((char *[]){proxy, NULL}, url, NULL, NULL);
    }
    for (size_t i = 0; i < sizeof elsewhere / sizeof elsewhere[0]; i++) {
        (void)snprintf(url, sizeof url, "ws://%s/agent", elsewhere[i]);
        expect((char *[]){proxy, NULL}, url, "http://p", "HTTP_PROXY");
    }
}

Test(proxy, lists_of_exemptions)
{
    static const struct {
        const char *list, *host, *port;
        bool exempt;
    } cases[] = {
        {"*", "h", "1", true},
        {"", "h", "1", false},
        {" , \t", "h", "1", false},
        {"example.com", "example.com", "1", true},
        {"example.com", "a.Example.COM", "1", true},
        {"example.com", "badexample.com", "1", false},
        {"example.com", "example.com.org", "1", false},
        {".example.com", "a.example.com", "1", true},
        {".example.com", "example.com", "1", true},
        {"*.example.com", "a.b.example.com", "1", true},
        {"a, b\tc", "c", "1", true},
        {"a:2", "a", "2", true},
        {"a:2", "a", "3", false},
        {"a:", "a", "3", true},
        {"10.0.0.0/8", "10.1.2.3", "1", true},
        {"10.0.0.0/8", "11.1.2.3", "1", false},
        {"10.0.0.0/8", "h", "1", false},
        {"127.0.0.1", "127.0.0.1", "1", true},
        {"127.0.0.1:2", "127.0.0.1", "2", true},
        {"127.0.0.1:2", "127.0.0.1", "1", false},
        {"2001:db8::/32", "2001:db8::1", "1", true},
        {"::1", "::1", "1", true},
        {"::1", "0:0:0:0:0:0:0:1", "1", true},
        {"[::1]:2", "::1", "2", true},
        {"[::1]:2", "::1", "3", false},
        {"[::1", "::1", "3", false},
        {"[::1]2", "::1", "2", false},
        {"none", "10.0.0.1", "1", false},
        {"a:123456789", "a", "1", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_assert_eq(gm_proxy_exempts(cases[i].list, cases[i].host, cases[i].port), cases[i].exempt,
                     "\"%s\" and %s:%s", cases[i].list, cases[i].host, cases[i].port);
}
