/* /metrics: ring 0 gathers what all rings count and writes the page.
 *
 * Owner: ring 0, which alone has the metrics port. Before it reads, every ring gets a mail, looks
 * at what it holds, frees what the last page found to be unwanted, and mails back; while a mail is
 * out ring 0 reads no table, while none is out no row is freed. Between two scrapes nothing runs.
 */
#ifndef GM_SERVER_SCRAPE_H
#define GM_SERVER_SCRAPE_H

#include "server/admit.h"

/* The answer to GET /metrics: HELD until all rings have looked. */
enum gm_admit_result gm_scrape_answer(struct gm_client *client, const struct gm_http_request *head);

/* ---- server/page.c ---- */

struct gm_exposition;
/* Writes every family of the server, on ring 0, while all mails are home; marks rows that nobody
 * needs any more. */
void gm_scrape_page(struct gm_server_ring *ctx, struct gm_exposition *page);

/* After a series has been left out for so long its rows are freed: a part of --metrics-retention,
 * so that no page can show it meanwhile. */
uint64_t gm_scrape_free_after_ns(const struct gm_server_ring *ctx);

#endif
