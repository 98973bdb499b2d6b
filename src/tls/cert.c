/* A reader of certificates: names, dates, serial number. Owner: none, pure. Invariant: no span
 * reaches beyond the bytes given. */
#include "tls/cert.h"

#include <string.h>

#include "base/text.h"
#include "tls/names.h"

enum {
    TAG_DNS_NAME = 0x82,   /* [2] of GeneralName */
    TAG_IP_ADDRESS = 0x87, /* [7] */
    TAG_VERSION = 0xA0,    /* [0] of TBSCertificate */
    TAG_EXTENSIONS = 0xA3, /* [3] */
};

#define RDN_MAX 64u /* attributes of a subject */

static void read_extensions(struct gm_tls_span list, struct gm_tls_cert *out)
{
    struct gm_tls_span extension, oid, critical, value, names;
    while (gm_tls_der_take(&list, GM_TLS_DER_SEQUENCE, &extension)) {
        if (!gm_tls_der_take(&extension, GM_TLS_DER_OID, &oid) ||
            !gm_tls_der_is(oid, "\x55\x1D\x11", 3))
            continue;
        (void)gm_tls_der_take(&extension, GM_TLS_DER_BOOLEAN, &critical);
        out->has_names = true;
        if (gm_tls_der_take(&extension, GM_TLS_DER_OCTET_STRING, &value) &&
            gm_tls_der_take(&value, GM_TLS_DER_SEQUENCE, &names))
            out->names = names;
    }
}

int gm_tls_cert_parse(const uint8_t *der, size_t len, struct gm_tls_cert *out)
{
    struct gm_tls_span in = {der, len}, whole, tbs, skipped, validity, list;
    *out = (struct gm_tls_cert){0};
    if (!gm_tls_der_take(&in, GM_TLS_DER_SEQUENCE, &whole) ||
        !gm_tls_der_take(&whole, GM_TLS_DER_SEQUENCE, &tbs))
        return -GM_E_PROTOCOL;
    (void)gm_tls_der_take(&tbs, TAG_VERSION, &skipped);
    bool good = gm_tls_der_take(&tbs, GM_TLS_DER_INTEGER, &out->serial) &&
                gm_tls_der_take(&tbs, GM_TLS_DER_SEQUENCE, &skipped) &&
                gm_tls_der_take(&tbs, GM_TLS_DER_SEQUENCE, &out->issuer) &&
                gm_tls_der_take(&tbs, GM_TLS_DER_SEQUENCE, &validity) &&
                gm_tls_der_time(&validity, &out->not_before) &&
                gm_tls_der_time(&validity, &out->not_after) &&
                gm_tls_der_take(&tbs, GM_TLS_DER_SEQUENCE, &out->subject) &&
                gm_tls_der_take(&tbs, GM_TLS_DER_SEQUENCE, &skipped);
    if (!good)
        return -GM_E_PROTOCOL;
    uint8_t tag;
    while (gm_tls_der_any(&tbs, &tag, &skipped)) {
        if (tag == TAG_EXTENSIONS && gm_tls_der_take(&skipped, GM_TLS_DER_SEQUENCE, &list))
            read_extensions(list, out);
    }
    return 0;
}

bool gm_tls_cert_next_dns(struct gm_tls_span *walk, struct gm_tls_span *name)
{
    uint8_t tag;
    while (gm_tls_der_any(walk, &tag, name)) {
        if (tag == TAG_DNS_NAME)
            return true;
    }
    return false;
}

bool gm_tls_cert_is_self_issued(const struct gm_tls_cert *cert)
{
    return gm_tls_der_is(cert->subject, (const char *)cert->issuer.at, cert->issuer.len);
}

/* One attribute of a RelativeDistinguishedName. */
struct attribute {
    struct gm_tls_span oid, value;
    struct gm_tls_span whole; /* the value with its tag and length */
    uint8_t tag;
};

static bool take_attribute(struct gm_tls_span *set, struct attribute *out)
{
    struct gm_tls_span pair;
    if (!gm_tls_der_take(set, GM_TLS_DER_SEQUENCE, &pair) ||
        !gm_tls_der_take(&pair, GM_TLS_DER_OID, &out->oid))
        return false;
    out->whole = pair;
    if (!gm_tls_der_any(&pair, &out->tag, &out->value))
        return false;
    out->whole.len -= pair.len;
    return true;
}

static bool is_text(uint8_t tag)
{
    return tag == GM_TLS_DER_UTF8 || tag == GM_TLS_DER_PRINTABLE || tag == GM_TLS_DER_IA5 ||
           tag == GM_TLS_DER_NUMERIC || tag == GM_TLS_DER_VISIBLE;
}

struct gm_tls_span gm_tls_cert_common_name(const struct gm_tls_cert *cert)
{
    struct gm_tls_span walk = cert->subject, set, found = {(const uint8_t *)"", 0};
    struct attribute attribute;
    while (gm_tls_der_take(&walk, GM_TLS_DER_SET, &set)) {
        while (take_attribute(&set, &attribute)) {
            if (gm_tls_der_is(attribute.oid, "\x55\x04\x03", 3) && is_text(attribute.tag))
                found = attribute.value;
        }
    }
    return found;
}

bool gm_tls_cert_is_for(const struct gm_tls_cert *cert, const char *host)
{
    uint8_t address[16], tag;
    char normal[GM_TLS_NAME_BYTES];
    size_t address_len = gm_tls_name_address(host, address);
    if (address_len == 0 && !gm_tls_name_normal(host, strlen(host), normal))
        return false;
    struct gm_tls_span walk = cert->names, name;
    while (gm_tls_der_any(&walk, &tag, &name)) {
        bool same =
            address_len > 0
                ? tag == TAG_IP_ADDRESS && gm_tls_der_is(name, (const char *)address, address_len)
                : tag == TAG_DNS_NAME &&
                      gm_tls_name_matches((const char *)name.at, name.len, normal);
        if (same)
            return true;
    }
    if (cert->has_names || address_len > 0)
        return false;
    name = gm_tls_cert_common_name(cert);
    return gm_tls_name_matches((const char *)name.at, name.len, normal);
}

/* ---- RFC 4514 ---- */

static const struct {
    const char *oid;
    size_t len;
    const char *keyword;
} keywords[] = {
    {"\x55\x04\x03", 3, "CN"},
    {"\x55\x04\x07", 3, "L"},
    {"\x55\x04\x08", 3, "ST"},
    {"\x55\x04\x0A", 3, "O"},
    {"\x55\x04\x0B", 3, "OU"},
    {"\x55\x04\x06", 3, "C"},
    {"\x55\x04\x09", 3, "STREET"},
    {"\x09\x92\x26\x89\x93\xF2\x2C\x64\x01\x19", 10, "DC"},
    {"\x09\x92\x26\x89\x93\xF2\x2C\x64\x01\x01", 10, "UID"},
};

static const char *keyword_of(struct gm_tls_span oid)
{
    for (size_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++) {
        if (gm_tls_der_is(oid, keywords[i].oid, keywords[i].len))
            return keywords[i].keyword;
    }
    return NULL;
}

static void put_hex(struct gm_text *text, uint8_t byte)
{
    static const char digits[] = "0123456789ABCDEF";
    char pair[2] = {digits[byte >> 4], digits[byte & 15]};
    (void)gm_text_put(text, pair, 2);
}

/* The identifier in dots. */
static bool put_oid(struct gm_text *text, struct gm_tls_span oid)
{
    uint64_t arc = 0;
    bool first = true;
    for (size_t i = 0; i < oid.len; i++) {
        if (arc >> 56 != 0)
            return false;
        arc = arc << 7 | (oid.at[i] & 0x7F);
        if ((oid.at[i] & 0x80) != 0)
            continue;
        uint64_t top = arc < 80 ? arc / 40 : 2;
        if (first) {
            (void)gm_text_unsigned(text, top);
            arc -= top * 40;
        }
        (void)gm_text_str(text, ".");
        (void)gm_text_unsigned(text, arc);
        first = false;
        arc = 0;
    }
    return !first && (oid.at[oid.len - 1] & 0x80) == 0;
}

static void put_value(struct gm_text *text, struct gm_tls_span value)
{
    for (size_t i = 0; i < value.len; i++) {
        char c = (char)value.at[i];
        bool edge = (i == 0 && (c == ' ' || c == '#')) || (i + 1 == value.len && c == ' ');
        if (value.at[i] < ' ' || value.at[i] > '~') {
            (void)gm_text_str(text, "\\");
            put_hex(text, value.at[i]);
            continue;
        }
        if (edge || strchr("\"+,;<>\\", c) != NULL)
            (void)gm_text_str(text, "\\");
        (void)gm_text_put(text, &c, 1);
    }
}

static bool put_attribute(struct gm_text *text, const struct attribute *attribute)
{
    const char *keyword = keyword_of(attribute->oid);
    if (keyword != NULL)
        (void)gm_text_str(text, keyword);
    else if (!put_oid(text, attribute->oid))
        return false;
    (void)gm_text_str(text, "=");
    if (keyword != NULL && is_text(attribute->tag)) {
        put_value(text, attribute->value);
        return true;
    }
    (void)gm_text_str(text, "#"); /* and the DER of the value: section 2.4 */
    for (size_t i = 0; i < attribute->whole.len; i++)
        put_hex(text, attribute->whole.at[i]);
    return true;
}

ssize_t gm_tls_cert_subject(const struct gm_tls_cert *cert, char out[GM_TLS_SUBJECT_BYTES])
{
    struct gm_tls_span walk = cert->subject, sets[RDN_MAX];
    size_t count = 0;
    while (count < RDN_MAX && gm_tls_der_take(&walk, GM_TLS_DER_SET, &sets[count]))
        count++;
    if (walk.len > 0)
        return count == RDN_MAX ? -GM_E_LIMIT : -GM_E_PROTOCOL;
    struct gm_text text = {.at = out, .cap = GM_TLS_SUBJECT_BYTES - 1};
    for (size_t i = count; i-- > 0;) {
        struct attribute attribute;
        const char *separator = text.len == 0 ? "" : ",";
        while (sets[i].len > 0) {
            (void)gm_text_str(&text, separator);
            if (!take_attribute(&sets[i], &attribute) || !put_attribute(&text, &attribute))
                return -GM_E_PROTOCOL;
            separator = "+";
        }
    }
    if (text.cut)
        return -GM_E_LIMIT;
    out[text.len] = '\0';
    return (ssize_t)text.len;
}
