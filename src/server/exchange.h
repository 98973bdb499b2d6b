/* An exchange: the near half of a request, from its head to the last byte of its answer.
 *
 * Owner: the client's ring. It turns the client's bytes into messages for the far half (OPEN, DATA,
 * TRAILERS, END) and the far half's messages into an answer. It holds the reservation for answer
 * bytes not yet taken by the client's socket, and for request bytes not yet pulled by the link; it
 * may try a second link while nothing of an answer has been passed on. */
#ifndef GM_SERVER_EXCHANGE_H
#define GM_SERVER_EXCHANGE_H

#include "frame/reason.h"
#include "http/chunked.h"
#include "http/parser.h"
#include "server/client.h"
#include "stream/window.h"

/* Request bytes read and not yet pulled by the link: at first what gm_window_initial gives, and
 * when the body turns out to be long two receives of the largest kind. */
#define GM_EXCHANGE_UPLOAD_MAX (2u * GM_LINK_BUF_BYTES)
/* Kept of a body for a second attempt (design section 5.7). */
#define GM_EXCHANGE_REPLAY_MAX (64u << 10)
#define GM_EXCHANGE_ATTEMPTS   2u
#define GM_REQUEST_ID_MAX      128u
/* Interim answers (1xx) of one request: they are not subject to credit. As many as an agent takes
 * from its backend. */
#define GM_EXCHANGE_INTERIMS_MAX 64u
/* Agents that may refuse a request for their limit before it is refused, or waits. */
#define GM_EXCHANGE_REFUSALS 8u

struct gm_ticket;

enum gm_answer_framing {
    GM_ANSWER_NONE,
    GM_ANSWER_LENGTH,
    GM_ANSWER_CHUNKED,
    GM_ANSWER_UNTIL_CLOSE,
    GM_ANSWER_RAW
};

struct gm_exchange {
    struct gm_server_ring *ctx;
    struct gm_client *client;
    struct gm_card *card;     /* the link in use; counted in its load. NULL: it waits for one */
    struct gm_ticket *ticket; /* while it waits */
    uint32_t index, generation;
    uint16_t far_ring;
    uint8_t attempts, refusals;
    bool in_use;
    bool active; /* has its place under --max-concurrent-requests */

    /* Request. */
    uint8_t method, request_body; /* enum gm_http_method, enum gm_http_body */
    bool request_done;            /* END has been sent, or there was no body */
    bool request_stopped;         /* the agent wants no more of it: the rest is read and dropped */
    bool upgrade, http10, keep_alive, accepts_json, idempotent;
    uint64_t request_left; /* BODY_LENGTH: bytes still to come */
    struct gm_http_chunked chunked;
    struct gm_buf *trailer_scratch;
    uint64_t send_room;       /* credit of the agent */
    uint32_t unpulled;        /* bytes sent to the far half, not yet pulled */
    uint32_t upload_reserved; /* how far `unpulled` may go */

    /* What a second attempt needs: the block, and the whole body so far. buf == NULL: it cannot be
     * made. */
    gm_slice open_block;
    struct gm_chain replay;
    struct gm_holder holder; /* while `replay` holds receive buffers */

    /* Answer. */
    bool head_passed;  /* some byte of an answer has gone to the client */
    bool final_passed; /* the final head has */
    bool answer_done;
    uint8_t framing;      /* enum gm_answer_framing */
    uint8_t interims;     /* heads so far */
    uint64_t answer_left; /* ANSWER_LENGTH: bytes still to come */
    struct gm_window window;

    uint64_t started_ns;          /* when its head had been read and admitted */
    uint64_t first_byte_ns;       /* when its final head was sent on; 0: not yet */
    uint64_t bytes_in, bytes_out; /* of bodies, as far as they have been passed on */
    uint16_t service_len;
    uint16_t status; /* of the final head that the client has been sent; 0: none */
    uint32_t ahead;  /* how many waited when it was refused a place */
    uint16_t reason; /* enum gm_reason_code: why it failed; NONE: it has not */
    gm_slice said;   /* what the agent said of that, if it did: any bytes */
    uint8_t request_id_len, subject_len;
    /* Texts without NUL. Last, and not cleared between two exchanges. */
    char service[GM_REGISTRY_SERVICE_MAX];
    char subject[GM_REGISTRY_SERVICE_MAX]; /* the client's, by its credential */
    char request_id[GM_REQUEST_ID_MAX];
};

/* A request whose head has been parsed and admitted. */
struct gm_exchange_request {
    const struct gm_http_request *head;
    const char *service;
    size_t service_len;
    struct gm_http_span prefix; /* "/" or nothing, in front of target */
    struct gm_http_span target;
    const struct gm_principal *who; /* who asks; borrowed */
    bool strip_authorization;       /* Authorization held the gateway's own credential */
};

/* Starts it. NULL: it could not be started and was answered (503, 500); the client goes on as after
 * any answer. The head's bytes are borrowed until return. */
struct gm_exchange *gm_exchange_start(struct gm_client *client,
                                      const struct gm_exchange_request *request);

/* Bytes of request body that the exchange can take now; 0 after its end. */
uint64_t gm_exchange_room(const struct gm_exchange *exchange);
/* Feeds from client->input what there is room for. Negative: the body is not valid HTTP; the
 * exchange has ended and the client is closing. */
int gm_exchange_feed(struct gm_exchange *exchange, struct gm_chain *input) GM_WARN_UNUSED;
/* The client will send nothing more (raw streams: half-close). */
void gm_exchange_input_ended(struct gm_exchange *exchange);
/* The client's socket has taken bytes. */
void gm_exchange_drained(struct gm_exchange *exchange);
/* The client has gone: cancels the far half and ends the exchange; the client is not called. */
void gm_exchange_cancel(struct gm_exchange *exchange, enum gm_reason_code reason);
/* It cannot go on: cancels the far half, and answers or cuts the answer short. The client is told
 * as at any end. */
void gm_exchange_fail(struct gm_exchange *exchange, enum gm_reason_code reason);

/* Bytes of an answer have gone to the client: there will be no second attempt. For server/relay.c.
 */
void gm_exchange_commit(struct gm_exchange *exchange);
/* Both directions are over. For server/relay.c. */
void gm_exchange_finish(struct gm_exchange *exchange);
/* Sends a message to the far half. For server/relay.c. */
void gm_exchange_tell(struct gm_exchange *exchange, const struct gm_port_message *message);

/* Its turn has come (server/queue.h): `card` has been begun, and a place under the server's limit
 * is its own. */
void gm_exchange_go(struct gm_exchange *exchange, struct gm_card *card);

/* Message from the far half (gm_port_ops.on_near). In server/relay.c. */
void gm_exchange_on_message(void *ctx, const struct gm_port_message *message);
/* The link cannot serve the request, or has lost it: on another link when design section 5.7
 * allows, else false. */
bool gm_exchange_retry(struct gm_exchange *exchange, uint16_t reason, uint8_t flags);

#endif
