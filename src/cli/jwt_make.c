/*
 * `gimlet jwt agent`, `client` and `export-public-key`: the claims, outputs and exit codes of the
 * tool that they replace (spec/gimlet.md §1.4), so that scripts keep working.
 */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "auth/digest.h"
#include "auth/keyset.h"
#include "auth/sign.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/internal.h"
#include "cli/kms.h"

enum { PATH_BYTES = 4096 };

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
        return cli_fail("Duration cannot be empty");
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        if (tolower((unsigned char)text[len - 1]) == units[i].unit)
            unit = units[i].seconds;
    }
    if (unit == 0)
        return cli_fail("Invalid duration unit in '%s': use s, m, h or d, as in 24h", text);
    if (len == 1)
        return cli_fail("Duration '%s' has no numeric value: write a number before the unit", text);
    bool negative = text[0] == '-';
    size_t digits = strspn(text + negative, "0123456789");
    if (digits == 0 || negative + digits + 1 != len)
        return cli_fail("Invalid duration '%s'. Must be an integer and one unit, as in 90m", text);
    if (negative)
        return cli_fail("Duration '%s' must be non-negative", text);
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (errno != 0 || value > CLI_LAST_SECOND / unit)
        return cli_fail("Duration '%s' is too long", text);
    *seconds = value * unit;
    return EXIT_OK;
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
    const struct jwt_values *values;
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
        (void)json_object_set_new(object, "service", json_string(making->values->service));
    else
        (void)json_object_set_new(object, "services", split_services(making->values->services));
}

/* The claims in their customary order. */
static json_t *make_claims(const struct making *making)
{
    const struct jwt_values *values = making->values;
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

static int refuse_claims(const char *why)
{
    return cli_fail(
        "servers would refuse this token (%s): names are UTF-8 texts of up to %d bytes, "
        "and there are at most %d services and %d scopes, %d bytes in all",
        why, GM_CLAIMS_NAME_BYTES_MAX, GM_CLAIMS_SERVICES_MAX, GM_CLAIMS_SCOPES_MAX,
        GM_CLAIMS_TEXT_BYTES);
}

static bool is_text(const char *value)
{
    return gm_text_is_utf8(value, strlen(value));
}

/* JSON holds nothing but UTF-8: a name that is none would be left out. */
static bool names_are_texts(const struct jwt_values *values, const char *service)
{
    bool good = is_text(values->subject) && is_text(values->issuer) && is_text(service);
    for (size_t i = 0; good && i < values->scopes.count; i++)
        good = is_text(values->scopes.items[i]);
    return good;
}

/* A server's own check of the token just made, so that no token leaves that none would accept. */
static int check_made(const struct making *making, struct gm_private_key *key, const char *token)
{
    struct gm_keyset *keys = calloc(1, sizeof(*keys) + sizeof(keys->keys[0]));
    struct gm_jwt_rules rules = {keys, making->values->issuer};
    struct gm_jwt_query query = {token, strlen(token), making->audience, making->now.tv_sec};
    struct gm_claims claims;
    if (keys == NULL || !gm_private_key_public(key, &keys->keys[0])) {
        free(keys);
        return cli_fail("the public half of %s cannot be used by a server",
                        making->values->private_key_file);
    }
    keys->count = 1;
    enum gm_jwt_result result = gm_jwt_verify(&rules, &query, &claims);
    free(keys);
    if (result == GM_JWT_OK || (result == GM_JWT_EXPIRED && making->seconds == 0))
        return EXIT_OK;
    return refuse_claims(gm_jwt_text(result));
}

static int print_json(const struct making *making, const char *token)
{
    char expires[TIME_TEXT_BYTES];
    json_t *out = json_object();
    cli_format_time(expires, (int64_t)making->now.tv_sec + making->seconds,
                    (int)(making->now.tv_nsec / 1000));
    (void)json_object_set_new(out, "token", json_string(token));
    (void)json_object_set_new(out, "subject", json_string(making->values->subject));
    add_service(out, making);
    (void)json_object_set_new(out, "audience", json_string(audience_name(making->audience)));
    (void)json_object_set_new(out, "issuer", json_string(making->values->issuer));
    (void)json_object_set_new(out, "duration", json_string(making->values->duration));
    (void)json_object_set_new(out, "expires_at", json_string(expires));
    if (making->values->kms_key_arn != NULL)
        (void)json_object_set_new(out, "signing_key", json_string(making->values->kms_key_arn));
    (void)json_dumpf(out, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    (void)fputc('\n', stdout);
    json_decref(out);
    return cli_finish_output();
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
    return rc == 0 ? EXIT_OK : cli_fail("%s", error.text);
}

/* Signs with the key in the file and checks the token. */
static int sign_by_file(const struct making *making, const struct gm_sign_text *text,
                        char token[TOKEN_ROOM])
{
    struct gm_private_key *key;
    struct gm_auth_error error;
    int rc = open_key(making->values->private_key_file, &key);
    if (rc != EXIT_OK)
        return rc;
    int len = gm_jwt_sign(key, text, token, TOKEN_ROOM, &error);
    rc = len < 0 ? cli_fail("%s", error.text) : check_made(making, key, token);
    gm_private_key_free(key);
    return rc;
}

/* What the HTTP client has to say goes to stderr, as all that is no result. */
static void log_to_stderr(void)
{
    (void)gm_log_configure(&(struct gm_log_options){
        .level = GM_LOG_WARN, .format = GM_LOG_CONSOLE, .fd = STDERR_FILENO});
}

/* Has AWS KMS sign. The public key is not asked for: whoever may sign need not be allowed to read
 * it. */
static int sign_by_kms(const struct making *making, const struct gm_sign_text *text,
                       char token[TOKEN_ROOM])
{
    uint8_t digest[GM_SHA256_BYTES], signature[GM_KMS_SIGNATURE_MAX];
    char why[GM_KMS_WHY_BYTES];
    struct gm_auth_error error;
    struct gm_kms *kms;
    int len = gm_jwt_begin(text, sizeof(signature), token, TOKEN_ROOM, &error);
    if (len < 0)
        return cli_fail("%s", error.text);
    if (!gm_jwt_payload_fits(text->payload))
        return refuse_claims("limits");
    if (gm_sha256((struct gm_bytes){token, (size_t)len}, digest) < 0)
        return cli_fail("SHA-256 failed");
    log_to_stderr();
    if (gm_kms_open(&kms, making->values->kms_key_arn, why) < 0)
        return cli_fail("AWS KMS: %s", why);
    int rc = gm_kms_sign(kms, digest, signature, why);
    gm_kms_close(kms);
    if (rc < 0)
        return cli_fail("AWS KMS: %s", why);
    (void)gm_jwt_finish(token, (size_t)len, signature, (size_t)rc);
    return EXIT_OK;
}

static int sign_and_print(const struct making *making)
{
    char token[TOKEN_ROOM];
    json_t *claims = make_claims(making);
    char *payload = json_dumps(claims, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(claims);
    if (payload == NULL)
        return cli_fail("out of memory");
    struct gm_sign_text text = {"{\"alg\":\"RS256\",\"typ\":\"JWT\"}", payload, 256};
    int rc = making->values->kms_key_arn != NULL ? sign_by_kms(making, &text, token)
                                                 : sign_by_file(making, &text, token);
    free(payload);
    if (rc != EXIT_OK)
        return rc;
    if (making->values->json)
        return print_json(making, token);
    (void)fputs(token, stdout);
    return cli_finish_output();
}

/* Exactly one source of signatures. */
static int check_key_options(const struct jwt_values *values)
{
    if (values->private_key_file != NULL && values->kms_key_arn != NULL)
        return cli_fail("--private-key-file and --kms-key-arn are mutually exclusive");
    if (values->private_key_file == NULL && values->kms_key_arn == NULL)
        return cli_fail("Either --private-key-file (GIMLET_JWT_PRIVATE_KEY_FILE) or --kms-key-arn "
                        "(GIMLET_JWT_KMS_KEY_ARN) must be provided");
    return EXIT_OK;
}

static int make_token(const struct cli_run *run, enum gm_audience audience, const char *service,
                      const char *service_flag)
{
    const struct jwt_values *values = &run->values;
    struct making making = {.values = values, .audience = audience};
    const char *missing = values->subject == NULL ? "subject"
                          : service == NULL       ? service_flag
                                                  : NULL;
    if (missing != NULL) {
        (void)gm_option_refuse(run->program, run->context, EXIT_USAGE,
                               "--%s is required (see %s --help)", missing, run->program->name);
        return run->context->exit_code;
    }
    int rc = check_key_options(values);
    if (rc == EXIT_OK)
        rc = parse_duration(values->duration, &making.seconds);
    if (rc != EXIT_OK)
        return rc;
    if (!names_are_texts(values, service))
        return refuse_claims("limits");
    (void)clock_gettime(CLOCK_REALTIME, &making.now);
    if (making.seconds > CLI_LAST_SECOND - making.now.tv_sec)
        return cli_fail("Duration '%s' is too long", values->duration);
    return sign_and_print(&making);
}

int cli_make_agent(const struct cli_run *run)
{
    return make_token(run, GM_AUDIENCE_AGENT, run->values.service, "service");
}

int cli_make_client(const struct cli_run *run)
{
    return make_token(run, GM_AUDIENCE_CLIENT, run->values.services, "services");
}

/* ---- The public half ---- */

static int fail_export(const char *why)
{
    (void)fprintf(stderr, "Error getting public key from KMS: %s\n", why);
    return EXIT_FAILED;
}

static int write_key(const char *path, const char *pem, size_t len)
{
    char why[GM_KMS_WHY_BYTES];
    FILE *file = fopen(path, "we");
    bool good = file != NULL && fwrite(pem, 1, len, file) == len && fflush(file) == 0;
    int error = errno;
    good = (file == NULL || fclose(file) == 0) && good;
    if (good) {
        (void)fprintf(stderr, "The public key is in %s\n", path);
        return EXIT_OK;
    }
    (void)snprintf(why, sizeof(why), "cannot write %.400s: %s", path, strerror(error));
    return fail_export(why);
}

int cli_export_public_key(const struct cli_run *run)
{
    uint8_t der[GM_KMS_PUBLIC_KEY_MAX];
    char pem[GM_PUBLIC_KEY_PEM_MAX], why[GM_KMS_WHY_BYTES];
    struct gm_auth_error error;
    struct gm_public_key key;
    struct gm_kms *kms;
    log_to_stderr();
    if (gm_kms_open(&kms, run->values.kms_key_arn, why) < 0)
        return fail_export(why);
    int len = gm_kms_public_key(kms, der, why);
    gm_kms_close(kms);
    if (len < 0)
        return fail_export(why);
    size_t pem_len = gm_public_key_pem(der, (size_t)len, pem);
    if (gm_public_key_parse(&key, "the key in KMS", pem, pem_len, &error) < 0)
        (void)fprintf(stderr, "Warning: no server would take it: %s\n", error.text);
    if (run->values.output != NULL)
        return write_key(run->values.output, pem, pem_len);
    (void)fputs(pem, stdout);
    return cli_finish_output();
}
