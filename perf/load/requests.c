/*
 * Small requests through keep-alive connections, to one service or in turn to many.
 *
 *   gimlet-perf-requests --url URL --connections N --seconds N [--warm MILLISECONDS] [--rate N]
 *                        [--services N] [--header "Name: value"]...
 *
 * With --services the `{}` in the URL is a number below it; one connection after another, each
 * request takes the next. Without --rate a connection asks again as soon as it has its answer; with
 * it, `rate` requests a second are due, evenly and each on the next connection, and a request that
 * had to wait for its connection counts from when it was due: a stall meets all that were due in
 * it. What is asked before the warming is over does not count.
 */
#include "caller.h"
#include "histogram.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define CONNECTIONS_MAX 60000u
#define SERVICES_MAX    100000u
#define GRACE_NS        (5u * GM_LOAD_SECOND_NS) /* for the last answers */

struct text {
    char *bytes;
    size_t len;
};

struct client {
    struct gm_caller caller; /* first: epoll's pointer */
    uint64_t asked_ns;       /* of the request under way: sent, or due */
    uint64_t due_ns, owed;   /* with a rate: the first that waits, and how many do */
};

static struct {
    struct gm_target target;
    uint64_t connections, seconds, warm_ms, rate, services;
} given = {.warm_ms = 500, .services = 1};

static struct {
    int epoll;
    struct text *texts;
    struct client *clients;
    uint64_t asked, under_way;
    uint64_t steady_ns, ended_ns, round_ns; /* round: between two requests of a connection */
    uint64_t measured, failed;
    bool steady, ended;
    struct gm_histogram latency;
} run;

static struct gm_input input;

static void ask(struct client *client, uint64_t asked_ns)
{
    const struct text *text = &run.texts[run.asked++ % given.services];
    client->asked_ns = asked_ns;
    run.under_way++;
    if (gm_caller_ask(&client->caller, text->bytes, text->len) != 0) {
        run.failed++;
        run.under_way--;
        gm_caller_close(&client->caller);
    }
}

static void ask_what_is_owed(struct client *client)
{
    if (client->owed > 0) {
        client->owed--;
        ask(client, client->due_ns);
        client->due_ns += run.round_ns;
    }
}

static void take_answer(struct client *client)
{
    uint64_t now_ns = gm_load_now();
    uint32_t status = gm_reader_status(&client->caller.reader);
    run.under_way--;
    if (status != 200 && run.failed++ == 0) {
        fprintf(stderr, "a request failed: status %u\n", status);
    }
    if (status == 200 && client->asked_ns >= run.steady_ns && !run.ended) {
        run.measured++;
        gm_histogram_add(&run.latency, now_ns - client->asked_ns);
    }
    if (run.ended) {
        return;
    }
    if (given.rate == 0) {
        ask(client, now_ns);
    } else {
        ask_what_is_owed(client);
    }
}

static void take_event(struct client *client)
{
    struct gm_span body;
    int news = gm_caller_push(&client->caller);
    input.at = input.len = 0;
    while (news >= 0 && client->caller.fd >= 0) {
        news = gm_caller_pull(&client->caller, &input, &body);
        if (news == GM_CALLER_NOTHING) {
            return;
        }
        if (news == GM_CALLER_ANSWER) {
            take_answer(client);
        }
    }
    if (news < 0 && client->caller.fd >= 0) {
        run.under_way -= client->caller.request ? 1u : 0u;
        gm_caller_close(&client->caller);
        if (run.failed++ == 0) {
            fprintf(stderr, "a connection broke\n");
        }
    }
}

/* --- the run --- */

/* With a rate: request number `due` is the next connection's. */
static void fall_due(uint64_t due, uint64_t due_ns)
{
    struct client *client = &run.clients[due % given.connections];
    if (client->caller.fd < 0) {
        run.failed++;
        return;
    }
    if (client->owed++ == 0) {
        client->due_ns = due_ns;
    }
    if (!client->caller.request) {
        ask_what_is_owed(client);
    }
}

static void note_phase(uint64_t now_ns)
{
    if (!run.steady && now_ns >= run.steady_ns) {
        run.steady = true;
        gm_load_phase("steady");
    }
    if (!run.ended && now_ns >= run.ended_ns) {
        run.ended = true;
        gm_load_phase("ended");
    }
}

static void run_all(void)
{
    static struct epoll_event events[GM_LOAD_EVENTS];
    uint64_t began_ns = gm_load_now(), now_ns = began_ns, due = 0;
    uint64_t step_ns = given.rate > 0 ? GM_LOAD_SECOND_NS / given.rate : 0;
    run.round_ns = step_ns * given.connections;
    run.steady_ns = began_ns + given.warm_ms * 1000000u;
    run.ended_ns = run.steady_ns + given.seconds * GM_LOAD_SECOND_NS;
    for (uint64_t i = 0; given.rate == 0 && i < given.connections; i++) {
        ask(&run.clients[i], now_ns);
    }
    while (!run.ended || (run.under_way > 0 && now_ns < run.ended_ns + GRACE_NS)) {
        uint64_t next_ns = !run.steady  ? run.steady_ns
                           : !run.ended ? run.ended_ns
                                        : run.ended_ns + GRACE_NS;
        if (given.rate > 0 && !run.ended) {
            next_ns = began_ns + due * step_ns;
        }
        int count = gm_load_wait(run.epoll, events, next_ns);
        for (int i = 0; i < count; i++) {
            take_event(events[i].data.ptr);
        }
        now_ns = gm_load_now();
        note_phase(now_ns);
        for (; given.rate > 0 && !run.ended && began_ns + due * step_ns <= now_ns; due++) {
            fall_due(due, began_ns + due * step_ns);
        }
    }
    run.failed += run.under_way;
}

static void prepare(void)
{
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    run.texts = calloc(given.services, sizeof(struct text));
    run.clients = calloc(given.connections, sizeof(struct client));
    if (run.epoll < 0 || !run.texts || !run.clients) {
        gm_load_fail("no memory");
    }
    for (uint64_t i = 0; i < given.services; i++) {
        run.texts[i].bytes = gm_target_request(&given.target, i, 0, &run.texts[i].len);
    }
    for (uint64_t i = 0; i < given.connections; i++) {
        int failure = gm_caller_open(&run.clients[i].caller, run.epoll, &given.target,
                                     1u + (uint32_t)(i / 20000u), 0);
        if (failure != 0) {
            gm_load_fail("no connection: %s", strerror(-failure));
        }
    }
}

static void read_options(int argc, char **argv)
{
    static const struct option options[] = {
        {"url", required_argument, NULL, 'u'},     {"connections", required_argument, NULL, 'c'},
        {"seconds", required_argument, NULL, 's'}, {"warm", required_argument, NULL, 'w'},
        {"rate", required_argument, NULL, 'r'},    {"services", required_argument, NULL, 'n'},
        {"header", required_argument, NULL, 'H'},  {0}};
    for (int option; (option = getopt_long(argc, argv, "H:", options, NULL)) != -1;) {
        switch (option) {
        case 'u':
            gm_target_read(&given.target, optarg);
            break;
        case 'c':
            given.connections = gm_load_number(optarg, 1, CONNECTIONS_MAX);
            break;
        case 's':
            given.seconds = gm_load_number(optarg, 1, 3600);
            break;
        case 'w':
            given.warm_ms = gm_load_number(optarg, 0, 600000);
            break;
        case 'r':
            given.rate = gm_load_number(optarg, 0, 10000000);
            break;
        case 'n':
            given.services = gm_load_number(optarg, 1, SERVICES_MAX);
            break;
        case 'H':
            gm_target_add_field(&given.target, optarg);
            break;
        default:
            gm_load_fail("see the head of perf/load/requests.c");
        }
    }
    if (given.target.path[0] == '\0' || given.connections == 0 || given.seconds == 0) {
        gm_load_fail("--url, --connections and --seconds are needed");
    }
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    gm_load_raise_files();
    prepare();
    run_all();
    printf("{\"connections\":%" PRIu64 ",\"services\":%" PRIu64 ",\"seconds\":%" PRIu64
           ",\"units\":%" PRIu64 ",\"failed\":%" PRIu64 ",",
           given.connections, given.services, given.seconds, run.measured, run.failed);
    gm_histogram_print(&run.latency, "");
    printf("}\n");
    return run.failed > 0 ? 1 : 0;
}
