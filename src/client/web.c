/* The waiting thread's side of fetches. A job is the ring's from its mail until its semaphore is
 * posted; jobs stay until the ring has ended, for a lookup or a closing connection may outlast its
 * fetch. */
#include "client/web.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/value.h"
#include "http/error.h"
#include "tls/context.h"

struct job {
    struct gm_mail mail;
    struct gm_fetch fetch;
    struct gm_target target;
    char tls_name[GM_HTTP_HOST_MAX + 1];
    char url[GM_WEB_URL_MAX + 2]; /* what is dialled, NUL, path and query */
    const char *path;
    struct gm_fetch_config config;
    char problem[128];
    sem_t done; /* posted by the ring when the job is the asker's again */
};

struct gm_web {
    struct gm_rings *rings;
    struct gm_control *control;
    struct gm_backend_store store;
    struct gm_tls_room room;
    const char *ca_file;
    struct gm_tls_client *tls; /* once an https URL has been asked for */
    struct job *jobs[GM_WEB_REQUESTS_MAX];
    unsigned job_count;
};

/* ---- On the ring ---- */

static int ring_begin(struct gm_ring *ring, void *arg)
{
    struct gm_web *web = arg;
    gm_tls_room_init(&web->room, ring);
    return gm_backend_store_init(&web->store, ring, GM_WEB_REQUESTS_MAX);
}

static void ring_end(struct gm_ring *ring, void *arg)
{
    struct gm_web *web = arg;
    (void)ring;
    gm_backend_store_fini(&web->store);
}

static void job_done(struct gm_fetch *fetch, const char *problem)
{
    struct job *job = GM_CONTAINER_OF(fetch, struct job, fetch);
    (void)snprintf(job->problem, sizeof job->problem, "%s", problem != NULL ? problem : "");
    (void)sem_post(&job->done);
}

static void job_arrives(struct gm_mail *mail)
{
    struct job *job = GM_CONTAINER_OF(mail, struct job, mail);
    gm_fetch_init(&job->fetch, &job->config);
    gm_fetch_begin(&job->fetch);
}

/* ---- On the asking thread ---- */

static int say(char *why, int code, const char *what, const char *text)
{
    (void)snprintf(why, GM_WEB_WHY_BYTES, "%.200s: %s", gm_value_public(what), text);
    return code;
}

int gm_web_open(struct gm_web **out, const char *ca_file, char *why)
{
    struct gm_web *web = calloc(1, sizeof *web);
    *out = web;
    if (web == NULL)
        return say(why, -GM_E_NOMEM, "the HTTP client cannot start", "out of memory");
    web->ca_file = ca_file;
    /* epoll is there wherever a command may be run, and a handful of requests need no more. */
    struct gm_rings_config config = {
        .io = GM_IO_EPOLL, .count = 1, .memory_bytes = GM_RING_MEMORY_MIN, .socks_max = 256};
    struct gm_rings_ops ops = {.init = ring_begin, .fini = ring_end, .arg = web};
    char cause[GM_WEB_WHY_BYTES] = "";
    int rc = gm_control_new(&web->control);
    if (rc >= 0)
        rc = gm_rings_start(&config, &ops, &web->rings, cause);
    if (rc >= 0)
        rc = gm_control_start(web->control, web->rings);
    if (rc >= 0)
        return 0;
    (void)say(why, rc, "the HTTP client cannot start",
              cause[0] != '\0' ? cause : gm_error_text(rc));
    gm_web_close(web);
    *out = NULL;
    return rc;
}

void gm_web_close(struct gm_web *web)
{
    if (web == NULL)
        return;
    gm_control_stop(web->control);
    if (web->rings != NULL) {
        gm_rings_stop(web->rings);
        gm_rings_join(web->rings);
    }
    gm_control_free(web->control);
    for (unsigned i = 0; i < web->job_count; i++) {
        (void)sem_destroy(&web->jobs[i]->done);
        free(web->jobs[i]);
    }
    gm_tls_client_put(web->tls);
    free(web);
}

/* Whom to trust, for the first https URL. */
static int load_trust(struct gm_web *web, char *why)
{
    if (web->tls != NULL)
        return 0;
    int rc = gm_tls_init();
    if (rc < 0)
        return say(why, -GM_E_CONFIG, "cannot start TLS", gm_error_text(rc));
    rc = gm_tls_client_new(&(struct gm_tls_client_config){.ca_file = web->ca_file}, &web->tls, why);
    return rc < 0 ? -GM_E_CONFIG : 0;
}

static struct job *new_job(struct gm_web *web)
{
    if (web->job_count == GM_WEB_REQUESTS_MAX)
        return NULL;
    struct job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return NULL;
    job->mail.deliver = job_arrives;
    (void)sem_init(&job->done, 0, 0);
    web->jobs[web->job_count++] = job;
    return job;
}

/* The URL in two: what is dialled, and the rest from its first / or ? on. */
static int split_url(struct job *job, const char *url, char *why)
{
    size_t len = strlen(url);
    if (len > GM_WEB_URL_MAX)
        return say(why, -GM_E_CONFIG, url, "the URL is too long");
    const char *host = strstr(url, "://");
    size_t base = host == NULL ? len : (size_t)(host - url) + 3;
    base += strcspn(url + base, "/?");
    bool slash = url[base] == '/';
    memcpy(job->url, url, base);
    job->url[base] = '\0';
    /* With the slash that a query alone, or nothing, lacks. */
    char *path = job->url + base + 1;
    path[0] = '/';
    memcpy(path + !slash, url + base, len - base + 1);
    job->path = path;
    int rc = gm_target_parse(job->url, GM_HTTP_SCHEME_HTTP | GM_HTTP_SCHEME_HTTPS, &job->target);
    if (rc < 0)
        return say(why, -GM_E_CONFIG, url, gm_http_error_text(rc));
    memcpy(job->tls_name, job->target.host.p, job->target.host.len);
    return 0;
}

int gm_web_ask(struct gm_web *web, const struct gm_web_question *question,
               struct gm_web_answer *answer, char *why)
{
    struct job *job = new_job(web);
    if (job == NULL)
        return say(why, -GM_E_NOMEM, question->url, "out of memory, or too many requests");
    int rc = split_url(job, question->url, why);
    if (rc == 0 && job->target.url.tls)
        rc = load_trust(web, why);
    if (rc < 0)
        return rc;
    job->config = (struct gm_fetch_config){
        .backend = {.store = &web->store,
                    .control = web->control,
                    .target = &job->target,
                    .tls = job->target.url.tls ? &web->tls : NULL,
                    .room = &web->room,
                    .tls_name = job->tls_name},
        .path = job->path,
        .accept = question->accept,
        .method = question->method,
        .fields = question->fields,
        .field_count = question->field_count,
        .body = question->body,
        .body_len = question->body_len,
        .any_status = true,
        .room = answer->body,
        .room_bytes = answer->room,
        .timeout_ns = question->timeout_ns,
        .on_done = job_done,
    };
    gm_rings_mail(web->rings, 0, &job->mail);
    while (sem_wait(&job->done) != 0)
        continue; /* interrupted */
    answer->status = job->fetch.status;
    answer->len = job->fetch.error == 0 ? job->fetch.len : 0;
    answer->body[answer->len] = '\0';
    return job->fetch.error == 0 ? 0 : say(why, job->fetch.error, question->url, job->problem);
}
