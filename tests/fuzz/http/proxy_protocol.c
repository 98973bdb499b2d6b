/*
 * Fuzz target: PROXY headers. Whole against every beginning, limits, and what a header that was
 * understood says, written again in version 2, is understood the same.
 */
#include "check.h"

#include "http/proxy_protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX (GM_PROXY_HEADER_MAX + 64)

static int parse(const uint8_t *data, size_t len, struct gm_proxy_header *out)
{
    char *copy = copy_of(data, len);
    int rc = gm_proxy_header_parse((const uint8_t *)copy, len, out);
    free(copy);
    GM_ASSERT(rc <= (int)len && rc <= (int)GM_PROXY_HEADER_MAX);
    GM_ASSERT(rc >= 0 || rc == -GM_E_NOT_FOUND || rc == -GM_E_PROTOCOL || rc == -GM_E_LIMIT);
    GM_ASSERT(rc != 0 || len < GM_PROXY_HEADER_MAX);
    return rc;
}

static void check_again(const struct gm_proxy_header *header)
{
    uint8_t again[52] = {'\r', '\n', '\r', '\n', 0,    '\r', '\n', 'Q',
                         'U',  'I',  'T',  '\n', 0x21, 0x21, 0,    36};
    struct gm_proxy_header out;
    if (!header->named)
        again[12] = 0x20;
    memcpy(again + 16, header->source, 16);
    again[48] = (uint8_t)(header->source_port >> 8);
    again[49] = (uint8_t)header->source_port;
    GM_ASSERT(parse(again, sizeof again, &out) == (int)sizeof again);
    GM_ASSERT(out.named == header->named && out.source_port == header->source_port);
    GM_ASSERT(memcmp(out.source, header->source, 16) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gm_proxy_header whole = {0}, part;
    if (size > INPUT_MAX)
        return 0;
    int rc = parse(data, size, &whole);
    for (size_t len = 0; len < size; len++) {
        int early = parse(data, len, &part);
        GM_ASSERT(early == 0 || early == rc);
        GM_ASSERT(rc <= 0 || (early == 0) == (len < (size_t)rc));
    }
    if (rc > 0)
        check_again(&whole);
    return 0;
}
