/* Token keys, loaded and loaded again. Invariant: a ring's own reference is touched by that ring
 * alone; a new set reaches it through `next`, which holds one reference or nothing. */
#include "server/keys.h"

#include "base/log.h"
#include "control/process.h"
#include "server/attach.h"
#include "server/context.h"

/* ---- What the options name ---- */

static bool has_pem(const struct gm_server_config *config)
{
    return config->token_public_key_dir != NULL || config->token_public_key_file != NULL ||
           config->token_public_key != NULL;
}

static const char *jwks_file(const struct gm_server_config *config)
{
    const char *source = config->token_jwks;
    return source == NULL || gm_jwks_is_url(source) ? NULL : source;
}

static int load_pem(const struct gm_server_config *config, struct gm_keyset **out,
                    struct gm_auth_error *error)
{
    if (config->token_public_key_dir != NULL)
        return gm_keyset_load_dir(out, config->token_public_key_dir, error);
    if (config->token_public_key_file != NULL)
        return gm_keyset_load_file(out, config->token_public_key_file, error);
    return gm_keyset_load_inline(out, "--token-public-key", config->token_public_key, error);
}

/* One bad file fails it all. */
static int load(const struct gm_server_config *config, struct gm_keyset **out,
                struct gm_auth_error *error)
{
    struct gm_keyset *pem = NULL, *set = NULL;
    *out = NULL;
    int rc = has_pem(config) ? load_pem(config, &pem, error) : 0;
    if (rc >= 0 && jwks_file(config) != NULL)
        rc = gm_jwks_load_file(&set, jwks_file(config), error);
    if (rc >= 0)
        rc = gm_keyset_merge(out, set, pem, error); /* keys keep the names that the set gives */
    gm_keyset_put(pem);
    gm_keyset_put(set);
    return rc;
}

static void announce(const struct gm_keys *keys, bool again)
{
    gm_log_info("token keys loaded", GM_BOOL("again", again),
                GM_STR("issuer", keys->shared->config->token_issuer),
                GM_UINT("keyCount", keys->newest->count));
}

/* ---- Start and end ---- */

static void files_changed(struct gm_watch *watch);
static bool take_fetched(struct gm_server_shared *shared, struct gm_keyset *set,
                         struct gm_auth_error *error);

int gm_keys_load(struct gm_keys *keys, struct gm_server_shared *shared)
{
    const struct gm_server_config *config = shared->config;
    const char *folder = config->token_public_key_dir, *file = config->token_public_key_file;
    struct gm_auth_error error;
    keys->shared = shared;
    keys->watch = (struct gm_watch){
        .paths = {folder != NULL ? folder : file, jwks_file(config)},
        .on_change = files_changed,
    };
    gm_watch_prime(&keys->watch);
    int rc = load(config, &keys->loaded, &error);
    if (rc < 0) {
        gm_log_fatal("cannot load the token keys", GM_ERRTEXT(error.text));
        return rc;
    }
    keys->newest = gm_keyset_ref(keys->loaded);
    announce(keys, false);
    return gm_jwks_new(&keys->jwks, shared, take_fetched);
}

void gm_keys_watch(struct gm_keys *keys)
{
    if (keys->watch.paths[0] != NULL || keys->watch.paths[1] != NULL)
        gm_control_watch(keys->shared->control, &keys->watch);
    gm_jwks_start(keys->jwks);
}

void gm_keys_fini(struct gm_keys *keys)
{
    gm_keyset_put(keys->loaded);
    gm_keyset_put(keys->fetched);
    gm_keyset_put(keys->newest);
    gm_jwks_free(keys->jwks);
    *keys = (struct gm_keys){0};
}

/* ---- Changes, on the control thread ---- */

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

/* Rings get both sets (borrowed) as one, if that is another than they have. On failure nothing
 * changes. */
static bool join(struct gm_keys *keys, const struct gm_keyset *loaded,
                 const struct gm_keyset *fetched, struct gm_auth_error *error)
{
    struct gm_keyset *both;
    if (gm_keyset_merge(&both, fetched, loaded, error) < 0)
        return false;
    if (gm_keyset_equal(both, keys->newest)) {
        gm_keyset_put(both);
        return true;
    }
    gm_keyset_put(keys->newest);
    keys->newest = both;
    announce(keys, true);
    spread(keys);
    return true;
}

static void files_changed(struct gm_watch *watch)
{
    struct gm_keys *keys = GM_CONTAINER_OF(watch, struct gm_keys, watch);
    struct gm_keyset *loaded;
    struct gm_auth_error error;
    if (load(keys->shared->config, &loaded, &error) < 0 ||
        !join(keys, loaded, keys->fetched, &error)) {
        gm_log_error("the changed token keys cannot be used: those loaded before stay",
                     GM_ERRTEXT(error.text));
        gm_keyset_put(loaded);
        return;
    }
    gm_keyset_put(keys->loaded);
    keys->loaded = loaded;
}

static bool take_fetched(struct gm_server_shared *shared, struct gm_keyset *set,
                         struct gm_auth_error *error)
{
    struct gm_keys *keys = &shared->keys;
    if (!join(keys, keys->loaded, set, error)) {
        gm_keyset_put(set);
        return false;
    }
    gm_keyset_put(keys->fetched);
    keys->fetched = set;
    return true;
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

void gm_keys_ring_missed(struct gm_server_ring *ctx)
{
    gm_jwks_want(ctx->shared->keys.jwks);
}

void gm_keys_ring_fini(struct gm_server_ring *ctx)
{
    if (gm_ring_index(ctx->ring) == 0)
        gm_jwks_ring_fini(ctx->shared->keys.jwks);
    gm_keyset_put(ctx->keys.set);
    gm_keyset_put(atomic_exchange_explicit(&ctx->keys.next, NULL, memory_order_acquire));
    ctx->keys.set = NULL;
}
