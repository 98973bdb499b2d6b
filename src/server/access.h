/* The access log: one line of JSON for each request of a client, when --access-log asks for it.
 *
 * Owner: each ring writes its own requests' lines into the log's queue (base/lines.h) and never
 * waits: a line for which there is no room is dropped and counted. The file is opened again when it
 * has been moved away. Agents' connections and what the operators' own ports are asked leave no
 * line. */
#ifndef GM_SERVER_ACCESS_H
#define GM_SERVER_ACCESS_H

#include "server/answer.h"
#include "server/exchange.h"

/* The most of a path that a line holds; the rest is cut. */
#define GM_ACCESS_PATH_MAX   512u
#define GM_ACCESS_METHOD_MAX 32u

/* What a line says of a request's head: a slot for each exchange of a ring. */
struct gm_access_note {
    uint16_t path_len;
    uint8_t method_len;
    char method[GM_ACCESS_METHOD_MAX], path[GM_ACCESS_PATH_MAX];
};

struct gm_access_log;

/* Opens the file and starts the thread that writes. *out stays NULL when the log is off. Negative:
 * it cannot be opened (said in the log). At start, one thread. */
int gm_access_open(const struct gm_server_config *config,
                   struct gm_access_log **out) GM_WARN_UNUSED;
/* Writes what is queued and closes; no ring runs any more. Accepts NULL. */
void gm_access_close(struct gm_access_log *log);

/* The slots of a ring; on its thread. Nothing when the log is off. */
int gm_access_ring_init(struct gm_server_ring *ctx) GM_WARN_UNUSED;
void gm_access_ring_fini(struct gm_server_ring *ctx);

/* An exchange begins: its head is noted; and ends, with what it has been told of itself. */
void gm_access_began(struct gm_exchange *exchange, const struct gm_http_request *head);
void gm_access_ended(const struct gm_exchange *exchange);
/* A request has been answered without an exchange, with `bytes` of body. `head` NULL: nothing of it
 * could be read. */
void gm_access_answered(struct gm_client *client, const struct gm_http_request *head,
                        const struct gm_answer *answer, size_t bytes);

#endif
