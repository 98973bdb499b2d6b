/* The mesh of one service: its servers, and the pace of dialling. Owner: the dialler's ring.
 *
 * Invariants: a lane is in `held` or in `lost` of its server, never in both; a server without
 * either is forgotten. While links are missing there is always a next dial. */
#include "agent/mesh.h"

#include <string.h>

#include "base/error.h"

#define MS 1000000ull
/* After a link that was of use: the next will be, too. Random, so that agents that came up together
 * get out of step. */
#define NEXT_NS (20 * MS)
/* Mean waits after a dial that found nothing: the first; the longest while something is missing, of
 * n servers a n-th of HUNT, so that one that is back is met within seconds. */
#define FAST_NS     (40 * MS)
#define HUNT_NS     (600 * MS)
#define HUNT_MIN_NS (60 * MS)
#define HUNT_MAX_NS (400 * MS)
/* So many dials, and so many for each known server, must find nothing before there is nothing to
 * find: a server more would go unseen by all of them once in 1000 times if each met a random one.
 */
#define PATIENCE     4u
#define PATIENCE_PER 8u
/* A server that has enough links of ours, though we miss one, is not asked again for so long: it
 * finds the dead one by itself. */
#define FULL_NS 5000000000ull
/* A dial that takes longer does not keep the others waiting. */
#define SLOW_NS 2000000000ull
/* A minimum shifted by it is beyond every maximum. */
#define DOUBLINGS 20u
/* Young links of one server that are lost together are one flap. */
#define FLAP_NS (200 * MS)

void gm_mesh_init(struct gm_mesh *mesh, const struct gm_mesh_config *config, uint64_t now_ns)
{
    *mesh = (struct gm_mesh){.config = *config, .next_ns = now_ns};
}

/* ---- Servers ---- */

static struct gm_mesh_server *find(struct gm_mesh *mesh, const char *instance)
{
    for (uint32_t i = 0; i < mesh->server_count; i++) {
        if (strcmp(mesh->servers[i].instance, instance) == 0)
            return &mesh->servers[i];
    }
    return NULL;
}

static struct gm_mesh_server *learn(struct gm_mesh *mesh, const char *instance)
{
    struct gm_mesh_server *server = find(mesh, instance);
    if (server != NULL || mesh->server_count == GM_MESH_SERVERS_MAX ||
        strlen(instance) >= sizeof server->instance)
        return server;
    server = &mesh->servers[mesh->server_count++];
    *server = (struct gm_mesh_server){0};
    memcpy(server->instance, instance, strlen(instance) + 1);
    return server;
}

static uint64_t lane_bit(uint32_t lane)
{
    return lane < GM_CONFIG_LANES_MAX ? UINT64_C(1) << lane : 0;
}

static uint64_t lanes_mask(uint32_t lanes)
{
    return lanes >= 64 ? UINT64_MAX : (UINT64_C(1) << lanes) - 1;
}

/* It is there, whether we have links to it or somebody with our token has them all. */
static bool is_live(const struct gm_mesh_server *server)
{
    bool full = server->full_ns != 0 && server->full_ns == server->seen_ns;
    return !server->leaving && (server->held != 0 || full);
}

static bool lacks_lanes(const struct gm_mesh_server *server, uint64_t now_ns)
{
    bool full = server->full_ns != 0 && now_ns - server->full_ns < FULL_NS;
    /* One without any link may have gone for good: it is missed as a server, not for its lanes. */
    return !server->leaving && !full && server->held != 0 &&
           (lanes_mask(server->lanes) & ~server->held) != 0;
}

static uint32_t live_count(const struct gm_mesh *mesh)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < mesh->server_count; i++)
        count += is_live(&mesh->servers[i]);
    return count;
}

uint32_t gm_mesh_servers(const struct gm_mesh *mesh)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < mesh->server_count; i++)
        count += !mesh->servers[i].leaving && mesh->servers[i].held != 0;
    return count;
}

/* Servers of which nothing is left, and what was lost so long ago that it will not come back. */
static void forget_old(struct gm_mesh *mesh, uint64_t now_ns)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < mesh->server_count; i++) {
        const struct gm_mesh_server *server = &mesh->servers[i];
        bool old = now_ns - server->seen_ns >= GM_MESH_HUNT_NS;
        if (server->held == 0 && (old || server->leaving))
            continue;
        if (kept != i)
            mesh->servers[kept] = *server;
        kept++;
    }
    mesh->server_count = kept;
}

/* ---- Pace ---- */

/* Evenly from the whole of [0, 2 * mean]. */
static uint64_t around(uint64_t mean_ns, uint64_t random)
{
    return random % (2 * mean_ns + 1);
}

/* A random wait below a ceiling that doubles with each failure, so that agents whose server has
 * gone do not come back as one. */
static uint64_t backoff(const struct gm_mesh *mesh, uint32_t failures, bool longest,
                        uint64_t random)
{
    uint64_t ceiling = mesh->config.retry_min_ns, max = mesh->config.retry_max_ns;
    for (uint32_t i = 0; i < failures && i < DOUBLINGS && ceiling < max; i++)
        ceiling *= 2;
    if (longest || ceiling > max)
        ceiling = max;
    return longest ? ceiling / 2 + random % (ceiling / 2 + 1) : random % (ceiling + 1);
}

/* Something is new: whatever was slow is fast again. */
static void news(struct gm_mesh *mesh, uint64_t now_ns)
{
    mesh->idle = 0;
    mesh->checks = 0;
    mesh->burst = 0;
    mesh->hunt_until_ns = now_ns + GM_MESH_HUNT_NS;
}

/* A server has said that there are no more than those that we have, and nobody has found more of
 * late. */
static bool is_complete(const struct gm_mesh *mesh, uint32_t servers, uint64_t now_ns)
{
    bool told = mesh->told > servers && now_ns - mesh->told_ns < GM_MESH_TOLD_NS;
    return mesh->peers > 0 && mesh->peers <= servers && !told;
}

static bool is_missing(const struct gm_mesh *mesh, uint32_t live, uint64_t now_ns)
{
    if (live < mesh->peak || live < mesh->peers)
        return true;
    for (uint32_t i = 0; i < mesh->server_count; i++) {
        if (lacks_lanes(&mesh->servers[i], now_ns))
            return true;
    }
    return false;
}

static uint64_t fast_ns(const struct gm_mesh *mesh, uint32_t servers)
{
    return FAST_NS + FAST_NS * mesh->idle / (2 * servers);
}

/* The next check: so many dials in a row that one would most probably meet a server more. */
static uint64_t check_ns(struct gm_mesh *mesh, uint32_t servers, bool complete, uint64_t random)
{
    uint64_t span = mesh->config.check_ns,
             max = span > GM_MESH_CHECK_MAX_NS ? span : GM_MESH_CHECK_MAX_NS;
    if (mesh->burst > 0) {
        mesh->burst--;
        return around(HUNT_MIN_NS, random);
    }
    mesh->burst = complete ? 0 : 2 * servers;
    for (uint32_t i = 0; i < mesh->checks && i < DOUBLINGS && span < max; i++)
        span *= 2;
    if (span > max || complete)
        span = max;
    mesh->checks++;
    return span / 2 + random % (span + 1);
}

/* After a dial that found nothing. UINT64_MAX: no dial is due. */
static uint64_t pace(struct gm_mesh *mesh, uint64_t now_ns, uint64_t random)
{
    uint32_t live = live_count(mesh), servers = live > 0 ? live : 1;
    bool hunting = is_missing(mesh, live, now_ns);
    if (hunting && now_ns >= mesh->hunt_until_ns) {
        mesh->peak = live; /* it will not come back soon; checks find it if it does */
        hunting = false;
    }
    if (hunting) {
        uint64_t max = HUNT_NS / (mesh->peak > servers ? mesh->peak : servers);
        max = max < HUNT_MIN_NS ? HUNT_MIN_NS : max > HUNT_MAX_NS ? HUNT_MAX_NS : max;
        return around(fast_ns(mesh, servers) < max ? fast_ns(mesh, servers) : max, random);
    }
    bool complete = is_complete(mesh, live, now_ns);
    if (gm_mesh_servers(mesh) > 0 && mesh->config.check_ns == 0)
        return UINT64_MAX;
    if (!complete && mesh->idle < PATIENCE + PATIENCE_PER * servers)
        return around(fast_ns(mesh, servers), random);
    if (mesh->config.check_ns == 0 || gm_mesh_servers(mesh) == 0)
        return backoff(mesh, DOUBLINGS, true, random);
    return check_ns(mesh, servers, complete, random);
}

static void due(struct gm_mesh *mesh, uint64_t now_ns, uint64_t span_ns)
{
    mesh->next_ns = span_ns == UINT64_MAX ? UINT64_MAX : now_ns + span_ns;
}

static void due_sooner(struct gm_mesh *mesh, uint64_t now_ns, uint64_t span_ns)
{
    if (now_ns + span_ns < mesh->next_ns)
        mesh->next_ns = now_ns + span_ns;
}

/* Young links that are lost one after the other are a server that does not work, though it greets:
 * the pace of dials that meet servers must not be its pace. */
static uint64_t flap_wait(struct gm_mesh *mesh, uint64_t now_ns, uint64_t random)
{
    if (now_ns - mesh->flap_ns >= GM_MESH_GOOD_NS)
        mesh->flaps = 0;
    return mesh->flaps == 0 ? 0 : backoff(mesh, mesh->flaps - 1, false, random);
}

/* ---- Events ---- */

void gm_mesh_dialled(struct gm_mesh *mesh, uint64_t now_ns)
{
    due(mesh, now_ns, SLOW_NS);
}

static bool keep(struct gm_mesh_server *server, const struct gm_mesh_greeting *greeting)
{
    uint64_t bit = lane_bit(greeting->lane), before = server->held;
    server->held |= bit;
    server->lost &= ~bit;
    server->full_ns = 0;
    server->leaving = false;
    return server->held != before;
}

bool gm_mesh_greeted(struct gm_mesh *mesh, const struct gm_mesh_greeting *greeting, uint64_t now_ns,
                     uint64_t random)
{
    forget_old(mesh, now_ns);
    bool surplus = greeting->lane >= greeting->lanes;
    struct gm_mesh_server *server = learn(mesh, greeting->instance);
    bool fresh = !surplus && server != NULL && !is_live(server), of_use = !surplus;
    mesh->failures = 0;
    if (server != NULL) {
        server->seen_ns = now_ns;
        server->lanes =
            greeting->lanes < GM_CONFIG_LANES_MAX ? greeting->lanes : GM_CONFIG_LANES_MAX;
        if (surplus)
            server->full_ns = now_ns;
        else
            of_use = keep(server, greeting);
    }
    uint32_t live = live_count(mesh);
    bool more = greeting->peers > mesh->peers_most && greeting->peers > live;
    mesh->peers = greeting->peers;
    mesh->peers_most = more ? greeting->peers : mesh->peers_most;
    mesh->peak = live > mesh->peak ? live : mesh->peak;
    if (of_use || more)
        news(mesh, now_ns);
    else
        mesh->idle++;
    uint64_t flap = flap_wait(mesh, now_ns, random), span;
    if (of_use && is_missing(mesh, live, now_ns))
        span = random % NEXT_NS;
    else
        span = pace(mesh, now_ns, random);
    due(mesh, now_ns, span < flap ? flap : span);
    return fresh;
}

void gm_mesh_failed(struct gm_mesh *mesh, bool longest, uint64_t now_ns, uint64_t random)
{
    forget_old(mesh, now_ns);
    due(mesh, now_ns, backoff(mesh, mesh->failures, longest, random));
    mesh->failures++;
}

void gm_mesh_retry(struct gm_mesh *mesh, uint64_t now_ns, uint64_t random)
{
    if (mesh->failures == 0)
        return;
    mesh->failures = 0;
    due_sooner(mesh, now_ns, backoff(mesh, 0, false, random));
}

void gm_mesh_lost(struct gm_mesh *mesh, struct gm_mesh_lane lane, uint64_t age_ns, uint64_t now_ns,
                  uint64_t random)
{
    struct gm_mesh_server *server = find(mesh, lane.instance);
    if (server != NULL) {
        server->held &= ~lane_bit(lane.lane);
        server->lost |= server->leaving ? 0 : lane_bit(lane.lane);
        server->seen_ns = now_ns;
    }
    if (age_ns >= GM_MESH_GOOD_NS) {
        mesh->flaps = 0;
    } else if (mesh->flaps == 0 || now_ns - mesh->flap_ns >= FLAP_NS) {
        mesh->flap_ns = now_ns;
        mesh->flaps++;
    }
    news(mesh, now_ns);
    due_sooner(mesh, now_ns, backoff(mesh, mesh->flaps, false, random));
}

void gm_mesh_released(struct gm_mesh *mesh, struct gm_mesh_lane lane, uint64_t now_ns,
                      uint64_t random)
{
    struct gm_mesh_server *server = find(mesh, lane.instance);
    /* Not `lost`: asking for the lane would end the streams that still run on the old link. */
    if (server != NULL) {
        server->held &= ~lane_bit(lane.lane);
        server->seen_ns = now_ns;
    }
    news(mesh, now_ns);
    due_sooner(mesh, now_ns, random % NEXT_NS);
}

bool gm_mesh_leaving(struct gm_mesh *mesh, const char *instance, uint64_t now_ns, uint64_t random)
{
    struct gm_mesh_server *server = find(mesh, instance);
    if (server == NULL || server->leaving)
        return false;
    server->leaving = true;
    server->lost = 0;
    server->seen_ns = now_ns;
    news(mesh, now_ns);
    due_sooner(mesh, now_ns, random % NEXT_NS);
    return true;
}

bool gm_mesh_told(struct gm_mesh *mesh, uint32_t at_least, uint64_t now_ns, uint64_t random)
{
    uint32_t most = at_least < GM_MESH_SERVERS_MAX ? at_least : GM_MESH_SERVERS_MAX;
    bool known = most <= mesh->told && now_ns - mesh->told_ns < GM_MESH_TOLD_NS;
    if (most <= live_count(mesh) || known || mesh->config.check_ns == 0)
        return false;
    mesh->told = most;
    mesh->told_ns = now_ns;
    mesh->idle = 0;
    mesh->checks = 0;
    mesh->burst = 0;
    due_sooner(mesh, now_ns, random % NEXT_NS);
    return true;
}

/* ---- What a dial asks for ---- */

bool gm_mesh_wish(const struct gm_mesh *mesh, uint64_t random, struct gm_mesh_lane *out)
{
    uint32_t start = mesh->server_count > 0 ? (uint32_t)(random % mesh->server_count) : 0;
    for (uint32_t i = 0; i < mesh->server_count; i++) {
        const struct gm_mesh_server *server = &mesh->servers[(start + i) % mesh->server_count];
        if (server->lost == 0)
            continue;
        *out = (struct gm_mesh_lane){server->instance, (uint32_t)__builtin_ctzll(server->lost)};
        return true;
    }
    return false;
}

uint32_t gm_mesh_lane_guess(const struct gm_mesh *mesh)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < mesh->server_count; i++) {
        const struct gm_mesh_server *server = &mesh->servers[i];
        uint64_t wanted = server->leaving ? 0 : lanes_mask(server->lanes) & ~server->held;
        if (wanted != 0)
            return (uint32_t)__builtin_ctzll(wanted);
        total += (uint32_t)__builtin_popcountll(server->held);
    }
    return total;
}
