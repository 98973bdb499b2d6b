/*
 * Reads one HTTP/1.1 message: reader.h. The whole machine is the switch in gm_reader_take.
 */
#include "reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void gm_reader_begin(struct gm_reader *reader)
{
    memset(reader, 0, offsetof(struct gm_reader, head));
}

const char *gm_reader_field(const struct gm_reader *reader, const char *name)
{
    size_t len = strlen(name);
    for (const char *line = strstr(reader->head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, len) == 0 && line[2 + len] == ':') {
            return line + 2 + len + 1 + strspn(line + 2 + len + 1, " ");
        }
    }
    return NULL;
}

uint32_t gm_reader_status(const struct gm_reader *reader)
{
    bool answer = strncmp(reader->head, "HTTP/1.1 ", 9) == 0;
    return answer ? (uint32_t)strtoul(reader->head + 9, NULL, 10) : 0u;
}

/* The head is complete: what follows it? */
static void end_head(struct gm_reader *reader)
{
    const char *coding = gm_reader_field(reader, "Transfer-Encoding");
    const char *length = gm_reader_field(reader, "Content-Length");
    reader->chunked = coding && strncasecmp(coding, "chunked", 7) == 0;
    reader->left = length ? strtoull(length, NULL, 10) : 0u;
    if (reader->chunked) {
        reader->left = 0;
        reader->state = GM_READER_CHUNK_SIZE;
    } else {
        reader->state = reader->left > 0 ? GM_READER_BODY : GM_READER_DONE;
    }
}

static ssize_t take_head(struct gm_reader *reader, struct gm_span input)
{
    for (size_t at = 0; at < input.len; at++) {
        if (reader->head_len + 1u >= GM_READER_HEAD_MAX) {
            return -EBADMSG;
        }
        reader->head[reader->head_len++] = input.bytes[at];
        bool ends = input.bytes[at] == '\n' && reader->head_len >= 4u &&
                    memcmp(reader->head + reader->head_len - 4u, "\r\n\r\n", 4) == 0;
        if (ends) {
            reader->head[reader->head_len] = '\0';
            end_head(reader);
            return (ssize_t)at + 1;
        }
    }
    return (ssize_t)input.len;
}

static ssize_t take_body(struct gm_reader *reader, struct gm_span input, struct gm_span *body)
{
    size_t len = input.len < reader->left ? input.len : (size_t)reader->left;
    *body = (struct gm_span){input.bytes, len};
    reader->left -= len;
    reader->body_bytes += len;
    if (reader->left == 0) {
        reader->state = reader->chunked ? GM_READER_CHUNK_END : GM_READER_DONE;
    }
    return (ssize_t)len;
}

static int hex_digit(char byte)
{
    const char *digits = "0123456789abcdef", *found = byte ? strchr(digits, byte | 0x20) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* One byte of the line "SIZE[;extension]\r\n". */
static ssize_t take_size(struct gm_reader *reader, char byte)
{
    int digit = hex_digit(byte);
    if (byte == '\n') {
        reader->state = reader->left > 0 ? GM_READER_BODY : GM_READER_TRAILER;
        reader->extension = false;
        reader->line_len = 0;
    } else if (byte == ';' || byte == '\r') {
        reader->extension = true;
    } else if (!reader->extension) {
        if (digit < 0 || reader->left >> 56) {
            return -EBADMSG;
        }
        reader->left = reader->left << 4 | (uint64_t)digit;
    }
    return 1;
}

/* One byte of the lines behind the last chunk; an empty one is the end. */
static ssize_t take_trailer(struct gm_reader *reader, char byte)
{
    if (byte == '\n' && reader->line_len == 0) {
        reader->state = GM_READER_DONE;
    }
    if (byte != '\r') {
        reader->line_len = byte == '\n' ? 0u : 1u;
    }
    return 1;
}

ssize_t gm_reader_take(struct gm_reader *reader, struct gm_span input, struct gm_span *body)
{
    *body = (struct gm_span){0};
    if (input.len == 0) {
        return 0;
    }
    switch (reader->state) {
    case GM_READER_HEAD:
        return take_head(reader, input);
    case GM_READER_BODY:
        return take_body(reader, input, body);
    case GM_READER_CHUNK_SIZE:
        return take_size(reader, input.bytes[0]);
    case GM_READER_CHUNK_END:
        if (input.bytes[0] == '\n') {
            reader->state = GM_READER_CHUNK_SIZE;
        }
        return 1;
    case GM_READER_TRAILER:
        return take_trailer(reader, input.bytes[0]);
    case GM_READER_DONE:
        break;
    }
    return 0;
}
