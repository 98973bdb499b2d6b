/* Ports that are claimed. Owner: the caller; it keeps nothing. */
#include "control/claim.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* A process that was killed is reaped before the kernel has taken down its io_uring, in the
 * background, and with it the listeners that it had there: milliseconds later, more on a busy
 * machine. */
#define CLAIM_TRIES   50u
#define CLAIM_WAIT_NS 20000000l

static bool has_ipv6(void)
{
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        (void)close(fd);
    return fd >= 0;
}

union gm_addr gm_claim_any_addr(int32_t port)
{
    union gm_addr v6 = {.in6 = {.sin6_family = AF_INET6,
                                .sin6_port = htons((uint16_t)port),
                                .sin6_addr = IN6ADDR_ANY_INIT}};
    union gm_addr v4 = {.in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)}};
    return has_ipv6() ? v6 : v4;
}

int32_t gm_claim_port_of(const union gm_addr *addr)
{
    return ntohs(addr->base.sa_family == AF_INET6 ? addr->in6.sin6_port : addr->in.sin_port);
}

static int claim_now(union gm_addr *addr)
{
    socklen_t len = gm_addr_len(addr);
    int on = 1, off = 0, rc = -1;
    bool any = gm_claim_port_of(addr) == 0;
    int fd = socket(addr->base.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, any ? SO_REUSEPORT : SO_REUSEADDR, &on, sizeof on);
    if (addr->base.sa_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, &addr->base, len) < 0)
        rc = errno == EADDRINUSE ? -EADDRINUSE : -1;
    else if (any && getsockname(fd, &addr->base, &len) == 0)
        return fd;
    (void)close(fd);
    return rc;
}

int gm_claim_port(union gm_addr *addr)
{
    const struct timespec wait = {.tv_nsec = CLAIM_WAIT_NS};
    int rc = claim_now(addr);
    for (unsigned i = 0; rc == -EADDRINUSE && i < CLAIM_TRIES; i++) {
        (void)nanosleep(&wait, NULL);
        rc = claim_now(addr);
    }
    return rc;
}
