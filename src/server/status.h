/* /status: who serves what, for operators and their scripts.
 *
 * Owner: the client's ring, which knows every link by its own registry. It asks for a credential
 * with the scope "status", of a client or of an agent, and tells it about all services. */
#ifndef GM_SERVER_STATUS_H
#define GM_SERVER_STATUS_H

#include "server/admit.h"

enum gm_admit_result gm_status_answer(struct gm_client *client, const struct gm_http_request *head);

#endif
