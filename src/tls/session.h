/* One connection's TLS: handshake, then records, alerts, key updates, the end.
 *
 * Pure: ciphertext comes in by a chain and goes out by a chain, both the caller's, and so is the
 * memory; between calls a session holds no slice, so that it may move from ring to ring. The
 * handshake is wolfSSL's; then its keys are taken over (tls/record.h), its state is freed and
 * records are ours. Where our records cannot do the cipher (a system library without AES-GCM piece
 * by piece), or gm_tls_set_reference asks for it, they stay wolfSSL's: the reference that ours are
 * tested against. */
#ifndef GM_TLS_SESSION_H
#define GM_TLS_SESSION_H

#include <sys/types.h>

#include "tls/context.h"
#include "tls/record.h"

struct gm_tls;

/* For the length of one call. */
struct gm_tls_io {
    struct gm_chain *in;     /* received, not used: calls take from its front */
    struct gm_chain *plain;  /* opened: calls append */
    struct gm_tls_sink sink; /* to be sent: calls append to sink.out */
};

/* Sessions made from now on leave records to wolfSSL. Any thread. */
void gm_tls_set_reference(bool reference);

/* Takes a reference of the context for itself. NULL: out of memory. */
struct gm_tls *gm_tls_accept(struct gm_tls_server *server) GM_WARN_UNUSED;
/* `name`: the host that the certificate must be for, sent as SNI unless it is an address (borrowed
 * for the call). */
struct gm_tls *gm_tls_connect(struct gm_tls_client *client, const char *name) GM_WARN_UNUSED;
/* Wipes and frees. Accepts NULL. */
void gm_tls_free(struct gm_tls *tls);

/* Goes on with the handshake, with what has come; a client calls it once before anything has.
 * 1: done; 0: more input is needed; negative: refused, an alert may wait in sink.out and the error
 * says why (-GM_E_TLS*). A call that finds a whole flight costs 0.1 to 1 ms: callers budget them.
 * Input behind the handshake stays in io->in. */
int gm_tls_handshake(struct gm_tls *tls, const struct gm_tls_io *io) GM_WARN_UNUSED;
bool gm_tls_is_ready(const struct gm_tls *tls);
/* A client that has not been ready yet: its first flight needs nothing of the peer's. */
bool gm_tls_speaks_first(const struct gm_tls *tls);

/* Opens every whole record in io->in. 0: go on; 1: the peer has ended its direction (close_notify),
 * what follows is to be discarded; negative: the connection is over (-GM_E_TLS_RECORD,
 * -GM_E_TLS_ALERT, -GM_E_NOMEM), an alert may wait in sink.out. Payload that was opened before the
 * error is in io->plain. Only when ready. */
int gm_tls_open(struct gm_tls *tls, const struct gm_tls_io *io) GM_WARN_UNUSED;
/* Bytes still missing of the record (or handshake record) at the front of `in`; at least 1 when its
 * header is not whole; 0 when `in` is empty or holds a whole one. */
uint32_t gm_tls_missing(const struct gm_tls *tls, const struct gm_chain *in);

/* Seals from the front of `plain` at most `max` bytes, in records of at most 16 KiB, and removes
 * them. Returns the number of bytes sealed (fewer than asked for: blocks ran out), or -GM_E_TLS.
 * Only when ready. */
ssize_t gm_tls_seal(struct gm_tls *tls, struct gm_chain *plain, size_t max,
                    const struct gm_tls_sink *sink) GM_WARN_UNUSED;
/* Queues close_notify, once; nothing is sealed afterwards. 0 or -GM_E_NOMEM. */
int gm_tls_close_notify(struct gm_tls *tls, const struct gm_tls_sink *sink);

/* TLS 1.3: our direction goes on with new keys (KeyUpdate); `ask`: the peer is to renew its own as
 * well. Sealing does so by itself at GM_TLS_REKEY_RECORDS. 0, -GM_E_NOMEM, -GM_E_TLS (TLS 1.2). */
int gm_tls_rekey(struct gm_tls *tls, bool ask, const struct gm_tls_sink *sink) GM_WARN_UNUSED;

/* What was agreed on; for logs, metrics and headers. Texts live as long as the session. */
struct gm_tls_facts {
    enum gm_tls_version version;
    enum gm_tls_cipher cipher;
    const char *server_name;  /* what the client asked for; "" when it did not */
    const char *peer_subject; /* of a verified peer certificate, RFC 4514; "" when there is none */
    bool resumed;
};
struct gm_tls_facts gm_tls_facts(const struct gm_tls *tls);

#endif
