/* Sets of fields. Owner: any thread; a set is constant once it is made. */
#include "client/fields.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

static bool is_token(struct gm_http_span text)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < text.len; i++) {
        char c = text.p[i];
        bool good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                    (c != '\0' && strchr(others, c) != NULL);
        if (!good)
            return false;
    }
    return text.len > 0;
}

const char *gm_client_field_name_wrong(struct gm_http_span name)
{
    if (!is_token(name))
        return "is no name of a field";
    switch (gm_http_field_lookup(name.p, name.len)) {
    case GM_HTTP_ID_CONNECTION:
    case GM_HTTP_ID_TE:
    case GM_HTTP_ID_UPGRADE:
    case GM_HTTP_ID_PROXY_AUTHORIZATION:
    case GM_HTTP_ID_PROXY_AUTHENTICATE:
    case GM_HTTP_ID_PROXY_CONNECTION:
    case GM_HTTP_ID_KEEP_ALIVE:
        return "is about one connection and not the request's";
    case GM_HTTP_ID_CONTENT_LENGTH:
    case GM_HTTP_ID_TRANSFER_ENCODING:
    case GM_HTTP_ID_TRAILER:
    case GM_HTTP_ID_EXPECT:
        return "says how the request is framed, which the agent does itself";
    default:
        return NULL;
    }
}

const char *gm_client_field_value_wrong(struct gm_http_span value)
{
    if (value.len == 0)
        return "is empty";
    if (value.len > GM_CLIENT_FIELD_VALUE_MAX)
        return "is longer than 8 KiB";
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.p[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return "holds a line end or another control byte";
    }
    return NULL;
}

static char *put(char *at, const void *bytes, size_t len)
{
    memcpy(at, bytes, len);
    return at + len;
}

struct gm_client_fields *gm_client_fields_new(const struct gm_client_field *list, uint32_t count)
{
    GM_ASSERT(count > 0 && count <= GM_CLIENT_FIELDS_MAX);
    size_t len = 0;
    for (uint32_t i = 0; i < count; i++)
        len += list[i].name.len + list[i].value.len + 4;
    struct gm_client_fields *fields = malloc(sizeof *fields + len);
    if (fields == NULL)
        return NULL;
    *fields = (struct gm_client_fields){.references = 1, .count = count, .len = len};
    char *at = fields->text;
    for (uint32_t i = 0; i < count; i++) {
        GM_ASSERT(gm_client_field_name_wrong(list[i].name) == NULL &&
                  gm_client_field_value_wrong(list[i].value) == NULL);
        fields->names[i] = (struct gm_http_span){at, list[i].name.len};
        at = put(at, list[i].name.p, list[i].name.len);
        at = put(at, ": ", 2);
        at = put(at, list[i].value.p, list[i].value.len);
        at = put(at, "\r\n", 2);
        if (gm_http_field_lookup(list[i].name.p, list[i].name.len) == GM_HTTP_ID_HOST)
            fields->host = true;
    }
    return fields;
}

struct gm_client_fields *gm_client_fields_ref(struct gm_client_fields *fields)
{
    if (fields != NULL)
        atomic_fetch_add_explicit(&fields->references, 1, memory_order_acq_rel);
    return fields;
}

void gm_client_fields_put(struct gm_client_fields *fields)
{
    if (fields == NULL ||
        atomic_fetch_sub_explicit(&fields->references, 1, memory_order_acq_rel) != 1)
        return;
    explicit_bzero(fields->text, fields->len);
    free(fields);
}

bool gm_client_fields_name(const struct gm_client_fields *fields, struct gm_http_span name)
{
    for (uint32_t i = 0; i < fields->count; i++) {
        if (gm_http_span_equal_nocase(fields->names[i], name))
            return true;
    }
    return false;
}
