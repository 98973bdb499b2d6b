/* A TLS session from its first byte to its last: the handshake here, records in direct.c (ours) or
 * reference.c (the library's).
 *
 * Owner: one ring at a time; between calls no slice, block or chain is kept. A session is ready or
 * not, and once `dead` it does nothing any more. */
#include "tls/session.h"

#include <stdlib.h>
#include <string.h>

#include "tls/internal.h"

/* Process-wide; written by tests or at start, read when a session is made. Relaxed: it orders
 * nothing. */
static _Atomic bool reference_wanted;

void gm_tls_set_reference(bool reference)
{
    atomic_store_explicit(&reference_wanted, reference, memory_order_relaxed);
}

static struct gm_tls *session_new(void)
{
    struct gm_tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL)
        return NULL;
    tls->shake = calloc(1, sizeof *tls->shake);
    if (tls->shake == NULL) {
        free(tls);
        return NULL;
    }
    tls->reference = atomic_load_explicit(&reference_wanted, memory_order_relaxed);
    return tls;
}

struct gm_tls *gm_tls_accept(struct gm_tls_server *server)
{
    struct gm_tls *tls = session_new();
    if (tls == NULL)
        return NULL;
    tls->is_server = true;
    tls->server = gm_tls_server_ref(server);
    return tls;
}

/* The name that goes into the hello: none for an address (RFC 6066 section 3). */
static int ask_for_name(struct gm_tls *tls, const char *name)
{
    uint8_t address[16];
    char normal[GM_TLS_NAME_BYTES];
    if (gm_tls_name_address(name, address) > 0 || !gm_tls_name_normal(name, strlen(name), normal))
        return 0;
    tls->server_name = strdup(normal);
    if (tls->server_name == NULL || wolfSSL_UseSNI(tls->ssl, WOLFSSL_SNI_HOST_NAME, normal,
                                                   (word16)strlen(normal)) != WOLFSSL_SUCCESS)
        return -GM_E_NOMEM;
    return 0;
}

struct gm_tls *gm_tls_connect(struct gm_tls_client *client, const char *name)
{
    struct gm_tls *tls = session_new();
    if (tls == NULL)
        return NULL;
    tls->client = gm_tls_client_ref(client);
    if (gm_tls_library_start(tls, client->ctx) != 0 || ask_for_name(tls, name) != 0)
        goto fail;
    if (!client->insecure) {
        tls->shake->host = strdup(name);
        if (tls->shake->host == NULL)
            goto fail;
    }
    return tls;
fail:
    gm_tls_free(tls);
    return NULL;
}

static void shake_free(struct gm_tls *tls)
{
    if (tls->shake == NULL)
        return;
    free(tls->shake->host);
    free(tls->shake->hello);
    explicit_bzero(tls->shake, sizeof *tls->shake);
    free(tls->shake);
    tls->shake = NULL;
}

static void library_free(struct gm_tls *tls)
{
    wolfSSL_free(tls->ssl);
    tls->ssl = NULL;
    gm_tls_server_put(tls->server);
    gm_tls_client_put(tls->client);
    tls->server = NULL;
    tls->client = NULL;
}

void gm_tls_free(struct gm_tls *tls)
{
    if (tls == NULL)
        return;
    GM_ASSERT(tls->call == NULL);
    library_free(tls);
    shake_free(tls);
    gm_tls_flow_free(tls->rx);
    gm_tls_flow_free(tls->tx);
    free(tls->server_name);
    free(tls->subject);
    free(tls->held);
    free(tls);
}

/* ---- Handshake ---- */

static int fail(struct gm_tls *tls, int error)
{
    tls->dead = true;
    return error;
}

/* A server waits for the whole hello, whose name chooses the pair. 1: the library may begin. */
static int meet_hello(struct gm_tls *tls, const struct gm_tls_io *io)
{
    struct gm_tls_hello hello;
    int rc = gm_tls_hello_peek(io->in, &hello);
    if (rc <= 0)
        return rc;
    if (hello.name[0] != '\0') {
        tls->server_name = strdup(hello.name);
        if (tls->server_name == NULL)
            return -GM_E_NOMEM;
    }
    if (hello.headless) {
        tls->shake->hello = gm_tls_hello_join(io->in, io->sink.segs, &tls->shake->hello_len);
        if (tls->shake->hello == NULL)
            return -GM_E_NOMEM;
    }
    const struct gm_tls_pair *pair = gm_tls_server_choose(tls->server, hello.name);
    rc = gm_tls_library_start(tls, pair->ctx);
    return rc < 0 ? rc : 1;
}

static enum gm_tls_cipher agreed_cipher(WOLFSSL *ssl)
{
    if (wolfSSL_GetBulkCipher(ssl) == wolfssl_chacha)
        return GM_TLS_CHACHA20_POLY1305;
    return wolfSSL_GetKeySize(ssl) == 32 ? GM_TLS_AES_256_GCM : GM_TLS_AES_128_GCM;
}

/* The handshake is done: remembers what was agreed on and goes over to records. */
static int become_ready(struct gm_tls *tls)
{
    tls->version = wolfSSL_GetVersion(tls->ssl) == WOLFSSL_TLSV1_3 ? GM_TLS_1_3 : GM_TLS_1_2;
    tls->cipher = (uint8_t)agreed_cipher(tls->ssl);
    tls->resumed = wolfSSL_session_reused(tls->ssl) != 0;
    if (!gm_tls_record_has((enum gm_tls_cipher)tls->cipher))
        tls->reference = true;
    if (!tls->reference) {
        int rc = gm_tls_take_over(tls);
        if (rc < 0)
            return rc;
        library_free(tls);
    }
    shake_free(tls);
    tls->ready = true;
    return 1;
}

int gm_tls_handshake(struct gm_tls *tls, const struct gm_tls_io *io)
{
    GM_ASSERT(!tls->ready);
    if (tls->dead)
        return -GM_E_TLS;
    if (tls->ssl == NULL) {
        int rc = meet_hello(tls, io);
        if (rc <= 0)
            return rc == 0 ? 0 : fail(tls, rc);
    }
    struct gm_tls_call call;
    gm_tls_call_begin(tls, &call, io->in, &io->sink);
    int wolf = tls->is_server ? wolfSSL_accept(tls->ssl) : wolfSSL_connect(tls->ssl);
    int rc = wolf == WOLFSSL_SUCCESS ? become_ready(tls) : gm_tls_library_error(tls, wolf);
    gm_tls_call_end(tls);
    return rc < 0 ? fail(tls, rc) : rc;
}

bool gm_tls_is_ready(const struct gm_tls *tls)
{
    return tls->ready;
}

bool gm_tls_speaks_first(const struct gm_tls *tls)
{
    return !tls->is_server && !tls->ready;
}

/* ---- Records ---- */

int gm_tls_open(struct gm_tls *tls, const struct gm_tls_io *io)
{
    GM_ASSERT(tls->ready);
    if (tls->ended)
        return 1;
    if (tls->dead)
        return -GM_E_TLS;
    int rc = tls->reference ? gm_tls_reference_open(tls, io) : gm_tls_direct_open(tls, io);
    if (rc > 0)
        tls->ended = true;
    return rc < 0 ? fail(tls, rc) : rc;
}

uint32_t gm_tls_missing(const struct gm_tls *tls, const struct gm_chain *in)
{
    if (in->count == 0)
        return 0;
    if (tls->is_server && !tls->ready && tls->ssl == NULL) {
        struct gm_tls_hello hello;
        return gm_tls_hello_peek(in, &hello) == 0 ? hello.missing : 0;
    }
    if (tls->shake != NULL && tls->shake->records == 0 && gm_tls_hello_first_byte(in) < 0)
        return 0;
    int len = gm_tls_record_length(in);
    if (len == 0)
        return GM_TLS_HEADER_BYTES - (uint32_t)in->bytes;
    return len > 0 && (size_t)len > in->bytes ? (uint32_t)len - (uint32_t)in->bytes : 0;
}

ssize_t gm_tls_seal(struct gm_tls *tls, struct gm_chain *plain, size_t max,
                    const struct gm_tls_sink *sink)
{
    GM_ASSERT(tls->ready);
    if (tls->dead || tls->finished)
        return -GM_E_TLS;
    if (max > plain->bytes)
        max = plain->bytes;
    return tls->reference ? gm_tls_reference_seal(tls, plain, max, sink)
                          : gm_tls_direct_seal(tls, plain, max, sink);
}

int gm_tls_close_notify(struct gm_tls *tls, const struct gm_tls_sink *sink)
{
    if (!tls->ready || tls->dead || tls->finished)
        return 0;
    int rc = tls->reference ? gm_tls_reference_close(tls, sink)
                            : gm_tls_direct_alert(tls, GM_TLS_WARNING, GM_TLS_CLOSE_NOTIFY, sink);
    tls->finished = rc == 0;
    return rc;
}

int gm_tls_rekey(struct gm_tls *tls, bool ask, const struct gm_tls_sink *sink)
{
    GM_ASSERT(tls->ready);
    if (tls->dead || tls->finished || tls->version != GM_TLS_1_3)
        return -GM_E_TLS;
    return tls->reference ? gm_tls_reference_rekey(tls, sink) : gm_tls_direct_rekey(tls, ask, sink);
}

struct gm_tls_facts gm_tls_facts(const struct gm_tls *tls)
{
    return (struct gm_tls_facts){
        .version = (enum gm_tls_version)tls->version,
        .cipher = (enum gm_tls_cipher)tls->cipher,
        .server_name = tls->server_name != NULL ? tls->server_name : "",
        .peer_subject = tls->subject != NULL ? tls->subject : "",
        .resumed = tls->resumed,
    };
}
