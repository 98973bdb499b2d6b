/* AWS's shared files, ~/.aws/config and ~/.aws/credentials: sections of `name = value` lines.
 *
 * Pure: texts go in, spans come out. Lines that begin with white space belong to the value before
 * them (nested settings) and are passed over; # and ; begin comment lines. */
#ifndef GM_CLIENT_AWS_PROFILE_H
#define GM_CLIENT_AWS_PROFILE_H

#include <stdbool.h>
#include <stddef.h>

/* The body of a section, borrowed from the text: [NAME], or with `prefixed` [profile NAME] (and
 * [default] for "default"). False: there is none. */
struct gm_aws_section {
    const char *p;
    size_t len;
};
bool gm_aws_section_find(const char *text, const char *name, bool prefixed,
                         struct gm_aws_section *out);
/* Copies the value of `key` (any case in the file) with a NUL into `out` (`room` bytes). Its
 * length; 0 when the section has none or it is empty, -1 when it is too long. */
int gm_aws_section_value(const struct gm_aws_section *section, const char *key, char *out,
                         size_t room);

#endif
