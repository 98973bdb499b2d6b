/*
 * PROXY protocol, versions 1 and 2: what a load balancer puts in front of a connection's bytes to
 * say whose connection it is. Receiving side only. Pure: reads the bytes it is given and no byte
 * beyond the header, keeps nothing.
 *
 * Stricter than the text where that costs no sender anything: a line of version 1 ends with CRLF
 * and holds no other CR or LF, single spaces part its words, ports have no leading zeros; a
 * datagram is not taken over a stream. Source: "The PROXY protocol", HAProxy, sections 2.1 and 2.2.
 */
#ifndef GM_HTTP_PROXY_PROTOCOL_H
#define GM_HTTP_PROXY_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* A line of version 1 with its CRLF: the longest is UNKNOWN with two IPv6 addresses of 39 bytes and
 * two ports of 5 (section 2.1). */
#define GM_PROXY_V1_MAX 107u
/* Version 2 with all it carries: the smallest segment that any path takes, so that a sender may
 * rely on one (section 2.2). The limit for both: nothing longer is ever asked for. */
#define GM_PROXY_HEADER_MAX 536u

struct gm_proxy_header {
    /* False: the sender speaks for itself (LOCAL: a health check) or cannot say for whom (UNKNOWN,
     * a local socket): the connection's own address counts. */
    bool named;
    uint16_t source_port;
    uint8_t source[16]; /* IPv6; an IPv4 address as ::ffff:a.b.c.d. Zero when not named */
};

/* Reads a header at `data`, which holds the first `len` bytes of the connection. > 0: its length;
 * *out is complete. 0: more bytes are needed (never with GM_PROXY_HEADER_MAX of them).
 * -GM_E_NOT_FOUND: the connection does not begin with a PROXY header; -GM_E_PROTOCOL: it begins
 * like one and is malformed; -GM_E_LIMIT: it is longer than the limit of its version. The words of
 * version 1 are judged when the line is whole. *out is untouched but by success. */
int gm_proxy_header_parse(const uint8_t *data, size_t len,
                          struct gm_proxy_header *out) GM_WARN_UNUSED;

#endif
