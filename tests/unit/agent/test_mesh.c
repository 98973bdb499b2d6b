/*
 * The mesh against a balancer in virtual time: agents and servers in any number, strict round
 * robin, dials that take a while, servers that restart, drain or never answer.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "agent/mesh.h"

#define MS  1000000ull
#define SEC (1000 * MS)

#define AGENTS_MAX  8u
#define SERVERS_MAX 8u
#define RESTARTS    20u

struct agent {
    struct gm_mesh mesh;
    bool dialling;
    uint64_t answer_ns; /* when the dial is over */
    uint32_t dials;
    uint64_t held[SERVERS_MAX]; /* lanes, by server */
};

struct server {
    uint32_t life; /* a restart is another instance */
    bool up, mute; /* mute: takes a link of no other agent's than those it has */
};

struct world {
    struct agent agents[AGENTS_MAX];
    struct server servers[SERVERS_MAX];
    uint32_t agent_count, server_count, lanes, peers, turn;
    bool random_balance;
    uint64_t now_ns, seed;
};

static uint64_t draw(struct world *world)
{
    world->seed ^= world->seed << 13;
    world->seed ^= world->seed >> 7;
    world->seed ^= world->seed << 17;
    return world->seed * UINT64_C(0x2545f4914f6cdd1d) >> 1;
}

static void instance_of(const struct world *world, uint32_t server, char out[32])
{
    (void)snprintf(out, 32, "server%u-%u", server, world->servers[server].life);
}

static void begin(struct world *world, uint32_t agents, uint32_t servers, uint32_t lanes,
                  uint64_t seed)
{
    static const struct gm_mesh_config config = {
        .check_ns = 5 * SEC, .retry_min_ns = 250 * MS, .retry_max_ns = 5 * SEC};
    *world = (struct world){.agent_count = agents,
                            .server_count = servers,
                            .lanes = lanes,
                            .now_ns = 1000 * SEC,
                            .seed = seed * 7919 + 1};
    for (uint32_t i = 0; i < servers; i++)
        world->servers[i].up = true;
    for (uint32_t i = 0; i < agents; i++)
        gm_mesh_init(&world->agents[i].mesh, &config, world->now_ns);
}

/* As a balancer does: the next one that is up; its number, or the count. */
static uint32_t balance(struct world *world)
{
    for (uint32_t i = 0; i < world->server_count; i++) {
        uint32_t at = world->random_balance ? (uint32_t)draw(world) : world->turn++;
        if (world->servers[at % world->server_count].up)
            return at % world->server_count;
    }
    return world->server_count;
}

static void greet(struct world *world, struct agent *agent, uint32_t index)
{
    char instance[32];
    uint32_t lane = 0;
    instance_of(world, index, instance);
    while (lane < world->lanes && (agent->held[index] >> lane & 1) != 0)
        lane++;
    if (lane < world->lanes)
        agent->held[index] |= UINT64_C(1) << lane;
    struct gm_mesh_greeting greeting = {
        .instance = instance, .lane = lane, .lanes = world->lanes, .peers = world->peers};
    (void)gm_mesh_greeted(&agent->mesh, &greeting, world->now_ns, draw(world));
}

static void agent_step(struct world *world, struct agent *agent)
{
    if (agent->dialling && world->now_ns >= agent->answer_ns) {
        uint32_t server = balance(world);
        agent->dialling = false;
        if (server < world->server_count)
            greet(world, agent, server);
        else
            gm_mesh_failed(&agent->mesh, false, world->now_ns, draw(world));
    }
    if (!agent->dialling && world->now_ns >= agent->mesh.next_ns) {
        gm_mesh_dialled(&agent->mesh, world->now_ns);
        agent->dialling = true;
        agent->dials++;
        agent->answer_ns = world->now_ns + 2 * MS; /* each the same: nothing but waits is random */
    }
}

static void step(struct world *world)
{
    world->now_ns += MS;
    for (uint32_t i = 0; i < world->agent_count; i++)
        agent_step(world, &world->agents[i]);
}

static bool complete(const struct world *world)
{
    for (uint32_t i = 0; i < world->agent_count; i++) {
        for (uint32_t k = 0; k < world->server_count; k++) {
            bool has = world->agents[i].held[k] == (UINT64_C(1) << world->lanes) - 1;
            if (world->servers[k].up && !has)
                return false;
        }
    }
    return true;
}

/* Until the mesh is complete; how long it took. */
static uint64_t run(struct world *world, uint64_t limit_ns)
{
    uint64_t start_ns = world->now_ns;
    while (!complete(world) && world->now_ns - start_ns < limit_ns)
        step(world);
    return world->now_ns - start_ns;
}

static void pass(struct world *world, uint64_t span_ns)
{
    for (uint64_t end_ns = world->now_ns + span_ns; world->now_ns < end_ns;)
        step(world);
}

static void stop_server(struct world *world, uint32_t index, bool drained)
{
    char instance[32];
    instance_of(world, index, instance);
    world->servers[index].up = false;
    for (uint32_t i = 0; i < world->agent_count; i++) {
        struct agent *agent = &world->agents[i];
        if (drained)
            (void)gm_mesh_leaving(&agent->mesh, instance, world->now_ns, draw(world));
        for (uint32_t lane = 0; lane < world->lanes; lane++) {
            if ((agent->held[index] >> lane & 1) != 0)
                gm_mesh_lost(&agent->mesh, (struct gm_mesh_lane){instance, lane}, 60 * SEC,
                             world->now_ns, draw(world));
        }
        agent->held[index] = 0;
    }
}

static void start_server(struct world *world, uint32_t index)
{
    world->servers[index].up = true;
    world->servers[index].life++;
}

static uint32_t dials(const struct world *world)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < world->agent_count; i++)
        sum += world->agents[i].dials;
    return sum;
}

static const struct {
    uint32_t agents, servers, lanes;
} shapes[] = {{1, 1, 1}, {1, 1, 4}, {1, 2, 1}, {2, 2, 1}, {2, 2, 4}, {3, 2, 1}, {4, 3, 2},
              {2, 8, 1}, {8, 2, 1}, {4, 4, 1}, {8, 8, 1}, {8, 8, 4}, {5, 7, 3}};

Test(mesh, completes_behind_any_balancer)
{
    static struct world world;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        uint64_t worst = 0;
        for (uint64_t seed = 1; seed <= 40; seed++) {
            begin(&world, shapes[i].agents, shapes[i].servers, shapes[i].lanes, seed);
            world.random_balance = seed % 4 == 0;
            uint64_t took = run(&world, 120 * SEC);
            cr_assert(complete(&world), "%ux%u seed %lu", shapes[i].agents, shapes[i].servers,
                      (unsigned long)seed);
            worst = took > worst ? took : worst;
        }
        printf("# %u agents, %u servers, %u lanes: at most %lu ms\n", shapes[i].agents,
               shapes[i].servers, shapes[i].lanes, (unsigned long)(worst / MS));
        cr_assert_leq(worst, 10 * SEC);
    }
}

Test(mesh, a_restarted_server_is_back_within_seconds)
{
    static struct world world;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        uint64_t worst = 0;
        begin(&world, shapes[i].agents, shapes[i].servers, shapes[i].lanes, i + 1);
        (void)run(&world, 120 * SEC);
        for (uint32_t n = 0; n < RESTARTS; n++) {
            uint32_t index = (uint32_t)(draw(&world) % world.server_count);
            pass(&world, draw(&world) % (30 * SEC));
            stop_server(&world, index, n % 2 == 0);
            pass(&world, draw(&world) % (15 * SEC));
            start_server(&world, index);
            uint64_t took = run(&world, 30 * SEC);
            cr_assert(complete(&world));
            worst = took > worst ? took : worst;
        }
        printf("# %u agents, %u servers, %u lanes: back after at most %lu ms\n", shapes[i].agents,
               shapes[i].servers, shapes[i].lanes, (unsigned long)(worst / MS));
        cr_assert_leq(worst, 5 * SEC);
    }
}

Test(mesh, a_complete_mesh_is_nearly_silent)
{
    static struct world world;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        begin(&world, shapes[i].agents, shapes[i].servers, shapes[i].lanes, i + 1);
        (void)run(&world, 120 * SEC);
        pass(&world, 200 * SEC);
        uint32_t before = dials(&world);
        pass(&world, 600 * SEC);
        uint32_t each = (dials(&world) - before) / world.agent_count;
        printf("# %u servers: %u dials of an agent in ten minutes\n", world.server_count, each);
        cr_assert_leq(each, 25 * (world.server_count + 1));
        cr_assert_geq(each, 5);
    }
}

Test(mesh, a_server_that_knows_its_peers_spares_the_search)
{
    static struct world world;
    begin(&world, 4, 3, 2, 1);
    world.peers = 3;
    (void)run(&world, 60 * SEC);
    uint32_t before = dials(&world);
    pass(&world, 25 * SEC);
    cr_assert_eq(dials(&world), before);
    /* Another one is found all the same. */
    world.server_count = 4;
    start_server(&world, 3);
    (void)run(&world, 900 * SEC);
    cr_assert(complete(&world));
}

/* Amid a change of --peers one says three and the other two. Nobody is found by either. */
Test(mesh, servers_that_differ_on_their_number_cause_no_endless_search)
{
    struct gm_mesh_config config = {
        .check_ns = 5 * SEC, .retry_min_ns = 250 * MS, .retry_max_ns = 5 * SEC};
    static struct gm_mesh mesh;
    gm_mesh_init(&mesh, &config, SEC);
    uint64_t now_ns = SEC, seed = 521288629ull;
    uint32_t asked = 0, late = 0;
    while (now_ns < 601 * SEC) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        struct gm_mesh_greeting greeting = {.instance = asked % 2 == 0 ? "two" : "three",
                                            .lane = asked < 2 ? 0 : 1,
                                            .lanes = 1,
                                            .peers = asked % 2 == 0 ? 2 : 3};
        (void)gm_mesh_greeted(&mesh, &greeting, now_ns, seed >> 3);
        now_ns = mesh.next_ns;
        asked++;
        late += now_ns > 61 * SEC;
    }
    cr_assert_lt(late, 100, "%u", late);
}

/* One more server behind the balancer: who is told of it does not wait for his next check. */
Test(mesh, what_others_have_found_is_looked_for_at_once)
{
    static struct world world;
    begin(&world, 3, 3, 2, 9);
    world.servers[2].up = false;
    (void)run(&world, 60 * SEC);
    pass(&world, 300 * SEC);
    start_server(&world, 2);
    for (uint32_t i = 0; i < world.agent_count; i++)
        cr_assert(gm_mesh_told(&world.agents[i].mesh, 3, world.now_ns, draw(&world)));
    cr_assert_leq(run(&world, 30 * SEC), 10 * SEC);
    cr_assert(complete(&world));
    cr_assert_not(gm_mesh_told(&world.agents[0].mesh, 3, world.now_ns, 0));
    /* In vain, and again and again: once in five minutes. */
    pass(&world, 300 * SEC);
    uint32_t before = dials(&world), taken = 0;
    for (uint32_t n = 0; n < 120; n++) {
        for (uint32_t i = 0; i < world.agent_count; i++)
            taken +=
                gm_mesh_told(&world.agents[i].mesh, n % 2 == 0 ? 9 : 8, world.now_ns, draw(&world));
        pass(&world, 5 * SEC);
    }
    cr_assert_eq(taken, 2 * world.agent_count);
    cr_assert_leq((dials(&world) - before) / world.agent_count, 250);
}

Test(mesh, a_server_that_is_gone_is_forgotten)
{
    static struct world world;
    begin(&world, 2, 3, 2, 5);
    (void)run(&world, 60 * SEC);
    stop_server(&world, 1, false);
    pass(&world, 200 * SEC);
    cr_assert_eq(gm_mesh_servers(&world.agents[0].mesh), 2);
    uint32_t before = dials(&world);
    pass(&world, 600 * SEC);
    cr_assert_leq((dials(&world) - before) / 2, 25 * 3);
    struct gm_mesh_lane wish;
    cr_assert_not(gm_mesh_wish(&world.agents[0].mesh, 0, &wish));
}

Test(mesh, nobody_there_is_asked_ever_less_often)
{
    static struct world world;
    begin(&world, 1, 1, 1, 3);
    world.servers[0].up = false;
    pass(&world, 60 * SEC);
    uint32_t before = dials(&world);
    pass(&world, 600 * SEC);
    uint32_t later = dials(&world) - before;
    cr_assert(later > 150 && later < 400, "%u", later); /* 5 s at most, 2.5 s in the mean */
    gm_mesh_failed(&world.agents[0].mesh, true, world.now_ns, draw(&world));
    cr_assert_gt(world.agents[0].mesh.next_ns, world.now_ns + 2 * SEC);
    gm_mesh_retry(&world.agents[0].mesh, world.now_ns, draw(&world));
    cr_assert_leq(world.agents[0].mesh.next_ns, world.now_ns + 250 * MS);
}

Test(mesh, a_lost_lane_is_asked_for_by_number)
{
    struct gm_mesh_config config = {
        .check_ns = 5 * SEC, .retry_min_ns = 250 * MS, .retry_max_ns = 5 * SEC};
    static struct gm_mesh mesh;
    struct gm_mesh_lane wish = {NULL, 99};
    gm_mesh_init(&mesh, &config, SEC);
    struct gm_mesh_greeting greeting = {.instance = "a", .lanes = 3};
    for (; greeting.lane < 3; greeting.lane++) {
        cr_assert_eq(gm_mesh_lane_guess(&mesh), greeting.lane);
        cr_assert_eq(gm_mesh_greeted(&mesh, &greeting, SEC, 0), greeting.lane == 0);
        cr_assert_not(gm_mesh_wish(&mesh, 0, &wish));
    }
    gm_mesh_lost(&mesh, (struct gm_mesh_lane){"a", 1}, 60 * SEC, SEC, 7);
    cr_assert(gm_mesh_wish(&mesh, 3, &wish));
    cr_assert_str_eq(wish.instance, "a");
    cr_assert_eq(wish.lane, 1);
    cr_assert_eq(gm_mesh_lane_guess(&mesh), 1);
    /* A link that drains holds its lane still. */
    gm_mesh_released(&mesh, (struct gm_mesh_lane){"a", 2}, SEC, 7);
    cr_assert(gm_mesh_wish(&mesh, 0, &wish));
    cr_assert_eq(wish.lane, 1);
    cr_assert_lt(mesh.next_ns, SEC + SEC);
    cr_assert(gm_mesh_leaving(&mesh, "a", SEC, 0));
    cr_assert_not(gm_mesh_leaving(&mesh, "a", SEC, 0));
    cr_assert_not(gm_mesh_wish(&mesh, 0, &wish));
    cr_assert_eq(gm_mesh_servers(&mesh), 0);
}

/* A server of 0.0.x that has the one link of another process with our token. */
Test(mesh, a_server_that_others_have_is_asked_again_in_moderation)
{
    struct gm_mesh_config config = {
        .check_ns = 5 * SEC, .retry_min_ns = 250 * MS, .retry_max_ns = 5 * SEC};
    static struct gm_mesh mesh;
    gm_mesh_init(&mesh, &config, SEC);
    uint64_t now_ns = SEC, seed = 88172645463325252ull;
    uint32_t asked = 0;
    while (now_ns < 601 * SEC) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        struct gm_mesh_greeting greeting = {.instance = "old", .lane = 1, .lanes = 1};
        (void)gm_mesh_greeted(&mesh, &greeting, now_ns, seed >> 3);
        cr_assert_neq(mesh.next_ns, UINT64_MAX);
        now_ns = mesh.next_ns;
        asked++;
    }
    cr_assert(asked > 100 && asked < 250, "%u", asked);
}

/* It greets and falls over at once, for ever. */
Test(mesh, a_server_that_does_not_work_is_not_dialled_at_the_pace_of_one_that_does)
{
    struct gm_mesh_config config = {
        .check_ns = 5 * SEC, .retry_min_ns = 250 * MS, .retry_max_ns = 5 * SEC};
    static struct gm_mesh mesh;
    gm_mesh_init(&mesh, &config, SEC);
    uint64_t now_ns = SEC, seed = 362436069ull;
    uint32_t asked = 0;
    while (now_ns < 301 * SEC) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        struct gm_mesh_greeting greeting = {.instance = "sick", .lane = 0, .lanes = 1};
        (void)gm_mesh_greeted(&mesh, &greeting, now_ns, seed >> 3);
        gm_mesh_lost(&mesh, (struct gm_mesh_lane){"sick", 0}, MS, now_ns + MS, seed >> 5);
        now_ns = mesh.next_ns > now_ns ? mesh.next_ns : now_ns + MS;
        asked++;
    }
    cr_assert_lt(asked, 300, "%u", asked);
}

Test(mesh, more_servers_than_there_is_room_for)
{
    struct gm_mesh_config config = {
        .check_ns = 5 * SEC, .retry_min_ns = 250 * MS, .retry_max_ns = 5 * SEC};
    static struct gm_mesh mesh;
    gm_mesh_init(&mesh, &config, SEC);
    for (uint32_t i = 0; i < 3 * GM_MESH_SERVERS_MAX; i++) {
        char instance[GM_LINK_NAME_MAX];
        (void)snprintf(instance, sizeof instance, "s%u", i);
        struct gm_mesh_greeting greeting = {.instance = instance, .lane = 0, .lanes = 70000};
        (void)gm_mesh_greeted(&mesh, &greeting, SEC + i * MS, i);
        greeting.lane = 69999;
        (void)gm_mesh_greeted(&mesh, &greeting, SEC + i * MS, i);
        if (i % 3 == 0)
            gm_mesh_lost(&mesh, (struct gm_mesh_lane){instance, i % 80}, MS, SEC + i * MS, i);
    }
    cr_assert_leq(mesh.server_count, GM_MESH_SERVERS_MAX);
    cr_assert_neq(mesh.next_ns, UINT64_MAX);
}

Test(mesh, without_checks_it_rests_when_it_has_what_it_knows)
{
    struct gm_mesh_config config = {.retry_min_ns = 250 * MS, .retry_max_ns = 5 * SEC};
    static struct gm_mesh mesh;
    gm_mesh_init(&mesh, &config, SEC);
    struct gm_mesh_greeting greeting = {.instance = "a", .lane = 0, .lanes = 2};
    (void)gm_mesh_greeted(&mesh, &greeting, SEC, 5);
    cr_assert_lt(mesh.next_ns, 2 * SEC);
    greeting.lane = 1;
    (void)gm_mesh_greeted(&mesh, &greeting, SEC, 5);
    cr_assert_eq(mesh.next_ns, UINT64_MAX);
    gm_mesh_lost(&mesh, (struct gm_mesh_lane){"a", 0}, 60 * SEC, 2 * SEC, 5);
    cr_assert_lt(mesh.next_ns, 3 * SEC);
}
