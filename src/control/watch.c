/* Fingerprints of files and folders. Owner: the control thread, or whoever primes a watch before it
 * is handed over. Invariant: equal fingerprints mean the same files with the same times and sizes,
 * but for a collision of 64 bits. */
#include "control/watch.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static uint64_t mix(uint64_t hash, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * 1099511628211u; /* FNV-1a */
    return hash;
}

static uint64_t of_stat(const char *name, const struct stat *st, int error)
{
    const uint64_t facts[] = {
        (uint64_t)st->st_dev,          (uint64_t)st->st_ino,
        (uint64_t)st->st_size,         (uint64_t)st->st_mtim.tv_sec,
        (uint64_t)st->st_mtim.tv_nsec, (uint64_t)st->st_ctim.tv_sec,
        (uint64_t)st->st_ctim.tv_nsec, (uint64_t)error,
    };
    return mix(mix(14695981039346656037u, name, strlen(name)), facts, sizeof facts);
}

/* The sum does not depend on the order in which the entries come. */
static uint64_t of_folder(const char *path)
{
    DIR *folder = opendir(path);
    uint64_t sum = 0;
    if (folder == NULL)
        return (uint64_t)errno;
    const struct dirent *entry;
    for (unsigned i = 0; i < GM_WATCH_ENTRIES_MAX && (entry = readdir(folder)) != NULL; i++) {
        struct stat st = {0};
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        int error = fstatat(dirfd(folder), entry->d_name, &st, 0) < 0 ? errno : 0;
        sum += of_stat(entry->d_name, &st, error);
    }
    (void)closedir(folder);
    return sum;
}

static uint64_t fingerprint(const struct gm_watch *watch)
{
    uint64_t hash = 0;
    for (unsigned i = 0; i < GM_WATCH_PATHS_MAX; i++) {
        const char *path = watch->paths[i];
        struct stat st = {0};
        if (path == NULL)
            continue;
        int error = stat(path, &st) < 0 ? errno : 0;
        uint64_t one = of_stat(path, &st, error);
        if (error == 0 && S_ISDIR(st.st_mode))
            one += of_folder(path);
        hash = mix(hash, &one, sizeof one);
    }
    return hash;
}

void gm_watch_prime(struct gm_watch *watch)
{
    watch->acted = watch->seen = fingerprint(watch);
}

void gm_watch_look(struct gm_watch *watch)
{
    uint64_t now = fingerprint(watch);
    bool rested = now == watch->seen;
    watch->seen = now;
    if (!rested || now == watch->acted)
        return;
    watch->acted = now;
    watch->on_change(watch);
}
