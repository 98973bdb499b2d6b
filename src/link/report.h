/* The agent's report on one link, the note "metrics" that version 0.0.x sends every ten seconds:
 * as figures and as JSON. Both programs: one table of names.
 *
 * Called every few seconds, so it may allocate; any thread. */
#ifndef GM_LINK_REPORT_H
#define GM_LINK_REPORT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct json_t;

#define GM_REPORT_TYPE  "metrics"
#define GM_REPORT_EVERY 10000000000ull /* ns between two of a link */

/* Kinds of frames, as they are called in frames_sent and frames_received. */
#define GM_REPORT_KINDS(X)                                                                         \
    X(START, "start") X(DATA, "data") X(END, "end") X(CANCEL, "cancel") X(UNKNOWN, "unknown")
enum gm_report_kind {
#define GM_REPORT_KIND_ENUM_(constant, name) GM_REPORT_##constant,
    GM_REPORT_KINDS(GM_REPORT_KIND_ENUM_)
#undef GM_REPORT_KIND_ENUM_
        GM_REPORT_KIND_COUNT
};
extern const char *const gm_report_kind_names[GM_REPORT_KIND_COUNT];

enum gm_report_figure {
    GM_REPORT_REJECTIONS,       /* requests refused because the agent was full */
    GM_REPORT_CONCURRENT,       /* requests under way */
    GM_REPORT_REQUEST_BUFFER,   /* frames of request bodies that wait for the backend */
    GM_REPORT_BACKEND_FAILURES, /* requests that the backend failed */
    GM_REPORT_WRITE_ERRORS,     /* messages that could not be sent */
    GM_REPORT_UPTIME_S,
    GM_REPORT_DRAINING, /* 0 or 1 */
    GM_REPORT_SERVERS,  /* servers that the agent has links to; 0: it does not say */
    GM_REPORT_SENT,     /* from here on by gm_report_kind */
    GM_REPORT_RECEIVED = GM_REPORT_SENT + GM_REPORT_KIND_COUNT,
    GM_REPORT_FIGURES = GM_REPORT_RECEIVED + GM_REPORT_KIND_COUNT
};

struct gm_report {
    int64_t figure[GM_REPORT_FIGURES];
};

/* Writes JSON into `out` (`cap` bytes, no NUL). Length or -GM_E_LIMIT. */
int gm_report_encode(const struct gm_report *report, void *out, size_t cap) GM_WARN_UNUSED;
/* Takes over every figure that the object holds with the right type; the others stay. Negative ones
 * and such beyond 2^48 are no figures. */
void gm_report_decode(const struct json_t *object, struct gm_report *report);

#endif
