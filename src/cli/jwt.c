/*
 * `gimlet jwt`: its verbs, their option tables, and what all of them say in the same way. A token
 * goes to stdout and nowhere else; notes and errors go to stderr. Short-lived; one thread, but for
 * a ring when a key lives in AWS KMS.
 */
#include "cli/jwt.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/internal.h"

#define SUBJECT_OPTION                                                                             \
    {                                                                                              \
        .flag = "subject", .argument = "TEXT", .group = "Claims",                                  \
        .help = "Who the token is for (sub), required", .kind = GM_OPTION_TEXT,                    \
        .flags = GM_OPTION_NO_ENV, .offset = offsetof(struct jwt_values, subject)                  \
    }
#define SHARED_OPTIONS                                                                             \
    {.flag = "duration",                                                                           \
     .argument = "TEXT",                                                                           \
     .fallback = "24h",                                                                            \
     .help = "How long the token lives: a whole number and s, m, h or d",                          \
     .kind = GM_OPTION_TEXT,                                                                       \
     .flags = GM_OPTION_NO_ENV | GM_OPTION_EMPTY,                                                  \
     .offset = offsetof(struct jwt_values, duration)},                                             \
        {.flag = "issuer",                                                                         \
         .argument = "TEXT",                                                                       \
         .fallback = "gimlet",                                                                     \
         .help = "Issuer (iss); the server's --token-issuer",                                      \
         .kind = GM_OPTION_TEXT,                                                                   \
         .offset = offsetof(struct jwt_values, issuer)},                                           \
        {.flag = "scope",                                                                          \
         .argument = "TEXT",                                                                       \
         .help = "A scope to grant, such as status",                                               \
         .kind = GM_OPTION_REPEAT,                                                                 \
         .flags = GM_OPTION_NO_ENV,                                                                \
         .offset = offsetof(struct jwt_values, scopes)},                                           \
        {.flag = "private-key-file",                                                               \
         .argument = "PATH",                                                                       \
         .group = "Key and output",                                                                \
         .help = "RSA private key, PEM. A file that is not there is made, with its public "        \
                 "key beside it as .pub",                                                          \
         .kind = GM_OPTION_TEXT,                                                                   \
         .offset = offsetof(struct jwt_values, private_key_file)},                                 \
        {.flag = "kms-key-arn",                                                                    \
         .argument = "TEXT",                                                                       \
         .help = "RSA key in AWS KMS to sign with, instead of a file",                             \
         .kind = GM_OPTION_TEXT,                                                                   \
         .offset = offsetof(struct jwt_values, kms_key_arn)},                                      \
    {                                                                                              \
        .flag = "json", .help = "Print the token and what is in it as JSON",                       \
        .kind = GM_OPTION_SWITCH, .flags = GM_OPTION_NO_ENV,                                       \
        .offset = offsetof(struct jwt_values, json)                                                \
    }

static const struct gm_option agent_options[] = {
    SUBJECT_OPTION,
    {.flag = "service",
     .argument = "TEXT",
     .help = "The service that the agent serves, required",
     .kind = GM_OPTION_TEXT,
     .flags = GM_OPTION_NO_ENV,
     .offset = offsetof(struct jwt_values, service)},
    SHARED_OPTIONS,
};

static const struct gm_option client_options[] = {
    SUBJECT_OPTION,
    {.flag = "services",
     .argument = "TEXT",
     .help = "Patterns of services that may be called, comma-separated, required",
     .kind = GM_OPTION_TEXT,
     .flags = GM_OPTION_NO_ENV,
     .offset = offsetof(struct jwt_values, services)},
    SHARED_OPTIONS,
};

static const struct gm_option inspect_options[] = {
    {.flag = "verify",
     .help = "Check signature (RS256) and times",
     .kind = GM_OPTION_SWITCH,
     .offset = offsetof(struct jwt_values, verify)},
    {.flag = "public-key",
     .argument = "PATH",
     .help = "RSA public key, PEM, for --verify",
     .kind = GM_OPTION_TEXT,
     .offset = offsetof(struct jwt_values, public_key)},
};

static const struct gm_option export_options[] = {
    {.flag = "kms-key-arn",
     .argument = "TEXT",
     .help = "The key in AWS KMS",
     .kind = GM_OPTION_TEXT,
     .flags = GM_OPTION_REQUIRED,
     .offset = offsetof(struct jwt_values, kms_key_arn)},
    {.flag = "output",
     .also = "o",
     .argument = "PATH",
     .shown = "the standard output",
     .help = "File to write the public key to, PEM",
     .kind = GM_OPTION_TEXT,
     .flags = GM_OPTION_NO_ENV,
     .offset = offsetof(struct jwt_values, output)},
};

#define AWS_HELP                                                                                   \
    "Region and credentials for a key in AWS KMS are found as AWS's own tools find them:\n"        \
    "the ARN or AWS_DEFAULT_REGION; AWS_ACCESS_KEY_ID and its like, a web identity, the\n"         \
    "shared files (AWS_PROFILE), the container's endpoint, the instance's role.\n"                 \
    "AWS_ENDPOINT_URL and AWS_CA_BUNDLE are honoured; proxies are not."

static const struct gm_option_program agent_program = {
    .name = "gimlet jwt agent",
    .summary = "Makes a token with which an agent may serve one service.",
    .epilogue = "gimlet jwt agent --subject agent-1 --service web --private-key-file "
                "keys/private.pem\n\n" AWS_HELP,
    .env_prefix = "GIMLET_JWT_",
    .usage_first = true,
    .options = agent_options,
    .option_count = COUNT_OF(agent_options),
};

static const struct gm_option_program client_program = {
    .name = "gimlet jwt client",
    .summary = "Makes a token with which a client may call services.",
    .epilogue = "gimlet jwt client --subject alice --services 'web,team-*' --private-key-file "
                "keys/private.pem\n\n" AWS_HELP,
    .env_prefix = "GIMLET_JWT_",
    .usage_first = true,
    .options = client_options,
    .option_count = COUNT_OF(client_options),
};

static const struct gm_option_program inspect_program = {
    .name = "gimlet jwt inspect",
    .summary = "Shows what a token says; reads it from stdin when none is given.",
    .usage_first = true,
    .options = inspect_options,
    .option_count = COUNT_OF(inspect_options),
    .positional = "[TOKEN]",
    .positional_offset = offsetof(struct jwt_values, token),
    .positional_max = 1,
};

static const struct gm_option_program export_program = {
    .name = "gimlet jwt export-public-key",
    .summary =
        "Prints the public half of a key in AWS KMS, for the server's --token-public-key-file.",
    .epilogue = AWS_HELP,
    .env_prefix = "GIMLET_JWT_",
    .usage_first = true,
    .options = export_options,
    .option_count = COUNT_OF(export_options),
};

int cli_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)fputs("Error: ", stderr);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
    return EXIT_FAILED;
}

int cli_finish_output(void)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return EXIT_OK;
    return cli_fail("cannot write to the standard output: %s", strerror(errno));
}

void cli_format_time(char out[TIME_TEXT_BYTES], int64_t seconds, int micros)
{
    struct tm tm;
    time_t t = (time_t)seconds;
    char fraction[16] = "";
    if (micros >= 0)
        (void)snprintf(fraction, sizeof(fraction), ".%06d", micros % 1000000);
    (void)gmtime_r(&t, &tm);
    size_t n = strftime(out, TIME_TEXT_BYTES - sizeof(fraction) - 8, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(out + n, TIME_TEXT_BYTES - n, "%s+00:00", fraction);
}

/* ---- verbs ---- */

struct verb {
    const char *name;
    const struct gm_option_program *program;
    int (*run)(const struct cli_run *run);
};

static const struct verb verbs[] = {
    {"agent", &agent_program, cli_make_agent},
    {"client", &client_program, cli_make_client},
    {"inspect", &inspect_program, cli_inspect},
    {"export-public-key", &export_program, cli_export_public_key},
};

static int run_verb(const struct verb *verb, int argc, char **argv)
{
    struct gm_arena arena = {0};
    struct gm_option_context context = gm_option_process();
    struct cli_run run = {.program = verb->program, .context = &context};
    struct gm_option_input input = {argc, argv, &context};
    int rc;
    if (gm_option_parse(verb->program, &input, &run.values, &arena) != GM_OPTIONS_READY)
        rc = context.exit_code;
    else
        rc = verb->run(&run);
    gm_arena_fini(&arena);
    return rc;
}

static void print_usage(FILE *out)
{
    (void)fputs("Usage: gimlet jwt <verb> [options]\n\n"
                "Makes and shows the tokens that agents and clients present to a server.\n\n"
                "  agent              Make a token with which an agent may serve one service\n"
                "  client             Make a token with which a client may call services\n"
                "  inspect            Show what a token says, and verify it\n"
                "  export-public-key  Print the public half of a key in AWS KMS\n\n"
                "See gimlet jwt <verb> --help.\n",
                out);
}

int gm_cli_jwt(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    for (size_t i = 0; i < COUNT_OF(verbs); i++) {
        if (strcmp(name, verbs[i].name) == 0)
            return run_verb(&verbs[i], argc - 1, argv + 1);
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_usage(stdout);
        return cli_finish_output();
    }
    if (argc > 1)
        (void)fprintf(stderr, "gimlet jwt: unknown verb \"%s\"\n\n", name);
    print_usage(stderr);
    return EXIT_USAGE;
}
