/* Kernel TLS: the records of a session that is ready, sealed and opened by the kernel on the socket
 * itself (Linux: TCP_ULP "tls"), one direction at a time.
 *
 * The session stays what it was to its owner: alerts, key updates and tickets are still dealt with
 * here (direct.c); only payload does not pass any more. What the session has to say besides payload
 * waits in it until gm_tls_kernel_say; what the peer says besides payload makes a receive fail with
 * EIO and is fetched by gm_tls_kernel_hear. */
#ifndef GM_TLS_KERNEL_H
#define GM_TLS_KERNEL_H

#include "tls/session.h"

/* What this kernel can do. TLS 1.3 counts only where keys can be changed on the way (Linux 6.14):
 * a link that must not renew its keys ends after 2^24 records. */
struct gm_tls_kernel {
    bool tls12, tls13;
    const char *why_not; /* static; NULL when both are there */
};
/* Tries it on a connection of this process to itself (loopback); may block for milliseconds. */
void gm_tls_kernel_probe(struct gm_tls_kernel *found);
/* Sessions may use what was found. Process-wide, before rings start; nothing is used before. */
void gm_tls_kernel_enable(const struct gm_tls_kernel *found);
/* True: handshakes read no byte ahead of the record under way, so that the kernel finds the first
 * record of payload on the socket. */
bool gm_tls_kernel_is_enabled(void);

/* The kernel takes over our direction on `fd`: everything sealed before has been given to the
 * socket. Only when ready; once. 0, or negative: it does not (version, cipher, kind of socket),
 * and the session goes on as before. */
int gm_tls_kernel_take_sending(struct gm_tls *tls, int fd) GM_WARN_UNUSED;
/* Likewise the peer's direction: not one byte behind the handshake has been received. */
int gm_tls_kernel_take_receiving(struct gm_tls *tls, int fd) GM_WARN_UNUSED;
bool gm_tls_kernel_sends(const struct gm_tls *tls);
bool gm_tls_kernel_receives(const struct gm_tls *tls);

/* The kernel has taken `bytes` of payload in one send: it counts records, for the keys' limit. */
void gm_tls_kernel_sent(struct gm_tls *tls, size_t bytes);
/* The kernel has given payload. 0, or -GM_E_TLS_RECORD: it came in the middle of a message. */
int gm_tls_kernel_got(struct gm_tls *tls, const struct gm_tls_io *io) GM_WARN_UNUSED;

/* Sends what the session owes besides payload, before more payload is sent. 0: nothing is owed any
 * more; -EAGAIN: the socket is full, later; other negative: the connection is over. */
int gm_tls_kernel_say(struct gm_tls *tls, int fd) GM_WARN_UNUSED;
/* A receive has failed with -EIO: takes the one record that is no payload. As gm_tls_open; what is
 * answered waits in io->sink, or for gm_tls_kernel_say. */
int gm_tls_kernel_hear(struct gm_tls *tls, int fd, const struct gm_tls_io *io) GM_WARN_UNUSED;
/* A receive has failed with `error` (-errno): what that means; an alert for it waits likewise. */
int gm_tls_kernel_failed(struct gm_tls *tls, int fd, int error,
                         const struct gm_tls_io *io) GM_WARN_UNUSED;

/* Everything sent has been acknowledged by the peer's TCP, or the connection is over: only then may
 * the socket be shut down or closed, because the kernel keeps sealed records in a queue of its own,
 * which it drops. One answer alone may fall between two records: ask again a moment later. `left`:
 * bytes that are not acknowledged. */
bool gm_tls_kernel_is_drained(int fd, uint32_t *left) GM_WARN_UNUSED;

#endif
