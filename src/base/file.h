/* Reading from a descriptor, for code that may block: start-up and the control thread, never a data
 * ring. */
#ifndef GM_BASE_FILE_H
#define GM_BASE_FILE_H

#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

/* Reads until `room` bytes are there or the file ends. The number read, or a negative errno.
 * `bytes` is the caller's. */
ssize_t gm_file_read(int fd, char *bytes, size_t room) GM_WARN_UNUSED;

#endif
