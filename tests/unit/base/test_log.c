/*
 * The log: what a line looks like, what bounds it, and that the queue loses nothing it does not
 * count. Each line is read back by jansson: the log's JSON is judged by another's parser.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/counter.h"
#include "base/log.h"

static uint64_t test_monotonic_ns = UINT64_C(5000000000);
static int64_t test_wall_seconds = INT64_C(1700000000);

static void test_now(void *user, uint64_t *monotonic_ns, int64_t *wall_seconds)
{
    (void)user;
    *monotonic_ns = test_monotonic_ns;
    *wall_seconds = test_wall_seconds;
}

/* Opens the log into a new file without a name, with the test's clock. Returns the file. (Not a
 * memory file: there, writes of two threads do not move the file's position atomically.) */
static int open_log(enum gm_log_format format, uint32_t rate)
{
    int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    struct gm_log_options options = {
        .level = GM_LOG_DEBUG, .format = format, .fd = fd, .rate = rate};
    cr_assert_eq(gm_log_configure(&options), 0);
    gm_log_set_clock(&(struct gm_log_clock){.now = test_now});
    return fd;
}

/* Everything written so far, NUL-terminated; the caller frees it. */
static char *read_log(int fd)
{
    off_t size = lseek(fd, 0, SEEK_END);
    cr_assert_geq(size, 0);
    char *text = calloc(1, (size_t)size + 1);
    cr_assert_not_null(text);
    cr_assert_eq(pread(fd, text, (size_t)size, 0), size);
    return text;
}

/* Cuts the first line off *text and parses it. */
static json_t *next_line(char **text)
{
    /* Never measures the whole text: ASan's strict strings would, for each of a million lines. */
    size_t len = strnlen(*text, GM_LOG_RECORD_BYTES + 1);
    char *end = memchr(*text, '\n', len);
    cr_assert(end != NULL || len <= GM_LOG_RECORD_BYTES, "a line longer than a record");
    if (end == NULL)
        return NULL;
    json_error_t error;
    cr_assert_leq(end + 1 - *text, (ptrdiff_t)GM_LOG_RECORD_BYTES);
    json_t *line =
        json_loadb(*text, (size_t)(end - *text), JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    cr_assert_not_null(line, "%s: %.*s", error.text, (int)(end - *text), *text);
    *text = end + 1;
    return line;
}

static const char *string_in(const json_t *line, const char *key)
{
    const char *value = json_string_value(json_object_get(line, key));
    return value != NULL ? value : "(none)";
}

Test(log, json_line_has_the_promised_keys_in_order)
{
    int fd = open_log(GM_LOG_JSON, 0);
    gm_log_warn("cannot dial", GM_ERRNO(-ECONNREFUSED), GM_STR("service", "llm"), GM_INT("n", -7),
                GM_UINT("big", UINT64_MAX), GM_BOOL("first", true), GM_NS("waited", 12345678));
    char *text = read_log(fd);
    cr_assert_str_eq(text, "{\"level\":\"warn\",\"service\":\"llm\",\"n\":-7,"
                           "\"big\":18446744073709551615,\"first\":true,\"waited\":12.345,"
                           "\"error\":\"Connection refused\",\"time\":\"2023-11-14T22:13:20Z\","
                           "\"message\":\"cannot dial\"}\n");
    free(text);
}

Test(log, every_level_has_its_word_and_filtered_levels_are_silent)
{
    int fd = open_log(GM_LOG_JSON, 0);
    gm_log_debug("d");
    gm_log_info("i");
    gm_log_warn("w");
    gm_log_error("e");
    gm_log_fatal("f");
    struct gm_log_options options = {.level = GM_LOG_ERROR, .format = GM_LOG_JSON, .fd = fd};
    cr_assert_eq(gm_log_configure(&options), 0);
    int evaluated = 0;
    gm_log_warn("not written", GM_INT("n", ++evaluated));
    gm_log_error("written", GM_INT("n", ++evaluated));
    cr_assert_eq(evaluated, 1);
    char *text = read_log(fd), *at = text;
    static const char *const levels[] = {"debug", "info", "warn", "error", "fatal", "error"};
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        json_t *line = next_line(&at);
        cr_assert_str_eq(string_in(line, "level"), levels[i]);
        json_decref(line);
    }
    cr_assert_eq(*at, '\0');
    free(text);
}

Test(log, context_is_in_every_line_and_bounded)
{
    int fd = open_log(GM_LOG_JSON, 0);
    struct gm_log_field context[] = {GM_STR("serverID", "ab12"), GM_INT("lane", 2)};
    struct gm_log_options options = {.level = GM_LOG_INFO,
                                     .format = GM_LOG_JSON,
                                     .fd = fd,
                                     .context = context,
                                     .context_count = 2};
    cr_assert_eq(gm_log_configure(&options), 0);
    gm_log_info("one");
    char big[GM_LOG_CONTEXT_MAX + 1];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    context[0] = GM_STR("serverID", big);
    cr_assert_eq(gm_log_configure(&options), -ENOSPC);
    gm_log_info("two");
    char *text = read_log(fd);
    cr_assert_not_null(
        strstr(text, "{\"level\":\"info\",\"serverID\":\"ab12\",\"lane\":2,\"time\""));
    cr_assert_not_null(strstr(text, "{\"level\":\"info\",\"time\""));
    free(text);
}

Test(log, text_is_escaped)
{
    static const struct {
        const char *raw;
        size_t len;
        const char *escaped;
    } cases[] = {
        {"a\"b\\c", 5, "\"a\\\"b\\\\c\""},
        {"\n\r\t\b\f", 5, "\"\\n\\r\\t\\b\\f\""},
        {"\0\x01\x1f\x7f", 4, "\"\\u0000\\u0001\\u001f\\u007f\""},
        {"\xC2\x9B", 2, "\"\\u009b\""}, /* CSI of an 8-bit terminal */
        {"\xC2\xA0", 2, "\"\xC2\xA0\""},
        {"h\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80", 12,
         "\"h\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80\""},
        {"\xF4\x8F\xBF\xBF", 4, "\"\xF4\x8F\xBF\xBF\""},
        {"\x80", 1, "\"\xEF\xBF\xBD\""},
        {"\xC0\xAF", 2, "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"\xE0\x9F\xBF", 3, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"\xED\xA0\x80", 3, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"\xF4\x90\x80\x80", 4, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"\xF0\x8F\xBF\xBF", 4, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"\xF5", 1, "\"\xEF\xBF\xBD\""},
        {"\xE2\x82", 2, "\"\xEF\xBF\xBD\xEF\xBF\xBD\""}, /* ends inside a character */
        {"\xE2\x82x", 3, "\"\xEF\xBF\xBD\xEF\xBF\xBDx\""},
        {"\xC3(", 2, "\"\xEF\xBF\xBD(\""},
        {"", 0, "\"\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int fd = open_log(GM_LOG_JSON, 0);
        gm_log_info("m", GM_STRN("v", cases[i].raw, cases[i].len));
        char *text = read_log(fd), *at = text;
        json_decref(next_line(&at));
        char wanted[128];
        (void)snprintf(wanted, sizeof wanted, "\"v\":%s,", cases[i].escaped);
        cr_assert_not_null(strstr(text, wanted), "case %zu: %s", i, text);
        free(text);
        close(fd);
    }
}

Test(log, null_text_is_empty_and_errors_come_last)
{
    int fd = open_log(GM_LOG_JSON, 0);
    const char *nothing = NULL;
    gm_log_info("m", GM_ERRTEXT("broken"), GM_STR("v", nothing), GM_ERRNO(0), GM_BOOL("b", false));
    char *text = read_log(fd);
    cr_assert_not_null(
        strstr(text, "\"v\":\"\",\"b\":false,\"error\":\"broken\",\"error\":\"Success\""));
    free(text);
}

Test(log, milliseconds_keep_three_decimals_at_most)
{
    static const struct {
        int64_t ns;
        const char *text;
    } cases[] = {
        {0, "0"},
        {999, "0"},
        {1000, "0.001"},
        {1500000, "1.5"},
        {-1500000, "-1.5"},
        {-999, "0"},
        {2000000, "2"},
        {1230000, "1.23"},
        {600000000000, "600000"},
        {INT64_MIN, "-9223372036854.775"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int fd = open_log(GM_LOG_JSON, 0);
        gm_log_info("m", GM_NS("v", cases[i].ns), GM_INT("end", 0));
        char *text = read_log(fd);
        char wanted[64];
        (void)snprintf(wanted, sizeof wanted, "\"v\":%s,\"end\"", cases[i].text);
        cr_assert_not_null(strstr(text, wanted), "%s in %s", wanted, text);
        free(text);
        close(fd);
    }
}

Test(log, time_agrees_with_the_c_library)
{
    int fd = open_log(GM_LOG_JSON, 0);
    unsigned count = 0;
    /* From 0000-01-02 to 9999, in steps that visit every hour, weekday and leap rule. */
    for (int64_t t = INT64_C(-62167132800); t < INT64_C(253402300799); t += 97 * 86400 + 4001) {
        test_wall_seconds = t;
        gm_log_info("m");
        count++;
    }
    char *text = read_log(fd), *at = text;
    int64_t t = INT64_C(-62167132800);
    for (unsigned i = 0; i < count; i++, t += 97 * 86400 + 4001) {
        json_t *line = next_line(&at);
        struct tm parts;
        time_t seconds = t;
        char wanted[40];
        cr_assert_not_null(gmtime_r(&seconds, &parts));
        (void)snprintf(wanted, sizeof wanted, "%04d-%02d-%02dT%02d:%02d:%02dZ",
                       parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour,
                       parts.tm_min, parts.tm_sec);
        cr_assert_str_eq(string_in(line, "time"), wanted);
        json_decref(line);
    }
    free(text);
}

Test(log, leap_days_and_clamped_times)
{
    static const struct {
        int64_t seconds;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00Z"},
        {951782400, "2000-02-29T00:00:00Z"},
        {1709251199, "2024-02-29T23:59:59Z"},
        {1709251200, "2024-03-01T00:00:00Z"},
        {INT64_C(4107542400), "2100-03-01T00:00:00Z"},
        {INT64_MIN, "0000-01-01T00:00:00Z"},
        {INT64_MAX, "9999-12-31T23:59:59Z"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int fd = open_log(GM_LOG_JSON, 0);
        test_wall_seconds = cases[i].seconds;
        gm_log_info("m");
        char *text = read_log(fd), *at = text;
        json_t *line = next_line(&at);
        cr_assert_str_eq(string_in(line, "time"), cases[i].text);
        json_decref(line);
        free(text);
        close(fd);
    }
}

/* Whatever is logged, a line is one valid JSON object within its record, and says when it was cut.
 */
Test(log, lines_are_bounded_at_every_length)
{
    static const char *const units[] = {
        "x", "\"", "\x01", "\xE2\x82\xAC", "\xFF", "\xF0\x9F\x98\x80"};
    char big[3000];
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        int fd = open_log(GM_LOG_JSON, 0);
        size_t unit_len = strlen(units[u]);
        for (size_t i = 0; i < sizeof big; i++)
            big[i] = units[u][i % unit_len];
        for (size_t len = 0; len < 1200; len++) {
            gm_log_info("bounded", GM_STRN("a", big, len), GM_STRN("b", big, len), GM_INT("c", 1),
                        GM_STRN("error", big, len));
        }
        char *text = read_log(fd), *at = text;
        for (size_t len = 0; len < 1200; len++) {
            json_t *line = next_line(&at);
            bool whole = json_object_get(line, "c") != NULL &&
                         strstr(string_in(line, "a"), "\xE2\x80\xA6") == NULL &&
                         strstr(string_in(line, "b"), "\xE2\x80\xA6") == NULL &&
                         json_object_get(line, "error") != NULL &&
                         strstr(string_in(line, "error"), "\xE2\x80\xA6") == NULL;
            cr_assert_eq(json_is_true(json_object_get(line, "truncated")), !whole);
            cr_assert_str_eq(string_in(line, "message"), "bounded");
            cr_assert(len > 100 || unit_len > 1 || u > 0 || whole);
            cr_assert(len <= GM_LOG_VALUE_MAX || !whole);
            json_decref(line);
        }
        free(text);
        close(fd);
    }
}

Test(log, more_fields_than_fit_are_left_out_from_the_end)
{
    int fd = open_log(GM_LOG_JSON, 0);
    struct gm_log_site site = {0};
    char keys[100][8];
    struct gm_log_field fields[100];
    for (int i = 0; i < 100; i++) {
        (void)snprintf(keys[i], sizeof keys[i], "key%d", i);
        fields[i] = GM_INT(keys[i], INT64_MIN);
    }
    gm_log_write(&site, GM_LOG_INFO, "m", fields, 100);
    char *text = read_log(fd), *at = text;
    json_t *line = next_line(&at);
    bool ended = false;
    for (int i = 0; i < 100; i++) {
        bool there = json_object_get(line, keys[i]) != NULL;
        cr_assert(!(ended && there));
        ended = !there;
    }
    cr_assert(ended);
    cr_assert(json_is_true(json_object_get(line, "truncated")));
    json_decref(line);
    free(text);
}

Test(log, long_messages_are_cut)
{
    char message[4000];
    memset(message, '"', sizeof message - 1);
    message[sizeof message - 1] = '\0';
    struct gm_log_site site = {0};
    enum gm_log_format formats[] = {GM_LOG_JSON, GM_LOG_CONSOLE};
    for (int i = 0; i < 2; i++) {
        int fd = open_log(formats[i], 0);
        gm_log_write(&site, GM_LOG_INFO, message, NULL, 0);
        char *text = read_log(fd), *at = text;
        cr_assert_not_null(strstr(text, "truncated"));
        cr_assert_leq(strlen(text), GM_LOG_RECORD_BYTES);
        if (i == 0)
            json_decref(next_line(&at));
        free(text);
        close(fd);
    }
}

Test(log, console_lines)
{
    int fd = open_log(GM_LOG_CONSOLE, 0);
    gm_log_info("listening", GM_STR("address", "[::]:80"), GM_INT("port", 80));
    gm_log_error("bad", GM_ERRTEXT("no route"), GM_STR("e", ""), GM_STR("q", "a\"b\x1b[0m"));
    gm_log_debug("tab\there", GM_STR("v", "caf\xC3\xA9"));
    char *text = read_log(fd);
    cr_assert_str_eq(text, "2023-11-14T22:13:20Z INF listening address=[::]:80 port=80\n"
                           "2023-11-14T22:13:20Z ERR bad e=\"\" q=\"a\\\"b\\u001b[0m\" "
                           "error=\"no route\"\n"
                           "2023-11-14T22:13:20Z DBG \"tab\\there\" v=\"caf\xC3\xA9\"\n");
    free(text);
}

Test(log, console_is_coloured_on_a_terminal_only)
{
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0)
        cr_skip("no pseudo-terminal here");
    int fd = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    if (fd < 0)
        cr_skip("the pseudo-terminal cannot be opened");
    struct gm_log_options options = {.level = GM_LOG_DEBUG, .format = GM_LOG_CONSOLE, .fd = fd};
    cr_assert_eq(gm_log_configure(&options), 0);
    gm_log_info("hello", GM_INT("n", 1));
    char text[256] = "";
    cr_assert_gt(read(terminal, text, sizeof text - 1), 0);
    cr_assert_not_null(strstr(text, "\033[32mINF\033[0m hello \033[36mn=\033[0m1"), "%s", text);
}

Test(log, console_lines_are_bounded_too)
{
    char big[1500];
    memset(big, 'x', sizeof big);
    int fd = open_log(GM_LOG_CONSOLE, 0);
    for (size_t len = 0; len < sizeof big; len++)
        gm_log_info("m", GM_STRN("a", big, len), GM_STRN("b", big, len));
    char *text = read_log(fd);
    const char *at = text;
    for (size_t len = 0; len < sizeof big; len++) {
        const char *end = strchr(at, '\n');
        cr_assert_not_null(end);
        cr_assert_leq(end + 1 - at, (ptrdiff_t)GM_LOG_RECORD_BYTES);
        cr_assert(len <= GM_LOG_VALUE_MAX || strncmp(end - 14, "truncated=true", 14) == 0);
        at = end + 1;
    }
    free(text);
}

static void say(struct gm_log_site *site, enum gm_log_level level)
{
    gm_log_write(site, level, "again", NULL, 0);
}

Test(log, a_site_is_limited_and_says_what_it_withheld)
{
    int fd = open_log(GM_LOG_JSON, 5);
    struct gm_log_site site = {0}, other = {0};
    for (int i = 0; i < 12; i++)
        say(&site, GM_LOG_INFO);    /* 5 pass, 7 are withheld */
    say(&other, GM_LOG_INFO);       /* another place has its own bucket */
    say(&site, GM_LOG_FATAL);       /* never withheld; takes the count along */
    test_monotonic_ns += 100000000; /* half an interval: nothing yet */
    say(&site, GM_LOG_INFO);
    test_monotonic_ns += 100000000;
    say(&site, GM_LOG_INFO); /* one interval: one line */
    say(&site, GM_LOG_INFO);
    test_monotonic_ns += UINT64_C(3600000000000);
    for (int i = 0; i < 9; i++)
        say(&site, GM_LOG_INFO); /* a full bucket again, no more than that */
    char *text = read_log(fd), *at = text;
    static const int withheld[] = {0, 0, 0, 0, 0, 0, 7, 1, 1, 0, 0, 0, 0};
    for (size_t i = 0; i < sizeof withheld / sizeof withheld[0]; i++) {
        json_t *line = next_line(&at);
        cr_assert_not_null(line);
        cr_assert_eq(json_integer_value(json_object_get(line, "suppressed")), withheld[i],
                     "line %zu: %s", i, text);
        json_decref(line);
    }
    cr_assert_eq(*at, '\0', "%s", at);
    free(text);
}

Test(log, the_queue_is_written_by_pump_and_by_stop)
{
    int fd = open_log(GM_LOG_JSON, 0);
    cr_assert_eq(gm_log_start(false), 0);
    gm_log_info("one");
    gm_log_info("two");
    cr_assert_eq(lseek(fd, 0, SEEK_END), 0, "nothing is written by who logs");
    cr_assert_eq(gm_log_pump(0), 2);
    cr_assert_eq(gm_log_pump(0), 0);
    gm_log_info("three");
    gm_log_stop();
    gm_log_info("four"); /* at once again */
    char *text = read_log(fd), *at = text;
    static const char *const messages[] = {"one", "two", "three", "four"};
    for (int i = 0; i < 4; i++) {
        json_t *line = next_line(&at);
        cr_assert_str_eq(string_in(line, "message"), messages[i]);
        json_decref(line);
    }
    cr_assert_eq(*at, '\0');
    free(text);
}

Test(log, a_full_queue_drops_counts_and_reports)
{
    struct gm_counter_set counters;
    cr_assert_eq(gm_counter_set_init(&counters, 1), 0);
    gm_counter_attach(gm_counter_block_of(&counters, 0));
    int fd = open_log(GM_LOG_JSON, 0);
    cr_assert_eq(gm_log_start(false), 0);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < GM_LOG_QUEUE_RECORDS + 10; i++)
            gm_log_info("m", GM_UINT("i", i));
        cr_assert_eq(gm_log_dropped(), 10 * (round + 1));
        cr_assert_eq(gm_log_pump(0), (int)GM_LOG_QUEUE_RECORDS);
    }
    cr_assert_eq(gm_counter_sum(&counters, GM_COUNTER_LOG_LINES_DROPPED), 30);
    gm_log_stop();
    char *text = read_log(fd), *at = text;
    json_t *line;
    unsigned lines = 0, reported = 0, reports = 0;
    while ((line = next_line(&at)) != NULL) {
        json_t *lost = json_object_get(line, "lines");
        if (lost != NULL) {
            reported += (unsigned)json_integer_value(lost);
            reports++;
            cr_assert_str_eq(string_in(line, "level"), "warn");
        } else {
            cr_assert_eq(json_integer_value(json_object_get(line, "i")),
                         lines % GM_LOG_QUEUE_RECORDS);
            lines++;
        }
        json_decref(line);
    }
    cr_assert_eq(lines, 3 * GM_LOG_QUEUE_RECORDS);
    cr_assert_eq(reported, 30);
    cr_assert_leq(reports, 2, "once per second, and once at the end");
    free(text);
    gm_counter_attach(NULL);
    gm_counter_set_fini(&counters);
}

Test(log, a_broken_file_loses_lines_but_counts_them)
{
    struct gm_log_options options = {.level = GM_LOG_INFO, .format = GM_LOG_JSON};
    options.fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    cr_assert_geq(options.fd, 0);
    cr_assert_eq(gm_log_configure(&options), 0);
    gm_log_info("lost");
    cr_assert_eq(gm_log_dropped(), 1);
}

#define PRODUCERS 4
#define LINES     20000

static void *produce(void *arg)
{
    unsigned id = *(unsigned *)arg;
    struct gm_log_site site = {0};
    for (unsigned i = 0; i < LINES; i++) {
        struct gm_log_field fields[] = {GM_UINT("id", id), GM_UINT("i", i)};
        gm_log_write(&site, GM_LOG_INFO, "m", fields, 2);
        if (i % 512 == 0) /* let the consumer fall asleep now and then */
            (void)nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
    }
    return NULL;
}

/* Runs the producers and checks: each producer's lines in order, and written + dropped = said. */
static void run_producers(int fd)
{
    pthread_t threads[PRODUCERS];
    unsigned ids[PRODUCERS];
    for (unsigned i = 0; i < PRODUCERS; i++) {
        ids[i] = i;
        cr_assert_eq(pthread_create(&threads[i], NULL, produce, &ids[i]), 0);
    }
    for (unsigned i = 0; i < PRODUCERS; i++)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
    gm_log_stop();
    char *text = read_log(fd), *at = text;
    json_t *line;
    uint64_t written = 0;
    json_int_t last[PRODUCERS] = {-1, -1, -1, -1};
    while ((line = next_line(&at)) != NULL) {
        json_t *id = json_object_get(line, "id");
        if (id != NULL) {
            json_int_t i = json_integer_value(json_object_get(line, "i"));
            cr_assert_gt(i, last[json_integer_value(id)]);
            last[json_integer_value(id)] = i;
            written++;
        }
        json_decref(line);
    }
    cr_assert_eq(written + gm_log_dropped(), (uint64_t)PRODUCERS * LINES);
    cr_assert_gt(written, GM_LOG_QUEUE_RECORDS);
    free(text);
}

Test(log, many_threads_and_the_background_thread, .timeout = 60)
{
    int fd = open_log(GM_LOG_JSON, 0);
    cr_assert_eq(gm_log_start(true), 0);
    run_producers(fd);
}

static _Atomic bool pumping_ends;

static void *pump(void *arg)
{
    (void)arg;
    while (!atomic_load_explicit(&pumping_ends, memory_order_acquire))
        (void)gm_log_pump(1);
    return NULL;
}

Test(log, many_threads_and_two_rival_pumps, .timeout = 60)
{
    int fd = open_log(GM_LOG_JSON, 0);
    pthread_t pumps[2];
    cr_assert_eq(gm_log_start(false), 0);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&pumps[i], NULL, pump, NULL), 0);
    run_producers(fd);
    atomic_store_explicit(&pumping_ends, true, memory_order_release);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_join(pumps[i], NULL), 0);
}

Test(log, stop_while_others_log_loses_nothing, .timeout = 60)
{
    for (int round = 0; round < 5; round++) {
        int fd = open_log(GM_LOG_JSON, 0);
        uint64_t dropped_before = gm_log_dropped();
        pthread_t producer;
        unsigned id = 0;
        cr_assert_eq(gm_log_start(true), 0);
        cr_assert_eq(pthread_create(&producer, NULL, produce, &id), 0);
        (void)nanosleep(&(struct timespec){.tv_nsec = 3000000L * round}, NULL);
        gm_log_stop();
        cr_assert_eq(pthread_join(producer, NULL), 0);
        char *text = read_log(fd), *at = text;
        json_t *line;
        uint64_t written = 0;
        while ((line = next_line(&at)) != NULL) {
            written += json_object_get(line, "id") != NULL;
            json_decref(line);
        }
        cr_assert_eq(written + gm_log_dropped() - dropped_before, LINES,
                     "round %d: %lu written, %lu dropped", round, written,
                     gm_log_dropped() - dropped_before);
        free(text);
        close(fd);
    }
}

/* A sleeping consumer is woken by one line, long before its timeout. */
Test(log, one_line_wakes_the_background_thread, .timeout = 30)
{
    int fd = open_log(GM_LOG_JSON, 0);
    cr_assert_eq(gm_log_start(true), 0);
    for (int i = 0; i < 20; i++) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL); /* asleep by now */
        off_t before = lseek(fd, 0, SEEK_END);
        gm_log_info("wake up");
        int tries = 0;
        while (lseek(fd, 0, SEEK_END) == before && tries++ < 2000)
            (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        cr_assert_lt(tries, 2000);
    }
    gm_log_stop();
}

Test(log, a_reader_that_never_reads_holds_up_neither_threads_nor_the_end, .timeout = 30)
{
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    struct gm_log_options options = {.level = GM_LOG_INFO, .format = GM_LOG_JSON, .fd = ends[1]};
    cr_assert_eq(gm_log_configure(&options), 0);
    cr_assert_eq(gm_log_start(true), 0);
    for (unsigned i = 0; i < 3 * GM_LOG_QUEUE_RECORDS; i++)
        gm_log_info("into a full pipe", GM_STR("padding", "................................"));
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    gm_log_stop();
    clock_gettime(CLOCK_MONOTONIC, &after);
    cr_assert_leq(after.tv_sec - before.tv_sec, 4);
    cr_assert_gt(gm_log_dropped(), 0);
}
