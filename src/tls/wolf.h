/*
 * The one place where wolfSSL's headers enter tls/: the system's package keeps its build options in
 * <wolfssl/options.h>, the bundled subproject in user_settings.h (WOLFSSL_USER_SETTINGS, set by its
 * dependency), and structures are laid out by them. Private to tls/.
 */
#ifndef GM_TLS_WOLF_H
#define GM_TLS_WOLF_H

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#ifndef WOLFSSL_USER_SETTINGS
#include <wolfssl/options.h>
#endif
#include <wolfssl/wolfcrypt/settings.h>

#include <wolfssl/error-ssl.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/aes.h>
#include <wolfssl/wolfcrypt/asn.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/chacha20_poly1305.h>
#include <wolfssl/wolfcrypt/error-crypt.h>
#include <wolfssl/wolfcrypt/hmac.h>
#pragma GCC diagnostic pop

#endif
