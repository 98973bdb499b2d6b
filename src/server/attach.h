/* Attaching: an agent's request for /agent becomes a link on the ring that its service and lane
 * name.
 *
 * The accepting ring authenticates and chooses the lane, then hands the socket over by mail; the
 * link's ring answers 101 and greets. */
#ifndef GM_SERVER_ATTACH_H
#define GM_SERVER_ATTACH_H

#include "link/link.h"
#include "server/admit.h"
#include "server/renew.h"

/* A link on its ring. */
struct gm_server_link {
    struct gm_link link;
    struct gm_list node; /* in ctx->all_links, until the connection is closed */
    struct gm_server_ring *ctx;
    struct gm_card *card; /* set while up */
    struct gm_timer expiry;
    uint32_t index, generation;
    uint32_t lane;
    bool silent, not_ready, draining; /* what the card's state is made of */
    bool waiting;   /* 0.0.x: another link has its subject, and is asked whether it lives */
    bool lane_held; /* until it drains or is down: a replacement may have the lane then */
    int64_t expires_s;
    struct gm_key_mark key; /* which one has signed its token */
    struct gm_renew renew;
    char subject[GM_LINK_NAME_MAX], service[GM_LINK_NAME_MAX];
};

enum gm_admit_result gm_attach_request(struct gm_client *client,
                                       const struct gm_http_request *head);
/* The client connection has been taken off its ring for hand-over; frees the client. */
void gm_attach_detached(struct gm_client *client, int fd);
/* The connection has ended on its way: what was kept for it is given back. */
void gm_attach_dropped(struct gm_client *client);
/* The agent says whether its backend is healthy. */
void gm_attach_ready(struct gm_server_link *self, bool ready);
/* A 0.0.x agent says that it drains; or that it does not, after all. Its streams go on. */
void gm_attach_old_drains(struct gm_server_link *self, bool drains);
/* The link of a handle, or NULL: it has gone. */
struct gm_link *gm_attach_find(struct gm_server_ring *ctx, uint32_t index, uint32_t generation);
/* Drains the links of this ring whose token has expired, or was signed with a key that the ring no
 * longer has. */
void gm_attach_recheck(struct gm_server_ring *ctx);
/* The link's credential is this one from here on (borrowed until return). */
void gm_attach_renew(struct gm_server_link *self, const struct gm_principal *principal);
/* Tells the agents on this ring that the server drains: they look for another one at once. Their
 * links go on. */
void gm_attach_announce_drain(struct gm_server_ring *ctx);
/* Ends every link of this ring, politely. */
void gm_attach_end_all(struct gm_server_ring *ctx);
/* The ring has stopped: frees what is left. */
void gm_attach_fini(struct gm_server_ring *ctx);

#endif
