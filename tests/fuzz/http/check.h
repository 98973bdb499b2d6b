/*
 * What the http fuzz targets share: an assertion that stays on, and checks of what the parser
 * promises about every head that it accepts, written without the parser's own tables.
 */
#ifndef GM_FUZZ_HTTP_CHECK_H
#define GM_FUZZ_HTTP_CHECK_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "http/parser.h"

static inline void check_inside(struct gm_http_span s, const char *buf, size_t len)
{
    GM_ASSERT(s.p >= buf && s.p + s.len <= buf + len);
}

static inline void check_fields(const struct gm_http_fields *fields, const char *buf, size_t len)
{
    GM_ASSERT(fields->count <= fields->max);
    for (unsigned i = 0; i < fields->count; i++) {
        struct gm_http_span name = gm_http_field_name(&fields->list[i]);
        struct gm_http_span value = gm_http_field_value(&fields->list[i]);
        check_inside(name, buf, len);
        check_inside(value, buf, len);
        GM_ASSERT(name.len > 0 && fields->list[i].id == gm_http_field_lookup(name.p, name.len));
        for (size_t j = 0; j < name.len; j++)
            GM_ASSERT(name.p[j] > ' ' && name.p[j] < 0x7f &&
                      strchr("()<>@,;:\\\"/[]?={}", name.p[j]) == NULL);
        for (size_t j = 0; j < value.len; j++)
            GM_ASSERT(value.p[j] == '\t' ||
                      ((unsigned char)value.p[j] >= ' ' && value.p[j] != 0x7f));
        GM_ASSERT(value.len == 0 || (value.p[0] != ' ' && value.p[value.len - 1] != ' '));
        GM_ASSERT(gm_http_fields_has(fields, (enum gm_http_field_id)fields->list[i].id));
    }
}

/* An exactly sized copy, so that a read past the end is seen. The caller frees it. */
static inline char *copy_of(const uint8_t *data, size_t len)
{
    char *copy = malloc(len + (len == 0));
    GM_ASSERT(copy != NULL);
    if (len > 0)
        memcpy(copy, data, len);
    return copy;
}

#endif
