/* A ring's replica of the registry: a hash table of services, each with its links' cards.
 *
 * Owner: one ring. It allocates only when links come and go, never for a request. Invariant: a card
 * is listed between its `joined` and its `left` mail, which arrive in that order because mail
 * between two rings keeps its order. */
#include "server/registry.h"

#include <stdlib.h>
#include <string.h>

#include "base/counter.h"

#define REGISTRY_BUCKETS 4096u
/* A request crosses rings only when the link of its own ring carries this much more than twice what
 * the idlest one does: crossing costs more than half a request's work, and closed loops of some
 * tens of clients per ring swing from nothing to all. 4 more, and not twice, sent a third of all
 * requests across: 1.25 times the server's time (64 connections, two rings, a link on each). */
#define REGISTRY_LOCAL_SLACK 64u
/* An agent's refusal is believed for so long: a few round trips, and short beside the time that
 * anybody waits. */
#define REGISTRY_FULL_NS 100000000ull
/* Steps double from 1; behind this one the agent counts as any other again. */
#define REGISTRY_FULL_STEPS 1024u

struct service {
    struct service *next;
    struct gm_card **cards;
    uint32_t count, capacity;
    uint32_t turn; /* where the last tie was settled */
    uint32_t hash;
    uint32_t name_len;
    char name[GM_REGISTRY_SERVICE_MAX];
};

struct gm_registry {
    struct gm_ring *ring;
    struct gm_registry **all;
    void (*joined)(void *arg, const struct gm_card *card); /* NULL: nobody watches */
    void *joined_arg;
    struct service *buckets[REGISTRY_BUCKETS];
};

struct gm_registry *gm_registry_new(struct gm_ring *ring, struct gm_registry **registries)
{
    struct gm_registry *registry = calloc(1, sizeof *registry);
    if (registry == NULL)
        return NULL;
    registry->ring = ring;
    registry->all = registries;
    registries[gm_ring_index(ring)] = registry;
    return registry;
}

#define HOLD_RING ((uint64_t)1 << 32)

static void card_release(struct gm_card *card, uint64_t hold)
{
    if (atomic_fetch_sub_explicit(&card->holds, hold, memory_order_acq_rel) != hold)
        return;
    free(card->joined);
    free(card);
}

void gm_card_begin(struct gm_card *card)
{
    atomic_fetch_add_explicit(&card->holds, 1, memory_order_relaxed);
}
void gm_card_end(struct gm_card *card)
{
    card_release(card, 1);
}

static void service_free(struct service *service)
{
    for (uint32_t i = 0; i < service->count; i++)
        card_release(service->cards[i], HOLD_RING);
    free(service->cards);
    free(service);
}

void gm_registry_free(struct gm_registry *registry)
{
    if (registry == NULL)
        return;
    for (uint32_t i = 0; i < REGISTRY_BUCKETS; i++) {
        struct service *next;
        for (struct service *s = registry->buckets[i]; s != NULL; s = next) {
            next = s->next;
            service_free(s);
        }
    }
    free(registry);
}

uint32_t gm_registry_name_hash(const char *name, size_t len)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (uint8_t)name[i]) * 16777619u;
    return hash;
}

static struct service *service_find(const struct gm_registry *registry, const char *name,
                                    size_t len)
{
    uint32_t hash = gm_registry_name_hash(name, len);
    for (struct service *s = registry->buckets[hash % REGISTRY_BUCKETS]; s != NULL; s = s->next) {
        if (s->hash == hash && s->name_len == len && memcmp(s->name, name, len) == 0)
            return s;
    }
    return NULL;
}

static struct service *service_make(struct gm_registry *registry, const char *name)
{
    size_t len = strlen(name);
    struct service *service = service_find(registry, name, len);
    if (service != NULL)
        return service;
    service = calloc(1, sizeof *service);
    if (service == NULL)
        return NULL;
    service->hash = gm_registry_name_hash(name, len);
    service->name_len = (uint32_t)len;
    memcpy(service->name, name, len);
    service->next = registry->buckets[service->hash % REGISTRY_BUCKETS];
    registry->buckets[service->hash % REGISTRY_BUCKETS] = service;
    return service;
}

/* Links of one agent process stand side by side. */
static bool service_add(struct service *service, struct gm_card *card)
{
    if (service->count == service->capacity) {
        uint32_t capacity = service->capacity == 0 ? 4 : service->capacity * 2;
        struct gm_card **cards = realloc(service->cards, capacity * sizeof *cards);
        if (cards == NULL)
            return false;
        service->cards = cards;
        service->capacity = capacity;
    }
    uint32_t at = service->count;
    while (at > 0 && service->cards[at - 1]->agent != card->agent)
        at--;
    if (at == 0)
        at = service->count;
    memmove(service->cards + at + 1, service->cards + at,
            (service->count - at) * sizeof *service->cards);
    service->cards[at] = card;
    service->count++;
    return true;
}

static void service_remove(struct service *service, uint32_t at)
{
    service->count--;
    memmove(service->cards + at, service->cards + at + 1,
            (service->count - at) * sizeof *service->cards);
}

static void registry_drop_service(struct gm_registry *registry, struct service *service)
{
    struct service **at = &registry->buckets[service->hash % REGISTRY_BUCKETS];
    while (*at != service)
        at = &(*at)->next;
    *at = service->next;
    service_free(service);
}

static void card_joined(struct gm_mail *mail)
{
    struct gm_card_news *news = GM_CONTAINER_OF(mail, struct gm_card_news, mail);
    struct gm_registry *registry = news->registry;
    struct service *service = service_make(registry, news->card->service);
    if (registry->joined != NULL)
        registry->joined(registry->joined_arg, news->card);
    /* Without memory the ring does not know the link; others do. The card's hold is given back when
     * the link leaves. */
    if (service != NULL && service_add(service, news->card))
        return;
    gm_counter_add(GM_COUNTER_ALLOCATIONS, 1);
}

static void card_left(struct gm_mail *mail)
{
    struct gm_card_news *news = GM_CONTAINER_OF(mail, struct gm_card_news, mail);
    struct gm_registry *registry = news->registry;
    struct gm_card *card = news->card;
    struct service *service = service_find(registry, card->service, strlen(card->service));
    for (uint32_t i = 0; service != NULL && i < service->count; i++) {
        if (service->cards[i] != card)
            continue;
        service_remove(service, i);
        if (service->count == 0)
            registry_drop_service(registry, service);
        break;
    }
    card_release(card, HOLD_RING);
}

struct gm_card *gm_card_new(struct gm_registry *registry)
{
    uint32_t rings = gm_rings_count(gm_ring_rings(registry->ring));
    struct gm_card *card = calloc(1, sizeof *card);
    if (card == NULL)
        return NULL;
    card->joined = calloc((size_t)rings * 2, sizeof *card->joined);
    if (card->joined == NULL) {
        free(card);
        return NULL;
    }
    card->left = card->joined + rings;
    card->ring = (uint16_t)gm_ring_index(registry->ring);
    atomic_store_explicit(&card->holds, HOLD_RING * rings, memory_order_relaxed);
    gm_counter_add(GM_COUNTER_ALLOCATIONS, 2);
    return card;
}

static void card_tell(struct gm_registry *registry, struct gm_card *card, struct gm_card_news *news,
                      void (*deliver)(struct gm_mail *))
{
    for (uint32_t i = 0; i < gm_rings_count(gm_ring_rings(registry->ring)); i++) {
        news[i].card = card;
        news[i].registry = registry->all[i];
        news[i].mail.deliver = deliver;
        gm_ring_mail(registry->ring, i, &news[i].mail);
    }
}

void gm_card_announce(struct gm_registry *registry, struct gm_card *card)
{
    card->agent = (uint64_t)gm_registry_name_hash(card->subject, strlen(card->subject)) << 32 |
                  gm_registry_name_hash(card->instance, strlen(card->instance));
    card_tell(registry, card, card->joined, card_joined);
}

void gm_card_withdraw(struct gm_registry *registry, struct gm_card *card)
{
    atomic_store_explicit(&card->state, GM_CARD_DRAINING, memory_order_relaxed);
    card_tell(registry, card, card->left, card_left);
}

static uint32_t card_load(const struct gm_card *card)
{
    return (uint32_t)atomic_load_explicit(&card->holds, memory_order_relaxed);
}

/* Which links come into question. */
struct want {
    enum gm_card_state state;
    const struct gm_card *except; /* a first attempt failed on it; NULL: none did */
    bool other_agent;             /* leave out its whole agent, too */
    bool upgrade;                 /* leave out what carries none */
    bool full;                    /* agents that are thought to be full, too */
    uint64_t now_ns;
};

static bool card_usable(const struct gm_card *card, const struct want *want)
{
    bool excluded =
        want->except != NULL &&
        (card == want->except || (want->other_agent && card->agent == want->except->agent));
    return !excluded && !(want->upgrade && card->old) && card_load(card) < card->stream_limit &&
           atomic_load_explicit(&card->state, memory_order_relaxed) == (uint32_t)want->state;
}

/* What is being compared: a whole agent's load decides, for its links share one process; of its
 * links, the one of this ring while it is not clearly busier. */
struct choice {
    struct gm_card *card;
    uint32_t load; /* of the agent */
    bool local;
};

/* By what it has refused. What is known for longer than REGISTRY_FULL_NS is tried anew, with a few
 * requests more than there are: its other servers may have left it. */
static bool card_refused(struct gm_card *card, uint32_t load, uint64_t now_ns)
{
    uint64_t until_ns = atomic_load_explicit(&card->full_until_ns, memory_order_relaxed);
    if (until_ns == 0)
        return false;
    if (now_ns >= until_ns) {
        uint32_t step = atomic_load_explicit(&card->full_step, memory_order_relaxed);
        bool over = step >= REGISTRY_FULL_STEPS;
        atomic_store_explicit(&card->full_load, load + step, memory_order_relaxed);
        atomic_store_explicit(&card->full_step, step * 2, memory_order_relaxed);
        atomic_store_explicit(&card->full_until_ns, over ? 0 : now_ns + REGISTRY_FULL_NS,
                              memory_order_relaxed);
        return false;
    }
    return load >= atomic_load_explicit(&card->full_load, memory_order_relaxed);
}

/* The agent of the links from `from` to before `to`, with `load` of our requests. */
static bool agent_full(const struct service *service, uint32_t from, uint32_t to, uint32_t load,
                       uint64_t now_ns)
{
    for (uint32_t i = from; i < to; i++) {
        struct gm_card *card = service->cards[i];
        if ((card->request_limit > 0 && load >= card->request_limit) ||
            card_refused(card, load, now_ns))
            return true;
    }
    return false;
}

/* The agent whose links begin at `from`; *next is behind them. card == NULL: none of them is
 * usable. */
static struct choice agent_choice(const struct service *service, uint32_t from, uint32_t *next,
                                  const struct want *want)
{
    struct gm_card *best = NULL, *local = NULL;
    struct choice choice = {0};
    uint32_t i = from;
    do {
        struct gm_card *card = service->cards[i];
        choice.load += card_load(card);
        if (!card_usable(card, want))
            continue;
        if (best == NULL || card_load(card) < card_load(best))
            best = card;
        if (card->ring == gm_ring_self && (local == NULL || card_load(card) < card_load(local)))
            local = card;
    } while (++i < service->count && service->cards[i]->agent == service->cards[from]->agent);
    *next = i;
    choice.local = local != NULL && card_load(local) <= 2 * card_load(best) + REGISTRY_LOCAL_SLACK;
    choice.card = choice.local ? local : best;
    if (choice.card != NULL && !want->full &&
        agent_full(service, from, i, choice.load, want->now_ns))
        choice.card = NULL;
    return choice;
}

static struct gm_card *service_pick(const struct service *service, uint32_t turn,
                                    const struct want *want)
{
    struct choice best = {0};
    uint32_t ties = 0;
    for (uint32_t i = 0; i < service->count;) {
        struct choice choice = agent_choice(service, i, &i, want);
        if (choice.card == NULL)
            continue;
        bool better = best.card == NULL || choice.load < best.load ||
                      (choice.load == best.load && choice.local && !best.local);
        bool tie = !better && choice.load == best.load && choice.local == best.local;
        ties = better ? 1 : ties + tie;
        /* Of n equal ones each is taken in every n-th turn. */
        if (better || (tie && turn % ties == 0))
            best = choice;
    }
    return best.card;
}

/* `like` says all but the state and whose links are left out. */
static struct gm_card *pick(struct gm_registry *registry, struct service *service,
                            const struct want *like)
{
    /* In order of preference. A link that is asked for a sign of life nearly always gives it a
     * round trip later: a request had better wait for that than be refused. */
    static const struct {
        enum gm_card_state state;
        bool other_agent, any_link;
    } orders[] = {{GM_CARD_READY, true, false},
                  {GM_CARD_READY, false, false},
                  {GM_CARD_SILENT, true, false},
                  {GM_CARD_SILENT, false, false},
                  {GM_CARD_READY, true, true}};
    for (unsigned i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        struct want want = *like;
        want.state = orders[i].state;
        want.other_agent = orders[i].other_agent;
        want.upgrade = like->upgrade && !orders[i].any_link;
        want.now_ns = gm_ring_now_ns(registry->ring);
        struct gm_card *card = service_pick(service, service->turn, &want);
        if (card != NULL)
            return card;
    }
    return NULL;
}

struct gm_card *gm_registry_pick_free(struct gm_registry *registry, const char *name, size_t len,
                                      const struct gm_card *except, bool upgrade)
{
    struct service *service = service_find(registry, name, len);
    if (service == NULL)
        return NULL;
    service->turn++;
    return pick(registry, service, &(struct want){.except = except, .upgrade = upgrade});
}

struct gm_card *gm_registry_pick(struct gm_registry *registry, const char *name, size_t len,
                                 const struct gm_card *except, bool upgrade)
{
    struct gm_card *card = gm_registry_pick_free(registry, name, len, except, upgrade);
    struct service *service = card != NULL ? NULL : service_find(registry, name, len);
    if (service == NULL)
        return card;
    return pick(registry, service,
                &(struct want){.except = except, .upgrade = upgrade, .full = true});
}

void gm_registry_full(struct gm_registry *registry, const struct gm_card *card)
{
    const struct service *service = service_find(registry, card->service, strlen(card->service));
    uint64_t until_ns = gm_ring_now_ns(registry->ring) + REGISTRY_FULL_NS;
    uint32_t load = 0;
    struct gm_card *first = NULL;
    for (uint32_t i = 0; service != NULL && i < service->count; i++) {
        if (service->cards[i]->agent != card->agent)
            continue;
        first = first == NULL ? service->cards[i] : first;
        load += card_load(service->cards[i]);
    }
    if (first == NULL)
        return; /* it has gone */
    atomic_store_explicit(&first->full_load, load > 0 ? load - 1 : 0, memory_order_relaxed);
    atomic_store_explicit(&first->full_step, 1, memory_order_relaxed);
    atomic_store_explicit(&first->full_until_ns, until_ns, memory_order_relaxed);
}

bool gm_registry_serves(const struct gm_registry *registry, const char *name, size_t len)
{
    const struct service *service = service_find(registry, name, len);
    for (uint32_t i = 0; service != NULL && i < service->count; i++) {
        uint32_t state = atomic_load_explicit(&service->cards[i]->state, memory_order_relaxed);
        if (state == GM_CARD_READY || state == GM_CARD_SILENT)
            return true;
    }
    return false;
}

uint32_t gm_registry_limit(const struct gm_registry *registry, const char *name, size_t len)
{
    const struct service *service = service_find(registry, name, len);
    for (uint32_t i = 0; service != NULL && i < service->count; i++) {
        if (service->cards[i]->request_limit > 0)
            return service->cards[i]->request_limit;
    }
    return 0;
}

uint64_t gm_registry_rate(const struct gm_registry *registry, const char *name, size_t len)
{
    const struct service *service = service_find(registry, name, len);
    uint64_t now_ns = gm_ring_now_ns(registry->ring), milli = 0;
    for (uint32_t i = 0; service != NULL && i < service->count; i++)
        milli += gm_rate_read(&service->cards[i]->rate, now_ns);
    return milli;
}

unsigned gm_registry_links(const struct gm_registry *registry, const char *name, size_t len)
{
    const struct service *service = service_find(registry, name, len);
    return service == NULL ? 0 : service->count;
}

static unsigned service_agents(const struct service *service)
{
    unsigned agents = 0;
    for (uint32_t i = 0; i < service->count; i++)
        agents += i == 0 || service->cards[i]->agent != service->cards[i - 1]->agent;
    return agents;
}

struct gm_registry_count gm_registry_count(const struct gm_registry *registry, const char *name)
{
    const struct service *service = service_find(registry, name, strlen(name));
    struct gm_registry_count count = {0};
    for (uint32_t i = 0; service != NULL && i < service->count;) {
        const struct gm_card *first = service->cards[i];
        uint64_t agent = first->agent;
        for (i++; i < service->count && service->cards[i]->agent == agent; i++) {
            if (service->cards[i]->lane < first->lane)
                first = service->cards[i];
        }
        uint32_t state = atomic_load_explicit(&first->state, memory_order_relaxed);
        count.ready += state == GM_CARD_READY || state == GM_CARD_SILENT;
        count.not_ready += state == GM_CARD_NOT_READY;
    }
    return count;
}

void gm_registry_each(const struct gm_registry *registry,
                      void (*each)(void *arg, const char *service, unsigned agents), void *arg)
{
    for (uint32_t i = 0; i < REGISTRY_BUCKETS; i++) {
        for (const struct service *s = registry->buckets[i]; s != NULL; s = s->next)
            each(arg, s->name, service_agents(s));
    }
}

void gm_registry_watch(struct gm_registry *registry,
                       void (*joined)(void *arg, const struct gm_card *card), void *arg)
{
    registry->joined = joined;
    registry->joined_arg = arg;
}

static void service_each_card(const struct service *service,
                              void (*each)(void *arg, const struct gm_card *card), void *arg)
{
    for (uint32_t i = 0; i < service->count; i++)
        each(arg, service->cards[i]);
}

void gm_registry_each_card(const struct gm_registry *registry,
                           void (*each)(void *arg, const struct gm_card *card), void *arg)
{
    for (uint32_t i = 0; i < REGISTRY_BUCKETS; i++) {
        for (const struct service *s = registry->buckets[i]; s != NULL; s = s->next)
            service_each_card(s, each, arg);
    }
}
