/* The web for a thread that may wait: a ring and a control thread of its own, and requests that
 * return when their answer is there. For commands, not for the server or the agent.
 *
 * Owner: one thread, which is not a ring. Secrets in requests and answers are the caller's to wipe.
 */
#ifndef GM_CLIENT_WEB_H
#define GM_CLIENT_WEB_H

#include "client/fetch.h"

#define GM_WEB_WHY_BYTES 512u
#define GM_WEB_URL_MAX   2048u
/* Requests of one web, all together: a command makes a handful. */
#define GM_WEB_REQUESTS_MAX 64u

struct gm_web;

/* `ca_file`: PEM roots instead of the system's, NULL for the system's; only read once an https URL
 * is asked for. Negative with `why` (GM_WEB_WHY_BYTES) in words. */
int gm_web_open(struct gm_web **out, const char *ca_file, char *why) GM_WARN_UNUSED;
/* Accepts NULL. */
void gm_web_close(struct gm_web *web);

/* Borrowed until gm_web_ask returns. */
struct gm_web_question {
    const char *url;    /* http[s]://host[:port][/path][?query] */
    const char *accept; /* media types; NULL: any */
    const char *method; /* this and the rest as in struct gm_fetch_config */
    const struct gm_fetch_field *fields;
    size_t field_count;
    const void *body;
    size_t body_len;
    uint64_t timeout_ns;
};
struct gm_web_answer {
    char *body; /* in: room for `room` bytes and a NUL */
    size_t room;
    unsigned status; /* out */
    size_t len;      /* out; body[len] is NUL */
};
/* 0: an answer came, whatever its status says. Negative, with `why` in words: -GM_E_CONFIG for a
 * URL that is none or TLS that cannot be used, -GM_E_LIMIT for a longer answer, -GM_E_TIMEOUT,
 * -GM_E_CLOSED when no answer came. Blocks for `timeout_ns` at most. */
int gm_web_ask(struct gm_web *web, const struct gm_web_question *question,
               struct gm_web_answer *answer, char *why) GM_WARN_UNUSED;

#endif
