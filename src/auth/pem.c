/*
 * PEM and DER reading. Strict where it matters: definite, shortest lengths, nothing outside bounds.
 */
#include "auth/pem.h"

#include <string.h>

static const char begin_mark[] = "-----BEGIN ";
static const char end_mark[] = "-----END ";
static const char dashes[] = "-----";

/* The first place in [p, end) where `mark` stands at the start of a line, or NULL. */
static const char *find_line(const char *p, const char *end, const char *mark)
{
    size_t mark_len = strlen(mark);
    while (p != NULL && (size_t)(end - p) >= mark_len) {
        if (memcmp(p, mark, mark_len) == 0)
            return p;
        p = memchr(p, '\n', (size_t)(end - p));
        if (p != NULL)
            p++;
    }
    return NULL;
}

bool gm_pem_find(struct gm_pem_block *out, const char *text, size_t len)
{
    const char *end = text + len;
    const char *begin = find_line(text, end, begin_mark);
    if (begin == NULL)
        return false;
    const char *label = begin + sizeof(begin_mark) - 1;
    const char *line_end = memchr(label, '\n', (size_t)(end - label));
    if (line_end == NULL)
        return false;
    const char *label_end = line_end;
    while (label_end > label && (label_end[-1] == '\r' || label_end[-1] == ' '))
        label_end--;
    size_t dashes_len = sizeof(dashes) - 1;
    if ((size_t)(label_end - label) < dashes_len ||
        memcmp(label_end - dashes_len, dashes, dashes_len) != 0)
        return false;
    size_t label_len = (size_t)(label_end - label) - dashes_len;
    const char *finish = find_line(line_end + 1, end, end_mark);
    if (finish == NULL || label_len >= sizeof(out->label))
        return false;
    const char *end_label = finish + sizeof(end_mark) - 1;
    if ((size_t)(end - end_label) < label_len + dashes_len ||
        memcmp(end_label, label, label_len) != 0 ||
        memcmp(end_label + label_len, dashes, dashes_len) != 0)
        return false;
    memcpy(out->label, label, label_len);
    out->label[label_len] = '\0';
    out->body = line_end + 1;
    out->body_len = (size_t)(finish - out->body);
    return true;
}

bool gm_der_take(struct gm_der *in, uint8_t tag, struct gm_der *content)
{
    if (in->len < 2 || in->p[0] != tag)
        return false;
    size_t header = 2;
    size_t len = in->p[1];
    if (len >= 0x80) {
        size_t octets = len & 0x7f;
        if (octets == 0 || octets > 3 || in->len < 2 + octets)
            return false;
        len = 0;
        for (size_t i = 0; i < octets; i++)
            len = len << 8 | in->p[2 + i];
        /* DER: the shortest form only. */
        if (len < 0x80 || len >> (8 * (octets - 1)) == 0)
            return false;
        header += octets;
    }
    if (len > in->len - header)
        return false;
    *content = (struct gm_der){in->p + header, len};
    in->p += header + len;
    in->len -= header + len;
    return true;
}

bool gm_der_take_positive(struct gm_der *in, struct gm_der *digits)
{
    if (!gm_der_take(in, GM_DER_INTEGER, digits) || digits->len == 0 || digits->p[0] >= 0x80)
        return false;
    if (digits->p[0] == 0) {
        digits->p++;
        digits->len--;
        /* Zero itself, or a zero byte that no sign bit asked for. */
        return digits->len > 0 && digits->p[0] >= 0x80;
    }
    return true;
}

bool gm_der_is_rsa_oid(const struct gm_der *oid)
{
    static const uint8_t rsa[] = {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01};
    return oid->len == sizeof(rsa) && memcmp(oid->p, rsa, sizeof(rsa)) == 0;
}
