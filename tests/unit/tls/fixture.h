/* A client session and a server session with a wire between them that is cut as a test likes it.
 * Every buffer is counted and its own allocation, so that a leak or a byte too far shows. */
#ifndef TLS_FIXTURE_H
#define TLS_FIXTURE_H

#include <criterion/criterion.h>

#include "tls/internal.h"

#define CERT(name) CERTS "/" name
#define CUT_RANDOM UINT32_MAX
#define NO_LIMIT   UINT32_MAX
/* The bundled library is newer; some of what older ones let pass or leave unsaid is not tested. */
#define IS_OLD_LIBRARY (LIBWOLFSSL_VERSION_HEX < 0x05007000)

struct end {
    struct gm_tls *tls;
    struct gm_chain in, plain, out;
    int result; /* of the last handshake call */
};

struct world {
    struct gm_tls_server *server;
    struct gm_tls_client *client;
    struct end c, s;
    uint32_t cut;         /* bytes per slice that arrives; 0: all in one */
    uint32_t block_bytes; /* of what is sent */
    uint32_t blocks_left; /* that may be had */
    bool tls12;           /* the client wants no more */
    const char *suites;   /* of the client's, NULL: all */
    bool client_reference, server_reference;
};

/* Set before world_start; all zero: P-256, both sides direct. */
struct plan {
    const char *cert, *key, *directory; /* of the server; NULL: p256 */
    const char *client_ca;
    enum gm_tls_client_auth client_auth;
    const char *ca; /* of the client; NULL: root.crt */
    const char *client_cert, *client_key;
    bool insecure;
    const char *crl, *client_crl; /* the client's, of servers; the server's, of clients */
};

extern struct world world;

/* Skips the test where records are the library's, as it does not tell its secrets. */
void need_own_records(void);

/* Contexts for the plan. They stay until world_end, sessions come and go. */
void world_plan(const struct plan *plan);
/* New sessions (old ones are freed); the client asks for `name`. */
void world_start(const char *name);
/* To and fro until both are done or one is refused. True: both are ready. */
bool world_shake(void);
/* world_plan, world_start, world_shake. */
bool world_meet(const struct plan *plan, const char *name);
/* Frees all and asserts that nothing is left. */
void world_end(void);

struct gm_tls_io end_io(struct end *end);
/* Everything that `from` has sent arrives at `to`. */
void carry(struct end *from, struct end *to);
/* Bytes from nowhere arrive. */
void arrive(struct end *to, const void *bytes, size_t len);
/* Seals `len` bytes that are told by `seed`, carries and opens them, and compares. */
void talk(struct end *from, struct end *to, size_t len, uint32_t seed);
/* Queues plaintext of that sort for sealing / compares what was opened and drops it. */
void put_plain(struct gm_chain *chain, size_t len, uint32_t seed);
void expect_plain(struct gm_chain *chain, size_t len, uint32_t seed);
struct gm_seg_pool *world_segs(void);
uint32_t world_random(void);

#endif
