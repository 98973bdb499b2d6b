/* The node by which anything travels between rings: embedded in messages and in buffer descriptors.
 *
 * Owner: the producer until the node is published, then the consuming ring until `deliver` returns
 * (or hands it on). */
#ifndef GM_BASE_MAIL_H
#define GM_BASE_MAIL_H

#include <stdatomic.h>

struct gm_mail {
    /* Written by producers (release), read by the consumer (acquire): publishes the node that
     * follows. */
    struct gm_mail *_Atomic next;
    /* Called on the consuming ring's thread. The node may be reused at once. */
    void (*deliver)(struct gm_mail *mail);
};

#endif
