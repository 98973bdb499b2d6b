/* Records that are ours: payload is opened in place and sealed from its slices; alerts, key
 * updates and what else a peer may say between payload are dealt with here.
 *
 * Owner: the session's ring. Invariants: a key update that the peer asked for leaves before the
 * next payload; a handshake message is never mixed with other records; records without payload
 * come a limited number of times in a row. */
#include <string.h>

#include "tls/internal.h"

/* Records without payload in a row: as many as BoringSSL bears. */
#define IDLE_RECORDS_MAX 32u
/* A NewSessionTicket has at most two vectors of 64 KiB and little else. */
#define MESSAGE_MAX    (2u * 65536u + 512u)
#define MESSAGE_HEADER 4u
/* Blocks are short: records are made smaller before none is. */
#define SMALL_RECORD 1024u

enum message {
    HELLO_REQUEST = 0,
    CLIENT_HELLO = 1,
    NEW_SESSION_TICKET = 4,
    KEY_UPDATE = 24,
};

/* ---- Sending what is no payload ---- */

static int seal_bytes(struct gm_tls *tls, enum gm_tls_content type, const uint8_t *bytes,
                      uint32_t len, const struct gm_tls_sink *sink)
{
    uint8_t copy[MESSAGE_HEADER + 1];
    GM_ASSERT(len <= sizeof copy);
    if (tls->kernel_tx)
        return gm_tls_kernel_owe(tls, type, bytes, len);
    memcpy(copy, bytes, len);
    struct gm_chain chain = {0};
    gm_slice slice = {copy, len, NULL};
    if (gm_chain_push(&chain, sink->segs, slice) != 0)
        return -GM_E_NOMEM;
    int rc = gm_tls_record_seal(tls->tx, type, &chain, len, sink);
    gm_chain_clear(&chain, sink->segs);
    return rc;
}

int gm_tls_direct_alert(struct gm_tls *tls, uint8_t level, enum gm_tls_alert description,
                        const struct gm_tls_sink *sink)
{
    const uint8_t alert[2] = {level, (uint8_t)description};
    return seal_bytes(tls, GM_TLS_ALERT, alert, sizeof alert, sink);
}

int gm_tls_direct_rekey(struct gm_tls *tls, bool ask, const struct gm_tls_sink *sink)
{
    const uint8_t update[MESSAGE_HEADER + 1] = {KEY_UPDATE, 0, 0, 1, ask};
    if (tls->owed_count > 0)
        return -GM_E_NOMEM; /* each waits with its keys for the kernel: one at a time */
    int rc = seal_bytes(tls, GM_TLS_HANDSHAKE, update, sizeof update, sink);
    if (rc < 0)
        return rc;
    rc = gm_tls_flow_update(tls->tx);
    if (rc < 0)
        tls->dead = true; /* the peer has been told of keys that we do not have */
    return rc;
}

int gm_tls_direct_pay(struct gm_tls *tls, const struct gm_tls_sink *sink)
{
    if (tls->finished)
        return 0;
    int rc = 0;
    if (tls->owes_update) {
        rc = gm_tls_direct_rekey(tls, false, sink);
        tls->owes_update = rc == -GM_E_NOMEM;
    }
    if (rc == 0 && tls->owes_refusal) {
        rc = gm_tls_direct_alert(tls, GM_TLS_WARNING, GM_TLS_NO_RENEGOTIATION, sink);
        tls->owes_refusal = rc < 0;
    }
    return rc;
}

/* Ends the session with an alert, if there is room for one. */
static int refuse(struct gm_tls *tls, enum gm_tls_alert description, int error,
                  const struct gm_tls_sink *sink)
{
    if (!tls->finished && gm_tls_direct_alert(tls, GM_TLS_FATAL, description, sink) < 0)
        return error;
    tls->finished = true;
    return error;
}

/* ---- Handshake messages behind the handshake ---- */

static uint32_t message_body(const struct gm_tls *tls)
{
    return (uint32_t)tls->message[1] << 16 | (uint32_t)tls->message[2] << 8 | tls->message[3];
}

/* Whether a message of this type and length may come at all. */
static bool message_is_expected(const struct gm_tls *tls)
{
    uint32_t body = message_body(tls);
    if (tls->version == GM_TLS_1_3)
        return tls->message[0] == KEY_UPDATE ? body == 1
                                             : tls->message[0] == NEW_SESSION_TICKET &&
                                                   !tls->is_server && body <= MESSAGE_MAX;
    return tls->is_server ? tls->message[0] == CLIENT_HELLO && body <= GM_TLS_HELLO_MAX
                          : tls->message[0] == HELLO_REQUEST && body == 0;
}

/* Moves up to `want` bytes in all into tls->message. True: they are there. */
static bool gather(struct gm_tls *tls, struct gm_chain *bytes, struct gm_seg_pool *segs,
                   uint8_t want)
{
    while (tls->message_len < want && bytes->count > 0) {
        tls->message[tls->message_len++] = gm_chain_front(bytes).data[0];
        gm_chain_consume(bytes, segs, 1);
    }
    return tls->message_len == want;
}

/* A KeyUpdate is whole (RFC 8446 section 4.6.3): it must end its record. */
static int take_key_update(struct gm_tls *tls, const struct gm_chain *rest,
                           const struct gm_tls_sink *sink)
{
    uint8_t request = tls->message[MESSAGE_HEADER];
    if (request > 1)
        return refuse(tls, GM_TLS_ILLEGAL_PARAMETER, -GM_E_TLS_RECORD, sink);
    if (rest->count > 0)
        return refuse(tls, GM_TLS_UNEXPECTED_MESSAGE, -GM_E_TLS_RECORD, sink);
    tls->message_len = 0;
    tls->owes_update |= request == 1;
    tls->rx_is_new = tls->kernel_rx;
    return gm_tls_flow_update(tls->rx);
}

/* Passes over a body that is of no interest. True: all of it has come. */
static bool pass_over(struct gm_tls *tls, struct gm_chain *bytes, struct gm_seg_pool *segs)
{
    size_t n = tls->skip < bytes->bytes ? tls->skip : bytes->bytes;
    gm_chain_consume(bytes, segs, n);
    tls->skip -= (uint32_t)n;
    if (tls->skip == 0)
        tls->message_len = 0;
    return tls->skip == 0;
}

static int take_messages(struct gm_tls *tls, struct gm_chain *bytes, const struct gm_tls_sink *sink)
{
    while (bytes->count > 0) {
        if (tls->skip > 0 && !pass_over(tls, bytes, sink->segs))
            return 0;
        if (tls->message_len < MESSAGE_HEADER && !gather(tls, bytes, sink->segs, MESSAGE_HEADER))
            return 0;
        if (!message_is_expected(tls))
            return refuse(tls, GM_TLS_UNEXPECTED_MESSAGE, -GM_E_TLS_RECORD, sink);
        if (tls->version == GM_TLS_1_3 && tls->message[0] == KEY_UPDATE) {
            if (!gather(tls, bytes, sink->segs, MESSAGE_HEADER + 1))
                return 0;
            return take_key_update(tls, bytes, sink);
        }
        tls->owes_refusal |= tls->version == GM_TLS_1_2;
        tls->skip = message_body(tls);
        if (tls->skip == 0)
            tls->message_len = 0;
    }
    return 0;
}

/* ---- Opening ---- */

/* 0: ignored; 1: the peer has ended its direction; negative: it gave up. */
static int take_alert(struct gm_tls *tls, struct gm_chain *bytes, const struct gm_tls_sink *sink)
{
    if (bytes->bytes != 2)
        return refuse(tls, GM_TLS_DECODE_ERROR, -GM_E_TLS_RECORD, sink);
    uint8_t level = gm_chain_front(bytes).data[0];
    gm_chain_consume(bytes, sink->segs, 1);
    uint8_t description = gm_chain_front(bytes).data[0];
    if (description == GM_TLS_CLOSE_NOTIFY)
        return 1;
    if (description == GM_TLS_USER_CANCELED)
        return 0;
    if (tls->version == GM_TLS_1_2 && level == GM_TLS_WARNING)
        return 0;
    return gm_tls_alert_meaning(description, false);
}

/* Moves everything behind what is in `to`. Segments that the pool does not have are taken along. */
static void move_all(struct gm_chain *from, struct gm_chain *to, struct gm_seg_pool *segs)
{
    while (from->count > 0 && gm_chain_push(to, segs, gm_chain_front(from)) == 0)
        (void)gm_chain_pop(from, segs);
    if (from->count == 0)
        return;
    if (to->tail == NULL)
        to->head = from->head;
    else
        to->tail->next = from->head;
    to->tail = from->tail;
    to->bytes += from->bytes;
    to->count += from->count;
    *from = (struct gm_chain){0};
}

/* One opened record. As gm_tls_open. */
static int take_record(struct gm_tls *tls, const struct gm_tls_io *io, enum gm_tls_content type,
                       struct gm_chain *opened)
{
    if (type == GM_TLS_DATA && opened->bytes > 0 && tls->message_len == 0) {
        tls->idle_records = 0;
        move_all(opened, io->plain, io->sink.segs);
        return 0;
    }
    bool mixed = tls->message_len > 0 && type != GM_TLS_HANDSHAKE;
    if (mixed || ++tls->idle_records > IDLE_RECORDS_MAX)
        return refuse(tls, GM_TLS_UNEXPECTED_MESSAGE, -GM_E_TLS_RECORD, &io->sink);
    switch (type) {
    case GM_TLS_DATA:
        return 0;
    case GM_TLS_ALERT:
        return take_alert(tls, opened, &io->sink);
    case GM_TLS_HANDSHAKE:
        return take_messages(tls, opened, &io->sink);
    case GM_TLS_CHANGE_CIPHER_SPEC: /* only ever within the handshake */
        break;
    }
    return refuse(tls, GM_TLS_UNEXPECTED_MESSAGE, -GM_E_TLS_RECORD, &io->sink);
}

static int open_record(struct gm_tls *tls, const struct gm_tls_io *io)
{
    struct gm_chain opened = {0};
    int type = gm_tls_record_open(tls->rx, io->in, &opened, io->sink.segs), rc = type;
    if (type == -GM_E_TLS_RECORD)
        rc = refuse(tls, GM_TLS_BAD_RECORD_MAC, type, &io->sink);
    else if (type >= 0)
        rc = take_record(tls, io, (enum gm_tls_content)type, &opened);
    gm_chain_clear(&opened, io->sink.segs);
    return rc;
}

int gm_tls_direct_open(struct gm_tls *tls, const struct gm_tls_io *io)
{
    int rc = 0;
    while (rc == 0) {
        int len = gm_tls_record_length(io->in);
        if (len < 0)
            return refuse(tls, GM_TLS_DECODE_ERROR, len, &io->sink);
        if (len == 0 || (size_t)len > io->in->bytes)
            break;
        rc = open_record(tls, io);
    }
    if (rc == 0)
        (void)gm_tls_direct_pay(tls, &io->sink); /* no blocks now: sealing tries again */
    return tls->dead ? -GM_E_TLS : rc;
}

/* ---- Beside the kernel (kernel.c) ---- */

int gm_tls_direct_refuse(struct gm_tls *tls, enum gm_tls_alert description,
                         const struct gm_tls_sink *sink)
{
    return refuse(tls, description, -GM_E_TLS_RECORD, sink);
}

int gm_tls_direct_hear(struct gm_tls *tls, enum gm_tls_content type, gm_slice bytes,
                       const struct gm_tls_io *io)
{
    struct gm_chain opened = {0};
    if (bytes.len > 0 && gm_chain_push(&opened, io->sink.segs, bytes) != 0)
        return -GM_E_NOMEM;
    int rc = take_record(tls, io, type, &opened);
    gm_chain_clear(&opened, io->sink.segs);
    return rc;
}

/* ---- Sealing ---- */

/* Seals one record of at most `len` bytes, or a smaller one. Its size, or negative. */
static ssize_t seal_some(struct gm_tls *tls, struct gm_chain *plain, uint32_t len,
                         const struct gm_tls_sink *sink)
{
    int rc = gm_tls_record_seal(tls->tx, GM_TLS_DATA, plain, len, sink);
    while (rc == -GM_E_NOMEM && len > SMALL_RECORD) {
        len = len / 4 > SMALL_RECORD ? len / 4 : SMALL_RECORD;
        rc = gm_tls_record_seal(tls->tx, GM_TLS_DATA, plain, len, sink);
    }
    return rc < 0 ? rc : (ssize_t)len;
}

ssize_t gm_tls_direct_seal(struct gm_tls *tls, struct gm_chain *plain, size_t max,
                           const struct gm_tls_sink *sink)
{
    size_t done = 0;
    /* With what a record adds: a power of two, which fills blocks to their end. */
    const size_t most = GM_TLS_PAYLOAD_MAX - gm_tls_flow_overhead(tls->tx);
    int rc = gm_tls_direct_pay(tls, sink);
    while (rc == 0 && done < max) {
        if (tls->version == GM_TLS_1_3 && gm_tls_flow_sequence(tls->tx) >= GM_TLS_REKEY_RECORDS) {
            rc = gm_tls_direct_rekey(tls, false, sink);
            continue;
        }
        size_t len = max - done < most ? max - done : most;
        ssize_t sealed = seal_some(tls, plain, (uint32_t)len, sink);
        if (sealed < 0)
            rc = (int)sealed;
        else
            done += (size_t)sealed;
    }
    if (rc == 0 || rc == -GM_E_NOMEM)
        return (ssize_t)done;
    tls->dead = true;
    return -GM_E_TLS;
}
