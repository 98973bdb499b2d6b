/* Host names and addresses as certificates have them (RFC 6125, RFC 5280). Pure. Private to tls/.
 */
#ifndef GM_TLS_NAMES_H
#define GM_TLS_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for a name and its NUL (RFC 1035: 253 bytes as text). */
#define GM_TLS_NAME_BYTES 256u

/* The name in the form that is compared: lower case, without a last dot. False: it is no host name
 * (a byte that none has, an empty label, too long); `out` is then "". */
bool gm_tls_name_normal(const char *name, size_t len, char out[GM_TLS_NAME_BYTES]);
/* Whether a certificate's dNSName stands for `host` (normal). A star is the whole left-most label,
 * stands for one label and has two or more behind it: no "w*.example.com", no "*.com". */
bool gm_tls_name_matches(const char *pattern, size_t pattern_len, const char *host);
/* The address that `name` spells ("192.0.2.1", "2001:db8::1", "[2001:db8::1]"): its length, 4 or
 * 16, or 0 when it spells none. */
size_t gm_tls_name_address(const char *name, uint8_t out[16]);

#endif
