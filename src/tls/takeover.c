/* The step from the library's records to ours: its keys, counters and secrets become two flows.
 *
 * Owner: the session's ring, once, right after the handshake. The counters are those of the next
 * records: a server's ticket has already used one. */
#include <string.h>

#include "tls/internal.h"

static int fill_keys(const struct gm_tls *tls, bool client_writes, struct gm_tls_keys *keys)
{
    WOLFSSL *ssl = tls->ssl;
    int key_len = wolfSSL_GetKeySize(ssl), iv_len = wolfSSL_GetIVSize(ssl);
    const uint8_t *key =
        client_writes ? wolfSSL_GetClientWriteKey(ssl) : wolfSSL_GetServerWriteKey(ssl);
    const uint8_t *iv =
        client_writes ? wolfSSL_GetClientWriteIV(ssl) : wolfSSL_GetServerWriteIV(ssl);
    word64 sequence = 0;
    bool ours = client_writes != tls->is_server;
    /* The getters return 1 for a counter that is 0; only negative values are errors. */
    int rc = ours ? wolfSSL_GetSequenceNumber(ssl, &sequence)
                  : wolfSSL_GetPeerSequenceNumber(ssl, &sequence);
    if (key == NULL || iv == NULL || rc < 0 || key_len <= 0 || key_len > (int)sizeof keys->key ||
        iv_len <= 0 || iv_len > (int)sizeof keys->iv)
        return -GM_E_TLS;
    keys->version = (enum gm_tls_version)tls->version;
    keys->cipher = (enum gm_tls_cipher)tls->cipher;
    keys->sequence = sequence;
    memcpy(keys->key, key, (size_t)key_len);
    memcpy(keys->iv, iv, (size_t)iv_len);
    if (tls->version != GM_TLS_1_3)
        return 0;
    if (tls->shake->secret_len == 0)
        return -GM_E_TLS;
    keys->secret_len = tls->shake->secret_len;
    memcpy(keys->secret, tls->shake->secrets[client_writes ? 0 : 1], keys->secret_len);
    return 0;
}

/* NULL with *rc set on failure. */
static struct gm_tls_flow *take_flow(const struct gm_tls *tls, bool client_writes, int *rc)
{
    struct gm_tls_keys keys = {0};
    struct gm_tls_flow *flow = NULL;
    *rc = fill_keys(tls, client_writes, &keys);
    if (*rc == 0) {
        flow = gm_tls_flow_new(&keys);
        *rc = flow == NULL ? -GM_E_NOMEM : 0;
    }
    explicit_bzero(&keys, sizeof keys);
    return flow;
}

int gm_tls_take_over(struct gm_tls *tls)
{
    int rc;
    tls->rx = take_flow(tls, tls->is_server, &rc);
    if (rc == 0)
        tls->tx = take_flow(tls, !tls->is_server, &rc);
    return rc;
}
