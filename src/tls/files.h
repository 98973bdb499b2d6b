/* Small files, PEM blocks (RFC 7468) and sentences for those who must mend them. Blocks: never on a
 * data ring. Private to tls/. */
#ifndef GM_TLS_FILES_H
#define GM_TLS_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Debian's bundle of roots has 220 KiB. */
#define GM_TLS_FILE_BYTES_MAX (8u << 20)

/* Writes the sentence to `why` (GM_TLS_WHY_BYTES) and returns `code`. */
int gm_tls_why(char *why, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The contents of a file, with a NUL behind. It may hold a key: wiped when freed. */
struct gm_tls_text {
    char *bytes;
    size_t len;
};
/* `what` names its purpose in errors ("certificate file"). Negative errno, -GM_E_LIMIT. */
int gm_tls_read_file(const char *path, const char *what, struct gm_tls_text *out,
                     char *why) GM_WARN_UNUSED;
void gm_tls_text_free(struct gm_tls_text *text);

/* One block; borrows from the text. */
struct gm_tls_pem {
    const char *label;
    size_t label_len;
    const char *whole, *body; /* from its first dash; between its two lines */
    size_t whole_len, body_len;
};
/* The next block from *at on, which moves behind it. False: no more. */
bool gm_tls_pem_next(const char **at, struct gm_tls_pem *out);
bool gm_tls_pem_is(const struct gm_tls_pem *pem, const char *label);
/* Decodes to new memory (free). -GM_E_PROTOCOL: no base64; -GM_E_NOMEM. */
int gm_tls_pem_decode(const struct gm_tls_pem *pem, uint8_t **der, size_t *len) GM_WARN_UNUSED;

#endif
