/* The greetings of a native link: ours queued, the peer's judged. Owner: one ring.
 *
 * Invariant: a link rises once, when both greetings have passed. */
#include <string.h>

#include "link/internal.h"

bool link_greet(struct gm_link *link)
{
    struct gm_buf *buf = gm_ring_block(gm_conn_ring(&link->conn), GM_BLOCK_SMALL);
    if (buf == NULL)
        return false;
    void *json = buf->data + GM_MUX_HEAD_ROOM;
    size_t cap = buf->size - GM_MUX_HEAD_ROOM;
    int len = link->role == GM_MUX_SERVER ? gm_hello_encode(&link->hello, json, cap)
                                          : gm_ready_encode(&link->ready, json, cap);
    if (len < 0) {
        gm_buf_put(buf);
        return false;
    }
    gm_mux_greet(&link->mux, (gm_slice){buf->data, (uint32_t)len + GM_MUX_HEAD_ROOM, buf});
    gm_conn_kick(&link->conn);
    return true;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

void link_rise(struct gm_link *link)
{
    link->state = LINK_UP;
    link_arm(link, GM_LINK_IDLE_SILENCE_NS);
    link_ping(link); /* measures the round trip; not a test of life */
    link->ops->on_up(link);
}

int gm_link_mux_hello(struct gm_mux *mux, const uint8_t *json, size_t len)
{
    struct gm_link *link = gm_link_of(mux);
    struct gm_mux_peer peer = {0};
    if (link->role == GM_MUX_SERVER) {
        struct gm_ready ready;
        if (gm_ready_decode(json, len, &ready) < 0 ||
            strcmp(ready.instance, link->ready.instance) != 0)
            return -GM_E_PROTOCOL; /* the instance of the upgrade request stays: its lane is held */
        link->ready = ready;
        if (link->ready.stream_limit == 0)
            link->ready.stream_limit = link->hello.stream_limit;
        peer = (struct gm_mux_peer){
            .window = link->ready.window,
            .stream_limit = (uint16_t)least(link->hello.stream_limit, link->ready.stream_limit)};
    } else {
        if (gm_hello_decode(json, len, &link->hello) < 0)
            return -GM_E_PROTOCOL;
        peer.stream_limit = (uint16_t)least(link->hello.stream_limit, link->ready.stream_limit);
    }
    gm_mux_set_peer(mux, &peer);
    if (link->role == GM_MUX_AGENT && !link_greet(link))
        return -GM_E_NOMEM;
    link_rise(link);
    return 0;
}
