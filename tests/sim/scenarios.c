/* Directed scenarios: one promise each, told as a story, in the same simulated world. One thread.
 *
 * Each was seen to fail against the bug that it is named after. */
#include <string.h>

#include "server/exchange.h"
#include "server/ringup.h"
#include "world.h"

/* One agent, a calm network of that latency, no client yet. */
static void begin(struct sim_world *world, uint64_t latency_ns)
{
    world->strict = true;
    gm_sim_profile_default(&world->profile);
    world->profile.latency_min_ns = world->profile.latency_max_ns = latency_ns;
    gm_sim_set_profile(world->sim, &world->profile);
    world->agent_count = 1;
    agent_start(world, 0);
    world_run(world, gm_sim_now(world->sim) + 2 * SIM_SECOND);
}

static struct sim_client *add_client(struct sim_world *world, struct sim_request request)
{
    struct sim_client *client = &world->clients[world->client_count++];
    request.id = world->next_id++;
    request.on_agent = -1;
    client->requests[0] = request;
    client->request_count = 1;
    return client;
}

static void start(struct sim_client *client, struct sim_world *world, uint64_t after_ns)
{
    client_start_planned(world, client, gm_sim_now(world->sim) + after_ns);
}

static void finish(struct sim_world *world)
{
    world_run(world, gm_sim_now(world->sim) + SIM_QUIET_NS);
    if (!world->failed)
        world_check_quiet(world);
    for (uint32_t i = 0; i < world->client_count && !world->failed; i++)
        client_judge(&world->clients[i]);
    for (uint32_t i = 0; i < world->agent_count && !world->failed; i++)
        agent_retire(&world->agents[i]);
    world_run(world, gm_sim_now(world->sim) + SIM_EMPTY_NS);
    if (!world->failed)
        world_check_empty(world);
}

/* The only link is asked for a sign of life while another request waits: a new request is served.
 */
static void a_silent_link_is_better_than_none(struct sim_world *world)
{
    begin(world, 300 * SIM_MS);
    start(add_client(world, (struct sim_request){.kind = ANSWER_SLOW, .down = 10, .at = 6000}),
          world, 0);
    for (uint64_t after_ms = 1500; after_ms < 4500; after_ms += 200)
        start(add_client(world, (struct sim_request){.kind = ANSWER_FIXED, .down = 10}), world,
              after_ms * SIM_MS);
    finish(world);
}

/* More than the largest window passes. */
static void a_window_goes_round(struct sim_world *world)
{
    begin(world, SIM_MS);
    start(add_client(world, (struct sim_request){.kind = ANSWER_STREAMED, .down = 9u << 20}), world,
          0);
    start(add_client(world,
                     (struct sim_request){
                         .kind = ANSWER_ECHO, .method = 1, .up = 9u << 20, .down = 9u << 20}),
          world, 0);
    finish(world);
}

/* The body has come; the backend takes longer than a client may take for a body. */
static void a_slow_backend_has_the_idle_timeout(struct sim_world *world)
{
    begin(world, SIM_MS);
    for (unsigned up = 1; up <= 30000; up *= 30)
        start(add_client(world,
                         (struct sim_request){
                             .kind = ANSWER_SLOW, .method = 1, .up = up, .down = 5, .at = 6500}),
              world, 0);
    finish(world);
}

/* An answer that ends with the connection, to a client that stops reading and reads on much later:
 * by then it has been cut, and must see it. The server has all of the answer, and is closing. */
static void stall(struct sim_world *world, bool drains)
{
    begin(world, SIM_MS);
    world->strict = false;
    world->profile.buffer_bytes = 4096;
    gm_sim_set_profile(world->sim, &world->profile);
    struct sim_client *client = add_client(
        world, (struct sim_request){.kind = ANSWER_STREAMED, .http10 = true, .down = 60000});
    client->temper = TEMPER_STALL;
    client->temper_bytes = 2000;
    client->rises_ns = 60 * SIM_SECOND;
    start(client, world, 0);
    world_run(world, gm_sim_now(world->sim) + SIM_SECOND);
    world->agents[0].retired = drains;
    if (drains)
        gm_server_drain_all(&world->shared);
    finish(world);
    if (!world->failed && client->requests[0].outcome != OUTCOME_CUT)
        world_fail(world, "the cut answer has outcome %u", client->requests[0].outcome);
}

static void a_stalled_reader_sees_a_cut(struct sim_world *world)
{
    stall(world, false);
}

static void a_drains_deadline_cuts_visibly(struct sim_world *world)
{
    stall(world, true);
}

/* The agent wants no more of the body, then gives the request back: it ends, and nobody waits. */
static void a_stopped_request_does_not_move(struct sim_world *world)
{
    begin(world, SIM_MS);
    world->agent_count = 2;
    agent_start(world, 1);
    world_run(world, gm_sim_now(world->sim) + SIM_SECOND);
    start(add_client(world, (struct sim_request){.kind = ANSWER_RESET,
                                                 .method = 2,
                                                 .up = 100000,
                                                 .at = 5000,
                                                 .stop = true,
                                                 .untouched = true,
                                                 .reason = GM_REASON_REFUSED}),
          world, 0);
    world_run(world, gm_sim_now(world->sim) + 2 * SIM_SECOND);
    if (world->clients[0].requests[0].outcome == OUTCOME_NONE)
        world_fail(world, "a stopped and reset request still waits");
    finish(world);
}

static const struct {
    const char *name;
    void (*run)(struct sim_world *world);
} scenarios[] = {
    {"a silent link is better than none", a_silent_link_is_better_than_none},
    {"a window goes round", a_window_goes_round},
    {"a slow backend has the idle timeout", a_slow_backend_has_the_idle_timeout},
    {"a stalled reader sees a cut", a_stalled_reader_sees_a_cut},
    {"a drain's deadline cuts visibly", a_drains_deadline_cuts_visibly},
    {"a stopped request does not move", a_stopped_request_does_not_move},
};

const char *scenario_run(struct sim_world *world, uint32_t number, bool run)
{
    if (number >= sizeof scenarios / sizeof scenarios[0])
        return NULL;
    if (run)
        scenarios[number].run(world);
    return scenarios[number].name;
}
