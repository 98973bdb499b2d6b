/* The gateway's own answers. Owner: the client's ring. Invariant: whatever text is put into them
 * has been checked or is escaped here. */
#include "server/answer.h"

#include <string.h>

#include "base/text.h"

/* Two quotes of ANSWER_QUOTE_MAX bytes, each escaped to six, and the frame around them. */
#define ANSWER_BODY_MAX 4096u
#define ANSWER_HEAD_MAX 1024u

struct gm_answer gm_answer_for(enum gm_reason_code code)
{
    static const struct {
        enum gm_reason_code reason;
        const char *infra_code, *message;
    } rows[] = {
        {GM_REASON_REFUSED, "AGENT_UNAVAILABLE", NULL},
        {GM_REASON_AGENT_UNAVAILABLE, "AGENT_UNAVAILABLE", NULL},
        {GM_REASON_AGENT_DISCONNECT, "AGENT_DISCONNECT", "Agent disconnected"},
        {GM_REASON_BACKEND_CONNECT, "BACKEND_ERROR", NULL},
        {GM_REASON_BACKEND_PROTOCOL, "BACKEND_ERROR", NULL},
        {GM_REASON_BACKEND_CLOSED, "BACKEND_ERROR", NULL},
        {GM_REASON_BACKEND_TIMEOUT, "TIMEOUT", "Request timeout"},
        {GM_REASON_TIMEOUT, "TIMEOUT", "Request timeout"},
        {GM_REASON_OVERLOAD, "RATE_LIMIT_EXCEEDED", NULL},
        {GM_REASON_RATE_LIMIT, "RATE_LIMIT_EXCEEDED", NULL},
        {GM_REASON_AGENT_LIMIT, NULL, "Agent concurrent request limit reached"},
        {GM_REASON_PROTOCOL_ERROR, "BACKEND_ERROR", NULL},
        {GM_REASON_FLOW_CONTROL, "BACKEND_ERROR", NULL},
        {GM_REASON_DRAINING, "AGENT_UNAVAILABLE", NULL},
    };
    const struct gm_reason *reason = gm_reason_get((uint16_t)code);
    struct gm_answer answer = {.status = reason->status, .reason = code};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].reason != code)
            continue;
        answer.infra_code = rows[i].infra_code;
        answer.message = rows[i].message;
    }
    return answer;
}

bool gm_answer_wants_json(const struct gm_http_request *head)
{
    unsigned from = 0;
    const struct gm_http_field *field;
    while ((field = gm_http_fields_find(&head->fields, GM_HTTP_ID_ACCEPT, &from)) != NULL) {
        if (memmem(field->value, field->value_len, "application/json", 16) != NULL)
            return true;
        if (memmem(field->value, field->value_len, "text/event-stream", 17) != NULL)
            return true;
    }
    return false;
}

/* The longest message and id that a body quotes: with all of their bytes escaped they still fit. */
#define ANSWER_QUOTE_MAX 256u

static void body_json(struct gm_text *out, const struct gm_answer *answer, const char *message)
{
    const char *id = answer->request_id.p != NULL ? answer->request_id.p : "";
    gm_text_str(out, "{\"error\":{\"message\":");
    gm_text_json(out, message, strlen(message), ANSWER_QUOTE_MAX);
    gm_text_str(out, ",\"type\":\"gimlet_error\",\"param\":null,\"code\":\"");
    gm_text_str(out, gm_reason_get((uint16_t)answer->reason)->name);
    gm_text_str(out, "\"},\"request_id\":");
    gm_text_json(out, id, answer->request_id.len, ANSWER_QUOTE_MAX);
    gm_text_str(out, "}\n");
}

static size_t answer_body(char *bytes, const struct gm_answer *answer, const char *message)
{
    struct gm_text out = {.at = bytes, .cap = ANSWER_BODY_MAX};
    if (answer->json) {
        body_json(&out, answer, message);
        return out.len;
    }
    if (answer->infra_code != NULL) {
        gm_text_str(&out, "Gimlet Infrastructure Error\n\nError Code: ");
        gm_text_str(&out, answer->infra_code);
        gm_text_str(&out, "\nMessage: ");
    }
    gm_text_str(&out, message);
    gm_text_str(&out, "\n");
    if (answer->infra_code == NULL)
        return out.len;
    gm_text_str(&out, "\nThe tunnel made this answer; the service behind it did not.\n"
                      "Its X-Request-Id names the request");
    if (answer->request_id.len > 0) {
        gm_text_str(&out, ": ");
        gm_text_put(&out, answer->request_id.p, answer->request_id.len);
    }
    gm_text_str(&out, "\n");
    return out.len;
}

static void answer_fields(struct gm_http_out *out, struct gm_server_ring *ctx,
                          const struct gm_answer *answer)
{
    gm_http_write_field(out, GM_HTTP_LIT("Date"),
                        (struct gm_http_span){gm_server_date(ctx), GM_HTTP_DATE_LEN});
    if (answer->request_id.len > 0)
        gm_http_write_field(out, GM_HTTP_LIT("X-Request-Id"), answer->request_id);
    if (answer->reason != GM_REASON_NONE) {
        const char *name = gm_reason_get((uint16_t)answer->reason)->name;
        gm_http_write_field(out, GM_HTTP_LIT("X-Gimlet-Error"),
                            (struct gm_http_span){name, strlen(name)});
        gm_http_write_field(out, GM_HTTP_LIT("X-Content-Type-Options"), GM_HTTP_LIT("nosniff"));
    }
    if (answer->extra_field != NULL)
        gm_http_write_raw(out,
                          (struct gm_http_span){answer->extra_field, strlen(answer->extra_field)});
    if (answer->retry_after_s > 0)
        gm_http_write_field_u64(out, GM_HTTP_LIT("Retry-After"), answer->retry_after_s);
    if (answer->close)
        gm_http_write_field(out, GM_HTTP_LIT("Connection"), GM_HTTP_LIT("close"));
    else if (answer->http10)
        gm_http_write_field(out, GM_HTTP_LIT("Connection"), GM_HTTP_LIT("keep-alive"));
}

size_t gm_answer_write(struct gm_server_ring *ctx, struct gm_conn *conn,
                       const struct gm_answer *answer)
{
    char text[ANSWER_BODY_MAX], head[ANSWER_HEAD_MAX];
    const void *body = answer->body;
    size_t body_len = answer->body_len;
    const char *type = answer->content_type;
    if (type == NULL) {
        const char *message = answer->message != NULL
                                  ? answer->message
                                  : gm_reason_get((uint16_t)answer->reason)->text;
        body = text;
        body_len = answer_body(text, answer, message);
        type = answer->json ? "application/json" : "text/plain; charset=utf-8";
    }
    struct gm_http_out out;
    gm_http_out_init(&out, head, sizeof head);
    gm_http_write_status_line(&out, 1, answer->status, (struct gm_http_span){0});
    gm_http_write_field(&out, GM_HTTP_LIT("Content-Type"),
                        (struct gm_http_span){type, strlen(type)});
    gm_http_write_field_u64(&out, GM_HTTP_LIT("Content-Length"), body_len);
    answer_fields(&out, ctx, answer);
    gm_http_write_end(&out);
    GM_ASSERT(out.error == 0);
    gm_conn_write(conn, head, out.len);
    if (answer->document != NULL && answer->head_only)
        gm_buf_put(answer->document);
    else if (answer->document != NULL)
        gm_conn_push(conn,
                     (gm_slice){answer->document->data, (uint32_t)body_len, answer->document});
    else if (!answer->head_only)
        gm_conn_write(conn, body, body_len);
    if (answer->reason != GM_REASON_NONE)
        gm_counter_add(GM_COUNTER_REQUESTS_FAILED, 1);
    return answer->head_only ? 0 : body_len;
}
