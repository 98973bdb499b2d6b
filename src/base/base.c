/* The few functions of base/ that are not inline: assertion failure, error texts, the cross-ring
 * release path of buffers.
 *
 * Owner: any thread; gm_ring_self is written once by each ring thread at start. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/slice.h"

_Thread_local uint16_t gm_ring_self = GM_RING_NONE;

void gm_assert_failed(const char *text, const char *file, int line, const char *function)
{
    (void)fprintf(stderr, "%s:%d: %s: assertion `%s' failed\n", file, line, function, text);
    abort();
}

const char *gm_error_text(int code)
{
    static _Thread_local char errno_text[96];
    switch (-code) {
    case GM_E_NOMEM:
        return "out of budgeted memory";
    case GM_E_PROTOCOL:
        return "protocol violation";
    case GM_E_LIMIT:
        return "limit exceeded";
    case GM_E_STALE:
        return "object has gone";
    case GM_E_CLOSED:
        return "closed by the other side";
    case GM_E_CONFIG:
        return "unusable configuration value";
    case GM_E_NOT_FOUND:
        return "not found";
    case GM_E_TIMEOUT:
        return "deadline passed";
    default:
        return strerror_r(code < 0 ? -code : code, errno_text, sizeof errno_text);
    }
}

void gm_buf_return(struct gm_buf *buf, uint32_t count)
{
    /* acq_rel: our last accesses happen before the home ring sees the count; whoever moves it from
     * 0 owns the mail node. */
    uint32_t before = atomic_fetch_add_explicit(&buf->returned, count, memory_order_acq_rel);
    if (before == 0)
        buf->home->on_return(buf->home, buf);
}

void gm_buf_collect(struct gm_buf *buf)
{
    GM_ASSERT(buf->home->ring == gm_ring_self);
    /* From here on another ring may mail the descriptor again: the mailbox has already let go of
     * the node. */
    uint32_t returned = atomic_exchange_explicit(&buf->returned, 0, memory_order_acq_rel);
    GM_ASSERT(returned > 0 && returned <= buf->refs);
    buf->refs -= returned;
    if (buf->refs == 0)
        buf->home->on_free(buf->home, buf);
}
