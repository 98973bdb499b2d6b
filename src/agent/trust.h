/* Whom the agent trusts and who it is, towards the server and towards its backends: TLS contexts
 * made from the options at start, and again when their files change.
 *
 * Owner: the main thread until the rings stand, then the control thread, which makes a new context
 * apart from the rings and gives each of them a reference. Dials use the newest; connections keep
 * the one they began with. Files that cannot be used change nothing. */
#ifndef GM_AGENT_TRUST_H
#define GM_AGENT_TRUST_H

#include "client/target.h"
#include "config/config.h"
#include "control/watch.h"
#include "tls/context.h"

/* One ring's. */
struct gm_trust_ring {
    struct gm_tls_client *tls; /* what its dials use */
    /* A newer one, or NULL. Writers: the control thread (acq_rel: publishes it; takes back one that
     * was not taken) and the ring, which takes it (acquire). */
    _Atomic(struct gm_tls_client *) next;
};

struct gm_trust {
    struct gm_tls_client *newest; /* NULL: plaintext */
    struct gm_trust_ring *rings;  /* one each; NULL: plaintext */
    uint32_t ring_count;
    char name[GM_HTTP_HOST_MAX + 1]; /* whom the certificate must be for */
    const struct gm_agent_tls *config;
    const char *what; /* target, for the log */
    struct gm_rings *running;
    void (*on_ring)(struct gm_ring *ring);
    struct gm_watch watch;
};

/* What is dialled. Borrowed for the trust's life. */
struct gm_trust_towards {
    const struct gm_agent_tls *config;
    const struct gm_target *target;
    const char *name; /* of the target, in the log */
};

/* Makes what the target asks for; nothing, when that is no TLS. Failures have been logged with
 * cause and cure. */
int gm_trust_load(struct gm_trust *trust, const struct gm_trust_towards *towards,
                  uint32_t ring_count) GM_WARN_UNUSED;
/* Rings and control thread stand: begins to watch the files. After a change `on_ring` is called on
 * every ring, for gm_trust_adopt. */
void gm_trust_watch(struct gm_trust *trust, struct gm_control *control, struct gm_rings *rings,
                    void (*on_ring)(struct gm_ring *ring));
/* On a ring: takes a newer context if there is one. True: it has. */
bool gm_trust_adopt(struct gm_trust *trust, uint32_t ring);
/* Where the context of a ring's dials stands; NULL: they are plaintext. Read on that ring alone. */
static inline struct gm_tls_client *const *gm_trust_place(const struct gm_trust *trust,
                                                          uint32_t ring)
{
    return trust->rings == NULL ? NULL : &trust->rings[ring].tls;
}
/* The rings have gone. Accepts a zeroed struct. */
void gm_trust_fini(struct gm_trust *trust);

#endif
