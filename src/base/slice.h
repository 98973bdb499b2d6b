/* Buffers and slices: how payload is held without being copied.
 *
 * A buffer belongs to its home ring for ever; only the home ring changes its count. A ring that has
 * finished with a foreign buffer adds to `returned` and, when it was the first to do so, mails the
 * descriptor home: the node is part of the descriptor, so a release cannot fail. A slice is a
 * value; every queue that stores one holds one reference to its buffer. Slices of one buffer never
 * overlap, so the holder of a slice may write to its bytes (unmasking, masking) while others hold
 * the rest of the buffer, unless it was shared by gm_slice_ref. */
#ifndef GM_BASE_SLICE_H
#define GM_BASE_SLICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"
#include "base/mail.h"

struct gm_buf;

/* The pool a buffer came from; one per pool and ring, so that a descriptor stays small. */
struct gm_buf_home {
    uint16_t ring; /* index of the home ring; GM_RING_NONE: no thread owns it (tests) */
    /* Home ring only: the count has reached 0. Takes the buffer. */
    void (*on_free)(struct gm_buf_home *home, struct gm_buf *buf);
    /* Any other ring: mail the descriptor to the home ring, which then calls gm_buf_collect. */
    void (*on_return)(struct gm_buf_home *home, struct gm_buf *buf);
};

struct gm_buf {
    uint8_t *data;
    uint32_t size;
    uint32_t refs; /* home ring only */
    struct gm_buf_home *home;
    struct gm_mail mail;
    /* References given up by other rings and not yet collected. Writers: any ring, acq_rel; reader:
     * the home ring, acq_rel. Publishes that the releasing ring will not touch the bytes again. */
    _Atomic uint32_t returned;
    uint32_t index; /* for the pool: position in its table */
    uint32_t fill;  /* for the pool: bytes handed out so far (incremental buffers) */
};

typedef struct gm_slice {
    uint8_t *data;
    uint32_t len;
    struct gm_buf *buf; /* NULL: static bytes, nothing to release */
} gm_slice;

#define GM_RING_NONE UINT16_MAX

/* Index of the ring whose thread this is; set once by the ring at thread start. GM_RING_NONE
 * elsewhere. */
extern _Thread_local uint16_t gm_ring_self;

/* +1. Home ring only (a foreign ring moves slices, it never multiplies them). */
static inline void gm_buf_ref(struct gm_buf *buf)
{
    GM_ASSERT(buf->home->ring == gm_ring_self && buf->refs > 0);
    buf->refs++;
}

void gm_buf_return(struct gm_buf *buf, uint32_t count); /* the foreign path of gm_buf_put */
/* Home ring: take in what other rings have returned. Called when the descriptor's mail arrives. */
void gm_buf_collect(struct gm_buf *buf);

/* -1, from any ring. */
static inline void gm_buf_put(struct gm_buf *buf)
{
    if (GM_UNLIKELY(buf->home->ring != gm_ring_self)) {
        gm_buf_return(buf, 1);
        return;
    }
    GM_ASSERT(buf->refs > 0);
    if (--buf->refs == 0)
        buf->home->on_free(buf->home, buf);
}

/* Shares the slice (+1); home ring only. The bytes are read-only from here on. */
static inline gm_slice gm_slice_ref(gm_slice s)
{
    if (s.buf != NULL)
        gm_buf_ref(s.buf);
    return s;
}
/* Releases the slice; the value is void afterwards. */
static inline void gm_slice_put(gm_slice s)
{
    if (s.buf != NULL)
        gm_buf_put(s.buf);
}
/* Splits off the first `n` bytes (0 < n < len): both halves hold a reference. Home ring, or a slice
 * without buffer. */
static inline gm_slice gm_slice_cut(gm_slice *s, uint32_t n)
{
    GM_ASSERT(n > 0 && n < s->len);
    gm_slice front = {s->data, n, s->buf};
    if (s->buf != NULL)
        gm_buf_ref(s->buf);
    s->data += n;
    s->len -= n;
    return front;
}

#endif
