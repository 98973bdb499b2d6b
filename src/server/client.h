/* A client connection of the server: HTTP/1.x in, one request at a time, whatever was pipelined
 * behind it waiting.
 *
 * Owner: the ring that accepted it. It reads heads, decides (route, credential, policy), starts an
 * exchange and feeds it the body; the exchange writes the answer. Reading is granted by the byte: a
 * head at a time, then what the exchange has room for. */
#ifndef GM_SERVER_CLIENT_H
#define GM_SERVER_CLIENT_H

#include "http/chunked.h"
#include "http/parser.h"
#include "net/conn.h"
#include "server/context.h"
#include "server/peer.h"

/* What a connection may ask for, by the listener it came through. */
enum gm_client_face { GM_FACE_PUBLIC, GM_FACE_METRICS, GM_FACE_HEALTH };

enum gm_client_state {
    GM_CLIENT_PROXY,    /* --proxy-protocol: its header must come before anything else */
    GM_CLIENT_HEAD,     /* waiting for, or gathering, a request head */
    GM_CLIENT_VERIFY,   /* the head is whole; it waits (gm_client_wait) */
    GM_CLIENT_EXCHANGE, /* a request is under way */
    GM_CLIENT_RAW,      /* upgraded: bytes both ways */
    GM_CLIENT_LEAVING,  /* closing */
};

struct gm_attach;

/* What a client has sent and nobody has used, and the head that it may be the beginning of. */
struct gm_client_input {
    struct gm_client *client;
    struct gm_chain bytes;   /* received, not yet used */
    struct gm_buf *head;     /* an incomplete head, copied out of the receive buffers */
    struct gm_list queue;    /* in ctx->partial_heads, or wherever a whole head waits */
    struct gm_holder holder; /* while `bytes` wait */
    uint32_t head_len, head_scanned;
    uint32_t head_copied; /* of head_len: the front of `bytes`, copied and not yet taken off it */
};
GM_STATIC_ASSERT(sizeof(struct gm_client_input) <= GM_DESK_BYTES, "an input fits on a desk");

/* What an idle connection is made of, with its row in the ring's table of sockets: 256 bytes are
 * the budget (design section 9). */
struct gm_client {
    struct gm_conn conn;
    struct gm_server_ring *ctx;
    struct gm_exchange *exchange;  /* set in EXCHANGE and RAW */
    struct gm_client_input *input; /* at a desk of the ring; NULL: all that was received is used */
    struct gm_attach *attach;      /* an agent's connection on its way to its ring */
    struct gm_list node;           /* in ctx->clients */
    /* Of answers that have ended: what the socket has not taken yet stays reserved. */
    uint32_t answer_reserved;
    struct gm_peer peer;
    uint8_t state, face;
    bool tls;         /* what it says is, or will be, over TLS */
    bool close_after; /* no further request on this connection */
    bool input_ended; /* the peer has sent FIN */
    bool head_begun;  /* a head has come in part, or waits: its deadline runs */
};
GM_STATIC_ASSERT(sizeof(struct gm_client) + GM_SOCK_ROW_BYTES <= 256,
                 "an idle client connection is within its budget");

/* Takes the accepted descriptor. `tls`: it came through the TLS port. */
void gm_client_accept(struct gm_server_ring *ctx, int fd, enum gm_client_face face, bool tls);
/* The exchange has ended and its answer is queued; `clean`: the request was read to its end and the
 * answer is whole, the connection may go on. */
void gm_client_exchange_done(struct gm_client *client, bool clean);
/* The same for an answer that could not be finished and has no framing to show it: cut with RST. */
void gm_client_cut(struct gm_client *client, bool reset);
/* The exchange ends: its reservation of `bytes` is given back, but for what the connection still
 * holds. */
void gm_client_unreserve(struct gm_client *client, uint32_t bytes);
/* Its head, which is whole, waits on the list until its turn has come: for RSA, for figures. */
void gm_client_wait(struct gm_client *client, struct gm_list *waiting);
/* The turn of all on the list. Some may wait again afterwards. */
void gm_client_resume(struct gm_list *waiting);
/* The exchange has more room for request bytes. */
void gm_client_pump(struct gm_client *client);
/* Hand-over begins: the input is dropped, gm_attach_detached follows. */
void gm_client_hand_over(struct gm_client *client, struct gm_attach *attach);
/* Activity of the exchange: moves the idle deadline. */
void gm_client_touch(struct gm_client *client);
/* Drain: idle connections close now, busy ones after their answer. */
void gm_client_drain(struct gm_client *client);
/* Its connection has ended or has been handed over. */
void gm_client_free(struct gm_client *client);
/* On the ring, at its end: frees it, without a word. */
void gm_client_forget(struct gm_client *client);

#endif
