/* See file.h. Keeps nothing. */
#include "base/file.h"

#include <errno.h>
#include <unistd.h>

ssize_t gm_file_read(int fd, char *bytes, size_t room)
{
    size_t have = 0;
    while (have < room) {
        ssize_t n = read(fd, bytes + have, room - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    return (ssize_t)have;
}
