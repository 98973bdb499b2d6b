/*
 * What an option table looks like to people: the page of --help and the tables of the README.
 * Prints to a stream; keeps nothing.
 */
#include <string.h>

#include "config/option.h"

/* Help texts start in this column and end before the width of a plain terminal. */
#define HELP_COLUMN 30
#define PAGE_WIDTH  80
#define NAME_BYTES  96
#define HELP_BYTES  512

static bool variable_of(const struct gm_option_program *program, const struct gm_option *option,
                        char name[NAME_BYTES])
{
    bool has = program->env_prefix != NULL && (option->flags & GM_OPTION_NO_ENV) == 0;
    if (has)
        gm_option_variable(program, option, name, NAME_BYTES);
    return has;
}

static const char *default_text(const struct gm_option *option)
{
    return option->shown != NULL ? option->shown : option->fallback;
}

static void describe(const struct gm_option *option, char text[HELP_BYTES])
{
    const char *fallback = default_text(option);
    (void)snprintf(text, HELP_BYTES, "%s%s%s%s%s%s", option->help,
                   option->kind == GM_OPTION_REPEAT ? "; may be repeated" : "",
                   fallback != NULL ? " (default: " : "", fallback != NULL ? fallback : "",
                   fallback != NULL ? ")" : "",
                   (option->flags & GM_OPTION_REQUIRED) != 0 ? " (required)" : "");
}

static void new_line(FILE *out)
{
    (void)fprintf(out, "\n%*s", HELP_COLUMN, "");
}

/* Words filled into the help column; the cursor is there already. */
static void print_wrapped(const char *text, FILE *out)
{
    size_t column = HELP_COLUMN;
    while (*text != '\0') {
        size_t len = strcspn(text, " ");
        if (column > HELP_COLUMN && column + 1 + len > PAGE_WIDTH) {
            new_line(out);
            column = HELP_COLUMN;
        }
        column += (size_t)fprintf(out, "%s%.*s", column > HELP_COLUMN ? " " : "", (int)len, text);
        text += len;
        text += strspn(text, " ");
    }
}

static void print_option(const struct gm_option_program *program, const struct gm_option *option,
                         FILE *out)
{
    char text[HELP_BYTES], name[NAME_BYTES];
    int column = fprintf(out, "  %s%s%s--%s%s%s", option->also != NULL ? "-" : "",
                         option->also != NULL ? option->also : "", option->also != NULL ? ", " : "",
                         option->flag, option->argument != NULL ? " " : "",
                         option->argument != NULL ? option->argument : "");
    if (column > HELP_COLUMN - 2)
        new_line(out);
    else
        (void)fprintf(out, "%*s", HELP_COLUMN - column, "");
    describe(option, text);
    print_wrapped(text, out);
    if (variable_of(program, option, name)) {
        new_line(out);
        (void)fprintf(out, "$%s%s%s", name, option->env_also != NULL ? ", $" : "",
                      option->env_also != NULL ? option->env_also : "");
    }
    (void)fputc('\n', out);
}

void gm_option_print_help(const struct gm_option_program *program, FILE *out)
{
    (void)fprintf(out, "Usage: %s [options]%s%s\n\n%s\n", program->name,
                  program->positional != NULL ? " " : "",
                  program->positional != NULL ? program->positional : "", program->summary);
    for (size_t i = 0; i < program->option_count; i++) {
        if (program->options[i].group != NULL || i == 0)
            (void)fprintf(out, "\n%s:\n",
                          program->options[i].group != NULL ? program->options[i].group
                                                            : "Options");
        print_option(program, &program->options[i], out);
    }
    (void)fputs("\nOther:\n", out);
    (void)fprintf(out, "  --help%*sShow this page\n", HELP_COLUMN - 8, "");
    (void)fprintf(out, "  --help-markdown%*sShow the options as a Markdown table\n",
                  HELP_COLUMN - 17, "");
    if (program->env_prefix != NULL)
        (void)fputs("\nA flag wins over its variable, and an empty value counts as unset.\n", out);
    if (program->epilogue != NULL)
        (void)fprintf(out, "\n%s\n", program->epilogue);
}

/* Text of a Markdown cell: a bar would end it. */
static void print_cell(const char *text, FILE *out)
{
    for (; *text != '\0'; text++) {
        if (*text == '|')
            (void)fputc('\\', out);
        (void)fputc(*text, out);
    }
}

static void print_row(const struct gm_option_program *program, const struct gm_option *option,
                      FILE *out)
{
    char name[NAME_BYTES];
    const char *fallback = default_text(option);
    (void)fprintf(out, "| `--%s%s", option->flag, option->argument != NULL ? " " : "");
    print_cell(option->argument != NULL ? option->argument : "", out);
    (void)fputs("` | ", out);
    if (variable_of(program, option, name))
        (void)fprintf(out, "`%s`", name);
    if (option->env_also != NULL)
        (void)fprintf(out, ", `%s`", option->env_also);
    (void)fputs(" | ", out);
    print_cell(fallback != NULL ? fallback : "", out);
    (void)fputs(" | ", out);
    print_cell(option->help, out);
    (void)fputs(option->kind == GM_OPTION_REPEAT ? "; may be repeated" : "", out);
    (void)fputs((option->flags & GM_OPTION_REQUIRED) != 0 ? " (required) |\n" : " |\n", out);
}

void gm_option_print_markdown(const struct gm_option_program *program, FILE *out)
{
    for (size_t i = 0; i < program->option_count; i++) {
        const char *group = program->options[i].group;
        if (group != NULL || i == 0)
            (void)fprintf(out,
                          "%s**%s**\n\n| option | variable | default | meaning |\n"
                          "|---|---|---|---|\n",
                          i == 0 ? "" : "\n", group != NULL ? group : "Options");
        print_row(program, &program->options[i], out);
    }
}
