/*
 * Base64, both alphabets. Decoding runs only on the miss path of the token cache and on key files,
 * so it is plain: one character at a time, six bits each.
 */
#include "auth/base64.h"

static const char alphabet_url[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
static const char alphabet_pem[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* The six bits of `c`, or -1. The last two characters are what the alphabets differ in. */
static int value_of(char c, const char *alphabet)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == alphabet[62])
        return 62;
    return c == alphabet[63] ? 63 : -1;
}

struct decoder {
    uint8_t *out;
    size_t written;
    size_t characters;
    uint32_t bits;
};

static void decoder_put(struct decoder *d, int value)
{
    d->bits = (d->bits << 6 | (uint32_t)value) & 0xffffffu;
    d->characters++;
    /* A byte is whole after the 2nd, 3rd and 4th character of each four. */
    size_t phase = d->characters % 4;
    if (phase != 1)
        d->out[d->written++] = (uint8_t)(d->bits >> (phase == 0 ? 0 : 8 - 2 * phase));
}

int64_t gm_base64url_decode(uint8_t *out, const char *in, size_t len)
{
    struct decoder d = {.out = out};
    for (size_t i = 0; i < len; i++) {
        int value = value_of(in[i], alphabet_url);
        if (value < 0)
            return -1;
        decoder_put(&d, value);
    }
    return d.characters % 4 == 1 ? -1 : (int64_t)d.written;
}

int64_t gm_base64_decode(uint8_t *out, const char *in, size_t len)
{
    struct decoder d = {.out = out};
    size_t padding = 0;
    for (size_t i = 0; i < len; i++) {
        if (in[i] == ' ' || in[i] == '\t' || in[i] == '\r' || in[i] == '\n')
            continue;
        if (in[i] == '=') {
            padding++;
            continue;
        }
        int value = value_of(in[i], alphabet_pem);
        if (value < 0 || padding > 0)
            return -1;
        decoder_put(&d, value);
    }
    if (d.characters % 4 == 1 || (d.characters + padding) % 4 != 0 || padding > 2)
        return -1;
    return (int64_t)d.written;
}

static size_t encode(char *out, const uint8_t *in, size_t len, const char *alphabet)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t left = (uint32_t)(len - i);
        uint32_t bits = (uint32_t)in[i] << 16;
        if (left > 1)
            bits |= (uint32_t)in[i + 1] << 8;
        if (left > 2)
            bits |= in[i + 2];
        out[n++] = alphabet[bits >> 18];
        out[n++] = alphabet[bits >> 12 & 63];
        if (left > 1)
            out[n++] = alphabet[bits >> 6 & 63];
        if (left > 2)
            out[n++] = alphabet[bits & 63];
    }
    return n;
}

size_t gm_base64url_encode(char *out, const uint8_t *in, size_t len)
{
    return encode(out, in, len, alphabet_url);
}

size_t gm_base64_encode(char *out, const uint8_t *in, size_t len)
{
    size_t n = encode(out, in, len, alphabet_pem);
    while (n % 4 != 0)
        out[n++] = '=';
    return n;
}
