/* Sections and lines of AWS's shared files. Pure. */
#include "client/aws_profile.h"

#include <string.h>
#include <strings.h>

struct span {
    const char *p;
    size_t len;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct span trim(struct span span)
{
    while (span.len > 0 && is_blank(span.p[0])) {
        span.p++;
        span.len--;
    }
    while (span.len > 0 && is_blank(span.p[span.len - 1]))
        span.len--;
    return span;
}

/* The line at *at, without its end; moves behind it. False: no more. */
static bool next_line(const char **at, const char *end, struct span *out)
{
    if (*at >= end)
        return false;
    const char *stop = memchr(*at, '\n', (size_t)(end - *at));
    if (stop == NULL)
        stop = end;
    *out = (struct span){*at, (size_t)(stop - *at)};
    *at = stop < end ? stop + 1 : end;
    return true;
}

/* What stands between the brackets of a section's line; false for any other line. */
static bool header_of(struct span line, struct span *out)
{
    if (line.len < 2 || line.p[0] != '[')
        return false;
    const char *close = memchr(line.p, ']', line.len);
    if (close == NULL)
        return false;
    *out = trim((struct span){line.p + 1, (size_t)(close - line.p) - 1});
    return true;
}

static bool is_text(struct span span, const char *text)
{
    return span.len == strlen(text) && memcmp(span.p, text, span.len) == 0;
}

/* `profile NAME`, NAME perhaps in quotes: what is meant. */
static struct span without_prefix(struct span header)
{
    static const char word[] = "profile";
    size_t len = sizeof word - 1;
    if (header.len <= len || memcmp(header.p, word, len) != 0 || !is_blank(header.p[len]))
        return header;
    struct span name = trim((struct span){header.p + len, header.len - len});
    bool quoted = name.len >= 2 && (name.p[0] == '"' || name.p[0] == '\'') &&
                  name.p[name.len - 1] == name.p[0];
    return quoted ? (struct span){name.p + 1, name.len - 2} : name;
}

static bool names(struct span header, const char *name, bool prefixed)
{
    if (!prefixed)
        return is_text(header, name);
    struct span inner = without_prefix(header);
    bool bare = inner.p == header.p;
    return is_text(inner, name) && (!bare || strcmp(name, "default") == 0);
}

bool gm_aws_section_find(const char *text, const char *name, bool prefixed,
                         struct gm_aws_section *out)
{
    const char *at = text, *end = text + strlen(text), *begin = NULL, *start = text;
    struct span line, header;
    for (; next_line(&at, end, &line); start = at) {
        if (!header_of(line, &header))
            continue;
        if (begin != NULL)
            break;
        if (names(header, name, prefixed))
            begin = at;
    }
    if (begin == NULL)
        return false;
    *out = (struct gm_aws_section){begin, (size_t)((start > begin ? start : begin) - begin)};
    return true;
}

int gm_aws_section_value(const struct gm_aws_section *section, const char *key, char *out,
                         size_t room)
{
    const char *at = section->p, *end = section->p + section->len;
    struct span line;
    out[0] = '\0';
    while (next_line(&at, end, &line)) {
        if (line.len == 0 || is_blank(line.p[0]) || line.p[0] == '#' || line.p[0] == ';')
            continue;
        const char *equals = memchr(line.p, '=', line.len);
        if (equals == NULL)
            continue;
        struct span name = trim((struct span){line.p, (size_t)(equals - line.p)});
        struct span value =
            trim((struct span){equals + 1, (size_t)(line.p + line.len - equals) - 1});
        if (name.len != strlen(key) || strncasecmp(name.p, key, name.len) != 0)
            continue;
        if (value.len >= room)
            return -1;
        memcpy(out, value.p, value.len);
        out[value.len] = '\0';
        return (int)value.len;
    }
    return 0;
}
