/*
 * The option engine on a table of its own: spellings, precedence, kinds, refusals, help.
 */
#include <string.h>

#include "capture.h"

enum { RED = 1, BLUE = 2 };

struct values {
    const char *name;
    int64_t count;
    int64_t limit;
    int32_t port;
    int32_t other_port;
    uint64_t time_ns;
    uint64_t bytes;
    int colour;
    bool loud;
    struct gm_option_list items;
    const char *secret;
    struct gm_option_list positional;
    struct gm_arena arena;
};

static const struct gm_option_choice colours[] = {{"red", RED}, {"blue", BLUE}, {NULL, 0}};

static const char *refuse_bad(const char *value)
{
    return strcmp(value, "bad") == 0 ? "is bad" : NULL;
}

#define FIELD(field) offsetof(struct values, field)

static const struct gm_option options[] = {
    {.flag = "name",
     .argument = "NAME",
     .group = "First",
     .help = "A name",
     .fallback = "nobody",
     .env_also = "ALSO_NAME",
     .check = refuse_bad,
     .flags = GM_OPTION_TRIM,
     .offset = FIELD(name)},
    {.flag = "count",
     .argument = "N",
     .help = "A number",
     .kind = GM_OPTION_INTEGER,
     .min = 1,
     .max = 9,
     .fallback = "3",
     .offset = FIELD(count)},
    {.flag = "limit",
     .argument = "N",
     .help = "A limit",
     .kind = GM_OPTION_INTEGER,
     .flags = GM_OPTION_NEGATIVE_ZERO,
     .offset = FIELD(limit)},
    {.flag = "port",
     .argument = "PORT",
     .help = "A port",
     .kind = GM_OPTION_PORT,
     .flags = GM_OPTION_OFF,
     .fallback = "80",
     .offset = FIELD(port)},
    {.flag = "other-port",
     .argument = "PORT",
     .help = "A port",
     .kind = GM_OPTION_PORT,
     .offset = FIELD(other_port)},
    {.flag = "time",
     .argument = "DURATION",
     .group = "Second",
     .help = "A | time",
     .kind = GM_OPTION_DURATION,
     .max = INT64_C(90000000000),
     .fallback = "5s",
     .shown = "five",
     .offset = FIELD(time_ns)},
    {.flag = "bytes",
     .argument = "SIZE",
     .help = "A size",
     .kind = GM_OPTION_SIZE,
     .min = 1024,
     .max = 65536,
     .fallback = "4KiB",
     .offset = FIELD(bytes)},
    {.flag = "colour",
     .argument = "COLOUR",
     .help = "A colour",
     .kind = GM_OPTION_CHOICE,
     .choices = colours,
     .fallback = "red",
     .offset = FIELD(colour)},
    {.flag = "loud", .help = "A switch", .kind = GM_OPTION_SWITCH, .offset = FIELD(loud)},
    {.flag = "item",
     .argument = "ITEM",
     .help = "An item",
     .kind = GM_OPTION_REPEAT,
     .check = refuse_bad,
     .offset = FIELD(items)},
    {.flag = "secret",
     .argument = "SECRET",
     .help = "A secret",
     .check = refuse_bad,
     .flags = GM_OPTION_SECRET | GM_OPTION_NO_ENV,
     .offset = FIELD(secret)},
};

static const struct gm_option_program program = {
    .name = "test",
    .summary = "Tests.",
    .epilogue = "The end.",
    .env_prefix = "T_",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
};

static struct capture capture;
static struct values values;

static enum gm_option_result parse(const struct gm_option_program *which, const char *const *words,
                                   char *const *environment)
{
    char *argv[ARGS_MAX + 1] = {0};
    int argc = words_to_argv(words, argv);
    struct gm_option_input input = {.argc = argc, .argv = argv, .context = &capture.context};
    memset(&values, 0xA5, sizeof values); /* the engine must write every field */
    values.arena = (struct gm_arena){0};
    capture_begin(&capture, environment);
    enum gm_option_result result = gm_option_parse(which, &input, &values, &values.arena);
    capture_end(&capture);
    free_argv(argc, argv); /* nothing may be borrowed from it */
    return result;
}

static void finish(void)
{
    gm_arena_fini(&values.arena);
    capture_free(&capture);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NO_WORDS   ((const char *const[]){NULL})

static void expect_good(const char *const *words, char *const *environment)
{
    enum gm_option_result result = parse(&program, words, environment);
    cr_assert_eq(result, GM_OPTIONS_READY, "%s", capture.err);
    cr_assert_eq(capture.out_len + capture.err_len, 0);
}

static void expect_refusal(const char *const *words, char *const *environment, const char *text)
{
    cr_assert_eq(parse(&program, words, environment), GM_OPTIONS_EXIT, "%s", text);
    cr_assert_str_eq(capture.err, text);
    cr_assert_eq(capture.out_len, 0);
    cr_assert_eq(capture.context.exit_code, 2);
    finish();
}

Test(option, defaults)
{
    expect_good(NO_WORDS, NULL);
    cr_assert_str_eq(values.name, "nobody");
    cr_assert_eq(values.count, 3);
    cr_assert_eq(values.limit, 0);
    cr_assert_eq(values.port, 80);
    cr_assert_eq(values.other_port, -1);
    cr_assert_eq(values.time_ns, UINT64_C(5000000000));
    cr_assert_eq(values.bytes, 4096);
    cr_assert_eq(values.colour, RED);
    cr_assert_not(values.loud);
    cr_assert_eq(values.items.count, 0);
    cr_assert_null(values.secret);
    finish();
}

Test(option, every_spelling_of_a_flag)
{
    const char *const *const spellings[] = {
        WORDS("-count", "7"),
        WORDS("-count=7"),
        WORDS("--count", "7"),
        WORDS("--count=7"),
        WORDS("--count=4", "--count", "7"),
    };
    for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++) {
        expect_good(spellings[i], NULL);
        cr_assert_eq(values.count, 7);
        finish();
    }
    expect_good(WORDS("--name=a=b", "--secret", "--name"), NULL); /* a value may look like a flag */
    cr_assert_str_eq(values.name, "a=b");
    cr_assert_str_eq(values.secret, "--name");
    finish();
}

Test(option, flag_wins_over_variables_and_they_over_the_default)
{
    char first[] = "T_NAME=first", also[] = "ALSO_NAME=also",
         empty[] = "T_NAME=", blank[] = "T_NAME= \n";
    expect_good(WORDS("--name", "flag"), (char *[]){first, also, NULL});
    cr_assert_str_eq(values.name, "flag");
    finish();
    expect_good(WORDS("--name="), (char *[]){also, first, NULL});
    cr_assert_str_eq(values.name, "first", "an empty flag is unset");
    finish();
    expect_good(NO_WORDS, (char *[]){empty, also, NULL});
    cr_assert_str_eq(values.name, "also", "an empty variable is unset");
    finish();
    expect_good(NO_WORDS, (char *[]){blank, NULL});
    cr_assert_str_eq(values.name, "nobody", "white space alone is empty");
    finish();
    expect_good(WORDS("--name", "x", "--name", ""), NULL);
    cr_assert_str_eq(values.name, "nobody", "the last one counts, and it is empty");
    finish();
}

Test(option, every_kind_from_flags)
{
    expect_good(WORDS("--name= a b ", "--limit=-5", "--port=off", "--other-port=0", "--time=1m30s",
                      "--bytes=64KiB", "--colour=BLUE", "--loud", "--item=one", "--item", "two 2"),
                NULL);
    cr_assert_str_eq(values.name, "a b");
    cr_assert_eq(values.limit, 0);
    cr_assert_eq(values.port, -1);
    cr_assert_eq(values.other_port, 0);
    cr_assert_eq(values.time_ns, UINT64_C(90000000000));
    cr_assert_eq(values.bytes, 65536);
    cr_assert_eq(values.colour, BLUE);
    cr_assert(values.loud);
    cr_assert_eq(values.items.count, 2);
    cr_assert_str_eq(values.items.items[0], "one");
    cr_assert_str_eq(values.items.items[1], "two 2");
    finish();
    expect_good(WORDS("--loud=false", "--port=65535", "--limit=9223372036854775807"), NULL);
    cr_assert_not(values.loud);
    cr_assert_eq(values.port, 65535);
    cr_assert_eq(values.limit, INT64_MAX);
    finish();
}

Test(option, every_kind_from_variables)
{
    char loud[] = "T_LOUD=yes", items[] = "T_ITEM= a\tb \n c", port[] = "T_OTHER_PORT=65535",
         secret[] = "T_SECRET=ignored", other[] = "T_SERVICE_HOST=10.0.0.1", odd[] = "T_";
    expect_good(NO_WORDS, (char *[]){loud, items, port, secret, other, odd, NULL});
    cr_assert(values.loud);
    cr_assert_eq(values.items.count, 3);
    cr_assert_str_eq(values.items.items[0], "a");
    cr_assert_str_eq(values.items.items[2], "c");
    cr_assert_eq(values.other_port, 65535);
    cr_assert_null(values.secret, "has no variable");
    finish();
    expect_good(WORDS("--item", "x", "--item="), (char *[]){items, NULL});
    cr_assert_eq(values.items.count, 1, "flags replace the variable");
    finish();
}

Test(option, refusals_name_the_option_and_the_accepted_form)
{
    static const struct {
        const char *word;
        const char *text;
    } cases[] = {
        {"--nmae=x", "test: unknown option --nmae; did you mean --name?\n"},
        {"-zzz", "test: unknown option --zzz (see test --help)\n"},
        {"--z\x01\xFFz", "test: unknown option --z??z (see test --help)\n"},
        {"---name", "test: unknown option ---name; did you mean --name?\n"},
        {"--=x", "test: unknown option -- (see test --help)\n"},
        {"--count", "test: --count needs a value (N)\n"},
        {"--count=x", "test: --count: \"x\" is not a whole number\n"},
        {"--count=0", "test: --count: \"0\" is out of range (1 to 9)\n"},
        {"--count=10", "test: --count: \"10\" is out of range (1 to 9)\n"},
        {"--count=99999999999999999999",
         "test: --count: \"99999999999999999999\" is out of range (1 to 9)\n"},
        {"--time=2d", "test: --time: \"2d\" is not a duration (examples: 300ms, 10s, 1m30s)\n"},
        {"--time=91", "test: --time: \"91\" is out of range (0s to 1m30s)\n"},
        {"--time=-1s", "test: --time: \"-1s\" is out of range (0s to 1m30s)\n"},
        {"--bytes=64K", "test: --bytes: \"64K\" is not a size (examples: 65536, 64KiB, 16MiB)\n"},
        {"--bytes=1", "test: --bytes: \"1\" is out of range (1KiB to 64KiB)\n"},
        {"--port=65536", "test: --port: \"65536\" is not a port (0 to 65535, or off)\n"},
        {"--other-port=off", "test: --other-port: \"off\" is not a port (0 to 65535)\n"},
        {"--other-port=-1", "test: --other-port: \"-1\" is not a port (0 to 65535)\n"},
        {"--colour=green", "test: --colour: \"green\" is not one of red, blue\n"},
        {"--loud=maybe", "test: --loud: \"maybe\" is neither true nor false\n"},
        {"--name=bad", "test: --name: \"bad\" is bad\n"},
        {"--item=bad", "test: --item: \"bad\" is bad\n"},
        {"--secret=bad", "test: --secret: the value is bad\n"},
        {"--colour=http://me:hush@red", "test: --colour: \"red\" is not one of red, blue\n"},
        {"stray", "test: \"stray\" is not an option (options begin with --)\n"},
        {"-", "test: \"-\" is not an option (options begin with --)\n"},
        {"--colour=a\nb\"0123456789012345678901234567890123456789",
         "test: --colour: \"a?b\"012345678901234567890123456789012345...\" is not one of red, "
         "blue\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_refusal(WORDS(cases[i].word), NULL, cases[i].text);
    expect_refusal(WORDS("--", "--count=3"), NULL,
                   "test: \"--count=3\" is not an option (options begin with --)\n");
}

Test(option, refusals_name_the_variable)
{
    char count[] = "T_COUNT=x", also[] = "ALSO_NAME=bad", item[] = "T_ITEM=a bad",
         slip[] = "T_COLUOR=red", unset[] = "T_COLUOR=";
    expect_refusal(NO_WORDS, (char *[]){count, NULL},
                   "test: T_COUNT: \"x\" is not a whole number\n");
    expect_refusal(NO_WORDS, (char *[]){also, NULL}, "test: ALSO_NAME: \"bad\" is bad\n");
    expect_refusal(NO_WORDS, (char *[]){item, NULL}, "test: T_ITEM: \"bad\" is bad\n");
    expect_refusal(NO_WORDS, (char *[]){slip, NULL},
                   "test: unknown variable T_COLUOR; did you mean T_COLOUR?\n");
    expect_good(NO_WORDS, (char *[]){unset, NULL});
    finish();
}

Test(option, values_and_lists_are_bounded)
{
    char *big = malloc(GM_OPTION_VALUE_MAX + 16);
    cr_assert_not_null(big);
    (void)snprintf(big, 16, "--name=");
    memset(big + 7, 'x', GM_OPTION_VALUE_MAX);
    big[7 + GM_OPTION_VALUE_MAX] = '\0';
    expect_good(WORDS(big), NULL);
    cr_assert_eq(strlen(values.name), GM_OPTION_VALUE_MAX);
    finish();
    big[7 + GM_OPTION_VALUE_MAX] = 'x';
    big[8 + GM_OPTION_VALUE_MAX] = '\0';
    expect_refusal(WORDS(big), NULL, "test: --name: the value is longer than 16384 bytes\n");
    memcpy(big, "--item=", 7);
    expect_refusal(WORDS(big), NULL, "test: --item: a value is longer than 16384 bytes\n");
    free(big);

    char many[2 * (GM_OPTION_LIST_MAX + 1) + 16] = "T_ITEM=";
    for (unsigned i = 0; i < GM_OPTION_LIST_MAX; i++)
        memcpy(many + 7 + 2 * i, "x ", 3);
    expect_good(NO_WORDS, (char *[]){many, NULL});
    cr_assert_eq(values.items.count, GM_OPTION_LIST_MAX);
    finish();
    memcpy(many + 7 + 2 * GM_OPTION_LIST_MAX, "x", 2);
    expect_refusal(NO_WORDS, (char *[]){many, NULL}, "test: T_ITEM: more than 64 values\n");
}

Test(option, required_and_positional)
{
    static const struct gm_option needy_options[] = {
        {.flag = "name",
         .argument = "NAME",
         .help = "A name",
         .flags = GM_OPTION_REQUIRED,
         .offset = FIELD(name)},
        {.flag = "item",
         .argument = "ITEM",
         .help = "An item",
         .kind = GM_OPTION_REPEAT,
         .flags = GM_OPTION_REQUIRED,
         .offset = FIELD(items)},
    };
    static const struct gm_option_program needy = {
        .name = "needy",
        .summary = "Needs.",
        .options = needy_options,
        .option_count = 2,
        .positional = "[FILE]",
        .positional_offset = FIELD(positional),
        .positional_max = 2,
    };
    char ignored[] = "T_NAME=x";
    char *environment[] = {ignored, NULL};
    cr_assert_eq(parse(&needy, WORDS("--item=i"), environment), GM_OPTIONS_EXIT);
    cr_assert_str_eq(capture.err, "needy: --name is required (see needy --help)\n");
    finish();
    cr_assert_eq(parse(&needy, WORDS("--name=n"), environment), GM_OPTIONS_EXIT);
    cr_assert_str_eq(capture.err, "needy: --item is required (see needy --help)\n");
    finish();
    cr_assert_eq(parse(&needy, WORDS("a", "--name=n", "--item=i", "--", "--b"), NULL),
                 GM_OPTIONS_READY);
    cr_assert_eq(values.positional.count, 2);
    cr_assert_str_eq(values.positional.items[0], "a");
    cr_assert_str_eq(values.positional.items[1], "--b");
    finish();
    cr_assert_eq(parse(&needy, WORDS("a", "b", "-"), NULL), GM_OPTIONS_EXIT);
    cr_assert_str_eq(capture.err, "needy: \"-\" is one argument too many\n");
    finish();
    cr_assert_eq(parse(&needy, WORDS("--help"), NULL), GM_OPTIONS_EXIT);
    cr_assert_not_null(strstr(capture.out, "Usage: needy [options] [FILE]\n"));
    cr_assert_not_null(strstr(capture.out, "\nOptions:\n"));
    cr_assert_null(strstr(capture.out, "$"));
    finish();
}

Test(option, a_short_flag_and_a_usage_line_first)
{
    static const struct gm_option short_options[] = {
        {.flag = "name", .also = "n", .argument = "NAME", .help = "A name", .offset = FIELD(name)}};
    static const struct gm_option_program usage = {.name = "usage",
                                                   .summary = "Says how.",
                                                   .options = short_options,
                                                   .option_count = 1,
                                                   .usage_first = true};
    const char *const *const spellings[] = {WORDS("-n", "x"), WORDS("-n=x"), WORDS("--name=x")};
    for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++) {
        cr_assert_eq(parse(&usage, spellings[i], NULL), GM_OPTIONS_READY, "%s", capture.err);
        cr_assert_str_eq(values.name, "x");
        finish();
    }
    cr_assert_eq(parse(&usage, WORDS("-n"), NULL), GM_OPTIONS_EXIT);
    cr_assert_str_eq(capture.err, "Usage: usage [options]\nTry 'usage --help' for all of them.\n\n"
                                  "Error: --name needs a value (NAME)\n");
    cr_assert_eq(capture.context.exit_code, 2);
    finish();
    cr_assert_eq(parse(&usage, WORDS("--help"), NULL), GM_OPTIONS_EXIT);
    cr_assert_not_null(strstr(capture.out, "\n  -n, --name NAME             A name\n"));
    finish();
}

Test(option, help_is_printed_and_ends_well)
{
    static const char *const words[] = {"--help", "-help", "-h", "--h"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        cr_assert_eq(parse(&program, WORDS(words[i], "--count=x"), NULL), GM_OPTIONS_EXIT);
        cr_assert_eq(capture.context.exit_code, 0);
        cr_assert_eq(capture.err_len, 0);
        cr_assert_not_null(strstr(capture.out, "Usage: test [options]\n\nTests.\n\nFirst:\n"));
        cr_assert_not_null(strstr(capture.out,
                                  "  --name NAME                 A name (default: nobody)\n"
                                  "                              $T_NAME, $ALSO_NAME\n"));
        cr_assert_not_null(strstr(capture.out, "\nSecond:\n"));
        cr_assert_not_null(strstr(capture.out, "A | time (default: five)"));
        cr_assert_not_null(strstr(capture.out, "An item; may be repeated\n"));
        cr_assert_not_null(strstr(capture.out, "\nThe end.\n"));
        cr_assert_null(strstr(capture.out, "T_SECRET"));
        finish();
    }
}

Test(option, markdown)
{
    cr_assert_eq(parse(&program, WORDS("--help-markdown"), NULL), GM_OPTIONS_EXIT);
    cr_assert_eq(capture.context.exit_code, 0);
    static const char *const rows[] = {
        "**First**\n\n| option | variable | default | meaning |\n|---|---|---|---|\n",
        "| `--name NAME` | `T_NAME`, `ALSO_NAME` | nobody | A name |\n",
        "| `--time DURATION` | `T_TIME` | five | A \\| time |\n",
        "| `--secret SECRET` |  |  | A secret |\n",
        "| `--loud` | `T_LOUD` |  | A switch |\n",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_assert_not_null(strstr(capture.out, rows[i]), "%s in %s", rows[i], capture.out);
    finish();
}

/* The table as a program that has been started as `/usr/bin/old-test`. */
static enum gm_option_result parse_old(const char *const *words, char *const *environment)
{
    static char called[] = "/usr/bin/old-test";
    struct gm_option_program old = program;
    char *argv[ARGS_MAX + 1] = {0};
    int argc = words_to_argv(words, argv);
    struct gm_option_input input = {.argc = argc, .argv = argv, .context = &capture.context};
    old.old_name = "old-test";
    argv[0] = called;
    memset(&values, 0xA5, sizeof values);
    values.arena = (struct gm_arena){0};
    capture_begin(&capture, environment);
    enum gm_option_result result = gm_option_parse(&old, &input, &values, &values.arena);
    if (result == GM_OPTIONS_READY)
        (void)gm_option_refuse(&old, &capture.context, 1, "Configuration error: %s", "x");
    capture_end(&capture);
    free_argv(argc, argv);
    return result;
}

Test(option, an_old_name_reads_flags_as_go_does)
{
    const struct {
        const char *const *words;
        int64_t count;
    } cases[] = {
        {WORDS("-count", "7", "stray", "--count=8", "--nonsense"), 7},
        {WORDS("--count=7", "--", "--count=8"), 7},
        {WORDS("-count=7", "-", "--count=8"), 7},
        {WORDS("-count=7", "", "--count=8"), 7},
        {WORDS("--count", "5", "--count=7"), 7},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_assert_eq(parse_old(cases[i].words, NULL), GM_OPTIONS_READY, "%s", capture.err);
        cr_assert_eq(values.count, cases[i].count);
        cr_assert_str_eq(capture.err, "Configuration error: x\n");
        finish();
    }
    cr_assert_eq(parse_old(WORDS("--name", "--"), NULL), GM_OPTIONS_READY);
    cr_assert_str_eq(values.name, "--", "a flag takes whatever follows");
    finish();
}

Test(option, an_old_name_explains_itself_on_stderr)
{
    static const struct {
        const char *word, *line;
        int exit_code;
        bool page;
    } cases[] = {
        {"-h", "", 0, true},
        {"-help", "", 0, true},
        {"--help", "", 0, true},
        {"--nmae=x", "old-test: unknown option --nmae; did you mean --name?\n", 2, true},
        {"-zzz", "old-test: unknown option --zzz (see old-test --help)\n", 2, true},
        {"-count", "old-test: --count needs a value (N)\n", 2, true},
        {"-count=x", "old-test: --count: \"x\" is not a whole number\n", 2, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_assert_eq(parse_old(WORDS(cases[i].word), NULL), GM_OPTIONS_EXIT);
        cr_assert_eq(capture.context.exit_code, cases[i].exit_code);
        cr_assert_eq(capture.out_len, 0);
        size_t len = strlen(cases[i].line);
        cr_assert_eq(strncmp(capture.err, cases[i].line, len), 0, "%s", capture.err);
        bool page = strncmp(capture.err + len, "Usage: old-test [options]\n", 26) == 0;
        cr_assert_eq(page, cases[i].page);
        cr_assert(page || capture.err[len] == '\0');
        finish();
    }
}

Test(option, process_context_is_the_process)
{
    struct gm_option_context context = gm_option_process();
    cr_assert(context.out == stdout && context.err == stderr && context.environment != NULL);
}

Test(arena, copies_are_whole_and_impossible_sizes_fail)
{
    struct gm_arena arena = {0};
    char *text = gm_arena_text(&arena, "abcdef", 3);
    cr_assert_str_eq(text, "abc");
    cr_assert_not_null(gm_arena_alloc(&arena, 0));
    cr_assert_null(gm_arena_alloc(&arena, SIZE_MAX));
    cr_assert_null(gm_arena_text(&arena, "", SIZE_MAX));
    gm_arena_fini(&arena);
    gm_arena_fini(&arena);
}
