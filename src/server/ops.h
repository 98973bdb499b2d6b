/* What operators ask for: /health and /debug/counters. Owner: the client's ring; figures of other
 * rings are read as relaxed atomics. */
#ifndef GM_SERVER_OPS_H
#define GM_SERVER_OPS_H

#include "server/admit.h"

/* How long the server has run, as Go prints durations: "293.05ms", "2.5s", "1h2m3.4s". */
#define GM_OPS_UPTIME_MAX 48u
void gm_ops_uptime(const struct gm_server_ring *ctx, char out[GM_OPS_UPTIME_MAX]);

enum gm_admit_result gm_ops_health(struct gm_client *client, const struct gm_http_request *head);
enum gm_admit_result gm_ops_metrics(struct gm_client *client, const struct gm_http_request *head);

#endif
