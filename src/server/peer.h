/* Who is at the other end of a client's connection: its address, and whether it is one of the
 * proxies whose word about others is taken.
 *
 * Owner: the client's ring. Learned once per connection, when first asked for or when a PROXY
 * header names it. */
#ifndef GM_SERVER_PEER_H
#define GM_SERVER_PEER_H

#include <arpa/inet.h>

#include "config/config.h"
#include "http/proxy_protocol.h"
#include "net/conn.h"

struct gm_peer {
    uint8_t address[16]; /* IPv6, or IPv4 as ::ffff:a.b.c.d */
    bool known;          /* `address` has been filled */
    bool trusted;        /* in --trusted-proxies. False while nobody has set these */
};

/* The socket's address, unless another is known already. Those of local sockets are ::, which
 * stands for none. */
void gm_peer_learn(struct gm_peer *peer, const struct gm_conn *conn,
                   const struct gm_server_config *config);
/* What a PROXY header says. It speaks for whom it names: whether that one is trusted is asked anew,
 * since a proxy that sends such a header has looked at no field of the request. */
void gm_peer_told(struct gm_peer *peer, const struct gm_proxy_header *header,
                  const struct gm_server_config *config);
/* The address as text, "unknown" for none. Its length. */
size_t gm_peer_text(const struct gm_peer *peer, char out[INET6_ADDRSTRLEN]);

#endif
