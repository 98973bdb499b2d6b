/* The message pool of a ring and its two ways out: a local queue drained within the turn, and the
 * mailboxes of other rings.
 *
 * Owner: one ring per port. A message is free, queued locally, in somebody's mailbox, or on its way
 * home; never two of these. */
#include "server/port.h"

#include <stdlib.h>
#include <string.h>

#include "base/counter.h"

static void port_run(struct gm_task *task);

int gm_port_init(struct gm_port *port, struct gm_ring *ring, struct gm_port **peers,
                 const struct gm_port_ops *ops, void *context)
{
    *port = (struct gm_port){.ring = ring, .ops = ops, .context = context, .peers = peers};
    gm_list_init(&port->free);
    gm_list_init(&port->local);
    gm_task_init(&port->task, port_run);
    port->carved = calloc(GM_PORT_MESSAGES, sizeof *port->carved);
    if (port->carved == NULL)
        return -GM_E_NOMEM;
    for (uint32_t i = 0; i < GM_PORT_MESSAGES; i++) {
        port->carved[i].home = port;
        gm_list_push_back(&port->free, &port->carved[i].node);
    }
    peers[gm_ring_index(ring)] = port;
    return 0;
}

static bool port_carved(const struct gm_port *port, const struct gm_port_message *message)
{
    return message >= port->carved && message < port->carved + GM_PORT_MESSAGES;
}

static void port_free(struct gm_port_message *message)
{
    struct gm_port *port = message->home;
    if (port_carved(port, message))
        gm_list_push_front(&port->free, &message->node);
    else
        free(message);
}

static void port_drop(struct gm_list *list)
{
    struct gm_list *node;
    while ((node = gm_list_pop_front(list)) != NULL) {
        struct gm_port_message *message = GM_CONTAINER_OF(node, struct gm_port_message, node);
        gm_slice_put(message->slice);
        if (!port_carved(message->home, message))
            free(message);
    }
}

void gm_port_fini(struct gm_port *port)
{
    if (port->carved == NULL)
        return;
    port_drop(&port->local);
    free(port->carved);
    port->carved = NULL;
}

static struct gm_port_message *port_take(struct gm_port *port)
{
    struct gm_list *node = gm_list_pop_front(&port->free);
    if (GM_LIKELY(node != NULL))
        return GM_CONTAINER_OF(node, struct gm_port_message, node);
    struct gm_port_message *message = calloc(1, sizeof *message);
    GM_ASSERT(
        message !=
        NULL); /* a few bytes to report an end with: without them the process is lost anyway */
    message->home = port;
    gm_counter_add(GM_COUNTER_ALLOCATIONS, 1);
    return message;
}

static void port_come_home(struct gm_mail *mail)
{
    port_free(GM_CONTAINER_OF(mail, struct gm_port_message, mail));
}

static void port_dispatch(struct gm_port *port, struct gm_port_message *message)
{
    if (message->to_far)
        port->ops->on_far(port->context, message);
    else
        port->ops->on_near(port->context, message);
}

static void port_arrive(struct gm_mail *mail)
{
    struct gm_port_message *message = GM_CONTAINER_OF(mail, struct gm_port_message, mail);
    struct gm_port *port = message->home->peers[gm_ring_self];
    port_dispatch(port, message);
    message->slice = (gm_slice){0};
    mail->deliver = port_come_home;
    gm_ring_mail(port->ring, gm_ring_index(message->home->ring), mail);
}

static void port_run(struct gm_task *task)
{
    struct gm_port *port = GM_CONTAINER_OF(task, struct gm_port, task);
    struct gm_list *node;
    while ((node = gm_list_pop_front(&port->local)) != NULL) {
        struct gm_port_message *message = GM_CONTAINER_OF(node, struct gm_port_message, node);
        port_dispatch(port, message);
        message->slice = (gm_slice){0};
        port_free(message);
    }
}

void gm_port_send(struct gm_port *port, uint32_t far_ring, const struct gm_port_message *source)
{
    struct gm_port_message *message = port_take(port);
    message->slice = source->slice;
    message->pair = source->pair;
    message->amount = source->amount;
    message->link_index = source->link_index;
    message->link_generation = source->link_generation;
    message->reason = source->reason;
    message->kind = source->kind;
    message->flags = source->flags;
    message->to_far = source->to_far;
    uint32_t to = source->to_far ? far_ring : source->pair.ring;
    if (to == gm_ring_index(port->ring)) {
        gm_list_push_back(&port->local, &message->node);
        gm_ring_soon(port->ring, &port->task);
        return;
    }
    message->mail.deliver = port_arrive;
    gm_ring_mail(port->ring, to, &message->mail);
}
