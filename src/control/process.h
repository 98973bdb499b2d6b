/* What both programs do around their rings: log, identity, start, signals, drain.
 *
 * The main thread only starts, waits and stops; all work is the rings'. Every function runs on the
 * main thread, but for gm_process_tell_all, which any thread may call. */
#ifndef GM_CONTROL_PROCESS_H
#define GM_CONTROL_PROCESS_H

#include <signal.h>

#include "base/log.h"
#include "config/config.h"
#include "ring/ring.h"

/* Sets the log up as configured; `context` (`count` fields, borrowed) stands in every line. */
void gm_process_log(const struct gm_runtime_config *runtime, const struct gm_log_field *context,
                    size_t count);
/* 32 random hex digits and NUL. */
void gm_process_random_id(char out[33]);

/* How many rings gm_process_start_rings will start. */
uint32_t gm_process_ring_count(const struct gm_runtime_config *runtime);
/* gm_rings_start as configured; a failure has been logged with its cause and cure. */
int gm_process_start_rings(const struct gm_runtime_config *runtime, const struct gm_rings_ops *ops,
                           struct gm_rings **out) GM_WARN_UNUSED;
/* The one line on what the rings run on: loud when `auto` could not have io_uring. */
void gm_process_announce_io(const struct gm_runtime_config *runtime, struct gm_rings *rings);
/* TLS, once, before rings start and when anything needs it: the library, and the kernel's records
 * where `kernel` asks for them and they are there. Says what it runs on; a failure has been logged
 * with its cause and cure (-GM_E_CONFIG: no AES in hardware, and `allow_slow` is not set). */
int gm_process_start_tls(bool allow_slow, bool kernel) GM_WARN_UNUSED;
/* Runs `act` on every ring, on its own thread, in its next turn. */
void gm_process_tell_all(struct gm_rings *rings, void (*act)(struct gm_ring *ring));

/* SIGINT and SIGTERM are blocked in this thread and all that it starts: only the two functions
 * below get them. SIGPIPE is ignored. */
void gm_process_block_signals(sigset_t *signals);
/* Waits for one of them; its name. */
const char *gm_process_await_signal(const sigset_t *signals);

struct gm_process_drain {
    struct gm_rings *rings;
    const _Atomic uint32_t *rings_done; /* every ring adds one when it has nothing left */
    uint64_t timeout_ns;                /* after it the rings cut what is left */
    void (*cut)(void *arg);             /* a second signal: what is left is cut now */
    void *arg;
};
/* Waits until all rings are done, with a grace of GM_PROCESS_GRACE_NS beyond the timeout or the
 * second signal. */
void gm_process_await_drain(const sigset_t *signals, const struct gm_process_drain *drain);
#define GM_PROCESS_GRACE_NS 3000000000ull

#endif
