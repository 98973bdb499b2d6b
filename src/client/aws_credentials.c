/* The chain of credential sources. Every one says: found (1), not here (0), or wrong (negative),
 * which ends the search; buffers that held secrets are wiped. */
#include "client/aws_credentials.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "client/aws_profile.h"

#define CONTAINER_HOST "http://169.254.170.2"
#define INSTANCE_HOST  "http://169.254.169.254"
#define ROLE_PATH      "/latest/meta-data/iam/security-credentials/"
/* AWS's own tools wait as long, for these are neighbours: one second for the instance's metadata,
 * two for the container's endpoint. */
#define INSTANCE_NS  1000000000ull
#define CONTAINER_NS 2000000000ull
#define STS_NS       10000000000ull
#define ROLE_MAX     256u

__attribute__((format(printf, 3, 4))) static int say(char *why, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, GM_WEB_WHY_BYTES, format, args);
    va_end(args);
    gm_text_tame(why); /* some of it is a peer's */
    return code;
}

/* ---- Settings ---- */

const char *gm_aws_variable(const struct gm_aws_settings *settings, const char *name)
{
    size_t len = strlen(name);
    for (char *const *entry = settings->environment; entry != NULL && *entry != NULL; entry++) {
        if (strncmp(*entry, name, len) == 0 && (*entry)[len] == '=')
            return (*entry)[len + 1] != '\0' ? *entry + len + 1 : NULL;
    }
    return NULL;
}

static void wipe_text(char **text)
{
    if (*text != NULL)
        explicit_bzero(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

void gm_aws_settings_fini(struct gm_aws_settings *settings)
{
    wipe_text(&settings->config);
    wipe_text(&settings->credential);
}

/* The file as a text, *out NULL when it is not there. */
static int read_whole(const char *path, char **out, char *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    if (fd < 0)
        return say(why, -errno, "cannot read %.200s: %s", path, gm_error_text(-errno));
    char *text = malloc(GM_AWS_FILE_MAX + 1);
    ssize_t len = text == NULL ? -ENOMEM : gm_file_read(fd, text, GM_AWS_FILE_MAX + 1);
    (void)close(fd);
    if (len < 0 || len > (ssize_t)GM_AWS_FILE_MAX) {
        free(text);
        return say(why, len < 0 ? (int)len : -GM_E_LIMIT, "cannot read %.200s: %s", path,
                   len < 0 ? gm_error_text((int)len) : "it is too long");
    }
    text[len] = '\0';
    *out = text;
    return 0;
}

/* `variable` names the file, or it is ~/.aws/NAME. */
static int read_shared(const struct gm_aws_settings *settings, const char *variable,
                       const char *name, char **out, char *why)
{
    char path[4096];
    const char *given = gm_aws_variable(settings, variable);
    const char *home = gm_aws_variable(settings, "HOME");
    if (given != NULL && strncmp(given, "~/", 2) != 0)
        return read_whole(given, out, why);
    if (home == NULL)
        return 0;
    int n = given != NULL ? snprintf(path, sizeof path, "%s%s", home, given + 1)
                          : snprintf(path, sizeof path, "%s/.aws/%s", home, name);
    return n > 0 && (size_t)n < sizeof path ? read_whole(path, out, why) : 0;
}

static bool section_of(const struct gm_aws_settings *settings, bool config,
                       struct gm_aws_section *out)
{
    const char *text = config ? settings->config : settings->credential;
    return text != NULL && gm_aws_section_find(text, settings->profile, config, out);
}

int gm_aws_settings_load(struct gm_aws_settings *settings, char *const *environment, char *why)
{
    *settings = (struct gm_aws_settings){.environment = environment};
    const char *profile = gm_aws_variable(settings, "AWS_DEFAULT_PROFILE");
    if (profile == NULL)
        profile = gm_aws_variable(settings, "AWS_PROFILE");
    settings->profile_named = profile != NULL;
    int n = snprintf(settings->profile, sizeof settings->profile, "%s",
                     profile != NULL ? profile : "default");
    if (n < 0 || (size_t)n >= sizeof settings->profile)
        return say(why, -GM_E_LIMIT, "the profile's name is too long");
    int rc = read_shared(settings, "AWS_CONFIG_FILE", "config", &settings->config, why);
    if (rc == 0)
        rc = read_shared(settings, "AWS_SHARED_CREDENTIALS_FILE", "credentials",
                         &settings->credential, why);
    struct gm_aws_section section;
    if (rc == 0 && settings->profile_named && !section_of(settings, true, &section) &&
        !section_of(settings, false, &section))
        rc = say(why, -GM_E_CONFIG,
                 "the profile %s (AWS_PROFILE) is neither in the config nor in the credentials "
                 "file",
                 settings->profile);
    if (rc < 0)
        gm_aws_settings_fini(settings);
    return rc;
}

bool gm_aws_setting(const struct gm_aws_settings *settings, const char *key,
                    char out[GM_AWS_SETTING_MAX])
{
    struct gm_aws_section section;
    return section_of(settings, true, &section) &&
           gm_aws_section_value(&section, key, out, GM_AWS_SETTING_MAX) > 0;
}

bool gm_aws_region(const struct gm_aws_settings *settings, char out[GM_AWS_REGION_MAX])
{
    char setting[GM_AWS_SETTING_MAX];
    const char *region = gm_aws_variable(settings, "AWS_DEFAULT_REGION");
    if (region == NULL)
        region = gm_aws_variable(settings, "AWS_REGION");
    if (region == NULL && gm_aws_setting(settings, "region", setting))
        region = setting;
    int n = region == NULL ? -1 : snprintf(out, GM_AWS_REGION_MAX, "%s", region);
    return n > 0 && n < (int)GM_AWS_REGION_MAX;
}

/* ---- Endpoints of services ---- */

/* AWS's domain in the region's partition. */
static const char *domain_of(const char *region)
{
    static const struct {
        const char *prefix, *domain;
    } partitions[] = {
        {"cn-", "amazonaws.com.cn"},
        {"us-iso-", "c2s.ic.gov"},
        {"us-isob-", "sc2s.sgov.gov"},
        {"", "amazonaws.com"},
    };
    size_t i = 0;
    while (strncmp(region, partitions[i].prefix, strlen(partitions[i].prefix)) != 0)
        i++;
    return partitions[i].domain;
}

/* The URL that the user has configured, borrowed or in `setting`; NULL: none. */
static const char *configured_endpoint(const struct gm_aws_settings *settings, const char *service,
                                       char setting[GM_AWS_SETTING_MAX])
{
    char variable[64];
    const char *ignore = gm_aws_variable(settings, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
    if (ignore != NULL && strcasecmp(ignore, "true") == 0)
        return NULL;
    (void)snprintf(variable, sizeof variable, "AWS_ENDPOINT_URL_%s", service);
    for (char *c = variable; *c != '\0'; c++)
        *c = (char)toupper((unsigned char)*c);
    const char *url = gm_aws_variable(settings, variable);
    if (url == NULL)
        url = gm_aws_variable(settings, "AWS_ENDPOINT_URL");
    if (url == NULL && gm_aws_setting(settings, "endpoint_url", setting))
        url = setting;
    return url;
}

int gm_aws_endpoint(const struct gm_aws_settings *settings, const char *service, const char *region,
                    char out[GM_AWS_ENDPOINT_MAX], char *why)
{
    char setting[GM_AWS_SETTING_MAX];
    const char *url = configured_endpoint(settings, service, setting);
    int n = url != NULL ? snprintf(out, GM_AWS_ENDPOINT_MAX, "%s", url)
                        : snprintf(out, GM_AWS_ENDPOINT_MAX, "https://%s%s%s.%s", service,
                                   region[0] != '\0' ? "." : "", region, domain_of(region));
    if (n < 0 || (size_t)n >= GM_AWS_ENDPOINT_MAX)
        return say(why, -GM_E_LIMIT, "the endpoint's URL (AWS_ENDPOINT_URL) is too long");
    while (n > 0 && out[n - 1] == '/')
        out[--n] = '\0';
    return 0;
}

/* ---- The environment ---- */

/* 1, or an error when a text is too long. `token` may be NULL. */
static int put(struct gm_aws_credentials *out, const char *access, const char *secret,
               const char *token, char *why)
{
    bool fits = strlen(access) < sizeof out->access_key &&
                strlen(secret) < sizeof out->secret_key &&
                (token == NULL || strlen(token) < sizeof out->token);
    if (!fits)
        return say(why, -GM_E_LIMIT, "the AWS credentials are longer than any that AWS gives out");
    memcpy(out->access_key, access, strlen(access) + 1);
    memcpy(out->secret_key, secret, strlen(secret) + 1);
    out->token[0] = '\0';
    if (token != NULL)
        memcpy(out->token, token, strlen(token) + 1);
    return 1;
}

struct chain {
    const struct gm_aws_settings *settings;
    gm_aws_ask *ask;
    void *arg;
};

static int from_environment(const struct chain *chain, struct gm_aws_credentials *out, char *why)
{
    const char *access = gm_aws_variable(chain->settings, "AWS_ACCESS_KEY_ID");
    const char *secret = gm_aws_variable(chain->settings, "AWS_SECRET_ACCESS_KEY");
    const char *token = gm_aws_variable(chain->settings, "AWS_SESSION_TOKEN");
    if (access == NULL)
        return 0;
    if (secret == NULL)
        return say(why, -GM_E_CONFIG, "AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not");
    if (token == NULL)
        token = gm_aws_variable(chain->settings, "AWS_SECURITY_TOKEN");
    return put(out, access, secret, token, why);
}

/* ---- The shared files ---- */

/* Refuses a profile that has one of the keys, which are ways to credentials not spoken here. */
static int refuse_keys(const struct chain *chain, const char *const *keys, char *why)
{
    char value[GM_AWS_SETTING_MAX];
    for (; *keys != NULL; keys++) {
        struct gm_aws_section config, credential;
        bool found = (section_of(chain->settings, true, &config) &&
                      gm_aws_section_value(&config, *keys, value, sizeof value) != 0) ||
                     (section_of(chain->settings, false, &credential) &&
                      gm_aws_section_value(&credential, *keys, value, sizeof value) != 0);
        if (!found)
            continue;
        return say(
            why, -GM_E_CONFIG,
            "the AWS profile %s takes its credentials from %s, which is not supported; get "
            "them by: eval \"$(aws configure export-credentials --profile %s --format env)\"",
            chain->settings->profile, *keys, chain->settings->profile);
    }
    return 0;
}

static int from_profile_role(const struct chain *chain, struct gm_aws_credentials *out, char *why)
{
    static const char *const keys[] = {"role_arn", NULL};
    (void)out;
    return refuse_keys(chain, keys, why);
}

static int from_single_sign_on(const struct chain *chain, struct gm_aws_credentials *out, char *why)
{
    static const char *const keys[] = {"sso_session", "sso_start_url", NULL};
    (void)out;
    return refuse_keys(chain, keys, why);
}

static int from_process(const struct chain *chain, struct gm_aws_credentials *out, char *why)
{
    static const char *const keys[] = {"login_session", "credential_process", NULL};
    (void)out;
    return refuse_keys(chain, keys, why);
}

static int from_section(const struct gm_aws_section *section, const char *profile,
                        struct gm_aws_credentials *out, char *why)
{
    int access =
        gm_aws_section_value(section, "aws_access_key_id", out->access_key, sizeof out->access_key);
    if (access == 0)
        return 0;
    int secret = gm_aws_section_value(section, "aws_secret_access_key", out->secret_key,
                                      sizeof out->secret_key);
    int token = gm_aws_section_value(section, "aws_session_token", out->token, sizeof out->token);
    if (token == 0)
        token = gm_aws_section_value(section, "aws_security_token", out->token, sizeof out->token);
    if (access < 0 || secret < 0 || token < 0)
        return say(why, -GM_E_LIMIT, "a key of the AWS profile %s is too long", profile);
    if (secret == 0)
        return say(why, -GM_E_CONFIG,
                   "the AWS profile %s has aws_access_key_id, but no aws_secret_access_key",
                   profile);
    return 1;
}

static int from_file(const struct chain *chain, bool config, struct gm_aws_credentials *out,
                     char *why)
{
    struct gm_aws_section section;
    return section_of(chain->settings, config, &section)
               ? from_section(&section, chain->settings->profile, out, why)
               : 0;
}

static int from_credentials_file(const struct chain *chain, struct gm_aws_credentials *out,
                                 char *why)
{
    return from_file(chain, false, out, why);
}

static int from_config_file(const struct chain *chain, struct gm_aws_credentials *out, char *why)
{
    return from_file(chain, true, out, why);
}

/* ---- Endpoints ---- */

/* Credentials as both endpoints write them. */
static int from_document(const struct gm_web_answer *answer, const char *url,
                         struct gm_aws_credentials *out, char *why)
{
    json_t *document = json_loadb(answer->body, answer->len, 0, NULL);
    const char *access = json_string_value(json_object_get(document, "AccessKeyId"));
    const char *secret = json_string_value(json_object_get(document, "SecretAccessKey"));
    const char *token = json_string_value(json_object_get(document, "Token"));
    int rc;
    if (access == NULL || secret == NULL || *access == '\0' || *secret == '\0')
        rc = say(why, -GM_E_PROTOCOL, "%.200s: the answer holds no credentials", url);
    else
        rc = put(out, access, secret, token, why);
    json_decref(document);
    return rc;
}

/* Negative when no answer came. */
static int ask(const struct chain *chain, const struct gm_web_question *question,
               struct gm_web_answer *answer, char *why)
{
    answer->room = GM_AWS_DOCUMENT_MAX;
    return chain->ask(chain->arg, question, answer, why);
}

/* AWS's tools send a container's credentials' token nowhere else in the clear. */
static bool is_near(const char *url)
{
    static const char *const hosts[] = {"localhost",     "127.0.0.1",      "[::1]",
                                        "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"};
    if (strncasecmp(url, "https://", 8) == 0)
        return true;
    if (strncasecmp(url, "http://", 7) != 0)
        return false;
    size_t len = strcspn(url + 7, "/?");
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        size_t host_len = strlen(hosts[i]);
        if (len >= host_len && strncasecmp(url + 7, hosts[i], host_len) == 0 &&
            (len == host_len || url[7 + host_len] == ':'))
            return true;
    }
    return false;
}

/* The container's Authorization: from a file, which is renewed there, or the variable. 1, 0 for
 * none, or an error. */
static int container_token(const struct chain *chain, char token[GM_AWS_TOKEN_MAX], char *why)
{
    const char *path = gm_aws_variable(chain->settings, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    const char *value = gm_aws_variable(chain->settings, "AWS_CONTAINER_AUTHORIZATION_TOKEN");
    char *text = NULL;
    if (path != NULL) {
        int rc = read_whole(path, &text, why);
        if (rc < 0)
            return rc;
        if (text == NULL)
            return say(why, -ENOENT, "cannot read %.200s: it is not there", path);
        value = text;
    }
    size_t len = value == NULL ? 0 : strlen(value);
    while (len > 0 && isspace((unsigned char)value[len - 1]))
        len--;
    int rc = len > 0;
    if (len >= GM_AWS_TOKEN_MAX)
        rc = say(why, -GM_E_LIMIT, "the container's authorization token is too long");
    else if (len > 0)
        memcpy(token, value, len);
    token[rc == 1 ? len : 0] = '\0';
    wipe_text(&text);
    return rc;
}

static int from_container(const struct chain *chain, struct gm_aws_credentials *out, char *why)
{
    char url[GM_WEB_URL_MAX], token[GM_AWS_TOKEN_MAX], body[GM_AWS_DOCUMENT_MAX + 1];
    const char *relative =
        gm_aws_variable(chain->settings, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = gm_aws_variable(chain->settings, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
    if (relative == NULL && full == NULL)
        return 0;
    int n = relative != NULL ? snprintf(url, sizeof url, CONTAINER_HOST "%s%s",
                                        relative[0] == '/' ? "" : "/", relative)
                             : snprintf(url, sizeof url, "%s", full);
    if (n < 0 || (size_t)n >= sizeof url)
        return say(why, -GM_E_LIMIT, "the address of the container's credentials is too long");
    if (!is_near(url))
        return say(why, -GM_E_CONFIG,
                   "AWS_CONTAINER_CREDENTIALS_FULL_URI: plain http:// is only for this machine and "
                   "the container's own addresses");
    int rc = container_token(chain, token, why);
    const struct gm_fetch_field authorization = {"Authorization", token};
    struct gm_web_question question = {
        .url = url,
        .accept = "application/json",
        .method = "GET",
        .fields = &authorization,
        .field_count = rc == 1,
        .timeout_ns = CONTAINER_NS,
    };
    struct gm_web_answer answer = {.body = body};
    if (rc >= 0)
        rc = ask(chain, &question, &answer, why);
    if (rc == 0 && answer.status != 200)
        rc = say(why, -GM_E_PROTOCOL, "%.200s: status %u", url, answer.status);
    if (rc == 0)
        rc = from_document(&answer, url, out, why);
    explicit_bzero(token, sizeof token);
    explicit_bzero(body, sizeof body);
    return rc;
}

/* ---- A web identity ---- */

/* Appends `name=value`, percent-encoded, to the form. False: it does not fit. */
static bool add_to_form(char *form, size_t room, const char *name, const char *value)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = strlen(form);
    int len = snprintf(form + n, room - n, "%s%s=", n > 0 ? "&" : "", name);
    if (len < 0 || (size_t)len >= room - n)
        return false;
    for (n += (size_t)len; *value != '\0'; value++) {
        unsigned char c = (unsigned char)*value;
        if (n + 4 > room)
            return false;
        if (isalnum(c) || strchr("-._~", c) != NULL) {
            form[n++] = (char)c;
        } else {
            form[n++] = '%';
            form[n++] = hex[c >> 4];
            form[n++] = hex[c & 15];
        }
    }
    form[n] = '\0';
    return true;
}

/* The text of the first element of that name, with a NUL, into `out`. False: there is none, or it
 * is too long. STS answers in XML, and no value that matters has an entity in it. */
static bool element(const char *xml, const char *name, char *out, size_t room)
{
    char tag[64];
    (void)snprintf(tag, sizeof tag, "<%s>", name);
    const char *begin = strstr(xml, tag);
    if (begin == NULL)
        return false;
    begin += strlen(tag);
    size_t len = strcspn(begin, "<");
    if (len == 0 || len >= room)
        return false;
    memcpy(out, begin, len);
    out[len] = '\0';
    return true;
}

static int from_sts_answer(const struct gm_web_answer *answer, struct gm_aws_credentials *out,
                           char *why)
{
    char code[64] = "", message[256] = "";
    if (answer->status == 200) {
        bool whole =
            element(answer->body, "AccessKeyId", out->access_key, sizeof out->access_key) &&
            element(answer->body, "SecretAccessKey", out->secret_key, sizeof out->secret_key) &&
            element(answer->body, "SessionToken", out->token, sizeof out->token);
        return whole ? 1 : say(why, -GM_E_PROTOCOL, "AWS STS: the answer holds no credentials");
    }
    (void)element(answer->body, "Code", code, sizeof code);
    (void)element(answer->body, "Message", message, sizeof message);
    return say(why, -GM_E_PROTOCOL, "AWS STS: status %u %s %s", answer->status, code, message);
}

/* The form, signed by nothing but the token in it. */
static int ask_sts(const struct chain *chain, const char *form, struct gm_aws_credentials *out,
                   char *why)
{
    static const struct gm_fetch_field field = {"Content-Type",
                                                "application/x-www-form-urlencoded"};
    char endpoint[GM_AWS_ENDPOINT_MAX], region[GM_AWS_REGION_MAX], body[GM_AWS_DOCUMENT_MAX + 1];
    if (!gm_aws_region(chain->settings, region))
        region[0] = '\0';
    int rc = gm_aws_endpoint(chain->settings, "sts", region, endpoint, why);
    struct gm_web_question question = {
        .url = endpoint,
        .accept = "text/xml",
        .method = "POST",
        .fields = &field,
        .field_count = 1,
        .body = form,
        .body_len = strlen(form),
        .timeout_ns = STS_NS,
    };
    struct gm_web_answer answer = {.body = body};
    if (rc == 0)
        rc = ask(chain, &question, &answer, why);
    if (rc == 0)
        rc = from_sts_answer(&answer, out, why);
    explicit_bzero(body, sizeof body);
    return rc;
}

static int from_web_identity(const struct chain *chain, struct gm_aws_credentials *out, char *why)
{
    const char *path = gm_aws_variable(chain->settings, "AWS_WEB_IDENTITY_TOKEN_FILE");
    const char *role = gm_aws_variable(chain->settings, "AWS_ROLE_ARN");
    const char *session = gm_aws_variable(chain->settings, "AWS_ROLE_SESSION_NAME");
    char form[GM_AWS_DOCUMENT_MAX] = "", *token = NULL;
    if (path == NULL)
        return 0;
    if (role == NULL)
        return say(why, -GM_E_CONFIG,
                   "AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not");
    int rc = read_whole(path, &token, why);
    if (rc < 0)
        return rc;
    if (token == NULL)
        return say(why, -ENOENT, "cannot read %.200s: it is not there", path);
    token[strcspn(token, "\r\n")] = '\0';
    bool fits =
        add_to_form(form, sizeof form, "Action", "AssumeRoleWithWebIdentity") &&
        add_to_form(form, sizeof form, "Version", "2011-06-15") &&
        add_to_form(form, sizeof form, "RoleArn", role) &&
        add_to_form(form, sizeof form, "RoleSessionName", session != NULL ? session : "gimlet") &&
        add_to_form(form, sizeof form, "WebIdentityToken", token);
    rc = fits ? ask_sts(chain, form, out, why)
              : say(why, -GM_E_LIMIT, "the token in %.200s is too long", path);
    explicit_bzero(form, sizeof form);
    wipe_text(&token);
    return rc;
}

/* ---- The instance ---- */

struct instance {
    const struct chain *chain;
    const char *host;
    char session[ROLE_MAX];
    char body[GM_AWS_DOCUMENT_MAX + 1];
    struct gm_web_answer answer;
};

/* 0 and an answer with any status, or negative. */
static int instance_ask(struct instance *instance, const char *method, const char *path,
                        const struct gm_fetch_field *field, char *why)
{
    char url[GM_WEB_URL_MAX];
    int n = snprintf(url, sizeof url, "%s%s", instance->host, path);
    if (n < 0 || (size_t)n >= sizeof url)
        return say(why, -GM_E_LIMIT, "the address of the instance's metadata is too long");
    struct gm_web_question question = {
        .url = url,
        .method = method,
        .fields = field,
        .field_count = 1,
        .timeout_ns = INSTANCE_NS,
    };
    instance->answer = (struct gm_web_answer){.body = instance->body};
    return ask(instance->chain, &question, &instance->answer, why);
}

/* The first word of the answer, which must be a short one. */
static int first_word(const struct gm_web_answer *answer, char *out, size_t room)
{
    size_t len = strcspn(answer->body, " \t\r\n");
    if (len == 0 || len >= room)
        return -GM_E_PROTOCOL;
    memcpy(out, answer->body, len);
    out[len] = '\0';
    return 0;
}

static int ask_role(struct instance *instance, struct gm_aws_credentials *out, char *why)
{
    static const struct gm_fetch_field lifetime = {"X-aws-ec2-metadata-token-ttl-seconds", "60"};
    char role[ROLE_MAX], path[sizeof ROLE_PATH + ROLE_MAX];
    /* Nobody there, or not such a service: this is no instance. */
    if (instance_ask(instance, "PUT", "/latest/api/token", &lifetime, why) < 0 ||
        instance->answer.status != 200 ||
        first_word(&instance->answer, instance->session, sizeof instance->session) < 0)
        return 0;
    const struct gm_fetch_field session = {"X-aws-ec2-metadata-token", instance->session};
    int rc = instance_ask(instance, "GET", ROLE_PATH, &session, why);
    if (rc < 0)
        return rc;
    if (instance->answer.status != 200 || first_word(&instance->answer, role, sizeof role) < 0)
        return 0; /* an instance without a role */
    (void)snprintf(path, sizeof path, ROLE_PATH "%s", role);
    rc = instance_ask(instance, "GET", path, &session, why);
    if (rc < 0)
        return rc;
    if (instance->answer.status != 200)
        return say(why, -GM_E_PROTOCOL, "the instance's metadata: status %u for the role %.100s",
                   instance->answer.status, role);
    return from_document(&instance->answer, "the instance's metadata", out, why);
}

static int from_instance(const struct chain *chain, struct gm_aws_credentials *out, char *why)
{
    const char *off = gm_aws_variable(chain->settings, "AWS_EC2_METADATA_DISABLED");
    const char *host = gm_aws_variable(chain->settings, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
    char trimmed[GM_AWS_ENDPOINT_MAX];
    if (off != NULL && strcasecmp(off, "true") == 0)
        return 0;
    int len = snprintf(trimmed, sizeof trimmed, "%s", host != NULL ? host : INSTANCE_HOST);
    if (len < 0 || (size_t)len >= sizeof trimmed)
        return say(why, -GM_E_LIMIT, "AWS_EC2_METADATA_SERVICE_ENDPOINT is too long");
    while (len > 0 && trimmed[len - 1] == '/')
        trimmed[--len] = '\0';
    struct instance instance = {.chain = chain, .host = trimmed};
    int rc = ask_role(&instance, out, why);
    explicit_bzero(&instance, sizeof instance);
    return rc;
}

int gm_aws_find_credentials(const struct gm_aws_settings *settings, gm_aws_ask *ask_web, void *arg,
                            struct gm_aws_credentials *out, char *why)
{
    static int (*const sources[])(const struct chain *, struct gm_aws_credentials *, char *) = {
        from_environment,    from_profile_role,     from_web_identity,
        from_single_sign_on, from_credentials_file, from_process,
        from_config_file,    from_container,        from_instance,
    };
    struct chain chain = {settings, ask_web, arg};
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        int rc = sources[i](&chain, out, why);
        if (rc < 0)
            explicit_bzero(out, sizeof *out);
        if (rc != 0)
            return rc < 0 ? rc : 0;
    }
    return say(why, -GM_E_NOT_FOUND,
               "Unable to locate credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
               "AWS_PROFILE for one of ~/.aws/credentials; there is no container or instance role");
}
