/* The four steps: canonical request, string to sign, signing key, signature. Texts are built in
 * bounded buffers, and what held a key or a token is wiped. */
#include "client/aws_sigv4.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "auth/digest.h"

#define ALGORITHM    "AWS4-HMAC-SHA256"
#define SCOPE_BYTES  160u
#define HEX_BYTES    (2 * GM_SHA256_BYTES + 1)
#define DAY_BYTES    8
#define SIGNED_BYTES 320u

/* A text that grows in its buffer; the first piece that does not fit sticks. */
struct text {
    char *p;
    size_t cap, len;
    int error;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text->p + text->len, text->cap - text->len, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= text->cap - text->len)
        text->error = -GM_E_LIMIT;
    else
        text->len += (size_t)n;
}

static void hex(const uint8_t digest[GM_SHA256_BYTES], char out[HEX_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < GM_SHA256_BYTES; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[HEX_BYTES - 1] = '\0';
}

static int hash_hex(const void *p, size_t len, char out[HEX_BYTES])
{
    uint8_t digest[GM_SHA256_BYTES];
    int rc = gm_sha256((struct gm_bytes){p, len}, digest);
    hex(digest, out);
    return rc;
}

/* ---- Fields ---- */

struct fields {
    struct gm_aws_field list[GM_AWS_FIELDS_MAX + 3];
    size_t count;
};

/* Keeps the list sorted by name. */
static void insert(struct fields *fields, struct gm_aws_field field)
{
    size_t at = fields->count++;
    for (; at > 0 && strcmp(fields->list[at - 1].name, field.name) > 0; at--)
        fields->list[at] = fields->list[at - 1];
    fields->list[at] = field;
}

/* The value with runs of blanks as one. */
static void add_value(struct text *text, const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value != ' ' || value[1] != ' ')
            add(text, "%c", *value);
    }
}

static void name_signed(struct text *text, const struct fields *fields)
{
    for (size_t i = 0; i < fields->count; i++)
        add(text, "%s%s", i > 0 ? ";" : "", fields->list[i].name);
}

/* ---- The steps ---- */

/* The canonical request's hash in hex. */
static int hash_request(const struct gm_aws_request *request, const struct fields *fields,
                        const char *signed_names, char out[HEX_BYTES])
{
    char canonical[GM_AWS_CANONICAL_MAX], body[HEX_BYTES];
    struct text text = {canonical, sizeof canonical, 0, 0};
    int rc = hash_hex(request->body, request->body_len, body);
    add(&text, "%s\n%s\n%s\n", request->method, request->path, request->query);
    for (size_t i = 0; i < fields->count; i++) {
        add(&text, "%s:", fields->list[i].name);
        add_value(&text, fields->list[i].value);
        add(&text, "\n");
    }
    add(&text, "\n%s\n%s", signed_names, body);
    if (rc == 0)
        rc = text.error;
    if (rc == 0)
        rc = hash_hex(canonical, text.len, out);
    explicit_bzero(canonical, sizeof canonical);
    return rc;
}

static int step(uint8_t key[GM_SHA256_BYTES], const char *text, size_t len)
{
    return gm_hmac_sha256((struct gm_bytes){key, GM_SHA256_BYTES}, (struct gm_bytes){text, len},
                          key);
}

/* The key for a day, region and service; then with it the text's signature. */
static int sign_text(const char *secret, const char *day, const struct gm_aws_scope *scope,
                     const struct text *text, char out[HEX_BYTES])
{
    char first[GM_AWS_KEY_MAX + 4];
    uint8_t key[GM_SHA256_BYTES];
    int len = snprintf(first, sizeof first, "AWS4%s", secret);
    int rc = gm_hmac_sha256((struct gm_bytes){first, (size_t)len},
                            (struct gm_bytes){day, DAY_BYTES}, key);
    if (rc == 0)
        rc = step(key, scope->region, strlen(scope->region));
    if (rc == 0)
        rc = step(key, scope->service, strlen(scope->service));
    if (rc == 0)
        rc = step(key, "aws4_request", 12);
    if (rc == 0)
        rc = step(key, text->p, text->len);
    hex(key, out);
    explicit_bzero(first, sizeof first);
    explicit_bzero(key, sizeof key);
    return rc;
}

int gm_aws_sign(const struct gm_aws_credentials *credentials, const struct gm_aws_scope *scope,
                const struct gm_aws_request *request, struct gm_aws_signature *out)
{
    char names[SIGNED_BYTES], place[SCOPE_BYTES], to_sign[512], hash[HEX_BYTES], result[HEX_BYTES];
    struct text signed_names = {names, sizeof names, 0, 0};
    struct text scope_text = {place, sizeof place, 0, 0};
    struct text text = {to_sign, sizeof to_sign, 0, 0};
    struct text authorization = {out->authorization, sizeof out->authorization, 0, 0};
    struct fields fields = {.count = 0};
    time_t now = (time_t)scope->now_s;
    struct tm tm;
    if (request->field_count > GM_AWS_FIELDS_MAX || gmtime_r(&now, &tm) == NULL ||
        strftime(out->date, sizeof out->date, "%Y%m%dT%H%M%SZ", &tm) != sizeof out->date - 1)
        return -GM_E_LIMIT;
    for (size_t i = 0; i < request->field_count; i++)
        insert(&fields, request->fields[i]);
    insert(&fields, (struct gm_aws_field){"host", request->host});
    insert(&fields, (struct gm_aws_field){"x-amz-date", out->date});
    if (credentials->token[0] != '\0')
        insert(&fields, (struct gm_aws_field){"x-amz-security-token", credentials->token});
    name_signed(&signed_names, &fields);
    add(&scope_text, "%.*s/%s/%s/aws4_request", DAY_BYTES, out->date, scope->region,
        scope->service);
    int rc = hash_request(request, &fields, names, hash);
    add(&text, ALGORITHM "\n%s\n%s\n%s", out->date, place, hash);
    if (rc == 0)
        rc = sign_text(credentials->secret_key, out->date, scope, &text, result);
    add(&authorization, ALGORITHM " Credential=%s/%s, SignedHeaders=%s, Signature=%s",
        credentials->access_key, place, names, result);
    const int errors[] = {signed_names.error, scope_text.error, text.error, authorization.error};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        rc = rc == 0 ? errors[i] : rc;
    return rc;
}
