/*
 * What the tests of option tables share: a context whose output can be read.
 */
#ifndef GM_TESTS_CONFIG_CAPTURE_H
#define GM_TESTS_CONFIG_CAPTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/option.h"

#define ARGS_MAX 16

struct capture {
    char *out, *err; /* what was printed; after capture_end, until capture_free */
    size_t out_len, err_len;
    struct gm_option_context context;
};

static inline void capture_begin(struct capture *capture, char *const *environment)
{
    *capture = (struct capture){0};
    capture->context.environment = environment;
    capture->context.exit_code = 77;
    capture->context.out = open_memstream(&capture->out, &capture->out_len);
    capture->context.err = open_memstream(&capture->err, &capture->err_len);
    cr_assert(capture->context.out != NULL && capture->context.err != NULL);
}

static inline void capture_end(struct capture *capture)
{
    cr_assert_eq(fclose(capture->context.out), 0);
    cr_assert_eq(fclose(capture->context.err), 0);
}

static inline void capture_free(struct capture *capture)
{
    free(capture->out);
    free(capture->err);
}

/* Words of a NULL-terminated table as argv, behind the subcommand's name. Returns argc. */
static inline int words_to_argv(const char *const *words, char **argv)
{
    static char name[] = "subcommand";
    int argc = 0;
    argv[argc++] = name;
    for (; *words != NULL; words++) {
        cr_assert_lt(argc, ARGS_MAX);
        argv[argc] = strdup(*words);
        cr_assert_not_null(argv[argc]);
        argc++;
    }
    return argc;
}

static inline void free_argv(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        free(argv[i]);
}

#endif
