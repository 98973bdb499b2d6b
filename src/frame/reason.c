/* Reasons: the table of frame/reason.h as an array. Constant data, shared by all threads. */
#include "frame/reason.h"

#include <stddef.h>

#include "base/assert.h"

/* Codes are dense from 0, so that a code is its own index; gm_reason_get() asserts it. */
static const struct gm_reason reasons[] = {
#define REASON_ROW(constant, code, name, status, flags, text)                                      \
    [GM_REASON_##constant] = {name, text, (code), (status), (flags)},
    GM_REASON_TABLE(REASON_ROW)
#undef REASON_ROW
};

GM_STATIC_ASSERT(sizeof(reasons) / sizeof(reasons[0]) == GM_REASON_COUNT, "codes are dense");

const struct gm_reason *gm_reason_get(uint16_t code)
{
    const struct gm_reason *reason =
        &reasons[code < GM_REASON_COUNT ? code : (uint16_t)GM_REASON_INTERNAL];
    GM_ASSERT(reason->name != NULL);
    return reason;
}
