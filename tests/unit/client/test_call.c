/* Calls against a scripted backend on the simulated network: what is written, byte for byte, what
 * is understood, and how each kind of failure ends. Every case runs over many seeds, so that
 * answers arrive in many splits. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "world.h"

#define URL     "http://10.0.0.1:8000"
#define UNKNOWN GM_HEAD_LENGTH_UNKNOWN
#define SEEDS   40u
#define LEN(a)  (sizeof(a) / sizeof(a)[0])

static const struct ask get = {
    .method = "GET", .target = "/x?y=1", .authority = "test.example", .content_length = UNKNOWN};

static struct world *scripted(uint64_t seed, const struct step *script, unsigned len)
{
    struct world *world = world_new(seed, URL);
    world->script = script;
    world->script_len = len;
    return world;
}

#define FOR_SEEDS(seed) for (uint64_t seed = 1; seed <= SEEDS; seed++)

/* ---- What is written ---- */

static void check_request(const char *url, const struct ask *ask, const struct step *step,
                          const char *wanted)
{
    FOR_SEEDS(seed)
    {
        struct world *world = world_new(seed, url);
        world->script = step;
        world->script_len = 1;
        world_ask(world, ask);
        cr_assert(world->owner.start_rc == 0);
        world_run(world, SECOND);
        cr_assert(world->accepted == 1);
        cr_assert_str_eq(world->peers[0]->got.bytes, wanted);
        cr_assert(world->owner.ends == 1 && world->owner.fails == 0);
        world_free(world);
    }
}

static const struct step ok = {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"};

Test(call, a_get)
{
    check_request(URL, &get, &ok, "GET /x?y=1 HTTP/1.1\r\nHost: test.example\r\n\r\n");
}

Test(call, prefix_target_and_fields_pass_byte_for_byte)
{
    struct ask ask = get;
    ask.target = "//a/../%2e%2F?q=%00";
    ask.fields = "X-One: a  b\nx-one: \xc3\xa9\nExpect: 100-continue\n";
    check_request(
        URL "/pre/fix/", &ask, &ok,
        "GET /pre/fix//a/../%2e%2F?q=%00 HTTP/1.1\r\nHost: test.example\r\nX-One: a  b\r\n"
        "x-one: \xc3\xa9\r\nExpect: 100-continue\r\n\r\n");
}

Test(call, an_empty_authority_is_the_targets)
{
    struct ask ask = get;
    ask.authority = "";
    check_request(URL, &ask, &ok, "GET /x?y=1 HTTP/1.1\r\nHost: 10.0.0.1:8000\r\n\r\n");
}

Test(call, a_counted_body)
{
    struct ask ask = {.method = "POST", .target = "/", .authority = "h", .content_length = 5};
    ask.flags = GM_HEAD_FLAG_BODY;
    ask.body = "abcde";
    ask.body_len = 5;
    struct step step = ok;
    step.body = 5;
    check_request(URL, &ask, &step, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabcde");
    ask.content_length = 0;
    ask.flags = 0;
    ask.body_len = 0;
    check_request(URL, &ask, &ok, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
}

Test(call, a_chunked_body_with_trailers)
{
    struct ask ask = {.method = "PUT", .target = "/", .authority = "h", .content_length = UNKNOWN};
    ask.flags = GM_HEAD_FLAG_BODY | GM_HEAD_FLAG_TE_TRAILERS;
    ask.body = "abcde";
    ask.body_len = 5;
    struct step step = ok;
    step.body = -1;
    static const char head[] = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
                               "TE: trailers\r\nConnection: TE\r\n\r\n5\r\nabcde\r\n0\r\n";
    char wanted[256];
    (void)snprintf(wanted, sizeof wanted, "%s\r\n", head);
    check_request(URL, &ask, &step, wanted);
    ask.trailers = "X-Sum: 42\nX-More: y\n";
    (void)snprintf(wanted, sizeof wanted, "%sX-Sum: 42\r\nX-More: y\r\n\r\n", head);
    check_request(URL, &ask, &step, wanted);
}

/* ---- What is understood ---- */

struct answer_row {
    const char *method, *answer, *body, *trailers;
    unsigned heads, status;
    enum then then;
    bool reused; /* the connection may carry another request */
};

static void check_answer(const struct answer_row *row, uint64_t seed)
{
    const struct step script[] = {{.answer = row->answer, .then = row->then}, ok};
    struct world *world = scripted(seed, script, 2);
    struct ask ask = get;
    ask.method = row->method;
    world_ask(world, &ask);
    world_run(world, SECOND / 10);
    struct owner *owner = &world->owner;
    cr_assert(owner->ends == 1 && owner->fails == 0, "%s", row->answer);
    cr_assert_eq(owner->head_count, row->heads, "%s", row->answer);
    cr_assert_eq(owner->last_status, row->status);
    cr_assert_str_eq(owner->body.bytes, row->body);
    cr_assert_str_eq(owner->trailers.bytes, row->trailers);
    cr_assert_eq(owner->head_end, row->body[0] == '\0' && row->trailers[0] == '\0' &&
                                      strstr(row->answer, "chunked") == NULL && row->then == STAY);
    world_ask(world, &get);
    world_run(world, SECOND / 10);
    cr_assert_eq(owner->ends, 1u);
    cr_assert_eq(world->accepted, row->reused ? 1u : 2u, "%s", row->answer);
    world_free(world);
}

Test(call, answers, .timeout = 120)
{
    static const struct answer_row rows[] = {
        {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", "", 1, 200, STAY,
         true},
        {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", "", 1, 200, STAY, true},
        {"GET",
         "HTTP/1.1 200 OK\r\nTransfer-Encoding: "
         "chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
         "abcde", "", 1, 200, STAY, true},
        {"GET",
         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-S: 1\r\nY: "
         "2\r\n\r\n",
         "a", "X-S=1;Y=2;", 1, 200, STAY, true},
        {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", "", 1, 200,
         STAY, true},
        {"GET", "HTTP/1.1 200 OK\r\n\r\nuntil the end", "until the end", "", 1, 200, FIN, false},
        {"GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", "ab", "", 1, 200, STAY, false},
        {"GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab", "ab", "", 1,
         200, STAY, false},
        {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", "", "", 1, 200, STAY, true},
        {"GET", "HTTP/1.1 204 No Content\r\n\r\n", "", "", 1, 204, STAY, true},
        {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "", "", 1, 304, STAY,
         true},
        {"GET",
         "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
         "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nz",
         "z", "", 3, 200, STAY, true},
        /* Bytes nobody asked for: the answer stands, the connection does not. */
        {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nzHTTP/1.1 200 OK\r\n\r\n", "z", "", 1,
         200, STAY, false},
    };
    for (size_t i = 0; i < LEN(rows); i++) {
        FOR_SEEDS(seed)
        check_answer(&rows[i], seed);
    }
}

static void check_failure(const char *answer, enum then then, enum gm_reason_code reason)
{
    FOR_SEEDS(seed)
    {
        const struct step script[] = {{.answer = answer, .then = then}};
        struct world *world = scripted(seed, script, 1);
        world_ask(world, &get);
        world_run(world, SECOND);
        cr_assert(world->owner.fails == 1 && world->owner.ends == 0, "%s", answer);
        cr_assert_eq(world->owner.reason, reason, "%s: %d", answer, world->owner.reason);
        cr_assert(!world->owner.untouched);
        world_free(world);
    }
}

Test(call, what_is_cut_short_fails, .timeout = 120)
{
    check_failure(NULL, FIN, GM_REASON_BACKEND_CLOSED);
    check_failure(NULL, RST, GM_REASON_BACKEND_CLOSED);
    check_failure("HTTP/1.1 200 OK\r\nContent-Le", FIN, GM_REASON_BACKEND_CLOSED);
    check_failure("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", FIN,
                  GM_REASON_BACKEND_CLOSED);
    check_failure("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", FIN,
                  GM_REASON_BACKEND_CLOSED);
    check_failure("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", FIN,
                  GM_REASON_BACKEND_CLOSED);
}

Test(call, what_is_not_http_fails, .timeout = 120)
{
    check_failure("SSH-2.0-OpenSSH\r\n\r\n", STAY, GM_REASON_BACKEND_PROTOCOL);
    check_failure("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", STAY,
                  GM_REASON_BACKEND_PROTOCOL);
    check_failure("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nab",
                  STAY, GM_REASON_BACKEND_PROTOCOL);
    check_failure("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", STAY,
                  GM_REASON_BACKEND_PROTOCOL);
    check_failure("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
                  STAY, GM_REASON_BACKEND_PROTOCOL);
}

static char flood[100 * 27];

Test(call, interim_answers_are_counted)
{
    for (unsigned i = 0; i < 100; i++)
        memcpy(flood + (size_t)i * 25, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    check_failure(flood, STAY, GM_REASON_BACKEND_PROTOCOL);
}

/* ---- Connections ---- */

static void advance(struct world *world)
{
    world_run(world, SECOND / 10);
    cr_assert_eq(world->owner.ends, 1u);
}

Test(call, a_kept_connection_is_used_again_until_it_is_too_old)
{
    const struct step script[] = {ok, ok, ok};
    struct world *world = scripted(1, script, 3);
    world_ask(world, &get);
    advance(world);
    world_run(world, 3 * SECOND);
    world_ask(world, &get);
    advance(world);
    cr_assert_eq(world->accepted, 1u);
    world_run(world, 5 * SECOND);
    cr_assert(world->peers[0]->ended, "closed when its time was over, not when it was missed");
    world_ask(world, &get);
    advance(world);
    cr_assert_eq(world->accepted, 2u);
    world_free(world);
}

Test(call, what_may_not_be_repeated_takes_a_fresh_connection)
{
    const struct step script[] = {ok, ok, ok};
    struct ask post = {.method = "POST", .target = "/", .authority = "h", .content_length = 0};
    struct world *world = scripted(1, script, 3);
    world_ask(world, &get);
    advance(world);
    world_run(world, SECOND / 2);
    world_ask(world, &post);
    advance(world);
    cr_assert_eq(world->accepted, 1u, "idle for half a second");
    world_run(world, SECOND * 3 / 2);
    world_ask(world, &post);
    advance(world);
    cr_assert_eq(world->accepted, 2u, "idle for a second and a half");
    world_free(world);
}

Test(call, a_stale_connection_is_nobodys_problem, .timeout = 120)
{
    static const struct step thens[] = {{.then = FIN, .body = 3000}, {.then = RST, .body = 3000}};
    char body[3000];
    memset(body, 'b', sizeof body);
    FOR_SEEDS(seed)
    {
        struct step again = ok;
        again.body = sizeof body;
        const struct step script[] = {ok, thens[seed % 2], again};
        struct world *world = scripted(seed, script, 3);
        world_ask(world, &get);
        advance(world);
        struct ask put = {.method = "PUT",
                          .target = "/",
                          .authority = "h",
                          .content_length = sizeof body,
                          .flags = GM_HEAD_FLAG_BODY,
                          .body = body,
                          .body_len = sizeof body};
        world_ask(world, &put);
        advance(world);
        cr_assert(world->owner.fails == 0 && world->accepted == 2);
        const char *second = strstr(world->peers[1]->got.bytes, "\r\n\r\n");
        cr_assert_eq(strlen(second + 4), sizeof body, "the body is sent again, whole");
        world_free(world);
    }
}

Test(call, a_post_on_a_stale_connection_fails)
{
    const struct step script[] = {ok, {.then = FIN}};
    struct ask post = {.method = "POST", .target = "/", .authority = "h", .content_length = 0};
    struct world *world = scripted(1, script, 2);
    world_ask(world, &get);
    advance(world);
    world_ask(world, &post);
    world_run(world, SECOND);
    cr_assert(world->owner.fails == 1 && world->owner.reason == GM_REASON_BACKEND_CLOSED);
    cr_assert(world->accepted == 1 && !world->owner.untouched);
    world_free(world);
}

Test(call, it_is_repeated_once)
{
    const struct step script[] = {ok, {.then = FIN}, {.then = FIN}, ok};
    struct world *world = scripted(1, script, 4);
    world_ask(world, &get);
    advance(world);
    world_ask(world, &get);
    world_run(world, SECOND);
    cr_assert(world->owner.fails == 1 && world->owner.reason == GM_REASON_BACKEND_CLOSED);
    cr_assert_eq(world->accepted, 2u);
    world_free(world);
}

Test(call, nobody_listens)
{
    struct world *world = world_new(1, "http://10.0.0.1:81");
    world_ask(world, &get);
    world_run(world, 6 * SECOND);
    cr_assert(world->owner.start_rc < 0 || (world->owner.fails == 1 && world->owner.untouched &&
                                            world->owner.reason == GM_REASON_BACKEND_CONNECT));
    world_free(world);
}

static void two_addresses(struct world *world)
{
    world->pool.addrs[1] = world->pool.addrs[0];
    world->pool.addrs[0].in.sin_port = htons(81);
    world->pool.addr_count = 2;
}

Test(call, the_next_address_is_tried)
{
    const struct step script[] = {ok};
    struct world *world = scripted(1, script, 1);
    world_do(world, two_addresses);
    world_ask(world, &get);
    world_run(world, SECOND);
    cr_assert(world->owner.ends == 1 && world->accepted == 1);
    world_free(world);
}

Test(call, a_head_that_does_not_come)
{
    const struct step script[] = {{.answer = "HTTP/1.1 100 Continue\r\n\r\n"}};
    struct world *world = scripted(1, script, 1);
    world_ask(world, &get);
    world_run(world, 9 * SECOND);
    cr_assert(world->owner.fails == 0);
    world_run(world, 2 * SECOND);
    cr_assert(world->owner.fails == 1 && world->owner.reason == GM_REASON_BACKEND_TIMEOUT);
    world_free(world);
}

/* ---- Flow ---- */

static char big[200000];

static void more_room(struct world *world)
{
    world->owner.room += 1 + world->owner.body.len % 7000;
    gm_call_pump(&world->owner.call);
}

static void check_trickle(uint64_t seed, bool chunked)
{
    char head[120];
    size_t body = 100000, len;
    len = chunked ? (size_t)snprintf(head, sizeof head,
                                     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n",
                                     body)
                  : (size_t)snprintf(head, sizeof head,
                                     "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", body);
    memcpy(big, head, len);
    for (size_t i = 0; i < body; i++)
        big[len + i] = (char)('a' + i % 23);
    memcpy(big + len + body, "\r\n0\r\n\r\n", 7);
    const struct step script[] = {{.answer = big, .answer_len = len + body + (chunked ? 7 : 0)}};
    struct world *world = scripted(seed, script, 1);
    world->owner.room = 0;
    world_ask(world, &get);
    world_run(world, SECOND / 10);
    cr_assert(world->owner.head_count == 1 && world->owner.body.len == 0);
    cr_assert(world->owner.call.in.bytes <= GM_CALL_HEAD_GRANT, "no more than was reserved");
    for (unsigned i = 0; i < 2000 && world->owner.ends == 0; i++) {
        world_do(world, more_room);
        world_run(world, MS);
    }
    cr_assert(world->owner.ends == 1 && world->owner.body.len == body);
    cr_assert(memcmp(world->owner.body.bytes, big + len, body) == 0);
    world_free(world);
}

Test(call, no_more_is_taken_than_there_is_room_for, .timeout = 120)
{
    for (uint64_t seed = 1; seed <= 10; seed++) {
        check_trickle(seed, false);
        check_trickle(seed, true);
    }
}

Test(call, a_body_that_breaks_its_word)
{
    const struct step script[] = {{.body = 99}};
    struct ask ask = {.method = "POST",
                      .target = "/",
                      .authority = "h",
                      .content_length = 5,
                      .flags = GM_HEAD_FLAG_BODY,
                      .body = "abcdef",
                      .body_len = 6};
    struct world *world = scripted(1, script, 1);
    world_ask(world, &ask);
    cr_assert_eq(world->owner.data_rc, -GM_E_PROTOCOL);
    world_free(world);
    world = scripted(1, script, 1);
    ask.body_len = 4;
    world_ask(world, &ask);
    cr_assert_eq(world->owner.end_rc, -GM_E_PROTOCOL);
    world_free(world);
}

Test(call, an_early_answer_ends_the_call_and_its_connection)
{
    const struct step script[] = {
        {.answer = "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno",
         .body = 9,
         .early = true}};
    struct ask ask = {.method = "POST",
                      .target = "/",
                      .authority = "h",
                      .content_length = 9,
                      .flags = GM_HEAD_FLAG_BODY,
                      .body = "abc",
                      .body_len = 3,
                      .open = true};
    struct world *world = scripted(1, script, 1);
    world_ask(world, &ask);
    world_run(world, SECOND);
    cr_assert(world->owner.ends == 1 && world->owner.last_status == 413);
    cr_assert_str_eq(world->owner.body.bytes, "no");
    cr_assert(world->peers[0]->ended, "it is not kept");
    world_free(world);
}

/* ---- Upgrade ---- */

static void send_raw(struct world *world)
{
    struct gm_buf *buf = gm_ring_block(world->ring, GM_BLOCK_SMALL);
    memcpy(buf->data, "ping", 4);
    world->owner.data_rc = gm_call_data(&world->owner.call, (gm_slice){buf->data, 4, buf});
}
static void end_raw(struct world *world)
{
    world->owner.end_rc = gm_call_end(&world->owner.call);
}

static const struct ask upgrade = {.method = "GET",
                                   .target = "/ws",
                                   .authority = "h",
                                   .fields = "Upgrade: echo\n",
                                   .content_length = UNKNOWN,
                                   .flags = GM_HEAD_FLAG_UPGRADE,
                                   .open = true};
static const char switching[] = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
                                "Upgrade: echo\r\n\r\npong";

Test(call, an_upgrade_is_raw_both_ways_and_half_closes)
{
    FOR_SEEDS(seed)
    {
        const struct step script[] = {{.answer = switching}};
        struct world *world = scripted(seed, script, 1);
        world_ask(world, &upgrade);
        world_run(world, SECOND);
        cr_assert(world->owner.last_status == 101 && world->owner.ends == 0);
        cr_assert_str_eq(world->owner.body.bytes, "pong");
        world_do(world, send_raw);
        world_do(world, end_raw);
        world_run(world, SECOND);
        const char *text = world->peers[0]->got.bytes;
        cr_assert_str_eq(text, "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: echo\r\n"
                               "Connection: Upgrade\r\n\r\nping");
        cr_assert(world->peers[0]->ended && world->owner.ends == 1);
        cr_assert(!gm_call_active(&world->owner.call));
        world_free(world);
    }
}

Test(call, what_follows_a_backends_half_close_still_leaves)
{
    FOR_SEEDS(seed)
    {
        const struct step script[] = {{.answer = switching, .then = FIN}};
        struct world *world = scripted(seed, script, 1);
        world_ask(world, &upgrade);
        world_run(world, 50 * MS);
        cr_assert(world->owner.ends == 1 && gm_call_active(&world->owner.call));
        world_do(world, end_raw);
        world_run(world, SECOND);
        cr_assert(!gm_call_active(&world->owner.call) && world->owner.fails == 0);
        world_free(world);
    }
}

/* ---- Cancelling ---- */

Test(call, it_can_be_cancelled_at_any_time, .timeout = 120)
{
    static const char answer[] =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    for (uint64_t us = 0; us < 1500; us += 25) {
        const struct step script[] = {{.answer = answer}};
        struct world *world = scripted(us + 1, script, 1);
        world_ask(world, &get);
        world_run(world, us * 1000);
        world_free(world); /* cancels, and checks that all has come back */
    }
}
