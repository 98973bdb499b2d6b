/* What a backend is told about the way a request has come: X-Forwarded-For, -Proto and -Host, and
 * Forwarded (RFC 7239) where the client sends it.
 *
 * Whose word counts is said by --trusted-proxies. Unset: everybody's X-Forwarded-* is kept and For
 * is extended, Forwarded passes as it is: who needs to rely on them lists the proxies. Set: those
 * of a trusted proxy are kept and extended, of others nothing that begins with X-Forwarded- nor
 * X-Real-IP passes, and what we have seen ourselves takes their place. Pure. */
#ifndef GM_SERVER_FORWARDED_H
#define GM_SERVER_FORWARDED_H

#include "frame/head.h"
#include "http/parser.h"
#include "server/peer.h"

struct gm_forwarded {
    const struct gm_peer *peer; /* learned */
    const struct gm_http_request *head;
    bool judged; /* --trusted-proxies is set */
    bool tls;    /* the client has come over TLS */
};

/* Whether this field of the client's is passed on as it stands. Only for fields of the table above
 * and others that may pass: the caller has rules of its own. */
bool gm_forwarded_passes(const struct gm_forwarded *way, const struct gm_http_field *field);
/* Adds ours. */
void gm_forwarded_write(const struct gm_forwarded *way, struct gm_head_writer *writer);

#endif
