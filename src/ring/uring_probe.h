/* What the running kernel's io_uring can do, found by trying it once on a throw-away ring, never by
 * a version string.
 *
 * Start-up code: any thread, no state of its own. */
#ifndef GM_RING_URING_PROBE_H
#define GM_RING_URING_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* X(CONSTANT, "name for --io-disable"). Each is optional: the back-end has another way. */
#define GM_URING_FEATURES(X)                                                                       \
    X(DEFER_TASKRUN, "defer-taskrun")                                                              \
    X(COOP_TASKRUN, "coop-taskrun")                                                                \
    X(REGISTERED_RING, "registered-ring-fd")                                                       \
    X(MULTISHOT_ACCEPT, "multishot-accept")                                                        \
    X(MULTISHOT_RECV, "multishot-recv")                                                            \
    X(RECV_LIMIT, "recv-limit")                                                                    \
    X(INC_BUFFERS, "inc-buffers")                                                                  \
    X(MULTISHOT_POLL, "multishot-poll")                                                            \
    X(MSG_RING, "msg-ring")                                                                        \
    X(CQE_SKIP, "cqe-skip")

enum gm_uring_feature {
#define GM_URING_FEATURE_ENUM_(constant, name) GM_URING_##constant,
    GM_URING_FEATURES(GM_URING_FEATURE_ENUM_)
#undef GM_URING_FEATURE_ENUM_
        GM_URING_FEATURE_COUNT
};

struct gm_uring_features {
    uint32_t found; /* bit per feature: the kernel has it */
    uint32_t off;   /* bit per feature: switched off */
};

static inline bool gm_uring_has(const struct gm_uring_features *features,
                                enum gm_uring_feature feature)
{
    return ((features->found & ~features->off) >> feature & 1u) != 0;
}

/* 0 and *out filled, when io_uring can carry the back-end. Negative: `why` (512 bytes) says which
 * of {sysctl, seccomp, memlock, old kernel} stands in the way, and how to lift it. -GM_E_CONFIG:
 * `off` names a feature that does not exist. `off` may be NULL. */
int gm_uring_probe(const char *off, struct gm_uring_features *out, char *why) GM_WARN_UNUSED;
/* "io_uring with …; not in this kernel: …; switched off: …" */
void gm_uring_describe(const struct gm_uring_features *features, char *out, size_t cap);
/* The name of a feature (static). */
const char *gm_uring_feature_name(enum gm_uring_feature feature);
/* Words for a failure of io_uring_setup (negative errno). */
void gm_uring_explain(int error, char *why, size_t cap);

#endif
