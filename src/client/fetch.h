/* A fetch: one request on a connection of its own, the body of its answer whole in the owner's
 * memory. For small documents from elsewhere, now and then; redirects are not followed.
 *
 * Owner: one ring. One fetch at a time; it ends by on_done, once, or by gm_fetch_cancel. */
#ifndef GM_CLIENT_FETCH_H
#define GM_CLIENT_FETCH_H

#include "client/call.h"

/* A request's body lies in one block. */
#define GM_FETCH_BODY_MAX 65536u

struct gm_fetch;

struct gm_fetch_field {
    const char *name, *value;
};

struct gm_fetch_config {
    /* Where: its target is the host alone (without a prefix); its timeouts do not matter. */
    struct gm_backend_config backend;
    const char *path;   /* "/keys.json", checked as a target's; borrowed */
    const char *accept; /* media types; borrowed */
    /* All of these may be left out, and are borrowed until gm_fetch_begin returns: */
    const char *method;                  /* NULL: GET */
    const struct gm_fetch_field *fields; /* not Host, nor what frames the body */
    size_t field_count;
    const void *body;
    size_t body_len; /* at most GM_FETCH_BODY_MAX */
    bool any_status; /* every answer is one, and fetch->status tells; else only 200 is */
    char *room;      /* for the body; borrowed */
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
    int error;       /* in on_done, of what kind the problem is: -GM_E_TIMEOUT, -GM_E_LIMIT,
                        -GM_E_CLOSED (no whole answer came), … */
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
