/* Fetching a JWK Set. Owner: ring 0, but for what is marked.
 *
 * A second's tick looks whether it is time; then: fetch, on this ring; read, on the control thread;
 * back by mail. Invariant: one of the three at a time, and no tick meanwhile. */
#include "server/jwks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "config/value.h"
#include "control/process.h"
#include "server/context.h"

#define TICK_NS     1000000000ull
#define CONNS_MAX   4u
#define PATH_BYTES  GM_TARGET_PREFIX_MAX
#define FIRST_RETRY 1000000000ull

struct gm_jwks {
    struct gm_server_shared *shared;
    gm_jwks_take *take;
    struct gm_server_ring *ctx;
    const char *url;
    struct gm_target target;
    char path[PATH_BYTES + 1];
    char name[GM_HTTP_HOST_MAX + 1]; /* whom the certificate must be for */
    struct gm_tls_client *tls;       /* NULL: plaintext */
    struct gm_backend_store store;
    struct gm_fetch fetch;
    struct gm_timer tick;
    uint64_t begun_ns; /* the last fetch */
    uint32_t failures; /* in a row */
    /* 1: a token has named an unknown key. Writers: any ring (to 1), ring 0 (to 0); relaxed, it
     * publishes nothing. */
    _Atomic uint32_t wanted;
    /* The control thread's while it reads. */
    struct gm_control_job job;
    struct gm_mail mail;
    struct gm_auth_error error;     /* empty: all is well */
    char told[GM_AUTH_ERROR_BYTES]; /* what the log has been told last */
    char body[GM_JWKS_BYTES_MAX];
};

bool gm_jwks_is_url(const char *source)
{
    return strncasecmp(source, "http://", 7) == 0 || strncasecmp(source, "https://", 8) == 0;
}

/* ---- When ---- */

static uint64_t wait_ns(const struct gm_jwks_when *when)
{
    uint64_t span_ns = FIRST_RETRY;
    if (when->failures == 0)
        return when->refresh_ns;
    for (uint32_t i = 1; i < when->failures && span_ns < GM_JWKS_RETRY_MAX_NS; i++)
        span_ns *= 2;
    if (span_ns > GM_JWKS_RETRY_MAX_NS)
        span_ns = GM_JWKS_RETRY_MAX_NS;
    return span_ns < when->refresh_ns ? span_ns : when->refresh_ns;
}

bool gm_jwks_is_due(const struct gm_jwks_when *when)
{
    return when->past_ns >= wait_ns(when) || (when->wanted && when->past_ns >= GM_JWKS_WANTED_NS);
}

/* ---- What is made of an answer ---- */

/* A failure is told when it begins, and when it becomes another. */
static void settle(struct gm_jwks *jwks)
{
    const char *problem = jwks->error.text;
    bool told = strcmp(problem, jwks->told) == 0;
    if (problem[0] != '\0' && !told)
        gm_log_error("the JWK Set cannot be fetched: the keys before it stay",
                     GM_STR("url", jwks->url), GM_ERRTEXT(problem));
    else if (problem[0] == '\0' && jwks->told[0] != '\0')
        gm_log_info("the JWK Set can be fetched again", GM_STR("url", jwks->url));
    memcpy(jwks->told, problem, sizeof jwks->told);
    jwks->failures = problem[0] == '\0' ? 0 : jwks->failures + 1;
    gm_timer_set(jwks->ctx->ring, &jwks->tick, gm_ring_now_ns(jwks->ctx->ring) + TICK_NS);
}

static void has_been_read(struct gm_mail *mail)
{
    settle(GM_CONTAINER_OF(mail, struct gm_jwks, mail));
}

/* On the control thread. */
static void read_body(struct gm_control_job *job)
{
    struct gm_jwks *jwks = GM_CONTAINER_OF(job, struct gm_jwks, job);
    struct gm_keyset *set;
    if (gm_jwks_parse(&set, "what came", jwks->body, jwks->fetch.len, &jwks->error) == 0 &&
        jwks->take(jwks->shared, set, &jwks->error))
        jwks->error.text[0] = '\0';
    jwks->mail.deliver = has_been_read;
    gm_rings_mail(jwks->shared->rings, 0, &jwks->mail);
}

static void has_come(struct gm_fetch *fetch, const char *problem)
{
    struct gm_jwks *jwks = GM_CONTAINER_OF(fetch, struct gm_jwks, fetch);
    if (problem == NULL) {
        jwks->job.work = read_body;
        gm_control_submit(jwks->shared->control, &jwks->job);
        return;
    }
    (void)snprintf(jwks->error.text, sizeof jwks->error.text, "%s", problem);
    settle(jwks);
}

static void fetch(struct gm_jwks *jwks)
{
    jwks->begun_ns = gm_ring_now_ns(jwks->ctx->ring);
    atomic_store_explicit(&jwks->wanted, 0, memory_order_relaxed);
    gm_fetch_begin(&jwks->fetch);
}

static void tick(struct gm_timer *timer)
{
    struct gm_jwks *jwks = GM_CONTAINER_OF(timer, struct gm_jwks, tick);
    uint64_t now_ns = gm_ring_now_ns(jwks->ctx->ring);
    struct gm_jwks_when when = {
        .past_ns = now_ns - jwks->begun_ns,
        .refresh_ns = jwks->shared->config->token_jwks_refresh_ns,
        .failures = jwks->failures,
        .wanted = atomic_load_explicit(&jwks->wanted, memory_order_relaxed) != 0,
    };
    if (gm_jwks_is_due(&when))
        fetch(jwks);
    else
        gm_timer_set(jwks->ctx->ring, timer, now_ns + TICK_NS);
}

void gm_jwks_want(struct gm_jwks *jwks)
{
    if (jwks != NULL)
        atomic_store_explicit(&jwks->wanted, 1, memory_order_relaxed);
}

/* ---- Start and end ---- */

static const char *parse_url(struct gm_jwks *jwks)
{
    int rc = gm_target_parse(jwks->url, GM_HTTP_SCHEME_HTTP | GM_HTTP_SCHEME_HTTPS, &jwks->target);
    if (rc < 0)
        return gm_http_error_text(rc);
    /* The path as it was written: a prefix has lost its last slash. */
    const char *path = jwks->target.authority.p + jwks->target.authority.len;
    int len = snprintf(jwks->path, sizeof jwks->path, "%s", *path == '\0' ? "/" : path);
    if (len < 0 || (size_t)len >= sizeof jwks->path)
        return "its path is too long";
    jwks->target.prefix = (struct gm_http_span){0};
    memcpy(jwks->name, jwks->target.host.p, jwks->target.host.len);
    return NULL;
}

static int trust(struct gm_jwks *jwks)
{
    const char *ca_file = jwks->shared->config->token_jwks_ca_file;
    char why[GM_TLS_WHY_BYTES] = "the library does not start";
    if (!jwks->target.url.tls)
        return 0;
    int rc = gm_tls_init();
    if (rc >= 0)
        rc = gm_tls_client_new(&(struct gm_tls_client_config){.ca_file = ca_file}, &jwks->tls, why);
    if (rc < 0)
        gm_log_fatal("TLS cannot be used", GM_STR("towards", jwks->url), GM_ERRTEXT(why));
    return rc;
}

int gm_jwks_new(struct gm_jwks **out, struct gm_server_shared *shared, gm_jwks_take *take)
{
    const char *source = shared->config->token_jwks;
    *out = NULL;
    if (source == NULL || !gm_jwks_is_url(source))
        return 0;
    struct gm_jwks *jwks = calloc(1, sizeof *jwks);
    if (jwks == NULL)
        return -GM_E_NOMEM;
    jwks->shared = shared;
    jwks->take = take;
    jwks->url = source;
    const char *wrong = parse_url(jwks);
    int rc = wrong == NULL ? trust(jwks) : -GM_E_CONFIG;
    if (wrong != NULL)
        gm_log_fatal("--token-jwks cannot be used", GM_STR("url", gm_value_public(source)),
                     GM_ERRTEXT(wrong));
    if (rc < 0) {
        gm_jwks_free(jwks);
        return rc;
    }
    if (!jwks->target.url.tls)
        gm_log_warn("the JWK Set comes without TLS: whoever stands in between chooses the keys",
                    GM_STR("url", source));
    *out = jwks;
    return 0;
}

/* On each ring. */
static void begin(struct gm_ring *ring)
{
    struct gm_server_ring *ctx = gm_ring_user(ring);
    struct gm_jwks *jwks = ctx->shared->keys.jwks;
    if (gm_ring_index(ring) != 0)
        return;
    jwks->ctx = ctx;
    gm_timer_init(&jwks->tick, tick);
    struct gm_fetch_config config = {
        .backend = {.store = &jwks->store,
                    .control = ctx->shared->control,
                    .target = &jwks->target,
                    .tls = jwks->tls == NULL ? NULL : &jwks->tls,
                    .room = &ctx->tls_room,
                    .tls_name = jwks->name},
        .path = jwks->path,
        .accept = "application/jwk-set+json, application/json",
        .room = jwks->body,
        .room_bytes = sizeof jwks->body,
        .timeout_ns = GM_JWKS_TIMEOUT_NS,
        .on_done = has_come,
    };
    gm_fetch_init(&jwks->fetch, &config);
    if (gm_backend_store_init(&jwks->store, ring, CONNS_MAX) == 0)
        fetch(jwks);
    else
        gm_log_error("the JWK Set cannot be fetched: out of memory", GM_STR("url", jwks->url));
}

void gm_jwks_start(struct gm_jwks *jwks)
{
    if (jwks != NULL)
        gm_process_tell_all(jwks->shared->rings, begin);
}

void gm_jwks_ring_fini(struct gm_jwks *jwks)
{
    if (jwks != NULL)
        gm_backend_store_fini(&jwks->store);
}

void gm_jwks_free(struct gm_jwks *jwks)
{
    if (jwks == NULL)
        return;
    gm_tls_client_put(jwks->tls);
    free(jwks);
}
