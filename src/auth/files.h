/*
 * Reading a small file whole, and wording errors. Blocks: never on a ring. Private to auth/.
 */
#ifndef GM_AUTH_FILES_H
#define GM_AUTH_FILES_H

#include <stddef.h>

#include "auth/keyset.h"

/* Writes the sentence and returns `code`, so that a failure is one statement. */
int gm_auth_fail(struct gm_auth_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

struct gm_auth_file {
    const char *path;
    const char *what; /* what the error message calls it */
    size_t bytes_max;
};

/*
 * The contents of the file in a new block (*out, free() it; *len bytes and a NUL). 0, or a negative
 * errno with *error set: -E2BIG when it is longer than bytes_max.
 */
int gm_auth_read_file(char **out, size_t *len, const struct gm_auth_file *file,
                      struct gm_auth_error *error) __attribute__((warn_unused_result));

#endif
