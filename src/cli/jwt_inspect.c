/*
 * `gimlet jwt inspect`: what a token says, and whether it is genuine. The words are those that
 * scripts know; nothing of a token reaches the terminal unescaped.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "auth/jws.h"
#include "auth/keyset.h"
#include "cli/internal.h"

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
    if (!json_is_number(value) || seconds < -62135596800.0 || seconds > (double)CLI_LAST_SECOND)
        return false;
    char text[TIME_TEXT_BYTES];
    int64_t whole = (int64_t)floor(seconds);
    int micros = (int)((seconds - (double)whole) * 1e6);
    cli_format_time(text, whole, micros > 0 ? micros : -1);
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
        return cli_fail("%s", error.text);
    bool named = gm_jws_method_by_name(method) == GM_JWS_RS256;
    bool decoded = gm_jws_decode_signature(jws);
    bool good = named && decoded &&
                gm_jws_confirm(jws, token, GM_JWS_RS256, &keys->keys[0], &rsa_operations);
    gm_keyset_put(keys);
    if (!decoded)
        return cli_fail("Invalid crypto padding");
    if (!named)
        return cli_fail("The specified alg value is not allowed");
    return good ? EXIT_OK : cli_fail("Signature verification failed");
}

/* Shows the token in `jws`, which it verifies first if asked. Takes neither object. */
static int show_token(struct gm_jws *jws, const struct jwt_values *values, const char *token,
                      const json_t *header)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    json_t *claims = gm_jws_parse_object(jws->payload, jws->payload_len);
    if (claims == NULL)
        return cli_fail("Invalid payload string: must be a JSON object");
    int rc = EXIT_OK;
    const char *wrong = NULL;
    if (values->verify)
        rc = verify_token(jws, token, json_string_value(json_object_get(header, "alg")),
                          values->public_key);
    if (rc == EXIT_OK && values->verify)
        wrong = times_text(claims, &now);
    if (wrong != NULL)
        rc = cli_fail("%s", wrong);
    if (rc == EXIT_OK) {
        (void)fputs(values->verify ? "✓ Token verified: signature and times are good\n"
                                   : "⚠ Token not verified: anybody may have written it\n",
                    stdout);
        (void)fputs("\nClaims:\n", stdout);
        print_claims(claims, &now);
        rc = cli_finish_output();
    }
    json_decref(claims);
    return rc;
}

static int inspect_token(const struct jwt_values *values, const char *token)
{
    struct gm_jws jws;
    enum gm_jws_split split = gm_jws_split(&jws, token, strlen(token));
    if (split != GM_JWS_SPLIT_OK)
        return cli_fail("%s", split_text(split, token));
    json_t *header = gm_jws_parse_object(jws.header, jws.header_len);
    if (header == NULL)
        return cli_fail("Invalid header string: must be a JSON object");
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

int cli_inspect(const struct cli_run *run)
{
    const struct jwt_values *values = &run->values;
    char token[TOKEN_ROOM + 1];
    if (values->verify && values->public_key == NULL)
        return cli_fail("--public-key required for verification");
    if (values->token.count > 0) {
        trim_token(token, values->token.items[0], strlen(values->token.items[0]));
        return inspect_token(values, token);
    }
    /* Room for white space around the token. */
    char input[2 * TOKEN_ROOM];
    size_t len = fread(input, 1, sizeof(input), stdin);
    if (ferror(stdin))
        return cli_fail("cannot read the token from the standard input: %s", strerror(errno));
    trim_token(token, input, len);
    return inspect_token(values, token);
}
