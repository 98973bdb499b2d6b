/* What the mux asks of its link, apart from the greeting, and the notes. Owner: one ring.
 *
 * None of it ends the link: the mux is at work when it asks. */
#include <string.h>

#include "link/internal.h"

void gm_link_mux_pong(struct gm_mux *mux, const uint8_t opaque[GM_FRAME_PING_LEN])
{
    struct gm_link *link = gm_link_of(mux);
    uint64_t sent_ns, now_ns = gm_ring_now_ns(gm_conn_ring(&link->conn));
    memcpy(&sent_ns, opaque, sizeof sent_ns);
    /* The bytes are the peer's to choose: only a plausible time counts. */
    if (sent_ns >= now_ns || now_ns - sent_ns >= GM_LINK_IDLE_SILENCE_NS)
        return;
    gm_mux_set_rtt(mux, now_ns - sent_ns);
    if (link->ops->on_rtt != NULL)
        link->ops->on_rtt(link);
}

void gm_link_mux_drain(struct gm_mux *mux)
{
    struct gm_link *link = gm_link_of(mux);
    link->ops->on_drain(link);
    gm_conn_kick(&link->conn);
}

void gm_link_mux_drain_ack(struct gm_mux *mux)
{
    struct gm_link *link = gm_link_of(mux);
    link->drain_acked = true;
    gm_conn_kick(&link->conn);
}

void gm_link_mux_note(struct gm_mux *mux, const uint8_t *json, size_t len)
{
    struct gm_link *link = gm_link_of(mux);
    if (link->ops->on_note != NULL)
        link->ops->on_note(link, (const char *)json, len);
}

int gm_link_note(struct gm_link *link, const char *json, size_t len)
{
    if (link->state != LINK_UP)
        return -GM_E_CLOSED;
    if (len == 0 || len > GM_LINK_NOTE_MAX)
        return -GM_E_LIMIT;
    if (link->old != NULL)
        return gm_conn_queued(&link->conn) < GM_LINK_QUEUE_BYTES ? link_old_text(link, json, len)
                                                                 : -GM_E_LIMIT;
    struct gm_buf *buf = gm_link_mux_gather(&link->mux, len + GM_MUX_HEAD_ROOM);
    if (buf == NULL)
        return -GM_E_NOMEM;
    memcpy(buf->data + GM_MUX_HEAD_ROOM, json, len);
    gm_slice note = {buf->data, (uint32_t)len + GM_MUX_HEAD_ROOM, buf};
    int rc = gm_mux_note(&link->mux, note);
    if (rc == 0)
        gm_conn_kick(&link->conn);
    return rc;
}

struct gm_buf *gm_link_mux_gather(struct gm_mux *mux, size_t bytes)
{
    return gm_ring_block(gm_conn_ring(&gm_link_of(mux)->conn),
                         bytes <= GM_BLOCK_SMALL_BYTES ? GM_BLOCK_SMALL : GM_BLOCK_HEAD);
}

bool gm_link_mux_reserve(struct gm_mux *mux, uint32_t bytes)
{
    return gm_ring_reserve_more(gm_conn_ring(&gm_link_of(mux)->conn), bytes);
}
