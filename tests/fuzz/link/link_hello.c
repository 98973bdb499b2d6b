/*
 * Fuzz target: any bytes as a greeting, a server's HELLO or an agent's READY. What is understood
 * can be written and reads back the same; texts end within their fields, numbers stay within their
 * ranges.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "link/hello.h"

/* The longest texts, escaped, and the keys around them. */
#define JSON_MAX 8192u

static void check(bool law)
{
    if (!law)
        abort();
}

static void try_hello(const uint8_t *data, size_t size)
{
    struct gm_hello hello = {0}, back = {0};
    char json[JSON_MAX];
    if (gm_hello_decode(data, size, &hello) < 0)
        return;
    check(memchr(hello.server_id, '\0', sizeof hello.server_id) != NULL);
    check(memchr(hello.instance, '\0', sizeof hello.instance) != NULL);
    check(hello.lanes > 0 && hello.stream_limit > 0);
    int len = gm_hello_encode(&hello, json, sizeof json);
    check(len > 0);
    check(gm_hello_decode(json, (size_t)len, &back) == 0);
    check(strcmp(hello.server_id, back.server_id) == 0 &&
          strcmp(hello.instance, back.instance) == 0);
    check(hello.lane == back.lane && hello.lanes == back.lanes && hello.window == back.window &&
          hello.stream_limit == back.stream_limit && hello.zero_mask == back.zero_mask);
}

static void try_ready(const uint8_t *data, size_t size)
{
    struct gm_ready ready = {0}, back = {0};
    char json[JSON_MAX];
    if (gm_ready_decode(data, size, &ready) < 0)
        return;
    check(memchr(ready.instance, '\0', sizeof ready.instance) != NULL);
    check(memchr(ready.service, '\0', sizeof ready.service) != NULL);
    check(ready.window <= GM_LINK_WINDOW_MAX);
    int len = gm_ready_encode(&ready, json, sizeof json);
    check(len > 0);
    check(gm_ready_decode(json, (size_t)len, &back) == 0);
    check(strcmp(ready.instance, back.instance) == 0 && strcmp(ready.service, back.service) == 0);
    check(ready.window == back.window && ready.stream_limit == back.stream_limit &&
          ready.zero_mask == back.zero_mask && ready.not_ready == back.not_ready);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_hello(data, size);
    try_ready(data, size);
    return 0;
}
