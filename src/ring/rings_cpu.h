/* How many processors are ours: the affinity mask and the cgroup's quota. Called at start, from one
 * thread. */
#ifndef GM_RING_RINGS_CPU_H
#define GM_RING_RINGS_CPU_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

/* Processors in the affinity mask (at least 1); `mask` may be NULL. */
uint32_t gm_cpu_affinity(cpu_set_t *mask);
/* The least quota of our cgroup and its parents in whole processors, rounded up; UINT32_MAX: none.
 * `root` is "/" (tests: another root that holds proc/self/cgroup and sys/fs/cgroup). */
uint32_t gm_cpu_quota(const char *root);
/* May threads be pinned: no quota below the mask (pinning under a quota makes throttling worse). */
bool gm_cpu_may_pin(uint32_t affinity, uint32_t quota);

#endif
