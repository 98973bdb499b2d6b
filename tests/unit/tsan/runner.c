/*
 * Runs registered tests one after the other, each in a forked child, and writes
 * TAP on stdout. The parent never starts a thread, so forking is safe under TSan.
 */
#include "criterion/criterion.h"

#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77, SECONDS = 120 };

static struct gm_test *first_test;
static struct gm_test **last_test = &first_test;
static struct gm_suite *first_suite;
static int failures;

void gm_test_register(struct gm_test *test)
{
    *last_test = test;
    last_test = &test->next;
}

void gm_suite_register(struct gm_suite *suite)
{
    suite->next = first_suite;
    first_suite = suite;
}

static const struct gm_suite *suite_of(const struct gm_test *test)
{
    static const struct gm_suite none;
    const struct gm_suite *suite = first_suite;
    while (suite && strcmp(suite->name, test->suite) != 0) {
        suite = suite->next;
    }
    return suite ? suite : &none;
}

static void print_comment(const char *head, const char *format, va_list arguments)
{
    printf("# %s", head);
    vprintf(format, arguments);
    putchar('\n');
    fflush(stdout);
}

void gm_test_fail(bool fatal, const char *where, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_comment(where, format, arguments);
    va_end(arguments);
    failures++;
    if (fatal) {
        exit(1);
    }
}

void gm_test_log(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_comment("", format, arguments);
    va_end(arguments);
}

void gm_test_skip(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_comment("skip:", format, arguments);
    va_end(arguments);
    exit(SKIPPED);
}

static void run_child(const struct gm_test *test)
{
    const struct gm_suite *suite = suite_of(test);
    double timeout = test->timeout >= 1 ? test->timeout : suite->timeout;
    alarm(timeout >= 1 ? (unsigned)timeout : SECONDS);
    if (suite->init) {
        suite->init();
    }
    if (test->init) {
        test->init();
    }
    test->run();
    if (test->fini) {
        test->fini();
    }
    if (suite->fini) {
        suite->fini();
    }
    exit(failures ? 1 : 0);
}

int main(void)
{
    int count = 0, failed = 0;
    for (struct gm_test *test = first_test; test; test = test->next) {
        count++;
    }
    printf("1..%d\n", count);
    int number = 0;
    for (struct gm_test *test = first_test; test; test = test->next) {
        number++;
        if (test->disabled) {
            printf("ok %d - %s # SKIP disabled\n", number, test->name);
            continue;
        }
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            run_child(test);
        }
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child) {
            perror("fork");
            return 1;
        }
        bool as_expected = test->signal
                               ? WIFSIGNALED(status) && WTERMSIG(status) == test->signal
                               : WIFEXITED(status) && WEXITSTATUS(status) == test->exit_code;
        if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED) {
            printf("ok %d - %s # SKIP\n", number, test->name);
        } else {
            printf("%s %d - %s\n", as_expected ? "ok" : "not ok", number, test->name);
            failed += !as_expected;
        }
    }
    return failed ? 1 : 0;
}
