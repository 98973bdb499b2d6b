/* Token keys, loaded and loaded again. Invariant: a ring's own reference is touched by that ring
 * alone; a new set reaches it through `next`, which holds one reference or nothing. */
#include "server/keys.h"

#include "base/log.h"
#include "control/process.h"
#include "server/attach.h"
#include "server/context.h"

static int load(const struct gm_server_config *config, struct gm_keyset **out,
                struct gm_auth_error *error)
{
    if (config->token_public_key_dir != NULL)
        return gm_keyset_load_dir(out, config->token_public_key_dir, error);
    if (config->token_public_key_file != NULL)
        return gm_keyset_load_file(out, config->token_public_key_file, error);
    return gm_keyset_load_inline(out, "--token-public-key", config->token_public_key, error);
}

static void announce(const struct gm_keys *keys, bool again)
{
    gm_log_info("token keys loaded", GM_BOOL("again", again),
                GM_STR("issuer", keys->shared->config->token_issuer),
                GM_UINT("keyCount", keys->newest->count));
}

/* ---- Start and end ---- */

static void files_changed(struct gm_watch *watch);

int gm_keys_load(struct gm_keys *keys, struct gm_server_shared *shared)
{
    const struct gm_server_config *config = shared->config;
    struct gm_auth_error error;
    keys->shared = shared;
    keys->watch = (struct gm_watch){
        .paths = {config->token_public_key_dir != NULL ? config->token_public_key_dir
                                                       : config->token_public_key_file},
        .on_change = files_changed,
    };
    gm_watch_prime(&keys->watch);
    int rc = load(config, &keys->newest, &error);
    if (rc < 0)
        gm_log_fatal("cannot load the token keys", GM_ERRTEXT(error.text));
    else
        announce(keys, false);
    return rc;
}

void gm_keys_watch(struct gm_keys *keys)
{
    if (keys->watch.paths[0] != NULL)
        gm_control_watch(keys->shared->control, &keys->watch);
}

void gm_keys_fini(struct gm_keys *keys)
{
    gm_keyset_put(keys->newest);
    *keys = (struct gm_keys){0};
}

/* ---- A change of files ---- */

/* On each ring. */
static void take_next(struct gm_ring *ring)
{
    gm_keys_ring_adopt(gm_ring_user(ring));
}

static void spread(struct gm_keys *keys)
{
    struct gm_server_shared *shared = keys->shared;
    for (uint32_t i = 0; i < gm_rings_count(shared->rings); i++) {
        struct gm_keyset *missed =
            atomic_exchange_explicit(&shared->ring_contexts[i]->keys.next,
                                     gm_keyset_ref(keys->newest), memory_order_acq_rel);
        gm_keyset_put(missed);
    }
    gm_process_tell_all(shared->rings, take_next);
}

/* On the control thread. */
static void files_changed(struct gm_watch *watch)
{
    struct gm_keys *keys = GM_CONTAINER_OF(watch, struct gm_keys, watch);
    struct gm_keyset *set;
    struct gm_auth_error error;
    if (load(keys->shared->config, &set, &error) < 0) {
        gm_log_error("the changed token keys cannot be used: those loaded before stay",
                     GM_ERRTEXT(error.text));
        return;
    }
    bool same = gm_keyset_equal(set, keys->newest);
    gm_keyset_put(same ? set : keys->newest);
    if (!same)
        keys->newest = set;
    announce(keys, true);
    if (!same)
        spread(keys);
}

/* ---- Rings ---- */

static void use(struct gm_server_ring *ctx, struct gm_keyset *set)
{
    ctx->keys.set = set;
    ctx->keys.rules =
        (struct gm_jwt_rules){.keys = set, .issuer = ctx->shared->config->token_issuer};
}

void gm_keys_ring_init(struct gm_keys *keys, struct gm_server_ring *ctx)
{
    use(ctx, gm_keyset_ref(keys->newest));
}

void gm_keys_ring_adopt(struct gm_server_ring *ctx)
{
    struct gm_keyset *next = atomic_exchange_explicit(&ctx->keys.next, NULL, memory_order_acquire);
    if (next == NULL)
        return;
    gm_keyset_put(ctx->keys.set);
    use(ctx, next);
    gm_token_cache_flush(&ctx->tokens);
    gm_attach_recheck(ctx);
}

void gm_keys_ring_fini(struct gm_server_ring *ctx)
{
    gm_keyset_put(ctx->keys.set);
    gm_keyset_put(atomic_exchange_explicit(&ctx->keys.next, NULL, memory_order_acquire));
    ctx->keys.set = NULL;
}
