/* WebSocket masking (RFC 6455 section 5.3): XOR with a four-byte key, in place, at memory speed.
 *
 * Pure code, any thread. The variant (AVX2, SSE2, 64-bit words) is chosen once, at the first call,
 * from what the processor offers; the choice changes speed only. Invariant: masking twice with one
 * key and phase gives the bytes back.
 */
#ifndef GM_WS_MASK_H
#define GM_WS_MASK_H

#include <stddef.h>
#include <stdint.h>

/* p[i] ^= byte (phase + i) mod 4 of the key, where `key` holds the wire's four bytes in memory
 * order. Any alignment, any length, phase 0..3. Returns the phase for the byte after the last. Key
 * 0 touches nothing; without bytes there need be no pointer. */
unsigned gm_ws_mask(uint8_t *p, size_t n, uint32_t key, unsigned phase);

/* The same by a named variant, so that tests and measurements reach each one: "avx2", "sse2",
 * "word", "byte". Returns NULL when the variant is unknown or this processor lacks it. */
typedef unsigned gm_ws_mask_fn(uint8_t *p, size_t n, uint32_t key, unsigned phase);
gm_ws_mask_fn *gm_ws_mask_variant(const char *name);

#endif
