/* Alerts (RFC 8446 section 6), the library's error codes and ours, one to the other. Pure. Private
 * to tls/. */
#ifndef GM_TLS_ALERT_H
#define GM_TLS_ALERT_H

#include <stdint.h>

enum gm_tls_alert {
    GM_TLS_CLOSE_NOTIFY = 0,
    GM_TLS_UNEXPECTED_MESSAGE = 10,
    GM_TLS_BAD_RECORD_MAC = 20,
    GM_TLS_DECODE_ERROR = 50,
    GM_TLS_ILLEGAL_PARAMETER = 47,
    GM_TLS_INTERNAL_ERROR = 80,
    GM_TLS_USER_CANCELED = 90,
    GM_TLS_NO_RENEGOTIATION = 100,
};
enum { GM_TLS_WARNING = 1, GM_TLS_FATAL = 2 };

/* What a fatal alert from the peer says: -GM_E_TLS_ALERT, or the code that says more. `first`: it
 * was the peer's whole answer. */
int gm_tls_alert_meaning(uint8_t description, int first);
/* The library's error code (negative) as one of ours. */
int gm_tls_library_meaning(int code);

#endif
