/* The fields that the agent sets in requests to its backends (--backend-header): sets made at start
 * and again when a file they are read from changes.
 *
 * The control thread makes a service's new set and lays it down for each ring; a ring takes it up
 * between two requests. Values are secrets: no log line holds one. */
#ifndef GM_AGENT_HEADERS_H
#define GM_AGENT_HEADERS_H

#include "client/fields.h"
#include "config/config.h"
#include "control/watch.h"

struct gm_agent_ring;
struct gm_agent_shared;

struct gm_agent_headers;

/* Watches the files of one service: as many as a watch has room for. */
struct gm_agent_headers_files {
    struct gm_watch watch;
    struct gm_agent_headers *headers;
};
#define GM_AGENT_HEADERS_WATCHES                                                                   \
    ((GM_AGENT_HEADERS_MAX + GM_WATCH_PATHS_MAX - 1u) / GM_WATCH_PATHS_MAX)

/* Of one service. Main thread until the watches begin, then the control thread. */
struct gm_agent_headers {
    struct gm_agent_shared *shared;
    const struct gm_agent_service *config;
    struct gm_client_fields *newest; /* NULL: no field is set */
    struct gm_agent_headers_files watches[GM_AGENT_HEADERS_WATCHES];
    uint32_t watch_count;
};

/* What one ring holds of one service. */
struct gm_agent_fields_slot {
    struct gm_client_fields *now; /* the ring's own reference */
    /* The next set, with its reference, or NULL. Writers: the control thread (lays down), the ring
     * (takes up); acq_rel: publishes the set. */
    struct gm_client_fields *_Atomic next;
};

#define GM_AGENT_HEADERS_WHY_BYTES 512u
/* Reads the files and makes the set. Negative: `why` says what cannot be used, by name:
 * -GM_E_CONFIG for the field or its value, else the file or memory. */
int gm_agent_headers_load(struct gm_agent_headers *headers, struct gm_agent_shared *shared,
                          const struct gm_agent_service *config,
                          char why[GM_AGENT_HEADERS_WHY_BYTES]) GM_WARN_UNUSED;
/* The control thread runs: files are watched from here on. */
void gm_agent_headers_watch(struct gm_agent_headers *headers);
/* After the rings have ended. Accepts a zeroed struct. */
void gm_agent_headers_fini(struct gm_agent_headers *headers);

/* On a ring, in its init and fini: its slots, one per service. */
int gm_agent_headers_ring_init(struct gm_agent_ring *ctx) GM_WARN_UNUSED;
void gm_agent_headers_ring_fini(struct gm_agent_ring *ctx);

#endif
