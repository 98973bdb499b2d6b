/* SHA-1 for the WebSocket handshake (RFC 6455 section 4.2.2), from the one crypto library. Any
 * thread. */
#include "auth/wolf.h"
#include "link/link.h"

int gm_link_sha1(const uint8_t *p, size_t n, uint8_t out[20])
{
    return wc_ShaHash(p, (word32)n, out) == 0 ? 0 : -GM_E_LIMIT;
}
