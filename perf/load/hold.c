/*
 * Connections that are held: idle ones, which have had an answer and wait, or with --stalled ones
 * that have asked for something long and read no byte of it.
 *
 *   gimlet-perf-hold --url URL [--stalled] [--header "Name: value"]...
 *
 * It does as it is told, line by line on stdin, and answers each with a line of JSON:
 *   open N   until N connections stand in all and have been answered (stalled: by a first byte)
 *   ask K    every K-th idle one asks again and must be answered; stalled: every K-th must still
 * stand The end of stdin ends it. Each address 127.0.0.x gives 20,000 connections: a source has
 * only some 28,000 ports towards one server.
 */
#include "caller.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define HELD_MAX        200000u
#define PER_SOURCE      20000u
#define OPENING_MAX     256u /* at the same time: the listener's queue is finite */
#define PATIENCE_NS     (20u * GM_LOAD_SECOND_NS) /* without any news */
#define STALLED_RECEIVE 32768                     /* SO_RCVBUF of those that never read */

static struct {
    struct gm_target target;
    bool stalled;
} given;

static struct {
    int epoll;
    char *request;
    size_t request_len;
    struct gm_caller *callers[HELD_MAX];
    uint64_t count, answered, failed; /* held; answers since the command began; failed ever */
} run;

static struct gm_input input;

static void fail(struct gm_caller *caller, const char *why)
{
    gm_caller_close(caller);
    if (run.failed++ == 0) {
        fprintf(stderr, "connection %" PRIu64 ": %s\n", run.count, why);
    }
}

static bool has_input(const struct gm_caller *caller)
{
    char byte;
    return caller->fd >= 0 && recv(caller->fd, &byte, 1, MSG_PEEK) == 1;
}

/* The first byte of the answer has come, and stays where it is. */
static void note_stalled(struct gm_caller *caller)
{
    if (caller->request && has_input(caller)) {
        caller->request = NULL;
        run.answered++;
    }
}

static void take_event(struct gm_caller *caller)
{
    struct gm_span body;
    int news = gm_caller_push(caller);
    input.at = input.len = 0;
    if (given.stalled) {
        note_stalled(caller);
    }
    while (news >= 0 && !given.stalled) {
        news = gm_caller_pull(caller, &input, &body);
        if (news == GM_CALLER_NOTHING) {
            return;
        }
        if (news == GM_CALLER_ANSWER) {
            bool good = gm_reader_status(&caller->reader) == 200;
            run.answered += good;
            news = good ? news : -EBADMSG;
        }
    }
    if (news < 0 && caller->fd >= 0) {
        fail(caller, "broken, or not answered with 200");
    }
}

/* Serves events until nothing is under way any more. */
static void settle(uint64_t wanted)
{
    static struct epoll_event events[GM_LOAD_EVENTS];
    uint64_t failed = run.failed;
    while (run.answered + (run.failed - failed) < wanted) {
        int count = gm_load_wait(run.epoll, events, gm_load_now() + PATIENCE_NS);
        for (int i = 0; i < count; i++) {
            take_event(events[i].data.ptr);
        }
        if (count == 0) {
            fprintf(stderr, "no news for %llu s\n", PATIENCE_NS / GM_LOAD_SECOND_NS);
            run.failed++;
            return;
        }
    }
}

/* One more connection, which asks. Returns false when the machine gives no more. */
static bool open_one(void)
{
    struct gm_caller *caller = calloc(1, sizeof(*caller));
    uint32_t source = 1u + (uint32_t)(run.count / PER_SOURCE);
    int failure = -ENOMEM;
    if (caller) {
        failure = gm_caller_open(caller, run.epoll, &given.target, source,
                                 given.stalled ? STALLED_RECEIVE : 0);
    }
    if (failure != 0) {
        fprintf(stderr, "connection %" PRIu64 ": %s\n", run.count, strerror(-failure));
        run.failed++;
        free(caller);
        return false;
    }
    run.callers[run.count++] = caller;
    if (gm_caller_ask(caller, run.request, run.request_len) != 0) {
        fail(caller, "cannot ask");
    }
    return true;
}

static void open_until(uint64_t wanted)
{
    bool more = true;
    while (run.count < wanted && more) {
        uint64_t batch = 0;
        run.answered = 0;
        while (run.count < wanted && batch < OPENING_MAX && (more = open_one())) {
            batch++;
        }
        settle(batch);
    }
}

static void ask_every(uint64_t step)
{
    uint64_t asked = 0;
    run.answered = 0;
    for (uint64_t i = 0; i < run.count; i += step) {
        struct gm_caller *caller = run.callers[i];
        if (given.stalled) {
            bool stands = has_input(caller);
            run.answered += stands;
            run.failed += !stands;
        } else if (caller->fd >= 0 && gm_caller_ask(caller, run.request, run.request_len) == 0) {
            asked++;
        } else {
            run.failed++;
        }
    }
    if (!given.stalled) {
        settle(asked);
    }
}

/* Events that nobody waits for: connections that were closed under us, requests not yet sent. */
static void look_around(void)
{
    static struct epoll_event events[GM_LOAD_EVENTS];
    for (int count; (count = gm_load_wait(run.epoll, events, gm_load_now())) > 0;) {
        for (int i = 0; i < count; i++) {
            take_event(events[i].data.ptr);
        }
    }
}

static void obey(const char *line)
{
    uint64_t number = 0;
    if (sscanf(line, "open %" SCNu64, &number) == 1 && number <= HELD_MAX) {
        open_until(number);
    } else if (sscanf(line, "ask %" SCNu64, &number) == 1 && number > 0) {
        look_around();
        ask_every(number);
    } else {
        gm_load_fail("%s: not understood", line);
    }
    look_around();
    printf("{\"held\":%" PRIu64 ",\"answered\":%" PRIu64 ",\"failed\":%" PRIu64 "}\n", run.count,
           run.answered, run.failed);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"url", required_argument, NULL, 'u'},
                                            {"stalled", no_argument, NULL, 's'},
                                            {"header", required_argument, NULL, 'H'},
                                            {0}};
    for (int option; (option = getopt_long(argc, argv, "H:", options, NULL)) != -1;) {
        switch (option) {
        case 'u':
            gm_target_read(&given.target, optarg);
            break;
        case 's':
            given.stalled = true;
            break;
        case 'H':
            gm_target_add_field(&given.target, optarg);
            break;
        default:
            gm_load_fail("see the head of perf/load/hold.c");
        }
    }
    if (given.target.path[0] == '\0') {
        gm_load_fail("--url is needed");
    }
    gm_load_raise_files();
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    run.request = gm_target_request(&given.target, 0, 0, &run.request_len);
    char line[128];
    while (fgets(line, sizeof(line), stdin)) {
        obey(line);
    }
    return run.failed > 0 ? 1 : 0;
}
