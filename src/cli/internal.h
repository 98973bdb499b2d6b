/*
 * What the files of `gimlet jwt` share: the values of its options and how it speaks. Private to
 * cli/.
 */
#ifndef GM_CLI_INTERNAL_H
#define GM_CLI_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "auth/jwt.h"
#include "config/option.h"

enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    TOKEN_ROOM = GM_JWT_TOKEN_BYTES_MAX + 1,
    TIME_TEXT_BYTES = 64,
};

/* 9999-12-31T23:59:59Z: the last second that dates are written for. */
#define CLI_LAST_SECOND INT64_C(253402300799)

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

struct jwt_values {
    const char *subject;
    const char *service;
    const char *services;
    const char *duration;
    const char *private_key_file;
    const char *kms_key_arn;
    const char *issuer;
    bool json;
    struct gm_option_list scopes;
    /* inspect */
    bool verify;
    const char *public_key;
    struct gm_option_list token;
    /* export-public-key */
    const char *output;
};

/* One verb's run. `program` and `context` are for refusals. */
struct cli_run {
    const struct gm_option_program *program;
    struct gm_option_context *context;
    struct jwt_values values;
};

/* The verbs, options read. They return the exit code. */
int cli_make_agent(const struct cli_run *run);
int cli_make_client(const struct cli_run *run);
int cli_export_public_key(const struct cli_run *run);
int cli_inspect(const struct cli_run *run);

/* One "Error: …" line on stderr. Returns the exit code. */
__attribute__((format(printf, 1, 2))) int cli_fail(const char *format, ...);
/* Output that never arrived is no success: EXIT_OK, or the exit code after saying so. */
int cli_finish_output(void);
/* ISO 8601 in UTC; microseconds are written when `micros` is not negative. */
void cli_format_time(char out[TIME_TEXT_BYTES], int64_t seconds, int micros);

#endif
