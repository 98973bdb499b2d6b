/* Errors: one space of negative integers for everything that can fail.
 *
 * A fallible function returns >= 0 for success and -errno or -GM_E* for failure. Our own codes
 * start above every errno, so the two never meet and one printing function serves both. */
#ifndef GM_BASE_ERROR_H
#define GM_BASE_ERROR_H

#define GM_WARN_UNUSED __attribute__((warn_unused_result))

enum gm_error {
    GM_E_BASE = 4096,
    GM_E_NOMEM,     /* a pool or budget of ours is used up: shed load */
    GM_E_PROTOCOL,  /* the peer broke the protocol */
    GM_E_LIMIT,     /* a named limit is exceeded */
    GM_E_STALE,     /* a handle whose object has gone */
    GM_E_CLOSED,    /* the other side has ended */
    GM_E_CONFIG,    /* a configuration value cannot be used */
    GM_E_NOT_FOUND, /* no such object */
    GM_E_TIMEOUT,   /* a deadline of ours has passed */
    /* TLS, from here on: */
    GM_E_TLS,           /* the handshake failed for a reason of its own */
    GM_E_TLS_RECORD,    /* a record that is damaged, forged or malformed */
    GM_E_TLS_ALERT,     /* the peer sent a fatal alert */
    GM_E_TLS_TRUNCATED, /* the connection ended without close_notify */
    GM_E_TLS_PLAINTEXT, /* the peer does not speak TLS */
    GM_E_TLS_VERSION,   /* no common version or cipher suite */
    GM_E_TLS_UNTRUSTED, /* the certificate's issuer is not trusted */
    GM_E_TLS_SELF_SIGNED,
    GM_E_TLS_EXPIRED,
    GM_E_TLS_NOT_YET,
    GM_E_TLS_NAME, /* it is for another name */
    GM_E_TLS_REVOKED,
    GM_E_TLS_REVOKED_CHAIN, /* one that leads to it is revoked */
    GM_E_TLS_CRL,           /* the list of revoked ones is not signed by the issuer that it names */
    GM_E_TLS_NO_CERT,       /* the peer had to show one and did not */
};

/* Text for a negative return value (borrowed, static or thread-local until the next call). Not for
 * the data path. */
const char *gm_error_text(int code);

#endif
