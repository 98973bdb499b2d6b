/*
 * Gimlet's wolfSSL: TLS 1.2 and 1.3 with AEAD ciphers and forward secrecy only,
 * RSA and ECDSA certificates, and the wolfCrypt parts that tokens need. No
 * OpenSSL layer, no sockets (we hand records in and out), no heap beyond what a
 * connection uses. Included by assembly too, which must see no C.
 */
#ifndef GIMLET_WOLFSSL_USER_SETTINGS_H
#define GIMLET_WOLFSSL_USER_SETTINGS_H

/* src/tls13.c has it from the socket headers, which WOLFSSL_USER_IO leaves out. */
#ifndef __ASSEMBLER__
#include <sys/time.h>
#endif

/* Certificates are judged on several threads at once: their dates not in one buffer of the C
 * library's. */
#define HAVE_GMTIME_R

/* Machine. */
#if defined(__x86_64__)
#ifndef WOLFSSL_X86_64_BUILD /* meson.build: aes_asm.S reads no settings */
#define WOLFSSL_X86_64_BUILD
#endif
#define USE_INTEL_SPEEDUP
#define WOLFSSL_AESNI
#define WOLFSSL_SP_X86_64
#define WOLFSSL_SP_X86_64_ASM
#define WOLFSSL_SP_ASM
#else
#define GCM_TABLE_4BIT
#endif
#define SIZEOF_LONG 8
#define SIZEOF_LONG_LONG 8
#define HAVE___UINT128_T 1

/* Arithmetic: fixed-size code for the sizes in use, sp_int for what is left. */
#define WOLFSSL_SP_MATH_ALL
#define WOLFSSL_HAVE_SP_RSA
#define WOLFSSL_HAVE_SP_ECC
#define WOLFSSL_SP_4096
#define WOLFSSL_SP_384
#define SP_INT_BITS 8192

/* Side channels. */
#define TFM_TIMING_RESISTANT
#define ECC_TIMING_RESISTANT
#define WC_RSA_BLINDING

/* Randomness: the kernel's, stretched by SHA-256 Hash_DRBG. */
#define HAVE_HASHDRBG
#define WOLFSSL_GETRANDOM

/* Protocol. */
#define WOLFSSL_TLS13
#define NO_OLD_TLS
#define HAVE_TLS_EXTENSIONS
#define HAVE_SUPPORTED_CURVES
#define HAVE_EXTENDED_MASTER
#define HAVE_SERVER_RENEGOTIATION_INFO
#define HAVE_SNI
#define HAVE_ALPN
#define HAVE_SESSION_TICKET
#define WOLFSSL_TICKET_ENC_AES256_GCM
#define WOLFSSL_USER_IO
/* Two bytes each: scanners and old Java offer hundreds, and a hello with more is refused. */
#define WOLFSSL_MAX_SUITE_SZ 1024
#define WOLFSSL_SYS_CA_CERTS
#define WOLFSSL_IP_ALT_NAME
#define WOLFSSL_TLS13_MIDDLEBOX_COMPAT
#define WOLFSSL_EXTRA_ALERTS
/* Tickets are the only resumption; without any table of sessions 5.7.2 does not link. */
#define SMALL_SESSION_CACHE
#define NO_SESSION_CACHE_REF
#define NO_CLIENT_CACHE

/* Certificates: our callback sees good ones too, and any path to a root will do. */
#define WOLFSSL_ALWAYS_VERIFY_CB
#define WOLFSSL_ALT_CERT_CHAINS
/* Revocation lists: it verifies them; which of them still count is src/tls/crl.c's to say. */
#define HAVE_CRL
#define WOLFSSL_NO_CRL_DATE_CHECK

/* What lets the record layer be taken over after the handshake. */
#define ATOMIC_USER
#define HAVE_SECRET_CALLBACK
/* The cipher goes from slice to slice. */
#define WOLFSSL_AESGCM_STREAM

/* Ciphers, hashes, keys. */
#define HAVE_AESGCM
#define NO_AES_CBC
#define HAVE_CHACHA
#define HAVE_POLY1305
#define HAVE_ONE_TIME_AUTH
#define WOLFSSL_SHA384
#define WOLFSSL_SHA512
#define HAVE_HKDF
#define WC_RSA_PSS
#define HAVE_ECC
#define HAVE_ECC384
#define ECC_SHAMIR
#define HAVE_CURVE25519
#define WOLFSSL_KEY_GEN
#define HAVE_PKCS8
#define WOLFSSL_PEM_TO_DER
#define WOLFSSL_DER_TO_PEM
#define WOLFSSL_PUB_PEM_TO_DER
#define WOLFSSL_BASE64_ENCODE

/* Not wanted. */
#define NO_DES3
#define NO_DH
#define NO_DSA
#define NO_MD4
#define NO_MD5
#define NO_PSK
#define NO_PWDBASED
#define NO_RC4
#define WOLFSSL_NO_SHAKE128
#define WOLFSSL_NO_SHAKE256

#endif
