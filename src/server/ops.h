/* What operators ask for: /health and /debug/counters. Owner: the client's ring; figures of other
 * rings are read as relaxed atomics. */
#ifndef GM_SERVER_OPS_H
#define GM_SERVER_OPS_H

#include "server/admit.h"

enum gm_admit_result gm_ops_health(struct gm_client *client, const struct gm_http_request *head);
enum gm_admit_result gm_ops_metrics(struct gm_client *client, const struct gm_http_request *head);

#endif
