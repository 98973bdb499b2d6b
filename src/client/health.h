/* Health of a backend: a GET now and then, on a connection of its own, as requests are made: same
 * address, TLS and fields of ours.
 *
 * Owner: one ring. A check fails by its status, by a connection that cannot be had or breaks before
 * the answer's head, and by taking too long; what follows the head is read and thrown away. The
 * backend is taken for unhealthy until a first check has succeeded (often enough). Checks never
 * overlap: the next begins `interval_ns` after the last began, or when that has ended. */
#ifndef GM_CLIENT_HEALTH_H
#define GM_CLIENT_HEALTH_H

#include "client/call.h"
#include "config/codes.h"

/* What is read of an answer behind its head, before the connection is closed instead. */
#define GM_HEALTH_BODY_MAX (64u << 10)

struct gm_health;

struct gm_health_config {
    struct gm_backend_config backend; /* its timeouts are the check's */
    const char *path;                 /* "/health"; borrowed, like `codes` */
    const struct gm_codes *codes;     /* that mean well */
    uint64_t interval_ns, timeout_ns; /* at least 1 */
    uint32_t failure_threshold;       /* in a row: then it is unhealthy; at least 1 */
    uint32_t success_threshold;       /* in a row: then it is healthy; at least 1 */
    /* A check has ended; `why` (borrowed) says what was wrong, or is NULL. `changed`:
     * health->healthy is another than before, or this was the first check of all. */
    void (*on_checked)(struct gm_health *health, const char *why, bool changed);
};

struct gm_health {
    struct gm_health_config config;
    struct gm_target target; /* without a prefix: the path is the whole */
    struct gm_backend_pool pool;
    struct gm_call call;
    struct gm_timer timer; /* of the next check, or of the one under way */
    uint64_t begun_ns;
    uint64_t checks, failures; /* since the start; figures */
    uint32_t in_a_row;         /* verdicts like the last */
    uint32_t body_bytes;
    uint16_t status; /* of the check under way; 0: no head yet */
    bool checking, healthy, last_good;
    char why[96];
};

/* Zeroes *health, whose memory stays with the caller, and takes a copy of *config. */
void gm_health_init(struct gm_health *health, const struct gm_health_config *config);
/* The first check begins now. config.backend.control must be set if the target has to be resolved.
 */
void gm_health_start(struct gm_health *health);
/* No check follows, and none is under way. Verdicts stay as they are. */
void gm_health_stop(struct gm_health *health);

#endif
