/* Where AWS credentials, regions and settings come from, in the order of AWS's own tools: the
 * environment, a role for a web identity (as Kubernetes pods have), the shared files, the
 * container's endpoint, the instance's metadata (version 2).
 *
 * Reads files and asks the network, so: a thread that may wait. Ways that are not spoken here
 * (roles of a profile, single sign-on, commands that print credentials) are refused by name where
 * they are configured, so that nobody signs as somebody else unawares. */
#ifndef GM_CLIENT_AWS_CREDENTIALS_H
#define GM_CLIENT_AWS_CREDENTIALS_H

#include "client/aws_sigv4.h"
#include "client/web.h"

#define GM_AWS_PROFILE_MAX  128u
#define GM_AWS_SETTING_MAX  512u
#define GM_AWS_FILE_MAX     (256u << 10) /* a shared file; hundreds of profiles */
#define GM_AWS_DOCUMENT_MAX 16384u       /* an answer with credentials */
#define GM_AWS_ENDPOINT_MAX 512u

/* Asks as gm_web_ask does; `arg` is whoever answers (struct gm_web, or a test). */
typedef int gm_aws_ask(void *arg, const struct gm_web_question *question,
                       struct gm_web_answer *answer, char *why);

/* What is known without the network. Wipe with _fini: the files may hold keys. */
struct gm_aws_settings {
    char *const *environment; /* NULL-terminated NAME=value texts, borrowed */
    char profile[GM_AWS_PROFILE_MAX];
    bool profile_named;        /* by the environment: then it must exist */
    char *config, *credential; /* contents of the two shared files; NULL: not there */
};

/* Reads the environment and the shared files. Negative with `why` (GM_WEB_WHY_BYTES): a file that
 * cannot be read, a profile that is in neither. */
int gm_aws_settings_load(struct gm_aws_settings *settings, char *const *environment,
                         char *why) GM_WARN_UNUSED;
/* Accepts a zeroed struct. */
void gm_aws_settings_fini(struct gm_aws_settings *settings);

/* A variable's value; NULL when it is unset or empty. Borrowed. */
const char *gm_aws_variable(const struct gm_aws_settings *settings, const char *name);
/* A setting of the profile, from ~/.aws/config. True and a text that is not empty. */
bool gm_aws_setting(const struct gm_aws_settings *settings, const char *key,
                    char out[GM_AWS_SETTING_MAX]);
/* The region for who names none. False: nobody says. */
bool gm_aws_region(const struct gm_aws_settings *settings, char out[GM_AWS_REGION_MAX]);
/* Where a service ("kms") is asked: AWS_ENDPOINT_URL_KMS, AWS_ENDPOINT_URL, the profile's
 * endpoint_url, or AWS's own host in the region ("": the one for the world). Without a slash at its
 * end. Negative with `why`: too long. */
int gm_aws_endpoint(const struct gm_aws_settings *settings, const char *service, const char *region,
                    char out[GM_AWS_ENDPOINT_MAX], char *why) GM_WARN_UNUSED;

/* The credentials. Negative with `why`. */
int gm_aws_find_credentials(const struct gm_aws_settings *settings, gm_aws_ask *ask, void *arg,
                            struct gm_aws_credentials *out, char *why) GM_WARN_UNUSED;

#endif
