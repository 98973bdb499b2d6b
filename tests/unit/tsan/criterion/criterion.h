/*
 * The part of Criterion's interface that our unit tests use, for builds under
 * ThreadSanitizer: Criterion's own process sandbox crashes there before the
 * first test. Every test runs in a forked child, as in Criterion; a failed
 * assertion, a skip or a report of the sanitizer ends that child alone.
 * A macro missing here is a compile error in the TSan tree: add it.
 */
#ifndef GM_TESTS_TSAN_CRITERION_H
#define GM_TESTS_TSAN_CRITERION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gm_test {
    const char *suite, *name;
    void (*run)(void);
    void (*init)(void);
    void (*fini)(void);
    double timeout; /* seconds; 0 = the runner's */
    int signal;     /* expected to end the child, 0 = none */
    int exit_code;  /* expected of the child */
    bool disabled;
    const char *description;
    struct gm_test *next;
};

/* What surrounds every test of a suite. */
struct gm_suite {
    const char *name;
    void (*init)(void);
    void (*fini)(void);
    double timeout;
    const char *description;
    struct gm_suite *next;
};

/* Append; called by constructors, before main. Keep the pointer. */
void gm_test_register(struct gm_test *test);
void gm_suite_register(struct gm_suite *suite);
/* Counts and prints a failed check; a fatal one ends the child. */
void gm_test_fail(bool fatal, const char *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void gm_test_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
void gm_test_skip(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#define Test(suite_, name_, ...)                                                                   \
    static void suite_##_##name_##_impl(void);                                                     \
    static struct gm_test suite_##_##name_##_test = {                                              \
        .suite = #suite_, .name = #suite_ "::" #name_, .run = suite_##_##name_##_impl, __VA_ARGS__};                 \
    __attribute__((constructor)) static void suite_##_##name_##_register(void)                     \
    {                                                                                              \
        gm_test_register(&suite_##_##name_##_test);                                                \
    }                                                                                              \
    static void suite_##_##name_##_impl(void)

#define TestSuite(suite_, ...)                                                                     \
    static struct gm_suite suite_##_suite = {.name = #suite_, __VA_ARGS__};                        \
    __attribute__((constructor)) static void suite_##_suite_register(void)                         \
    {                                                                                              \
        gm_suite_register(&suite_##_suite);                                                        \
    }

#define GM_TEST_TEXT(x) #x
#define GM_TEST_LINE(x) GM_TEST_TEXT(x)
/* As in Criterion, the message's arguments are evaluated only when the check fails. */
#define GM_TEST_CHECK(fatal, ok, text, ...)                                                        \
    ((ok) ? (void)0                                                                                \
          : gm_test_fail(fatal, __FILE__ ":" GM_TEST_LINE(__LINE__) ": " text, " " __VA_ARGS__))

#define cr_assert(c, ...) GM_TEST_CHECK(true, (c), #c, __VA_ARGS__)
#define cr_assert_not(c, ...) GM_TEST_CHECK(true, !(c), "!" #c, __VA_ARGS__)
#define cr_assert_eq(a, b, ...) GM_TEST_CHECK(true, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_assert_neq(a, b, ...) GM_TEST_CHECK(true, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...) GM_TEST_CHECK(true, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...) GM_TEST_CHECK(true, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...) GM_TEST_CHECK(true, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...) GM_TEST_CHECK(true, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_assert_null(a, ...) GM_TEST_CHECK(true, (a) == NULL, #a " is null", __VA_ARGS__)
#define cr_assert_not_null(a, ...) GM_TEST_CHECK(true, (a) != NULL, #a " is not null", __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) GM_TEST_CHECK(true, !strcmp(a, b), #a " is " #b, __VA_ARGS__)
#define cr_assert_str_neq(a, b, ...) GM_TEST_CHECK(true, strcmp(a, b), #a " is not " #b, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, n, ...) GM_TEST_CHECK(true, !memcmp(a, b, n), #a " is " #b, __VA_ARGS__)
#define cr_assert_fail(...) GM_TEST_CHECK(true, false, "fail", __VA_ARGS__)

#define cr_expect(c, ...) GM_TEST_CHECK(false, (c), #c, __VA_ARGS__)
#define cr_expect_not(c, ...) GM_TEST_CHECK(false, !(c), "!" #c, __VA_ARGS__)
#define cr_expect_eq(a, b, ...) GM_TEST_CHECK(false, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_expect_neq(a, b, ...) GM_TEST_CHECK(false, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_expect_lt(a, b, ...) GM_TEST_CHECK(false, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_expect_leq(a, b, ...) GM_TEST_CHECK(false, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_expect_gt(a, b, ...) GM_TEST_CHECK(false, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_expect_geq(a, b, ...) GM_TEST_CHECK(false, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_expect_null(a, ...) GM_TEST_CHECK(false, (a) == NULL, #a " is null", __VA_ARGS__)
#define cr_expect_not_null(a, ...) GM_TEST_CHECK(false, (a) != NULL, #a " is not null", __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...) GM_TEST_CHECK(false, !strcmp(a, b), #a " is " #b, __VA_ARGS__)
#define cr_expect_str_neq(a, b, ...) GM_TEST_CHECK(false, strcmp(a, b), #a " is not " #b, __VA_ARGS__)
#define cr_expect_arr_eq(a, b, n, ...) GM_TEST_CHECK(false, !memcmp(a, b, n), #a " is " #b, __VA_ARGS__)

#define cr_log_info(...) gm_test_log(__VA_ARGS__)
#define cr_skip(...) gm_test_skip(" " __VA_ARGS__)
#define cr_skip_test(...) gm_test_skip(" " __VA_ARGS__)

#endif
