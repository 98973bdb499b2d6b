/* Receives of much at once: whose buffers they fill, and that links do not go short of theirs. On
 * every back-end and with every optional kernel feature off. */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"

#define EACH 400000u /* waits in the kernel, beside what has been received */

static _Atomic uint32_t longest; /* of the slices */

static void note_recv(struct gm_sock *sock, gm_slice slice)
{
    if (slice.len > longest)
        longest = slice.len;
    rec_ops.on_recv(sock, slice);
}

struct place {
    struct rec *rec;
    int fd[2];
    uint64_t grant;
    enum gm_pool pool;
};

static void do_open(struct gm_ring *ring, void *arg)
{
    static struct gm_sock_ops ops;
    struct place *place = arg;
    ops = rec_ops;
    ops.on_recv = note_recv;
    cr_assert(gm_sock_open(ring, &place->rec->sock, place->fd[1], &ops) == 0);
    gm_sock_recv(&place->rec->sock, place->pool, place->grant);
}
static void do_end(struct gm_ring *ring, void *arg)
{
    struct rec *rec = ((struct place *)arg)->rec;
    gm_chain_clear(&rec->held, gm_ring_segs(ring));
    gm_sock_close(&rec->sock, false);
}
static void do_unheld(struct gm_ring *ring, void *arg)
{
    *(uint32_t *)arg = gm_pool_unheld(&ring->store.pools[GM_STORE_LINK]);
}
static void do_drop(struct gm_ring *ring, void *arg)
{
    gm_chain_clear(&((struct place *)arg)->rec->held, gm_ring_segs(ring));
}

/* A socket of the ring with `len` bytes waiting for its first grant. */
static void place_open(struct gm_rings *rings, struct place *place, size_t len)
{
    int big = 1 << 20;
    place->rec = rec_new(rings);
    tcp_pair(place->fd);
    setsockopt(place->fd[0], SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof big);
    write_pattern(place->fd[0], 0, len);
}

static void place_close(struct gm_rings *rings, struct place *place)
{
    on_ring(rings, 0, do_end, place);
    WAIT_UNTIL(place->rec->closes == 1);
    close(place->fd[0]);
    rec_free(place->rec);
}

CASE(much_is_received_at_once)
{
    struct gm_rings *rings = start(variant, 1, GM_RING_MEMORY_MIN);
    struct place place = {.grant = EACH, .pool = GM_POOL_CLIENT};
    longest = 0;
    place_open(rings, &place, EACH + 1);
    on_ring(rings, 0, do_open, &place);
    WAIT_UNTIL(place.rec->bytes == EACH);
    cr_assert(is_pattern(place.rec->data, 0, EACH));
    cr_assert_gt(longest, GM_CLIENT_BUF_BYTES, "%u", longest);
    place_close(rings, &place);
    finish(rings);
}

/* Sockets whose owners keep what they get take what links leave over, and no more. */
CASE(links_are_left_their_buffers)
{
    enum { SOCKS = 8 };
    struct gm_rings *rings = start(variant, 1, GM_RING_MEMORY_MIN);
    struct place places[SOCKS] = {0}, link = {.grant = GM_RECV_UNLIMITED, .pool = GM_POOL_LINK};
    for (int i = 0; i < SOCKS; i++) {
        places[i] = (struct place){.grant = EACH, .pool = GM_POOL_CLIENT};
        place_open(rings, &places[i], EACH);
        places[i].rec->keep = true;
        on_ring(rings, 0, do_open, &places[i]);
    }
    WAIT_UNTIL(gm_counter_sum(gm_rings_counters(rings), GM_COUNTER_RECV_STARVED) > 0);
    uint32_t unheld = 0;
    on_ring(rings, 0, do_unheld, &unheld);
    cr_assert_geq(unheld, GM_RING_MEMORY_MIN / 8u / GM_LINK_BUF_BYTES / 4u, "%u", unheld);
    place_open(rings, &link, 1000);
    on_ring(rings, 0, do_open, &link);
    WAIT_UNTIL(link.rec->bytes == 1000);
    for (int round = 0; round < 20000 && places[SOCKS - 1].rec->bytes < EACH; round++) {
        for (int i = 0; i < SOCKS; i++)
            on_ring(rings, 0, do_drop, &places[i]);
    }
    place_close(rings, &link);
    for (int i = 0; i < SOCKS; i++) {
        WAIT_UNTIL(places[i].rec->bytes == EACH);
        cr_assert(is_pattern(places[i].rec->data, 0, EACH));
        place_close(rings, &places[i]);
    }
    finish(rings);
}
