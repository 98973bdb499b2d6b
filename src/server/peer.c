/* The address of a client and the trust in it. Owner: the client's ring. Invariant: `trusted` is
 * about `address`, never about one that stood there before. */
#include "server/peer.h"

#include <string.h>

static void peer_set(struct gm_peer *peer, const uint8_t address[16],
                     const struct gm_server_config *config)
{
    memcpy(peer->address, address, sizeof peer->address);
    peer->known = true;
    peer->trusted = gm_cidr_holds(&config->trusted_proxies, address);
}

void gm_peer_learn(struct gm_peer *peer, const struct gm_conn *conn,
                   const struct gm_server_config *config)
{
    if (peer->known)
        return;
    union gm_addr from;
    uint8_t address[16] = {0};
    gm_sock_peer(&conn->sock, &from);
    if (from.base.sa_family == AF_INET) {
        address[10] = address[11] = 0xff;
        memcpy(address + 12, &from.in.sin_addr, 4);
    } else if (from.base.sa_family == AF_INET6) {
        memcpy(address, &from.in6.sin6_addr, 16);
    }
    peer_set(peer, address, config);
    /* A local socket is in no network, not even in ::/0. */
    if (from.base.sa_family != AF_INET && from.base.sa_family != AF_INET6)
        peer->trusted = false;
}

void gm_peer_told(struct gm_peer *peer, const struct gm_proxy_header *header,
                  const struct gm_server_config *config)
{
    if (header->named)
        peer_set(peer, header->source, config);
}

/* For every request: the C library takes 1,700 instructions for it. */
static size_t ipv4_text(const uint8_t bytes[4], char out[INET6_ADDRSTRLEN])
{
    char *at = out;
    for (unsigned i = 0; i < 4; i++) {
        unsigned n = bytes[i];
        if (n >= 100)
            *at++ = (char)('0' + n / 100);
        if (n >= 10)
            *at++ = (char)('0' + n / 10 % 10);
        *at++ = (char)('0' + n % 10);
        *at++ = '.';
    }
    *--at = '\0';
    return (size_t)(at - out);
}

size_t gm_peer_text(const struct gm_peer *peer, char out[INET6_ADDRSTRLEN])
{
    struct in6_addr address;
    memcpy(&address, peer->address, sizeof address);
    if (!peer->known || IN6_IS_ADDR_UNSPECIFIED(&address))
        memcpy(out, "unknown", sizeof "unknown");
    else if (IN6_IS_ADDR_V4MAPPED(&address))
        return ipv4_text(peer->address + 12, out);
    else
        inet_ntop(AF_INET6, &address, out, INET6_ADDRSTRLEN);
    return strlen(out);
}
