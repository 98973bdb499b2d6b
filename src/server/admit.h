/* Admission: from a parsed head to what is to be done with it. Route, credential, policy, in one
 * order for every request.
 *
 * Owner: the client's ring. It starts the exchange, hands the connection to a link, or answers;
 * there is no other way in. */
#ifndef GM_SERVER_ADMIT_H
#define GM_SERVER_ADMIT_H

#include "http/parser.h"
#include "server/answer.h"
#include "server/client.h"

enum gm_admit_result {
    GM_ADMIT_STARTED,  /* client->exchange is set */
    GM_ADMIT_ANSWERED, /* answered; the connection goes on unless client->close_after */
    GM_ADMIT_WAIT,     /* this turn's RSA budget is spent: ask again next turn with the same head */
    GM_ADMIT_HELD,     /* put into a list by its `queue`: gm_client_verify_turn asks again */
    GM_ADMIT_HANDED,   /* the connection leaves for another owner: touch it no more */
};

/* The credential that a request carries for us; borrowed from its head. */
struct gm_credential {
    struct gm_http_span token;
    bool in_authorization; /* Authorization held it, so that field must not reach the backend */
};
struct gm_admission {
    struct gm_credential credential;
    const struct gm_principal *principal; /* borrowed until the next verification */
};

enum gm_admit_result gm_admit(struct gm_client *client,
                              const struct gm_http_request *head) GM_WARN_UNUSED;

/* Finds and verifies the request's credential: STARTED (*out is set), ANSWERED (401) or WAIT. */
int gm_admit_credential(struct gm_client *client, const struct gm_http_request *head,
                        enum gm_audience audience, struct gm_admission *out) GM_WARN_UNUSED;
/* The token alone, through the cache. -GM_E_LIMIT: not known, and this turn's budget for RSA is
 * spent. */
int gm_admit_verify(struct gm_server_ring *ctx, const struct gm_credential *credential,
                    enum gm_audience audience, struct gm_token_answer *out) GM_WARN_UNUSED;

/* An answer to this request: id, JSON or text, HEAD, keep-alive filled in from the head (NULL:
 * nothing of it could be read). */
void gm_admit_answer(struct gm_client *client, const struct gm_http_request *head,
                     struct gm_answer answer);

#endif
