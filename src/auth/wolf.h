/*
 * The one place where wolfCrypt's headers enter auth/: the system's package keeps its build options
 * in <wolfssl/options.h>, the bundled subproject in user_settings.h (WOLFSSL_USER_SETTINGS, set by
 * its dependency). Private to auth/.
 */
#ifndef GM_AUTH_WOLF_H
#define GM_AUTH_WOLF_H

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#ifndef WOLFSSL_USER_SETTINGS
#include <wolfssl/options.h>
#endif
#include <wolfssl/wolfcrypt/settings.h>

#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/error-crypt.h>
#include <wolfssl/wolfcrypt/hash.h>
#include <wolfssl/wolfcrypt/random.h>
#include <wolfssl/wolfcrypt/rsa.h>
#pragma GCC diagnostic pop

#endif
