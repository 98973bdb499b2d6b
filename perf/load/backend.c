/*
 * The backend of the scenarios: answers at once, streams stamped events, or floods who does not
 * read.
 *
 *   gimlet-perf-backend PORT
 *     /small, /ready                            12 bytes
 *     /flood?bytes=N                            N bytes as fast as they are taken
 *     /stream?events=N&rate=N&bytes=N[&drop=N]  N server-sent events, `rate` a second, of `bytes`
 * each: "data: NUMBER STAMP BODY xxx…", counted from 0, stamped with CLOCK_MONOTONIC in ns just
 * before they are sent; BODY is the size of the request's body. Then "data: [DONE]". Number `drop`
 * is left out: who counts must notice. /figures                                  JSON: events sent,
 * and how late; begins anew
 *
 * One thread. A connection is freed at its own event or timer, never at another's.
 */
#include "due.h"
#include "histogram.h"
#include "load.h"
#include "reader.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENT_BYTES_MAX 1024u
#define OUT_BYTES       (EVENT_BYTES_MAX + 512u) /* an answer's head and an event with its chunk */
#define HELD_AGAIN_NS   1000000ull               /* a full socket is looked at again so soon */

struct stream {
    uint64_t next, events, period_ns, drop;
    size_t event_bytes;
};

struct conn {
    struct gm_due due; /* the next event; first, so that the heap's entry is the connection */
    int fd;
    bool answering;
    uint32_t out_len, out_sent;
    uint64_t flood_left;
    struct stream stream; /* events == 0: none */
    struct gm_reader reader;
    char out[OUT_BYTES];
};

static struct {
    int epoll, listener;
    struct gm_due_heap due;
    struct gm_histogram late; /* from when an event was due until it was stamped */
    uint64_t events, held;    /* sent; put off because the socket was full */
    char flood[64u << 10];
} backend;

static void close_conn(struct conn *conn)
{
    gm_due_remove(&backend.due, &conn->due);
    close(conn->fd);
    free(conn);
}

/* --- answering --- */

__attribute__((format(printf, 2, 3))) static void append(struct conn *conn, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t room = sizeof(conn->out) - conn->out_len;
    int written = vsnprintf(conn->out + conn->out_len, room, format, arguments);
    va_end(arguments);
    if (written < 0 || (size_t)written >= room) {
        gm_load_fail("an answer is longer than its buffer");
    }
    conn->out_len += (uint32_t)written;
}

static void append_answer(struct conn *conn, const char *status, const char *text)
{
    append(conn, "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%s", status,
           strlen(text), text);
}

static void append_figures(struct conn *conn)
{
    char text[256];
    snprintf(text, sizeof(text),
             "{\"events\":%" PRIu64 ",\"held\":%" PRIu64
             ",\"late_p50_us\":%.1f,\"late_p99_us\":%.1f,\"late_max_us\":%.1f}\n",
             backend.events, backend.held, (double)gm_histogram_at(&backend.late, 0.5) / 1e3,
             (double)gm_histogram_at(&backend.late, 0.99) / 1e3, (double)backend.late.max / 1e3);
    append_answer(conn, "200 OK", text);
    backend.events = backend.held = 0;
    backend.late = (struct gm_histogram){0};
}

/* The number behind "NAME=" in the request's target, or `otherwise`. */
static uint64_t parameter(const struct conn *conn, const char *name, uint64_t otherwise)
{
    const char *end = strchr(conn->reader.head, '\r'), *found = strstr(conn->reader.head, name);
    return found && found < end ? strtoull(found + strlen(name), NULL, 10) : otherwise;
}

static void begin_stream(struct conn *conn)
{
    uint64_t rate = parameter(conn, "rate=", 20);
    uint64_t bytes = parameter(conn, "bytes=", 200);
    conn->stream =
        (struct stream){.events = parameter(conn, "events=", 1),
                        .period_ns = GM_LOAD_SECOND_NS / (rate > 0 ? rate : 1u),
                        .drop = parameter(conn, "drop=", UINT64_MAX),
                        .event_bytes = bytes < EVENT_BYTES_MAX ? bytes : EVENT_BYTES_MAX};
    append(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
                 "Transfer-Encoding: chunked\r\n\r\n");
    gm_due_add(&backend.due, &conn->due, gm_load_now());
}

static void begin_flood(struct conn *conn)
{
    conn->flood_left = parameter(conn, "bytes=", 1u << 20);
    append(conn,
           "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %" PRIu64
           "\r\n\r\n",
           conn->flood_left);
}

static void begin_answer(struct conn *conn)
{
    const char *path = strchr(conn->reader.head, ' ');
    path = path ? path + 1 : "";
    conn->answering = true;
    conn->out_len = conn->out_sent = 0;
    if (strncmp(path, "/stream", 7) == 0) {
        begin_stream(conn);
    } else if (strncmp(path, "/flood", 6) == 0) {
        begin_flood(conn);
    } else if (strncmp(path, "/small", 6) == 0 || strncmp(path, "/ready", 6) == 0) {
        append_answer(conn, "200 OK", "Hello, world");
    } else if (strncmp(path, "/figures", 8) == 0) {
        append_figures(conn);
    } else {
        append_answer(conn, "404 Not Found", "There is no such page.\n");
    }
}

/* Sends what there is. 0, 1 when the socket is full, or -1 when it is broken. */
static int push(struct conn *conn)
{
    while (conn->out_sent < conn->out_len || conn->flood_left > 0) {
        bool flooding = conn->out_sent == conn->out_len;
        size_t room = conn->flood_left < sizeof(backend.flood) ? (size_t)conn->flood_left
                                                               : sizeof(backend.flood);
        const char *bytes = flooding ? backend.flood : conn->out + conn->out_sent;
        ssize_t sent =
            send(conn->fd, bytes, flooding ? room : conn->out_len - conn->out_sent, MSG_NOSIGNAL);
        if (sent < 0) {
            return errno == EAGAIN ? 1 : -1;
        }
        if (flooding) {
            conn->flood_left -= (uint64_t)sent;
        } else {
            conn->out_sent += (uint32_t)sent;
        }
    }
    conn->out_len = conn->out_sent = 0;
    return 0;
}

/* One chunk with one event of exactly the size that was asked for, where its text fits in. */
static void append_event(struct conn *conn, uint64_t now_ns)
{
    char text[EVENT_BYTES_MAX + 1];
    struct stream *stream = &conn->stream;
    int written = snprintf(text, sizeof(text), "data: %" PRIu64 " %" PRIu64 " %" PRIu64 " ",
                           stream->next, now_ns, conn->reader.body_bytes);
    size_t len = (size_t)written;
    if (len + 2u < stream->event_bytes) {
        memset(text + len, 'x', stream->event_bytes - 2u - len);
        len = stream->event_bytes - 2u;
    }
    append(conn, "%zx\r\n%.*s\n\n\r\n", len + 2u, (int)len, text);
}

static void send_event(struct conn *conn)
{
    uint64_t now_ns = gm_load_now(), due_ns = conn->due.at_ns;
    struct stream *stream = &conn->stream;
    gm_due_remove(&backend.due, &conn->due);
    if (conn->out_sent < conn->out_len) {
        backend.held++;
        gm_due_add(&backend.due, &conn->due, now_ns + HELD_AGAIN_NS);
        return;
    }
    gm_histogram_add(&backend.late, now_ns - due_ns);
    if (stream->next != stream->drop) {
        append_event(conn, now_ns);
        backend.events++;
    }
    if (++stream->next == stream->events) {
        append(conn, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
        stream->events = 0;
    } else {
        gm_due_add(&backend.due, &conn->due, due_ns + stream->period_ns);
    }
}

/* --- a connection's events --- */

/* Reads requests until one is complete or nothing is left. -1: the connection is to be closed. */
static int pull(struct conn *conn)
{
    static char bytes[64u << 10];
    while (!conn->answering) {
        ssize_t got = recv(conn->fd, bytes, sizeof(bytes), 0);
        if (got <= 0) {
            return got < 0 && errno == EAGAIN ? 0 : -1;
        }
        struct gm_span rest = {bytes, (size_t)got}, body;
        while (rest.len > 0) {
            ssize_t took = gm_reader_take(&conn->reader, rest, &body);
            if (took <= 0) { /* no HTTP, or more than one request at once */
                return -1;
            }
            rest.bytes += took;
            rest.len -= (size_t)took;
        }
        if (conn->reader.state == GM_READER_DONE) {
            begin_answer(conn);
        }
    }
    return 0;
}

/* Answers, and goes on to the next request when this one has its answer. */
static void serve(struct conn *conn)
{
    for (;;) {
        int pushed = conn->answering ? push(conn) : 0;
        if (pushed < 0) {
            close_conn(conn);
            return;
        }
        if (conn->answering && (pushed > 0 || conn->stream.events > 0)) {
            return;
        }
        if (conn->answering) {
            conn->answering = false;
            gm_reader_begin(&conn->reader);
        }
        if (pull(conn) != 0) {
            close_conn(conn);
            return;
        }
        if (!conn->answering) {
            return;
        }
    }
}

static void accept_all(void)
{
    for (int fd; (fd = accept4(backend.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        struct conn *conn = calloc(1, sizeof(*conn));
        struct epoll_event watch = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                    .data.ptr = conn};
        int one = 1;
        if (!conn || epoll_ctl(backend.epoll, EPOLL_CTL_ADD, fd, &watch) != 0) {
            gm_load_fail("no memory for a connection");
        }
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        conn->fd = fd;
    }
}

static void listen_on(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event watch = {.events = EPOLLIN};
    int one = 1;
    backend.epoll = epoll_create1(EPOLL_CLOEXEC);
    backend.listener = gm_load_socket();
    (void)setsockopt(backend.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(backend.listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(backend.listener, 8192) != 0 ||
        epoll_ctl(backend.epoll, EPOLL_CTL_ADD, backend.listener, &watch) != 0) {
        gm_load_fail("port %u: %s", port, strerror(errno));
    }
}

int main(int argc, char **argv)
{
    static struct epoll_event events[GM_LOAD_EVENTS];
    if (argc != 2) {
        gm_load_fail("Usage: gimlet-perf-backend PORT");
    }
    gm_load_raise_files();
    memset(backend.flood, 'x', sizeof(backend.flood));
    listen_on((uint16_t)gm_load_number(argv[1], 1, UINT16_MAX));
    for (;;) {
        struct gm_due *first = gm_due_first(&backend.due);
        int count = gm_load_wait(backend.epoll, events, first ? first->at_ns : UINT64_MAX);
        for (int i = 0; i < count; i++) {
            struct conn *conn = events[i].data.ptr;
            if (!conn) {
                accept_all();
            } else if (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
                close_conn(conn);
            } else {
                serve(conn);
            }
        }
        uint64_t now_ns = gm_load_now();
        while ((first = gm_due_first(&backend.due)) && first->at_ns <= now_ns) {
            struct conn *conn = (struct conn *)first;
            send_event(conn);
            serve(conn);
        }
    }
}
