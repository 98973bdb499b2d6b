/*
 * The version of Gimlet: one constant, printed by `gimlet version` and told to the peer in the
 * link's first message. It follows semantic versioning and is the same text as in meson.build.
 */
#ifndef GM_BASE_VERSION_H
#define GM_BASE_VERSION_H

#define GM_VERSION "0.1.0"

#endif
