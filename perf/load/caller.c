/*
 * One client's connection: caller.h.
 */
#include "caller.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

int gm_caller_open(struct gm_caller *caller, int epoll, const struct gm_target *target,
                   uint32_t source, int receive_bytes)
{
    int one = 1, failure;
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(0x7f000000u + source)};
    struct epoll_event watch = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = caller};
    *caller = (struct gm_caller){.fd = gm_load_socket()};
    if (caller->fd < 0) {
        failure = caller->fd;
        caller->fd = -1;
        return failure;
    }
    if (receive_bytes > 0) {
        (void)setsockopt(caller->fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    }
    /* The port is chosen at connect: each source address has all of them. */
    (void)setsockopt(caller->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
    if ((source > 1 && bind(caller->fd, (struct sockaddr *)&from, sizeof(from)) != 0) ||
        (connect(caller->fd, (const struct sockaddr *)&target->address, sizeof(target->address)) !=
             0 &&
         errno != EINPROGRESS) ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, caller->fd, &watch) != 0) {
        failure = -errno;
        gm_caller_close(caller);
        return failure;
    }
    return 0;
}

int gm_caller_ask(struct gm_caller *caller, const char *request, size_t len)
{
    caller->request = request;
    caller->request_len = len;
    caller->sent = 0;
    gm_reader_begin(&caller->reader);
    return gm_caller_push(caller);
}

int gm_caller_push(struct gm_caller *caller)
{
    while (caller->sent < caller->request_len) {
        ssize_t sent = send(caller->fd, caller->request + caller->sent,
                            caller->request_len - caller->sent, MSG_NOSIGNAL);
        if (sent < 0) {
            /* ENOTCONN: still connecting. */
            return errno == EAGAIN || errno == ENOTCONN ? 0 : -errno;
        }
        caller->sent += (size_t)sent;
    }
    return 0;
}

int gm_caller_pull(struct gm_caller *caller, struct gm_input *input, struct gm_span *body)
{
    for (;;) {
        if (caller->request && caller->reader.state == GM_READER_DONE) {
            caller->request = NULL;
            return GM_CALLER_ANSWER;
        }
        if (input->at == input->len) {
            ssize_t got = recv(caller->fd, input->bytes, sizeof(input->bytes), 0);
            if (got <= 0) {
                return got < 0 && (errno == EAGAIN || errno == ENOTCONN) ? GM_CALLER_NOTHING
                                                                         : -ECONNRESET;
            }
            input->at = 0;
            input->len = (size_t)got;
        }
        struct gm_span rest = {input->bytes + input->at, input->len - input->at};
        ssize_t took = gm_reader_take(&caller->reader, rest, body);
        if (took <= 0) { /* no HTTP, or behind the answer's end */
            input->at = input->len;
            return took < 0 ? (int)took : -ECONNRESET;
        }
        input->at += (size_t)took;
        if (body->len > 0) {
            return GM_CALLER_BODY;
        }
    }
}

void gm_caller_close(struct gm_caller *caller)
{
    if (caller->fd >= 0) {
        close(caller->fd);
    }
    caller->fd = -1;
}
