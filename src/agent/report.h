/* What an agent counts about one link, and the report that it sends about it (link/report.h).
 *
 * Owner: the link's ring. */
#ifndef GM_AGENT_REPORT_H
#define GM_AGENT_REPORT_H

#include "link/report.h"
#include "ring/ring.h"

/* Begins zeroed. */
struct gm_agent_figures {
    uint64_t rejections, backend_failures, write_errors;
    uint64_t active; /* requests under way */
    uint64_t sent[GM_REPORT_KIND_COUNT], received[GM_REPORT_KIND_COUNT];
    struct gm_timer timer;
};

struct gm_agent_link;

/* The link is up: reports begin, the first within two seconds, then about every ten; each at a time
 * of its own, so that a thousand agents do not speak at once. */
void gm_agent_report_begin(struct gm_agent_link *link);
/* The link is down. Also of one that never was up. */
void gm_agent_report_end(struct gm_agent_link *link);
/* It drains: that is said at once. */
void gm_agent_report_now(struct gm_agent_link *link);

#endif
