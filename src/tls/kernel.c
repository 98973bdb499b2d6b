/* Kernel TLS: the probe, the hand-over of keys, and what is said and heard besides payload.
 *
 * Owner: the session's ring (the probe: the thread that starts the program). Interface of the
 * kernel: linux/tls.h and Documentation/networking/tls.rst. Invariants: new keys for our direction
 * go to the kernel right behind the KeyUpdate that announces them; keys of the peer's direction
 * before the next receive. */
#include "tls/kernel.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tls/internal.h"

#define EXPECT_NO_PAD 4 /* TLS_RX_EXPECT_NO_PAD, Linux 6.0: padding costs a copy, and is rare */
/* Of a record that is no payload, in one go; a longer one comes in pieces. */
#define HEAR_BYTES 2048u

/* Written before rings start. */
static struct gm_tls_kernel enabled;

void gm_tls_kernel_enable(const struct gm_tls_kernel *found)
{
    enabled = *found;
}

bool gm_tls_kernel_is_enabled(void)
{
    return enabled.tls12 || enabled.tls13;
}

bool gm_tls_kernel_sends(const struct gm_tls *tls)
{
    return tls->kernel_tx;
}

bool gm_tls_kernel_receives(const struct gm_tls *tls)
{
    return tls->kernel_rx;
}

/* ---- Keys ---- */

union crypto {
    struct tls_crypto_info info;
    struct tls12_crypto_info_aes_gcm_128 aes128;
    struct tls12_crypto_info_aes_gcm_256 aes256;
    struct tls12_crypto_info_chacha20_poly1305 chacha;
};

/* The kernel wants AES-GCM's nonce in two parts: four bytes of salt, and eight that TLS 1.2 sends
 * along with each record (the sequence, as our own records do) and TLS 1.3 does not. */
static void put_aes(const struct gm_tls_keys *keys, const uint8_t sequence[8], uint8_t *salt,
                    uint8_t *iv)
{
    memcpy(salt, keys->iv, TLS_CIPHER_AES_GCM_128_SALT_SIZE);
    memcpy(iv, keys->version == GM_TLS_1_3 ? keys->iv + 4 : sequence,
           TLS_CIPHER_AES_GCM_128_IV_SIZE);
}

static socklen_t fill_crypto(union crypto *crypto, const struct gm_tls_keys *keys)
{
    uint64_t wire = __builtin_bswap64(keys->sequence);
    uint8_t sequence[8];
    memcpy(sequence, &wire, sizeof sequence);
    crypto->info.version = (uint16_t)keys->version; /* as in records */
    switch (keys->cipher) {
    case GM_TLS_AES_128_GCM:
        crypto->info.cipher_type = TLS_CIPHER_AES_GCM_128;
        put_aes(keys, sequence, crypto->aes128.salt, crypto->aes128.iv);
        memcpy(crypto->aes128.key, keys->key, sizeof crypto->aes128.key);
        memcpy(crypto->aes128.rec_seq, sequence, sizeof sequence);
        return sizeof crypto->aes128;
    case GM_TLS_AES_256_GCM:
        crypto->info.cipher_type = TLS_CIPHER_AES_GCM_256;
        put_aes(keys, sequence, crypto->aes256.salt, crypto->aes256.iv);
        memcpy(crypto->aes256.key, keys->key, sizeof crypto->aes256.key);
        memcpy(crypto->aes256.rec_seq, sequence, sizeof sequence);
        return sizeof crypto->aes256;
    case GM_TLS_CHACHA20_POLY1305:
        crypto->info.cipher_type = TLS_CIPHER_CHACHA20_POLY1305;
        memcpy(crypto->chacha.iv, keys->iv, sizeof crypto->chacha.iv);
        memcpy(crypto->chacha.key, keys->key, sizeof crypto->chacha.key);
        memcpy(crypto->chacha.rec_seq, sequence, sizeof sequence);
        return sizeof crypto->chacha;
    }
    return 0;
}

static int install_keys(int fd, int direction, const struct gm_tls_keys *keys)
{
    union crypto crypto = {0};
    socklen_t len = fill_crypto(&crypto, keys);
    int rc = setsockopt(fd, SOL_TLS, direction, &crypto, len) == 0 ? 0 : -errno;
    explicit_bzero(&crypto, sizeof crypto);
    return rc;
}

static int install(int fd, int direction, const struct gm_tls_flow *flow)
{
    struct gm_tls_keys keys;
    gm_tls_flow_keys(flow, &keys);
    int rc = install_keys(fd, direction, &keys);
    explicit_bzero(&keys, sizeof keys);
    return rc;
}

/* ---- Taking over ---- */

/* The socket's records can be the kernel's: it has the layer, or gets it now. */
static int prepare(const struct gm_tls *tls, int fd)
{
    GM_ASSERT(tls->ready);
    bool can = tls->version == GM_TLS_1_3 ? enabled.tls13 : enabled.tls12;
    if (!can || tls->reference || tls->dead || tls->ended || tls->finished)
        return -GM_E_TLS;
    if (tls->kernel_tx || tls->kernel_rx)
        return 0;
    int rc = setsockopt(fd, SOL_TCP, TCP_ULP, "tls", sizeof "tls" - 1);
    return rc == 0 || errno == EEXIST ? 0 : -errno;
}

int gm_tls_kernel_take_sending(struct gm_tls *tls, int fd)
{
    GM_ASSERT(!tls->kernel_tx);
    int rc = prepare(tls, fd);
    if (rc == 0)
        rc = install(fd, TLS_TX, tls->tx);
    tls->kernel_tx = rc == 0;
    tls->kernel_records = gm_tls_flow_sequence(tls->tx);
    return rc;
}

int gm_tls_kernel_take_receiving(struct gm_tls *tls, int fd)
{
    GM_ASSERT(!tls->kernel_rx);
    int rc = prepare(tls, fd), on = 1;
    if (rc == 0)
        rc = install(fd, TLS_RX, tls->rx);
    if (rc == 0 && tls->version == GM_TLS_1_3)
        (void)setsockopt(fd, SOL_TLS, EXPECT_NO_PAD, &on, sizeof on); /* older kernels: slower */
    tls->kernel_rx = rc == 0;
    return rc;
}

/* ---- Saying ---- */

int gm_tls_kernel_owe(struct gm_tls *tls, enum gm_tls_content type, const uint8_t *bytes,
                      uint32_t len)
{
    if (tls->owed_count == GM_TLS_OWED_MAX)
        return -GM_E_NOMEM;
    struct gm_tls_owed *owed = &tls->owed[tls->owed_count++];
    GM_ASSERT(len <= sizeof owed->bytes);
    owed->type = (uint8_t)type;
    owed->len = (uint8_t)len;
    memcpy(owed->bytes, bytes, len);
    return 0;
}

static int send_record(int fd, const struct gm_tls_owed *owed)
{
    union {
        struct cmsghdr header;
        uint8_t space[CMSG_SPACE(1)];
    } control = {0};
    struct iovec iov = {(void *)(uintptr_t)owed->bytes, owed->len};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof control.space};
    control.header.cmsg_level = SOL_TLS;
    control.header.cmsg_type = TLS_SET_RECORD_TYPE;
    control.header.cmsg_len = CMSG_LEN(1);
    *CMSG_DATA(&control.header) = owed->type;
    ssize_t sent;
    do {
        sent = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent == owed->len ? 0 : sent < 0 ? -errno : -EIO;
}

int gm_tls_kernel_say(struct gm_tls *tls, int fd)
{
    int rc = gm_tls_direct_pay(tls, NULL);
    if (rc < 0 && rc != -GM_E_NOMEM)
        return rc;
    while (tls->owed_count > 0) {
        rc = send_record(fd, &tls->owed[0]);
        if (rc < 0)
            return rc;
        bool update = tls->owed[0].type == GM_TLS_HANDSHAKE;
        memmove(tls->owed, tls->owed + 1, --tls->owed_count * sizeof tls->owed[0]);
        if (update)
            rc = install(fd, TLS_TX, tls->tx);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* How full the records were is not known: counted is what they are at least and at most one more.
 */
void gm_tls_kernel_sent(struct gm_tls *tls, size_t bytes)
{
    tls->kernel_records += 1 + bytes / GM_TLS_PAYLOAD_MAX;
    if (tls->version == GM_TLS_1_3 && tls->kernel_records >= GM_TLS_REKEY_RECORDS) {
        tls->kernel_records = 0;
        tls->owes_update = true;
    }
}

static bool connection_is_over(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    return getsockopt(fd, SOL_TCP, TCP_INFO, &info, &len) != 0 || info.tcpi_state == TCP_CLOSE;
}

bool gm_tls_kernel_is_drained(int fd, uint32_t *left)
{
    int unacknowledged = 0;
    if (ioctl(fd, SIOCOUTQ, &unacknowledged) != 0 ||
        (unacknowledged > 0 && connection_is_over(fd))) /* then nothing leaves any more */
        unacknowledged = 0;
    *left = (uint32_t)unacknowledged;
    return unacknowledged == 0;
}

/* ---- Hearing ---- */

int gm_tls_kernel_got(struct gm_tls *tls, const struct gm_tls_io *io)
{
    tls->idle_records = 0;
    if (tls->message_len == 0)
        return 0;
    tls->dead = true;
    return gm_tls_direct_refuse(tls, GM_TLS_UNEXPECTED_MESSAGE, &io->sink);
}

int gm_tls_kernel_hear(struct gm_tls *tls, int fd, const struct gm_tls_io *io)
{
    union {
        struct cmsghdr header;
        uint8_t space[CMSG_SPACE(1)];
    } control = {0};
    uint8_t bytes[HEAR_BYTES];
    struct iovec iov = {bytes, sizeof bytes};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof control.space};
    if (tls->dead)
        return -GM_E_TLS;
    ssize_t got;
    do {
        got = recvmsg(fd, &msg, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == EAGAIN ? 0 : gm_tls_kernel_failed(tls, fd, -errno, io);
    const struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
    if (header == NULL || header->cmsg_level != SOL_TLS ||
        header->cmsg_type != TLS_GET_RECORD_TYPE || *CMSG_DATA(header) == GM_TLS_DATA)
        return -GM_E_TLS; /* not what the failed receive has told */
    if (tls->ended)
        return 1;
    int rc = gm_tls_direct_hear(tls, (enum gm_tls_content) * CMSG_DATA(header),
                                (gm_slice){bytes, (uint32_t)got, NULL}, io);
    if (rc == 0 && tls->rx_is_new) {
        rc = install(fd, TLS_RX, tls->rx);
        tls->rx_is_new = false;
    }
    tls->ended |= rc > 0;
    tls->dead |= rc < 0;
    return rc;
}

int gm_tls_kernel_failed(struct gm_tls *tls, int fd, int error, const struct gm_tls_io *io)
{
    if (error != -EBADMSG && error != -EMSGSIZE && error != -EINVAL)
        return error;
    int pending;
    socklen_t len = sizeof pending;
    (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &pending, &len); /* or our alert fails with it */
    tls->dead = true;
    return gm_tls_direct_refuse(
        tls, error == -EBADMSG ? GM_TLS_BAD_RECORD_MAC : GM_TLS_DECODE_ERROR, &io->sink);
}

/* ---- The probe ---- */

static int loopback_pair(int pair[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    struct timeval patience = {.tv_sec = 1};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pair[1] = -1;
    if (listener < 0 || pair[0] < 0 || bind(listener, (struct sockaddr *)&at, len) != 0 ||
        listen(listener, 1) != 0 || getsockname(listener, (struct sockaddr *)&at, &len) != 0 ||
        connect(pair[0], (struct sockaddr *)&at, len) != 0)
        goto out;
    pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    (void)setsockopt(pair[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
out:
    if (listener >= 0)
        (void)close(listener);
    return pair[1] >= 0 ? 0 : -errno;
}

static bool passes_a_byte(const int pair[2])
{
    char byte = 'g';
    return send(pair[0], &byte, 1, MSG_NOSIGNAL) == 1 && recv(pair[1], &byte, 1, 0) == 1 &&
           byte == 'g';
}

/* NULL: it can; else why not. */
static const char *probe_version(enum gm_tls_version version, const int pair[2])
{
    const struct gm_tls_keys keys = {.version = version, .cipher = GM_TLS_AES_128_GCM};
    for (int i = 0; i < 2; i++)
        if (setsockopt(pair[i], SOL_TCP, TCP_ULP, "tls", sizeof "tls" - 1) != 0)
            return errno == ENOENT ? "the kernel has no TLS (module tls)"
                                   : "the kernel refuses TLS on sockets";
    if (install_keys(pair[0], TLS_TX, &keys) != 0 || install_keys(pair[1], TLS_RX, &keys) != 0)
        return "the kernel does not take AES-GCM keys";
    if (!passes_a_byte(pair))
        return "the kernel does not pass records";
    if (version == GM_TLS_1_3 && install_keys(pair[0], TLS_TX, &keys) != 0)
        return "TLS 1.3: the kernel cannot change keys (Linux 6.14 can)";
    return NULL;
}

void gm_tls_kernel_probe(struct gm_tls_kernel *found)
{
    static const enum gm_tls_version versions[] = {GM_TLS_1_3, GM_TLS_1_2};
    *found = (struct gm_tls_kernel){0};
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        int pair[2];
        const char *why = "no connection over loopback to try it on";
        if (loopback_pair(pair) == 0)
            why = probe_version(versions[i], pair);
        for (int end = 0; end < 2; end++)
            if (pair[end] >= 0)
                (void)close(pair[end]);
        *(versions[i] == GM_TLS_1_3 ? &found->tls13 : &found->tls12) = why == NULL;
        found->why_not = why != NULL ? why : found->why_not;
    }
}
