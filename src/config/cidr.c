/*
 * Networks: parsing and matching. Pure but for the arena. Invariant: in a table every bit of a base
 * behind its prefix is zero, and a row is IPv4 exactly when its base is mapped and has 96 bits or
 * more.
 */
#include "config/cidr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#define MAPPED_BITS 96u

static const uint8_t mapped[MAPPED_BITS / 8] = {[10] = 0xff, [11] = 0xff};

static bool is_ipv4(const uint8_t address[16])
{
    return memcmp(address, mapped, sizeof mapped) == 0;
}

/* Whether the first `bits` of both agree. */
static bool prefix_equal(const uint8_t a[16], const uint8_t b[16], unsigned bits)
{
    unsigned bytes = bits / 8, rest = bits % 8;
    if (memcmp(a, b, bytes) != 0)
        return false;
    return rest == 0 || ((a[bytes] ^ b[bytes]) & (0xff00u >> rest) & 0xffu) == 0;
}

/* "24": one to three digits without a leading zero. */
static int parse_bits(const char *text, unsigned *out)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 3 || text[digits] != '\0' || (digits > 1 && text[0] == '0'))
        return -EINVAL;
    *out = 0;
    for (size_t i = 0; i < digits; i++)
        *out = *out * 10 + (unsigned)(text[i] - '0');
    return 0;
}

/* `text` is the item alone, cut at its slash here. */
static int parse_item(char *text, struct gm_cidr *out)
{
    struct gm_cidr item = {0};
    char *slash = strchr(text, '/');
    if (slash != NULL)
        *slash = '\0';
    unsigned width = 128, bits;
    if (inet_pton(AF_INET, text, item.base + 12) == 1) {
        memcpy(item.base, mapped, sizeof mapped);
        width = 32;
    } else if (inet_pton(AF_INET6, text, item.base) != 1) {
        return -EINVAL;
    }
    bits = width;
    if (slash != NULL && (parse_bits(slash + 1, &bits) < 0 || bits > width))
        return -EINVAL;
    item.bits = (uint8_t)(128 - width + bits);
    for (unsigned i = 0; i < 16; i++) {
        unsigned kept = item.bits > i * 8 ? item.bits - i * 8u : 0;
        unsigned tail = kept >= 8 ? 0 : 0xffu >> kept;
        if ((item.base[i] & tail) != 0)
            return -ERANGE;
    }
    *out = item;
    return 0;
}

/* The item that begins at `from`, trimmed, copied to `item`. */
static int copy_item(const char *from, char *item, size_t cap)
{
    size_t span = strcspn(from, ",");
    while (span > 0 && strchr(" \t\n", from[span - 1]) != NULL)
        span--;
    if (span >= cap)
        return -EINVAL;
    memcpy(item, from, span);
    item[span] = '\0';
    return 0;
}

static int parse_list(const char *text, struct gm_cidr items[GM_CIDR_MAX], const char **wrong)
{
    char item[INET6_ADDRSTRLEN + sizeof "/128"];
    int count = 0;
    for (const char *comma = text; comma != NULL;) {
        const char *from = comma + strspn(comma, " \t\n");
        *wrong = from;
        comma = strchr(from, ',');
        comma = comma == NULL ? NULL : comma + 1;
        int rc = copy_item(from, item, sizeof item);
        if (rc == 0 && count == 0 && comma == NULL && strcmp(item, "none") == 0)
            return 0;
        if (rc == 0 && count == (int)GM_CIDR_MAX)
            rc = -E2BIG;
        if (rc == 0)
            rc = parse_item(item, &items[count++]);
        if (rc < 0)
            return rc;
    }
    return count;
}

int gm_cidr_parse(const char *text, struct gm_arena *arena, struct gm_cidr_list *out,
                  const char **wrong)
{
    struct gm_cidr items[GM_CIDR_MAX];
    int count = parse_list(text, items, wrong);
    if (count < 0)
        return count;
    struct gm_cidr_list list = {.count = (size_t)count};
    if (count > 0) {
        list.items = gm_arena_alloc(arena, list.count * sizeof *list.items);
        if (list.items == NULL)
            return -ENOMEM;
        memcpy(list.items, items, list.count * sizeof *list.items);
    }
    *out = list;
    return 0;
}

bool gm_cidr_holds(const struct gm_cidr_list *list, const uint8_t address[16])
{
    bool ipv4 = is_ipv4(address);
    for (size_t i = 0; i < list->count; i++) {
        const struct gm_cidr *item = &list->items[i];
        bool same_kind = (item->bits >= MAPPED_BITS && is_ipv4(item->base)) == ipv4;
        if (same_kind && prefix_equal(item->base, address, item->bits))
            return true;
    }
    return false;
}
