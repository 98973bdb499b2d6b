/* The registry: which links serve which service, as each ring sees it.
 *
 * Replicated, not shared: every ring has its own table, changed only by mail. What a link tells all
 * rings is its card, made by the link's ring when the link attaches and freed when the last ring
 * has let go of it. The card's load and state are relaxed atomics, so that balancing needs no
 * message. */
#ifndef GM_SERVER_REGISTRY_H
#define GM_SERVER_REGISTRY_H

#include "link/report.h"
#include "ring/ring.h"
#include "server/rate.h"

#define GM_REGISTRY_SERVICE_MAX 256u /* bytes of a service name, NUL included */

/* FNV-1a of a service's or an agent's name; the same on every ring, so that it also says which ring
 * has what there is but once. Names are short and few; who bears one is authenticated, so nobody
 * outside can choose collisions. Pure. */
uint32_t gm_registry_name_hash(const char *name, size_t len);

enum gm_card_state {
    GM_CARD_READY,
    GM_CARD_SILENT,
    GM_CARD_NOT_READY, /* the agent says that its backend is not healthy */
    GM_CARD_DRAINING
};

struct gm_card;

/* One per ring and card: carries the news to that ring. */
struct gm_card_news {
    struct gm_mail mail;
    struct gm_card *card;
    struct gm_registry *registry; /* the receiving ring's */
    /* Of the news that the card has joined: frames of answers that this ring holds for the link's
     * requests, when last looked at. Writer: the receiving ring; readers: any; relaxed. */
    _Atomic uint32_t held_frames;
};

struct gm_card {
    char service[GM_REGISTRY_SERVICE_MAX];
    char subject[GM_REGISTRY_SERVICE_MAX];
    char instance[72];
    uint64_t agent; /* hash of subject and instance: which links share a process; a collision costs
                       balance only */
    uint32_t link_index, link_generation; /* on ring `ring` */
    uint32_t lane, stream_limit;
    bool old;               /* of 0.0.x: it carries no upgrades */
    uint32_t request_limit; /* of the agent process, over all its links and servers; 0: not said */
    uint16_t ring;
    uint32_t
        request_window; /* READY.window: request bytes a stream may send before the first credit */
    /* Low half: requests given to the link and not yet ended, the figure that balancing reads; high
     * half: rings that list the card. Writers: any ring, acq_rel; whoever brings the whole to 0
     * frees the card. */
    _Atomic uint64_t holds;
    /* Round trip of the link. Writer: the link's ring; readers: any; relaxed, a hint. */
    _Atomic uint64_t rtt_ns;
    /* enum gm_card_state. Writer: the link's ring; readers: any. Publishes nothing: a request that
     * meets an ended link is refused there. */
    _Atomic uint32_t state;
    /* The agent process has refused a request for its limit: until `full_until_ns` it is thought to
     * be full from `full_load` requests of ours on; then it is tried with `full_step` more, twice
     * as many each time. 0: nothing is thought. Writers and readers: any ring; relaxed, an
     * estimate. */
    _Atomic uint64_t full_until_ns;
    _Atomic uint32_t full_load, full_step;
    struct gm_rate rate; /* of requests that have ended on it, by whichever ring */
    /* What the agent has last told about this link, enum gm_report_figure. Writer: the link's ring;
     * readers: any; relaxed, each figure by itself. */
    _Atomic int64_t figure[GM_REPORT_FIGURES];
    /* End of the credential, unix seconds. Writer: the link's ring; readers: any; relaxed. */
    _Atomic int64_t expires_s;
    struct gm_card_news *joined, *left; /* one entry per ring */
};

struct gm_registry;

/* A ring's own table. `registries` (borrowed) gets it at the ring's index, and is complete before
 * the first link attaches. */
struct gm_registry *gm_registry_new(struct gm_ring *ring, struct gm_registry **registries);
void gm_registry_free(struct gm_registry *registry);

/* A card for a link of this ring: all rings hear of it by mail. NULL: out of memory. The card may
 * be read by the link until gm_card_withdraw. */
struct gm_card *gm_card_new(struct gm_registry *registry);
void gm_card_announce(struct gm_registry *registry, struct gm_card *card);
void gm_card_withdraw(struct gm_registry *registry, struct gm_card *card);

/* The link for a request: of the agent with the least outstanding requests, the link of this ring
 * while it is not clearly busier than the agent's others. Agents that are equally busy take turns,
 * those with a link of this ring first. `except` (may be NULL) is left out, its whole agent if
 * there is another: a first attempt failed on it. An `upgrade` goes to a link that carries it,
 * unless there is none. NULL: none. The card is borrowed until the turn's end. */
struct gm_card *gm_registry_pick(struct gm_registry *registry, const char *service, size_t len,
                                 const struct gm_card *except, bool upgrade);
/* The same of agents alone that are not thought to be full: below the limit that they have said,
 * and by what they have refused. gm_registry_pick takes those first, and then the others. */
struct gm_card *gm_registry_pick_free(struct gm_registry *registry, const char *service, size_t len,
                                      const struct gm_card *except, bool upgrade);
/* The card's agent has refused a request, still counted in its load, for its limit. */
void gm_registry_full(struct gm_registry *registry, const struct gm_card *card);
/* A request is given to the link, and ends. Between the two the card stays valid. */
void gm_card_begin(struct gm_card *card);
void gm_card_end(struct gm_card *card);
/* Whether anybody serves the service, however busy. */
bool gm_registry_serves(const struct gm_registry *registry, const char *service, size_t len);
/* The limit that an agent of the service has said; 0: none has. */
uint32_t gm_registry_limit(const struct gm_registry *registry, const char *service, size_t len);
/* Requests of the service that end in 1000 s, over all of its links (server/rate.h). */
uint64_t gm_registry_rate(const struct gm_registry *registry, const char *service, size_t len);
/* Links of the service that this ring knows of, ready or not. */
unsigned gm_registry_links(const struct gm_registry *registry, const char *service, size_t len);
/* Agents of the service that this ring knows of, by whether their first link serves or waits for a
 * healthy backend (of one that drains neither). For the log. */
struct gm_registry_count {
    unsigned ready, not_ready;
};
struct gm_registry_count gm_registry_count(const struct gm_registry *registry, const char *service);
/* Calls `each` for every link, ready or not; those of a service, and in it those of an agent
 * process, come one after the other. */
void gm_registry_each_card(const struct gm_registry *registry,
                           void (*each)(void *arg, const struct gm_card *card), void *arg);
/* Calls `joined` whenever this ring hears of a new link. */
void gm_registry_watch(struct gm_registry *registry,
                       void (*joined)(void *arg, const struct gm_card *card), void *arg);
/* Calls `each` for every service: name and number of agents (distinct subjects). For /health. */
void gm_registry_each(const struct gm_registry *registry,
                      void (*each)(void *arg, const char *service, unsigned agents), void *arg);

#endif
