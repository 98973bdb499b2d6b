/* Fields that we set ourselves in every request to a backend, instead of the client's of the same
 * name: an API key that no client ever sees.
 *
 * A set is made once and never changed; whoever uses it holds a reference. Its text holds secrets:
 * it is wiped when the last reference goes, and not for any log. Invariant: what is in a set can
 * stand in a head as it is, and frames nothing. */
#ifndef GM_CLIENT_FIELDS_H
#define GM_CLIENT_FIELDS_H

#include <stdatomic.h>

#include "base/error.h"
#include "http/field.h"

#define GM_CLIENT_FIELDS_MAX 16u
/* Longest value: a token is at most 8 KiB. */
#define GM_CLIENT_FIELD_VALUE_MAX 8192u

struct gm_client_fields {
    /* Writers: any thread that takes or gives a reference, acq_rel; publishes nothing but the end
     * of the set. */
    _Atomic uint32_t references;
    uint32_t count;
    struct gm_http_span names[GM_CLIENT_FIELDS_MAX]; /* into `text` */
    bool host;                                       /* Host is one of them */
    size_t len;                                      /* of the text */
    char text[];                                     /* "Name: value\r\n", one behind the other */
};

struct gm_client_field {
    struct gm_http_span name, value;
};

/* What is wrong with it, or NULL: it is no name, or the field is hop-by-hop or frames the message.
 */
const char *gm_client_field_name_wrong(struct gm_http_span name);
/* Likewise: empty, too long, or a byte that no value holds. */
const char *gm_client_field_value_wrong(struct gm_http_span value);

/* A set of `count` (1 to GM_CLIENT_FIELDS_MAX) checked fields, with one reference. NULL: out of
 * memory. Any thread; not on the data path. */
struct gm_client_fields *gm_client_fields_new(const struct gm_client_field *list,
                                              uint32_t count) GM_WARN_UNUSED;
/* +1, any thread. Both accept NULL. */
struct gm_client_fields *gm_client_fields_ref(struct gm_client_fields *fields);
void gm_client_fields_put(struct gm_client_fields *fields);

/* Whether the set has a field of that name, in any case. */
bool gm_client_fields_name(const struct gm_client_fields *fields, struct gm_http_span name);

#endif
