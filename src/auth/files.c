/*
 * File reading for keys. The text may be a private key, so a failed read leaves no copy behind.
 */
#include "auth/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

int gm_auth_fail(struct gm_auth_error *error, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error->text, sizeof(error->text), format, args);
    va_end(args);
    return code;
}

int gm_auth_read_file(char **out, size_t *len, const struct gm_auth_file *file,
                      struct gm_auth_error *error)
{
    *out = NULL;
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return gm_auth_fail(error, -errno, "cannot open the %s %s: %s", file->what, file->path,
                            strerror(errno));
    /* One byte more than allowed, to tell "full" from "too long", and a NUL. */
    size_t room = file->bytes_max + 2;
    char *buf = malloc(room);
    ssize_t n = buf == NULL ? -ENOMEM : gm_file_read(fd, buf, file->bytes_max + 1);
    close(fd);
    if (n >= 0 && (size_t)n <= file->bytes_max) {
        buf[n] = '\0';
        *out = buf;
        *len = (size_t)n;
        return 0;
    }
    if (buf != NULL)
        explicit_bzero(buf, room);
    free(buf);
    if (n < 0)
        return gm_auth_fail(error, (int)n, "cannot read the %s %s: %s", file->what, file->path,
                            strerror((int)-n));
    return gm_auth_fail(error, -E2BIG, "the %s %s is larger than %zu bytes", file->what, file->path,
                        file->bytes_max);
}
