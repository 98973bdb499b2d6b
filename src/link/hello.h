/* The greetings of a link: HELLO and READY as structs and as JSON (frame/PROTOCOL.md section 2).
 *
 * Called once per link, so it may allocate; any thread. Unknown keys are ignored, missing required
 * ones are a protocol error. */
#ifndef GM_LINK_HELLO_H
#define GM_LINK_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define GM_LINK_NAME_MAX     256u /* service and server names, NUL included */
#define GM_LINK_INSTANCE_MAX 65u  /* 64 characters and NUL */
#define GM_LINK_WINDOW_MAX   (1u << 20)

struct gm_hello {
    char server_id[GM_LINK_NAME_MAX];
    char instance[GM_LINK_INSTANCE_MAX];
    uint32_t lane, lanes, stream_limit, window;
    uint32_t peers; /* servers behind the agents' address; 0: not said */
    bool zero_mask; /* feature "zero-mask": the link is over TLS at this end */
};

struct gm_ready {
    char instance[GM_LINK_INSTANCE_MAX];
    char service[GM_LINK_NAME_MAX];
    uint32_t stream_limit;  /* 0: not said */
    uint32_t request_limit; /* of the whole agent process; 0: none, or not said */
    uint32_t window;
    bool zero_mask;
    bool not_ready; /* the backend is not healthy: no streams until a note says "ready" */
};

/* Write JSON into `out` (`cap` bytes, no NUL). Length or -GM_E_LIMIT. */
int gm_hello_encode(const struct gm_hello *hello, void *out, size_t cap) GM_WARN_UNUSED;
int gm_ready_encode(const struct gm_ready *ready, void *out, size_t cap) GM_WARN_UNUSED;
/* 0 or -GM_E_PROTOCOL. */
int gm_hello_decode(const void *json, size_t len, struct gm_hello *out) GM_WARN_UNUSED;
int gm_ready_decode(const void *json, size_t len, struct gm_ready *out) GM_WARN_UNUSED;

#endif
