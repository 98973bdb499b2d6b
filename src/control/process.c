/* The frame of both programs. Owner: the main thread. */
#include "control/process.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "tls/kernel.h"

/* How often the main thread looks whether the drain is over. */
#define POLL_NS 20000000l

void gm_process_log(const struct gm_runtime_config *runtime, const struct gm_log_field *context,
                    size_t count)
{
    (void)gm_log_configure(&(struct gm_log_options){
        .level = (enum gm_log_level)runtime->log_level,
        .format = (enum gm_log_format)runtime->log_format,
        .fd = STDOUT_FILENO,
        .rate = (uint32_t)runtime->log_rate,
        .context = context,
        .context_count = count,
    });
}

void gm_process_random_id(char out[33])
{
    uint8_t bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        abort();
    for (unsigned i = 0; i < 16; i++)
        (void)snprintf(out + (size_t)i * 2, 3, "%02x", bytes[i]);
}

/* ---- Rings ---- */

uint32_t gm_process_ring_count(const struct gm_runtime_config *runtime)
{
    return runtime->rings > 0 ? (uint32_t)runtime->rings : gm_rings_default_count();
}

int gm_process_start_rings(const struct gm_runtime_config *runtime, const struct gm_rings_ops *ops,
                           struct gm_rings **out)
{
    static const enum gm_io io[] = {[GM_CONFIG_IO_AUTO] = GM_IO_AUTO,
                                    [GM_CONFIG_IO_URING] = GM_IO_URING,
                                    [GM_CONFIG_IO_EPOLL] = GM_IO_EPOLL};
    struct gm_rings_config config = {
        .io = io[runtime->io],
        .count = gm_process_ring_count(runtime),
        .memory_bytes = runtime->ring_memory_bytes,
        .features_off = runtime->io_disable,
        .pin = true,
    };
    char why[512] = "";
    int rc = gm_rings_start(&config, ops, out, why);
    if (rc < 0)
        gm_log_fatal("cannot start", GM_ERRTEXT(why[0] != '\0' ? why : gm_error_text(rc)));
    return rc;
}

void gm_process_announce_io(const struct gm_runtime_config *runtime, struct gm_rings *rings)
{
    const char *io = gm_rings_describe(rings);
    uint32_t count = gm_rings_count(rings);
    if (runtime->io == GM_CONFIG_IO_AUTO && strcmp(gm_rings_backend(rings), "epoll") == 0)
        gm_log_warn("io_uring is not available: running on epoll, at more CPU per request",
                    GM_STR("io", io), GM_UINT("rings", count));
    else
        gm_log_info("runtime", GM_STR("io", io), GM_UINT("rings", count));
}

int gm_process_start_tls(bool allow_slow, bool kernel)
{
    struct gm_tls_kernel found = {.why_not = "off"};
    int rc = gm_tls_init();
    if (rc < 0) {
        gm_log_fatal("cannot start TLS", GM_ERRTEXT(gm_error_text(rc)));
        return rc;
    }
    if (!gm_tls_accelerated() && !allow_slow) {
        gm_log_fatal("TLS is refused: this wolfSSL does not do AES in hardware, which costs forty "
                     "times as much; build it with AES-NI, or use --allow-slow-tls",
                     GM_STR("tls", gm_tls_describe()));
        return -GM_E_CONFIG;
    }
    if (kernel)
        gm_tls_kernel_probe(&found);
    gm_tls_kernel_enable(&found);
    gm_log_info("TLS", GM_STR("tls", gm_tls_describe()),
                GM_STR("kernelTls", found.tls13   ? "TLS 1.3 and 1.2"
                                    : found.tls12 ? "TLS 1.2"
                                                  : "none"),
                GM_STR("kernelTlsNot", found.why_not == NULL ? "" : found.why_not));
    return 0;
}

struct news {
    struct gm_mail mail;
    struct gm_ring *ring;
    void (*act)(struct gm_ring *ring);
};

static void news_arrive(struct gm_mail *mail)
{
    struct news *news = GM_CONTAINER_OF(mail, struct news, mail);
    struct news copy = *news;
    free(news);
    copy.act(copy.ring);
}

void gm_process_tell_all(struct gm_rings *rings, void (*act)(struct gm_ring *ring))
{
    for (uint32_t i = 0; i < gm_rings_count(rings); i++) {
        struct news *news = calloc(1, sizeof *news);
        if (news == NULL)
            abort();
        news->ring = gm_rings_get(rings, i);
        news->act = act;
        news->mail.deliver = news_arrive;
        gm_rings_mail(rings, i, &news->mail);
    }
}

/* ---- Signals and the drain ---- */

void gm_process_block_signals(sigset_t *signals)
{
    sigemptyset(signals);
    sigaddset(signals, SIGINT);
    sigaddset(signals, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

const char *gm_process_await_signal(const sigset_t *signals)
{
    int number = 0;
    while (sigwait(signals, &number) != 0)
        continue;
    return number == SIGINT ? "SIGINT" : "SIGTERM";
}

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

void gm_process_await_drain(const sigset_t *signals, const struct gm_process_drain *drain)
{
    uint64_t deadline_ns = now_ns() + drain->timeout_ns + GM_PROCESS_GRACE_NS;
    struct timespec poll = {.tv_nsec = POLL_NS};
    while (now_ns() < deadline_ns) {
        if (atomic_load_explicit(drain->rings_done, memory_order_relaxed) ==
            gm_rings_count(drain->rings)) {
            gm_log_info("drained");
            return;
        }
        if (sigtimedwait(signals, NULL, &poll) > 0) {
            gm_log_warn("second signal: ending at once");
            drain->cut(drain->arg);
            deadline_ns = now_ns() + GM_PROCESS_GRACE_NS;
        }
    }
    gm_log_warn("the drain did not end in time: ending with requests under way");
}
