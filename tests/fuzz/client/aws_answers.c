/*
 * Fuzz target: any bytes as what AWS's endpoints answer (a container's, an instance's, STS), and as
 * a shared file of profiles. Credentials that are found are whole texts; a failure leaves none
 * behind, and says why in words that a terminal may be shown.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/aws_credentials.h"
#include "client/aws_profile.h"

/* Answers, parted by 0xff; the first byte of each is its status. */
struct script {
    const uint8_t *at, *end;
};

static int answer_next(void *arg, const struct gm_web_question *question,
                       struct gm_web_answer *answer, char *why)
{
    struct script *script = arg;
    (void)question;
    memcpy(why, "no answer", sizeof "no answer");
    if (script->at == script->end)
        return -GM_E_CLOSED;
    answer->status = *script->at % 4 == 0 ? 500u + *script->at : 200u;
    const uint8_t *begin = script->at + 1, *stop = begin;
    while (stop < script->end && *stop != 0xff)
        stop++;
    answer->len = (size_t)(stop - begin) < answer->room ? (size_t)(stop - begin) : answer->room;
    memcpy(answer->body, begin, answer->len);
    answer->body[answer->len] = '\0';
    script->at = stop < script->end ? stop + 1 : script->end;
    return 0;
}

static void check_text(const char *text, size_t room)
{
    if (memchr(text, '\0', room) == NULL)
        abort();
}

static void find(char *const *environment, const uint8_t *data, size_t size)
{
    struct gm_aws_settings settings;
    struct gm_aws_credentials found;
    struct script script = {data, data + size};
    char why[GM_WEB_WHY_BYTES] = "";
    if (gm_aws_settings_load(&settings, environment, why) < 0)
        abort();
    int rc = gm_aws_find_credentials(&settings, answer_next, &script, &found, why);
    gm_aws_settings_fini(&settings);
    check_text(found.access_key, sizeof found.access_key);
    check_text(found.secret_key, sizeof found.secret_key);
    check_text(found.token, sizeof found.token);
    if ((rc == 0) != (found.access_key[0] != '\0' && found.secret_key[0] != '\0'))
        abort();
    check_text(why, sizeof why);
    for (const char *p = why; rc < 0 && *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            abort();
    }
}

static void read_profile(const uint8_t *data, size_t size, bool prefixed)
{
    struct gm_aws_section section;
    char value[32];
    char *text = malloc(size + 1);
    if (text == NULL)
        return;
    memcpy(text, data, size);
    text[size] = '\0';
    if (gm_aws_section_find(text, "a", prefixed, &section)) {
        if (section.p < text || section.p + section.len > text + size)
            abort();
        int len = gm_aws_section_value(&section, "key", value, sizeof value);
        if (len >= 0 && strlen(value) != (size_t)len)
            abort();
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char container[] = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/x",
                file[] = "AWS_WEB_IDENTITY_TOKEN_FILE=/proc/self/comm",
                role[] = "AWS_ROLE_ARN=arn:x";
    static char *const ways[][3] = {{container, NULL}, {file, role, NULL}, {NULL}};
    if (size == 0)
        return 0;
    unsigned way = data[0] % 5;
    if (way < 3)
        find(ways[way], data + 1, size - 1);
    else
        read_profile(data + 1, size - 1, way == 3);
    return 0;
}
