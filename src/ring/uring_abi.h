/* The kernel's io_uring interface where it is newer than the liburing we require (2.3), and how a
 * ring is set up.
 *
 * The only file that includes liburing.h; included by uring.c, uring_send.c and uring_probe.c.
 * Constants are the kernel's (linux/io_uring.h), checked against the layout of the structures that
 * they go into. */
#ifndef GM_RING_URING_ABI_H
#define GM_RING_URING_ABI_H

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wcast-align"
#include <liburing.h>
#pragma GCC diagnostic pop
#include <stddef.h>
#include <string.h>

#include "base/assert.h"
#include "ring/uring_probe.h"

/* Linux 6.12: a provided buffer is consumed piece by piece. In io_uring_buf_reg.flags, which old
 * headers call pad. */
#define GM_ABI_PBUF_RING_INC 2u
/* ...and a completion that leaves a rest of its buffer with the kernel says so. */
#define GM_ABI_CQE_F_BUF_MORE (1u << 4)

GM_STATIC_ASSERT(sizeof(struct io_uring_sqe) == 64, "an SQE is 64 bytes");
/* Linux 6.17: the total byte limit of a multishot receive, `optlen`, shares the place of
 * file_index. */
GM_STATIC_ASSERT(offsetof(struct io_uring_sqe, file_index) == 44, "optlen is at byte 44");
GM_STATIC_ASSERT(offsetof(struct io_uring_buf_reg, bgid) == 12, "flags follow bgid at byte 14");
GM_STATIC_ASSERT(sizeof(struct io_uring_buf_reg) == 40, "io_uring_buf_reg is 40 bytes");
#define GM_ABI_BUF_REG_FLAGS 14u

static inline void gm_abi_set_optlen(struct io_uring_sqe *sqe, uint32_t bytes)
{
    sqe->file_index = bytes;
}

static inline void gm_abi_set_buf_flags(struct io_uring_buf_reg *reg, uint16_t flags)
{
    memcpy((char *)reg + GM_ABI_BUF_REG_FLAGS, &flags, sizeof flags);
}

/* Registers `entries` (a power of two) at page-aligned `memory` as buffer group `group`. */
static inline int gm_abi_register_buffers(struct io_uring *uring, void *memory, uint32_t entries,
                                          uint16_t group, bool inc)
{
    struct io_uring_buf_reg reg = {
        .ring_addr = (uint64_t)(uintptr_t)memory, .ring_entries = entries, .bgid = group};
    if (inc)
        gm_abi_set_buf_flags(&reg, GM_ABI_PBUF_RING_INC);
    return io_uring_register_buf_ring(uring, &reg, 0);
}

/* A ring for the calling thread, set up with what `features` has and what the kernel takes (flags
 * it refuses are left out). Negative errno. */
int gm_uring_ring_init(struct io_uring *uring, unsigned entries,
                       const struct gm_uring_features *features);

#endif
