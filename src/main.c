/*
 * `gimlet`: finds the subcommand and hands over. One thread; the subcommands make their own.
 * Started as gimlet-server or gimlet-agent it is that subcommand, as fleets of 0.0.x expect it.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "agent/agent.h"
#include "base/log.h"
#include "base/version.h"
#include "cli/jwt.h"
#include "config/suggest.h"
#include "server/server.h"

static int print_version(int argc, char **argv);
static int print_help(int argc, char **argv);

struct subcommand {
    const char *name;
    const char *alone; /* name of the executable that means this subcommand; NULL = none */
    const char *help;
    int (*run)(int argc, char **argv); /* argv[0] is the name; returns the exit code */
};

static const struct subcommand subcommands[] = {
    {"server", "gimlet-server", "take requests from the public and agents' links", gm_server_main},
    {"agent", "gimlet-agent", "stand beside a service and dial the server", gm_agent_main},
    {"jwt", NULL, "make and inspect the tokens of agents and clients", gm_cli_jwt},
    {"version", NULL, "print the version", print_version},
    {"help", NULL, "explain a subcommand: gimlet help server", print_help},
};

#define SUBCOMMAND_COUNT (sizeof subcommands / sizeof subcommands[0])

static void print_page(FILE *out)
{
    (void)fputs("Usage: gimlet COMMAND [options]\n\n"
                "Makes services behind NAT or a firewall reachable: an agent beside the service\n"
                "dials out to the server, which passes public requests through that link.\n\n"
                "Commands:\n",
                out);
    for (size_t i = 0; i < SUBCOMMAND_COUNT; i++)
        (void)fprintf(out, "  %-9s %s\n", subcommands[i].name, subcommands[i].help);
    (void)fputs("\nThe options of a command: gimlet COMMAND --help\n", out);
}

static const struct subcommand *find_subcommand(const char *name)
{
    for (size_t i = 0; i < SUBCOMMAND_COUNT; i++) {
        if (strcmp(subcommands[i].name, name) == 0)
            return &subcommands[i];
    }
    return NULL;
}

/* The subcommand that the executable itself is named after, or NULL. */
static const struct subcommand *find_alone(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    for (size_t i = 0; i < SUBCOMMAND_COUNT; i++) {
        if (subcommands[i].alone != NULL && strcmp(subcommands[i].alone, name) == 0)
            return &subcommands[i];
    }
    return NULL;
}

static int run_subcommand(const struct subcommand *subcommand, int argc, char **argv)
{
    int exit_code = subcommand->run(argc, argv);
    gm_log_stop();
    return exit_code;
}

static int refuse_subcommand(const char *name)
{
    const char *known[SUBCOMMAND_COUNT];
    for (size_t i = 0; i < SUBCOMMAND_COUNT; i++)
        known[i] = subcommands[i].name;
    const char *meant = gm_suggest(name, known, SUBCOMMAND_COUNT);
    (void)fprintf(stderr, "gimlet: unknown command \"%.40s\"", name);
    if (meant != NULL)
        (void)fprintf(stderr, "; did you mean %s?\n", meant);
    else
        (void)fputs(" (see gimlet help)\n", stderr);
    return 2;
}

static int print_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    (void)puts("gimlet " GM_VERSION);
    return 0;
}

/* `gimlet help X` is `gimlet X --help`. */
static int print_help(int argc, char **argv)
{
    char help_flag[] = "--help";
    if (argc < 2) {
        print_page(stdout);
        return 0;
    }
    const struct subcommand *subcommand = find_subcommand(argv[1]);
    if (subcommand == NULL)
        return refuse_subcommand(argv[1]);
    if (subcommand->run == print_help || subcommand->run == print_version) {
        print_page(stdout);
        return 0;
    }
    char *help_argv[] = {argv[1], help_flag, NULL};
    return subcommand->run(2, help_argv);
}

static int is_any(const char *word, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (strcmp(word, *words) == 0)
            return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const char *const help_flags[] = {"-h", "-help", "--help", NULL};
    static const char *const version_flags[] = {"-V", "-version", "--version", NULL};
    /* A peer or a log reader that has gone is an error code where it is met, never a death. */
    (void)signal(SIGPIPE, SIG_IGN);
    const struct subcommand *alone = argc > 0 ? find_alone(argv[0]) : NULL;
    if (alone != NULL)
        return run_subcommand(alone, argc, argv);
    if (argc < 2) {
        print_page(stderr);
        return 2;
    }
    if (is_any(argv[1], help_flags))
        return print_help(1, argv);
    if (is_any(argv[1], version_flags))
        return print_version(1, argv);
    const struct subcommand *subcommand = find_subcommand(argv[1]);
    if (subcommand == NULL)
        return refuse_subcommand(argv[1]);
    return run_subcommand(subcommand, argc - 1, argv + 1);
}
