/* Assertions that stay on in production.
 *
 * GM_ASSERT guards our own invariants only: a peer's bytes, a full pool or a failing system call
 * never trip it. It prints one line of context and aborts, so that a bug is found where it is and
 * not where it hurts. GM_LIMIT_CHECK is its compile-time sister. */
#ifndef GM_BASE_ASSERT_H
#define GM_BASE_ASSERT_H

#define GM_LIKELY(x)   __builtin_expect(!!(x), 1)
#define GM_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Prints "file:line: function: assertion `text' failed" on stderr and aborts. Never returns. */
_Noreturn void gm_assert_failed(const char *text, const char *file, int line, const char *function);

#define GM_ASSERT(expr)                                                                            \
    (GM_LIKELY(expr) ? (void)0 : gm_assert_failed(#expr, __FILE__, __LINE__, __func__))
/* A place that is never reached; `text` says why. */
#define GM_UNREACHABLE(text)         gm_assert_failed(text, __FILE__, __LINE__, __func__)
#define GM_STATIC_ASSERT(expr, text) _Static_assert(expr, text)

#endif
