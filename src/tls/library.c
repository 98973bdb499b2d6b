/* wolfSSL driven by memory: its reads come from a chain, its writes go to blocks, its judgement of
 * certificates is completed by ours (names, subject).
 *
 * Owner: the session's ring. Invariants: the library is given a record only when it is whole, so
 * that it never keeps a part of one between calls and nothing behind the handshake is read; no
 * pointer into a call outlives it. */
#include <stdlib.h>
#include <string.h>

#include "tls/internal.h"

void gm_tls_call_begin(struct gm_tls *tls, struct gm_tls_call *call, struct gm_chain *in,
                       const struct gm_tls_sink *sink)
{
    GM_ASSERT(tls->call == NULL);
    *call = (struct gm_tls_call){.in = in, .sink = sink};
    tls->call = call;
}

void gm_tls_call_end(struct gm_tls *tls)
{
    if (tls->call->block != NULL)
        gm_buf_put(tls->call->block);
    tls->call = NULL;
}

/* ---- Bytes ---- */

static bool call_room(struct gm_tls_call *call)
{
    if (call->block != NULL && call->used < call->block->size)
        return true;
    if (call->block != NULL)
        gm_buf_put(call->block);
    call->block = call->sink->block(call->sink->arg);
    call->used = 0;
    return call->block != NULL;
}

size_t gm_tls_call_emit(struct gm_tls_call *call, const uint8_t *bytes, size_t len)
{
    size_t done = 0;
    while (done < len && call_room(call)) {
        size_t n = call->block->size - call->used;
        if (n > len - done)
            n = len - done;
        gm_slice piece = {call->block->data + call->used, (uint32_t)n, call->block};
        memcpy(piece.data, bytes + done, n);
        gm_buf_ref(call->block);
        if (gm_chain_push(call->sink->out, call->sink->segs, piece) != 0) {
            gm_slice_put(piece);
            break;
        }
        call->used += (uint32_t)n;
        done += n;
    }
    return done;
}

/* Keeps what found no block; the next call sends it first. */
static bool hold_back(struct gm_tls *tls, const uint8_t *bytes, size_t len)
{
    uint8_t *held = realloc(tls->held, tls->held_len + len);
    if (held == NULL)
        return false;
    memcpy(held + tls->held_len, bytes, len);
    tls->held = held;
    tls->held_len += (uint32_t)len;
    return true;
}

static int on_send(WOLFSSL *ssl, char *bytes, int len, void *arg)
{
    struct gm_tls *tls = arg;
    (void)ssl;
    size_t want = (size_t)len, done = 0;
    if (tls->held_len == 0)
        done = gm_tls_call_emit(tls->call, (const uint8_t *)bytes, want);
    if (done < want && tls->ready && hold_back(tls, (const uint8_t *)bytes + done, want - done))
        return len;
    if (done > 0)
        return (int)done;
    tls->call->error = -GM_E_NOMEM;
    return WOLFSSL_CBIO_ERR_WANT_WRITE;
}

/* Whether a whole record is at the front, so that the library may have it. */
static bool call_record(struct gm_tls *tls)
{
    struct gm_tls_call *call = tls->call;
    if (call->record_left > 0)
        return true;
    if (call->in == NULL || call->in->count == 0)
        return false;
    if (tls->shake != NULL && tls->shake->records == 0)
        call->error = gm_tls_hello_first_byte(call->in);
    int len = call->error < 0 ? call->error : gm_tls_record_length(call->in);
    if (len < 0) {
        call->error = len;
        return false;
    }
    if (len == 0 || (size_t)len > call->in->bytes)
        return false;
    if (tls->shake != NULL)
        tls->shake->records++;
    call->record_left = (uint32_t)len;
    return true;
}

/* From a hello that was joined: at most `len` bytes of it; 0: it is used up, or there is none. */
static int take_hello(struct gm_tls_shake *shake, char *bytes, int len)
{
    if (shake == NULL || shake->hello_used == shake->hello_len)
        return 0;
    uint32_t n = shake->hello_len - shake->hello_used;
    if (n > (uint32_t)len)
        n = (uint32_t)len;
    if (shake->hello_used == 0)
        shake->records++;
    memcpy(bytes, shake->hello + shake->hello_used, n);
    shake->hello_used += n;
    return (int)n;
}

static int on_receive(WOLFSSL *ssl, char *bytes, int len, void *arg)
{
    struct gm_tls *tls = arg;
    struct gm_tls_call *call = tls->call;
    (void)ssl;
    int joined = take_hello(tls->shake, bytes, len);
    if (joined > 0)
        return joined;
    if (!call_record(tls))
        return WOLFSSL_CBIO_ERR_WANT_READ;
    gm_slice front = gm_chain_front(call->in);
    uint32_t n = (uint32_t)len;
    if (n > call->record_left)
        n = call->record_left;
    if (n > front.len)
        n = front.len;
    memcpy(bytes, front.data, n);
    gm_chain_consume(call->in, call->sink->segs, n);
    call->record_left -= n;
    return (int)n;
}

/* ---- Certificates ---- */

/* What the library has against the certificate at `depth`, in our words. A certificate that is its
 * own issuer and comes alone is self-signed; among others it is a root that we do not know. */
static int verdict_on(const WOLFSSL_X509_STORE_CTX *store)
{
    int meaning = gm_tls_library_meaning(store->error);
    struct gm_tls_cert cert;
    if (meaning != -GM_E_TLS_UNTRUSTED || store->totalCerts != 1)
        return meaning;
    const WOLFSSL_BUFFER_INFO *der = &store->certs[0];
    if (gm_tls_cert_parse(der->buffer, der->length, &cert) == 0 &&
        gm_tls_cert_is_self_issued(&cert))
        return -GM_E_TLS_SELF_SIGNED;
    return meaning;
}

static int verify_leaf(struct gm_tls *tls, const WOLFSSL_BUFFER_INFO *der)
{
    struct gm_tls_cert cert;
    char subject[GM_TLS_SUBJECT_BYTES];
    int rc = gm_tls_cert_parse(der->buffer, der->length, &cert);
    if (rc < 0)
        return -GM_E_TLS;
    if (tls->shake->host != NULL && !gm_tls_cert_is_for(&cert, tls->shake->host))
        return -GM_E_TLS_NAME;
    ssize_t len = gm_tls_cert_subject(&cert, subject);
    if (len < 0)
        return tls->is_server ? -GM_E_TLS : 0; /* a client does not use it to decide anything */
    free(tls->subject);
    tls->subject = strndup(subject, (size_t)len);
    return tls->subject == NULL ? -GM_E_NOMEM : 0;
}

/* The library has found a way to a root: has any step of it been taken back? */
static int verify_chain(const struct gm_tls *tls, const WOLFSSL_X509_STORE_CTX *store)
{
    struct gm_tls_crls *crls = tls->is_server ? tls->server->crls : tls->client->crls;
    return gm_tls_crls_judge(crls, wolfSSL_get_SSL_CTX(tls->ssl), store->certs, store->totalCerts);
}

int gm_tls_library_verify(int preverify, WOLFSSL_X509_STORE_CTX *store)
{
    struct gm_tls *tls = store->userCtx;
    GM_ASSERT(tls != NULL && tls->shake != NULL);
    int verdict = 0;
    if (preverify == 0)
        verdict = verdict_on(store);
    else if (store->error_depth == 0 && store->totalCerts > 0)
        verdict = verify_leaf(tls, &store->certs[0]);
    if (preverify != 0 && verdict == 0 && store->error_depth == 0)
        verdict = verify_chain(tls, store);
    if (verdict != 0 && tls->shake->verdict == 0)
        tls->shake->verdict = verdict;
    return verdict == 0;
}

/* ---- Set-up ---- */

#ifdef HAVE_SECRET_CALLBACK
static int on_secret(WOLFSSL *ssl, int id, const unsigned char *secret, int len, void *arg)
{
    struct gm_tls *tls = arg;
    (void)ssl;
    if (id != CLIENT_TRAFFIC_SECRET && id != SERVER_TRAFFIC_SECRET)
        return 0;
    if (tls->shake == NULL || len <= 0 || len > (int)GM_TLS_SECRET_MAX)
        return BAD_FUNC_ARG;
    memcpy(tls->shake->secrets[id == SERVER_TRAFFIC_SECRET], secret, (size_t)len);
    tls->shake->secret_len = (uint8_t)len;
    return 0;
}

static bool ask_for_secrets(struct gm_tls *tls)
{
    return wolfSSL_set_tls13_secret_cb(tls->ssl, on_secret, tls) == WOLFSSL_SUCCESS;
}
#else
/* Without the traffic secrets keys could not be renewed: records stay the library's. */
static bool ask_for_secrets(struct gm_tls *tls)
{
    tls->reference = true;
    return true;
}
#endif

void gm_tls_library_configure(WOLFSSL_CTX *ctx)
{
    wolfSSL_CTX_SetIORecv(ctx, on_receive);
    wolfSSL_CTX_SetIOSend(ctx, on_send);
}

int gm_tls_library_start(struct gm_tls *tls, WOLFSSL_CTX *ctx)
{
    static char protocol[] = "http/1.1";
    tls->ssl = wolfSSL_new(ctx);
    if (tls->ssl == NULL)
        return -GM_E_NOMEM;
    wolfSSL_SetIOReadCtx(tls->ssl, tls);
    wolfSSL_SetIOWriteCtx(tls->ssl, tls);
    wolfSSL_SetCertCbCtx(tls->ssl, tls);
    /* RFC 7301: a client that offers only others is refused; a server that picks none is fine. */
    unsigned char mismatch =
        tls->is_server ? WOLFSSL_ALPN_FAILED_ON_MISMATCH : WOLFSSL_ALPN_CONTINUE_ON_MISMATCH;
    if (wolfSSL_UseALPN(tls->ssl, protocol, sizeof protocol - 1, mismatch) != WOLFSSL_SUCCESS ||
        !ask_for_secrets(tls))
        return -GM_E_NOMEM;
    return 0;
}

/* ---- Errors ---- */

static int alert_received(struct gm_tls *tls)
{
    WOLFSSL_ALERT_HISTORY history;
    if (wolfSSL_get_alert_history(tls->ssl, &history) != WOLFSSL_SUCCESS ||
        history.last_rx.code < 0)
        return -GM_E_TLS_ALERT;
    int first = tls->shake != NULL && tls->shake->records == 1;
    return gm_tls_alert_meaning((uint8_t)history.last_rx.code, first);
}

int gm_tls_library_error(struct gm_tls *tls, int rc)
{
    int code = wolfSSL_get_error(tls->ssl, rc);
    if (tls->call->error != 0)
        return tls->call->error;
    if (code == WOLFSSL_ERROR_WANT_READ)
        return 0;
    if (tls->shake != NULL && tls->shake->verdict != 0)
        return tls->shake->verdict;
    if (code == FATAL_ERROR || code == WOLFSSL_ERROR_SSL)
        return alert_received(tls);
    return gm_tls_library_meaning(code);
}
