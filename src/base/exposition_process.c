/* process_* and the go_memstats_* aliases, read from /proc. Owner: the thread that answers a
 * scrape; /proc is memory, so that reading it waits for nobody. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/exposition.h"

#define KIB 1024u

/* A family of one sample, a whole number. */
static void put_one(struct gm_exposition *page, const char *name, const char *help, uint64_t value)
{
    gm_exposition_family(page, name, "gauge", help);
    gm_exposition_begin(page, name);
    gm_exposition_unsigned(page, value);
}

/* The whole of a small file of /proc, NUL-terminated; "" when it cannot be read. */
static void read_small(const char *path, char *out, size_t cap)
{
    FILE *file = fopen(path, "re");
    size_t len = file == NULL ? 0 : fread(out, 1, cap - 1, file);
    out[len] = '\0';
    if (file != NULL)
        (void)fclose(file);
}

/* ---- Memory ---- */

/* The value of a line "Name:   123 kB". False: there is none. */
static bool status_kib(const char *status, const char *name, uint64_t *out)
{
    const char *at = strstr(status, name);
    if (at == NULL)
        return false;
    *out = strtoull(at + strlen(name), NULL, 10);
    return true;
}

static void put_memory(struct gm_exposition *page)
{
    static const struct {
        const char *line, *name, *help;
    } rows[] = {
        {"\nVmSize:", "process_virtual_memory_bytes", "Virtual memory of the process, in bytes"},
        {"\nVmRSS:", "process_resident_memory_bytes", "Resident memory of the process, in bytes"},
        {"\nRssAnon:", "go_memstats_heap_alloc_bytes",
         "Anonymous resident memory, under the name that dashboards of version 0.0.x draw"},
        {"\nVmRSS:", "go_memstats_sys_bytes",
         "Resident memory, under the name that dashboards of version 0.0.x draw"},
        {"\nVmStk:", "go_memstats_stack_inuse_bytes",
         "Stack of the main thread, under the name that dashboards of version 0.0.x draw"},
    };
    char status[4096];
    uint64_t kib;
    read_small("/proc/self/status", status, sizeof status);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (status_kib(status, rows[i].line, &kib))
            put_one(page, rows[i].name, rows[i].help, kib * KIB);
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0)
        put_one(page, "process_virtual_memory_max_bytes", "Limit of virtual memory, in bytes",
                limit.rlim_cur);
}

/* ---- Files ---- */

/* Linux says how many there are since 6.2; before, they have to be counted, at a microsecond each.
 * 0: it cannot be told. */
static uint64_t open_files(void)
{
    struct stat size;
    uint64_t count = 0;
    if (stat("/proc/self/fd", &size) == 0 && size.st_size > 0)
        return (uint64_t)size.st_size;
    DIR *folder = opendir("/proc/self/fd");
    if (folder == NULL)
        return 0;
    while (readdir(folder) != NULL)
        count++;
    (void)closedir(folder);
    return count < 3 ? 0 : count - 3; /* without ".", ".." and the folder itself */
}

static void put_files(struct gm_exposition *page)
{
    struct rlimit limit;
    uint64_t count = open_files();
    if (count > 0)
        put_one(page, "process_open_fds", "Open file descriptors", count);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        put_one(page, "process_max_fds", "Limit of open file descriptors", limit.rlim_cur);
}

/* ---- Time ---- */

/* Nanoseconds since 1970 at which the process started, or 0: field 22 of /proc/self/stat counts
 * ticks since boot. */
static uint64_t start_ns(void)
{
    char stat[1024];
    read_small("/proc/self/stat", stat, sizeof stat);
    const char *at = strrchr(stat, ')'); /* the name may hold anything but this */
    long hz = sysconf(_SC_CLK_TCK);
    struct timespec boot, wall;
    for (unsigned field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (at == NULL || hz <= 0 || clock_gettime(CLOCK_BOOTTIME, &boot) < 0 ||
        clock_gettime(CLOCK_REALTIME, &wall) < 0)
        return 0;
    uint64_t ticks = strtoull(at, NULL, 10), per_second = (uint64_t)hz;
    uint64_t since_boot =
        ticks / per_second * 1000000000u + ticks % per_second * (1000000000u / per_second);
    uint64_t up = (uint64_t)boot.tv_sec * 1000000000u + (uint64_t)boot.tv_nsec;
    uint64_t now = (uint64_t)wall.tv_sec * 1000000000u + (uint64_t)wall.tv_nsec;
    return now - up + since_boot;
}

static void put_times(struct gm_exposition *page)
{
    struct timespec cpu;
    uint64_t started = start_ns();
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0) {
        gm_exposition_family(page, "process_cpu_seconds_total", "counter",
                             "Processor time of the process, user and system, in seconds");
        gm_exposition_begin(page, "process_cpu_seconds_total");
        gm_exposition_seconds(page, (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec);
    }
    if (started != 0) {
        gm_exposition_family(page, "process_start_time_seconds", "gauge",
                             "When the process started, in seconds since 1970");
        gm_exposition_begin(page, "process_start_time_seconds");
        gm_exposition_seconds(page, started);
    }
}

void gm_exposition_process(struct gm_exposition *page)
{
    const char *constant = page->constant;
    page->constant = NULL;
    put_times(page);
    put_memory(page);
    put_files(page);
    page->constant = constant;
}
