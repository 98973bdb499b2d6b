/* One direction of a TLS record layer: AEAD on slices, TLS 1.3 (RFC 8446 section 5) and 1.2 (RFC
 * 5246, 5288, 7905), AES-GCM and ChaCha20-Poly1305.
 *
 * Pure: bytes in, bytes out. Opening decrypts in place, where the kernel put the bytes; sealing
 * encrypts from the payload's slices straight into the outgoing blocks: the cipher is the only pass
 * over the bytes (but a record that fits one block is gathered there first, which costs less than
 * the pieces). Nothing that has not been authenticated is ever given out. */
#ifndef GM_TLS_RECORD_H
#define GM_TLS_RECORD_H

#include "base/chain.h"

#define GM_TLS_HEADER_BYTES 5u
#define GM_TLS_PAYLOAD_MAX  16384u
#define GM_TLS_RECORD_MAX   (GM_TLS_HEADER_BYTES + GM_TLS_PAYLOAD_MAX + 256u)
#define GM_TLS_OVERHEAD_MAX (GM_TLS_HEADER_BYTES + 8u + 1u + 16u)
#define GM_TLS_SECRET_MAX   48u

enum gm_tls_version { GM_TLS_1_2 = 0x0303, GM_TLS_1_3 = 0x0304 };
enum gm_tls_cipher { GM_TLS_AES_128_GCM, GM_TLS_AES_256_GCM, GM_TLS_CHACHA20_POLY1305 };
enum gm_tls_content {
    GM_TLS_CHANGE_CIPHER_SPEC = 20,
    GM_TLS_ALERT = 21,
    GM_TLS_HANDSHAKE = 22,
    GM_TLS_DATA = 23,
};

/* What a finished handshake hands over for one direction. Secret: the maker wipes it. */
struct gm_tls_keys {
    enum gm_tls_version version;
    enum gm_tls_cipher cipher;
    uint64_t sequence; /* of the next record */
    uint8_t key[32];
    uint8_t iv[12]; /* TLS 1.2 with AES: 4 bytes of salt */
    /* TLS 1.3: the traffic secret, for KeyUpdate; 32 bytes, 48 with AES-256. */
    uint8_t secret[GM_TLS_SECRET_MAX];
    uint8_t secret_len;
};

/* One direction; owned by a session (tls/session.h), one ring at a time. */
struct gm_tls_flow;

/* The library has what this needs for the cipher; the system's may lack it for AES-GCM. */
bool gm_tls_record_has(enum gm_tls_cipher cipher);
/* NULL: out of memory. Copies the keys. Only for a cipher that gm_tls_record_has. */
struct gm_tls_flow *gm_tls_flow_new(const struct gm_tls_keys *keys) GM_WARN_UNUSED;
/* Wipes and frees. Accepts NULL. */
void gm_tls_flow_free(struct gm_tls_flow *flow);
/* TLS 1.3: on to the next generation of keys (RFC 8446 section 7.2), sequence 0. -GM_E_TLS (the
 * flow is TLS 1.2, or the library failed): nothing has changed. */
int gm_tls_flow_update(struct gm_tls_flow *flow) GM_WARN_UNUSED;
/* What the next record would be done with, for another to go on. Secret: the caller wipes it. */
void gm_tls_flow_keys(const struct gm_tls_flow *flow, struct gm_tls_keys *out);
/* Records sealed or opened with the present keys; at GM_TLS_REKEY_RECORDS a sender must update
 * (AES-GCM's limit is 2^24.5, RFC 8446 section 5.5). */
uint64_t gm_tls_flow_sequence(const struct gm_tls_flow *flow);
#define GM_TLS_REKEY_RECORDS (1ull << 24)
enum gm_tls_version gm_tls_flow_version(const struct gm_tls_flow *flow);
enum gm_tls_cipher gm_tls_flow_cipher(const struct gm_tls_flow *flow);
/* Bytes that a record of this direction is longer than its payload. */
uint32_t gm_tls_flow_overhead(const struct gm_tls_flow *flow);

/* Where sealed records go: blocks got by `block` (one reference each, taken; at least 64 bytes),
 * pieces appended to `out`. All of it is the caller's for the call. Every record begins a block:
 * who sees to it that payload and overhead together fill blocks wastes nothing. */
struct gm_tls_sink {
    struct gm_chain *out;
    struct gm_seg_pool *segs;
    struct gm_buf *(*block)(void *arg); /* NULL: none left */
    void *arg;
};

/* Length of the whole record at the front of `in`, header included; 0: the header is not complete;
 * -GM_E_TLS_RECORD: impossible type, version or length. */
int gm_tls_record_length(const struct gm_chain *in) GM_WARN_UNUSED;

/* Opens the whole record at the front of `in` (it must be complete), in place, and removes it:
 * payload slices go to `plain`, in order. Returns the content type (the inner one in TLS 1.3), or
 * -GM_E_TLS_RECORD (forged, damaged, replayed, out of order, too long, all padding): the connection
 * is over and the record is released; -GM_E_NOMEM (segments): nothing has happened. A
 * change_cipher_spec record of TLS 1.3's compatibility mode is returned with nothing in `plain`;
 * after the handshake the caller refuses it (RFC 8446 section 5), as it does with one of TLS 1.2
 * (renegotiation). The received slices are exclusive and the ring's own. */
int gm_tls_record_open(struct gm_tls_flow *flow, struct gm_chain *in, struct gm_chain *plain,
                       struct gm_seg_pool *segs) GM_WARN_UNUSED;

/* Seals the first `len` (<= GM_TLS_PAYLOAD_MAX, <= plain->bytes) bytes of `plain` as one record of
 * `type`, and removes them. `plain` is only read: its slices may be shared. Only data may be empty.
 * 0; -GM_E_NOMEM (blocks, segments), -GM_E_TLS (the sequence is used up, or the library failed):
 * nothing has happened, neither chain nor sequence moved. */
int gm_tls_record_seal(struct gm_tls_flow *flow, enum gm_tls_content type, struct gm_chain *plain,
                       uint32_t len, const struct gm_tls_sink *sink) GM_WARN_UNUSED;

#endif
