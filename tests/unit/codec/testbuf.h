/* Counted buffers for tests of the codec: a leak, a double release or a touch after the release
 * shows. One thread; the only malloc. */
#ifndef TESTBUF_H
#define TESTBUF_H

#include <stdlib.h>
#include <string.h>

#include "base/slice.h"

static uint32_t testbuf_live;

static void testbuf_on_free(struct gm_buf_home *home, struct gm_buf *buf)
{
    (void)home;
    testbuf_live--;
    free(buf->data);
    free(buf);
}
/* A foreign ring's buffer comes home: what its home ring would do with the mail. */
static void testbuf_on_return(struct gm_buf_home *home, struct gm_buf *buf)
{
    uint16_t self = gm_ring_self;
    gm_ring_self = home->ring;
    gm_buf_collect(buf);
    gm_ring_self = self;
}
static struct gm_buf_home testbuf_home = {GM_RING_NONE, testbuf_on_free, testbuf_on_return};
static struct gm_buf_home testbuf_foreign = {7, testbuf_on_free, testbuf_on_return};

static inline struct gm_buf *testbuf_new(uint32_t size, bool foreign)
{
    struct gm_buf *buf = calloc(1, sizeof *buf);
    *buf = (struct gm_buf){.data = malloc(size > 0 ? size : 1),
                           .size = size,
                           .refs = 1,
                           .home = foreign ? &testbuf_foreign : &testbuf_home};
    testbuf_live++;
    return buf;
}
static inline gm_slice testbuf_slice(uint32_t len, bool foreign)
{
    struct gm_buf *buf = testbuf_new(len, foreign);
    return (gm_slice){buf->data, len, buf};
}
/* A slice that begins with `room` free bytes and has room for further frame headers behind it. */
static inline gm_slice testbuf_block(uint32_t room, const void *block, uint32_t len, bool foreign)
{
    struct gm_buf *buf = testbuf_new(room + len + 32, foreign);
    memcpy(buf->data + room, block, len);
    return (gm_slice){buf->data, room + len, buf};
}

#endif
