/* A reader of certificates: just enough DER (X.690) to find names and dates. Owner: none, pure.
 * Invariant: no span reaches beyond the bytes given. */
#include "tls/cert.h"

#include <string.h>
#include <time.h>

#include "base/text.h"
#include "tls/names.h"

enum {
    TAG_BOOLEAN = 0x01,
    TAG_INTEGER = 0x02,
    TAG_OCTET_STRING = 0x04,
    TAG_OID = 0x06,
    TAG_UTF8 = 0x0C,
    TAG_NUMERIC = 0x12,
    TAG_PRINTABLE = 0x13,
    TAG_IA5 = 0x16,
    TAG_UTC_TIME = 0x17,
    TAG_GENERAL_TIME = 0x18,
    TAG_VISIBLE = 0x1A,
    TAG_SEQUENCE = 0x30,
    TAG_SET = 0x31,
    TAG_DNS_NAME = 0x82,   /* [2] of GeneralName */
    TAG_IP_ADDRESS = 0x87, /* [7] */
    TAG_VERSION = 0xA0,    /* [0] of TBSCertificate */
    TAG_EXTENSIONS = 0xA3, /* [3] */
};

#define RDN_MAX 64u /* attributes of a subject */

/* Takes one element off the front, whatever its tag. False: there is none, or it is cut short. */
static bool take_any(struct gm_tls_span *in, uint8_t *tag, struct gm_tls_span *content)
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

/* The same for one tag only; nothing is taken when another comes. */
static bool take(struct gm_tls_span *in, uint8_t tag, struct gm_tls_span *content)
{
    struct gm_tls_span rest = *in;
    uint8_t found;
    if (!take_any(&rest, &found, content) || found != tag)
        return false;
    *in = rest;
    return true;
}

static bool is_bytes(struct gm_tls_span span, const char *bytes, size_t len)
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

static bool take_time(struct gm_tls_span *in, long long *out)
{
    struct gm_tls_span text;
    uint8_t tag;
    if (!take_any(in, &tag, &text))
        return false;
    size_t year_digits = tag == TAG_UTC_TIME ? 2 : tag == TAG_GENERAL_TIME ? 4 : 0;
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

static void read_extensions(struct gm_tls_span list, struct gm_tls_cert *out)
{
    struct gm_tls_span extension, oid, critical, value, names;
    while (take(&list, TAG_SEQUENCE, &extension)) {
        if (!take(&extension, TAG_OID, &oid) || !is_bytes(oid, "\x55\x1D\x11", 3))
            continue;
        (void)take(&extension, TAG_BOOLEAN, &critical);
        out->has_names = true;
        if (take(&extension, TAG_OCTET_STRING, &value) && take(&value, TAG_SEQUENCE, &names))
            out->names = names;
    }
}

int gm_tls_cert_parse(const uint8_t *der, size_t len, struct gm_tls_cert *out)
{
    struct gm_tls_span in = {der, len}, whole, tbs, skipped, validity, list;
    *out = (struct gm_tls_cert){0};
    if (!take(&in, TAG_SEQUENCE, &whole) || !take(&whole, TAG_SEQUENCE, &tbs))
        return -GM_E_PROTOCOL;
    (void)take(&tbs, TAG_VERSION, &skipped);
    bool good = take(&tbs, TAG_INTEGER, &skipped) && take(&tbs, TAG_SEQUENCE, &skipped) &&
                take(&tbs, TAG_SEQUENCE, &out->issuer) && take(&tbs, TAG_SEQUENCE, &validity) &&
                take_time(&validity, &out->not_before) && take_time(&validity, &out->not_after) &&
                take(&tbs, TAG_SEQUENCE, &out->subject) && take(&tbs, TAG_SEQUENCE, &skipped);
    if (!good)
        return -GM_E_PROTOCOL;
    uint8_t tag;
    while (take_any(&tbs, &tag, &skipped)) {
        if (tag == TAG_EXTENSIONS && take(&skipped, TAG_SEQUENCE, &list))
            read_extensions(list, out);
    }
    return 0;
}

bool gm_tls_cert_next_dns(struct gm_tls_span *walk, struct gm_tls_span *name)
{
    uint8_t tag;
    while (take_any(walk, &tag, name)) {
        if (tag == TAG_DNS_NAME)
            return true;
    }
    return false;
}

bool gm_tls_cert_is_self_issued(const struct gm_tls_cert *cert)
{
    return is_bytes(cert->subject, (const char *)cert->issuer.at, cert->issuer.len);
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
    if (!take(set, TAG_SEQUENCE, &pair) || !take(&pair, TAG_OID, &out->oid))
        return false;
    out->whole = pair;
    if (!take_any(&pair, &out->tag, &out->value))
        return false;
    out->whole.len -= pair.len;
    return true;
}

static bool is_text(uint8_t tag)
{
    return tag == TAG_UTF8 || tag == TAG_PRINTABLE || tag == TAG_IA5 || tag == TAG_NUMERIC ||
           tag == TAG_VISIBLE;
}

struct gm_tls_span gm_tls_cert_common_name(const struct gm_tls_cert *cert)
{
    struct gm_tls_span walk = cert->subject, set, found = {(const uint8_t *)"", 0};
    struct attribute attribute;
    while (take(&walk, TAG_SET, &set)) {
        while (take_attribute(&set, &attribute)) {
            if (is_bytes(attribute.oid, "\x55\x04\x03", 3) && is_text(attribute.tag))
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
    while (take_any(&walk, &tag, &name)) {
        bool same =
            address_len > 0
                ? tag == TAG_IP_ADDRESS && is_bytes(name, (const char *)address, address_len)
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
        if (is_bytes(oid, keywords[i].oid, keywords[i].len))
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
    while (count < RDN_MAX && take(&walk, TAG_SET, &sets[count]))
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
