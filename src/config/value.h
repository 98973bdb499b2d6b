/*
 * Values as people type them: durations, sizes, integers. Pure functions on NUL-terminated texts.
 *
 * Each parser takes the whole text or refuses it with -EINVAL (not of the form) or -ERANGE (of the
 * form, but beyond what the type holds); *out is untouched then.
 */
#ifndef GM_CONFIG_VALUE_H
#define GM_CONFIG_VALUE_H

#include <stddef.h>
#include <stdint.h>

/* Decimal with an optional sign. */
__attribute__((warn_unused_result)) int gm_value_integer(const char *text, int64_t *out);

/* Nanoseconds. A bare integer is seconds; otherwise one or more of number and unit, with an
 * optional sign in front: units ns us µs ms s m h, decimals allowed (Go's time.ParseDuration). */
__attribute__((warn_unused_result)) int gm_value_duration(const char *text, int64_t *out);

/* Bytes: an integer alone or with KiB, MiB or GiB (either case). Not negative. */
__attribute__((warn_unused_result)) int gm_value_size(const char *text, int64_t *out);

/* true/false, yes/no, on/off, 1/0, either case: 1 or 0. */
__attribute__((warn_unused_result)) int gm_value_switch(const char *text);

/* What may be shown of a URL: the text from behind a user name and password on, or all of it. For
 * refusals; no URL with such is ever used. */
const char *gm_value_public(const char *text);

/* Shortest exact text that the parsers read back: "1m30s", "250ms"; "64KiB", "4097". Longest 32
 * bytes with the NUL. Returns buf. */
#define GM_VALUE_TEXT_MAX 32u
const char *gm_value_duration_text(int64_t ns, char buf[GM_VALUE_TEXT_MAX]);
const char *gm_value_size_text(int64_t bytes, char buf[GM_VALUE_TEXT_MAX]);

#endif
