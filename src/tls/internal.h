/* What the files behind session.h and context.h share. Private to tls/. */
#ifndef GM_TLS_INTERNAL_H
#define GM_TLS_INTERNAL_H

#include <stdatomic.h>

#include "tls/alert.h"
#include "tls/cert.h"
#include "tls/crl.h"
#include "tls/hello.h"
#include "tls/session.h"
#include "tls/wolf.h"

/* ---- Contexts (context.c, pairs.c) ---- */

/* A certificate with its key, ready to be served. */
struct gm_tls_pair {
    WOLFSSL_CTX *ctx;
    long long not_after;
};
/* A name and who serves it; sorted by name, then pair. */
struct gm_tls_served {
    char *name; /* normal; may begin with "*." */
    uint32_t pair;
};
struct gm_tls_server {
    _Atomic uint32_t refs; /* any thread; acq_rel, so that the last one sees all that was done */
    struct gm_tls_pair *pairs;
    struct gm_tls_served *names;
    uint32_t pair_count, name_count;
    struct gm_tls_crls *crls; /* of clients' certificates; NULL: none */
};
struct gm_tls_client {
    _Atomic uint32_t refs; /* as above */
    WOLFSSL_CTX *ctx;
    struct gm_tls_crls *crls; /* NULL: none */
    bool insecure;
};

/* The pair for a name in normal form, "" included: there is always one. */
const struct gm_tls_pair *gm_tls_server_choose(const struct gm_tls_server *server,
                                               const char *name);

/* ---- Sessions ---- */

/* Of a handshake under way; freed with it. Secrets: wiped. */
struct gm_tls_shake {
    char *host;       /* client: whom the certificate must be for; NULL: insecure */
    int verdict;      /* what our own verification found: 0 or negative */
    uint32_t records; /* taken from the peer */
    uint8_t *hello;   /* server: one that had to be joined, for the first call; else NULL */
    uint32_t hello_len, hello_used;
    uint8_t secret_len; /* TLS 1.3, both traffic secrets: the client's, the server's */
    uint8_t secrets[2][GM_TLS_SECRET_MAX];
};

/* For one call into the library: where its bytes come from and go to. */
struct gm_tls_call {
    struct gm_chain *in; /* NULL: a call that does not read */
    const struct gm_tls_sink *sink;
    struct gm_buf *block; /* being filled */
    uint32_t used;
    uint32_t record_left; /* of the record that is being taken */
    int error;            /* of ours; the library only knows that it must wait */
};

/* A record that is no payload, for the kernel to seal: an alert or a KeyUpdate. */
struct gm_tls_owed {
    uint8_t type, len;
    uint8_t bytes[5];
};
#define GM_TLS_OWED_MAX 3u

struct gm_tls {
    WOLFSSL *ssl; /* NULL: a server before the hello, or records are ours */
    struct gm_tls_flow *rx, *tx;
    struct gm_tls_shake *shake;
    struct gm_tls_call *call;
    struct gm_tls_server *server; /* a reference, until the records are ours */
    struct gm_tls_client *client;
    char *server_name, *subject; /* NULL: "" */
    uint8_t *held;               /* reference: sealed bytes that found no block */
    uint32_t held_len;
    uint32_t ahead; /* reference: plaintext that is sealed and held, and still in its chain */
    uint32_t skip;  /* of a handshake message that is ignored */
    uint16_t version;
    uint8_t cipher;
    uint8_t idle_records; /* without payload, in a row */
    uint8_t message[5];   /* a handshake message: header and first byte */
    uint8_t message_len;
    uint8_t owed_count; /* kernel: records of ours that wait for gm_tls_kernel_say */
    struct gm_tls_owed owed[GM_TLS_OWED_MAX];
    uint64_t kernel_records; /* sealed by the kernel with these keys, at most */
    bool is_server : 1;
    bool reference : 1;
    bool ready : 1;
    bool resumed : 1;
    bool dead : 1;         /* an error was told: nothing is opened or sealed any more */
    bool ended : 1;        /* the peer's close_notify has come */
    bool finished : 1;     /* ours is queued */
    bool owes_update : 1;  /* a KeyUpdate that the peer has asked for */
    bool owes_refusal : 1; /* a no_renegotiation */
    bool kernel_tx : 1;    /* the kernel seals */
    bool kernel_rx : 1;    /* the kernel opens */
    bool rx_is_new : 1;    /* rx has keys that the kernel has not */
};

/* library.c: wolfSSL bound to chains. */
/* Makes tls->ssl. -GM_E_NOMEM. */
int gm_tls_library_start(struct gm_tls *tls, WOLFSSL_CTX *ctx) GM_WARN_UNUSED;
/* Brackets calls into the library. */
void gm_tls_call_begin(struct gm_tls *tls, struct gm_tls_call *call, struct gm_chain *in,
                       const struct gm_tls_sink *sink);
void gm_tls_call_end(struct gm_tls *tls);
/* What a failed call into the library means, as one of our codes; 0: it waits for input. */
int gm_tls_library_error(struct gm_tls *tls, int rc);
/* Copies bytes to the sink, as far as blocks and segments reach; the number copied. */
size_t gm_tls_call_emit(struct gm_tls_call *call, const uint8_t *bytes, size_t len);
/* For contexts: callbacks and verification. */
void gm_tls_library_configure(WOLFSSL_CTX *ctx);
int gm_tls_library_verify(int preverify, WOLFSSL_X509_STORE_CTX *store);

/* takeover.c: from the library's records to ours. 0 or -GM_E_TLS, -GM_E_NOMEM. */
int gm_tls_take_over(struct gm_tls *tls) GM_WARN_UNUSED;

/* direct.c and reference.c: the calls of session.h of the same names, once ready. */
int gm_tls_direct_open(struct gm_tls *tls, const struct gm_tls_io *io);
ssize_t gm_tls_direct_seal(struct gm_tls *tls, struct gm_chain *plain, size_t max,
                           const struct gm_tls_sink *sink);
int gm_tls_direct_alert(struct gm_tls *tls, uint8_t level, enum gm_tls_alert description,
                        const struct gm_tls_sink *sink);
int gm_tls_direct_rekey(struct gm_tls *tls, bool ask, const struct gm_tls_sink *sink);
/* What the peer is owed and must come before payload. 0, or negative: not now. `sink`: NULL when
 * the kernel seals. */
int gm_tls_direct_pay(struct gm_tls *tls, const struct gm_tls_sink *sink);
/* One record that is no payload, opened by the kernel (its bytes are borrowed). As gm_tls_open. */
int gm_tls_direct_hear(struct gm_tls *tls, enum gm_tls_content type, gm_slice bytes,
                       const struct gm_tls_io *io);
/* Ends the session with an alert, if there is room for one. -GM_E_TLS_RECORD. */
int gm_tls_direct_refuse(struct gm_tls *tls, enum gm_tls_alert description,
                         const struct gm_tls_sink *sink);
/* kernel.c: a record waits for gm_tls_kernel_say. -GM_E_NOMEM: too many do. */
int gm_tls_kernel_owe(struct gm_tls *tls, enum gm_tls_content type, const uint8_t *bytes,
                      uint32_t len);
int gm_tls_reference_open(struct gm_tls *tls, const struct gm_tls_io *io);
ssize_t gm_tls_reference_seal(struct gm_tls *tls, struct gm_chain *plain, size_t max,
                              const struct gm_tls_sink *sink);
int gm_tls_reference_close(struct gm_tls *tls, const struct gm_tls_sink *sink);
int gm_tls_reference_rekey(struct gm_tls *tls, const struct gm_tls_sink *sink);

#endif
