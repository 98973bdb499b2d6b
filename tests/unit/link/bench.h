/* What the tests of link/ share: ends that are links and count what they are told, and frames made
 * by hand. */
#ifndef GM_TEST_LINK_BENCH_H
#define GM_TEST_LINK_BENCH_H

#include "../net/wire.h"
#include "frame/frame.h"
#include "link/link.h"

#define MS_NS 1000000ull

/* One end that is a link, and what it was told. */
struct end {
    struct gm_link link;
    unsigned ups, drains, silences, voices, downs, closes, opens, heads, resets, stream_closes;
    unsigned proofs, ends;
    size_t data_bytes;
    char note[256]; /* the newest */
    uint64_t down_ns;
    enum gm_reason_code reason;
    const char *text;
    struct gm_stream *stream;
    size_t head_len;
    uint8_t head[66000];
    uint16_t reset_reason, reset_flags;
};

struct bench {
    struct wire w; /* first */
    struct end server, agent;
};

extern const struct gm_mux_ops bench_mux_ops;
extern const struct gm_link_ops bench_link_ops;
extern const char some_accept[], ready_json[];

struct gm_link_config server_config(void);
struct gm_link_config agent_config(void);
struct bench *bench_server(uint64_t seed);
struct bench *bench_agent(uint64_t seed);
void bench_close(struct bench *b);
const char *request_text(struct bench *b);
void send_text(struct bench *b, const char *text);
size_t ws_frame(uint8_t *out, struct gm_ws_header header, const void *payload);
size_t ready_frame(uint8_t *out, const char *json);
void peer_ws(struct bench *b, struct gm_ws_header header, const void *payload);
void peer_ready(struct bench *b);
uint16_t close_code(const struct bench *b);
void dial(struct bench *b, struct gm_ring *ring);

/* Two links, up: the server's on the near ring, the agent's on the far one. */
struct bench *bench_pair(const struct gm_sim_profile *profile, uint64_t seed);
/* The same in the dialect of 0.0.x. `refuse`: the server says that the agent is a duplicate. */
struct bench *bench_old_pair(const struct gm_sim_profile *profile, uint64_t seed, bool refuse);

#endif
