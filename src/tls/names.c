/* Host names compared as RFC 6125 section 6.4 has it. Owner: none, pure. Invariant: what
 * gm_tls_name_normal lets through has no NUL, no upper case and no empty label. */
#include "tls/names.h"

#include <arpa/inet.h>
#include <string.h>

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '*';
}

bool gm_tls_name_normal(const char *name, size_t len, char out[GM_TLS_NAME_BYTES])
{
    out[0] = '\0';
    if (len > 0 && name[len - 1] == '.')
        len--;
    if (len == 0 || len >= GM_TLS_NAME_BYTES || name[0] == '.' || name[len - 1] == '.')
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] - 'A' + 'a') : name[i];
        bool separates = c == '.' && name[i - 1] != '.';
        if (!separates && !is_name_byte(c)) {
            out[0] = '\0';
            return false;
        }
        out[i] = c;
    }
    out[len] = '\0';
    return true;
}

bool gm_tls_name_matches(const char *pattern, size_t pattern_len, const char *host)
{
    char normal[GM_TLS_NAME_BYTES];
    if (!gm_tls_name_normal(pattern, pattern_len, normal))
        return false;
    const char *star = strchr(normal, '*');
    if (star == NULL)
        return strcmp(normal, host) == 0;
    const char *rest = normal + 1; /* ".example.com" */
    if (star != normal || *rest != '.' || strchr(rest, '*') != NULL ||
        strchr(rest + 1, '.') == NULL)
        return false;
    const char *label_end = strchr(host, '.');
    return label_end != NULL && label_end != host && strcmp(rest, label_end) == 0;
}

size_t gm_tls_name_address(const char *name, uint8_t out[16])
{
    char bare[INET6_ADDRSTRLEN];
    size_t len = strlen(name);
    if (len >= 2 && name[0] == '[' && name[len - 1] == ']') {
        name++;
        len -= 2;
    }
    if (len >= sizeof bare)
        return 0;
    memcpy(bare, name, len);
    bare[len] = '\0';
    if (inet_pton(AF_INET, bare, out) == 1)
        return 4;
    return inet_pton(AF_INET6, bare, out) == 1 ? 16 : 0;
}
