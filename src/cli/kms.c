/*
 * Two calls of the KMS API (JSON 1.1 over HTTPS, signed with SigV4), each tried a few times where
 * trying again may help.
 */
#include "cli/kms.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "auth/base64.h"
#include "base/text.h"
#include "client/aws_credentials.h"

#define ATTEMPTS       3u
#define FIRST_PAUSE_NS 200000000l
#define ANSWER_NS      30000000000ull
/* Both answers are under 3 KiB. */
#define ANSWER_MAX 16384u
#define HOST_MAX   300u

_Static_assert(GM_KMS_WHY_BYTES >= GM_WEB_WHY_BYTES, "what the web says fits");

struct gm_kms {
    const char *arn;
    struct gm_aws_settings settings;
    struct gm_aws_credentials credentials;
    struct gm_web *web;
    char region[GM_AWS_REGION_MAX];
    char endpoint[GM_AWS_ENDPOINT_MAX]; /* http[s]://host[:port][/path] */
};

__attribute__((format(printf, 3, 4))) static int say(char *why, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, GM_KMS_WHY_BYTES, format, args);
    va_end(args);
    return code;
}

/* ---- Where ---- */

/* The fourth of at least four parts between colons, else what the environment says. */
static int find_region(struct gm_kms *kms, char *why)
{
    const char *part = kms->arn;
    for (int i = 0; i < 3 && part != NULL; i++) {
        part = strchr(part, ':');
        part = part != NULL ? part + 1 : NULL;
    }
    size_t len = part != NULL ? strcspn(part, ":") : 0;
    if (len == 0)
        return gm_aws_region(&kms->settings, kms->region)
                   ? 0
                   : say(why, -GM_E_CONFIG,
                         "You must specify a region: as the fourth part of the ARN, or in "
                         "AWS_DEFAULT_REGION");
    if (len < sizeof kms->region)
        memcpy(kms->region, part, len);
    for (size_t i = 0; i < len; i++) {
        if (len >= sizeof kms->region || (!isalnum((unsigned char)part[i]) && part[i] != '-'))
            return say(why, -GM_E_CONFIG, "the ARN names no region: \"%.*s\"",
                       (int)(len < 64 ? len : 64), part);
    }
    kms->region[len] = '\0';
    return 0;
}

static int ask_web(void *arg, const struct gm_web_question *question, struct gm_web_answer *answer,
                   char *why)
{
    return gm_web_ask(arg, question, answer, why);
}

int gm_kms_open(struct gm_kms **out, const char *arn, char *why)
{
    struct gm_kms *kms = calloc(1, sizeof *kms);
    *out = kms;
    if (kms == NULL)
        return say(why, -ENOMEM, "out of memory");
    kms->arn = arn;
    int rc = gm_aws_settings_load(&kms->settings, environ, why);
    if (rc == 0)
        rc = find_region(kms, why);
    if (rc == 0)
        rc = gm_aws_endpoint(&kms->settings, "kms", kms->region, kms->endpoint, why);
    if (rc == 0)
        rc = gm_web_open(&kms->web, gm_aws_variable(&kms->settings, "AWS_CA_BUNDLE"), why);
    if (rc == 0)
        rc = gm_aws_find_credentials(&kms->settings, ask_web, kms->web, &kms->credentials, why);
    if (rc < 0) {
        gm_kms_close(kms);
        *out = NULL;
    }
    return rc;
}

void gm_kms_close(struct gm_kms *kms)
{
    if (kms == NULL)
        return;
    gm_web_close(kms->web);
    gm_aws_settings_fini(&kms->settings);
    explicit_bzero(kms, sizeof *kms);
    free(kms);
}

/* ---- Calls ---- */

/* Where an answer's bytes go. */
struct room {
    uint8_t *p;
    size_t len;
};

struct exchange {
    const char *target; /* "TrentService.Sign" */
    const char *body;
    struct gm_web_answer answer;
};

/* One attempt: signed now, for a signature is good for minutes only. */
static int attempt(struct gm_kms *kms, struct exchange *exchange, char *why)
{
    char host[HOST_MAX];
    const char *authority = strstr(kms->endpoint, "://");
    authority = authority != NULL ? authority + 3 : kms->endpoint;
    size_t host_len = strcspn(authority, "/");
    (void)snprintf(host, sizeof host, "%.*s", (int)host_len, authority);
    const char *path = authority[host_len] != '\0' ? authority + host_len : "/";
    const struct gm_aws_field signed_fields[] = {{"content-type", "application/x-amz-json-1.1"},
                                                 {"x-amz-target", exchange->target}};
    const struct gm_aws_request request = {
        .method = "POST",
        .host = host,
        .path = path,
        .query = "",
        .fields = signed_fields,
        .field_count = 2,
        .body = exchange->body,
        .body_len = strlen(exchange->body),
    };
    struct gm_aws_signature signature;
    const struct gm_aws_scope scope = {kms->region, "kms", (int64_t)time(NULL)};
    int rc = gm_aws_sign(&kms->credentials, &scope, &request, &signature);
    if (rc < 0)
        return say(why, rc, "the request cannot be signed: %s", gm_error_text(rc));
    const struct gm_fetch_field fields[] = {{"Content-Type", signed_fields[0].value},
                                            {"X-Amz-Target", exchange->target},
                                            {"X-Amz-Date", signature.date},
                                            {"Authorization", signature.authorization},
                                            {"X-Amz-Security-Token", kms->credentials.token}};
    const struct gm_web_question question = {
        .url = kms->endpoint,
        .method = "POST",
        .accept = "application/json",
        .fields = fields,
        .field_count = kms->credentials.token[0] != '\0' ? 5 : 4,
        .body = request.body,
        .body_len = request.body_len,
        .timeout_ns = ANSWER_NS,
    };
    return gm_web_ask(kms->web, &question, &exchange->answer, why);
}

/* What KMS says is wrong: "NotFoundException: Key ... does not exist". */
static int explain(const struct exchange *exchange, char *why)
{
    json_t *document = json_loadb(exchange->answer.body, exchange->answer.len, 0, NULL);
    const char *type = json_string_value(json_object_get(document, "__type"));
    const char *message = json_string_value(json_object_get(document, "message"));
    if (message == NULL)
        message = json_string_value(json_object_get(document, "Message"));
    const char *hash = type != NULL ? strchr(type, '#') : NULL; /* namespace#Name */
    if (type == NULL)
        (void)say(why, 0, "%s: status %u", exchange->target, exchange->answer.status);
    else
        (void)say(why, 0, "%.100s%s%.400s", hash != NULL ? hash + 1 : type,
                  message != NULL ? ": " : "", message != NULL ? message : "");
    gm_text_tame(why);
    json_decref(document);
    return -GM_E_PROTOCOL;
}

static bool may_help(int rc, const struct exchange *exchange)
{
    if (rc < 0)
        return rc == -GM_E_CLOSED; /* a whole timeout is enough of waiting */
    return exchange->answer.status >= 500 || exchange->answer.status == 429 ||
           strstr(exchange->answer.body, "ThrottlingException") != NULL;
}

/* Who relies on a proxy learns why nothing was reached. */
static int mention_proxy(const struct gm_kms *kms, int rc, char *why)
{
    static const char *const names[] = {"HTTPS_PROXY", "https_proxy"};
    size_t len = strlen(why);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (gm_aws_variable(&kms->settings, names[i]) == NULL)
            continue;
        (void)snprintf(why + len, GM_KMS_WHY_BYTES - len, " (%s is set, but is not used here)",
                       names[i]);
        break;
    }
    return rc;
}

/* The bytes that the answer's member `name` holds in base64. Their number. */
static int call(struct gm_kms *kms, struct exchange *exchange, const char *name,
                const struct room *room, char *why)
{
    char body[ANSWER_MAX + 1];
    exchange->answer = (struct gm_web_answer){.body = body, .room = ANSWER_MAX};
    int rc = attempt(kms, exchange, why);
    for (unsigned i = 1; i < ATTEMPTS && may_help(rc, exchange); i++) {
        struct timespec pause = {.tv_nsec = FIRST_PAUSE_NS * (long)i};
        (void)nanosleep(&pause, NULL);
        rc = attempt(kms, exchange, why);
    }
    if (rc < 0)
        return mention_proxy(kms, rc, why);
    if (exchange->answer.status != 200)
        return explain(exchange, why);
    uint8_t bytes[GM_BASE64_DECODED_MAX(ANSWER_MAX)];
    json_t *document = json_loadb(body, exchange->answer.len, 0, NULL);
    const char *text = json_string_value(json_object_get(document, name));
    int64_t len = text != NULL ? gm_base64_decode(bytes, text, strlen(text)) : -1;
    json_decref(document);
    if (len <= 0 || (size_t)len > room->len)
        return say(why, -GM_E_PROTOCOL, "%s: the answer holds no usable %s", exchange->target,
                   name);
    memcpy(room->p, bytes, (size_t)len);
    return (int)len;
}

int gm_kms_sign(struct gm_kms *kms, const uint8_t digest[GM_SHA256_BYTES],
                uint8_t out[GM_KMS_SIGNATURE_MAX], char *why)
{
    char message[GM_BASE64_ENCODED_MAX(GM_SHA256_BYTES) + 1];
    message[gm_base64_encode(message, digest, GM_SHA256_BYTES)] = '\0';
    json_t *request =
        json_pack("{s:s, s:s, s:s, s:s}", "KeyId", kms->arn, "Message", message, "MessageType",
                  "DIGEST", "SigningAlgorithm", "RSASSA_PKCS1_V1_5_SHA_256");
    char *body = request != NULL ? json_dumps(request, JSON_COMPACT) : NULL;
    json_decref(request);
    if (body == NULL)
        return say(why, -EINVAL, "the ARN is no UTF-8 text, or memory is out");
    struct exchange exchange = {.target = "TrentService.Sign", .body = body};
    int rc = call(kms, &exchange, "Signature", &(struct room){out, GM_KMS_SIGNATURE_MAX}, why);
    free(body);
    return rc;
}

int gm_kms_public_key(struct gm_kms *kms, uint8_t out[GM_KMS_PUBLIC_KEY_MAX], char *why)
{
    json_t *request = json_pack("{s:s}", "KeyId", kms->arn);
    char *body = request != NULL ? json_dumps(request, JSON_COMPACT) : NULL;
    json_decref(request);
    if (body == NULL)
        return say(why, -EINVAL, "the ARN is no UTF-8 text, or memory is out");
    struct exchange exchange = {.target = "TrentService.GetPublicKey", .body = body};
    int rc = call(kms, &exchange, "PublicKey", &(struct room){out, GM_KMS_PUBLIC_KEY_MAX}, why);
    free(body);
    return rc;
}
