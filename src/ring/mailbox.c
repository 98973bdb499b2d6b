/* The intrusive queue and the sleep protocol. Producers: any thread; consumer: the ring. See
 * mailbox.h. */
#include "ring/mailbox.h"

#include <stddef.h>

void gm_mailbox_init(struct gm_mailbox *box)
{
    atomic_init(&box->stub.next, NULL);
    box->stub.deliver = NULL;
    box->head = &box->stub;
    atomic_init(&box->tail, &box->stub);
    atomic_init(&box->sleeping, 0u);
}

void gm_mailbox_publish(struct gm_mailbox *box, struct gm_mail *first, struct gm_mail *last)
{
    struct gm_mail *before = GM_MB_EXCHANGE(&box->tail, last, memory_order_acq_rel);
    GM_MB_STORE(&before->next, first, memory_order_release);
}

bool gm_mailbox_must_wake(struct gm_mailbox *box)
{
    GM_MB_FENCE();
    /* The plain look keeps the line shared while the consumer is awake; the exchange elects one
     * waker. */
    if (GM_MB_LOAD(&box->sleeping, memory_order_relaxed) == 0)
        return false;
    return GM_MB_EXCHANGE(&box->sleeping, 0u, memory_order_acq_rel) == 1u;
}

struct gm_mail *gm_mailbox_take(struct gm_mailbox *box)
{
    struct gm_mail *head = box->head;
    struct gm_mail *next = GM_MB_LOAD(&head->next, memory_order_acquire);
    if (head == &box->stub) {
        if (next == NULL)
            return NULL;
        box->head = head = next;
        next = GM_MB_LOAD(&head->next, memory_order_acquire);
    }
    if (next == NULL) {
        /* `head` is the last one, unless a producer has announced more and not linked it yet. */
        if (GM_MB_LOAD(&box->tail, memory_order_acquire) != head)
            return NULL;
        GM_MB_STORE(&box->stub.next, (struct gm_mail *)NULL, memory_order_relaxed);
        gm_mailbox_publish(box, &box->stub, &box->stub);
        next = GM_MB_LOAD(&head->next, memory_order_acquire);
        if (next == NULL)
            return NULL;
    }
    box->head = next;
    return head;
}

bool gm_mailbox_empty(struct gm_mailbox *box)
{
    /* Once everything is taken, the stub is both ends. */
    return box->head == &box->stub && GM_MB_LOAD(&box->tail, memory_order_acquire) == &box->stub;
}

bool gm_mailbox_sleep(struct gm_mailbox *box)
{
    GM_MB_STORE(&box->sleeping, 1u, memory_order_relaxed);
    GM_MB_FENCE();
    if (gm_mailbox_empty(box))
        return true;
    GM_MB_STORE(&box->sleeping, 0u, memory_order_relaxed);
    return false;
}

void gm_mailbox_awake(struct gm_mailbox *box)
{
    GM_MB_STORE(&box->sleeping, 0u, memory_order_relaxed);
}
