/* Lines of the access log. Owner: the client's ring; the file is the writing thread's.
 *
 * Invariant: what a client has chosen (path, method, request id) stands in a line as JSON text of
 * bounded length, behind all that it has not. */
#include "server/access.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "auth/principal.h"
#include "base/lines.h"
#include "base/log.h"
#include "base/pages.h"
#include "base/text.h"

/* A line with every name at its longest; and 8 MiB of lines, which the writer empties every 10 ms.
 */
#define ACCESS_RECORD_BYTES 2048u
#define ACCESS_RECORDS      4096u
#define ACCESS_BYTES        ((size_t)ACCESS_RECORD_BYTES * ACCESS_RECORDS)
#define ACCESS_FILE_MODE    0640

struct gm_access_log {
    struct gm_lines lines;
    const char *path; /* NULL: standard output */
    bool query;
};

/* ---- The file ---- */

/* O_NONBLOCK: a pipe without a reader is refused at once, and never waited for in write. */
static int file_open(const char *path)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, ACCESS_FILE_MODE);
    return fd < 0 ? -errno : fd;
}

/* Somebody has moved the file away, or removed it: the next lines go where its name is. */
static void file_look(struct gm_lines *lines)
{
    struct gm_access_log *log = GM_CONTAINER_OF(lines, struct gm_access_log, lines);
    struct stat named, held;
    if (fstat(lines->fd, &held) < 0 || (stat(log->path, &named) == 0 &&
                                        named.st_ino == held.st_ino && named.st_dev == held.st_dev))
        return;
    int fd = file_open(log->path);
    if (fd < 0) {
        gm_log_warn("the access log cannot be opened again", GM_STR("file", log->path),
                    GM_ERRNO(fd));
        return;
    }
    (void)close(lines->fd);
    lines->fd = fd;
}

static bool file_lost(struct gm_lines *lines, uint64_t lost)
{
    (void)lines;
    gm_log_warn("lines of the access log were dropped: it is written too slowly, or not at all",
                GM_UINT("lines", lost));
    return true;
}

int gm_access_open(const struct gm_server_config *config, struct gm_access_log **out)
{
    const char *path = config->access_log;
    if (path == NULL)
        return 0;
    bool standard = strcmp(path, "-") == 0;
    struct gm_access_log *log = aligned_alloc(alignof(struct gm_access_log), sizeof *log);
    void *records = gm_pages_map(ACCESS_BYTES);
    int fd = standard ? STDOUT_FILENO : file_open(path), rc = fd < 0 ? fd : 0;
    if (log == NULL || records == NULL)
        rc = -GM_E_NOMEM;
    if (rc == 0) {
        memset(log, 0, sizeof *log);
        log->path = standard ? NULL : path;
        log->query = config->access_log_query;
        log->lines = (struct gm_lines){.records = records,
                                       .count = ACCESS_RECORDS,
                                       .record_bytes = ACCESS_RECORD_BYTES,
                                       .fd = fd,
                                       .report = file_lost,
                                       .look = standard ? NULL : file_look};
        rc = gm_lines_start(&log->lines, "gimlet-access");
    }
    if (rc == 0) {
        *out = log;
        return 0;
    }
    gm_log_fatal("cannot open the access log", GM_STR("file", path), GM_ERRNO(rc));
    free(log);
    gm_pages_unmap(records, ACCESS_BYTES);
    if (fd >= 0 && !standard)
        (void)close(fd);
    return rc;
}

void gm_access_close(struct gm_access_log *log)
{
    if (log == NULL)
        return;
    gm_lines_stop(&log->lines);
    if (log->path != NULL)
        (void)close(log->lines.fd);
    gm_pages_unmap(log->lines.records, ACCESS_BYTES);
    free(log);
}

/* ---- Slots ---- */

#define ACCESS_NOTES_BYTES (sizeof(struct gm_access_note) * GM_SERVER_EXCHANGES_MAX)

int gm_access_ring_init(struct gm_server_ring *ctx)
{
    if (ctx->shared->access == NULL)
        return 0;
    ctx->access_notes = gm_pages_map(ACCESS_NOTES_BYTES);
    return ctx->access_notes == NULL ? -GM_E_NOMEM : 0;
}

void gm_access_ring_fini(struct gm_server_ring *ctx)
{
    gm_pages_unmap(ctx->access_notes, ACCESS_NOTES_BYTES);
    ctx->access_notes = NULL;
}

/* ---- Lines ---- */

/* All that a line says. */
struct entry {
    struct gm_http_span request_id, subject, service, agent, method, path;
    uint64_t bytes_in, bytes_out, took_ns, first_byte_ns; /* the last: 0 when there was none */
    const char *reason;
    unsigned status;
};

/* The time of the day to the millisecond, as the log writes it to the second. */
static void put_time(struct gm_text *line)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    gm_text_str(line, "{\"time\":\"");
    (void)gm_log_put_time(line, now.tv_sec);
    unsigned ms = (unsigned)(now.tv_nsec / 1000000);
    char tail[] = {
        '.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), 'Z', '"'};
    line->len--; /* its Z */
    gm_text_put(line, tail, sizeof tail);
}

static void put_key(struct gm_text *line, const char *key)
{
    gm_text_str(line, ",\"");
    gm_text_str(line, key);
    gm_text_str(line, "\":");
}

static void put_number(struct gm_text *line, const char *key, uint64_t n)
{
    put_key(line, key);
    gm_text_unsigned(line, n);
}

/* Milliseconds with three decimals. */
static void put_ms(struct gm_text *line, const char *key, uint64_t ns)
{
    unsigned us = (unsigned)(ns / 1000 % 1000);
    char decimals[] = {'.', (char)('0' + us / 100), (char)('0' + us / 10 % 10),
                       (char)('0' + us % 10)};
    put_number(line, key, ns / 1000000);
    gm_text_put(line, decimals, sizeof decimals);
}

static void put_text(struct gm_text *line, const char *key, struct gm_http_span text)
{
    put_key(line, key);
    (void)gm_text_json(line, text.len == 0 ? "" : text.p, text.len, GM_ACCESS_PATH_MAX);
}

/* What is ours comes first and always fits; names of up to 255 bytes are next, and shorten the path
 * when all of them are escaped. */
static size_t format(const struct entry *entry, const char *client, char *text)
{
    struct gm_text line = {.at = text, .cap = GM_LINES_TEXT_MAX(ACCESS_RECORD_BYTES) - 2};
    put_time(&line);
    put_number(&line, "status", entry->status);
    put_number(&line, "bytesIn", entry->bytes_in);
    put_number(&line, "bytesOut", entry->bytes_out);
    put_ms(&line, "durationMs", entry->took_ns);
    if (entry->first_byte_ns > 0)
        put_ms(&line, "firstByteMs", entry->first_byte_ns);
    put_text(&line, "reason", (struct gm_http_span){entry->reason, strlen(entry->reason)});
    put_text(&line, "client", (struct gm_http_span){client, strlen(client)});
    put_text(&line, "requestID", entry->request_id);
    put_text(&line, "clientID", entry->subject);
    put_text(&line, "service", entry->service);
    put_text(&line, "agentID", entry->agent);
    put_text(&line, "method", entry->method);
    put_text(&line, "path", entry->path);
    line.cap = GM_LINES_TEXT_MAX(ACCESS_RECORD_BYTES);
    gm_text_put(&line, "}\n", 2);
    return line.len;
}

static void say(struct gm_client *client, const struct entry *entry)
{
    struct gm_lines *lines = &client->ctx->shared->access->lines;
    uint64_t position;
    struct gm_line *line = gm_lines_claim(lines, &position);
    if (line == NULL) {
        gm_lines_lose(lines, 1);
        gm_counter_add(GM_COUNTER_ACCESS_LINES_DROPPED, 1);
        return;
    }
    char from[INET6_ADDRSTRLEN];
    gm_peer_learn(&client->peer, &client->conn, client->ctx->shared->config);
    (void)gm_peer_text(&client->peer, from);
    gm_lines_publish(lines, position, (uint32_t)format(entry, from, line->text));
}

static struct gm_http_span head_path(const struct gm_server_ring *ctx,
                                     const struct gm_http_request *head)
{
    struct gm_http_span path = head->form == GM_HTTP_FORM_ASTERISK ? GM_HTTP_LIT("*") : head->path;
    if (ctx->shared->access->query && head->form != GM_HTTP_FORM_ASTERISK)
        path.len += head->query.len; /* it stands behind the path */
    return path;
}

void gm_access_began(struct gm_exchange *exchange, const struct gm_http_request *head)
{
    struct gm_server_ring *ctx = exchange->ctx;
    if (ctx->access_notes == NULL)
        return;
    struct gm_access_note *note = &ctx->access_notes[exchange->index];
    struct gm_http_span path = head_path(ctx, head);
    note->path_len = (uint16_t)(path.len < sizeof note->path ? path.len : sizeof note->path);
    note->method_len =
        (uint8_t)(head->method.len < sizeof note->method ? head->method.len : sizeof note->method);
    memcpy(note->path, path.p, note->path_len);
    memcpy(note->method, head->method.p, note->method_len);
}

void gm_access_ended(const struct gm_exchange *exchange)
{
    struct gm_server_ring *ctx = exchange->ctx;
    /* Not for one that ends before it has begun: whoever refuses it says so. */
    if (ctx->access_notes == NULL || (exchange->status == 0 && exchange->reason == GM_REASON_NONE))
        return;
    const struct gm_access_note *note = &ctx->access_notes[exchange->index];
    const struct gm_reason *reason = gm_reason_get(exchange->reason);
    const char *agent = exchange->card == NULL ? "" : exchange->card->subject;
    say(exchange->client,
        &(struct entry){
            .request_id = {exchange->request_id, exchange->request_id_len},
            .subject = {exchange->subject, exchange->subject_len},
            .service = {exchange->service, exchange->service_len},
            .agent = {agent, strlen(agent)},
            .method = {note->method, note->method_len},
            .path = {note->path, note->path_len},
            .bytes_in = exchange->bytes_in,
            .bytes_out = exchange->bytes_out,
            .took_ns = gm_ring_now_ns(ctx->ring) - exchange->started_ns,
            .first_byte_ns =
                exchange->first_byte_ns == 0 ? 0 : exchange->first_byte_ns - exchange->started_ns,
            .reason = exchange->reason == GM_REASON_NONE ? "" : reason->name,
            .status = exchange->status != 0 ? exchange->status : reason->status,
        });
}

void gm_access_answered(struct gm_client *client, const struct gm_http_request *head,
                        const struct gm_answer *answer, size_t bytes)
{
    const struct gm_server_ring *ctx = client->ctx;
    if (ctx->access_notes == NULL || client->face != GM_FACE_PUBLIC)
        return;
    struct entry entry = {.request_id = answer->request_id,
                          .service = answer->service,
                          .bytes_out = bytes,
                          .reason = answer->reason == GM_REASON_NONE
                                        ? ""
                                        : gm_reason_get((uint16_t)answer->reason)->name,
                          .status = answer->status};
    if (answer->who != NULL)
        entry.subject.p = gm_principal_subject(answer->who, &entry.subject.len);
    if (head != NULL) {
        entry.method = head->method;
        entry.path = head_path(ctx, head);
    }
    if (entry.method.len > GM_ACCESS_METHOD_MAX)
        entry.method.len = GM_ACCESS_METHOD_MAX;
    say(client, &entry);
}
