/* What one ring of the server holds: the room in which clients, requests and links meet.
 *
 * Owner: one ring, except `shared`, which all rings read and of which the atomics alone are
 * written. Nothing here is for other folders. */
#ifndef GM_SERVER_CONTEXT_H
#define GM_SERVER_CONTEXT_H

#include "auth/cache.h"
#include "base/counter.h"
#include "base/slab.h"
#include "config/config.h"
#include "http/writer.h"
#include "net/tls.h"
#include "server/certs.h"
#include "server/keys.h"
#include "server/metrics.h"
#include "server/port.h"
#include "server/registry.h"

/* Requests of one ring under way at once; beyond it: 503 overload. A slot costs about 400 bytes,
 * touched when first used. */
#define GM_SERVER_EXCHANGES_MAX 16384u
/* RSA verifications per turn: each takes 20 to 60 us, so that a flood of unknown tokens costs the
 * others at most a quarter of a millisecond. */
#define GM_SERVER_VERIFY_PER_TURN 4u

struct gm_access_log;
struct gm_access_note;
struct gm_client;
struct gm_queue;
struct gm_exchange;
struct gm_far;
struct gm_server_link;
struct gm_lanes;

enum gm_server_phase { GM_SERVER_RUNNING, GM_SERVER_DRAINING };

/* One per process. Written before the rings start, except the atomics. */
struct gm_server_shared {
    const struct gm_server_config *config;
    struct gm_rings *rings;
    struct gm_control *control;
    struct gm_keys keys;
    struct gm_certs certs;
    struct gm_lanes *lanes;
    struct gm_access_log *access; /* NULL: off */
    struct gm_server_ring **ring_contexts;
    struct gm_port **ports;
    struct gm_registry **registries;
    uint64_t started_ns; /* on the rings' clock */
    uint32_t lane_count;
    char instance[33]; /* random id of this process */
    /* Rings whose clients have all gone, in a drain, and rings that have nothing left at all.
     * Writers: each ring once, relaxed. */
    _Atomic uint32_t rings_idle, rings_done;
    /* What agents have found behind their address, of late (server/note.c): servers in the low 16
     * bits, above them the second of the report. Writers and readers: any ring, relaxed; a hint. */
    _Atomic uint64_t servers_found;
    /* Requests under way on all rings. Writers: any ring, relaxed; a limit and a figure, publishes
     * nothing. */
    _Atomic int64_t active_requests;
    /* Requests that have ended, on whichever ring. */
    struct gm_rate rate;
};

/* Ring 0: clients that wait for /metrics (server/scrape.c). */
struct gm_scrape {
    struct gm_list waiting;
    uint32_t pending; /* rings that have not looked yet */
    bool fresh;
};

struct gm_server_ring {
    struct gm_server_shared *shared;
    struct gm_ring *ring;
    struct gm_port port;
    struct gm_registry *registry;
    struct gm_ring_keys keys;
    struct gm_token_cache tokens;
    void *tokens_memory;
    struct gm_metrics metrics; /* freed when no ring runs any more */
    struct gm_scrape scrape;
    struct gm_mail scrape_mail; /* from ring 0 and back */

    struct gm_listener public_listener, tls_listener, metrics_listener, health_listener;
    uint32_t public_open; /* of the first two */

    struct gm_tls_room tls_room;
    struct gm_tls_server *tls; /* NULL: no TLS */
    /* A newer one, or NULL. Writers: the control thread (acq_rel: publishes the set; takes back one
     * that was not taken) and the ring, which takes it (acquire). */
    _Atomic(struct gm_tls_server *) tls_next;

    struct gm_slab client_slab;
    struct gm_list clients;        /* every client connection */
    struct gm_list partial_heads;  /* inputs with an incomplete head in a block, oldest first */
    uint32_t head_blocks;          /* held by them, and by those who wait for RSA */
    struct gm_list verify_waiting; /* inputs whose token waits for its turn at RSA */
    struct gm_mail verify_mail;    /* to ourselves: the next turn's RSA budget */
    bool verify_mailed;
    uint32_t verify_left; /* this turn's budget */
    uint64_t verify_turn_ns;

    struct gm_exchange *exchanges; /* slab of GM_SERVER_EXCHANGES_MAX */
    uint32_t *exchange_free;       /* stack of free indices */
    uint32_t exchange_free_count;
    uint32_t exchange_used_count;

    struct gm_queue *queue;              /* NULL: nobody waits for a place */
    struct gm_access_note *access_notes; /* by exchange; NULL: no access log */

    struct gm_far *
        *fars; /* by ring of the near half: a slab of GM_SERVER_EXCHANGES_MAX, made at first use */
    struct gm_server_link **links; /* table by link index */
    uint32_t link_capacity, link_count, link_generation;
    struct gm_list all_links;   /* those that are closing, too */
    struct gm_list pulled_fars; /* far halves with bytes to report */
    struct gm_task pulled_task;

    enum gm_server_phase phase;
    struct gm_timer drain_timer;
    uint64_t drain_deadline_ns;
    bool idle_told, done_told;
    char date[GM_HTTP_DATE_LEN];
    int64_t date_wall_s;
};

/* Clients in verify_waiting get their turn in the next turn of the loop. */
void gm_server_verify_later(struct gm_server_ring *ctx);
/* The value of a Date field for this second; GM_HTTP_DATE_LEN bytes, borrowed. */
const char *gm_server_date(struct gm_server_ring *ctx);

#endif
