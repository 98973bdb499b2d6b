/* The subject as a quoted string. Pure. Invariant: between the quotes every quote and every
 * backslash is part of an escape, and there is no control byte, whatever is in the certificate. */
#include "server/xfcc.h"

#include <string.h>

#define BEGIN "Subject=\""
/* The longest escape, and the quote at the end. */
#define ROOM 4u

static const char hex_digits[] = "0123456789abcdef";

size_t gm_xfcc_write(const char *subject, char out[GM_XFCC_MAX])
{
    size_t len = sizeof BEGIN - 1;
    memcpy(out, BEGIN, len);
    for (const char *p = subject; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        if (len + ROOM > GM_XFCC_MAX)
            return 0;
        if (c < 0x20 || c == 0x7f) {
            out[len++] = '\\';
            out[len++] = hex_digits[c >> 4];
            out[len++] = hex_digits[c & 15];
            continue;
        }
        if (c == '"')
            out[len++] = '\\';
        out[len++] = (char)c;
        bool pair = c == '\\' && (unsigned char)p[1] >= 0x20 && p[1] != 0x7f;
        if (pair)
            out[len++] = *++p; /* an escape already */
        else if (c == '\\')
            out[len++] = '\\';
    }
    out[len++] = '"';
    return len;
}
