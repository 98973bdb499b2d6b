/* Files that are watched for change: looked at by the control thread once a second.
 *
 * By stat and not by inotify: what counts is the file that a path leads to now, through whatever
 * symbolic links (Kubernetes swaps a link to a folder), also on file systems that tell nothing. A
 * change is acted upon once it has rested for a second: certificate and key change together. */
#ifndef GM_CONTROL_WATCH_H
#define GM_CONTROL_WATCH_H

#include "control/control.h"

#define GM_WATCH_PATHS_MAX 5u
#define GM_WATCH_PERIOD_MS 1000u
/* Entries of a watched folder beyond these are not looked at. */
#define GM_WATCH_ENTRIES_MAX 8192u

struct gm_watch {
    /* Files, or folders whose entries count; NULLs are skipped. Borrowed for the watch's life. */
    const char *paths[GM_WATCH_PATHS_MAX];
    /* On the control thread. Something has changed since gm_watch_prime, or since the last call. */
    void (*on_change)(struct gm_watch *watch);
    /* Ours. */
    uint64_t acted, seen; /* fingerprints: of what has been acted upon; of the last look */
    struct gm_control *control;
    struct gm_watch *next;
    struct gm_mail mail;
};

/* Remembers how the files are now: before they are read, so that no change is missed. */
void gm_watch_prime(struct gm_watch *watch);
/* Looks once; calls on_change when a change has rested since the last look. */
void gm_watch_look(struct gm_watch *watch);
/* Any thread: the control thread looks from here on, until it ends. The watch outlives it. */
void gm_control_watch(struct gm_control *control, struct gm_watch *watch);

#endif
