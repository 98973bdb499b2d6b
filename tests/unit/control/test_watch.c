/*
 * Watched files: every way in which they change is seen, once, after it has rested.
 */
#include <criterion/criterion.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/watch.h"

static char folder[] = "/tmp/gimlet-watch.XXXXXX";
static char file[64], pairs[64], pair[80];
static unsigned changes;
static struct gm_watch watch;

static void changed(struct gm_watch *which)
{
    cr_assert_eq(which, &watch);
    changes++;
}

static void put(const char *path, const char *text)
{
    FILE *stream = fopen(path, "w");
    cr_assert_not_null(stream);
    cr_assert_geq(fputs(text, stream), 0);
    cr_assert_eq(fclose(stream), 0);
}

static void setup(void)
{
    cr_assert_not_null(mkdtemp(folder));
    (void)snprintf(file, sizeof file, "%s/cert.pem", folder);
    (void)snprintf(pairs, sizeof pairs, "%s/pairs", folder);
    (void)snprintf(pair, sizeof pair, "%s/a.crt", pairs);
    cr_assert_eq(mkdir(pairs, 0700), 0);
    put(file, "one");
    put(pair, "one");
    watch = (struct gm_watch){.paths = {file, NULL, pairs}, .on_change = changed};
    changes = 0;
    gm_watch_prime(&watch);
}

static void teardown(void)
{
    char command[96];
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert_eq(system(command), 0);
}

TestSuite(watch, .init = setup, .fini = teardown);

/* One look sees it, the next acts, and no third one does. */
static void expect_change(const char *what)
{
    unsigned before = changes;
    gm_watch_look(&watch);
    cr_assert_eq(changes, before, "%s: acted upon before it rested", what);
    gm_watch_look(&watch);
    cr_assert_eq(changes, before + 1, "%s: not seen", what);
    gm_watch_look(&watch);
    cr_assert_eq(changes, before + 1, "%s: seen twice", what);
}

Test(watch, nothing_changes)
{
    for (int i = 0; i < 3; i++)
        gm_watch_look(&watch);
    cr_assert_eq(changes, 0);
}

Test(watch, files)
{
    char other[96];
    put(file, "longer");
    expect_change("written");
    (void)snprintf(other, sizeof other, "%s/other", folder);
    put(other, "longer");
    cr_assert_eq(rename(other, file), 0);
    expect_change("replaced");
    cr_assert_eq(unlink(file), 0);
    expect_change("removed");
    put(file, "longer");
    expect_change("there again");
}

Test(watch, folders)
{
    char second[96], link_to[96];
    put(pair, "longer");
    expect_change("an entry was written");
    (void)snprintf(second, sizeof second, "%s/b.crt", pairs);
    put(second, "two");
    expect_change("an entry was added");
    cr_assert_eq(unlink(second), 0);
    expect_change("an entry was removed");
    (void)snprintf(link_to, sizeof link_to, "%s/data", folder);
    put(link_to, "three");
    cr_assert_eq(symlink(link_to, second), 0);
    expect_change("a link was added");
    put(link_to, "what it leads to");
    expect_change("behind a link");
}

Test(watch, a_change_under_way_is_waited_for)
{
    put(file, "1");
    gm_watch_look(&watch);
    put(file, "12");
    gm_watch_look(&watch);
    put(file, "123");
    gm_watch_look(&watch);
    cr_assert_eq(changes, 0);
    gm_watch_look(&watch);
    cr_assert_eq(changes, 1);
}

Test(watch, from_the_start)
{
    put(file, "before the first look");
    gm_watch_look(&watch);
    gm_watch_look(&watch);
    cr_assert_eq(changes, 1);
}
