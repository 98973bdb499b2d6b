/* Notes: what an agent says beside the streams (frame/PROTOCOL.md section 7.5), told apart by
 * "type". Owner: the link's ring. Not on the data path: it allocates. */
#ifndef GM_SERVER_NOTE_H
#define GM_SERVER_NOTE_H

#include "server/attach.h"

/* gm_link_ops.on_note of a struct gm_server_link. What is no object, has no type or an unknown one
 * is ignored. */
void gm_note_take(struct gm_link *link, const char *json, size_t len);

#endif
