/*
 * Gimlet's overlay: what liburing's configure script would write on a system
 * with Linux headers of 5.19 or later, where every type it looks for exists.
 */
#ifndef LIBURING_COMPAT_H
#define LIBURING_COMPAT_H

#include <linux/ioctl.h>
#include <linux/openat2.h>
#include <linux/time_types.h>

/* liburing/io_uring.h need not include linux/time_types.h again. */
#define UAPI_LINUX_IO_URING_H_SKIP_LINUX_TIME_TYPES_H 1

/* In linux/blkdev.h since 6.12; the number is kernel ABI. */
#ifndef BLOCK_URING_CMD_DISCARD
#define BLOCK_URING_CMD_DISCARD _IO(0x12, 0)
#endif

#endif
