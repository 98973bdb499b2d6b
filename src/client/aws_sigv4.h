/* AWS Signature Version 4: what proves to an AWS service who asks. Pure; any thread.
 *
 * Header-signed requests alone. Source: the AWS IAM user guide, "Create a signed AWS API request".
 */
#ifndef GM_CLIENT_AWS_SIGV4_H
#define GM_CLIENT_AWS_SIGV4_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Fields that are signed beside Host and those that signing adds. */
#define GM_AWS_FIELDS_MAX 8u
/* A session token may be long (AWS says it has no limit); real ones are under 2 KiB. */
#define GM_AWS_TOKEN_MAX  8192u
#define GM_AWS_KEY_MAX    256u
#define GM_AWS_REGION_MAX 64u
/* The canonical request, session token included. */
#define GM_AWS_CANONICAL_MAX     16384u
#define GM_AWS_DATE_BYTES        17u
#define GM_AWS_AUTHORIZATION_MAX 1024u

/* NUL-terminated. Wipe them when they are no longer needed. */
struct gm_aws_credentials {
    char access_key[GM_AWS_KEY_MAX];
    char secret_key[GM_AWS_KEY_MAX];
    char token[GM_AWS_TOKEN_MAX]; /* empty: none */
};

/* Name in small letters; the value as it is sent, without white space at its ends. */
struct gm_aws_field {
    const char *name, *value;
};

/* All borrowed for the call. */
struct gm_aws_request {
    const char *method;
    const char *host;  /* as Host says it, with the port if that does */
    const char *path;  /* canonical: percent-encoded, begins with / */
    const char *query; /* canonical: encoded and sorted, without the ?; "" for none */
    const struct gm_aws_field *fields;
    size_t field_count;
    const void *body;
    size_t body_len;
};

struct gm_aws_scope {
    const char *region;
    const char *service;
    int64_t now_s; /* seconds since 1970 */
};

/* Fields to send with the request, X-Amz-Security-Token with the token beside them. */
struct gm_aws_signature {
    char date[GM_AWS_DATE_BYTES];                 /* X-Amz-Date */
    char authorization[GM_AWS_AUTHORIZATION_MAX]; /* Authorization */
};

/* 0; -GM_E_LIMIT: something is longer than there is room for; -EIO: the library failed. */
int gm_aws_sign(const struct gm_aws_credentials *credentials, const struct gm_aws_scope *scope,
                const struct gm_aws_request *request, struct gm_aws_signature *out) GM_WARN_UNUSED;

#endif
