/* Ports that are claimed: one that is free, one that somebody keeps, one that is left in time. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/claim.h"

static union gm_addr loopback(int32_t port)
{
    return (union gm_addr){.in = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}}};
}

static int listen_at(union gm_addr *addr)
{
    socklen_t len = sizeof addr->in;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_geq(fd, 0);
    cr_assert_eq(bind(fd, &addr->base, len), 0);
    cr_assert_eq(listen(fd, 1), 0);
    cr_assert_eq(getsockname(fd, &addr->base, &len), 0);
    return fd;
}

Test(claim, any_port_is_chosen_and_held)
{
    union gm_addr addr = loopback(0);
    int fd = gm_claim_port(&addr);
    cr_assert_geq(fd, 0);
    cr_assert_gt(gm_claim_port_of(&addr), 0);
    union gm_addr again = addr;
    cr_assert_eq(gm_claim_port(&again), -EADDRINUSE);
    (void)close(fd);
    cr_assert_eq(gm_claim_port(&again), -1, "it is free");
}

static void *leave(void *arg)
{
    (void)usleep(100000);
    (void)close(*(int *)arg);
    return NULL;
}

Test(claim, a_port_that_is_about_to_be_left_is_waited_for)
{
    union gm_addr addr = loopback(0);
    int fd = listen_at(&addr);
    cr_assert_eq(gm_claim_port(&addr), -EADDRINUSE);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, leave, &fd), 0);
    cr_assert_eq(gm_claim_port(&addr), -1);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}
