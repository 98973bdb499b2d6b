/*
 * The version of Gimlet: one text, printed by `gimlet version` and told to the peer in a link's
 * first message. The build passes it from the one place where it is written, the root meson.build;
 * a file compiled by hand says so.
 */
#ifndef GM_BASE_VERSION_H
#define GM_BASE_VERSION_H

#ifndef GM_VERSION
#define GM_VERSION "0.0.0-unversioned"
#endif

#endif
