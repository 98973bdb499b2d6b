/*
 * The option engine: flags and environment into a struct, by the program's table.
 *
 * Two passes: collect says which text each option has and where it came from, convert judges it and
 * fills the field. Nothing is applied to the process; all results are in the caller's struct.
 */
#include "config/option.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/assert.h"
#include "config/suggest.h"
#include "config/value.h"

/* Longest name of a variable: a prefix and a flag. */
#define NAME_MAX_BYTES 96u
/* How much of a refused value is repeated; enough to know it again, too little for a secret. */
#define ECHO_MAX 40u
#define ENDING   (-1)

/* The text an option has, and the flag or variable it came from. */
struct given {
    const char *value; /* borrowed from argv or the environment; NULL = none */
    char source[NAME_MAX_BYTES];
};

struct parser {
    const struct gm_option_program *program;
    const struct gm_option_input *input;
    void *values;
    struct gm_arena *arena;
    struct given given[GM_OPTION_COUNT_MAX];
};

struct gm_option_context gm_option_process(void)
{
    return (struct gm_option_context){.environment = environ, .out = stdout, .err = stderr};
}

enum gm_option_result gm_option_refuse(const struct gm_option_program *program,
                                       struct gm_option_context *context, int exit_code,
                                       const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (program->usage_first && exit_code == 2)
        (void)fprintf(context->err,
                      "Usage: %s [options]%s%s\nTry '%s --help' for all of them.\n\nError: ",
                      program->name, program->positional != NULL ? " " : "",
                      program->positional != NULL ? program->positional : "", program->name);
    else if (context->called == NULL || exit_code != 1)
        (void)fprintf(context->err,
                      "%s: ", context->called != NULL ? context->called : program->name);
    (void)vfprintf(context->err, format, args);
    (void)fputc('\n', context->err);
    va_end(args);
    context->exit_code = exit_code;
    return GM_OPTIONS_EXIT;
}

#define REFUSE(parser, ...)                                                                        \
    ((void)gm_option_refuse((parser)->program, (parser)->input->context, 2, __VA_ARGS__), ENDING)

void gm_option_variable(const struct gm_option_program *program, const struct gm_option *option,
                        char *name, size_t cap)
{
    size_t len = (size_t)snprintf(name, cap, "%s%s", program->env_prefix, option->flag);
    GM_ASSERT(len < cap);
    for (char *c = name; *c != '\0'; c++)
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
}

static bool has_variable(const struct parser *parser, const struct gm_option *option)
{
    return parser->program->env_prefix != NULL && (option->flags & GM_OPTION_NO_ENV) == 0;
}

static void *field_of(const struct parser *parser, size_t offset)
{
    return (char *)parser->values + offset;
}

/* What a refusal repeats of a value: printable, bounded, quoted. */
static const char *echo(const struct gm_option *option, const char *value, char buf[ECHO_MAX + 8])
{
    if ((option->flags & GM_OPTION_SECRET) != 0)
        return "the value";
    value = gm_value_public(value);
    const char *secret = option->secret == NULL ? NULL : strstr(value, option->secret);
    size_t len = strnlen(value, ECHO_MAX + 1);
    size_t shown = len > ECHO_MAX ? ECHO_MAX : len;
    if (secret != NULL && (size_t)(secret - value) + strlen(option->secret) < shown) {
        shown = (size_t)(secret - value) + strlen(option->secret);
        len = ECHO_MAX + 1;
    }
    buf[0] = '"';
    for (size_t i = 0; i < shown; i++)
        buf[i + 1] = isprint((unsigned char)value[i]) ? value[i] : '?';
    (void)snprintf(buf + 1 + shown, 7, "%s\"", len > ECHO_MAX ? "..." : "");
    return buf;
}

/* ---- collect ----------------------------------------------------------------------------------
 */

/* Empty counts as unset; of a trimmed text, white space alone is empty. */
static bool is_unset(const struct gm_option *option, const char *value)
{
    if ((option->flags & GM_OPTION_TRIM) != 0)
        value += strspn(value, " \t\r\n");
    return *value == '\0';
}

static bool is_word(const char *name, size_t len, const char *word)
{
    return strlen(word) == len && memcmp(name, word, len) == 0;
}

static int find_option(const struct gm_option_program *program, const char *name, size_t len)
{
    for (size_t i = 0; i < program->option_count; i++) {
        const struct gm_option *option = &program->options[i];
        if (is_word(name, len, option->flag) ||
            (option->also != NULL && is_word(name, len, option->also)))
            return (int)i;
    }
    return -1;
}

/* Under an old name the whole page follows a flag that cannot be. */
static int end_with_usage(const struct parser *parser)
{
    if (parser->input->context->called != NULL)
        gm_option_print_help(parser->program, parser->input->context->err);
    return ENDING;
}

static int refuse_unknown_flag(const struct parser *parser, const char *name, size_t len)
{
    const struct gm_option_program *program = parser->program;
    const char *known[GM_OPTION_COUNT_MAX];
    char word[ECHO_MAX + 1];
    (void)snprintf(word, sizeof word, "%.*s", (int)(len < ECHO_MAX ? len : ECHO_MAX), name);
    for (char *c = word; *c != '\0'; c++)
        *c = isprint((unsigned char)*c) ? *c : '?';
    for (size_t i = 0; i < program->option_count; i++)
        known[i] = program->options[i].flag;
    const char *meant = gm_suggest(word, known, program->option_count);
    if (meant != NULL)
        (void)REFUSE(parser, "unknown option --%s; did you mean --%s?", word, meant);
    else
        (void)REFUSE(parser, "unknown option --%s (see %s --help)", word, program->name);
    return end_with_usage(parser);
}

static int append(struct parser *parser, size_t offset, const char *text, size_t len)
{
    struct gm_option_list *list = field_of(parser, offset);
    if (list->items == NULL)
        list->items = gm_arena_alloc(parser->arena, GM_OPTION_LIST_MAX * sizeof(char *));
    char *copy = list->items != NULL ? gm_arena_text(parser->arena, text, len) : NULL;
    if (copy == NULL)
        return REFUSE(parser, "out of memory");
    list->items[list->count++] = copy;
    return 0;
}

/* What stands between the items of a variable. */
static const char *separators(const struct gm_option *option)
{
    return (option->flags & GM_OPTION_LINES) != 0 ? "\r\n" : " \t\r\n";
}

/* One more item of a repeatable option, judged at once. */
static int append_item(struct parser *parser, const struct gm_option *option, const char *source,
                       const char *text)
{
    char buf[ECHO_MAX + 8];
    const struct gm_option_list *list = field_of(parser, option->offset);
    size_t len = strcspn(text, source[0] == '-' ? "" : separators(option));
    if (list->count == GM_OPTION_LIST_MAX)
        return REFUSE(parser, "%s: more than %u values", source, GM_OPTION_LIST_MAX);
    if (len > GM_OPTION_VALUE_MAX)
        return REFUSE(parser, "%s: a value is longer than %u bytes", source, GM_OPTION_VALUE_MAX);
    int rc = append(parser, option->offset, text, len);
    if (rc < 0)
        return rc;
    const char *item = list->items[list->count - 1];
    const char *wrong = option->check != NULL ? option->check(item) : NULL;
    if (wrong != NULL)
        return REFUSE(parser, "%s: %s %s", source, echo(option, item, buf), wrong);
    return 0;
}

/* A flag's value. */
static int take_value(struct parser *parser, size_t index, const char *value)
{
    const struct gm_option *option = &parser->program->options[index];
    struct given *given = &parser->given[index];
    (void)snprintf(given->source, sizeof given->source, "--%s", option->flag);
    if (option->kind == GM_OPTION_REPEAT)
        return is_unset(option, value) ? 0 : append_item(parser, option, given->source, value);
    bool none = is_unset(option, value) && (option->flags & GM_OPTION_EMPTY) == 0;
    given->value = none ? NULL : value;
    return 0;
}

/* The flag at argv[*at]; moves *at past its value. ENDING after help and refusals. */
static int take_flag(struct parser *parser, int *at)
{
    const struct gm_option_program *program = parser->program;
    const char *arg = parser->input->argv[*at];
    const char *name = arg + (arg[1] == '-' ? 2 : 1);
    size_t len = strcspn(name, "=");
    int index = find_option(program, name, len);
    const struct gm_option_context *context = parser->input->context;
    if (index < 0 && (is_word(name, len, "help") || is_word(name, len, "h"))) {
        gm_option_print_help(program, context->called != NULL ? context->err : context->out);
        return ENDING;
    }
    if (index < 0 && is_word(name, len, "help-markdown")) {
        gm_option_print_markdown(program, context->out);
        return ENDING;
    }
    if (index < 0)
        return refuse_unknown_flag(parser, name, len);
    const struct gm_option *option = &program->options[index];
    if (name[len] == '=')
        return take_value(parser, (size_t)index, name + len + 1);
    if (option->kind == GM_OPTION_SWITCH)
        return take_value(parser, (size_t)index, "true");
    if (*at + 1 >= parser->input->argc) {
        (void)REFUSE(parser, "--%s needs a value (%s)", option->flag, option->argument);
        return end_with_usage(parser);
    }
    return take_value(parser, (size_t)index, parser->input->argv[++*at]);
}

static int take_positional(struct parser *parser, const char *arg)
{
    static const struct gm_option plain = {0};
    const struct gm_option_program *program = parser->program;
    char buf[ECHO_MAX + 8];
    if (program->positional == NULL)
        return REFUSE(parser, "%s is not an option (options begin with --)",
                      echo(&plain, arg, buf));
    const struct gm_option_list *list = field_of(parser, program->positional_offset);
    if (list->count >= program->positional_max)
        return REFUSE(parser, "%s is one argument too many", echo(&plain, arg, buf));
    return append(parser, program->positional_offset, arg, strlen(arg));
}

static int collect_flags(struct parser *parser)
{
    bool options_ended = false, old = parser->input->context->called != NULL;
    for (int i = 1; i < parser->input->argc; i++) {
        const char *arg = parser->input->argv[i];
        int rc = 0;
        if (!options_ended && strcmp(arg, "--") == 0)
            options_ended = true;
        else if (!options_ended && arg[0] == '-' && arg[1] != '\0')
            rc = take_flag(parser, &i);
        else if (!old)
            rc = take_positional(parser, arg);
        else
            return 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

static const char *environment_value(const struct parser *parser, const char *name)
{
    size_t len = strlen(name);
    char *const *entry = parser->input->context->environment;
    for (; entry != NULL && *entry != NULL; entry++) {
        if (strncmp(*entry, name, len) == 0 && (*entry)[len] == '=')
            return *entry + len + 1;
    }
    return NULL;
}

/* Fills *given from the first of the option's variables that has a value. */
static void take_variable(const struct parser *parser, const struct gm_option *option,
                          struct given *given)
{
    gm_option_variable(parser->program, option, given->source, sizeof given->source);
    const char *value = environment_value(parser, given->source);
    if ((value == NULL || is_unset(option, value)) && option->env_also != NULL) {
        (void)snprintf(given->source, sizeof given->source, "%s", option->env_also);
        value = environment_value(parser, option->env_also);
    }
    given->value = value != NULL && !is_unset(option, value) ? value : NULL;
}

static int append_items(struct parser *parser, const struct gm_option *option,
                        const struct given *given)
{
    const char *item = given->value + strspn(given->value, " \t\r\n");
    while (*item != '\0') {
        int rc = append_item(parser, option, given->source, item);
        if (rc < 0)
            return rc;
        item += strcspn(item, separators(option));
        item += strspn(item, " \t\r\n");
    }
    return 0;
}

static int collect_variables(struct parser *parser)
{
    for (size_t i = 0; i < parser->program->option_count; i++) {
        const struct gm_option *option = &parser->program->options[i];
        struct given *given = &parser->given[i];
        bool repeat = option->kind == GM_OPTION_REPEAT;
        const struct gm_option_list *list = repeat ? field_of(parser, option->offset) : NULL;
        if (given->value != NULL || (repeat && list->count > 0) || !has_variable(parser, option))
            continue;
        take_variable(parser, option, given);
        int rc = repeat && given->value != NULL ? append_items(parser, option, given) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* A variable of our prefix that is nearly one of ours was meant to be: ignoring it would be a
 * silent default. Others are left alone: Kubernetes makes GIMLET_SERVER_SERVICE_HOST and the like
 * for a Service named gimlet-server. */
static int refuse_slip(const struct parser *parser, const char *name)
{
    char known[NAME_MAX_BYTES], slip[NAME_MAX_BYTES];
    size_t prefix_len = strlen(parser->program->env_prefix);
    slip[0] = '\0';
    for (size_t i = 0; i < parser->program->option_count; i++) {
        const struct gm_option *option = &parser->program->options[i];
        if (!has_variable(parser, option))
            continue;
        gm_option_variable(parser->program, option, known, sizeof known);
        if (strcmp(name, known) == 0 ||
            (option->env_also != NULL && strcmp(name, option->env_also) == 0))
            return 0;
        if (slip[0] == '\0' && gm_suggest_is_slip(name + prefix_len, known + prefix_len))
            (void)snprintf(slip, sizeof slip, "%s", known);
    }
    if (slip[0] == '\0')
        return 0;
    return REFUSE(parser, "unknown variable %s; did you mean %s?", name, slip);
}

static int check_variable_names(const struct parser *parser)
{
    const char *prefix = parser->program->env_prefix;
    char *const *entry = prefix != NULL ? parser->input->context->environment : NULL;
    for (; entry != NULL && *entry != NULL; entry++) {
        char name[NAME_MAX_BYTES];
        size_t len = strcspn(*entry, "=");
        bool empty = (*entry)[len] == '\0' || (*entry)[len + 1] == '\0';
        if (strncmp(*entry, prefix, strlen(prefix)) != 0 || len >= sizeof name || empty)
            continue;
        (void)snprintf(name, sizeof name, "%.*s", (int)len, *entry);
        int rc = refuse_slip(parser, name);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- convert ----------------------------------------------------------------------------------
 */

static const char *limit_text(const struct gm_option *option, int64_t limit,
                              char buf[GM_VALUE_TEXT_MAX])
{
    if (option->kind == GM_OPTION_DURATION)
        return gm_value_duration_text(limit, buf);
    if (option->kind == GM_OPTION_SIZE)
        return gm_value_size_text(limit, buf);
    (void)snprintf(buf, GM_VALUE_TEXT_MAX, "%" PRId64, limit);
    return buf;
}

static int refuse_range(const struct parser *parser, const struct gm_option *option,
                        const struct given *given)
{
    char buf[ECHO_MAX + 8], low[GM_VALUE_TEXT_MAX], high[GM_VALUE_TEXT_MAX];
    return REFUSE(parser, "%s: %s is out of range (%s to %s)", given->source,
                  echo(option, given->value, buf), limit_text(option, option->min, low),
                  limit_text(option, option->max, high));
}

/* INTEGER, DURATION and SIZE: a number within the option's limits. */
static int convert_number(const struct parser *parser, const struct gm_option *option,
                          const struct given *given, int64_t *out)
{
    static const char *const wrong[] = {
        [GM_OPTION_INTEGER] = "is not a whole number",
        [GM_OPTION_DURATION] = "is not a duration (examples: 300ms, 10s, 1m30s)",
        [GM_OPTION_SIZE] = "is not a size (examples: 65536, 64KiB, 16MiB)",
    };
    char buf[ECHO_MAX + 8];
    int64_t n = 0;
    int rc = option->kind == GM_OPTION_DURATION ? gm_value_duration(given->value, &n)
             : option->kind == GM_OPTION_SIZE   ? gm_value_size(given->value, &n)
                                                : gm_value_integer(given->value, &n);
    if (rc == -EINVAL)
        return REFUSE(parser, "%s: %s %s", given->source, echo(option, given->value, buf),
                      wrong[option->kind]);
    if (rc == 0 && n < 0 && (option->flags & GM_OPTION_NEGATIVE_ZERO) != 0)
        n = 0;
    bool limited = option->min != 0 || option->max != 0;
    if (rc < 0 || (limited && (n < option->min || n > option->max)))
        return refuse_range(parser, option, given);
    *out = n;
    return 0;
}

static int convert_port(const struct parser *parser, const struct gm_option *option,
                        const struct given *given, int32_t *out)
{
    char buf[ECHO_MAX + 8];
    int64_t n;
    bool may_be_off = (option->flags & GM_OPTION_OFF) != 0;
    if (may_be_off && strcasecmp(given->value, "off") == 0) {
        *out = -1;
        return 0;
    }
    if (gm_value_integer(given->value, &n) < 0 || n < 0 || n > UINT16_MAX)
        return REFUSE(parser, "%s: %s is not a port (0 to 65535%s)", given->source,
                      echo(option, given->value, buf), may_be_off ? ", or off" : "");
    *out = (int32_t)n;
    return 0;
}

static int convert_choice(const struct parser *parser, const struct gm_option *option,
                          const struct given *given, int *out)
{
    char buf[ECHO_MAX + 8], names[160] = "";
    size_t len = 0;
    for (const struct gm_option_choice *c = option->choices; c->name != NULL; c++) {
        if (strcasecmp(c->name, given->value) == 0) {
            *out = c->value;
            return 0;
        }
        if (len < sizeof names)
            len += (size_t)snprintf(names + len, sizeof names - len, "%s%s", len > 0 ? ", " : "",
                                    c->name);
    }
    return REFUSE(parser, "%s: %s is not one of %s", given->source, echo(option, given->value, buf),
                  names);
}

static int convert_switch(const struct parser *parser, const struct gm_option *option,
                          const struct given *given, bool *out)
{
    char buf[ECHO_MAX + 8];
    int on = gm_value_switch(given->value);
    if (on < 0)
        return REFUSE(parser, "%s: %s is neither true nor false", given->source,
                      echo(option, given->value, buf));
    *out = on == 1;
    return 0;
}

static int convert_text(const struct parser *parser, const struct gm_option *option,
                        const struct given *given, const char **out)
{
    char buf[ECHO_MAX + 8];
    const char *text = given->value;
    size_t len = strlen(text);
    if ((option->flags & GM_OPTION_TRIM) != 0) {
        text += strspn(text, " \t\r\n");
        len = strlen(text);
        while (len > 0 && isspace((unsigned char)text[len - 1]))
            len--;
    }
    if (len > GM_OPTION_VALUE_MAX)
        return REFUSE(parser, "%s: the value is longer than %u bytes", given->source,
                      GM_OPTION_VALUE_MAX);
    *out = gm_arena_text(parser->arena, text, len);
    if (*out == NULL)
        return REFUSE(parser, "out of memory");
    const char *wrong = option->check != NULL ? option->check(*out) : NULL;
    if (wrong != NULL)
        return REFUSE(parser, "%s: %s %s", given->source, echo(option, *out, buf), wrong);
    return 0;
}

static int convert(const struct parser *parser, const struct gm_option *option,
                   const struct given *given)
{
    void *field = field_of(parser, option->offset);
    int64_t number = 0;
    int rc = 0;
    switch (option->kind) {
    case GM_OPTION_TEXT:
        return convert_text(parser, option, given, field);
    case GM_OPTION_PORT:
        return convert_port(parser, option, given, field);
    case GM_OPTION_CHOICE:
        return convert_choice(parser, option, given, field);
    case GM_OPTION_SWITCH:
        return convert_switch(parser, option, given, field);
    case GM_OPTION_INTEGER:
        return convert_number(parser, option, given, field);
    case GM_OPTION_DURATION:
    case GM_OPTION_SIZE:
        GM_ASSERT(option->min >= 0);
        rc = convert_number(parser, option, given, &number);
        *(uint64_t *)field = (uint64_t)number;
        return rc;
    case GM_OPTION_REPEAT:
        break; /* done while collecting */
    }
    return 0;
}

/* The field of an option that has neither a value nor a default. */
static void clear_field(const struct parser *parser, const struct gm_option *option)
{
    static const size_t sizes[] = {
        [GM_OPTION_TEXT] = sizeof(const char *), [GM_OPTION_INTEGER] = sizeof(int64_t),
        [GM_OPTION_PORT] = sizeof(int32_t),      [GM_OPTION_DURATION] = sizeof(uint64_t),
        [GM_OPTION_SIZE] = sizeof(uint64_t),     [GM_OPTION_CHOICE] = sizeof(int),
        [GM_OPTION_SWITCH] = sizeof(bool),       [GM_OPTION_REPEAT] = sizeof(struct gm_option_list),
    };
    void *field = field_of(parser, option->offset);
    memset(field, option->kind == GM_OPTION_PORT ? 0xFF : 0, sizes[option->kind]);
}

static int convert_all(struct parser *parser)
{
    for (size_t i = 0; i < parser->program->option_count; i++) {
        const struct gm_option *option = &parser->program->options[i];
        struct given *given = &parser->given[i];
        if (given->value == NULL && option->fallback != NULL) {
            given->value = option->fallback;
            (void)snprintf(given->source, sizeof given->source, "the default of --%s",
                           option->flag);
        }
        bool repeat = option->kind == GM_OPTION_REPEAT;
        const struct gm_option_list *list = repeat ? field_of(parser, option->offset) : NULL;
        bool missing = repeat ? list->count == 0 : given->value == NULL;
        if (missing && (option->flags & GM_OPTION_REQUIRED) != 0)
            return REFUSE(parser, "--%s is required (see %s --help)", option->flag,
                          parser->program->name);
        int rc = given->value != NULL ? convert(parser, option, given) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* The program's old name when the executable was started by it, or NULL. */
static const char *called_by(const struct gm_option_program *program,
                             const struct gm_option_input *input)
{
    if (program->old_name == NULL || input->argc < 1)
        return NULL;
    const char *slash = strrchr(input->argv[0], '/');
    const char *name = slash != NULL ? slash + 1 : input->argv[0];
    return strcmp(name, program->old_name) == 0 ? program->old_name : NULL;
}

enum gm_option_result gm_option_parse(const struct gm_option_program *program,
                                      const struct gm_option_input *input, void *values,
                                      struct gm_arena *arena)
{
    GM_ASSERT(program->option_count <= GM_OPTION_COUNT_MAX &&
              program->positional_max <= GM_OPTION_LIST_MAX);
    struct gm_option_program named = *program;
    struct parser parser = {.program = &named, .input = input, .values = values, .arena = arena};
    input->context->exit_code = 0;
    input->context->called = called_by(program, input);
    if (input->context->called != NULL)
        named.name = input->context->called;
    for (size_t i = 0; i < program->option_count; i++)
        clear_field(&parser, &program->options[i]);
    if (program->positional != NULL)
        memset(field_of(&parser, program->positional_offset), 0, sizeof(struct gm_option_list));
    bool good = collect_flags(&parser) == 0 && collect_variables(&parser) == 0 &&
                check_variable_names(&parser) == 0 && convert_all(&parser) == 0;
    return good ? GM_OPTIONS_READY : GM_OPTIONS_EXIT;
}
