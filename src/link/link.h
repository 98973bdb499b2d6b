/* A link: one authenticated WebSocket between a server and an agent, and everything that keeps it
 * honest: handshake, greetings, framing, masking, liveness, drain. The same code on both ends;
 * streams are its mux's (codec/codec.h).
 *
 * Owner: one ring. The link reads always and at once; what it sends is pulled from the mux in the
 * flush step, no more than GM_LINK_QUEUE_BYTES ahead of the socket, so that a control frame never
 * waits behind bulk. */
#ifndef GM_LINK_LINK_H
#define GM_LINK_LINK_H

#include "codec/codec.h"
#include "link/hello.h"
#include "net/tls.h"
#include "ws/handshake.h"
#include "ws/ws.h"

#define GM_LINK_QUEUE_BYTES (64u << 10)
/* design section 5.5 */
#define GM_LINK_BUSY_SILENCE_NS 2000000000ull
#define GM_LINK_IDLE_SILENCE_NS 15000000000ull
#define GM_LINK_PONG_NS         3000000000ull
/* A busy link measures its round trip so often: paths change, and windows follow them. */
#define GM_LINK_MEASURE_NS  10000000000ull
#define GM_LINK_GREETING_NS 10000000000ull
#define GM_LINK_NOTE_MAX    (GM_FRAME_PAYLOAD_MAX - GM_MUX_HEAD_ROOM)

struct gm_link;
struct gm_link_ops {
    /* Both greetings have passed; link->hello or link->ready holds the peer's. */
    void (*on_up)(struct gm_link *link);
    /* The peer drains: no new streams. */
    void (*on_drain)(struct gm_link *link);
    /* Silence has begun (true) or ended (false): other links are preferred to a silent one. May be
     * NULL. */
    void (*on_silent)(struct gm_link *link, bool silent);
    /* The round trip has been measured (mux.rtt_ns). May be NULL. */
    void (*on_rtt)(struct gm_link *link);
    /* The peer says something beside the streams: JSON, not yet parsed, borrowed. May be NULL. */
    void (*on_note)(struct gm_link *link, const char *json, size_t len);
    /* After gm_link_old_prove: it lives. May be NULL. */
    void (*on_proved)(struct gm_link *link);
    /* The link has ended; its streams have been told. `text` says why (borrowed). on_closed
     * follows. */
    void (*on_down)(struct gm_link *link, enum gm_reason_code reason, const char *text);
    /* The memory may be reused. */
    void (*on_closed)(struct gm_link *link);
};

/* Of 0.0.x. Texts are borrowed until return. */
struct gm_link_old {
    const char *agent_id, *service; /* server: for its hello. agent_id NULL: the peer is native */
    uint32_t request_limit;         /* agent: named in its 429; 0: none */
};

struct gm_link_config {
    const struct gm_link_ops *ops;    /* borrowed for the link's life */
    const struct gm_mux_ops *mux_ops; /* likewise; its link entries are the gm_link_mux_* below */
    enum gm_mux_role role;
    uint32_t stream_limit; /* what we announce */
    uint32_t window;       /* agent: READY's window */
    struct gm_tls *tls;    /* NULL: plaintext. Taken, also on failure */
    struct gm_tls_room *room;
    struct gm_hello hello; /* server: what we say */
    struct gm_ready ready; /* agent: what we say */
    struct gm_link_old old;
};

struct link_proxy;
struct link_old;

/* Statistics of its mux that become counters. */
#define GM_LINK_COUNTED 10u

struct gm_link {
    struct gm_conn conn;
    struct gm_ws_reader ws;
    struct gm_mux mux;
    const struct gm_link_ops *ops;
    void *mux_memory;
    struct gm_timer starved;  /* no block for a message: tried again a tick later */
    struct gm_timer timer;    /* greeting, then liveness */
    struct gm_holder holder;  /* while streams wait for the socket */
    struct link_proxy *proxy; /* agent: until the tunnel through it stands */
    struct link_old *old;     /* a peer of 0.0.x; NULL: native */
    struct gm_buf *head;      /* agent: the answer to the upgrade, gathered */
    uint64_t last_recv_ns;
    uint64_t pinged_ns;    /* 0: no PING unanswered */
    uint64_t measured_ns;  /* when the last PING left: it measures the round trip */
    struct gm_hello hello; /* server: ours; agent: the peer's */
    struct gm_ready ready; /* agent: ours; server: the peer's */
    uint32_t head_len;
    uint16_t http_status; /* agent: of an upgrade that was refused; 0: none */
    char http_text[128];  /* agent: first line of its body */
    char key[GM_WS_KEY_LEN];
    uint8_t state; /* enum in link.c */
    uint8_t role;
    bool silent, draining, drain_acked;
    bool duplicate; /* agent: the 0.0.x server hello.server_id has a link of this token */
    uint32_t request_limit;
    bool zero_mask;    /* agent: our messages need no mask, both ends having said so */
    const char *stuck; /* it failed before its owner could be told: the timer tells */
    uint64_t mux_seen[GM_LINK_COUNTED]; /* statistics already counted */
};

/* Server: takes the descriptor of a checked upgrade request, and the session of a connection over
 * TLS; answers 101 with `accept` and greets. -GM_E_NOMEM: the descriptor stays the caller's. */
int gm_link_accept(struct gm_ring *ring, struct gm_link *link, int fd,
                   const char accept[GM_WS_ACCEPT_LEN],
                   const struct gm_link_config *config) GM_WARN_UNUSED;

/* An HTTP proxy on the way. Borrowed until return. */
struct gm_link_proxy {
    const char *name;        /* host:port, for messages */
    const char *to;          /* host:port of the server */
    const char *credentials; /* value of Proxy-Authorization; NULL: none */
};

/* What the upgrade request says. Borrowed until return. */
struct gm_link_dial {
    const union gm_addr *addr;         /* the proxy's, if there is one */
    const struct gm_link_proxy *proxy; /* NULL: none */
    struct gm_ws_text host, target;
    struct gm_ws_text token;
    int lane;                      /* Gimlet-Lane: the lane to take over; negative: none */
    struct gm_ws_text lane_server; /* Gimlet-Server: instance of the server that it is a lane of */
};
/* Agent: dials, asks the proxy for a tunnel if there is one, goes over to TLS if it has been given
 * a session, upgrades, greets. Failures come by on_down. */
int gm_link_dial(struct gm_ring *ring, struct gm_link *link, const struct gm_link_dial *dial,
                 const struct gm_link_config *config) GM_WARN_UNUSED;

/* Server, a peer of 0.0.x: its hello, once it is clear that it may stay: it is up then, and will
 * say when it is ready; */
void gm_link_old_greet(struct gm_link *link);
/* or the answer that its subject has a link that lives, and the end; */
void gm_link_old_refuse(struct gm_link *link);
/* which was asked of that one: on_proved, or on_down within the time of a ping. */
void gm_link_old_prove(struct gm_link *link);
static inline bool gm_link_is_old(const struct gm_link *link)
{
    return link->old != NULL;
}

static inline struct gm_link *gm_link_of(struct gm_mux *mux)
{
    return mux->user;
}
bool gm_link_is_up(const struct gm_link *link);

/* Something was queued in the mux: it leaves in this turn's flush. Also tightens the liveness
 * deadline when streams have come. */
void gm_link_kick(struct gm_link *link);
/* Says something beside the streams: a JSON object with a "type", 1..GM_LINK_NOTE_MAX bytes,
 * copied. The peer ignores a type that it does not know. 0; -GM_E_LIMIT: too long, or the peer
 * takes none; -GM_E_CLOSED: not up; -GM_E_NOMEM: no block now. */
int gm_link_note(struct gm_link *link, const char *json, size_t len) GM_WARN_UNUSED;
/* Announces the drain; the link closes by itself when the peer has acknowledged and no stream is
 * left. */
void gm_link_drain(struct gm_link *link);
/* Ends the link now: streams are told `reason`, the peer gets a CLOSE with `code`. Not from within
 * a callback of the mux. */
void gm_link_end(struct gm_link *link, enum gm_reason_code reason, uint16_t code, const char *text);

/* On the ring, at its end: frees what the link still holds, without a callback. */
void gm_link_forget(struct gm_link *link);

/* Entries for the owner's struct gm_mux_ops. */
int gm_link_mux_hello(struct gm_mux *mux, const uint8_t *json, size_t len);
void gm_link_mux_pong(struct gm_mux *mux, const uint8_t opaque[GM_FRAME_PING_LEN]);
void gm_link_mux_drain(struct gm_mux *mux);
void gm_link_mux_drain_ack(struct gm_mux *mux);
void gm_link_mux_note(struct gm_mux *mux, const uint8_t *json, size_t len);
struct gm_buf *gm_link_mux_gather(struct gm_mux *mux, size_t bytes);
bool gm_link_mux_reserve(struct gm_mux *mux, uint32_t bytes);

/* SHA-1 for the WebSocket handshake, by wolfCrypt. */
int gm_link_sha1(const uint8_t *p, size_t n, uint8_t out[20]);

#endif
