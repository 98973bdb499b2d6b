/* Tokens of services, read again when their files change: links that stand tell their server of the
 * new one, so that it need not let them go when the old one expires. Dials read the file anyway
 * (dialler.h); those that wait after a refusal begin again.
 *
 * The control thread watches and reads; links send on their rings. */
#ifndef GM_AGENT_TOKEN_H
#define GM_AGENT_TOKEN_H

#include "control/watch.h"
#include "ws/handshake.h"

/* Longest token that a server takes. */
#define GM_AGENT_TOKEN_MAX 8192u

struct gm_agent_shared;
struct gm_agent_service_info;

/* Of one service; without a path: its token came as text. */
struct gm_agent_token {
    struct gm_agent_shared *shared;
    struct gm_agent_service_info *service;
    struct gm_watch watch;
};

/* The token in a file's text, without white space around it; *out borrows from the text. NULL, or
 * what is wrong with it. Pure. */
const char *gm_agent_token_find(const char *text, size_t len, struct gm_ws_text *out);

/* Before the service's token is read for the first time. */
void gm_agent_token_prime(struct gm_agent_shared *shared, struct gm_agent_service_info *service);
/* Rings and control thread stand: begins to watch. */
void gm_agent_token_watch(struct gm_agent_service_info *service);

#endif
