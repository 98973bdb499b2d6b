/* Ports: how the two halves of a request talk, wherever they live.
 *
 * A request has a near half (the client's connection, on the client's ring) and a far half (the
 * stream on a link, on the link's ring). The near half owns the connection and its buffers; the far
 * half owns the stream and its credit. Everything between them is a message, on one ring as across
 * two: same code, same order, no re-entrance. A pair is named by the near half's id {ring, index,
 * generation}; a message for a half that has gone is released and, when it opens something,
 * answered with RESET refused.
 *
 * Owner: one port per ring. Messages are carved at start and return to the port they came from. */
#ifndef GM_SERVER_PORT_H
#define GM_SERVER_PORT_H

#include "ring/ring.h"

enum gm_port_kind {
    /* near -> far */
    GM_PORT_OPEN,  /* slice: encoded request block, amount: window for the answer,
                      link_index/link_generation: on which link */
    GM_PORT_GRANT, /* amount: more answer bytes the near half has room for */
    /* far -> near */
    GM_PORT_HEAD,   /* slice: encoded response block */
    GM_PORT_CREDIT, /* amount: more request bytes the agent takes */
    GM_PORT_PULLED, /* amount: request bytes that have left for the link */
    /* both */
    GM_PORT_DATA,     /* slice: payload, at most 16 KiB */
    GM_PORT_TRAILERS, /* slice: encoded trailer block */
    GM_PORT_END,
    GM_PORT_STOP,  /* reason: no interest in the receiver's direction */
    GM_PORT_RESET, /* reason, flags: both directions are over; nothing follows. slice (far -> near,
                      may be empty): what the agent said of it, any bytes */
    GM_PORT_KINDS,
};

/* Flags of RESET. */
#define GM_PORT_UNTOUCHED 0x01u /* no backend was touched */
#define GM_PORT_LINK_LOST 0x02u /* the link ended, not the stream */
/* Flag of OPEN, HEAD, DATA, TRAILERS: END follows implicitly. */
#define GM_PORT_END_STREAM 0x04u
/* Flags of OPEN. */
#define GM_PORT_UPGRADE 0x08u

struct gm_pair_id {
    uint32_t index;
    uint32_t generation;
    uint16_t ring; /* of the near half */
};

struct gm_port;

struct gm_port_message {
    struct gm_mail mail;  /* on its way to another ring, or home */
    struct gm_list node;  /* in the local queue, or on the free list */
    struct gm_port *home; /* whose pool it came from */
    gm_slice slice;
    struct gm_pair_id pair;
    uint32_t amount;
    uint32_t link_index, link_generation;
    uint16_t reason;
    uint8_t kind, flags;
    bool to_far;
};

struct gm_port_ops {
    /* On the receiving ring. The message is borrowed; its slice is taken. */
    void (*on_near)(void *context, const struct gm_port_message *message);
    void (*on_far)(void *context, const struct gm_port_message *message);
};

struct gm_port {
    struct gm_ring *ring;
    const struct gm_port_ops *ops;
    void *context;
    struct gm_port **peers; /* by ring index; every ring's port, fixed after start */
    struct gm_list free, local;
    struct gm_task task;
    struct gm_port_message *carved;
};

/* Messages of one ring: bounded by the payload in flight (reserved) and a few control messages per
 * stream. When they run out, more are taken from the heap, counted as allocations: a message that
 * reports an end must not fail. */
#define GM_PORT_MESSAGES 4096u

/* On the ring's thread. `peers` (borrowed) gets this port at its ring's index and must be complete
 * before the first message. */
int gm_port_init(struct gm_port *port, struct gm_ring *ring, struct gm_port **peers,
                 const struct gm_port_ops *ops, void *context) GM_WARN_UNUSED;
void gm_port_fini(struct gm_port *port);

/* Sends a copy of *message (its slice taken) to the near half's ring, or to ring `far_ring` when
 * to_far. Delivered within this turn when that is this ring. */
void gm_port_send(struct gm_port *port, uint32_t far_ring, const struct gm_port_message *message);

#endif
