/*
 * Fuzz target: any bytes as a public key file; as PEM text, or as the DER in a well-formed block.
 * A key that is accepted is within the limits that the verifier counts on.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "auth/base64.h"
#include "auth/keyset.h"

static size_t build(char *out, const uint8_t *data, size_t size)
{
    static const char begin[] = "-----BEGIN PUBLIC KEY-----\n";
    static const char end[] = "\n-----END PUBLIC KEY-----\n";
    if (data[0] % 2 == 0) {
        memcpy(out, data + 1, size - 1);
        return size - 1;
    }
    size_t n = sizeof(begin) - 1;
    memcpy(out, begin, n);
    n += gm_base64_encode(out + n, data + 1, size - 1);
    memcpy(out + n, end, sizeof(end) - 1);
    return n + sizeof(end) - 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char scratch[8192];
    struct gm_public_key key;
    struct gm_auth_error error;
    if (size == 0 || size > 4096)
        return 0;
    size_t len = build(scratch, data, size);
    char *text = malloc(len + (len == 0));
    if (text == NULL)
        return 0;
    memcpy(text, scratch, len);
    memset(&error, 'x', sizeof(error));
    if (gm_public_key_parse(&key, "fuzz", text, len, &error) == 0) {
        if (key.modulus_len < GM_KEY_BITS_MIN / 8 || key.modulus_len > GM_KEY_BITS_MAX / 8 ||
            key.exponent_len == 0 || key.exponent_len > GM_KEY_EXPONENT_BYTES_MAX ||
            key.modulus[0] == 0)
            abort();
    } else if (memchr(error.text, '\0', sizeof(error.text)) == NULL) {
        abort();
    }
    free(text);
    return 0;
}
