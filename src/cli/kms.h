/*
 * Keys that never leave AWS KMS: their signatures and their public halves. Blocks on the network;
 * one thread. Region and endpoint follow the key's ARN and the environment as AWS's own tools do.
 */
#ifndef GM_CLI_KMS_H
#define GM_CLI_KMS_H

#include <stddef.h>
#include <stdint.h>

#include "auth/digest.h"

enum {
    GM_KMS_WHY_BYTES = 768,
    GM_KMS_SIGNATURE_MAX = 512,  /* RSA_4096 */
    GM_KMS_PUBLIC_KEY_MAX = 1024 /* SubjectPublicKeyInfo of RSA_4096: 550 bytes */
};

struct gm_kms;

/* Finds credentials and region for the key `arn` (borrowed for the object's life). Negative with
 * `why` (GM_KMS_WHY_BYTES), here and below. */
int gm_kms_open(struct gm_kms **out, const char *arn, char *why)
    __attribute__((warn_unused_result));
/* Accepts NULL. */
void gm_kms_close(struct gm_kms *kms);

/* RSASSA-PKCS1-v1_5 with SHA-256 over the digest. The signature's length. */
int gm_kms_sign(struct gm_kms *kms, const uint8_t digest[GM_SHA256_BYTES],
                uint8_t out[GM_KMS_SIGNATURE_MAX], char *why) __attribute__((warn_unused_result));
/* SubjectPublicKeyInfo, DER. Its length. */
int gm_kms_public_key(struct gm_kms *kms, uint8_t out[GM_KMS_PUBLIC_KEY_MAX], char *why)
    __attribute__((warn_unused_result));

#endif
