/* What servers say beside the streams: a table of note types. Owner: the link's ring.
 *
 * To understand one more, add a row in note.c. */
#ifndef GM_AGENT_NOTE_H
#define GM_AGENT_NOTE_H

#include "link/link.h"

/* gm_link_ops.on_note. What cannot be read, or is of no type in the table, is left. */
void gm_agent_note(struct gm_link *link, const char *json, size_t len);

#endif
