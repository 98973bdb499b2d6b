/*
 * One client's connection: it asks, and reads the answer. Its owner is the program's only thread;
 * it must not move while it is open (epoll knows it by address). A request's text is borrowed until
 * the answer is complete. Sockets are watched edge-triggered: whoever is told of an event reads
 * all.
 */
#ifndef GM_LOAD_CALLER_H
#define GM_LOAD_CALLER_H

#include "load.h"
#include "reader.h"

#include <stdint.h>

struct gm_caller {
    int fd;              /* -1: closed */
    const char *request; /* NULL: none is under way */
    size_t request_len, sent;
    struct gm_reader reader;
};

/* What a caller's event came to. Errors are negative. */
enum gm_caller_news {
    GM_CALLER_NOTHING, /* more will come */
    GM_CALLER_BODY,    /* a piece of the answer's body is in the span */
    GM_CALLER_ANSWER,  /* the answer is complete */
};

/* Where input lies until it has been looked at; one for the whole program. */
struct gm_input {
    size_t at, len;
    char bytes[256u << 10];
};

/* Begins to connect from 127.0.0.`source` (1 is every socket's own choice), watched by `epoll`.
 * receive_bytes bounds what the kernel holds for it, 0 leaves that to the kernel. 0 or -errno. */
int gm_caller_open(struct gm_caller *caller, int epoll, const struct gm_target *target,
                   uint32_t source, int receive_bytes);

/* Asks: sends what the socket takes, the rest at its events. 0 or -errno. */
int gm_caller_ask(struct gm_caller *caller, const char *request, size_t len);

/* Sends what is left of the request. 0 or -errno. */
int gm_caller_push(struct gm_caller *caller);

/* Reads on: call it until GM_CALLER_NOTHING; the input must be empty (at == len) when another
 * caller is read. -ECONNRESET also for an answer that is cut short or that nobody has asked for. */
int gm_caller_pull(struct gm_caller *caller, struct gm_input *input, struct gm_span *body);

void gm_caller_close(struct gm_caller *caller);

#endif
