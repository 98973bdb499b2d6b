/* A new token for a link that stands: its agent has read it and sends it by a note, so that the
 * link need not end when the old one expires.
 *
 * Owner: the link's ring. A token is taken when it is good, for the same subject and service, and
 * lasts longer; any other changes nothing. It is verified in its turn, like everybody's, and at
 * most once a second for each link. */
#ifndef GM_SERVER_RENEW_H
#define GM_SERVER_RENEW_H

#include "ring/ring.h"

struct gm_server_link;

#define GM_RENEW_PERIOD_NS 1000000000ull

/* A link's part. */
struct gm_renew {
    struct gm_timer timer;
    uint64_t last_ns; /* when a token of this link was verified last */
    char *token;      /* waits to be verified; secret; NULL: none */
    uint32_t len;
};

void gm_renew_init(struct gm_server_link *self);
/* What the agent says is its token; borrowed. Replaces one that still waits. */
void gm_renew_take(struct gm_server_link *self, const char *token, size_t len);
/* The link is down: what waits is forgotten. */
void gm_renew_forget(struct gm_server_link *self);

#endif
