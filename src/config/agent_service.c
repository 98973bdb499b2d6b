/*
 * A service of an agent, taken apart and put together. Start-up, one thread.
 *
 * A key's value ends where the next key begins: a comma in a URL, a file name or a field's value is
 * followed by none.
 */
#include "config/agent_service.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "config/runtime_options.h"
#include "config/suggest.h"
#include "config/value.h"

/* Longest path that is asked for, and longest number or duration that anybody types. */
#define PATH_MAX_BYTES 1024u
#define WORD_MAX_BYTES 64u

static bool starts_with(const char *text, const char *prefix)
{
    return strncasecmp(text, prefix, strlen(prefix)) == 0;
}

/* ---- Checks ---- */

/* The target's own grammar is http/target.h's business; here only what it can be at all. */
const char *gm_agent_check_target(const char *value)
{
    if (starts_with(value, "unix:"))
        return value[5] == '/' ? NULL : "is not a socket path: unix:/path is expected";
    const char *host = starts_with(value, "https://")  ? value + 8
                       : starts_with(value, "http://") ? value + 7
                                                       : value;
    if (host == value && strstr(value, "://") != NULL)
        return "is not a target: http://host[:port][/prefix], https://... or unix:/path is "
               "expected";
    return *host != '\0' && *host != '/' && *host != ':' ? NULL : "names no host";
}

/* NAME: VALUE or NAME: @FILE, taken apart: spans of the text. */
struct header_text {
    const char *value; /* behind the @ of a file */
    size_t name_len, value_len;
    bool file;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool split_header(const char *text, size_t len, struct header_text *out)
{
    const char *colon = memchr(text, ':', len);
    if (colon == NULL || colon == text)
        return false;
    const char *value = colon + 1, *end = text + len;
    while (value < end && is_blank(*value))
        value++;
    while (end > value && is_blank(end[-1]))
        end--;
    out->file = value < end && *value == '@';
    if (out->file)
        value++;
    out->name_len = (size_t)(colon - text);
    out->value = value;
    out->value_len = (size_t)(end - value);
    return out->value_len > 0;
}

const char *gm_agent_check_header(const char *value)
{
    struct header_text text;
    return split_header(value, strlen(value), &text)
               ? NULL
               : "is not of the form NAME: VALUE or NAME: @FILE";
}

/* What a request line can hold behind the method. */
static bool is_path(const char *value)
{
    size_t len = strlen(value);
    for (size_t i = 0; i < len; i++) {
        if (value[i] <= ' ' || value[i] > '~' || value[i] == '#')
            return false;
    }
    return value[0] == '/' && len <= PATH_MAX_BYTES;
}

const char *gm_agent_check_health_path(const char *value)
{
    return is_path(value) || strcmp(value, "off") == 0
               ? NULL
               : "is not a path: /health for example, of at most 1024 visible bytes without #, "
                 "or off";
}

const char *gm_agent_check_health_codes(const char *value)
{
    struct gm_codes codes;
    return gm_codes_parse(value, &codes) == 0
               ? NULL
               : "is not a set of status codes: 200-299 or 200,204 for example";
}

/* ---- Keys ---- */

enum service_key {
    TOKEN_FILE,
    CA_FILE,
    CRL_FILE,
    SERVER_NAME,
    CLIENT_CERT,
    CLIENT_KEY,
    INSECURE,
    HEADER,
    HEALTH_PATH,
    HEALTH_INTERVAL,
    HEALTH_TIMEOUT,
    HEALTH_CODES,
    HEALTH_FAILURES,
    HEALTH_SUCCESSES,
    KEYS
};

enum value_kind { TEXT, PATH, CODES, FIELD, DURATION, COUNT };

#define KEY(id, text, type)                                                                        \
    [id] = {.name = (text),                                                                        \
            .empty = "has an empty " text,                                                         \
            .twice = "names " text " twice",                                                       \
            .wrong = "has a " text " that cannot be used: see the option --" text,                 \
            .kind = (type)}

static const struct {
    const char *name, *empty, *twice, *wrong;
    enum value_kind kind;
} service_keys[KEYS] = {
    KEY(TOKEN_FILE, "token-file", TEXT),
    KEY(CA_FILE, "ca-file", TEXT),
    KEY(CRL_FILE, "crl-file", TEXT),
    KEY(SERVER_NAME, "server-name", TEXT),
    KEY(CLIENT_CERT, "client-cert", TEXT),
    KEY(CLIENT_KEY, "client-key", TEXT),
    KEY(INSECURE, "insecure-skip-verify", TEXT),
    KEY(HEADER, "backend-header", FIELD),
    KEY(HEALTH_PATH, "health-check-path", PATH),
    KEY(HEALTH_INTERVAL, "health-check-interval", DURATION),
    KEY(HEALTH_TIMEOUT, "health-check-timeout", DURATION),
    KEY(HEALTH_CODES, "health-check-codes", CODES),
    KEY(HEALTH_FAILURES, "health-check-failure-threshold", COUNT),
    KEY(HEALTH_SUCCESSES, "health-check-success-threshold", COUNT),
};

struct span {
    const char *text; /* NULL: not given */
    size_t len;
};

/* NAME=TARGET[,KEY=VALUE...], taken apart: spans of the text. */
struct service_text {
    const char *target;
    size_t name_len, target_len;
    struct span values[KEYS]; /* but for the HEADERs */
    struct span headers[GM_AGENT_HEADERS_MAX];
    size_t header_count;
};

/* The key that begins here, or KEYS. A comma in a URL or a file name is followed by none. */
static enum service_key key_at(const char *text, const char **wrong)
{
    char word[GM_SUGGEST_WORD_MAX];
    size_t len = strcspn(text, "=,");
    if (len >= sizeof word)
        return KEYS;
    memcpy(word, text, len);
    word[len] = '\0';
    for (unsigned key = 0; key < KEYS; key++) {
        if (strcmp(word, service_keys[key].name) != 0)
            continue;
        if ((text[len] == '=') == (key != INSECURE))
            return (enum service_key)key;
        *wrong = key == INSECURE ? "gives insecure-skip-verify a value: it stands alone"
                                 : "has a key without a value";
        return KEYS;
    }
    for (unsigned key = 0; key < KEYS; key++) {
        if (gm_suggest_is_slip(word, service_keys[key].name))
            *wrong = "has a misspelt key; there are token-file, ca-file, crl-file, server-name, "
                     "client-cert, client-key, insecure-skip-verify, backend-header and "
                     "health-check-path, -interval, -timeout, -codes, -failure-threshold and "
                     "-success-threshold";
    }
    return KEYS;
}

/* Where a key's value goes; NULL: there is no place left. */
static struct span *place_of(struct service_text *out, enum service_key key)
{
    if (key != HEADER)
        return &out->values[key];
    return out->header_count < GM_AGENT_HEADERS_MAX ? &out->headers[out->header_count++] : NULL;
}

/* The number of a COUNT or DURATION, or negative. */
static int64_t number_of(enum value_kind kind, const struct span *value)
{
    char word[WORD_MAX_BYTES];
    int64_t number = 0, low = 1, high = GM_CONFIG_HEALTH_THRESHOLD_MAX;
    if (value->len >= sizeof word)
        return -EINVAL;
    memcpy(word, value->text, value->len);
    word[value->len] = '\0';
    if (kind == DURATION) {
        low = GM_CONFIG_HEALTH_TIME_MIN;
        high = GM_CONFIG_HEALTH_TIME_MAX;
    }
    int rc = kind == DURATION ? gm_value_duration(word, &number) : gm_value_integer(word, &number);
    return rc < 0 || number < low || number > high ? -EINVAL : number;
}

/* Whether a value can be what its key wants. */
static bool value_good(enum value_kind kind, const struct span *value)
{
    char text[PATH_MAX_BYTES + 2];
    struct header_text header;
    if (kind == FIELD)
        return split_header(value->text, value->len, &header);
    if (kind == DURATION || kind == COUNT)
        return number_of(kind, value) > 0;
    if (kind == TEXT || value->len >= sizeof text)
        return kind == TEXT;
    memcpy(text, value->text, value->len);
    text[value->len] = '\0';
    return (kind == PATH ? gm_agent_check_health_path(text) : gm_agent_check_health_codes(text)) ==
           NULL;
}

/* NULL, or what is wrong with the values. */
static const char *check_values(const struct service_text *text)
{
    for (unsigned key = 0; key < KEYS; key++) {
        const struct span *value = &text->values[key];
        if (value->text == NULL || key == INSECURE)
            continue;
        if (value->len == 0)
            return service_keys[key].empty;
        if (!value_good(service_keys[key].kind, value))
            return service_keys[key].wrong;
    }
    for (size_t i = 0; i < text->header_count; i++) {
        if (!value_good(FIELD, &text->headers[i]))
            return service_keys[HEADER].wrong;
    }
    return NULL;
}

/* NULL, or what is wrong. */
static const char *split_options(struct service_text *out)
{
    const char *wrong = NULL, *begin = out->target;
    size_t *len = &out->target_len;
    for (const char *comma = strchr(begin, ','); comma != NULL; comma = strchr(comma + 1, ',')) {
        enum service_key key = key_at(comma + 1, &wrong);
        if (wrong != NULL)
            return wrong;
        if (key == KEYS)
            continue;
        struct span *place = place_of(out, key);
        if (place == NULL)
            return "has more backend-headers than there is room for (16)";
        if (place->text != NULL)
            return service_keys[key].twice;
        *len = (size_t)(comma - begin);
        begin = comma + 1 + strlen(service_keys[key].name) + (key != INSECURE ? 1 : 0);
        place->text = begin;
        len = &place->len;
    }
    *len = strlen(begin);
    return check_values(out);
}

static const char *split_service(const char *value, struct service_text *out)
{
    const char *equals = strchr(value, '=');
    if (equals == NULL || equals == value || equals[1] == '\0' || equals[1] == ',')
        return "is not of the form NAME=TARGET[,token-file=FILE,...]";
    *out = (struct service_text){.target = equals + 1, .name_len = (size_t)(equals - value)};
    if (memchr(value, '/', out->name_len) != NULL)
        return "has a / in its service name";
    return split_options(out);
}

const char *gm_agent_check_service(const char *value)
{
    struct service_text text;
    const char *wrong = split_service(value, &text);
    return wrong != NULL ? wrong : gm_agent_check_target(text.target);
}

/* ---- Taking ---- */

const char *gm_agent_full_target(struct gm_arena *arena, const char *text, size_t len)
{
    bool complete =
        starts_with(text, "http://") || starts_with(text, "https://") || starts_with(text, "unix:");
    const char *prefix = complete ? "" : "http://";
    size_t prefix_len = strlen(prefix);
    char *target = gm_arena_alloc(arena, prefix_len + len + 1);
    if (target != NULL) {
        memcpy(target, prefix, prefix_len);
        memcpy(target + prefix_len, text, len);
    }
    return target;
}

static const char *value_of(struct gm_arena *arena, const struct service_text *text,
                            enum service_key key, int *rc)
{
    if (text->values[key].text == NULL)
        return NULL;
    const char *copy = gm_arena_text(arena, text->values[key].text, text->values[key].len);
    *rc = copy == NULL ? -ENOMEM : *rc;
    return copy;
}

static int64_t count_of(const struct service_text *text, enum service_key key)
{
    const struct span *value = &text->values[key];
    return value->text == NULL ? 0 : number_of(service_keys[key].kind, value);
}

static int take_header(struct gm_arena *arena, const char *text, size_t len,
                       struct gm_agent_header *out)
{
    struct header_text header;
    if (!split_header(text, len, &header))
        return -ENOMEM;
    const char *value = gm_arena_text(arena, header.value, header.value_len);
    *out = (struct gm_agent_header){
        .name = gm_arena_text(arena, text, header.name_len),
        .value = header.file ? NULL : value,
        .file = header.file ? value : NULL,
    };
    return out->name == NULL || value == NULL ? -ENOMEM : 0;
}

static int take_headers(struct gm_arena *arena, const struct service_text *text,
                        struct gm_agent_service *service)
{
    service->headers = gm_arena_alloc(arena, GM_AGENT_HEADERS_MAX * sizeof *service->headers);
    int rc = service->headers == NULL ? -ENOMEM : 0;
    for (size_t i = 0; rc == 0 && i < text->header_count; i++)
        rc = take_header(arena, text->headers[i].text, text->headers[i].len,
                         &service->headers[service->header_count++]);
    return rc;
}

int gm_agent_take_service(struct gm_arena *arena, const char *item,
                          struct gm_agent_service *service)
{
    struct service_text text;
    if (split_service(item, &text) != NULL)
        return -ENOMEM;
    int rc = 0;
    *service = (struct gm_agent_service){
        .name = gm_arena_text(arena, item, text.name_len),
        .target = gm_agent_full_target(arena, text.target, text.target_len),
        .token_file = value_of(arena, &text, TOKEN_FILE, &rc),
        .tls = {.ca_file = value_of(arena, &text, CA_FILE, &rc),
                .crl_file = value_of(arena, &text, CRL_FILE, &rc),
                .server_name = value_of(arena, &text, SERVER_NAME, &rc),
                .client_cert = value_of(arena, &text, CLIENT_CERT, &rc),
                .client_key = value_of(arena, &text, CLIENT_KEY, &rc),
                .insecure = text.values[INSECURE].text != NULL},
        .health = {.path = value_of(arena, &text, HEALTH_PATH, &rc),
                   .codes_text = value_of(arena, &text, HEALTH_CODES, &rc),
                   .interval_ns = (uint64_t)count_of(&text, HEALTH_INTERVAL),
                   .timeout_ns = (uint64_t)count_of(&text, HEALTH_TIMEOUT),
                   .failure_threshold = count_of(&text, HEALTH_FAILURES),
                   .success_threshold = count_of(&text, HEALTH_SUCCESSES)},
    };
    if (rc == 0)
        rc = take_headers(arena, &text, service);
    return service->name != NULL && service->target != NULL ? rc : -ENOMEM;
}

/* ---- What is said for all ---- */

static void inherit_health(const struct gm_agent_health *all, struct gm_agent_health *own)
{
    own->path = own->path != NULL ? own->path : all->path;
    own->codes_text = own->codes_text != NULL ? own->codes_text : all->codes_text;
    own->interval_ns = own->interval_ns > 0 ? own->interval_ns : all->interval_ns;
    own->timeout_ns = own->timeout_ns > 0 ? own->timeout_ns : all->timeout_ns;
    own->failure_threshold =
        own->failure_threshold > 0 ? own->failure_threshold : all->failure_threshold;
    own->success_threshold =
        own->success_threshold > 0 ? own->success_threshold : all->success_threshold;
    if (own->path != NULL && strcmp(own->path, "off") == 0)
        own->path = NULL;
}

static bool names_header(const struct gm_agent_service *service, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcasecmp(service->headers[i].name, name) == 0)
            return true;
    }
    return false;
}

int gm_agent_inherit(struct gm_arena *arena, const struct gm_option_list *all,
                     const struct gm_agent_health *health, struct gm_agent_service *service)
{
    inherit_health(health, &service->health);
    if (gm_codes_parse(service->health.codes_text, &service->health.codes) < 0)
        return -ENOMEM;
    if (service->headers == NULL)
        service->headers = gm_arena_alloc(arena, GM_AGENT_HEADERS_MAX * sizeof *service->headers);
    size_t own = service->header_count;
    for (size_t i = 0; service->headers != NULL && i < all->count; i++) {
        struct gm_agent_header header;
        if (take_header(arena, all->items[i], strlen(all->items[i]), &header) < 0)
            return -ENOMEM;
        if (names_header(service, own, header.name))
            continue; /* the service's own word counts */
        if (service->header_count == GM_AGENT_HEADERS_MAX)
            return -E2BIG;
        service->headers[service->header_count++] = header;
    }
    return service->headers == NULL ? -ENOMEM : 0;
}
