/* The mailbox of a ring: an intrusive multi-producer queue with one consumer, and the protocol by
 * which the consumer sleeps.
 *
 * A producer publishes a chain of nodes with one atomic exchange and one store; between the two the
 * chain is announced but not yet linked, which the consumer sees as "not empty, nothing to take":
 * it must look again and may not sleep. Order per producer is kept. Sleep: the consumer sets
 * `sleeping`, passes a full fence and looks again; a producer publishes, passes a full fence and
 * looks at `sleeping`. Whatever the order, one of the two sees the other: no mail is left lying
 * while the consumer sleeps (Dekker's argument; proved by
 * tests/unit/ring/test_mailbox_interleave.c, which replaces the GM_MB_ layer by a scheduler with
 * store buffers). */
#ifndef GM_RING_MAILBOX_H
#define GM_RING_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/mail.h"

/* Every shared step goes through this layer. */
#ifndef GM_MB_LOAD
#define GM_MB_LOAD(p, order)        atomic_load_explicit((p), (order))
#define GM_MB_STORE(p, v, order)    atomic_store_explicit((p), (v), (order))
#define GM_MB_EXCHANGE(p, v, order) atomic_exchange_explicit((p), (v), (order))
#if defined(__SANITIZE_THREAD__)
/* TSan knows no fences. A sequentially consistent exchange orders what comes before and after it
 * just as well, and nothing else hangs on it. */
#define GM_MB_FENCE()                                                                              \
    do {                                                                                           \
        _Atomic int fence_ = 0;                                                                    \
        (void)atomic_exchange_explicit(&fence_, 1, memory_order_seq_cst);                          \
    } while (0)
#else
#define GM_MB_FENCE() atomic_thread_fence(memory_order_seq_cst)
#endif
#endif

struct gm_mailbox {
    /* The node published last. Writers: producers, by exchange (acq_rel); reader: the consumer.
     * Publishes the nodes before it. */
    struct gm_mail *_Atomic tail;
    /* 1 while the consumer sleeps or is about to. Writer: the consumer (relaxed, then a fence); a
     * producer takes it back to 0 by exchange (acq_rel) and so becomes the one that wakes. */
    _Atomic uint32_t sleeping;
    /* Consumer only: the node taken next. On a line of its own. */
    struct gm_mail *head __attribute__((aligned(64)));
    struct gm_mail stub;
};

void gm_mailbox_init(struct gm_mailbox *box);
/* Producer, any thread: puts first..last (linked by `next`, last->next NULL) behind what is there.
 */
void gm_mailbox_publish(struct gm_mailbox *box, struct gm_mail *first, struct gm_mail *last);
/* Producer, after publishing: true when the consumer slept; the caller, and only it, must wake it.
 */
bool gm_mailbox_must_wake(struct gm_mailbox *box);
/* Consumer: the next node, or NULL when there is none or it is not linked yet (gm_mailbox_empty
 * tells which). */
struct gm_mail *gm_mailbox_take(struct gm_mailbox *box);
/* Consumer. */
bool gm_mailbox_empty(struct gm_mailbox *box);
/* Consumer, before it waits: true when it may. False: there is mail, it must not wait. */
bool gm_mailbox_sleep(struct gm_mailbox *box);
/* Consumer, after waiting, for whatever reason it woke. */
void gm_mailbox_awake(struct gm_mailbox *box);

#endif
