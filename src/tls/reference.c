/* Records by the library's own read and write: what ours are tested against, and what is used where
 * ours cannot do the cipher.
 *
 * Owner: the session's ring. The library takes a record as soon as it is asked to write one; what
 * then finds no block waits in tls->held, and nothing else is sealed before it has left. Its
 * plaintext stays in the chain until then, so that the caller comes back. */
#include <stdlib.h>
#include <string.h>

#include "tls/internal.h"

/* Sends what an earlier call held back. */
static void flush_held(struct gm_tls *tls)
{
    size_t sent = gm_tls_call_emit(tls->call, tls->held, tls->held_len);
    tls->held_len -= (uint32_t)sent;
    if (tls->held_len > 0) {
        memmove(tls->held, tls->held + sent, tls->held_len);
        return;
    }
    free(tls->held);
    tls->held = NULL;
}

/* Reads one piece of plaintext into a block of its own. > 0: bytes; 0: no more for now; negative:
 * the library's code. */
static int read_block(struct gm_tls *tls, const struct gm_tls_io *io, int *rc)
{
    struct gm_buf *block = io->sink.block(io->sink.arg);
    if (block == NULL) {
        *rc = -GM_E_NOMEM;
        return -1;
    }
    int n = wolfSSL_read(tls->ssl, block->data, (int)block->size);
    if (n <= 0) {
        *rc = wolfSSL_get_error(tls->ssl, n) == WOLFSSL_ERROR_ZERO_RETURN
                  ? 1
                  : gm_tls_library_error(tls, n);
        gm_buf_put(block);
        return *rc == 0 ? 0 : -1;
    }
    gm_slice slice = {block->data, (uint32_t)n, block};
    if (gm_chain_push(io->plain, io->sink.segs, slice) != 0) {
        gm_slice_put(slice);
        *rc = -GM_E_NOMEM;
        return -1;
    }
    return n;
}

int gm_tls_reference_open(struct gm_tls *tls, const struct gm_tls_io *io)
{
    struct gm_tls_call call;
    int rc = 0, n = 1;
    gm_tls_call_begin(tls, &call, io->in, &io->sink);
    flush_held(tls);
    while (n > 0)
        n = read_block(tls, io, &rc);
    gm_tls_call_end(tls);
    return rc;
}

ssize_t gm_tls_reference_seal(struct gm_tls *tls, struct gm_chain *plain, size_t max,
                              const struct gm_tls_sink *sink)
{
    struct gm_tls_call call;
    size_t done = 0;
    int n = 1;
    gm_tls_call_begin(tls, &call, NULL, sink);
    flush_held(tls);
    if (tls->held_len == 0 && tls->ahead > 0) {
        done = tls->ahead < plain->bytes ? tls->ahead : plain->bytes;
        gm_chain_consume(plain, sink->segs, done);
        tls->ahead = 0;
    }
    while (done < max && tls->held_len == 0 && n > 0) {
        gm_slice front = gm_chain_front(plain);
        size_t len = front.len < max - done ? front.len : max - done;
        if (len > GM_TLS_PAYLOAD_MAX)
            len = GM_TLS_PAYLOAD_MAX;
        n = wolfSSL_write(tls->ssl, front.data, (int)len);
        if (n > 0 && tls->held_len > 0) {
            tls->ahead = (uint32_t)n;
        } else if (n > 0) {
            gm_chain_consume(plain, sink->segs, (size_t)n);
            done += (size_t)n;
        }
    }
    gm_tls_call_end(tls);
    return n > 0 ? (ssize_t)done : -GM_E_TLS;
}

int gm_tls_reference_close(struct gm_tls *tls, const struct gm_tls_sink *sink)
{
    struct gm_tls_call call;
    gm_tls_call_begin(tls, &call, NULL, sink);
    flush_held(tls);
    int rc = tls->held_len > 0 ? -GM_E_NOMEM : 0;
    if (rc == 0)
        (void)wolfSSL_shutdown(tls->ssl); /* queues the alert; its result tells of the peer's */
    rc = tls->held_len > 0 || call.error != 0 ? -GM_E_NOMEM : rc;
    gm_tls_call_end(tls);
    return rc;
}

int gm_tls_reference_rekey(struct gm_tls *tls, const struct gm_tls_sink *sink)
{
    struct gm_tls_call call;
    gm_tls_call_begin(tls, &call, NULL, sink);
    flush_held(tls);
    int rc = tls->held_len > 0 ? -GM_E_NOMEM : 0;
    if (rc == 0 && wolfSSL_update_keys(tls->ssl) != WOLFSSL_SUCCESS)
        rc = -GM_E_TLS;
    gm_tls_call_end(tls);
    return rc;
}
