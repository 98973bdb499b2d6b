/*
 * Options from one table: flag, environment variable, default, limits and help of a program.
 *
 * A program describes itself as a table of struct gm_option; the engine reads flags and environment
 * into a plain struct, prints --help and --help-markdown, and refuses by name what it does not
 * understand. Flags: `-name v`, `-name=v`, `--name v`, `--name=v`; an empty value is the same as
 * none. Per option the flag wins over the environment variables (in order), and they over the
 * default. The engine keeps no state: everything it makes lives in the caller's struct and arena.
 * A program started by its old name keeps to the rules of Go's flag package: what follows the first
 * word that is no flag is ignored, and help goes to stderr. Start-up code, one thread; allocates.
 */
#ifndef GM_CONFIG_OPTION_H
#define GM_CONFIG_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "config/arena.h"

/* What a value is, and the field at `offset` that it fills. */
enum gm_option_kind {
    GM_OPTION_TEXT,    /* const char *: NULL when unset */
    GM_OPTION_INTEGER, /* int64_t: decimal */
    GM_OPTION_PORT, /* int32_t: 0 to 65535 (0 = any free port); -1 = unset, or "off" where allowed
                     */
    GM_OPTION_DURATION, /* uint64_t nanoseconds: 300ms, 10s, 1m30s; a bare integer is seconds */
    GM_OPTION_SIZE,     /* uint64_t bytes: 4096, 64KiB, 16MiB, 1GiB */
    GM_OPTION_CHOICE,   /* int: the value of the matching gm_option_choice, any case */
    GM_OPTION_SWITCH,   /* bool: the bare flag, or =true / =false */
    GM_OPTION_REPEAT, /* struct gm_option_list: an item per flag; in a variable split at white space
                       */
};

enum {
    GM_OPTION_NO_ENV = 1u << 0,        /* has no variable */
    GM_OPTION_NEGATIVE_ZERO = 1u << 1, /* an integer below 0 is read as 0 */
    GM_OPTION_TRIM = 1u << 2,          /* white space around a text is removed */
    GM_OPTION_REQUIRED = 1u << 3,      /* must be given */
    GM_OPTION_OFF = 1u << 4,           /* a port may be "off": -1 */
    GM_OPTION_SECRET = 1u << 5,        /* the value is not repeated in a refusal */
    GM_OPTION_EMPTY = 1u << 6,         /* an empty flag is a value, to be judged like others */
    GM_OPTION_LINES = 1u << 7,         /* a REPEAT's variable is split at line ends alone */
};

/* Items of a REPEAT option or of positional arguments. `items` and its texts live in the arena. */
struct gm_option_list {
    const char **items;
    size_t count;
};

/* Named values of a CHOICE; the table ends with a NULL name. Later rows may repeat a value
 * (aliases). */
struct gm_option_choice {
    const char *name;
    int value;
};

struct gm_option {
    const char *flag;     /* "idle-timeout"; the variable is the program's prefix + IDLE_TIMEOUT */
    const char *also;     /* a second, short flag: "o"; NULL = none */
    const char *argument; /* "DURATION": the word after the flag in the help; NULL for a switch */
    const char *fallback; /* default as it would be typed; NULL = none */
    const char *shown;    /* default as the help words it, when it is not `fallback` */
    const char *group;    /* heading; set on the first option of each group */
    const char *help;     /* one or two short sentences without final stop */
    const char *env_also; /* a second variable, read after the first; NULL = none */
    const char *secret;   /* a refusal repeats a value up to the end of this text; NULL = all */
    const struct gm_option_choice *choices;
    /* Judges a TEXT or an item of a REPEAT: NULL = good, or what is wrong ("is not a ws:// URL").
     */
    const char *(*check)(const char *value);
    enum gm_option_kind kind;
    unsigned flags;
    size_t offset;
    int64_t min; /* INTEGER, DURATION (ns), SIZE (bytes): inclusive limits; both 0 = no limit */
    int64_t max;
};

struct gm_option_program {
    const char *name;       /* "gimlet server" */
    const char *old_name;   /* "gimlet-server": what argv[0] ends in then; NULL = none */
    const char *summary;    /* one or two lines under the usage line */
    const char *epilogue;   /* examples after the options; NULL = none */
    const char *env_prefix; /* "GIMLET_SERVER_"; NULL = the program reads no environment */
    const struct gm_option *options;
    size_t option_count;
    const char *positional;   /* "[TOKEN]" in the usage line; NULL = arguments are refused */
    size_t positional_offset; /* struct gm_option_list */
    size_t positional_max;
    bool usage_first; /* refusals of usage (exit code 2) begin with the usage line */
};

/* Where a program reads and writes. gm_option_process() is the process's own. */
struct gm_option_context {
    char *const *environment; /* NULL-terminated NAME=value texts, borrowed; may be NULL */
    FILE *out;                /* help */
    FILE *err;                /* refusals */
    int exit_code;      /* result when the program should end: 0 after help, 2 after a refusal */
    const char *called; /* set by gm_option_parse: the old name it was started by, or NULL */
};

/* More options than any program has, and more items of one option than anybody types. */
#define GM_OPTION_COUNT_MAX 64u
#define GM_OPTION_LIST_MAX  64u
/* Longest value taken: an inline PEM of an RSA-4096 key is 800 bytes, a token at most 8 KiB. */
#define GM_OPTION_VALUE_MAX 16384u

enum gm_option_result {
    GM_OPTIONS_READY = 0, /* go on */
    GM_OPTIONS_EXIT = 1,  /* all was said; end with context->exit_code */
};

/* A call's input: argv[0] is the subcommand's name, or how the executable was called. Borrowed for
 * the call. */
struct gm_option_input {
    int argc;
    char **argv;
    struct gm_option_context *context;
};

struct gm_option_context gm_option_process(void);

/* Fills `values` (a struct described by the offsets; the engine writes every option's field) and
 * keeps texts in `arena`. Help goes to context->out, a refusal to context->err with exit code 2. */
__attribute__((warn_unused_result)) enum gm_option_result
gm_option_parse(const struct gm_option_program *program, const struct gm_option_input *input,
                void *values, struct gm_arena *arena);

/* Says `<program>: <text>` and sets the exit code; for checks that span options. Under an old name
 * what ends with 1 is said without `<program>: `, as scripts expect it. Returns GM_OPTIONS_EXIT. */
__attribute__((format(printf, 4, 5))) enum gm_option_result
gm_option_refuse(const struct gm_option_program *program, struct gm_option_context *context,
                 int exit_code, const char *format, ...);

/* The name of an option's own variable: the program's prefix and the flag in capitals. */
void gm_option_variable(const struct gm_option_program *program, const struct gm_option *option,
                        char *name, size_t cap);

/* The page of `--help`, and the option table of the README (`--help-markdown`). */
void gm_option_print_help(const struct gm_option_program *program, FILE *out);
void gm_option_print_markdown(const struct gm_option_program *program, FILE *out);

#endif
