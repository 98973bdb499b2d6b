/*
 * Features in the greetings: what one end says the other reads, and what it does not know it skips.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "link/hello.h"

Test(hello, features_pass)
{
    for (int zero_mask = 0; zero_mask < 2; zero_mask++) {
        char json[1024];
        struct gm_hello hello = {.server_id = "s",
                                 .instance = "i",
                                 .lanes = 1,
                                 .stream_limit = 1,
                                 .zero_mask = zero_mask == 1},
                        heard = {.zero_mask = zero_mask == 0};
        int len = gm_hello_encode(&hello, json, sizeof json);
        cr_assert_gt(len, 0);
        cr_assert_eq(gm_hello_decode(json, (size_t)len, &heard), 0);
        cr_assert_eq(heard.zero_mask, zero_mask == 1);
        cr_assert_eq(memmem(json, (size_t)len, "zero-mask", 9) != NULL, zero_mask == 1);
        struct gm_ready ready = {.instance = "i", .service = "s", .zero_mask = zero_mask == 1},
                        read;
        len = gm_ready_encode(&ready, json, sizeof json);
        cr_assert_gt(len, 0);
        cr_assert_eq(gm_ready_decode(json, (size_t)len, &read), 0);
        cr_assert_eq(read.zero_mask, zero_mask == 1);
    }
}

Test(hello, only_the_very_name_counts)
{
    static const struct {
        const char *features;
        bool zero_mask;
    } cases[] = {
        {"[]", false},
        {"[\"zero-mask\"]", true},
        {"[\"new\",7,null,\"zero-mask\"]", true},
        {"[\"zero-masks\",\"Zero-Mask\"]", false},
        {"\"zero-mask\"", false},
        {"{\"zero-mask\":true}", false},
        {"[[\"zero-mask\"]]", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char json[256];
        struct gm_ready ready;
        int len =
            snprintf(json, sizeof json, "{\"instance\":\"i\",\"features\":%s}", cases[i].features);
        cr_assert_eq(gm_ready_decode(json, (size_t)len, &ready), 0);
        cr_assert_eq(ready.zero_mask, cases[i].zero_mask, "%s", cases[i].features);
    }
}

Test(hello, an_agent_may_greet_before_its_backend_is_healthy)
{
    static const struct {
        const char *json;
        bool not_ready;
    } cases[] = {
        {"{\"instance\":\"i\"}", false},
        {"{\"instance\":\"i\",\"state\":\"not_ready\"}", true},
        {"{\"instance\":\"i\",\"state\":\"ready\"}", false},
        {"{\"instance\":\"i\",\"state\":\"NOT_READY\"}", false},
        {"{\"instance\":\"i\",\"state\":[\"not_ready\"]}", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gm_ready ready;
        cr_assert_eq(gm_ready_decode(cases[i].json, strlen(cases[i].json), &ready), 0);
        cr_assert_eq(ready.not_ready, cases[i].not_ready, "%s", cases[i].json);
    }
    for (int not_ready = 0; not_ready < 2; not_ready++) {
        struct gm_ready ready = {.instance = "i", .not_ready = not_ready == 1}, read;
        char json[1024];
        int len = gm_ready_encode(&ready, json, sizeof json);
        cr_assert_gt(len, 0);
        cr_assert_eq(memmem(json, (size_t)len, "state", 5) != NULL, not_ready == 1);
        cr_assert_eq(gm_ready_decode(json, (size_t)len, &read), 0);
        cr_assert_eq(read.not_ready, not_ready == 1);
    }
}

Test(hello, peers_are_a_hint)
{
    char json[1024];
    struct gm_hello hello = {
        .server_id = "s", .instance = "i", .lanes = 1, .stream_limit = 1, .peers = 3};
    struct gm_hello heard = {.peers = 99};
    int len = gm_hello_encode(&hello, json, sizeof json);
    cr_assert_gt(len, 0);
    cr_assert_eq(gm_hello_decode(json, (size_t)len, &heard), 0);
    cr_assert_eq(heard.peers, 3);
    hello.peers = 0;
    len = gm_hello_encode(&hello, json, sizeof json);
    cr_assert_gt(len, 0);
    cr_assert_null(memmem(json, (size_t)len, "peers", 5));
    cr_assert_eq(gm_hello_decode(json, (size_t)len, &heard), 0);
    cr_assert_eq(heard.peers, 0);
    static const char *const odd[] = {
        "-1", "\"3\"", "65536", "1e3", "null", "[3]", "99999999999999999"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        len = snprintf(json, sizeof json,
                       "{\"server_id\":\"s\",\"instance\":\"i\",\"lane\":0,\"lanes\":1,"
                       "\"stream_limit\":1,\"window\":1,\"peers\":%s}",
                       odd[i]);
        heard.peers = 7;
        cr_assert_eq(gm_hello_decode(json, (size_t)len, &heard), 0, "%s", odd[i]);
        cr_assert_eq(heard.peers, 0, "%s", odd[i]);
    }
}
