/* Rivals: links of 0.0.x agents with the same subject, of which a server keeps one.
 *
 * Owner: the links' ring; all links that bear a subject are on one. A newcomer is an agent's probe,
 * which the living link's peer expects to be refused, or the replacement of an agent that is gone
 * and has not been missed yet: the older link is asked for a sign of life, which tells. */
#ifndef GM_SERVER_RIVALS_H
#define GM_SERVER_RIVALS_H

#include "server/attach.h"

/* A link of 0.0.x has been accepted: greeted when its subject has no other link, else put off. */
void gm_rivals_enter(struct gm_server_link *self);
/* The link has given a sign of life: newcomers with its subject are refused. */
void gm_rivals_refuse(struct gm_server_link *self);
/* The link is down, and off the table: the first newcomer takes its place. */
void gm_rivals_left(struct gm_server_link *self);

#endif
