/* Addresses: length and text. No state. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "ring/ring.h"

socklen_t gm_addr_len(const union gm_addr *addr)
{
    switch (addr->base.sa_family) {
    case AF_INET:
        return sizeof addr->in;
    case AF_INET6:
        return sizeof addr->in6;
    case AF_UNIX: {
        const char *path = addr->un.sun_path;
        size_t base = offsetof(struct sockaddr_un, sun_path);
        if (path[0] == '\0')
            return (
                socklen_t)(base + 1u +
                           strnlen(path + 1, sizeof addr->un.sun_path - 1u)); /* abstract name */
        size_t len = strnlen(path, sizeof addr->un.sun_path);
        return (socklen_t)(base + len + (len < sizeof addr->un.sun_path));
    }
    default:
        return sizeof addr->base;
    }
}

void gm_addr_text(const union gm_addr *addr, char *out, size_t cap)
{
    char text[INET6_ADDRSTRLEN] = "?";
    if (cap == 0)
        return;
    switch (addr->base.sa_family) {
    case AF_INET:
        (void)inet_ntop(AF_INET, &addr->in.sin_addr, text, sizeof text);
        (void)snprintf(out, cap, "%s:%u", text, ntohs(addr->in.sin_port));
        return;
    case AF_INET6:
        (void)inet_ntop(AF_INET6, &addr->in6.sin6_addr, text, sizeof text);
        (void)snprintf(out, cap, "[%s]:%u", text, ntohs(addr->in6.sin6_port));
        return;
    case AF_UNIX: {
        const char *path = addr->un.sun_path;
        bool abstract = path[0] == '\0' && path[1] != '\0';
        int max = (int)sizeof addr->un.sun_path - (abstract ? 1 : 0);
        (void)snprintf(out, cap, "unix:%s%.*s", abstract ? "@" : "", max,
                       path + (abstract ? 1 : 0));
        return;
    }
    default:
        (void)snprintf(out, cap, "?");
        return;
    }
}
