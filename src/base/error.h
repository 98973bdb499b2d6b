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
};

/* Text for a negative return value (borrowed, static or thread-local until the next call). Not for
 * the data path. */
const char *gm_error_text(int code);

#endif
