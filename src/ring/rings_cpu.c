/* Processors that are ours: affinity mask ∩ cgroup quota (v2 cpu.max, v1 cpu.cfs_quota_us), the
 * least of our group and all its parents.
 *
 * Start-up code on one thread; reads files of /proc and /sys, believes none of them: what cannot be
 * read is no limit. */
#include "ring/rings_cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ring/ring.h"

#define CPU_PATH_BYTES 4096
#define CPU_LINE_BYTES 4096

uint32_t gm_cpu_affinity(cpu_set_t *mask)
{
    cpu_set_t own;
    if (mask == NULL)
        mask = &own;
    CPU_ZERO(mask);
    if (sched_getaffinity(0, sizeof *mask, mask) != 0)
        return 1;
    int count = CPU_COUNT(mask);
    return count > 0 ? (uint32_t)count : 1u;
}

/* First line of a file without its newline; false when there is none. */
static bool read_line(const char *path, char *line, size_t cap)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    bool ok = fgets(line, (int)cap, file) != NULL;
    (void)fclose(file);
    if (ok)
        line[strcspn(line, "\n")] = '\0';
    return ok;
}

static uint32_t round_up(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return UINT32_MAX;
    long long count = quota / period + (quota % period != 0);
    return count > (long long)GM_RINGS_MAX ? GM_RINGS_MAX : (uint32_t)count;
}

/* "max 100000" or "150000 100000". */
static uint32_t quota_v2(const char *dir)
{
    char path[CPU_PATH_BYTES + 32], line[CPU_LINE_BYTES], *end;
    (void)snprintf(path, sizeof path, "%s/cpu.max", dir);
    if (!read_line(path, line, sizeof line) || strncmp(line, "max", 3) == 0)
        return UINT32_MAX;
    long long quota = strtoll(line, &end, 10);
    return round_up(quota, *end == ' ' ? strtoll(end + 1, NULL, 10) : 0);
}

static uint32_t quota_v1(const char *dir)
{
    char path[CPU_PATH_BYTES + 32], quota[CPU_LINE_BYTES], period[CPU_LINE_BYTES];
    (void)snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", dir);
    if (!read_line(path, quota, sizeof quota))
        return UINT32_MAX;
    (void)snprintf(path, sizeof path, "%s/cpu.cfs_period_us", dir);
    if (!read_line(path, period, sizeof period))
        return UINT32_MAX;
    return round_up(strtoll(quota, NULL, 10), strtoll(period, NULL, 10));
}

/* The least over base/group, its parent, … and base itself. */
static uint32_t quota_upwards(const char *base, const char *group,
                              uint32_t (*quota)(const char *dir))
{
    char dir[CPU_PATH_BYTES];
    uint32_t least = UINT32_MAX;
    int n = snprintf(dir, sizeof dir, "%s%s", base, group);
    if (n < 0 || (size_t)n >= sizeof dir)
        return UINT32_MAX;
    size_t base_len = strlen(base);
    for (;;) {
        uint32_t here = quota(dir);
        if (here < least)
            least = here;
        char *slash = strrchr(dir + base_len, '/');
        if (slash == NULL)
            return least;
        *slash = '\0';
    }
}

/* Is `name` one of the comma-separated controllers? */
static bool names_controller(const char *list, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = list; *at != '\0'; at += strcspn(at, ","), at += *at == ',') {
        if (strncmp(at, name, len) == 0 && (at[len] == ',' || at[len] == '\0'))
            return true;
    }
    return false;
}

/* A line of /proc/self/cgroup: "0::/group" (v2) or "4:cpu,cpuacct:/group" (v1). */
static uint32_t quota_of_line(const char *root, char *line)
{
    static const char *const v1_mounts[] = {"sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"};
    static const char *const v2_mounts[] = {"sys/fs/cgroup", "sys/fs/cgroup/unified"};
    char *controllers = strchr(line, ':');
    char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
    if (group == NULL)
        return UINT32_MAX;
    *group++ = '\0';
    controllers++;
    bool v2 = controllers[0] == '\0';
    if (!v2 && !names_controller(controllers, "cpu"))
        return UINT32_MAX;
    uint32_t least = UINT32_MAX;
    for (unsigned i = 0; i < 2; i++) {
        char base[CPU_PATH_BYTES];
        int n = snprintf(base, sizeof base, "%s%s", root, v2 ? v2_mounts[i] : v1_mounts[i]);
        if (n < 0 || (size_t)n >= sizeof base)
            continue;
        /* In a container the group's path may name the host's tree: then only the mount's own files
         * exist, and those are ours. */
        uint32_t here = quota_upwards(base, group, v2 ? quota_v2 : quota_v1);
        if (here < least)
            least = here;
    }
    return least;
}

uint32_t gm_cpu_quota(const char *root)
{
    char path[CPU_PATH_BYTES], line[CPU_LINE_BYTES];
    uint32_t least = UINT32_MAX;
    (void)snprintf(path, sizeof path, "%sproc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return least;
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        uint32_t here = quota_of_line(root, line);
        if (here < least)
            least = here;
    }
    (void)fclose(file);
    return least;
}

bool gm_cpu_may_pin(uint32_t affinity, uint32_t quota)
{
    return affinity > 1 && quota >= affinity;
}

uint32_t gm_rings_default_count(void)
{
    uint32_t affinity = gm_cpu_affinity(NULL), quota = gm_cpu_quota("/");
    uint32_t count = affinity < quota ? affinity : quota;
    return count > GM_RINGS_MAX ? GM_RINGS_MAX : count;
}
