/* A changed token file: read on the control thread, sent on by every ring. Invariant: what holds a
 * token is wiped before it goes, and nothing of it is ever logged. */
#include "agent/token.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/dialler.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"

/* A token is plain characters: escapes would need more, and no token has any. */
#define NOTE_MAX (GM_AGENT_TOKEN_MAX + 64u)

const char *gm_agent_token_find(const char *text, size_t len, struct gm_ws_text *out)
{
    while (len > 0 && isspace((unsigned char)text[len - 1]))
        len--;
    while (len > 0 && isspace((unsigned char)*text)) {
        text++;
        len--;
    }
    if (len == 0)
        return "the token is empty";
    if (len > GM_AGENT_TOKEN_MAX)
        return "the token is longer than 8 KiB";
    for (size_t i = 0; i < len; i++) {
        if (text[i] <= 0x20 || text[i] >= 0x7f)
            return "the token holds a character that no token has";
    }
    *out = (struct gm_ws_text){text, len};
    return NULL;
}

/* ---- On the rings ---- */

/* What one ring's links are to say. */
struct news {
    struct gm_mail mail;
    struct gm_agent_ring *ctx;
    struct gm_agent_service_info *service;
    size_t len;
    char note[NOTE_MAX];
};

static void tell(const struct news *news)
{
    struct gm_list *links = &news->ctx->links;
    for (struct gm_list *node = links->next; node != links; node = node->next) {
        struct gm_agent_link *link = GM_CONTAINER_OF(node, struct gm_agent_link, node);
        bool up = link->up_ns != 0 && gm_link_is_up(&link->link);
        /* A server of 0.0.x would only count it. */
        if (link->service != news->service || !up || gm_link_is_old(&link->link))
            continue;
        if (gm_link_note(&link->link, news->note, news->len) < 0)
            gm_log_warn("a new token could not be told to the server: the link goes when the old "
                        "one expires",
                        GM_STR("service", link->link.ready.service));
    }
}

static void arrive(struct gm_mail *mail)
{
    struct news *news = GM_CONTAINER_OF(mail, struct news, mail);
    struct gm_dialler *dialler = news->service->dialler;
    tell(news);
    if (gm_dialler_ring(dialler) == gm_ring_index(news->ctx->ring))
        gm_dialler_retry(dialler);
    explicit_bzero(news->note, news->len);
    free(news);
}

/* ---- On the control thread ---- */

/* {"type":"token","token":"…"}. False: it does not fit. */
static bool write_note(struct news *news, struct gm_ws_text token)
{
    struct gm_text out = {.at = news->note, .cap = sizeof news->note};
    (void)gm_text_str(&out, "{\"type\":\"token\",\"token\":");
    (void)gm_text_json(&out, token.p, token.len, GM_AGENT_TOKEN_MAX);
    (void)gm_text_str(&out, "}");
    news->len = out.len;
    return !out.cut;
}

static void spread(const struct gm_agent_token *self, struct gm_ws_text token)
{
    struct gm_agent_shared *shared = self->shared;
    for (uint32_t i = 0; i < gm_rings_count(shared->rings); i++) {
        struct news *news = calloc(1, sizeof *news);
        if (news == NULL)
            return; /* links go when the old one expires, and come back with the new one */
        news->ctx = shared->ring_contexts[i];
        news->service = self->service;
        news->mail.deliver = arrive;
        if (write_note(news, token)) {
            gm_rings_mail(shared->rings, i, &news->mail);
        } else {
            explicit_bzero(news->note, news->len);
            free(news);
        }
    }
}

static const char *read_token(const char *path, char *text, size_t room, struct gm_ws_text *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return gm_error_text(-errno);
    ssize_t len = gm_file_read(fd, text, room);
    (void)close(fd);
    if (len < 0)
        return gm_error_text((int)len);
    if ((size_t)len == room)
        return "the token file is too long";
    return gm_agent_token_find(text, (size_t)len, out);
}

static void file_changed(struct gm_watch *watch)
{
    struct gm_agent_token *self = GM_CONTAINER_OF(watch, struct gm_agent_token, watch);
    const char *path = watch->paths[0];
    char text[GM_CONTROL_FILE_MAX];
    struct gm_ws_text token;
    const char *problem = read_token(path, text, sizeof text, &token);
    if (problem != NULL) {
        gm_log_warn("the changed token file cannot be used: links keep the token before",
                    GM_STR("file", path), GM_ERRTEXT(problem));
    } else {
        gm_log_info("token read again", GM_STR("service", self->service->config->name),
                    GM_STR("file", path));
        spread(self, token);
    }
    explicit_bzero(text, sizeof text);
}

void gm_agent_token_prime(struct gm_agent_shared *shared, struct gm_agent_service_info *service)
{
    struct gm_agent_token *self = &service->token;
    self->shared = shared;
    self->service = service;
    self->watch =
        (struct gm_watch){.paths = {service->config->token_file}, .on_change = file_changed};
    gm_watch_prime(&self->watch);
}

void gm_agent_token_watch(struct gm_agent_service_info *service)
{
    if (service->token.watch.paths[0] != NULL)
        gm_control_watch(service->token.shared->control, &service->token.watch);
}
