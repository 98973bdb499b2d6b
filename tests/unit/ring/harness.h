/* Runs ring code on ring threads from a test's own thread, on every back-end and with every
 * optional kernel feature switched off singly.
 *
 * The test's thread plays the peer with plain system calls; what happens on a ring is recorded in a
 * struct rec, whose atomic fields the test may read at any time and the others only through
 * on_ring. */
#ifndef GM_TESTS_RING_HARNESS_H
#define GM_TESTS_RING_HARNESS_H

#include <criterion/criterion.h>
#ifndef __SANITIZE_THREAD__
#include <criterion/parameterized.h>
#endif

#include "ring/internal.h"

struct variant {
    enum gm_io io;
    const char *off;
};
extern const struct variant variants[];
#define VARIANTS 14
/* CASE(name) { … uses `variant` (const struct variant *) … }: one test per variant. Under TSan,
 * whose runner knows no parameters: one test that goes through the variants that differ in how
 * threads meet. */
#ifdef __SANITIZE_THREAD__
#define CASE(name)                                                                                 \
    static void name##_case(const struct variant *variant);                                        \
    Test(ring, name, .timeout = 300)                                                               \
    {                                                                                              \
        static const int some[] = {0, 1, 3, 11, 13};                                               \
        for (unsigned i = 0; i < sizeof some / sizeof some[0]; i++)                                \
            name##_case(&variants[some[i]]);                                                       \
    }                                                                                              \
    static void name##_case(const struct variant *variant)
#else
#define CASE(name)                                                                                 \
    static void name##_case(const struct variant *variant);                                        \
    ParameterizedTestParameters(ring, name)                                                        \
    {                                                                                              \
        return variant_params();                                                                   \
    }                                                                                              \
    ParameterizedTest(int *index, ring, name, .timeout = 60)                                       \
    {                                                                                              \
        name##_case(&variants[*index]);                                                            \
    }                                                                                              \
    static void name##_case(const struct variant *variant)
struct criterion_test_params variant_params(void);
#endif

struct gm_rings *start(const struct variant *variant, uint32_t rings, uint64_t memory_bytes);
void finish(struct gm_rings *rings);
/* Runs fn(ring, arg) on the ring's thread and waits for it. */
void on_ring(struct gm_rings *rings, uint32_t index, void (*fn)(struct gm_ring *ring, void *arg),
             void *arg);
/* Waits (10 s at most) until the expression holds. */
#define WAIT_UNTIL(expr)                                                                           \
    do {                                                                                           \
        int waited_ = 0;                                                                           \
        while (!(expr) && waited_++ < 20000)                                                       \
            short_pause();                                                                         \
        cr_assert(expr, "never came true: %s", #expr);                                             \
    } while (0)
void short_pause(void);

#define REC_BYTES (8u << 20)
/* A socket on a ring and what it was told. */
struct rec {
    struct gm_sock sock;
    struct gm_rings *rings;
    _Atomic uint64_t bytes; /* received */
    _Atomic uint32_t slices, ends, hangups, sents, writables, connects, closes, detached;
    _Atomic int64_t sent_bytes; /* taken by the socket */
    _Atomic int end_error, connect_error, sent_error, detached_fd;
    uint8_t *data; /* received bytes, REC_BYTES */
    bool keep;     /* hold slices instead of releasing them */
    bool echo;
    struct gm_chain held;
    struct gm_holder holder;
    /* a stream to send: position-dependent bytes */
    uint64_t to_send, position, under_way;
    uint8_t *source;
};
struct rec *rec_new(struct gm_rings *rings);
void rec_free(struct rec *rec);
extern const struct gm_sock_ops rec_ops;
/* To run on the ring: */
void rec_open(struct rec *rec, struct gm_ring *ring, int fd);
void rec_pump(struct rec *rec); /* continues sending */

/* fd[0]: non-blocking, for the test's thread; fd[1] for a ring. TCP over loopback. */
void tcp_pair(int fd[2]);
/* The byte at a position of a stream. */
static inline uint8_t pattern(uint64_t position)
{
    return (uint8_t)(position * 31u + (position >> 8) * 7u + (position >> 16));
}
void write_pattern(int fd, uint64_t from, size_t len);
bool is_pattern(const uint8_t *data, uint64_t from, size_t len);

#endif
