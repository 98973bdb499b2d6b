/*
 * Many token streams at once: each connection asks for one, reads it to its end, and asks again.
 *
 *   gimlet-perf-streams --url URL --streams N --events N [--repeat N] [--body BYTES]
 *                       [--ramp MILLISECONDS] [--header "Name: value"]...
 *
 * The URL is the backend's /stream with its parameters; `events` says how many each answer has.
 * With
 * --body the request is a POST of so many bytes (a prompt). Connections begin spread over the ramp.
 * The span that is measured lasts from when every connection has had an event until the first has
 * had its last; what is lost, doubled or out of order counts over the whole run.
 */
#include "caller.h"
#include "histogram.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define LINE_MAX    80u /* of a line of the stream, kept; the rest is padding */
#define STREAMS_MAX 60000u

struct stream {
    struct gm_caller caller; /* first: epoll's pointer */
    uint64_t asked_ns, next; /* the number that must come */
    uint32_t left;           /* requests still to make, this one included */
    uint32_t line_len;
    bool begun, done; /* had an event of this connection; has seen [DONE] of this answer */
    char line[LINE_MAX];
};

static struct {
    struct gm_target target;
    uint64_t streams, events, repeat, body_bytes, ramp_ms;
} given = {.repeat = 1, .ramp_ms = 1000};

static struct {
    int epoll;
    char *request;
    size_t request_len;
    struct stream *streams;
    uint64_t begun, open;         /* connections that have had an event; that are not finished */
    uint64_t steady_ns, ended_ns; /* 0: not yet */
    uint64_t received, lost, failed, measured;
    struct gm_histogram latency, first;
} run;

static struct gm_input input;

static void finish(struct stream *stream)
{
    gm_caller_close(&stream->caller);
    run.open--;
    if (run.ended_ns == 0) {
        run.ended_ns = gm_load_now();
        gm_load_phase("ended");
    }
}

static void fail(struct stream *stream, const char *why)
{
    if (run.failed++ == 0) {
        const char *reason = gm_reader_field(&stream->caller.reader, "X-Gimlet-Error");
        fprintf(stderr, "a stream failed: %s; HTTP status %u %.*s\n", why,
                gm_reader_status(&stream->caller.reader), reason ? (int)strcspn(reason, "\r") : 0,
                reason ? reason : "");
    }
    run.lost += given.events - stream->next;
    finish(stream);
}

static void ask(struct stream *stream)
{
    stream->next = 0;
    stream->line_len = 0;
    stream->done = false;
    stream->asked_ns = gm_load_now();
    if (gm_caller_ask(&stream->caller, run.request, run.request_len) != 0) {
        fail(stream, "it cannot be asked for");
    }
}

/* --- what arrives --- */

static void note_begun(struct stream *stream, uint64_t now_ns)
{
    stream->begun = true;
    if (++run.begun == given.streams && run.ended_ns == 0) {
        run.steady_ns = now_ns;
        gm_load_phase("steady");
    }
}

/* A whole "data: …" line. */
static void take_line(struct stream *stream, uint64_t now_ns)
{
    uint64_t number, stamp_ns, body_bytes;
    stream->line[stream->line_len] = '\0';
    if (strcmp(stream->line, "data: [DONE]") == 0) {
        stream->done = true;
        return;
    }
    if (sscanf(stream->line, "data: %" SCNu64 " %" SCNu64 " %" SCNu64, &number, &stamp_ns,
               &body_bytes) != 3 ||
        number < stream->next || number >= given.events || body_bytes != given.body_bytes) {
        run.failed++; /* doubled, out of order, or not ours */
        return;
    }
    run.lost += number - stream->next;
    run.received++;
    stream->next = number + 1u;
    if (!stream->begun) {
        note_begun(stream, now_ns);
    }
    if (run.steady_ns > 0 && run.ended_ns == 0) {
        run.measured++;
        gm_histogram_add(&run.latency, now_ns - stamp_ns);
        if (number == 0) {
            gm_histogram_add(&run.first, now_ns - stream->asked_ns);
        }
    }
}

static void take_body(struct stream *stream, struct gm_span body, uint64_t now_ns)
{
    while (body.len > 0) {
        const char *end = memchr(body.bytes, '\n', body.len);
        size_t len = end ? (size_t)(end - body.bytes) : body.len;
        size_t room = LINE_MAX - 1u - stream->line_len, kept = len < room ? len : room;
        memcpy(stream->line + stream->line_len, body.bytes, kept);
        stream->line_len += (uint32_t)kept;
        if (end && stream->line_len > 0) {
            take_line(stream, now_ns);
            stream->line_len = 0;
        }
        len += end ? 1u : 0u;
        body.bytes += len;
        body.len -= len;
    }
}

static void take_answer(struct stream *stream)
{
    uint32_t status = gm_reader_status(&stream->caller.reader);
    if (status != 200 || !stream->done) {
        fail(stream, status != 200 ? "refused" : "cut short");
        return;
    }
    run.lost += given.events - stream->next;
    if (--stream->left == 0) {
        finish(stream);
    } else {
        ask(stream);
    }
}

static void take_event(struct stream *stream)
{
    struct gm_span body;
    int news = gm_caller_push(&stream->caller);
    input.at = input.len = 0;
    while (news >= 0 && stream->caller.fd >= 0) {
        news = gm_caller_pull(&stream->caller, &input, &body);
        if (news == GM_CALLER_NOTHING) {
            return;
        }
        if (news == GM_CALLER_BODY && gm_reader_status(&stream->caller.reader) == 200) {
            take_body(stream, body, gm_load_now());
        } else if (news == GM_CALLER_ANSWER) {
            take_answer(stream);
        }
    }
    if (news < 0 && stream->caller.fd >= 0) {
        fail(stream, "its connection broke");
    }
}

/* --- the run --- */

static void open_stream(struct stream *stream)
{
    stream->left = (uint32_t)given.repeat;
    run.open++;
    /* Twenty thousand connections from each source address. */
    uint32_t source = 1u + (uint32_t)((size_t)(stream - run.streams) / 20000u);
    int failure = gm_caller_open(&stream->caller, run.epoll, &given.target, source, 0);
    if (failure != 0) {
        gm_load_fail("no connection: %s", strerror(-failure));
    }
    ask(stream);
}

static void run_all(void)
{
    static struct epoll_event events[GM_LOAD_EVENTS];
    uint64_t began_ns = gm_load_now(), opened = 0;
    uint64_t step_ns = given.ramp_ms * 1000000u / given.streams;
    while (opened < given.streams || run.open > 0) {
        uint64_t next_ns = opened < given.streams ? began_ns + opened * step_ns : UINT64_MAX;
        int count = gm_load_wait(run.epoll, events, next_ns);
        for (int i = 0; i < count; i++) {
            take_event(events[i].data.ptr);
        }
        for (uint64_t now_ns = gm_load_now();
             opened < given.streams && began_ns + opened * step_ns <= now_ns; opened++) {
            open_stream(&run.streams[opened]);
        }
    }
}

static void print_result(void)
{
    double seconds = run.steady_ns > 0 ? (double)(run.ended_ns - run.steady_ns) / 1e9 : 0;
    printf("{\"streams\":%" PRIu64 ",\"seconds\":%.3f,\"units\":%" PRIu64 ",\"received\":%" PRIu64
           ",\"lost\":%" PRIu64 ",\"failed\":%" PRIu64 ",",
           given.streams, seconds, run.measured, run.received, run.lost, run.failed);
    gm_histogram_print(&run.latency, "");
    printf(",");
    gm_histogram_print(&run.first, "first_");
    printf("}\n");
}

static void read_options(int argc, char **argv)
{
    static const struct option options[] = {
        {"url", required_argument, NULL, 'u'},    {"streams", required_argument, NULL, 's'},
        {"events", required_argument, NULL, 'e'}, {"repeat", required_argument, NULL, 'r'},
        {"body", required_argument, NULL, 'b'},   {"ramp", required_argument, NULL, 'm'},
        {"header", required_argument, NULL, 'H'}, {0}};
    for (int option; (option = getopt_long(argc, argv, "H:", options, NULL)) != -1;) {
        switch (option) {
        case 'u':
            gm_target_read(&given.target, optarg);
            break;
        case 's':
            given.streams = gm_load_number(optarg, 1, STREAMS_MAX);
            break;
        case 'e':
            given.events = gm_load_number(optarg, 1, UINT32_MAX);
            break;
        case 'r':
            given.repeat = gm_load_number(optarg, 1, UINT32_MAX);
            break;
        case 'b':
            given.body_bytes = gm_load_number(optarg, 0, 1u << 30);
            break;
        case 'm':
            given.ramp_ms = gm_load_number(optarg, 0, 600000);
            break;
        case 'H':
            gm_target_add_field(&given.target, optarg);
            break;
        default:
            gm_load_fail("see the head of perf/load/streams.c");
        }
    }
    if (given.target.path[0] == '\0' || given.streams == 0 || given.events == 0) {
        gm_load_fail("--url, --streams and --events are needed");
    }
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    gm_load_raise_files();
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    run.request = gm_target_request(&given.target, 0, given.body_bytes, &run.request_len);
    run.streams = calloc(given.streams, sizeof(struct stream));
    if (run.epoll < 0 || !run.streams) {
        gm_load_fail("no memory");
    }
    run_all();
    print_result();
    return run.lost > 0 || run.failed > 0 ? 1 : 0;
}
