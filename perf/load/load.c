/*
 * What the generators and their backend share: load.h.
 */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

uint64_t gm_load_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * GM_LOAD_SECOND_NS + (uint64_t)now.tv_nsec;
}

void gm_load_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

void gm_load_phase(const char *name)
{
    printf("{\"phase\":\"%s\"}\n", name);
    fflush(stdout);
}

uint64_t gm_load_number(const char *text, uint64_t least, uint64_t most)
{
    char *end;
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || number < least || number > most) {
        gm_load_fail("%s: not a number from %" PRIu64 " to %" PRIu64, text, least, most);
    }
    return number;
}

uint64_t gm_load_raise_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) {
        return 0;
    }
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
    return files.rlim_cur;
}

void gm_target_read(struct gm_target *target, const char *url)
{
    char host[64], path[sizeof(target->path) - 1];
    unsigned port = 0;
    int found = sscanf(url, "http://%63[0-9.]:%u/%1000[^ ]", host, &port, path);
    if (found < 2 || port > UINT16_MAX) {
        gm_load_fail("%s: not http://A.B.C.D:PORT/path", url);
    }
    target->address.sin_family = AF_INET;
    target->address.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, host, &target->address.sin_addr) != 1) {
        gm_load_fail("%s: not an address", host);
    }
    snprintf(target->path, sizeof(target->path), "/%s", found == 3 ? path : "");
}

void gm_target_add_field(struct gm_target *target, const char *field)
{
    size_t used = strlen(target->fields), room = sizeof(target->fields) - used;
    if ((size_t)snprintf(target->fields + used, room, "%s\r\n", field) >= room) {
        gm_load_fail("the fields are longer than %zu bytes", sizeof(target->fields));
    }
}

char *gm_target_request(const struct gm_target *target, uint64_t number, size_t body_bytes,
                        size_t *len)
{
    char head[sizeof(*target) + 256], host[64], length[48] = "";
    const char *hole = strstr(target->path, "{}");
    int before = (int)(hole ? (size_t)(hole - target->path) : strlen(target->path));
    char digits[24] = "";
    if (hole) {
        snprintf(digits, sizeof(digits), "%" PRIu64, number);
    }
    if (body_bytes > 0) {
        snprintf(length, sizeof(length), "Content-Length: %zu\r\n", body_bytes);
    }
    snprintf(host, sizeof(host), "Host: 127.0.0.1:%u\r\n", ntohs(target->address.sin_port));
    int written = snprintf(
        head, sizeof(head), "%s %.*s%s%s HTTP/1.1\r\n%s%s%s\r\n", body_bytes > 0 ? "POST" : "GET",
        before, target->path, digits, hole ? hole + 2 : "",
        strncasecmp(target->fields, "Host:", 5) == 0 ? "" : host, target->fields, length);
    if (written < 0 || (size_t)written >= sizeof(head)) {
        gm_load_fail("the request's head is too long");
    }
    *len = (size_t)written + body_bytes;
    char *text = malloc(*len);
    if (!text) {
        gm_load_fail("no memory");
    }
    memcpy(text, head, (size_t)written);
    memset(text + written, 'x', body_bytes);
    return text;
}

int gm_load_socket(void)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

int gm_load_wait(int epoll, struct epoll_event *events, uint64_t until_ns)
{
    uint64_t now = until_ns == UINT64_MAX ? 0 : gm_load_now();
    uint64_t left = until_ns > now ? until_ns - now : 0;
    struct timespec timeout = {.tv_sec = (time_t)(left / GM_LOAD_SECOND_NS),
                               .tv_nsec = (long)(left % GM_LOAD_SECOND_NS)};
    int count =
        epoll_pwait2(epoll, events, GM_LOAD_EVENTS, until_ns == UINT64_MAX ? NULL : &timeout, NULL);
    return count < 0 ? 0 : count;
}
