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
    case GM_E_TLS:
        return "the TLS handshake failed";
    case GM_E_TLS_RECORD:
        return "a TLS record is damaged or malformed";
    case GM_E_TLS_ALERT:
        return "the peer refused TLS with a fatal alert";
    case GM_E_TLS_TRUNCATED:
        return "the connection was cut without TLS close_notify";
    case GM_E_TLS_PLAINTEXT:
        return "the peer does not speak TLS on this port";
    case GM_E_TLS_VERSION:
        return "no TLS version or cipher suite in common";
    case GM_E_TLS_UNTRUSTED:
        return "the certificate's issuer is not trusted (name its CA with the ca-file option)";
    case GM_E_TLS_SELF_SIGNED:
        return "the certificate is self-signed (name it with the ca-file option)";
    case GM_E_TLS_EXPIRED:
        return "the certificate has expired";
    case GM_E_TLS_NOT_YET:
        return "the certificate is not valid yet (is the clock right?)";
    case GM_E_TLS_NAME:
        return "the certificate is for another name (see the server-name option)";
    case GM_E_TLS_REVOKED:
        return "the certificate has been revoked";
    case GM_E_TLS_REVOKED_CHAIN:
        return "revoked chain: an intermediate certificate that leads to it has been revoked";
    case GM_E_TLS_CRL:
        return "the revocation list is not signed by the CA that it names (fetch it again)";
    case GM_E_TLS_NO_CERT:
        return "the peer showed no certificate, and one is required";
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
