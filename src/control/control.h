/* The control thread: one per process, for what may block (names, files), never on the data path.
 *
 * A ring embeds a job in an object of its own, hands it over, and gets it back by mail; between the
 * two the job is the thread's. Jobs are answered in any order, and not at all once the thread has
 * been stopped. */
#ifndef GM_CONTROL_CONTROL_H
#define GM_CONTROL_CONTROL_H

#include "ring/ring.h"

/* A name with more addresses than this is dialled at the first ones. */
#define GM_CONTROL_ADDRS_MAX 16u
/* Longest file read: a token is at most 8 KiB. */
#define GM_CONTROL_FILE_MAX 16384u
#define GM_CONTROL_HOST_MAX 256u

struct gm_control;

/* Makes it, without a thread: before the rings start, so that none of them ever runs without. Jobs
 * given from here on are kept for the thread. *out is the caller's, for gm_control_free. Negative
 * errno or -GM_E_NOMEM. */
int gm_control_new(struct gm_control **out) GM_WARN_UNUSED;
/* Starts the thread, once the rings stand. 0 or a negative errno. */
int gm_control_start(struct gm_control *control, struct gm_rings *rings) GM_WARN_UNUSED;
/* Ends the thread, if it was started, and waits for it: no job is answered from here on, and new
 * ones are ignored. While the rings still stand. Accepts NULL. */
void gm_control_stop(struct gm_control *control);
/* After the rings have been joined. Accepts NULL. */
void gm_control_free(struct gm_control *control);

/* The addresses of a host name, in the order in which to try them (RFC 6724). */
struct gm_control_lookup {
    struct gm_mail mail; /* the thread's own, like the next two */
    struct gm_control *control;
    uint32_t ring;
    /* On the ring that asked. The job may be used again at once. */
    void (*on_done)(struct gm_control_lookup *lookup);
    char host[GM_CONTROL_HOST_MAX]; /* in */
    uint16_t port;                  /* in, host order */
    /* Out: `error` is 0 and count > 0, or negative with a static text that says why. */
    int error;
    const char *error_text;
    uint32_t count;
    union gm_addr addrs[GM_CONTROL_ADDRS_MAX];
};
/* On ring `from`: takes the job until on_done. */
void gm_control_resolve(struct gm_control *control, struct gm_ring *from,
                        struct gm_control_lookup *lookup);

/* Anything else that may block. */
struct gm_control_job {
    struct gm_mail mail; /* the thread's own */
    /* On the control thread, to which the job belongs from gm_control_submit until then. */
    void (*work)(struct gm_control_job *job);
};
/* Any thread. */
void gm_control_submit(struct gm_control *control, struct gm_control_job *job);

/* A small file, whole. */
struct gm_control_file {
    struct gm_mail mail; /* the thread's own, like the next two */
    struct gm_control *control;
    uint32_t ring;
    void (*on_done)(struct gm_control_file *file); /* on the ring that asked */
    const char *path;                              /* in; borrowed until on_done */
    int error;                                     /* out: 0, negative errno, -GM_E_LIMIT */
    uint32_t len;                                  /* out */
    char text[GM_CONTROL_FILE_MAX];                /* out; secret: the asker wipes it */
};
/* On ring `from`: takes the job until on_done. */
void gm_control_read_file(struct gm_control *control, struct gm_ring *from,
                          struct gm_control_file *file);

#endif
