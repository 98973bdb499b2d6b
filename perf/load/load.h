/*
 * What the generators and their backend share: the clock that stamps, an address with the fields
 * that a request to it carries, sockets that never block, and the lines that the laboratory reads.
 * Every program here is one thread with one epoll; what it cannot do, it says and exits 2.
 *
 * On stdout each line is a JSON object. {"phase":"steady"} and {"phase":"ended"} bound the span
 * that is measured; the last line is the result.
 */
#ifndef GM_LOAD_LOAD_H
#define GM_LOAD_LOAD_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#define GM_LOAD_SECOND_NS 1000000000ull
#define GM_LOAD_EVENTS    512 /* taken from epoll at once */

/* Where requests go. */
struct gm_target {
    struct sockaddr_in address;
    char path[1024];
    char fields[4096]; /* complete lines */
};

/* CLOCK_MONOTONIC, the same in every process of the machine. */
uint64_t gm_load_now(void);

/* Reads http://A.B.C.D:PORT/path. Exits when it is none. */
void gm_target_read(struct gm_target *target, const char *url);

/* Adds "Name: value" to the request's fields. */
void gm_target_add_field(struct gm_target *target, const char *field);

/* A whole request: a POST when body_bytes > 0, else a GET. `{}` in the path becomes `number`. The
 * caller frees it; *len is its size in bytes. */
char *gm_target_request(const struct gm_target *target, uint64_t number, size_t body_bytes,
                        size_t *len);

/* A socket that does not block and sends at once. -errno when it cannot be had. */
int gm_load_socket(void);

/* Waits for epoll's events, at most until `until_ns` (UINT64_MAX: no limit). Returns how many. */
struct epoll_event;
int gm_load_wait(int epoll, struct epoll_event *events, uint64_t until_ns);

/* A number from an option; exits when it is none or out of range. */
uint64_t gm_load_number(const char *text, uint64_t least, uint64_t most);

/* As many descriptors as the system allows. Returns how many. */
uint64_t gm_load_raise_files(void);

void gm_load_phase(const char *name);

__attribute__((noreturn, format(printf, 1, 2))) void gm_load_fail(const char *format, ...);

#endif
