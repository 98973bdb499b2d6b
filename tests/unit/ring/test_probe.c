/* What the probe finds, what can be switched off, and the words for what stands in the way. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "harness.h"

Test(probe, finds_and_switches_off)
{
    struct gm_uring_features f;
    char why[GM_WHY_BYTES], text[GM_WHY_BYTES];
    cr_assert_eq(gm_uring_probe(NULL, &f, why), 0, "%s", why);
    cr_assert_eq(f.off, 0u);
    for (unsigned i = 0; i < GM_URING_FEATURE_COUNT; i++) {
        struct gm_uring_features one;
        cr_assert_eq(gm_uring_probe(gm_uring_feature_name((enum gm_uring_feature)i), &one, why), 0,
                     "%s", why);
        cr_assert_eq(one.off, 1u << i);
        cr_assert_not(gm_uring_has(&one, (enum gm_uring_feature)i));
    }
    cr_assert_eq(gm_uring_probe("all", &f, why), 0);
    cr_assert_eq(f.off, (1u << GM_URING_FEATURE_COUNT) - 1u);
    cr_assert_eq(gm_uring_probe("recv-limit,,msg-ring,", &f, why), 0);
    cr_assert_eq(f.off, 1u << GM_URING_RECV_LIMIT | 1u << GM_URING_MSG_RING);
    gm_uring_describe(&f, text, sizeof text);
    cr_assert(strstr(text, "switched off: recv-limit, msg-ring") != NULL, "%s", text);
    gm_uring_describe(&f, text, 20); /* cut, not overrun */
    cr_assert_lt(strlen(text), 20u);
    cr_assert_eq(gm_uring_probe("recv", &f, why), -GM_E_CONFIG, "no half names");
}

Test(probe, words)
{
    char why[GM_WHY_BYTES];
    gm_uring_explain(-ENOSYS, why, sizeof why);
    cr_assert(strstr(why, "too old") != NULL && strstr(why, "--io epoll") != NULL, "%s", why);
    gm_uring_explain(-ENOMEM, why, sizeof why);
    cr_assert(strstr(why, "RLIMIT_MEMLOCK") != NULL, "%s", why);
    gm_uring_explain(-EMFILE, why, sizeof why);
    cr_assert(strstr(why, "RLIMIT_NOFILE") != NULL, "%s", why);
    gm_uring_explain(-EPERM, why, sizeof why);
    cr_assert(strstr(why, "EPERM") != NULL || strstr(why, "sysctl") != NULL, "%s", why);
    gm_uring_explain(-12345, why, sizeof why);
    cr_assert(strstr(why, "epoll") != NULL, "%s", why);
}

/* As Docker's default profile does: EPERM from io_uring_setup. */
static void forbid_uring(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0), 0);
}

Test(probe, seccomp_is_named_and_auto_falls_back)
{
    struct gm_rings_config config = {
        .io = GM_IO_URING, .count = 1, .memory_bytes = GM_RING_MEMORY_MIN};
    struct gm_rings *rings;
    char why[GM_WHY_BYTES];
    forbid_uring();
    cr_assert_eq(gm_rings_start(&config, NULL, &rings, why), -EPERM);
    cr_assert(strstr(why, "seccomp") != NULL && strstr(why, "Kubernetes") != NULL, "%s", why);
    config.io = GM_IO_AUTO;
    cr_assert_eq(gm_rings_start(&config, NULL, &rings, why), 0, "%s", why);
    cr_assert_str_eq(gm_rings_backend(rings), "epoll");
    cr_assert(strstr(gm_rings_describe(rings),
                     "because io_uring cannot be used: a seccomp profile") != NULL,
              "%s", gm_rings_describe(rings));
    finish(rings);
}
