/* Sets of fields, made and handed to the rings. Invariant: a ring's own reference is touched by
 * that ring alone; a new set reaches it through its slot's `next`, which holds one reference or
 * nothing.
 */
#include "agent/headers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/health.h"
#include "base/file.h"
#include "base/log.h"
#include "control/process.h"

/* A file holds its value and the line end behind it. */
#define FILE_BYTES_MAX (GM_CLIENT_FIELD_VALUE_MAX + 64u)

static struct gm_http_span span_of(const char *text)
{
    return (struct gm_http_span){text, strlen(text)};
}

/* ---- Making a set ---- */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The file's text without the white space around it, in `room`. */
static int read_value(const char *path, char room[FILE_BYTES_MAX], struct gm_http_span *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t len = gm_file_read(fd, room, FILE_BYTES_MAX);
    (void)close(fd);
    if (len < 0)
        return (int)len;
    const char *from = room, *to = room + len;
    while (from < to && is_space(*from))
        from++;
    while (to > from && is_space(to[-1]))
        to--;
    *out = (struct gm_http_span){from, (size_t)(to - from)};
    return 0;
}

/* The texts that a set is made of, while it is made; wiped afterwards. */
struct making {
    struct gm_client_field fields[GM_AGENT_HEADERS_MAX];
    char room[GM_AGENT_HEADERS_MAX][FILE_BYTES_MAX];
};

static int take_field(struct making *making, const struct gm_agent_header *header, size_t index,
                      char why[GM_AGENT_HEADERS_WHY_BYTES])
{
    struct gm_client_field *field = &making->fields[index];
    field->name = span_of(header->name);
    const char *wrong = gm_client_field_name_wrong(field->name);
    int rc = 0;
    if (wrong == NULL && header->file != NULL) {
        rc = read_value(header->file, making->room[index], &field->value);
        if (rc < 0) {
            (void)snprintf(why, GM_AGENT_HEADERS_WHY_BYTES, "%.128s: cannot read %.256s: %s",
                           header->name, header->file, gm_error_text(rc));
            return rc;
        }
    } else if (wrong == NULL) {
        field->value = span_of(header->value);
    }
    if (wrong != NULL) {
        (void)snprintf(why, GM_AGENT_HEADERS_WHY_BYTES, "%.128s %s", header->name, wrong);
        return -GM_E_CONFIG;
    }
    wrong = gm_client_field_value_wrong(field->value);
    if (wrong == NULL)
        return 0;
    (void)snprintf(why, GM_AGENT_HEADERS_WHY_BYTES, "%.128s: the value%s%.256s %s", header->name,
                   header->file == NULL ? "" : " in ", header->file == NULL ? "" : header->file,
                   wrong);
    return -GM_E_CONFIG;
}

/* A set of what is configured; NULL in *out when that is nothing. */
static int make(const struct gm_agent_service *config, struct gm_client_fields **out,
                char why[GM_AGENT_HEADERS_WHY_BYTES])
{
    *out = NULL;
    if (config->header_count == 0)
        return 0;
    struct making *making = calloc(1, sizeof *making);
    (void)snprintf(why, GM_AGENT_HEADERS_WHY_BYTES, "out of memory");
    if (making == NULL)
        return -GM_E_NOMEM;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < config->header_count; i++)
        rc = take_field(making, &config->headers[i], i, why);
    if (rc == 0) {
        *out = gm_client_fields_new(making->fields, (uint32_t)config->header_count);
        rc = *out == NULL ? -GM_E_NOMEM : 0;
    }
    explicit_bzero(making, sizeof *making);
    free(making);
    return rc;
}

/* ---- Rings ---- */

/* On each ring: what has been laid down is taken up. */
static void take_up(struct gm_ring *ring)
{
    struct gm_agent_ring *ctx = gm_ring_user(ring);
    for (uint32_t i = 0; i < ctx->shared->service_count; i++) {
        struct gm_agent_fields_slot *slot = &ctx->fields[i];
        struct gm_client_fields *next =
            atomic_exchange_explicit(&slot->next, NULL, memory_order_acq_rel);
        if (next == NULL)
            continue;
        ctx->pools[i].config.fields = next;
        gm_agent_health_fields(ctx, &ctx->shared->services[i], next);
        gm_client_fields_put(slot->now);
        slot->now = next;
    }
}

int gm_agent_headers_ring_init(struct gm_agent_ring *ctx)
{
    struct gm_agent_shared *shared = ctx->shared;
    ctx->fields = calloc(shared->service_count, sizeof *ctx->fields);
    if (ctx->fields == NULL)
        return -GM_E_NOMEM;
    for (uint32_t i = 0; i < shared->service_count; i++)
        ctx->fields[i].now = gm_client_fields_ref(shared->services[i].headers.newest);
    return 0;
}

void gm_agent_headers_ring_fini(struct gm_agent_ring *ctx)
{
    for (uint32_t i = 0; ctx->fields != NULL && i < ctx->shared->service_count; i++) {
        gm_client_fields_put(ctx->fields[i].now);
        gm_client_fields_put(
            atomic_exchange_explicit(&ctx->fields[i].next, NULL, memory_order_acq_rel));
    }
    free(ctx->fields);
    ctx->fields = NULL;
}

/* ---- A change of files ---- */

static void spread(struct gm_agent_headers *headers)
{
    struct gm_agent_shared *shared = headers->shared;
    size_t index = (size_t)(headers->config - shared->config->services);
    for (uint32_t i = 0; i < gm_rings_count(shared->rings); i++) {
        struct gm_client_fields *missed =
            atomic_exchange_explicit(&shared->ring_contexts[i]->fields[index].next,
                                     gm_client_fields_ref(headers->newest), memory_order_acq_rel);
        gm_client_fields_put(missed);
    }
    gm_process_tell_all(shared->rings, take_up);
}

/* On the control thread. */
static void files_changed(struct gm_watch *watch)
{
    struct gm_agent_headers *headers =
        GM_CONTAINER_OF(watch, struct gm_agent_headers_files, watch)->headers;
    const char *name = headers->config->name != NULL ? headers->config->name : "";
    struct gm_client_fields *fields;
    char why[GM_AGENT_HEADERS_WHY_BYTES];
    if (make(headers->config, &fields, why) < 0) {
        gm_log_error("a changed backend header cannot be used: what was read before stays",
                     GM_STR("service", name), GM_ERRTEXT(why));
        return;
    }
    gm_client_fields_put(headers->newest);
    headers->newest = fields;
    spread(headers);
    gm_log_info("backend headers read again", GM_STR("service", name));
}

/* ---- Life ---- */

static void prepare_watches(struct gm_agent_headers *headers)
{
    const struct gm_agent_service *config = headers->config;
    uint32_t files = 0;
    for (size_t i = 0; i < config->header_count; i++) {
        if (config->headers[i].file == NULL)
            continue;
        struct gm_agent_headers_files *watch = &headers->watches[files / GM_WATCH_PATHS_MAX];
        watch->headers = headers;
        watch->watch.on_change = files_changed;
        watch->watch.paths[files % GM_WATCH_PATHS_MAX] = config->headers[i].file;
        files++;
    }
    headers->watch_count = (files + GM_WATCH_PATHS_MAX - 1) / GM_WATCH_PATHS_MAX;
    for (uint32_t i = 0; i < headers->watch_count; i++)
        gm_watch_prime(&headers->watches[i].watch);
}

int gm_agent_headers_load(struct gm_agent_headers *headers, struct gm_agent_shared *shared,
                          const struct gm_agent_service *config,
                          char why[GM_AGENT_HEADERS_WHY_BYTES])
{
    headers->shared = shared;
    headers->config = config;
    prepare_watches(headers);
    return make(config, &headers->newest, why);
}

void gm_agent_headers_watch(struct gm_agent_headers *headers)
{
    for (uint32_t i = 0; i < headers->watch_count; i++)
        gm_control_watch(headers->shared->control, &headers->watches[i].watch);
}

void gm_agent_headers_fini(struct gm_agent_headers *headers)
{
    gm_client_fields_put(headers->newest);
    headers->newest = NULL;
}
