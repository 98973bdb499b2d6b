/* Reads the server name out of a ClientHello without consuming it, and joins one in crumbs.
 *
 * Owner: none, pure. The hello is gathered from its records into a buffer on the stack and parsed
 * there; whatever is wrong with it beyond the record framing is left for the library to refuse. */
#include "tls/hello.h"

#include <stdlib.h>
#include <string.h>

#include "tls/record.h"

enum { HANDSHAKE_HEADER = 4, CLIENT_HELLO = 1, EXTENSION_SERVER_NAME = 0, NAME_TYPE_HOST = 0 };

/* A place in a chain. */
struct walk {
    const struct gm_seg *seg;
    uint32_t slice, offset;
    size_t left;
};

static struct walk walk_start(const struct gm_chain *in)
{
    return (struct walk){.seg = in->head, .left = in->bytes};
}

/* Copies the next `len` (<= left) bytes to `out`. */
static void walk_read(struct walk *walk, uint8_t *out, size_t len)
{
    walk->left -= len;
    while (len > 0) {
        const gm_slice *slice = &walk->seg->slices[walk->seg->first + walk->slice];
        size_t n = slice->len - walk->offset;
        if (n > len)
            n = len;
        memcpy(out, slice->data + walk->offset, n);
        out += n;
        len -= n;
        walk->offset += (uint32_t)n;
        if (walk->offset < slice->len)
            continue;
        walk->offset = 0;
        if (++walk->slice == walk->seg->count) {
            walk->slice = 0;
            walk->seg = walk->seg->next;
        }
    }
}

/* Bytes of a message, read from the front. */
struct view {
    const uint8_t *at;
    size_t len;
};

/* Takes a number of `width` bytes. False: there are fewer. */
static bool view_number(struct view *view, unsigned width, size_t *out)
{
    if (view->len < width)
        return false;
    size_t value = 0;
    for (unsigned i = 0; i < width; i++)
        value = value << 8 | view->at[i];
    view->at += width;
    view->len -= width;
    *out = value;
    return true;
}

/* Takes a vector whose length has `width` bytes. */
static bool view_vector(struct view *view, unsigned width, struct view *out)
{
    size_t len;
    if (!view_number(view, width, &len) || len > view->len)
        return false;
    *out = (struct view){view->at, len};
    view->at += len;
    view->len -= len;
    return true;
}

static bool parse_server_name(struct view extension, char name[GM_TLS_NAME_BYTES])
{
    struct view list, host;
    size_t type;
    if (!view_vector(&extension, 2, &list))
        return false;
    while (view_number(&list, 1, &type) && view_vector(&list, 2, &host)) {
        if (type == NAME_TYPE_HOST)
            return gm_tls_name_normal((const char *)host.at, host.len, name);
    }
    return false;
}

static void parse_hello(struct view body, char name[GM_TLS_NAME_BYTES])
{
    const size_t fixed = 2 + 32; /* version, random */
    struct view skipped, extensions, extension;
    if (body.len < fixed)
        return;
    body.at += fixed;
    body.len -= fixed;
    /* Session id, cipher suites, compression methods. */
    if (!view_vector(&body, 1, &skipped) || !view_vector(&body, 2, &skipped) ||
        !view_vector(&body, 1, &skipped) || !view_vector(&body, 2, &extensions))
        return;
    size_t type;
    while (view_number(&extensions, 2, &type) && view_vector(&extensions, 2, &extension)) {
        if (type != EXTENSION_SERVER_NAME)
            continue;
        (void)parse_server_name(extension, name);
        return;
    }
}

int gm_tls_hello_first_byte(const struct gm_chain *in)
{
    uint8_t first = gm_chain_front(in).data[0];
    if (first >= GM_TLS_CHANGE_CIPHER_SPEC && first <= GM_TLS_DATA)
        return 0;
    bool text = (first >= ' ' && first <= '~') || first == '\r' || first == '\n';
    return text ? -GM_E_TLS_PLAINTEXT : -GM_E_TLS_RECORD;
}

/* Bytes of the whole message that `gathered` begins, or 0 when its header is not there yet. */
static size_t message_length(const uint8_t *gathered, size_t have)
{
    if (have < HANDSHAKE_HEADER)
        return 0;
    return HANDSHAKE_HEADER + ((size_t)gathered[1] << 16 | (size_t)gathered[2] << 8 | gathered[3]);
}

/* Gathers the payload of one record behind the *have bytes that are there, as much of it as the
 * hello can have. 1: done; 0: the record is not whole (out->missing is set); 2: no handshake. */
static int gather_record(struct walk *walk, uint8_t *gathered, size_t *have,
                         struct gm_tls_hello *out)
{
    uint8_t header[GM_TLS_HEADER_BYTES];
    if (walk->left < sizeof header) {
        out->missing = (uint32_t)(sizeof header - walk->left);
        return 0;
    }
    walk_read(walk, header, sizeof header);
    size_t len = (size_t)header[3] << 8 | header[4];
    if (header[0] != GM_TLS_HANDSHAKE || header[1] != 3 || len == 0 || len > GM_TLS_PAYLOAD_MAX)
        return 2;
    if (walk->left < len) {
        out->missing = (uint32_t)(len - walk->left);
        return 0;
    }
    size_t room = GM_TLS_HELLO_MAX - *have;
    walk_read(walk, gathered + *have, len < room ? len : room);
    *have += len < room ? len : room;
    return 1;
}

/* Gathers the whole message. 1: done, `have` bytes in records of `wire` bytes; else as above, or a
 * negative error. */
struct gathering {
    uint8_t bytes[GM_TLS_HELLO_MAX];
    size_t have, need, wire;
    bool headless; /* not even the message's header is in the first record */
};

static int gather_hello(const struct gm_chain *in, struct gathering *all, struct gm_tls_hello *out)
{
    struct walk walk = walk_start(in);
    all->have = all->need = 0;
    all->headless = false;
    while (all->need == 0 || all->have < all->need) {
        size_t before = all->have;
        int rc = gather_record(&walk, all->bytes, &all->have, out);
        if (rc != 1)
            return rc;
        if (all->bytes[0] != CLIENT_HELLO)
            return 2;
        all->headless = all->headless || (before == 0 && all->have < HANDSHAKE_HEADER);
        all->need = message_length(all->bytes, all->have);
        if (all->need > GM_TLS_HELLO_MAX)
            return -GM_E_LIMIT;
    }
    all->wire = in->bytes - walk.left;
    return 1;
}

int gm_tls_hello_peek(const struct gm_chain *in, struct gm_tls_hello *out)
{
    struct gathering all;
    out->name[0] = '\0';
    out->headless = false;
    out->missing = GM_TLS_HEADER_BYTES;
    if (in->count == 0)
        return 0;
    int rc = gm_tls_hello_first_byte(in);
    if (rc < 0)
        return rc;
    rc = gather_hello(in, &all, out);
    if (rc != 1)
        return rc == 2 ? 1 : rc;
    out->missing = 0;
    out->headless = all.headless && all.have == all.need;
    parse_hello((struct view){all.bytes + HANDSHAKE_HEADER, all.need - HANDSHAKE_HEADER},
                out->name);
    return 1;
}

uint8_t *gm_tls_hello_join(struct gm_chain *in, struct gm_seg_pool *segs, uint32_t *len)
{
    struct gathering all;
    struct gm_tls_hello hello;
    int rc = gather_hello(in, &all, &hello);
    GM_ASSERT(rc == 1 && all.have == all.need);
    uint8_t *record = malloc(GM_TLS_HEADER_BYTES + all.need);
    if (record == NULL)
        return NULL;
    const uint8_t header[GM_TLS_HEADER_BYTES] = {GM_TLS_HANDSHAKE, 3, 1, (uint8_t)(all.need >> 8),
                                                 (uint8_t)all.need};
    memcpy(record, header, sizeof header);
    memcpy(record + sizeof header, all.bytes, all.need);
    gm_chain_consume(in, segs, all.wire);
    *len = (uint32_t)(sizeof header + all.need);
    return record;
}
