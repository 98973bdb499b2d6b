/* The slice FIFO and the return of buffers: order, merging, accounting, and no reference lost. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "base/chain.h"

static unsigned freed, mailed;
static void on_free(struct gm_buf_home *home, struct gm_buf *buf)
{
    (void)home;
    (void)buf;
    freed++;
}
static void on_return(struct gm_buf_home *home, struct gm_buf *buf)
{
    (void)home;
    (void)buf;
    mailed++;
}

static struct gm_buf_home local = {
    .ring = GM_RING_NONE, .on_free = on_free, .on_return = on_return};
static struct gm_buf_home foreign = {.ring = 7, .on_free = on_free, .on_return = on_return};
static uint8_t bytes[4096];
static _Alignas(8) char memory[64 * sizeof(struct gm_seg)];

static struct gm_buf make(struct gm_buf_home *home, uint32_t refs)
{
    return (struct gm_buf){.data = bytes, .size = sizeof bytes, .refs = refs, .home = home};
}

static void reset(struct gm_seg_pool *pool)
{
    freed = mailed = 0;
    gm_seg_pool_init(pool, memory, sizeof memory);
}

Test(chain, keeps_order_and_bytes_at_every_cut)
{
    struct gm_seg_pool pool;
    for (size_t cut = 1; cut < 40; cut++) {
        reset(&pool);
        struct gm_chain chain = {0};
        struct gm_buf bufs[40];
        for (unsigned i = 0; i < 40; i++) {
            bufs[i] = make(&local, 1);
            bytes[i * 3] = (uint8_t)i;
            cr_assert_eq(
                gm_chain_push(&chain, &pool, (gm_slice){bytes + (size_t)i * 3, 3, &bufs[i]}), 0);
        }
        cr_assert_eq(chain.bytes, 120);
        size_t seen = 0;
        while (chain.bytes > 0) {
            gm_slice front = gm_chain_front(&chain);
            cr_assert_eq(front.data, bytes + seen);
            size_t n = cut < chain.bytes ? cut : chain.bytes;
            gm_chain_consume(&chain, &pool, n);
            seen += n;
        }
        cr_assert_eq(freed, 40);
        cr_assert_eq(pool.free_count, pool.total_count);
    }
}

Test(chain, adjacent_slices_of_one_buffer_are_one_entry)
{
    struct gm_seg_pool pool;
    reset(&pool);
    struct gm_chain chain = {0};
    struct gm_buf buf = make(&local, 3);
    cr_assert_eq(gm_chain_push(&chain, &pool, (gm_slice){bytes, 10, &buf}), 0);
    cr_assert_eq(gm_chain_push(&chain, &pool, (gm_slice){bytes + 10, 5, &buf}), 0);
    cr_assert_eq(gm_chain_push(&chain, &pool, (gm_slice){bytes + 20, 5, &buf}), 0);
    cr_assert_eq(chain.count, 2);
    cr_assert_eq(buf.refs, 2);
    cr_assert_eq(gm_chain_front(&chain).len, 15);
    gm_chain_clear(&chain, &pool);
    cr_assert_eq(freed, 1);
}

Test(chain, foreign_buffers_are_never_merged_and_go_home_once)
{
    struct gm_seg_pool pool;
    reset(&pool);
    struct gm_chain chain = {0};
    struct gm_buf buf = make(&foreign, 2);
    cr_assert_eq(gm_chain_push(&chain, &pool, (gm_slice){bytes, 10, &buf}), 0);
    cr_assert_eq(gm_chain_push(&chain, &pool, (gm_slice){bytes + 10, 5, &buf}), 0);
    cr_assert_eq(chain.count, 2);
    gm_chain_clear(&chain, &pool);
    cr_assert_eq(mailed, 1, "two releases, one mail");
    cr_assert_eq(buf.refs, 2, "only the home ring touches the count");
    gm_ring_self = 7;
    gm_buf_collect(&buf);
    gm_ring_self = GM_RING_NONE;
    cr_assert_eq(freed, 1);
}

Test(chain, a_full_pool_refuses_and_keeps_the_reference)
{
    struct gm_seg_pool pool;
    reset(&pool);
    gm_seg_pool_init(&pool, memory, sizeof(struct gm_seg));
    struct gm_chain chain = {0};
    struct gm_buf buf = make(&local, 100);
    unsigned held = 0;
    while (gm_chain_push(&chain, &pool, (gm_slice){bytes + (size_t)held * 2, 1, &buf}) == 0)
        held++;
    cr_assert_eq(held, GM_SEG_SLICES);
    cr_assert_eq(chain.bytes, held);
    gm_chain_clear(&chain, &pool);
    cr_assert_eq(buf.refs, 100 - held);
}

Test(chain, empty_slices_vanish_and_peek_stops_at_its_limits)
{
    struct gm_seg_pool pool;
    reset(&pool);
    struct gm_chain chain = {0};
    struct gm_buf buf = make(&local, 50);
    cr_assert_eq(gm_chain_push(&chain, &pool, (gm_slice){bytes, 0, &buf}), 0);
    cr_assert_eq(chain.count, 0);
    cr_assert_eq(buf.refs, 49);
    for (size_t i = 0; i < 25; i++)
        cr_assert_eq(gm_chain_push(&chain, &pool, (gm_slice){bytes + i * 20, 10, &buf}), 0);
    struct iovec iov[30];
    cr_assert_eq(gm_chain_peek(&chain, iov, 30, SIZE_MAX), 25);
    cr_assert_eq(gm_chain_peek(&chain, iov, 4, SIZE_MAX), 4);
    cr_assert_eq(gm_chain_peek(&chain, iov, 30, 15), 2);
    cr_assert_eq(iov[1].iov_len, 5);
    gm_chain_clear(&chain, &pool);
    cr_assert_eq(buf.refs, 24);
}

Test(slice, a_cut_shares_the_buffer)
{
    struct gm_buf buf = make(&local, 1);
    freed = 0;
    gm_slice whole = {bytes, 100, &buf};
    gm_slice front = gm_slice_cut(&whole, 30);
    cr_assert_eq(front.len, 30);
    cr_assert_eq(whole.len, 70);
    cr_assert_eq(whole.data, bytes + 30);
    gm_slice_put(front);
    cr_assert_eq(freed, 0);
    gm_slice_put(whole);
    cr_assert_eq(freed, 1);
}
