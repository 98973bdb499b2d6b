/*
 * Networks as people write them, 192.0.2.0/24 or 2001:db8::/32, and whether an address lies in one.
 *
 * A table is parsed once at start into an arena and only read from then on: any thread. It is
 * searched from end to end: a connection is asked about once, and 256 rows take a microsecond.
 */
#ifndef GM_CONFIG_CIDR_H
#define GM_CONFIG_CIDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/arena.h"

/* The largest public lists of proxies (the content networks') have some 200 rows. */
#define GM_CIDR_MAX 256u

/* A network: the first `bits` of `base`. IPv4 addresses are ::ffff:a.b.c.d, their prefix counts
 * from there (96 to 128) and no IPv6 network holds them, not even ::/0. */
struct gm_cidr {
    uint8_t base[16];
    uint8_t bits;
};

struct gm_cidr_list {
    struct gm_cidr *items; /* in the arena */
    size_t count;
};

/* Parses networks parted by commas; white space around each is allowed. An address alone is a
 * network of one. "none" is the list without a row. 0, -EINVAL (not of that form), -ERANGE (the
 * address has bits set behind its prefix), -E2BIG (more than GM_CIDR_MAX) or -ENOMEM: then *out is
 * untouched and *wrong points to the item in `text` at which it ended. */
__attribute__((warn_unused_result)) int gm_cidr_parse(const char *text, struct gm_arena *arena,
                                                      struct gm_cidr_list *out, const char **wrong);

/* Whether a network of the list holds the address (IPv4 as ::ffff:a.b.c.d). */
bool gm_cidr_holds(const struct gm_cidr_list *list, const uint8_t address[16]);

#endif
