/* Reading certificate and key files. Owner: whoever builds a context; nothing is kept. Invariant: a
 * text that was read ends with a NUL and has none before. */
#include "tls/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "tls/context.h"
#include "tls/wolf.h"

#include <wolfssl/wolfcrypt/coding.h>

int gm_tls_why(char *why, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, GM_TLS_WHY_BYTES, format, args);
    va_end(args);
    return code;
}

void gm_tls_text_free(struct gm_tls_text *text)
{
    if (text->bytes != NULL)
        explicit_bzero(text->bytes, text->len);
    free(text->bytes);
    *text = (struct gm_tls_text){0};
}

/* Allocates for what fstat says and reads that; a file that grows meanwhile is read as it was. */
static int read_open_file(int fd, struct gm_tls_text *out)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (S_ISDIR(status.st_mode))
        return -EISDIR;
    if (!S_ISREG(status.st_mode))
        return -EINVAL;
    if ((uint64_t)status.st_size > GM_TLS_FILE_BYTES_MAX)
        return -GM_E_LIMIT;
    out->len = (size_t)status.st_size;
    out->bytes = malloc(out->len + 1);
    if (out->bytes == NULL)
        return -GM_E_NOMEM;
    ssize_t n = gm_file_read(fd, out->bytes, out->len);
    if (n < 0)
        return (int)n;
    out->len = (size_t)n;
    out->bytes[n] = '\0';
    return 0;
}

static const char *cure_for(int error)
{
    switch (-error) {
    case ENOENT:
        return "check the path";
    case EACCES:
        return "make it readable for the user that gimlet runs as";
    case EISDIR:
        return "name a file in it";
    default:
        return "name a readable file with PEM text";
    }
}

int gm_tls_read_file(const char *path, const char *what, struct gm_tls_text *out, char *why)
{
    *out = (struct gm_tls_text){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    int rc = fd < 0 ? -errno : read_open_file(fd, out);
    if (fd >= 0)
        close(fd);
    if (rc == 0 && strlen(out->bytes) == out->len)
        return 0;
    gm_tls_text_free(out);
    if (rc == 0)
        return gm_tls_why(
            why, -GM_E_CONFIG,
            "the %s %s is binary, not PEM: convert it, for example with openssl x509 "
            "-inform der (a certificate), openssl pkey -inform der (a key) or openssl crl "
            "-inform der (a revocation list)",
            what, path);
    return gm_tls_why(why, rc, "cannot read the %s %s: %s; %s", what, path, gm_error_text(rc),
                      cure_for(rc));
}

/* ---- PEM ---- */

#define BEGIN_LINE "-----BEGIN "
#define END_LINE   "-----END "
#define DASHES     "-----"

bool gm_tls_pem_next(const char **at, struct gm_tls_pem *out)
{
    const char *begin;
    while ((begin = strstr(*at, BEGIN_LINE)) != NULL) {
        out->label = begin + strlen(BEGIN_LINE);
        *at = out->label;
        const char *dashes = strstr(out->label, DASHES);
        const char *end = dashes == NULL ? NULL : strstr(dashes, END_LINE);
        if (end == NULL)
            return false;
        out->label_len = (size_t)(dashes - out->label);
        if (memchr(out->label, '\n', out->label_len) != NULL)
            continue;
        const char *end_label = end + strlen(END_LINE);
        bool same = strncmp(end_label, out->label, out->label_len) == 0 &&
                    strncmp(end_label + out->label_len, DASHES, strlen(DASHES)) == 0;
        if (!same)
            continue;
        *at = end_label + out->label_len + strlen(DASHES);
        out->whole = begin;
        out->whole_len = (size_t)(*at - begin);
        out->body = dashes + strlen(DASHES);
        out->body_len = (size_t)(end - out->body);
        return true;
    }
    return false;
}

bool gm_tls_pem_is(const struct gm_tls_pem *pem, const char *label)
{
    return strlen(label) == pem->label_len && memcmp(pem->label, label, pem->label_len) == 0;
}

int gm_tls_pem_decode(const struct gm_tls_pem *pem, uint8_t **der, size_t *len)
{
    word32 room = (word32)(pem->body_len / 4 * 3 + 3);
    *der = malloc(room);
    if (*der == NULL)
        return -GM_E_NOMEM;
    if (Base64_Decode((const byte *)pem->body, (word32)pem->body_len, *der, &room) == 0) {
        *len = room;
        return 0;
    }
    free(*der);
    *der = NULL;
    return -GM_E_PROTOCOL;
}
