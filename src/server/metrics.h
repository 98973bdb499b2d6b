/* What one ring counts about requests, by service, agent, client and status.
 *
 * Owner: the ring; it alone writes, and a request costs it one look-up and five stores. Any thread
 * may read while the owner is not in gm_metrics_clean: a row is published whole and never changed
 * but for its atomic figures. Ring 0 makes the page of all rings' tables (server/scrape.h).
 *
 * Rows are made at first sight, at most series_max of them; what would be one more is counted under
 * status "other" without further labels. Names come from credentials alone: a service has a row of
 * its own only when an agent has served it (gm_metrics_know), any other name a client asks for is
 * counted under "". */
#ifndef GM_SERVER_METRICS_H
#define GM_SERVER_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Upper bounds of the histogram: 0.1 0.5 1 2 5 10 30 60 s, and the rest. */
#define GM_METRICS_BOUNDS  8u
#define GM_METRICS_BUCKETS (GM_METRICS_BOUNDS + 1u)
extern const uint64_t gm_metrics_bounds_ns[GM_METRICS_BOUNDS];
extern const char *const gm_metrics_bound_texts[GM_METRICS_BOUNDS];

/* Services of a ring, 4 MiB of them, however many names agents have come by since somebody looked
 * at the page last: those beyond are counted under "". */
#define GM_METRICS_SERVICES_MAX 16384u
/* Rows hang in as many lists: 10,000 of them are two or three deep. */
#define GM_METRICS_LISTS 4096u

/* Messages between a server and its agents, by the names of version 0.0.x. One of ours that carries
 * the end of a body with its last bytes counts as both. */
#define GM_METRICS_MESSAGES(X)                                                                     \
    X(SENT_HELLO, "sent", "hello")                                                                 \
    X(SENT_START, "sent", "request_start")                                                         \
    X(SENT_DATA, "sent", "request_data")                                                           \
    X(SENT_END, "sent", "request_end")                                                             \
    X(SENT_CANCEL, "sent", "request_cancel")                                                       \
    X(RECV_READY, "recv", "ready")                                                                 \
    X(RECV_NOT_READY, "recv", "not_ready")                                                         \
    X(RECV_DRAINING, "recv", "draining")                                                           \
    X(RECV_METRICS, "recv", "metrics")                                                             \
    X(RECV_TOKEN, "recv", "token")                                                                 \
    X(RECV_START, "recv", "response_start")                                                        \
    X(RECV_DATA, "recv", "response_data")                                                          \
    X(RECV_END, "recv", "response_end")                                                            \
    X(RECV_UNKNOWN, "recv", "unknown")
enum gm_metrics_message {
#define GM_METRICS_MESSAGE_ENUM_(constant, direction, type) GM_METRICS_##constant,
    GM_METRICS_MESSAGES(GM_METRICS_MESSAGE_ENUM_)
#undef GM_METRICS_MESSAGE_ENUM_
        GM_METRICS_MESSAGE_COUNT
};

/* All figures: written by the owner (relaxed), read by any (relaxed), publish nothing. `next` is
 * written by the owner (release: publishes the row) and read by any (acquire). */
struct gm_metrics_service {
    _Atomic(struct gm_metrics_service *) next; /* of all */
    struct gm_metrics_service *same;           /* of its list by name; the owner's */
    _Atomic uint64_t bucket[GM_METRICS_BUCKETS];
    _Atomic uint64_t took_ns;  /* the sum of all durations */
    _Atomic uint64_t rejected; /* 429 by the server's own limit */
    _Atomic uint64_t used_ns;  /* when a figure has last changed, or an agent joined */
    _Atomic bool unwanted;     /* written by the reader: see gm_metrics_clean */
    uint64_t hash;             /* gm_metrics_name_hash */
    uint32_t series_count;     /* rows below it; the owner's */
    uint16_t name_len;
    char name[]; /* no NUL */
};

struct gm_metrics_series {
    _Atomic(struct gm_metrics_series *) next; /* of its list */
    _Atomic uint64_t count;
    _Atomic uint64_t used_ns;
    _Atomic bool unwanted;
    uint64_t hash; /* of the four labels; the same on every ring */
    struct gm_metrics_service *service;
    uint16_t status; /* GM_METRICS_OTHER: beyond the limit */
    uint16_t agent_len, client_len;
    char names[]; /* agent, client; no NUL */
};
#define GM_METRICS_OTHER 0u

struct gm_metrics {
    _Atomic(struct gm_metrics_service *) services;
    struct gm_metrics_service **by_name; /* GM_METRICS_LISTS lists of the same; the owner's */
    _Atomic(struct gm_metrics_series *) *series; /* GM_METRICS_LISTS */
    struct gm_metrics_service *nameless;         /* service "" */
    struct gm_metrics_series *other;             /* not counted in series_count */
    uint32_t service_count;                      /* with `nameless`; the owner's */
    _Atomic uint32_t series_count;               /* without `other`; as the figures */
    uint32_t series_max;
    _Atomic uint64_t messages[GM_METRICS_MESSAGE_COUNT];
};

/* One request that has been answered. Borrowed. */
struct gm_metrics_request {
    const char *service, *agent, *client; /* "" where there is none */
    uint16_t service_len, agent_len, client_len;
    uint16_t status; /* of the final head */
    uint64_t took_ns;
};

/* Of a service's name; the same on every ring. */
uint64_t gm_metrics_name_hash(const char *name, size_t len);

/* 0 or -GM_E_NOMEM. */
int gm_metrics_init(struct gm_metrics *metrics, uint32_t series_max) GM_WARN_UNUSED;
/* No reader is left. Accepts a zeroed struct. */
void gm_metrics_fini(struct gm_metrics *metrics);

/* An agent serves it: from now on the service is counted under its name. */
void gm_metrics_know(struct gm_metrics *metrics, const char *service, size_t len, uint64_t now_ns);
void gm_metrics_answered(struct gm_metrics *metrics, const struct gm_metrics_request *request,
                         uint64_t now_ns);
/* A 429 by the server's own limit. */
void gm_metrics_reject(struct gm_metrics *metrics, const char *service, size_t len,
                       uint64_t now_ns);
static inline void gm_metrics_count(struct gm_metrics *metrics, enum gm_metrics_message message)
{
    _Atomic uint64_t *value = &metrics->messages[message];
    atomic_store_explicit(value, atomic_load_explicit(value, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* Frees the rows that a reader has marked as unwanted and that have not been used since `idle_ns`
 * before now. While nobody reads. */
void gm_metrics_clean(struct gm_metrics *metrics, uint64_t now_ns, uint64_t idle_ns);

#endif
