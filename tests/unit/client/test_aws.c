/* AWS: signatures by the values that AWS publishes with its signing process, its shared files, and
 * who is asked for credentials at which address. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "auth/digest.h"
#include "client/aws_credentials.h"
#include "client/aws_profile.h"
#include "client/aws_sigv4.h"

#define LEN(a) (sizeof(a) / sizeof(a)[0])

/* ---- Digests ---- */

static void expect_hex(const uint8_t digest[GM_SHA256_BYTES], const char *wanted)
{
    char text[2 * GM_SHA256_BYTES + 1];
    for (size_t i = 0; i < GM_SHA256_BYTES; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", digest[i]);
    cr_assert_str_eq(text, wanted);
}

Test(digest, values_of_fips_180_and_rfc_4231)
{
    uint8_t out[GM_SHA256_BYTES], key[131];
    cr_assert_eq(gm_sha256((struct gm_bytes){"abc", 3}, out), 0);
    expect_hex(out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    cr_assert_eq(gm_sha256((struct gm_bytes){"", 0}, out), 0);
    expect_hex(out, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    cr_assert_eq(gm_hmac_sha256((struct gm_bytes){"Jefe", 4},
                                (struct gm_bytes){"what do ya want for nothing?", 28}, out),
                 0);
    expect_hex(out, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof key);
    cr_assert_eq(
        gm_hmac_sha256(
            (struct gm_bytes){key, sizeof key},
            (struct gm_bytes){"Test Using Larger Than Block-Size Key - Hash Key First", 54}, out),
        0);
    expect_hex(out, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

/* ---- Signatures ---- */

/* 2015-08-30T12:36:00Z, the moment of all of AWS's examples. */
#define THEN INT64_C(1440938160)

static struct gm_aws_credentials example = {"AKIDEXAMPLE",
                                            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", ""};

Test(sigv4, published_signatures)
{
    static const struct gm_aws_field form = {"content-type",
                                             "application/x-www-form-urlencoded; charset=utf-8"};
    static const struct gm_aws_field short_form = {"content-type",
                                                   "application/x-www-form-urlencoded"};
    static const struct {
        const char *service;
        struct gm_aws_request request;
        const char *authorization;
    } cases[] = {
        {"iam",
         {"GET", "iam.amazonaws.com", "/", "Action=ListUsers&Version=2010-05-08", &form, 1, "", 0},
         "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
         "SignedHeaders=content-type;host;x-amz-date, "
         "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"},
        {"service",
         {"GET", "example.amazonaws.com", "/", "", NULL, 0, "", 0},
         "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
         "SignedHeaders=host;x-amz-date, "
         "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
        {"service",
         {"POST", "example.amazonaws.com", "/", "", NULL, 0, "", 0},
         "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
         "SignedHeaders=host;x-amz-date, "
         "Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
        {"service",
         {"POST", "example.amazonaws.com", "/", "", &short_form, 1, "Param1=value1", 13},
         "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
         "SignedHeaders=content-type;host;x-amz-date, "
         "Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        struct gm_aws_signature signature;
        const struct gm_aws_scope scope = {"us-east-1", cases[i].service, THEN};
        cr_assert_eq(gm_aws_sign(&example, &scope, &cases[i].request, &signature), 0);
        cr_assert_str_eq(signature.date, "20150830T123600Z");
        cr_assert_str_eq(signature.authorization, cases[i].authorization);
    }
}

Test(sigv4, blanks_within_a_value_count_once)
{
    static const struct gm_aws_field wide = {"my-header1", "value4   value1"},
                                     narrow = {"my-header1", "value4 value1"};
    struct gm_aws_request request = {"GET", "h", "/", "", &wide, 1, "", 0};
    const struct gm_aws_scope scope = {"us-east-1", "service", THEN};
    struct gm_aws_signature first, second;
    cr_assert_eq(gm_aws_sign(&example, &scope, &request, &first), 0);
    request.fields = &narrow;
    cr_assert_eq(gm_aws_sign(&example, &scope, &request, &second), 0);
    cr_assert_str_eq(first.authorization, second.authorization);
}

Test(sigv4, limits_are_told)
{
    static char big[GM_AWS_CANONICAL_MAX];
    memset(big, 'x', sizeof big - 1);
    struct gm_aws_request request = {"GET", "h", "/", big, NULL, 0, "", 0};
    struct gm_aws_scope scope = {"us-east-1", "service", THEN};
    struct gm_aws_signature signature;
    cr_assert_eq(gm_aws_sign(&example, &scope, &request, &signature), -GM_E_LIMIT);
    request.query = "";
    scope.region = big;
    cr_assert_eq(gm_aws_sign(&example, &scope, &request, &signature), -GM_E_LIMIT);
    scope.region = "us-east-1";
    scope.now_s = INT64_C(999999999999);
    cr_assert_eq(gm_aws_sign(&example, &scope, &request, &signature), -GM_E_LIMIT);
}

/* ---- Shared files ---- */

static int value_of(const char *text, const char *name, bool prefixed, char out[32])
{
    struct gm_aws_section section;
    return gm_aws_section_find(text, name, prefixed, &section)
               ? gm_aws_section_value(&section, "key", out, 32)
               : -2;
}

Test(profile, sections_and_values)
{
    static const struct {
        const char *text, *name;
        bool prefixed;
        int len;
        const char *value;
    } cases[] = {
        {"[a]\nkey = v\n", "a", false, 1, "v"},
        {"[a]\nKEY=v w  \r\n", "a", false, 3, "v w"},
        {"[ a ]\nkey=v=w", "a", false, 3, "v=w"},
        {"[a]\n#key=1\n;key=2\n key=3\nkeyx=4\nkey\n", "a", false, 0, ""},
        {"[a]\n[b]\nkey=1\n", "a", false, 0, ""},
        {"[a]", "a", false, 0, ""},
        {"key=0\n[b]\nkey=1\n[a]\nkey=2\n[c]\nkey=3\n", "a", false, 1, "2"},
        {"[profile a]\nkey=1\n", "a", true, 1, "1"},
        {"[profile\t\"a b\"]\nkey=1\n", "a b", true, 1, "1"},
        {"[default]\nkey=1\n", "default", true, 1, "1"},
        {"[profile default]\nkey=1\n", "default", true, 1, "1"},
        {"[a]\nkey=1\n", "a", true, -2, ""},
        {"[profilea]\nkey=1\n", "a", true, -2, ""},
        {"[profile a]\nkey=1\n", "a", false, -2, ""},
        {"[a\nkey=1\n", "a", false, -2, ""},
        {"", "a", false, -2, ""},
        {"[a]\nkey=0123456789012345678901234567890\n", "a", false, 31,
         "0123456789012345678901234567890"},
        {"[a]\nkey=01234567890123456789012345678901\n", "a", false, -1, ""},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        char value[32] = "";
        int len = value_of(cases[i].text, cases[i].name, cases[i].prefixed, value);
        cr_assert_eq(len, cases[i].len, "case %zu: %d", i, len);
        cr_assert_str_eq(value, cases[i].value, "case %zu", i);
    }
}

/* ---- Credentials ---- */

/* Answers in turn; records what was asked. */
struct fake {
    const char *answers[4]; /* "200 body"; NULL: nobody there */
    unsigned asked;
    uint64_t slowest_ns; /* the longest of the waits that were asked for */
    char log[512], body[512];
};

static int fake_ask(void *arg, const struct gm_web_question *question, struct gm_web_answer *answer,
                    char *why)
{
    struct fake *fake = arg;
    size_t used = strlen(fake->log);
    (void)snprintf(fake->log + used, sizeof fake->log - used, "%s %s;", question->method,
                   question->url);
    (void)snprintf(fake->body, sizeof fake->body, "%.*s", (int)question->body_len,
                   (const char *)question->body);
    cr_assert_gt(question->timeout_ns, 0u);
    if (question->timeout_ns > fake->slowest_ns)
        fake->slowest_ns = question->timeout_ns;
    cr_assert_lt(fake->asked, LEN(fake->answers));
    const char *text = fake->answers[fake->asked++];
    (void)snprintf(why, GM_WEB_WHY_BYTES, "nobody there");
    if (text == NULL)
        return -GM_E_CLOSED;
    cr_assert_eq(sscanf(text, "%u", &answer->status), 1);
    answer->len = strlen(text + 4);
    cr_assert_lt(answer->len, answer->room);
    memcpy(answer->body, text + 4, answer->len + 1);
    return 0;
}

static int find(char *const *environment, struct fake *fake, struct gm_aws_credentials *out,
                char *why)
{
    struct gm_aws_settings settings;
    int rc = gm_aws_settings_load(&settings, environment, why);
    cr_assert_eq(rc, 0, "%s", why);
    rc = gm_aws_find_credentials(&settings, fake_ask, fake, out, why);
    gm_aws_settings_fini(&settings);
    return rc;
}

#define DOCUMENT "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\",\"Token\":\"T\"}"

Test(credentials, the_addresses_that_are_asked)
{
    char relative[] = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/x?y",
         full[] = "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://[fd00:ec2::23]:80/z",
         off[] = "AWS_EC2_METADATA_DISABLED=True";
    char why[GM_WEB_WHY_BYTES];
    struct gm_aws_credentials got;
    struct fake container = {.answers = {"200 " DOCUMENT}};
    cr_assert_eq(find((char *[]){relative, full, NULL}, &container, &got, why), 0, "%s", why);
    cr_assert_str_eq(container.log, "GET http://169.254.170.2/v2/x?y;");
    cr_assert_str_eq(got.token, "T");
    struct fake pod = {.answers = {"200 " DOCUMENT}};
    cr_assert_eq(find((char *[]){full, NULL}, &pod, &got, why), 0, "%s", why);
    cr_assert_str_eq(pod.log, "GET http://[fd00:ec2::23]:80/z;");

#define METADATA "http://169.254.169.254/latest/"
    struct fake instance = {.answers = {"200 session", "200 role\nother", "200 " DOCUMENT}};
    cr_assert_eq(find((char *[]){NULL}, &instance, &got, why), 0, "%s", why);
    cr_assert_str_eq(instance.log, "PUT " METADATA "api/token;GET " METADATA
                                   "meta-data/iam/security-credentials/;GET " METADATA
                                   "meta-data/iam/security-credentials/role;");
    cr_assert_str_eq(got.access_key, "A");
    const uint64_t second = UINT64_C(1000000000);
    cr_assert(container.slowest_ns == 2 * second && instance.slowest_ns == second,
              "neighbours that are silent are not waited for");
    struct fake none = {.log = ""};
    cr_assert_eq(find((char *[]){off, NULL}, &none, &got, why), -GM_E_NOT_FOUND);
    cr_assert_eq(none.asked, 0u);
}

static void write_token(char path[64], const char *text)
{
    (void)snprintf(path, 64, "/tmp/gimlet-aws-XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    (void)close(fd);
}

#define STS_ANSWER                                                                                 \
    "200 <A><Credentials><SessionToken>T/+=</SessionToken><AccessKeyId>A</AccessKeyId>"            \
    "<SecretAccessKey>S</SecretAccessKey></Credentials></A>"

Test(credentials, a_role_for_a_web_identity)
{
    static const struct {
        const char *region, *url, *answer;
        int rc;
    } cases[] = {
        {"AWS_REGION=eu-west-3", "https://sts.eu-west-3.amazonaws.com", STS_ANSWER, 0},
        {"AWS_REGION=cn-north-1", "https://sts.cn-north-1.amazonaws.com.cn", STS_ANSWER, 0},
        {"AWS_REGION=", "https://sts.amazonaws.com", STS_ANSWER, 0},
        {"AWS_ENDPOINT_URL_STS=http://x/y//", "http://x/y", STS_ANSWER, 0},
        {"AWS_REGION=", "https://sts.amazonaws.com", "200 <AccessKeyId>A</AccessKeyId>",
         -GM_E_PROTOCOL},
        {"AWS_REGION=", "https://sts.amazonaws.com", "403 <Code>AccessDenied</Code>",
         -GM_E_PROTOCOL},
        {"AWS_REGION=", "https://sts.amazonaws.com", "403 <Code>\033[31m</Code>", -GM_E_PROTOCOL},
        {"AWS_REGION=", "https://sts.amazonaws.com", NULL, -GM_E_CLOSED},
    };
    char path[64], file[128], role[] = "AWS_ROLE_ARN=arn:aws:iam::1:role/a b";
    write_token(path, "ab-c.d_e~\n");
    (void)snprintf(file, sizeof file, "AWS_WEB_IDENTITY_TOKEN_FILE=%s", path);
    for (size_t i = 0; i < LEN(cases); i++) {
        char why[GM_WEB_WHY_BYTES] = "", region[64], log[128];
        struct gm_aws_credentials got;
        struct fake fake = {.answers = {cases[i].answer}};
        (void)snprintf(region, sizeof region, "%s", cases[i].region);
        int rc = find((char *[]){file, role, region, NULL}, &fake, &got, why);
        cr_assert_eq(rc, cases[i].rc, "case %zu: %d %s", i, rc, why);
        (void)snprintf(log, sizeof log, "POST %s;", cases[i].url);
        cr_assert_str_eq(fake.log, log);
        cr_assert_str_eq(fake.body,
                         "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%"
                         "3Aiam%3A%3A1%3Arole%2Fa%20b&RoleSessionName=gimlet&WebIdentityToken=ab-"
                         "c.d_e~");
        cr_assert_null(strchr(why, '\033'));
        cr_assert_str_eq(got.token, rc == 0 ? "T/+=" : "");
    }
    char why[GM_WEB_WHY_BYTES] = "";
    struct gm_aws_credentials got;
    struct fake none = {.log = ""};
    cr_assert_eq(find((char *[]){file, NULL}, &none, &got, why), -GM_E_CONFIG);
    (void)unlink(path);
    cr_assert_eq(find((char *[]){file, role, NULL}, &none, &got, why), -ENOENT);
    cr_assert_eq(none.asked, 0u);
}

/* Which of these files wins is botocore's order. */
Test(credentials, a_program_for_them_comes_between_the_files)
{
#define KEYS "aws_access_key_id=A\naws_secret_access_key=S\n"
    static const struct {
        const char *credentials, *config;
        int rc;
    } cases[] = {
        {"[default]\n" KEYS, "[default]\ncredential_process=x\n", 0},
        {"", "[default]\n" KEYS "credential_process=x\n", -GM_E_CONFIG},
        {"[default]\n" KEYS "credential_process=x\n", "", 0},
        {"[default]\n" KEYS, "[default]\nsso_session=x\n", -GM_E_CONFIG},
        {"[default]\n" KEYS, "[default]\nrole_arn=x\n", -GM_E_CONFIG},
        {"", "[default]\n" KEYS, 0},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        char why[GM_WEB_WHY_BYTES] = "", credentials[64], config[64], one[128], two[128];
        struct gm_aws_credentials got;
        struct fake fake = {.log = ""};
        write_token(credentials, cases[i].credentials);
        write_token(config, cases[i].config);
        (void)snprintf(one, sizeof one, "AWS_SHARED_CREDENTIALS_FILE=%s", credentials);
        (void)snprintf(two, sizeof two, "AWS_CONFIG_FILE=%s", config);
        int rc = find((char *[]){one, two, NULL}, &fake, &got, why);
        (void)unlink(credentials);
        (void)unlink(config);
        cr_assert_eq(rc, cases[i].rc, "case %zu: %d %s", i, rc, why);
        cr_assert_eq(fake.asked, 0u);
    }
}

Test(credentials, answers_that_are_none)
{
    char full[] = "AWS_CONTAINER_CREDENTIALS_FULL_URI=https://example.com/z";
    static const struct {
        bool container;
        const char *answers[4];
        int rc;
    } cases[] = {
        {true, {NULL}, -GM_E_CLOSED},
        {true, {"404 x"}, -GM_E_PROTOCOL},
        {true, {"200 x"}, -GM_E_PROTOCOL},
        {true, {"200 {\"AccessKeyId\":1}"}, -GM_E_PROTOCOL},
        {true, {"200 {\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"\"}"}, -GM_E_PROTOCOL},
        {false, {NULL}, -GM_E_NOT_FOUND},
        {false, {"403 x"}, -GM_E_NOT_FOUND},
        {false, {"200 "}, -GM_E_NOT_FOUND},
        {false, {"200 s", NULL}, -GM_E_CLOSED},
        {false, {"200 s", "404 x"}, -GM_E_NOT_FOUND},
        {false, {"200 s", "200 role\033[m", "500 x"}, -GM_E_PROTOCOL},
        {false, {"200 s", "200 role", "200 {}"}, -GM_E_PROTOCOL},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        char why[GM_WEB_WHY_BYTES] = "";
        struct gm_aws_credentials got;
        struct fake fake = {.log = ""};
        memcpy(fake.answers, cases[i].answers, sizeof fake.answers);
        char *environment[] = {cases[i].container ? full : NULL, NULL};
        int rc = find(environment, &fake, &got, why);
        cr_assert_eq(rc, cases[i].rc, "case %zu: %d %s", i, rc, why);
        cr_assert(why[0] != '\0' && got.secret_key[0] == '\0' && strchr(why, '\033') == NULL);
    }
}
