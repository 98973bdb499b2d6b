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

/*
 * The contents of `path` in a new block (*out, free() it; *len bytes and a NUL), at most
 * GM_KEY_FILE_BYTES_MAX. 0, or a negative errno with *error set, which calls the file a `what`.
 */
int gm_auth_read_file(char **out, size_t *len, const char *path, const char *what,
                      struct gm_auth_error *error) __attribute__((warn_unused_result));

#endif
