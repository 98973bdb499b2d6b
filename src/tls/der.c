/* Just enough DER (X.690) to walk through certificates and lists of revoked ones. Owner: none,
 * pure. Invariant: no span reaches beyond the bytes given. */
#include "tls/der.h"

#include <string.h>
#include <time.h>

bool gm_tls_der_any(struct gm_tls_span *in, uint8_t *tag, struct gm_tls_span *content)
{
    if (in->len < 2 || (in->at[0] & 0x1F) == 0x1F)
        return false;
    size_t header = 2, len = in->at[1];
    if (len >= 0x80) {
        size_t width = len & 0x7F;
        if (width == 0 || width > 3 || in->len < 2 + width)
            return false;
        len = 0;
        for (size_t i = 0; i < width; i++)
            len = len << 8 | in->at[2 + i];
        header += width;
    }
    if (len > in->len - header)
        return false;
    *tag = in->at[0];
    *content = (struct gm_tls_span){in->at + header, len};
    in->at += header + len;
    in->len -= header + len;
    return true;
}

bool gm_tls_der_take(struct gm_tls_span *in, uint8_t tag, struct gm_tls_span *content)
{
    struct gm_tls_span rest = *in;
    uint8_t found;
    if (!gm_tls_der_any(&rest, &found, content) || found != tag)
        return false;
    *in = rest;
    return true;
}

bool gm_tls_der_is(struct gm_tls_span span, const char *bytes, size_t len)
{
    return span.len == len && memcmp(span.at, bytes, len) == 0;
}

/* Two decimal digits at `at`, or -1. */
static int two_digits(const uint8_t *at)
{
    if (at[0] < '0' || at[0] > '9' || at[1] < '0' || at[1] > '9')
        return -1;
    return (at[0] - '0') * 10 + (at[1] - '0');
}

bool gm_tls_der_time(struct gm_tls_span *in, long long *out)
{
    struct gm_tls_span text;
    uint8_t tag;
    if (!gm_tls_der_any(in, &tag, &text))
        return false;
    size_t year_digits = tag == GM_TLS_DER_UTC_TIME ? 2 : tag == GM_TLS_DER_GENERAL_TIME ? 4 : 0;
    if (year_digits == 0 || text.len != year_digits + 11 || text.at[text.len - 1] != 'Z')
        return false;
    int part[7];
    size_t parts = text.len / 2;
    for (size_t i = 0; i < parts; i++) {
        part[i] = two_digits(text.at + 2 * i);
        if (part[i] < 0)
            return false;
    }
    /* RFC 5280 section 4.1.2.5.1: two digits mean 1950 to 2049. */
    int year = year_digits == 4 ? part[0] * 100 + part[1] : part[0] + (part[0] < 50 ? 2000 : 1900);
    const int *rest = part + year_digits / 2;
    struct tm tm = {.tm_year = year - 1900,
                    .tm_mon = rest[0] - 1,
                    .tm_mday = rest[1],
                    .tm_hour = rest[2],
                    .tm_min = rest[3],
                    .tm_sec = rest[4]};
    *out = timegm(&tm);
    return true;
}
