/* Fuzzes head blocks. What a reader accepts the writer can write, byte for byte the same; and the
 * block survives the way through frames (wrapped, cut up, read, joined). Input: one block. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "frame/head.h"

static uint8_t again[GM_FRAME_BLOCK_MAX];

static void write_fields(struct gm_head_writer *w, struct gm_head_fields fields)
{
    struct gm_head_field field;
    while (gm_head_next(&fields, &field))
        gm_head_write_field(w, &field);
}

/* Reads the block; when it is good, writes it into `again`. Returns its length, or the refusal. */
static int read_and_write(const uint8_t *p, size_t n)
{
    struct gm_head_writer w;
    struct gm_head_request request;
    struct gm_head_response response;
    struct gm_head_fields trailers;
    int error = gm_head_read_request(p, n, &request);
    if (error == 0) {
        gm_head_write_request(&w, again, sizeof(again), &request);
        write_fields(&w, request.fields);
        return gm_head_write_finish(&w);
    }
    if (error != -ENOTSUP)
        return error;
    if (gm_head_read_response(p, n, &response) == 0) {
        gm_head_write_response(&w, again, sizeof(again), &response);
        write_fields(&w, response.fields);
        return gm_head_write_finish(&w);
    }
    error = gm_head_read_trailers(p, n, &trailers);
    if (error < 0)
        return error;
    gm_head_write_trailers(&w, again, sizeof(again));
    write_fields(&w, trailers);
    return gm_head_write_finish(&w);
}

/* The bytes that a receiver ignores and a sender sets to 0. */
static void clear_reserved(uint8_t *p)
{
    if (p[0] == GM_HEAD_REQUEST)
        p[3] = p[18] = p[19] = 0;
    else
        p[p[0] == GM_HEAD_RESPONSE ? 5 : 1] = 0;
}

/* Sends the block as HEAD frames, cut at odd places, and expects it back whole. */
static void through_frames(const uint8_t *p, size_t n)
{
    static uint8_t wire[GM_FRAME_BLOCK_MAX + 5 * GM_FRAME_HEADER_LEN];
    static uint8_t joined[GM_FRAME_BLOCK_MAX];
    memcpy(wire + GM_FRAME_HEADER_LEN, p, n);
    struct gm_frame_block block = {GM_FRAME_HEAD, 0, 1, n};
    int total = gm_frame_block_wrap(wire, sizeof(wire), &block);
    GM_ASSERT(total == (int)gm_frame_block_size(n));
    struct gm_frame_reader reader;
    gm_frame_reader_init(&reader);
    size_t step = 1 + p[n - 1] * 7u;
    size_t got = 0;
    for (size_t at = 0; at < (size_t)total; at += step) {
        const uint8_t *data = wire + at;
        size_t len = step < (size_t)total - at ? step : (size_t)total - at;
        struct gm_frame_event e;
        int result;
        while ((result = gm_frame_reader_next(&reader, &data, &len, &e)) == 1) {
            GM_ASSERT(e.type == GM_FRAME_HEAD && e.offset == got && e.data_len <= n - got);
            memcpy(joined + got, e.data, e.data_len);
            got += e.data_len;
            GM_ASSERT(((e.mark & GM_FRAME_LAST) != 0) == (got == n));
        }
        GM_ASSERT(result == 0);
    }
    GM_ASSERT(got == n && memcmp(joined, p, n) == 0 && gm_frame_reader_idle(&reader));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n == 0 || n > GM_FRAME_BLOCK_MAX)
        return 0;
    through_frames(p, n);
    int got = read_and_write(p, n);
    GM_ASSERT(got > 0 || got == -GM_E_PROTOCOL);
    if (got < 0)
        return 0;
    uint8_t *expected = malloc(n);
    GM_ASSERT(expected != NULL);
    memcpy(expected, p, n);
    clear_reserved(expected);
    GM_ASSERT((size_t)got == n && memcmp(expected, again, n) == 0);
    free(expected);
    return 0;
}
