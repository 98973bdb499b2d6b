/* The far half: near half's messages to stream calls, stream events to messages. Owner: the link's
 * ring.
 *
 * Invariants: a far slot is named by its near half's id, so no table of names is needed; after
 * near_gone nothing is sent to the near half; the stream's user pointer is its far half until
 * on_closed. */
#include "server/far.h"

#include <errno.h>
#include <string.h>

#include "base/pages.h"
#include "link/link.h"
#include "server/attach.h"

/* Less than half of the smallest upload reservation (GM_WINDOW_MIN), so that an unreported rest
 * never stalls a client; more than most small bodies, so that those cost no report. */
#define FAR_REPORT_BYTES 2048u

static void far_tell(struct gm_far *far, struct gm_port_message message)
{
    if (far->near_gone) {
        gm_slice_put(message.slice);
        return;
    }
    message.pair = far->pair;
    message.to_far = false;
    gm_port_send(&far->ctx->port, 0, &message);
}

static void count(struct gm_far *far, enum gm_metrics_message message)
{
    gm_metrics_count(&far->ctx->metrics, message);
}

static void refuse(struct gm_server_ring *ctx, struct gm_pair_id pair, uint16_t reason)
{
    gm_counter_add(GM_COUNTER_STREAMS_REFUSED, 1);
    gm_port_send(
        &ctx->port, 0,
        &(struct gm_port_message){
            .kind = GM_PORT_RESET, .reason = reason, .flags = GM_PORT_UNTOUCHED, .pair = pair});
}

/* The slab for one ring's near halves: zero pages, touched as used. */
static struct gm_far *far_slab(struct gm_server_ring *ctx, uint16_t ring)
{
    if (ctx->fars[ring] == NULL)
        ctx->fars[ring] = gm_pages_map(sizeof(struct gm_far) * GM_SERVER_EXCHANGES_MAX);
    return ctx->fars[ring];
}

static struct gm_far *far_find(struct gm_server_ring *ctx, struct gm_pair_id pair)
{
    if (ctx->fars[pair.ring] == NULL)
        return NULL;
    struct gm_far *far = &ctx->fars[pair.ring][pair.index];
    return far->stream != NULL && far->pair.generation == pair.generation ? far : NULL;
}

static void far_open(struct gm_server_ring *ctx, const struct gm_port_message *message)
{
    struct gm_link *link = gm_attach_find(ctx, message->link_index, message->link_generation);
    struct gm_far *slab = far_slab(ctx, message->pair.ring);
    struct gm_far *far = slab == NULL ? NULL : &slab[message->pair.index];
    /* The previous user of the near half's slot may not have been closed by the agent yet: its
     * stream goes on without a far half. */
    if (far != NULL && far->stream != NULL) {
        far->stream->user = NULL;
        gm_stream_reset(far->stream, GM_REASON_CANCELLED, 0);
        gm_link_kick(gm_link_of(far->stream->mux));
        gm_list_remove(&far->node);
        far->stream = NULL;
    }
    struct gm_mux_open open = {.head = message->slice,
                               .window = message->amount,
                               .end = (message->flags & GM_PORT_END_STREAM) != 0,
                               .user = far};
    int rc = link == NULL || far == NULL || !gm_link_is_up(link)
                 ? -GM_E_CLOSED
                 : gm_stream_open(&link->mux, &open, &far->stream);
    if (rc < 0) {
        gm_slice_put(message->slice);
        refuse(ctx, message->pair,
               rc == -ENOTSUP ? GM_REASON_NOT_IMPLEMENTED
               : link == NULL ? GM_REASON_AGENT_DISCONNECT
                              : GM_REASON_REFUSED);
        return;
    }
    far->ctx = ctx;
    far->pair = message->pair;
    far->pulled = 0;
    far->near_gone = false;
    gm_list_init(&far->node);
    count(far, GM_METRICS_SENT_START);
    if (open.end)
        count(far, GM_METRICS_SENT_END);
    gm_link_kick(link);
}

/* A slice dropped for want of queue memory: the request cannot go on. */
static void far_starved(struct gm_far *far, int rc)
{
    if (rc != -GM_E_NOMEM)
        return;
    gm_stream_reset(far->stream, GM_REASON_OVERLOAD, 0);
    far_tell(far, (struct gm_port_message){.kind = GM_PORT_RESET, .reason = GM_REASON_OVERLOAD});
    far->near_gone = true;
}

void gm_far_on_message(void *context, const struct gm_port_message *message)
{
    struct gm_server_ring *ctx = context;
    if (message->kind == GM_PORT_OPEN) {
        far_open(ctx, message);
        return;
    }
    struct gm_far *far = far_find(ctx, message->pair);
    if (far == NULL || far->near_gone) {
        gm_slice_put(
            message->slice); /* it has ended and said so; that message and this one crossed */
        return;
    }
    switch ((enum gm_port_kind)message->kind) {
    case GM_PORT_DATA:
        count(far, GM_METRICS_SENT_DATA);
        far_starved(far, gm_stream_data(far->stream, message->slice));
        break;
    case GM_PORT_TRAILERS:
        count(far, GM_METRICS_SENT_END);
        far_starved(far, gm_stream_trailers(far->stream, message->slice));
        break;
    case GM_PORT_END:
        count(far, GM_METRICS_SENT_END);
        gm_stream_end(far->stream);
        break;
    case GM_PORT_GRANT:
        gm_stream_regrant(far->stream, message->amount);
        break;
    case GM_PORT_STOP:
        gm_stream_stop(far->stream, message->reason);
        break;
    case GM_PORT_RESET:
        far->near_gone = true;
        count(far, GM_METRICS_SENT_CANCEL);
        gm_stream_reset(far->stream, message->reason, 0);
        break;
    case GM_PORT_OPEN:
    case GM_PORT_HEAD:
    case GM_PORT_CREDIT:
    case GM_PORT_PULLED:
    case GM_PORT_KINDS:
        GM_UNREACHABLE("a message for the near half");
    }
    gm_link_kick(gm_link_of(far->stream->mux));
}

/* ---- The stream's events ---- */

static struct gm_far *far_of(struct gm_stream *stream)
{
    return stream->user;
}

static void far_head(struct gm_stream *stream, gm_slice block, bool end)
{
    struct gm_far *far = far_of(stream);
    (void)end; /* on_end follows */
    if (far == NULL)
        return;
    count(far, GM_METRICS_RECV_START);
    far_tell(far, (struct gm_port_message){.kind = GM_PORT_HEAD, .slice = gm_slice_ref(block)});
}

static void far_data(struct gm_stream *stream, gm_slice slice)
{
    struct gm_far *far = far_of(stream);
    if (far == NULL) {
        gm_slice_put(slice);
        return;
    }
    count(far, GM_METRICS_RECV_DATA);
    far_tell(far, (struct gm_port_message){.kind = GM_PORT_DATA, .slice = slice});
}

static void far_trailers(struct gm_stream *stream, gm_slice block)
{
    if (far_of(stream) != NULL)
        far_tell(far_of(stream),
                 (struct gm_port_message){.kind = GM_PORT_TRAILERS, .slice = gm_slice_ref(block)});
}

static void far_end(struct gm_stream *stream)
{
    struct gm_far *far = far_of(stream);
    if (far == NULL)
        return;
    count(far, GM_METRICS_RECV_END);
    far_tell(far, (struct gm_port_message){.kind = GM_PORT_END});
}

/* A copy of what the agent said of the reset; empty when it said nothing, or there is no memory. */
static gm_slice far_said(const struct gm_far *far)
{
    gm_slice said = gm_mux_old_said(far->stream->mux);
    struct gm_buf *buf =
        said.len == 0 || far->near_gone ? NULL : gm_ring_block(far->ctx->ring, GM_BLOCK_SMALL);
    if (buf == NULL)
        return (gm_slice){0};
    memcpy(buf->data, said.data, said.len);
    return (gm_slice){buf->data, said.len, buf};
}

static void far_reset(struct gm_stream *stream, uint16_t reason, uint16_t flags)
{
    struct gm_far *far = far_of(stream);
    if (far == NULL)
        return;
    if ((flags & (GM_MUX_RESET_LOST | GM_MUX_RESET_LOCAL)) == 0)
        count(far, GM_METRICS_RECV_END);
    struct gm_port_message message = {.kind = GM_PORT_RESET, .reason = reason};
    if ((flags & GM_FRAME_RESET_UNTOUCHED) != 0)
        message.flags |= GM_PORT_UNTOUCHED;
    if ((flags & GM_MUX_RESET_LOST) != 0)
        message.flags |= GM_PORT_LINK_LOST;
    message.slice = far_said(far);
    far_tell(far, message);
    far->near_gone = true;
}

static void far_stop(struct gm_stream *stream, uint16_t reason)
{
    if (far_of(stream) != NULL)
        far_tell(far_of(stream), (struct gm_port_message){.kind = GM_PORT_STOP, .reason = reason});
}

static void far_credit(struct gm_stream *stream, uint32_t delta)
{
    if (far_of(stream) != NULL)
        far_tell(far_of(stream), (struct gm_port_message){.kind = GM_PORT_CREDIT, .amount = delta});
}

/* Reported once per turn: a pull takes many frames of a stream. */
static void far_pulled(struct gm_stream *stream, uint32_t bytes)
{
    struct gm_far *far = far_of(stream);
    if (far == NULL || far->near_gone)
        return;
    far->pulled += bytes;
    if (far->pulled < FAR_REPORT_BYTES)
        return;
    if (gm_list_empty(&far->node))
        gm_list_push_back(&far->ctx->pulled_fars, &far->node);
    gm_ring_soon(far->ctx->ring, &far->ctx->pulled_task);
}

void gm_far_report(struct gm_task *task)
{
    struct gm_server_ring *ctx = GM_CONTAINER_OF(task, struct gm_server_ring, pulled_task);
    struct gm_list *node;
    while ((node = gm_list_pop_front(&ctx->pulled_fars)) != NULL) {
        struct gm_far *far = GM_CONTAINER_OF(node, struct gm_far, node);
        far_tell(far, (struct gm_port_message){.kind = GM_PORT_PULLED, .amount = far->pulled});
        far->pulled = 0;
    }
}

static void far_closed(struct gm_stream *stream)
{
    struct gm_far *far = far_of(stream);
    if (far == NULL)
        return;
    gm_list_remove(&far->node);
    far->stream = NULL;
}

const struct gm_mux_ops gm_far_mux_ops = {
    .on_hello = gm_link_mux_hello,
    .on_head = far_head,
    .on_data = far_data,
    .on_trailers = far_trailers,
    .on_end = far_end,
    .on_reset = far_reset,
    .on_stop = far_stop,
    .on_credit = far_credit,
    .on_pulled = far_pulled,
    .on_closed = far_closed,
    .on_pong = gm_link_mux_pong,
    .on_drain = gm_link_mux_drain,
    .on_drain_ack = gm_link_mux_drain_ack,
    .on_note = gm_link_mux_note,
    .gather = gm_link_mux_gather,
    .reserve = gm_link_mux_reserve,
};
