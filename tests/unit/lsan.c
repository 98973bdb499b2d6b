/* Linked into every unit test under AddressSanitizer. Debian's Criterion 2.4.1 now and then leaves 48 bytes of its runner
 * behind (never of a test, which runs in a process of its own); that must not fail a suite. Nothing of ours is named. */

const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:libcriterion.so";
}
