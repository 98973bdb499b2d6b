/*
 * `gimlet jwt agent|client|inspect`: the claims, outputs and exit codes of the tool it replaces
 * (spec/gimlet.md §1.4), so that scripts keep working. A token goes to stdout and nowhere else;
 * notes and errors go to stderr. Short-lived, one thread.
 */
#include "cli/jwt.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "auth/jws.h"
#include "auth/jwt.h"
#include "auth/keyset.h"
#include "auth/sign.h"
#include "config/option.h"

enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    PATH_BYTES = 4096,
    TOKEN_ROOM = GM_JWT_TOKEN_BYTES_MAX + 1,
    TIME_TEXT_BYTES = 64,
};

/* 9999-12-31T23:59:59Z: the last second that dates are written for. */
static const int64_t last_second = 253402300799;

struct jwt_values {
    const char *subject;
    const char *service;
    const char *services;
    const char *duration;
    const char *private_key_file;
    const char *kms_key_arn;
    const char *issuer;
    bool json;
    struct gm_option_list scopes;
    /* inspect */
    bool verify;
    const char *public_key;
    struct gm_option_list token;
};

#define SUBJECT_OPTION                                                                             \
    {                                                                                              \
        .flag = "subject", .argument = "TEXT", .group = "Claims",                                  \
        .help = "Who the token is for (sub), required", .kind = GM_OPTION_TEXT,                    \
        .flags = GM_OPTION_NO_ENV, .offset = offsetof(struct jwt_values, subject)                  \
    }
#define SHARED_OPTIONS                                                                             \
    {.flag = "duration",                                                                           \
     .argument = "TEXT",                                                                           \
     .fallback = "24h",                                                                            \
     .help = "How long the token lives: a whole number and s, m, h or d",                          \
     .kind = GM_OPTION_TEXT,                                                                       \
     .flags = GM_OPTION_NO_ENV,                                                                    \
     .offset = offsetof(struct jwt_values, duration)},                                             \
        {.flag = "issuer",                                                                         \
         .argument = "TEXT",                                                                       \
         .fallback = "gimlet",                                                                     \
         .help = "Issuer (iss); the server's --token-issuer",                                      \
         .kind = GM_OPTION_TEXT,                                                                   \
         .offset = offsetof(struct jwt_values, issuer)},                                           \
        {.flag = "scope",                                                                          \
         .argument = "TEXT",                                                                       \
         .help = "A scope to grant, such as status",                                               \
         .kind = GM_OPTION_REPEAT,                                                                 \
         .flags = GM_OPTION_NO_ENV,                                                                \
         .offset = offsetof(struct jwt_values, scopes)},                                           \
        {.flag = "private-key-file",                                                               \
         .argument = "PATH",                                                                       \
         .group = "Key and output",                                                                \
         .help = "RSA private key, PEM. A file that is not there is made, with its public "        \
                 "key beside it as .pub",                                                          \
         .kind = GM_OPTION_TEXT,                                                                   \
         .offset = offsetof(struct jwt_values, private_key_file)},                                 \
        {.flag = "kms-key-arn",                                                                    \
         .argument = "TEXT",                                                                       \
         .help = "Not in this version: signing by AWS KMS",                                        \
         .kind = GM_OPTION_TEXT,                                                                   \
         .offset = offsetof(struct jwt_values, kms_key_arn)},                                      \
    {                                                                                              \
        .flag = "json", .help = "Print the token and what is in it as JSON",                       \
        .kind = GM_OPTION_SWITCH, .flags = GM_OPTION_NO_ENV,                                       \
        .offset = offsetof(struct jwt_values, json)                                                \
    }

static const struct gm_option agent_options[] = {
    SUBJECT_OPTION,
    {.flag = "service",
     .argument = "TEXT",
     .help = "The service that the agent serves, required",
     .kind = GM_OPTION_TEXT,
     .flags = GM_OPTION_NO_ENV,
     .offset = offsetof(struct jwt_values, service)},
    SHARED_OPTIONS,
};

static const struct gm_option client_options[] = {
    SUBJECT_OPTION,
    {.flag = "services",
     .argument = "TEXT",
     .help = "Patterns of services that may be called, comma-separated, required",
     .kind = GM_OPTION_TEXT,
     .flags = GM_OPTION_NO_ENV,
     .offset = offsetof(struct jwt_values, services)},
    SHARED_OPTIONS,
};

static const struct gm_option inspect_options[] = {
    {.flag = "verify",
     .help = "Check signature (RS256) and times",
     .kind = GM_OPTION_SWITCH,
     .offset = offsetof(struct jwt_values, verify)},
    {.flag = "public-key",
     .argument = "PATH",
     .help = "RSA public key, PEM, for --verify",
     .kind = GM_OPTION_TEXT,
     .offset = offsetof(struct jwt_values, public_key)},
};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct gm_option_program agent_program = {
    .name = "gimlet jwt agent",
    .summary = "Makes a token with which an agent may serve one service.",
    .epilogue =
        "gimlet jwt agent --subject agent-1 --service web --private-key-file keys/private.pem",
    .env_prefix = "GIMLET_JWT_",
    .options = agent_options,
    .option_count = COUNT_OF(agent_options),
};

static const struct gm_option_program client_program = {
    .name = "gimlet jwt client",
    .summary = "Makes a token with which a client may call services.",
    .epilogue = "gimlet jwt client --subject alice --services 'web,team-*' --private-key-file "
                "keys/private.pem",
    .env_prefix = "GIMLET_JWT_",
    .options = client_options,
    .option_count = COUNT_OF(client_options),
};

static const struct gm_option_program inspect_program = {
    .name = "gimlet jwt inspect",
    .summary = "Shows what a token says; reads it from stdin when none is given.",
    .options = inspect_options,
    .option_count = COUNT_OF(inspect_options),
    .positional = "[TOKEN]",
    .positional_offset = offsetof(struct jwt_values, token),
    .positional_max = 1,
};

/* One "Error: …" line on stderr. Returns the exit code. */
__attribute__((format(printf, 1, 2))) static int fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)fputs("Error: ", stderr);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
    return EXIT_FAILED;
}

/* Output that never arrived is no success. */
static int finish_output(void)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return EXIT_OK;
    return fail("cannot write to the standard output: %s", strerror(errno));
}

/* "24h" in seconds: 0, or the exit code after saying what is wrong. */
static int parse_duration(const char *text, int64_t *seconds)
{
    static const struct {
        char unit;
        int64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    size_t len = strlen(text);
    int64_t unit = 0;
    if (strspn(text, " \t\r\n") == len)
        return fail("Duration cannot be empty");
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        if (tolower((unsigned char)text[len - 1]) == units[i].unit)
            unit = units[i].seconds;
    }
    if (unit == 0)
        return fail("Invalid duration unit in '%s': use s, m, h or d, as in 24h", text);
    if (len == 1)
        return fail("Duration '%s' has no numeric value: write a number before the unit", text);
    bool negative = text[0] == '-';
    size_t digits = strspn(text + negative, "0123456789");
    if (digits == 0 || negative + digits + 1 != len)
        return fail("Invalid duration '%s'. Must be an integer and one unit, as in 90m", text);
    if (negative)
        return fail("Duration '%s' must be non-negative", text);
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (errno != 0 || value > last_second / unit)
        return fail("Duration '%s' is too long", text);
    *seconds = value * unit;
    return EXIT_OK;
}

/* ISO 8601 in UTC; microseconds are written when `micros` is not negative. */
static void format_time(char *out, int64_t seconds, int micros)
{
    struct tm tm;
    time_t t = (time_t)seconds;
    char fraction[16] = "";
    if (micros >= 0)
        (void)snprintf(fraction, sizeof(fraction), ".%06d", micros % 1000000);
    (void)gmtime_r(&t, &tm);
    size_t n = strftime(out, TIME_TEXT_BYTES - sizeof(fraction) - 8, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(out + n, TIME_TEXT_BYTES - n, "%s+00:00", fraction);
}

/* `a, b,,` as ["a","b","",""]: white space around items goes, empty items stay. */
static json_t *split_services(const char *text)
{
    static const char white[] = " \t\r\n\v\f";
    json_t *list = json_array();
    for (;;) {
        size_t len = strcspn(text, ",");
        const char *item = text + strspn(text, white);
        const char *end = text + len;
        while (end > item && strchr(white, end[-1]) != NULL)
            end--;
        size_t item_len = end > item ? (size_t)(end - item) : 0;
        (void)json_array_append_new(list, json_stringn(item_len > 0 ? item : "", item_len));
        if (text[len] == '\0')
            return list;
        text += len + 1;
    }
}

/* What a token is made of. */
struct making {
    const struct gm_option_program *program;
    struct jwt_values values;
    enum gm_audience audience;
    struct timespec now;
    int64_t seconds;
};

static const char *audience_name(enum gm_audience audience)
{
    return audience == GM_AUDIENCE_AGENT ? "gimlet-agent" : "gimlet-client";
}

/* `service` or `services`, as the token and the JSON output have it. */
static void add_service(json_t *object, const struct making *making)
{
    if (making->audience == GM_AUDIENCE_AGENT)
        (void)json_object_set_new(object, "service", json_string(making->values.service));
    else
        (void)json_object_set_new(object, "services", split_services(making->values.services));
}

/* The claims in their customary order. NULL when a text is not UTF-8. */
static json_t *make_claims(const struct making *making)
{
    const struct jwt_values *values = &making->values;
    json_int_t now = (json_int_t)making->now.tv_sec;
    json_t *claims = json_object();
    (void)json_object_set_new(claims, "iss", json_string(values->issuer));
    (void)json_object_set_new(claims, "aud", json_string(audience_name(making->audience)));
    (void)json_object_set_new(claims, "sub", json_string(values->subject));
    add_service(claims, making);
    (void)json_object_set_new(claims, "iat", json_integer(now));
    (void)json_object_set_new(claims, "exp", json_integer(now + making->seconds));
    (void)json_object_set_new(claims, "nbf", json_integer(now));
    if (values->scopes.count > 0) {
        json_t *scopes = json_array();
        for (size_t i = 0; i < values->scopes.count; i++)
            (void)json_array_append_new(scopes, json_string(values->scopes.items[i]));
        (void)json_object_set_new(claims, "scope", scopes);
    }
    return claims;
}

/* A server's own check of the token just made, so that no token leaves that none would accept. */
static int check_made(const struct making *making, struct gm_private_key *key, const char *token)
{
    struct gm_keyset *keys = calloc(1, sizeof(*keys) + sizeof(keys->keys[0]));
    struct gm_jwt_rules rules = {keys, making->values.issuer};
    struct gm_jwt_query query = {token, strlen(token), making->audience, making->now.tv_sec};
    struct gm_claims claims;
    if (keys == NULL || !gm_private_key_public(key, &keys->keys[0])) {
        free(keys);
        return fail("the public half of %s cannot be used by a server",
                    making->values.private_key_file);
    }
    keys->count = 1;
    enum gm_jwt_result result = gm_jwt_verify(&rules, &query, &claims);
    free(keys);
    if (result == GM_JWT_OK || (result == GM_JWT_EXPIRED && making->seconds == 0))
        return EXIT_OK;
    return fail("servers would refuse this token (%s): names are UTF-8 texts of up to %d bytes, "
                "and there are at most %d services and %d scopes, %d bytes in all",
                gm_jwt_text(result), GM_CLAIMS_NAME_BYTES_MAX, GM_CLAIMS_SERVICES_MAX,
                GM_CLAIMS_SCOPES_MAX, GM_CLAIMS_TEXT_BYTES);
}

static int print_json(const struct making *making, const char *token)
{
    char expires[TIME_TEXT_BYTES];
    json_t *out = json_object();
    format_time(expires, (int64_t)making->now.tv_sec + making->seconds,
                (int)(making->now.tv_nsec / 1000));
    (void)json_object_set_new(out, "token", json_string(token));
    (void)json_object_set_new(out, "subject", json_string(making->values.subject));
    add_service(out, making);
    (void)json_object_set_new(out, "audience", json_string(audience_name(making->audience)));
    (void)json_object_set_new(out, "issuer", json_string(making->values.issuer));
    (void)json_object_set_new(out, "duration", json_string(making->values.duration));
    (void)json_object_set_new(out, "expires_at", json_string(expires));
    (void)json_dumpf(out, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    (void)fputc('\n', stdout);
    json_decref(out);
    return finish_output();
}

static int sign_and_print(const struct making *making, struct gm_private_key *key)
{
    char token[TOKEN_ROOM];
    struct gm_auth_error error;
    json_t *claims = make_claims(making);
    char *payload = json_dumps(claims, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(claims);
    if (payload == NULL)
        return fail("out of memory");
    struct gm_sign_text text = {"{\"alg\":\"RS256\",\"typ\":\"JWT\"}", payload, 256};
    int len = gm_jwt_sign(key, &text, token, sizeof(token), &error);
    free(payload);
    if (len < 0)
        return fail("%s", error.text);
    int rc = check_made(making, key, token);
    if (rc != EXIT_OK)
        return rc;
    if (making->values.json)
        return print_json(making, token);
    (void)fputs(token, stdout);
    return finish_output();
}

/* The key in the file, which is made when it is not there. */
static int open_key(const char *path, struct gm_private_key **key)
{
    struct gm_auth_error error;
    char public_path[PATH_BYTES];
    int rc = gm_private_key_load(key, path, &error);
    if (rc == -ENOENT) {
        rc = gm_private_key_create(path, public_path, sizeof(public_path), &error);
        if (rc == 0)
            (void)fprintf(stderr, "Made a new key: %s (give servers %s)\n", path, public_path);
        /* -EEXIST: another process has made it in the meantime; then that one counts. */
        if (rc == 0 || rc == -EEXIST)
            rc = gm_private_key_load(key, path, &error);
    }
    return rc == 0 ? EXIT_OK : fail("%s", error.text);
}

/* Exactly one source of signatures, and of those only the file. */
static int check_key_options(const struct jwt_values *values)
{
    if (values->private_key_file != NULL && values->kms_key_arn != NULL)
        return fail("--private-key-file and --kms-key-arn are mutually exclusive");
    if (values->kms_key_arn != NULL)
        return fail("--kms-key-arn (GIMLET_JWT_KMS_KEY_ARN) is not supported: this version cannot "
                    "sign with AWS KMS; use --private-key-file");
    if (values->private_key_file == NULL)
        return fail("Either --private-key-file or GIMLET_JWT_PRIVATE_KEY_FILE must be provided");
    return EXIT_OK;
}

static int make_token(struct making *making, struct gm_option_context *context)
{
    const struct jwt_values *values = &making->values;
    bool agent = making->audience == GM_AUDIENCE_AGENT;
    const char *missing = values->subject == NULL              ? "subject"
                          : agent && values->service == NULL   ? "service"
                          : !agent && values->services == NULL ? "services"
                                                               : NULL;
    if (missing != NULL) {
        (void)gm_option_refuse(making->program, context, EXIT_USAGE,
                               "--%s is required (see %s --help)", missing, making->program->name);
        return context->exit_code;
    }
    int rc = check_key_options(values);
    if (rc == EXIT_OK)
        rc = parse_duration(values->duration, &making->seconds);
    if (rc != EXIT_OK)
        return rc;
    (void)clock_gettime(CLOCK_REALTIME, &making->now);
    if (making->seconds > last_second - making->now.tv_sec)
        return fail("Duration '%s' is too long", values->duration);
    struct gm_private_key *key;
    rc = open_key(values->private_key_file, &key);
    if (rc != EXIT_OK)
        return rc;
    rc = sign_and_print(making, key);
    gm_private_key_free(key);
    return rc;
}

/* ---- inspect ---- */

/* A character that must not reach a terminal as it is: its bytes; 0 for a harmless one. */
static size_t control_at(const char *p)
{
    unsigned char c = (unsigned char)p[0];
    if (c < 0x20 || c == 0x7f)
        return 1;
    /* U+0080 to U+009F, the second set of control characters. */
    return c == 0xc2 && (unsigned char)p[1] < 0xa0 ? 2 : 0;
}

/* The text, control characters escaped; `quote` and backslashes too unless it is 0. */
static void print_text(const char *text, char quote)
{
    for (const char *p = text; *p != '\0'; p++) {
        const char *named = strchr("\nn\rr\tt", *p);
        size_t control = control_at(p);
        if (named != NULL && control > 0)
            (void)printf("\\%c", named[1]);
        else if (control > 0)
            (void)printf("\\x%02x", (unsigned char)p[control - 1]);
        else if (quote != '\0' && (*p == quote || *p == '\\'))
            (void)printf("\\%c", *p);
        else
            (void)fputc(*p, stdout);
        p += control == 2;
    }
}

/* The shortest decimal that reads back as the same number. */
static void print_real(double value)
{
    char text[64];
    for (int digits = 6; digits <= 17; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    bool whole = strpbrk(text, ".e") == NULL;
    (void)printf("%s%s", text, whole ? ".0" : "");
}

/* A value as Python would print it; a list or object inside another one as JSON. */
static void print_item(const json_t *value)
{
    if (json_is_string(value)) {
        const char *text = json_string_value(value);
        char quote = strchr(text, '\'') != NULL && strchr(text, '"') == NULL ? '"' : '\'';
        (void)fputc(quote, stdout);
        print_text(text, quote);
        (void)fputc(quote, stdout);
    } else if (json_is_boolean(value)) {
        (void)fputs(json_is_true(value) ? "True" : "False", stdout);
    } else if (json_is_null(value)) {
        (void)fputs("None", stdout);
    } else if (json_is_integer(value)) {
        (void)printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else if (json_is_real(value)) {
        print_real(json_real_value(value));
    } else {
        (void)json_dumpf(value, stdout, JSON_ENSURE_ASCII);
    }
}

static void print_list(const json_t *list)
{
    (void)fputc('[', stdout);
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (i > 0)
            (void)fputs(", ", stdout);
        print_item(json_array_get(list, i));
    }
    (void)fputc(']', stdout);
}

static void print_object(const json_t *object)
{
    const char *key;
    json_t *value;
    const char *separator = "";
    (void)fputc('{', stdout);
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        (void)printf("%s'", separator);
        print_text(key, '\'');
        (void)fputs("': ", stdout);
        print_item(value);
        separator = ", ";
    }
    (void)fputc('}', stdout);
}

/* "1 day, 2:03:04.000005" */
static void print_span(int64_t micros)
{
    int64_t seconds = micros / 1000000;
    int64_t days = seconds / 86400;
    if (days > 0)
        (void)printf("%" PRId64 " day%s, ", days, days == 1 ? "" : "s");
    (void)printf("%" PRId64 ":%02" PRId64 ":%02" PRId64, seconds % 86400 / 3600,
                 seconds % 3600 / 60, seconds % 60);
    if (micros % 1000000 != 0)
        (void)printf(".%06" PRId64, micros % 1000000);
}

/* exp, iat and nbf as dates. False: not a number that has a date. */
static bool print_date(const char *key, const json_t *value, const struct timespec *now)
{
    double seconds = json_number_value(value);
    if (!json_is_number(value) || seconds < -62135596800.0 || seconds > (double)last_second)
        return false;
    char text[TIME_TEXT_BYTES];
    int64_t whole = (int64_t)floor(seconds);
    int micros = (int)((seconds - (double)whole) * 1e6);
    format_time(text, whole, micros > 0 ? micros : -1);
    (void)fputs(text, stdout);
    if (strcmp(key, "exp") != 0)
        return true;
    int64_t left = (whole - (int64_t)now->tv_sec) * 1000000 + micros - now->tv_nsec / 1000;
    if (left <= 0) {
        (void)fputs(" (EXPIRED)", stdout);
        return true;
    }
    (void)fputs(" (expires in ", stdout);
    print_span(left);
    (void)fputc(')', stdout);
    return true;
}

static bool is_date(const char *key)
{
    return strcmp(key, "exp") == 0 || strcmp(key, "iat") == 0 || strcmp(key, "nbf") == 0;
}

static void print_claims(json_t *claims, const struct timespec *now)
{
    const char *key;
    json_t *value;
    json_object_foreach(claims, key, value)
    {
        (void)fputs("  ", stdout);
        print_text(key, '\0');
        (void)fputs(": ", stdout);
        if (is_date(key) && print_date(key, value, now)) {
            (void)fputc('\n', stdout);
            continue;
        }
        if (json_is_string(value))
            print_text(json_string_value(value), '\0');
        else if (json_is_array(value))
            print_list(value);
        else if (json_is_object(value))
            print_object(value);
        else
            print_item(value);
        (void)fputc('\n', stdout);
    }
}

/* Why a token cannot be taken apart, in the words that scripts know. */
static const char *split_text(enum gm_jws_split split, const char *token)
{
    switch (split) {
    case GM_JWS_SPLIT_LENGTH:
        return *token == '\0' ? "Not enough segments"
                              : "Token is too long: servers accept 8192 bytes";
    case GM_JWS_SPLIT_HEADER:
        return "Invalid header padding";
    case GM_JWS_SPLIT_PAYLOAD:
        return "Invalid payload padding";
    default:
        break;
    }
    const char *dot = strchr(token, '.');
    return dot != NULL && strchr(dot + 1, '.') != NULL ? "Too many segments"
                                                       : "Not enough segments";
}

/* Why the times of the claims forbid using the token now, or NULL. */
static const char *times_text(const json_t *claims, const struct timespec *now)
{
    const json_t *issued = json_object_get(claims, "iat");
    const json_t *not_before = json_object_get(claims, "nbf");
    const json_t *expires = json_object_get(claims, "exp");
    double at = (double)now->tv_sec + (double)now->tv_nsec / 1e9;
    if (issued != NULL && !json_is_number(issued))
        return "Issued At claim (iat) must be an integer.";
    if (issued != NULL && json_number_value(issued) > at)
        return "The token is not yet valid (iat)";
    if (not_before != NULL && !json_is_number(not_before))
        return "Not Before claim (nbf) must be an integer.";
    if (not_before != NULL && json_number_value(not_before) > at)
        return "The token is not yet valid (nbf)";
    if (expires != NULL && !json_is_number(expires))
        return "Expiration Time claim (exp) must be an integer.";
    if (expires != NULL && json_number_value(expires) <= at)
        return "Signature has expired";
    return NULL;
}

/* Signature by RS256 and times. EXIT_OK or the exit code after saying what is wrong. */
static int verify_token(struct gm_jws *jws, const char *token, const char *method,
                        const char *key_path)
{
    struct gm_auth_error error;
    struct gm_keyset *keys;
    uint16_t rsa_operations = 0;
    if (gm_keyset_load_file(&keys, key_path, &error) != 0)
        return fail("%s", error.text);
    bool named = gm_jws_method_by_name(method) == GM_JWS_RS256;
    bool decoded = gm_jws_decode_signature(jws);
    bool good = named && decoded &&
                gm_jws_confirm(jws, token, GM_JWS_RS256, &keys->keys[0], &rsa_operations);
    gm_keyset_put(keys);
    if (!decoded)
        return fail("Invalid crypto padding");
    if (!named)
        return fail("The specified alg value is not allowed");
    return good ? EXIT_OK : fail("Signature verification failed");
}

/* Shows the token in `jws`, which it verifies first if asked. Takes neither object. */
static int show_token(struct gm_jws *jws, const struct jwt_values *values, const char *token,
                      const json_t *header)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    json_t *claims = gm_jws_parse_object(jws->payload, jws->payload_len);
    if (claims == NULL)
        return fail("Invalid payload string: must be a JSON object");
    int rc = EXIT_OK;
    const char *wrong = NULL;
    if (values->verify)
        rc = verify_token(jws, token, json_string_value(json_object_get(header, "alg")),
                          values->public_key);
    if (rc == EXIT_OK && values->verify)
        wrong = times_text(claims, &now);
    if (wrong != NULL)
        rc = fail("%s", wrong);
    if (rc == EXIT_OK) {
        (void)fputs(values->verify ? "✓ Token verified: signature and times are good\n"
                                   : "⚠ Token not verified: anybody may have written it\n",
                    stdout);
        (void)fputs("\nClaims:\n", stdout);
        print_claims(claims, &now);
        rc = finish_output();
    }
    json_decref(claims);
    return rc;
}

static int inspect_token(const struct jwt_values *values, const char *token)
{
    struct gm_jws jws;
    enum gm_jws_split split = gm_jws_split(&jws, token, strlen(token));
    if (split != GM_JWS_SPLIT_OK)
        return fail("%s", split_text(split, token));
    json_t *header = gm_jws_parse_object(jws.header, jws.header_len);
    if (header == NULL)
        return fail("Invalid header string: must be a JSON object");
    int rc = show_token(&jws, values, token, header);
    json_decref(header);
    return rc;
}

/* Copies the trimmed token into `out` (TOKEN_ROOM). A longer one stays longer than any is allowed.
 */
static void trim_token(char *out, const char *text, size_t len)
{
    while (len > 0 && isspace((unsigned char)text[len - 1]))
        len--;
    while (len > 0 && isspace((unsigned char)*text)) {
        text++;
        len--;
    }
    (void)snprintf(out, TOKEN_ROOM + 1, "%.*s", (int)(len < TOKEN_ROOM ? len : TOKEN_ROOM), text);
}

static int inspect(const struct jwt_values *values)
{
    char token[TOKEN_ROOM + 1];
    if (values->verify && values->public_key == NULL)
        return fail("--public-key required for verification");
    if (values->token.count > 0) {
        trim_token(token, values->token.items[0], strlen(values->token.items[0]));
        return inspect_token(values, token);
    }
    /* Room for white space around the token. */
    char input[2 * TOKEN_ROOM];
    size_t len = fread(input, 1, sizeof(input), stdin);
    if (ferror(stdin))
        return fail("cannot read the token from the standard input: %s", strerror(errno));
    trim_token(token, input, len);
    return inspect_token(values, token);
}

/* ---- verbs ---- */

static int run(const struct gm_option_program *program, enum gm_audience audience, int argc,
               char **argv)
{
    struct gm_arena arena = {0};
    struct making making = {.program = program, .audience = audience};
    struct gm_option_context context = gm_option_process();
    struct gm_option_input input = {argc, argv, &context};
    int rc;
    if (gm_option_parse(program, &input, &making.values, &arena) != GM_OPTIONS_READY)
        rc = context.exit_code;
    else if (audience == GM_AUDIENCE_ANY)
        rc = inspect(&making.values);
    else
        rc = make_token(&making, &context);
    gm_arena_fini(&arena);
    return rc;
}

static void print_usage(FILE *out)
{
    (void)fputs("Usage: gimlet jwt <verb> [options]\n\n"
                "Makes and shows the tokens that agents and clients present to a server.\n\n"
                "  agent    Make a token with which an agent may serve one service\n"
                "  client   Make a token with which a client may call services\n"
                "  inspect  Show what a token says, and verify it\n\n"
                "See gimlet jwt <verb> --help.\n",
                out);
}

int gm_cli_jwt(int argc, char **argv)
{
    static const struct {
        const char *verb;
        const struct gm_option_program *program;
        enum gm_audience audience;
    } verbs[] = {
        {"agent", &agent_program, GM_AUDIENCE_AGENT},
        {"client", &client_program, GM_AUDIENCE_CLIENT},
        {"inspect", &inspect_program, GM_AUDIENCE_ANY},
    };
    const char *verb = argc > 1 ? argv[1] : "";
    for (size_t i = 0; i < COUNT_OF(verbs); i++) {
        if (strcmp(verb, verbs[i].verb) == 0)
            return run(verbs[i].program, verbs[i].audience, argc - 1, argv + 1);
    }
    if (strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0 || strcmp(verb, "help") == 0) {
        print_usage(stdout);
        return finish_output();
    }
    if (strcmp(verb, "export-public-key") == 0)
        return fail("export-public-key reads keys of AWS KMS, which this version does not support; "
                    "the public key of a key file lies beside it, with the suffix .pub");
    if (argc > 1)
        (void)fprintf(stderr, "gimlet jwt: unknown verb \"%s\"\n\n", verb);
    print_usage(stderr);
    return EXIT_USAGE;
}
