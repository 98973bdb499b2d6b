/* A fetch: one GET on a connection of its own, the body of its answer whole in the owner's memory.
 * For small documents from elsewhere, now and then; redirects are not followed.
 *
 * Owner: one ring. One fetch at a time; it ends by on_done, once, or by gm_fetch_cancel. */
#ifndef GM_CLIENT_FETCH_H
#define GM_CLIENT_FETCH_H

#include "client/call.h"

struct gm_fetch;

struct gm_fetch_config {
    /* Where: its target is the host alone (without a prefix); its timeouts do not matter. */
    struct gm_backend_config backend;
    const char *path;   /* "/keys.json", checked as a target's; borrowed */
    const char *accept; /* media types; borrowed */
    char *room;         /* for the body; borrowed */
    size_t room_bytes;
    uint64_t timeout_ns; /* for the whole of it */
    /* The body lies in `room`, fetch->len bytes; or `problem` (borrowed until return) says why not.
     * The next fetch may begin at once. */
    void (*on_done)(struct gm_fetch *fetch, const char *problem);
};

struct gm_fetch {
    struct gm_fetch_config config;
    struct gm_backend_pool pool;
    struct gm_call call;
    struct gm_timer timer;
    size_t len;
    uint16_t status; /* of the final head; 0: none yet */
    bool busy;
    char problem[96];
};

/* Zeroes *fetch, whose memory stays with the caller, and takes a copy of *config. */
void gm_fetch_init(struct gm_fetch *fetch, const struct gm_fetch_config *config);
/* Begins. on_done may come from within. Not while one is under way. */
void gm_fetch_begin(struct gm_fetch *fetch);
/* Ends it now, without on_done. Nothing, when none is under way. */
void gm_fetch_cancel(struct gm_fetch *fetch);

#endif
