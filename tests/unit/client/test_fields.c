/* Fields of ours: which may be set, and what a request looks like that has them. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

#define URL "http://10.0.0.1:8000"

static struct gm_http_span span(const char *text)
{
    return (struct gm_http_span){text, strlen(text)};
}

Test(fields, names_that_may_not_be_set)
{
    static const char *const bad[] = {"Connection",
                                      "connection",
                                      "TE",
                                      "Upgrade",
                                      "Keep-Alive",
                                      "Proxy-Connection",
                                      "Proxy-Authorization",
                                      "Proxy-Authenticate",
                                      "Content-Length",
                                      "Transfer-Encoding",
                                      "Trailer",
                                      "Expect",
                                      "",
                                      "X Y",
                                      "X:",
                                      "X\r\nY",
                                      "\xc3\xa9"};
    static const char *const good[] = {"Authorization", "X-Api-Key", "host", "x",
                                       "Cookie",        "X_y.z~1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_not_null(gm_client_field_name_wrong(span(bad[i])), "%s", bad[i]);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        cr_assert_null(gm_client_field_name_wrong(span(good[i])), "%s", good[i]);
}

Test(fields, values_that_no_field_has)
{
    static char big[GM_CLIENT_FIELD_VALUE_MAX + 2];
    memset(big, 'x', sizeof big - 1);
    cr_assert_not_null(gm_client_field_value_wrong(span(big)));
    big[GM_CLIENT_FIELD_VALUE_MAX] = '\0';
    cr_assert_null(gm_client_field_value_wrong(span(big)));
    cr_assert_not_null(gm_client_field_value_wrong(span("")));
    cr_assert_not_null(gm_client_field_value_wrong(span("a\r\nX: y")));
    cr_assert_not_null(gm_client_field_value_wrong(span("a\nb")));
    cr_assert_not_null(gm_client_field_value_wrong(span("a\x7f")));
    cr_assert_not_null(gm_client_field_value_wrong((struct gm_http_span){"a\0b", 3}));
    cr_assert_null(gm_client_field_value_wrong(span("Bearer a\tb \xc3\xa9")));
}

/* What the backend reads, with these fields of ours. */
static void expect(const struct ask *ask, const struct gm_client_field *list, uint32_t count,
                   const char *wanted)
{
    static const struct step ok = {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"},
                             chunks = {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                                       .body = -1};
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world *world = world_new(seed, URL);
        struct gm_client_fields *fields = gm_client_fields_new(list, count);
        world->script = ask->trailers != NULL ? &chunks : &ok;
        world->script_len = 1;
        world_run(world, MS);
        world->pool.config.fields = fields;
        world_ask(world, ask);
        world_run(world, SECOND);
        cr_assert(world->accepted == 1);
        cr_assert_str_eq(world->peers[0]->got.bytes, wanted);
        cr_assert(world->owner.ends == 1 && world->owner.fails == 0);
        world_free(world);
        gm_client_fields_put(fields);
    }
}

Test(fields, ours_stand_instead_of_the_clients)
{
    struct ask ask = {.method = "GET",
                      .target = "/",
                      .authority = "client.example",
                      .content_length = GM_HEAD_LENGTH_UNKNOWN,
                      .fields = "AUTHORIZATION: Bearer client\nX-Other: 1\nauthorization: again\n"};
    struct gm_client_field list[] = {{span("Authorization"), span("Bearer ours")},
                                     {span("X-New"), span("n")}};
    expect(&ask, list, 2,
           "GET / HTTP/1.1\r\nHost: client.example\r\nX-Other: 1\r\nAuthorization: Bearer ours\r\n"
           "X-New: n\r\n\r\n");
    expect(&ask, list + 1, 1,
           "GET / HTTP/1.1\r\nHost: client.example\r\nAUTHORIZATION: Bearer client\r\n"
           "X-Other: 1\r\nauthorization: again\r\nX-New: n\r\n\r\n");
}

Test(fields, a_host_of_ours_is_the_only_one)
{
    struct ask ask = {.method = "GET",
                      .target = "/",
                      .authority = "client.example",
                      .content_length = GM_HEAD_LENGTH_UNKNOWN};
    struct gm_client_field host = {span("host"), span("api.example:81")};
    expect(&ask, &host, 1, "GET / HTTP/1.1\r\nhost: api.example:81\r\n\r\n");
}

Test(fields, trailers_do_not_bring_them_back)
{
    struct ask ask = {.method = "POST",
                      .target = "/",
                      .authority = "h",
                      .content_length = GM_HEAD_LENGTH_UNKNOWN,
                      .flags = GM_HEAD_FLAG_BODY,
                      .body = "abc",
                      .body_len = 3,
                      .trailers = "x-key: theirs\nX-Sum: 1\n"};
    struct gm_client_field key = {span("X-Key"), span("ours")};
    expect(&ask, &key, 1,
           "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nX-Key: ours\r\n\r\n"
           "3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n");
}

/* A head as long as a head can be, and as many and as long fields of ours. */
Test(fields, the_largest_of_both_fit)
{
    static char fields[65000], value[GM_CLIENT_FIELD_VALUE_MAX + 1];
    static char names[GM_CLIENT_FIELDS_MAX][8];
    struct gm_client_field list[GM_CLIENT_FIELDS_MAX];
    memcpy(fields, "X-Long: ", 8);
    memset(fields + 8, 'l', 60000);
    fields[8 + 60000] = '\n';
    memset(value, 'v', sizeof value - 1);
    for (uint32_t i = 0; i < GM_CLIENT_FIELDS_MAX; i++) {
        memcpy(names[i], "X-Our", 5);
        names[i][5] = (char)('a' + i);
        list[i] = (struct gm_client_field){span(names[i]), span(value)};
    }
    struct ask ask = {.method = "GET",
                      .target = "/",
                      .authority = "h",
                      .content_length = GM_HEAD_LENGTH_UNKNOWN,
                      .fields = fields};
    static const struct step ok = {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"};
    struct world *world = world_new(7, URL);
    struct gm_client_fields *ours = gm_client_fields_new(list, GM_CLIENT_FIELDS_MAX);
    world->script = &ok;
    world->script_len = 1;
    world_run(world, MS);
    world->pool.config.fields = ours;
    world_ask(world, &ask);
    world_run(world, 5 * SECOND);
    cr_assert(world->accepted == 1);
    const struct text *got = &world->peers[0]->got;
    cr_assert(got->len > 60000 + GM_CLIENT_FIELDS_MAX * GM_CLIENT_FIELD_VALUE_MAX);
    cr_assert(world->owner.ends == 1 && world->owner.fails == 0);
    world_free(world);
    gm_client_fields_put(ours);
}

Test(fields, a_set_lives_as_long_as_somebody_has_it)
{
    struct gm_client_field one = {span("X"), span("1")};
    struct gm_client_fields *fields = gm_client_fields_new(&one, 1);
    cr_assert_eq(gm_client_fields_ref(fields), fields);
    gm_client_fields_put(fields);
    cr_assert(gm_client_fields_name(fields, span("x")));
    cr_assert_not(gm_client_fields_name(fields, span("xx")));
    gm_client_fields_put(fields);
    gm_client_fields_put(NULL);
    cr_assert_null(gm_client_fields_ref(NULL));
}
