/* Marks memory as not to be touched, for AddressSanitizer; nothing in other builds.
 *
 * Any thread. For pools of our own: a free object that somebody still reads is found at once. */
#ifndef GM_BASE_POISON_H
#define GM_BASE_POISON_H

#if defined(__SANITIZE_ADDRESS__)
#define GM_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GM_POISONS 1
#endif
#endif
#ifdef GM_POISONS
#include <sanitizer/asan_interface.h>
#define GM_POISON(p, n)   ASAN_POISON_MEMORY_REGION((p), (n))
#define GM_UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (n))
#else
#define GM_POISON(p, n)   ((void)(p), (void)(n))
#define GM_UNPOISON(p, n) ((void)(p), (void)(n))
#endif

#endif
