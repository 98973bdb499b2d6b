/* X-Forwarded-Client-Cert: whose certificate a client has shown, told to the backend in the shape
 * that Envoy gave the field: Subject="CN=a,O=b". Pure. */
#ifndef GM_SERVER_XFCC_H
#define GM_SERVER_XFCC_H

#include <stdbool.h>
#include <stddef.h>

#define GM_XFCC_NAME "X-Forwarded-Client-Cert"
/* Longest value. A subject of the usual attributes at their upper bounds (RFC 5280 appendix A)
 * fits. */
#define GM_XFCC_MAX 1024u

/* Writes the value for a subject as RFC 4514 words it, without NUL. What cannot stand between the
 * quotes or in a field is escaped as that RFC allows. The length, or 0: it does not fit. */
size_t gm_xfcc_write(const char *subject, char out[GM_XFCC_MAX]);

#endif
