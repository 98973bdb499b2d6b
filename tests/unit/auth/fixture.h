/*
 * What the tests of auth/ share: keys from PEM text, key sets of several, signed tokens. Every
 * function asserts that it worked.
 */
#ifndef GM_TEST_AUTH_FIXTURE_H
#define GM_TEST_AUTH_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

#include "auth/jwt.h"
#include "auth/keyset.h"
#include "auth/sign.h"

enum { FIXTURE_NOW = 1700000000, FIXTURE_TOKEN_ROOM = 16384 };

/* Claims that pass as a client's; the caller closes the object. */
#define CLIENT_CLAIMS_OPEN                                                                         \
    "{\"iss\":\"gimlet\",\"aud\":\"gimlet-client\",\"sub\":\"alice\",\"services\":[\"svc\"]"

/* The same with good dates. */
#define CLIENT_CLAIMS CLIENT_CLAIMS_OPEN ",\"iat\":1,\"nbf\":1,\"exp\":1700000100}"
#define AGENT_CLAIMS                                                                               \
    "{\"iss\":\"gimlet\",\"aud\":\"gimlet-agent\",\"sub\":\"bob\",\"service\":\"svc\","            \
    "\"exp\":1700000100}"
#define RS256_HEADER "{\"alg\":\"RS256\",\"typ\":\"JWT\"}"

struct gm_private_key *fixture_private(const char *pem);

/* A set of the given public keys, ended by NULL. */
struct gm_keyset *fixture_keys(const char *first, ...);

/* Signs by SHA-`bits`; `token` has FIXTURE_TOKEN_ROOM bytes. Its length. */
size_t fixture_sign(const char *private_pem, int bits, const char *header, const char *payload,
                    char *token);

/* base64url(header).base64url(payload).signature, nothing signed. Its length. */
size_t fixture_assemble(const char *header, const char *payload, const char *signature,
                        char *token);

/* Verifies for a client at FIXTURE_NOW with issuer "gimlet". */
enum gm_jwt_result fixture_verify(const struct gm_keyset *keys, const char *token,
                                  struct gm_claims *claims);

/* A new file with these contents; `path` has 64 bytes. */
void fixture_file(char *path, const char *contents);
/* A folder below /tmp/gm- with all that is in it. */
void fixture_remove(const char *folder);

#endif
